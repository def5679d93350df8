"""Settings of ``/etc/login.defs``: lines of others are disabled, ours stand in a block at the end.

Source: login.defs(5).
"""

from __future__ import annotations

from collections.abc import Mapping

from rocksalt.transaction import DISABLED

PATH = "/etc/login.defs"
NAMES = frozenset(
    {
        *("PASS_MAX_DAYS", "PASS_MIN_DAYS", "PASS_WARN_AGE"),
        *("ENCRYPT_METHOD", "UMASK", "HOME_MODE"),
    }
)
"""What can be in our block."""
_BEGIN, _END = "# begin of rocksalt's settings", "# end of rocksalt's settings"


def parse(text: str) -> dict[str, str]:
    """Name -> value; where a name stands more than once with different values, all of them, for
    programs differ in which they take.
    """
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(None, 1)
        if words:
            value = words[1].strip().strip('"') if len(words) > 1 else ""
            if value not in found.setdefault(words[0], []):
                found[words[0]].append(value)
    return {name: " and ".join(values) for name, values in found.items()}


def edited(text: str, wanted: Mapping[str, str]) -> str:
    """The text with these settings (of ``NAMES``), and those of others by these names disabled."""
    lines = []
    for line in restored(text).rstrip("\n").split("\n"):
        words = line.split(None, 1)
        lines.append(DISABLED + line if words and words[0] in wanted else line)
    if wanted:
        lines += [_BEGIN, *(f"{name} {value}" for name, value in wanted.items()), _END]
    return "\n".join(lines) + "\n"


def restored(text: str) -> str:
    """The text as it was before; our block counts as far as its lines go, even without its end."""
    lines, ours = [], set[str]()
    for line in text.split("\n"):
        name = line.partition(" ")[0]
        if line in (_BEGIN, _END):
            ours = set(NAMES) if line == _BEGIN else set()
        elif name in ours:
            ours.remove(name)
        else:
            lines.append(line.removeprefix(DISABLED))
    return "\n".join(lines)


def is_edited(text: str) -> bool:
    """Whether something of ours is in it."""
    return _BEGIN in text or DISABLED in text

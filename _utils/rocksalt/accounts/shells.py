"""What start-up files of shells say about idle time and umask."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.transaction import DISABLED, Transaction, each

TIMEOUT = "/etc/profile.d/rocksalt-timeout.sh"
_FILES = ("/etc/profile", "/etc/profile.d/*.sh", "/etc/bash.bashrc")
_TMOUT = re.compile(r"(?:^|[\s;&])TMOUT=[\"']?([^\s;&\"']*)")
_UNSET = re.compile(r"(?:^|[\s;&])unset\s+(?:-v\s+)?TMOUT\b")
_UMASK = re.compile(r"(?:^|[\s;&])umask\s+(?:-S\s+)?([0-7]{1,4})\b")
_STATEMENT = re.compile(
    r"((?:^|[;&|({]|\b(?:then|else|do)\b)\s*)"
    r"(?:(?:(?:export|readonly)\s+|(?:declare|typeset)\s+(?:-\w+\s+)+)?TMOUT=[^\s;&|(){}]*"
    r"|unset\s+(?:-v\s+)?TMOUT|umask\s+(?:-S\s+)?[0-7]{1,4})(?=\s*(?:[;&|)}#]|$))"
)
_GOES_ON = re.compile(r"(?:\\|&&|\|)\s*$")
STAND_IN = "  # in place of the line above"
"""Ends a line that stands in for a disabled one, where the script needs some statement."""
_SCRIPT = """\
# Written by rocksalt; changes of this file are overwritten. Idle interactive shells end.
case $- in
*i*)
    # Somebody may have made it read-only before, which would end the shell here.
    if (TMOUT={seconds}) 2>/dev/null; then
        TMOUT={seconds}
        readonly TMOUT
        export TMOUT
    fi
    ;;
esac
"""


@dataclass(frozen=True)
class Line:
    """A line that sets ``what`` (TMOUT or umask) to ``value``; one ``by_hand`` is part of something
    larger, which is no valid script without it.
    """

    path: str
    number: int
    what: str
    value: str
    by_hand: bool = False

    def __str__(self) -> str:
        text = f"{self.path} line {self.number} sets {self.what} to {self.value}"
        return text + (", which only a person can change" if self.by_hand else "")


def script(seconds: int) -> str:
    """The file that ends idle shells, empty for never."""
    return _SCRIPT.format(seconds=seconds) if seconds else ""


def read(host: Host) -> dict[str, str]:
    """The start-up files that every shell reads, ours as well: path -> text."""
    paths = dict.fromkeys(path for pattern in _FILES for path in host.glob(pattern))
    return {path: host.read(path) or "" for path in paths}


def lines(host: Host, texts: Mapping[str, str]) -> list[Line]:
    """What files of others say about either."""
    found = []
    for path, text in texts.items():
        if path == TIMEOUT:
            continue
        for number, line in enumerate(text.split("\n"), 1):
            values = list(_values(line))
            by_hand = bool(values) and _without(host, text, number) is None
            found += [Line(path, number, what, value, by_hand) for what, value in values]
    return found


def _values(line: str) -> Iterator[tuple[str, str]]:
    """What one line says about either: (TMOUT or umask, its value)."""
    code = line.split("#", 1)[0]
    yield from (("TMOUT", match[1] or "nothing") for match in _TMOUT.finditer(code))
    yield from (("TMOUT", "nothing") for _ in _UNSET.finditer(code))
    yield from (("umask", f"{int(match[1], 8):03o}") for match in _UMASK.finditer(code))


def disable(host: Host, wrong: Sequence[Line]) -> None:
    """Takes lines out of force, file by file, but for those that need a person."""
    numbers: dict[str, set[int]] = {}
    for line in wrong:
        if not line.by_hand:
            numbers.setdefault(line.path, set()).add(line.number)
    each(partial(_disable, host, path, chosen) for path, chosen in numbers.items())


def _disable(host: Host, path: str, numbers: Collection[int]) -> None:
    """From the last to the first, for a line may become two."""
    text, failed = host.read(path) or "", []
    for number in sorted(numbers, reverse=True):
        without = _without(host, text, number)
        if without is None:
            failed.append(str(number))
        else:
            text = without
    Transaction(host).write(path, text)
    if failed:
        raise Refused(f"{path} line {', '.join(failed)} has to be changed by hand")


def _without(host: Host, text: str, number: int) -> str | None:
    """A script with a line disabled, and with nothing but ``:`` in its place where some statement
    has to be; None where neither makes a valid script of the same meaning.
    """
    rows = text.split("\n")
    above, row, below = rows[: number - 1], rows[number - 1], rows[number:]
    if _GOES_ON.search(row):
        return None
    ways = [] if above and _GOES_ON.search(above[-1]) else [f"{DISABLED}{row}"]
    stand_in = _STATEMENT.sub(r"\1:", row)
    if not list(_values(stand_in)):
        ways.append(f"{DISABLED}{row}\n{stand_in}{STAND_IN}")
    for way in ways:
        script = "\n".join([*above, way, *below])
        if host.run("bash", "-n", text=script).status == 0:
            return script
    return None

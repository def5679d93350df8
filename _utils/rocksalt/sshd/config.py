"""Text of sshd_config files and of ``sshd -T`` to data, and back. Pure: reading files is the
caller's business.

Source: sshd_config(5). sshd takes the first value it reads of a keyword, except for the ones that
add up; a Match block lasts to the next Match or to the end of its file; an included file starts in
the context it is included from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

ADDITIVE = {
    "port",
    "listenaddress",
    "hostkey",
    "allowgroups",
    "allowusers",
    "denygroups",
    "denyusers",
}
ONE_PER_LINE = {"port", "listenaddress", "hostkey"}
COMMA_SEPARATED = {
    *("ciphers", "macs", "kexalgorithms", "hostkeyalgorithms", "pubkeyacceptedalgorithms"),
    *("casignaturealgorithms", "authenticationmethods"),
}
UNORDERED = ADDITIVE
_SYNONYMS = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
    "dsaauthentication": "pubkeyauthentication",
    "keepalive": "tcpkeepalive",
}
_DEEPEST_INCLUDE = 16


@dataclass(frozen=True)
class Line:
    """One directive where it stands: ``match`` is the criteria of the Match block around it, empty
    outside of any.
    """

    path: str
    number: int
    keyword: str
    value: str
    match: str = ""

    @property
    def place(self) -> str:
        return f"{self.path} line {self.number}"


def parse(
    path: str,
    read: Callable[[str], str | None],
    glob: Callable[[str], Sequence[str]],
    match: str = "",
    depth: int = 0,
) -> list[Line]:
    """The directives of a file and of what it includes, in the order in which sshd reads them.

    An Include is listed itself, in front of what it brings.
    """
    found: list[Line] = []
    for number, text in enumerate((read(path) or "").splitlines(), start=1):
        keyword, value = split(text)
        if not keyword:
            continue
        if keyword == "match":
            match = value
        found.append(Line(path, number, keyword, value, match))
        if keyword == "include" and depth < _DEEPEST_INCLUDE:
            for file in included(value, glob):
                found += parse(file, read, glob, match, depth + 1)
    return found


def included(value: str, glob: Callable[[str], Sequence[str]]) -> list[str]:
    """The files that an Include brings, in the order in which sshd reads them."""
    patterns = [p if p.startswith("/") else f"/etc/ssh/{p}" for p in value.split()]
    return [path for pattern in patterns for path in glob(pattern)]


def split(text: str) -> tuple[str, str]:
    """(keyword in lower case under today's name, value) of one line; ("", "") for a comment or an
    empty line.
    """
    text = text.strip()
    if not text or text.startswith("#"):
        return "", ""
    found = re.match(r"([A-Za-z0-9]+)(?:\s*=\s*|\s+)?(.*)", text)
    if not found:
        return text.lower(), ""
    keyword, value = found.group(1).lower(), re.sub(r"\s+#.*$", "", found.group(2)).strip()
    if value.startswith('"') and value.endswith('"') and value.count('"') == 2:
        value = value[1:-1]
    value = re.sub(r'"(\S+?)"', r"\1", value)
    return _SYNONYMS.get(keyword, keyword), value


def effective(text: str) -> dict[str, list[str]]:
    """Output of ``sshd -T``: keyword -> its values, in the order printed."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword.lower(), []).append(value.strip())
    return found


def canonical(keyword: str, value: object) -> list[str]:
    """A value in the form that ``sshd -T`` prints it, to be compared: ``yes``/``no``, plain
    numbers, sorted sets.
    """
    keyword = keyword.lower()
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    words = [
        {True: "yes", False: "no"}.get(item, str(item)) if isinstance(item, bool) else str(item)
        for item in items
    ]
    if keyword in COMMA_SEPARATED:
        return [",".join(words)]
    if keyword in UNORDERED:
        return sorted(word for entry in words for word in entry.split())
    return [" ".join(words)]


def lines(directives: Mapping[str, object]) -> Iterable[str]:
    """Directives as lines of a configuration file."""
    for keyword, value in directives.items():
        values = canonical(keyword, value)
        if keyword.lower() in ONE_PER_LINE:
            yield from (f"{keyword} {item}" for item in values)
        else:
            yield f"{keyword} {' '.join(values)}".rstrip()


SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def same(keyword: str, value: str, wanted: Sequence[str]) -> bool:
    """Whether a line's value means what is wanted, which is in canonical form (``1m`` is
    ``60``).
    """
    found = re.fullmatch(r"(?:\d+[smhdw])+", value.lower())
    if found and keyword in ("logingracetime", "clientaliveinterval"):
        value = str(
            sum(int(n) * SECONDS[u] for n, u in re.findall(r"(\d+)([smhdw])", value.lower()))
        )
    if keyword in UNORDERED:
        return all(word in wanted for word in value.split())
    if value.lower() in ("true", "false"):
        value = {"true": "yes", "false": "no"}[value.lower()]
    return [value.lower()] == [word.lower() for word in wanted] or [value] == list(wanted)


def connection(match: str, member_of: Callable[[str], str | None]) -> str | None:
    """A connection for ``sshd -T -C`` that a Match block applies to; None where none can be made
    up.

    ``member_of`` gives a user for a group, None when the group has no member.
    """
    spec = {
        "user": "nobody",
        "host": "client.invalid",
        "addr": "192.0.2.1",
        "laddr": "192.0.2.2",
        "lport": "22",
    }
    words = match.split()
    if [word.lower() for word in words] == ["all"]:
        return ",".join(f"{key}={value}" for key, value in spec.items())
    if len(words) % 2:
        return None
    names = {
        "user": "user",
        "host": "host",
        "address": "addr",
        "localaddress": "laddr",
        "localport": "lport",
    }
    for criterion, patterns in zip(words[::2], words[1::2], strict=True):
        pattern = next((p for p in patterns.split(",") if not p.startswith("!")), None)
        if pattern is None:
            return None
        if criterion.lower() == "group":
            user = member_of(pattern)
            if user is None:
                return None
            spec["user"] = user
        elif criterion.lower() in names:
            spec[names[criterion.lower()]] = _example(pattern)
        else:
            return None
    return ",".join(f"{key}={value}" for key, value in spec.items())


def _example(pattern: str) -> str:
    """Something that a pattern or a network matches."""
    return pattern.split("/")[0].replace("*", "1" if "." in pattern else "x").replace("?", "1")

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
_WITHOUT_CASE = {
    *("addressfamily", "allowstreamlocalforwarding", "allowtcpforwarding", "compression"),
    *("fingerprinthash", "gatewayports", "ignorerhosts", "listenaddress", "loglevel"),
    *("permitrootlogin", "syslogfacility"),
}
_CONSTANTS = {"yes", "true", "no", "false", "none"}
_SYNONYMS = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
    "dsaauthentication": "pubkeyauthentication",
    "keepalive": "tcpkeepalive",
}
_DEEPEST_INCLUDE = 16

# sshd's own idea of a keyword and of a word, in which a part may be quoted and a blank escaped.
_KEYWORD = re.compile(
    r"""([^ \t\r\n"=]*)(?:"([^"]*)"[ \t\r\n]*|=[ \t\r\n]*|[ \t\r\n]+(?:=[ \t\r\n]*)?|$)(.*)"""
)
_PART = r"""\\['"\\ ]|"(?:\\['"\\]|[^"])*"|'(?:\\['"\\]|[^'])*'|[^ \t"']"""


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
    for number, text in enumerate((read(path) or "").split("\n"), start=1):
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
    return [path for pattern in words(value) for path in glob(_absolute(pattern))]


def includes_folder(value: str, folder: str) -> bool:
    """Whether an Include reads every file of a folder."""
    return any(_is_folder(pattern, folder) for pattern in words(value))


def without_folder(value: str, folder: str) -> str:
    """The other patterns of an Include as its new value, empty when there is none."""
    return _joined(pattern for pattern in words(value) if not _is_folder(pattern, folder))


def _is_folder(pattern: str, folder: str) -> bool:
    return _absolute(pattern) in (f"{folder}/*.conf", f"{folder}/*")


def _absolute(pattern: str) -> str:
    return pattern if pattern.startswith("/") else f"/etc/ssh/{pattern}"


def split(text: str) -> tuple[str, str]:
    """(keyword in lower case under today's name, value) of one line; ("", "") for what sshd skips:
    a comment, an empty line, a keyword whose quotes do not end.

    Words of the value are separated by one blank, and in quotes only where they need them.
    """
    keyword, rest = _keyword(text.rstrip(" \t\r\n\f"))
    if not keyword:
        keyword, rest = _keyword(rest)  # in front of it was a blank, or sshd's one optional "="
    if not keyword or keyword.startswith("#"):
        return "", ""
    keyword = keyword.lower()
    return _SYNONYMS.get(keyword, keyword), _joined(words(rest))


def _keyword(text: str) -> tuple[str, str]:
    """(first word, what follows) of a line, as sshd takes it off."""
    found = _KEYWORD.fullmatch(text)
    return (found[1] + (found[2] or ""), found[3]) if found else ("", "")


def words(value: str) -> list[str]:
    """The words of a value without their quotes, up to a comment."""
    found = []
    for token in re.findall(f"(?:{_PART})+", value):
        if token.startswith("#"):
            break
        found.append("".join(_plain(part) for part in re.findall(_PART, token)))
    return found


def _plain(part: str) -> str:
    if part[0] in "\"'":
        return re.sub(r"""\\(['"\\])""", r"\1", part[1:-1])
    return part[-1]


def _joined(plain: Iterable[str]) -> str:
    """The value that has these words."""
    return " ".join(
        (
            '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'
            if not word or re.search(r"""[ \t"'\\]|^#""", word)
            else word
        )
        for word in plain
    )


def effective(text: str) -> dict[str, list[str]]:
    """Output of ``sshd -T``: keyword -> its values, in the order printed."""
    found: dict[str, list[str]] = {}
    for line in filter(None, text.split("\n")):
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword.lower(), []).append(value.strip())
    return found


def canonical(keyword: str, value: object) -> list[str]:
    """A value in the form that ``sshd -T`` prints it, to be compared: ``yes``/``no``, plain
    numbers, sorted sets.
    """
    keyword = keyword.lower()
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    texts = [
        {True: "yes", False: "no"}.get(item, str(item)) if isinstance(item, bool) else str(item)
        for item in items
    ]
    if keyword in COMMA_SEPARATED:
        return [",".join(texts)]
    if keyword in UNORDERED:
        return sorted(word for text in texts for word in text.split())
    return [" ".join(texts)]


def equal(keyword: str, running: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether two canonical values mean the same. Case counts, as in paths and names, except where
    sshd itself does not care: ``yes`` and ``no``, ``none``, enumerations, addresses.
    """
    keyword = keyword.lower()

    def folded(value: str) -> str:
        low = value.lower()
        if keyword in _WITHOUT_CASE or (low in _CONSTANTS and keyword not in UNORDERED):
            return {"true": "yes", "false": "no"}.get(low, low)
        return value

    return [folded(value) for value in running] == [folded(value) for value in wanted]


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
        return all(any(equal(keyword, [word], [item]) for item in wanted) for word in words(value))
    return equal(keyword, [value], wanted)


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
    parts = words(match)
    if [part.lower() for part in parts] == ["all"]:
        return ",".join(f"{key}={value}" for key, value in spec.items())
    if len(parts) % 2:
        return None
    names = {
        "user": "user",
        "host": "host",
        "address": "addr",
        "localaddress": "laddr",
        "localport": "lport",
    }
    for criterion, patterns in zip(parts[::2], parts[1::2], strict=True):
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

"""The files of fail2ban, and one form for what they say and what the server says."""

from __future__ import annotations

import ast
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rocksalt import fail2ban

Glob = Callable[[str], list[str]]

# Options that change what a jail judges, and that our file does not set: they belong to the filter.
OF_THE_FILTER = (
    *("failregex", "ignoreregex", "prefregex", "datepattern", "maxlines", "usedns", "logtimezone"),
    *("bantime.formula", "bantime.multipliers", "bantime.rndtime"),
)
STOCK = f"{fail2ban.FOLDER}/jail.conf"
HEADER = (
    "# Written by rocksalt; a change here is drift and state.apply hardening.fail2ban undoes it.\n"
)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SECTION = re.compile(r"\[([^\]]+)\]")
_OPTION = re.compile(r"([^\s#;\[=:][^=:]*?)\s*[=:]\s*(.*)")
_TRUE = ("1", "on", "true", "yes")


@dataclass(frozen=True)
class Line:
    """One option as a file sets it, on the lines ``number`` to ``last``."""

    path: str
    number: int
    last: int
    section: str
    key: str
    value: str

    @property
    def place(self) -> str:
        return f"{self.path} line {self.number}"

    def __str__(self) -> str:
        return f"{self.key} = {self.value} ({self.place}, [{self.section}])"


def parse(path: str, text: str) -> list[Line]:
    """The options of one file. An indented line goes on with the option above it."""
    found: list[Line] = []
    section, goes_on = "", False
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.partition(" ;")[0].rstrip()
        if goes_on and line[:1].isspace() and line.strip():
            last = found.pop()
            value = f"{last.value}\n{line.strip()}".strip()
            found.append(Line(path, last.number, number, section, last.key, value))
            continue
        heading, option = _SECTION.match(line), _OPTION.match(line)
        if line and line[0] not in "#;":
            goes_on = bool(option and not heading)
        if heading:
            section = heading.group(1)
        elif option and section:
            key, value = option.group(1).lower(), option.group(2)
            found.append(Line(path, number, number, section, key, value))
    return found


def in_reading_order(kind: str, glob: Glob) -> list[str]:
    """The files of ``jail`` or of ``fail2ban`` (the server itself), the last of which wins."""
    folder = f"{fail2ban.FOLDER}/{kind}"
    return [
        path
        for pattern in (".conf", ".d/*.conf", ".local", ".d/*.local")
        for path in glob(f"{folder}{pattern}")
    ]


def is_true(value: str) -> bool:
    """As fail2ban reads a switch."""
    return value.strip().lower() in _TRUE


def overruling(
    lines: Mapping[str, Sequence[Line]], own: str, wanted: Mapping[str, Mapping[str, str]]
) -> Iterator[Line]:
    """Lines of other files by which a jail, or the server, does something else than our file
    ``own`` says.

    ``lines`` has the options of each file, ``wanted`` our sections. Within a section fail2ban takes
    the last value that it reads, and a section beats ``[DEFAULT]``.
    """
    folder = own.rpartition("/")[0]
    for path, found in lines.items():
        stock = path == STOCK
        later = path > own and path.rpartition("/")[0] == folder and path.endswith(".local")
        for line in found if path != own else ():
            ours = wanted.get(line.section, {})
            runs = is_true(ours.get("enabled", "true")) if ours else line.section == "DEFAULT"
            if line.key in ours:
                if later and not same(line.key, line.value, ours[line.key]):
                    yield line
            elif line.key == "enabled" and line.section not in wanted:
                if is_true(line.value):
                    yield line
            elif line.key in OF_THE_FILTER and runs and not stock:
                yield line


def same(key: str, value: str, other: str) -> bool:
    """Whether two texts of an option mean the same."""
    return bool(normal(key, value.split()) == normal(key, other.split()))


def render(sections: Mapping[str, Mapping[str, str]]) -> str:
    """The text of a file of ours. An option that has no value is said to be empty."""
    parts = [HEADER]
    for section, options in sections.items():
        lines = [f"{key} = {value}".rstrip() for key, value in options.items()]
        parts.append("\n".join([f"[{section}]", *lines, ""]))
    return "\n".join(parts)


# One form for values ------------------------------------------------------------------------------


def seconds(value: Any) -> Any:
    """A time as fail2ban writes it (``600``, ``1d 12h``) in seconds; what is none stays."""
    parts = re.findall(r"(\d+)\s*([smhdw]?)", str(value))
    if not parts or "".join(f"{n}{unit}" for n, unit in parts) != re.sub(r"\s", "", str(value)):
        return value
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def network(text: str) -> str:
    """An address or network in one form; a host name stays as it is."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return text


def normal(key: str, value: Any) -> Any:
    """A value in the form in which those of the files and of the server can be compared; a list of
    words stands for a line of a file.
    """
    if key == "ignoreip":
        return sorted(network(str(item)) for item in value or ())
    if key in ("journalmatch", "logpath"):
        return sorted(item if isinstance(item, str) else " ".join(item) for item in value or ())
    if isinstance(value, list):
        value = " ".join(map(str, value))
    if key in ("failregex", "ignoreregex"):
        return value
    if key in ("enabled", "ignoreself", "bantime.increment", "bantime.overalljails"):
        return value if isinstance(value, bool) else is_true(str(value or ""))
    if key in ("findtime", "bantime", "bantime.maxtime", "bantime.rndtime", "dbpurgeage"):
        return seconds(value) if value is not None else None
    if key in ("maxretry", "bantime.factor"):
        return int(value) if str(value).isdigit() else value
    return value or ""


def action(name: str, properties: Mapping[str, Any]) -> str:
    """What an action is told to do: ``iptables-multiport of tcp 22 in INPUT``."""
    ports = f" {properties.get('port')}" if "multiport" in name else ""
    return f"{name} of {properties.get('protocol')}{ports} in {properties.get('chain')}"


# What the files say -------------------------------------------------------------------------------


def commands(dump: str) -> list[list[Any]]:
    """``fail2ban-client -d``: the commands that the server would be given, one list a line."""
    return [ast.literal_eval(line) for line in dump.splitlines() if line.startswith("[")]


def jails(found: Iterable[Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Jail -> key -> value by the commands of :func:`commands`, like ``Server.jail`` gives them."""
    jails: dict[str, dict[str, Any]] = {}
    for command in found:
        if command[0] == "add":
            jails[command[1]] = {"actions": {}}
        elif command[0] in ("set", "multi-set") and command[1] in jails:
            _told(jails[command[1]], command[2], command[3:])
    return jails


def _told(jail: dict[str, Any], key: str, values: Sequence[Any]) -> None:
    if key == "addaction":
        jail["actions"][values[0]] = {}
    elif key == "action":
        jail["actions"][values[0]] = dict(values[1])
    elif key == "addlogpath":
        jail.setdefault("logpath", []).append(values[0])
    elif key == "addjournalmatch":
        jail.setdefault("journalmatch", []).append(list(values))
    elif key == "addignoreip":
        jail.setdefault("ignoreip", []).extend(values)
    elif key in ("addfailregex", "addignoreregex"):
        several = values[0] if isinstance(values[0], list) else [values[0]]
        jail.setdefault(key.removeprefix("add"), []).extend(several)
    else:
        jail[key] = values[0]

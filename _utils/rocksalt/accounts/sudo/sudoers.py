"""The language of sudoers: files and what they include, lines, and the policy that they amount to.

cvtsudoers says what the lines mean, but not where they stand. So it is given all of them as one
text, in the order in which sudo reads them, with a mark before each that it hands back.

Sources: sudoers(5), cvtsudoers(1); the JSON as sudo 1.9.13 and 1.9.16 print it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAIN, FOLDER = "/etc/sudoers", "/etc/sudoers.d"
_INCLUDE = re.compile(r"\s*[@#]include(dir)?\s+(\"[^\"]*\"|(?:\\.|[^\s\\\"])+)")
_NOTHING = re.compile(r"\s*(?:#(?!-?\d).*|@.*)?$", re.DOTALL)
_REMARK = re.compile(r"\s*#(?!-?\d)")
_INCLUDE_WORD = re.compile(r"\s*#include(?:dir)?(?:\s|\\$)")
_ALIAS = re.compile(r"\s*(?:User|Runas|Host|Cmnd|Cmd)_Alias\s")
_DEFAULTS = re.compile(r"\s*Defaults(?:[\s@:!>]|$)")
_CONTINUED = re.compile(r"\\\r?\n")
_DEEPEST = 128
_TAGS = ("log_input", "log_output")
_MARK = "rocksalt.line."

Read = Callable[[str], "str | None"]
Glob = Callable[[str], "list[str]"]
Members = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Line:
    """A line with its place; one that is continued ends in row ``last``."""

    path: str
    number: int
    last: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.path} line {self.number}"

    @property
    def says(self) -> bool:
        """Whether it is more than a remark or an include."""
        return not _NOTHING.match(self.text) and self.include is None

    @property
    def is_alias(self) -> bool:
        return _ALIAS.match(self.text) is not None

    @property
    def is_defaults(self) -> bool:
        return _DEFAULTS.match(self.text) is not None

    @property
    def include(self) -> tuple[str, bool] | None:
        """What it includes, and whether that is a folder."""
        found = _INCLUDE.match(self.text)
        if not found:
            return None
        path = found[2].strip('"') if found[2][0] == '"' else re.sub(r"\\(.)", r"\1", found[2])
        folder = self.path.rpartition("/")[0]
        return (path if path.startswith("/") else f"{folder}/{path}"), bool(found[1])


@dataclass(frozen=True)
class Default:
    """One setting that a Defaults line makes, or a tag of a grant; ``scope`` says for whom, empty
    for everybody.
    """

    name: str
    value: Any
    scope: str
    line: Line


@dataclass(frozen=True)
class Spec:
    """Users, hosts, and what they may run there: a grant, as cvtsudoers has it."""

    users: Members
    hosts: Members
    commands: Sequence[Mapping[str, Any]]
    line: Line


@dataclass(frozen=True)
class Policy:
    """What all files together say, in the order in which it counts."""

    defaults: Sequence[Default] = ()
    specs: Sequence[Spec] = ()
    users: Mapping[str, Members] = field(default_factory=dict)
    runas: Mapping[str, Members] = field(default_factory=dict)
    hosts: Mapping[str, Members] = field(default_factory=dict)
    programs: Mapping[str, Members] = field(default_factory=dict)


def lines(path: str, text: str) -> list[Line]:
    """The lines of a file, continued ones as one; a remark cannot be continued."""
    found, rows = [], text.split("\n")
    number = 0
    while number < len(rows):
        first, whole = number, rows[number]
        remark = _REMARK.match(whole) and not _INCLUDE_WORD.match(whole)
        while not remark and whole.rstrip("\r").endswith("\\") and number + 1 < len(rows):
            number += 1
            whole += "\n" + rows[number]
        found.append(Line(path, first + 1, number + 1, _CONTINUED.sub(" ", whole)))
        number += 1
    return found


def in_reading_order(read: Read, glob: Glob, path: str = MAIN, depth: int = 0) -> Iterator[Line]:
    """The lines of the file and of what it includes, each include followed by its lines."""
    text = read(path)
    for line in lines(path, text or "") if depth < _DEEPEST else ():
        yield line
        if line.include:
            target, is_folder = line.include
            for included in in_folder(target, glob) if is_folder else [target]:
                yield from in_reading_order(read, glob, included, depth + 1)


def in_folder(folder: str, glob: Glob) -> list[str]:
    """The files of a folder that sudo reads: not those with a dot or a tilde at the end."""
    paths = glob(f"{folder.rstrip('/')}/*")
    return [p for p in paths if "." not in p.rpartition("/")[2] and not p.endswith("~")]


def traced(lines_: Sequence[Line]) -> tuple[str, str]:
    """The text for cvtsudoers, and the name that marks lines in it. No line has that name."""
    mark = _MARK
    while any(mark in line.text for line in lines_):
        mark += "x."
    rows = []
    for index, line in enumerate(lines_):
        if line.says:
            name = f"{mark}{index}"
            rows += [f"Defaults:{name} !requiretty", f"{name} ALL=/usr/bin/true"]
            rows.append(line.text.rstrip("\r").rstrip("\\"))
    return "\n".join(rows) + "\n", mark


def policy(text: str, lines_: Sequence[Line], mark: str) -> Policy:
    """The policy from what cvtsudoers printed for :func:`traced` lines. Raises ValueError and
    KeyError where that is no such thing.
    """
    found = json.loads(text)
    defaults: list[Default] = []
    for line, entry in _placed(found.get("Defaults", ()), "Binding", lines_, mark):
        scope = ", ".join(map(member_name, entry.get("Binding", ())))
        for option in entry["Options"]:
            names = [key for key in option if key != "operation"]
            defaults += [Default(name, option[name], scope, line) for name in names]
    specs = [
        Spec(entry["User_List"], entry["Host_List"], entry["Cmnd_Specs"], line)
        for line, entry in _placed(found.get("User_Specs", ()), "User_List", lines_, mark)
    ]
    aliases = ("User_Aliases", "Runas_Aliases", "Host_Aliases", "Command_Aliases")
    for spec in specs:
        scope = ", ".join(map(member_name, spec.users))
        options = [option for entry in spec.commands for option in entry.get("Options", ())]
        defaults += [Default(t, o[t], scope, spec.line) for o in options for t in _TAGS if t in o]
    return Policy(defaults, specs, *(found.get(kind, {}) for kind in aliases))


def _placed(
    entries: Iterable[Mapping[str, Any]], key: str, lines_: Sequence[Line], mark: str
) -> Iterator[tuple[Line, Mapping[str, Any]]]:
    """Every entry with its line, without the marks."""
    line = None
    for entry in entries:
        names = [str(member.get("username", "")) for member in entry.get(key, ())]
        if len(names) == 1 and names[0].startswith(mark):
            line = lines_[int(names[0].removeprefix(mark))]
        elif line is None:
            raise ValueError("an entry stands before the first line")
        else:
            yield line, entry


def member_name(member: Mapping[str, Any]) -> str:
    """A member of a list as sudoers writes it."""
    signs = {"usergroup": "%", "usergid": "%#", "userid": "#", "netgroup": "+"}
    signs["nonunixgroup"] = "%:"
    kind, value = next(((k, v) for k, v in member.items() if k != "negated"), ("", ""))
    return f"{'!' if member.get('negated') else ''}{signs.get(kind, '')}{value}"


def among(
    members: Members, names: Collection[str], aliases: Mapping[str, Members], depth: int = 0
) -> bool:
    """Whether a list names one of ``names``, such as ``ann``, ``#1000`` or ``%sudo``. The last
    entry that fits decides.
    """
    found = False
    for member in members if depth < _DEEPEST else ():
        alias = next((value for key, value in member.items() if key.endswith("alias")), None)
        if alias is not None:
            fits = among(aliases.get(alias, ()), names, aliases, depth + 1)
        else:
            fits = member_name({**member, "negated": False}) in {"ALL", "%ALL", *names}
        if fits:
            found = not member.get("negated")
    return found


def everybody(members: Members, aliases: Mapping[str, Members], depth: int = 0) -> Iterator[str]:
    """Whom a list names, as sudoers writes them, without those that it leaves out."""
    for member in members if depth < _DEEPEST else ():
        alias = member.get("useralias", "")
        if member.get("negated"):
            continue
        if alias in aliases:
            yield from everybody(aliases[alias], aliases, depth + 1)
        else:
            yield member_name(member)

"""The account files: passwd, group and shadow as they are written, broken lines included.

Sources: passwd(5), group(5), shadow(5), crypt(5).
"""

from __future__ import annotations

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TypeVar

from rocksalt.host import Host

PASSWD, GROUP, SHADOW, GSHADOW = "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"
NO_SHELLS = ("nologin", "false", "sync", "shutdown", "halt")
_PROGRAMS = ("/bin", "/sbin", "/usr/bin", "/usr/sbin")
_USABLE = re.compile(r"\$|_|[./0-9A-Za-z]{13}$")
_STRONG = re.compile(r"\$(?:y|gy|7|2[aby]|6|5)\$")
_HUMAN = (1000, 60000)
_TEXT, _NUMBER = "([^:]*)", "([0-9]+)"
_SHAPES = {
    path: re.compile(":".join((r"((?![-+#\s])[^:]+)", *fields)))
    for path, fields in {
        PASSWD: (_TEXT, _NUMBER, _NUMBER, "[^:]*", _TEXT, _TEXT),
        GROUP: ("[^:]*", _NUMBER, _TEXT),
        SHADOW: (*[_TEXT] * 4, "[^:]*", _TEXT, _TEXT, "[^:]*"),
        GSHADOW: ("[^:]*",) * 3,
    }.items()
}
"""Path -> a line, with the fields in brackets that are wanted."""
_EFFECTIVE = {
    path: re.compile(rf"\s*([^:]+):{rest}")
    for path, rest in {
        PASSWD: r"([^:]*):\s*(\+?[0-9]+|-0+):\s*(\+?[0-9]+|-0+)(?::[^:]*(?::([^:]*)(?::(.*))?)?)?",
        GROUP: r"[^:]*:\s*(\+?[0-9]+|-0+)(?::(.*))?",
        SHADOW: r"([^:]*):([^:]*):([^:]*):([^:]*)()()",
    }.items()
}
"""What of other lines the C library understands all the same: somebody may hide in them."""
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Account:
    """A line of passwd. ``uid`` and ``gid`` are numbers; ``password`` is ``x`` where shadow has
    it.
    """

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    password: str = "x"

    @property
    def has_shell(self) -> bool:
        """Whether the shell is one that takes commands; passwd's empty one means /bin/sh."""
        folder, _, name = self.shell.rpartition("/")
        return name not in NO_SHELLS or folder not in _PROGRAMS


@dataclass(frozen=True)
class Group:
    """A line of group; ``members`` are the supplementary ones."""

    name: str
    gid: int
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Secret:
    """A line of shadow. ``changed``, ``least``, ``longest``, ``inactive`` and ``expires`` are days
    (since the epoch for the first and the last), None where nothing is set.
    """

    password: str
    changed: int | None = None
    least: int | None = None
    longest: int | None = None
    inactive: int | None = None
    expires: int | None = None

    @property
    def usable(self) -> bool:
        """Whether some password is the right one."""
        return _USABLE.match(self.password) is not None

    @property
    def empty(self) -> bool:
        """Whether no password is asked for."""
        return self.password == ""

    @property
    def strong(self) -> bool:
        """Whether the hash is of a kind that withstands guessing."""
        return _STRONG.match(self.password) is not None

    @property
    def expired(self) -> bool:
        """Whether the account itself (not only its password) has expired."""
        return self.expires is not None and self.expires <= today()

    @property
    def outdated(self) -> bool:
        """Whether the password has to be changed before anybody gets in."""
        if self.changed is None or self.longest is None:
            return False
        return self.changed + self.longest < today()


@dataclass(frozen=True)
class Database:
    """The four files together. ``legacy`` are lines that begin with ``+`` or ``-`` and are meant
    for NIS, as (path, line); ``broken`` are lines of
    another form than theirs, as (path, how it begins); those that count nevertheless are among the
    others, too.
    """

    accounts: Sequence[Account] = ()
    groups: Sequence[Group] = ()
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    legacy: Sequence[tuple[str, str]] = ()
    broken: Sequence[tuple[str, str]] = ()
    human: tuple[int, int] = _HUMAN

    @cached_property
    def by_name(self) -> dict[str, Account]:
        """The first account of each name."""
        return _first((account.name, account) for account in self.accounts)

    @cached_property
    def by_uid(self) -> dict[int, Account]:
        """The first account of each UID."""
        return _first((account.uid, account) for account in self.accounts)

    @cached_property
    def group_by_name(self) -> dict[str, Group]:
        return _first((group.name, group) for group in self.groups)

    @cached_property
    def members(self) -> dict[str, set[str]]:
        """Group -> its members, those that have it as their primary group included."""
        primary = defaultdict(set)
        for account in self.accounts:
            primary[account.gid].add(account.name)
        return {group.name: {*group.members, *primary[group.gid]} for group in self.groups}

    @cached_property
    def groups_of(self) -> dict[str, set[str]]:
        """Account -> the names of its groups."""
        found: dict[str, set[str]] = {account.name: set() for account in self.accounts}
        for group, members in self.members.items():
            for member in members:
                found.setdefault(member, set()).add(group)
        return found

    def is_human(self, account: Account) -> bool:
        """Whether the UID is in the range that login.defs gives to people."""
        return self.human[0] <= account.uid <= self.human[1]


def _first(entries: Iterable[tuple[K, V]]) -> dict[K, V]:
    """The first value of each key, in the order of the file: the one that the system finds."""
    found: dict[K, V] = {}
    for key, value in entries:
        found.setdefault(key, value)
    return found


def today() -> int:
    """Days since the epoch, UTC."""
    return (dt.datetime.now(dt.timezone.utc).date() - dt.date(1970, 1, 1)).days


def read(host: Host) -> Database:
    """The account files of a host."""
    texts = {path: host.read(path) or "" for path in (PASSWD, GROUP, SHADOW, GSHADOW)}
    legacy, broken = [], []
    rows: dict[str, list[Sequence[str]]] = {}
    for path, text in texts.items():
        rows[path] = []
        for line in filter(None, text.split("\n")):
            found = _SHAPES[path].fullmatch(line)
            start = "" if found else line.lstrip()
            if start.startswith(("+", "-")):
                legacy.append((path, line))
            elif start and start[0] != "#":
                broken.append((path, start.split(":")[0]))
                found = _EFFECTIVE[path].fullmatch(line) if path in _EFFECTIVE else None
            if found:
                rows[path].append(found.groups(""))
    return Database(
        accounts=[
            Account(name, int(uid), int(gid), home, shell, password)
            for name, password, uid, gid, home, shell in rows[PASSWD]
        ],
        groups=[
            Group(name, int(gid), tuple(filter(None, members.split(","))))
            for name, gid, members in rows[GROUP]
        ],
        secrets=_first(
            (name, Secret(password, *map(_days, days))) for name, password, *days in rows[SHADOW]
        ),
        legacy=legacy,
        broken=broken,
        human=_range(host.read("/etc/login.defs") or ""),
    )


@lru_cache
def _days(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _range(login_defs: str) -> tuple[int, int]:
    found = dict(re.findall(r"^\s*(UID_MIN|UID_MAX)\s+(\d+)", login_defs, re.MULTILINE))
    return int(found.get("UID_MIN", _HUMAN[0])), int(found.get("UID_MAX", _HUMAN[1]))

"""One look at sudo and su: what the checks need, and nothing decided yet."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rocksalt.accounts.sudo import sudoers
from rocksalt.host import Host

SETTINGS = f"{sudoers.FOLDER}/zz-rocksalt"
ADMINISTRATORS = f"{sudoers.FOLDER}/zz-rocksalt-administrators"
LOGROTATE = "/etc/logrotate.d/rocksalt-sudo"
OWN = (SETTINGS, ADMINISTRATORS, LOGROTATE)
VISUDO, CVTSUDOERS = "/usr/sbin/visudo", "/usr/bin/cvtsudoers"
PLUGINS = "/etc/sudo.conf"
OVERRIDES = "/var/lib/dpkg/statoverride"
_STOCK_PLUGIN = re.compile(r"\s*Plugin\s+sudoers_(?:policy|io|audit)\s+sudoers\.so\s*$")
_FAULT = re.compile(r"^(/[^\n]*?):(\d+):\d+: (.*)$", re.MULTILINE)
_READ = re.compile(r"^(/.*): parsed OK$", re.MULTILINE)
_OF_ONE_OPTION = re.compile(r'defaults entry|option "|^no value specified|^values for ')
_WARNING = re.compile(r'unused|"[^"]*" referenced but not defined')


@dataclass(frozen=True)
class Fault:
    """What visudo finds wrong; ``number`` is 0 where it names no line."""

    path: str
    number: int
    words: str

    @property
    def place(self) -> str:
        return f"{self.path} line {self.number}" if self.number else self.path


@dataclass(frozen=True)
class Access:
    """Who may do what with a file, or with the file that a link leads to."""

    access: str
    mode: int
    is_link: bool = False

    @property
    def passed_over(self) -> bool:
        """Whether sudo refuses to read it, for others could have written it."""
        owner, group = self.access.split()[0].split(":")
        return owner != "root" or bool(self.mode & 0o002 or (self.mode & 0o020 and group != "root"))


@dataclass(frozen=True)
class Su:
    """The program su as dpkg names it, who may run it, and dpkg's override for it."""

    path: str = ""
    access: str = ""
    override: str = ""


@dataclass(frozen=True)
class Reading:
    """``absent`` says what is not installed, ``problem`` why the policy could not be read.
    ``lines`` are those of all files in the order in which sudo reads them; ``policy`` has those
    that sudo understands, in files that it passes over, too. ``texts`` are our own files,
    ``plugins`` the lines of sudo.conf that name others than sudo's own.
    """

    absent: str = ""
    problem: str = ""
    faults: Sequence[Fault] = ()
    lines: Sequence[sudoers.Line] = ()
    policy: sudoers.Policy = field(default_factory=sudoers.Policy)
    access: Mapping[str, Access] = field(default_factory=dict)
    texts: Mapping[str, str | None] = field(default_factory=dict)
    plugins: Sequence[sudoers.Line] = ()
    rotates: bool = False
    su: Su = field(default_factory=Su)

    @cached_property
    def passed_over(self) -> set[str]:
        """Files that sudo does not read because others could have written them."""
        found = {path for path, seen in self.access.items() if seen.passed_over}
        closed = sudoers.FOLDER in found
        return found | {p for p in self.access if closed and p.startswith(f"{sudoers.FOLDER}/")}

    @cached_property
    def in_force(self) -> sudoers.Policy:
        """The policy without what sudo does not read."""
        return dataclasses.replace(
            self.policy,
            defaults=[d for d in self.policy.defaults if d.line.path not in self.passed_over],
            specs=[s for s in self.policy.specs if s.line.path not in self.passed_over],
        )


def read(host: Host) -> Reading:
    """Looks at everything once, with two commands. Nothing on the host changes."""
    if host.attributes(VISUDO) is None:
        return Reading(absent="sudo is not installed", su=read_su(host))
    lines = list(sudoers.in_reading_order(host.read, host.glob))
    faults, known = check(host)
    paths = list(dict.fromkeys(line.path for line in lines))
    policy, problem = _policy(host, lines, faults)
    found = Reading(
        problem=problem,
        faults=faults,
        lines=lines,
        policy=policy,
        access=_access(host, [sudoers.FOLDER, SETTINGS, ADMINISTRATORS, *paths]),
        texts={path: host.read(path) for path in OWN},
        plugins=[
            line
            for line in sudoers.lines(PLUGINS, host.read(PLUGINS) or "")
            if line.text.lstrip().startswith("Plugin") and not _STOCK_PLUGIN.match(line.text)
        ],
        rotates=host.attributes("/usr/sbin/logrotate") is not None,
        su=read_su(host),
    )
    strange = (set(known) ^ set(paths)) - found.passed_over
    if not faults and strange:
        problem = "visudo and the baseline do not agree on whether sudo reads "
        return dataclasses.replace(found, problem=problem + ", ".join(sorted(strange)))
    return found


def check(host: Host, path: str = sudoers.MAIN) -> tuple[list[Fault], list[str]]:
    """What visudo finds wrong, and, if that is nothing, the files that sudo reads."""
    real = str(host.path(path))
    ran = host.run(VISUDO, "-c", "-f", real)
    if not ran.status:
        return [], _READ.findall(ran.out.replace(f"{host.root}/", "/"))
    text = (ran.err + ran.out).replace(real, path)
    faults = [
        Fault(where, int(number), words)
        for where, number, words in dict.fromkeys(_FAULT.findall(text))
        if not _WARNING.search(words)
    ]
    return faults or [Fault(sudoers.MAIN, 0, " ".join(text.split()))], []


def _policy(
    host: Host, lines: Sequence[sudoers.Line], faults: Sequence[Fault]
) -> tuple[sudoers.Policy, str]:
    """What the lines amount to without those that sudo skips, for it does not understand them; of
    one with an option that it does not know it skips only that.
    """
    skipped = (fault for fault in faults if not _OF_ONE_OPTION.search(fault.words))
    wrong = {(fault.path, fault.number) for fault in skipped}
    good = [
        line
        for line in lines
        if not any((line.path, n) in wrong for n in range(line.number, line.last + 1))
    ]
    text, mark = sudoers.traced(good)
    ran = host.run(CVTSUDOERS, "-f", "json", "-", text=text)
    if ran.status:
        complaint = " ".join((ran.err or ran.out).split())
        return sudoers.Policy(), f"cvtsudoers cannot read the rules of sudo: {complaint}"
    try:
        return sudoers.policy(ran.out, good, mark), ""
    except (ValueError, KeyError) as error:
        return sudoers.Policy(), f"what cvtsudoers says is not understood: {error!r}"


def _access(host: Host, paths: Sequence[str]) -> dict[str, Access]:
    found = {}
    for path in paths:
        attributes = host.attributes(path)
        if attributes:
            link = os.path.islink(host.path(path))
            found[path] = Access(attributes.access, int(attributes.mode, 8), link)
    return found


def read_su(host: Host) -> Su:
    """The program su, and who may run it."""
    files = (host.read("/var/lib/dpkg/info/util-linux.list") or "").splitlines()
    path = next((p for p in ("/usr/bin/su", "/bin/su") if p in files), "")
    attributes = host.attributes(path) if path else None
    if attributes is None:
        return Su()
    entries = (entry.split() for entry in (host.read(OVERRIDES) or "").splitlines())
    override = next((" ".join(e[:3]) for e in entries if e[3:] == [path]), "")
    return Su(path, attributes.access, override)

"""One look at the host: everything about its SSH server that the checks need, and nothing decided
yet.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rocksalt import sshd
from rocksalt.host import Host, unit_properties
from rocksalt.sshd import config

QUERIES = (
    "ciphers",
    "macs",
    "kexalgorithms",
    "hostkeyalgorithms",
    "pubkeyacceptedalgorithms",
    "casignaturealgorithms",
)
_UNIT_PROPERTIES = (
    "Id,LoadState,ActiveState,UnitFileState,MainPID,StateChangeTimestampMonotonic,ReloadResult"
)
_WITH_VALUE = ("-o", "-p", "-f", "-h", "-c")
_LISTENER = re.compile(r"sshd: (?P<command>.*?) \[listener\]")


@dataclass(frozen=True)
class HostKey:
    """A private host key on disk: ``kind`` as ssh-keygen calls it (``ED25519``), size in
    ``bits``.
    """

    path: str
    kind: str
    bits: int

    @property
    def weak(self) -> bool:
        return self.kind == "DSA" or (self.kind == "RSA" and self.bits < 3072)

    def __str__(self) -> str:
        return f"{self.path} ({self.kind} {self.bits})"


@dataclass(frozen=True)
class Listener:
    """A listening sshd that systemd did not start as ssh.service; ``unit`` is another unit whose
    main process it is, empty when nothing looks after it.
    """

    pid: int
    options: tuple[str, ...]
    unit: str = ""


@dataclass(frozen=True)
class Daemon:
    """The running server. ``since`` is when it last read its configuration (seconds since the
    epoch, 0 if never); ``options`` is what it was started with beyond ``-D``; ``program`` is what
    runs, empty when nothing does; ``strays`` are other listeners.
    """

    active: bool = False
    enabled: bool = False
    socket: bool = False
    since: float = 0.0
    reloaded: bool = True
    options: tuple[str, ...] = ()
    program: str = ""
    strays: tuple[Listener, ...] = ()


@dataclass(frozen=True)
class Reading:
    """``effective`` is ``sshd -T`` as the running daemon would answer it; ``problem`` says why
    there is none.
    """

    installed: bool
    lines: Sequence[config.Line] = ()
    stock: frozenset[tuple[str, str]] = frozenset()
    effective: Mapping[str, list[str]] = field(default_factory=dict)
    problem: str = ""
    offered: Mapping[str, list[str]] = field(default_factory=dict)
    daemon: Daemon = field(default_factory=Daemon)
    access: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, float] = field(default_factory=dict)
    host_keys: Sequence[HostKey] = ()
    texts: Mapping[str, str | None] = field(default_factory=dict)
    cloud_init: bool = False
    matched: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict)


def read(host: Host) -> Reading:
    """Looks at everything once. Nothing on the host changes."""
    if host.read(sshd.MAIN) is None and host.attributes("/usr/sbin/sshd") is None:
        return Reading(installed=False)
    lines = config.parse(sshd.MAIN, host.read, host.glob)
    running = daemon(host)
    effective, problem = test_mode(host, running.options)
    host_keys = _host_keys(host, effective)
    files = [sshd.MAIN, *host.glob(f"{sshd.FOLDER}/*.conf")]
    keys = [key.path for key in host_keys]
    attributes = {
        path: host.attributes(path)
        for path in {*files, *keys, sshd.FOLDER, *(li.path for li in lines)}
    }
    return Reading(
        installed=True,
        lines=lines,
        stock=_stock(host),
        effective=effective,
        problem=problem,
        offered={query: host.run("ssh", "-Q", query).out.split() for query in QUERIES[:4]},
        daemon=running,
        access={path: found.access for path, found in attributes.items() if found},
        links=_links(host, attributes),
        changed={path: found.changed for path, found in attributes.items() if found},
        host_keys=host_keys,
        texts={
            path: host.read(path)
            for path in (sshd.DROP_IN, sshd.BANNER, sshd.MODULI, sshd.CLOUD_INIT)
        },
        cloud_init=host.attributes("/etc/cloud/cloud.cfg") is not None,
        matched=_matched(host, lines, running.options),
    )


def test_mode(
    host: Host, options: Sequence[str] = (), spec: str = ""
) -> tuple[dict[str, list[str]], str]:
    """(``sshd -T`` with the daemon's own options, why it failed), for the connection ``spec`` where
    one is given.

    Without its privilege separation directory, which systemd makes when it starts the daemon, sshd
    refuses to answer.
    """
    with host.directory(sshd.PRIVILEGE_SEPARATION, unless=lambda: starting(host)):
        ran = host.run("/usr/sbin/sshd", "-T", *_judged(options), *(("-C", spec) if spec else ()))
    if ran.status:
        return {}, f"sshd -T fails: {' '.join(ran.err.split()) or f'status {ran.status}'}"
    return config.effective(ran.out), ""


def starting(host: Host) -> bool:
    """Whether sshd runs or is about to: its runtime folder is then systemd's business."""
    ran = host.run("systemctl", "is-active", "ssh.service", "ssh.socket")
    return any(word in ("active", "activating", "reloading") for word in ran.out.split())


def _judged(options: Sequence[str]) -> list[str]:
    """The options of a daemon that change what it does, and none that would write somewhere."""
    found, rest = [], list(options)
    while rest:
        option = rest.pop(0)
        if option in ("-4", "-6"):
            found.append(option)
        elif option in _WITH_VALUE and rest:
            found += [option, rest.pop(0)]
        elif option[:2] in _WITH_VALUE and len(option) > 2:
            found += [option[:2], option[2:]]
    return found


def _links(host: Host, paths: Iterable[str]) -> dict[str, str]:
    """Configuration files that are links out of /etc/ssh: path -> where they lead."""
    targets = {path: os.path.realpath(host.path(path))[len(host.root) :] for path in paths}
    return {
        path: target
        for path, target in targets.items()
        if target != path and not target.startswith("/etc/ssh/")
    }


def _stock(host: Host) -> frozenset[tuple[str, str]]:
    """The directives of the distribution's own template, which are nobody's decision."""
    path = "/usr/share/openssh/sshd_config"
    return frozenset(
        (line.keyword, line.value) for line in config.parse(path, host.read, lambda _: ())
    )


def _matched(
    host: Host, lines: Sequence[config.Line], options: Sequence[str]
) -> dict[str, Mapping[str, list[str]]]:
    """Criteria of each foreign Match block -> what ``sshd -T`` says for a connection it applies to.

    A block for which no connection can be made up (a group without members) is left out.
    """

    def member_of(group: str) -> str | None:
        ran = host.run("getent", "group", group)
        fields = ran.out.strip().split(":")
        if len(fields) != 4:
            return None
        primary = (u.split(":") for u in (host.read("/etc/passwd") or "").splitlines())
        members = fields[3].split(",") + [
            u[0] for u in primary if len(u) == 7 and u[3] == fields[2]
        ]
        return next((member for member in members if member), None)

    found: dict[str, Mapping[str, list[str]]] = {}
    for criteria in dict.fromkeys(line.match for line in lines if line.match):
        spec = config.connection(criteria, member_of)
        if spec is not None:
            effective, problem = test_mode(host, options, spec)
            if not problem:
                found[criteria] = effective
    return found


def daemon(host: Host) -> Daemon:
    """The SSH server as systemd and the process list show it."""
    shown = host.run("systemctl", "show", "ssh.service", "ssh.socket", "-p", _UNIT_PROPERTIES).out
    service, socket = [*unit_properties(shown), {}, {}][:2]
    pid = int(service.get("MainPID") or 0)
    stamp = int(service.get("StateChangeTimestampMonotonic") or 0) / 1e6
    active = service.get("ActiveState") in ("active", "reloading")
    return Daemon(
        active=active,
        enabled=service.get("UnitFileState") == "enabled",
        socket=socket.get("ActiveState") == "active" or socket.get("UnitFileState") == "enabled",
        since=time.time() - (time.monotonic() - stamp) if active and stamp else 0.0,
        reloaded=service.get("ReloadResult", "success") == "success",
        options=_options(host, pid) if pid else (),
        program=_program(host, pid) if pid else "",
        strays=_strays(host, pid),
    )


def _strays(host: Host, main: int) -> tuple[Listener, ...]:
    """Listening sshd processes of root on this host, not of its containers, beside ``main``.

    The process list is written by whoever runs a process: only root's, and only sshd, counts.
    """
    processes, found = host.path("/proc"), []
    mine = os.readlink(processes / "self/ns/pid")
    for pid in sorted(int(name) for name in os.listdir(processes) if name.isdigit()):
        folder = processes / str(pid)
        try:
            if pid == main or not _LISTENER.match(_title(host, pid)):
                continue
            if os.readlink(folder / "ns/pid") != mine:
                continue
        except OSError:
            continue
        owner = host.attributes(f"/proc/{pid}")
        roots = owner is not None and owner.owner == "root"
        if roots and os.path.basename(_program(host, pid)) == "sshd":
            found.append(Listener(pid, _options(host, pid), _unit(host, pid)))
    return tuple(found)


def _title(host: Host, pid: int) -> str:
    with open(host.path(f"/proc/{pid}/cmdline"), "rb") as file:
        return file.read().replace(b"\0", b" ").decode(errors="replace")


def _options(host: Host, pid: int) -> tuple[str, ...]:
    """What a listener was started with beyond ``-D``. sshd shows it in its title, unless the
    command line is too long for that; then it is the command line itself.
    """
    try:
        title = _title(host, pid)
    except OSError:
        return ()
    listener = _LISTENER.match(title)
    try:
        words = shlex.split(listener.group("command") if listener else title)
    except ValueError:
        words = title.split()
    return tuple(word for word in words[1:] if word != "-D")


def _program(host: Host, pid: int) -> str:
    """The program that a process runs; one replaced by an upgrade counts as the same."""
    try:
        return os.readlink(host.path(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
    except OSError:
        return ""


def _unit(host: Host, pid: int) -> str:
    """The unit whose main process this is."""
    unit = (host.read(f"/proc/{pid}/cgroup") or "").strip().rsplit("/", 1)[-1]
    if not unit.endswith(".service"):
        return ""
    main = host.run("systemctl", "show", "--property=MainPID", "--value", unit).out.strip()
    return unit if main == str(pid) else ""


def _host_keys(host: Host, effective: Mapping[str, list[str]]) -> list[HostKey]:
    paths = {*host.glob("/etc/ssh/ssh_host_*_key"), *effective.get("hostkey", ())}
    found = []
    for path in sorted(paths):
        ran = host.run("ssh-keygen", "-l", "-f", str(host.path(path)))
        listed = re.match(r"(\d+) \S+ .*\((\S+)\)\s*$", ran.out)
        if listed:
            found.append(HostKey(path, listed.group(2), int(listed.group(1))))
    return found

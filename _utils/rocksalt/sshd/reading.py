"""One look at the host: everything about its SSH server that the checks need, and nothing decided
yet.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rocksalt import sshd
from rocksalt.host import Host
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
class Daemon:
    """The running server. ``since`` is when it last read its configuration (seconds since the
    epoch, 0 if never); ``options`` is what it was started with beyond ``-D``; ``strays`` are
    listeners that systemd did not start.
    """

    active: bool = False
    enabled: bool = False
    socket: bool = False
    since: float = 0.0
    reloaded: bool = True
    options: tuple[str, ...] = ()
    strays: tuple[int, ...] = ()


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
    with host.directory(sshd.PRIVILEGE_SEPARATION):
        ran = host.run("/usr/sbin/sshd", "-T", *options, *(("-C", spec) if spec else ()))
    if ran.status:
        return {}, f"sshd -T fails: {' '.join(ran.err.split()) or f'status {ran.status}'}"
    return config.effective(ran.out), ""


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
    blocks = [
        dict(li.split("=", 1) for li in block.splitlines() if "=" in li)
        for block in shown.split("\n\n")
    ]
    service, socket = ([*blocks, {}, {}])[:2]
    pid = int(service.get("MainPID") or 0)
    listeners = _listeners(host)
    strays = tuple(number for number in listeners if number != pid)
    speaking = strays[0] if strays else pid
    stamp = int(service.get("StateChangeTimestampMonotonic") or 0) / 1e6
    active = service.get("ActiveState") in ("active", "reloading")
    return Daemon(
        active=active,
        enabled=service.get("UnitFileState") == "enabled",
        socket=socket.get("ActiveState") == "active" or socket.get("UnitFileState") == "enabled",
        since=time.time() - (time.monotonic() - stamp) if active and stamp else 0.0,
        reloaded=service.get("ReloadResult", "success") == "success",
        options=listeners.get(speaking, ()),
        strays=strays,
    )


def _listeners(host: Host) -> dict[int, tuple[str, ...]]:
    """Listening sshd processes of this host, not of its containers: pid -> options beyond
    ``-D``.
    """
    processes, found = host.path("/proc"), {}
    mine = os.readlink(processes / "self/ns/pid")
    for name in filter(str.isdigit, os.listdir(processes)):
        try:
            with open(processes / name / "cmdline", "rb") as file:
                title = _LISTENER.match(
                    file.read(4096).replace(b"\0", b" ").decode(errors="replace")
                )
            if title and os.readlink(processes / name / "ns/pid") == mine:
                words = shlex.split(title.group("command"))[1:]
                found[int(name)] = tuple(word for word in words if word != "-D")
        except (OSError, ValueError):
            continue
    return found


def _host_keys(host: Host, effective: Mapping[str, list[str]]) -> list[HostKey]:
    paths = {*host.glob("/etc/ssh/ssh_host_*_key"), *effective.get("hostkey", ())}
    found = []
    for path in sorted(paths):
        ran = host.run("ssh-keygen", "-l", "-f", str(host.path(path)))
        listed = re.match(r"(\d+) \S+ .*\((\S+)\)\s*$", ran.out)
        if listed:
            found.append(HostKey(path, listed.group(2), int(listed.group(1))))
    return found

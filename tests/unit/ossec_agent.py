"""A host with an OSSEC agent as the baseline wants it, as a folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rocksalt import ossec, settings
from rocksalt.host import Host, Ran
from rocksalt.ossec import checks, declared, enrolment, files, guarded, installed, state

SERVER, OTHER = "192.0.2.10", "192.0.2.11"
ADMIN = "198.51.100.7"
KEY = f"1024 web1 any {'ab' * 32}\n"
PILLAR = {
    "networks": {"management": ["198.51.100.0/24"], "ossec": ["192.0.2.0/28"]},
    "ossec": {
        "servers": [SERVER, OTHER],
        "password": "s3cr3t-enrolment",
        "enrolment_ca": "",
        "package": "none",
    },
}
MASTERS = {"salt.example": ["203.0.113.2"]}
SCRIPTS = ("firewall-drop.sh", "host-deny.sh", "restart-ossec.sh")
TARGET = """\
Id=ossec-agent.target
ActiveState=active
UnitFileState=enabled
FragmentPath=/lib/systemd/system/ossec-agent.target

Id=ossec-hids-agent.service
ActiveState=inactive
FragmentPath=

"""
TIMER = """\
Id=rocksalt-ossec-status.timer
ActiveState=active
UnitFileState=enabled
FragmentPath={timer}

Id=rocksalt-ossec-status.service
ActiveState=inactive
UnitFileState=static
FragmentPath={service}
"""


class AgentHost(Host):
    """What the fake host of the tests is in addition. Daemons are processes of /proc; what one does
    when it is tested, or enrols, a test says.
    """

    ran: list[tuple[str, ...]]
    owners: dict[str, str]
    groups: dict[str, str]
    put: Callable[..., None]
    answer: Callable[..., None]

    def become(self) -> None:
        self.tested: Callable[[str, str], Ran] = lambda daemon, text: Ran(0, "", "")
        self.server: Callable[[Mapping[str, str]], Ran] = lambda options: Ran(1, "", "")
        self.starts: Callable[[], None] = self.start
        self.given: dict[str, str] = {}
        self.inherited: list[int] = []
        self.diverts = True
        self.patience = 0.0

    def run(
        self, *command: str, timeout: float = 30, text: str = "", files: Sequence[int] = ()
    ) -> Ran:
        daemon = command[0].rpartition("/")[2]
        if command[1:3] == ("-t", "-c"):
            self.ran.append(command)
            return self.tested(daemon, Path(command[3]).read_text())
        if daemon == "agent-auth":
            self.ran.append(command)
            options = dict(zip(command[1::2], command[2::2], strict=True))
            self.given = {
                o: Path(p).read_text() for o, p in options.items() if o in ("-P", "-v", "-x", "-k")
            }
            self.inherited = [os.fstat(number).st_nlink for number in files]
            return self.server(options)
        if command[:2] == ("systemctl", "restart") and command[2].startswith("ossec"):
            self.ran.append(command)
            self.patience = timeout
            self.starts()
            return Ran(0, "", "")
        if command[0] == "dpkg-divert":
            self.ran.append(command)
            if self.diverts:
                self._divert(command)
            return Ran(int(not self.diverts), "", "conflicting diversion")
        if command[:2] == ("/bin/sh", "-c"):
            self.ran.append(command)
            self.stop(ossec.EXECD)
            return Ran(0, "", "")
        return super().run(*command, timeout=timeout, text=text)

    def _divert(self, command: tuple[str, ...]) -> None:
        lines = (self.read(guarded.DIVERSIONS) or "").splitlines()
        if "--add" in command:
            lines += [command[-1], command[command.index("--divert") + 1], ":"]
        else:
            place = lines.index(command[-1])
            del lines[place : place + 3]
        self.put(guarded.DIVERSIONS, "\n".join([*lines, ""]))

    def start(self, *names: str, ago: float = 0) -> None:
        """Has daemons run since then, all unless told which."""
        stamp = time.time() - ago
        for number, name in enumerate(names or ossec.DAEMONS, 100):
            self.stop(name)
            self.put(f"/proc/{number}/cmdline", f"/var/ossec/bin/{name}\0-f\0")
            path = f"{ossec.HOME}/var/run/{name}-{number}.pid"
            self.put(path, f"{number}\n")
            os.utime(self.path(path), (stamp, stamp))

    def stop(self, name: str) -> None:
        for path in self.glob(f"{ossec.HOME}/var/run/{name}-*.pid"):
            self.remove(path)

    def log(self, *lines: str) -> None:
        """Lines of the agent's log, as of a minute ago."""
        stamp = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(time.time() - 60))
        text = "".join(f"{stamp} {line}\n" for line in lines)
        owner = self.owners.get(ossec.LOG, "ossec")
        self.put(ossec.LOG, (self.read(ossec.LOG) or "") + text, 0o660, owner)

    def age(self, path: str, seconds: float) -> None:
        stamp = time.time() - seconds
        os.utime(self.path(path), (stamp, stamp))


CONNECTED = f"ossec-agentd(4102): INFO: Connected to server {SERVER}, port 1514."
SCANNED = "ossec-syscheckd: INFO: Ending syscheck scan (forwarding database)."


def install(host: AgentHost) -> None:
    """The agent as its package brings it."""
    for daemon in (*ossec.DAEMONS, "agent-auth"):
        host.put(f"{ossec.BIN}/{daemon}", f"program {daemon}\n", 0o550)
    for name in SCRIPTS:
        host.put(f"{ossec.RESPONSES}/{name}", f"#!/bin/sh\n# {name}\n", 0o550)
    host.put(ossec.INIT, 'DIRECTORY="/var/ossec"\nVERSION="v4.3.0"\nDATE="now"\nTYPE="agent"\n')
    host.put(ossec.CONF, "<ossec_config></ossec_config>\n", 0o640)
    host.put(ossec.OPTIONS[0], "logcollector.remote_commands=0\n", 0o640)
    host.put(f"{ossec.SHARED}/rootkit_files.txt", "rules\n", 0o640)
    for folder in ("queue/ossec", "queue/rids", "queue/alerts", "logs", "var/run"):
        host.path(f"{ossec.HOME}/{folder}").mkdir(parents=True, exist_ok=True)
    host.answer("systemctl show ossec-agent.target", TARGET)
    names = {"timer": files.TIMER, "service": files.SERVICE}
    for kind in names:
        host.answer(f"systemctl show rocksalt-ossec-status.{kind}", TIMER.format(**names))
    for command in ("systemctl --quiet enable", "systemctl restart", "systemctl start"):
        host.answer(command)
    for command in ("daemon-reload", "disable"):
        host.answer(f"systemctl {command}")


def look(
    host: AgentHost,
    shipped: Any,
    pillar: Any = None,
    minion: str = "web1",
    masters: Mapping[str, Sequence[str]] = MASTERS,
) -> checks.Ossec:
    """The comparison for a pillar laid over the usual one."""
    merged = settings.merge(PILLAR, pillar or {})
    baseline = settings.resolve(shipped, merged, {}, minion)
    place = declared.Place(minion, masters, "bookworm")
    return checks.Ossec(declared.Declared(baseline, place), host, time.time())


def in_order(host: AgentHost, shipped: Any) -> None:
    """Makes every control hold, by what the family itself writes."""
    it = look(host, shipped)
    host.put(ossec.KEYS, KEY, 0o640)
    digest = enrolment.key(KEY)
    assert digest is not None
    note = {"server": SERVER, "name": "web1", "verified": True, "digest": digest.digest}
    host.put(ossec.NOTE, json.dumps(note))
    installed.write_down(host, it.build)
    for path, (text, access) in {**it.own(), **files.units()}.items():
        host.write(path, text, access[-4:])
    for name in SCRIPTS[:2]:
        original = f"{ossec.ORIGINALS}/{name}"
        host.put(original, host.read(f"{ossec.RESPONSES}/{name}") or "", 0o550)
        host.put(f"{ossec.RESPONSES}/{name}", files.wrapper(name), 0o550)
        words = ("dpkg-divert", "--local", "--no-rename", "--divert", original)
        host.run(*words, "--add", f"{ossec.RESPONSES}/{name}")
    for path in ("/etc/passwd", "/etc/sudoers", "/usr/sbin/sshd", "/root/.ssh/authorized_keys"):
        host.put(path)
    host.secure(ossec.ORIGINALS, "root", "ossec", "0750")
    host.put(ossec.CONF, it.render(), 0o640)
    host.start(ago=-1)
    host.put(f"{ossec.HOME}/queue/rids/sender_counter", "0:1:")
    host.log(CONNECTED, SCANNED)
    host.secure(ossec.LOG, "ossec", "ossec", "0660")
    status = state.look(it.declared.program(), time.time(), {}, host.root)
    host.put(ossec.STATUS, json.dumps(status))
    host.put(ossec.INSTALLED, host.read(ossec.INSTALLED) or "", 0o600)


def made(host: Any) -> AgentHost:
    """The fake host of a test as one on which there may be an agent; there is none yet."""
    host.__class__ = type("AgentHost", (AgentHost, type(host)), {})
    host.become()
    return host

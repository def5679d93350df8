"""Hosts that ship their logs, two log servers, each the other's witness, and numbered lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import runs
import tampers
from rocksalt_lab import Host, Lab
from rocksalt_lab.lab import NETWORKS, in_parallel

ADDRESSES = {"logs1": "10.79.0.41", "logs2": "10.79.0.42"}
PORTS = {"web1": 2601, "web2": 2602, "logs1": 2603, "logs2": 2604}
STORE, FOLDER, STATE = "/var/log/rocksalt", "/etc/rocksalt/logstash", "/var/lib/rocksalt/logstash"
CA = "/etc/rocksalt/logs-ca"
SHIPPER, RECEIVER = "rocksalt-ship.service", "rocksalt-logs.service"
ON_HOST = tampers.FOLDER.parent / "on_host"
FAMILIES = "hardening.firewall,hardening.logstash,hardening.drift"


@dataclass(frozen=True)
class Received:
    """What log servers have of numbered lines: how many, how many different ids, and pairs of a
    first and a last number.
    """

    lines: int
    ids: int
    numbers: list[list[int]]

    @property
    def count(self) -> int:
        return sum(last - first + 1 for first, last in self.numbers)


class Site:
    """The hosts, and what the pillar says."""

    def __init__(self, lab: Lab, cluster: dict[str, Host]) -> None:
        self.lab, self.master = lab, cluster["master"]
        self.web1, self.web2 = cluster["web1"], cluster["web2"]
        self.logs1, self.logs2 = lab.boot(ADDRESSES)
        self.hosts: list[Host] = [self.web1, self.web2, self.logs1, self.logs2]
        self.servers: list[Host] = [self.logs1, self.logs2]
        self.keys: dict[str, dict[str, str]] = {}
        self.askers: dict[str, runs.Asker] = {}

    # -- setting up -----------------------------------------------------------------------------

    def prepare(self) -> None:
        """All hosts are minions with our modules; nobody receives logs yet."""
        in_parallel(lambda host: self.lab.salt_minion(self.master, host), self.servers)
        self.pillar()
        self.master.run("salt-run saltutil.sync_all")
        in_parallel(lambda host: host.salt_call("saltutil.sync_all"), self.hosts)
        for host in self.hosts:
            for name in ("say.py", "received.py", "journal_ids.py", "rebuild.py"):
                host.write(f"/root/{name}", (ON_HOST / name).read_text())

    def harden(self) -> None:
        """All hosts have what they need, but nobody has brought them certificates."""
        in_parallel(self.apply, self.hosts)

    def connect(self) -> None:
        """Certificates are there, each log server is the other's witness, and lines arrive."""
        assert self.runner("authority")["made"]
        enrolled = self.runner("enrol", "*")
        assert enrolled["enrolled"].keys() == PORTS.keys(), enrolled
        assert not enrolled["problems"]
        for host in self.servers:
            self.keys[host.name] = self.salt(host).salt_call("logstash.keys").value
        self.pillar()
        in_parallel(self.apply, self.hosts)
        for host in self.servers:
            host.run("systemctl start rocksalt-logs-heads.service")
        for host in self.hosts:
            becomes(lambda host=host: self.status(host)["connected_since"], 60)  # type: ignore[misc]
            self.caught_up(host)

    def pillar(self, **own: Any) -> None:
        """Has all hosts ship to both servers, with other settings where they are named."""
        networks = {
            "fleet": [f"{host.ip}/32" for host in self.hosts],
            "logs": [f"{host.ip}/32" for host in self.servers],
        }
        server = {
            "firewall": {
                "services": {"relp": {"tcp": sorted(PORTS.values())}},
                "allow": {"ssh": ["management", "logs"], "relp": ["fleet"]},
            },
            "sshd": {"allow_groups": ["sudo", "rocksalt-witness"]},
            "accounts": {"users": {"rocksalt-witness": {}}},
        }
        roles: dict[str, Any] = {
            "web-server": {"minions": ["web*"], "settings": {}},
            "log-server": {"minions": ["logs*"], "settings": server},
        }
        for name, other in (("logs1", "logs2"), ("logs2", "logs1")):
            settings = {"logstash": self._server(name, other)}
            roles[f"{name}-settings"] = {"minions": [name], "settings": settings}
        shipped = {
            "servers": [{"host": host.ip, "name": host.name} for host in self.servers],
            "ports": PORTS,
            "customer": "acme",
            "probe": 10,
            "files": {"/var/log/app/*.log": "app"},
            **own,
        }
        hardening = {
            "networks": {**NETWORKS, **networks},
            "roles": roles,
            "logstash": shipped,
        }
        runs.set_pillar(self.master, hardening)
        for asker in self.askers.values():
            asker.anew()

    def _server(self, name: str, other: str) -> dict[str, Any]:
        receiver: dict[str, Any] = {"address": ADDRESSES[name]}
        if other not in self.keys:
            return {"receiver": receiver}
        theirs = self.keys[other]
        receiver["witness"] = {
            "host": ADDRESSES[other],
            "host_key": theirs["host"],
            "key": theirs["witness"],
        }
        client = {"key": theirs["transport"], "signer": theirs["signing"]}
        return {"receiver": receiver, "witness": {"clients": {other: client}}}

    # -- asking ---------------------------------------------------------------------------------

    def salt(self, host: Host) -> runs.Asker:
        """Salt on a host, in one process."""
        if host.name not in self.askers:
            self.askers[host.name] = runs.Asker(host)
        return self.askers[host.name]

    def forget(self, host: Host) -> None:
        """Ends the process that answers on a host, which would keep it from going down."""
        if host.name in self.askers:
            self.askers.pop(host.name).close()

    def apply(self, host: Host) -> runs.Run:
        """A run of the families that logs need, which did not fail."""
        run = runs.apply(self.salt(host), FAMILIES)
        assert not run.failed
        return run

    def differing(self, host: Host) -> dict[str, str]:
        """What drifts in the family."""
        return runs.differing(self.salt(host), families="logstash")

    def runner(self, function: str, *arguments: str) -> Any:
        """What a runner of the master returned; a failure is an error."""
        done = self.master.run(["salt-run", "--out=json", f"logs.{function}", *arguments])
        return json.loads(done.stdout)

    def status(self, host: Host) -> dict[str, Any]:
        """What the shipper says of itself."""
        found: dict[str, Any] = json.loads(host.read(f"{STATE}/status.json"))
        return found

    def received(self, host: Host, identifier: str, *servers: Host) -> Received:
        """What both servers, or those named, have of the numbered lines of a host."""
        lines, ids, numbers = 0, 0, set[int]()
        for server in servers or self.servers:
            command = ["python3", "/root/received.py", f"{STORE}/{host.name}", identifier]
            found = json.loads(server.run(command).stdout)
            lines += found["lines"]
            ids += found["ids"]
            for first, last in found["numbers"]:
                numbers.update(range(first, last + 1))
        return Received(lines, ids, ranges(numbers))

    def lines(self, host: Host, words: str) -> list[dict[str, Any]]:
        """The received lines of a host that have these words, of one server after the other."""
        found = []
        for server in self.servers:
            command = f"cat {STORE}/{host.name}/*.jsonl | grep -F -- '{words}'"
            text = server.run(command, check=False).stdout
            found += [json.loads(line) for line in text.splitlines()]
        return found

    def ids(self, host: Host) -> set[str]:
        """The ids of all events that both servers have of a host."""
        command = f'grep -ohE \'"id": ?"[0-9a-f]{{32}}"\' {STORE}/{host.name}/*.jsonl'
        texts = [server.run(command, check=False).stdout for server in self.servers]
        return {line.split('"')[3] for text in texts for line in text.splitlines()}

    def arrives(self, host: Host, words: str, within: float = 20) -> dict[str, Any]:
        """The event of a received line that has these words; if none comes in time, an error."""
        becomes(lambda: self.lines(host, words), within)
        event: dict[str, Any] = self.lines(host, words)[-1]["event"]
        return event

    def behind(self, host: Host) -> int:
        """How many entries of its journal a host would send again, for they were acknowledged only
        just now.
        """
        found = json.loads(host.read(f"{STATE}/positions.json"))
        places = found["reached"], found["positions"]["journal"]
        reached, counting = (int(it.split(";i=")[1].split(";")[0], 16) for it in places)
        return reached - counting

    def caught_up(self, host: Host, within: float = 60) -> None:
        """Waits until nothing of a host is under way: a line written now has arrived."""
        verdict = self.salt(host).salt_call("logstash.probe", timeout=within).value
        assert verdict["arrived"], verdict


class Speaker:
    """Numbered lines of a host, into its journal or a file, which go on until they are ended."""

    def __init__(self, host: Host, identifier: str, rate: int, path: str = "") -> None:
        self.host, self.unit = host, f"say-{identifier}"
        words = ["/usr/bin/python3", "/root/say.py", identifier, str(rate), "0"]
        host.run(["systemd-run", "--quiet", f"--unit={self.unit}", *words, *([path] * bool(path))])

    def end(self) -> int:
        """Ends them: how many there were in all."""
        self.host.run(f"systemctl stop {self.unit}")
        return int(self.host.read(f"/var/lib/{self.unit}"))


def ranges(numbers: set[int]) -> list[list[int]]:
    """Numbers as pairs of a first and a last one."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def becomes(is_so: Callable[[], Any], within: float) -> float:
    """The seconds until something is so; later is an error."""
    begin = time.monotonic()
    while not is_so():
        assert time.monotonic() < begin + within, f"not within {within} s"
        time.sleep(0.2)
    return time.monotonic() - begin

"""One host as the checks and the enforcement see it: its settings, how it is, and what is rendered
for it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rocksalt import findings, logstash, systemd
from rocksalt.findings import Seen
from rocksalt.host import Host
from rocksalt.settings import Baseline

_AHEAD = 300
"""Seconds by which clocks may differ."""
CERTIFICATES = (logstash.AUTHORITY, logstash.CERTIFICATE, logstash.KEY)


class Setup:
    """The settings of the family for one host, whose minion's id is ``minion``."""

    def __init__(self, baseline: Baseline, minion: str):
        self.baseline = baseline
        self.minion = minion
        self.family = baseline.families[logstash.FAMILY]
        self.settings: Mapping[str, Any] = self.family.settings

    @property
    def ships(self) -> bool:
        """Whether anybody receives the logs of this host."""
        return bool(self.settings["servers"])

    @property
    def receives(self) -> bool:
        """Whether this host is a log server."""
        return bool(self.settings["receiver"])

    @property
    def witnesses(self) -> bool:
        """Whether this host is the witness of log servers."""
        return bool(self.settings["witness"])

    @property
    def servers(self) -> list[dict[str, Any]]:
        """The log servers with all that a shipper has to know; those without a port are left out,
        for :func:`rocksalt.logstash.problems.problems` names them.
        """
        own = self.settings["ports"].get(self.minion)
        found = [
            {
                "host": server["host"],
                "port": server.get("port", own),
                "name": server.get("name", server["host"]),
            }
            for server in self.settings["servers"]
        ]
        return [server for server in found if server["port"]]

    @property
    def labels(self) -> dict[str, str]:
        """What every line says of this host."""
        found = {"role": ",".join(self.baseline.roles), "customer": self.settings["customer"]}
        return {name: text for name, text in found.items() if text}


def disk(path: str) -> tuple[int, int]:
    """The size of the disk that a path is, or would be, on, and what root's services may still
    take of it: bytes.
    """
    while not os.path.exists(path):
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def resolves(name: str) -> bool:
    """Whether a name has an address."""
    try:
        return bool(socket.getaddrinfo(name, None))
    except OSError:
        return False


@dataclass(frozen=True)
class Wires:
    """What is not in files: the network, the disk's size, and the time that passes."""

    resolves: Callable[[str], bool] = resolves
    disk: Callable[[str], tuple[int, int]] = disk
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Facts:
    """One host: what is wanted of it, and how it is. ``interpreter`` runs our programs."""

    def __init__(
        self,
        baseline: Baseline,
        minion: str,
        host: Host,
        now: dt.datetime,
        interpreter: str,
        wires: Wires | None = None,
    ):
        self.setup = Setup(baseline, minion)
        self.host = host
        self.now = now
        self.interpreter = interpreter
        self.wires = wires or Wires()
        self.wanted = findings.wanted(baseline, logstash.FAMILY, self.setup.family.controls)

    @property
    def certified(self) -> bool:
        """Whether there is what a shipper needs to be believed."""
        return all(self.host.attributes(path) for path in CERTIFICATES)

    @cached_property
    def status(self) -> Mapping[str, Any] | None:
        """What the shipper last said of itself; None where that is nothing."""
        return read_json(self.host, logstash.STATUS)

    @cached_property
    def shipper(self) -> dict[str, str]:
        """What systemd knows of the shipper."""
        found = systemd.units(self.host, [logstash.SHIPPER_UNIT])
        return found.get(logstash.SHIPPER_UNIT, {})

    @property
    def runs(self) -> bool:
        """Whether the shipper runs."""
        return self.shipper.get("ActiveState") == "active"

    def age(self, stamp: Any) -> float | None:
        """Seconds since a time in ISO form with its zone; None for what is none, and for one to
        come: some clock was wrong, and nobody knows how old that is.
        """
        return age(self.now, stamp)

    def since(self, stamp: Any) -> float | None:
        """The same, negative for a time to come."""
        return since(self.now, stamp)


def age(now: dt.datetime, stamp: Any) -> float | None:
    """What :meth:`Facts.age` says."""
    found = since(now, stamp)
    return None if found is None or found < -_AHEAD else found


def since(now: dt.datetime, stamp: Any) -> float | None:
    """What :meth:`Facts.since` says."""
    try:
        then = dt.datetime.fromisoformat(str(stamp).replace("Z", "+00:00"))
        return (now - then).total_seconds()
    except (ValueError, TypeError):
        return None


def renew(host: Host, paths: Iterable[str]) -> None:
    """Gives files whose time is still to come, for the clock was ahead once, that of now: else
    what is started now would be older than they are.
    """
    for path in paths:
        found = host.attributes(path)
        if found and found.changed > time.time():
            os.utime(host.path(path))


def read_json(host: Host, path: str) -> Mapping[str, Any] | None:
    """A mapping that one of our programs wrote; None where there is none."""
    try:
        found = json.loads(host.read(path) or "")
    except ValueError:
        return None
    return found if isinstance(found, Mapping) else None


def digest(text: str | None) -> str:
    """SHA-256 of a file's text, in hex."""
    return hashlib.sha256((text or "").encode(errors="surrogateescape")).hexdigest()


Checks = dict[str, tuple[Callable[[Facts], Any], Callable[[Facts], Seen]]]
"""Control id -> what it expects, and what was seen."""

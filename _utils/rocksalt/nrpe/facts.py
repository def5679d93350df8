"""One host as the checks and the enforcement see it: its settings, how it is, and what is rendered
for it.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable
from functools import cached_property
from typing import Any

from rocksalt import findings, nrpe
from rocksalt.findings import Seen
from rocksalt.host import Host
from rocksalt.nrpe import config, reading, shipped, tls
from rocksalt.nrpe.setup import Setup
from rocksalt.settings import Baseline

PLAIN_FILE = "root:root 0644"
PROGRAM_FILE = "root:root 0755"
CONFIG_FILE = f"root:{nrpe.USER} 0640"
"""Arguments of commands are nobody else's business."""
ACCESS = {
    nrpe.ABOVE: PROGRAM_FILE,
    nrpe.FOLDER: f"root:{nrpe.USER} 0750",
    nrpe.AUTHORITY: PLAIN_FILE,
    nrpe.CERTIFICATE: PLAIN_FILE,
    nrpe.KEY: f"root:{nrpe.USER} 0640",
    nrpe.KEPT: PLAIN_FILE,
}
ENROL = "salt-run monitoring.enrol"
NOBODY = "nobody watches this host"
_INTERNAL = tuple(
    map(
        ipaddress.ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8"),
            *("fc00::/7", "::1/128"),
        ),
    )
)


class Facts:
    """One host: what is wanted of its NRPE, and how that is. ``interpreter`` runs our plugins."""

    def __init__(
        self,
        baseline: Baseline,
        minion: str,
        host: Host,
        now: dt.datetime,
        interpreter: str,
        wires: reading.Wires | None = None,
    ):
        self.setup = Setup(baseline, minion)
        self.host = host
        self.now = now
        self.interpreter = interpreter
        self.wires = wires or reading.Wires()
        self.wanted = findings.wanted(baseline, nrpe.FAMILY, self.setup.family.controls)

    @cached_property
    def reading(self) -> reading.Reading:
        """The host as it is."""
        return reading.read(self.host)

    @cached_property
    def address(self) -> str:
        """Where NRPE is to listen; empty where no monitoring host can be reached. What was found
        stays, for the way to a monitoring host may be another one for a while.
        """
        if given := str(self.setup.settings["address"]):
            return str(ipaddress.ip_address(given))
        if kept := (self.host.read(nrpe.KEPT) or "").strip():
            return kept
        firsts = (str(next(iter(network.hosts()), network[0])) for network in self.setup.monitors)
        return next(filter(None, map(self.wires.source, firsts)), "")

    @property
    def place(self) -> str:
        """Address and port, as they are listed."""
        return f"{self.address} {self.setup.settings['port']}"

    @cached_property
    def allowed(self) -> list[str]:
        """Who is heard."""
        return self.setup.allowed(self.address)

    @cached_property
    def answers(self) -> tls.Answers:
        """What the running NRPE answers to strangers."""
        stranger = tls.unheard(self.address, self.allowed)
        return self.wires.knock(self.address, self.setup.settings["port"], stranger)

    def problem(self) -> str:
        """Why NRPE cannot listen where it should; empty where it can."""
        where = f"{nrpe.TOP}:address"
        if not self.address:
            return f"there is no way from this host to {nrpe.TOP}:monitors; name {where}"
        try:
            own = self.wires.is_own(self.address)
        except ValueError:
            return f"{nrpe.KEPT}: {self.address[:40]!r} is no address; remove that file"
        if len(",".join(self.allowed)) > config.LINE - len("allowed_hosts=\n"):
            return f"{nrpe.TOP}:monitors: are too many for a line of NRPE; name wider networks"
        if not own:
            return f"{where}: {self.address} is no address of this host{self._remembered()}"
        if not self.setup.settings["address"] and not _internal(self.address):
            return (
                f"{where}: is missing, and {self.address}, from which {nrpe.TOP}:monitors are "
                "reached, is a public address; name the one to listen on"
            )
        return ""

    def _remembered(self) -> str:
        if self.setup.settings["address"]:
            return ""
        return f" any more; name another one, or remove {nrpe.KEPT} to have one found"

    def render(self) -> dict[str, str]:
        """Our texts: path -> content."""
        settings, named = self.setup.settings, self.setup.commands
        return {
            nrpe.CONFIG: config.render(settings, self.address, self.allowed, named),
            nrpe.DROP_IN: config.drop_in(),
        }

    @cached_property
    def own_plugins(self) -> dict[str, str]:
        """Path -> content of the plugins that we bring."""
        return shipped.programs(self.interpreter)


def _internal(address: str) -> bool:
    """Whether an address is one of those that no router of others knows."""
    found = ipaddress.ip_address(address)
    return any(found in network for network in _INTERNAL)


Checks = dict[str, tuple[Callable[[Facts], Any], Callable[[Facts], Seen]]]
"""Control id -> what it expects, and what was seen."""

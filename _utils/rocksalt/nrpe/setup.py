"""What the settings amount to on one host, and what in them contradicts itself."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from typing import Any

from rocksalt import nrpe
from rocksalt.firewall.policy import Network
from rocksalt.host import Host
from rocksalt.nrpe import commands, monitors
from rocksalt.pki import certificates, held
from rocksalt.settings import SECRET, Baseline

_GIVEN = {"ca": nrpe.AUTHORITY, "certificate": nrpe.CERTIFICATE, "private_key": nrpe.KEY}
_REPORTS, _LATEST = 2, 300
"""A report may be missed before the last one is too old, and take so many seconds."""


class Setup:
    """The settings of the family for one host, whose minion's id is ``minion``."""

    def __init__(self, baseline: Baseline, minion: str):
        self.baseline = baseline
        self.minion = minion
        self.family = baseline.families[nrpe.FAMILY]
        self.settings: Mapping[str, Any] = self.family.settings

    @cached_property
    def monitors(self) -> list[Network]:
        """The networks that may ask; none where the default names nearly everybody."""
        return [] if self.too_wide else self._networks

    @cached_property
    def _networks(self) -> list[Network]:
        return monitors.networks(self.baseline, self.settings["monitors"])

    @property
    def named(self) -> bool:
        """Whether a pillar or a role names who may ask, and not the default alone."""
        return any("monitors" in layer for _, layer in self.family.layers)

    @cached_property
    def too_wide(self) -> list[str]:
        """What is wrong with a network that was meant for something else."""
        entries = () if self.named else self.settings["monitors"]
        return list(monitors.problems(self.baseline, entries, self.family.where("monitors")))

    @property
    def unheard(self) -> list[str]:
        """Why monitoring hosts would not get through to NRPE."""
        port, entries = self.settings["port"], self.settings["monitors"]
        return list(monitors.firewall_problems(self.baseline, self.monitors, port, entries))

    @property
    def commands(self) -> dict[str, str]:
        """Name -> command line."""
        return commands.lines(self.settings["commands"], self.report_age)

    @property
    def plugins(self) -> list[str]:
        """The paths of the plugins that commands run."""
        found = [commands.plugin(it) for it in self.settings["commands"].values()]
        return sorted(set(found))

    @property
    def report_age(self) -> int:
        """Seconds after which the last drift report is old."""
        drift = self.baseline.families.get("drift")
        every = drift.settings if drift else {"interval": 60, "jitter": 300}
        return int(_REPORTS * every["interval"] * 60 + every["jitter"] + _LATEST)

    @property
    def given(self) -> dict[str, str]:
        """Path -> content of the files that the pillar gives; a secret that is not known here is
        left out.
        """
        found = {path: self.settings[key] for key, path in _GIVEN.items()}
        return {
            path: f"{text.strip()}\n" for path, text in found.items() if text not in ("", SECRET)
        }

    def allowed(self, address: str) -> list[str]:
        """Who is heard: monitoring hosts, and this host, which looks whether NRPE asks for
        certificates.
        """
        found = [str(it) if it.num_addresses > 1 else str(it[0]) for it in self.monitors]
        return list(dict.fromkeys([*found, address]))


def problems(baseline: Baseline, minion: str) -> list[str]:
    """What is wrong with the settings of the family, a sentence each, whatever the time and the
    settings of other families are: it stops every family.
    """
    setup = Setup(baseline, minion)
    family, settings = setup.family, setup.settings
    where = family.where("monitors")
    found = list(monitors.problems(baseline, settings["monitors"], where)) if setup.named else []
    found += commands.problems(settings["commands"], partial(family.where, "commands"))
    return [*found, *_address(setup), *held.given_problems(settings, family.where)]


def outdated(setup: Setup, now: dt.datetime, host: Host) -> Iterator[str]:
    """Why certificates of the pillar that are not on the host yet are not valid at this time."""
    for key, path in (("ca", nrpe.AUTHORITY), ("certificate", nrpe.CERTIFICATE)):
        text, where = setup.given.get(path), setup.family.where(key)
        for certificate in certificates.load(text, where) if text else ():
            if host.read(path) != text:
                yield from certificates.time_problems(certificate, where, now)


def _address(setup: Setup) -> Iterator[str]:
    given, where = setup.settings["address"], setup.family.where("address")
    if not given:
        return
    try:
        address = ipaddress.ip_address(given)
    except ValueError:
        yield f"{where}: {given!r} is no address such as 10.0.0.7"
        return
    if address.is_unspecified:
        yield f"{where}: {given} is every address of this host; name the internal one"
    versions = {network.version for network in setup.monitors}
    if versions and address.version not in versions:
        yield f"{where}: {given} is of another version of IP than all {nrpe.TOP}:monitors"

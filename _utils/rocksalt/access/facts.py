"""One host as the checks and the enforcement see it: its settings, its master as it is, and what is
rendered for it.
"""

from __future__ import annotations

import datetime as dt
import grp
import os
import pwd
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rocksalt import access, findings
from rocksalt.access import knocking, rendering, running, sources, versions
from rocksalt.accounts import database
from rocksalt.errors import Refused
from rocksalt.findings import Seen
from rocksalt.host import Host
from rocksalt.pki import certificates
from rocksalt.settings import SECRET, Baseline

MASTER, API = running.MASTER, running.API
ROOT = "root"
_PROGRAM = re.compile(r"path=(\S+)")
ReadConfig = Callable[[str], Mapping[str, Any]]
"""The path of the master's configuration -> what Salt makes of it."""


def group_of(user: str) -> str:
    """The name of a user's own group; the user's where nobody knows."""
    try:
        return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    except KeyError:
        return user


@dataclass(frozen=True)
class Wires:
    """What is not in files: the network, who users are, the time that passes, and Salt itself."""

    knock: Callable[[str, int], knocking.Answers] = knocking.knock
    answers_in: Callable[..., bool] = knocking.answers_in
    group_of: Callable[[str], str] = group_of
    sleep: Callable[[float], None] = time.sleep
    bound: Callable[[str, int], int] = knocking.bound
    release: Callable[[], str] = versions.running


class Setup:
    """The settings of the family for one host, whose minion's id is ``minion``."""

    def __init__(self, baseline: Baseline, minion: str):
        self.baseline = baseline
        self.minion = minion
        self.family = baseline.families[access.FAMILY]
        self.settings: Mapping[str, Any] = self.family.settings

    @property
    def declared(self) -> bool:
        """Whether this host is to have a master."""
        return self.minion in self.settings["masters"]

    @property
    def serves(self) -> bool:
        """Whether this host is to have a salt-api."""
        return bool(self.settings["address"])

    @property
    def knows_hashes(self) -> bool:
        """Whether the hashes of passwords are known; settings that were kept have no secrets."""
        return bool(self.settings["hashes"] != SECRET)


class Facts:
    """One host: what is wanted of its master, and how that is."""

    def __init__(
        self,
        baseline: Baseline,
        minion: str,
        host: Host,
        now: dt.datetime,
        folder: str,
        read_config: ReadConfig,
        wires: Wires | None = None,
    ):
        self.setup = Setup(baseline, minion)
        self.settings = self.setup.settings
        self.host = host
        self.now = now
        self.folder = folder
        self.read_config = read_config
        self.wires = wires or Wires()
        self.wanted = findings.wanted(baseline, access.FAMILY, self.setup.family.controls)

    # The master as it is --------------------------------------------------------------------------

    @cached_property
    def units(self) -> dict[str, dict[str, str]]:
        """What systemd knows of the two services, by their names."""
        return running.units(self.host)

    def is_active(self, unit: str) -> bool:
        """Whether a service runs."""
        return self.units.get(unit, {}).get("ActiveState") == "active"

    def is_installed(self, unit: str) -> bool:
        """Whether there is such a service."""
        return bool(self.units.get(unit, {}).get("FragmentPath"))

    def program(self, unit: str) -> str:
        """The program that a service starts."""
        found = _PROGRAM.search(self.units.get(unit, {}).get("ExecStart", ""))
        return found[1] if found else unit.removesuffix(".service")

    def runs_as(self, unit: str) -> str | None:
        """The user of a service; None while it does not run."""
        pid = self.units.get(unit, {}).get("MainPID", "0")
        found = self.host.attributes(f"/proc/{pid}") if pid != "0" else None
        return found.owner if found else None

    @cached_property
    def strays(self) -> list[str]:
        """Masters that systemd did not start, each as ``process 17``."""
        return [*running.strays(self.host, MASTER)]

    @cached_property
    def other_apis(self) -> list[str]:
        """The same of salt-api."""
        return [*running.strays(self.host, API)]

    @property
    def personal(self) -> list[str]:
        """Files that salt-api lays over the master's configuration, of those that are there."""
        lines = (self.host.read("/etc/passwd") or "").splitlines()
        known = (line.split(":") for line in lines)
        home = next((w[5] for w in known if w[0] == self.user and len(w) > 5), "")
        return running.personal(self.host, home, self.units.get(API, {}))

    @property
    def elsewhere(self) -> list[str]:
        """Services that read another configuration than the one that is looked at, in words."""
        own = os.path.realpath(self.host.path(self.folder))
        found = {
            unit: running.folder(self.host, self.units[unit])
            for unit in (MASTER, API)
            if self.is_installed(unit)
        }
        return [
            f"{unit} reads the configuration in {path}, and not that in {self.folder}"
            for unit, path in found.items()
            if os.path.realpath(self.host.path(path)) != own
        ]

    @property
    def masters(self) -> list[str]:
        """What says that this host has a master, in words."""
        unit = self.units.get(MASTER, {})
        found = [f"{MASTER} runs"] if self.is_active(MASTER) else []
        if not found and unit.get("UnitFileState") == "enabled":
            found.append(f"{MASTER} starts at boot")
        installed = self.is_installed(MASTER) and unit.get("UnitFileState") != "masked"
        if not found and installed and self.host.read(self.main) is not None:
            found.append(f"{MASTER} is installed and {self.main} is there")
        return [*found, *(f"{stray} is a master" for stray in self.strays)]

    # Its configuration ----------------------------------------------------------------------------

    @property
    def main(self) -> str:
        """The main file of the master's configuration."""
        return f"{self.folder}/master"

    @property
    def config_path(self) -> str:
        """Our file of the master's configuration."""
        return f"{self.folder}/master.d/{access.MASTER_CONFIG}"

    @cached_property
    def sources(self) -> list[sources.Source]:
        """The files of the master's configuration."""
        return sources.read(self.host, self.main)

    @cached_property
    def opts(self) -> Mapping[str, Any]:
        """The configuration as Salt takes it. Our own file, if it is broken, says nothing."""
        others = (source for source in self.sources if source.path != self.config_path)
        if broken := [source.problem for source in others if source.problem]:
            raise Refused("; ".join(broken))
        return self.read_config(self.main)

    def option(self, key: str) -> Any:
        """One option in plain types; None where it is not set. Raises :class:`Refused` for one that
        Salt looks up by what the master's user can write, for that is not run here.
        """
        value = sources.plain(self.opts.get(key))
        if elsewhere := sources.looked_up(value):
            raise Refused(
                f"{key} has {elsewhere}{self.said_by(key)}, which only the master looks up; write "
                "the value itself"
            )
        return value

    def said_by(self, *keys: str) -> str:
        """Which files other than ours say something of an option, as the end of a sentence."""
        found = [p for p in sources.naming(self.sources, *keys) if p != self.config_path]
        return f" ({', '.join(found)})" if found else ""

    @cached_property
    def user(self) -> str:
        """The user of the master by its configuration."""
        return str(self.option("user") or ROOT)

    @cached_property
    def group(self) -> str:
        """The group of that user, whose files the master can read."""
        return self.wires.group_of(self.user)

    @property
    def strangers(self) -> list[str]:
        """Who is in the master's group beside its user."""
        members = database.read(self.host).members.get(self.group, set())
        return sorted(members - {self.user, self.group, ROOT})

    @property
    def pki(self) -> str:
        """The folder of the master's key and those of minions."""
        own = self.option("cluster_pki_dir") if self.option("cluster_id") else None
        return str(own or self.option("pki_dir"))

    # salt-api -------------------------------------------------------------------------------------

    @cached_property
    def chain(self) -> Sequence[certificates.Certificate]:
        """The certificate of salt-api and those between; raises :class:`Refused` without one."""
        path = self.settings["tls_certificate"]
        text = self.host.read(path)
        if text is None:
            raise Refused(f"{path} does not exist; put the certificate of salt-api there")
        return certificates.load(text, path)

    @cached_property
    def key(self) -> Any:
        """Its private key."""
        path = self.settings["tls_key"]
        text = self.host.read(path)
        if text is None:
            raise Refused(f"{path} does not exist; put the private key of salt-api there")
        return certificates.load_key(text, path)

    @property
    def key_file(self) -> str:
        """The file that the path of the private key leads to."""
        real = os.path.realpath(self.host.path(self.settings["tls_key"]))
        return real[len(self.host.root) :]

    @property
    def certified(self) -> bool:
        """Whether there is what salt-api needs to start with TLS."""
        try:
            return certificates.fits(self.chain[0], self.key)
        except Refused:
            return False

    @property
    def reached_at(self) -> str:
        """The address at which this host itself reaches its salt-api."""
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        address = str(self.settings["address"])
        return own.get(address, address)

    @cached_property
    def answers(self) -> knocking.Answers:
        """What strangers get from salt-api."""
        return self.wires.knock(self.reached_at, self.settings["port"])

    # What is written ------------------------------------------------------------------------------

    @cached_property
    def config(self) -> str:
        """Our file of the master's configuration."""
        return rendering.config(self.settings, self.now)

    @property
    def readable(self) -> str:
        """The access of what only root changes and the master reads."""
        return f"{ROOT}:{ROOT} 0600" if self.user == ROOT else f"{ROOT}:{self.group} 0640"


Checks = dict[str, tuple[Callable[[Facts], Any], Callable[[Facts], Seen]]]
"""Control id -> what it expects, and what was seen."""

"""What the settings make of one host: its servers, its name, who is never banned, and the sections
of its configuration.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rocksalt.errors import Refused
from rocksalt.firewall.policy import KNOWN_NETWORKS, MANAGEMENT, Policy
from rocksalt.host import Host
from rocksalt.ossec import SHARED, TOP, conf, state
from rocksalt.ossec.conf import Entry, Section
from rocksalt.settings import Baseline

ALWAYS = (MANAGEMENT, "salt", "ossec", "monitoring")
"""Networks that are never banned, whatever the settings name beside them."""
COMMANDS = ("command", "full_command")
_JOURNAL = "journald"
_LOGS = {
    "/var/log/auth.log": "syslog",
    "/var/log/syslog": "syslog",
    "/var/log/messages": "syslog",
    "/var/log/kern.log": "syslog",
    "/var/log/mail.log": "syslog",
    "/var/log/dpkg.log": "syslog",
    "/var/log/fail2ban.log": "syslog",
    "/var/log/audit/audit.log": "audit",
    "/var/log/apache2/access.log": "apache",
    "/var/log/apache2/error.log": "apache",
    "/var/log/nginx/access.log": "apache",
    "/var/log/nginx/error.log": "apache",
}
"""The logs of Debian that OSSEC has rules for."""
_SYSLOG = ("/var/log/auth.log", "/var/log/syslog", "/var/log/messages")


@dataclass(frozen=True)
class Place:
    """Whose host this is: the minion's id, its masters by name with their addresses, Debian's
    codename, and the interpreter for our program.
    """

    minion: str
    masters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    codename: str = ""
    interpreter: str = "/usr/bin/python3"


@dataclass(frozen=True)
class Facts:
    """What of the host decides about its configuration: the folders of the settings that are there,
    the logs that are there, and the agent's version (empty: it is not installed).
    """

    folders: tuple[str, ...]
    logs: tuple[str, ...]
    version: tuple[int, ...] = ()


class Declared:
    """The settings of the family for one host."""

    def __init__(self, baseline: Baseline, place: Place):
        self.baseline = baseline
        self.place = place
        self.family = baseline.families["ossec"]
        self.settings: Mapping[str, Any] = self.family.settings

    @property
    def servers(self) -> list[str]:
        found: list[str] = self.settings["servers"]
        return found

    @property
    def name(self) -> str:
        """Under which name this host enrols."""
        return str(self.settings["agent_name"] or self.place.minion)

    @cached_property
    def never_ban(self) -> list[str]:
        """The networks that no response may ban."""
        policy = Policy(self.baseline)
        nrpe = self.baseline.families.get("nrpe")
        monitors = nrpe.settings.get("monitors", ()) if nrpe else ()
        known = {*self.baseline.networks, *KNOWN_NETWORKS}
        masters = self.place.masters.values()
        found = {*self.servers, *(address for those in masters for address in those)}
        for entry in (*ALWAYS, *self.settings["never_ban"], *monitors):
            found |= {*map(str, policy.networks(entry))} if entry in known else {entry}
        try:
            networks = {ipaddress.ip_network(network) for network in found}
        except ValueError as error:
            raise Refused(f"{TOP}: who is never banned is not clear: {error}") from None
        return [str(it) for it in sorted(networks, key=lambda it: (it.version, it))]

    @property
    def missing(self) -> list[str]:
        """In words, of whom that must get in it is not known where they are."""
        masters = self.place.masters.items()
        found = [
            f"no address of the master {name} is known" for name, those in masters if not those
        ]
        if not Policy(self.baseline).networks(MANAGEMENT):
            found.insert(0, f"hardening:networks:{MANAGEMENT} is missing or empty")
        return found

    @property
    def users(self) -> list[str]:
        """The accounts that no response may lock."""
        accounts = self.baseline.families.get("accounts")
        return sorted(accounts.settings["administrators"]) if accounts else []

    def program(self) -> dict[str, Any]:
        """What our program needs of the settings. Without knowing who must get in it refuses every
        ban.
        """
        return {
            **({} if self.missing else {"never_ban": self.never_ban}),
            "users": self.users,
            "package": self.settings["package"],
            "notify_time": self.settings["notify_time"],
            "frequency": self.settings["frequency"],
        }

    # The configuration ---------------------------------------------------------------------------

    def sections(self, facts: Facts) -> list[Section]:
        """The agent's configuration."""
        return [
            self._client(facts.version),
            self._syscheck(facts.folders),
            self._rootcheck(),
            *self._logs(facts.logs),
            Section("active-response", (Entry("disabled", _yes(not self._responds)),)),
        ]

    def disarmed(self, facts: Facts) -> str:
        """The same as text, with responses refused whatever the settings say."""
        other = Declared(self.baseline, self.place)
        other.settings = {**self.settings, "active_response": False}
        return conf.render(other.sections(facts))

    @property
    def _responds(self) -> bool:
        return bool(self.settings["active_response"])

    def _client(self, version: tuple[int, ...]) -> Section:
        notify = self.settings["notify_time"]
        entries = [Entry("server-ip", server) for server in self.servers]
        entries += [
            Entry("port", str(self.settings["port"])),
            Entry("notify_time", str(notify)),
            Entry("time-reconnect", str(state.LOST_AFTER * notify)),
        ]
        if not self._responds:
            entries.append(Entry("disable-active-response", "yes"))
        if version >= (4,):
            entries.append(Entry("crypto_method", self.settings["cipher"]))
        return Section("client", tuple(entries))

    def _syscheck(self, folders: Sequence[str]) -> Section:
        entries = [
            Entry("frequency", str(self.settings["frequency"])),
            Entry("scan_on_start", "yes"),
        ]
        for path, how in sorted(self.settings["directories"].items()):
            if path in folders:
                entries.append(Entry("directories", path, _attributes(how)))
        entries += [Entry("ignore", path) for path in self.settings["ignore"]]
        entries += [Entry("nodiff", path) for path in self.settings["nodiff"]]
        return Section("syscheck", tuple(entries))

    def _rootcheck(self) -> Section:
        return Section(
            "rootcheck",
            (
                Entry("frequency", str(self.settings["rootcheck_frequency"])),
                Entry("rootkit_files", f"{SHARED}/rootkit_files.txt"),
                Entry("rootkit_trojans", f"{SHARED}/rootkit_trojans.txt"),
                Entry("system_audit", f"{SHARED}/system_audit_rcl.txt"),
            ),
        )

    def _logs(self, there: Sequence[str]) -> list[Section]:
        """The logs of the settings and those of Debian that are there; the journal where nothing
        writes it into files. Patterns come last: one without a match spoils a file that begins so.
        """
        found = {path: kind for path, kind in _LOGS.items() if path in there}
        if not any(path in there for path in _SYSLOG):
            found["all"] = _JOURNAL
        found |= self.settings["logs"]
        return [_log(path, found[path]) for path in sorted(found, key=lambda it: ("*" in it, it))]


def _log(what: str, kind: str) -> Section:
    tag = "command" if kind in COMMANDS else "location"
    return Section("localfile", (Entry("log_format", kind), Entry(tag, what)))


def _attributes(how: Mapping[str, Any]) -> dict[str, str]:
    """How a folder is watched. OSSEC knows ``no_recurse`` with ``yes`` only."""
    found = {"check_all": "yes"}
    found |= {key: "yes" for key in ("realtime", "report_changes") if how.get(key)}
    if how.get("recurse") is False:
        found["no_recurse"] = "yes"
    return {**found, "restrict": how["restrict"]} if "restrict" in how else found


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def facts(host: Host, settings: Mapping[str, Any], version: tuple[int, ...]) -> Facts:
    """What is there. A log that is just being rotated is still there under its next name."""
    return Facts(
        folders=tuple(path for path in settings["directories"] if host.path(path).exists()),
        logs=tuple(
            path for path in _LOGS if any(host.path(name).is_file() for name in (path, f"{path}.1"))
        ),
        version=version,
    )


def rendered(declared: Declared, known: Facts) -> str:
    """The file that the agent is to have."""
    return conf.render(declared.sections(known))

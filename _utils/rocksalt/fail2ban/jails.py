"""The jails that the settings ask for, and the text of our files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rocksalt import fail2ban
from rocksalt.catalogue import below_floor
from rocksalt.errors import Refused
from rocksalt.fail2ban import config, rules
from rocksalt.firewall import BANS, VERSIONS
from rocksalt.firewall.policy import Policy
from rocksalt.settings import Baseline

WATCHED, SOURCE, PATIENCE, DURATION, NEVER, ACTION = (
    *("F2B-005", "F2B-006", "F2B-007", "F2B-008", "F2B-009", "F2B-010"),
)
MEMORY, LOG = "F2B-012", "F2B-013"
LOOPBACK = ("127.0.0.0/8", "::1/128")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")  # f2b- and the name make a chain of at most 28
_MOST_PORTS = 15  # that one rule of iptables can name


@dataclass(frozen=True)
class Jail:
    """One service to watch; no ports means all, logs are paths and may have wildcards."""

    name: str
    enabled: bool
    filter: str
    ports: tuple[int, ...]
    logs: tuple[str, ...]
    units: tuple[str, ...]
    max_retry: int
    find_time: int
    ban_time: int


def problems(baseline: Baseline) -> list[str]:
    """What is wrong with jails that are each well-formed: one sentence each, with the pillar path,
    the value and what would be right.
    """
    family = baseline.families["fail2ban"]
    found = []
    for name, described in family.settings["jails"].items():
        path = family.where("jails", str(name))
        if not _NAME.fullmatch(str(name)):
            found.append(
                f"{path}: {name!r} is no name of a jail: use up to 24 lower-case letters, digits "
                "and hyphens, a letter first"
            )
        elif len(described.get("ports", _own_ports(baseline, name))) > _MOST_PORTS:
            found.append(f"{path}: closes more than {_MOST_PORTS} ports; list at most as many here")
    return found


def declared(baseline: Baseline) -> list[Jail]:
    """The jails of the settings, those that are switched off too. Raises :class:`Refused` for
    settings that have ``problems``.
    """
    settings, wrong = baseline.families["fail2ban"].settings, problems(baseline)
    if wrong:
        raise Refused("; ".join(wrong))
    return [
        _jail(baseline, name, {**settings, "enabled": True, **described})
        for name, described in sorted(settings["jails"].items())
    ]


def _jail(baseline: Baseline, name: str, described: Mapping[str, Any]) -> Jail:
    return Jail(
        name=name,
        enabled=described["enabled"],
        filter=described.get("filter", name),
        ports=tuple(described.get("ports", _own_ports(baseline, name))),
        logs=tuple(described.get("logs", ())),
        units=tuple(described.get("units", (f"{name}.service",))),
        max_retry=described["max_retry"],
        find_time=described["find_time"],
        ban_time=described["ban_time"],
    )


def _own_ports(baseline: Baseline, name: str) -> list[int]:
    """The ports by which administrators come in for the jail of sshd, none for others: they close
    all.
    """
    return Policy(baseline).ssh_ports() if name == "sshd" else []


def chain(baseline: Baseline, live: Mapping[int, rules.Chains]) -> str:
    """Where bans belong: the chain that the firewall keeps for them, or INPUT while there is none,
    for instance because the firewall was refused; nobody would be banned otherwise.
    """
    enabled = baseline.families["firewall"].settings["enabled"]
    return BANS if enabled and all(BANS in live.get(v, ()) for v in VERSIONS) else "INPUT"


def never_banned(baseline: Baseline) -> list[str]:
    """Loopback and the management networks."""
    return sorted({*LOOPBACK, *map(config.network, baseline.networks.get("management", ()))})


def longest(baseline: Baseline) -> int:
    """The longest ban there may be, in seconds."""
    settings = baseline.families["fail2ban"].settings
    return max([int(settings["longest_ban"]), *(jail.ban_time for jail in declared(baseline))])


def options(baseline: Baseline, jail: Jail, chain: str) -> dict[str, dict[str, str]]:
    """Control id -> key -> value of one jail's section; its bans go to ``chain``."""
    settings = baseline.families["fail2ban"].settings
    if not jail.enabled:
        return {WATCHED: {"enabled": "false"}}
    matches = [] if jail.logs else [f"_SYSTEMD_UNIT={unit}" for unit in jail.units]
    name = "iptables-multiport" if jail.ports else "iptables-allports"
    ports = f'port="{",".join(map(str, jail.ports))}", ' if jail.ports else ""
    return {
        WATCHED: {"enabled": "true", "filter": jail.filter},
        SOURCE: {
            "backend": "auto" if jail.logs else "systemd",
            "journalmatch": " + ".join(matches),
            "logpath": "\n  ".join(jail.logs),
        },
        PATIENCE: {"maxretry": str(jail.max_retry), "findtime": str(jail.find_time)},
        DURATION: {
            "bantime": str(jail.ban_time),
            "bantime.increment": str(settings["increment"]).lower(),
            "bantime.factor": "1",
            "bantime.maxtime": str(longest(baseline)),
            "bantime.overalljails": "true",
        },
        NEVER: {
            "ignoreip": " ".join(never_banned(baseline)),
            "ignoreself": "true",
            "ignorecommand": "",
        },
        ACTION: {"action": f'{name}[{ports}protocol="tcp", chain="{chain}"]'},
    }


def server_options(baseline: Baseline) -> dict[str, dict[str, str]]:
    """Control id -> key -> value of the section of the server itself."""
    settings = baseline.families["fail2ban"].settings
    return {
        MEMORY: {"dbfile": fail2ban.DATABASE, "dbpurgeage": str(longest(baseline))},
        LOG: {"loglevel": settings["log_level"], "logtarget": settings["log_target"]},
    }


def sections(
    baseline: Baseline, excused: Callable[[str], bool], chain: str
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """(the sections of the file of jails, the options of the server) without those of excused
    controls. IPv6 is said to be automatic, or else another file could switch it off.
    """

    def put(options: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        return {k: v for i, found in options.items() if not excused(i) for k, v in found.items()}

    found = {jail.name: put(options(baseline, jail, chain)) for jail in declared(baseline)}
    server = {"allowipv6": "auto", **put(server_options(baseline))}
    return {name: section for name, section in found.items() if section}, server


def too_weak(baseline: Baseline, identifier: str) -> list[str]:
    """The settings of single jails that ask for less than the control's floor, in words."""
    family = baseline.families["fail2ban"]
    found = []
    for name, described in family.settings["jails"].items():
        for key, rule in family.controls[identifier].floor.items():
            words = below_floor(described[key], rule) if key in described else ""
            if words:
                found.append(f"{family.where('jails', name, key)} is {described[key]!r}: {words}")
    return found

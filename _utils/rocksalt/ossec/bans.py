"""Who is banned now by what responses leave behind: rules, routes and lines of hosts.deny."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rocksalt.firewall import tables
from rocksalt.firewall.policy import Network
from rocksalt.host import Host
from rocksalt.ossec import guard

HOSTS_DENY = "/etc/hosts.deny"
_RULE = re.compile(r"-s (?P<address>\S+) -j (?:DROP|REJECT)\b")
_DENIED = re.compile(r"\s*ALL\s*:\s*\[?(?P<address>[0-9a-fA-F.:]+)\]?\s*")
_ROUTE = re.compile(r"(?:unreachable|blackhole|prohibit) (?P<address>\S+)")
_ROUTES = (("ip", "route", "show", "table", "main"), ("ip", "-6", "route", "show", "table", "main"))


@dataclass(frozen=True)
class Ban:
    """One ban: whose, where it stands in words, and the command that lifts it; without one it is a
    line of hosts.deny.
    """

    address: str
    where: str
    lift: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.address} is banned by {self.where}"


def unwanted(host: Host, never_ban: Sequence[str]) -> list[Ban]:
    """Bans of addresses that are never to be banned."""
    protected = [ipaddress.ip_network(network) for network in never_ban]
    return [
        ban
        for ban in (*_rules(host), *_routes(host), *_denied(host))
        if any(_meets(ban.address, network) for network in protected)
    ]


def _meets(text: str, network: Network) -> bool:
    try:
        return network.overlaps(ipaddress.ip_network(text, strict=False))
    except (ValueError, TypeError):  # a name; the other version of IP
        return False


def _rules(host: Host) -> Iterator[Ban]:
    """In the chains that scripts of OSSEC write to; what others ban there is as wrong."""
    for version, program in tables.PROGRAMS.items():
        if host.run(program, "--version").status:
            continue
        for chain, rules in tables.read(host, version).chains.items():
            if chain not in ("INPUT", "FORWARD") and not chain.startswith(guard.CHAIN):
                continue
            for rule in rules:
                if match := _RULE.search(rule):
                    lift = (program, "--wait", "10", "-D", chain, *shlex.split(rule))
                    yield Ban(match["address"], f"the chain {chain}", lift)


def _routes(host: Host) -> Iterator[Ban]:
    for command in _ROUTES:
        for line in host.run(*command).out.splitlines():
            if match := _ROUTE.match(line):
                lift = (*command[:-3], "del", *line.split()[:2])
                yield Ban(match["address"], "a route", lift)


def _denied(host: Host) -> Iterator[Ban]:
    for line in (host.read(HOSTS_DENY) or "").splitlines():
        if match := _DENIED.fullmatch(line):
            yield Ban(match["address"], HOSTS_DENY)


def allowed(text: str, found: Sequence[Ban]) -> str:
    """``hosts.deny`` without these bans."""
    addresses = {ban.address for ban in found}
    kept = []
    for line in text.splitlines(keepends=True):
        match = _DENIED.fullmatch(line.rstrip("\n"))
        if not match or match["address"] not in addresses:
            kept.append(line)
    return "".join(kept)

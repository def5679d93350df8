"""Who is banned now by what responses leave behind: rules, routes and lines of hosts.deny.

Only what has exactly the form in which the scripts of OSSEC write it is theirs, and may be lifted:
one address, and nothing else said. What others wrote to the same places is at most reported.
"""

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
_CHAINS = (guard.CHAIN, "INPUT", "FORWARD")
_RULE = re.compile(r"-s (?P<address>[0-9a-fA-F.:]+(?:/\d+)?) -j (?P<target>DROP|REJECT)(?: .*)?")
_DENIED = re.compile(r"\s*ALL\s*:\s*\[?(?P<address>[0-9a-fA-F.:]+)\]?\s*")
_WRITTEN = re.compile(r"ALL:(?:[0-9.]+|\[[0-9a-fA-F.:]+\])")
_ROUTE = re.compile(
    r"(?:unreachable|blackhole|prohibit) (?P<address>[0-9a-fA-F.:]+)(?:/\d+)?(?: |$)"
)
_ROUTES = (("ip", "route", "show", "table", "main"), ("ip", "-6", "route", "show", "table", "main"))


@dataclass(frozen=True)
class Ban:
    """One ban: whose, where it stands in words, and what lifts it, a command or the line of
    hosts.deny that goes. Without either it need not come from a response, and a person decides.
    """

    address: str
    where: str
    lift: tuple[str, ...] = ()
    line: str = ""

    @property
    def liftable(self) -> bool:
        return bool(self.lift or self.line)

    def __str__(self) -> str:
        whose = "" if self.liftable else ", which no response of OSSEC wrote like that"
        return f"{self.address} is banned by {self.where}{whose}"


def unwanted(host: Host, never_ban: Sequence[str]) -> list[Ban]:
    """Bans of addresses that are never to be banned."""
    protected = [ipaddress.ip_network(network) for network in never_ban]
    return [
        ban
        for ban in (*_rules(host), *_routes(host), *_denied(host))
        if any(_meets(ban.address, network) for network in protected)
    ]


def _meets(text: str, network: Network) -> bool:
    """Whether all of a network is protected: a wider one may well have exceptions of its own."""
    try:
        return ipaddress.ip_network(text, strict=False).subnet_of(network)  # type: ignore[arg-type]
    except (ValueError, TypeError):  # a name; the other version of IP
        return False


def _one(text: str) -> bool:
    """Whether it is a single address."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        return False
    return found.prefixlen == found.max_prefixlen


def _rules(host: Host) -> Iterator[Ban]:
    """In the chains that scripts of OSSEC write to; a rule that looks at anything beside where a
    packet comes from is not theirs.
    """
    for version, program in tables.PROGRAMS.items():
        if host.run(program, "--version").status:
            continue
        chains = tables.read(host, version).chains
        for chain, rule in ((name, rule) for name in _CHAINS for rule in chains.get(name, ())):
            if match := _RULE.fullmatch(rule):
                theirs = rule.endswith(" -j DROP") and _one(match["address"])
                lift = (program, "--wait", "10", "-D", chain, *shlex.split(rule))
                yield Ban(match["address"], f"the chain {chain}", lift if theirs else ())


def _routes(host: Host) -> Iterator[Ban]:
    """Routes of single addresses; one that a routing daemon keeps has its name."""
    for command in _ROUTES:
        for line in host.run(*command).out.splitlines():
            address = (line.split()[1:2] or [""])[0]
            if _ROUTE.match(line) and _one(address):
                lift = (*command[:-3], "del", *line.split()[:2])
                yield Ban(address, "a route", () if " proto " in line else lift)


def _denied(host: Host) -> Iterator[Ban]:
    for line in (host.read(HOSTS_DENY) or "").split("\n"):
        if match := _DENIED.fullmatch(line):
            written = _WRITTEN.fullmatch(line) and _one(match["address"])
            yield Ban(match["address"], HOSTS_DENY, line=line if written else "")


def allowed(text: str, found: Sequence[Ban]) -> str:
    """``hosts.deny`` without the lines of these bans."""
    gone = {ban.line for ban in found} - {""}
    return "\n".join(line for line in text.split("\n") if line not in gone)

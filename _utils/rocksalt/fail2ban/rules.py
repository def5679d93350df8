"""The packet filter as far as fail2ban is concerned: which bans are in force."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from rocksalt.firewall import tables

Chains = Mapping[str, Sequence[str]]

_BAN = re.compile(r"-s (\S+) -j (?:DROP|REJECT(?: --reject-with \S+)?)")
_ENDS_HERE = re.compile(r"-j (ACCEPT|DROP|RETURN|REJECT( .*)?)")
_REST = "-j RETURN"


def effective(rules: Iterable[str]) -> list[str]:
    """The rules of a chain that packets get to: none behind one that ends the chain for all."""
    found = []
    for rule in rules:
        if _ENDS_HERE.fullmatch(rule):
            break
        found.append(rule)
    return found


def kept_out(chains: Chains, jail: str) -> set[str]:
    """The addresses and networks against which the chain of a jail has a rule."""
    bans = (_BAN.fullmatch(rule) for rule in chains.get(f"f2b-{jail}", ()))
    return {ban.group(1) for ban in bans if ban}


def jumps(chains: Chains, jails: Collection[str]) -> list[tuple[str, str]]:
    """(chain, rule) of everything that leads to the chains of jails."""
    own = {f"f2b-{jail}" for jail in jails}
    return [
        (c, rule) for c, rules in chains.items() for rule in rules if tables.target(rule) in own
    ]


def faults(chains: Chains, chain: str, jail: str, ports: Sequence[int]) -> list[str]:
    """What keeps the bans of a jail from closing its ports, no more and no less, from the chain
    that is meant for bans. Where a jail has no chain nothing does: the first ban makes it.
    """
    own = f"f2b-{jail}"
    if own not in chains:
        return []
    closed = f"-m multiport --dports {','.join(map(str, ports))} " if ports else ""
    wanted = (chain, f"-p tcp {closed}-j {own}")
    bans, last = chains[own][:-1], chains[own][-1:]
    found = [f"{own} has `{rule}`, which is no ban" for rule in bans if not _BAN.fullmatch(rule)]
    if list(last) != [_REST]:
        found.append(f"{own} does not end with `{_REST}`")
    if wanted[1] not in effective(chains.get(chain, ())):
        found.append(f"{chain} does not lead to it by `{wanted[1]}`")
    others = [jump for jump in jumps(chains, [jail]) if jump != wanted]
    return found + [f"{name} leads to it by `{rule}`" for name, rule in others]


def source(address: str) -> str:
    """A banned address as a rule has it; empty for a name that a filter found instead of one."""
    try:
        return str(ipaddress.ip_network(address, strict=False))
    except ValueError:
        return ""

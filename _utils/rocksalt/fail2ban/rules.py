"""The packet filter as far as fail2ban is concerned: which bans are in force."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence

Rules = Mapping[str, Sequence[str]]

_BAN = re.compile(r"-s (\S+) -j (?:REJECT|DROP)")
_ENDS_HERE = re.compile(r"-j (ACCEPT|DROP|RETURN|REJECT( .*)?)")


def parse(text: str) -> dict[str, list[str]]:
    """Chain -> its rules in order, from ``iptables-save -t filter``."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith(":"):
            found[line[1:].split()[0]] = []
        elif line.startswith("-A "):
            _, chain, *rule = line.split(" ", 2)
            found.setdefault(chain, []).append("".join(rule))
    return found


def effective(rules: Iterable[str]) -> list[str]:
    """The rules of a chain that packets get to: none behind one that ends the chain for all."""
    found = []
    for rule in rules:
        if _ENDS_HERE.fullmatch(rule):
            break
        found.append(rule)
    return found


def kept_out(rules: Rules, jail: str) -> set[str]:
    """The addresses and networks that the chain of a jail keeps out, wherever one comes from."""
    bans = (_BAN.match(rule) for rule in effective(rules.get(f"f2b-{jail}", ())))
    return {ban.group(1) for ban in bans if ban}


def is_reached(rules: Rules, chain: str, jail: str) -> bool:
    """Whether packets get from a chain to that of a jail."""
    return any(rule.endswith(f"-j f2b-{jail}") for rule in effective(rules.get(chain, ())))


def strays(rules: Rules, chain: str, jails: Iterable[str]) -> list[str]:
    """Jumps to the chains of jails from other chains than the one for bans, as arguments of
    ``iptables -D``.
    """
    jumps = tuple(f"-j f2b-{jail}" for jail in jails)
    return [
        f"{name} {rule}"
        for name, found in rules.items()
        for rule in found
        if name != chain and rule.endswith(jumps)
    ]


def source(address: str) -> str:
    """A banned address as a rule has it; empty for a name that a filter found instead of one."""
    try:
        return str(ipaddress.ip_network(address, strict=False))
    except ValueError:
        return ""

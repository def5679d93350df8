"""The packet filter as far as fail2ban is concerned: which bans are in force."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence

Rules = Mapping[str, Sequence[str]]

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


def missing(rules: Rules, chain: str, jail: str, addresses: Iterable[str]) -> list[str]:
    """The addresses that a jail holds banned and that nothing keeps out."""
    own = f"f2b-{jail}"
    reached = any(rule.endswith(f"-j {own}") for rule in effective(rules.get(chain, ())))
    kept_out = effective(rules.get(own, ())) if reached else []
    return [address for address in addresses if not _is_kept_out(address, kept_out)]


def _is_kept_out(address: str, rules: Iterable[str]) -> bool:
    source = f"-s {ipaddress.ip_network(address, strict=False)} -j "
    return any(rule.startswith((f"{source}REJECT", f"{source}DROP")) for rule in rules)


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


def listed(rules: Rules, jail: str, address: str) -> bool:
    """Whether the chain of a jail keeps an address out, wherever it is reached from."""
    return _is_kept_out(address, effective(rules.get(f"f2b-{jail}", ())))


def is_address(text: str) -> bool:
    """Whether fail2ban banned an address or network, and not a name that a filter found."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True

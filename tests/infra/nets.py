"""Names of networks, as ``hardening:networks`` declares them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from .pillars import Expected

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def of(wanted: Expected, entries: Iterable[str]) -> set[Network]:
    """The networks of names, or of networks as they are; a known name that nobody declared is
    nobody.
    """
    found: set[Network] = set()
    for entry in entries:
        try:
            found.add(ipaddress.ip_network(entry))
        except ValueError:
            found |= {ipaddress.ip_network(it) for it in wanted.baseline.networks.get(entry, ())}
    return found

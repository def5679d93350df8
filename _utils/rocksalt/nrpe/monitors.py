"""Who may ask: names of networks become networks, which the packet filter has to let in."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from rocksalt import nrpe
from rocksalt.firewall.policy import KNOWN_NETWORKS, PUBLIC, Network, Policy
from rocksalt.schema import nearest
from rocksalt.settings import Baseline

_WIDEST = {4: 8, 6: 16}


def literal(entry: str) -> Network | None:
    """The network that an entry is by itself; None where it is a name."""
    try:
        return ipaddress.ip_network(entry)
    except ValueError:
        return None


def networks(baseline: Baseline, entries: Iterable[str]) -> list[Network]:
    """The networks of names of ``hardening:networks``, or of networks as they are; each once, in
    their order.
    """
    policy = Policy(baseline)
    found: list[Network] = []
    for entry in entries:
        own = literal(entry)
        found += [own] if own else policy.networks(entry)
    return list(dict.fromkeys(found))


def problems(baseline: Baseline, entries: Iterable[str], path: str) -> Iterator[str]:
    """What is wrong with the entries at the pillar ``path``."""
    known = {*baseline.networks, *KNOWN_NETWORKS}
    for entry in entries:
        own = literal(entry)
        if own is None and entry != PUBLIC and entry not in known:
            yield (
                f"{path}: {entry!r} is neither in hardening:networks nor a network such as "
                f"10.0.0.5/32{nearest(entry, known)}"
            )
        for network in networks(baseline, [entry]):
            if network.prefixlen < _WIDEST[network.version]:
                yield f"{path}: {entry!r} is {network}, nearly everybody; name the monitoring hosts"


def kept_out(baseline: Baseline, wanted: Iterable[Network], port: int) -> list[Network]:
    """The networks that the packet filter of the baseline does not let in at a TCP port of this
    host. A rule of its own words that names the port is taken to do so.
    """
    family = baseline.families.get("firewall")
    if not family or not family.settings["enabled"]:
        return []
    policy = Policy(baseline)
    let_in = [it.network for it in policy.access() if (it.protocol, it.port) == ("tcp", port)]
    raw = family.settings["raw_rules"]
    own = {v: [rule.split() for rule in raw.get(f"ipv{v}", {}).get("input", ())] for v in (4, 6)}
    return [
        network
        for network in wanted
        if not any(_within(network, other) for other in let_in)
        and not any(str(port) in rule for rule in own[network.version])
    ]


def _within(network: Network, other: Network) -> bool:
    if isinstance(network, ipaddress.IPv4Network) and isinstance(other, ipaddress.IPv4Network):
        return network.subnet_of(other)
    if isinstance(network, ipaddress.IPv6Network) and isinstance(other, ipaddress.IPv6Network):
        return network.subnet_of(other)
    return False


def firewall_problems(
    baseline: Baseline, wanted: Iterable[Network], port: int, entries: Iterable[str]
) -> Iterator[str]:
    """Why monitoring hosts would not get through to NRPE."""
    shut = kept_out(baseline, wanted, port)
    if not shut:
        return
    family = baseline.families["firewall"]
    ports = family.settings["services"].get(nrpe.FAMILY, {}).get("tcp", [])
    if port not in ports:
        yield (
            f"{family.where('services', 'nrpe', 'tcp')}: lacks {port}, on which {nrpe.TOP}:port "
            "makes NRPE listen"
        )
    names = ", ".join(entry for entry in entries if literal(entry) is None) or "a name for them"
    yield (
        f"{family.where('allow')}: does not let {', '.join(map(str, shut))} in at tcp/{port}, "
        f"though {nrpe.TOP}:monitors names them; write nrpe: [{names}] there"
    )

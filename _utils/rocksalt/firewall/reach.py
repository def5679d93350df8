"""Who reaches what: the declared permissions beside the sockets that listen and are connected."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from rocksalt.findings import Seen
from rocksalt.firewall import problems, sockets
from rocksalt.firewall.policy import Policy
from rocksalt.host import Host

_INCOMING = ("allow", "published")
_KEEPS_ALIVE = (53, 80, 443)


def unreachable(policy: Policy, listeners: Sequence[sockets.Listener]) -> Seen:
    """Sockets on every address that nobody may reach: they should listen on loopback."""
    reachable = {(a.protocol, a.port) for kind in _INCOMING for a in policy.access(kind)}
    raw, excused = problems.raw_ports(policy), policy.settings["listeners_behind_firewall"]
    found = dict.fromkeys(
        f"{it.protocol}/{it.port} ({_who(it)})"
        for it in listeners
        if it.anywhere
        and (it.protocol, it.port) not in reachable
        and it.port not in raw
        and f"{it.protocol}/{it.port}" not in excused
    )
    return Seen(
        list(found),
        f"nobody may reach {', '.join(found)}, yet it listens on every address: bind it to "
        "127.0.0.1, or name it in hardening:firewall:allow or listeners_behind_firewall",
    )


def unanswered(policy: Policy, listeners: Sequence[sockets.Listener]) -> Seen:
    """Ports that are open although nothing listens there."""
    served = {(it.protocol, it.port) for it in listeners if not it.loopback}
    found = {
        f"{a.protocol}/{a.port} ({a.service})": a.path
        for a in policy.access()
        if (a.protocol, a.port) not in served
    }
    why = (f"{path} opens {port}, where nothing listens" for port, path in found.items())
    return Seen(list(found), "; ".join(why))


def cut_off(policy: Policy, host: Host, listeners: Sequence[sockets.Listener]) -> list[str]:
    """Established connections of this host that no declared rule would accept, in words."""
    ports = {listener.port for listener in listeners}
    return [
        (
            f"{flow.remote} to port {flow.local_port}"
            if flow.inbound
            else f"this host to {flow.remote} port {flow.remote_port}"
        )
        for flow in sockets.established(host, ports)
        if not _accepts(policy, flow)
    ]


def _accepts(policy: Policy, flow: sockets.Flow) -> bool:
    remote = ipaddress.ip_address(flow.remote)
    if remote.is_loopback or flow.local == flow.remote:
        return True
    if flow.inbound:
        setting, port, others = "allow", flow.local_port, problems.raw_ports(policy)
    else:
        setting, port, others = "egress", flow.remote_port, set(_KEEPS_ALIVE)
        if policy.settings["output"] == "allow":
            return True
    return port in others or any(
        access.protocol == "tcp" and access.port == port and remote in access.network
        for access in policy.access(setting)
    )


def explain(policy: Policy, listeners: Sequence[sockets.Listener]) -> list[dict[str, str]]:
    """Every port that is declared or listened on: who may reach it, why, and what answers there."""
    rows: dict[tuple[int, str], dict[str, list[str]]] = {}

    def row(protocol: str, port: int) -> dict[str, list[str]]:
        return rows.setdefault((port, protocol), {"from": [], "why": [], "who": []})

    for access in (a for kind in _INCOMING for a in policy.access(kind)):
        found = row(access.protocol, access.port)
        found["from"].append(f"{access.network} ({access.group})")
        found["why"].append(access.path)
    raw = problems.raw_ports(policy)
    for it in listeners:
        if not it.loopback:
            found = row(it.protocol, it.port)
            where = "any address" if it.anywhere else it.address
            found["who"].append(f"{_who(it)} on {where}")
            if it.port in raw:
                found["from"].append("as a raw rule says")
                found["why"].append(policy.family.where("raw_rules"))
    return [
        {
            "port": f"{protocol}/{port}",
            "reachable from": ", ".join(dict.fromkeys(found["from"])) or "nobody",
            "why": ", ".join(dict.fromkeys(found["why"])) or "not declared",
            "served by": ", ".join(dict.fromkeys(found["who"])) or "nothing",
        }
        for (port, protocol), found in sorted(rows.items())
    ]


def _who(listener: sockets.Listener) -> str:
    return f"{listener.process or 'kernel'} as {listener.user}"

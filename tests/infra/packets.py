"""What may reach a host by its pillar, what its rules let through, and what listens on it."""

from __future__ import annotations

import ipaddress
import shlex

from .asking import Look
from .pillars import Expected
from .rules import Filter, Rule, table

EVERYBODY = {4: "0.0.0.0/0", 6: "::/0"}
JUMPS = {"INPUT": "input", "OUTPUT": "output", "FORWARD": "forward"}
Permission = tuple[str, str, int]  # from where, tcp or udp, which port


def live(seen: Look, version: int) -> Filter:
    assert not seen[f"live{version}"].code, seen[f"live{version}"].said
    return table(seen[f"live{version}"].lines)


def programs(wanted: Expected) -> list[str]:
    """Those that keep chains of their own."""
    families = wanted.baseline.families
    ours = "fail2ban" in families and families["fail2ban"].settings["enabled"]
    declared = families["firewall"].settings["foreign"]
    return list(dict.fromkeys([*declared, *(["fail2ban"] if ours else [])]))


def permissions(wanted: Expected, setting: str, version: int) -> set[Permission]:
    """What the pillar lets in (``allow``) or out (``egress``)."""
    own = wanted.baseline.families["firewall"].settings
    ssh = wanted.baseline.families["sshd"].settings["ports"]
    found = set()
    for service, groups in own[setting].items():
        ports = own["services"].get(service, {})
        ports = ports if ports or service != "ssh" else {"tcp": ssh}
        for group in groups:
            nets = (
                [EVERYBODY[version]] if group == "public" else wanted.baseline.networks.get(group)
            )
            for net in map(ipaddress.ip_network, nets or []):
                if net.version == version:
                    found |= {
                        (str(net), kind, port)
                        for kind in ("tcp", "udp")
                        for port in ports.get(kind, ())
                    }
    return found


def opened(rules: list[Rule], version: int, side: str) -> set[Permission]:
    """What rules accept by port, between any ports of the other side."""
    return {
        (rule.option(side) or EVERYBODY[version], rule.option("-p"), port)
        for rule in rules
        if rule.target == "ACCEPT" and not rule.option("--sport")
        for port in rule.ports
    }


def as_saved(wanted: Expected, version: int) -> str:
    """The command that has iptables print the pillar's raw rules as it prints all of them: it loads
    them where there is no network at all.
    """
    declared = wanted.baseline.families["firewall"].settings["raw_rules"].get(f"ipv{version}", {})
    lines = [f"-A rocksalt-{chain} {it}" for chain, rules in declared.items() for it in rules]
    if not lines:
        return ":"
    chains = [f":rocksalt-{name} - [0:0]" for name in ("bans", *JUMPS.values())]
    text = shlex.quote("\n".join(["*filter", *chains, *lines, "COMMIT", ""]))
    program = "iptables" if version == 4 else "ip6tables"
    load = f"{program}-restore --noflush --wait 10 && {program}-save -t filter"
    return f"printf %s {text} | unshare --net sh -c {shlex.quote(load)}"


def raw(seen: Look, version: int, chain: str) -> list[Rule]:
    """The pillar's raw rules for one of our chains."""
    assert not seen[f"raw{version}"].code, seen[f"raw{version}"].said
    return table(seen[f"raw{version}"].lines).of(f"rocksalt-{chain}")


def listeners(seen: Look) -> list[tuple[str, str, int, str]]:
    """Protocol, address, port and the rest of what ss says, of what others can reach at all."""
    found = []
    for line in seen["listening"].lines:
        kind, place, rest = line.split()[0], line.split()[4], line.split(None, 5)[5:]
        address, port = place.rsplit(":", 1)
        name, _, interface = address.strip("[]").partition("%")
        name = "::" if name == "*" else name.rstrip("]")
        if interface.rstrip("]") != "lo" and not ipaddress.ip_address(name).is_loopback:
            found.append((kind, name, int(port), "".join(rest)))
    return found

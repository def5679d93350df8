"""What is wrong with settings that are each well-formed: services and networks that do not exist,
and rules that would open the way in to the world.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
import shlex
from collections.abc import Iterator

from rocksalt.firewall.policy import KNOWN_NETWORKS, MANAGEMENT, PUBLIC, Network, Policy
from rocksalt.firewall.tables import FOREIGN
from rocksalt.schema import nearest

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_WIDEST = {4: 8, 6: 16}
_PRIVATE = tuple(map(ipaddress.IPv6Network, ("fc00::/7", "fe80::/10")))
_FORBIDDEN = re.compile(r"(?:-[ADINFXPZERLSCt]|--(?:append|delete|insert|new-chain|flush|table).*)")
_PORTS = ("--dport", "--dports", "--destination-port", "--destination-ports")
_MOST_PORTS = 1024
_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,4})?")
_TEXTS = ("--comment", "--log-prefix", "--nflog-prefix", "--string", "--hex-string")
_ANSWERS = {"RELATED", "ESTABLISHED"}
_SOURCE, _DESTINATION = ("-s", "--source", "--src"), ("-d", "--destination", "--dst")
_FROM, _TO = ("-i", "--in-interface"), ("-o", "--out-interface")
# By chain, the options that say who is at the other end: addresses, and an interface.
_ENDS = {
    "input": ((_SOURCE,), _FROM),
    "forward": ((_SOURCE, _DESTINATION), _FROM),
    "output": ((_DESTINATION,), _TO),
}
_SETTINGS = ("allow", "published", "egress")


def problems(policy: Policy, masterless: bool) -> list[str]:
    """One sentence each, with the pillar path, the value and what would be right."""
    return [
        *_services(policy),
        *_networks(policy),
        *(p for setting in _SETTINGS for p in _access(policy, setting)),
        *_ping(policy),
        *_limits(policy),
        *_way_in(policy),
        *_raw(policy),
        *([] if masterless else _master(policy)),
    ]


def _services(policy: Policy) -> Iterator[str]:
    for name in policy.settings["services"]:
        path = policy.family.where("services", name)
        if not _NAME.fullmatch(name):
            yield f"{path}: {name!r} is no name; write lower case letters, digits and hyphens"
        elif not policy.ports(name):
            yield f"{path}: needs ports, such as {{tcp: [8080]}}"
    sshd = policy.baseline.families.get("sshd")
    if sshd and sshd.settings["enabled"]:
        missing = sorted(set(sshd.settings["ports"]) - set(policy.ssh_ports()))
        if missing:
            path = policy.family.where("services", "ssh", "tcp")
            yield f"{path}: lacks {missing[0]}, on which hardening:sshd:ports makes sshd listen"


def _networks(policy: Policy) -> Iterator[str]:
    for name in policy.baseline.networks:
        path = f"hardening:networks:{name}"
        if name == PUBLIC:
            yield f"{path}: public is everybody already; choose another name"
        elif not _NAME.fullmatch(name):
            yield f"{path}: {name!r} is no name; write lower case letters, digits and hyphens"
    if policy.baseline.networks.get(MANAGEMENT) == []:
        yield (
            f"hardening:networks:{MANAGEMENT}: is empty; name the networks that administrators "
            "come from, such as [10.0.0.0/24]"
        )


def _access(policy: Policy, setting: str) -> Iterator[str]:
    for service, groups in policy.settings[setting].items():
        path = policy.family.where(setting, service)
        if service not in policy.settings["services"]:
            yield f"{path}: no such service{nearest(service, policy.settings['services'])}"
        for group in groups:
            yield from _group(policy, group, path, out=setting == "egress")


def _group(policy: Policy, group: str, path: str, out: bool = False) -> Iterator[str]:
    known = {*policy.baseline.networks, *KNOWN_NETWORKS, PUBLIC}
    if group not in known:
        yield f"{path}: {group!r} is not in hardening:networks{nearest(group, known)}"
    elif group != MANAGEMENT and policy.baseline.networks.get(group) == []:
        use = "lets out to it" if out else "lets it in"
        yield f"hardening:networks:{group}: is empty, though {path} {use}"


def _ping(policy: Policy) -> Iterator[str]:
    for group in policy.settings["ping"]:
        yield from _group(policy, group, policy.family.where("ping"))


def _limits(policy: Policy) -> Iterator[str]:
    for service in policy.settings["limits"]:
        if service not in policy.settings["services"]:
            path = policy.family.where("limits", service)
            yield f"{path}: no such service{nearest(service, policy.settings['services'])}"


def _way_in(policy: Policy) -> Iterator[str]:
    """The port of administrators is for somebody, not for the world."""
    doors = {("tcp", port) for port in policy.ssh_ports()}
    wide: dict[tuple[str, str, int], list[str]] = {}
    for access in policy.access():
        if (access.protocol, access.port) in doors and _is_world(access.network):
            entry = (access.path, access.group, access.port)
            wide.setdefault(entry, []).append(str(access.network))
    for (path, group, port), networks in wide.items():
        yield (
            f"{path}: {group!r} lets {' and '.join(networks)} try to log in on port {port}; name "
            "the networks that administrators come from, such as "
            f"hardening:networks:{MANAGEMENT}: [10.0.0.0/24]"
        )


def _is_world(network: Network) -> bool:
    if isinstance(network, ipaddress.IPv6Network) and any(map(network.subnet_of, _PRIVATE)):
        return False
    return network.prefixlen < _WIDEST[network.version]


def _master(policy: Policy) -> Iterator[str]:
    if policy.settings["output"] == "deny" and not policy.networks("salt"):
        path = policy.family.where("output")
        yield (
            f"{path}: deny would cut this minion off from its master; "
            "write the master's address into hardening:networks:salt"
        )


def _raw(policy: Policy) -> Iterator[str]:
    for version, chains in policy.settings["raw_rules"].items():
        for chain, rules in chains.items():
            path = policy.family.where("raw_rules", version, chain)
            for rule in rules:
                fault = _fault(rule) or (chain == "input" and _opens(policy, rule))
                if fault:
                    yield f"{path}: {rule!r} {fault}"


def _fault(rule: str) -> str:
    """What is wrong with the form of a raw rule; the rest iptables itself says."""
    try:
        words = _words(rule)
    except ValueError as error:
        return f"cannot be read: {error}"
    forbidden = next((word for word in words if _FORBIDDEN.fullmatch(word)), "")
    if forbidden or "\n" in rule:
        return (
            f"has {forbidden or 'two lines'}; write matches and a target, such as -p vrrp -j ACCEPT"
        )
    return "" if {"-j", "-g", "--jump", "--goto"} & set(words) else "has no target (-j)"


def _opens(policy: Policy, rule: str) -> str:
    """Whether a raw rule lets the whole world try to log in."""
    if not _accepts_anybody(policy, rule, "input") or _protocol(rule) not in ("", "tcp"):
        return ""
    named = _option(rule, *_PORTS)
    ports = policy.ssh_ports()
    if not named or any(_covers(part, port) for part in named.split(",") for port in ports):
        return "lets the whole world try to log in; give it a source (-s), and ports as numbers"
    return ""


def _accepts_anybody(policy: Policy, rule: str, chain: str) -> bool:
    """Whether a raw rule accepts new connections whatever the address at the other end is, and the
    interface is none that only this host or a declared program uses.
    """
    if _option(rule, "-j", "--jump") != "ACCEPT":
        return False
    states = _option(rule, "--ctstate", "--state")
    if states and set(states.split(",")) <= _ANSWERS:
        return False
    ours = ["lo", *(i for name in policy.settings["foreign"] for i in FOREIGN[name].interfaces)]
    addresses, interface = _ENDS[chain]
    through = _option(rule, *interface)
    if any(fnmatch.fnmatchcase(through, pattern) for pattern in ours):
        return False
    return all(
        any(_is_anybody(part) for part in _option(rule, *names).split(",")) for names in addresses
    )


def _is_anybody(address: str) -> bool:
    """Also where it is abbreviated (``0/1``), which iptables reads and we do not."""
    try:
        return _is_world(ipaddress.ip_network(address, strict=False))
    except ValueError:
        return not address or "/" in address


def wide(policy: Policy, chain: str) -> list[str]:
    """Raw rules of a chain (``input``, ``forward``, ``output``) that accept anything from anybody,
    or to anybody: no protocol, no port, or more than 1024 of them. Where everything may go out, no
    rule for it is too wide.
    """
    if chain == "output" and policy.settings["output"] == "allow":
        return []
    return [
        rule
        for chains in policy.settings["raw_rules"].values()
        for rule in chains.get(chain, ())
        if _accepts_anybody(policy, rule, chain) and _is_anything(rule)
    ]


def _is_anything(rule: str) -> bool:
    if _protocol(rule) not in ("", "tcp", "udp"):
        return False
    named = _option(rule, *_PORTS)
    count = sum(len(_range(part) or (part,)) for part in named.split(","))
    return not _protocol(rule) or not named or count > _MOST_PORTS


def raw_ports(policy: Policy) -> set[int]:
    """Ports that raw rules for what comes in speak of."""
    rules = [r for c in policy.settings["raw_rules"].values() for r in c.get("input", ())]
    named = ",".join(_option(rule, *_PORTS) for rule in rules)
    return {port for part in named.split(",") if part for port in _range(part) or ()}


def _covers(part: str, port: int) -> bool:
    """Whether a port is among those named; by the name of a service it may be."""
    found = _range(part)
    return found is None or port in found


def _range(part: str) -> range | None:
    """``22``, ``20:25``, ``:25`` and ``20:``; None for a name, and for octal digits."""
    first, colon, last = part.partition(":")
    if not (first or last) or not (_NUMBER.fullmatch(first) and _NUMBER.fullmatch(last)):
        return None
    return range(int(first or 0), int(last or (65535 if colon else first)) + 1)


def _protocol(rule: str) -> str:
    """``tcp`` or ``udp`` however it is written; empty for all."""
    said = _option(rule, "-p", "--protocol").lower()
    return {"all": "", "0": "", "6": "tcp", "17": "udp"}.get(said, said)


def _option(rule: str, *names: str) -> str:
    """The value of an option in a rule; empty when it is not there, or says what is meant not
    (``! -s``, and of old ``-s !``).
    """
    words = ["", *_words(rule), ""]
    return next(
        (
            words[i + 1]
            for i, word in enumerate(words)
            if word in names and "!" not in (words[i - 1], words[i + 1])
        ),
        "",
    )


def _words(rule: str) -> list[str]:
    """The words of a rule, without what is text and no option though it may look like one."""
    words = shlex.split(rule)
    pairs = zip(["", *words], words, strict=False)
    return ["" if before in _TEXTS else word for before, word in pairs]

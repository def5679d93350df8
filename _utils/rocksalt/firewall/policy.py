"""Settings into rules: services and who may reach them, for IPv4 and IPv6 from one description."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rocksalt.firewall import BANS, DOCKER, FORWARD, INPUT, LOG_PREFIX, OUTPUT
from rocksalt.settings import Baseline

MANAGEMENT, PUBLIC = "management", "public"
EVERYBODY = ("0.0.0.0/0", "::/0")
KNOWN_NETWORKS = (MANAGEMENT, "monitoring", "salt", "logs", "backup", "ossec")
METADATA = "169.254.169.254/32"
_LINK_LOCAL = "fe80::/10"
_REFUSE = {4: "icmp-admin-prohibited", 6: "icmp6-adm-prohibited"}
_NEIGHBOURS = (135, 136)
_ROUTERS = (134,)
_MULTICAST = (130, 131, 132, 143)
_ICMP_ERRORS = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
_ECHO = {4: 8, 6: 128}
_NOT_PUBLISHED = (
    "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
    "-m conntrack ! --ctstate DNAT -j RETURN",
    "-i docker0 -j RETURN",
    "-i br-+ -j RETURN",
)

# The kernel follows connections only since the first rule that asked it to: one that is older, such
# as the minion's own to its master, would be new to it and refused. Without SYN nothing is opened.
_ANSWERS = (
    "-p tcp ! --syn -m socket -j ACCEPT",
    "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Chains = dict[str, list[str]]


@dataclass(frozen=True)
class Facts:
    """What of the host decides about rules: whether packages are fetched by the account ``_apt``,
    and whether IPv6 routers configure this host.
    """

    apt: bool = True
    routers: bool = False


@dataclass(frozen=True)
class Access:
    """One port that one network may reach: ``protocol`` is tcp or udp, ``path`` the place of the
    pillar that says so.
    """

    service: str
    group: str
    network: Network
    protocol: str
    port: int
    path: str

    @property
    def comment(self) -> str:
        return f'-m comment --comment "{self.service} from {self.group}"'


class Policy:
    """What the settings of one host let in, out and through."""

    def __init__(self, baseline: Baseline, facts: Facts = Facts()):
        self.baseline = baseline
        self.family = baseline.families["firewall"]
        self.settings: Mapping[str, Any] = self.family.settings
        self.facts = facts
        self._access: dict[str, list[Access]] = {}
        self._chains: dict[int, Chains] = {}

    # Who and what ----------------------------------------------------------------------------

    def networks(self, group: str) -> list[Network]:
        """The networks of a group; none for a well-known one that is not declared."""
        declared = EVERYBODY if group == PUBLIC else self.baseline.networks.get(group, [])
        return [ipaddress.ip_network(network) for network in declared]

    def ports(self, service: str) -> list[tuple[str, int]]:
        """Protocol and port, all those of a service."""
        described = self.settings["services"].get(service, {})
        found = [(kind, port) for kind in ("tcp", "udp") for port in described.get(kind, ())]
        return found or [("tcp", port) for port in self.ssh_ports() if service == "ssh"]

    def ssh_ports(self) -> list[int]:
        """The TCP ports by which administrators come in."""
        described = self.settings["services"].get("ssh", {}).get("tcp")
        sshd = self.baseline.families.get("sshd")
        return list(described or (sshd.settings["ports"] if sshd else [22]))

    def access(self, setting: str = "allow") -> list[Access]:
        """Every single permission of ``allow``, ``published`` or ``egress``."""
        if setting not in self._access:
            self._access[setting] = self._permissions(setting)
        return self._access[setting]

    def _permissions(self, setting: str) -> list[Access]:
        return [
            Access(service, group, network, protocol, port, self.family.where(setting, service))
            for service, groups in self.settings[setting].items()
            for group in groups
            for network in self.networks(group)
            for protocol, port in self.ports(service)
        ]

    def is_management(self, access: Access) -> bool:
        """Whether it is the way in of administrators, which nothing may come before."""
        way_in = access.protocol == "tcp" and access.port in self.ssh_ports()
        return way_in and access.group == MANAGEMENT

    @property
    def programs(self) -> list[str]:
        """Programs that keep chains of their own: those declared, and fail2ban where the baseline
        looks after it.
        """
        fail2ban = self.baseline.families.get("fail2ban")
        ours = ["fail2ban"] if fail2ban and fail2ban.settings["enabled"] else []
        return list(dict.fromkeys([*self.settings["foreign"], *ours]))

    @property
    def forwards(self) -> list[str]:
        """Programs that forward packets by rules of their own."""
        return [name for name in self.settings["foreign"] if name not in ("fail2ban", "ossec")]

    # Rules -----------------------------------------------------------------------------------

    def chains(self, version: int) -> Chains:
        """Our chains for IP ``version`` with their rules, as one writes them."""
        if version not in self._chains:
            self._chains[version] = self._make_chains(version)
        return self._chains[version]

    def _make_chains(self, version: int) -> Chains:
        found = {
            INPUT: [*self._input(version), *self._rest("in")],
            FORWARD: self._forward(version),
            OUTPUT: self._output(version),
        }
        if "docker" in self.settings["foreign"]:
            found[DOCKER] = self._docker(version)
        return found

    def emergency(self, version: int) -> Chains:
        """What is loaded when the declared rules cannot be: administrators get in, answers come
        back, nothing else does. All may go out, whatever the policy of OUTPUT is: answers have to.

        They need as few modules of the kernel as can be, for those may be what is missing.
        """
        incoming = [
            "-i lo -j ACCEPT",
            *self._management(version),
            _ANSWERS[-1],
            *_needed(version, routers=True),
            "-j DROP",
        ]
        found = {INPUT: incoming, FORWARD: ["-j DROP"], OUTPUT: ["-j ACCEPT"]}
        if "docker" in self.settings["foreign"]:
            found[DOCKER] = [*_NOT_PUBLISHED, "-j DROP"]
        return found

    def _input(self, version: int) -> Iterator[str]:
        yield "-i lo -j ACCEPT"
        yield from self._management(version)
        yield f"-j {BANS}"
        yield from _ANSWERS
        yield from _needed(version, self.facts.routers)
        yield "-m conntrack --ctstate INVALID -j DROP"
        yield from self._ping(version)
        for access in self._of(version, "allow"):
            if not self.is_management(access):
                yield f"{_from(access)}{self._limit(access)} {access.comment} -j ACCEPT"
        yield from self._raw(version, "input")

    def _of(self, version: int, setting: str) -> list[Access]:
        return [access for access in self.access(setting) if access.network.version == version]

    def _management(self, version: int) -> Iterator[str]:
        for access in self._of(version, "allow"):
            if self.is_management(access):
                yield f"{_from(access)} {access.comment} -j ACCEPT"

    def _ping(self, version: int) -> Iterator[str]:
        ping = f"{_icmp(version, _ECHO[version])} -m limit --limit 20/second --limit-burst 50"
        for group in self.settings["ping"]:
            for network in self.networks(group):
                if network.version == version:
                    yield f"-s {network} {ping} -j ACCEPT"

    def _limit(self, access: Access) -> str:
        """The limit for one address; its name holds the figure, for the kernel keeps the old one
        where a table of that name exists.
        """
        limit = self.settings["limits"].get(access.service)
        if not limit:
            return ""
        burst = min(int(limit.split("/")[0]), 10000)
        mask = " --hashlimit-srcmask 64" if access.network.version == 6 else ""
        return (
            f" -m conntrack --ctstate NEW -m hashlimit --hashlimit-upto {limit}"
            f" --hashlimit-burst {burst} --hashlimit-mode srcip{mask}"
            f" --hashlimit-name {access.service}-{limit.replace('/', '-')}"
        )

    def _raw(self, version: int, chain: str) -> list[str]:
        found: list[str] = self.settings["raw_rules"].get(f"ipv{version}", {}).get(chain, [])
        return found

    def _forward(self, version: int) -> list[str]:
        """Where others forward, what their rules do not accept meets the policy of FORWARD."""
        raw = self._raw(version, "forward")
        return raw if self.forwards else [*raw, *self._rest("fwd")]

    def _rest(self, direction: str, verdict: str = "DROP") -> Iterator[str]:
        if self.settings["log"]:
            prefix = f'--log-prefix "{LOG_PREFIX}{direction}: "'
            yield f"-m limit --limit 10/minute --limit-burst 20 -j LOG {prefix}"
        yield f"-j {verdict}"

    def _docker(self, version: int) -> list[str]:
        """For DOCKER-USER: of what Docker publishes by DNAT, only declared services pass on to its
        own rules; containers among each other, and their way out, are Docker's business.
        """
        pairs = "-m conntrack --ctstate DNAT --ctorigdstport"
        return [
            *_NOT_PUBLISHED,
            *(
                f"-s {a.network} -p {a.protocol} {pairs} {a.port} {a.comment} -j RETURN"
                for a in self._of(version, "published")
            ),
            *self._rest("docker"),
        ]

    def _output(self, version: int) -> list[str]:
        if self.settings["output"] == "allow":
            return self._raw(version, "output")
        return [
            "-o lo -j ACCEPT",
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-p tcp ! --syn -j ACCEPT",
            *_keeps_alive(version, self.facts.apt),
            *(
                f"-d {a.network} -p {a.protocol} --dport {a.port} "
                f'-m comment --comment "{a.service} in {a.group}" -j ACCEPT'
                for a in self._of(version, "egress")
            ),
            *self._raw(version, "output"),
            *self._rest("out", f"REJECT --reject-with {_REFUSE[version]}"),
        ]


def _from(access: Access) -> str:
    return f"-s {access.network} -p {access.protocol} --dport {access.port}"


def _icmp(version: int, kind: int) -> str:
    return f"-p icmp --icmp-type {kind}" if version == 4 else f"-p ipv6-icmp --icmpv6-type {kind}"


def _needed(version: int, routers: bool) -> Iterator[str]:
    """What IP itself needs to be let in: errors such as "packet too big", address assignment,
    neighbours, and routers where they configure this host.
    """
    for kind in _ICMP_ERRORS[version]:
        yield f"{_icmp(version, kind)} -j ACCEPT"
    if version == 4:
        yield "-p udp --sport 67 --dport 68 -j ACCEPT"
        return
    for kind in (*_NEIGHBOURS, *(_ROUTERS if routers else ())):
        yield f"{_icmp(6, kind)} -m hl --hl-eq 255 -j ACCEPT"
    for kind in _MULTICAST:
        yield f"-s {_LINK_LOCAL} {_icmp(6, kind)} -j ACCEPT"
    yield f"-s {_LINK_LOCAL} -p udp --sport 547 --dport 546 -j ACCEPT"


def _keeps_alive(version: int, apt: bool) -> Iterator[str]:
    """What a host may always send: ICMP, names, time, address assignment, package sources, and to
    the cloud's metadata service as root.
    """
    yield "-p icmp -j ACCEPT" if version == 4 else "-p ipv6-icmp -j ACCEPT"
    yield "-p udp --dport 53 -j ACCEPT"
    yield "-p tcp --dport 53 -j ACCEPT"
    yield "-p udp --dport 123 -j ACCEPT"
    client, server = (68, 67) if version == 4 else (546, 547)
    yield f"-p udp --sport {client} --dport {server} -j ACCEPT"
    if version == 4:
        yield f"-d {METADATA} -p tcp --dport 80 -m owner --uid-owner 0 -j ACCEPT"
        yield f"-d {METADATA} -j REJECT --reject-with {_REFUSE[4]}"
    if apt:
        yield "-p tcp -m multiport --dports 80,443 -m owner --uid-owner _apt -j ACCEPT"

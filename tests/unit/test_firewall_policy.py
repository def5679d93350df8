"""rocksalt.firewall.policy: services and networks become rules of IPv4 and IPv6."""

from __future__ import annotations

import re

import pytest

from rocksalt.firewall import BANS, DOCKER, FORWARD, INPUT, OUTPUT
from rocksalt.firewall.policy import Facts

NO_SYN = "-p tcp ! --syn -j ACCEPT"
OLDER = "-p tcp ! --syn -m socket -j ACCEPT"
ANSWERS = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
INVALID = "-m conntrack --ctstate INVALID -j DROP"
LOG = '-m limit --limit 10/minute --limit-burst 20 -j LOG --log-prefix "rocksalt-drop-{}: "'
SSH4 = '-s 192.0.2.0/24 -p tcp --dport 22 -m comment --comment "ssh from management" -j ACCEPT'
SSH6 = SSH4.replace("192.0.2.0/24", "2001:db8::/32")
ICMP4 = [f"-p icmp --icmp-type {kind} -j ACCEPT" for kind in (3, 11, 12)]
ICMP6 = [f"-p ipv6-icmp --icmpv6-type {kind} -j ACCEPT" for kind in (1, 2, 3, 4)]
DHCP4 = "-p udp --sport 67 --dport 68 -j ACCEPT"
DHCP6 = "-s fe80::/10 -p udp --sport 547 --dport 546 -j ACCEPT"
NEIGHBOURS = [f"-p ipv6-icmp --icmpv6-type {k} -m hl --hl-eq 255 -j ACCEPT" for k in (135, 136)]
ROUTERS = "-p ipv6-icmp --icmpv6-type 134 -m hl --hl-eq 255 -j ACCEPT"
MULTICAST = [
    f"-s fe80::/10 -p ipv6-icmp --icmpv6-type {kind} -j ACCEPT" for kind in (130, 131, 132, 143)
]
PING = " -m limit --limit 20/second --limit-burst 50 -j ACCEPT"
PING4 = f"-s 0.0.0.0/0 -p icmp --icmp-type 8{PING}"
PING6 = f"-s ::/0 -p ipv6-icmp --icmpv6-type 128{PING}"
ALIVE = [
    "-p icmp -j ACCEPT",
    "-p udp --dport 53 -j ACCEPT",
    "-p tcp --dport 53 -j ACCEPT",
    "-p udp --dport 123 -j ACCEPT",
    "-p udp --sport 68 --dport 67 -j ACCEPT",
]
APT = "-p tcp -m multiport --dports 80,443 -m owner --uid-owner _apt -j ACCEPT"
METADATA = (
    "-d 169.254.169.254/32 -p tcp --dport 80 -m owner --uid-owner 0 -j ACCEPT",
    "-d 169.254.169.254/32 -j REJECT --reject-with icmp-admin-prohibited",
)
RAW = {"raw_rules": {"ipv4": {"input": ["-p vrrp -j ACCEPT"], "forward": ["-i wg0 -j ACCEPT"]}}}


def rules(policy, chain, version=4):
    return policy.chains(version)[chain]


def about(policy, chain, version=4):
    """Source or destination, port and comment of the rules that have a comment."""
    found = []
    for rule in rules(policy, chain, version):
        it = re.search(r'-([sd] \S+) -p (\S+) .*port (\d+) .*-m comment --comment "(.*)" -j', rule)
        if it:
            found.append(" ".join(it.groups()))
    return found


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (4, [SSH4, f"-j {BANS}", OLDER, ANSWERS, *ICMP4, DHCP4, INVALID, PING4]),
        (
            6,
            [
                *(SSH6, f"-j {BANS}", OLDER, ANSWERS, *ICMP6, *NEIGHBOURS),
                *(*MULTICAST, DHCP6, INVALID, PING6),
            ],
        ),
    ],
)
def test_by_default(policy, version, expected):
    assert policy().chains(version) == {
        INPUT: ["-i lo -j ACCEPT", *expected, LOG.format("in"), "-j DROP"],
        FORWARD: [LOG.format("fwd"), "-j DROP"],
        OUTPUT: [],
    }


@pytest.mark.parametrize(
    ("networks", "allow", "v4", "v6"),
    [
        ({}, {"https": ["public"]}, ["s 0.0.0.0/0 tcp 443"], ["s ::/0 tcp 443"]),
        ({"office": ["198.51.100.0/24"]}, {"https": ["office"]}, ["s 198.51.100.0/24 tcp 443"], []),
        ({"office": ["2001:db8:1::/48"]}, {"https": ["office"]}, [], ["s 2001:db8:1::/48 tcp 443"]),
        (
            {"office": ["198.51.100.7", "203.0.113.0/24"]},
            {"dns": ["office"]},
            [
                *("s 198.51.100.7/32 tcp 53", "s 198.51.100.7/32 udp 53"),
                *("s 203.0.113.0/24 tcp 53", "s 203.0.113.0/24 udp 53"),
            ],
            [],
        ),
        ({}, {"nrpe": ["monitoring"]}, [], []),
        ({}, {"https": []}, [], []),
    ],
)
def test_who_may_reach_what(policy, networks, allow, v4, v6):
    it = policy({"allow": allow}, networks=networks)
    ((service, groups),) = allow.items()
    for version, expected in ((4, v4), (6, v6)):
        found = [entry for entry in about(it, INPUT, version) if "management" not in entry]
        assert found == [f"{entry} {service} from {groups[0]}" for entry in expected]


@pytest.mark.parametrize(
    ("pillar", "ports", "doors"),
    [
        ({}, [22], [22]),
        ({"sshd": {"ports": [2222, 22]}}, [2222, 22], [2222, 22]),
        ({"firewall": {"services": {"ssh": {"tcp": [2200]}}}}, [2200], [2200]),
        ({"firewall": {"allow": {"ssh": []}}}, [22], []),
        ({"firewall": {"services": {"s": {"tcp": [22]}}, "allow": {"s": ["management"]}}}, [22], 2),
    ],
)
def test_ports_of_administrators(policy, pillar, ports, doors):
    it = policy(**pillar)
    assert it.ssh_ports() == ports
    first = rules(it, INPUT).index(f"-j {BANS}")
    led = [int(re.search(r"--dport (\d+)", rule)[1]) for rule in rules(it, INPUT)[1:first]]
    assert led == ([22] * doors if isinstance(doors, int) else doors)


def test_without_the_family_sshd(shipped, policy):
    it = policy()
    families = {k: v for k, v in it.baseline.families.items() if k != "sshd"}
    object.__setattr__(it.baseline, "families", families)
    assert it.ssh_ports() == [22]


def test_only_management_comes_before_bans(policy):
    networks = {"office": ["198.51.100.0/24"]}
    it = policy({"allow": {"ssh": ["office", "management"]}}, networks=networks)
    found = rules(it, INPUT)
    office = next(rule for rule in found if "ssh from office" in rule)
    assert found[:5] == ["-i lo -j ACCEPT", SSH4, f"-j {BANS}", OLDER, ANSWERS]
    assert found.index(office) > found.index(INVALID)
    assert "--hashlimit-upto 30/minute" in office
    assert "--hashlimit" not in SSH4


@pytest.mark.parametrize(
    ("limit", "version", "expected"),
    [
        (
            "5/second",
            4,
            "-s 0.0.0.0/0 -p tcp --dport 443 -m conntrack --ctstate NEW -m hashlimit "
            "--hashlimit-upto 5/second --hashlimit-burst 5 --hashlimit-mode srcip "
            '--hashlimit-name https-5-second -m comment --comment "https from public" -j ACCEPT',
        ),
        (
            "20000/hour",
            6,
            "-s ::/0 -p tcp --dport 443 -m conntrack --ctstate NEW -m hashlimit "
            "--hashlimit-upto 20000/hour --hashlimit-burst 10000 --hashlimit-mode srcip "
            "--hashlimit-srcmask 64 --hashlimit-name https-20000-hour "
            '-m comment --comment "https from public" -j ACCEPT',
        ),
    ],
)
def test_limits(policy, limit, version, expected):
    it = policy({"allow": {"https": ["public"]}, "limits": {"https": limit}})
    assert expected in rules(it, INPUT, version)


@pytest.mark.parametrize(
    ("groups", "v4", "v6"),
    [
        ([], [], []),
        (["public"], ["0.0.0.0/0"], ["::/0"]),
        (["management"], ["192.0.2.0/24"], ["2001:db8::/32"]),
        (["office"], ["198.51.100.0/24"], []),
    ],
)
def test_ping(policy, groups, v4, v6):
    it = policy({"ping": groups}, networks={"office": ["198.51.100.0/24"]})
    for version, expected, icmp in ((4, v4, PING4[13:]), (6, v6, PING6[8:])):
        found = [rule for rule in rules(it, INPUT, version) if "20/second" in rule]
        assert found == [f"-s {network} {icmp}" for network in expected]


@pytest.mark.parametrize("routers", [True, False])
def test_router_advertisements(policy, routers):
    it = policy(facts=Facts(routers=routers))
    assert (ROUTERS in rules(it, INPUT, 6)) == routers
    assert ROUTERS not in rules(it, INPUT, 4)


def test_output_denied(policy):
    it = policy(
        {
            "output": "deny",
            "egress": {"smtp": ["mail"]},
            "raw_rules": {"ipv4": {"output": ["-p gre -j ACCEPT"]}},
        },
        networks={
            "salt": ["198.51.100.1"],
            "mail": ["198.51.100.25", "2001:db8:5::/64"],
            "backup": ["198.51.100.9"],
        },
    )
    kept = {
        "-d 198.51.100.1/32 -p tcp --dport 4505": "salt-master in salt",
        "-d 198.51.100.1/32 -p tcp --dport 4506": "salt-master in salt",
        "-d 198.51.100.9/32 -p tcp --dport 22": "ssh in backup",
        "-d 198.51.100.9/32 -p tcp --dport 443": "https in backup",
        "-d 198.51.100.25/32 -p tcp --dport 25": "smtp in mail",
    }
    assert rules(it, OUTPUT) == [
        *("-o lo -j ACCEPT", ANSWERS, NO_SYN, *ALIVE, *METADATA, APT),
        *(f'{match} -m comment --comment "{why}" -j ACCEPT' for match, why in kept.items()),
        *("-p gre -j ACCEPT", LOG.format("out")),
        "-j REJECT --reject-with icmp-admin-prohibited",
    ]
    assert rules(it, OUTPUT, 6) == [
        *("-o lo -j ACCEPT", ANSWERS, NO_SYN, "-p ipv6-icmp -j ACCEPT", *ALIVE[1:4]),
        *("-p udp --sport 546 --dport 547 -j ACCEPT", APT),
        '-d 2001:db8:5::/64 -p tcp --dport 25 -m comment --comment "smtp in mail" -j ACCEPT',
        *(LOG.format("out"), "-j REJECT --reject-with icmp6-adm-prohibited"),
    ]


def test_packages_are_fetched_by_an_account_that_exists(policy):
    """The rule cannot be loaded where there is no such account."""
    it = policy({"output": "deny"}, Facts(apt=False))
    assert all("_apt" not in rule for v in (4, 6) for rule in rules(it, OUTPUT, v))


NOT_PUBLISHED = [
    "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
    "-m conntrack ! --ctstate DNAT -j RETURN",
    "-i docker0 -j RETURN",
    "-i br-+ -j RETURN",
]


def test_ports_that_docker_publishes(policy):
    it = policy(
        {"foreign": ["docker"], "published": {"https": ["public"], "dns": ["office"]}},
        networks={"office": ["198.51.100.0/24"]},
    )
    pairs = "-m conntrack --ctstate DNAT --ctorigdstport"
    office = '-m comment --comment "dns from office" -j RETURN'
    public = f'{pairs} 443 -m comment --comment "https from public" -j RETURN'
    assert rules(it, DOCKER) == [
        *(*NOT_PUBLISHED, f"-s 0.0.0.0/0 -p tcp {public}"),
        *(f"-s 198.51.100.0/24 -p {kind} {pairs} 53 {office}" for kind in ("tcp", "udp")),
        *(LOG.format("docker"), "-j DROP"),
    ]
    assert rules(it, DOCKER, 6) == [
        *(*NOT_PUBLISHED, f"-s ::/0 -p tcp {public}", LOG.format("docker"), "-j DROP")
    ]
    assert not any("https" in rule for rule in rules(it, INPUT)), "it does not pass INPUT"


@pytest.mark.parametrize(
    ("foreign", "forwards"),
    [
        ([], False),
        (["fail2ban", "ossec"], False),
        *(([name], True) for name in ("docker", "libvirt", "kubernetes", "vpn")),
    ],
)
def test_what_passes_through(policy, foreign, forwards):
    """Rules of others come after ours, so ours must not drop what they accept."""
    it = policy({"foreign": foreign, **RAW})
    rest = [] if forwards else [LOG.format("fwd"), "-j DROP"]
    assert rules(it, FORWARD) == ["-i wg0 -j ACCEPT", *rest]
    assert rules(it, FORWARD, 6) == rest
    assert (DOCKER in it.chains(4)) == (foreign == ["docker"])


def test_raw_rules_come_last_of_what_accepts(policy):
    it = policy({"allow": {"https": ["public"]}, **RAW})
    assert rules(it, INPUT)[-3:] == ["-p vrrp -j ACCEPT", LOG.format("in"), "-j DROP"]
    assert "-p vrrp -j ACCEPT" not in rules(it, INPUT, 6)


def test_raw_rules_for_what_goes_out(policy):
    it = policy({"raw_rules": {"ipv6": {"output": ["-p gre -j DROP"]}}})
    assert (rules(it, OUTPUT), rules(it, OUTPUT, 6)) == ([], ["-p gre -j DROP"])


def test_without_a_log(policy):
    it = policy({"log": False, "output": "deny", "foreign": ["docker"]})
    for version in (4, 6):
        assert not any("LOG" in rule for found in it.chains(version).values() for rule in found)
        assert rules(it, INPUT, version)[-1] == "-j DROP"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (4, [SSH4, ANSWERS, *ICMP4, DHCP4]),
        (6, [SSH6, ANSWERS, *ICMP6, *NEIGHBOURS, ROUTERS, *MULTICAST, DHCP6]),
    ],
)
def test_emergency(policy, version, expected):
    """Whatever else is declared: administrators, answers, and what IP needs. With output denied the
    policy of OUTPUT is DROP, which would drop the answers.
    """
    it = policy({"allow": {"https": ["public"]}, "output": "deny", "foreign": ["docker"], **RAW})
    assert it.emergency(version) == {
        INPUT: ["-i lo -j ACCEPT", *expected, "-j DROP"],
        FORWARD: ["-j DROP"],
        OUTPUT: ["-j ACCEPT"],
        DOCKER: [*NOT_PUBLISHED, "-j DROP"],
    }


def test_a_permission_knows_the_pillar_path(policy):
    web = {"minions": ["web*"], "settings": {"firewall": {"allow": {"https": ["public"]}}}}
    it = policy(roles={"web": web})
    assert {access.service: access.path for access in it.access()} == {
        "ssh": "hardening:firewall:allow:ssh",
        "https": "hardening:roles:web:settings:firewall:allow:https",
    }

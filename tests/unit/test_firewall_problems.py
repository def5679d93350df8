"""rocksalt.firewall.problems: settings that are well-formed and yet wrong."""

from __future__ import annotations

import pytest

from rocksalt.firewall import problems

HERE = "hardening:firewall"
WEB = "hardening:roles:web:settings:firewall"
NAME = "write lower case letters, digits and hyphens"
LOG_IN = (
    "name the networks that administrators come from, such as "
    "hardening:networks:management: [10.0.0.0/24]"
)
OPENS = "lets the whole world try to log in; give it a source (-s), and ports as numbers"
FORM = "write matches and a target, such as -p vrrp -j ACCEPT"

WORLDS = ("0.0.0.0/1", "128.0.0.0/1", "2000::/3")


def role(**settings):
    return {"web": {"minions": ["web*"], "settings": {"firewall": settings}}}


def world(service, networks, group="public", port=22, base=HERE):
    return (
        f"{base}:allow:{service}: {group!r} lets {networks} try to log in on port {port}; {LOG_IN}"
    )


@pytest.mark.parametrize(
    ("pillar", "expected"),
    [
        ({}, []),
        (
            {"firewall": {"services": {"web": {"tcp": [80]}}, "allow": {"web": ["public"]}}},
            [],
        ),
        # Services.
        (
            {"firewall": {"services": {"Web 1": {"tcp": [80]}}}},
            [f"{HERE}:services:Web 1: 'Web 1' is no name; {NAME}"],
        ),
        (
            {"firewall": {"services": {"web": {}}}},
            [f"{HERE}:services:web: needs ports, such as {{tcp: [8080]}}"],
        ),
        (
            {"firewall": {"services": {"web": {"tcp": [], "udp": []}}}},
            [f"{HERE}:services:web: needs ports, such as {{tcp: [8080]}}"],
        ),
        ({"sshd": {"ports": [2222]}}, []),
        (
            {
                "sshd": {"ports": [22, 2222, 2200]},
                "roles": role(services={"ssh": {"tcp": [22]}}),
            },
            [
                f"{WEB}:services:ssh:tcp: lacks 2200, on which hardening:sshd:ports makes sshd "
                "listen"
            ],
        ),
        (
            {"sshd": {"enabled": False}, "firewall": {"services": {"ssh": {"tcp": [2200]}}}},
            [],
        ),
        # Networks.
        (
            {"networks": {"public": ["10.0.0.0/8"]}},
            ["hardening:networks:public: public is everybody already; choose another name"],
        ),
        (
            {"networks": {"Büro": ["10.0.0.0/8"]}},
            [f"hardening:networks:Büro: 'Büro' is no name; {NAME}"],
        ),
        (
            {"networks": {"management": []}},
            ["hardening:networks:management: is empty; name the networks that administrators come "
             "from, such as [10.0.0.0/24]"],
        ),
        (
            {
                "networks": {"office": [], "salt": [], "unused": []},
                "roles": role(allow={"https": ["office"]}, ping=["office"]),
                "firewall": {"published": {"dns": ["office"]}},
            },
            [
                f"hardening:networks:office: is empty, though {WEB}:allow:https lets it in",
                f"hardening:networks:office: is empty, though {HERE}:published:dns lets it in",
                f"hardening:networks:salt: is empty, though {HERE}:egress:salt-master lets out to "
                "it",
                f"hardening:networks:office: is empty, though {WEB}:ping lets it in",
            ],
        ),
        # Who may reach what.
        (
            {"roles": role(allow={"htps": ["public"]})},
            [f"{WEB}:allow:htps: no such service; did you mean 'https'?"],
        ),
        (
            {"firewall": {"allow": {"https": ["managment"]}}},
            [f"{HERE}:allow:https: 'managment' is not in hardening:networks; did you mean "
             "'management'?"],
        ),
        (
            {"firewall": {"published": {"dsn": ["ossec"]}, "egress": {"https": ["slat"]}}},
            [
                f"{HERE}:published:dsn: no such service; did you mean 'dns'?",
                f"{HERE}:egress:https: 'slat' is not in hardening:networks; did you mean 'salt'?",
            ],
        ),
        ({"firewall": {"allow": {"nrpe": ["monitoring"]}}}, []),
        (
            {"firewall": {"ping": ["offfice"]}, "networks": {"office": ["10.0.0.0/8"]}},
            [f"{HERE}:ping: 'offfice' is not in hardening:networks; did you mean 'office'?"],
        ),
        (
            {"roles": role(limits={"htps": "5/second"})},
            [f"{WEB}:limits:htps: no such service; did you mean 'https'?"],
        ),
        # The way in is not for the world.
        (
            {"roles": role(allow={"ssh": ["public"]})},
            [world("ssh", "0.0.0.0/0 and ::/0", base=WEB)],
        ),
        (
            {"networks": {"management": [*WORLDS, "10.0.0.0/8", "fd00::/8"]}},
            [world("ssh", " and ".join(WORLDS), "management")],
        ),
        (
            {
                "firewall": {
                    "services": {"sftp": {"udp": [22], "tcp": [22]}},
                    "allow": {"sftp": ["all4"]},
                },
                "networks": {"all4": ["0.0.0.0/0"]},
            },
            [world("sftp", "0.0.0.0/0", "all4")],
        ),
        (
            {"sshd": {"ports": [443]}, "firewall": {"allow": {"https": ["public"]}}},
            [world("https", "0.0.0.0/0 and ::/0", port=443)],
        ),
    ],
)  # fmt: skip
def test_problems(policy, pillar, expected):
    assert problems.problems(policy(**pillar), masterless=False) == expected


@pytest.mark.parametrize(
    ("networks", "masterless", "expected"),
    [
        ({"salt": ["192.0.2.1"]}, False, []),
        ({}, True, []),
        (
            {},
            False,
            [
                f"{WEB}:output: deny would cut this minion off from its master; "
                "write the master's address into hardening:networks:salt"
            ],
        ),
    ],
)
def test_output_denied(policy, networks, masterless, expected):
    it = policy(roles=role(output="deny"), networks=networks)
    assert problems.problems(it, masterless) == expected


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("-p vrrp -j ACCEPT", ""),
        ("-s 10.0.0.0/8 -j ACCEPT", ""),
        ("-i lo -j ACCEPT", ""),
        ("-j DROP", ""),
        ("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", ""),
        ('-s 10.0.0.0/8 -m comment --comment "-j ACCEPT -A" -j ACCEPT', ""),
        ("-m comment --comment -j -j DROP", ""),
        ("-p tcp --dport 80 -j ACCEPT", ""),
        ("-p tcp -m multiport --dports 80,8000:8010 -j ACCEPT", ""),
        ("-p udp -j ACCEPT", ""),
        ("-p 17 -j ACCEPT", ""),
        # It would open the way in.
        ("-j ACCEPT", OPENS),
        ("-p tcp -j ACCEPT", OPENS),
        ("-p 6 -j ACCEPT", OPENS),
        ("-p TCP --dport 22 -j ACCEPT", OPENS),
        ("-p all -j ACCEPT", OPENS),
        ("! -p udp -j ACCEPT", OPENS),
        ("--protocol tcp --destination-port 22 --jump ACCEPT", OPENS),
        ("-p tcp --dport 20:25 -j ACCEPT", OPENS),
        ("-p tcp --dport :1024 -j ACCEPT", OPENS),
        ("-p tcp --dport 20: -j ACCEPT", OPENS),
        ("-p tcp --dport ssh -j ACCEPT", OPENS),
        ("-p tcp ! --dport 80 -j ACCEPT", OPENS),
        ("-p tcp -m multiport --dports 80,22 -j ACCEPT", OPENS),
        ("-s 0.0.0.0/0 -p tcp --dport 22 -j ACCEPT", OPENS),
        ("-s 0/0 -j ACCEPT", OPENS),
        ("-s 0/1 -j ACCEPT", OPENS),
        ("-s ! 10.0.0.0/8 -j ACCEPT", OPENS),
        ("-s 0.0.0.0/0.0.0.0 -j ACCEPT", OPENS),
        ("-s 128.0.0.0/1 -j ACCEPT", OPENS),
        ("-s 10.0.0.0/8,0.0.0.0/1 -j ACCEPT", OPENS),
        ("! -s 10.0.0.0/8 -j ACCEPT", OPENS),
        ("-m comment --comment -s -j ACCEPT", OPENS),
        ('-m comment --comment "-s" -i 10.0.0.1 -j ACCEPT', OPENS),
        ("-p tcp --dport 026 -j ACCEPT", OPENS),
        ("-m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT", OPENS),
        # An interface is no source, unless it is known whose it is.
        ("-i eth0 -p tcp --dport 22 -j ACCEPT", OPENS),
        ("-i + -j ACCEPT", OPENS),
        ("! -i lo -j ACCEPT", OPENS),
        ("-i l+ -j ACCEPT", OPENS),
        ("-i wg0 -j ACCEPT", OPENS),
        ("-o lo -j ACCEPT", OPENS),
        # Its form is wrong.
        ("-A INPUT -j ACCEPT", f"has -A; {FORM}"),
        ("-t nat -j ACCEPT", f"has -t; {FORM}"),
        ("-p tcp --append INPUT -j ACCEPT", f"has --append; {FORM}"),
        ("-p tcp -j DROP\nCOMMIT", f"has two lines; {FORM}"),
        ("-p tcp", "has no target (-j)"),
        ("", "has no target (-j)"),
        ('-m comment --comment "x -j ACCEPT', "cannot be read: No closing quotation"),
    ],
)
def test_raw_rules(policy, rule, fault):
    it = policy({"raw_rules": {"ipv4": {"input": [rule]}}})
    path = f"{HERE}:raw_rules:ipv4:input"
    assert problems.problems(it, True) == ([f"{path}: {rule!r} {fault}"] if fault else [])


@pytest.mark.parametrize(
    ("interface", "fault"),
    [("wg0", ""), ("wg+", ""), ("tun7", ""), ("w+", OPENS), ("virbr0", OPENS), ("eth0", OPENS)],
)
def test_an_interface_of_a_declared_program(policy, interface, fault):
    rule = f"-i {interface} -j ACCEPT"
    it = policy({"foreign": ["vpn"], "raw_rules": {"ipv4": {"input": [rule]}}})
    path = f"{HERE}:raw_rules:ipv4:input"
    assert problems.problems(it, True) == ([f"{path}: {rule!r} {fault}"] if fault else [])


def test_raw_rules_elsewhere(policy):
    """What passes through or goes out opens no way in; the form is judged all the same."""
    chains = {"forward": ["-j ACCEPT", "-p tcp"], "output": ["-j ACCEPT"]}
    assert problems.problems(policy(roles=role(raw_rules={"ipv6": chains})), True) == [
        f"{WEB}:raw_rules:ipv6:forward: '-p tcp' has no target (-j)"
    ]


@pytest.mark.parametrize(
    ("rule", "is_wide", "ports"),
    [
        ("-j ACCEPT", True, set()),
        ("-p all -j ACCEPT", True, set()),
        ("-p udp -j ACCEPT", True, set()),
        ("-p udp ! --dport 53 -j ACCEPT", True, set()),
        (
            "-p udp -m multiport --dports 53,60000:60002 -j ACCEPT",
            False,
            {53, *range(60000, 60003)},
        ),
        ("-p udp --dport domain -j ACCEPT", False, set()),
        ("-p vrrp -j ACCEPT", False, set()),
        ("-i lo -j ACCEPT", False, set()),
        ("-i eth0 -j ACCEPT", True, set()),
        ("-p tcp --dport 1001:2024 -j ACCEPT", False, set(range(1001, 2025))),
        ("-p tcp --dport 1001:2025 -j ACCEPT", True, set(range(1001, 2026))),
        (
            "-p tcp -m multiport --dports 80,1001:2024 -j ACCEPT",
            True,
            {80, *range(1001, 2025)},
        ),
        ("-s 10.0.0.0/8 -p tcp --dport 1000: -j ACCEPT", False, set(range(1000, 65536))),
        ("-s 10.0.0.0/8 -j ACCEPT", False, set()),
        ("-j DROP", False, set()),
    ],
)
def test_what_raw_rules_let_in(policy, rule, is_wide, ports):
    it = policy({"raw_rules": {"ipv4": {"input": [rule]}, "ipv6": {"output": ["-j ACCEPT"]}}})
    assert problems.wide(it, "input") == ([rule] if is_wide else [])
    assert problems.raw_ports(it) == ports


@pytest.mark.parametrize(
    ("chain", "rule", "is_wide"),
    [
        ("forward", "-j ACCEPT", True),
        ("forward", "-i eth0 -o eth1 -j ACCEPT", True),
        ("forward", "-p tcp -j ACCEPT", True),
        ("forward", "-d 0.0.0.0/0 -j ACCEPT", True),
        ("forward", "-p udp --dport 1:65535 -j ACCEPT", True),
        ("forward", "-o wg0 -j ACCEPT", True),
        ("forward", "-i wg0 -j ACCEPT", False),
        ("forward", "-s 10.0.0.0/8 -j ACCEPT", False),
        ("forward", "--dst 10.0.0.5 -j ACCEPT", False),
        ("forward", "-p tcp --dport 443 -j ACCEPT", False),
        ("forward", "-p vrrp -j ACCEPT", False),
        ("forward", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", False),
        ("forward", "-j DROP", False),
        ("output", "-j ACCEPT", True),
        ("output", "-s 10.0.0.5 -j ACCEPT", True),
        ("output", "-p tcp -o eth0 -j ACCEPT", True),
        ("output", "-i wg0 -j ACCEPT", True),
        ("output", "-o wg0 -j ACCEPT", False),
        ("output", "-d 10.0.0.0/8 -j ACCEPT", False),
        ("output", "-p tcp --dport 443 -j ACCEPT", False),
    ],
)
def test_what_raw_rules_let_through_and_out(policy, chain, rule, is_wide):
    settings = {"foreign": ["vpn"], "raw_rules": {"ipv6": {chain: [rule]}}}
    others = {"input", "forward", "output"} - {chain}
    denied, allowed = policy({**settings, "output": "deny"}), policy(settings)

    assert problems.wide(denied, chain) == ([rule] if is_wide else [])
    assert problems.wide(allowed, chain) == ([rule] if is_wide and chain == "forward" else [])
    assert [problems.wide(denied, other) for other in others] == [[], []]

"""rocksalt.firewall.tables: rule sets read, compared, and made of each other."""

from __future__ import annotations

import random
from pathlib import Path

import netfilter
import pytest

from rocksalt.errors import Refused
from rocksalt.firewall import BANS, DOCKER, DOCKER_USER, FORWARD, INPUT, JUMPS, OUTPUT, tables
from rocksalt.firewall.tables import Goal, Plan, Table
from rocksalt.host import Ran

RECORDED = (Path(__file__).parent / "data/iptables-save.txt").read_text()
SSHD = "-p tcp -m multiport --dports 22 -j f2b-sshd"
OPEN = "-p tcp -m tcp --dport 23 -j ACCEPT"
OURS = "-j rocksalt-input"
PASSING = "-j rocksalt-forward"
TO_DOCKER = "-i docker0 ! -o docker0 -j ACCEPT"


def test_parse():
    found = tables.parse(RECORDED)
    assert found.policies == {"INPUT": "DROP", "FORWARD": "ACCEPT", "OUTPUT": "ACCEPT"}
    assert {name: len(rules) for name, rules in found.chains.items()} == {
        **{"INPUT": 2, "FORWARD": 0, "OUTPUT": 0},
        **{"f2b-sshd": 2, "rocksalt-bans": 1, "rocksalt-input": 6},
    }
    assert found.chains["INPUT"] == (OURS, SSHD)
    assert found.chains[INPUT][1] == (
        "-s 10.79.0.0/24 -p tcp -m tcp --dport 22 "
        '-m comment --comment "ssh from management" -j ACCEPT'
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Table()),
        ("*nat\n:INPUT ACCEPT [0:0]\n-A INPUT -j x\nCOMMIT\n", Table()),
        ("*filter\n:own - [0:0]\n-A own\nCOMMIT\n", Table({}, {"own": ("",)})),
        (
            "*nat\n:own - [0:0]\nCOMMIT\n*filter\n:INPUT DROP [9:81]\n-A INPUT -j x\nCOMMIT\n",
            Table({"INPUT": "DROP"}, {"INPUT": ("-j x",)}),
        ),
    ],
)
def test_parse_little(text, expected):
    assert tables.parse(text) == expected


def test_read(host):
    host.answer("ip6tables-save -t filter", RECORDED)
    assert tables.read(host, 6) == tables.parse(RECORDED)
    host.answer("iptables-save -t filter", status=1, err="Permission\ndenied\n")
    with pytest.raises(Refused, match=r"^iptables-save failed: Permission denied$"):
        tables.read(host, 4)


def test_restore_text():
    assert tables.restore_text({"a": ["-j b", "-j DROP"], "b": []}) == (
        "*filter\n:a - [0:0]\n:b - [0:0]\n-A a -j b\n-A a -j DROP\nCOMMIT\n"
    )


# Tried in a namespace of its own -----------------------------------------------------------------


@pytest.fixture
def trying(host, monkeypatch):
    """A host whose network namespaces behave; what was tried is kept in its ``given``."""
    host.given = []

    def run(*command, timeout=30.0, text=""):
        host.given.append((command, text))
        return netfilter.answer({}, command, text) or Ran(127, "", "")

    monkeypatch.setattr(host, "run", run)
    return host


def test_canonical(trying):
    wanted = {4: {INPUT: ["-j rocksalt-bans", "-j DROP"]}, 6: {INPUT: ["-j DROP"]}}
    found = tables.canonical(trying, wanted)
    assert {v: dict(t.chains) for v, t in found.items()} == {
        4: {**dict.fromkeys(netfilter.BUILT_IN, ()), BANS: (), INPUT: tuple(wanted[4][INPUT])},
        6: {**dict.fromkeys(netfilter.BUILT_IN, ()), BANS: (), INPUT: ("-j DROP",)},
    }
    ((command, text),) = trying.given
    assert command[:4] == ("unshare", "--net", "sh", "-c")
    assert [line for line in text.splitlines() if line[0] == "#"] == [
        *("#iptables", "#end", "#ip6tables", "#end")
    ]


@pytest.mark.parametrize("version", [4, 6])
def test_a_rule_that_iptables_does_not_accept(trying, version):
    wanted = {4: {INPUT: ["-j DROP"]}, 6: {INPUT: ["-j DROP"]}}
    wanted[version] = {INPUT: ["-i lo -j ACCEPT", "-p tcp -j nonsense"]}
    with pytest.raises(Refused) as caught:
        tables.canonical(trying, wanted)
    assert str(caught.value) == (
        "iptables does not accept the rules: iptables-restore v1.8.9 (nf_tables): Chain 'nonsense' "
        "does not exist Error occurred at line: 6 about '-A rocksalt-input -p tcp -j nonsense'"
    )


@pytest.mark.parametrize("ran", [Ran(1, "", "unshare: not\npermitted"), Ran(0, "", "")])
def test_no_namespace(host, ran):
    host.answers[("unshare",)] = ran
    with pytest.raises(Refused, match=r"^rules cannot be tried in a network namespace: "):
        tables.canonical(host, {4: {}, 6: {}})


def test_apply(host, monkeypatch):
    asked = []
    ran = [Ran(0, "", ""), Ran(1, "", "iptables-restore: line 2 failed: Bad rule.\n")]
    monkeypatch.setattr(host, "run", lambda *command, text: asked.append(command) or ran.pop(0))
    text = tables.transaction(["-D INPUT -j own"])
    assert text == "*filter\n-D INPUT -j own\nCOMMIT\n"
    tables.apply(host, 6, text)
    assert asked == [("ip6tables-restore", "--noflush", "--wait", "10")]
    with pytest.raises(Refused, match=r"line 2 failed: Bad rule. about '-D INPUT -j own'$"):
        tables.apply(host, 4, text)


# What is whose -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("-j ACCEPT", "ACCEPT"),
        ("-p tcp -g own", "own"),
        ('-m comment --comment "x -j f2b-sshd" -j ACCEPT', "ACCEPT"),
        ('-m comment --comment "it\\"s -j f2b-sshd" -j ACCEPT', "ACCEPT"),
        ("-p tcp", ""),
        ("", ""),
    ],
)
def test_target(rule, expected):
    assert tables.target(rule) == expected


@pytest.mark.parametrize(
    ("rule", "chain", "programs", "expected"),
    [
        (SSHD, "INPUT", ["fail2ban"], True),
        (SSHD, "INPUT", ["docker"], False),
        (SSHD, "INPUT", [], False),
        ("-j OSSEC", "INPUT", ["ossec"], True),
        ("-j OSSEC2", "INPUT", ["ossec"], False),
        ("-j DOCKER-USER", "FORWARD", ["docker"], True),
        ("-j DOCKER-FORWARD", "FORWARD", ["docker"], True),
        (TO_DOCKER, "FORWARD", ["docker"], True),
        (TO_DOCKER, "INPUT", ["docker"], False),
        ("-o br-0a1b -j DOCKER", "FORWARD", ["docker"], True),
        ("! -i docker0 -j ACCEPT", "FORWARD", ["docker"], False),
        ("-i eth0 -o eth1 -j ACCEPT", "FORWARD", ["docker"], False),
        ("-j ACCEPT", "FORWARD", ["docker", "vpn", "libvirt", "kubernetes"], False),
        ("-i tun0 -j ACCEPT", "FORWARD", ["vpn"], True),
        ("-i tun0 -j ACCEPT", "INPUT", ["vpn"], False),
        ("-j LIBVIRT_INP", "INPUT", ["libvirt"], True),
        ("-j cali-INPUT", "INPUT", ["kubernetes"], True),
    ],
)
def test_tolerated(rule, chain, programs, expected):
    assert tables.tolerated(rule, chain, programs) == expected


@pytest.mark.parametrize(
    ("chain", "programs", "rules", "expected"),
    [
        ("INPUT", [], [], [OURS]),
        ("INPUT", ["fail2ban"], [SSHD], [OURS, SSHD]),
        ("INPUT", ["fail2ban"], [SSHD, OPEN, OURS, SSHD, OURS], [OURS, SSHD, SSHD]),
        ("INPUT", [], [SSHD, OPEN, OURS], [OURS]),
        ("INPUT", ["libvirt"], ["-j LIBVIRT_INP", OURS], ["-j LIBVIRT_INP", OURS]),
        ("INPUT", ["libvirt"], [OPEN, "-j LIBVIRT_INP"], [OURS, "-j LIBVIRT_INP"]),
        (
            "INPUT",
            ["kubernetes", "fail2ban"],
            ["-j KUBE-FIREWALL", SSHD, "-j cali-INPUT", OURS],
            ["-j KUBE-FIREWALL", OURS, SSHD, "-j cali-INPUT"],
        ),
        ("INPUT", ["docker"], ["-j DOCKER", OURS], [OURS, "-j DOCKER"]),
        ("INPUT", ["vpn"], ["-i tun0 -j ACCEPT"], [OURS]),
        (
            "FORWARD",
            ["docker"],
            ["-j DOCKER-USER", TO_DOCKER, PASSING, "-i eth0 -j ACCEPT"],
            ["-j DOCKER-USER", TO_DOCKER, PASSING],
        ),
        ("FORWARD", ["docker"], [PASSING, TO_DOCKER], [PASSING, TO_DOCKER]),
        ("FORWARD", ["fail2ban"], [TO_DOCKER, SSHD], [PASSING, SSHD]),
        ("FORWARD", ["vpn"], ["-i wg0 -j ACCEPT", "-j ACCEPT"], ["-i wg0 -j ACCEPT", PASSING]),
        ("OUTPUT", ["fail2ban"], ["-j DROP"], ["-j rocksalt-output"]),
        (DOCKER_USER, ["docker"], ["-j RETURN"], ["-j rocksalt-docker", "-j RETURN"]),
        (
            DOCKER_USER,
            ["docker"],
            ["-i eth0 -j DROP", "-j rocksalt-docker", "-j RETURN"],
            ["-j rocksalt-docker", "-i eth0 -j DROP", "-j RETURN"],
        ),
    ],
)
def test_arranged(chain, programs, rules, expected):
    live = Table({}, {chain: tuple(rules)})
    assert tables.arranged(live, chain, programs) == expected


@pytest.mark.parametrize(
    ("now", "then", "expected"),
    [
        (None, ["-j DROP"], "the chain does not exist"),
        (["-j DROP"], ["-j DROP"], ""),
        ([], ["-j DROP"], "missing `-j DROP`"),
        (["-j DROP", "-j LOG"], ["-j DROP"], "not declared `-j LOG`"),
        (["-j a"], ["-j b"], "missing `-j b`; not declared `-j a`"),
        (["-j a", "-j a"], ["-j a"], "not declared `-j a`"),
        (["-j a", "-j b"], ["-j b", "-j a"], "the rules stand in another order"),
        ([], list("abcde"), "missing `a`, `b`, `c` and 2 more"),
    ],
)
def test_difference(now, then, expected):
    assert tables.difference(now, then) == expected


# From one to the other ---------------------------------------------------------------------------


def test_the_first_plan():
    live = Table({"INPUT": "ACCEPT"}, {"INPUT": (OPEN, SSHD), "f2b-sshd": ("-j RETURN",)})
    goal = Goal({INPUT: ("-j rocksalt-bans", "-j DROP")}, ("INPUT",), {"INPUT": "DROP"})
    assert tables.plan(
        live, Goal(goal.chains, goal.arranged, goal.policies, ("fail2ban",))
    ) == Plan(
        forth=(
            *(":rocksalt-bans - [0:0]", ":rocksalt-input - [0:0]"),
            *("-A rocksalt-input -j rocksalt-bans", "-A rocksalt-input -j DROP"),
            *(
                f"-A rocksalt-bans {SSHD}",
                f"-D INPUT {OPEN}",
                f"-I INPUT 1 {OURS}",
                "-P INPUT DROP",
            ),
        ),
        back=(
            *("-P INPUT ACCEPT", f"-D INPUT {OURS}", f"-I INPUT 1 {OPEN}"),
            *(f"-D rocksalt-bans {SSHD}", "-F rocksalt-input", "-X rocksalt-input"),
        ),
    )


def test_nothing_to_do():
    plan = tables.plan(Table({}, {"INPUT": (OURS,)}), Goal({}, ("INPUT",)))
    assert not plan
    assert plan == Plan()


TO_OURS = "-j rocksalt-docker"


def test_docker_is_no_longer_declared():
    live = Table({}, {DOCKER_USER: (TO_OURS, "-j RETURN"), DOCKER: ("-j DROP",)})
    assert tables.plan(live, Goal({}, ())) == Plan(
        forth=(f"-D {DOCKER_USER} {TO_OURS}", f"-F {DOCKER}", f"-X {DOCKER}"),
        back=(f":{DOCKER} - [0:0]", f"-A {DOCKER} -j DROP", f"-I {DOCKER_USER} 1 {TO_OURS}"),
    )
    assert not tables.plan(live, Goal({}, (), {}, ("docker",))), "excused, and left as found"


OTHERS = {
    "f2b-sshd": ("-s 192.0.2.7/32 -j REJECT", "-j RETURN"),
    "OSSEC": ("-s 192.0.2.8/32 -j DROP",),
    "DOCKER": ("-d 172.17.0.2/32 -j ACCEPT",),
    "KUBE-FIREWALL": ("-m mark --mark 0x8000/0x8000 -j DROP",),
    "LIBVIRT_INP": ("-i virbr0 -j ACCEPT",),
    "mine": ("-j ACCEPT",),
}
LINES = {
    "INPUT": [OURS, SSHD, "-j OSSEC", OPEN, "-j KUBE-FIREWALL", "-j LIBVIRT_INP", "-j mine"],
    "FORWARD": [PASSING, "-j DOCKER-USER", TO_DOCKER, "-o virbr0 -j ACCEPT", "-j mine", SSHD],
    "OUTPUT": ["-j rocksalt-output", "-j KUBE-FIREWALL", "-j DROP"],
    DOCKER_USER: [TO_OURS, "-j RETURN", "-i eth0 -j DROP"],
    BANS: [SSHD, "-j OSSEC", "-j RETURN"],
    **{
        name: [
            "-j rocksalt-bans",
            "-i lo -j ACCEPT",
            '-m comment --comment "a b" -j LOG',
            "-j DROP",
        ]
        for name in (INPUT, FORWARD, OUTPUT, DOCKER)
    },
}


def policies(draw):
    return {name: draw.choice(["ACCEPT", "DROP"]) for name in netfilter.BUILT_IN}


def some(draw, names):
    return [name for name in names if draw.random() < 0.5]


def any_table(draw):
    """Any rules; every chain that a rule leads to exists."""
    ours = some(draw, [INPUT, FORWARD, OUTPUT, DOCKER, BANS, DOCKER_USER])
    chains = {
        name: tuple(draw.choices(LINES[name], k=draw.randrange(7)))
        for name in (*netfilter.BUILT_IN, *ours)
    }
    led_to = {tables.target(rule) for rules in chains.values() for rule in rules}
    missing = {name: () for name in (*JUMPS.values(), BANS, DOCKER_USER) if name in led_to}
    return Table(policies(draw), {**OTHERS, **missing, **chains})


def any_goal(draw, live):
    """Goals of all kinds, as controls that are waived leave parts out."""
    programs = tuple(some(draw, tables.FOREIGN))
    ours = [INPUT, FORWARD, OUTPUT, *([DOCKER] if "docker" in programs else [])]
    chains = {
        name: tuple(draw.choices(LINES[name], k=draw.randrange(5))) for name in some(draw, ours)
    }
    led = [c for c, name in JUMPS.items() if name in ours and name in {**chains, **live.chains}]
    return Goal(chains, tuple(some(draw, led)), policies(draw), programs)


@pytest.mark.parametrize("seed", range(8))
def test_a_plan_leads_to_its_goal_and_back(seed):
    draw = random.Random(seed)
    for _ in range(50):
        live = any_table(draw)
        goal = any_goal(draw, live)
        there_and_back(live, goal, tables.plan(live, goal))


def there_and_back(live, goal, plan):
    it = netfilter.Netfilter(live)
    made = [name for name in (BANS, DOCKER_USER) if f":{name} - [0:0]" in plan.forth]
    strange = tables.strangers(live, goal.programs) if goal.arranged else []
    bans = tuple(rule for rule in live.chains.get(BANS, ()) if rule not in strange)
    bans += tuple(rule for rule in tables.bans(live, goal.programs) if rule not in bans)

    assert it.restore(plan.text).err == ""
    expected = {**live.chains, **dict.fromkeys(made, ()), **goal.chains}
    expected |= {c: tuple(tables.arranged(live, c, goal.programs)) for c in goal.arranged}
    expected |= {BANS: bans} if BANS in expected else {}
    if "docker" not in goal.programs:
        expected.pop(DOCKER, None)
        expected = {n: tuple(r for r in rs if r != TO_OURS) for n, rs in expected.items()}
    assert it.table == Table({**live.policies, **goal.policies}, expected)
    assert not tables.plan(it.table, goal), "the second run has nothing to do"

    assert it.restore(plan.undo).err == ""
    left = {**live.chains, **dict.fromkeys(made, ())}
    assert it.table == Table(live.policies, left), "only empty chains that others use stay"

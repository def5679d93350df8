"""rocksalt.firewall.checks: what each control expects, what was seen, and whether it is safe."""

from __future__ import annotations

import re
from pathlib import Path

import netfilter
import pytest

from rocksalt import settings
from rocksalt.errors import Refused
from rocksalt.findings import judge
from rocksalt.firewall import BANS, INPUT, change, enforce, files, reach
from rocksalt.firewall.checks import Firewall
from rocksalt.host import Ran

NFT = (Path(__file__).parent / "data/nft-of-iptables.json").read_text()
NETWORKS = {"management": ["10.79.0.0/24", "2001:db8::/32"]}
SHOW = "systemctl show rocksalt-firewall.service"
UNIT = "Id={0}\nActiveState={2}\nUnitFileState={1}\nFragmentPath=/etc/systemd/system/{0}\n"
UNITS = "\n".join(
    f"{UNIT.format(*unit)}DropInPaths=\n"
    for unit in (
        ("rocksalt-firewall.service", "enabled", "active"),
        ("rocksalt-firewall-guard.service", "static", "inactive"),
        ("rocksalt-firewall-guard.timer", "enabled", "active"),
    )
)
SOCKET = '{} LISTEN 0 128 {}:{} 0.0.0.0:* users:(("{}",pid=100,fd=3)) ino:1 sk:1 <->\n'
SSHD = SOCKET.format("tcp", "0.0.0.0", 22, "sshd") + SOCKET.format("tcp", "[::]", 22, "sshd")
LOCAL = SOCKET.format("tcp", "127.0.0.1", 25, "exim4")
WEB = SOCKET.format("tcp", "*", 80, "nginx")
INVALID = "-m conntrack --ctstate INVALID -j DROP"
SSH = '-s 10.79.0.0/24 -p tcp --dport 22 -m comment --comment "ssh from management" -j ACCEPT'
F2B = "-p tcp -m multiport --dports 22 -j f2b-sshd"
JUMP = "-j rocksalt-input"


@pytest.fixture
def bare(host, monkeypatch):
    """A host with iptables, an sshd, and no packet filter."""
    host.live = {version: netfilter.Netfilter() for version in (4, 6)}
    plain = host.run

    def run(*command, timeout=30.0, text=""):
        return netfilter.answer(host.live, command, text) or plain(*command)

    monkeypatch.setattr(host, "run", run)
    host.put(
        "/etc/passwd", "root:x:0:0::/root:/bin/bash\n_apt:x:42:65534::/nonexistent:/bin/false\n"
    )
    host.answer("ip -6 -json route show proto ra", "[]\n")
    host.answer("nft -j", NFT)
    host.answer("systemctl show", "")
    host.answer("ss -Hltunpe", SSHD + LOCAL)
    host.answer("ss -Htn state established", "")
    return host


@pytest.fixture
def look(shipped):
    """The comparison of a host with the baseline of a pillar."""

    def call(host, firewall=None, networks=None, **pillar):
        networks = {**NETWORKS, **(networks or {})}
        pillar = {"networks": networks, "firewall": firewall or {}, **pillar}
        return Firewall(settings.resolve(shipped, pillar, {}, "web1"), host)

    return call


@pytest.fixture
def filtered(bare, look):
    """Makes a host what a pillar wants: ``filtered(firewall={...})``."""

    def call(**pillar):
        it = look(bare, **pillar)
        for version, plan in it.plans().items():
            assert bare.live[version].restore(plan.text).err == ""
        for path, text in {**it.persisted(), **it.loading()}.items():
            bare.put(path, text)
        bare.answer(SHOW, UNITS)
        return bare

    return call


def drifts(it):
    """Control id -> reason, of those that are not ok."""
    found = judge(it.baseline, "firewall", it.expected(), it.seen())
    return {f["id"]: f["reason"] for f in found if f["status"] != "ok"}


# As expected -------------------------------------------------------------------------------------

PILLARS = [
    {},
    {"firewall": {"output": "deny"}, "networks": {"salt": ["10.79.0.1"]}},
    {"firewall": {"foreign": ["docker", "fail2ban"], "published": {"https": ["management"]}}},
    {"firewall": {"foreign": ["libvirt", "kubernetes", "vpn"], "log": False, "ping": []}},
    {"firewall": {"raw_rules": {"ipv6": {"input": ["-p 112 -j ACCEPT"]}}}},
]


@pytest.mark.parametrize("pillar", PILLARS)
def test_as_expected(filtered, look, pillar):
    it = look(filtered(**pillar), **pillar)
    assert drifts(it) == {}
    assert it.expected().keys() == it.seen().keys() == it.policy.family.controls.keys()
    assert not any(it.plans().values())
    assert it.safe().actual is True


def test_a_host_without_a_packet_filter(bare, look):
    found = drifts(look(bare))
    assert set(found) == {f"FW-00{n}" for n in range(1, 9)}
    assert found["FW-001"].startswith("IPv4 INPUT is ACCEPT, expected DROP; IPv4 FORWARD is ACCEPT")
    assert found["FW-002"] == "IPv4 and IPv6 rocksalt-input: the chain does not exist"
    assert found["FW-003"] == "IPv4 and IPv6 packets do not come to the baseline's rules"


def test_iptables_is_not_installed(bare, look, monkeypatch):
    monkeypatch.setattr(bare, "run", lambda *command, **_: Ran(127, "", "not installed"))
    it = look(bare)
    assert set(drifts(it).values()) == {"iptables is not installed"}
    assert it.safe().actual is True
    assert all(it.plans().values())


# What drifts -------------------------------------------------------------------------------------


def on(version, *lines):
    """Rules that somebody changed."""

    def change_rules(host):
        assert host.live[version].restore("\n".join(lines)).err == ""

    return change_rules


def units(old, new):
    def change_units(host):
        assert old in UNITS
        host.answer(SHOW, UNITS.replace(old, new, 1))

    return change_units


def listens(*lines):
    return lambda host: host.answer("ss -Hltunpe", "".join((SSHD, LOCAL, *lines)))


FOLDER = "/etc/rocksalt/firewall"
SYSTEMD = "/etc/systemd/system/rocksalt-firewall"
NOT_DECLARED = "which is not declared"
WIDE = (
    "nobody may reach {}, yet it listens on every address: bind it to 127.0.0.1, or name it in "
    "hardening:firewall:allow or listeners_behind_firewall"
)


@pytest.mark.parametrize(
    ("breaks", "expected"),
    [
        # Rules.
        (on(4, "-P INPUT ACCEPT"), {"FW-001": "IPv4 INPUT is ACCEPT, expected DROP"}),
        (on(6, "-P FORWARD ACCEPT"), {"FW-001": "IPv6 FORWARD is ACCEPT, expected DROP"}),
        (
            on(6, f"-D rocksalt-input {INVALID}"),
            {"FW-002": f"IPv6 rocksalt-input: missing `{INVALID}`"},
        ),
        (
            on(4, f"-D rocksalt-input {INVALID}", f"-I rocksalt-input 1 {INVALID}"),
            {"FW-002": "IPv4 rocksalt-input: the rules stand in another order"},
        ),
        (
            on(4, "-I rocksalt-input 1 -p tcp -j ACCEPT"),
            {"FW-002": "IPv4 rocksalt-input: not declared `-p tcp -j ACCEPT`"},
        ),
        (
            on(4, f"-I INPUT 1 {JUMP}"),
            {"FW-003": "IPv4 INPUT leads to rocksalt-input more than once"},
        ),
        (
            on(4, "-I INPUT 1 -j ACCEPT"),
            {"FW-003": f"IPv4 INPUT has `-j ACCEPT`, {NOT_DECLARED}"},
        ),
        (
            on(6, "-A OUTPUT -j DROP"),
            {"FW-003": f"IPv6 OUTPUT has `-j DROP`, {NOT_DECLARED}"},
        ),
        (
            on(4, f"-D INPUT {JUMP}"),
            {"FW-003": "IPv4 INPUT does not lead to rocksalt-input"},
        ),
        (
            on(4, ":f2b-sshd - [0:0]", f"-A INPUT {F2B}"),
            {"FW-003": f"IPv4 `{F2B}` of INPUT is missing in rocksalt-bans"},
        ),
        (
            on(4, ":f2b-sshd - [0:0]", f"-I INPUT 1 {F2B}", f"-A rocksalt-bans {F2B}"),
            {"FW-003": f"IPv4 in INPUT `{F2B}` comes before ours"},
        ),
        (
            on(4, ":f2b-sshd - [0:0]", f"-I INPUT 1 {F2B}", f"-I INPUT 1 {F2B}",
               f"-A rocksalt-bans {F2B}"),
            {"FW-003": f"IPv4 in INPUT `{F2B}`, `{F2B}` comes before ours"},
        ),
        (
            on(6, "-D rocksalt-input -j rocksalt-bans", "-X rocksalt-bans"),
            {
                "FW-002": "IPv6 rocksalt-input: missing `-j rocksalt-bans`",
                "FW-003": "IPv6 has no chain rocksalt-bans",
            },
        ),
        (
            on(4, "-I rocksalt-forward 1 -j ACCEPT"),
            {"FW-004": "IPv4 rocksalt-forward: not declared `-j ACCEPT`"},
        ),
        (
            on(6, "-A rocksalt-output -j DROP", "-P OUTPUT DROP"),
            {"FW-005": "IPv6 rocksalt-output: not declared `-j DROP`; the policy of IPv6 OUTPUT is "
             "DROP"},
        ),
        # Files and units.
        (
            lambda h: h.put(f"{FOLDER}/rules.v4", "*filter\nCOMMIT\n"),
            {"FW-006": f"{FOLDER}/rules.v4 was edited"},
        ),
        (
            lambda h: h.remove(f"{FOLDER}/emergency.v6"),
            {"FW-006": f"{FOLDER}/emergency.v6 does not exist"},
        ),
        (lambda h: h.put(f"{FOLDER}/load"), {"FW-007": f"{FOLDER}/load was edited"}),
        (
            units("enabled", "disabled"),
            {"FW-007": "at boot is disabled, expected enabled"},
        ),
        (units("active", "failed"), {"FW-007": "state is failed, expected active"}),
        (
            units("DropInPaths=", f"DropInPaths={SYSTEMD}.service.d/x.conf"),
            {"FW-007": f"overrides is {SYSTEMD}.service.d/x.conf, expected none"},
        ),
        (
            units("FragmentPath=/etc", "FragmentPath=/run"),
            {"FW-007": "overrides is /run/systemd/system/rocksalt-firewall.service, expected none"},
        ),
        (
            lambda h: h.put(files.EMERGENCY_MARK),
            {"FW-007": "the declared rules could not be loaded at boot"},
        ),
        (
            lambda h: h.put(f"{SYSTEMD}-guard.timer"),
            {"FW-008": f"{SYSTEMD}-guard.timer was edited"},
        ),
        (
            lambda h: h.answer(SHOW, UNITS[: UNITS.index("Id=rocksalt-firewall-guard.timer")]),
            {"FW-008": "at boot is not there, expected enabled; state is unknown, expected active"},
        ),
        (
            units(
                "guard.service\nDropInPaths=",
                f"guard.service\nDropInPaths={SYSTEMD}-guard.service.d/x",
            ),
            {"FW-008": f"overrides is {SYSTEMD}-guard.service.d/x, expected none"},
        ),
        # Others.
        (
            lambda h: h.answer("systemctl show", "Id=nftables.service\nActiveState=active\n"),
            {"FW-009": "nftables.service is active: it flushes every rule set and loads "
             "/etc/nftables.conf"},
        ),
        (
            lambda h: h.answer("nft -j", status=1, err="no"),
            {"FW-009": "what else decides about packets is unknown, nft fails: no"},
        ),
        (
            listens(SOCKET.format("tcp", "0.0.0.0", 2222, "sshd")),
            {
                "FW-010": "sshd listens on port 2222, which hardening:firewall:services:ssh:tcp "
                "does not name",
                "FW-011": WIDE.format("tcp/2222 (sshd as root)"),
            },
        ),
        (listens(WEB), {"FW-011": WIDE.format("tcp/80 (nginx as root)")}),
        (listens(WEB.replace("*:80", "10.79.0.11:80")), {}),
        (
            lambda h: h.answer("ss -Hltunpe", ""),
            {"FW-012": "hardening:firewall:allow:ssh opens tcp/22 (ssh), where nothing listens"},
        ),
        (
            lambda h: h.put(files.ROLLED_BACK, "a change of the firewall was undone: no\n"),
            {"FW-013": "a change of the firewall was undone: no"},
        ),
    ],
)  # fmt: skip
def test_drift(filtered, look, breaks, expected):
    host = filtered()
    breaks(host)
    assert drifts(look(host)) == expected


@pytest.mark.parametrize(
    ("pillar", "expected"),
    [
        (
            {"networks": {"management": []}},
            {
                "FW-010": "hardening:networks:management is empty: nobody could log in any more",
                "FW-011": WIDE.format("tcp/22 (sshd as root)"),
            },
        ),
        (
            {"firewall": {"allow": {"ssh": []}}},
            {
                "FW-010": "hardening:firewall:allow:ssh does not let management in",
                "FW-011": WIDE.format("tcp/22 (sshd as root)"),
            },
        ),
        (
            {"firewall": {"allow": {"dns": ["management"]}}},
            {
                "FW-012": "hardening:firewall:allow:dns opens tcp/53 (dns), where nothing listens; "
                "hardening:firewall:allow:dns opens udp/53 (dns), where nothing listens"
            },
        ),
        (
            {"firewall": {"raw_rules": {"ipv4": {"input": ["-p udp -j ACCEPT"]}}}},
            {"FW-002": "hardening:firewall:raw_rules: `-p udp -j ACCEPT` accepts anybody"},
        ),
        (
            {"firewall": {"confirm_by": ["ssh"]}},
            {
                "FW-013": "hardening:firewall:confirm_by is ['ssh']: master has to be among them: "
                "correct the pillar, or write a waiver"
            },
        ),
    ],
)
def test_a_pillar_that_drifts(filtered, look, pillar, expected):
    assert drifts(look(filtered(**pillar), **pillar)) == expected


def test_docker_has_removed_its_chain(filtered, look):
    pillar = {"firewall": {"foreign": ["docker"]}}
    host = filtered(**pillar)
    on(6, "-F DOCKER-USER", "-X DOCKER-USER")(host)
    assert drifts(look(host, **pillar)) == {"FW-003": "IPv6 DOCKER-USER does not exist"}
    assert ":DOCKER-USER - [0:0]" in look(host, **pillar).plans()[6].forth


def test_pending(filtered, look):
    host = filtered()
    host.put(change.ARMED, '{"until": 0, "known": []}')
    host.answer("systemctl is-active", "active\ninactive\n")
    (found,) = [
        f
        for f in judge(look(host).baseline, "firewall", look(host).expected(), look(host).seen())
        if f["status"] != "ok"
    ]
    assert (found["id"], found["remedy"]) == ("FW-013", "manual")
    assert found["reason"] == "a change awaits confirmation"


@pytest.mark.parametrize(
    ("firewall", "sockets"),
    [
        ({"listeners_behind_firewall": ["tcp/80"]}, WEB),
        ({"allow": {"http": ["management"]}}, WEB),
        ({"raw_rules": {"ipv4": {"input": ["-s 10.0.0.0/8 -p tcp --dport 80 -j ACCEPT"]}}}, WEB),
        ({"foreign": ["docker"], "published": {"http": ["public"]}}, WEB),
    ],
)
def test_what_may_listen_on_every_address(filtered, look, firewall, sockets):
    host = filtered(firewall=firewall)
    host.answer("ss -Hltunpe", SSHD + sockets)
    assert "FW-011" not in drifts(look(host, firewall))


@pytest.mark.parametrize(
    ("setting", "routes", "accepted"),
    [
        ("auto", "[]", False),
        ("auto", "", False),
        ("auto", '[{"dst":"default","protocol":"ra"}]', True),
        ("accept", "[]", True),
        ("ignore", '[{"dst":"default","protocol":"ra"}]', False),
    ],
)
def test_routers(bare, look, setting, routes, accepted):
    bare.answer("ip -6 -json route show proto ra", routes)
    it = look(bare, {"router_advertisements": setting})
    assert any("icmpv6-type 134" in rule for rule in it.declared[6].chains[INPUT]) == accepted


# Controls that are excused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "gone", "loaded"),
    [
        ("FW-001", r"^-P (INPUT|FORWARD)", "rocksalt-input DROP"),
        ("FW-004", r"rocksalt-forward|^-[DI] FORWARD", "FORWARD rocksalt-forward"),
        ("FW-005", r"rocksalt-output|^-[DI] OUTPUT|^-P OUTPUT", "OUTPUT rocksalt-output"),
    ],
)
def test_what_is_excused_is_left_as_found(bare, look, control, gone, loaded):
    firewall = {"output": "deny"}
    all_lines = look(bare, firewall).plans()
    off = {**firewall, "controls": {control: {"off": "another program does it"}}}
    assert loaded in look(bare, firewall).loading()[files.LOADER]
    assert loaded not in look(bare, off).loading()[files.LOADER]
    assert not re.search(gone, look(bare, off).persisted()[files.rules(4)])
    for version, plan in look(bare, off).plans().items():
        left = [line for line in all_lines[version].forth if not re.search(gone, line)]
        assert list(plan.forth) == left
        assert len(left) < len(all_lines[version].forth)
        assert bare.live[version].restore(plan.text).err == ""
        assert bare.live[version].restore(plan.undo).err == ""


# Safety ------------------------------------------------------------------------------------------

FLOW = "0 0 10.79.0.11:{} {}:{}\n"
CUT = (
    "the rules would not let in what is connected now: {}; declare it in "
    "hardening:firewall:allow, or set hardening:firewall:accept_cut"
)
SAFE = "management reaches sshd, and a change undoes itself if not confirmed"
NOT_ASKED = f"{SAFE}; open connections were not looked at"


@pytest.mark.parametrize(
    ("pillar", "flows", "reason"),
    [
        ({}, FLOW.format(22, "10.79.0.1", 5000), SAFE),
        ({}, FLOW.format(22, "198.51.100.7", 5000), CUT.format("198.51.100.7 to port 22")),
        ({"firewall": {"accept_cut": True}}, FLOW.format(22, "198.51.100.7", 5000), NOT_ASKED),
        ({}, FLOW.format(5000, "198.51.100.7", 4505), SAFE),
        ({}, FLOW.format(22, "10.79.0.11", 5000), SAFE),
        ({}, "0 0 [::1]:22 [::1]:5000\n", SAFE),
        ({}, "0 0 [2001:db8::b]:22 [2001:db8::1]:5000\n", SAFE),
        (
            {"firewall": {"output": "deny"}, "networks": {"salt": ["198.51.100.7"]}},
            FLOW.format(5000, "198.51.100.7", 4505) + FLOW.format(5001, "198.51.100.8", 4505),
            CUT.format("this host to 198.51.100.8 port 4505"),
        ),
        ({"firewall": {"output": "deny"}}, FLOW.format(5000, "198.51.100.7", 443), SAFE),
        (
            {"firewall": {"raw_rules": {"ipv4": {"input": ["-i w -p tcp --dport 22 -j ACCEPT"]}}}},
            FLOW.format(22, "198.51.100.7", 5000),
            SAFE,
        ),
        ({"networks": {"management": []}}, "", "hardening:networks:management is empty: nobody "
         "could log in any more"),
        ({"firewall": {"allow": {"ssh": []}}}, "", "hardening:firewall:allow:ssh does not let "
         "management in"),
        ({"sshd": {"ports": [2222]}}, "", "sshd listens on port 22, which "
         "hardening:firewall:services:ssh:tcp does not name"),
    ],
)  # fmt: skip
def test_safe(bare, look, pillar, flows, reason):
    bare.answer("ss -Htn state established", flows)
    seen = look(bare, **pillar).safe()
    assert (seen.actual, seen.reason) == (reason.startswith(SAFE), reason)


def test_only_the_first_run_asks_who_is_connected(filtered, look):
    host = filtered()
    host.answer("ss -Htn state established", FLOW.format(22, "198.51.100.7", 5000))
    assert look(host).safe().actual is True


# For people --------------------------------------------------------------------------------------


def test_explain(filtered, look):
    firewall = {"allow": {"https": ["public"], "dns": ["management"]}}
    host = filtered(firewall=firewall)
    host.answer("ss -Hltunpe", SSHD + LOCAL + WEB.replace("*:80", "10.79.0.11:80"))
    office = "10.79.0.0/24 (management), 2001:db8::/32 (management)"
    nothing = {
        "reachable from": office,
        "why": "hardening:firewall:allow:dns",
        "served by": "nothing",
    }
    it = look(host, firewall)
    assert reach.explain(it.policy, it.reading.listeners) == [
        {
            "port": "tcp/22",
            "reachable from": office,
            "why": "hardening:firewall:allow:ssh",
            "served by": "sshd as root on any address",
        },
        {"port": "tcp/53", **nothing},
        {"port": "udp/53", **nothing},
        {
            "port": "tcp/80",
            "reachable from": "nobody",
            "why": "not declared",
            "served by": "nginx as root on 10.79.0.11",
        },
        {
            "port": "tcp/443",
            "reachable from": "0.0.0.0/0 (public), ::/0 (public)",
            "why": "hardening:firewall:allow:https",
            "served by": "nothing",
        },
    ]


# Enforcement -------------------------------------------------------------------------------------


def test_a_raw_rule_is_explained(bare, look):
    raw = {"ipv4": {"input": ["-s 10.0.0.0/8 -p tcp --dport 22 -j ACCEPT"]}}
    it = look(bare, {"raw_rules": raw})
    rows = {row["port"]: row for row in reach.explain(it.policy, it.reading.listeners)}
    assert rows["tcp/22"]["reachable from"].endswith(", as a raw rule says")
    assert rows["tcp/22"]["why"].endswith(", hardening:firewall:raw_rules")


def test_emergency_rules_that_cannot_be_loaded(bare, look, monkeypatch):
    """They are tried like the declared ones, before anything changes."""
    it = look(bare)
    monkeypatch.setattr(it, "emergency", lambda: {4: {INPUT: ["-j nonsense"]}, 6: {}})
    with pytest.raises(Refused, match=r"^iptables does not accept the rules: .*nonsense"):
        enforce.enforce(bare, lambda: it, ["FW-002"], lambda _: change.Witness())
    assert not any(INPUT in table.chains for table in bare.live.values())


@pytest.mark.parametrize("control", ["FW-007", "FW-008"])
def test_files_of_excused_controls_are_not_written(bare, look, control):
    for command in ("systemctl", "systemd-run"):
        bare.answer(command)
    firewall = {"controls": {control: {"off": "another program does it"}}}
    it = look(bare, firewall)
    enforce.enforce(bare, lambda: it, ["FW-006", "FW-007", "FW-008"], lambda _: change.Witness())
    assert bare.read(files.rules(4))
    assert {bare.read(path) for path in it.files_of(control)} == {None}


def test_the_chain_for_bans_holds_bans_only(filtered, look):
    host = filtered()
    on(4, f"-A {BANS} -j ACCEPT")(host)
    assert drifts(look(host)) == {"FW-003": "IPv4 rocksalt-bans has `-j ACCEPT`, which is no ban"}
    assert f"-D {BANS} 1" in look(host).plans()[4].forth


def test_fail2ban_of_the_baseline_needs_no_declaration(look, bare):
    assert look(bare, {"foreign": ["docker"]}).policy.programs == ["docker", "fail2ban"]


def test_routers_that_were_let_in_stay_so(bare, look):
    bare.put(files.rules(6), "-A rocksalt-input -p ipv6-icmp --icmpv6-type 134 -j ACCEPT\n")
    assert any("icmpv6-type 134" in rule for rule in look(bare).declared[6].chains[INPUT])


def test_docker_comes_behind_what_its_users_say(filtered, look):
    pillar = {"firewall": {"foreign": ["docker"]}}
    host = filtered(**pillar)
    on(4, ":DOCKER - [0:0]", "-A FORWARD -o docker0 -j ACCEPT")(host)
    assert set(drifts(look(host, **pillar))) == {"FW-003"}
    host.live[4].restore(look(host, **pillar).plans()[4].text)
    assert host.live[4].chains["FORWARD"] == [
        *("-j DOCKER-USER", "-j rocksalt-forward", "-o docker0 -j ACCEPT"),
    ]
    assert drifts(look(host, **pillar)) == {}


def test_the_guard_does_not_make_chains_anew(filtered, monkeypatch):
    host = filtered()
    plain, left = host.run, []

    def run(*command, **more):
        if command == ("systemctl", "stop", "rocksalt-firewall-guard.service"):
            left.append({*host.live[4].chains})
        return plain(*command, **more)

    monkeypatch.setattr(host, "run", run)
    enforce.clean(host)
    assert [INPUT in chains for chains in left] == [True]


def test_enforced_and_cleaned(bare, look):
    """On a host where something else has rules, too."""
    bare.live[4].restore(
        f":f2b-sshd - [0:0]\n-A f2b-sshd -j DROP\n-A INPUT {F2B}\n-A INPUT -j DROP\n"
    )
    for command in ("systemctl", "systemd-run"):
        bare.answer(command)
    ids = sorted(look(bare).expected())
    enforce.enforce(bare, lambda: look(bare), ids, lambda _: change.Witness())
    bare.answer(SHOW, UNITS)
    bare.answer("systemctl show", "")
    assert drifts(look(bare)) == {}
    assert bare.path(FOLDER).stat().st_mode & 0o777 == 0o700
    assert bare.live[4].chains["f2b-sshd"] == ["-j DROP"]

    names = [INPUT, "rocksalt-forward", "rocksalt-output", "rocksalt-bans"]
    found = enforce.leftovers(bare)
    assert [it for it in found if "IPv" in it] == [
        f"IPv{v} {name}" for v in (4, 6) for name in names
    ]
    enforce.clean(bare)
    assert enforce.leftovers(bare) == []
    assert bare.live[4].chains == {
        "INPUT": [F2B],
        "FORWARD": [],
        "OUTPUT": [],
        "f2b-sshd": ["-j DROP"],
    }
    assert set(bare.live[4].policies.values()) == set(bare.live[6].policies.values()) == {"ACCEPT"}

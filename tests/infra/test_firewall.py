"""The packet filter: what the kernel has, what is loaded at boot, and what listens behind it."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest

from . import units
from .asking import Look
from .packets import (
    EVERYBODY,
    JUMPS,
    as_saved,
    listeners,
    live,
    opened,
    permissions,
    programs,
    raw,
)
from .pillars import Expected
from .rules import BANNING, NOWHERE, PROGRAMS, Rule, like, misplaced, owned, table, without

FAMILY = "firewall"
VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
UNIT, GUARD = "rocksalt-firewall.service", "rocksalt-firewall-guard.timer"
LOADER = "/etc/rocksalt/firewall/load"
OTHERS = "nftables netfilter-persistent ufw firewalld ferm firehol shorewall shorewall6"
EXCUSED_BY = {"OUTPUT": "FW-005", "FORWARD": "FW-004"}
NOT_PUBLISHED = {  # in the chain for Docker: answers, what is not published, and containers
    "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
    "-m conntrack ! --ctstate DNAT -j RETURN",
    "-i docker0 -j RETURN",
    "-i br-+ -j RETURN",
}
TABLES = {"filter", "nat", "mangle", "raw", "security"}


def look(wanted: Expected) -> dict[str, str]:
    show = (
        "systemctl show -p Id,ActiveState,UnitFileState,ExecStart,DropInPaths,FragmentPath,Before"
    )
    return {
        "live4": "iptables-save",
        "live6": "ip6tables-save",
        "raw4": as_saved(wanted, 4),
        "raw6": as_saved(wanted, 6),
        "disk4": "cat /etc/rocksalt/firewall/rules.v4",
        "disk6": "cat /etc/rocksalt/firewall/rules.v6",
        "emergency": "cat /etc/rocksalt/firewall/emergency.v4 /etc/rocksalt/firewall/emergency.v6",
        "units": f"{show} {UNIT} {GUARD}",
        "others": f"systemctl show -p Id,ActiveState,UnitFileState {OTHERS}",
        "ufw": "grep -qs '^ENABLED=yes' /etc/ufw/ufw.conf",
        "loader": f"cat {LOADER}",
        "failed": "ls /run/rocksalt-firewall/emergency /var/lib/rocksalt/firewall-rolled-back",
        "nft": "nft -j list chains",
        "listening": "ss -Hlntup",
        "socket": "systemctl -q is-active ssh.socket",
    }


@VERSIONS
@pytest.mark.controls("FW-001")
def test_default_is_drop(seen: Look, settings: dict[str, Any], version: int) -> None:
    found = live(seen, version)
    assert (found.policies["INPUT"], found.policies["FORWARD"]) == ("DROP", "DROP")
    assert [it.target for it in found.of("rocksalt-input")[-1:]] == ["DROP"]
    assert found.of("rocksalt-input")[-1].words == ("-j", "DROP")


@VERSIONS
@pytest.mark.controls("FW-002")
def test_what_comes_in(
    seen: Look, settings: dict[str, Any], wanted: Expected, version: int
) -> None:
    rules = without(live(seen, version).of("rocksalt-input"), raw(seen, version, "input"))
    assert opened(rules, version, "-s") == permissions(wanted, "allow", version)
    assert [str(it) for it in rules if it.target == "ACCEPT" and not _narrow(it)] == []
    dropped = ["-m conntrack --ctstate INVALID -j DROP", "-j DROP"]
    assert [" ".join(it.words) for it in rules if it.target == "DROP"][-2:] == dropped
    invalid = [" ".join(it.words) for it in rules].index(dropped[0])
    answers = [n for n, it in enumerate(rules) if it.option("--ctstate") == "RELATED,ESTABLISHED"]
    assert answers and max(answers) < invalid


def _narrow(rule: Rule) -> bool:
    """Whether a rule lets in no new connections by itself but by port, or from this host."""
    kind = rule.option("-p")
    return bool(
        rule.ports
        or rule.option("-i") == "lo"
        or rule.option("--ctstate") == "RELATED,ESTABLISHED"
        or "icmp" in kind
        or (kind == "tcp" and "socket" in rule.words and "--tcp-flags" in rule.words)
    )


@VERSIONS
@pytest.mark.controls("FW-003")
def test_nothing_decides_before(
    seen: Look, wanted: Expected, excused: dict[str, Any], version: int
) -> None:
    found, declared = live(seen, version), programs(wanted)
    for chain, ours in JUMPS.items():
        rules = [it for it in found.of(chain) if not _ban(it)]
        if chain == "FORWARD" and "docker" in declared and "DOCKER" in found.policies:
            # Docker puts its own before ours; what comes first is ours there.
            assert str(rules.pop(0)) == "-A FORWARD -j DOCKER-USER"
        if EXCUSED_BY.get(chain) not in excused:
            assert misplaced(rules, f"rocksalt-{ours}", declared) == []
    if "docker" in declared and "FW-004" not in excused:
        jumps = [it.words == ("-j", "rocksalt-docker") for it in found.of("DOCKER-USER")]
        assert jumps[:1] == [True] and not any(jumps[1:])
    banning = [it for it in declared if it in BANNING]
    assert [str(it) for it in found.of("rocksalt-bans") if not owned(it, banning)] == []
    verdicts = [it.target for it in found.rules if it.chain == "rocksalt-input"]
    before = verdicts[: verdicts.index("rocksalt-bans")]
    assert set(before) == {"ACCEPT"}


def _ban(rule: Rule) -> bool:
    """A response of OSSEC: one address is dropped."""
    return rule.target == "DROP" and rule.words[:1] == ("-s",) and len(rule.words) == 4


@VERSIONS
@pytest.mark.controls("FW-004")
def test_what_passes_through(
    seen: Look, settings: dict[str, Any], wanted: Expected, version: int
) -> None:
    found = live(seen, version)
    rules = without(found.of("rocksalt-forward"), raw(seen, version, "forward"))
    others = set(settings["foreign"]) - set(BANNING)
    end = [] if others else ["-j DROP"]
    assert [" ".join(it.words) for it in rules if it.target not in NOWHERE] == end
    if "docker" in settings["foreign"]:
        through = found.of("rocksalt-docker")
        assert through[-1].words == ("-j", "DROP")
        published = [it for it in through if it.option("--ctorigdstport")]
        assert {
            (it.option("-s") or EVERYBODY[version], it.option("-p"), int(port))
            for it in published
            for port in [it.option("--ctorigdstport")]
        } == permissions(wanted, "published", version)
        returned = {" ".join(it.words) for it in through if it not in published} - {"-j DROP"}
        assert {it for it in returned if " -j LOG" not in it} <= NOT_PUBLISHED


@VERSIONS
@pytest.mark.controls("FW-005")
def test_what_goes_out(
    seen: Look, settings: dict[str, Any], wanted: Expected, version: int
) -> None:
    found = live(seen, version)
    rules = found.of("rocksalt-output")
    if settings["output"] == "allow":
        assert found.policies["OUTPUT"] == "ACCEPT"
        assert rules == raw(seen, version, "output")
        return
    rules = without(rules, raw(seen, version, "output"))
    assert found.policies["OUTPUT"] == "DROP" and rules[-1].target == "REJECT"
    assert permissions(wanted, "egress", version) <= opened(rules, version, "-d")


@VERSIONS
@pytest.mark.controls("FW-006")
def test_the_rules_on_disk_are_those_in_force(seen: Look, version: int) -> None:
    for chain in ("rocksalt-input", "rocksalt-forward", "rocksalt-output"):
        disk = table(seen[f"disk{version}"].lines).of(chain)
        assert [*map(str, disk)] == [*map(str, live(seen, version).of(chain))]
    assert not seen["emergency"].code, seen["emergency"].said


@pytest.mark.controls("FW-007")
def test_they_are_loaded_at_boot(seen: Look) -> None:
    unit = seen["units"].blocks[UNIT]
    assert (unit["ActiveState"], unit["UnitFileState"]) == ("active", "enabled")
    assert unit["FragmentPath"] == f"/etc/systemd/system/{UNIT}"
    assert units.drop_ins(unit) == []
    assert f"path={LOADER} ;" in unit["ExecStart"]
    assert "network-pre.target" in unit["Before"].split()
    assert "/run/rocksalt-firewall/emergency" not in seen["failed"].lines
    commands = [it for it in seen["loader"].lines if not it.lstrip().startswith("#")]
    assert commands and not commands[0].startswith("exit")
    assert any("restore" in it for it in commands)


@pytest.mark.controls("FW-008")
def test_flushed_rules_come_back(seen: Look) -> None:
    guard = seen["units"].blocks[GUARD]
    assert (guard["ActiveState"], guard["UnitFileState"]) == ("active", "enabled")
    assert units.drop_ins(guard) == []


@pytest.mark.controls("FW-009")
def test_no_other_rule_set_decides(seen: Look, wanted: Expected) -> None:
    assert not seen["nft"].code, seen["nft"].said
    chains = [it["chain"] for it in json.loads(seen["nft"].text)["nftables"] if "chain" in it]
    hooked = [it for it in chains if "hook" in it]
    known = [pattern for name in programs(wanted) for pattern in PROGRAMS[name].tables]
    strange = [
        it
        for it in hooked
        if (it["family"] not in ("ip", "ip6") or it["table"] not in TABLES)
        and not like(it["table"], known)
    ]
    assert strange == []
    loads = {
        name
        for name, unit in seen["others"].blocks.items()
        if unit["ActiveState"] == "active" or unit.get("UnitFileState") == "enabled"
    }
    assert loads - ({"ufw.service"} if seen["ufw"].code else set()) == set()


@VERSIONS
@pytest.mark.controls("FW-010")
def test_administrators_reach_sshd(seen: Look, wanted: Expected, version: int) -> None:
    nets = [ipaddress.ip_network(it) for it in wanted.baseline.networks.get("management", ())]
    assert nets, "hardening:networks:management names nobody"
    rules = live(seen, version).of("rocksalt-input")
    open_before_bans = rules[: [it.target for it in rules].index("rocksalt-bans")]
    ways = opened(open_before_bans, version, "-s")
    ports = {port for _, _, port, who in listeners(seen) if '"sshd"' in who}
    if not ports and not seen["socket"].code:
        by_systemd = {port for _, _, port, who in listeners(seen) if '"systemd"' in who}
        ports = by_systemd & {*wanted.baseline.families["sshd"].settings["ports"]}
    for net in nets:
        if net.version == version:
            assert {port for where, kind, port in ways if where == str(net)} >= ports != set()


@pytest.mark.controls("FW-011")
def test_nothing_listens_everywhere_in_vain(
    seen: Look, wanted: Expected, settings: dict[str, Any]
) -> None:
    reached = {
        it[1:]
        for version in (4, 6)
        for setting in ("allow", "published")
        for it in permissions(wanted, setting, version)
    }
    raw_ports = {p for v in (4, 6) for it in raw(seen, v, "input") for p in it.ports}
    known = {tuple(it.split("/")) for it in settings["listeners_behind_firewall"]}
    vain = set()
    for kind, address, port, _ in listeners(seen):
        client = kind == "udp" and port in (68, 546)
        expected = client or (kind, str(port)) in known or (kind, port) in reached
        everywhere = ipaddress.ip_address(address).is_unspecified
        if everywhere and not expected and port not in raw_ports:
            vain.add(f"{kind}/{port}")
    assert vain == set()


@pytest.mark.controls("FW-012")
def test_something_answers_on_every_open_port(seen: Look, wanted: Expected) -> None:
    reached = {it[1:] for version in (4, 6) for it in permissions(wanted, "allow", version)}
    answering = {(kind, port) for kind, _, port, _ in listeners(seen)}
    assert {it for it in reached if it[0] == "tcp"} - answering == set()


@pytest.mark.controls("FW-013")
def test_the_last_change_was_confirmed(seen: Look) -> None:
    assert "/var/lib/rocksalt/firewall-rolled-back" not in seen["failed"].lines

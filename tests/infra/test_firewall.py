"""The packet filter: what the kernel has, what is loaded at boot, and what listens behind it."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest

from .asking import Look
from .pillars import Expected
from .rules import NOWHERE, Filter, Rule, table

FAMILY = "firewall"
VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
EVERYBODY = {4: "0.0.0.0/0", 6: "::/0"}
UNIT, GUARD = "rocksalt-firewall.service", "rocksalt-firewall-guard.timer"
LOADER = "/etc/rocksalt/firewall/load"
OTHERS = "nftables netfilter-persistent ufw firewalld ferm firehol shorewall shorewall6"
TABLES = {"filter", "nat", "mangle", "raw", "security"}
Permission = tuple[str, str, int]  # from where, tcp or udp, which port


def look(wanted: Expected) -> dict[str, str]:
    show = (
        "systemctl show -p Id,ActiveState,UnitFileState,ExecStart,DropInPaths,FragmentPath,Before"
    )
    return {
        "live4": "iptables-save",
        "live6": "ip6tables-save",
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
    }


def live(seen: Look, version: int) -> Filter:
    assert not seen[f"live{version}"].code, seen[f"live{version}"].text
    return table(seen[f"live{version}"].lines)


def permissions(wanted: Expected, setting: str, version: int) -> set[Permission]:
    """What the pillar lets in (``allow``) or out (``egress``)."""
    own = wanted.baseline.families[FAMILY].settings
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


def raw(settings: dict[str, Any], version: int, chain: str) -> int:
    """How many rules of the pillar are in iptables' own words, whatever they say."""
    return len(settings["raw_rules"].get(f"ipv{version}", {}).get(chain, ()))


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
    rules = live(seen, version).of("rocksalt-input")
    declared = permissions(wanted, "allow", version)
    found = opened(rules, version, "-s")
    assert declared <= found
    free = raw(settings, version, "input")
    assert len(found - declared) <= free
    wide = [it for it in rules if it.target == "ACCEPT" and not _narrow(it)]
    assert len(wide) <= free, [*map(str, wide)]
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
def test_nothing_decides_before(seen: Look, version: int) -> None:
    found = live(seen, version)
    for chain, ours in (("INPUT", "rocksalt-input"), ("OUTPUT", "rocksalt-output")):
        foreign = [it for it in found.of(chain) if not _ban(it)]
        assert [str(it) for it in foreign[:1]] == [f"-A {chain} -j {ours}"]
        if chain == "INPUT":
            assert len(foreign) == 1, [*map(str, foreign)]
    assert [it.target for it in found.of("FORWARD") if not _ban(it)][:1] == ["rocksalt-forward"]
    free = [str(it) for it in found.of("rocksalt-bans") if not it.target.startswith("f2b-")]
    assert free == []
    verdicts = [it.target for it in found.rules if it.chain == "rocksalt-input"]
    before = verdicts[: verdicts.index("rocksalt-bans")]
    assert set(before) == {"ACCEPT"}


def _ban(rule: Rule) -> bool:
    """A response of OSSEC: one address is dropped."""
    return rule.target == "DROP" and rule.words[:1] == ("-s",) and len(rule.words) == 4


@VERSIONS
@pytest.mark.controls("FW-004")
def test_what_passes_through(seen: Look, settings: dict[str, Any], version: int) -> None:
    rules = live(seen, version).of("rocksalt-forward")
    verdicts = [it for it in rules if it.target not in NOWHERE]
    others = set(settings["foreign"]) - {"fail2ban", "ossec"}
    end = [] if others else ["-j DROP"]
    assert [" ".join(it.words) for it in verdicts[-1:]][: len(end)] == end
    assert len(verdicts) - len(end) == raw(settings, version, "forward")


@VERSIONS
@pytest.mark.controls("FW-005")
def test_what_goes_out(
    seen: Look, settings: dict[str, Any], wanted: Expected, version: int
) -> None:
    found = live(seen, version)
    rules = found.of("rocksalt-output")
    if settings["output"] == "allow":
        assert found.policies["OUTPUT"] == "ACCEPT"
        assert len(rules) == raw(settings, version, "output"), [*map(str, rules)]
        return
    assert found.policies["OUTPUT"] == "DROP" and rules[-1].target == "REJECT"
    assert permissions(wanted, "egress", version) <= opened(rules, version, "-d")


@VERSIONS
@pytest.mark.controls("FW-006")
def test_the_rules_on_disk_are_those_in_force(seen: Look, version: int) -> None:
    for chain in ("rocksalt-input", "rocksalt-forward", "rocksalt-output"):
        disk = table(seen[f"disk{version}"].lines).of(chain)
        assert [*map(str, disk)] == [*map(str, live(seen, version).of(chain))]
    assert not seen["emergency"].code, seen["emergency"].text


@pytest.mark.controls("FW-007")
def test_they_are_loaded_at_boot(seen: Look) -> None:
    unit = seen["units"].blocks[UNIT]
    assert (unit["ActiveState"], unit["UnitFileState"]) == ("active", "enabled")
    assert unit["FragmentPath"] == f"/etc/systemd/system/{UNIT}" and not unit["DropInPaths"]
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
    assert not guard["DropInPaths"]


@pytest.mark.controls("FW-009")
def test_no_other_rule_set_decides(seen: Look) -> None:
    assert not seen["nft"].code, seen["nft"].text
    chains = [it["chain"] for it in json.loads(seen["nft"].text)["nftables"] if "chain" in it]
    hooked = [it for it in chains if "hook" in it]
    strange = [
        it for it in hooked if it["family"] not in ("ip", "ip6") or it["table"] not in TABLES
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
    ports = {
        int(line.split()[4].rsplit(":", 1)[1])
        for line in seen["listening"].lines
        if '"sshd"' in line
    }
    for net in nets:
        if net.version == version:
            assert {port for where, kind, port in ways if where == str(net)} >= ports != set()


@pytest.mark.controls("FW-011")
def test_nothing_listens_everywhere_in_vain(
    seen: Look, wanted: Expected, settings: dict[str, Any]
) -> None:
    reached = {it[1:] for version in (4, 6) for it in permissions(wanted, "allow", version)}
    known = {tuple(it.split("/")) for it in settings["listeners_behind_firewall"]}
    vain = set()
    for line in seen["listening"].lines:
        kind, address, port = line.split()[0], *line.split()[4].rsplit(":", 1)
        everywhere = address.split("%")[0].strip("[]") in ("0.0.0.0", "::", "*")
        client = kind == "udp" and port in ("68", "546")
        expected = client or (kind, port) in known or (kind, int(port)) in reached
        if everywhere and not expected:
            vain.add(f"{kind}/{port}")
    assert vain == set()


@pytest.mark.controls("FW-012")
def test_something_answers_on_every_open_port(seen: Look, wanted: Expected) -> None:
    reached = {it[1:] for version in (4, 6) for it in permissions(wanted, "allow", version)}
    answering = {
        (line.split()[0], int(line.split()[4].rsplit(":", 1)[1]))
        for line in seen["listening"].lines
    }
    assert {it for it in reached if it[0] == "tcp"} - answering == set()


@pytest.mark.controls("FW-013")
def test_the_last_change_was_confirmed(seen: Look) -> None:
    assert "/var/lib/rocksalt/firewall-rolled-back" not in seen["failed"].lines

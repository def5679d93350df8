"""tests/infra: rules of the packet filter, as iptables-save shows them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from infra import packets
from infra import test_firewall as firewall
from infra.asking import Answer
from infra.rules import rule, table

SAVED = """\
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -j DNAT
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [5:300]
:rocksalt-bans - [0:0]
:rocksalt-input - [0:0]
-A INPUT -j rocksalt-input
-A rocksalt-input -i lo -j ACCEPT
-A rocksalt-input -s 10.0.0.0/24 -p tcp -m tcp --dport 22 -m comment --comment "ssh, all" -j ACCEPT
-A rocksalt-input -j rocksalt-bans
-A rocksalt-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A rocksalt-input -m conntrack --ctstate INVALID -j DROP
-A rocksalt-input -j DROP
COMMIT
"""


def wanted(**allow: list[str]) -> Any:
    services = {"ssh": {}, "http": {"tcp": [80]}, "dns": {"tcp": [53], "udp": [53]}}
    settings = {"allow": allow, "services": services, "raw_rules": {}, "foreign": []}
    families = {
        "firewall": SimpleNamespace(settings=settings),
        "sshd": SimpleNamespace(settings={"ports": [22]}),
    }
    networks = {"management": ["10.0.0.0/24", "2001:db8::/64"]}
    return SimpleNamespace(baseline=SimpleNamespace(families=families, networks=networks))


def seen(old: str = "", new: str = "") -> dict[str, Answer]:
    assert old in SAVED
    live = Answer(SAVED.replace(old, new) if old else SAVED, 0)
    return {"live4": live, "raw4": Answer("", 0), "raw6": Answer("", 0)}


def test_a_rule() -> None:
    found = rule('-A rocksalt-input -s 10.0.0.0/24 -p tcp --dport 22 -m comment --comment "a" -j X')
    assert (found.chain, found.option("-s"), found.ports) == ("rocksalt-input", "10.0.0.0/24", [22])
    assert (found.target, "comment" in found.words) == ("X", False)
    assert rule("-A X ! -s 10.0.0.1/32 -j DROP").option("-s") == ""
    assert rule("-A X -p tcp -m multiport --dports 80,443 -j ACCEPT").ports == [80, 443]
    assert rule("-A X -p tcp -m multiport --dports 22,80:82 -j X").ports == [22, 80, 81, 82]


def test_only_the_table_filter_counts() -> None:
    found = table(SAVED.splitlines())
    assert found.policies["INPUT"] == "DROP" and "PREROUTING" not in found.policies
    assert len(found.of("rocksalt-input")) == 6


def test_what_the_pillar_permits() -> None:
    everything = wanted(ssh=["management"], http=["public"], dns=["nobody"])
    assert packets.permissions(everything, "allow", 4) == {
        ("10.0.0.0/24", "tcp", 22),
        ("0.0.0.0/0", "tcp", 80),
    }
    assert ("2001:db8::/64", "tcp", 22) in packets.permissions(everything, "allow", 6)


GOOD: dict[str, Any] = {"raw_rules": {}, "allow": {}}


def test_a_host_as_declared_passes() -> None:
    firewall.test_default_is_drop(seen(), GOOD, 4)
    firewall.test_what_comes_in(seen(), GOOD, wanted(ssh=["management"]), 4)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--dport 22", "--dport 23"),
        ("-s 10.0.0.0/24 ", ""),
        ("-A rocksalt-input -i lo", "-A rocksalt-input -j ACCEPT\n-A rocksalt-input -i lo"),
        ("-A rocksalt-input -j DROP\n", ""),
        ("-A rocksalt-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n", ""),
        ("--ctstate INVALID -j DROP", "--ctstate INVALID -j ACCEPT"),
    ],
)
def test_what_is_not_declared_fails(old: str, new: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        firewall.test_what_comes_in(seen(old, new), GOOD, wanted(ssh=["management"]), 4)


@pytest.mark.parametrize(
    ("old", "new"), [(":INPUT DROP", ":INPUT ACCEPT"), ("-A rocksalt-input -j DROP\n", "")]
)
def test_a_default_that_lets_in_fails(old: str, new: str) -> None:
    with pytest.raises(AssertionError):
        firewall.test_default_is_drop(seen(old, new), GOOD, 4)

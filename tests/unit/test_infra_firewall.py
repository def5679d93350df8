"""tests/infra: a host with Docker, libvirt and raw rules is as declared, and is seen where not."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest
from infra import packets
from infra import test_firewall as firewall
from infra.asking import Answer

RAW = "-s 10.5.0.0/16 -p tcp -m multiport --dports 8080,9000:9001 -j ACCEPT"
SAVED = f"""\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [5:300]
:DOCKER - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-USER - [0:0]
:LIBVIRT_FWO - [0:0]
:LIBVIRT_INP - [0:0]
:rocksalt-bans - [0:0]
-A INPUT -j LIBVIRT_INP
-A INPUT -j rocksalt-input
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A FORWARD -j LIBVIRT_FWO
-A FORWARD -j rocksalt-forward
-A OUTPUT -j LIBVIRT_OUT
-A OUTPUT -j rocksalt-output
-A DOCKER-USER -j rocksalt-docker
-A DOCKER-USER -j RETURN
-A rocksalt-bans -p tcp -m multiport --dports 22 -j f2b-sshd
-A rocksalt-docker -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A rocksalt-docker -m conntrack ! --ctstate DNAT -j RETURN
-A rocksalt-docker -i docker0 -j RETURN
-A rocksalt-docker -i br-+ -j RETURN
-A rocksalt-docker -p tcp -m conntrack --ctstate DNAT --ctorigdstport 80 -j RETURN
-A rocksalt-docker -m limit --limit 10/min -j LOG --log-prefix "rocksalt-drop-docker: "
-A rocksalt-docker -j DROP
-A rocksalt-input -i lo -j ACCEPT
-A rocksalt-input -s 10.0.0.0/24 -p tcp -m tcp --dport 22 -j ACCEPT
-A rocksalt-input -j rocksalt-bans
-A rocksalt-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A rocksalt-input -m conntrack --ctstate INVALID -j DROP
-A rocksalt-input {RAW}
-A rocksalt-input -j DROP
COMMIT
"""
LISTENING = """\
tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=5,fd=3))
tcp LISTEN 0 128 127.0.0.1:6010 0.0.0.0:* users:(("sshd",pid=9,fd=3))
tcp LISTEN 0 128 0.0.0.0:80 0.0.0.0:* users:(("docker-proxy",pid=6,fd=3))
tcp LISTEN 0 128 *:9001 *:* users:(("java",pid=7,fd=3))
udp UNCONN 0 0 0.0.0.0%lo:67 0.0.0.0:* users:(("dnsmasq",pid=8,fd=3))
udp UNCONN 0 0 [fe80::1%eth0]:546 [::]:* users:(("systemd-network",pid=4,fd=3))
"""
SETTINGS: dict[str, Any] = {
    "allow": {"ssh": ["management"]},
    "published": {"http": ["public"]},
    "services": {"ssh": {}, "http": {"tcp": [80]}},
    "foreign": ["docker", "libvirt"],
    "raw_rules": {"ipv4": {"input": [RAW]}},
    "listeners_behind_firewall": [],
    "output": "allow",
}
FAMILIES = {
    "firewall": SimpleNamespace(settings=SETTINGS),
    "sshd": SimpleNamespace(settings={"ports": [22]}),
    "fail2ban": SimpleNamespace(settings={"enabled": True}),
}
NETWORKS = {"management": ["10.0.0.0/24"]}
WANTED: Any = SimpleNamespace(baseline=SimpleNamespace(families=FAMILIES, networks=NETWORKS))


def seen(old: str = "", new: str = "", listening: str = LISTENING) -> dict[str, Answer]:
    assert old in SAVED
    nft = [{"chain": {"family": "ip", "table": "libvirt_network", "hook": "forward"}}]
    return {
        "live4": Answer(SAVED.replace(old, new, 1) if old else SAVED, 0),
        "raw4": Answer(f"*filter\n-A rocksalt-input {RAW}\nCOMMIT\n", 0),
        "raw6": Answer("", 0),
        "listening": Answer(listening, 0),
        "nft": Answer(json.dumps({"nftables": nft}), 0),
        "others": Answer("", 0),
        "ufw": Answer("", 1),
        "socket": Answer("", 3),
    }


def all_of(answers: dict[str, Answer], excused: dict[str, Any] | None = None) -> None:
    firewall.test_what_comes_in(answers, SETTINGS, WANTED, 4)
    firewall.test_nothing_decides_before(answers, WANTED, excused or {}, 4)
    firewall.test_what_passes_through(answers, SETTINGS, WANTED, 4)
    firewall.test_what_goes_out(answers, SETTINGS, WANTED, 4)
    firewall.test_no_other_rule_set_decides(answers, WANTED)
    firewall.test_administrators_reach_sshd(answers, WANTED, 4)
    firewall.test_nothing_listens_everywhere_in_vain(answers, WANTED, SETTINGS)
    firewall.test_something_answers_on_every_open_port(answers, WANTED)


def test_a_host_as_declared_passes() -> None:
    all_of(seen())
    all_of(seen("-A FORWARD -j rocksalt-forward\n", ""), {"FW-004": ("waived", "until May")})
    all_of(seen("-A OUTPUT -j rocksalt-output\n", ""), {"FW-005": ("waived", "until May")})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (RAW, "-p tcp -m tcp --dport 3306 -j ACCEPT"),
        (f"-A rocksalt-input {RAW}\n", ""),
        ("-A INPUT -j LIBVIRT_INP", "-A INPUT -j DOCKER"),
        ("-A INPUT -j LIBVIRT_INP", "-A INPUT -p tcp -m tcp --dport 81 -j ACCEPT"),
        ("-A INPUT -j rocksalt-input", "-A INPUT -j rocksalt-input\n-A INPUT -j ACCEPT"),
        ("-A FORWARD -j DOCKER-USER\n", ""),
        ("-A FORWARD -j DOCKER-FORWARD", "-A FORWARD -i eth0 -j ACCEPT"),
        ("-A FORWARD -j LIBVIRT_FWO", "-A FORWARD ! -i docker0 -j ACCEPT"),
        ("-A FORWARD -j rocksalt-forward\n", ""),
        ("-A DOCKER-USER -j rocksalt-docker", "-A DOCKER-USER -j RETURN"),
        ("-A rocksalt-docker -j DROP\n", ""),
        ("--ctorigdstport 80", "--ctorigdstport 81"),
        ("-i br-+ -j RETURN", "-i eth0 -j RETURN"),
        ("-j f2b-sshd", "-j ACCEPT"),
    ],
)
def test_what_is_not_declared_fails(old: str, new: str) -> None:
    with pytest.raises(AssertionError):
        all_of(seen(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.0.0.0:22", "127.0.0.1:22"),  # open, and nothing answers from outside
        ("0.0.0.0:22", "0.0.0.0:2222"),
        ("*:9001", "*:9002"),
        ("0.0.0.0:80", "0.0.0.0:81"),
        ("0.0.0.0%lo:67", "0.0.0.0:67"),
    ],
)
def test_who_listens_in_vain_or_not_at_all_fails(old: str, new: str) -> None:
    with pytest.raises(AssertionError):
        all_of(seen(listening=LISTENING.replace(old, new)))


def test_sshd_that_systemd_starts_is_reached() -> None:
    started = LISTENING.replace('("sshd",pid=5', '("systemd",pid=1')
    with pytest.raises(AssertionError):
        firewall.test_administrators_reach_sshd(seen(listening=started), WANTED, 4)
    by_socket = {"socket": Answer("", 0)}
    firewall.test_administrators_reach_sshd(seen(listening=started) | by_socket, WANTED, 4)
    elsewhere = seen(listening=started.replace("0.0.0.0:22", "0.0.0.0:23")) | by_socket
    with pytest.raises(AssertionError):
        firewall.test_administrators_reach_sshd(elsewhere, WANTED, 4)


def test_a_table_of_nobody_fails() -> None:
    answers = seen()
    answers["nft"] = Answer(answers["nft"].text.replace("libvirt_network", "mine"), 0)
    with pytest.raises(AssertionError):
        firewall.test_no_other_rule_set_decides(answers, WANTED)


def test_raw_rules_that_iptables_refuses_are_no_rules() -> None:
    answers = seen() | {"raw4": Answer("iptables-restore: line 4 failed", 1)}
    with pytest.raises(AssertionError, match="line 4 failed"):
        firewall.test_what_comes_in(answers, SETTINGS, WANTED, 4)


def test_raw_rules_come_to_iptables_as_they_are() -> None:
    rule = '-p tcp --dport 1 -m comment --comment "it\'s $(id) `id` \\\\n 100%" -j ACCEPT'
    declared = {**SETTINGS, "raw_rules": {"ipv6": {"input": [rule]}}}
    baseline = SimpleNamespace(families={"firewall": SimpleNamespace(settings=declared)})
    wanted: Any = SimpleNamespace(baseline=baseline)
    command = packets.as_saved(wanted, 6)
    fake = 'unshare() { [ "$4" = "ip6tables-restore --noflush --wait 10 && ip6tables-save -t '
    fake += 'filter" ] && cat; }\n'
    done = subprocess.run(["sh", "-c", fake + command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"-A rocksalt-input {rule}\nCOMMIT\n" in done.stdout
    assert packets.as_saved(wanted, 4) == ":"

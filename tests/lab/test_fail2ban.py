"""The family fail2ban on real hosts: an attacker is banned from outside, and stays banned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import runs
from rocksalt_lab import Host, Lab
from rocksalt_lab.lab import NETWORKS

ENFORCED = "bans are made and last"
FILE = "/etc/fail2ban/jail.d/zz-rocksalt.local"
TO_CUSTOMERS = {
    "networks": {**NETWORKS, "customers": ["10.79.0.64/26"]},
    "firewall": {"allow": {"ssh": ["management", "customers"]}},
}
WRONG_KEY = "/root/wrong"


@pytest.fixture
def host(web2: Host) -> Host:
    runs.conform(web2)
    return web2


@pytest.fixture
def served(pillar: Host, host: Host, attacker: Host) -> Iterator[Host]:
    """A host on which the attacker reaches sshd, and nobody is banned."""
    for source in (pillar, attacker):
        source.run(f"rm -f {WRONG_KEY}*; ssh-keygen -q -t ed25519 -N '' -f {WRONG_KEY}")
    runs.set_pillar(pillar, TO_CUSTOMERS)
    assert not runs.apply(host).failed
    with runs.without_penalties(host):
        yield host
    host.run("fail2ban-client unban --all")
    runs.set_pillar(pillar, {})
    assert not runs.apply(host).failed


def try_wrong_key(lab: Lab, source: Host, target: Host, times: int = 1) -> str:
    """What ssh says to the last of so many attempts."""
    said = [lab.ssh(source, "ops", target, "id", WRONG_KEY).stderr for _ in range(times)]
    return said[-1]


def banned(host: Host) -> str:
    """The live rules for banned addresses, as fail2ban is told to make them."""
    return host.run("iptables -S f2b-sshd", check=False).stdout


def test_who_keeps_failing_is_banned_and_stays_so(
    lab: Lab, pillar: Host, served: Host, attacker: Host
) -> None:
    rule = f"-A f2b-sshd -s {attacker.ip}/32 -j REJECT"
    assert "Permission denied" in try_wrong_key(lab, attacker, served, times=5)
    served.wait_for(f"iptables -S f2b-sshd | grep -q -- '{rule}'")
    assert "-j f2b-sshd" in served.run("iptables -S rocksalt-bans").stdout
    assert "Connection refused" in try_wrong_key(lab, attacker, served)
    assert f"[sshd] Ban {attacker.ip}" in served.read("/var/log/fail2ban.log")

    assert "Permission denied" in try_wrong_key(lab, pillar, served, times=8)
    assert runs.administrator_gets_in(lab, pillar, served)
    assert pillar.ip not in banned(served)

    assert not runs.apply(served).changes and not runs.differing(served)
    assert rule in banned(served), "a highstate lifted the ban"
    served.run("systemctl restart rocksalt-firewall.service")
    assert rule in banned(served), "loading the firewall lifted the ban"
    served.run("systemctl restart fail2ban")
    served.wait_for(f"iptables -S f2b-sshd | grep -q -- '{rule}'")

    served.reboot()
    for source in (pillar, attacker):
        source.run("ip neigh flush all")  # unlike a machine, a lab host comes back with another MAC
    served.wait_for(f"iptables -S f2b-sshd | grep -q -- '{rule}'")
    assert "Connection refused" in try_wrong_key(lab, attacker, served)
    assert runs.administrator_gets_in(lab, pillar, served)
    assert not runs.differing(served)

    served.run(f"fail2ban-client unban {attacker.ip}")
    assert "Permission denied" in try_wrong_key(lab, attacker, served)
    assert rule not in banned(served)


def test_a_ban_of_somebody_who_comes_back_is_longer(host: Host) -> None:
    attempts = "fail2ban-client set sshd attempt 192.0.2.66 1 2 3 4 5"
    is_banned = "fail2ban-client get sshd banip --with-time | grep 192.0.2.66"
    host.run("fail2ban-client set sshd bantime 2")
    host.run(attempts)
    host.wait_for(is_banned)
    host.wait_for(f"! {is_banned}")
    host.run(attempts)
    host.wait_for(f"{is_banned} | grep -q ' + 4 = '")
    host.run("fail2ban-client reload; fail2ban-client unban --all")


def test_a_jail_that_cannot_run_is_refused_and_the_others_go_on(pillar: Host, host: Host) -> None:
    before, pid = host.read(FILE), host.run("systemctl show -P MainPID fail2ban").stdout
    web = {"filter": "nginx-http-auth", "logs": ["/var/log/nginx/error.log"]}
    cases = {
        "Have not found any log file for web jail": web,
        "has no filter 'nginx-auth'; did you mean 'nginx-http-auth'?": {"filter": "nginx-auth"},
    }
    for words, jail in cases.items():
        runs.set_pillar(pillar, {"fail2ban": {"jails": {"web": jail}}})
        assert words in runs.apply(host, "hardening.fail2ban").failed[ENFORCED]
        assert host.read(FILE) == before
        assert host.run("systemctl show -P MainPID fail2ban").stdout == pid


def test_a_jail_of_a_role_reads_its_file(pillar: Host, host: Host) -> None:
    host.write("/var/log/web.log", "")
    web = {"filter": "nginx-http-auth", "logs": ["/var/log/web*.log"], "ports": [80, 443]}
    settings = {"fail2ban": {"jails": {"web": {**web, "max_retry": 3}}}}
    runs.set_pillar(pillar, {"roles": {"web": {"minions": ["web*"], "settings": settings}}})
    assert not runs.apply(host, "hardening.fail2ban").failed
    assert not runs.differing(host, families="fail2ban")
    stamp = host.run("date +'%Y/%m/%d %H:%M:%S'").stdout.strip()
    failure = f'{stamp} [error] 1#1: *1 user "x": password mismatch, client: 192.0.2.9, '
    line = f'{failure}server: x, request: "GET / HTTP/1.1", host: "x"'
    host.run("cat >> /var/log/web.log", input=f"{line}\n" * 3)
    host.wait_for("iptables -S f2b-web | grep -q -- '-s 192.0.2.9/32 -j REJECT'")
    assert "--dports 80,443 -j f2b-web" in host.run("iptables -S rocksalt-bans").stdout
    runs.set_pillar(pillar, {})
    assert not runs.apply(host, "hardening.fail2ban").failed
    assert "f2b-web" not in host.run("iptables -S").stdout
    assert not runs.differing(host, families="fail2ban")


def test_without_management_networks_a_person_is_told(pillar: Host, host: Host) -> None:
    runs.set_pillar(pillar, {"networks": {}})
    run = runs.apply(host, "hardening.fail2ban")
    assert not run.failed
    assert any("F2B-016" in warning for warning in run[ENFORCED]["warnings"])
    assert "hardening:networks:management is not set" in runs.differing(host)["F2B-016"]
    runs.set_pillar(pillar, {})
    assert not runs.apply(host, "hardening.fail2ban").failed


def test_clean_takes_away_what_is_ours_and_keeps_bans(host: Host) -> None:
    foreign = "/etc/fail2ban/jail.d/zzz-foreign.local"
    host.write(foreign, "[sshd]\nignoreip = 192.0.2.0/24\n  192.0.3.0/24\n")
    host.run("fail2ban-client set sshd banip 198.51.100.7")
    assert not runs.apply(host, "hardening.fail2ban").failed
    disabled = "# disabled by rocksalt: ignoreip = 192.0.2.0/24\n# disabled by rocksalt:   192.0"
    assert disabled in host.read(foreign)
    try:
        assert runs.apply(host, "hardening.fail2ban.clean", test=True).changes
        assert not runs.apply(host, "hardening.fail2ban.clean").failed
        assert not runs.apply(host, "hardening.fail2ban.clean").changes
        assert host.read(foreign) == "[sshd]\nignoreip = 192.0.2.0/24\n  192.0.3.0/24\n"
        assert not host.run("grep -rl rocksalt /etc/fail2ban", check=False).stdout
        assert "198.51.100.7" in host.run("fail2ban-client get sshd banip").stdout
    finally:
        host.run(f"rm {foreign}; fail2ban-client unban --all")
        assert not runs.apply(host, "hardening.fail2ban").failed

"""The family firewall on real hosts: it keeps out who is not declared, and never locks out."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import runs
from rocksalt_lab import Host, Lab
from runs import administrator_gets_in

MASTER, ATTACKER = "10.79.0.1/32", "10.79.0.66/32"
ENFORCED = "the packet filter lets in what is declared"
SAFE = "administrators keep a way in through the packet filter"
PENDING = "systemctl is-active --quiet rocksalt-firewall-rollback.timer"
NOBODY_KNOCKS = "-p tcp --dport 22 -j DROP"
FOREIGN = """
for tool in iptables ip6tables; do
    $tool -N KUBE-SERVICES; $tool -A KUBE-SERVICES -j RETURN
    $tool -N f2b-web; $tool -A f2b-web -j RETURN
    $tool -I INPUT -p tcp --dport 443 -j f2b-web
done
iptables -I f2b-web -s 192.0.2.7 -j REJECT
"""


@pytest.fixture(scope="module")
def conforming(web1: Host) -> Host:
    runs.conform(web1)
    return web1


@pytest.fixture
def host(conforming: Host) -> Host:
    """A host with the rules of the lab's own pillar, whatever the test before declared."""
    assert not runs.apply(conforming, "hardening.firewall").failed
    return conforming


@pytest.fixture
def serving(host: Host) -> Iterator[Host]:
    """A host on which something listens on 443 and 5432, IPv4 and IPv6."""
    for port in (443, 5432):
        host.run(f"systemd-run --unit=serve-{port} nc -lk :: {port}")
    host.wait_for("ss -Htln | grep -q :5432")
    yield host
    host.run("systemctl stop serve-443 serve-5432", check=False)


def reaches(source: Host, target: str, port: int) -> bool:
    """Whether a new TCP connection comes about, at the second attempt where a queue was full."""
    return not source.run(["nc", "-z", "-w", "2", target, str(port)], check=False).returncode


def link_local(host: Host) -> str:
    """The IPv6 address of a host as another one of the same network writes it."""
    shown = host.run("ip -6 -brief address show dev eth0 scope link").stdout.split()
    return shown[2].split("/")[0] + "%eth0"


def rules(host: Host) -> str:
    """The live rules of both versions, without counters."""
    saved = "iptables-save -t filter; ip6tables-save -t filter"
    return host.run(f"({saved}) | sed -n 's/ \\[.*\\]$//; /^[:-]/p'").stdout


def allow(pillar: Host, networks: dict[str, list[str]] | None = None, **firewall: object) -> None:
    """A pillar with these firewall settings; a change waits ten seconds for its confirmation."""
    settings = {"confirm_within": 10, **firewall}
    named = {"management": [MASTER], **(networks or {})}
    runs.set_pillar(pillar, {"networks": named, "firewall": settings})


# What it lets in -----------------------------------------------------------------------------


def test_only_what_is_declared_gets_in(
    lab: Lab, pillar: Host, attacker: Host, serving: Host
) -> None:
    v6 = link_local(serving)
    for port in (22, 443, 5432):
        assert not reaches(attacker, serving.ip, port)
        assert not reaches(attacker, v6, port)
    assert administrator_gets_in(lab, pillar, serving)
    roles = {
        "web": {"minions": ["web1"], "settings": {"firewall": {"allow": {"https": ["public"]}}}}
    }
    database = {"allow": {"postgresql": ["office"]}, "confirm_within": 10}
    networks = {"management": [MASTER], "office": [ATTACKER]}
    runs.set_pillar(pillar, {"networks": networks, "roles": roles, "firewall": database})
    assert not runs.apply(serving, "hardening.firewall").failed
    assert reaches(attacker, serving.ip, 443) and reaches(attacker, v6, 443)
    assert reaches(attacker, serving.ip, 5432), "the office's IPv4"
    assert not reaches(attacker, v6, 5432), "the office has no IPv6 network"
    assert not reaches(attacker, serving.ip, 22)
    assert not runs.apply(serving, "hardening.firewall").changes
    rows = {row["port"]: row for row in serving.salt_call("firewall.explain").value}
    assert rows["tcp/443"] == {
        "port": "tcp/443",
        "reachable from": "0.0.0.0/0 (public), ::/0 (public)",
        "why": "hardening:roles:web:settings:firewall:allow:https",
        "served by": "nc as root on any address",
    }
    assert rows["tcp/5432"]["reachable from"] == f"{ATTACKER} (office)"
    assert "sshd as root" in rows["tcp/22"]["served by"]


def test_one_address_opens_only_so_many_connections(
    pillar: Host, attacker: Host, serving: Host
) -> None:
    allow(pillar, allow={"https": ["public"]}, limits={"https": "6/hour"})
    assert not runs.apply(serving, "hardening.firewall").failed
    assert [reaches(attacker, serving.ip, 443) for _ in range(8)] == [True] * 6 + [False] * 2
    assert reaches(pillar, serving.ip, 443), "another address has its own count"


def test_chains_of_others_and_their_bans_survive(pillar: Host, host: Host) -> None:
    host.run(FOREIGN)
    try:
        allow(pillar, allow={"https": ["public"]})
        assert not runs.apply(host, "hardening.firewall").failed
        live = host.run("iptables-save -t filter").stdout
        assert "-A f2b-web -s 192.0.2.7/32 -j REJECT" in live and "-A KUBE-SERVICES" in live
        assert "-A rocksalt-bans -p tcp -m tcp --dport 443 -j f2b-web" in live, "bans in force"
        first = next(line for line in live.splitlines() if line.startswith("-A INPUT"))
        assert first == "-A INPUT -j rocksalt-input", "administrators before bans"
    finally:
        host.run(
            "for t in iptables ip6tables; do $t -F rocksalt-bans; $t -D INPUT -p tcp --dport 443"
            " -j f2b-web; $t -F f2b-web; $t -X f2b-web; $t -F KUBE-SERVICES; $t -X KUBE-SERVICES;"
            " done"
        )


def test_what_docker_publishes_is_let_in_as_declared(
    pillar: Host, attacker: Host, host: Host
) -> None:
    """A container is a network namespace, its published port a rule as Docker writes it."""
    host.run(
        "ip netns add box; ip link add docker0 type veth peer name eth0 netns box;"
        "ip address add 172.17.0.1/16 dev docker0; ip link set docker0 up;"
        "ip -n box address add 172.17.0.2/16 dev eth0; ip -n box link set eth0 up;"
        "ip -n box route add default via 172.17.0.1; sysctl -qw net.ipv4.ip_forward=1;"
        "systemd-run --unit=box ip netns exec box nc -lk 80;"
        "iptables -N DOCKER; iptables -N DOCKER-USER; iptables -A DOCKER-USER -j RETURN;"
        "iptables -A DOCKER -d 172.17.0.2 ! -i docker0 -o docker0 -p tcp --dport 80 -j ACCEPT;"
        "iptables -I FORWARD -o docker0 -j DOCKER; iptables -I FORWARD -j DOCKER-USER;"
        "iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT;"
        "iptables -A FORWARD -i docker0 -j ACCEPT;"
        "iptables -t nat -A PREROUTING -p tcp --dport 8000 -j DNAT --to-destination 172.17.0.2:80"
    )
    try:
        allow(pillar, foreign=["fail2ban", "docker"])
        assert not runs.apply(host, "hardening.firewall").failed
        host.run("iptables -D DOCKER-USER -j rocksalt-docker")
        assert reaches(attacker, host.ip, 8000), "as Docker has it: past every rule of INPUT"
        assert "DOCKER-USER does not lead to" in runs.differing(host)["FW-003"]
        assert not runs.apply(host, "hardening.firewall").failed
        assert not reaches(attacker, host.ip, 8000)
        allow(pillar, {"office": [ATTACKER]}, foreign=["fail2ban", "docker"],
              published={"salt-api": ["office"]})  # fmt: skip
        assert not runs.apply(host, "hardening.firewall").failed
        assert reaches(attacker, host.ip, 8000)
        assert not reaches(pillar, host.ip, 8000), "the master is not in the office"
        assert host.run("sysctl -n net.ipv4.ip_forward").stdout.strip() == "1"
        assert not set(runs.differing(host, families="firewall"))
    finally:
        host.run(
            "systemctl stop box; ip6tables -F DOCKER-USER; ip6tables -X DOCKER-USER;"
            "iptables -t nat -F; iptables -F FORWARD; iptables -F DOCKER-USER;"
            "iptables -F DOCKER; iptables -X DOCKER; iptables -X DOCKER-USER;"
            "ip netns delete box; ip link delete docker0; sysctl -qw net.ipv4.ip_forward=0",
            check=False,
        )


# What it lets out ----------------------------------------------------------------------------


LEASE = """
ip link add link eth0 name lease0 type macvlan mode bridge; ip link set lease0 up
printf '[Match]\nName=lease0\n{network}' >/etc/systemd/network/10-lease.network
systemctl start systemd-networkd
"""
SERVER = (
    "[Network]\\nAddress=10.80.0.1/24\\nDHCPServer=yes\\n"
    "[DHCPServer]\\nDefaultLeaseTimeSec=60\\nEmitDNS=no\\n"
)
CLIENT = "[Network]\\nDHCP=ipv4\\nLinkLocalAddressing=no\\n[DHCPv4]\\nUseGateway=no\\n"
NO_LEASE = (
    "systemctl stop systemd-networkd.socket systemd-networkd;"
    "ip link delete lease0; rm /etc/systemd/network/10-lease.network"
)


@pytest.fixture
def provider(pillar: Host, host: Host) -> Iterator[Host]:
    """The master offers packages by HTTP, the time, and addresses; the host has a lease of it."""
    for one in (pillar, host):
        one.run("apt-get install -y -q chrony; systemctl disable -q --now chrony")
    pillar.run("systemd-run --unit=time chronyd -x -d 'local stratum 5' 'allow all'")
    pillar.run("systemd-run --unit=http python3 -m http.server 80 -d /srv")
    pillar.run(LEASE.format(network=SERVER))
    host.run(LEASE.format(network=CLIENT))
    host.wait_for("ip address show lease0 | grep -q 10.80.0")
    host.run("sed -i.file s,file:,http://10.79.0.1, /etc/apt/sources.list")
    host.run("sed -i s,/srv/apt,/apt, /etc/apt/sources.list")
    yield pillar
    host.run("mv /etc/apt/sources.list.file /etc/apt/sources.list; apt-get purge -y -q chrony")
    for one in (pillar, host):
        one.run(NO_LEASE, check=False)
    pillar.run("systemctl stop http time; apt-get purge -y -q chrony", check=False)


def lease(host: Host) -> int:
    """Seconds that the leased address has left."""
    (link,) = json.loads(host.run("ip -json -4 address show lease0").stdout)
    return int(link["addr_info"][0]["valid_life_time"])


def renewed(host: Host) -> bool:
    """Whether the address gets new time when the host asks its server, long before it would have to
    shout for any.
    """
    time.sleep(1)
    left = [lease(host)]
    while len(left) < 15 and left[-1] <= left[0]:
        host.run("networkctl renew lease0")
        time.sleep(1)
        left.append(lease(host))
    return left[-1] > left[0] > 15


def test_output_denied_leaves_what_keeps_a_host_alive(
    lab: Lab, provider: Host, attacker: Host, host: Host
) -> None:
    allow(provider, {"salt": [MASTER]}, output="deny")
    assert not runs.apply(host, "hardening.firewall").failed
    provider.run("systemd-run --unit=other nc -lk 8080")
    try:
        assert not reaches(host, provider.ip, 80), "root is not apt"
        assert not reaches(host, provider.ip, 8080)
        updated = host.run("rm -rf /var/lib/apt/lists/*; apt-get update").stdout
        assert "http://10.79.0.1/apt" in updated
        host.run(f"chronyd -Q -t 10 'server {provider.ip} iburst maxsamples 1'")
        assert renewed(host), "the lease of its address"
        provider.run("ip address add 169.254.169.254/32 dev eth0")
        host.run("ip route add 169.254.169.254/32 dev eth0")
        assert reaches(host, "169.254.169.254", 80), "root and the cloud's metadata"
        as_apt = "setpriv --reuid=_apt --clear-groups nc -z -w 2"
        host.run(f"{as_apt} {provider.ip} 80")
        assert host.run(f"{as_apt} 169.254.169.254 80", check=False).returncode
        assert host.salt_call("test.ping").value is True
        assert administrator_gets_in(lab, provider, host)
        assert not set(runs.differing(host, families="firewall"))
    finally:
        provider.run("systemctl stop other; ip address del 169.254.169.254/32 dev eth0", False)
        host.run("ip route del 169.254.169.254/32 dev eth0", check=False)


# Never lock anyone out -----------------------------------------------------------------------


def test_a_pillar_that_cuts_the_minion_off_is_undone(lab: Lab, pillar: Host, host: Host) -> None:
    before = rules(host)
    allow(pillar, {"salt": ["192.0.2.1/32"]}, output="deny")
    failed = runs.apply(host, "hardening.firewall").failed[ENFORCED]
    assert "a new connection to the master 10.79.0.1:4505 fails" in failed
    assert "the old rules are back" in failed
    assert rules(host) == before
    assert host.salt_call("test.ping").value is True


def test_a_pillar_that_keeps_salt_and_cuts_ssh_is_undone(
    lab: Lab, pillar: Host, host: Host
) -> None:
    before = rules(host)
    runs.set_pillar(
        pillar, {"networks": {"management": ["192.0.2.0/24"]}, "firewall": {"confirm_within": 10}}
    )
    failed = runs.apply(host, "hardening.firewall").failed[ENFORCED]
    assert "nobody from 192.0.2.0/24 opened a new connection to port 22 within 10 seconds" in failed
    assert rules(host) == before
    assert administrator_gets_in(lab, pillar, host)
    assert "nobody from 192.0.2.0/24" in runs.differing(host)["FW-013"]
    allow(pillar)
    assert not runs.apply(host, "hardening.firewall").failed
    assert not runs.differing(host)


def test_without_networks_for_management_nothing_is_touched(pillar: Host, web2: Host) -> None:
    web2.salt_call("saltutil.sync_all")
    web2.salt_call("firewall.clean")
    before = rules(web2)
    runs.set_pillar(pillar, {"networks": {}})
    run = runs.apply(web2, "hardening.firewall")
    assert "hardening:networks:management is empty" in run.failed[SAFE]
    assert rules(web2) == before and "rocksalt" not in before


def test_a_first_run_does_not_cut_who_is_connected(
    pillar: Host, web2: Host, attacker: Host
) -> None:
    web2.salt_call("firewall.clean")
    web2.run("systemd-run --unit=serve nc -lk 5432")
    web2.wait_for("ss -Htln | grep -q :5432")
    session = attacker.start(f"sleep 60 | nc {web2.ip} 5432")
    try:
        web2.wait_for("ss -Htn | grep -q :5432")
        failed = runs.apply(web2, "hardening.firewall").failed[SAFE]
        assert "10.79.0.66 to port 5432" in failed and "accept_cut" in failed
        allow(pillar, accept_cut=True)
        assert not runs.apply(web2, "hardening.firewall").failed
    finally:
        session.kill()
        web2.run("systemctl stop serve")


def test_killed_at_any_moment_nobody_is_locked_out(lab: Lab, pillar: Host, host: Host) -> None:
    """The change would cut ssh off. Each version has the old rules or the new ones, and the old
    ones are back when the clock has run down.
    """
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = [f"{random.Random(seed + n).uniform(0.0, 1.6):.3f}" for n in range(20)]
    before, seen = rules(host), dict[str, set[str]]()
    runs.set_pillar(
        pillar, {"networks": {"management": ["192.0.2.0/24"]}, "firewall": {"confirm_within": 10}}
    )
    host.write("/root/kill.py", (Path(__file__).parent / "on_host/kill.py").read_text())
    words = [runs.PYTHON, "-W", "ignore", "/root/kill.py", "firewall.enforce", "FW-002", *moments]
    run = host.start(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdin and run.stdout
    pending = 0
    for moment in moments:
        assert run.stdout.readline() == "killed\n"
        for tool in ("iptables", "ip6tables"):
            saved = host.run(f"{tool}-save -t filter | sed -n 's/ \\[.*\\]$//; /^[:-]/p'").stdout
            seen.setdefault(tool, set()).add(saved)
        if not host.run(PENDING, check=False).returncode:
            pending += 1
            if moment != moments[-1]:  # the last one waits for the clock itself
                host.run("systemctl start rocksalt-firewall-rollback.service")
            host.wait_for(f"! {PENDING} && ! test -e /run/rocksalt-firewall/armed.json", timeout=20)
        assert rules(host) == before
        assert administrator_gets_in(lab, pillar, host)
        run.stdin.write("\n")
        run.stdin.flush()
    run.wait()
    assert pending, "no run was killed while its change was pending"
    assert len(seen["iptables"]) <= 2 and len(seen["ip6tables"]) <= 2, "neither old nor new"
    assert "undone" in runs.differing(host)["FW-013"]
    allow(pillar)
    assert not runs.apply(host).failed
    assert not runs.differing(host)


def test_while_a_change_is_pending(lab: Lab, pillar: Host, host: Host) -> None:
    """A second run is refused, a log-in by hand confirms, and a reboot boots the old rules."""
    before = rules(host)
    networks = {"management": ["10.79.0.0/24"]}
    runs.set_pillar(pillar, {"networks": networks, "firewall": {"confirm_within": 60}})
    pillar.run(f"iptables -A OUTPUT {NOBODY_KNOCKS}")
    try:
        with host.start("exec salt-call -l quiet firewall.enforce '[FW-002]'") as first:
            host.wait_for(PENDING, every=0.1)
            second = host.run("salt-call firewall.enforce '[FW-002]'", check=False)
            assert second.returncode
            assert "at this moment" in second.stderr + second.stdout
            first.kill()
        host.run("pkill -9 -f firewall.enforce", check=False)
        third = host.run("salt-call firewall.enforce '[FW-002]'", check=False)
        assert "awaits confirmation until" in third.stderr + third.stdout
        old = host.run("salt-call firewall.confirm", check=False)
        assert "log in anew" in old.stderr + old.stdout
        assert runs.differing(host)["FW-013"] == "a change awaits confirmation"
        host.reboot()
        assert rules(host) == before, "a reboot boots what was confirmed"
        with host.start("exec salt-call -l quiet firewall.enforce '[FW-002]'") as again:
            host.wait_for(PENDING, every=0.1)
            pillar.run(f"iptables -D OUTPUT {NOBODY_KNOCKS}")
            assert administrator_gets_in(lab, pillar, host)
            again.wait(20)
        assert host.run(PENDING, check=False).returncode
        assert "10.79.0.0/24" in rules(host), "the log-in confirmed it"
    finally:
        pillar.run(f"iptables -D OUTPUT {NOBODY_KNOCKS}", check=False)
    allow(pillar)
    assert not runs.apply(host).failed


# Boot, and what comes back by itself ---------------------------------------------------------


def test_reboot_keeps_the_rules_from_before_the_network(
    lab: Lab, master: Host, attacker: Host, host: Host
) -> None:
    before = rules(host)
    host.reboot()
    assert rules(host) == before
    assert not host.failed_units
    order = host.run("systemctl show -P Before rocksalt-firewall.service").stdout
    assert "network-pre.target" in order
    assert administrator_gets_in(lab, master, host)
    assert not reaches(attacker, host.ip, 22)
    assert not runs.differing(host)


def test_rules_that_cannot_be_loaded_leave_administrators_alone(
    lab: Lab, pillar: Host, attacker: Host, serving: Host
) -> None:
    allow(pillar, allow={"https": ["public"]})
    assert not runs.apply(serving, "hardening.firewall").failed
    serving.run("echo garbage >> /etc/rocksalt/firewall/rules.v4")
    serving.reboot()
    serving.run("systemd-run --unit=serve-443 nc -lk :: 443")
    assert "rocksalt-firewall.service" in serving.failed_units
    assert "only administrators are let in" in serving.run("journalctl -b -p crit").stdout
    assert administrator_gets_in(lab, pillar, serving)
    assert not reaches(attacker, serving.ip, 443)
    assert {"FW-002", "FW-006", "FW-007"} <= set(runs.differing(serving))
    assert not runs.apply(serving, "hardening.firewall").failed
    assert reaches(attacker, serving.ip, 443)
    assert not runs.differing(serving, families="firewall", severity="high")


def test_flushed_rules_come_back_by_themselves(lab: Lab, pillar: Host, host: Host) -> None:
    allow(pillar, guard_interval=10)
    assert not runs.apply(host, "hardening.firewall").failed
    before = rules(host)
    host.run("iptables -F; ip6tables -F rocksalt-input")
    assert not administrator_gets_in(lab, pillar, host), "with a policy of DROP nobody gets in"
    host.wait_for("iptables -C INPUT -j rocksalt-input", timeout=15)
    host.wait_for("ip6tables -C rocksalt-input -j rocksalt-bans", timeout=15)
    assert administrator_gets_in(lab, pillar, host)
    assert rules(host) == before
    assert "were taken away" in host.run("journalctl -b -p crit").stdout


def test_clean_leaves_the_chains_of_others(pillar: Host, host: Host) -> None:
    host.run(FOREIGN)
    runs.apply(host, "hardening.firewall")
    assert runs.apply(host, "hardening.firewall.clean", test=True).changes
    assert not runs.apply(host, "hardening.firewall.clean").failed
    left = rules(host)
    assert "rocksalt" not in left and "f2b-web -s 192.0.2.7/32" in left and "DROP" not in left
    assert host.run("ls /etc/systemd/system | grep rocksalt-firewall", False).returncode
    host.run(
        "for t in iptables ip6tables; do $t -F INPUT; $t -F f2b-web; $t -X f2b-web;"
        " $t -F KUBE-SERVICES; $t -X KUBE-SERVICES; done"
    )
    assert not runs.apply(host, "hardening.firewall").failed

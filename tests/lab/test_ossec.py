"""The family ossec on a real host, with a stand-in for OSSEC: see rocksalt_lab/ossec_standin.py.

The repository, its key, apt, dpkg, TLS, systemd and the packet filter are real; the agent and its
server are not.
"""

from __future__ import annotations

import functools
import json
import random
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import outside
import runs
import tampers
from rocksalt_lab import Host, Lab, ossec_standin
from rocksalt_lab.image import RELEASES
from rocksalt_lab.lab import NETWORKS
from rocksalt_lab.ossec_standin import Server
from traces import Traces

MAIN, SPARE, MONITOR = "10.79.0.31", "10.79.0.32", "10.79.0.40"
KEYS, NOTE = "/var/ossec/etc/client.keys", "/var/lib/rocksalt/ossec-enrolled.json"
KEPT = "/var/ossec/bin /var/ossec/etc /var/ossec/active-response"
LOG = "/var/ossec/logs/ossec.log"
BACK = f"""#!/bin/sh
# Gives the agent its files back and starts it anew, until it is connected.
before=$(grep -c 4102 {LOG})
rm -rf {KEPT}
tar -xpPf /root/ossec-kept.tar
systemctl stop ossec-agent.target
rm -f /var/ossec/var/run/*.pid
systemctl start ossec-agent.target
for _ in $(seq 100); do
    if [ "$(grep -c 4102 {LOG})" -gt "$before" ] && [ "$(ls /var/ossec/var/run/*.pid | wc -l)" = 4 ]
    then exit 0; fi
    sleep 0.1
done
exit 1
"""
PIDS = "systemctl show -P MainPID ossec-agentd ossec-execd ossec-syscheckd ossec-logcollector"
STAMPS = "find /etc /var/ossec/etc /var/ossec/active-response -xdev -printf '%p %C@\\n'"
HALF_GONE = f"""
systemctl stop ossec-agent.target
rm -f {KEYS} {NOTE}
sed -i 's|<port>1514|<port>1515|' /var/ossec/etc/ossec.conf
dpkg-divert --quiet --local --no-rename --remove /var/ossec/active-response/bin/host-deny.sh || true
cp /usr/bin/true /usr/local/sbin/rocksalt-ossec
chmod 777 /var/ossec/queue/rids
"""
STATE = "an OSSEC server watches this host"


class Site:
    """The hosts, what the pillar says, and who answers."""

    def __init__(self, lab: Lab, master: Host, host: Host, server: Host, folder: Path) -> None:
        self.lab, self.master, self.host = lab, master, host
        self.stale = False
        self.password = secrets.token_urlsafe(24)
        self.key = ossec_standin.repository(folder / "repository", RELEASES[lab.release])
        master.copy_tree(folder / "repository", "/srv/ossec")
        serve = ["python3", "-m", "http.server", "--bind", master.ip, "--directory", "/srv/ossec"]
        master.run(["systemd-run", "--quiet", "--unit=ossec-repository", *serve, "80"])
        addresses = f"subjectAltName=IP:{MAIN},IP:{SPARE}"
        server.run(
            f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=ossec1 -addext {addresses}"
            " -keyout /root/server.key -out /root/server.pem"
        )
        self.certificate = server.read("/root/server.pem")
        (folder / "bin").mkdir()
        ossec_standin.program(folder / "bin" / ossec_standin.SERVER)
        self.main, self.spare = (Server(server, it, self.password) for it in (MAIN, SPARE))
        for it in (self.main, self.spare):
            it.set_up(folder / "bin", self.certificate, server.read("/root/server.key"))
            it.start()

    def pillar(self, **own: Any) -> None:
        """Has the host watched."""
        networks = {
            "salt": [f"{self.master.ip}/32"],
            "ossec": [f"{it}/32" for it in (MAIN, SPARE)],
            "monitoring": [f"{MONITOR}/32"],
        }
        watched = {
            "servers": [MAIN],
            "password": self.password,
            "enrolment_ca": self.certificate,
            "repository": f"deb [signed-by={{key}}] http://{self.master.ip} {{codename}} main",
            "repository_key": self.key,
            "frequency": 300,
            "notify_time": 10,
            "logs": {"/var/log/app.log": "syslog"},
            **own,
        }
        hardening = {
            "networks": {**NETWORKS, **networks},
            "firewall": {"output": "deny"},
            "nrpe": {"enabled": False},
            "ossec": watched,
        }
        runs.set_pillar(self.master, hardening)
        self.stale = True

    @functools.cached_property
    def salt(self) -> runs.Asker:
        """Salt on the host, in one process."""
        return runs.Asker(self.host)

    def differing(self) -> dict[str, str]:
        """What drifts in the family, by the pillar as it is now."""
        if self.stale:
            self.salt.anew()
            self.stale = False
        return runs.differing(self.salt, families="ossec")

    def apply(self) -> runs.Run:
        """A run of the family, which did not fail."""
        run = runs.apply(self.salt, "hardening.ossec")
        assert not run.failed
        return run

    def connected(self, within: float = 15) -> bool:
        """Whether the agent is connected in time."""
        return self.becomes(lambda: self.status()["connected"], within)

    def status(self) -> dict[str, Any]:
        """How the agent does, by its own program."""
        self.host.run("rocksalt-ossec watch")
        found: dict[str, Any] = json.loads(self.host.read("/var/lib/rocksalt/ossec-status.json"))
        return found

    def becomes(self, is_so: Callable[[], bool], within: float) -> bool:
        """Whether something becomes so in time."""
        deadline = time.monotonic() + within
        while not (found := is_so()) and time.monotonic() < deadline:
            time.sleep(0.3)
        return found

    def heard(self, server: Server, text: str, within: float = 5) -> bool:
        """Whether a server is told of something in time."""
        return self.becomes(lambda: any(text in event[2] for event in server.events()), within)

    def ordered(self, response: str, address: str, user: str = "-") -> str:
        """What the log of responses says after the server has ordered one."""
        log = "/var/ossec/logs/active-responses.log"
        before = len(self.host.read(log))
        tail = "1.2 5712 (web2) any->/var/log/auth.log (null)"
        self.main.order(f"{response} {user} {address} {tail}")
        self.becomes(lambda: len(self.host.read(log)) > before, 5)
        return self.host.read(log)[before:]


@pytest.fixture(scope="module")
def site(
    lab: Lab, master: Host, web2: Host, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A host that is to be watched, and its servers; afterwards it is as it was."""
    runs.conform(web2)
    before = master.read(runs.PILLAR)
    server = lab.host("ossec1", MAIN)
    found = Site(lab, master, web2, server, tmp_path_factory.mktemp("ossec"))
    found.pillar()
    web2.write("/var/log/app.log", "")
    yield found
    master.write(runs.PILLAR, before)
    master.run("systemctl stop ossec-repository")
    found.salt.close()
    web2.salt_call("ossec.clean")
    web2.run("apt-get purge -y -q ossec-hids-agent; rm -f /var/log/app.log /root/ossec-*", False)
    assert not runs.apply(web2, "hardening.firewall").failed


@pytest.fixture
def host(site: Site) -> Host:
    """The host with an agent that is in order."""
    if site.host.run("test -e /var/ossec/bin/ossec-agentd", check=False).returncode:
        assert not runs.apply(site.host, "hardening.firewall,hardening.ossec").failed
    return site.host


def test_test_mode_says_what_it_would_install_and_changes_nothing(site: Site) -> None:
    before = runs.fingerprint(site.host)
    run = runs.apply(site.host, "hardening.ossec", test=True)
    assert not run.failed
    assert "ossec-hids-agent" in run["the OSSEC agent is installed"]["changes"]
    by_state = {"OSS-002", "OSS-004", "OSS-005", "OSS-011", "OSS-012", "OSS-014", "OSS-016"}
    assert run.controls >= by_state
    assert runs.fingerprint(site.host) == before
    assert not site.main.agents() and not site.main.events()


def test_one_run_makes_it_a_watched_host_and_tells_nobody_the_secret(site: Site) -> None:
    """The run comes from the master, so its return and its job are there."""
    host, password = site.host, site.password
    host.run("rm -f /run/watched")
    host.write("/root/watch.py", (tampers.FOLDER.parent / "on_host/watch.py").read_text())
    sls = "hardening.firewall,hardening.ossec"
    with host.start(["python3", "/root/watch.py", "/run/watched"]):
        told = site.master.run(
            f"salt --out=json --timeout=120 web2 state.apply {sls}", check=False
        ).stdout
        host.run("pkill -f /root/[w]atch.py")
    states = json.loads(told)["web2"].values()
    assert not [s["comment"] for s in states if s["result"] is not True]
    assert site.main.agents() == ["1024 web2"]
    assert site.connected()
    assert not site.differing()
    outside.conforms(host, "ossec", "firewall")

    jobs = site.master.run("salt-run --out=json jobs.list_jobs search_function=state.apply").stdout
    job = max(json.loads(jobs))
    assert site.heard(site.main, f"1:rocksalt:rocksalt: highstate {job} ends")
    assert f"rocksalt: highstate {job} begins" in host.read("/var/log/auth.log")

    assert password not in told + host.read("/run/watched") + host.read(LOG)
    host.run("rm /run/watched")
    traces = Traces({"the password": password.encode()})
    memory = ("proc", "sys", "dev")
    traces.in_folders(host, ["."], [*memory, "./opt/salt", "./srv", "./usr/lib", "./usr/share"])
    cached_pillar = "./var/cache/salt/master/pillar"
    traces.in_folders(site.master, ["./var/cache/salt", "./var/log", "./run"], [cached_pillar])
    assert not traces.found
    assert traces.bytes > 1 << 20
    assert password not in host.run("journalctl --no-pager").stdout


def test_a_second_run_changes_and_restarts_nothing(site: Site, host: Host) -> None:
    before = host.run(PIDS).stdout, host.read(KEYS)
    run = runs.apply(host, "hardening.ossec")
    assert not run.changes and not run.failed
    assert (host.run(PIDS).stdout, host.read(KEYS)) == before
    assert site.main.agents() == ["1024 web2"]
    words = run["the OSSEC server knows that this run begins"]["comment"].split()
    for moment in ("begins", "ends"):
        assert site.heard(site.main, f"1:rocksalt:rocksalt: highstate {words[2]} {moment}")


def keep(host: Host) -> None:
    """Has the host put its agent back as it is now."""
    host.write("/root/ossec-back", BACK, mode="0755")
    host.run(f"tar -cPf /root/ossec-kept.tar {KEPT}")


def test_every_case_is_seen_exactly(site: Site, host: Host) -> None:
    keep(host)
    cases = tampers.cases("ossec")
    found = runs.look_after_each(host, cases, "ossec")
    wrong = {case.name: found[case.name] for case in cases if set(found[case.name]) != case.drifts}
    assert not wrong
    assert found[""] == {}, "the host was not put back"


def test_one_run_heals_all_cases_at_once(site: Site, host: Host) -> None:
    cases = [c for c in tampers.cases("ossec") if not c.alone and not c.needs_a_person]
    for case in cases:
        runs.shell(host, case.command)
    run = site.apply()
    by_salts_own_states = {"OSS-016"}
    assert run.controls >= set().union(*(c.of_family for c in cases)) - by_salts_own_states
    assert not site.differing()
    for case in (c for c in tampers.cases("ossec") if c.alone):
        runs.shell(host, case.command)
        site.salt.salt_call("ossec.enforce", sorted(case.of_family))
        assert not site.differing()
    assert not site.apply().changes


def test_a_name_that_is_taken_is_for_a_person(site: Site, host: Host) -> None:
    """The agent lost its key, and nobody removed the old one on the server."""
    host.run(f"rm {KEYS} {NOTE}")
    run = site.apply()
    assert "for it has another web2: remove that there" in "".join(run[STATE]["warnings"])
    assert site.main.agents()[-1] == "1025 web22"
    assert set(site.differing()) == {"OSS-005"}
    assert not site.apply().changes
    assert site.main.agents()[-1] == "1025 web22", "it enrols once"

    site.main.forget()
    enrolled = site.salt.salt_call("ossec.enrol").value
    assert enrolled == {"server": MAIN, "name": "web2", "id": "1024"}
    assert site.connected()
    assert not site.differing()


def test_bad_input_stops_before_anything_changed(site: Site, host: Host) -> None:
    folders = {"/ect": {}, "/srv": {"realtime": True, "report_changes": True}}
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"servers": ["ossec.example"]}, ["'ossec.example' is not an IPv4 or IPv6 address"]),
        (
            {"password": "something\n", "directories": folders},
            ["ends with a line end", "no such folder on this host", "together lose alerts"],
        ),
    ]
    before = host.run(f"{STAMPS}; {PIDS}").stdout
    try:
        for settings, words in cases:
            site.pillar(**settings)
            said = str(site.salt.salt_call("state.apply", "hardening.ossec").value)
            assert [word for word in words if word not in said] == [] and "something" not in said
    finally:
        site.pillar()
    assert host.run(f"{STAMPS}; {PIDS}").stdout == before


def test_a_silent_server_is_noticed_in_time_and_its_return_as_well(site: Site, host: Host) -> None:
    promised, slack = 3 * 10, 5
    site.main.stop()
    try:
        assert site.becomes(lambda: not site.status()["connected"], promised + slack)
        assert set(site.differing()) == {"OSS-003"}
    finally:
        site.main.start()
    assert site.connected()
    assert not site.differing()


def test_another_server_gets_another_key(site: Site, host: Host) -> None:
    old = host.read(KEYS)
    site.pillar(servers=[SPARE])
    try:
        assert set(site.differing()) == {"OSS-004", "OSS-005"}
        site.apply()
        assert site.spare.agents() == ["1024 web2"]
        assert host.read(KEYS) != old
        assert site.connected() and not site.differing()
        assert site.status()["server"] == SPARE
    finally:
        site.pillar()
        site.main.forget()
        site.apply()
    assert site.connected() and not site.differing()


def test_the_packet_filter_lets_the_agent_out_to_its_servers_alone(host: Host) -> None:
    for address in (MAIN, SPARE):
        host.run(f"nc -z -w 2 {address} 1515")
    assert host.run(f"nc -z -w 2 {MAIN} 22", check=False).returncode, "its sshd is no server"
    rules = host.run("iptables -S rocksalt-output").stdout
    assert [it for it in rules.splitlines() if "1514" in it or "1515" in it] == [
        f"-A rocksalt-output -d {address}/32 -p {protocol} -m {protocol} --dport {port}"
        f' -m comment --comment "{name} in ossec" -j ACCEPT'
        for name, protocol, port in (("ossec", "udp", 1514), ("ossec-auth", "tcp", 1515))
        for address in (MAIN, SPARE)
    ]


def test_a_forged_line_bans_nobody_who_must_get_in(site: Site, host: Host, lab: Lab) -> None:
    """What an attacker may have the server believe of any address."""
    for address in (site.master.ip, MAIN, SPARE, MONITOR, "127.0.0.1", "::ffff:10.79.0.1"):
        for response in ("firewall-drop600", "host-deny600", "route-null600"):
            assert "refused" in site.ordered(response, address), (response, address)
    for address in ("10.79.0.0/24", "master", "10.79.0.1,192.0.2.9"):
        assert "refused" in site.ordered("firewall-drop600", address), address
    for user in ("ops", "root", "ossec"):
        assert "refused" in site.ordered("disable-account600", "192.0.2.9", user), user
    assert runs.administrator_gets_in(lab, site.master, host)
    assert "-A OSSEC" not in host.run("iptables -S; ip6tables -S").stdout
    assert not host.run("ip route show type unreachable").stdout
    assert site.connected() and not site.differing()


def test_others_are_banned_behind_administrators_and_stay_so(
    site: Site, host: Host, lab: Lab, attacker: Host
) -> None:
    ban = f"-A OSSEC -s {attacker.ip}/32 -j DROP"
    reaches = f"ping -c 1 -W 1 {host.ip}"
    attacker.run(reaches)
    assert "refused" not in site.ordered("firewall-drop600", attacker.ip)
    host.wait_for(f"iptables -S OSSEC | grep -qx -- '{ban}'")
    assert attacker.run(reaches, check=False).returncode
    assert runs.administrator_gets_in(lab, site.master, host)
    chains = host.run("iptables -S").stdout.splitlines()
    inputs = [rule for rule in chains if rule.startswith("-A INPUT")]
    assert inputs == ["-A INPUT -j rocksalt-input", "-A INPUT -j OSSEC"]
    assert "-A rocksalt-bans -j OSSEC" in chains

    run = runs.apply(host, "hardening.firewall,hardening.ossec")
    assert not run.changes and not run.failed
    host.run("systemctl restart rocksalt-firewall.service")
    assert ban in host.run("iptables -S OSSEC").stdout
    assert not runs.differing(host, families=["firewall", "ossec"])

    site.ordered("firewall-drop3", "192.0.2.9")
    host.wait_for("iptables -S OSSEC | grep -q 192.0.2.9/32")
    site.ordered("firewall-drop3", "2001:db8::9")
    host.wait_for("ip6tables -S OSSEC | grep -q 2001:db8::9/128")
    host.wait_for("! (iptables -S OSSEC; ip6tables -S OSSEC) | grep -q '192.0.2.9/\\|db8::9/'")
    host.run("iptables -F OSSEC")
    attacker.run(reaches)


def test_the_packages_next_version_does_not_ban_either(site: Site, host: Host) -> None:
    ours = host.read("/var/ossec/active-response/bin/firewall-drop.sh")
    host.run("DEBIAN_FRONTEND=noninteractive apt-get install -y -q --reinstall ossec-hids-agent")
    assert host.read("/var/ossec/active-response/bin/firewall-drop.sh") == ours
    assert not set(site.differing()) - {"OSS-004", "OSS-011"}, "owners and modes were set anew"
    site.apply()
    assert site.connected() and not site.differing()


def test_killed_at_any_moment_the_next_run_mends_it(site: Site, host: Host) -> None:
    seed = secrets.randbelow(10**6)
    print(f"seed {seed}")
    moments = [f"{random.Random(seed + n).uniform(0.1, 3.0):.3f}" for n in range(3)]
    host.write("/root/kill.py", (tampers.FOLDER.parent / "on_host/kill.py").read_text())
    words = [runs.PYTHON, "-W", "ignore", "/root/kill.py", "ossec.enforce"]
    ids = "OSS-002,OSS-004,OSS-005,OSS-011,OSS-012,OSS-014,OSS-015"
    runs.shell(host, HALF_GONE)
    site.main.forget()
    run = host.start([*words, ids, *moments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdin and run.stdout
    for moment in moments:
        assert run.stdout.readline() == "killed\n"
        host.wait_for("! pgrep -x agent-auth")
        found = host.run("grep -rlFf - /run /tmp /var/tmp", check=False, input=site.password)
        assert not found.stdout
        if moment != moments[-1]:
            runs.shell(host, HALF_GONE)
            site.main.forget()
        run.stdin.write("\n")
        run.stdin.flush()
    run.wait()
    site.apply()
    assert site.main.agents() == ["1024 web2"]
    assert site.connected() and not site.differing()


def test_the_suite_for_users_sees_what_is_broken(site: Site, host: Host) -> None:
    keep(host)
    outside.sees(host, "ossec")
    assert site.connected()
    outside.conforms(host, "ossec")


def test_without_a_server_nobody_watches(site: Site) -> None:
    site.pillar(servers=[])
    found = site.differing()
    site.pillar()
    assert set(found) == {"OSS-001"}
    assert "nobody watches this host" in found["OSS-001"]


def test_clean_gives_the_scripts_back_and_the_agent_goes_on(site: Site, host: Host) -> None:
    script = "/var/ossec/active-response/bin/firewall-drop.sh"
    assert "rocksalt" in host.read(script)
    assert runs.apply(host, "hardening.ossec.clean", test=True).changes
    assert not runs.apply(host, "hardening.ossec.clean").failed
    assert not runs.apply(host, "hardening.ossec.clean").changes
    assert "Stand-in" in host.read(script)
    assert "rocksalt" not in host.run("dpkg-divert --list; ls /etc/apt/sources.list.d").stdout
    host.run("systemctl is-active ossec-agentd && test -s /var/ossec/etc/client.keys")

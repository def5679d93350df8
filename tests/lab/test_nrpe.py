"""The family nrpe on real hosts, with icinga2 looking in by the example of docs/monitoring.md."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import outside
import runs
import tampers
from rocksalt_lab import Host, Lab
from rocksalt_lab.host import Finished
from rocksalt_lab.lab import NETWORKS, in_parallel

DOCS = (Path(__file__).parents[2] / "docs/monitoring.md").read_text()
NAME, KEYS, CA = "icinga1", "/etc/nrpe-client", "/etc/rocksalt/monitoring-ca"
CLIENT = f"-A {KEYS}/ca.pem -C {KEYS}/{NAME}.pem -K {KEYS}/{NAME}.key"
PACKAGES = "icinga2-bin icinga2-common nagios-nrpe-plugin monitoring-plugins-basic"
INSTALL = "apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -qqy"
INTERVAL, SLACK = 2, 4
"""Seconds between two checks, and those that a check itself may take here."""
PLUGINS = "/usr/lib/nagios/plugins"
AS_NAGIOS = "setpriv --reuid=nagios --regid=nagios --clear-groups"
UNIT, CONFIG, FOLDER = "nagios-nrpe-server", "/etc/nagios/nrpe.cfg", "/etc/rocksalt/nrpe"
STATE = "monitoring hosts and nobody else get answers"
REPORT = "/var/lib/rocksalt/last.json"
SELF_SIGNED = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
SERVICES = "GET services\nColumns: host_name description state plugin_output\n\n"
PROBE, BECOMES_ROOT = "/usr/local/lib/probe", "/usr/local/lib/becomes-root"
TRIES = f"""#!/bin/sh
# Says which arguments it got and what it can do.
printf '%s;' "$@"
touch /run/lock/probe 2>/dev/null && printf 'writes;'
touch /tmp/probe 2>/dev/null && printf 'has /tmp;'
[ "$({BECOMES_ROOT} -u)" = 0 ] && printf 'is root;'
exit 0
"""
RESTART = f"""#!/bin/sh
# Starts NRPE anew and waits until it listens.
systemctl restart {UNIT}
for _ in $(seq 60); do ss -Hltn 'sport = :5666' | grep -q . && exit; sleep 0.05; done
"""
FORGET = """
cd /etc/nagios; mv nrpe_local.cfg.disabled-by-rocksalt nrpe_local.cfg
sed -i '/^command/d' nrpe_local.cfg
mv nrpe.cfg.disabled-by-rocksalt nrpe.cfg.kept
find /etc/nagios /etc/systemd /run/systemd -name '*.disabled-by-rocksalt' -delete
mv nrpe.cfg.kept nrpe.cfg.disabled-by-rocksalt
"""
"""What tamper cases made, and the baseline put aside, is not to be given back."""


class Site:
    """Two hosts, who watches them, and somebody who would like to."""

    def __init__(self, lab: Lab, cluster: dict[str, Host], icinga: Host, attacker: Host) -> None:
        self.lab, self.master, self.icinga, self.attacker = lab, cluster["master"], icinga, attacker
        self.hosts = [cluster["web1"], cluster["web2"]]

    def pillar(self, **own: Any) -> None:
        """Has both hosts watched. The packet filter leaves the attacker to NRPE's own lock."""
        networks = {
            "monitoring": [f"{self.icinga.ip}/32"],
            "others": [f"{self.attacker.ip}/32"],
        }
        probe = {"plugin": PROBE, "arguments": ["$HOME", "a  'b'"]}
        hardening = {
            "networks": {**NETWORKS, **networks},
            "firewall": {"allow": {"ssh": ["management"], "nrpe": ["monitoring", "others"]}},
            "nrpe": {"commands": {"probe": probe, **own.pop("commands", {})}, **own},
        }
        runs.set_pillar(self.master, hardening)

    def runner(self, function: str, *arguments: str) -> Any:
        """What a runner of the master returned; a failure is an error."""
        done = self.master.run(["salt-run", "--out=json", f"monitoring.{function}", *arguments])
        return json.loads(done.stdout)

    def check(self, host: Host, *options: str, by: str = CLIENT) -> Finished:
        """What check_nrpe of the monitoring host says."""
        command = [f"{PLUGINS}/check_nrpe", "-H", host.ip, *by.split(), *options]
        return self.icinga.run([*AS_NAGIOS.split(), *command], check=False)

    def states(self) -> dict[tuple[str, str], tuple[str, str]]:
        """(Host, service) -> state and output, as icinga2 has them."""
        asked = self.icinga.run("nc -U -N /run/icinga2/cmd/livestatus", input=SERVICES)
        rows = [line.split(";", 3) for line in asked.stdout.splitlines()]
        return {(host, service): (state, output) for host, service, state, output in rows}

    def sees(self, host: Host, service: str, words: str, within: float) -> float:
        """The seconds until icinga2 says so; later is an error."""
        begin = time.monotonic()
        while words not in (said := self.states()[host.name, service][1]):
            assert time.monotonic() < begin + within, f"{host.name} {service}: {said}"
            time.sleep(0.1)
        return time.monotonic() - begin


def example(heading: str) -> str:
    """The block of the docs below a heading."""
    found = re.search(rf"### {heading}\n.*?```\n(.*?)```", DOCS, re.DOTALL)
    assert found
    return found[1]


def configuration(hosts: list[Host]) -> str:
    """The example for icinga2 with our hosts, and checks that come sooner."""
    text, minute = example("icinga2"), "check_interval = 1m"
    one = re.search(r"object Host .*?\n}\n", text, re.DOTALL)
    assert one and minute in text
    ours = [one[0].replace("web1", it.name).replace("10.0.0.7", it.ip) for it in hosts]
    return text.replace(one[0], "\n".join(ours)).replace(minute, f"check_interval = {INTERVAL}s")


def reported(host: Host) -> None:
    """The host has looked at itself, as its timer makes it do."""
    host.run("systemctl start rocksalt-drift.service")


def process(host: Host) -> str:
    return host.run(f"systemctl show -P MainPID {UNIT}").stdout


def log(host: Host, since: str) -> str:
    """What NRPE said since a moment. Some processes end before the journal knows their unit."""
    return host.run(f"journalctl --identifier=nrpe --since=@{since} --output=cat").stdout


@pytest.fixture(scope="module")
def site(lab: Lab, cluster: dict[str, Host], attacker: Host) -> Iterator[Site]:
    """A monitoring host, and two hosts without NRPE that are to be watched; afterwards they are as
    they were.
    """
    icinga = lab.host("icinga", "10.79.0.20")
    installing = icinga.start(f"{INSTALL} {PACKAGES}")
    site = Site(lab, cluster, icinga, attacker)
    before = site.master.read(runs.PILLAR)
    site.pillar()
    for host in site.hosts:
        host.write(PROBE, TRIES, mode="0755")
        host.run(f"cp /usr/bin/id {BECOMES_ROOT}; chmod 4755 {BECOMES_ROOT}")
    in_parallel(lambda host: host.salt_call("saltutil.sync_all"), site.hosts)
    assert installing.wait() == 0
    yield site
    icinga.stop()
    site.master.write(runs.PILLAR, before)
    site.master.run(f"rm -rf {CA}")
    in_parallel(_unwatch, site.hosts)
    assert not runs.differing(site.hosts[1])


def _unwatch(host: Host) -> None:
    host.salt_call("nrpe.clean")
    host.run(
        "DEBIAN_FRONTEND=noninteractive apt-get purge -qqy nagios-nrpe-server"
        " monitoring-plugins-basic monitoring-plugins-common;"
        f"rm -rf {FOLDER} {PROBE} {BECOMES_ROOT} /root/restart-nrpe /root/*.pem"
    )
    assert not runs.apply(host, "hardening.firewall").failed


@pytest.fixture(scope="module")
def hardened(site: Site) -> Site:
    """Both hosts have NRPE, one by a highstate; nobody has brought them a certificate yet."""

    def harden(host: Host) -> None:
        some = "hardening.firewall,hardening.nrpe,hardening.drift"
        run = runs.apply(host, "" if host is site.hosts[1] else some)
        assert not run.failed
        assert any("NRPE-011" in warning for warning in run[STATE]["warnings"])

    in_parallel(harden, site.hosts)
    return site


@pytest.fixture(scope="module")
def watched(hardened: Site) -> Site:
    """Certificates are where the docs have them, and icinga2 runs by their example."""
    site = hardened
    site.master.run("salt-run saltutil.sync_all")
    assert site.runner("authority")["made"]
    made = site.runner("client", NAME)
    for path in (made["certificate"], made["authority"], made["key"]):
        name = f"{KEYS}/{Path(path).name}"
        site.icinga.write(name, site.master.read(path), mode="0640", owner="root:nagios")
    enrolled = site.runner("enrol", "*")
    assert enrolled["enrolled"].keys() == {host.name for host in site.hosts}
    assert not enrolled["problems"]
    site.icinga.run("rm /etc/icinga2/conf.d/*; icinga2 feature enable livestatus")
    site.icinga.write("/etc/icinga2/conf.d/rocksalt.conf", configuration(site.hosts))
    site.icinga.run("icinga2 daemon -C && systemctl restart icinga2")
    site.icinga.wait_for("test -S /run/icinga2/cmd/livestatus")
    for host in site.hosts:
        reported(host)
    other_certificates(site.master, site.hosts[1])
    site.hosts[1].write("/root/restart-nrpe", RESTART, mode="0755")
    return site


def other_certificates(master: Host, host: Host) -> None:
    """Certificates for the key of a host that it should not have, in its /root."""
    names = f"-subj /CN={host.name} -addext subjectAltName=DNS:{host.name},IP:{host.ip}"
    host.run(f"openssl req -new -key {FOLDER}/server.key {names} -out /root/it.csr")
    master.write("/root/it.csr", host.read("/root/it.csr"))
    master.run(
        f"cd /root; {SELF_SIGNED} -subj /CN=other -days 99 -keyout other.key -out other-ca.pem;"
        "sign() { openssl x509 -req -in it.csr -copy_extensions copy -CA $1 -CAkey $2 -days $3 -out"
        f" $4; }}; sign {CA}/ca.pem {CA}/ca.key 10 soon.pem; sign {CA}/ca.pem {CA}/ca.key -1"
        " expired.pem; sign other-ca.pem other.key 99 other.pem"
    )
    for name in ("soon", "expired", "other"):
        host.write(f"/root/{name}.pem", master.read(f"/root/{name}.pem"))


@pytest.fixture
def host(watched: Site) -> Iterator[Host]:
    """A host that is watched; the pillar is put back."""
    yield watched.hosts[1]
    watched.pillar()


def test_test_mode_would_install_it_and_changes_nothing(site: Site) -> None:
    host = site.hosts[1]
    before = runs.fingerprint(host)
    run = runs.apply(host, "hardening.nrpe", test=True)
    assert runs.fingerprint(host) == before
    assert not run.failed
    assert "nagios-nrpe-server" in run["NRPE is installed"]["comment"]
    assert run[STATE]["result"] is None
    assert len(run.controls) == 16


def test_without_a_certificate_nobody_gets_an_answer(hardened: Site) -> None:
    assert runs.differing(hardened.hosts[1]).keys() == {"FW-012", "NRPE-011"}
    for host in hardened.hosts:
        assert hardened.icinga.run(["nc", "-z", "-w", "2", host.ip, "5666"], False).returncode


def test_a_monitoring_host_sees_what_breaks_and_what_is_healed(watched: Site) -> None:
    web2 = watched.hosts[1]
    assert not runs.differing(web2)
    outside.conforms(web2, "nrpe", "firewall")
    watched.sees(web2, "check_salt_drift", "DRIFT OK - ", 20)
    for host in watched.hosts:
        watched.sees(host, "check_luks", "LUKS OK - ", 20)
        watched.sees(host, "check_ossec", "OSSEC OK - none of its controls applies", INTERVAL)
        watched.sees(host, "check_disk_root", "DISK ", INTERVAL)
        watched.sees(host, "check_load", "LOAD ", INTERVAL)

    web2.run(f"echo 'debug=1' >> {CONFIG}; chmod 777 {PLUGINS}/check_luks")
    reported(web2)
    watched.sees(web2, "check_salt_drift", "DRIFT CRITICAL - 3 of ", INTERVAL + SLACK)
    state, said = watched.states()["web2", "check_salt_drift"]
    assert state == "2" and "NRPE-003 (high), NRPE-004 (high), NRPE-014 (high)" in said
    assert watched.states()["web1", "check_luks"][0] == "0"

    assert runs.apply(web2, "hardening.nrpe").controls == {"NRPE-003", "NRPE-004", "NRPE-014"}
    reported(web2)
    watched.sees(web2, "check_salt_drift", "DRIFT OK - ", INTERVAL + SLACK)


def test_the_other_examples_of_the_docs_work(watched: Site) -> None:
    by_hand = re.search(r"By hand:\n\n((?: {4}.*\n)+)", DOCS)
    nagios = example("nagios4")
    command = re.search(r"command_line +(.+)", nagios)
    argument = re.search(r"check_command +check_rocksalt!(.+)", nagios)
    assert by_hand and command and argument
    line = command[1].replace("$USER1$", PLUGINS).replace("$HOSTADDRESS$", "10.0.0.7")
    for words in (by_hand[1], line.replace("$ARG1$", argument[1])):
        words = words.replace("10.0.0.7", watched.hosts[1].ip)
        assert watched.icinga.run(f"{AS_NAGIOS} {words.strip()}").stdout.startswith("DRIFT OK - ")


def test_who_is_refused(watched: Site) -> None:
    icinga, attacker, host = watched.icinga, watched.attacker, watched.hosts[0]
    icinga.run(
        f"cd {KEYS}; {SELF_SIGNED} -subj /CN={NAME} -keyout own.key -out own.pem;"
        "chgrp nagios own.key; chmod 640 own.key"
    )
    for name in ("ca.pem", f"{NAME}.pem", f"{NAME}.key"):
        attacker.write(f"/root/{name}", icinga.read(f"{KEYS}/{name}"))
    stolen = f"-CAfile ca.pem -cert {NAME}.pem -key {NAME}.key"
    begin = host.run("date +%s").stdout.strip()
    nobody, other = f"-A {KEYS}/ca.pem", f"-A {KEYS}/ca.pem -C {KEYS}/own.pem -K {KEYS}/own.key"
    tried = {
        "peer did not return a certificate": watched.check(host, by=nobody),
        "SSL Client has an invalid certificate": watched.check(host, by=other),
        "wrong version number": watched.check(host, "-n"),
        "unsupported protocol": watched.check(host, "-S", "TLSv1.1", "-L", "ALL:@SECLEVEL=0"),
        "Request contained command arguments": watched.check(host, "-c", "probe", "-a", "9"),
        f"Host {attacker.ip} is not allowed to talk to us!": attacker.run(
            f"cd /root; openssl s_client -connect {host.ip}:5666 {stolen} </dev/null", check=False
        ),
    }
    assert {what for what, done in tried.items() if not done.returncode} == set()
    assert all(
        "NRPE v" not in done.stdout and "$HOME" not in done.stdout for done in tried.values()
    )
    said = log(host, begin)
    assert [what for what in tried if what not in said] == []
    assert watched.check(host).stdout.startswith("NRPE v4"), "who has the certificate is heard"
    impostor = watched.check(host, by=CLIENT.replace("ca.pem", "own.pem"))
    assert impostor.returncode == 2, "a server of another authority is not believed"


def test_plugins_are_held_in_a_sandbox(watched: Site) -> None:
    host = watched.hosts[0]
    arguments = "$HOME;a  'b';"
    free = host.run(f"{AS_NAGIOS} {PROBE} '$HOME' \"a  'b'\"; rm /run/lock/probe /tmp/probe")
    assert free.stdout == f"{arguments}writes;has /tmp;is root;"
    assert watched.check(host, "-c", "probe").stdout.strip() == f"{arguments}has /tmp;"
    assert host.run("ls /tmp/probe /run/lock/probe", check=False).returncode


def test_plugins_have_the_form_of_plugins(watched: Site) -> None:
    host = watched.hosts[1]
    form = re.compile(r"(DRIFT|LUKS|OSSEC) (OK|UNKNOWN) - [^|\n]+( \|( \S+=\S+)+)?\n")
    for name in ("check_salt_drift", "check_luks", "check_ossec"):
        told = host.run(f"{AS_NAGIOS} {PLUGINS}/{name} --help", check=False)
        assert told.returncode == 3 and told.stdout.startswith(f"usage: {name} ")
        told = host.run(f"{AS_NAGIOS} {PLUGINS}/{name}")
        assert form.fullmatch(told.stdout) and not told.stderr
    text = host.read(REPORT)
    stale = text.replace(json.loads(text)["time"], "2026-01-01T00:00:00Z")
    try:
        host.run(f"cat > {REPORT}", input=stale)
        for name in ("check_salt_drift", "check_luks", "check_ossec"):
            told = watched.check(host, "-c", name)
            assert told.returncode == 3 and "the last drift report is " in told.stdout
    finally:
        host.run(f"cat > {REPORT}", input=text)


def test_a_bad_pillar_changes_nothing(watched: Site, host: Host) -> None:
    before = runs.fingerprint(host)
    watched.pillar(
        monitors=["montoring"],
        commands={"check_load": {"plugin": "check_load", "warning": "9", "critical": "8"}},
    )
    stopped = str(host.salt_call("state.apply").value)
    for words in (
        "2 problems in the settings, nothing was changed",
        "hardening:nrpe:monitors: 'montoring' is neither in hardening:networks nor a network",
        "hardening:nrpe:commands:check_load: warning '9' is worse than critical '8'",
    ):
        assert words in stopped

    watched.pillar(
        commands={"new": {"plugin": "check_nothing"}},
        ca=host.read(f"{FOLDER}/ca.pem"),
        certificate=host.read("/root/expired.pem"),
    )
    refused = runs.apply(host, "hardening.nrpe").failed[STATE]
    assert f"the plugin {PLUGINS}/check_nothing does not exist; install what brings it" in refused
    assert "hardening:nrpe:certificate: expired on " in refused
    assert runs.fingerprint(host) == before


def test_every_case_is_seen_exactly(host: Host) -> None:
    cases = tampers.cases("nrpe")
    found = runs.look_after_each(host, cases, "nrpe")
    wrong = {case.name: found[case.name] for case in cases if set(found[case.name]) != case.drifts}
    assert not wrong
    assert found[""] == {}, "the host was not put back"


def test_one_run_heals_what_a_state_can(host: Host) -> None:
    cases = [case for case in tampers.cases("nrpe") if not case.needs_a_person]
    alone = [case for case in cases if case.alone]
    for together in ([case for case in cases if not case.alone], *([case] for case in alone)):
        runs.shell(host, "\n".join(case.command for case in together))
        run = runs.apply(host, "hardening.nrpe")
        assert not run.failed
        assert run.controls >= set().union(*(case.of_family for case in together))
        assert not runs.differing(host, families="nrpe")
    before = process(host)
    assert not runs.apply(host, "hardening.nrpe").changes
    assert process(host) == before
    runs.shell(host, FORGET)


def test_the_suite_for_users_sees_it_as_well(host: Host) -> None:
    outside.sees(host, "nrpe")
    outside.conforms(host, "nrpe")


def test_killed_at_any_moment_it_is_the_old_or_the_new(watched: Site, host: Host) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    text, ids = host.read(CONFIG), ["NRPE-003", "NRPE-004"]
    wanted = {re.sub("command_timeout=.*", f"command_timeout={n}", text) for n in range(60, 66)}
    watched.pillar(timeout=60)
    begin = time.monotonic()
    host.salt_call("nrpe.enforce", ids)
    whole = time.monotonic() - begin
    for turn in range(61, 66):
        watched.pillar(timeout=turn)
        with host.start(f"exec salt-call -l quiet nrpe.enforce '{json.dumps(ids)}'") as run:
            time.sleep(moments.uniform(0.4, 1) * whole)
            run.kill()
        host.run("pkill -9 -f 'nrpe.enforc[e]'", check=False)
        assert host.read(CONFIG) in wanted, "half a file"
        assert watched.check(host, by=f"-A {KEYS}/ca.pem").returncode, "nobody is heard without"
    watched.pillar()
    assert not runs.apply(host, "hardening.nrpe").failed
    assert not runs.differing(host, families="nrpe")
    assert watched.check(host, "-c", "check_users").stdout.startswith("USERS ")
    assert not host.run("find /etc/nagios /etc/rocksalt -name '*rocksalt-new*'").stdout
    assert not host.run("find /run/rocksalt-nrpe -type f", check=False).stdout
    assert host.run("systemctl is-active --quiet rocksalt-nrpe-trial", check=False).returncode


def test_a_new_certificate_is_in_use_at_once(watched: Site, host: Host) -> None:
    before = process(host), host.salt_call("nrpe.certificate").value["serial"]
    kept = watched.runner("enrol", host.name)
    assert not kept["unwatched"] and kept["kept"].keys() == {host.name}
    assert process(host) == before[0]
    renewed = watched.runner("enrol", host.name, "force=True")
    assert "NRPE runs with it" in renewed["enrolled"][host.name]
    assert process(host) != before[0]
    assert host.salt_call("nrpe.certificate").value["serial"] != before[1]
    assert not runs.differing(host, families="nrpe")
    assert watched.check(host).stdout.startswith("NRPE v4")


def test_clean_gives_back_what_the_distribution_brought(watched: Site, host: Host) -> None:
    assert runs.apply(host, "hardening.nrpe.clean", test=True).changes
    assert not runs.apply(host, "hardening.nrpe.clean").failed
    assert not runs.apply(host, "hardening.nrpe.clean").changes
    assert "allowed_hosts=127.0.0.1,::1" in host.read(CONFIG)
    assert not host.run(f"dpkg --verify {UNIT}").stdout
    assert not host.run("find /etc/nagios /etc/systemd -name '*rocksalt*nrpe*'").stdout
    host.run(f"ls {FOLDER}/server.key")

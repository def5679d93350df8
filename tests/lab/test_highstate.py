"""The life of a host: fresh, test=True, hardened, hardened again, rebooted, cleaned."""

from __future__ import annotations

import json
from typing import Any

import pytest

import outside
import runs
from rocksalt_lab import Host, Lab

pytestmark = pytest.mark.smoke
FAMILIES = ("accounts", "fail2ban", "firewall", "logstash", "sshd", "drift")
GRANTS = "/etc/sudoers.d/zz-rocksalt-administrators"


@pytest.fixture(scope="module")
def fresh(cluster: dict[str, Host]) -> Host:
    """A host as before its first highstate, with modules synced."""
    host = cluster["web1"]
    host.salt_call("saltutil.sync_all")
    for family in FAMILIES:
        host.salt_call(f"{family}.clean")
    return host


def no_drift_is_left(report: dict[str, Any]) -> bool:
    """Whether a report found nothing, and skipped only what is about disks, which a container has
    not, about those who watch hosts or receive their logs, whom the lab has not, and about masters.
    """
    found = {(f["family"], f["status"]) for f in report["findings"]}
    return found == {(name, "skipped") for name in ("access", "logstash", "luks", "nrpe", "ossec")}


def test_fresh_host_drifts(fresh: Host) -> None:
    result = fresh.salt_call("drift.report")
    statuses = {f["id"]: f["status"] for f in result.value["findings"]}
    assert result.retcode == 2
    assert result.value["summary"]["error"] == 0
    broken = ("ACC-020", "ACC-072", "FW-001", "F2B-002", "SSHD-101", "SSHD-001", "DRIFT-001")
    assert {statuses[i] for i in broken} == {"drift"}
    assert "SSHD-003" not in statuses, "ops is a way in"


def test_test_mode_shows_everything_and_changes_nothing(fresh: Host) -> None:
    drifted = set(runs.differing(fresh))
    before = runs.fingerprint(fresh)
    run = runs.apply(fresh, test=True)
    assert runs.fingerprint(fresh) == before
    assert run["sshd is hardened"]["result"] is None
    assert run.controls == drifted


def test_test_mode_without_sshd_would_install_it(cluster: dict[str, Host]) -> None:
    host = cluster["web2"]
    host.salt_call("saltutil.sync_all")
    host.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y -q openssh-server")
    before = runs.fingerprint(host)
    run = runs.apply(host, test=True)
    assert runs.fingerprint(host) == before
    assert run["openssh-server is installed"]["result"] is None
    assert "SSHD-101" in run["sshd is hardened"]["changes"]
    assert not run.failed
    assert runs.differing(host)["SSHD-101"] == "openssh-server is not installed"


def test_highstate_installs_and_hardens_a_host_without_sshd(cluster: dict[str, Host]) -> None:
    host = cluster["web2"]
    host.run("apt-get update -q")
    runs.harden(host)
    assert host.testinfra.package("openssh-server").is_installed


def test_first_highstate_leaves_no_drift(fresh: Host, master: Host) -> None:
    run = runs.apply(fresh)
    assert not run.failed
    assert "True" in master.run("salt web1 test.ping").stdout, "its old connection still works"
    assert {"ACC-072", "FW-001", "F2B-002", "SSHD-101", "SSHD-102", "DRIFT-003"} <= run.controls
    result = fresh.salt_call("drift.report")
    assert no_drift_is_left(result.value) and result.retcode == 0
    assert result.value["summary"]["score"] == 100
    outside.conforms(fresh)


def test_second_highstate_changes_and_restarts_nothing(fresh: Host) -> None:
    before = runs.fingerprint(fresh)
    run = runs.apply(fresh)
    assert not run.changes and not run.failed
    assert runs.fingerprint(fresh) == before


def test_from_outside(lab: Lab, fresh: Host, master: Host) -> None:
    plain = "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    login = master.run(f"{plain} ops@{fresh.ip} sudo -n id")
    assert "uid=0(root)" in login.stdout
    assert "Authorised use only" in login.stderr, "the banner"
    fresh.run("mkdir -p /root/.ssh && cp /home/ops/.ssh/authorized_keys /root/.ssh/")
    assert lab.ssh(master, "root", fresh, "id").returncode == 255
    offered = lab.ssh(master, "ops", fresh, "id", options=["-o", "PreferredAuthentications=none"])
    assert "Permission denied (publickey)" in offered.stderr
    weak = [
        "KexAlgorithms=diffie-hellman-group14-sha256",
        "Ciphers=aes128-ctr",
        "MACs=hmac-sha1 -c aes256-ctr",
    ]
    for option in weak:
        refused = master.run(f"{plain} -o {option} ops@{fresh.ip} id", check=False)
        assert "no matching" in refused.stderr, option
    tunnel = master.run(f"{plain} -W localhost:22 ops@{fresh.ip}", check=False)
    assert "administratively prohibited" in tunnel.stderr
    fresh.run("rm -r /root/.ssh")


def test_on_disk(fresh: Host) -> None:
    drop_in = fresh.testinfra.file("/etc/ssh/sshd_config.d/00-rocksalt.conf")
    assert (drop_in.user, drop_in.group, drop_in.mode) == ("root", "root", 0o600)
    assert fresh.testinfra.service("ssh").is_running
    assert fresh.testinfra.socket("tcp://0.0.0.0:22").is_listening
    assert "X11Forwarding yes" in fresh.read("/etc/ssh/sshd_config"), "the distribution's own line"


def test_the_timer_records_a_report_for_agents(fresh: Host) -> None:
    fresh.run("rm /var/lib/rocksalt/last.json && systemctl start rocksalt-drift.service")
    recorded = json.loads(fresh.read("/var/lib/rocksalt/last.json"))
    assert recorded["settings"] == "cached", "the timer does not need the master"
    counts = recorded["summary"]
    assert counts["ok"] + counts["skipped"] == counts["controls"] == len(recorded["findings"])
    folder, file = (
        fresh.testinfra.file(path) for path in ("/var/lib/rocksalt", "/var/lib/rocksalt/last.json")
    )
    assert (folder.user, folder.group, folder.mode) == ("root", "root", 0o750)
    assert (file.user, file.group, file.mode) == ("root", "root", 0o640)
    assert fresh.testinfra.file("/var/lib/rocksalt/settings-base.json").mode == 0o600


def test_the_monitoring_group_reads_the_record_and_nothing_else(fresh: Host) -> None:
    fresh.run("groupadd --system nagios && useradd --system -g nagios nagios")
    try:
        fresh.run("systemctl start rocksalt-drift.service")
        as_nagios = "setpriv --reuid=nagios --regid=nagios --clear-groups"
        fresh.run(f"{as_nagios} cat /var/lib/rocksalt/last.json")
        assert fresh.run(f"{as_nagios} cat /var/lib/rocksalt/settings-base.json", False).returncode
        assert fresh.run(f"{as_nagios} touch /var/lib/rocksalt/last.json.new", False).returncode
    finally:
        fresh.run("userdel nagios; systemctl start rocksalt-drift.service", check=False)


def test_master_down_is_judged_by_cached_settings(fresh: Host, master: Host) -> None:
    master.run("systemctl stop salt-master")
    try:
        result = fresh.salt_call("drift.report", local=True)
        assert result.value["settings"] == "cached" and result.value["settings_age"] >= 0
        assert no_drift_is_left(result.value)
        fresh.run("mv /var/lib/rocksalt/settings-base.json /root/")
        without = fresh.run("salt-call --local drift.report", check=False)
        assert without.returncode and "no settings cached" in without.stdout + without.stderr
        fresh.run("mv /root/settings-base.json /var/lib/rocksalt/")
    finally:
        master.run("systemctl start salt-master")


def test_reboot_keeps_it(lab: Lab, fresh: Host, master: Host) -> None:
    fresh.reboot()
    assert not fresh.failed_units
    assert "uid=0(root)" in lab.ssh(master, "ops", fresh, "sudo -n id").stdout
    assert not runs.differing(fresh)
    outside.conforms(fresh)


def test_clean_takes_away_what_is_ours_and_nothing_else(fresh: Host) -> None:
    foreign = "/etc/ssh/sshd_config.d/50-foreign.conf"
    runs.shell(
        fresh, f"echo 'X11Forwarding yes' > {foreign}; chmod 600 {foreign}; systemctl reload ssh"
    )
    runs.apply(fresh)
    assert "disabled by rocksalt" in fresh.read(foreign)
    for family in FAMILIES:
        assert runs.apply(fresh, f"hardening.{family}.clean", test=True).changes
        run = runs.apply(fresh, f"hardening.{family}.clean")
        assert run.changes and not run.failed
        assert not runs.apply(fresh, f"hardening.{family}.clean").changes
    assert fresh.read(foreign) == "X11Forwarding yes\n"
    ours = fresh.run("grep -rl rocksalt /etc --exclude-dir=salt --exclude-dir=apt", check=False)
    assert ours.stdout == f"{GRANTS}\n", "without it administrators would not become root"
    fresh.run(f"rm {foreign}")
    runs.harden(fresh)

"""The family sshd where it could go wrong: nobody is locked out, nothing is left half done."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

import runs
from rocksalt_lab import Host, Lab
from runs import administrator_gets_in

DROP_IN = "/etc/ssh/sshd_config.d/00-rocksalt.conf"
WAY_IN = "an administrator keeps a way in over ssh"
KEYS = "/home/ops/.ssh/authorized_keys"


@pytest.fixture
def fresh(web2: Host) -> Iterator[Host]:
    """A host as it was before the baseline, with Debian's own sshd; conforming again afterwards."""
    web2.salt_call("saltutil.sync_all")
    web2.salt_call("sshd.clean")
    yield web2
    runs.harden(web2)


@pytest.fixture
def hardened(web2: Host) -> Host:
    runs.conform(web2)
    return web2


NO_WAY_IN = {
    "the key is in a file that is not read": (f"mv {KEYS} {KEYS}2", f"mv {KEYS}2 {KEYS}"),
    "sudo asks for a password that nobody has": (
        "mkdir -p /run/sudoers.d; mv /etc/sudoers.d/* /run/sudoers.d/",
        "mv /run/sudoers.d/* /etc/sudoers.d/",
    ),
}


@pytest.mark.parametrize("name", NO_WAY_IN)
def test_without_a_way_in_only_the_dangerous_part_is_refused(fresh: Host, name: str) -> None:
    breaks, heals = NO_WAY_IN[name]
    runs.shell(fresh, breaks)
    try:
        assert WAY_IN in runs.apply(fresh, "hardening.sshd", test=True).failed
        run = runs.apply(fresh, "hardening.sshd")
        assert "ops: " in run.failed[WAY_IN] and "nobody could log in" in run.failed[WAY_IN]
        running = fresh.run("sshd -T").stdout
        assert "permitrootlogin without-password" in running, "root's way in was taken away"
        assert "passwordauthentication yes" in running
        assert "maxauthtries 4" in running, "the harmless part was not enforced"
    finally:
        runs.shell(fresh, heals)
    assert not runs.apply(fresh, "hardening.sshd").failed


def test_an_emergency_door_stays_open_while_there_is_no_way_in(hardened: Host) -> None:
    breaks, heals = NO_WAY_IN["the key is in a file that is not read"]
    runs.shell(hardened, breaks)
    runs.shell(hardened, "sed -i '/^Include/d' /etc/ssh/sshd_config; systemctl reload ssh")
    try:
        assert WAY_IN in runs.apply(hardened, "hardening.sshd").failed
        assert "passwordauthentication yes" in hardened.run("sshd -T").stdout
        hardened.run("systemctl reload ssh")
        assert "passwordauthentication yes" in hardened.run("sshd -T").stdout
    finally:
        runs.shell(hardened, heals)


def test_a_configuration_that_does_not_answer_is_undone(
    lab: Lab, pillar: Host, hardened: Host
) -> None:
    before = hardened.read(DROP_IN)
    hardened.run("systemd-run --unit=other nc -lk 2222")
    try:
        runs.set_pillar(pillar, {"sshd": {"ports": [22, 2222]}})
        run = runs.apply(hardened, "hardening.sshd")
        assert "port 2222 gets no answer" in run.failed["sshd is hardened"]
        assert "the old configuration is back" in run.failed["sshd is hardened"]
        assert hardened.read(DROP_IN) == before
        assert administrator_gets_in(lab, pillar, hardened)
    finally:
        hardened.run("systemctl stop other")


def test_what_cannot_end_well_is_refused_before_anything_is_touched(
    lab: Lab, pillar: Host, hardened: Host
) -> None:
    before = runs.fingerprint(hardened)
    runs.set_pillar(pillar, {"sshd": {"listen_addresses": ["10.79.0.99"]}})
    failed = runs.apply(hardened, "hardening.sshd").failed["sshd is hardened"]
    assert "hardening:sshd:listen_addresses: 10.79.0.99 is no address of this host" in failed
    runs.set_pillar(pillar, {"sshd": {"ports": [2222]}})
    failed = runs.apply(hardened, "hardening.sshd").failed[WAY_IN]
    assert "sshd listens on port 22 alone, which hardening:sshd:ports does not name" in failed
    assert runs.fingerprint(hardened) == before
    assert administrator_gets_in(lab, pillar, hardened)


def test_a_foreign_file_that_does_not_parse_is_named(
    lab: Lab, pillar: Host, hardened: Host
) -> None:
    foreign = "/etc/ssh/sshd_config.d/70-broken.conf"
    hardened.write(foreign, "MaxAuthTries 9\nNoSuchKeyword yes\n", mode="0600")
    try:
        report = runs.differing(hardened)
        assert "line 2" in report["SSHD-131"] and "70-broken.conf" in report["SSHD-131"]
        failed = runs.apply(hardened, "hardening.sshd").failed["sshd is hardened"]
        assert "70-broken.conf: line 2" in failed
        assert hardened.read(foreign) == "MaxAuthTries 9\nNoSuchKeyword yes\n"
        assert administrator_gets_in(lab, pillar, hardened)
    finally:
        hardened.run(f"rm {foreign}; systemctl reload ssh")


def test_a_foreign_line_that_breaks_sshd_is_disabled(
    lab: Lab, master: Host, hardened: Host
) -> None:
    foreign = "/etc/ssh/sshd_config.d/00-aaa.conf"
    hardened.write(foreign, "PubkeyAuthentication no\n", mode="0600")
    try:
        assert hardened.run("sshd -t", check=False).returncode
        run = runs.apply(hardened, "hardening.sshd")
        assert not run.failed and not runs.differing(hardened, families="sshd")
        assert hardened.read(foreign) == "# disabled by rocksalt: PubkeyAuthentication no\n"
        assert administrator_gets_in(lab, master, hardened)
    finally:
        hardened.run(f"rm {foreign}; systemctl reload ssh")


def test_an_open_session_survives(lab: Lab, master: Host, fresh: Host) -> None:
    ssh = "ssh -i /root/.ssh/id_ed25519 -o BatchMode=yes -o StrictHostKeyChecking=no"
    session = master.start(f"{ssh} ops@{fresh.ip} 'echo in; sleep 20; echo still in'", stdout=-1)
    assert session.stdout and session.stdout.readline() == "in\n"
    assert not runs.apply(fresh, "hardening.sshd").failed
    assert session.stdout.readline() == "still in\n"
    session.wait()


def test_without_its_runtime_folder_sshd_is_still_judged(hardened: Host) -> None:
    hardened.run("systemctl stop ssh; rm -rf /run/sshd")
    assert set(runs.differing(hardened, families="sshd")) == {"SSHD-006", "SSHD-013"}
    assert hardened.run("test -e /run/sshd", check=False).returncode, "the report changed the host"
    assert not runs.apply(hardened, "hardening.sshd").failed


def test_cloud_init_reopens_nothing(lab: Lab, master: Host, hardened: Host) -> None:
    seed = "/var/lib/cloud/seed/nocloud"
    key = hardened.read(KEYS).strip()
    hardened.write(f"{seed}/meta-data", f"instance-id: again\npublic-keys: ['{key}']\n")
    hardened.write(f"{seed}/user-data", "#cloud-config\n{}\n")
    modules = ("users-groups", "ssh", "set-passwords")
    steps = [f"cloud-init single --name {module} --frequency always" for module in modules]
    hardened.run(f"cloud-init init --local && {' && '.join(steps)}")
    assert not hardened.testinfra.user("debian").exists
    assert key.split()[1] not in hardened.run("cat /root/.ssh/authorized_keys", False).stdout
    assert not set(runs.differing(hardened)) - {"SSHD-006"}, "only the host keys were made anew"
    assert administrator_gets_in(lab, master, hardened)
    runs.harden(hardened)


def test_cloud_init_would_do_so_without_us(fresh: Host) -> None:
    """The test above would prove nothing if cloud-init did nothing here."""
    seed = "/var/lib/cloud/seed/nocloud"
    fresh.write(f"{seed}/meta-data", "instance-id: free\n")
    fresh.write(f"{seed}/user-data", "#cloud-config\n{}\n")
    try:
        fresh.run("cloud-init init --local")
        fresh.run("cloud-init single --name users-groups --frequency always")
        assert fresh.testinfra.user("debian").exists
    finally:
        fresh.run(
            "userdel -r debian; rm -rf /var/lib/cloud/seed /etc/sudoers.d/90-cloud-init*", False
        )


def test_killed_at_any_moment_it_is_the_old_or_the_new(lab: Lab, master: Host, fresh: Host) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for _ in range(12):
        runs.shell(
            fresh,
            f"rm -f {DROP_IN}; cp /usr/share/openssh/sshd_config /etc/ssh/sshd_config;"
            "sed -i '/^Include/d' /etc/ssh/sshd_config; systemctl reload ssh",
        )
        with fresh.start(
            "exec salt-call --local -l quiet sshd.enforce '[SSHD-001, SSHD-002]'"
        ) as run:
            time.sleep(moments.uniform(0.8, 2.6))
            run.kill()
        fresh.run("pkill -9 -f sshd.enforce", check=False)
        assert not fresh.run("sshd -t", check=False).stderr
        text = fresh.run(f"cat {DROP_IN}", check=False).stdout
        assert text == "" or text.endswith("ListenAddress [::]:22\n"), "half a file"
        assert administrator_gets_in(lab, master, fresh)
    assert not runs.apply(fresh).failed
    assert not runs.differing(fresh)
    assert not fresh.run("find /etc/ssh -name '*rocksalt-new*'").stdout


def test_waived_off_and_below_the_floor(pillar: Host, hardened: Host) -> None:
    expires = hardened.run("date -u -d '+30 days' +%F").stdout.strip()
    waiver = {"reason": "r", "owner": "a", "approver": "b", "expires": expires}
    runs.set_pillar(
        pillar,
        {
            "sshd": {
                "max_sessions": 50,
                "controls": {"SSHD-142": {"off": "workstations"}},
            },
            "waivers": {"SSHD-131": waiver},
        },
    )
    run = runs.apply(hardened, "hardening.sshd")
    assert not run.failed
    assert any("SSHD-132" in warning for warning in run["sshd is hardened"]["warnings"])
    text = hardened.read(DROP_IN)
    assert "MaxAuthTries" not in text and "X11Forwarding" not in text
    assert "MaxSessions 50" in text
    found = {f["id"]: f for f in runs.report(hardened, families="sshd")["findings"]}
    assert {i: f["status"] for i, f in found.items()} == {
        "SSHD-131": "waived",
        "SSHD-132": "drift",
        "SSHD-142": "skipped",
    }
    assert "hardening:sshd:max_sessions is 50" in found["SSHD-132"]["reason"]
    assert f"waived until {expires} for a: r" in found["SSHD-131"]["reason"]


def test_a_disabled_family_is_left_alone_and_reported(pillar: Host, hardened: Host) -> None:
    runs.set_pillar(pillar, {"sshd": {"enabled": False}})
    runs.shell(hardened, f"sed -i 's/^MaxSessions.*/MaxSessions 99/' {DROP_IN}")
    run = runs.apply(hardened)
    assert not run.failed and "MaxSessions 99" in hardened.read(DROP_IN)
    drifted = runs.differing(hardened)
    assert "disabled by hardening:sshd:enabled" in drifted["SSHD-101"]

"""A Salt master that is its own minion, its vault on another host, and drills there.

Both get their pillar from that master, which is convenient here. A real vault is no minion of the
master that it guards against.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import outside
import runs
import tampers
from rocksalt_lab import Host, Lab
from rocksalt_lab.lab import ANY_HOST_KEY

SPOOL, STORE, HOME = "/var/lib/rocksalt/backup", "/srv/vault", "/var/lib/rocksalt-vault"
STATUS, FOLDER = "/var/lib/rocksalt/backup-status.json", "/etc/rocksalt/backup"
PROGRAM, TRANSPORT = "/usr/local/sbin/rocksalt-backup", f"{FOLDER}/transport"
USER, DRILLS = "rocksalt-vault", "/root/drill.identity"
PLUGINS = "/usr/lib/nagios/plugins"
AS_NAGIOS = f"setpriv --reuid=nagios --regid=nagios --clear-groups {PLUGINS}/check_salt_backup"
_LIBRARY = "import sys; sys.path.insert(0, '/var/cache/salt/minion/extmods/utils')\n"
PUT_AGAIN = f"""{_LIBRARY}
import hashlib, json, pathlib
from rocksalt.backup.vaults.ssh import SshVault
settings = json.load(open("{FOLDER}/config.json"))
source = pathlib.Path("/root/other")
source.write_text("another content")
vault = SshVault("vault", settings["vaults"]["vault"], "control")
try:
    vault.put(sys.argv[1], source, hashlib.sha256(source.read_bytes()).hexdigest())
except Exception as error:
    print(type(error).__name__, error)
"""
REWRITE = f"""{_LIBRARY}
import json, pathlib
from rocksalt.backup import manifest
from rocksalt.backup.crypto.sshsig import Signer
signer, previous = Signer.load("/root/stolen"), ""
for path in sorted(pathlib.Path(sys.argv[1]).glob("*Z.json")):
    value = json.loads(path.read_bytes())
    value.update(previous=previous, warnings=dict(clock=1))
    data = manifest.canonical(value)
    path.unlink(); path.write_bytes(data)
    signature = path.with_name(path.name + ".sig")
    signature.unlink(); signature.write_bytes(signer.sign(data, manifest.NAMESPACE))
    previous = manifest.digest(data)
"""
EDIT_STATUS = f"""#!/usr/bin/env python3
import json, sys
s = json.load(open("{STATUS}"))
exec(sys.argv[1])
json.dump(s, open("{STATUS}", "w"))
"""
NO_DM_CRYPT = {
    "reason": "containers have no dm-crypt", "owner": "lab", "approver": "reviewers",
}  # fmt: skip


class Site:
    """The hosts, who can read snapshots, and what the pillar says."""

    def __init__(self, lab: Lab, master: Host, vault: Host, folder: Path) -> None:
        self.lab, self.master, self.vault, self.folder = lab, master, vault, folder
        self.identities = [_new_identity(folder / name) for name in ("escrow", "operator")]
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "authority"))
        self.keys = {host.name: host.salt_call("backup.keys").value for host in (master, vault)}
        self.own: dict[str, Any] = {}

    def pillar(self, **own: Any) -> None:
        """Puts the settings of both hosts into the pillar, with other ones for the master."""
        master, vault = self.keys["master"], self.keys["vault"]
        far = {
            "type": "ssh", "location": "Oslo", "admin_domain": "vault team", "user": USER,
            "host": self.vault.ip, "host_key": vault["host"], "receiver": vault["signing"],
            "timeout": 10,
        }  # fmt: skip
        shared = {
            "vaults": {"vault": far},
            "authority": (self.folder / "authority.pub").read_text().strip(),
            "drill_keys": [vault["signing"]],
            "jitter": 0,
            "interval": 720,
        }
        self.own = {
            **shared, "master": True, "instance": "control", "location": "Berlin",
            "admin_domain": "salt team", "recipients": self.identities,
            "escrow": self.identities[0], **own,
        }  # fmt: skip
        clients = {
            "control": {
                "instance": "control", "key": master["transport"], "signer": master["signing"],
            },
            "drills": {"instance": "control", "key": vault["transport"], "read": True},
        }  # fmt: skip
        drill = {"instance": "control", "identity": DRILLS, "signer": master["signing"]}
        receiver = {"path": STORE, "allow_unencrypted": True, "clients": clients}
        vault_host = {
            "backup": {**shared, "receiver": receiver, "drill": {**drill, "vaults": ["vault"]}},
            "sshd": {"allow_groups": ["sudo", USER]},
        }
        master_host = {
            "backup": self.own,
            "firewall": {"allow": {"ssh": ["management"], "salt-master": ["salt"]}},
        }
        inner = [f"{host.ip}/32" for host in (self.master, self.vault)]
        runs.set_pillar(
            self.master,
            {
                "networks": {"management": inner[:1], "salt": inner, "vault": inner[1:]},
                "firewall": {"allow": {"ssh": ["management", "vault"]}},
                "accounts": {"users": {USER: {}}},
                "waivers": {"BKP-032": {**NO_DM_CRYPT, "expires": _in_a_month(self.master)}},
                "roles": {
                    "master": {"minions": ["master"], "settings": master_host},
                    "vault": {"minions": ["vault"], "settings": vault_host},
                },
            },
        )

    def authorise(self) -> None:
        """Has the offline key sign who can read, as an operator would."""
        self.pillar(**{**self.own, "authorisation": ""})
        told = self.master.salt_call("backup.record").value
        record = self.folder / "record.json"
        record.write_text(told["record"])
        record.with_name("record.json.sig").unlink(missing_ok=True)
        key = str(self.folder / "authority")
        _run("ssh-keygen", "-Y", "sign", "-f", key, "-n", "rocksalt-recipients", str(record))
        signature = record.with_name("record.json.sig").read_text()
        self.pillar(**{**self.own, "authorisation": signature})

    def snapshot(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Exit code and answer of a snapshot."""
        command = ["salt-run", "--out=json", "backup.snapshot", *arguments]
        done = self.master.run(command, check=False)
        return done.returncode, json.loads(done.stdout)

    def objects(self) -> list[str]:
        """The names in the store."""
        return self.vault.run(f"ls {STORE}/control").stdout.split()


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _new_identity(path: Path) -> str:
    _run("age-keygen", "-o", str(path))
    return _run("age-keygen", "-y", str(path)).strip()


def _in_a_month(host: Host) -> str:
    return host.run("date -u -d '30 days' +%F").stdout.strip()


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A lab of its own, for here the master itself is hardened; its vault comes first."""
    option = request.config.getoption
    with Lab.start(release=option("--lab-release"), salt=option("--lab-salt")) as lab:
        hosts = lab.salt_cluster(("vault",))
        master, vault = hosts["master"], hosts["vault"]
        lab.salt_minion(master, master)
        master.write("/etc/salt/master", "# Everything is in master.d.\n")
        master.run("groupadd --system nagios; useradd --system -g nagios nagios")
        for host in (master, vault):
            host.salt_call("saltutil.sync_all")
            host.write("/root/edit-status", EDIT_STATUS, mode="0755")
            host.run(f"mkdir -p {PLUGINS}; ssh-keygen -q -t ed25519 -N '' -f /root/stranger")
        found = Site(lab, master, vault, tmp_path_factory.mktemp("operator"))
        found.pillar()
        assert set(runs.differing(master, families="backup")) >= {"BKP-005", "BKP-010", "BKP-015"}
        found.authorise()
        vault.write(DRILLS, (found.folder / "operator").read_text(), mode="0600")
        yield found


def conform(site: Site) -> None:
    """Both hosts are as their settings say, and what the last runs did is known to be good."""
    for host in (site.vault, site.master):
        assert not runs.apply(host, "hardening.backup").failed
    site.vault.run("systemctl start rocksalt-backup-drill.service")
    for host in (site.vault, site.master):
        host.run("systemctl start rocksalt-backup-verify.service")
        assert not runs.differing(host, families="backup")


def test_a_highstate_of_vault_and_master_is_a_working_backup(site: Site) -> None:
    """The first snapshot and the first check are made by the states; the first drill is not."""
    for host in (site.vault, site.master):
        assert not runs.apply(host).failed
    assert set(runs.differing(site.vault)) == {"BKP-012"}
    assert set(runs.differing(site.master)) == {"BKP-012"}
    site.vault.run("systemctl start rocksalt-backup-drill.service")
    site.master.run("systemctl start rocksalt-backup-verify.service")
    for host in (site.vault, site.master):
        assert not runs.differing(host)
        outside.conforms(host)
        before = runs.fingerprint(host)
        assert not runs.apply(host).changes
        assert runs.fingerprint(host) == before


def test_every_change_is_in_the_next_snapshot(site: Site) -> None:
    code, same = site.snapshot()
    assert (code, same["kind"]) == (0, "same")
    site.master.write("/etc/salt/pki/master/minions/new", "a key")
    code, full = site.snapshot()
    assert (code, full["kind"], full["sequence"]) == (0, "full", same["sequence"] + 1)
    there = site.objects()
    for sequence in (same["sequence"], full["sequence"]):
        found = [name for name in there if name.startswith(f"{sequence:08d}")]
        assert any(name.endswith("Z.json") for name in found)
        assert any(name.endswith(".receipt.json.sig") for name in found)
    to = ["--identity", DRILLS, "--to", "/root/restored", "--path", "/etc/salt/pki/master"]
    site.vault.run([PROGRAM, "restore", *to])
    keys = "etc/salt/pki/master/master.pem", "etc/salt/pki/master/minions/new"
    for key in keys:
        assert site.vault.read(f"/root/restored/{key}") == site.master.read(f"/{key}")
    site.vault.run("rm -r /root/restored")
    site.master.run("rm /etc/salt/pki/master/minions/new")


def test_root_of_the_master_can_neither_look_around_nor_change_anything(site: Site) -> None:
    before = site.vault.run(f"cd {STORE}; find . -type f -exec sha256sum {{}} + | sort").stdout
    first = site.objects()[0]
    site.master.write("/root/batch", f"ls /\nrm {STORE}/control/{first}\n")
    key = ["-i", TRANSPORT, "-o", "BatchMode=yes", *ANY_HOST_KEY]
    who = f"{USER}@{site.vault.ip}"
    tries = (
        ["ssh", *key, who, f"rm -rf {STORE}; ls {STORE}; id"],
        ["ssh", *key, "-tt", who],
        ["sftp", *key, "-b", "/root/batch", who],
        ["scp", *key, "/etc/hostname", f"{who}:{STORE}/control/{first}"],
        ["scp", "-O", *key, "/etc/hostname", f"{who}:{STORE}/control/{first}"],
        ["ssh", *key, "-W", "localhost:22", who],
        ["ssh", *key, f"root@{site.vault.ip}", "id"],
    )
    for command in tries:
        line = f"timeout -k 1 5 {shlex.join(command)} < /dev/null > /root/said 2> /dev/null"
        site.master.run(f"{line}; pkill -f {TRANSPORT}", check=False)
        said = site.master.read("/root/said")
        assert not re.search("uid=|OpenSSH|etc|control", said), command
    told = site.master.run([runs.PYTHON, "-", first], input=PUT_AGAIN, check=False)
    assert told.stdout.startswith("Taken "), told
    stranger = ["-i", "/root/stranger", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
    refused = site.master.run(["ssh", *stranger, *ANY_HOST_KEY, who], check=False)
    assert "Permission denied" in refused.stderr
    after = site.vault.run(f"cd {STORE}; find . -type f -exec sha256sum {{}} + | sort").stdout
    assert after == before


def test_a_chain_that_was_written_anew_is_found_on_the_vault(site: Site) -> None:
    """Whoever has the master's key, and got at the store in some way, has not the receiver's."""
    site.vault.run(f"cp -a {STORE} /root/store")
    site.vault.write("/root/stolen", site.master.read(f"{FOLDER}/signing"), mode="0600")
    site.vault.run([runs.PYTHON, "-", f"{STORE}/control"], input=REWRITE)
    found = site.vault.run([PROGRAM, "verify"], check=False)
    assert found.returncode == 7
    assert "receipt" in found.stdout or "receiver" in found.stdout
    assert "BKP-011" in runs.differing(site.vault, families="backup")
    site.vault.run(f"rm -r {STORE} /root/stolen; mv /root/store {STORE}")
    site.vault.run([PROGRAM, "verify"])
    assert not runs.differing(site.vault, families="backup")


def test_a_vault_that_is_away_catches_up(site: Site) -> None:
    site.vault.run("systemctl stop ssh.socket ssh.service")
    try:
        code, missed = site.snapshot("full=True")
        assert code == 6
        assert set(runs.differing(site.master, families="backup")) == {"BKP-010", "BKP-013"}
        agent = site.master.run(AS_NAGIOS, check=False)
        assert agent.returncode == 2
        assert agent.stdout.startswith("BACKUP CRITICAL - the last snapshot failed: ")
    finally:
        site.vault.run("systemctl start ssh.service")
    code, caught = site.snapshot()
    assert (code, caught["vaults"]["vault"]["sequence"]) == (0, missed["sequence"] + 1)
    assert any(name.startswith(f"{missed['sequence']:08d}") for name in site.objects())
    assert not runs.differing(site.master, families="backup")
    agent = site.master.run(AS_NAGIOS)
    assert agent.stdout.startswith("BACKUP OK - snapshot #")
    assert site.vault.run(f"{PLUGINS}/check_salt_backup").stdout.startswith("BACKUP OK - ")


def test_a_snapshot_that_was_killed_is_made_good_by_the_next(site: Site) -> None:
    unit, partial = "rocksalt-backup-snapshot.service", f"{SPOOL}/*.partial"
    site.master.run("head -c 400M /dev/urandom > /srv/rocksalt-pillar/large")
    try:
        before = json.loads(site.master.read(STATUS))["snapshot"]["sequence"]
        site.master.run(f"systemctl start --no-block {unit}")
        site.master.wait_for(f"ls -d {partial}", every=0.05)
        site.master.run(f"systemctl kill --signal=KILL {unit}; systemctl reset-failed {unit}")
        site.master.run(f"ls -d {partial}")
    finally:
        site.master.run("rm /srv/rocksalt-pillar/large")
    code, healed = site.snapshot("full=True")
    assert (code, healed["sequence"]) == (0, before + 1)
    assert not site.master.run(f"ls -d {partial}", check=False).stdout
    assert site.vault.run([PROGRAM, "verify"]).returncode == 0


def test_timers_make_up_for_what_was_missed(site: Site) -> None:
    timer = "rocksalt-backup-snapshot.timer"
    before = json.loads(site.master.read(STATUS))["snapshot"]["sequence"]
    site.master.run(
        f"systemctl stop {timer}; touch -d '3 days ago' /var/lib/systemd/timers/stamp-{timer};"
        f"systemctl start {timer}"
    )
    site.master.wait_for(f"grep -q '\"sequence\": {before + 1}' {STATUS}")
    for host, name in ((site.master, "snapshot"), (site.master, "verify"), (site.vault, "drill")):
        unit = f"rocksalt-backup-{name}.timer"
        host.wait_for(f"systemctl show -P NextElapseUSecRealtime {unit} | grep -q UTC")


def test_recipients_that_nobody_authorised_are_told_and_not_used(site: Site) -> None:
    site.pillar(**{**site.own, "revision": 2})
    try:
        run = runs.apply(site.master, "hardening.backup")
        assert not run.failed
        found = runs.differing(site.master, families="backup")
        assert "ssh-keygen -Y sign" in found["BKP-015"]
        code, refused = site.snapshot()
        assert code == 7 and "authorisation" in refused["reason"]
    finally:
        site.authorise()
    assert not runs.apply(site.master, "hardening.backup").failed
    assert site.snapshot()[0] == 0


@pytest.mark.parametrize("name", ["master", "vault"])
def test_every_case_is_seen_exactly(site: Site, name: str) -> None:
    conform(site)
    host = getattr(site, name)
    cases = [case for case in tampers.cases("backup") if (case.host or "master") == name]
    found = runs.look_after_each(host, cases)
    wrong = {case.name: found[case.name] for case in cases if set(found[case.name]) != case.drifts}
    assert not wrong
    assert found[""] == {}, "the host was not put back"


@pytest.mark.parametrize("name", ["master", "vault"])
def test_one_run_heals_what_a_state_can(site: Site, name: str) -> None:
    host = getattr(site, name)
    cases = [case for case in tampers.cases("backup") if (case.host or "master") == name]
    cases = [case for case in cases if not case.needs_a_person]
    alone = [case for case in cases if case.alone]
    for together in ([case for case in cases if not case.alone], *([case] for case in alone)):
        for case in together:
            runs.shell(host, case.command)
        run = runs.apply(host, "hardening.backup")
        assert not run.failed
        assert run.controls >= set().union(*(case.of_family for case in together))
        assert not runs.differing(host, families="backup")
    assert not runs.apply(host, "hardening.backup").changes


def test_the_suite_for_users_sees_what_is_broken(site: Site) -> None:
    conform(site)
    outside.sees(site.master, "backup", vault=site.vault)
    for host in (site.master, site.vault):
        outside.conforms(host, "backup")


def test_the_masters_own_schedule_in_place_of_timers(site: Site) -> None:
    schedule = "/etc/salt/master.d/rocksalt-backup.conf"
    site.pillar(**{**site.own, "run_by": "salt"})
    run = runs.apply(site.master, "hardening.backup")
    assert not run.failed
    assert not runs.differing(site.master, families="backup")
    assert not site.master.run("ls /etc/systemd/system/rocksalt-backup-*.timer", False).stdout
    assert "backup.snapshot" in site.master.read(schedule)
    site.pillar(**{**site.own, "run_by": "systemd"})
    site.master.wait_for("salt-call test.ping", timeout=60)
    assert not runs.apply(site.master, "hardening.backup").failed
    assert site.master.run(f"test -e {schedule}", check=False).returncode


def test_clean_takes_away_what_is_ours_and_keeps_snapshots_and_keys(site: Site) -> None:
    kept = {site.master: [f"{FOLDER}/signing", SPOOL], site.vault: [f"{FOLDER}/signing", STORE]}
    before = site.objects()
    for host, paths in kept.items():
        assert runs.apply(host, "hardening.backup.clean", test=True).changes
        run = runs.apply(host, "hardening.backup.clean")
        assert run.changes and not run.failed
        assert not runs.apply(host, "hardening.backup.clean").changes
        host.run(["ls", *paths])
        units = "/etc/systemd/system/rocksalt-backup-"
        gone = host.run(f"ls -d {PROGRAM} {units}*.service {units}*.timer", check=False)
        assert not gone.stdout
    assert site.objects() == before
    refused = site.master.run(
        ["ssh", "-i", TRANSPORT, *ANY_HOST_KEY, "-o", "BatchMode=yes", f"{USER}@{site.vault.ip}"],
        check=False,
    )
    assert "Permission denied" in refused.stderr

"""rocksalt.backup.family.checks and .history: what each control expects, and what was seen."""

from __future__ import annotations

import json
import shutil

import pytest
from backup_hosts import (
    MASTER_UNIT,
    ago,
    comparison,
    drill_settings,
    good_status,
    master_settings,
    signer,
    vault_settings,
    write_status,
)

from rocksalt.backup import config, program, status
from rocksalt.backup.crypto import age, sshsig
from rocksalt.backup.family import checks, reading
from rocksalt.backup.family.setup import HOME, USER
from rocksalt.backup.vaults.file import MARKER
from rocksalt.findings import judge

KEY_FILE = f"{HOME}/.ssh/authorized_keys"
LIBRARY = {"rocksalt/__init__.py": b"", "rocksalt/backup/names.py": b"# new"}
"""In place of the true one, which is looked at in test_backup_program.py."""
ROLES = {"master": master_settings, "vault": vault_settings, "drill": drill_settings}


def findings(it):
    """Control id -> finding."""
    found = judge(it.setup.baseline, "backup", it.expected(), it.seen())
    return {finding["id"]: finding for finding in found}


def drifting(it):
    """Control id -> reason."""
    return {i: f["reason"] for i, f in findings(it).items() if f["status"] != "ok"}


def own(host, path, rights):
    owner, group, mode = rights.replace(":", " ").split()
    host.secure(path, owner, group, mode)


@pytest.fixture
def ready(host, shipped, monkeypatch):
    """A host that is as its settings want it: the comparison, by role or settings."""
    monkeypatch.setattr(program, "sources", lambda: LIBRARY)

    def call(role, **pillar):
        settings = ROLES[role]() if isinstance(role, str) else role
        it = comparison(shipped, host, settings, **pillar)
        prepare(host, it)
        return it

    return call


def prepare(host, it):
    """What enforcement would bring about."""
    setup = it.setup
    host.answer("systemctl show salt-master.service", "Id=salt-master.service\n")
    if setup.settings["master"]:
        host.answer("systemctl show salt-master.service", MASTER_UNIT.format("active"))
    for path, (text, rights) in checks.wanted_files(it).items():
        host.put(path, "")
        host.write(path, text)
        own(host, path, rights)
    for path, rights in setup.own_keys().items():
        host.path(path).unlink(missing_ok=True)
        sshsig.generate(host.path(path))
        own(host, path, rights)
    for path, rights in setup.folders().items():
        host.path(path).mkdir(parents=True, exist_ok=True)
        own(host, path, rights)
    for path, text in setup.units().items():
        host.put(path, text)
    timers = [
        f"Id={timer}\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\n"
        for timer in setup.timers()
    ]
    host.answer(f"systemctl show {' '.join(setup.timers())}", "\n".join(timers))
    host.answer("systemctl show rocksalt-backup-snapshot.service", "Id=x\n")
    write_status(host, good_status())
    for name, data in LIBRARY.items():
        path = host.path(f"/extmods/utils/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    host.put("/extmods/runners/backup.py")
    if setup.receiver:
        _prepare_vault(host, it)
    if "identity" in setup.settings["drill"]:
        host.put(setup.settings["drill"]["identity"], "AGE-SECRET-KEY-1", 0o600)


def _prepare_vault(host, it):
    host.put("/etc/passwd", f"{USER}:x:990:990::{HOME}:/bin/sh\n")
    host.put("/etc/group", f"{USER}:x:990:\n")
    host.put("/etc/shadow", f"{USER}:!:20000::::::\n", 0o640)
    host.put("/bin/sh", "", 0o755)
    host.put(KEY_FILE, it.setup.authorized_keys())
    folder = host.path("/srv/vault/control")
    folder.mkdir(parents=True)
    own(host, "/srv/vault", f"{USER}:{USER} 0700")
    host.put(f"/srv/vault/{MARKER}")
    receipt = "/srv/vault/control/00000001-20261122T133000Z.receipt.json"
    host.put(receipt, json.dumps({"received": ago(minutes=30)}), owner=USER)


def test_a_plain_host_has_nothing_to_promise(shipped, host):
    host.answer("systemctl show salt-master.service", "Id=salt-master.service\n")
    found = findings(comparison(shipped, host, {}))
    assert {finding["status"] for finding in found.values()} == {"ok"}
    assert found["BKP-001"]["actual"] == "no Salt master on this host"
    assert found["BKP-030"]["actual"] == "no vault on this host"
    assert len(host.ran) == 1, "it costs next to nothing"


@pytest.mark.parametrize(
    ("unit", "key", "words"),
    [
        ("ActiveState=active", False, "salt-master.service runs"),
        ("UnitFileState=enabled", False, "salt-master.service starts at boot"),
        ("", True, "/etc/salt/pki/master/master.pem exists"),
    ],
)
def test_a_master_that_nobody_backs_up_is_told_once(shipped, host, unit, key, words):
    host.answer("systemctl show salt-master.service", f"Id=salt-master.service\n{unit}\n")
    if key:
        host.put("/etc/salt/pki/master/master.pem")
    found = findings(comparison(shipped, host, {}))
    first = found.pop("BKP-001")
    assert (first["status"], first["severity"], first["remedy"]) == ("drift", "critical", "manual")
    assert words in first["reason"] and "hardening:backup:master is false" in first["reason"]
    assert {f["status"] for f in found.values()} == {"skipped", "ok"}
    assert len({f["reason"] for f in found.values() if f["status"] == "skipped"}) == 1


def test_a_master_that_is_not_there(ready, host):
    it = ready("master")
    host.answer("systemctl show salt-master.service", "Id=salt-master.service\n")
    assert "there is no Salt master here" in drifting(it)["BKP-001"]


@pytest.mark.parametrize("role", ["master", "drill"])
def test_a_host_that_is_as_it_should_be(ready, role):
    assert drifting(ready(role)) == {}


def test_a_vault_as_it_should_be_lies_on_an_encrypted_disk(ready):
    assert set(drifting(ready("vault"))) == {"BKP-032"}


def test_every_control_has_a_check(shipped):
    assert {checks.BACKED_UP, *checks.CHECKS} == set(shipped["backup"].controls)


def test_a_master_that_is_told_by_the_cached_settings_keeps_its_credentials(ready):
    """Without the secret nobody can say whether the file is right."""
    it = ready("master")
    it.setup.credentials = "***"
    assert "BKP-002" not in drifting(it)
    it.host.remove(config.CREDENTIALS)
    assert "BKP-002" in drifting(it)


def change(where, **values):
    """A change of the status."""

    def apply(found):
        for key in filter(None, where.split("/")):
            found = found[key]
        found.update(values)

    return apply


PART = {"size": 4000, "files": 100, "bytes": 9000, "changed": 3}
OLD, AHEAD = ago(days=40), ago(hours=-3)


@pytest.mark.parametrize(
    ("broken", "drifts", "words"),
    [
        (lambda s: s.pop("snapshot"), "BKP-010", "there was no snapshot yet"),
        (change("snapshot", time=OLD), "BKP-010", "the last snapshot was 40 days ago"),
        (change("snapshot", time=AHEAD), "BKP-010", "from the future"),
        (change("snapshot", code=1, reason="full"), "BKP-010", "snapshot failed: full"),
        (change("", instance="other"), "BKP-010", "no snapshot yet"),
        (lambda s: s.pop("verify"), "BKP-011", "there was no check of the vaults yet"),
        (change("verify", time=ago(hours=50)), "BKP-011", "was 2 days ago"),
        (
            change("verify", code=7, vaults={"far": {"problems": [{"sentence": "a fork"}]}}),
            "BKP-011",
            "failed: far: a fork",
        ),
        (
            change("verify", code=4, vaults={"far": {"problems": [{"sentence": "may not list"}]}}),
            "BKP-011",
            "far: may not list",
        ),
        (
            change("verify/vaults/far", newest=None),
            "BKP-011",
            "far: has no snapshot",
        ),
        (
            change("drill", code=4, steps={"fetch": "ok"}, problems=["keys: no root"]),
            "BKP-012",
            "did not come to compare, keys, master: keys: no root",
        ),
        (lambda s: s.pop("drill"), "BKP-012", "there was no restore drill yet"),
        (change("drill", code=1, problems=["keys: none"]), "BKP-012", "failed: keys: none"),
        (change("drill", time=OLD), "BKP-012", "40 days ago"),
        (
            change("snapshot/vaults/near", sequence=5, error="is down"),
            "BKP-013",
            "near has #5 of #7: is down",
        ),
        (change("snapshot/vaults/near", sequence=0), "BKP-013", "near has no snapshot"),
        (
            change("snapshot/vaults/far", faults=["far has no Object Lock"]),
            "BKP-014",
            "far has no Object Lock; near has the location berlin",
        ),
        (change("snapshot/archives/operator", files=40), "BKP-017", "40 files, and had 100"),
        (change("snapshot/archives/operator", bytes=1), "BKP-017", "1 bytes, and had 9000"),
        (change("snapshot", archives={}), "BKP-017", "the archive operator is gone"),
        (change("snapshot/archives/operator", changed=60), "BKP-018", "60 files of operator"),
        (
            change("snapshot/archives", operator={**PART, "changed": 30, "size": 9100}),
            "BKP-018",
            "compresses to 101% of its size, and before to 44%",
        ),
        (change("snapshot/vaults/far", receipt=OLD), "BKP-019", f"since {OLD}"),
        (change("snapshot/vaults/far", receipt=""), "BKP-019", "no receiver has countersigned"),
        (change("snapshot", warnings=["/etc/x: unreadable"]), "BKP-020", "/etc/x: unreadable"),
    ],
)
def test_what_the_last_runs_can_tell(ready, host, broken, drifts, words):
    it, value = ready("master"), good_status()
    broken(value)
    write_status(host, value)
    found = drifting(it)
    assert words in found[drifts]
    together = {"BKP-010": {"BKP-013", "BKP-014", "BKP-019", "BKP-011", "BKP-012"}}
    assert {*found} - {drifts} <= together.get(drifts, set())


@pytest.mark.parametrize("text", ["{", '{"schema": 9}', "[]"])
def test_a_status_that_cannot_be_understood_says_so(ready, host, text):
    it = ready("master")
    write_status(host, text)
    assert status.PATH in drifting(it)["BKP-010"]


def test_what_a_state_does_and_what_a_person_does(ready, host):
    """A state takes a snapshot where none was tried; one that failed is tried again soon anyway."""
    it, value = ready("master"), good_status()
    value["snapshot"]["time"] = OLD
    write_status(host, value)
    assert findings(it)["BKP-010"]["remedy"] == "state"
    del it.past
    value["snapshot"].update(time=ago(minutes=1), code=6)
    write_status(host, value)
    assert findings(it)["BKP-010"]["remedy"] == "manual"


def test_a_busy_day_after_a_busy_day_is_no_jump(ready, host):
    it, value = ready("master"), good_status()
    value["snapshot"]["archives"]["operator"]["changed"] = 60
    value["snapshot"]["before"]["operator"] = {**PART, "changed": 100}
    write_status(host, value)
    assert "BKP-018" not in drifting(it)


@pytest.mark.parametrize(
    ("role", "path", "mode", "drifts"),
    [
        ("master", config.PATH, 0o644, "BKP-002"),
        ("master", config.SIGNING_KEY, 0o644, "BKP-003"),
        ("master", config.FOLDER, 0o755, "BKP-006"),
        ("master", "/var/lib/rocksalt/backup", 0o755, "BKP-006"),
        ("vault", program.PATH, 0o777, "BKP-002"),
        ("vault", KEY_FILE, 0o666, "BKP-030"),
        ("vault", "/srv/vault", 0o755, "BKP-031"),
        ("vault", "/srv", 0o777, "BKP-031"),
        ("drill", "/root/identity", 0o644, "BKP-040"),
    ],
)
def test_who_may_do_what(ready, host, role, path, mode, drifts):
    it = ready(role)
    host.path(path).chmod(mode)
    assert path in drifting(it)[drifts]


@pytest.mark.parametrize(
    ("role", "path", "drifts"),
    [
        ("master", config.CREDENTIALS, "BKP-002"),
        ("master", config.TRANSPORT_KEY, "BKP-003"),
        ("master", "/etc/systemd/system/rocksalt-backup-verify.timer", "BKP-004"),
        ("master", "/extmods/runners/backup.py", "BKP-007"),
        ("vault", KEY_FILE, "BKP-030"),
        ("drill", "/root/identity", "BKP-040"),
    ],
)
def test_what_is_gone(ready, host, role, path, drifts):
    it = ready(role)
    host.remove(path)
    assert drifts in drifting(it)


def test_another_version_of_the_library_on_the_master(ready, host):
    it = ready("master")
    host.path("/extmods/utils/rocksalt/backup/names.py").write_text("# old")
    assert "rocksalt/backup/names.py" in drifting(it)["BKP-007"]
    shutil.rmtree(host.path("/extmods/utils/rocksalt"))
    assert "no library rocksalt" in drifting(it)["BKP-007"]


def test_units_of_others_and_old_ones_of_ours(ready, host):
    it = ready("master")
    drop_in = "/etc/systemd/system/rocksalt-backup-verify.service.d/x.conf"
    host.put(drop_in)
    host.put("/etc/systemd/system/rocksalt-backup-drill.timer")
    reason = drifting(it)["BKP-004"]
    assert drop_in in reason and "rocksalt-backup-drill.timer is not wanted any more" in reason


def test_timers_that_are_off(ready, host):
    it = ready("drill")
    shown = "Id=rocksalt-backup-drill.timer\nActiveState=inactive\nUnitFileState=disabled\n"
    host.answer(f"systemctl show {' '.join(it.setup.timers())}", f"{shown}NeedDaemonReload=yes\n")
    assert "inactive, disabled, not as on disk" in drifting(it)["BKP-005"]


def test_a_schedule_counts_once_the_master_has_been_started(ready, host):
    it = ready({**master_settings(), "run_by": "salt"})
    assert "has not been started since" in drifting(it)["BKP-005"]
    late = MASTER_UNIT.replace("=1000000", f"={10**16}").format("active")
    host.answer("systemctl show salt-master.service", late)
    assert drifting(it) == {}
    host.answer("systemctl show salt-master.service", MASTER_UNIT.format("failed"))
    assert "does not run" in drifting(it)["BKP-005"]


def test_recipients_that_the_authority_did_not_sign(ready):
    own = master_settings()
    it = ready({**own, "revision": 2})
    assert "ssh-keygen -Y sign" in drifting(it)["BKP-015"]
    one = {**own, "recipients": own["recipients"][:1]}
    assert "needs at least 2" in drifting(ready_again(it, one))["BKP-015"]


def ready_again(it, own):
    """The same host with other settings."""
    it.settings.update(own)
    return it


def test_keys_that_open_snapshots(ready, host):
    it = ready("master")
    host.put("/srv/salt/deep/notes.txt", f"see {age.generate()[0]}")
    assert "/srv/salt/deep/notes.txt has an age identity" in drifting(it)["BKP-016"]
    host.remove("/srv/salt/deep/notes.txt")
    host.put("/root/large", age.generate()[0] + " " * 70_000)
    (host.path("/root/loop")).symlink_to("/root")
    assert "BKP-016" not in drifting(it)


def test_a_search_for_keys_that_takes_too_long_is_no_promise_kept(ready, host, monkeypatch):
    it = ready("master")
    host.put("/root/first")
    monkeypatch.setattr(reading, "_SECONDS", -1.0)
    found = findings(it)["BKP-016"]
    assert (found["status"], "the search for keys came to" in found["reason"]) == ("error", True)


def test_a_search_that_came_to_too_many_files(ready, host, monkeypatch):
    it = ready("master")
    host.put("/root/first")
    monkeypatch.setattr(reading, "_FILES", 0)
    found = findings(it)["BKP-016"]
    assert (found["status"], "after 0 files" in found["reason"]) == ("error", True)


@pytest.mark.parametrize("folder", checks.KEY_PLACES)
@pytest.mark.parametrize("kind", ["AGE-SECRET-KEY-1", "AGE-SECRET-KEY-PQ-1"])
def test_where_keys_are_looked_for(ready, host, folder, kind):
    it = ready("master")
    host.put(f"{folder}/left", kind + 58 * "Q")
    assert f"{folder}/left has an age identity" in drifting(it)["BKP-016"]


def test_the_private_half_of_the_authority(ready, host):
    path = host.path("/root/authority")
    path.parent.mkdir()
    public = sshsig.generate(path)
    own = master_settings()
    it = ready(own)
    assert "BKP-016" not in drifting(it), "another key"
    it.settings["authority"] = public
    assert "has the private half of hardening:backup:authority" in drifting(it)["BKP-016"]
    assert signer().public != public


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("/etc/passwd", "", "does not exist"),
        ("/etc/passwd", f"{USER}:x:990:990::{HOME}:/usr/sbin/nologin\n", "has the shell"),
        ("/etc/shadow", f"{USER}:$y$j9T$abc$def:20000::::::\n", "a password"),
        ("/etc/shadow", f"{USER}:!:20000:::::1:\n", "has expired"),
        (KEY_FILE, "ssh-ed25519 AAAA x\n", "was edited"),
        (f"{HOME}/.ssh/authorized_keys2", "", "authorized_keys2"),
    ],
)
def test_the_account_of_the_receiver(ready, host, file, text, words):
    it = ready("vault")
    host.put(file, text, 0o644)
    assert words in drifting(it)["BKP-030"]


def test_only_declared_clients_have_a_key_and_each_is_forced_to_the_receiver(ready):
    lines = ready("vault").setup.authorized_keys().splitlines()[1:]
    assert [line.split()[-1] for line in lines] == ["control", "drill"]
    for line in lines:
        name = line.split()[-1]
        assert line.startswith(f'restrict,command="{program.PATH} receive --client {name}" ssh-')


def test_a_disk_that_is_not_mounted(ready, host):
    it = ready("vault")
    host.put(checks.STORE_NOTE, "/srv/vault\n")
    host.remove(f"/srv/vault/{MARKER}")
    found = findings(it)["BKP-031"]
    assert (found["status"], found["remedy"]) == ("drift", "manual")
    assert "its disk is not mounted" in found["reason"]


def test_a_host_that_only_checks(ready):
    own_settings = drill_settings()
    del own_settings["drill"]["identity"]
    it = ready(own_settings)
    found = findings(it)
    assert {each["status"] for each in found.values()} == {"ok"}
    assert found["BKP-040"]["actual"] == "no drill on this host"
    assert found["BKP-011"]["actual"] != checks.NOTHING_AT_ALL


def test_strangers_in_the_store(ready, host):
    it = ready("vault")
    for path in ("/srv/vault/notes", "/srv/vault/control/mine"):
        host.put(path)
    (host.path("/srv/vault/control/link")).symlink_to("/etc/passwd")
    host.path("/srv/vault/.incoming").mkdir()
    found = findings(it)["BKP-033"]["actual"]
    assert found == ["/srv/vault/control/link", "/srv/vault/control/mine", "/srv/vault/notes"]


def test_a_client_that_fell_silent(ready, host):
    it = ready("vault")
    receipt = "/srv/vault/control/00000002-20261122T133000Z.receipt.json"
    host.put(receipt, json.dumps({"received": ago(hours=9)}), owner=USER)
    assert "control sent its last snapshot at 2026-11-22 05:00 UTC" in drifting(it)["BKP-034"]
    shutil.rmtree(host.path("/srv/vault/control"))
    assert drifting(it)["BKP-034"] == "control has not sent a snapshot yet"


def test_a_vault_is_checked_some_time_after_its_first_snapshot(ready, host):
    it, value = ready("vault"), good_status()
    del value["verify"]
    write_status(host, value)
    assert "BKP-011" not in drifting(it)
    receipt = "/srv/vault/control/00000001-20261122T133000Z.receipt.json"
    host.put(receipt, json.dumps({"received": ago(days=4)}), owner=USER)
    assert "no check of the vaults yet" in drifting(it)["BKP-011"]


def test_the_plugin_is_there_where_agents_look_for_it(ready, host):
    it = ready("master")
    host.path(program.PLUGINS).mkdir(parents=True)
    assert program.PLUGIN in drifting(it)["BKP-002"]


def test_the_check_that_nrpe_asks_for_comes_before_its_folder(ready):
    asked = {"commands": {"check_salt_backup": {"plugin": "check_salt_backup"}}}
    it = ready("master", nrpe=asked)
    assert program.PLUGIN in it.expected()["BKP-002"]


def test_a_nrpe_that_is_left_as_found_asks_for_nothing(ready):
    asked = {"commands": {"check_salt_backup": {"plugin": "check_salt_backup"}}}
    it = ready("master", nrpe={"enabled": False, **asked})
    assert program.PLUGIN not in it.expected()["BKP-002"]

"""rocksalt.backup.family.enforce: makes a host what the checks expect."""

from __future__ import annotations

import re

import pytest
from backup_hosts import (
    MASTER_UNIT,
    comparison,
    drill_settings,
    master_settings,
    place,
    vault_settings,
)

from rocksalt.backup import config, program
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.family import checks, enforce
from rocksalt.backup.family.setup import HOME, USER
from rocksalt.backup.vaults.file import MARKER
from rocksalt.errors import Refused

KEY_FILE = f"{HOME}/.ssh/authorized_keys"
UNITS = "/etc/systemd/system/rocksalt-backup-"
ALL = list(checks.CHECKS)


@pytest.fixture
def fresh(host, shipped):
    """A fresh host and the comparison for its settings; systemd and Salt do as they are told."""

    def call(own):
        for command in ("systemctl", "useradd", "usermod", "/bin/salt-run"):
            host.answer(command)
        host.answer("systemctl show", "Id=x\nActiveState=inactive\n")
        host.answer("systemctl show salt-master.service", "Id=salt-master.service\n")
        if own.get("master"):
            host.answer("systemctl show salt-master.service", MASTER_UNIT.format("active"))
        host.put("/bin/sh", "", 0o755)
        return comparison(shipped, host, own)

    return call


def ran(host, *words):
    """The commands that begin like this."""
    return [" ".join(command) for command in host.ran if command[: len(words)] == words]


def state(it, identifier):
    """Whether a control holds now."""
    vars(it).pop("past", None)
    return it.seen()[identifier].actual == it.expected()[identifier]


def test_a_fresh_master(fresh, host):
    it = fresh(master_settings())
    enforce.enforce(host, it, ALL)
    for identifier in ("BKP-002", "BKP-003", "BKP-006"):
        assert state(it, identifier), it.seen()[identifier]
    for path, text in it.setup.units().items():
        assert host.read(path) == text
    for name in ("snapshot", "verify"):
        timer = f"rocksalt-backup-{name}.timer"
        assert ran(host, "systemctl", "enable", "--quiet", timer)
        assert ran(host, "systemctl", "restart", timer)
        assert ran(host, "systemctl", "start", "--no-block", f"rocksalt-backup-{name}.service")
    assert ran(host, "/bin/salt-run", "--config-dir=/etc/salt", "saltutil.sync_all")
    assert not ran(host, "useradd")


def test_keys_that_are_there_stay(fresh, host):
    it = fresh(master_settings())
    enforce.enforce(host, it, ["BKP-003"])
    before = host.read(config.SIGNING_KEY)
    host.path(config.SIGNING_KEY).chmod(0o644)
    enforce.enforce(host, it, ["BKP-003"])
    assert host.read(config.SIGNING_KEY) == before
    assert state(it, "BKP-003")


def test_public_keys_are_made_once_and_before_any_setting(host):
    found = enforce.make_keys(host)
    assert set(found) == {"signing", "transport"}
    assert found == enforce.make_keys(host)
    assert sshsig.bare(host.path(f"{config.SIGNING_KEY}.pub").read_text()) == found["signing"]


def test_a_fresh_vault(fresh, host):
    it = fresh(vault_settings())
    host.put("/etc/passwd", "root:x:0:0::/root:/bin/bash\n")
    enforce.enforce(host, it, ["BKP-030", "BKP-031", "BKP-002"])
    (made,) = ran(host, "useradd")
    assert "--system" in made and made.endswith(f"--shell /bin/sh {USER}")
    assert host.read(KEY_FILE) == it.setup.authorized_keys()
    for folder in (HOME, f"{HOME}/.ssh"):
        assert host.attributes(folder).access == "root:root 0755"
    assert state(it, "BKP-031")
    assert state(it, "BKP-002")


def test_an_account_that_was_changed_and_keys_beside_ours(fresh, host):
    it = fresh(vault_settings())
    host.put("/etc/passwd", f"{USER}:x:990:990::{HOME}:/usr/sbin/nologin\n")
    host.put(f"{HOME}/.ssh/authorized_keys2", "a key")
    enforce.enforce(host, it, ["BKP-030"])
    assert ran(host, "usermod") == [f"usermod --lock --expiredate  --shell /bin/sh {USER}"]
    assert host.read(f"{HOME}/.ssh/authorized_keys2") is None
    assert host.read(f"{HOME}/.ssh/authorized_keys2.disabled-by-rocksalt") == "a key"
    assert it.setup.account.beside(host) == []


def test_what_lies_in_a_store_is_never_touched(fresh, host):
    it = fresh(vault_settings())
    host.put(f"/srv/vault/{MARKER}")
    host.put("/srv/vault/control/00000001-20261122T133000Z.json", "{}", 0o400, owner="nobody")
    enforce.enforce(host, it, ["BKP-031"])
    kept = host.attributes("/srv/vault/control/00000001-20261122T133000Z.json")
    assert kept.access == "nobody:nobody 0400"
    assert host.attributes("/srv/vault/control").access == f"{USER}:{USER} 0700"


@pytest.mark.parametrize("again", [True, False])
def test_a_mount_point_without_its_disk_is_no_store(fresh, host, again):
    it = fresh(vault_settings())
    host.path("/srv/vault/lost+found").mkdir(parents=True)
    enforce.enforce(host, it, ["BKP-031"])
    assert state(it, "BKP-031")
    host.remove(f"/srv/vault/{MARKER}")
    host.secure("/srv/vault", "root", "root", "0755")
    assert "its disk is not mounted" in it.seen()["BKP-031"].reason
    if again:
        host.remove(checks.STORE_NOTE)
        enforce.enforce(host, it, ["BKP-031"])
    else:
        with pytest.raises(Refused, match="its disk is not mounted"):
            enforce.enforce(host, it, ["BKP-031"])
        assert host.attributes("/srv/vault").access == "root:root 0755"
    assert state(it, "BKP-031") == again


def test_a_folder_with_other_things_becomes_no_store(fresh, host):
    it = fresh(vault_settings())
    host.put("/srv/vault/photos/1.jpg")
    with pytest.raises(Refused, match=r"/srv/vault holds photos and no \.rocksalt-vault"):
        enforce.enforce(host, it, ["BKP-031"])
    assert not state(it, "BKP-031")


def test_old_units_and_overrides_go(fresh, host):
    it = fresh(drill_settings())
    host.put(f"{UNITS}snapshot.timer")
    host.put(f"{UNITS}drill.service.d/x.conf", "[Service]\n")
    enforce.enforce(host, it, ["BKP-004"])
    assert host.read(f"{UNITS}snapshot.timer") is None
    stopped = "systemctl disable --now --quiet rocksalt-backup-snapshot.timer"
    assert stopped in ran(host, "systemctl", "disable")
    assert host.read(f"{UNITS}drill.service.d/x.conf.disabled-by-rocksalt") == "[Service]\n"


def test_a_schedule_is_taken_over_by_a_restart(fresh, host):
    it = fresh({**master_settings(), "run_by": "salt"})
    enforce.enforce(host, it, ["BKP-004", "BKP-005"])
    assert "backup.snapshot" in host.read("/etc/salt/master.d/rocksalt-backup.conf")
    assert ran(host, "systemctl", "try-restart", "salt-master.service")
    assert not ran(host, "systemctl", "enable")


def test_nothing_is_made_where_there_is_no_master(fresh, host):
    it = fresh(master_settings())
    host.answer("systemctl show salt-master.service", "Id=salt-master.service\n")
    with pytest.raises(Refused, match="there is no Salt master here"):
        enforce.enforce(host, it, ALL)
    assert not host.path(config.FOLDER).exists()


@pytest.mark.parametrize(
    ("command", "ids", "words"),
    [
        ("/bin/salt-run", ["BKP-007"], "salt-run saltutil.sync_all: no route"),
        ("systemctl", ["BKP-005"], "no route"),
        ("systemctl start", ["BKP-010"], "systemctl start --no-block .*: no route"),
    ],
)
def test_what_fails_is_told(fresh, host, command, ids, words):
    it = fresh(master_settings())
    host.answer(command, status=1, err="no route")
    with pytest.raises(Refused, match=words):
        enforce.enforce(host, it, ids)


def test_one_step_that_fails_does_not_hold_up_the_others(fresh, host):
    it = fresh(master_settings())
    host.put(config.SIGNING_KEY, "no key")
    host.answer("/bin/salt-run", status=1, err="no route")
    with pytest.raises(Refused) as caught:
        enforce.enforce(host, it, ["BKP-002", "BKP-003", "BKP-007"])
    assert re.fullmatch("salt-run saltutil.sync_all: no route", str(caught.value))
    assert state(it, "BKP-002")
    assert not state(it, "BKP-003")


def test_a_first_snapshot_that_takes_long_goes_on_by_itself(fresh, host, monkeypatch):
    it = fresh(master_settings())
    unit = "rocksalt-backup-snapshot.service"
    host.answer(f"systemctl show {unit}", f"Id={unit}\nActiveState=activating\n")
    monkeypatch.setattr(enforce, "_PATIENCE", 0.0)
    with pytest.raises(Refused, match=f"{unit} has not ended in 0 s and goes on"):
        enforce.enforce(host, it, ["BKP-010"])


def test_clean_keeps_keys_snapshots_and_the_store(fresh, host):
    it = fresh(vault_settings())
    host.put("/etc/passwd", "root:x:0:0::/root:/bin/bash\n")
    enforce.enforce(host, it, ["BKP-002", "BKP-003", "BKP-004", "BKP-030", "BKP-031"])
    found = enforce.leftovers(host, place())
    assert {config.PATH, program.PATH, KEY_FILE, f"{UNITS}verify.timer"} <= {*found}
    enforce.clean(host, place())
    assert enforce.leftovers(host, place()) == []
    for path in (config.SIGNING_KEY, "/srv/vault"):
        assert host.attributes(path)

"""rocksalt.backup.family.units: what starts the jobs of a host."""

from __future__ import annotations

import json

import pytest
from backup_hosts import drill_settings, master_settings, setup, vault_settings

from rocksalt.backup.family import units

UNITS = "/etc/systemd/system/rocksalt-backup-"
VERIFY = f"{UNITS}verify.{{}}"
KINDS = ("service", "timer")


@pytest.mark.parametrize(
    ("minutes", "expression"),
    [
        (5, "*:0/5"),
        (30, "*:0/30"),
        (60, "0/1:00"),
        (720, "0/12:00"),
        (1440, "*-*-* 03:30"),
        (168 * 60, "Sun *-*-* 03:30"),
        (720 * 60, "*-*-01 03:30"),
    ],
)
def test_calendar(minutes, expression):
    assert units.calendar(minutes) == expression


def test_every_interval_divides_the_time_it_counts_in(shipped):
    """Else the last interval of an hour or a day would be a short one."""
    for minutes in shipped["backup"].schema["interval"]["choices"]:
        assert (60 if minutes < 60 else 1440) % minutes == 0
    for hours in shipped["backup"].schema["verify_every"]["choices"]:
        assert 24 % hours == 0 or hours == 168


def test_a_host_without_a_role_does_nothing(shipped):
    assert setup(shipped, {}).units() == {}
    assert setup(shipped, {}).timers() == []


def test_a_master_takes_snapshots_and_checks_them(shipped):
    it = setup(shipped, master_settings(interval=30, jitter=60))
    texts = it.units()
    assert set(texts) == {
        f"{UNITS}{name}.{kind}" for name in ("snapshot", "verify") for kind in ("service", "timer")
    }
    service, timer = texts[f"{UNITS}snapshot.service"], texts[f"{UNITS}snapshot.timer"]
    assert "ExecStart=/bin/salt-run --config-dir=/etc/salt backup.snapshot\n" in service
    assert "SuccessExitStatus=4 5\n" in service, "warnings and another run are no failures"
    assert "NoNewPrivileges=true\n" in service
    for path in ("/etc/salt", "/var/lib/rocksalt/backup", "/mnt/near"):
        assert f'ReadWritePaths="-{path}"\n' in service
    assert "PrivateTmp" not in service, "its vaults or its sources may be there"
    assert "OnCalendar=*:0/30\n" in timer
    assert "RandomizedDelaySec=60\n" in timer
    assert "Persistent=true\n" in timer
    assert "backup.verify" in texts[f"{UNITS}verify.service"]
    assert it.timers() == ["rocksalt-backup-snapshot.timer", "rocksalt-backup-verify.timer"]


def test_a_vault_checks_itself_and_a_drill_host_restores_by_the_program(shipped):
    vault = setup(shipped, vault_settings()).units()
    assert "ExecStart=/usr/local/sbin/rocksalt-backup verify\n" in vault[f"{UNITS}verify.service"]
    drill = setup(shipped, drill_settings()).units()
    assert set(drill) == {*map(f"{UNITS}drill.{{}}".format, KINDS), *map(VERIFY.format, KINDS)}
    assert 'ReadWritePaths="-/srv/vault"\n' in vault[VERIFY.format("service")]
    service = drill[f"{UNITS}drill.service"]
    assert "ExecStart=/usr/local/sbin/rocksalt-backup drill\n" in service
    assert "NoNewPrivileges" not in service, "it starts a Salt master in namespaces"


def test_a_drill_host_without_an_identity_only_checks(shipped):
    own = drill_settings()
    del own["drill"]["identity"]
    it = setup(shipped, own)
    assert set(it.units()) == {*map(VERIFY.format, KINDS)}
    assert it.timers() == ["rocksalt-backup-verify.timer"]


def test_paths_that_systemd_would_read_otherwise(shipped):
    it = setup(shipped, master_settings(spool='/mnt/a "b" 100%'))
    service = it.units()[f"{UNITS}snapshot.service"]
    assert r'ReadWritePaths="-/mnt/a \"b\" 100%%"' in service


def test_the_masters_own_schedule_in_place_of_timers(shipped):
    it = setup(shipped, master_settings(run_by="salt", interval=120, jitter=9))
    texts = it.units()
    assert it.timers() == []
    assert not any(path.endswith(".timer") for path in texts)
    header, _, body = texts["/etc/salt/master.d/rocksalt-backup.conf"].partition("\n")
    assert header.startswith("#")
    jobs = json.loads(body)["schedule"]
    assert jobs["rocksalt-backup-snapshot"] == {
        "function": "backup.snapshot", "minutes": 120, "splay": 9, "run_on_start": False,
    }  # fmt: skip
    assert jobs["rocksalt-backup-verify"]["minutes"] == 1440


def test_a_vault_has_timers_whatever_runs_the_jobs_of_masters(shipped):
    assert setup(shipped, {**vault_settings(), "run_by": "salt"}).timers()

"""rocksalt.backup.check: one line for a monitoring agent."""

from __future__ import annotations

import argparse
import json

import pytest
from backup_hosts import NOW, ago, good_status, vault_settings

from rocksalt.backup import check, config

LOAD = config.load


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """The line and the exit code for a status, on a host without a vault unless told."""

    def call(value=None, settings=None, *options):
        path = tmp_path / "status.json"
        if value is not None:
            path.write_text(value if isinstance(value, str) else json.dumps(value))
        own = tmp_path / "config.json"
        if settings is not None:
            own.write_text(json.dumps(settings))
        monkeypatch.setattr(config, "load", lambda: LOAD(str(own)))
        parser = argparse.ArgumentParser()
        check.arguments(parser)
        code = check.run(parser.parse_args(["--status", str(path), *options]), NOW)
        return code, capsys.readouterr().out

    return call


def test_all_is_well(run):
    code, line = run(good_status())
    assert code == check.FINE
    assert line == (
        "BACKUP OK - snapshot #7 is 20 min old; check of the vaults 9 hours ago; "
        "restore drill 2 days ago | age=1200s;4800;8700 size=4000B vaults_behind=0;0;1 "
        "verify_age=32400s;180000 drill_age=172800s;1224000\n"
    )


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"time": ago(hours=3)}, check.CRITICAL, "snapshot #7 is 3 hours old"),
        ({"time": ago(hours=-1)}, check.WARNING, "is from the future"),
        ({"code": 1, "reason": "full disk"}, check.CRITICAL, "the last snapshot failed: full disk"),
        ({"code": 6, "reason": ""}, check.CRITICAL, "the last snapshot failed: 6"),
        ({"code": 4, "warnings": ["a", "b"]}, check.WARNING, "20 min old with 2 warnings"),
        ({"vaults": {"far": {"sequence": 7}, "near": {"sequence": 5}}}, check.WARNING, "in near"),
        ({"vaults": {"far": {"sequence": 5}}}, check.CRITICAL, "it is not in far"),
    ],
)
def test_what_a_snapshot_can_have(run, change, code, words):
    status = good_status()
    status["snapshot"].update(change)
    if "time" in change:
        status["snapshot"]["next"] = ago(hours=2 if "3 hours" in words else -2)
    found, line = run(status)
    assert found == code
    assert words in line
    assert line.startswith(f"BACKUP {check.WORDS[code]} - ")


def test_late_and_lost(run):
    """A snapshot every hour: late after 75 minutes, lost after 135."""
    for minutes, code in ((74, check.FINE), (76, check.WARNING), (136, check.CRITICAL)):
        status = good_status()
        status["snapshot"].update(time=ago(minutes=minutes), next=ago(minutes=minutes - 60))
        assert run(status)[0] == code, minutes


@pytest.mark.parametrize(
    ("section", "change", "code", "words"),
    [
        ("verify", {"code": 7}, check.CRITICAL, "the last check of the vaults failed with 7"),
        ("verify", {"time": ago(days=3)}, check.WARNING, "the last check of the vaults was 3 days"),
        ("drill", {"code": 1}, check.CRITICAL, "the last restore drill failed with 1"),
        ("drill", {"time": ago(days=20)}, check.WARNING, "the last restore drill was 20 days ago"),
    ],
)
def test_checks_and_drills(run, section, change, code, words):
    status = good_status()
    status[section].update(change)
    found, line = run(status)
    assert (found, words in line) == (code, True)


@pytest.mark.parametrize("text", [None, "{", '{"schema": 2}', '{"schema": 1, "snapshot": {}}'])
def test_what_cannot_be_understood_is_unknown(run, text):
    code, line = run(text)
    assert code == check.UNKNOWN
    assert line.startswith("BACKUP UNKNOWN - ")


def test_vaults_that_were_never_checked(run):
    """Seven snapshots, one every 65 minutes, and no check: soon, or two days late."""
    status = good_status()
    del status["verify"]
    assert run(status)[0] == check.FINE
    code, line = run(status, None, "--verify-hours", "7")
    assert (code, "the vaults were never checked" in line) == (check.WARNING, True)


@pytest.mark.parametrize(
    ("section", "change", "words"),
    [
        ("verify", {"code": 4, "vaults": {"far": {"newest": None}}}, "saw no snapshot in far"),
        ("drill", {"code": 4, "steps": {"fetch": "ok"}}, "did not come to compare, keys, master"),
    ],
)
def test_what_looked_at_nothing_is_not_fine(run, section, change, words):
    status = good_status()
    status[section].update(change)
    code, line = run(status)
    assert (code, words in line) == (check.WARNING, True)


@pytest.mark.parametrize(
    ("known", "code"),
    [
        (("verify",), check.UNKNOWN),
        (("verify", "snapshot"), check.FINE),
        (("verify", "drill"), check.FINE),
    ],
)
def test_a_vault_host_is_looked_at_by_root(run, monkeypatch, known, code):
    monkeypatch.setattr(check, "_readable", lambda path: False)
    found, line = run({key: value for key, value in good_status().items()
                       if key in ("schema", "instance", *known)})  # fmt: skip
    assert (found, "run as root" in line) == (code, code == check.UNKNOWN)


def test_what_can_be_read(tmp_path):
    assert check._readable(str(tmp_path / "none"))
    assert not check._readable(str(tmp_path))
    (tmp_path / "file").write_text("")
    assert check._readable(str(tmp_path / "file"))


def test_what_is_bad_is_told_beside_what_is_unknown(run):
    status = good_status()
    status["snapshot"].update(code=1, reason="full disk")
    status["verify"] = {"code": 0}
    code, line = run(status)
    assert code == check.CRITICAL
    assert "full disk" in line


def test_a_vault_host_tells_when_it_received_something(run, tmp_path, shipped):
    defaults = {name: spec["default"] for name, spec in shipped["backup"].schema.items()}
    own = {**defaults, **vault_settings(path=str(tmp_path / "vault"))}
    code, line = run(None, own)
    assert (code, "nothing was received from control" in line) == (check.CRITICAL, True)
    folder = tmp_path / "vault/control"
    folder.mkdir(parents=True)
    for number, hours in ((1, 9), (2, 1)):
        path = folder / f"{number:08d}-20261122T130000Z.receipt.json"
        path.write_text(json.dumps({"received": ago(hours=hours)}))
    code, line = run(None, own)
    assert code == check.FINE
    assert "control sent its last snapshot 60 min ago | received_control=3600s;;8400" in line
    path.write_text(json.dumps({"received": ago(hours=3)}))
    assert run(None, own)[0] == check.CRITICAL

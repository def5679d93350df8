"""The runner as a person runs it: exit codes, answers, events, also while the master is down."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from saltfactories.manager import FactoriesManager
from saltfactories.utils import random_string

from conftest import ENVIRONMENT, REPOSITORY, program
from rocksalt.backup.crypto import age, recipients, sshsig

OK, FAILED, WARNINGS, LOCKED, UNREACHABLE, UNVERIFIED = 0, 1, 4, 5, 6, 7


class Backup:
    """A real master, its settings below ``folder``, and two vaults that are folders."""

    def __init__(self, factories: FactoriesManager, folder: Path):
        self.folder = folder
        self.config = folder / "rocksalt/config.json"
        self.status = folder / "status.json"
        self.factory = factories.salt_master_daemon(
            random_string("backup-"),
            overrides={
                "runner_dirs": [str(REPOSITORY / "_runners")],
                "utils_dirs": [str(REPOSITORY / "_utils")],
                "rocksalt_backup": str(self.config),
                "rocksalt_backup_status": str(self.status),
                "pytest-master": {"log": {"level": "warning"}},
            },
        )
        for name in ("rocksalt", "near", "far"):
            (folder / name).mkdir()
        identity, reader = age.generate()
        (folder / "identity").write_text(identity)
        sshsig.generate(folder / "authority")
        self.authority = sshsig.Signer.load(folder / "authority")
        sshsig.generate(folder / "rocksalt/signing")
        vault = {
            "type": "file", "location": "there", "admin_domain": "them", "allow_unencrypted": True,
        }  # fmt: skip
        escrow = age.generate()[1]
        self.settings: dict[str, Any] = {
            "master": True, "instance": "master1", "location": "here", "admin_domain": "us",
            "authority": self.authority.public, "recipients": [reader, escrow], "escrow": escrow,
            "customers": {}, "revision": 1, "success": 0, "extra": [], "exclude": [],
            "run_by": "systemd", "interval": 60, "jitter": 300, "full_every": 24,
            "spool": str(folder / "spool"), "verify_every": 24, "drill_every": 168,
            "drill_keys": [], "receiver": {}, "drill": {},
            "vaults": {name: {**vault, "path": str(folder / name)} for name in ("near", "far")},
        }  # fmt: skip
        record = recipients.record_bytes({**self.settings, "authorisation": ""})
        signature = self.authority.sign(record, recipients.NAMESPACE)
        self.settings["authorisation"] = signature.decode()
        self.configure()

    def configure(self, **changes: Any) -> None:
        self.config.write_text(json.dumps({**self.settings, **changes}))
        self.config.chmod(0o600)

    def run(self, *words: str) -> tuple[int, Any]:
        """The exit code of ``salt-run`` and what it printed as JSON."""
        command = [program("salt-run"), "-c", self.factory.config_dir, "--out=json", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env=ENVIRONMENT
        )
        assert done.stdout, done
        return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def stopped(salt_factories: FactoriesManager, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    return Backup(salt_factories, tmp_path_factory.mktemp("backup"))


@pytest.fixture(scope="module")
def backup(stopped: Backup) -> Iterator[Backup]:
    with stopped.factory.started():
        yield stopped


def test_plan(backup: Backup) -> None:
    code, plan = backup.run("backup.plan")
    assert code == OK
    operator = plan["parts"]["operator"]
    assert any("conf_file" in root["why"] for root in operator["roots"].values())
    assert operator["files"] > 3
    assert any("cachedir" in why for why in plan["excluded"].values())
    assert all(os.path.isabs(path) for path in (*operator["roots"], *plan["excluded"]))


def test_a_snapshot_and_what_the_event_bus_hears(backup: Backup, event_listener: Any) -> None:
    begun = time.time()
    code, done = backup.run("backup.snapshot")
    assert (code, done["sequence"], done["kind"], done["reason"]) == (OK, 1, "full", "")
    assert {name: vault["sequence"] for name, vault in done["vaults"].items()} == {
        "near": 1, "far": 1,
    }  # fmt: skip
    wanted = [(backup.factory.id, f"salt/backup/master1/{what}") for what in ("start", "done")]
    heard = event_listener.wait_for_events(wanted, after_time=begun, timeout=30)
    assert heard.found_all_events, heard.missed
    (last,) = [event for event in heard.matches if event.tag.endswith("/done")]
    assert (last.data["code"], last.data["vaults"]) == (OK, {"near": 1, "far": 1})


def test_nothing_changed(backup: Backup) -> None:
    code, done = backup.run("backup.snapshot")
    assert (code, done["sequence"]) == (OK, 2)
    code, done = backup.run("backup.snapshot", "full=True")
    assert (code, done["sequence"], done["kind"]) == (OK, 3, "full")


def test_list_and_show(backup: Backup) -> None:
    code, found = backup.run("backup.list", "far")
    assert (code, found["vault"], sorted(found["snapshots"])) == (OK, "far", ["1", "2", "3"])
    code, found = backup.run("backup.show", "3")
    assert (code, found["full"], found["archives"]["operator"]["changed"]) == (OK, 3, 0)
    assert found["versions"]["salt"].startswith("300")


def test_verify(backup: Backup) -> None:
    code, found = backup.run("backup.verify")
    assert (code, found["code"]) == (OK, OK), found
    assert {name: vault["snapshots"] for name, vault in found["vaults"].items()} == {
        "near": 3, "far": 3,
    }  # fmt: skip


def test_restore(backup: Backup) -> None:
    target, pki = backup.folder / "restored", backup.factory.config["pki_dir"]
    words = (str(backup.folder / "identity"), str(target), f"paths={pki}", "snapshot=1")
    code, found = backup.run("backup.restore", *words)
    assert (code, found["sequence"], found["problems"]) == (OK, 1, [])
    for name in ("master.pem", "master.pub"):
        restored = Path(f"{target}{pki}") / name
        assert restored.read_bytes() == (Path(pki) / name).read_bytes()
    code, found = backup.run("backup.restore", *words)
    assert (code, str(target) in found["reason"]) == (FAILED, True)


def test_status_is_what_the_runs_noted(backup: Backup) -> None:
    code, found = backup.run("backup.status")
    assert (code, found["snapshot"]["sequence"], found["verify"]["code"]) == (OK, 3, OK)


def test_record_is_what_the_authority_signs(backup: Backup) -> None:
    code, found = backup.run("backup.record")
    assert (code, found["record"].encode()) == (OK, recipients.record_bytes(backup.settings))


def test_a_drill_is_refused(backup: Backup) -> None:
    code, found = backup.run("backup.drill")
    assert (code, "must never be on the master" in found["reason"]) == (FAILED, True)


WRONG: dict[str, tuple[tuple[str, ...], int, str]] = {
    "vault": (("backup.list", "fra"), FAILED, "no vault 'fra'; there are near, far"),
    "snapshot": (("backup.show", "77"), FAILED, "no snapshot with the number 77"),
    "time": (("backup.show", "yesterday"), FAILED, "nor a time like"),
    "identity": (("backup.restore", "[1, {}]", "[]", "paths=7"), FAILED, "identity: [1, {}] is"),
    "vaults": (("backup.verify", "vaults=[near, 7]"), FAILED, "vaults: ['near', 7] is neither"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_end_in_a_sentence(backup: Backup, case: str) -> None:
    words, wanted, why = WRONG[case]
    code, found = backup.run(*words)
    assert (code, why in found["reason"]) == (wanted, True)


def test_two_at_once(backup: Backup) -> None:
    with open(backup.folder / "spool/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, found = backup.run("backup.snapshot")
    assert (code, "another snapshot is at work" in found["reason"]) == (LOCKED, True)


def test_a_vault_that_is_gone(backup: Backup, event_listener: Any) -> None:
    os.rename(backup.folder / "far", backup.folder / "away")
    code, found = backup.run("backup.snapshot")
    assert (code, found["vaults"]["near"]["sequence"]) == (UNREACHABLE, 4)
    code, found = backup.run("backup.verify")
    assert code == UNREACHABLE
    os.rename(backup.folder / "away", backup.folder / "far")
    code, found = backup.run("backup.snapshot")
    assert (code, found["vaults"]["far"]["sequence"]) == (OK, 5)


def test_recipients_that_nobody_authorised(backup: Backup, event_listener: Any) -> None:
    begun = time.time()
    backup.configure(revision=2)
    code, found = backup.run("backup.snapshot")
    backup.configure()
    assert (code, "ssh-keygen -Y sign" in found["reason"]) == (UNVERIFIED, True)
    wanted = [(backup.factory.id, "salt/backup/master1/failed")]
    heard = event_listener.wait_for_events(wanted, after_time=begun, timeout=30)
    assert heard.found_all_events
    (event,) = heard.matches
    assert (event.data["code"], event.data["class"]) == (UNVERIFIED, "Unverified")
    assert "reason" not in event.data


def test_a_chain_begins_where_a_vault_is_away_only_when_told_so(backup: Backup) -> None:
    vaults = {**backup.settings["vaults"]}
    (backup.folder / "first").mkdir()
    vaults["near"] = {**vaults["near"], "path": str(backup.folder / "first")}
    vaults["far"] = {**vaults["far"], "path": str(backup.folder / "nowhere")}
    status = backup.status.read_bytes()
    backup.status.unlink()
    backup.configure(vaults=vaults, spool=str(backup.folder / "spool2"))
    code, found = backup.run("backup.snapshot")
    assert (code, "backup.snapshot begin=True" in found["reason"]) == (UNREACHABLE, True)
    code, found = backup.run("backup.snapshot", "begin=True")
    assert (code, found["sequence"], found["warnings"]) == (UNREACHABLE, 1, 0)
    backup.configure()
    backup.status.write_bytes(status)


@pytest.mark.parametrize(
    ("missing", "why"),
    [("signing", "makes this key"), ("config.json", "state.apply hardening.backup writes it")],
)
def test_a_host_that_was_not_set_up(backup: Backup, missing: str, why: str) -> None:
    path = backup.folder / "rocksalt" / missing
    os.rename(path, f"{path}.away")
    code, found = backup.run("backup.snapshot")
    os.rename(f"{path}.away", path)
    assert (code, why in found["reason"]) == (FAILED, True)


def test_a_master_that_is_down_is_backed_up(backup: Backup) -> None:
    backup.factory.terminate()
    begun = time.monotonic()
    code, found = backup.run("backup.snapshot")
    assert (code, found["sequence"]) == (OK, 6)
    assert time.monotonic() - begun < 30

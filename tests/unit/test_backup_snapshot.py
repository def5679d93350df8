"""Snapshots: the chain, the vaults, and what goes wrong with them."""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_master import BEGIN, HOUR, Master, Memory

from rocksalt.backup import manifest, names, status
from rocksalt.backup.crypto import age, sshsig
from rocksalt.backup.errors import (
    FAILED,
    OK,
    UNREACHABLE,
    UNVERIFIED,
    WARNINGS,
    BackupError,
    Locked,
    Unreachable,
    Unverified,
)
from rocksalt.backup.family import history
from rocksalt.backup.packing import pack
from rocksalt.backup.progress import Step
from rocksalt.backup.snapshots.spool import Spool


@pytest.fixture
def master(tmp_path: Path) -> Master:
    return Master(tmp_path)


@pytest.fixture
def vault() -> Memory:
    return Memory()


def kinds(vault: Memory) -> list[str]:
    return [entry.kind for entry in vault.manifests()]


def assert_chain(vault: Memory, signer: str) -> None:
    """Every manifest is signed, follows the one before, and its archives are as it says."""
    previous, started = "", ""
    for count, entry in enumerate(vault.manifests(), 1):
        data = vault.objects[entry.name]
        signature = vault.objects[entry.name + names.SIGNATURE]
        sshsig.verify(data, signature, manifest.NAMESPACE, [signer])
        assert (entry.sequence, entry.previous) == (count, previous)
        assert entry.started > started
        for archive in entry.archives.values():
            assert hashlib.sha256(vault.objects[archive.name]).hexdigest() == archive.sha256
        previous, started = manifest.digest(data), entry.started


# The chain


def test_the_first_is_full_and_the_next_is_the_same(master, vault):
    first, second = master.take(vault), master.take(vault, at=BEGIN + HOUR)
    assert (first.code, first.sequence, first.kind) == (OK, 1, "full")
    assert (second.code, second.sequence, second.kind) == (OK, 2, "same")
    assert vault.manifests()[1].same_as == 1
    assert vault.manifests()[1].archives == {}
    assert_chain(vault, master.signer.public)


def test_archives_come_first_and_the_manifest_last(master, vault):
    master.take(vault)
    archive, *rest = vault.order
    assert names.ARCHIVE.fullmatch(archive)
    assert rest == ["00000001-20261122T130000Z.json.sig", "00000001-20261122T130000Z.json"]


@pytest.mark.parametrize(
    "change",
    [
        lambda master: master.write("srv/salt/new.sls", "x"),
        lambda master: master.write("srv/salt/top.sls", "x"),
        lambda master: os.remove(master.path("srv/salt/top.sls")),
        lambda master: os.chmod(master.path("srv/salt/top.sls"), 0o600),
        lambda master: master.authorise(revision=2),
        lambda master: master.settings.update(exclude=[master.path("srv/salt")]),
    ],
)
def test_a_change_makes_a_full(master, vault, change):
    master.take(vault)
    change(master)
    assert master.take(vault, at=BEGIN + HOUR).kind == "full"


def test_nothing_changed_and_still_a_full_once_a_day(master, vault):
    for hours in range(26):
        master.take(vault, at=BEGIN + hours * HOUR)
    assert [n for n, kind in enumerate(kinds(vault)) if kind == "full"] == [0, 24]


def test_force_makes_a_full(master, vault):
    master.take(vault)
    assert master.take(vault, at=BEGIN + HOUR, force=True).kind == "full"


def test_a_torn_full_is_not_relied_on(master, vault, monkeypatch):
    real = pack.pack

    def torn(part, readers, target, progress):
        done = real(part, readers, target, progress)
        done.warnings.append(pack.Warning("changed", "/srv/x", "it grew"))
        return done

    monkeypatch.setattr("rocksalt.backup.snapshots.building.pack", torn)
    first = master.take(vault)
    assert (first.code, first.warnings) == (WARNINGS, ["/srv/x: changed: it grew"])
    assert vault.manifests()[0].warnings == {"changed": 1}
    assert b"/srv/x" not in vault.objects[vault.manifests()[0].name]
    assert master.take(vault, at=BEGIN + HOUR).kind == "full"


def test_the_manifest_says_what_is_in_it(master, vault):
    master.take(vault)
    entry = vault.manifests()[0]
    operator = entry.archives["operator"]
    assert (operator.files, operator.changed > 0) == (5, True)
    assert entry.next == "2026-11-22T14:05:00Z"
    assert entry.recipients["recipients"] == sorted([master.reader, master.escrow])
    assert entry.versions["rocksalt"]


def test_changed_counts_what_differs_from_the_full_before(master, vault):
    master.take(vault)
    master.write("srv/salt/new.sls", "x")
    master.take(vault, at=BEGIN + HOUR)
    assert vault.manifests()[1].archives["operator"].changed == 2  # the file, and its folder


def test_customers_have_archives_of_their_own(master, vault):
    key = age.generate()[1]
    paths = [master.path("srv/pillar/acme"), master.path("srv/pillar/gone")]
    master.authorise(customers={"acme": {"recipients": [key], "paths": paths}})
    result = master.take(vault)
    archives = vault.manifests()[0].archives
    assert archives["customer-acme"].recipients == [age.fingerprint(key)]
    assert (archives["customer-acme"].files, archives["operator"].files) == (1, 4)
    assert (result.code, len(result.warnings)) == (WARNINGS, 1)
    assert "srv/pillar/gone is not in the snapshot" in result.warnings[0]


def test_a_hard_link_to_a_customer_s_file_is_told_and_not_packed_for_the_operator(master, vault):
    paths = [master.path("srv/pillar/acme")]
    os.link(f"{paths[0]}/secret.sls", master.path("srv/pillar/old-copy.sls"))
    master.authorise(customers={"acme": {"recipients": [age.generate()[1]], "paths": paths}})
    result = master.take(vault)
    archives = vault.manifests()[0].archives
    assert (archives["customer-acme"].files, archives["operator"].files) == (1, 4)
    assert (result.code, len(result.warnings)) == (WARNINGS, 1)
    assert "old-copy.sls: foreign: is a hard link" in result.warnings[0]


def test_recipients_that_nobody_authorised_are_refused_before_anything_is_packed(master, vault):
    master.settings["revision"] = 2
    with pytest.raises(Unverified, match="ssh-keygen -Y sign"):
        master.take(vault)
    assert vault.objects == {}
    assert status.read(master.status)["snapshot"]["code"] == Unverified.code


# Clocks


@pytest.mark.parametrize(
    "at", [BEGIN - dt.timedelta(days=1), dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)]
)
def test_a_clock_that_was_set_back(master, vault, at):
    master.take(vault)
    result = master.take(vault, at=at)
    assert result.code == WARNINGS
    assert result.started == "2026-11-22T13:00:01Z"
    assert "clock" in vault.manifests()[1].warnings
    assert_chain(vault, master.signer.public)


def test_a_clock_that_was_a_day_ahead(master, vault):
    master.take(vault, at=BEGIN + 24 * HOUR)
    assert master.take(vault).started == "2026-11-23T13:00:01Z"
    assert master.take(vault, at=BEGIN + 25 * HOUR).code == OK
    assert_chain(vault, master.signer.public)


def test_a_clock_that_leaps_ahead_is_not_believed(master, vault):
    master.take(vault)
    later = BEGIN + dt.timedelta(days=3650)
    with pytest.raises(BackupError, match=r"the clock says 2036-11-19.* full=True"):
        master.take(vault, at=later)
    assert len(vault.manifests()) == 1
    assert master.take(vault, at=BEGIN + HOUR).code == OK
    assert master.take(vault, at=BEGIN + 29 * 24 * HOUR).code == OK
    assert master.take(vault, at=later, force=True).code == OK


def test_two_in_one_second(master, vault):
    assert [master.take(vault).code, master.take(vault).code] == [OK, OK]
    assert_chain(vault, master.signer.public)


# Vaults that fail


def test_one_vault_that_is_away_stops_nobody_and_catches_up(master, vault):
    far = Memory("far")
    master.take(vault, far)
    far.away = True
    for hours in (1, 2):
        master.write("srv/salt/top.sls", str(hours))
        result = master.take(vault, far, at=BEGIN + hours * HOUR)
        assert result.code == UNREACHABLE
        assert "no route" in result.vaults["far"]["error"]
        assert (result.vaults["near"]["sequence"], result.vaults["far"]["sequence"]) == (
            hours + 1,
            1,
        )
    assert len(os.listdir(master.path("state/spool/outbox"))) == 2
    far.away = False
    assert master.take(vault, far, at=BEGIN + 3 * HOUR).code == OK
    assert far.objects == vault.objects
    assert far.order == vault.order
    assert os.listdir(master.path("state/spool/outbox")) == []


def test_success_is_what_was_asked_for(master, vault):
    far = Memory("far")
    master.take(vault, far)
    master.settings["success"], far.away = 1, True
    result = master.take(vault, far, at=BEGIN + HOUR)
    assert (result.code, "no route" in result.reason) == (WARNINGS, True)


def test_a_vault_that_refuses_is_a_failure(master, vault):
    far = Memory("far")
    master.take(vault, far)
    far.objects["00000002-20261122T140000Z.json"] = b"squatter"
    result = master.take(vault, far, at=BEGIN + HOUR)
    assert result.code == FAILED
    assert (result.vaults["near"]["sequence"], result.vaults["far"]["sequence"]) == (2, 1)


def test_any_error_of_a_vault_stays_with_it(master, vault):
    far = Memory("far")
    far.names = lambda: 1 / 0  # type: ignore[method-assign, return-value, assignment]
    result = master.take(far, vault, begin=True)
    assert (result.code, result.vaults["near"]["sequence"]) == (FAILED, 1)
    assert result.vaults["far"]["error"] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("at", ["tar", ".json.sig", ".json"])
def test_a_vault_that_breaks_off_gets_the_rest_later(master, vault, at):
    vault.fails_at = at
    assert master.take(vault).code == UNREACHABLE
    vault.fails_at = ""
    assert master.take(vault, at=BEGIN + HOUR).code == OK
    assert_chain(vault, master.signer.public)


def test_a_witness_gets_no_archives(master, vault):
    witness = Memory("witness")
    master.settings["vaults"] = {"witness": {"archives": False}}
    master.take(vault, witness)
    name = vault.manifests()[0].name
    assert witness.order == [f"{name}.sig", name]


def test_a_vault_that_is_new_begins_with_a_full(master, vault):
    master.take(vault)
    new = Memory("new")
    result = master.take(vault, new, at=BEGIN + HOUR)
    assert (result.code, result.kind) == (OK, "full")
    assert [entry.sequence for entry in new.manifests()] == [2]
    assert master.take(vault, new, at=BEGIN + 2 * HOUR).kind == "same"


def test_a_vault_that_tells_nothing_is_served_from_memory(master, vault):
    vault.mute = True
    codes = [master.take(vault, at=BEGIN + n * HOUR, begin=n == 0).code for n in range(3)]
    assert codes == [OK] * 3
    assert [entry.sequence for entry in vault.manifests()] == [1, 2, 3]


def test_a_vault_that_lost_everything_begins_anew_under_another_name_alone(master, vault):
    far = Memory("far")
    master.take(vault, far)
    far.objects.clear()
    result = master.take(vault, far, at=BEGIN + HOUR)
    assert (result.code, result.vaults["near"]["sequence"]) == (UNVERIFIED, 2)
    assert "is empty, and confirmed #1: its disk is not mounted" in result.vaults["far"]["error"]
    assert (result.vaults["far"]["sequence"], far.objects) == (1, {})
    new = Memory("anew")
    result = master.take(vault, new, at=BEGIN + 2 * HOUR)
    assert (result.code, result.kind) == (OK, "full")


# Vaults that have less than they confirmed


def remove(vault: Memory, *sequences: int) -> dict[str, bytes]:
    """Takes snapshots out of a vault, as only its root can; returns them."""
    gone = {n: data for n, data in vault.objects.items() if int(n[:8]) in sequences}
    for name in gone:
        del vault.objects[name]
    return gone


@pytest.mark.parametrize("forgotten", ["", "vaults.json"])
def test_the_only_vault_goes_back_and_nothing_is_signed_twice(master, vault, forgotten):
    for hours in range(4):
        master.take(vault, at=BEGIN + hours * HOUR)
    gone = remove(vault, 2, 3, 4)
    if forgotten:
        os.remove(master.path(f"state/spool/{forgotten}"))
    for hours in (4, 5):
        result = master.take(vault, at=BEGIN + hours * HOUR)
        assert (result.code, result.sequence) == (UNVERIFIED, hours + 1)
        assert "has #1, and confirmed #4" in result.vaults["near"]["error"]
        assert (result.vaults["near"]["sequence"], len(vault.manifests())) == (4, 1)
    vault.objects.update(gone)
    assert master.take(vault, at=BEGIN + 6 * HOUR).code == OK
    assert [entry.sequence for entry in vault.manifests()] == [1, 2, 3, 4, 5, 6, 7]
    assert_chain(vault, master.signer.public)


def test_one_of_two_vaults_goes_back_and_is_not_refilled_in_silence(master, vault):
    far = Memory("far")
    for hours in range(4):
        master.take(vault, far, at=BEGIN + hours * HOUR)
    remove(far, 3, 4)
    result = master.take(vault, far, at=BEGIN + 4 * HOUR)
    assert (result.code, result.vaults["near"]["sequence"]) == (UNVERIFIED, 5)
    assert "has #2, and confirmed #4" in result.vaults["far"]["error"]
    assert len(far.manifests()) == 2
    master.settings["success"] = 1
    assert master.take(vault, far, at=BEGIN + 5 * HOUR).code == UNVERIFIED


def test_a_vault_whose_disk_was_not_mounted_goes_on_where_it_was(master, vault):
    for hours in range(3):
        master.take(vault, at=BEGIN + hours * HOUR)
    mounted, vault.objects = vault.objects, {}
    for hours in (3, 4):
        result = master.take(vault, at=BEGIN + hours * HOUR)
        assert (result.code, vault.objects) == (UNVERIFIED, {})
    vault.objects = mounted
    assert master.take(vault, at=BEGIN + 5 * HOUR).code == OK
    assert len(vault.manifests()) == 6
    assert_chain(vault, master.signer.public)


def test_what_a_vault_confirmed_is_safe_although_it_is_not_used_any_more(master, vault):
    far = Memory("far")
    for hours in range(3):
        master.take(vault, far, at=BEGIN + hours * HOUR)
    remove(far, 2, 3)
    far.name = "anew"
    result = master.take(far, at=BEGIN + 3 * HOUR)
    assert (result.sequence, result.code) == (4, FAILED)
    assert "needs snapshot #2" in result.vaults["anew"]["error"]


def test_a_lost_spool_does_not_go_on_from_less_than_some_vault_confirmed(master, vault):
    far = Memory("far")
    for hours in range(3):
        master.take(vault, far, at=BEGIN + hours * HOUR)
    lose(master)
    remove(far, 3)
    vault.away = True
    with pytest.raises(Unverified, match="some vault confirmed #3"):
        master.take(vault, far, at=BEGIN + 3 * HOUR)
    vault.away = False
    result = master.take(vault, far, at=BEGIN + 4 * HOUR)
    assert (result.sequence, result.code) == (4, UNVERIFIED)
    assert_chain(vault, master.signer.public)


# A spool that is lost, or an old copy


def lose(master: Master) -> None:
    shutil.rmtree(master.path("state/spool"))


def test_a_lost_spool_goes_on_from_the_vault(master, vault):
    master.take(vault)
    lose(master)
    result = master.take(vault, at=BEGIN + HOUR)
    assert (result.code, result.sequence, result.kind) == (WARNINGS, 2, "full")
    assert "the chain goes on from there" in result.warnings[0]
    assert_chain(vault, master.signer.public)


def test_an_old_copy_of_the_spool_does_not_fork(master, vault, tmp_path):
    master.take(vault)
    shutil.copytree(master.path("state/spool"), tmp_path / "copy")
    for hours in (1, 2):
        master.take(vault, at=BEGIN + hours * HOUR)
    lose(master)
    shutil.copytree(tmp_path / "copy", master.path("state/spool"))
    vault.away = True
    master.take(vault, at=BEGIN + 3 * HOUR)  # a second #2, which no vault has
    vault.away = False
    result = master.take(vault, at=BEGIN + 4 * HOUR)
    assert (result.code, result.sequence) == (WARNINGS, 4)
    assert any("is given up" in warning for warning in result.warnings)
    assert_chain(vault, master.signer.public)
    assert master.take(vault, at=BEGIN + 5 * HOUR).code == OK


def test_a_vault_that_lagged_when_the_spool_was_lost_is_served_from_another(master, vault):
    far = Memory("far")
    master.take(vault, far)
    far.away = True
    for hours in (1, 2):
        master.write("srv/salt/top.sls", str(hours))
        master.take(vault, far, at=BEGIN + hours * HOUR)
    lose(master)
    assert master.take(vault, far, at=BEGIN + 3 * HOUR).code == UNREACHABLE
    far.away = False
    result = master.take(vault, far, at=BEGIN + 4 * HOUR)
    assert result.vaults["far"]["error"] == ""
    assert far.objects == vault.objects
    assert_chain(far, master.signer.public)


def test_no_chain_begins_while_the_vault_that_may_have_one_is_away(master, vault):
    master.take(vault)
    lose(master)
    vault.away = True
    with pytest.raises(Unreachable, match="there was a snapshot #1"):
        master.take(vault, Memory("new"), at=BEGIN + HOUR)
    assert status.read(master.status)["snapshot"]["sequence"] == 1
    vault.away = False
    assert master.take(vault, at=BEGIN + 2 * HOUR).sequence == 2


def test_a_first_snapshot_needs_vaults_that_answer(master, vault):
    vault.away = True
    for vaults in ([vault], [vault, Memory("far")]):
        with pytest.raises(Unreachable, match=r"near \(.*no route to host\) cannot say"):
            master.take(*vaults)
    vault.away = False
    assert master.take(vault, Memory("far")).code == OK


def test_no_chain_begins_where_a_vault_tells_nothing_unless_told_so(master, vault, tmp_path):
    vault.mute = True
    with pytest.raises(Unverified, match=r"nothing\) cannot say.* backup\.snapshot begin=True"):
        master.take(vault)
    assert vault.objects == {}
    assert master.take(vault, begin=True).code == OK
    assert master.take(vault, at=BEGIN + HOUR, begin=True).sequence == 2  # there is a chain
    kept = Path(master.path("state/spool/chain"))
    newest = {path.name: path.read_bytes() for path in sorted(kept.iterdir())[-2:]}
    shutil.rmtree(master.path("state"))  # the host is rebuilt; its keys are restored
    with pytest.raises(Unverified, match=r"put its newest manifest and the \.sig"):
        master.take(vault, Memory("far"), at=BEGIN + 2 * HOUR)
    for name, data in newest.items():
        (kept / name).write_bytes(data)
    result = master.take(vault, at=BEGIN + 2 * HOUR)
    assert (result.code, result.sequence, result.kind) == (OK, 3, "full")
    assert_chain(vault, master.signer.public)


def test_a_chain_that_was_lost_begins_anew_when_told_so(master, vault):
    for hours in range(3):
        master.take(vault, at=BEGIN + hours * HOUR)
    lose(master)
    vault.objects.clear()
    with pytest.raises(Unverified, match="no vault has one; there was a snapshot #3"):
        master.take(vault, at=BEGIN + 3 * HOUR)
    result = master.take(vault, at=BEGIN + 3 * HOUR, begin=True)
    assert (result.code, result.sequence, result.vaults["near"]["sequence"]) == (OK, 1, 1)
    assert_chain(vault, master.signer.public)


def test_another_signing_key_continues_no_chain(master, vault):
    master.take(vault)
    lose(master)
    sshsig.generate(master.folder / "other")
    master.signer = sshsig.Signer.load(master.folder / "other")
    with pytest.raises(Unverified, match="goes on with the signing key it began with"):
        master.take(vault, at=BEGIN + HOUR)


def test_vaults_with_different_chains_are_told_apart(master, vault):
    far = Memory("far")
    master.take(vault, far)
    twin = Master.__new__(Master)
    twin.__dict__.update(master.__dict__)
    twin.settings = {**master.settings, "spool": master.path("state/twin")}
    shutil.copytree(master.path("state/spool"), twin.path("state/twin"))
    twin.take(far, at=BEGIN + HOUR)
    master.take(vault, at=BEGIN + 2 * HOUR)
    result = master.take(vault, far, at=BEGIN + 3 * HOUR)
    assert result.code == UNVERIFIED
    assert "another snapshot #2" in result.vaults["far"]["error"]
    assert_chain(vault, master.signer.public)


# Runs that die


def dying(
    master: Master, vaults: list[Memory], kill: Callable[[Step], bool], **options: Any
) -> int:
    """A run in a child process that is killed at a step; the child's vaults are lost with it, so
    what they got is handed over on disk.
    """
    child = os.fork()
    if not child:

        def progress(step: Step) -> None:
            if kill(step):
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            master.take(*vaults, progress=progress, **options)
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


class OnDisk(Memory):
    """A vault that outlives the process, and dies of the name ``dies_at``: before or after it."""

    def __init__(self, folder: Path):
        super().__init__("disk")
        self.folder, self.dies_at, self.dies_after = folder, "", False
        folder.mkdir()
        self.load()

    def load(self) -> None:
        self.objects = {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def put(self, name: str, source: Path, sha256: str) -> None:
        dies = self.dies_at and name.endswith(self.dies_at)
        if dies and not self.dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        super().put(name, source, sha256)
        (self.folder / name).write_bytes(self.objects[name])
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("phase", ["survey", "pack", "upload"])
def test_a_run_killed_in_a_phase_is_healed(master, tmp_path, phase):
    vault = OnDisk(tmp_path / "vault")
    master.take(vault)
    master.write("srv/salt/top.sls", "changed")
    died = dying(master, [vault], lambda step: step.phase == phase, at=BEGIN + HOUR)
    assert os.WTERMSIG(died) == signal.SIGKILL
    vault.load()
    assert master.take(vault, at=BEGIN + 2 * HOUR).code == OK
    assert_chain(vault, master.signer.public)
    assert sorted(os.listdir(master.path("state/spool"))) == [
        "chain", "index", "lock", "outbox", "vaults.json",
    ]  # fmt: skip
    assert os.listdir(master.path("state/spool/outbox")) == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", [".age", ".json.sig", ".json"])
def test_a_run_killed_while_it_uploads_is_healed(master, tmp_path, name, after):
    vault = OnDisk(tmp_path / "vault")
    vault.dies_at, vault.dies_after = name, after
    assert os.WTERMSIG(dying(master, [vault], lambda step: False)) == signal.SIGKILL
    vault.load()
    vault.dies_at = ""
    result = master.take(vault, at=BEGIN + HOUR)
    assert (result.code, result.sequence) == (OK, 2)
    assert_chain(vault, master.signer.public)


def renames(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The process dies right before its rename number ``at``."""
    count = iter(range(1000))

    def rename(source, target, real=os.rename, **options):
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target, **options)

    def replace(source, target, real=os.replace, **options):
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target, **options)

    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "replace", replace)


def test_a_run_killed_before_any_of_its_renames_is_healed(master, tmp_path, monkeypatch):
    vault, hours, died = OnDisk(tmp_path / "vault"), 0, True
    while died:
        master.write("srv/salt/top.sls", str(hours))
        with monkeypatch.context() as patched:
            renames(patched, hours)
            died = bool(dying(master, [vault], lambda step: False, at=BEGIN + 2 * hours * HOUR))
        vault.load()
        assert master.take(vault, at=BEGIN + (2 * hours + 1) * HOUR).code in (OK, WARNINGS)
        assert_chain(vault, master.signer.public)
        hours += 1
    assert hours > 8


def test_two_at_once(master, vault):
    master.take(vault)
    with open(master.path("state/spool/lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = status.read(master.status)
        with pytest.raises(Locked, match="another snapshot is at work"):
            master.take(vault, at=BEGIN + HOUR)
    assert status.read(master.status) == before


# Disks


def test_a_full_disk_loses_nothing_and_heals(master, vault, monkeypatch):
    far = Memory("far")
    master.take(vault, far)
    far.away = True
    master.write("srv/salt/top.sls", "2")
    master.take(vault, far, at=BEGIN + HOUR)
    far.away = False

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    master.write("srv/salt/top.sls", "3")
    with monkeypatch.context() as patched:
        patched.setattr("rocksalt.backup.snapshots.building.pack", full)
        with pytest.raises(BackupError, match="is full"):
            master.take(vault, far, at=BEGIN + 2 * HOUR)
    assert far.objects == vault.objects  # what waited was delivered all the same
    assert not list(Path(master.settings["spool"]).glob("*.partial"))
    last = status.read(master.status)["snapshot"]
    assert (last["code"], last["sequence"], last["tried"]) == (FAILED, 2, "2026-11-22T15:00:00Z")
    assert master.take(vault, far, at=BEGIN + 3 * HOUR).code == OK


def small_disk(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """The spool has room for so many bytes of archives."""

    def free(spool: Spool) -> int:
        return size - sum(path.stat().st_size for path in spool.outbox.glob("*/*.age"))

    monkeypatch.setattr(Spool, "free", free)


def waiting(master: Master) -> list[int]:
    """The snapshots whose archives are in the outbox."""
    found = Path(master.path("state/spool/outbox")).glob("*/*.age")
    return sorted(int(path.name[:8]) for path in found)


def test_the_outbox_does_not_fill_the_disk(master, vault, monkeypatch):
    far = Memory("far")
    size = master.take(vault, far).archives["operator"]["size"]
    far.away = True
    small_disk(monkeypatch, 5 * size // 2)
    for hours in (1, 2):
        master.write("srv/salt/top.sls", str(hours))
        result = master.take(vault, far, at=BEGIN + hours * HOUR)
    assert (result.code, "come from another vault" in result.warnings[0]) == (UNREACHABLE, True)
    assert waiting(master) == [3]
    far.away = False
    assert master.take(vault, far, at=BEGIN + 3 * HOUR).code == OK
    assert far.objects == vault.objects


def test_what_no_vault_has_stays_in_the_outbox(master, vault, monkeypatch):
    vault.fails_at = "tar"
    size = master.take(vault).archives["operator"]["size"]
    small_disk(monkeypatch, 7 * size // 2)
    for hours in (1, 2):
        master.write("srv/salt/top.sls", str(hours))
        master.take(vault, at=BEGIN + hours * HOUR)
    master.write("srv/salt/top.sls", "3")
    with pytest.raises(BackupError, match=r"has no room for .* 3 snapshots wait"):
        master.take(vault, at=BEGIN + 3 * HOUR)
    assert waiting(master) == [1, 2, 3]
    vault.fails_at = ""
    assert master.take(vault, at=BEGIN + 4 * HOUR, force=True).sequence == 4
    assert_chain(vault, master.signer.public)


def test_a_damaged_snapshot_in_the_outbox_stops_nothing(master, vault):
    far = Memory("far")
    master.take(vault, far)
    far.away = True
    master.take(vault, far, at=BEGIN + HOUR)
    damaged = next(Path(master.path("state/spool/outbox")).glob("*/*.json"))
    damaged.write_bytes(b"{}")
    far.away = False
    result = master.take(vault, far, at=BEGIN + 2 * HOUR)
    assert (result.code, "was damaged" in result.warnings[0]) == (WARNINGS, True)
    assert far.objects == vault.objects


def damage(master: Master, pattern: str) -> None:
    next(Path(master.path("state/spool/outbox")).glob(f"*/{pattern}")).write_bytes(b"damaged")


def test_a_damaged_archive_comes_from_another_vault(master, vault):
    far = Memory("far")
    master.take(vault, far)
    far.away = True
    master.take(vault, far, at=BEGIN + HOUR, force=True)
    damage(master, "*.age")
    far.away = False
    result = master.take(vault, far, at=BEGIN + 2 * HOUR)
    assert "is damaged and is removed" in result.vaults["far"]["error"]
    assert master.take(vault, far, at=BEGIN + 3 * HOUR).code == OK
    assert far.objects == vault.objects


@pytest.mark.parametrize("pattern", ["*.age", "*Z.json", "*.sig"])
def test_what_is_damaged_and_in_no_vault_is_given_up(master, vault, pattern):
    master.take(vault)
    vault.away = True
    for hours in (1, 2):
        master.take(vault, at=BEGIN + hours * HOUR, force=True)
    if pattern == "*.sig":
        for path in Path(master.path("state/spool/outbox")).glob("00000002*/*.sig"):
            path.unlink()
    else:
        damage(master, pattern)
    vault.away = False
    for hours in (3, 4, 5):
        last = master.take(vault, at=BEGIN + hours * HOUR)
    assert last.code == OK
    assert_chain(vault, master.signer.public)


def test_what_vaults_have_is_not_given_up_because_it_was_forgotten_here(master, vault):
    for hours in range(3):
        master.take(vault, at=BEGIN + hours * HOUR)
    os.remove(master.path("state/spool/vaults.json"))
    vault.away = True
    assert master.take(vault, at=BEGIN + 3 * HOUR).sequence == 4
    vault.away = False
    assert master.take(vault, at=BEGIN + 4 * HOUR).code == OK
    assert_chain(vault, master.signer.public)


def test_a_spool_that_cannot_be_made(master, vault):
    master.write("state/file", "")
    master.settings["spool"] = master.path("state/file/spool")
    with pytest.raises(BackupError, match="cannot be made: Not a directory"):
        master.take(vault)


# Alarms


def seen(master: Master, check: str) -> Any:
    it = history.History(master.settings, status.read(master.status), "", BEGIN)
    return history.CHECKS[check][1](it).actual


def alarm(master: Master, vault: Memory, change: Callable[[Path], object]) -> list[bool]:
    """Whether a change rings, by every check, and still does while small ones follow: the hour
    after it, five days later, after more than a week, then for the next full.
    """
    folder = Path(master.path("srv/salt"))
    for number in range(40):
        (folder / f"f{number}").write_text("x" * 1000)
    for hours in (0, 1):
        master.write("srv/salt/touch", str(hours))
        master.take(vault, at=BEGIN + hours * HOUR)
    for number in range(40):
        change(folder / f"f{number}")
    found = []
    for hours in (2, 3, 5 * 24, 9 * 24, 9 * 24 + 1):
        master.write("srv/salt/touch", str(hours))
        master.take(vault, at=BEGIN + hours * HOUR)
        found.append(bool(seen(master, "shrunk") or seen(master, "rewritten")))
    return found


@pytest.mark.parametrize(
    "change", [os.remove, lambda path: path.write_text("y" * 1000)], ids=["shrunk", "rewritten"]
)
def test_an_alarm_does_not_go_away_with_the_next_snapshot(master, vault, change):
    assert alarm(master, vault, change) == [True, True, True, False, False]


def test_a_full_snapshot_that_was_asked_for_accepts_what_changed(master, vault):
    for number in range(40):
        master.write(f"srv/salt/f{number}", "x" * 1000)
    master.take(vault)
    for number in range(40):
        os.remove(master.path(f"srv/salt/f{number}"))
    master.take(vault, at=BEGIN + HOUR)
    master.take(vault, at=BEGIN + 2 * HOUR)
    assert seen(master, "shrunk")
    master.take(vault, at=BEGIN + 3 * HOUR, force=True)
    assert seen(master, "shrunk") == []


# What is told


def test_the_status_tells_agents(master, vault):
    master.take(vault)
    master.write("srv/salt/new.sls", "x")
    master.take(vault, at=BEGIN + HOUR)
    found = status.read(master.status)
    last = found["snapshot"]
    assert (found["schema"], found["instance"]) == (1, "master1")
    assert (last["time"], last["code"], last["sequence"]) == ("2026-11-22T14:00:00Z", OK, 2)
    assert last["archives"]["operator"]["files"] == last["before"]["operator"]["files"] + 1
    assert last["vaults"]["near"]["sequence"] == 2
    assert oct(os.stat(master.status).st_mode)[-3:] == "640"
    json.dumps(found)


def test_progress_goes_through_the_phases(master, vault):
    steps: list[Step] = []
    master.take(vault, progress=steps.append)
    phases = list(dict.fromkeys(step.phase for step in steps))
    assert phases == ["survey", "pack", "upload"]
    last = steps[-1]
    assert last.bytes == last.of_bytes > 0

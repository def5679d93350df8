"""The folder in which snapshots wait, one step at a time."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksalt.backup import manifest as manifests
from rocksalt.backup.errors import BackupError, Locked
from rocksalt.backup.manifest import Archive, Manifest
from rocksalt.backup.snapshots import spool as module
from rocksalt.backup.snapshots.spool import Head, Known, Spool

FULL = Manifest(
    instance="m1", sequence=1, previous="", kind="full", same_as=0,
    started="2026-11-22T13:00:00Z", finished="2026-11-22T13:00:05Z", next="2026-11-22T14:05:00Z",
    archives={"operator": Archive(
        "00000001-20261122T130000Z.operator.tar.gz.age", "0" * 64, 3, ["x"], 1, 1, 1)},
    recipients={}, authorisation="", warnings={}, versions={},
)  # fmt: skip


def head(sequence: int = 1, kind: str = "full") -> Head:
    started = f"2026-11-22T13:{sequence % 60:02d}:00Z"
    stem = f"{sequence:08d}-20261122T13{sequence % 60:02d}00Z"
    archive = dataclasses.replace(FULL.archives["operator"], name=f"{stem}.operator.tar.gz.age")
    entry = dataclasses.replace(
        FULL, sequence=sequence, kind=kind, started=started, same_as=int(kind == "same"),
        archives={"operator": archive} if kind == "full" else {},
    )  # fmt: skip
    return Head(entry, entry.to_bytes(), b"signature\n")


def commit(spool: Spool, it: Head) -> None:
    folder = spool.partial(it.manifest.stem)
    for archive in it.manifest.archives.values():
        (folder / archive.name).write_bytes(b"abc")
        (folder / "index/operator").write_text("index")
    if it.manifest.kind == "same":
        os.rmdir(folder / "index")
    spool.commit(folder, it)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    it = Spool(str(tmp_path / "spool"))
    with it.locked():
        yield it


def test_an_empty_one(spool):
    assert (spool.head(), spool.full(), spool.pending(), spool.known()) == (None, None, [], {})
    assert spool.heal() == []
    assert os.stat(spool.path).st_mode & 0o777 == 0o700


def test_only_one_run_has_it(spool):
    with pytest.raises(Locked), Spool(str(spool.path)).locked():
        pass


def test_an_error_inside_is_not_taken_for_a_held_lock(tmp_path):
    with pytest.raises(BlockingIOError), Spool(str(tmp_path / "s")).locked():
        raise BlockingIOError


def test_a_snapshot_is_in_the_chain_and_in_the_outbox(spool):
    commit(spool, head(1))
    commit(spool, head(2, "same"))
    assert [it.manifest.sequence for it in spool.pending()] == [1, 2]
    assert spool.head() == head(2, "same")
    assert spool.full() == head(1).manifest
    assert spool.find(1) == head(1)
    assert spool.find(3) is None
    assert (spool.index / head(1).manifest.stem / "operator").read_text() == "index"
    assert spool.digest(1) == manifests.digest(head(1).data)
    assert spool.digest(7) == ""


def test_has(spool):
    commit(spool, head(2))
    other = dataclasses.replace(head(2).manifest, next="2026-11-22T15:00:00Z")
    assert spool.has(head(2)) is True
    assert spool.has(Head(other, other.to_bytes(), b"")) is False
    assert spool.has(head(3)) is None


def test_what_a_killed_run_left(spool):
    commit(spool, head(1))
    left = spool.partial(head(2).manifest.stem)
    (left / "operator.part").write_text("half")
    (spool.outbox / "00000009-20261122T130900Z.partial").mkdir()
    assert spool.heal() == []
    assert not left.exists()
    assert [it.manifest.sequence for it in spool.pending()] == [1]


def test_a_run_killed_right_after_the_commit(spool):
    commit(spool, head(1))
    stem = head(1).manifest.stem
    shutil.move(spool.index / stem, spool.outbox / stem / "index")
    for path in spool.chain.iterdir():
        path.unlink()
    spool.heal()
    assert spool.head() == head(1)
    assert spool.full() == head(1).manifest


@pytest.mark.parametrize("suffix", ["", ".sig"])
def test_a_snapshot_that_the_disk_lost(spool, suffix):
    commit(spool, head(1))
    commit(spool, head(2))
    (spool.entry(head(1).manifest) / f"{head(1).manifest.name}{suffix}").unlink()
    (told,) = spool.heal()
    assert "was damaged and is removed" in told
    assert [it.manifest.sequence for it in spool.pending()] == [2]


def test_a_damaged_newest_manifest_counts_as_lost(spool):
    commit(spool, head(1))
    commit(spool, head(2))
    (spool.chain / head(2).manifest.name).write_bytes(b"\0" * 100)
    assert spool.head() == head(1)


def test_the_chain_is_cut_but_not_the_newest_full(spool, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 2)
    for sequence in range(1, 6):
        commit(spool, head(sequence, "full" if sequence < 3 else "same"))
        spool.drop(head(sequence, "full" if sequence < 3 else "same").manifest)
    spool.heal()
    assert sorted(path.name[:8] for path in spool.chain.glob("*.json")) == [
        "00000002", "00000004", "00000005",
    ]  # fmt: skip
    assert len(list(spool.chain.iterdir())) == 6
    assert [path.name[:8] for path in spool.index.iterdir()] == ["00000002"]
    assert spool.full() == head(2).manifest


def test_borrowed_and_dropped(spool):
    spool.borrow(head(3))
    assert spool.find(3) == head(3)
    assert spool.head() is None  # it is another vault's, for a vault that lacks it
    spool.drop(head(3).manifest)
    assert spool.pending() == []


def test_given_up(spool):
    for sequence in (1, 2, 3):
        commit(spool, head(sequence))
    spool.drop(head(2).manifest)
    assert spool.give_up(1) == [head(3).manifest.name, head(2).manifest.name]
    assert (spool.head(), spool.full()) == (head(1), head(1).manifest)
    assert [it.manifest.sequence for it in spool.pending()] == [1]
    assert len(list(spool.chain.iterdir())) == 2


def test_adopted(spool):
    spool.adopt(head(5))
    assert spool.head() == head(5)
    assert spool.pending() == []


def test_what_is_known_of_vaults(spool):
    spool.remember({"far": Known(1, 7)})
    assert spool.known() == {"far": Known(1, 7)}
    for text in ("", "[]", '{"far": 1}', '{"far": {"first": 1}}'):
        (spool.path / "vaults.json").write_text(text)
        assert spool.known() == {}


def test_room_is_made_by_what_a_vault_has(spool, monkeypatch):
    free = iter([0, 0, 100])
    monkeypatch.setattr(Spool, "free", lambda self: next(free))
    for sequence in (1, 2, 3, 4):
        commit(spool, head(sequence))
    removed = spool.make_room(10, held=3)
    assert [name[:8] for name in removed] == ["00000001", "00000002"]
    assert len(spool.pending()) == 4


def test_ten_per_cent_of_the_disk_stay_free(spool, monkeypatch):
    monkeypatch.setattr(
        os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 1000, 0, 150, 0, 0, 0, 0, 255))
    )
    assert spool.free() == 50 * 4096


def test_a_spool_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    (tmp_path / "spool").mkdir()
    with pytest.raises(BackupError, match="Read-only file system"), Spool(str(tmp_path)).locked():
        pass

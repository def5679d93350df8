"""Which archives a receiver gives up, and how."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from backup_chain import BEGIN, World, signer
from hypothesis import given
from hypothesis import strategies as st

from rocksalt.backup import names
from rocksalt.backup.manifest import Manifest, digest
from rocksalt.backup.proof import receipts
from rocksalt.backup.vaults import retention
from rocksalt.backup.vaults.file import Store
from rocksalt.backup.vaults.retention import KEEP, Snapshot, doomed

HOUR = dt.timedelta(hours=1)
NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.timezone.utc)
NONE = {"hours": 1, "days": 1, "weeks": 0, "months": 0, "years": 0, "newest_of_day": 1}


def full(sequence: int, received: dt.datetime, whole: bool = True) -> Snapshot:
    return Snapshot(sequence, received, sequence, whole)


def hourly(hours: int) -> list[Snapshot]:
    """A full each hour up to noon, numbered from the oldest."""
    return [full(n + 1, NOON - (hours - 1 - n) * HOUR) for n in range(hours)]


def kept(snapshots: Iterable[Snapshot], keep: dict[str, int] | None = None) -> list[int]:
    snapshots = list(snapshots)
    return sorted({it.full for it in snapshots} - doomed(snapshots, keep))


def test_nothing_is_nothing() -> None:
    assert doomed([]) == set()


def test_the_last_hours_are_kept() -> None:
    assert kept(hourly(100), {**NONE, "hours": 5}) == [96, 97, 98, 99, 100]


def test_of_an_hour_the_newest_is_kept() -> None:
    minutes = [full(n + 1, NOON + dt.timedelta(minutes=n)) for n in range(60)]
    assert kept(minutes, NONE) == [60]


def test_the_newest_of_each_day_are_kept() -> None:
    """Noon is hour 13 of its day; of the days before, 23:00 and 22:00 are the newest."""
    assert kept(hourly(13 + 48), {**NONE, "days": 3, "newest_of_day": 2}) == [
        23,
        24,
        47,
        48,
        60,
        61,
    ]


def test_weeks_months_and_years_keep_their_newest() -> None:
    days = [full(n + 1, NOON - (800 - n) * 24 * HOUR) for n in range(801)]
    found = kept(days, {**NONE, "weeks": 2, "months": 2, "years": 3})
    dates = [f"{NOON - (801 - n) * 24 * HOUR:%Y-%m-%d}" for n in found]
    assert dates == ["2024-12-31", "2025-12-31", "2026-10-31", "2026-11-15", "2026-11-22"]


def test_the_default_is_what_the_settings_say() -> None:
    three_years = hourly(3 * 365 * 24)
    assert len(kept(three_years)) == pytest.approx(48 + 24 + 6 + 10 + 2, abs=6)


def test_periods_without_snapshots_do_not_count() -> None:
    """A master that was away for a year finds its old snapshots."""
    old = [full(n + 1, NOON - dt.timedelta(days=365) + n * 24 * HOUR) for n in range(5)]
    assert kept([*old, full(6, NOON)], {**NONE, "days": 4}) == [3, 4, 5, 6]


def test_the_full_of_a_kept_heartbeat_is_kept() -> None:
    snapshots = [full(1, NOON - 90 * 24 * HOUR), Snapshot(2, NOON, 1, True)]
    assert kept(snapshots, NONE) == [1]


def test_a_damaged_one_takes_no_place_and_is_not_removed_instead() -> None:
    snapshots = [full(1, NOON), full(2, NOON + HOUR), full(3, NOON + 2 * HOUR, whole=False)]
    assert kept(snapshots, NONE) == [2, 3]


times = st.datetimes(
    dt.datetime(2023, 1, 1), dt.datetime(2026, 11, 21, 23, 59), timezones=st.just(dt.timezone.utc)
)
limits = st.fixed_dictionaries({key: st.integers(1, 9) for key in KEEP})


@given(st.lists(times, max_size=60), limits, st.integers(2, 300))
def test_a_flood_pushes_nothing_old_out(
    old: list[dt.datetime], keep: dict[str, int], flood: int
) -> None:
    """However many come today, what came on the days before stays as if one had come."""
    before = [full(n + 1, time) for n, time in enumerate(sorted(old))]
    one = [*before, full(1000, NOON)]
    many = [*before, *(full(1000 + n, NOON + dt.timedelta(seconds=n)) for n in range(flood))]
    assert {n for n in kept(many, keep) if n < 1000} == {n for n in kept(one, keep) if n < 1000}


@given(st.lists(times, min_size=1, max_size=60), limits)
def test_the_newest_is_always_kept_and_each_day_its_newest(
    received: list[dt.datetime], keep: dict[str, int]
) -> None:
    snapshots = [full(n + 1, time) for n, time in enumerate(sorted(received))]
    found = kept(snapshots, keep)
    assert len(snapshots) in found
    days = sorted({it.received.date() for it in snapshots})[-keep["days"] :]
    for day in days:
        of_day = [it.full for it in snapshots if it.received.date() == day]
        assert set(of_day[-keep["newest_of_day"] :]) <= set(found)


@given(st.lists(times, max_size=60), limits)
def test_a_second_look_removes_nothing_more(
    received: list[dt.datetime], keep: dict[str, int]
) -> None:
    snapshots = [full(n + 1, time) for n, time in enumerate(sorted(received))]
    left = [it for it in snapshots if it.full in kept(snapshots, keep)]
    assert doomed(left, keep) == set()


class Shelf:
    """A receiver's store with the chain of a world: full, same, full, full, a day apart."""

    def __init__(self, folder: Path):
        self.world, self.key = World(), signer()
        self.store = Store(folder, "salt1")
        for number, kind in enumerate(("full", "same", "full", "full")):
            found = self.world.add(kind)
            received = names.utc(BEGIN + number * 24 * HOUR)
            self.world.witness(found, by=self.key, received=received)
        with self.store.locked():
            for name, data in self.world.vault.objects.items():
                self.store.add(name, [data], digest(data))

    @property
    def there(self) -> set[str]:
        return set(self.store.names())

    def prune(self) -> list[str]:
        with self.store.locked():
            return retention.prune(self.store, self.key, {**NONE, "days": 2}, BEGIN + 90 * HOUR)

    def archives(self, *sequences: int) -> set[str]:
        return {a.name for n in sequences for a in self.world.chain[n - 1].archives.values()}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return Shelf(tmp_path)


def buried(shelf: Shelf, manifest: Manifest) -> bool:
    """Whether each archive of a snapshot has a tombstone that can be believed, and is gone."""
    for archive in manifest.archives.values():
        own = archive.name + names.PRUNED
        text, signature = (shelf.store.read(it, 1 << 20) for it in (own, own + ".sig"))
        said = receipts.read(receipts.Tombstone, own, text, signature, [shelf.key.public])
        assert (said.archive, said.sha256) == (archive.name, archive.sha256)
        assert archive.name not in shelf.there
    return True


def test_only_archives_are_removed_and_each_is_accounted_for(shelf: Shelf) -> None:
    before = shelf.there
    assert set(shelf.prune()) == shelf.archives(1)
    assert before - shelf.there == shelf.archives(1)
    assert buried(shelf, shelf.world.chain[0])
    assert shelf.prune() == []


def test_the_time_of_receipt_survives_a_copy(shelf: Shelf) -> None:
    """Whoever copies a store without the times of its files does not lose it to retention."""
    for name in shelf.there:
        os.utime(shelf.store.folder / name, (0, 0))
    assert set(shelf.prune()) == shelf.archives(1)


@pytest.mark.parametrize("removals", [0, 1])
def test_what_a_kill_interrupted_goes_on(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, removals: int
) -> None:
    left = iter(range(removals))

    class Killed(Exception):
        pass

    def remove(store: Store, name: str) -> None:
        if next(left, None) is None:
            raise Killed
        os.unlink(store.folder / name)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", remove)
        with pytest.raises(Killed):
            shelf.prune()
    assert len(shelf.archives(1) & shelf.there) == 2 - removals
    shelf.prune()
    assert buried(shelf, shelf.world.chain[0])
    assert shelf.archives(3, 4) <= shelf.there


def test_a_tombstone_that_a_kill_left_alone_counts(shelf: Shelf) -> None:
    archive = shelf.world.chain[0].archives["operator"]
    shelf.world.prune(archive, by=shelf.key)
    own = archive.name + names.PRUNED
    with shelf.store.locked():
        for name in (own + ".sig", own):
            data = shelf.world.vault.objects[name]
            shelf.store.add(name, [data], digest(data))
    assert set(shelf.prune()) == shelf.archives(1)
    assert buried(shelf, shelf.world.chain[0])


def add(shelf: Shelf, *added: str) -> None:
    with shelf.store.locked():
        for name in added:
            shelf.store.add(name, [b"x"], digest(b"x"))


def test_what_never_became_a_snapshot_goes(shelf: Shelf) -> None:
    stray = "00000003-20261122T033000Z"
    coming = "00000005-20261122T060000Z.operator.tar.zst.age"
    add(shelf, f"{stray}.json.sig", f"{stray}.operator.tar.gz.age", coming)
    shelf.prune()
    assert not [name for name in shelf.there if name.startswith(stray)]
    assert coming in shelf.there


def test_what_a_damaged_manifest_speaks_of_is_left_alone(shelf: Shelf) -> None:
    path = shelf.store.folder / shelf.world.chain[0].name
    path.chmod(0o600)
    path.write_bytes(b"{}")
    assert shelf.prune() == []
    assert shelf.archives(1, 3, 4) <= shelf.there


@pytest.mark.parametrize("content", [b"", b"[]", b'{"received": 7}', b'{"received": "noon"}'])
def test_a_damaged_receipt_is_replaced_by_the_time_of_the_file(shelf: Shelf, content: Any) -> None:
    path = shelf.store.folder / f"{shelf.world.chain[0].stem}.receipt.json"
    path.chmod(0o600)
    path.write_bytes(content)
    os.utime(shelf.store.folder / shelf.world.chain[0].name, (0, 0))
    assert set(shelf.prune()) == shelf.archives(1)

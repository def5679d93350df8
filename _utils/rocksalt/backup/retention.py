"""Which archives a receiver gives up: grandfather, father and son, by the time of receipt.

Whoever sends may claim any time and send as often as he likes. The periods are those in which
something was received, so a flood fills the period it comes in and pushes none of the older out.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from rocksalt.backup import names, receipts
from rocksalt.backup.errors import Unverified
from rocksalt.backup.manifest import LARGEST, Manifest, digest, read
from rocksalt.backup.sshsig import Signer
from rocksalt.backup.vaults import Stored
from rocksalt.backup.vaults.file import Store

KEEP = {"hours": 48, "days": 14, "weeks": 8, "months": 12, "years": 3, "newest_of_day": 2}
"""How many hours, days and so on of those in which something came keep their newest snapshot, and
how many of the newest of each such day stay.
"""
_PERIODS: dict[str, Callable[[dt.datetime], object]] = {
    "hours": lambda time: time.strftime("%Y%m%d%H"),
    "days": lambda time: time.date(),
    "weeks": lambda time: time.isocalendar()[:2],
    "months": lambda time: (time.year, time.month),
    "years": lambda time: time.year,
}


@dataclass(frozen=True)
class Snapshot:
    """What retention looks at: when the receiver got the manifest (UTC), which full it needs, by
    sequence (its own, for a full), and whether all archives of that are there, as large as they
    should be.
    """

    sequence: int
    received: dt.datetime
    full: int
    whole: bool


def doomed(snapshots: Collection[Snapshot], keep: Mapping[str, int] | None = None) -> set[int]:
    """The fulls, by sequence, whose archives no kept snapshot needs; ``keep`` overrules
    :data:`KEEP`.

    A damaged snapshot counts as kept in its period, but not instead of a whole one.
    """
    limits = {**KEEP, **(keep or {})}
    whole = [it for it in snapshots if it.whole]
    return {it.full for it in snapshots} - _kept(snapshots, limits) - _kept(whole, limits)


def _kept(snapshots: Iterable[Snapshot], limits: Mapping[str, int]) -> set[int]:
    newest = sorted(snapshots, key=lambda it: (it.received, it.sequence), reverse=True)
    kept = set()
    for period, of in _PERIODS.items():
        most = limits["newest_of_day"] if period == "days" else 1
        found: dict[object, int] = {}
        for snapshot in newest:
            key = of(snapshot.received)
            if key not in found and len(found) >= limits[period]:
                break
            found[key] = found.get(key, 0) + 1
            if found[key] <= most:
                kept.add(snapshot.full)
    return kept


def prune(
    store: Store, signer: Signer, keep: Mapping[str, int] | None, now: dt.datetime
) -> list[str]:
    """Removes from a receiver's store, under its lock, what :func:`doomed` names, and what was sent
    for a snapshot that never came; returns the names.

    A signed tombstone is there before an archive goes; where a run is killed in between, the next
    one goes on. OSError where the disk does not let it.
    """
    there = store.names()
    manifests = _manifests(store, there)
    begun = {
        sequence
        for sequence, manifest in manifests.items()
        if any(it.name + names.PRUNED in there for it in manifest.archives.values())
    }
    snapshots = _snapshots(store, manifests, there)
    fulls = doomed([it for it in snapshots if it.full not in begun], keep)
    gone = _strays(there)
    for sequence in sorted((fulls | begun) & manifests.keys()):
        found = manifests[sequence]
        for archive in found.archives.values():
            if archive.name in there:
                text = receipts.tombstone(
                    found.instance, archive.name, archive.sha256, now, signer.public
                )
                countersign(store, signer, archive.name + names.PRUNED, text, now)
                gone.append(archive.name)
    for name in gone:
        store.remove(name)
    return gone


def countersign(store: Store, signer: Signer, name: str, text: bytes, now: dt.datetime) -> bytes:
    """Adds what a receiver says, after its signature, which it returns; what is there stays."""
    signature = signer.sign(text, receipts.NAMESPACE)
    for added, data in ((name + names.SIGNATURE, signature), (name, text)):
        with contextlib.suppress(FileExistsError):
            store.add(added, [data], digest(data), now.timestamp())
    return signature


def _manifests(store: Store, there: Mapping[str, Stored]) -> dict[int, Manifest]:
    """By sequence, those that can be read; of another nothing is known, so nothing is removed."""
    found = {}
    for name in filter(names.MANIFEST.fullmatch, there):
        with contextlib.suppress(Unverified):
            manifest = read(store.read(name, LARGEST), name)
            found[manifest.sequence] = manifest
    return found


def _snapshots(
    store: Store, manifests: Mapping[int, Manifest], there: Mapping[str, Stored]
) -> Iterator[Snapshot]:
    for sequence, manifest in manifests.items():
        full = sequence if manifest.kind == "full" else manifest.same_as
        whole = full in manifests and all(
            archive.name in there and there[archive.name].size == archive.size
            for archive in manifests[full].archives.values()
        )
        yield Snapshot(sequence, _received(store, manifest, there), full, whole)


def _received(store: Store, manifest: Manifest, there: Mapping[str, Stored]) -> dt.datetime:
    """As the receipt says: a copy of the store has it as well, and may have lost its file times."""
    name = manifest.stem + names.RECEIPT
    if name in there:
        with contextlib.suppress(ValueError, LookupError, TypeError):
            return names.parsed(json.loads(store.read(name, LARGEST))["received"])
    return dt.datetime.fromtimestamp(there[manifest.name].received or 0, dt.timezone.utc)


def _strays(there: Mapping[str, Stored]) -> list[str]:
    """What came for a sequence that is over, without the manifest that would have made it count."""
    stems = {name.removesuffix(".json") for name in filter(names.MANIFEST.fullmatch, there)}
    newest = max(stems, default="")[:8]
    parts = (names.ARCHIVE, names.MANIFEST)
    return [
        name
        for name in there
        if any(part.fullmatch(name.removesuffix(names.SIGNATURE)) for part in parts)
        and name.split(".")[0] not in stems
        and name[:8] <= newest
    ]

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

from rocksalt.backup import names
from rocksalt.backup.crypto.sshsig import Signer
from rocksalt.backup.errors import Unverified
from rocksalt.backup.manifest import LARGEST, Archive, digest, read
from rocksalt.backup.proof import receipts
from rocksalt.backup.vaults import Stored
from rocksalt.backup.vaults.file import Store

KEEP = {"hours": 48, "days": 14, "weeks": 8, "months": 12, "years": 3, "newest_of_day": 2}
"""How many hours, days and so on of those in which something came keep their newest snapshot, and
how many of the newest of each such day stay.
"""
REPORTS = 100
"""How many reports stay."""
_UNUSED = 10
"""How many signatures of reports stay that have not come."""
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
    manifests = {int(name[:8]): name for name in sorted(filter(names.MANIFEST.fullmatch, there))}
    held = {int(name[:8]) for name in filter(names.ARCHIVE.fullmatch, there)} & manifests.keys()
    begun = {int(name[:8]) for name in filter(names.PRUNES.fullmatch, there)}
    snapshots = list(_snapshots(store, there, manifests, held - begun, begun))
    gone = _strays(there, manifests.values())
    for sequence in sorted(doomed(snapshots, keep) | (held & begun)):
        for archive in _archives(store, manifests[sequence]):
            if archive.name in there:
                said = receipts.Tombstone(
                    store.folder.name, archive.name, archive.sha256, names.utc(now), signer.public
                )
                name = archive.name + names.PRUNED
                countersign(store, signer, name, receipts.write(said), now)
                gone.append(archive.name)
    for name in gone:
        store.remove(name)
    return gone


def prune_reports(store: Store) -> list[str]:
    """Removes from a receiver's store, under its lock, all but the newest reports, with their
    signatures, and all but the last of the signatures without a report; returns the names.
    """
    there = store.names()
    reports = sorted(filter(names.REPORT.fullmatch, there))
    signatures = [it for it in there if names.REPORT.fullmatch(it.removesuffix(names.SIGNATURE))]
    unused = [it for it in signatures if it.removesuffix(names.SIGNATURE) not in there]
    unused.sort(key=lambda name: (there[name].received or 0, name))
    gone = [file for it in reports[:-REPORTS] for file in (it, it + names.SIGNATURE)]
    gone = [name for name in [*gone, *unused[:-_UNUSED]] if name in there]
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


def _archives(store: Store, name: str) -> Collection[Archive]:
    """Of a manifest; none of one that is damaged, of which nothing is removed."""
    with contextlib.suppress(Unverified):
        return read(store.read(name, LARGEST), name).archives.values()
    return ()


def _snapshots(
    store: Store,
    there: Mapping[str, Stored],
    manifests: Mapping[int, str],
    held: Collection[int],
    over: Collection[int],
) -> Iterator[Snapshot]:
    """Those that need archives that are here; there are few of them, and many that are over.

    What was accepted is read without all the care with which it was accepted.
    """
    whole: dict[int, bool] = {}
    for sequence, name in manifests.items():
        if sequence < min(held, default=sequence) or sequence in over:
            continue
        try:
            found = json.loads(store.read(name, LARGEST))
            full = sequence if found["kind"] == "full" else found["same_as"]
            if full == sequence:
                whole[full] = all(
                    it["name"] in there and there[it["name"]].size == it["size"]
                    for it in found["archives"].values()
                )
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
        if full in held:
            yield Snapshot(sequence, _received(store, name, there), full, whole.get(full, False))


def _received(store: Store, name: str, there: Mapping[str, Stored]) -> dt.datetime:
    """As the receipt says: a copy of the store has it as well, and may have lost its file times."""
    receipt = name.removesuffix(".json") + names.RECEIPT
    if receipt in there:
        with contextlib.suppress(ValueError, LookupError, TypeError):
            return names.parsed(json.loads(store.read(receipt, LARGEST))["received"])
    return dt.datetime.fromtimestamp(there[name].received or 0, dt.timezone.utc)


def _strays(there: Iterable[str], manifests: Iterable[str]) -> list[str]:
    """What came for a sequence that is over, without the manifest that would have made it count."""
    stems = {name.removesuffix(".json") for name in manifests}
    newest = max(stems, default="")[:8]
    return [
        name
        for name in there
        if (names.ARCHIVE.fullmatch(name) or names.MANIFEST.fullmatch(name.removesuffix(".sig")))
        and name.split(".")[0] not in stems
        and name[:8] <= newest
    ]

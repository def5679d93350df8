"""How much of what anybody can send is kept, so that nobody fills the disk: of what minions send by
themselves only so many records, and all else in full only up to a size, for minions can make up
most of it as well. What is left out is counted, and the book says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from rocksalt.logbook.memory import TOLD, Memory, digest
from rocksalt.logbook.records import Record

WINDOW = 60.0
"""Seconds for which is counted."""
RECORDS, BYTES, ALL = 600, 256 << 10, 4 << 20
"""In that time: records and bytes of a minion, and bytes of all of them."""
WHOLE, SMALL = 4 << 20, 320
"""In that time: bytes of all else, and as much of lines of the API, that are kept as they are; and
characters of each member of what comes after them.
"""
ROOM, SHARE, LAST = 1 << 30, 0.05, 8
"""Bytes, or a share of the disk, that have to be free so that what minions send by themselves is
kept; and of all else, so many times less.
"""
_NAMES, _LOOK = 50, 1.0
_FROM_MINIONS = ("claim", "odd", "auth", "return")
_NEVER_CUT = ("event.id", "kind", "jid", "minion", "time")


class Bounds:
    """``since`` is when the disk had no room left, empty while it has."""

    def __init__(self, folder: Path, now: Callable[[], str]):
        self._folder, self._now = folder, now
        self._looked, self._began = 0.0, time.monotonic()
        self._low = self._full = False
        self.since = ""
        self._sizes: dict[str, tuple[int, int]] = {}
        self._all = 0
        self._left: dict[str, int] = {}
        self._of: dict[str, None] = {}
        """Returns of known jobs that were left out."""
        self._sent: dict[bool, int] = {}
        """Bytes of lines of the API, and of what is not from there."""
        self._cut = 0

    def admits(self, record: Record, memory: Memory) -> bool:
        """Whether a record may be kept."""
        self._look()
        minion = str(record.get("minion") or "")
        if self._full:
            self.since = self.since or self._now()
            return self._leave(record, memory)
        if not _is_unasked(record, memory):
            return True
        count, size = self._sizes.get(minion, (0, 0))
        more = _size(record)
        is_much = count >= RECORDS or size + more > BYTES or self._all + more > ALL
        if self._low or is_much:
            return self._leave(record, memory)
        self._sizes[minion] = (count + 1, size + more)
        self._all += more
        return True

    def fitted(self, record: Record, memory: Memory) -> Record:
        """One that may be kept, without what is large where too much was sent."""
        if _is_unasked(record, memory):
            return record
        is_api = record["kind"] == "api"
        self._sent[is_api] = self._sent.get(is_api, 0) + _size(record)
        if self._sent[is_api] <= WHOLE:
            return record
        small = _cut(record)
        self._cut += small is not record
        return small

    def is_full(self) -> bool:
        """Whether nothing may be kept."""
        self._look()
        return self._full

    def told(self) -> list[Record]:
        """What was left out in the time that ends now, if it does."""
        if time.monotonic() - self._began < WINDOW:
            return []
        found = {"left": self._left, "of": [*self._of], "shortened": self._cut}
        now, some = self._now(), {key: value for key, value in found.items() if value}
        self._began, self._sizes, self._all = time.monotonic(), {}, 0
        self._left, self._of, self._sent, self._cut = {}, {}, {}, 0
        if not some:
            return []
        why = self.problem() or f"more was sent than is kept in {WINDOW:.0f} seconds"
        return [{"time": now, "kind": "limited", **some, "why": why, "event.id": f"limited/{now}"}]

    def problem(self) -> str:
        """What is wrong with the disk, or that too much is sent, or nothing."""
        self._look()
        if self._full:
            return f"{self._folder} has no room left: nothing is kept"
        if self._low:
            return f"{self._folder} has little room left: what minions send unasked is not kept"
        if self._cut:
            return f"more is sent than is kept whole in {WINDOW:.0f} seconds: {self._cut} are cut"
        return ""

    def _leave(self, record: Record, memory: Memory) -> bool:
        minion, jid = str(record.get("minion") or ""), str(record.get("jid"))
        if record["kind"] == "return" and memory.is_job(jid) and len(self._of) < _NAMES:
            self._of[f"{jid}/{minion}"] = None
        name = minion if minion in self._left or len(self._left) < _NAMES else "others"
        self._left[name] = self._left.get(name, 0) + 1
        return False

    def _look(self) -> None:
        if self._looked and time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        room = min(ROOM, int(disk.f_blocks * disk.f_frsize * SHARE))
        self._low, self._full = free < room, free < room / LAST


def _is_unasked(record: Record, memory: Memory) -> bool:
    if record["kind"] == "return":
        return not memory.awaits(record)
    return record["kind"] in _FROM_MINIONS


def _cut(record: Record) -> Record:
    """The record without what is large in it: names and a digest of that."""
    large = {
        key: it for key, it in record.items()
        if key not in _NEVER_CUT and len(json.dumps(it)) > SMALL
    }  # fmt: skip
    if not large:
        return record
    sha256 = hashlib.sha256(json.dumps(large).encode()).hexdigest()
    # What is refused has to say so.
    some = {key: it[:SMALL] for key, it in large.items() if isinstance(it, str)}
    small = {
        key: some.get(key, it) for key, it in record.items() if key in some or key not in large
    }
    return {**small, "cut": sorted(large), "sha256": sha256, TOLD: digest(record)}


def _size(record: Record) -> int:
    return len(json.dumps(record))

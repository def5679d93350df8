"""How much of what minions send by themselves is kept, so that none of them fills the disk. What is
left out is counted, and the book says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from rocksalt.backup.manifest import canonical
from rocksalt.logbook.memory import Memory
from rocksalt.logbook.records import Record

WINDOW = 60.0
"""Seconds for which is counted."""
RECORDS, BYTES, ALL = 600, 256 << 10, 4 << 20
"""In that time: records and bytes of a minion, and bytes of all of them."""
ROOM, SHARE, LAST = 1 << 30, 0.05, 8
"""Bytes, or a share of the disk, that have to be free so that what minions send by themselves is
kept; and of all else, so many times less.
"""
_NAMES, _LOOK = 50, 1.0
_FROM_MINIONS = ("claim", "odd", "auth", "return")


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
        more = len(canonical(record))
        is_much = count >= RECORDS or size + more > BYTES or self._all + more > ALL
        if self._low or is_much:
            return self._leave(record, memory)
        self._sizes[minion] = (count + 1, size + more)
        self._all += more
        return True

    def told(self) -> list[Record]:
        """What was left out in the time that ends now, if it does."""
        if time.monotonic() - self._began < WINDOW:
            return []
        left, of, now = self._left, [*self._of], self._now()
        self._began, self._sizes, self._all = time.monotonic(), {}, 0
        self._left, self._of = {}, {}
        if not left:
            return []
        why = self.problem() or f"they sent more than is kept in {WINDOW:.0f} seconds"
        found = {"time": now, "kind": "limited", "left": left, "why": why}
        return [{**found, **({"of": of} if of else {}), "event.id": f"limited/{now}"}]

    def problem(self) -> str:
        """What is wrong with the disk, or nothing."""
        self._look()
        if self._full:
            return f"{self._folder} has no room left: nothing is kept"
        if self._low:
            return f"{self._folder} has little room left: what minions send unasked is not kept"
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
    return record["kind"] in _FROM_MINIONS or "refused" in record

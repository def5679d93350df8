"""The book: records in the hash chain of one host, each once, and on the disk within a second."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from rocksalt.backup.manifest import canonical
from rocksalt.errors import RocksaltError
from rocksalt.logbook.memory import Memory, digest, needed
from rocksalt.logbook.records import Record, told
from rocksalt.logstash.receiving import chain, files
from rocksalt.logstash.receiving.store import Clock, Store, Unsynced, now

LEARNED, READ, HELD = 50_000, 256 << 20, 32 << 20
"""Records at the end of the book that are read when it is opened, their bytes, and the bytes of
what has to be known of them.
"""
EVERY = 1.0
"""Seconds after which what was kept is on the disk."""
ALIVE = 10.0
"""Seconds from one sign of life in the status to the next; so exactly is known when a gap began."""


class Book:
    """The book of the host ``name`` below ``folder``, which nobody else writes to. ``status`` is
    the file that tells how it goes; ``fatal`` is called where the disk lost what was kept.

    ``memory`` is what it says; ``reach`` is when the oldest record was kept that was read for that,
    empty if all were; ``heard`` is up to when all is known to be in it, empty for a new one. Times
    are those of :data:`records.TIME`.
    """

    def __init__(
        self, folder: Path, name: str, status: Path, fatal: Callable[[str], None],
        clock: Clock = now,
    ):  # fmt: skip
        folder.mkdir(0o750, exist_ok=True)
        self._name, self._status, self._fatal, self._clock = name, status, fatal, clock
        self._lock = files.locked(folder)
        before = _before(status)
        self._store = Store(folder, [name], before, clock)
        if failed := self._store.status()["failed"]:
            raise RocksaltError(f"the book cannot be opened: {failed[name]}")
        self.memory = Memory()
        self.reach, written = self._learn(folder / name)
        if not self.memory.named and not self.memory.gap:
            # It was opened before what was read of the book.
            gap = before.get("gap")
            self.memory.gap = gap if isinstance(gap, dict) else {}
        self.heard = str(before.get("heard") or written) if written else ""
        self.count = 0
        self._more: dict[str, Any] = {}
        self._told = 0.0
        self._writing, self._syncing = threading.Lock(), threading.Lock()
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def add(self, record: Record) -> bool:
        """Keeps a record, unless it is there; whether it was not. One that says something else than
        the one that is there is kept as a ``conflict``. OSError where it cannot be kept, and then
        it is not.
        """
        with self._writing:
            identity, told_by = str(record["event.id"]), digest(record)
            if self.memory.known.contradicts(identity, told_by):
                # Nobody can tell which of them is true.
                identity = f"{identity}/{told_by}"
                record = {**record, "conflict": True, "event.id": identity}
            if identity in self.memory.known:
                return False
            when = record.get("time") or told(self._clock())
            whole = {**record, "time": when, "host.name": self._name}
            try:
                self._store.take(self._name, json.dumps(whole, separators=(",", ":")))
            except Unsynced as error:
                self._fatal(str(error))
                raise
            self.memory.note(whole, told_by)
            self.count += 1
        return True

    def time(self) -> str:
        """Now, as records have it."""
        return told(self._clock())

    def tell(self, **more: Any) -> None:
        """Has the status tell more."""
        self._more.update(more)

    def sync(self) -> None:
        """All that was kept is on the disk when this returns."""
        with self._syncing:
            dirty = self._store.dirty
            try:
                if dirty:
                    self._store.sync()
            except Unsynced as error:
                self._fatal(str(error))
                raise
            if dirty or time.monotonic() - self._told > ALIVE or self._ended.is_set():
                self._tell()

    def close(self) -> None:
        """Syncs for the last time, and lets others write."""
        self._ended.set()
        self._keeper.join()
        self.sync()
        os.close(self._lock)

    def _tell(self) -> None:
        self._told = time.monotonic()
        with contextlib.suppress(OSError):
            gap = {key: self.memory.gap[key] for key in ("since", "why") if key in self.memory.gap}
            known = {"kept": self.count, "gap": gap}
            status = {**self._store.status(), **self._more, **known}
            files.replace(self._status, canonical(status))

    def _learn(self, folder: Path) -> tuple[str, str]:
        """Reads the end of the book; when the first line was kept that was read, empty if that is
        the first one of all, and the last.
        """
        found: list[tuple[str, bytes]] = []
        size = held = number = 0
        for line in backwards(folder):
            number = line.head.n
            small = canonical(needed(read(line.data)))
            found.append((line.head.received, small))
            size, held = size + len(line.data), held + len(small)
            if len(found) >= LEARNED or size >= READ or held >= HELD:
                break
        for _, small in reversed(found):
            self.memory.note(json.loads(small))
        if not found:
            return "", ""
        first, last = found[-1][0], found[0][0]
        return (first if number > _first(folder) else ""), last

    def _keep(self) -> None:
        while not self._ended.wait(EVERY):
            with contextlib.suppress(Unsynced):
                self.sync()


def backwards(folder: Path) -> Iterator[chain.Line]:
    """The lines of a chain, the last one first; what is no line is passed over. Of a file that is
    compressed, the last ones, as it can only be read forwards.
    """
    for path in reversed(files.days(folder)):
        with files.opened(path) as file:
            if not path.name.endswith(".gz"):
                yield from filter(None, map(chain.read, files.backwards(file)))
                continue
            lines, whole = _last(file)
            yield from filter(None, map(chain.read, reversed(lines)))
            if not whole:
                return


def _last(file: BinaryIO) -> tuple[deque[bytes], bool]:
    """The last lines of a file, as many as are looked at, and whether these are all."""
    found: deque[bytes] = deque()
    size, whole = 0, True
    for data in file:
        found.append(data.rstrip(b"\n"))
        size += len(data)
        while size > HELD or len(found) > LEARNED:
            size, whole = size - len(found.popleft()) - 1, False
    return found, whole


def _first(folder: Path) -> int:
    """The number of the first line of a chain, 0 where that cannot be told."""
    with contextlib.suppress(OSError, IndexError), files.opened(files.days(folder)[0]) as file:
        line = chain.read(file.readline().rstrip(b"\n"))
        return line.head.n if line else 0
    return 0


def read(data: bytes) -> Record:
    """The record in a line of the book; empty where it has none."""
    try:
        found = json.loads(data)["event"]
    except (ValueError, KeyError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _before(status: Path) -> dict[str, Any]:
    try:
        found = json.loads(status.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

"""The book: records in the hash chain of one host, each once, and on the disk within a second."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rocksalt.backup.manifest import canonical
from rocksalt.errors import RocksaltError
from rocksalt.logbook.memory import Memory
from rocksalt.logbook.records import Record, told
from rocksalt.logstash.receiving import chain, files
from rocksalt.logstash.receiving.store import Clock, Store, Unsynced, now

LEARNED = 50_000
"""Records at the end of the book that are read when it is opened."""
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
        self.heard = str(before.get("heard") or written) if written else ""
        self.count = 0
        self._more: dict[str, Any] = {}
        self._told = 0.0
        self._writing, self._syncing = threading.Lock(), threading.Lock()
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def add(self, record: Record) -> bool:
        """Keeps a record, unless it is there; whether it was not. OSError where it cannot be kept,
        and then it is not.
        """
        with self._writing:
            if str(record["event.id"]) in self.memory.known:
                return False
            when = record.get("time") or told(self._clock())
            whole = {**record, "time": when, "host.name": self._name}
            try:
                self._store.take(self._name, json.dumps(whole, separators=(",", ":")))
            except Unsynced as error:
                self._fatal(str(error))
                raise
            self.memory.note(whole)
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
            status = {**self._store.status(), **self._more, "kept": self.count}
            files.replace(self._status, canonical(status))

    def _learn(self, folder: Path) -> tuple[str, str]:
        """Reads the end of the book; when the first line was kept that was read, empty if that is
        the first one of all, and the last.
        """
        found: list[chain.Line] = []
        for line in backwards(folder):
            found.append(line)
            if len(found) >= LEARNED:
                break
        for line in reversed(found):
            self.memory.note(read(line.data))
        if not found:
            return "", ""
        first, last = found[-1].head, found[0].head
        return first.received if len(found) >= LEARNED else "", last.received

    def _keep(self) -> None:
        while not self._ended.wait(EVERY):
            with contextlib.suppress(Unsynced):
                self.sync()


def backwards(folder: Path) -> Iterator[chain.Line]:
    """The lines of a chain, the last one first; what is no line is passed over."""
    for path in reversed(files.days(folder)):
        with files.opened(path) as file:
            if path.name.endswith(".gz"):
                yield from _backwards(file.read())
            elif os.fstat(file.fileno()).st_size:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                    yield from _backwards(view)


def _backwards(data: bytes | mmap.mmap) -> Iterator[chain.Line]:
    end = len(data)
    while end > 0:
        start = data.rfind(b"\n", 0, end - 1) + 1
        if line := chain.read(data[start:end].rstrip(b"\n")):
            yield line
        end = start


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

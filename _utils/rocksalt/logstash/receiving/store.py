"""The chains of all hosts as the one process that writes them has them."""

from __future__ import annotations

import datetime as dt
import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rocksalt.backup.errors import Unverified
from rocksalt.errors import RocksaltError
from rocksalt.logstash.receiving import HOST, begins, chain, files, ledger, mend

Clock = Callable[[], dt.datetime]
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
REMEMBERED = 20_000
"""Ids of a host among which one is found again."""
OLDEST = 2.0
"""Seconds for which a line may be kept without being on the disk while others are taken: less than
those for which a host sends again what was acknowledged.
"""
PATIENCE = 30.0
"""Seconds for which a line waits for the disk before it is refused."""


def now() -> dt.datetime:
    """By the clock of this host."""
    return dt.datetime.now(dt.timezone.utc)


class Unsynced(RocksaltError):
    """What was written may not be on the disk, and nobody can say what of it."""


class Recent:
    """The ids that were seen last."""

    def __init__(self, most: int = REMEMBERED):
        self._order: deque[int] = deque()
        self._known: set[int] = set()
        self._most = most

    def seen(self, identity: str) -> bool:
        """Whether an id was there already, which it is from now on."""
        number = hash(identity)
        if number in self._known:
            return True
        self._known.add(number)
        self._order.append(number)
        if len(self._order) > self._most:
            self._known.discard(self._order.popleft())
        return False


class Chain:
    """The chain of one host, open at its end. ``known`` is what the status said of it: where its
    newest file cannot be read, or all are gone, the chain goes on from there in a new one.
    """

    def __init__(self, top: Path, host: str, known: Mapping[str, Any]):
        if not HOST.fullmatch(host):
            raise RocksaltError(f"{host!r} is no name of a host")
        self.host = host
        self.folder = top / host
        self._file = -1
        self._asked = ""
        """The day for which that is open."""
        self._left: list[int] = []
        mend.make(self.folder)
        aside = mend.mend(self.folder, known.get("synced", 0))
        self.head = files.head(self.folder) or _begins(self.folder) or chain.Head()
        empty = not files.days(self.folder)
        if (aside or empty) and ledger.is_head([known.get("n"), known.get("hash")]):
            before = chain.Head(known["n"], known["hash"], str(known.get("received")))
            self.head = max(self.head, before, key=lambda it: it.n)
        if found := files.days(self.folder):
            mend.sync(found[-1])
        self.synced = self.head.n

    def handed(self) -> tuple[list[int], list[int]]:
        """Files that were left since the last time, which are the caller's to close from now on,
        and the one that is written to, if any.
        """
        left, self._left = self._left, []
        return left, [self._file] if self._file >= 0 else []

    def append(self, line: chain.Line) -> None:
        """Puts the next line at the end; OSError if that cannot be done, and then nothing is."""
        self._turn(line.head.received[:10])
        size = self._present()
        data = line.data + b"\n"
        written = os.write(self._file, data)
        if written != len(data):
            os.ftruncate(self._file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self.folder))
        self.head = line.head

    def _turn(self, day: str) -> None:
        """Opens the file of a day. A clock that goes back does not bring back an earlier one: the
        order of the files is that of the chain, and one that was compressed is not begun again.
        What was written to the file of before is on the disk first, so that a power cut cannot take
        its end and leave the next one.
        """
        if self._file >= 0 and day == self._asked:
            return
        newest = mend.bring_back(self.folder, day)
        found = max(day, newest)
        while os.path.lexists(self.folder / f"{found}.jsonl.gz"):
            found = mend.after(found)
        if self._file < 0 or found != newest:
            self._leave()
            self._file = mend.appending(self.folder / f"{found}.jsonl")
        self._asked = day

    def _present(self) -> int:
        """The size of the file. One that somebody removed is made anew: what went into it would be
        lost otherwise.
        """
        found = os.fstat(self._file)
        if found.st_nlink:
            return found.st_size
        self._leave()
        self._turn(self._asked)
        return os.fstat(self._file).st_size

    def _leave(self) -> None:
        if self._file >= 0:
            self._left.append(self._file)
            left, self._file = self._file, -1
            _sync(left, self.folder)


def _sync(file: int, folder: Path) -> None:
    try:
        os.fdatasync(file)
    except OSError as error:
        raise Unsynced(f"{folder} cannot be written to: {error.strerror}") from None


def _begins(folder: Path) -> chain.Head | None:
    """Where a chain goes on of which all lines were removed; `verify` judges who says so."""
    try:
        found = begins.read(folder)
    except Unverified:
        return None
    return found.head if found else None


class Store:
    """The chains of all hosts below ``path``; one thread takes, another may sync. ``before`` is
    what :meth:`status` was when it was written down last: counts go on from there.
    """

    def __init__(
        self, path: Path, known: Iterable[str], before: Mapping[str, Any], clock: Clock = now
    ):
        self._path, self._clock = path, clock
        self._chains: dict[str, Chain] = {}
        self._counts: dict[str, dict[str, Any]] = {}
        self._recent: dict[str, Recent] = {}
        self._before = before.get("hosts") or {}
        self._today = {
            host: (str(before.get("time"))[:10], int(it.get("bytes_today", 0)))
            for host, it in self._before.items()
        }
        self._dirty: set[str] = set()
        self._failed: dict[str, str] = {}
        self._lock = threading.Condition()
        self._since: list[float] = []
        """When the oldest line that is being synced was taken, and the oldest after those."""
        for host in sorted({*known, *files.hosts(path)}):
            try:
                self._chain(host)
            except (OSError, RocksaltError) as error:
                self._failed[host] = str(error)

    def take(self, host: str, text: str) -> None:
        """Appends what came from a host. OSError where it cannot be written: then it is not. Waits
        while older lines are not on the disk for too long.
        """
        try:
            self._append(host, text)
        except (OSError, RocksaltError) as error:
            self._failed[host] = str(error)
            raise
        self._failed.pop(host, None)

    def _append(self, host: str, text: str) -> None:
        here = self._chain(host)
        received = self._clock().strftime(TIME)
        found = chain.event(text)
        odd = chain.flags(found, host)
        line = chain.append(here.head, host, received, text, found, odd)
        with self._lock:
            if not self._lock.wait_for(self._is_synced, PATIENCE):
                raise OSError(errno.ETIMEDOUT, "the disk takes too long", os.fspath(self._path))
            here.append(line)
            if not self._dirty:
                self._since.append(time.monotonic())
            self._dirty.add(host)
        counts = self._counts[host]
        day = received[:10]
        self._today[host] = (day, self._bytes(host, day) + len(line.data) + 1)
        for flag in odd:
            counts["flags"][flag] += 1
            counts["flags"]["last_flagged"] = received
        identity = chain.identity(found)
        if identity is not None and self._recent[host].seen(identity):
            counts["duplicates"] += 1

    def sync(self) -> None:
        """All that was taken is on the disk when this returns; :class:`Unsynced` if not."""
        with self._lock:
            dirty, self._dirty = self._dirty, set()
            chains = [self._chains[host] for host in dirty]
            found = [(here, here.head.n, *here.handed()) for here in chains]
        for here, n, left, current in found:
            for file in [*left, *current]:
                _sync(file, here.folder)
            for file in left:
                os.close(file)
            here.synced = n
        with self._lock:
            if dirty:
                del self._since[0]
            self._lock.notify_all()

    def _is_synced(self) -> bool:
        return not self._since or time.monotonic() - self._since[0] < OLDEST

    @property
    def dirty(self) -> bool:
        """Whether anything was taken that may not be on the disk yet."""
        return bool(self._dirty)

    def status(self) -> dict[str, Any]:
        """What other programs are told: ``time``, ``torn`` (paths of what was moved aside),
        ``failed`` (host -> why its chain cannot be opened), ``disk`` (bytes that are ``free`` where
        lines are kept, and its ``size``), and by host ``n``, ``hash``, ``received``, ``synced``
        (the number of the last line that is on the disk), ``bytes_today`` (appended since midnight
        in UTC), ``flags`` and ``duplicates``.
        """
        chains, here = list(self._chains.values()), self._clock().strftime(TIME)
        disk = os.statvfs(self._path)
        return {
            "time": here,
            "hosts": {
                it.host: {
                    **vars(it.head),
                    "synced": it.synced,
                    "bytes_today": self._bytes(it.host, here[:10]),
                    **self._counts[it.host],
                }
                for it in chains
            },
            "disk": {"free": disk.f_bavail * disk.f_frsize, "size": disk.f_blocks * disk.f_frsize},
            "torn": [path for it in chains for path in mend.torn(it.folder)],
            "failed": dict(self._failed),
        }

    def _bytes(self, host: str, day: str) -> int:
        """What was appended of a host on a day, if that is the last one it sent on."""
        last, size = self._today.get(host, ("", 0))
        return size if last == day else 0

    def _chain(self, host: str) -> Chain:
        if host not in self._chains:
            old = self._before.get(host) or {}
            here = Chain(self._path, host, old)
            empty = {"host": 0, "json": 0, "last_flagged": None}
            self._counts[host] = {
                "flags": {**empty, **(old.get("flags") or {})},
                "duplicates": old.get("duplicates", 0),
            }
            self._recent[host] = Recent()
            self._chains[host] = here
        return self._chains[host]

"""Files that are written while they are read: copies that fit together are archived in their place,
and what programs make anew by themselves is left out.

* Salt's key database (``keys.cache_driver: mmap_key``) and its other memory-mapped tables: an index
  ``NAME.idx`` with its heap ``NAME.idx.heap`` (``.heap.1`` and so on where it has grown) and
  ``NAME.idx.roster``. Salt takes the lock ``NAME.idx.lock`` to write them, so do we to copy them.
* SQLite databases (``*.db``, ``*.sqlite``, ``*.sqlite3``), by SQLite's own backup.
* GnuPG's homes: locks belong to processes that run, and the random seed is drawn again.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from rocksalt.backup.packing import tar

try:
    import sqlite3
except ImportError:  # a Python that was built without it: the files are archived as they are
    sqlite3 = None  # type: ignore[assignment]

SUFFIXES = (b".idx", b".db", b".sqlite", b".sqlite3")
"""Of the names for which :func:`copies` is worth a try."""
PATIENCE = 10.0
"""Seconds to wait for a writer, who needs milliseconds."""

_MAGIC = b"SQLite format 3\0"
_JOURNAL_IS_WAL = (18, 2)
_JOURNALS = (b"-wal", b"-shm", b"-journal")
_HEAP = re.compile(rb"\.idx\.heap(\.\d+)?\Z")
_CHUNK = 1 << 16
_ATTEMPTS = 3
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GPG = frozenset((b"trustdb.gpg", b"pubring.kbx", b"pubring.gpg", b"private-keys-v1.d"))
_LOCK = "a lock of a running process"


@dataclass
class Copy:
    """A copy of the file ``name``, open and without a name of its own, to be archived in its place
    with the attributes in ``status``; ``settled`` is False where writers left no time to copy it
    whole.
    """

    name: bytes
    status: os.stat_result
    fd: int
    settled: bool = True


@dataclass
class Copies:
    """Copies that fit together; ``covered`` are names whose content is in them."""

    files: list[Copy]
    covered: Sequence[bytes] = ()

    def close(self) -> None:
        """Makes the copies go away."""
        for copy in self.files:
            os.close(copy.fd)


def unneeded(names: Set[bytes]) -> dict[bytes, str]:
    """Of the names in one folder, those not to archive, each with the reason."""
    found = {}
    if not _GPG.isdisjoint(names):
        for name in names:
            if name.startswith(b".#lk") or name.endswith(b".lock"):
                found[name] = _LOCK
            elif name == b"random_seed":
                found[name] = "GnuPG draws it again"
    for name in names:
        if name.endswith(b"-shm") and name[:-4] in names:
            found[name] = "SQLite makes it anew"
    return found


def copies(
    folder: int, name: bytes, scratch: Path, barred: Callable[[bytes], bool] = lambda name: False
) -> Copies | None:
    """Consistent copies of a file and of those that belong to it, in place of all of them; None
    for an ordinary file. ``scratch`` is a private folder on a disk; nothing stays there. Of what
    belongs to the file, names that are ``barred`` are not touched. OSError where a file cannot be
    read or the disk is full.
    """
    if name.endswith(b".idx"):
        return _table(folder, name, scratch, barred)
    return _database(folder, name, scratch, barred)


def mapped(folder: int, name: bytes, status: os.stat_result) -> bool:
    """Whether a file is one of Salt's tables, which change in memory: its times and size need not
    tell of that.
    """
    if not stat.S_ISREG(status.st_mode):
        return False
    if name.endswith(b".idx"):
        return bool(_status(folder, name + b".heap"))
    return bool(_HEAP.search(name))


def content(folder: int, name: bytes) -> bytes:
    """The SHA-256 of what is in a file, as hexadecimal digits. OSError where it cannot be read."""
    with open(os.open(name, _READ, dir_fd=folder), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = tar.extents(file.fileno(), size)
        return tar.digest(file, {} if data is None else {"data": data}).encode()


# Salt's memory-mapped tables


def _table(
    folder: int, name: bytes, scratch: Path, barred: Callable[[bytes], bool]
) -> Copies | None:
    if barred(name + b".heap") or not _status(folder, name + b".heap"):
        return None
    for _ in range(_ATTEMPTS - 1):
        found = _together(folder, name, scratch, barred)
        if all(copy.settled for copy in found.files):
            return found
        found.close()
    return _together(folder, name, scratch, barred)


def _together(folder: int, name: bytes, scratch: Path, barred: Callable[[bytes], bool]) -> Copies:
    found = Copies([])
    try:
        with _locked(folder, name + b".lock") as held:
            files = [name, *_heaps(folder, name)]
            if _status(folder, name + b".roster"):
                files.append(name + b".roster")
            for file in itertools.filterfalse(barred, files):
                found.files.append(_copied(folder, file, scratch))
            if not held:
                for copy in found.files:
                    now = _status(folder, copy.name)
                    copy.settled = copy.settled and _identity(now) == _identity(copy.status)
    except BaseException:
        found.close()
        raise
    return found


def _heaps(folder: int, name: bytes) -> Iterator[bytes]:
    heap, number = name + b".heap", 0
    while _status(folder, heap):
        yield heap
        number += 1
        heap = b"%b.heap.%d" % (name, number)


@contextlib.contextmanager
def _locked(folder: int, name: bytes) -> Iterator[bool]:
    """Whether Salt's writers are kept out for as long as the block runs; without a lock file
    nobody has written yet.
    """
    try:
        lock = os.open(name, _READ, dir_fd=folder)
    except OSError:
        yield False
        return
    try:
        yield _acquired(lock)
    finally:
        os.close(lock)


def _acquired(lock: int) -> bool:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        else:
            return True


def _copied(folder: int, name: bytes, scratch: Path) -> Copy:
    """A copy with holes wherever there are only zeros: an index is nearly empty."""
    zeros = bytes(_CHUNK)
    source = os.open(name, _READ, dir_fd=folder)
    try:
        before = os.fstat(source)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(f"{os.fsdecode(name)} is no regular file any more")
        target = _unnamed(scratch)
        try:
            while data := os.read(source, _CHUNK):
                if data == zeros[: len(data)]:
                    os.lseek(target, len(data), os.SEEK_CUR)
                else:
                    _write(target, data)
            os.ftruncate(target, os.lseek(target, 0, os.SEEK_CUR))
            settled = _identity(os.fstat(source)) == _identity(before)
        except BaseException:
            os.close(target)
            raise
    finally:
        os.close(source)
    return Copy(name, before, target, settled)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _unnamed(scratch: Path) -> int:
    """A new file that goes away by itself."""
    with tempfile.TemporaryFile(dir=scratch) as file:
        return os.dup(file.fileno())


# SQLite


def _database(
    folder: int, name: bytes, scratch: Path, barred: Callable[[bytes], bool]
) -> Copies | None:
    """None also for a database that nobody can have open, that only SQLite itself could mend (its
    journal is hot), or whose journal is not ours: those are archived as they are.
    """
    if sqlite3 is None or any(barred(name + end) for end in _JOURNALS):
        return None
    try:
        fd = os.open(name, _READ, dir_fd=folder)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size < 512:
            return None
        head = os.pread(fd, 100, 0)
    finally:
        os.close(fd)  # before SQLite opens it: closing a file drops all locks on it
    wal, shm, journal = (bool(_status(folder, name + end)) for end in _JOURNALS)
    at, is_wal = _JOURNAL_IS_WAL
    if not head.startswith(_MAGIC) or journal or (head[at] == is_wal and not (wal and shm)):
        return None
    copy = _backed_up(folder, name, scratch)
    if copy is None:
        return None
    return Copies([Copy(name, status, copy)], [name + b"-wal"] if wal else [])


def _backed_up(folder: int, name: bytes, scratch: Path) -> int | None:
    """What SQLite copied, open; None where it would not."""
    source = b"/proc/self/fd/%d/%b" % (folder, name)
    with tempfile.TemporaryDirectory(dir=scratch) as private:
        target = os.path.join(private, "copy")
        try:
            with (
                contextlib.closing(_opened(source, "ro")) as old,
                contextlib.closing(_opened(os.fsencode(target), "rwc")) as new,
            ):
                old.backup(new)
        except sqlite3.Error:
            return None
        return os.open(target, _READ)


def _opened(path: bytes, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(path)}?mode={mode}", uri=True, timeout=PATIENCE)


def _status(folder: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None


def _identity(status: os.stat_result | None) -> tuple[int, ...]:
    """Is the same as long as nobody has written to a file or replaced it."""
    if status is None:
        return ()
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

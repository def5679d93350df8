"""What a power cut, or somebody, left at the end of a chain is moved aside before it goes on: to
the folder ``torn`` of its host. Nothing else ever changes what is written.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import hashlib
import os
import time
from pathlib import Path

from rocksalt.host import synchronise
from rocksalt.logstash.receiving import chain, files

WINDOW = 32 << 20
"""Bytes at the end of a file that are looked at: more than comes in while a disk is busy."""
_NOT_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def mend(folder: Path, synced: int) -> bool:
    """Leaves lines that follow one another at the end of a chain: looks at its last two files, as a
    power cut may take the end of one while the next is there. ``synced`` is the number of a line
    that is known to have been on the disk, with all before it; of those none is moved. True where
    the newest file cannot be read, and was moved.
    """
    found = files.days(folder)
    if not found:
        return False
    if aside := not _readable(found[-1]):
        set_aside(found.pop())
    plain = [path for path in found[-2:] if not path.name.endswith(".gz") and _readable(path)]
    if plain and plain[-1] == found[-1] and not _is_whole(plain[-1], synced):
        before = None
        for path in plain:
            size, before = _whole(path, before, synced)
            _cut(path, size)
    return aside


def set_aside(path: Path) -> None:
    """Moves a file, whatever it is."""
    torn = _torn(path.parent)
    os.rename(path, torn / f"{path.name}-{time.time_ns()}")
    synchronise(torn)
    synchronise(path.parent)


def appending(path: Path) -> int:
    """A file that is open for lines to come; what is in its place and is none is moved."""
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        set_aside(path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(path, flags, 0o640)
    synchronise(path.parent)
    return file


def bring_back(folder: Path, day: str) -> str:
    """Gives files of days to come, which a wrong clock left, names from ``day`` on, in their order;
    the day of the newest, empty for none. Where all are of days to come, the clock may be wrong
    now. Where it was wrong then, and was only back for a moment, the newest gets its name again.
    """
    found = files.days(folder)
    days = [files.day(path) for path in found]
    last = after(day)
    if any(it <= last for it in days):
        for index, path in enumerate(found):
            new = max(day, after(days[index - 1])) if index else day
            if last < days[index] > new and len(list(folder.glob(f"{days[index]}.jsonl*"))) == 1:
                os.rename(path, path.with_name(path.name.replace(days[index], new)))
                days[index] = new
    return max(days[-1], _put_right(found[-1], days[-1], day)) if days else ""


def _put_right(path: Path, named: str, day: str) -> str:
    """Gives the newest file, which has the name of an earlier day than its first line, that of this
    day if that has come; the day.
    """
    path = path.with_name(path.name.replace(files.day(path), named))
    right = _first(path) if path.suffix != ".gz" else ""
    if not named < right <= day:
        return named
    os.rename(path, path.with_name(path.name.replace(named, right)))
    synchronise(path.parent)
    return right


def _first(path: Path) -> str:
    """The day of the first line of a file."""
    try:
        with files.opened(path) as file:
            line = chain.read(file.readline().rstrip(b"\n"))
    except OSError:
        return ""
    return files.dated(f"{line.head.received[:10]}.jsonl") if line else ""


def after(day: str) -> str:
    """The next day."""
    return (dt.date.fromisoformat(day) + dt.timedelta(days=1)).isoformat()


def sync(path: Path) -> None:
    """What is in a file is on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def torn(folder: Path) -> list[str]:
    """The paths of what was moved."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(str(folder / files.TORN / name) for name in os.listdir(folder / files.TORN))
    return []


def make(folder: Path) -> None:
    """Makes a folder; :class:`NotADirectoryError` where something else has its name."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o750)
        synchronise(folder.parent)
    if folder.is_symlink() or not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(folder))


def _readable(path: Path) -> bool:
    try:
        files.last(path)
    except OSError as error:
        if error.errno in _NOT_THE_FILE:
            raise
        return False
    return os.access(path, os.W_OK)


def _is_whole(path: Path, synced: int) -> bool:
    """Whether the end of the newest file was on the disk already."""
    end = files.last(path)
    return end is not None and end.head.n <= synced and not files.torn(path)[1]


def _whole(path: Path, before: chain.Line | None, synced: int) -> tuple[int, chain.Line | None]:
    """How many bytes of a file are good, and the last good line."""
    with files.opened(path) as file:
        start = max(0, file.seek(0, os.SEEK_END) - WINDOW)
        position = file.seek(start)
        if start:
            before, position = None, position + len(file.readline())
        for data in file:
            line = chain.read(data[:-1])
            good = line is not None and (before is None or line.follows(before.head.hash))
            unsynced = before is None or before.head.n >= synced
            if not data.endswith(b"\n") or (unsynced and not good):
                break
            position += len(data)
            before = line or before
    return position, before


def _cut(path: Path, size: int) -> None:
    with files.opened(path) as file:
        file.seek(size)
        rest = file.read()
    if rest:
        name = f"{files.day(path)}-{size}-{hashlib.sha256(rest).hexdigest()[:12]}"
        files.replace(_torn(path.parent) / name, rest)
        os.truncate(path, size)
        sync(path)


def _torn(folder: Path) -> Path:
    make(folder / files.TORN)
    return folder / files.TORN

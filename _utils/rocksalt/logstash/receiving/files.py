"""The files that hold a chain: ``<path>/<host>/<UTC day>.jsonl``, or ``.jsonl.gz`` when older."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import fcntl
import gzip
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from rocksalt.host import synchronise
from rocksalt.logstash.receiving import HOST, chain

NAME = re.compile(r"(?P<day>\d{4}-\d\d-\d\d)\.jsonl(?P<packed>\.gz)?")
BEGINS = "begins.json"
TORN = "torn"
HEADS = ".heads"
"""The folder beside those of the hosts; no host's name begins with a dot."""
_BLOCK = 1 << 16
_PIECE = 1 << 20


def hosts(path: Path) -> list[str]:
    """The hosts that have a folder."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(
            entry.name for entry in os.scandir(path)
            if HOST.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        )  # fmt: skip
    return []


def days(folder: Path) -> list[Path]:
    """The files of a chain in their order. A day that is there twice, as it is for a moment when it
    is compressed, counts once.
    """
    found: dict[str, Path] = {}
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder)):
            if day := dated(name):
                found.setdefault(day, folder / name)
    return [found[day] for day in sorted(found)]


def dated(name: str) -> str:
    """The day that a name of a file is of, empty for another name."""
    with contextlib.suppress(ValueError):
        if match := NAME.fullmatch(name):
            return dt.date.fromisoformat(match["day"]).isoformat()
    return ""


def day(path: Path) -> str:
    """The day in a file's name."""
    return path.name[:10]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read, decompressed; OSError for a link, for what is no file, and while it is read
    for one that cannot be decompressed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file", os.fspath(path))
    with open(descriptor, "rb", 1 << 20) as file:
        try:
            packed = path.name.endswith(".gz")
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise OSError(errno.EIO, str(error), os.fspath(path)) from None


def last(path: Path) -> chain.Line | None:
    """The last line of a file that is one of a chain; what comes after it is passed over."""
    if path.name.endswith(".gz"):
        found = None
        with opened(path) as file:
            for data in file:
                found = chain.read(data.rstrip(b"\n")) or found
        return found
    with opened(path) as file:
        return next(filter(None, map(chain.read, backwards(file))), None)


def head(folder: Path) -> chain.Head | None:
    """The end of the chain in a folder, as far as whole lines go; None where it has no file with
    one.
    """
    for path in reversed(days(folder)):
        if found := last(path):
            return found.head
    return None


def backwards(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, from the last one on; what follows the last end of line is none."""
    position, rest, ended = file.seek(0, os.SEEK_END), b"", False
    while position:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        rest, *lines = (file.read(size) + rest).split(b"\n")
        if lines and not ended:
            lines.pop()
            ended = True
        yield from reversed(lines)
    if ended:
        yield rest


def is_same(path: Path, packed: Path) -> bool:
    """Whether a file is in a compressed one."""
    try:
        with opened(path) as source, gzip.open(packed) as file:
            return _digest(source) == _digest(cast(BinaryIO, file))
    except (OSError, EOFError, zlib.error):
        return False


def _digest(file: BinaryIO) -> bytes:
    found = hashlib.sha256()
    while data := file.read(_PIECE):
        found.update(data)
    return found.digest()


def torn(path: Path) -> tuple[int, bytes]:
    """How many bytes of a file are whole lines, and what comes after them."""
    with opened(path) as file:
        end = file.seek(0, os.SEEK_END)
        position, rest = end, b""
        while position and b"\n" not in rest:
            size = min(_BLOCK, position)
            position -= size
            file.seek(position)
            rest = file.read(size) + rest
    half = rest.rpartition(b"\n")[2]
    return end - len(half), half


def locked(path: Path) -> int:
    """A lock on a folder's chains, got once nobody else writes them: after rsyslog was killed, the
    writer of before may still be there for a moment.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path / ".lock", flags, 0o640)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def replace(path: Path, data: bytes, mode: int = 0o640) -> None:
    """Puts a whole file in place; it is on the disk when this returns."""
    new = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    os.replace(new, path)
    synchronise(path.parent)


def append(path: Path, data: bytes) -> None:
    """Adds whole lines to a file that only this process writes; on the disk when this returns. Half
    a line, which a power cut left behind and nobody was told of, goes.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o640)
    try:
        size = torn(path)[0]
        os.ftruncate(descriptor, size)
        if os.write(descriptor, data) != len(data):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if not size:
        synchronise(path.parent)

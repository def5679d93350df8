"""Log files as they lie on the disk: one that is open, where it may be found again, and where a
record in it ends.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

PREFIX = "file:"
MOST_LINES = 64
"""Lines of a record."""
LONGEST = 1024 * 1024
"""Bytes of a record; also those of the end of a large file that the first run begins with."""
ROTATED = re.compile(r"[.-](?:\d[\d.-]*|old)(?P<packed>\.(?:gz|xz|bz2|zst))?$")
"""What a file has after its name once it was rotated."""
_LONGEST_START = 16
"""Bytes from which on it can be told whether a line begins a record."""
HEAD = 256
"""Bytes at its beginning that a file is known by."""


@dataclass
class File:
    """An open file. ``start`` is the offset of ``buffer``, of what was read and not yet taken;
    ``meta`` what finds it again, and goes into its positions. After the offset ``keep``, ``skip``
    records are passed over. It is ``hungry`` when what was read is no whole record.
    """

    handle: int
    path: str
    dataset: str
    generation: str
    meta: dict[str, Any]
    start: int = 0
    size: int = 0
    grew: float = 0.0
    gone: bool = False
    hungry: bool = False
    keep: int = 0
    skip: int = 0
    buffer: bytearray = field(default_factory=bytearray)

    @property
    def source(self) -> str:
        """Its name among the positions."""
        return PREFIX + self.generation

    @property
    def read(self) -> int:
        """The offset up to which it was read."""
        return self.start + len(self.buffer)

    def position(self) -> list[Any]:
        """Where it stands, and how to find it."""
        return [self.start, self.meta]


def siblings(path: str, inode: int = 0) -> list[str]:
    """Where a file can be: at its path, or beside it under a name that begins like its own."""
    folder, name = os.path.split(path)
    try:
        with os.scandir(folder) as entries:
            near = [it for it in entries if it.name.startswith(name)]
            return sorted(it.path for it in near if inode in (0, it.inode()))
    except OSError:
        return []


def opened(path: str, known: str, dataset: str, generation: str = "") -> File | None:
    """A file that is there under ``path`` and is ``known`` by another name."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    return opened_as(handle, known, dataset, generation)


def opened_as(handle: int, path: str, dataset: str, generation: str = "") -> File:
    """The file of a descriptor."""
    state = os.fstat(handle)
    length = min(state.st_size, HEAD)
    meta = {
        **{"path": path, "dataset": dataset, "device": state.st_dev, "inode": state.st_ino},
        "head": [length, head(handle, length)],
    }
    generation = generation or secrets.token_hex(8)
    return File(handle, path, dataset, generation, meta, size=state.st_size)


def head(handle: int, length: int) -> str:
    """What tells a file from another one with its inode."""
    return hashlib.sha256(os.pread(handle, length, 0)).hexdigest()


def beginning(file: File) -> int:
    """Where the first run begins with a file: at its beginning, or at a line near its end."""
    if file.size <= LONGEST:
        return 0
    start = file.size - LONGEST
    return start + os.pread(file.handle, LONGEST, start).find(b"\n") + 1


def record(buffer: bytearray, starts: re.Pattern[bytes] | None, final: bool, ended: bool) -> int:
    """The length of the first record in a buffer, 0 if it is not complete. ``final`` says that no
    further line belongs to it, ``ended`` that not even its last line will be completed.
    """
    end, lines = 0, 0
    while True:
        found = buffer.find(b"\n", end, LONGEST)
        if found < 0:
            break
        end, lines = found + 1, lines + 1
        if not starts or lines >= MOST_LINES:
            return end
        if end < len(buffer) and starts.match(buffer, end):
            return end
        if end < len(buffer) < end + _LONGEST_START and not final:
            return 0
    if len(buffer) >= LONGEST:
        return end or LONGEST
    if ended:
        return len(buffer)
    return end if final else 0

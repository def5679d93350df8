"""Log files as they lie on the disk: one that is open, where it may be found again, and where a
record in it ends.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections import deque
from dataclasses import dataclass, field
from typing import Any

PREFIX = "file:"
MOST_LINES = 64
"""Lines of a record."""
LONGEST = 1024 * 1024
"""Bytes of a record; also those of the end of a large file that the first run begins with."""
_LONGEST_START = 16
"""Bytes from which on it can be told whether a line begins a record."""
HEAD = 256
"""Bytes at its beginning that a file is known by."""
ROOT = 0
_LINKS, _SAMPLE, _MANY = 40, 65_536, 1024 * 1024
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@dataclass
class File:
    """An open file. ``start`` is the offset of ``buffer``, of what was read and not yet taken;
    ``meta`` what finds it again, and goes into its positions. Records between the offsets ``keep``
    and ``until`` are passed over; ``ends`` are those of records that only time has ended. It is
    ``hungry`` when what was read is no whole record, ``gone`` since it lost its name.
    """

    handle: int
    dataset: str
    generation: str
    key: tuple[int, int]
    meta: dict[str, Any]
    start: int = 0
    size: int = 0
    grew: float = 0.0
    gone: bool = False
    since: float = 0.0
    hungry: bool = False
    keep: int = 0
    until: int = 0
    problem: str = ""
    ends: deque[int] = field(default_factory=lambda: deque(maxlen=64))
    buffer: bytearray = field(default_factory=bytearray)

    @property
    def source(self) -> str:
        """Its name among the positions."""
        return PREFIX + self.generation

    @property
    def path(self) -> str:
        """The path that it is followed under."""
        return str(self.meta["path"])

    @property
    def read(self) -> int:
        """The offset up to which it was read."""
        return self.start + len(self.buffer)

    @property
    def state(self) -> tuple[int, int]:
        """Its size and when it was written to; of one that cannot be asked, as it was last."""
        try:
            found = os.fstat(self.handle)
        except OSError:
            size, written = self.meta["end"]
            return size, written
        return found.st_size, found.st_mtime_ns

    def position(self) -> list[Any]:
        """Where it stands, and how to find it."""
        return [self.start, self.meta]

    def look(self, now: float) -> bool:
        """Takes note of how it has changed; False if it was cut off or written anew."""
        state = os.fstat(self.handle)
        size, end = state.st_size, [state.st_size, state.st_mtime_ns]
        if size > self.size or (self.read < size and not self.buffer):
            self.grew = now
        if end != self.meta["end"]:
            length, digest = self.meta["head"]
            if size < self.read or head(self.handle, length) != digest:
                return False
            if length < HEAD and size > length:
                length = min(size, HEAD)
                self.meta["head"] = [length, head(self.handle, length)]
            self.size, self.meta["end"] = size, end
        return True

    def length(self, starts: re.Pattern[bytes] | None, final: bool, ended: bool) -> int:
        """The length of the first record in the buffer, which is what it was before."""
        found = record(self.buffer, starts, final, ended)
        known = min((it - self.start for it in self.ends if it > self.start), default=0)
        if 0 < known <= len(self.buffer) and not 0 < found <= known:
            return known
        if found and final and not record(self.buffer, starts, False, False):
            self.ends.append(self.start + found)
        return found


def opened(path: str, known: str, dataset: str, generation: str = "") -> File:
    """A file that is there under ``path`` and is ``known`` by another name; :class:`OSError` says
    why it is not read.
    """
    return opened_as(_handle(path), known, dataset, generation)


def opened_as(handle: int, path: str, dataset: str, generation: str = "") -> File:
    """The file of a descriptor."""
    try:
        state = os.fstat(handle)
        length = min(state.st_size, HEAD)
        meta = {
            **{"path": path, "dataset": dataset, "inode": state.st_ino},
            **{"head": [length, head(handle, length)], "end": [state.st_size, state.st_mtime_ns]},
        }
    except OSError:
        os.close(handle)
        raise
    key = (state.st_dev, state.st_ino)
    return File(
        handle, dataset, generation or secrets.token_hex(8), key, meta, size=state.st_size
    )  # fmt: skip


def _handle(path: str) -> int:
    """Opens a file, name by name. This program may read all of the host, and others own folders of
    logs: they choose what it reads neither by a link nor by another name for a file.
    """
    names, links = path.split("/")[::-1], 0
    folder = os.open("/", _PATH)
    try:
        while True:
            name = names.pop() or "."
            found = os.open(name, _PATH, dir_fd=folder)
            state = os.fstat(found)
            if stat.S_ISLNK(state.st_mode):
                target = os.readlink("", dir_fd=found)
                os.close(found)
                if (state.st_uid, os.fstat(folder).st_uid) != (ROOT, ROOT):
                    raise PermissionError(f"{name} is a link that is not of root alone")
                links += 1
                if links > _LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                names += target.split("/")[::-1]
                found = os.open("/" if target.startswith("/") else ".", _PATH, dir_fd=folder)
            elif not names:
                os.close(found)
                break
            os.close(folder)
            folder = found
        if not stat.S_ISREG(state.st_mode):
            raise OSError("it is no regular file")
        return _checked(os.open(name, _READ, dir_fd=folder), os.fstat(folder))
    finally:
        os.close(folder)


def _checked(handle: int, folder: os.stat_result) -> int:
    if why := unfit(os.fstat(handle), folder):
        os.close(handle)
        raise PermissionError(why)
    return handle


def unfit(file: os.stat_result, folder: os.stat_result) -> str:
    """Why a file in a folder is not to be read; empty where nothing is against it. Nobody but root
    puts one into a folder of root's.
    """
    if not stat.S_ISREG(file.st_mode):
        return "it is no regular file"
    if folder.st_uid == ROOT and not folder.st_mode & stat.S_IWOTH:
        return ""
    if file.st_uid not in (ROOT, folder.st_uid):
        return f"uid {file.st_uid} owns it, neither root nor the owner of its folder does"
    if file.st_nlink > 1:
        return "it has another name, too, in a folder that others than root write to"
    return ""


def head(handle: int, length: int) -> str:
    """What tells a file from another one with its inode."""
    return hashlib.sha256(os.pread(handle, length, 0)).hexdigest()


def arrived(position: Any) -> None:
    """Notes in a position that the lines before it arrived, though it may not count yet."""
    offset, meta = position
    meta["reached"] = max(meta.get("reached", 0), offset)


def beginning(file: File) -> int:
    """Where the first run begins with a file: at its beginning, or at a line near its end."""
    if file.size <= LONGEST:
        return 0
    start = file.size - LONGEST
    return start + os.pread(file.handle, LONGEST, start).find(b"\n") + 1


def average(file: File, start: int, size: int) -> int:
    """Bytes of a line, among the last ones behind an offset."""
    try:
        end = os.pread(file.handle, _SAMPLE, max(start, size - _SAMPLE))
    except OSError:
        return _SAMPLE
    return max(len(end) // max(end.count(b"\n"), 1), 1)


def newest(file: File, lines: int) -> int:
    """The offset behind which a file has so many lines; 0 where it has no more than those to read
    or cannot be read.
    """
    end = file.state[0]
    while end > file.keep:
        start = max(file.keep, end - _MANY)
        try:
            data = os.pread(file.handle, end - start, start)
        except OSError:
            return 0
        if (more := data.count(b"\n") - lines) > 0:
            return start + sum(map(len, data.split(b"\n", more)[:more])) + more
        lines, end = -more, start
    return 0


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
        return end or buffer.rfind(b" ", LONGEST // 2, LONGEST) + 1 or LONGEST
    if ended:
        return len(buffer)
    return end if final else 0

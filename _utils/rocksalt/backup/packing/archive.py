"""Writes archives: the members for the entries of a part, and the index of them."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rocksalt.backup.packing import index, live, tar, walk
from rocksalt.backup.packing.walk import Entry, Part

_CHUNK = 1 << 17
"""Bytes written at once: as much as stays in a processor's cache on its way through all stages."""
_BIG = 1 << 20
"""Bytes from which on a file is not held in memory."""
_ATTEMPTS, _ATTEMPTS_IF_BIG = 3, 2
_RECORD = 20 * tar.BLOCK
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_FILE = (errno.ELOOP, errno.ENXIO)
_KINDS = {
    stat.S_IFLNK: ("link", tar.LINK),
    stat.S_IFIFO: ("fifo", tar.FIFO),
    stat.S_IFCHR: ("device", tar.DEVICE),
    stat.S_IFBLK: ("device", tar.BLOCK_DEVICE),
}


@dataclass(frozen=True)
class Warning:
    """Something that is not in the archive as it is on the host.

    ``kind``: ``unreadable``, ``vanished``, ``foreign`` (all three: not archived), ``changed``
    (archived, but it was written while it was read) or ``skipped`` (a socket, which no archive
    holds: harmless).
    """

    kind: str
    path: str
    detail: str


class Archive:
    """Takes the entries of a part, and writes their members and the index."""

    def __init__(
        self,
        part: Part,
        write: Callable[[bytes], object],
        lines: BinaryIO,
        scratch: Path,
        progress: Callable[[int, int], None],
    ):
        self._write, self._lines, self._scratch = write, lines, scratch
        self._part, self._foreign, self._progress = part, walk.Foreign(part), progress
        self._excluded = walk.excluded(part)
        self._parts: list[bytes] = []
        self._pending = self._written = 0
        self._links: dict[tuple[int, int, int], bytes] = {}
        self._covered: dict[bytes, str] = {}
        self.files = self.bytes = 0
        self.warnings: list[Warning] = []

    def about(self, compression: str) -> None:
        """The first member."""
        data = index.about(self._part, compression)
        self._put(_own(index.ABOUT, len(data)))
        self._put(tar.padded(data))

    def finish(self) -> None:
        """The last member, and the end of the archive."""
        size = self._lines.tell()
        self._lines.seek(0)
        self._put(_own(index.INDEX, size))
        while data := self._lines.read(_CHUNK):
            self._put(data)
        self._put(bytes(-size % tar.BLOCK) + tar.END)
        self._put(bytes(-(self._written + self._pending) % _RECORD))
        self._flush()

    def add(self, entry: Entry) -> None:
        """One entry; what cannot be read of it is a warning."""
        try:
            if entry.error:
                raise entry.error
            if entry.why:
                self._left_out(entry, _status(entry), entry.why)
            elif entry.fd >= 0:
                self._member(entry.path, tar.FOLDER, "folder", os.fstat(entry.fd), entry.fd)
            elif entry.kind is walk.FILE:
                self._file(entry)
            else:
                self._other(entry)
        except _Target as error:
            raise error.args[0] from None
        except OSError as error:
            if error.errno in _FULL:  # reading fills no disk: a copy did, in our own folder
                raise
            kind = "vanished" if error.errno in _GONE else "unreadable"
            self._failed(entry.path, kind, error.strerror or str(error))

    def _failed(self, path: bytes, kind: str, why: str) -> None:
        self._warn(kind, path, why)
        self._line(path, kind, None, index.why(why))

    def _left_out(self, entry: Entry, status: os.stat_result, why: str) -> None:
        kinds = {stat.S_IFDIR: "folder", stat.S_IFSOCK: "socket", stat.S_IFREG: "file"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "file")
        self._line(entry.path, kind, status, index.why(why))

    # Files

    def _file(self, entry: Entry) -> None:
        path, why = entry.path, self._covered.pop(entry.path, None)
        if why is not None:
            if why:
                self._left_out(entry, _status(entry), why)
            return
        if entry.name.endswith(live.SUFFIXES) and not self._barred(entry, entry.name):
            barred = functools.partial(self._barred, entry)
            copies = live.copies(entry.folder, entry.name, self._scratch, barred)
            if copies:
                with contextlib.closing(copies):
                    self._copies(entry, copies)
                return
        attempt, last = 0, False
        while not last:
            attempt += 1
            try:
                fd = os.open(entry.name, _OPEN, dir_fd=entry.folder)
            except OSError as error:
                if error.errno in _NO_FILE:
                    self._replaced(entry)
                    return
                raise
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    self._replaced(entry)
                    return
                if status.st_nlink > 1 and self._linked(entry, status):
                    return
                last = attempt >= (_ATTEMPTS if status.st_size < _BIG else _ATTEMPTS_IF_BIG)
                if self._content(path, fd, status, status, fd, last):
                    return
            finally:
                os.close(fd)
        self._warn("changed", path, f"was written each of the {attempt} times it was read")

    def _replaced(self, entry: Entry) -> None:
        self._other(entry._replace(kind=walk.OTHER))
        self._warn("changed", entry.path, "was a file when its folder was listed, and is none now")

    def _barred(self, beside: Entry, name: bytes) -> bool:
        """Whether what has this name beside an entry is not for this part."""
        if beside.path[: -len(beside.name)] + name in self._excluded:
            return True
        try:
            return _status(beside._replace(name=name)) in self._foreign
        except OSError:
            return False

    def _linked(self, entry: Entry, status: os.stat_result) -> bool:
        """Whether the file has another name, under which it belongs to others or is in the archive
        already.
        """
        path = entry.path
        if status in self._foreign:
            why = "is a hard link to a file that belongs to another part"
            self._left_out(entry, status, why)
            self._warn("foreign", path, why)
            return True
        first = self._links.get(_inode(status))
        if first is None:
            return False
        self._put(tar.header(_meta(path, tar.HARD_LINK, status, link=first[1:])))
        self._line(path, "file", status, index.text("same_as", first))
        self.files += 1
        return True

    def _content(
        self,
        path: bytes,
        fd: int,
        now: os.stat_result,
        status: os.stat_result,
        attributes: int | bytes,
        last: bool = True,
    ) -> bool:
        """Whether an open file was the same from the first byte to the last. ``now`` is how it is
        there, ``status`` what it is archived with. What was not the same is archived only as the
        ``last`` attempt, or where it was too big to know before.
        """
        size = now.st_size
        holes = tar.extents(fd, size) if now.st_blocks * 512 < size else None
        if size >= _BIG or holes:
            records = tar.attributes(attributes)
            member = _meta(path, tar.FILE, status, size)
            digest, whole = self._stream(member, records, fd, holes)
            same = _same(now, os.fstat(fd)) and whole
            if not (same or last):
                return False
        else:
            data = os.pread(fd, size + 1, 0) if size else b""
            records = tar.attributes(attributes)
            same = _same(now, os.fstat(fd)) and len(data) == size
            if not (same or last):
                return False
            size, digest = len(data), hashlib.sha256(data).hexdigest()
            header = tar.header(_meta(path, tar.FILE, status, size), records)
            self._put(b"".join((header, data, bytes(-size % tar.BLOCK))))
        self._line(path, "file", status, index.content(size, digest, holes))
        self.files += 1
        self.bytes += size
        if now.st_nlink > 1:
            self._links[_inode(now)] = path
        return same

    def _stream(
        self, member: tar.Member, records: bytes, fd: int, holes: tar.Extents | None
    ) -> tuple[str, bool]:
        """Writes a member of its announced size whatever happens to the file; the SHA-256 of what
        was written, and whether all of that was there.
        """
        data = [(0, member.size)] if holes is None else holes
        if holes is None:
            self._put(tar.header(member, records))
        else:
            self._put(tar.sparse(member, data, records))
        total = left = sum(length for _, length in data)
        digest, failure = hashlib.sha256(), None
        try:
            for start, length in data:
                os.lseek(fd, start, os.SEEK_SET)
                while length and (chunk := os.read(fd, min(length, _CHUNK))):
                    length -= len(chunk)
                    left -= len(chunk)
                    digest.update(chunk)
                    self._put(chunk)
                if length:
                    break
        except OSError as error:
            failure = error
        whole = not left
        while left:
            zeros = bytes(min(left, _CHUNK))
            left -= len(zeros)
            digest.update(zeros)
            self._put(zeros)
        self._put(bytes(-total % tar.BLOCK))
        if failure:
            raise failure
        return digest.hexdigest(), whole

    def _copies(self, entry: Entry, copies: live.Copies) -> None:
        """Archives copies in the place of files, which will be met later or not at all."""
        folder = entry.path[: -len(entry.name)]
        why = f"is in the copy of {entry.name.decode(errors='backslashreplace')}"
        self._covered.update((folder + name, why) for name in copies.covered)
        for copy in copies.files:
            path = folder + copy.name
            attributes = _by_folder(entry.folder, copy.name)
            self._content(path, copy.fd, os.fstat(copy.fd), copy.status, attributes)
            if path != entry.path:
                self._covered[path] = ""
            if not copy.settled:
                self._warn("changed", path, "was written each time it was copied")

    # All the rest

    def _other(self, entry: Entry) -> None:
        status = _status(entry)
        form = stat.S_IFMT(status.st_mode)
        if form == stat.S_IFREG:  # since its folder was listed
            self._file(entry)
        elif form == stat.S_IFDIR:
            self._failed(entry.path, "vanished", "has become a folder, which the next one has")
        elif form in _KINDS:
            kind, letter = _KINDS[form]
            attributes = _by_folder(entry.folder, entry.name)
            link = b""
            if kind == "link":
                link = os.readlink(entry.name, dir_fd=entry.folder)
            self._member(entry.path, letter, kind, status, attributes, link)
        else:
            why = "a socket is made anew by what serves it"
            self._left_out(entry, status, why)
            self._warn("skipped", entry.path, why)

    def _member(
        self,
        path: bytes,
        letter: bytes,
        kind: str,
        status: os.stat_result,
        attributes: int | bytes,
        link: bytes = b"",
    ) -> None:
        """A member without content."""
        member = _meta(path, letter, status, link=link)
        if kind == "folder":
            member = member._replace(name=member.name + b"/")
        elif kind == "device":
            member = member._replace(device=status.st_rdev)
        records = tar.attributes(attributes)
        self._put(tar.header(member, records))
        self._line(path, kind, status, index.text("link", link) if link else "")

    def _warn(self, kind: str, path: bytes, detail: str) -> None:
        self.warnings.append(Warning(kind, path.decode(errors="backslashreplace"), detail))

    def _line(self, path: bytes, kind: str, status: os.stat_result | None, more: str = "") -> None:
        try:
            self._lines.write(index.line(path, kind, status, more))
        except OSError as error:
            raise _Target(error) from None

    def _put(self, data: bytes) -> None:
        if len(data) >= _CHUNK:
            self._flush()
        self._parts.append(data)
        self._pending += len(data)
        if self._pending >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        data, self._parts = b"".join(self._parts), []
        self._written += self._pending
        self._pending = 0
        try:
            self._write(data)
            self._progress(self.files, self.bytes)
        except OSError as error:
            raise _Target(error) from None


class _Target(Exception):
    """The target cannot be written (or progress not be told), no fault of the entry at hand."""


def _own(name: str, size: int) -> bytes:
    return tar.header(tar.Member(name.encode(), tar.FILE, 0o600, 0, 0, 0, size))


def _meta(
    path: bytes, kind: bytes, status: os.stat_result, size: int = 0, link: bytes = b""
) -> tar.Member:
    name = path[1:] or b"."
    mode, uid, gid = status.st_mode, status.st_uid, status.st_gid
    return tar.Member(name, kind, mode, uid, gid, status.st_mtime_ns, size, link)


def _inode(status: os.stat_result) -> tuple[int, int, int]:
    """What all hard links to a file have in common, and another file in its place has not."""
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether nobody wrote to an open file, replaced or removed it."""
    return before.st_ctime_ns == after.st_ctime_ns and before.st_size == after.st_size


def _status(entry: Entry) -> os.stat_result:
    return os.stat(entry.name, dir_fd=entry.folder, follow_symlinks=False)


def _by_folder(folder: int, name: bytes) -> bytes:
    """A path to what is in an open folder, for calls that take no folder."""
    return b"/proc/self/fd/%d/%b" % (folder, name)

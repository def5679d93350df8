"""Reads archives: what is in one, and what of that could leave the target when it is restored."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from rocksalt.backup.crypto import age
from rocksalt.backup.errors import BackupError, Unverified
from rocksalt.backup.packing import compress
from rocksalt.backup.packing.index import ABOUT, INDEX, path_of

BLOCK = 1 << 20
FILE, FOLDER, LINK, HARD, FIFO, DEVICE = "file", "folder", "link", "hard link", "fifo", "device"
_KINDS = {
    tarfile.REGTYPE: FILE,
    tarfile.AREGTYPE: FILE,
    tarfile.GNUTYPE_SPARSE: FILE,
    tarfile.DIRTYPE: FOLDER,
    tarfile.SYMTYPE: LINK,
    tarfile.LNKTYPE: HARD,
    tarfile.FIFOTYPE: FIFO,
    tarfile.CHRTYPE: DEVICE,
    tarfile.BLKTYPE: DEVICE,
}
_LARGEST_INDEX_LINE = 1 << 20


class Member:
    """A member of an archive: ``name`` without the leading slash, ``kind``, and what is restored
    with it.
    """

    def __init__(self, info: tarfile.TarInfo, number: int):
        self.info = info
        self.number = number
        self.name = _bytes(info.name)
        self.kind = _KINDS.get(info.type, "")
        self.link = _bytes(info.linkname)

    @property
    def path(self) -> str:
        """Its absolute path, for people."""
        return "/" + os.fsdecode(self.name)

    @property
    def pieces(self) -> list[tuple[int, int]]:
        """Where a file has content: offsets and lengths in bytes; the rest are holes."""
        sparse: list[tuple[int, int]] | None = getattr(self.info, "sparse", None)
        if sparse is not None:
            return [(start, size) for start, size in sparse if size]
        return [(0, self.info.size)]

    @property
    def mtime_ns(self) -> int:
        """The time of its last change, to the nanosecond where the archive knows it."""
        seconds, _, fraction = self.info.pax_headers.get("mtime", "").partition(".")
        if not seconds.lstrip("-").isdigit():
            return int(self.info.mtime) * 10**9
        nanoseconds = int(fraction[:9].ljust(9, "0")) if fraction.isdigit() else 0
        sign = -1 if seconds.startswith("-") else 1
        return int(seconds) * 10**9 + sign * nanoseconds

    @property
    def device(self) -> int:
        return os.makedev(self.info.devmajor, self.info.devminor)

    @property
    def attributes(self) -> dict[str, bytes]:
        """Extended attributes (ACLs and capabilities are some as well)."""
        prefix = "SCHILY.xattr."
        return {
            key.removeprefix(prefix).replace("%3D", "=").replace("%25", "%"): _bytes(value)
            for key, value in self.info.pax_headers.items()
            if key.startswith(prefix)
        }


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class Archive:
    """An archive that was fetched, decrypted each time it is read."""

    def __init__(self, source: BinaryIO, compression: str, identities: Sequence[Any]):
        self._source = source
        self._compression = compression
        self._identities = identities

    def members(self) -> Iterator[tuple[Member, IO[bytes] | None]]:
        """Every member and, for a file, its content, to be read before the next one is asked for.

        :class:`Unverified` where the archive is damaged.
        """
        self._source.seek(0)
        plain = age.Reader(self._source, self._identities)
        stream = compress.Reader(io.BufferedReader(plain, BLOCK), self._compression)
        try:
            with tarfile.open(
                fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape"
            ) as tar:
                number = 0
                while (info := tar.next()) is not None:
                    vars(tar)["members"] = []  # or it would keep all of them
                    member = Member(info, number)
                    yield member, tar.extractfile(info) if member.kind == FILE else None
                    number += 1
            while stream.read(BLOCK):
                pass
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise Unverified(f"the archive is damaged: {error}") from None


@dataclass(frozen=True)
class Entry:
    """What a name in an archive is in the end: a name that is there twice is right the second time.

    ``number`` counts members from 0; ``size`` is the content in bytes, without holes; ``link`` what
    a hard link leads to.
    """

    number: int
    kind: str
    size: int = 0
    link: bytes = b""


@dataclass(frozen=True)
class Contents:
    """What is in an archive: entries by name, and the lines of its index by absolute path."""

    entries: Mapping[bytes, Entry]
    index: Mapping[bytes, Mapping[str, Any]]


def contents(archive: Archive) -> Contents:
    """Reads an archive to its end, and writes nothing.

    :class:`Unverified` for members that would leave the target: absolute and ``..`` names, what is
    below a link or a file, hard links to what is not in the archive, and unknown kinds.
    """
    entries: dict[bytes, Entry] = {}
    index: dict[bytes, Mapping[str, Any]] | None = None
    for member, content in archive.members():
        if member.name == _bytes(INDEX) and content is not None:
            index = dict(_lines(content))
        elif member.name != _bytes(ABOUT):
            _refuse(member)
            size = sum(length for _, length in member.pieces) if content is not None else 0
            entries[member.name] = Entry(member.number, member.kind, size, member.link)
    if index is None:
        raise Unverified(f"the archive has no {INDEX}: it was not written to its end")
    _refuse_detours(entries)
    return Contents(_whole(entries, index), index)


def _whole(
    entries: Mapping[bytes, Entry], index: Mapping[bytes, Mapping[str, Any]]
) -> dict[bytes, Entry]:
    """Without what is in the archive only in part, of which the index says why."""
    broken = {path[1:] for path, line in index.items() if "why" in line}
    return {
        name: entry
        for name, entry in entries.items()
        if name not in broken and not (entry.kind == HARD and entry.link in broken)
    }


def _lines(content: IO[bytes]) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
    while line := content.readline(_LARGEST_INDEX_LINE):
        try:
            entry = json.loads(line)
            yield path_of(entry), entry
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unverified(f"a line of {INDEX} is none: {error!r}") from None


def _refuse(member: Member) -> None:
    steps = member.name.split(b"/")
    if not member.kind:
        raise Unverified(
            f"{member.path!r} is of the kind {member.info.type!r}, which no backup has"
        )
    if b".." in steps or b"." in steps or b"" in steps or b"\0" in member.name:
        name = os.fsdecode(member.name)
        raise Unverified(f"the archive has a member {name!r}, which would leave the target")
    if steps[0] == b".rocksalt":
        raise Unverified(f"the archive has a member {member.path[1:]!r}, which no backup has")


def _refuse_detours(entries: Mapping[bytes, Entry]) -> None:
    """Refuses what would be written, or linked, through something that is no folder."""
    for name, entry in entries.items():
        for folder in above(name):
            if folder in entries and entries[folder].kind != FOLDER:
                raise Unverified(
                    f"/{os.fsdecode(name)} is below /{os.fsdecode(folder)}, which is a"
                    f" {entries[folder].kind} in the archive"
                )
        if entry.kind == HARD:
            target = entries.get(entry.link)
            if target is None or target.kind in (HARD, FOLDER):
                raise Unverified(
                    f"/{os.fsdecode(name)} is a hard link to {os.fsdecode(entry.link)!r}, which is"
                    " no file of the archive"
                )


def above(name: bytes) -> Iterator[bytes]:
    """The folders that a name lies in, the nearest first."""
    while b"/" in name:
        name = name.rpartition(b"/")[0]
        yield name


def compression(name: str) -> str:
    """How the archive of this name is compressed."""
    for kind, suffix in (("zstd", ".tar.zst.age"), ("gzip", ".tar.gz.age")):
        if name.endswith(suffix):
            return kind
    raise BackupError(f"{name} is no name of an archive")

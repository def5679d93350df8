"""Members of tar archives, as GNU tar, bsdtar and Python's tarfile read them: ustar headers, and
pax records where ustar is not enough (nanoseconds, long names, big numbers, attributes, holes).

Names are the bytes that they are on disk, also those that are no UTF-8. What Python's tarfile
spends on a file is more than all the rest of packing it.
"""

from __future__ import annotations

import errno
import functools
import grp
import hashlib
import os
import pwd
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

FILE, HARD_LINK, LINK, DEVICE, BLOCK_DEVICE, FOLDER, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
BLOCK = 512
END = bytes(2 * BLOCK)
LARGEST_MAP = 4096
"""Extents of a sparse file that are told apart; the smallest holes of one with more are filled."""

_CHUNK = 1 << 20
_NUMBERS = b"%07o\0%07o\0%07o\0%011o\0%011o\0"
_LARGEST_NUMBER, _LARGEST_ID = 8**11 - 1, 8**7 - 1
_TEN_DIGITS = 10**9
_MAGIC = b"ustar\x0000"
_NO_OWNER = _MAGIC + bytes(64)
_ACL = {
    "system.posix_acl_access": b"SCHILY.acl.access",
    "system.posix_acl_default": b"SCHILY.acl.default",
}
_ACL_TAGS = {1: b"user", 2: b"user", 4: b"group", 8: b"group", 16: b"mask", 32: b"other"}
_ACL_NAMED = (2, 8)

Extents = list[tuple[int, int]]


class Member(NamedTuple):
    """One member. ``size`` is what follows the header in bytes, ``link`` the text of a link or the
    name of the member that a hard link is linked to, ``device`` the number of a device.
    """

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    link: bytes = b""
    device: int = 0


def header(member: Member, records: bytes = b"") -> bytes:
    """The blocks in front of a member's content; ``records`` are further pax records."""
    name, kind, mode, uid, gid, mtime_ns, size, link, device = member
    seconds, nanoseconds = divmod(mtime_ns, 10**9)
    if _TEN_DIGITS <= seconds <= _LARGEST_NUMBER:
        if nanoseconds:
            records += b"30 mtime=%d.%09d\n" % (seconds, nanoseconds)
    elif nanoseconds or not 0 <= seconds <= _LARGEST_NUMBER:
        records += record(b"mtime", _time(mtime_ns))
        seconds = min(max(seconds, 0), _LARGEST_NUMBER)
    prefix = b""
    if len(name) > 100:
        prefix, name, long = _split(name)
        records += long
    if len(link) > 100:
        records += record(b"linkpath", link)
        link = link[:100]
    if size > _LARGEST_NUMBER:
        records += record(b"size", b"%d" % size)
        size = 0
    owner = _owner(uid, gid)
    if uid > _LARGEST_ID or gid > _LARGEST_ID:
        records += record(b"uid", b"%d" % uid) + record(b"gid", b"%d" % gid)
        uid, gid = min(uid, _LARGEST_ID), min(gid, _LARGEST_ID)
    numbers = _NUMBERS % (mode & 0o7777, uid, gid, size, seconds)
    devices = b"%07o\0%07o\0" % (os.major(device), os.minor(device)) if device else b""
    block = _block(name, numbers, kind, link, owner, devices, prefix)
    return _pax(records) + block if records else block


def _block(
    name: bytes,
    numbers: bytes,
    kind: bytes,
    link: bytes = b"",
    owner: bytes = _NO_OWNER,
    devices: bytes = b"",
    prefix: bytes = b"",
) -> bytes:
    """512 bytes that hold their own sum, which counts its field as eight spaces. Adler-32 begins
    with one and a sum, exact for half a block, and is much quicker than ``sum``.
    """
    start = name.ljust(100, b"\0") + numbers
    end = kind + link.ljust(100, b"\0") + owner
    if devices or prefix:
        end += devices.ljust(16, b"\0") + prefix
    block = (start + b"        " + end).ljust(BLOCK, b"\0")
    half = BLOCK // 2
    total = (zlib.adler32(block[:half]) & 0xFFFF) + (zlib.adler32(block[half:]) & 0xFFFF) - 2
    return b"%b%06o\0 %b" % (block[:148], total, block[156:])


@functools.lru_cache(maxsize=1024)
def _owner(uid: int, gid: int) -> bytes:
    """The magic and the names of owner and group, which other hosts may number otherwise."""
    try:
        user = pwd.getpwuid(uid).pw_name.encode()
    except KeyError:
        user = b""
    try:
        group = grp.getgrgid(gid).gr_name.encode()
    except KeyError:
        group = b""
    names = [name if len(name) < 32 else b"" for name in (user, group)]
    return _MAGIC + b"".join(name.ljust(32, b"\0") for name in names)


@functools.lru_cache(maxsize=64)
def _pax_header(size: int) -> bytes:
    return _block(b"././@PaxHeader", _NUMBERS % (0o600, 0, 0, size, 0), b"x")


def _pax(records: bytes) -> bytes:
    size = len(records)
    return _pax_header(size) + records.ljust(-(-size // BLOCK) * BLOCK, b"\0")


def record(key: bytes, value: bytes) -> bytes:
    """A pax record, which begins with its own length."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def padded(data: bytes) -> bytes:
    """Data with the zeros that make it whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def _time(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    return b"%b%d.%09d" % (sign, *divmod(abs(nanoseconds), 10**9))


def _split(name: bytes) -> tuple[bytes, bytes, bytes]:
    """(prefix, name, pax records) of a name that has more than 100 bytes."""
    cut = name.rfind(b"/", 0, 156)
    if cut > 0 and 0 < len(name) - cut - 1 <= 100:
        return name[:cut], name[cut + 1 :], b""
    return b"", name[:100], record(b"path", name)


def attributes(target: int | bytes) -> bytes:
    """Pax records of the extended attributes (capabilities and ACLs are some) of an open file or,
    links not followed, of a path. OSError where they cannot be read.
    """
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return b""
        raise
    records = b""
    for name in sorted(names):
        try:
            value = os.getxattr(target, name, follow_symlinks=follow)
        except OSError as error:
            if error.errno == errno.ENODATA:
                continue
            raise
        key = os.fsencode(name).replace(b"%", b"%25").replace(b"=", b"%3D")
        records += record(b"SCHILY.xattr." + key, value)
        if name in _ACL:
            records += record(_ACL[name], acl_text(value))
    return records


def acl_text(value: bytes) -> bytes:
    """An ACL as tar wants it, from how the kernel gives it: ``user:1000:rw-`` and so on, a line
    each.
    """
    lines = []
    for tag, permissions, owner in struct.iter_unpack("<HHI", value[4:]):
        named = b"%d" % owner if tag in _ACL_NAMED else b""
        rights = b"".join(
            letter if permissions & bit else b"-"
            for letter, bit in ((b"r", 4), (b"w", 2), (b"x", 1))
        )
        lines.append(b"%b:%b:%b\n" % (_ACL_TAGS[tag], named, rights))
    return b"".join(lines)


def extents(fd: int, size: int) -> Extents | None:
    """Where an open file holds data, as (offset, length), and holes elsewhere; None where there is
    no hole.
    """
    found: Extents = []
    at, least = 0, 1
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                break
            return None
        if start < at:
            found.append((start, at - start))
        if len(found) > LARGEST_MAP:
            while len(found) > LARGEST_MAP // 2:
                least *= 2
                found = _merged(found, least)
    found = _merged(found, least)
    return None if found == [(0, size)] else found


def _merged(found: Extents, least: int) -> Extents:
    """Extents with the holes between them that are smaller than ``least`` filled."""
    merged: Extents = []
    for start, length in found:
        if merged and start - sum(merged[-1]) < least:
            merged[-1] = (merged[-1][0], start + length - merged[-1][0])
        else:
            merged.append((start, length))
    return merged


def sparse(member: Member, data: Sequence[tuple[int, int]], records: bytes = b"") -> bytes:
    """The blocks in front of the data of a sparse file (``member.size`` is its size with the
    holes): the header and, as GNU tar has it since 1.0, the map.
    """
    entries = list(data)
    if not entries or sum(entries[-1]) < member.size:
        entries.append((member.size, 0))
    chart = b"%d\n" % len(entries) + b"".join(b"%d\n%d\n" % entry for entry in entries)
    records += record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0")
    records += record(b"GNU.sparse.name", member.name)
    records += record(b"GNU.sparse.realsize", b"%d" % member.size)
    chart = padded(chart)
    name = b"GNUSparseFile.0/" + member.name.rpartition(b"/")[2][-80:]
    stored = len(chart) + sum(length for _, length in data)
    return header(member._replace(name=name, size=stored), records) + chart


def digest(file: BinaryIO, entry: Mapping[str, Any]) -> str:
    """SHA-256 of a file's content the way the index has it: of all of it or, where the entry of
    the index has ``data`` ([offset, length] of what is no hole), of that.
    """
    hashed = hashlib.sha256()
    pieces: Iterable[tuple[int, int]] = entry.get("data", [(0, -1)])
    for start, length in pieces:
        file.seek(start)
        while length:
            data = file.read(min(length, _CHUNK) if length > 0 else _CHUNK)
            if not data:
                break
            hashed.update(data)
            length -= len(data) if length > 0 else 0
    return hashed.hexdigest()

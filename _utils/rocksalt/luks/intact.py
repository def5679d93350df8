"""Whether the header of a device is undamaged, before cryptsetup looks at it: that mends a damaged
copy as soon as it loads the header, and who only wants to know writes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
import time
from typing import BinaryIO

from rocksalt.errors import Refused

_FIRST, _SECOND = b"LUKS\xba\xbe", b"SKUL\xba\xbe"
_BEING_CHANGED = b"LUKS\xde\xad"
"""What cryptsetup-reencrypt of old makes of the magic of version 1 for the time that it takes."""
_BINARY = struct.Struct(">6sHQQ48s32s64s40s48sQ184s64s")
_CHECKSUM = slice(448, 512)
_PAUSE = 0.2
_SIZES = tuple(1 << bits for bits in range(14, 23))
"""Bytes that each copy of a header of version 2 may have: 16 KiB to 4 MiB."""


def look(path: str | os.PathLike[str]) -> bool | None:
    """Whether there is a header of LUKS in a file or on a device; None where there is no file.
    :class:`~rocksalt.errors.Refused` where it cannot be read or the header is damaged.
    """
    try:
        return _look(os.fspath(path))
    except Refused:
        # Perhaps it was being written this very moment.
        time.sleep(_PAUSE)
    return _look(os.fspath(path))


def _look(path: str) -> bool | None:
    try:
        with open(path, "rb") as file:
            return _has_header(file, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None


def _has_header(file: BinaryIO, path: str) -> bool:
    start = file.read(_BINARY.size)
    if start.startswith(_BEING_CHANGED):
        raise Refused(f"{path} was left in the middle of cryptsetup-reencrypt: run it to its end")
    if start.startswith(_FIRST) and start[6:8] == b"\0\1":
        return True
    first = _sequence(file, 0, _FIRST)
    sizes = _SIZES
    if start.startswith(_FIRST) and len(start) == _BINARY.size:
        sizes = (_BINARY.unpack(start)[2],)
    second = next(filter(None, (_sequence(file, size, _SECOND) for size in sizes)), None)
    if first is None and second is None:
        if start.startswith(_FIRST):
            raise Refused(f"{path} has a LUKS header of which both copies are damaged: restore it")
        return False
    if first != second:
        which = "first" if first is None or (second or 0) > first else "second"
        raise Refused(f"{path} has a LUKS header whose {which} copy is damaged: cryptsetup repair")
    return True


def _sequence(file: BinaryIO, offset: int, magic: bytes) -> int | None:
    """The number of the write that a copy is of (from 1), None for one that is damaged."""
    file.seek(offset)
    start = file.read(_BINARY.size)
    if len(start) < _BINARY.size:
        return None
    found, version, size, number, _, algorithm, *_, place, _, checksum = _BINARY.unpack(start)
    if found != magic or version != 2 or size not in _SIZES or place != offset:
        return None
    data = bytearray(start + file.read(size - len(start)))
    data[_CHECKSUM] = bytes(64)
    try:
        digest = hashlib.new(algorithm.rstrip(b"\0").decode(), data).digest()
    except ValueError:
        return None
    return int(number) if hmac.compare_digest(digest, checksum[: len(digest)]) else None

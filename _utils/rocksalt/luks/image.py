"""The bytes of a header of LUKS, as ``cryptsetup luksHeaderRestore`` takes them, without what is
left of key slots that are no longer used.

Sources: "LUKS On-Disk Format Specification" 1.2.3, and "LUKS2 On-Disk Format Specification" 1.1.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from rocksalt.errors import Refused

_MAGIC, _MAGIC_OF_SECOND = b"LUKS\xba\xbe", b"SKUL\xba\xbe"
_BINARY = 4096
_CHECKSUM, _CHECKSUMS = slice(448, 512), ("sha1", "sha256", "sha512")
_SECTOR, _PAGE = 512, 4096
_SIZES = {1 << shift for shift in range(14, 23)}
"""Bytes of each of the two headers of LUKS2."""
_LARGEST = 256 << 20
_USED, _SLOTS = 0x00AC71F3, 8
_STEP = 1 << 20
_Span = tuple[int, int]


def take(source: BinaryIO) -> bytes:
    """The header at the beginning of a disk or file; :class:`Refused` where there is none, or it is
    not whole.
    """
    start = _read(source, 0, _BINARY)
    version = int.from_bytes(start[6:8], "big")
    if not start.startswith(_MAGIC) or version not in (1, 2):
        raise Refused("has no header of LUKS")
    end, used = _second(source, start) if version == 2 else _first(start)
    if end > _LARGEST:
        raise Refused("has a header that is damaged: it would have more than 256 MiB")
    image = bytearray(end)
    for begin, stop in used:
        if not 0 <= begin <= stop <= end:
            raise Refused("has a header that is damaged: a key slot lies outside it")
        image[begin:stop] = _read(source, begin, stop - begin)
    return bytes(image)


def packed(image: bytes) -> bytes:
    """The same as gzip has it: a part for each MiB, for most of them are zero, and alike."""
    pieces = [image[at : at + _STEP] for at in range(0, len(image), _STEP)]
    parts = {piece: gzip.compress(piece, mtime=0) for piece in {*pieces}}
    return b"".join(parts[piece] for piece in pieces)


def material(image: bytes) -> dict[str, str]:
    """What the key slots of an image of :func:`take` hold, for nothing in a header tells whether
    that is undamaged: hash of what is said of a slot -> hash of its key material. While both are
    of one slot, neither changes without the other. What belongs to reencryption is left out.
    """
    if int.from_bytes(image[6:8], "big") == 1:
        slots = [(said, span) for used, said, span in _entries(image) if used]
    else:
        size = int.from_bytes(image[8:16], "big")
        slots = []
        for slot in json.loads(_text(image[:size], _MAGIC))["keyslots"].values():
            said = json.dumps(slot, sort_keys=True).encode()
            slots += [] if slot.get("type") == "reencrypt" else [(said, _area(slot))]
    return {_sha256(said): _sha256(image[begin:stop]) for said, (begin, stop) in slots}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _first(start: bytes) -> tuple[int, list[_Span]]:
    """Where a header of version 1 ends, and what is used of it."""
    used, end = [(0, 1024)], _PAGE
    for active, _, (begin, stop) in _entries(start):
        end = max(end, -(-stop // _PAGE) * _PAGE)
        used += [(begin, stop)] if active else []
    return end, used


def _entries(start: bytes) -> Iterator[tuple[bool, bytes, _Span]]:
    """The slots of a header of version 1: whether each is used, what it says, and its place."""
    key_size = int.from_bytes(start[108:112], "big")
    for number in range(_SLOTS):
        at = 208 + 48 * number
        said = start[at : at + 48]
        active, _, _, offset, stripes = struct.unpack(">II32sII", said)
        begin = offset * _SECTOR
        yield active == _USED, said, (begin, begin + -(-key_size * stripes // _SECTOR) * _SECTOR)


def _second(source: BinaryIO, start: bytes) -> tuple[int, list[_Span]]:
    """Where the area for headers of version 2 ends, and what is used of it; both headers have to be
    whole, for otherwise nobody knows which of them is right.
    """
    size = int.from_bytes(start[8:16], "big")
    if size not in _SIZES:
        raise Refused("has a header that is damaged: its size is none")
    both = [_read(source, at, size) for at in (0, size)]
    texts = [_text(*pair) for pair in zip(both, (_MAGIC, _MAGIC_OF_SECOND), strict=True)]
    if texts[0] != texts[1]:
        raise Refused("has a header whose second copy differs: cryptsetup repair")
    try:
        metadata = json.loads(texts[0])
        end = 2 * size + int(metadata["config"]["keyslots_size"])
        return end, [(0, 2 * size), *_areas(metadata)]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused("has a header that is damaged: its metadata cannot be read") from None


def _text(header: bytes, magic: bytes) -> bytes:
    """The metadata of one header of version 2, once its checksum is right."""
    without = bytearray(header)
    without[_CHECKSUM] = bytes(64)
    algorithm = header[72:104].rstrip(b"\0").decode("ascii", "replace")
    if algorithm not in _CHECKSUMS or not header.startswith(magic):
        raise Refused("has a header that is damaged: cryptsetup repair")
    digest = hashlib.new(algorithm, without).digest()
    if header[_CHECKSUM][: len(digest)] != digest:
        raise Refused("has a header that is damaged: cryptsetup repair")
    return header[_BINARY:].partition(b"\0")[0]


def _areas(metadata: Any) -> Iterator[_Span]:
    return map(_area, metadata["keyslots"].values())


def _area(slot: Any) -> _Span:
    begin = int(slot["area"]["offset"])
    return begin, begin + int(slot["area"]["size"])


def _read(source: BinaryIO, at: int, size: int) -> bytes:
    source.seek(at)
    data = source.read(size)
    if len(data) < size:
        raise Refused("has a header that is cut off")
    return data

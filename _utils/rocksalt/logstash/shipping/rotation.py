"""Where the file of a position is by now: renamed, copied before it was cut off, or compressed."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Collection, Iterator
from typing import Any

from rocksalt.logstash.shipping.files import File, head, opened

ROTATED = re.compile(r"[.-](?:\d[\d.-]*|old)(?P<packed>\.(?:gz|xz|bz2|zst))?$")
"""What a file has after its name once it was rotated."""
_SECOND = 10**9

Keys = Collection[tuple[int, int]]


def siblings(path: str, inode: int = 0) -> list[str]:
    """Where a file can be: at its path, or beside it under a name that begins like its own."""
    folder, name = os.path.split(path)
    try:
        with os.scandir(folder) as entries:
            near = [it for it in entries if it.name.startswith(name)]
            return sorted(it.path for it in near if inode in (0, it.inode()))
    except OSError:
        return []


def rotated(path: str, packed: bool) -> Iterator[tuple[str, os.stat_result]]:
    """What became of the files that were at a path."""
    for name in siblings(path):
        match = ROTATED.match(name[len(path) :])
        if match and bool(match["packed"]) is packed:
            with contextlib.suppress(OSError):
                yield name, os.lstat(name)


def written(position: Any) -> int:
    """When the file of a position was written to, as far as that was seen."""
    return int(position[1].get("end", (0, 0))[1])


def was_empty(position: Any) -> bool:
    """Whether nothing tells the file of a position from another one with its inode."""
    return not position[1]["head"][0]


def again(generation: str, position: Any, taken: Keys) -> File | None:
    """The file of a position, which may have another name now, or lie elsewhere as a copy. The
    number of a device is another one after a reboot.
    """
    offset, meta = position
    for path in siblings(meta["path"], meta["inode"]):
        if found := _same(path, generation, offset, meta, taken):
            return found
    return copy(generation, position, taken)


def copy(generation: str, position: Any, taken: Keys) -> File | None:
    """The copy of a file that was made before it was cut off."""
    offset, meta = position
    for path, state in rotated(meta["path"], packed=False):
        recent = meta["head"][0] and state.st_mtime_ns // _SECOND >= written(position) // _SECOND
        if recent and (found := _same(path, generation, offset, meta, taken)):
            return found
    return None


def _same(
    path: str, generation: str, offset: int, meta: dict[str, Any], taken: Keys
) -> File | None:
    try:
        made = opened(path, meta["path"], meta["dataset"], generation)
    except OSError:
        return None
    length, digest = meta["head"]
    with contextlib.suppress(OSError):
        if made.key not in taken and made.size >= offset and head(made.handle, length) == digest:
            made.meta["head"] = [length, digest]
            made.meta["reached"] = made.keep = meta.get("reached", 0)
            return made
    os.close(made.handle)
    return None


def compressed(position: Any) -> bool:
    """Whether a file that is nowhere was read to its end before it was compressed."""
    offset, meta = position
    size, written = meta.get("end", (-1, 0))
    for path, state in rotated(meta["path"], packed=True):
        if path.endswith(".gz") and _packs(path, offset, *meta["head"]):
            return True
        same = state.st_mtime_ns // _SECOND == written // _SECOND
        if offset == size and same and state.st_mtime_ns <= written:
            return True
    return False


def packed_since(position: Any, since: int) -> list[int]:
    """When those files were written that had the path of a position after a time and are compressed
    by now: neither the one of the position, read to its end, nor one that lies beside its archive.
    """
    offset, meta = position
    return [
        state.st_mtime_ns
        for path, state in rotated(meta["path"], packed=True)
        if state.st_mtime_ns > since
        and not os.path.lexists(os.path.splitext(path)[0])
        and not _packs(path, offset, *meta["head"])
    ]


def _packs(path: str, size: int, length: int, digest: str) -> bool:
    try:
        made = opened(path, path, "")
        with os.fdopen(made.handle, "rb") as raw:
            start = gzip.GzipFile(fileobj=raw).read(length)
            raw.seek(-4, os.SEEK_END)
            whole = int.from_bytes(raw.read(4), "little")
    except (OSError, EOFError, zlib.error):
        return False
    return whole == size % 2**32 and hashlib.sha256(start).hexdigest() == digest

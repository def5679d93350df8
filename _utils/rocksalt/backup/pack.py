"""Packs a part into one archive: walk -> tar -> compress -> age -> a file that is hashed on its way.

The first member is ``.rocksalt/about.json``, the last one ``.rocksalt/index.jsonl``: a line for
every entry of the part, archived or not (see :func:`entry`). Other members are named by their
absolute path without the leading slash. Any tar reads it; a name that is in it twice is right the
second time, as with every tar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rocksalt.backup.walk import Part, Survey, survey

__all__ = ["ABOUT", "INDEX", "Packed", "Part", "Survey", "Warning", "pack", "path_of", "survey"]

ABOUT = ".rocksalt/about.json"
INDEX = ".rocksalt/index.jsonl"


@dataclass(frozen=True)
class Warning:
    """Something that is not in the archive as it is on the host.

    ``kind``: ``unreadable``, ``vanished`` (both: not archived), ``changed`` (archived, but it was
    written while it was read) or ``skipped`` (a socket or the like, in the index only).
    """

    kind: str
    path: str
    detail: str


@dataclass(frozen=True)
class Packed:
    """An archive: SHA-256 and size in bytes of the file, how many regular files and bytes of
    content are in it, how it is compressed (``zstd`` or ``gzip``), and what went wrong.
    """

    sha256: str
    size: int
    files: int
    bytes: int
    compression: str
    warnings: list[Warning]


def pack(
    part: Part,
    recipients: Sequence[str],
    target: Path,
    progress: Callable[[int, int], None] = lambda files, size: None,
) -> Packed:
    """Writes the archive of a part into the new file ``target``, synced to disk.

    ``progress`` is told now and then how many files and bytes of content are done. OSError where
    ``target`` exists or cannot be written; it is removed then. What cannot be read of the part
    is a warning and never an error.
    """
    raise NotImplementedError


def path_of(entry: dict[str, object]) -> bytes:
    """The absolute path of a line of the index::

        {"path": "/etc/salt/master", "type": "file", "mode": 384, "uid": 0, "gid": 0,
         "mtime_ns": 1700000000123456789, "size": 42, "sha256": "..."}
        {"path64": "L2V0Yy+A", "type": "link", ..., "link": "master"}       not UTF-8: base64
        {"path": "/run/x", "type": "socket", ..., "why": "a socket exists only while it is served"}

    ``type``: file, folder, link, fifo, device, socket, unreadable, vanished. ``link`` (``link64``)
    is the text of a link; ``same_as`` (``same_as64``) of a file the path it is a hard link to,
    which has the content; ``why`` is there for whatever is not archived.
    """
    raise NotImplementedError

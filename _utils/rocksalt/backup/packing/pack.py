"""Packs a part into one archive: walk -> tar -> compress -> age -> a file, hashed on its way."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rocksalt.backup.crypto import age
from rocksalt.backup.packing import compress, walk
from rocksalt.backup.packing.archive import Archive, Warning
from rocksalt.backup.packing.index import ABOUT, INDEX, path_of
from rocksalt.backup.packing.walk import Part, Survey, survey

__all__ = ["ABOUT", "INDEX", "Packed", "Part", "Survey", "Warning", "pack", "path_of", "survey"]


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

    The folder of ``target`` takes temporary files; it is left out where it is part of the part.
    ``progress`` is told now and then how many files and bytes of content are done. OSError where
    ``target`` exists or cannot be written; it is removed then. What cannot be read of the part
    is a warning and never an error.
    """
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    spool = os.path.realpath(target.parent)
    exclude = (*part.exclude, str(target.parent.absolute()), spool)
    part = dataclasses.replace(part, exclude=exclude)
    compression = compress.best()
    try:
        with open(fd, "wb") as file, tempfile.TemporaryFile(dir=spool) as index:
            hashed = _Hashed(file)
            sealed = age.Writer(hashed, recipients)  # type: ignore[arg-type]
            compressed = compress.Writer(sealed, compression)  # type: ignore[arg-type]
            try:
                archive = Archive(part, compressed.write, index, Path(spool), progress)
                archive.about(compression)
                for entry in walk.walk(part):
                    archive.add(entry)
                archive.finish()
                compressed.close()
            except BaseException:
                compressed.abort()
                raise
            sealed.close()
            file.flush()
            os.fsync(fd)
    except BaseException:
        target.unlink()
        raise
    progress(archive.files, archive.bytes)
    return Packed(
        hashed.sha256.hexdigest(),
        hashed.size,
        archive.files,
        archive.bytes,
        compression,
        archive.warnings,
    )


class _Hashed:
    """A file, and the hash and size of what was written to it."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.sha256, self.size = hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self.sha256.update(data)
        self.size += len(data)
        return len(data)

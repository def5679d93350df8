"""The content of an object piece by piece: what goes into a vault, and what comes out of one."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from rocksalt.backup.errors import BackupError

CHUNK = 1 << 18
"""Bytes that are read, hashed and written in one go."""
Read = Callable[[int], bytes]
"""Gives at most so many bytes, none at the end; raises only what :mod:`backup.errors` has."""


def pieces(source: Path) -> Iterator[bytes]:
    """The content of a file in the spool; :class:`BackupError` if it cannot be read."""
    try:
        with open(source, "rb") as file:
            while data := file.read(CHUNK):
                yield data
    except OSError as error:
        raise BackupError(f"{source} cannot be read: {error.strerror}: check its disk") from None


class _Raw(io.RawIOBase):
    def __init__(self, read: Read, close: Callable[[], object]):
        self._read, self._close = read, close

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._close()
        super().close()


def content(read: Read, close: Callable[[], object]) -> BinaryIO:
    """A file for reading whose bytes come from ``read``; ``close`` is called once."""
    return cast(BinaryIO, io.BufferedReader(_Raw(read, close), CHUNK))

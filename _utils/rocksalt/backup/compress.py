"""Compression as a stream: zstd where Python or the host has it, else gzip."""

from __future__ import annotations

import io
from typing import BinaryIO


def best() -> str:
    """``zstd`` where this host can write it, else ``gzip``."""
    raise NotImplementedError


class Writer:
    """Compresses what is written to it into ``target``, which it does not close.

    ``kind`` is ``zstd`` or ``gzip``. Nothing is complete before :meth:`close`.
    """

    def __init__(self, target: BinaryIO, kind: str):
        raise NotImplementedError

    def write(self, data: bytes) -> int:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Reader(io.RawIOBase):
    """What was compressed into ``source``, which it does not close; :class:`Unverified` where that
    is damaged or cut short.
    """

    def __init__(self, source: BinaryIO, kind: str):
        raise NotImplementedError

"""The key of a volume, as it is handled in memory."""

from __future__ import annotations

import contextlib
import hmac
import os
import resource
from collections.abc import Iterator
from typing import Any

from rocksalt.errors import Refused

SIZE = 64
"""Bytes of a key, all of them random."""


class WrongKey(Refused):
    """What was handed over does not open the volume."""


class Key:
    """:data:`SIZE` bytes that no representation, log or traceback shows and that :meth:`wipe`
    overwrites.
    """

    __slots__ = ("_bytes",)

    def __init__(self, value: bytes | bytearray | memoryview):
        """Takes a copy of ``value``; ValueError says, as the end of a sentence, why it is none."""
        if len(value) != SIZE:
            raise ValueError(f"has {len(value)} bytes; a volume's key has {SIZE}")
        self._bytes = bytearray(value)

    @classmethod
    def random(cls) -> Key:
        """A new key."""
        return cls(os.urandom(SIZE))

    @property
    def secret(self) -> memoryview:
        """The bytes themselves, not a copy."""
        return memoryview(self._bytes)

    def wipe(self) -> None:
        """Overwrites the key where it is in memory."""
        self._bytes[:] = bytes(SIZE)

    def __enter__(self) -> Key:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and hmac.compare_digest(self._bytes, other._bytes)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "Key(not shown)"

    def __reduce__(self) -> Any:
        raise TypeError("a key is not written anywhere")


@contextlib.contextmanager
def without_core_dumps() -> Iterator[None]:
    """Neither this process nor a program that it starts meanwhile leaves its memory on a disk when
    it crashes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))

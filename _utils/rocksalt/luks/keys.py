"""The key of a volume, as it is handled in memory."""

from __future__ import annotations

import contextlib
import ctypes
import hmac
import os
import resource
from collections.abc import Iterator
from typing import Any

from rocksalt.errors import Refused

SIZE = 64
"""Bytes of a key, all of them random."""


_GET_DUMPABLE, _SET_DUMPABLE = 3, 4
"""Of prctl(2)."""


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


def dump_nothing() -> None:
    """From now on neither this process nor a program that it starts leaves its memory on a disk
    when it crashes.

    A limit of 0 is none where the kernel pipes dumps to a program, and a limit of 1 byte keeps it
    from starting that. A program that is started is dumpable again, but has the limit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1, hard or 1))
    except (ValueError, OSError):  # nobody but root may raise a hard limit of 0
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_SET_DUMPABLE, 0)


@contextlib.contextmanager
def without_core_dumps() -> Iterator[None]:
    """:func:`dump_nothing` meanwhile."""
    limits, dumpable = resource.getrlimit(resource.RLIMIT_CORE), _prctl(_GET_DUMPABLE)
    dump_nothing()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)
        _prctl(_SET_DUMPABLE, int(dumpable == 1))


def _prctl(what: int, value: int = 0) -> int:
    return int(ctypes.CDLL(None).prctl(what, *map(ctypes.c_ulong, (value, 0, 0, 0))))

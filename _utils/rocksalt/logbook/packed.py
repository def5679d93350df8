"""What minions sent, unpacked by msgpack alone: Salt's own reading makes times and other objects of
it, which some bytes end, and of a file in the job cache it tries that again for ever.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

import msgpack  # type: ignore[import-untyped]

LARGEST, MOST = 4 << 20, 100_000
"""Bytes of one file that are unpacked, and lists and mappings in it: an empty one is one byte there
and a hundred in memory.
"""


class Unread(ValueError):
    """It cannot be unpacked; says why."""


def unpack(data: bytes, **hooks: Callable[[Any], Any]) -> Any:
    """What is packed in it; what is of no plain type is the text of its bytes."""
    try:
        return msgpack.unpackb(
            data, raw=False, strict_map_key=False, unicode_errors="replace",
            ext_hook=lambda _, own: own.decode(errors="replace"), **hooks,
        )  # fmt: skip
    except Exception as error:
        # Its own errors, and what bytes make of types.
        why = str(error) or type(error).__name__
        raise Unread(f"{len(data)} bytes cannot be unpacked: {why}"[:300]) from None


def load(path: str) -> Any:
    """What is in a file; OSError where that cannot be read."""
    data = content(path, LARGEST + 1)
    if len(data) > LARGEST:
        raise Unread(f"{path} has more than {LARGEST} bytes")
    if not data:
        raise Unread(f"{path} is empty")
    left = iter(range(MOST))

    def count(value: Any) -> Any:
        if next(left, None) is None:
            raise ValueError(f"it has more than {MOST} lists and mappings")
        return value

    return unpack(data, object_hook=count, list_hook=count)


def content(path: str, most: int) -> bytes:
    """The first bytes of a file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags), "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "it is no file", path)
        return file.read(min(most, state.st_size + 1))

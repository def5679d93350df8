"""The program ``rocksalt-luks``: this library in one file, for customers' volumes without Salt."""

from __future__ import annotations

from collections.abc import Mapping

from rocksalt import program

PATH = "/usr/local/sbin/rocksalt-luks"
_ENTRY = "rocksalt.luks.__main__"


def build(interpreter: str, library: Mapping[str, bytes]) -> bytes:
    """The program, of :func:`sources`."""
    return program.build(interpreter, _ENTRY, library)


def sources() -> dict[str, bytes]:
    """What the program needs of the library: name in the zip -> content."""
    return program.sources(_ENTRY)

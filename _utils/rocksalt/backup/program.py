"""The program ``rocksalt-backup``: this library in one file, for hosts without Salt."""

from __future__ import annotations

from collections.abc import Mapping

from rocksalt import program

PATH = "/usr/local/sbin/rocksalt-backup"
PLUGINS = "/usr/lib/nagios/plugins"
PLUGIN = f"{PLUGINS}/check_salt_backup"
_ENTRY = "rocksalt.backup.__main__"


def build(interpreter: str, library: Mapping[str, bytes]) -> bytes:
    """The program, of :func:`sources`."""
    return program.build(interpreter, _ENTRY, library)


def sources() -> dict[str, bytes]:
    """What the program needs of the library: name in the zip -> content."""
    return program.sources(_ENTRY)


def plugin() -> str:
    """The check for NRPE, where its folder is."""
    return f'#!/bin/sh\n# Written by rocksalt.\nexec {PATH} check "$@"\n'

"""The index of an archive: its first and last member, written by us and read by whoever restores.

The first member is ``.rocksalt/about.json``, the last one ``.rocksalt/index.jsonl``: a line for
every entry of the part, archived or not. Other members are named by their absolute path without
the leading slash. Any tar reads it; of a name that is in it twice, the second is right, as with
every tar. A line of the index::

    {"path": "/etc/salt/master", "type": "file", "mode": 384, "uid": 0, "gid": 0,
     "mtime_ns": 1700000000123456789, "size": 42, "sha256": "..."}
    {"path64": "L2V0Yy+A", "type": "link", ..., "link": "master"}    a name that is no UTF-8: base64
    {"path": "/run/x", "type": "socket", ..., "why": "a socket is made anew by what serves it"}

``type`` is file, folder, link, fifo, device or socket, or for what could not be read unreadable or
vanished (and the numbers are missing); :func:`path_of` gives the path. ``link`` (``link64``) is
the text of a link; ``same_as`` (``same_as64``) of a file the path that it is a hard link to, which
has ``size`` and ``sha256``; ``data`` of a sparse file where it has data, and then ``sha256`` is
over that alone (see :func:`packing.tar.digest`). Whatever has ``why`` is not archived, or not
whole: what the archive may hold under its name is not to be restored.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any

import rocksalt
from rocksalt.backup.packing.walk import Part

ABOUT = ".rocksalt/about.json"
INDEX = ".rocksalt/index.jsonl"
FORMAT = 1


def about(part: Part, compression: str) -> bytes:
    """The content of the first member."""
    value = {
        "format": FORMAT,
        "part": part.name,
        "roots": [os.fsencode(root).decode(errors="backslashreplace") for root in part.roots],
        "compression": compression,
        "index": INDEX,
        "version": rocksalt.__version__,
    }
    return (json.dumps(value, indent=1) + "\n").encode()


def path_of(entry: Mapping[str, Any], key: str = "path") -> bytes:
    """The path in a line of the index; also the text of a ``link``, and of ``same_as``."""
    if key in entry:
        return str(entry[key]).encode()
    return base64.b64decode(entry[key + "64"])


def line(path: bytes, kind: str, status: os.stat_result | None, more: str = "") -> bytes:
    """A line; ``more`` are further fields as JSON, each after a comma."""
    first = _text("path", path)
    if status is None:
        return f'{{{first}, "type": "{kind}"{more}}}\n'.encode("ascii")
    return (
        f'{{{first}, "type": "{kind}", "mode": {status.st_mode & 0o7777}, "uid": {status.st_uid},'
        f' "gid": {status.st_gid}, "mtime_ns": {status.st_mtime_ns}{more}}}\n'
    ).encode("ascii")


def text(key: str, value: bytes) -> str:
    """A further field: bytes that are UTF-8 nearly always."""
    return ", " + _text(key, value)


def why(reason: str) -> str:
    """A further field: why something is not archived."""
    return f', "why": {json.dumps(reason)}'


def content(size: int, digest: str, data: Sequence[tuple[int, int]] | None) -> str:
    """Further fields: of a file's content, and where it lies if there are holes."""
    where = f', "data": {json.dumps(data, separators=(",", ":"))}' if data is not None else ""
    return f', "size": {size}, "sha256": "{digest}"{where}'


def _text(key: str, value: bytes) -> str:
    try:
        return f'"{key}": {encode_basestring_ascii(value.decode())}'
    except UnicodeDecodeError:
        return f'"{key}64": "{base64.b64encode(value).decode()}"'

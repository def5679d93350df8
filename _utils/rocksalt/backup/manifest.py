"""The manifest: what one snapshot is, in the clear, signed, and tied to the one before it.

It tells no file name: the list of files is inside the archives.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rocksalt import schema
from rocksalt.backup import names
from rocksalt.backup.errors import Unverified

FORMAT = 1
NAMESPACE = "rocksalt-backup"
"""Of the signature, so that no other signature of the same key passes for one of a manifest."""
LARGEST = 1 << 20
"""Bytes that nobody has to read of what calls itself a manifest."""

_HASH: dict[str, Any] = {"type": "string", "pattern": "[0-9a-f]{64}"}
_TIME: dict[str, Any] = {"type": "string", "pattern": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"}
_COUNT: dict[str, Any] = {"type": "integer", "min": 0}
_ARCHIVE: dict[str, Any] = {
    "type": "mapping",
    "fields": {
        "name": {"type": "string", "pattern": names.ARCHIVE.pattern, "required": True},
        "sha256": {**_HASH, "required": True},
        "size": {**_COUNT, "required": True},
        "recipients": {"type": "list", "items": {"type": "string"}, "min": 1, "required": True},
        "files": {**_COUNT, "required": True},
        "bytes": {**_COUNT, "required": True},
        "changed": {**_COUNT, "required": True},
    },
}
_FIELDS: dict[str, dict[str, Any]] = {
    "format": {"type": "integer", "min": FORMAT, "max": FORMAT},
    "instance": {"type": "string", "pattern": names.INSTANCE.pattern},
    "sequence": {"type": "integer", "min": 1, "max": 99999999},
    "previous": {"type": "string", "pattern": "|[0-9a-f]{64}"},
    "kind": {"type": "string", "choices": ["full", "same"]},
    "same_as": _COUNT,
    "started": _TIME,
    "finished": _TIME,
    "next": _TIME,
    "archives": {"type": "mapping", "values": _ARCHIVE},
    "recipients": {"type": "mapping"},
    "authorisation": {"type": "string"},
    "warnings": {"type": "mapping", "values": _COUNT},
    "versions": {"type": "mapping", "values": {"type": "string"}},
}
_SPEC: dict[str, Any] = {
    "type": "mapping",
    "fields": {key: {**spec, "required": True} for key, spec in _FIELDS.items()},
}


@dataclass(frozen=True)
class Archive:
    """One encrypted archive: the hash and size of the ciphertext in bytes, who can read it, and
    how much is in it (regular files, bytes of their content, files that changed since the full
    before).
    """

    name: str
    sha256: str
    size: int
    recipients: list[str]
    files: int
    bytes: int
    changed: int


@dataclass(frozen=True)
class Manifest:
    """One snapshot. ``previous`` is the SHA-256 of the manifest before it, empty for the first;
    ``same_as`` the sequence of the full to which a ``same`` is equal, 0 for a full; ``archives``
    maps ``operator`` and ``customer-NAME``; ``recipients`` is the record that the offline key
    signed (``authorisation``); ``warnings`` counts them by kind; times are UTC.
    """

    instance: str
    sequence: int
    previous: str
    kind: str
    same_as: int
    started: str
    finished: str
    next: str
    archives: Mapping[str, Archive]
    recipients: Mapping[str, Any]
    authorisation: str
    warnings: Mapping[str, int]
    versions: Mapping[str, str]
    format: int = FORMAT

    @property
    def stem(self) -> str:
        """What the names of its objects begin with."""
        return names.stem(self.sequence, names.parsed(self.started))

    @property
    def name(self) -> str:
        return f"{self.stem}.json"

    def to_bytes(self) -> bytes:
        """The one way to write it, which is what is signed and hashed."""
        return canonical(dataclasses.asdict(self))


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, in ASCII, ending in a newline: equal values give equal bytes."""
    return (json.dumps(value, sort_keys=True, indent=1) + "\n").encode("ascii")


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read(data: bytes, name: str) -> Manifest:
    """The manifest in the object ``name``; :class:`Unverified` says what is wrong with it."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unverified(f"{name} is no JSON: {error}") from None
    found = schema.problems(value, _SPEC, name)
    if found:
        raise Unverified("; ".join(found))
    value["archives"] = {part: Archive(**entry) for part, entry in value["archives"].items()}
    manifest = Manifest(**value)
    if manifest.to_bytes() != data:
        raise Unverified(f"{name} is not written the way manifests are")
    try:
        right = manifest.name
    except ValueError:
        raise Unverified(f"{name}: started {manifest.started} is no time") from None
    if name != right:
        raise Unverified(f"{name} holds the manifest {right}")
    if manifest.kind == "full" and not manifest.archives:
        raise Unverified(f"{name} is a full snapshot without an archive")
    return manifest

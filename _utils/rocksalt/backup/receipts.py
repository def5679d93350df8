"""What a receiver says, signed by its own key: when it took a manifest (a receipt), and that its
retention removed an archive (a tombstone).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rocksalt import schema
from rocksalt.backup import names, sshsig
from rocksalt.backup.errors import Unverified
from rocksalt.backup.manifest import canonical

NAMESPACE = "rocksalt-receipt"
FORMAT = 1

_NEEDED = {"required": True}
_HASH: dict[str, Any] = {"type": "string", "pattern": "[0-9a-f]{64}", **_NEEDED}
_TIME: dict[str, Any] = {"type": "string", "pattern": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", **_NEEDED}
_COMMON: dict[str, Any] = {
    "format": {"type": "integer", "min": FORMAT, "max": FORMAT, **_NEEDED},
    "instance": {"type": "string", "pattern": names.INSTANCE.pattern, **_NEEDED},
    "receiver": {"type": "string", **_NEEDED},
}


@dataclass(frozen=True)
class Receipt:
    """The manifest ``sequence``, whose SHA-256 is ``manifest``, was received at that time (UTC, by
    the receiver's clock). ``receiver`` is the receiver's public key.
    """

    instance: str
    sequence: int
    manifest: str
    received: str
    receiver: str
    format: int = FORMAT


@dataclass(frozen=True)
class Tombstone:
    """The archive of that name and SHA-256 was removed at that time by the receiver's retention."""

    instance: str
    archive: str
    sha256: str
    pruned: str
    receiver: str
    format: int = FORMAT


def receipt(
    instance: str, sequence: int, manifest: str, received: dt.datetime, receiver: str
) -> bytes:
    """What the receiver with this public key signs of a manifest, whose SHA-256 it gives."""
    return canonical(
        dataclasses.asdict(
            Receipt(instance, sequence, manifest, names.utc(received), sshsig.bare(receiver))
        )
    )


def tombstone(
    instance: str, archive: str, sha256: str, pruned: dt.datetime, receiver: str
) -> bytes:
    """What the receiver with this public key signs of an archive that it is about to remove."""
    return canonical(
        dataclasses.asdict(
            Tombstone(instance, archive, sha256, names.utc(pruned), sshsig.bare(receiver))
        )
    )


def read_receipt(name: str, data: bytes, signature: bytes, receivers: Iterable[str]) -> Receipt:
    """The receipt in the object ``name``; :class:`Unverified` unless one of the receivers signed
    it.
    """
    number = {"type": "integer", "min": 1, **_NEEDED}
    spec = {"sequence": number, "manifest": _HASH, "received": _TIME}
    return Receipt(**_read(name, data, signature, receivers, spec))


def read_tombstone(name: str, data: bytes, signature: bytes, receivers: Iterable[str]) -> Tombstone:
    """The tombstone in the object ``name``; :class:`Unverified` unless one of the receivers signed
    it.
    """
    archive = {"type": "string", "pattern": names.ARCHIVE.pattern, **_NEEDED}
    spec = {"archive": archive, "sha256": _HASH, "pruned": _TIME}
    return Tombstone(**_read(name, data, signature, receivers, spec))


def _read(
    name: str, data: bytes, signature: bytes, receivers: Iterable[str], spec: dict[str, Any]
) -> dict[str, Any]:
    try:
        signer = sshsig.verify(data, signature, NAMESPACE, receivers)
        value = json.loads(data)
    except Unverified as error:
        raise Unverified(f"{name} {error}") from None
    except (ValueError, RecursionError) as error:
        raise Unverified(f"{name} is no JSON: {error}") from None
    found = schema.problems(value, {"type": "mapping", "fields": {**_COMMON, **spec}}, name)
    if found:
        raise Unverified("; ".join(found))
    time = value.get("received") or value["pruned"]
    try:
        names.parsed(time)
    except ValueError:
        raise Unverified(f"{name}: {time} is no time") from None
    if value["receiver"] != sshsig.bare(signer):
        raise Unverified(f"{name} speaks for {value['receiver']}, but {signer} signed it")
    return dict(value)

"""What a receiver says, signed by its own key: when it took a manifest (a receipt), and that its
retention removed an archive (a tombstone).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from rocksalt import schema
from rocksalt.backup import names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified
from rocksalt.backup.manifest import canonical

NAMESPACE = "rocksalt-receipt"
FORMAT = 1


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


Said = TypeVar("Said", Receipt, Tombstone)

_HASH = {"type": "string", "pattern": "[0-9a-f]{64}"}
_TIME = {"type": "string", "pattern": "[0-9-]{10}T[0-9:]{8}Z"}
_FIELDS: dict[str, dict[str, Any]] = {
    "format": {"type": "integer", "min": FORMAT, "max": FORMAT},
    "instance": {"type": "string", "pattern": names.INSTANCE.pattern},
    "receiver": {"type": "string"},
    "sequence": {"type": "integer", "min": 1},
    "manifest": _HASH,
    "received": _TIME,
    "archive": {"type": "string", "pattern": names.ARCHIVE.pattern},
    "sha256": _HASH,
    "pruned": _TIME,
}


def write(said: Receipt | Tombstone) -> bytes:
    """What the receiver signs; its public key goes in without the comment."""
    bare = dataclasses.replace(said, receiver=sshsig.bare(said.receiver))
    return canonical(dataclasses.asdict(bare))


def read(
    kind: type[Said], name: str, data: bytes, signature: bytes, receivers: Iterable[str]
) -> Said:
    """What the object ``name`` says; :class:`Unverified` unless one of the receivers signed it."""
    try:
        signer = sshsig.verify(data, signature, NAMESPACE, receivers)
        value = json.loads(data)
    except Unverified as error:
        raise Unverified(f"{name} {error}") from None
    except (ValueError, RecursionError) as error:
        raise Unverified(f"{name} is no JSON: {error}") from None
    own = {each.name: {**_FIELDS[each.name], "required": True} for each in dataclasses.fields(kind)}
    found = schema.problems(value, {"type": "mapping", "fields": own}, name)
    if found:
        raise Unverified("; ".join(found))
    said = kind(**value)
    time = said.received if isinstance(said, Receipt) else said.pruned
    try:
        names.parsed(time)
    except ValueError:
        raise Unverified(f"{name}: {time} is no time") from None
    if said.receiver != sshsig.bare(signer):
        raise Unverified(f"{name} speaks for {said.receiver}, but {signer} signed it")
    return said

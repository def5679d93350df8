"""The key of a volume, encrypted to its customer, as it lies in a token of the header.

Whoever has the customer's identity reads it with stock tools::

    cryptsetup token export --token-id 0 DEVICE | jq -r .wrapped | base64 -d | age -d -i identity
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rocksalt.backup.crypto import age
from rocksalt.backup.errors import BackupError
from rocksalt.errors import Refused
from rocksalt.luks.config import TOP, Customer, Volume
from rocksalt.luks.headers import Header
from rocksalt.luks.keys import Key

TYPE = "rocksalt"
LARGEST = 4096
"""Bytes of a token; there are 12 KiB for all metadata, and two tokens while a key changes."""


def wrap(key: Key, customer: Customer) -> bytes:
    """The key as an age file that each of the customer's recipients can read, and nobody else."""
    target = io.BytesIO()
    writer = age.Writer(target, customer.recipients)
    writer.write(key.secret)
    writer.close()
    return target.getvalue()


@dataclass(frozen=True)
class Token:
    """A token of ours: ``number`` in the header; ``slots`` that cryptsetup ties it to; ``digest``
    of the one slot that it was made for; ``wrapped`` is the age file with that slot's key.
    """

    number: int
    slots: tuple[int, ...]
    volume: str
    customer: str
    recipients: tuple[str, ...]
    digest: str
    wrapped: bytes
    created: str


def content(
    volume: Volume, slot: int, digest: str, wrapped: bytes, now: dt.datetime
) -> dict[str, Any]:
    """A new token, as cryptsetup takes it; :class:`Refused` if it is too large for a header."""
    token = {
        "type": TYPE,
        "keyslots": [str(slot)],
        "volume": volume.name,
        "customer": volume.customer.name,
        "recipients": volume.customer.fingerprints,
        "slot": digest,
        "wrapped": base64.b64encode(wrapped).decode(),
        "created": now.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if len(json.dumps(token)) > LARGEST:
        raise Refused(
            f"{TOP}:customers:{volume.customer.name}:recipients: are"
            f" {len(volume.customer.recipients)}, more than fit into a header"
        )
    return token


def moved(header: Header, token: Token, slot: int) -> dict[str, Any]:
    """The token for another slot, which has the same key."""
    value = dict(header.tokens[token.number])
    return {**value, "keyslots": [str(slot)], "slot": header.slots[slot].digest}


def tokens(header: Header) -> list[Token]:
    """Our tokens in a header, by number; what only calls itself one of ours is none."""
    return list(_tokens(header.tokens))


def _tokens(found: Mapping[int, Mapping[str, Any]]) -> Iterator[Token]:
    for number, token in sorted(found.items()):
        if token.get("type") != TYPE:
            continue
        try:
            yield Token(
                number=number,
                slots=tuple(int(slot) for slot in token["keyslots"]),
                volume=str(token["volume"]),
                customer=str(token["customer"]),
                recipients=tuple(map(str, token["recipients"])),
                digest=str(token["slot"]),
                wrapped=base64.b64decode(token["wrapped"], validate=True),
                created=str(token["created"]),
            )
        except (KeyError, TypeError, ValueError, binascii.Error):
            continue


def readers(wrapped: bytes) -> int | None:
    """How many recipients a wrapped key has; None if it is no age file."""
    try:
        return len(age.Header(io.BytesIO(wrapped)).stanzas)
    except BackupError:
        return None


def undisclosed(token: Token) -> str:
    """Where others can read a wrapped key than its token says: a sentence, empty otherwise. Who
    they are, the age file does not tell.
    """
    there, named = readers(token.wrapped), len(token.recipients)
    if there == named:
        return ""
    if there is None:
        return f"token {token.number} has no wrapped key, but something else"
    return f"token {token.number} has a key wrapped to {there} public keys, and names {named}"

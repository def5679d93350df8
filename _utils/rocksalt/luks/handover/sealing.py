"""The customer's side of a one-time key: who asks is known first, and then the key of a volume is
encrypted to that host alone.
"""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from rocksalt import schema
from rocksalt.backup.crypto import age, sshsig
from rocksalt.backup.errors import BackupError
from rocksalt.backup.manifest import canonical
from rocksalt.errors import Refused
from rocksalt.luks.handover import onetime, receiving

_TEXT: dict[str, Any] = {"type": "string", "min": 1, "required": True}
_SPEC: dict[str, Any] = {
    "type": "mapping",
    "fields": {
        "format": {
            "type": "integer",
            "min": onetime.FORMAT,
            "max": onetime.FORMAT,
            "required": True,
        },
        "host": _TEXT,
        "volume": _TEXT,
        "uuid": _TEXT,
        "what": {"type": "string", "choices": list(onetime.PURPOSES), "required": True},
        "recipients": {"type": "list", "items": {"type": "string"}, "required": True},
        "recipient": _TEXT,
        "expires": {**_TEXT, "pattern": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"},
    },
}


@dataclass(frozen=True)
class Wanted:
    """What a customer means to hand over a key for: ``what`` is one of
    :data:`~rocksalt.luks.handover.onetime.PURPOSES`; ``recipients`` are those who shall be able to
    read a new key.
    """

    volume: str
    what: str = onetime.OPEN
    recipients: Collection[str] = ()


def checked(request: str, host_key: str, wanted: Wanted, now: dt.datetime) -> dict[str, Any]:
    """The statement of a request (JSON), if the host with this public key made it for what is
    wanted and it has not expired; :class:`Refused` says why not.
    """
    try:
        value = json.loads(request)
        text, signature = value["statement"].encode("ascii"), value["signature"].encode("ascii")
        statement = json.loads(text)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused("the request is not what luks.request printed as JSON") from None
    try:
        sshsig.verify(text, signature, onetime.NAMESPACE, [host_key])
    except BackupError as error:
        raise Refused(f"the request {error}: do not hand over a key for it") from None
    wrong = schema.problems(statement, _SPEC, "the request")
    if wrong or canonical(statement) != text:
        raise Refused("; ".join(wrong) or "the request is not written as requests are")
    _check_purpose(statement, wanted)
    if onetime.written(now) >= statement["expires"]:
        raise Refused(f"the request expired at {statement['expires']}: ask for a new one")
    return dict(statement)


def _check_purpose(statement: Mapping[str, Any], wanted: Wanted) -> None:
    """Nobody else decides what becomes of the key, and who can read the next one."""
    asked, what = statement["volume"], statement["what"]
    if asked != wanted.volume:
        raise Refused(f"the request is for the volume {asked!r}, not for {wanted.volume!r}")
    if what != wanted.what:
        raise Refused(f"the request is to {what}, not to {wanted.what}: --what says what you want")
    if sorted(set(wanted.recipients)) != statement["recipients"]:
        there, yours = (
            ", ".join(it) or "nobody" for it in (statement["recipients"], wanted.recipients)
        )
        raise Refused(
            f"the new key could be read by {there}, and --recipient names {yours}: name everybody"
            " who shall read it, and hand over nothing if the request names anybody else"
        )


def seal(
    statement: dict[str, Any], wrapped: BinaryIO, identities: Sequence[X25519PrivateKey]
) -> str:
    """The key in ``wrapped``, which the customer's identities open, encrypted to the recipient of a
    :func:`checked` statement: base64, as ``luks.open`` takes it.
    """
    with receiving.key(bytearray(age.Reader(wrapped, identities).read(receiving.LARGEST))) as key:
        buffer = io.BytesIO()
        try:
            writer = age.Writer(buffer, [statement["recipient"]])
        except ValueError as error:
            raise Refused(f"the recipient in the request {error}") from None
        writer.write(key.secret)
        writer.close()
    return base64.b64encode(buffer.getvalue()).decode("ascii")

"""The customer's side of a one-time key: who asks is known first, and then the key of a volume is
encrypted to that host alone.
"""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
from collections.abc import Sequence
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
        "recipient": _TEXT,
        "expires": {**_TEXT, "pattern": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"},
    },
}


def checked(request: str, host_key: str, volume: str, now: dt.datetime) -> dict[str, Any]:
    """The statement of a request (JSON), if the host with this public key made it for this volume
    and it has not expired; :class:`Refused` says why not.
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
    if statement["volume"] != volume:
        raise Refused(f"the request is for the volume {statement['volume']!r}, not for {volume!r}")
    if onetime.written(now) >= statement["expires"]:
        raise Refused(f"the request expired at {statement['expires']}: ask for a new one")
    return dict(statement)


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

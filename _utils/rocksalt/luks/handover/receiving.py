"""What a customer or a key service hands over: a key, or something else by mistake."""

from __future__ import annotations

import base64
import binascii

from rocksalt.errors import Refused
from rocksalt.luks.keys import SIZE, Key, dump_nothing

LARGEST = 4096
"""Bytes that anybody has to read of what should be a key."""
_HOW = "age -d -i identity wrapped.age prints it"
_TEXT = 4 * -(-SIZE // 3)
_ENCRYPTED = (b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED")
IDENTITY = b"AGE-SECRET-KEY-"


def key(data: bytearray) -> Key:
    """The key in ``data``, raw or in base64; overwrites ``data``. :class:`Refused` says what it is
    instead, and shows none of it.
    """
    try:
        text = b"".join(data.split())
        if len(data) != SIZE and len(text) == _TEXT:
            return Key(base64.b64decode(text, validate=True))
        if data.startswith(_ENCRYPTED):
            raise Refused(f"what was handed over is still encrypted: {_HOW}")
        if IDENTITY in data.upper():
            raise Refused(
                "what was handed over is an identity, which must never leave its owner and has now"
                f" been on this host: make a new one and rotate. The key is needed here: {_HOW}"
            )
        return Key(data)
    except binascii.Error:
        raise Refused(f"what was handed over is no key of a volume: {_HOW}") from None
    except ValueError:
        what = f"{len(data)} bytes were" if data else "nothing was"
        raise Refused(f"{what} handed over, and a key has {SIZE}: {_HOW}") from None
    finally:
        data[:] = bytes(len(data))


def keep_private() -> None:
    """Nobody but root looks into this process, and nothing of it stays on a disk if it crashes."""
    dump_nothing()

"""The end of encrypting everything anew, where cryptsetup was killed after its last write of data.

All data are encrypted with the new volume key then, while the header says still that there is
something to do. To go on is fatal: cryptsetup 2.6 begins at the first byte again, and encrypts
everything a second time. Once it has wiped the old key slot, it neither opens the volume nor goes
on; nor does 2.7 when the slot is gone. What is left to do is to make the header say that all is
done.

Source: "LUKS2 On-Disk Format Specification" 1.1, sections 2 and 3.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rocksalt.errors import Refused
from rocksalt.luks import cryptsetup, image
from rocksalt.luks.config import RUNTIME, Volume
from rocksalt.luks.headers import Header
from rocksalt.luks.keys import Key, WrongKey
from rocksalt.luks.volumes import pinning
from rocksalt.luks.volumes.machine import Machine

_BINARY = 4096
_SIZE, _SEQUENCE = slice(8, 16), slice(16, 24)
_ALGORITHM, _CHECKSUM = slice(72, 104), slice(448, 512)
_REENCRYPT, _FINAL = "online-reencrypt-v2", "backup-final"

Metadata = dict[str, Any]


def last_slot(header: Header) -> int | None:
    """The only key slot of a volume whose data are all encrypted anew although its header says
    that they are not; None for all others.
    """
    if header.requirements != (_REENCRYPT,) or len(header.data) != 1:
        return None
    (now,) = header.data
    if now.kind != "crypt" or now.size is not None or now.flags or len(now.slots) != 1:
        return None
    final = [replace(it, flags=()) for it in header.segments if _FINAL in it.flags]
    left = [number for number, slot in header.slots.items() if slot.kind != "reencrypt"]
    over = final == [now] if final else left == [*now.slots]
    return now.slots[0] if over else None


def finish(machine: Machine, volume: Volume, header: Header, key: Key) -> None:
    """Has the header say that everything is encrypted anew; :class:`WrongKey` or :class:`Refused`
    where that would not open the volume, and then nothing is written.
    """
    slot = last_slot(header)
    if slot is None:
        raise Refused(f"the volume {volume.name} is not encrypted anew to its end")
    with open(machine.path(volume.device), "rb") as file:
        content = edited(image.take(file), str(slot))
    path = machine.path(f"{RUNTIME}/{volume.name}.header")
    path.unlink(missing_ok=True)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags, 0o600), "wb") as file:
            file.write(content)
        if not cryptsetup.opens(str(path), key, slot):
            raise WrongKey(f"the key that was handed over does not open the volume {volume.name}")
        with pinning.same(machine, volume, header.uuid) as disk:
            cryptsetup.restore_header(disk.path, str(path))
    finally:
        path.unlink(missing_ok=True)


def edited(header: bytes, slot: str) -> bytes:
    """The same header (both copies, and key slots) with only this slot, and what it opens; zeros
    are where the others were.
    """
    size = int.from_bytes(header[_SIZE], "big")
    text = header[_BINARY:size].partition(b"\0")[0]
    packed = json.dumps(_final(json.loads(text), slot), separators=(",", ":")).encode()
    copies = (_copy(header[at : at + size], packed) for at in (0, size))
    return image.take(io.BytesIO(b"".join([*copies, header[2 * size :]])))


def _final(metadata: Mapping[str, Any], slot: str) -> Metadata:
    digests, segments = metadata["digests"], metadata["segments"]
    digest = next(name for name, it in digests.items() if slot in it["keyslots"])
    data = [name for name, it in segments.items() if not it.get("flags")]
    if data != ["0"] or "0" not in digests[digest]["segments"]:
        raise Refused(f"slot {slot} is not that of the data, so nothing was written")
    config = {name: it for name, it in metadata["config"].items() if name != "requirements"}
    named = {"keyslots": [slot], "segments": ["0"]}
    tokens = {
        number: {**it, "keyslots": [one for one in it["keyslots"] if one == slot]}
        for number, it in metadata["tokens"].items()
    }
    return {
        "keyslots": {slot: metadata["keyslots"][slot]},
        "tokens": tokens,
        "segments": {"0": segments["0"]},
        "digests": {digest: {**digests[digest], **named}},
        "config": config,
    }


def _copy(old: bytes, metadata: bytes) -> bytes:
    new = bytearray(old[:_BINARY] + metadata.ljust(len(old) - _BINARY, b"\0"))
    new[_SEQUENCE] = struct.pack(">Q", int.from_bytes(old[_SEQUENCE], "big") + 1)
    new[_CHECKSUM] = bytes(64)
    digest = hashlib.new(old[_ALGORITHM].rstrip(b"\0").decode(), new).digest()
    new[_CHECKSUM] = digest.ljust(64, b"\0")
    return bytes(new)

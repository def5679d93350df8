"""The last step of encrypting everything anew, where cryptsetup was killed in the middle of it.

All data are encrypted with the new volume key then, and the old key slot is gone already, while the
header says still that there is something to do. cryptsetup 2.6 and 2.7 ask for both keys in that
state and neither open the volume nor go on. What is left to do is to make the header say so.

Source: "LUKS2 On-Disk Format Specification" 1.1, sections 2 and 3.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
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
_REENCRYPT = "online-reencrypt-v2"

Metadata = dict[str, Any]


def last_slot(header: Header) -> int | None:
    """The only key slot of a volume whose data are all encrypted anew although its header says
    that they are not; None for all others.
    """
    keys = [number for number, slot in header.slots.items() if slot.kind != "reencrypt"]
    whole = [it for it in header.data if it.kind == "crypt" and it.size is None and not it.flags]
    if header.requirements != (_REENCRYPT,) or len(header.data) != 1 or len(whole) != 1:
        return None
    return keys[0] if len(keys) == 1 and header.slots[keys[0]].bound else None


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
    """The same header (both copies, and key slots) with only this slot, and what it opens."""
    size = int.from_bytes(header[_SIZE], "big")
    text = header[_BINARY:size].partition(b"\0")[0]
    packed = json.dumps(_final(json.loads(text), slot), separators=(",", ":")).encode()
    copies = (_copy(header[at : at + size], packed) for at in (0, size))
    return b"".join([*copies, header[2 * size :]])


def _final(metadata: Mapping[str, Any], slot: str) -> Metadata:
    digests, segments = metadata["digests"], metadata["segments"]
    digest = next(name for name, it in digests.items() if slot in it["keyslots"])
    data = [name for name, it in segments.items() if not it.get("flags")]
    if data != ["0"] or "0" not in digests[digest]["segments"]:
        raise Refused(f"slot {slot} is not that of the data, so nothing was written")
    config = {name: it for name, it in metadata["config"].items() if name != "requirements"}
    named = {"keyslots": [slot], "segments": ["0"]}
    return {
        "keyslots": {slot: metadata["keyslots"][slot]},
        "tokens": metadata["tokens"],
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

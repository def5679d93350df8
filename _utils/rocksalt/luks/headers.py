"""Headers of LUKS as cryptsetup tells them: JSON of version 2, text of version 1."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rocksalt.host import Host


@dataclass(frozen=True)
class Segment:
    """A part of the data: ``kind`` is crypt, linear (not encrypted), hw-opal or hw-opal-crypt;
    ``offset`` and ``size`` in bytes (None: to the end of the device); ``integrity`` as cryptsetup
    names it, empty for none; ``flags`` such as backup-previous while it is being reencrypted.
    """

    kind: str
    cipher: str
    offset: int
    size: int | None = None
    sector_size: int = 512
    iv: int = 0
    integrity: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slot:
    """A key slot in use: ``key_size`` in bits is that of the key in it, ``cipher`` and
    ``area_key_size`` (bits) encrypt it, ``memory`` is in KiB, ``iterations`` of pbkdf2.
    ``kind`` is luks1, luks2 or reencrypt; ``bound`` tells whether its key opens the data.
    ``digest`` is :func:`slot_digest`, empty for version 1.
    """

    kind: str
    key_size: int
    cipher: str
    area_key_size: int
    kdf: str
    memory: int = 0
    time: int = 0
    cpus: int = 0
    iterations: int = 0
    hash: str = ""
    bound: bool = True
    priority: int = 1
    digest: str = ""


@dataclass(frozen=True)
class Header:
    """``device`` is where the data are, ``file`` where the header is (the same unless detached).
    ``key_size`` is the volume key's in bits, 0 where no slot tells it. ``flags`` are those kept for
    opening (allow-discards, ...), ``requirements`` what a program has to know (online-reencrypt,
    ...). ``digest`` changes with anything above, but not with the epoch that counts writes.
    """

    device: str
    file: str
    version: int
    uuid: str
    label: str = ""
    subsystem: str = ""
    segments: tuple[Segment, ...] = ()
    slots: Mapping[int, Slot] = field(default_factory=dict)
    tokens: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    key_size: int = 0
    flags: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    digest: str = ""

    @property
    def detached(self) -> bool:
        return self.file != self.device

    @property
    def data(self) -> tuple[Segment, ...]:
        """The segments that are data now, without those kept for reencryption."""
        return tuple(
            it for it in self.segments if not any(f.startswith("backup") for f in it.flags)
        )

    @property
    def reencrypting(self) -> bool:
        return any("reencrypt" in it for it in self.requirements)


def read(host: Host, device: str, header: str | None = None) -> Header | None:
    """The header of a device, or the one in the file ``header`` that belongs to it. Nothing is
    written, not even by cryptsetup to mend a damaged copy.

    None: the device can be read and has no LUKS header. :class:`~rocksalt.errors.Refused` in all
    other cases, a sentence: cryptsetup missing, device missing or unreadable, header damaged.
    """
    raise NotImplementedError


def parsed(device: str, file: str, text: str, metadata: str = "") -> Header:
    """The header in what ``cryptsetup luksDump`` printed, and with ``--dump-json-metadata``."""
    raise NotImplementedError


def slot_digest(slot: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a key slot of the JSON metadata, whatever the order of its keys."""
    text = json.dumps(slot, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

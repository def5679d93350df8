"""Second copies of headers, encrypted: without its header, nobody reads a disk again.

A copy is what ``cryptsetup luksHeaderRestore`` takes, without what is left of former key slots,
compressed and encrypted to those who may restore it::

    age -d -i identity COPY.age | gunzip > header.img
    cryptsetup luksHeaderRestore /dev/... --header-backup-file header.img
"""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rocksalt.backup.crypto import age
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks import config, headers

FOLDER = f"{config.STATE}/headers"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LARGEST = 24 << 20
"""Bytes of an encrypted copy; the area of LUKS2 for headers has 16 MiB, and is mostly empty."""
_PATIENCE = 60.0


@dataclass(frozen=True)
class Copy:
    """One copy: of which header (``digest`` is that of :class:`headers.Header`), when it was made
    (UTC), by whom it can be read (fingerprints, sorted), and hash and size of the encrypted file.
    ``volume`` and ``customer`` are empty for headers of the operator. ``kept`` is where and when
    the same file was last seen off this host: ``{"where", "time"}``, or empty.
    """

    uuid: str
    device: str
    digest: str
    time: str
    recipients: tuple[str, ...]
    sha256: str
    size: int
    volume: str = ""
    customer: str = ""
    kept: dict[str, str] | None = None

    @property
    def path(self) -> str:
        """The encrypted file."""
        return f"{FOLDER}/{self.uuid}.age"


def back_up(
    host: Host,
    device: str,
    recipients: Sequence[str],
    now: dt.datetime,
    *,
    volume: str = "",
    customer: str = "",
    header: str = "",
) -> Copy:
    """Makes the copy of a device's header (of the file ``header`` where it is detached), which only
    ``recipients`` (age1...) can read. It takes the place of an older one at once or not at all.
    :class:`Refused` where there is no header, or it changes meanwhile.
    """
    raise NotImplementedError


def copies(host: Host) -> dict[str, Copy]:
    """The copies on this host by UUID. What is damaged is none."""
    raise NotImplementedError


def content(host: Host, uuid: str) -> bytes:
    """The encrypted file; :class:`Refused` where there is none, or it is not what was written."""
    raise NotImplementedError


def note_kept(host: Host, uuid: str, sha256: str, where: str, now: dt.datetime) -> bool:
    """Notes that the file with this hash is kept elsewhere; False where that is no longer the copy
    of today.
    """
    raise NotImplementedError

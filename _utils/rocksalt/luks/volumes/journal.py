"""What is under way with a volume, so that whoever comes after a crash can finish it or take it
back. There is no key in it.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import gzip
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocksalt.errors import Refused
from rocksalt.host import synchronise
from rocksalt.luks import image
from rocksalt.luks.config import STATE
from rocksalt.luks.volumes.machine import Machine

_FORMAT = 1


@dataclass(frozen=True)
class Creation:
    """The header ``image`` (bytes) is being written to the beginning of the disk that is known by
    ``device`` (its stable name) and ``identity``; ``begun`` is when, in ISO 8601.
    """

    uuid: str
    customer: str
    device: str
    identity: Mapping[str, str]
    image: bytes = dataclasses.field(repr=False)
    begun: str


@dataclass(frozen=True)
class FirstOpening:
    """The file system is being made: nothing has ever been mounted."""

    uuid: str


@dataclass(frozen=True)
class Rotation:
    """The slot ``new``, which was free, takes the place of those in ``old``: slot -> digest."""

    uuid: str
    new: int
    old: Mapping[int, str]


@dataclass(frozen=True)
class Reencryption:
    """Everything is being encrypted anew; the customer's key moves from this slot, which has this
    digest, to another one.
    """

    uuid: str
    slot: int
    digest: str


Entry = Creation | FirstOpening | Rotation | Reencryption
_KINDS: dict[str, type[Entry]] = {
    "creation": Creation,
    "first opening": FirstOpening,
    "rotation": Rotation,
    "reencryption": Reencryption,
}


def path(name: str) -> str:
    """Where the journal of a volume is."""
    return f"{STATE}/{name}.journal"


def read(machine: Machine, name: str) -> Entry | None:
    """What is under way with a volume, if anything; :class:`Refused` where that cannot be told."""
    try:
        data = machine.path(path(name)).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"{path(name)} cannot be read: {error.strerror}") from None
    try:
        value = json.loads(data)
        if value.pop("format") != _FORMAT:
            raise ValueError("another format")
        return _entry(_KINDS[value.pop("what")], value)
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError):
        raise Refused(
            f"{path(name)} is damaged: it says what was under way with the volume {name}; restore"
            " it, or see in docs/luks.md how to go on without it"
        ) from None


def write(machine: Machine, name: str, entry: Entry) -> None:
    """Keeps it on the disk, at once or not at all; :class:`Refused` where the disk is full."""
    target = machine.path(path(name))
    new = _unfinished(target)
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(new, flags, 0o600), "wb") as file:
            file.write(_text(entry))
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, target)
        synchronise(target.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise Refused(f"{path(name)} cannot be written: {error.strerror}") from None


def remove(machine: Machine, name: str) -> None:
    """Nothing is under way any more."""
    target = machine.path(path(name))
    target.unlink(missing_ok=True)
    _unfinished(target).unlink(missing_ok=True)
    if target.parent.is_dir():
        synchronise(target.parent)


def tidy(machine: Machine, name: str) -> None:
    """Removes what somebody who was killed did not come to write."""
    _unfinished(machine.path(path(name))).unlink(missing_ok=True)


def _unfinished(target: Path) -> Path:
    return target.with_name(f".{target.name}.new")


def _text(entry: Entry) -> bytes:
    value = dataclasses.asdict(entry)
    if isinstance(entry, Creation):
        value["image"] = base64.b64encode(image.packed(entry.image)).decode()
        value["sha256"] = hashlib.sha256(entry.image).hexdigest()
    what = next(name for name, kind in _KINDS.items() if type(entry) is kind)
    return json.dumps({"format": _FORMAT, "what": what, **value}, indent=1).encode() + b"\n"


def _entry(kind: type[Entry], value: dict[str, Any]) -> Entry:
    if kind is Creation:
        packed = base64.b64decode(value["image"], validate=True)
        value["image"] = gzip.decompress(packed)
        if hashlib.sha256(value["image"]).hexdigest() != value.pop("sha256"):
            raise ValueError("another image")
    if kind is Rotation:
        value["old"] = {int(slot): str(digest) for slot, digest in value["old"].items()}
        value["new"] = int(value["new"])
    return kind(**value)

"""A machine whose disks are files below a folder, and a customer with a volume on one of them."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rocksalt.backup.crypto import age
from rocksalt.blocks import Device, Devices, Mount, Swap
from rocksalt.host import Host, Ran
from rocksalt.luks import cryptsetup, headers
from rocksalt.luks.config import Customer, Volume
from rocksalt.luks.cryptsetup import Strength
from rocksalt.luks.headers import Header, Segment, Slot
from rocksalt.luks.keys import Key, WrongKey
from rocksalt.luks.volumes import states, wrapping
from rocksalt.luks.volumes.machine import Disks, Machine

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.timezone.utc)
SIZE = 80 << 20
WEAK = Strength(memory=32)
"""Costs nothing: what is derived is 64 random bytes."""
DEVICE = "/dev/disk/by-id/virtio-acme"


class Files(Disks):
    """Files in the place of disks, and what the kernel would tell of them."""

    reencrypt_options = ("--force-offline-reencrypt",)

    def __init__(self) -> None:
        self.changes: dict[str, Any] = {}
        self.more: list[Device] = []
        self.mounts: list[Mount] = []
        self.swaps: list[Swap] = []

    def accepts(self, found: os.stat_result) -> bool:
        return stat.S_ISREG(found.st_mode)

    def number(self, found: os.stat_result) -> str:
        return f"7:{found.st_ino}"

    def tree(self, host: Host) -> Devices:
        devices = [*self._disks(host), *self.more]
        return Devices(host, {it.number: it for it in devices}, self.mounts, self.swaps)

    def _disks(self, host: Host) -> list[Device]:
        found = []
        for path in host.path("/disks").iterdir():
            number = self.number(path.stat())
            disk = Device(path.name, number, f"/disks/{path.name}", path.stat().st_size, "disk")
            found.append(replace(disk, **self.changes))
        return found


def machine(root: Path) -> Machine:
    """One with an empty disk, whose stable name is :data:`DEVICE`."""
    for folder in ("disks", "dev/disk/by-id", "dev/mapper", "srv"):
        (root / folder).mkdir(parents=True)
    made = Machine(Host(str(root)), Files())
    disk(made, "acme")
    return made


def disk(machine: Machine, name: str, size: int = SIZE) -> Path:
    """Another empty disk, with a serial number; the file that it is."""
    path = machine.path(f"/disks/{name}")
    with open(path, "wb") as file:
        file.truncate(size)
    machine.path(f"/dev/disk/by-id/virtio-{name}").symlink_to(path)
    folder = machine.path(f"/sys/dev/block/{machine.disks.number(path.stat())}")
    folder.mkdir(parents=True)
    (folder / "serial").write_text(f"{name}\n")
    return path


def customer(name: str = "acme", *more: str) -> tuple[Customer, str]:
    """A customer, and the identity that only the customer has."""
    identity, recipient = age.generate()
    return Customer(name, (recipient, *more)), identity


def volume(customer: Customer, name: str = "data", **given: Any) -> Volume:
    return Volume(name, customer, **{"device": DEVICE, "mount": "/srv/data", **given})


def digest(path: Path) -> str:
    """Of all that was ever written to a disk: holes, which are most of it, need no reading."""
    found = hashlib.sha256(str(path.stat().st_size).encode())
    with open(path, "rb", buffering=0) as file:
        at = 0
        with contextlib.suppress(OSError):  # there are no data behind it
            while True:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
                at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                found.update(f"{start}-{at}".encode() + os.pread(file.fileno(), at - start, start))
    return found.hexdigest()


def unwrapped(wrapped: bytes, identity: str) -> bytes:
    """What the customer sees in a wrapped key."""
    return age.Reader(io.BytesIO(wrapped), age.identities(identity)).read()


class Died(BaseException):
    """In the place of kill -9: nothing that handles errors sees it."""


class Luks:
    """Headers in memory in the place of cryptsetup: ``slots`` with the key of each, ``tokens``. It
    fails, or the process dies, at the call that is counted down to.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, machine: Machine):
        self.header: dict[str, Any] | None = None
        self.slots: dict[int, bytes] = {}
        self.digests: dict[int, str] = {}
        self.tokens: dict[int, dict[str, Any]] = {}
        self.unbound: set[int] = set()
        self.made = 0
        self.left: int | None = None
        self.how: BaseException = Died()
        self.machine = machine
        for name in (
            *("opens", "add_key", "kill_slot", "import_token", "remove_token", "describe", "mend"),
            *("open_mapping", "close_mapping", "reencrypt"),
        ):
            monkeypatch.setattr(cryptsetup, name, self._counted(getattr(self, name)))
        monkeypatch.setattr(headers, "read", self.read)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What dies may have been done or not: each call is two steps."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.step()
            result = function(*args, **kwargs)
            self.step()
            return result

        return counted

    def step(self) -> None:
        if self.left is not None:
            if self.left == 0:
                # The dead do nothing any more, such as to tidy up; what merely fails fails once.
                self.left = 0 if isinstance(self.how, Died) else None
                raise self.how
            self.left -= 1

    def make(self, volume: Volume, key: Key, fresh: bool = False) -> None:
        """A volume with one key slot."""
        self.header = {
            "uuid": "0123-4567",
            "label": volume.name,
            "subsystem": states.FRESH if fresh else states.SUBSYSTEM,
            "requirements": (),
        }
        self.put(0, key)
        wrapped = wrapping.wrap(key, volume.customer)
        self.tokens[0] = wrapping.content(volume, 0, self.digests[0], wrapped, NOW)

    def put(self, slot: int, key: Key) -> None:
        self.made += 1
        self.slots[slot] = bytes(key.secret)
        self.digests[slot] = f"digest {self.made}"

    def read(self, host: Host, device: str, header: str | None = None) -> Header | None:
        if self.header is None:
            return None
        slots = {
            it: Slot(
                "luks2",
                512,
                "aes",
                512,
                "argon2id",
                digest=self.digests[it],
                bound=it not in self.unbound,
            )
            for it in self.slots
        }
        segment = Segment("crypt", "aes-xts-plain64", 16 << 20)
        tokens = {number: dict(token) for number, token in self.tokens.items()}
        return Header(
            device, device, 2, segments=(segment,), slots=slots, tokens=tokens, **self.header
        )

    def opens(self, path: str, key: Key, slot: int | None) -> bool:
        found = self.slots.values() if slot is None else [self.slots[slot]]
        return bytes(key.secret) in found

    def add_key(self, path: str, key: Key, new: Key, slot: int, strength: Strength) -> None:
        assert bytes(key.secret) in self.slots.values()
        assert slot not in self.slots
        self.put(slot, new)

    def kill_slot(self, path: str, slot: int) -> None:
        del self.slots[slot]
        for token in self.tokens.values():
            token["keyslots"] = [it for it in token["keyslots"] if it != str(slot)]

    def import_token(self, path: str, number: int, token: Any, replace: bool = False) -> None:
        assert (number in self.tokens) == replace
        self.tokens[number] = dict(token)

    def remove_token(self, path: str, number: int) -> None:
        del self.tokens[number]

    def describe(self, path: str, label: str, subsystem: str) -> None:
        assert self.header is not None
        self.header |= {"label": label, "subsystem": subsystem}

    def mend(self, path: str) -> None:
        raise AssertionError("nothing is torn here")

    def open_mapping(self, path: str, name: str, key: Key, slot: int | None, discard: bool) -> None:
        if not self.opens(path, key, slot):
            raise WrongKey("wrong")
        disk = self.machine.path("/disks/acme")
        assert isinstance(self.machine.disks, Files)
        self.machine.disks.more = [
            Device(
                "dm-0", "253:0", "/dev/dm-0", SIZE, "crypt", dm_name=name,
                parents=(self.machine.disks.number(os.stat(disk)),),
                dm_uuid=f"CRYPT-LUKS2-01234567-{name}",
            )
        ]  # fmt: skip

    def close_mapping(self, name: str) -> Ran:
        assert isinstance(self.machine.disks, Files)
        assert not self.machine.disks.mounts
        self.machine.disks.more = []
        return Ran(0, "", "")

    def reencrypt(
        self, path: str, key: Key, slot: int | None, strength: Strength, options: Any = ()
    ) -> None:
        """In parts: while it is at it, there are a slot for the old key and one for the new."""
        assert self.header is not None
        token = next(iter(self.tokens.values()))
        if slot is not None:
            new = 1 - slot
            self.put(new, key)
            self.unbound = {new}
            self.step()
            token["keyslots"] = [str(slot), str(new)]
            self.step()
            self.header["requirements"] = ("online-reencrypt-v2",)
            self.unbound = set()
        self.step()
        self.kill_slot(path, min(self.slots, key=self.digests.__getitem__))
        self.header["requirements"] = ()

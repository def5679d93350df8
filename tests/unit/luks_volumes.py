"""A machine whose disks are files below a folder, and a customer with a volume on one of them."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

from rocksalt.backup.crypto import age
from rocksalt.blocks import Device, Devices, Mount, Swap
from rocksalt.host import Host
from rocksalt.luks.config import Customer, Volume
from rocksalt.luks.cryptsetup import Strength
from rocksalt.luks.volumes.machine import Disks, Machine

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.timezone.utc)
SIZE = 80 << 20
IDENTITY = "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQS3290GQ"
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

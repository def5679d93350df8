"""Devices and what is below them."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rocksalt.blocks import mounts
from rocksalt.blocks.mounts import Mount, Swap
from rocksalt.host import Host

_MEMORY = {"tmpfs", "ramfs", "devtmpfs", "hugetlbfs", "rootfs"}
_NOTHING = {
    *("autofs", "binder", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "cpuset"),
    *("debugfs", "devpts", "efivarfs", "functionfs", "fuse.lxcfs", "fusectl", "gadgetfs"),
    *("ibmasmfs", "ipathfs", "mqueue", "nfsd", "nsfs", "nullfs", "ocfs2_dlmfs", "openpromfs"),
    *("oprofilefs", "pidfs", "proc", "pstore", "qibfs", "resctrl", "rpc_pipefs", "s390_hypfs"),
    *("securityfs", "selinuxfs", "smackfs", "spufs", "sysfs", "tracefs", "usbfs", "xenfs"),
}
"""File systems that keep nothing."""
_UPPER = re.compile(r"(?:^|,)upperdir=([^,]+)")
_LOWER = re.compile(r"(?:^|,)(?:lowerdir|datadir)\+?=([^,]+)")
_COLONS = re.compile(r"(?<!\\):+")
_BESIDE = re.compile(r"(?:^|,)(?:logdev|rtdev|journal_path|jdev)=(/[^,]+)")
"""Further devices to which a file system writes: journals and the like."""
_DELETED = " (deleted)"
_LOWEST = ("disk", "partition", "rom", "floppy", "nbd")


@dataclass(frozen=True)
class Device:
    """A block device. ``number`` is major:minor (``8:1``), by which devices refer to each other;
    ``size`` is in bytes; ``kind`` is disk, partition, rom, floppy, loop, zram, ram, md, bcache,
    nbd, drbd, zvol, crypt, opal, lvm, multipath, integrity, verity, device-mapper or virtual.

    ``parents`` are the devices that it is made of, ``holders`` those made of it (partitions too).
    ``plain`` are those parents to which it hands on what is written as it is: none if it encrypts.
    ``dm_name`` and ``dm_uuid`` are those of device-mapper; ``by_id`` names in ``/dev/disk/by-id``.
    ``backing`` is the file of a loop device, and where zram writes what it has no memory for.
    Who reads a ``suspended`` device waits until it is resumed.
    """

    name: str
    number: str
    path: str
    size: int
    kind: str
    parents: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    dm_name: str = ""
    dm_uuid: str = ""
    backing: str = ""
    read_only: bool = False
    removable: bool = False
    suspended: bool = False
    by_id: tuple[str, ...] = ()

    @property
    def encrypts(self) -> bool:
        """Whether it is of dm-crypt, and encrypts all that is written to it."""
        return self.kind == "crypt" and not self.plain


@dataclass(frozen=True)
class Below:
    """What is below a file system, a swap or a device. ``plain`` are the lowest devices that are
    reached without encryption, ``crypts`` the devices of dm-crypt that were met, ``unknown`` a
    sentence for each thing that cannot be told (network, ZFS, FUSE, OPAL, ...), and ``memory``
    whether some of it never reaches a disk.
    """

    plain: tuple[Device, ...] = ()
    crypts: tuple[Device, ...] = ()
    unknown: tuple[str, ...] = ()
    memory: bool = False

    @property
    def encrypted(self) -> bool:
        """All of it is encrypted by dm-crypt, for certain."""
        return bool(self.crypts) and not (self.plain or self.unknown or self.memory)

    @property
    def safe(self) -> bool:
        """Nothing of it reaches a disk unencrypted, for certain."""
        return bool(self.crypts or self.memory) and not (self.plain or self.unknown)


@dataclass(frozen=True)
class Devices:
    """All block devices by number, with what is mounted and swapped to."""

    host: Host
    by_number: Mapping[str, Device]
    mounts: Sequence[Mount]
    swaps: Sequence[Swap]

    def find(self, path: str) -> Device | None:
        """The device of a path such as ``/dev/sda1``, ``/dev/mapper/x`` or ``/dev/disk/...``, or
        of a number.
        """
        if not path.startswith("/"):
            return self.by_number.get(path)
        with contextlib.suppress(OSError):
            found = os.stat(self.host.path(path))
            if stat.S_ISBLK(found.st_mode):
                number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
                return self.by_number.get(number)
        real = mounts.resolved(self.host, path)
        named = (it for it in self.by_number.values() if real in (it.path, f"/dev/{it.name}"))
        return next(named, None)

    def mount_at(self, path: str) -> Mount | None:
        """The mount that a path is on, or would be on if it existed; links are followed. OSError
        if the path cannot be reached.
        """
        return mounts.at(self.host, self.mounts, path)

    def below(self, number: str) -> Below:
        """What is below a device, itself included."""
        walk = _Walk(self)
        walk.device(number)
        return walk.result()

    def below_mount(self, mount: Mount) -> Below:
        """What is below a mounted file system."""
        walk = _Walk(self)
        walk.mount(mount)
        return walk.result()

    def below_path(self, path: str) -> Below:
        """What a file at this path lies on. OSError if it cannot be reached."""
        walk = _Walk(self)
        walk.path(path)
        return walk.result()

    def below_swap(self, swap: Swap) -> Below:
        """What is below a swap. OSError if its file cannot be reached."""
        walk = _Walk(self)
        walk.file(swap.path, f"the swap {swap.path}")
        return walk.result()

    def suspended(self, number: str) -> bool:
        """Whether who reads a device would wait, for it or what it lies on is suspended."""
        device = self.by_number.get(number)
        return device is not None and (device.suspended or any(map(self.suspended, device.parents)))

    def unencrypted(self, number: str) -> list[Device]:
        """The lowest devices that are reached from a device without passing dm-crypt."""
        return list(self.below(number).plain)


@dataclass
class _Walk:
    """Down from a device, a mount or a path, until something encrypts or nothing is below."""

    devices: Devices
    plain: list[Device] = field(default_factory=list)
    crypts: list[Device] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    memory: bool = False
    _met: set[str] = field(default_factory=set)
    _above: list[str] = field(default_factory=list)

    def result(self) -> Below:
        return Below(tuple(self.plain), tuple(self.crypts), tuple(self.unknown), self.memory)

    @contextlib.contextmanager
    def _once(self, key: str, name: str) -> Iterator[bool]:
        """Whether this was not met yet; nothing can lie on itself."""
        if key in self._above:
            self.unknown.append(f"{name} lies on itself as far as this host shows it")
        new = key not in self._met
        self._met.add(key)
        self._above.append(key)
        yield new
        self._above.pop()

    def device(self, number: str) -> None:
        found = self.devices.by_number.get(number)
        if found is None:
            self.unknown.append(f"the device {number or 'below'} is not among those of this host")
            return
        with self._once(number, found.path) as new:
            if new:
                self._beneath(found)

    def _beneath(self, device: Device) -> None:
        if device.kind == "crypt":
            self.crypts.append(device)
        elif device.kind in ("zram", "ram"):
            self.memory = True
        elif device.kind == "opal" and device.plain:
            self.unknown.append(f"{device.path} leaves encryption to the disk (OPAL)")
            return
        elif not (device.parents or device.backing):
            if device.kind in _LOWEST:
                self.plain.append(device)
            else:
                self.unknown.append(f"nothing shows what {device.path} ({device.kind}) lies on")
        if device.backing:
            self.file(device.backing, device.path)
        for number in device.plain:
            if number:
                self.device(number)
            else:
                self.unknown.append(f"dmsetup shows no table of {device.path} with what it lies on")

    def file(self, path: str, user: str) -> None:
        """A file that is used as a device, or a device."""
        found = self.devices.find(path)
        if path.endswith(_DELETED):
            self.unknown.append(f"{user} lies on a file that was deleted")
        elif found:
            self.device(found.number)
        else:
            self.path(path)

    def path(self, path: str) -> None:
        found = self.devices.mount_at(path)
        if found is None:
            self.unknown.append(f"nothing shows what {path} is on")
        else:
            self.mount(found)

    def mount(self, mount: Mount) -> None:
        with self._once(f"mount {mount.id}", mount.path) as new:
            if new:
                self._mounted(mount)

    def _mounted(self, mount: Mount) -> None:
        upper = _UPPER.search(mount.options)
        if not mount.number.startswith("0:"):
            self.device(mount.number)
            for path in _BESIDE.findall(mount.options):
                self.file(mounts.unescaped(path), mount.path)
        elif mount.kind == "overlay" and upper:
            self.path(mounts.unescaped(upper[1]))
        elif mount.kind == "overlay" and (lower := _lower(mount)):
            for path in lower:
                self.path(path)
        elif mount.kind in _MEMORY | _NOTHING:
            self.memory = True
        else:
            self._pool(mount)

    def _pool(self, mount: Mount) -> None:
        """A file system that has no device of its own, perhaps several."""
        numbers: list[str] = []
        if mount.kind == "btrfs":
            numbers = _btrfs(self.devices, mount)
        elif mount.kind == "bcachefs":
            found = [self.devices.find(path) for path in mount.source.split(":")]
            numbers = [it.number if it else "" for it in found]
        for number in numbers:
            self.device(number)
        if not numbers:
            self.unknown.append(
                f"{mount.path} is {mount.kind} of {mount.source}, which does not show whether it is"
                " encrypted"
            )


def _lower(mount: Mount) -> list[str]:
    """The folders that an overlay shows to which nobody can write; none where that cannot be told,
    for one of them is named from where it was mounted.
    """
    texts = (mounts.unescaped(it) for it in _LOWER.findall(mount.options))
    found = [it.replace("\\:", ":") for text in texts for it in _COLONS.split(text)]
    return found if all(it.startswith("/") for it in found) else []


def _btrfs(devices: Devices, mount: Mount) -> list[str]:
    """The devices of the pool that has the one that was mounted."""
    source = devices.find(mount.source)
    if source is None:
        return []
    for member in devices.host.glob(f"/sys/fs/btrfs/*/devices/{source.name.replace('/', '!')}"):
        names = {it.name.replace("!", "/") for it in devices.host.path(member).parent.iterdir()}
        return [number for number, it in devices.by_number.items() if it.name in names]
    return []

"""The block devices of a host, what lies on what, and whether what is written to them is encrypted
by dm-crypt before it reaches a disk: as the kernel tells it in ``/sys`` and ``/proc``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rocksalt.host import Host


@dataclass(frozen=True)
class Device:
    """A block device. ``number`` is major:minor (``8:1``), by which devices refer to each other;
    ``size`` is in bytes; ``kind`` is disk, partition, rom, loop, zram, ram, md, bcache, nbd, drbd,
    zvol, crypt, lvm, multipath, integrity, verity or device-mapper.

    ``parents`` are the devices that it is made of, ``holders`` those made of it (partitions too).
    ``plain`` are those parents to which it hands on what is written as it is: none if it encrypts.
    ``dm_name`` and ``dm_uuid`` are those of device-mapper; ``by_id`` names in ``/dev/disk/by-id``.
    ``backing`` is the file of a loop device.
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
    by_id: tuple[str, ...] = ()

    @property
    def encrypts(self) -> bool:
        """Whether it is of dm-crypt, and encrypts all that is written to it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Mount:
    """A mounted file system: ``number`` is that of its device, ``0:...`` where that is none;
    ``source`` what was mounted; ``options`` those of the file system.
    """

    id: int
    parent: int
    number: str
    path: str
    kind: str
    source: str
    options: str


@dataclass(frozen=True)
class Swap:
    """Swap in use: ``path`` of a device or a file, ``kind`` is partition or file, ``size`` in
    bytes.
    """

    path: str
    kind: str
    size: int


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
class Signature:
    """What blkid finds on a device by looking at it: ``type`` as it says (crypto_LUKS, ext4, swap,
    LVM2_member, linux_raid_member, ...), ``partitions`` the kind of partition table; both empty
    where there is nothing. ``problem`` says why it could not be told.
    """

    type: str = ""
    uuid: str = ""
    label: str = ""
    partitions: str = ""
    problem: str = ""

    @property
    def member(self) -> bool:
        """Part of a volume group, an array or a pool."""
        raise NotImplementedError


@dataclass(frozen=True)
class Devices:
    """All block devices by number, with what is mounted and swapped to."""

    host: Host
    by_number: Mapping[str, Device]
    mounts: Sequence[Mount]
    swaps: Sequence[Swap]

    def find(self, path: str) -> Device | None:
        """The device of a path such as ``/dev/sda1``, ``/dev/mapper/x`` or ``/dev/disk/...``."""
        raise NotImplementedError

    def mount_at(self, path: str) -> Mount | None:
        """The mount that a path is on, or would be on if it existed; links are followed. OSError
        if the path cannot be reached.
        """
        raise NotImplementedError

    def below(self, number: str) -> Below:
        """What is below a device, itself included."""
        raise NotImplementedError

    def below_mount(self, mount: Mount) -> Below:
        """What is below a mounted file system."""
        raise NotImplementedError

    def below_path(self, path: str) -> Below:
        """What a file at this path lies on. OSError if it cannot be reached."""
        raise NotImplementedError

    def below_swap(self, swap: Swap) -> Below:
        """What is below a swap. OSError if its file cannot be reached."""
        raise NotImplementedError

    def unencrypted(self, number: str) -> list[Device]:
        """The lowest devices that are reached from a device without passing dm-crypt."""
        return list(self.below(number).plain)


def tree(host: Host, plain: Mapping[str, Collection[str]] | None = None) -> Devices:
    """Looks at the devices of a host. ``plain`` is what :func:`rocksalt.luks.tables.plain` knows
    from live tables; without it, a device of device-mapper encrypts if cryptsetup called it so.
    :class:`~rocksalt.errors.Refused` where ``/sys`` or ``/proc`` cannot be read.
    """
    raise NotImplementedError


def signatures(host: Host, devices: Devices) -> dict[str, Signature]:
    """What lies on each device (by number) that has a size, by ``blkid -p``, which reads the disks
    and no cache. Refused where blkid is missing.
    """
    raise NotImplementedError

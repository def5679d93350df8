"""The only place that writes to a disk itself: :func:`write_header`, which takes nothing but what
:func:`examined` found to be empty, and kept for us alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from rocksalt.blocks import Device
from rocksalt.errors import Refused
from rocksalt.luks.config import BY_ID, TOP, Volume
from rocksalt.luks.volumes.journal import Creation
from rocksalt.luks.volumes.machine import Machine

MARGIN = 16 << 20
"""Bytes at the end of a disk that are looked at, and behind the header as well."""
HEADER = 16 << 20
"""Bytes of a header."""
SMALLEST = 64 << 20
"""Bytes that a disk has at least."""
_LEAST = {"ext4": SMALLEST, "xfs": 320 << 20}
"""Bytes of a disk for a file system with a header before it."""
_PATIENCE = 10.0
"""Seconds to wait for a program that looks at the disk."""
_SECTOR, _PAGE, _STEP = 512, 4096, 1 << 20
_ZERO = bytes(_STEP)
_IDENTITY = ("serial", "wwid", "device/serial", "device/vpd_pg80", "device/wwid", "dm/uuid")
_PART = ("partition", "start")


@dataclass(frozen=True)
class Disk:
    """A disk that was examined and that nobody else can use meanwhile. Only :func:`examined` makes
    one. ``identity`` is what tells it from others, also after a reboot.
    """

    machine: Machine
    volume: Volume
    descriptor: int
    size: int
    identity: dict[str, str]

    @property
    def sector_size(self) -> int:
        """Bytes of a sector of encryption: the larger ones are faster."""
        return _PAGE if self.size % _PAGE == 0 else _SECTOR

    def release(self) -> None:
        """Other programs may look at the disk from now on; nobody can mount it."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def still(self) -> None:
        """:class:`Refused` where the stable name leads elsewhere by now, or the disk shrank."""
        found = os.fstat(self.descriptor)
        if _identity(self.machine, found, _size(self.descriptor)) != self.identity:
            raise Refused(f"{_where(self.volume)} is another disk than a moment ago")
        if self.machine.disks.number(_stat(self.machine, self.volume)) != (
            self.machine.disks.number(found)
        ):
            raise Refused(f"{_where(self.volume)} leads to another disk than a moment ago")


@contextlib.contextmanager
def examined(
    machine: Machine, volume: Volume, begun: Creation | None = None, write: bool = True
) -> Iterator[Disk]:
    """The disk of a volume, kept for us alone, on which there is nothing, or nothing but a part of
    what was ``begun`` to be written. :class:`Refused` says what else is there.
    """
    with _exclusively(machine, volume, write) as descriptor:
        found = os.fstat(descriptor)
        size = _size(descriptor)
        disk = Disk(machine, volume, descriptor, size, _identity(machine, found, size))
        _unused(machine, volume, machine.disks.number(found))
        if size < SMALLEST:
            raise Refused(f"{_where(volume)} has {size} bytes; a volume needs {SMALLEST} at least")
        if begun is None:
            _unsigned(disk)
            _zero(disk, b"")
            _large_enough(disk)
        else:
            _same(disk, begun)
            _zero(disk, begun.image)
        disk.still()
        yield disk


def write_header(disk: Disk, image: bytes) -> None:
    """Writes a header to the beginning of a disk, and reads it again. What is zero stays as it
    is. :class:`Refused` or OSError where the disk does not take it.
    """
    view = memoryview(image)
    for at in reversed(range(0, len(image), _PAGE)):
        block = bytes(view[at : at + _PAGE])
        if not _blank(block) and os.pwrite(disk.descriptor, block, at) != len(block):
            raise Refused(f"{_where(disk.volume)} took a part of the header only")
    os.fsync(disk.descriptor)
    os.posix_fadvise(disk.descriptor, 0, len(image), os.POSIX_FADV_DONTNEED)
    for at in range(0, len(image), _STEP):
        wanted = bytes(view[at : at + _STEP])  # views are compared byte by byte
        if _read(disk.descriptor, at, len(wanted)) != wanted:
            raise Refused(f"{_where(disk.volume)} does not keep what is written to it")


def obstacles(machine: Machine, volume: Volume) -> list[str]:
    """Why the disk may not be formatted, a sentence each; nothing is written."""
    try:
        with examined(machine, volume, write=False):
            return []
    except Refused as error:
        return [str(error)]


def untouched(machine: Machine, volume: Volume, offset: int) -> bool:
    """Whether nothing was ever written to the volume that begins at ``offset`` (bytes) of its
    disk: the disk was empty when the volume was made, and what is encrypted is not zero.
    """
    with open(machine.path(volume.device), "rb", buffering=0) as file:
        size = _size(file.fileno())
        first = _spans(offset, min(offset + MARGIN, size))
        last = _spans(max(offset, size - MARGIN), size)
        return all(_blank(_read(file.fileno(), *span)) for span in (*first, *last))


@contextlib.contextmanager
def _exclusively(machine: Machine, volume: Volume, write: bool) -> Iterator[int]:
    """A descriptor of the disk. To ``write``, one that the kernel gives only if the disk is neither
    mounted nor a part of anything, and that keeps it from becoming so; who only looks keeps it
    from nobody.
    """
    found = _stat(machine, volume)
    if not machine.disks.accepts(found):
        raise Refused(f"{_where(volume)} is not a disk")
    descriptor = _taken(machine, volume) if write else _looked_at(machine, volume)
    try:
        if not machine.disks.accepts(os.fstat(descriptor)):
            raise Refused(f"{_where(volume)} is not a disk")
        if write:
            _lock(descriptor, volume)
        yield descriptor
    except OSError as error:
        raise Refused(f"{_where(volume)} cannot be used: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _taken(machine: Machine, volume: Volume) -> int:
    """Kept for us alone. Whoever has it for a moment, such as to look for partitions, is waited
    for.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return os.open(machine.path(volume.device), os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise Refused(f"{_where(volume)} cannot be opened: {error.strerror}") from None
        _unused(machine, volume, machine.disks.number(_stat(machine, volume)))
        if time.monotonic() > until:
            raise Refused(
                f"{_where(volume)} is in use where this host does not show it: by a program, in a"
                " container, or as a part of a file system of several disks"
            )
        time.sleep(0.05)


def _looked_at(machine: Machine, volume: Volume) -> int:
    try:
        return os.open(machine.path(volume.device), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{_where(volume)} cannot be opened: {error.strerror}") from None


def _lock(descriptor: int, volume: Volume) -> None:
    """With this lock, programs such as udev leave the disk alone until it is closed."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise Refused(f"{_where(volume)} is being used by another program") from None
        time.sleep(0.05)


def _stat(machine: Machine, volume: Volume) -> os.stat_result:
    """What the stable name leads to."""
    path = machine.path(volume.device)
    stable = volume.device.removeprefix(BY_ID)
    if BY_ID + stable != volume.device or "/" in stable or stable in ("", ".", ".."):
        raise Refused(f"{_where(volume)} is no stable name of a disk, as in {BY_ID}")
    try:
        if not path.is_symlink():
            raise Refused(f"{_where(volume)} does not exist")
        return os.stat(path)
    except OSError as error:
        raise Refused(f"{_where(volume)} leads to nothing: {error.strerror}") from None


def _unused(machine: Machine, volume: Volume, number: str) -> None:
    """:class:`Refused` where something is made of the disk, mounted from it, or swapped to it."""
    tree = machine.tree()
    device: Device | None = tree.by_number.get(number)
    if device is None:
        raise Refused(f"{_where(volume)} is unknown to the kernel, as {number}")
    if device.read_only:
        raise Refused(f"{_where(volume)} can only be read")
    if device.holders:
        users = (tree.by_number[it].path if it in tree.by_number else it for it in device.holders)
        raise Refused(f"{_where(volume)} is what {', '.join(sorted(users))} is made of")
    for mount in tree.mounts:
        if mount.number == number:
            raise Refused(f"{_where(volume)} is mounted at {mount.path}")
    for swap in tree.swaps:
        if os.path.realpath(machine.path(swap.path)) == os.path.realpath(
            machine.path(volume.device)
        ):
            raise Refused(f"{_where(volume)} is swap in use")


def _large_enough(disk: Disk) -> None:
    """:class:`Refused` where the file system would not fit, which otherwise shows when the volume
    is opened for the first time.
    """
    volume = disk.volume
    if disk.size < _LEAST[volume.filesystem]:
        raise Refused(
            f"{_where(volume)} has {disk.size} bytes; a volume with {volume.filesystem} needs"
            f" {_LEAST[volume.filesystem]} at least"
        )


def _unsigned(disk: Disk) -> None:
    """:class:`Refused` where blkid or wipefs knows what is on the disk, or cannot tell. They look
    at what we have open, for the name may lead elsewhere by now.
    """
    machine, volume = disk.machine, disk.volume
    path = f"/proc/{os.getpid()}/fd/{disk.descriptor}"
    ran = machine.host.run("blkid", "--probe", "--output", "export", path)
    if ran.status != 2 or ran.out.strip():
        what = " ".join(line for line in ran.out.split("\n") if not line.startswith("DEVNAME="))
        raise Refused(
            f"{_where(volume)} is not empty, says blkid: {(what or ran.err).strip() or ran.status}"
        )
    ran = machine.host.run("wipefs", "--no-act", "--noheadings", "--output=TYPE,OFFSET", path)
    if ran.status or ran.out.strip():
        said = " ".join((ran.out or ran.err).split()) or str(ran.status)
        raise Refused(f"{_where(volume)} is not empty, says wipefs: {said}")


def _zero(disk: Disk, image: bytes) -> None:
    """:class:`Refused` where a sector at the beginning or at the end of the disk is neither zero
    nor that of the image.
    """
    ends = (_spans(0, HEADER + MARGIN), _spans(disk.size - MARGIN, disk.size))
    for at, size in (*ends[0], *ends[1]):
        data = _read(disk.descriptor, at, size)
        if _blank(data):
            continue
        for start in range(0, size, _SECTOR):
            sector = data[start : start + _SECTOR]
            if not _blank(sector) and sector != image[at + start : at + start + _SECTOR]:
                raise Refused(
                    f"{_where(disk.volume)} is not empty: there are data at byte {at + start}"
                )


def _same(disk: Disk, begun: Creation) -> None:
    """:class:`Refused` where this is not the disk on which a volume was begun."""
    if begun.device != disk.volume.device or begun.identity != disk.identity:
        raise Refused(
            f"{_where(disk.volume)} is another disk than the one on which the volume was begun:"
            f" that was {begun.device} ({_shown(begun.identity)}), this is {_shown(disk.identity)}"
        )


def _identity(machine: Machine, found: os.stat_result, size: int) -> dict[str, str]:
    """What tells a disk from others: its size, its serial numbers, and which part of it it is."""
    folder = os.path.realpath(
        machine.path(f"/sys/dev/block/{machine.disks.number(found)}")
    ).removeprefix(machine.host.root)
    whole = os.path.dirname(folder) if machine.host.read(f"{folder}/partition") else folder
    places = [*((whole, it) for it in _IDENTITY), *((folder, it) for it in _PART)]
    texts = {name: machine.host.read(f"{place}/{name}") for place, name in places}
    known = {name: ascii(text.strip("\0\n ")) for name, text in texts.items() if text}
    return {"size": str(size), **known}


def _shown(identity: object) -> str:
    items = identity.items() if isinstance(identity, dict) else ()
    return ", ".join(f"{name} {value}" for name, value in sorted(items))


def _size(descriptor: int) -> int:
    return os.lseek(descriptor, 0, os.SEEK_END)


def _spans(start: int, end: int) -> list[tuple[int, int]]:
    """Beginning and size of pieces that are read at a time."""
    return [(at, min(_STEP, end - at)) for at in range(start, end, _STEP)]


def _blank(data: bytes) -> bool:
    return data == _ZERO[: len(data)]


def _read(descriptor: int, at: int, size: int) -> bytes:
    data = os.pread(descriptor, size, at)
    if len(data) < size:
        raise OSError(errno.EIO, "it ends before its end")
    return data


def _where(volume: Volume) -> str:
    return f"{TOP}:volumes:{volume.name}:device: {volume.device}"

"""What lies on devices, as blkid finds it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rocksalt.blocks.devices import Device, Devices
from rocksalt.errors import Refused
from rocksalt.host import Host

_MEMBER = re.compile(r"\w+_member|bcache|drbd")

_DRIVES = ("rom", "floppy")
"""With no medium in them they have a size nevertheless, and looking for one takes long."""
_AT_ONCE = 100
"""Devices that one blkid is asked about."""
_NOTHING, _TOO_LONG = 2, 124


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
        return bool(_MEMBER.fullmatch(self.type))


def signatures(host: Host, devices: Devices) -> dict[str, Signature]:
    """What lies on each device (by number) that has a size, by ``blkid -p``, which reads the disks
    and no cache. Drives for discs and floppies are left alone; of a disk with several paths to it,
    only the device of device-mapper is looked at. Refused where blkid is missing.
    """
    found, wanted = {}, []
    for number, device in devices.by_number.items():
        if not device.size or device.kind in _DRIVES or _path(device, devices):
            continue
        problem = _unreadable(host, device, devices.suspended(number))
        if problem:
            found[number] = Signature(problem=problem)
        else:
            wanted.append(device)
    return found | {device.number: it for device, it in _looked(host, wanted)}


def _path(device: Device, devices: Devices) -> bool:
    """Whether it is but a path to a disk, or a part of one, that has several."""
    disk = devices.by_number.get(device.parents[0]) if device.kind == "partition" else device
    return disk is not None and any(
        devices.by_number[holder].kind == "multipath" for holder in disk.holders
    )


def _looked(host: Host, devices: list[Device]) -> Iterator[tuple[Device, Signature]]:
    """What is on devices. As many as possible are looked at in one go, and that ends at the first
    one with nothing on it: the next go begins behind it.
    """
    while devices:
        asked, names = devices[:_AT_ONCE], [_node(host, it) for it in devices[:_AT_ONCE]]
        ran = host.run("blkid", "-p", "-o", "export", *names)
        if ran.status == 127:
            raise Refused("blkid is not installed: install util-linux")
        devices = devices[len(asked) :]
        if ran.status == _TOO_LONG and len(asked) > 1:
            for device in asked:
                yield from _looked(host, [device])
            continue
        told = _told(ran.out)
        last = max((at for at, name in enumerate(names) if name in told), default=-1)
        for device, name in zip(asked[: last + 1], names, strict=False):
            yield device, told.get(name, Signature())
        for device in asked[last + 1 : last + 2]:
            yield device, _untold(device, ran.status)
        devices = asked[last + 2 :] + devices


def _node(host: Host, device: Device) -> str:
    """The kernel's own name, which needs no quoting."""
    return str(host.path(f"/dev/{device.name}"))


def _told(out: str) -> dict[str, Signature]:
    """What blkid printed, by the name of the device."""
    told = {}
    for block in re.split("^(?=DEVNAME=)", out, flags=re.MULTILINE):
        # Written for shells, with a backslash before what means something to them.
        lines = re.sub(r"\\(.)", r"\1", block).splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line)
        values = (found.get(name, "") for name in ("TYPE", "UUID", "LABEL", "PTTYPE"))
        told[found.get("DEVNAME", "")] = Signature(*values)
    return told


def _untold(device: Device, status: int) -> Signature:
    """What it means that blkid ended at a device."""
    if status in (0, _NOTHING):
        return Signature()
    return Signature(problem=f"blkid cannot tell what is on {device.path}: status {status}")


def _unreadable(host: Host, device: Device, suspended: bool) -> str:
    """Why a device cannot be read, about which blkid would be silent."""
    if suspended:
        return f"{device.path} is suspended, and cannot be read before it resumes"
    try:
        with open(_node(host, device), "rb") as file:
            file.read(1)
    except OSError as error:
        return f"{device.path} cannot be read: {error.strerror}"
    return ""

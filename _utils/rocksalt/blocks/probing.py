"""What lies on devices, as blkid finds it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rocksalt.blocks.devices import Device, Devices
from rocksalt.errors import Refused
from rocksalt.host import Host

_MEMBER = re.compile(r"\w+_member|bcache|drbd")

_DRIVES = ("rom", "floppy")
"""With no medium in them they have a size nevertheless, and looking for one takes long."""


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
    return {
        number: _signature(host, device, devices.suspended(number))
        for number, device in devices.by_number.items()
        if device.size and device.kind not in _DRIVES and not _path(device, devices)
    }


def _path(device: Device, devices: Devices) -> bool:
    """Whether it is but a path to a disk, or a part of one, that has several."""
    disk = devices.by_number.get(device.parents[0]) if device.kind == "partition" else device
    return disk is not None and any(
        devices.by_number[holder].kind == "multipath" for holder in disk.holders
    )


def _signature(host: Host, device: Device, suspended: bool) -> Signature:
    if suspended:
        return Signature(
            problem=f"{device.path} is suspended, and cannot be read before it resumes"
        )
    ran = host.run("blkid", "-p", "-o", "export", str(host.path(device.path)))
    if ran.status == 127:
        raise Refused("blkid is not installed: install util-linux")
    if ran.status == 2:
        # Also what it says, without a word, of what it cannot open.
        problem = _unreadable(host, device)
        return Signature(problem=problem)
    if ran.status:
        return Signature(problem=f"blkid cannot tell what is on {device.path}: status {ran.status}")
    # Written for shells, with a backslash before what means something to them.
    lines = re.sub(r"\\(.)", r"\1", ran.out).splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    return Signature(
        found.get("TYPE", ""),
        found.get("UUID", ""),
        found.get("LABEL", ""),
        found.get("PTTYPE", ""),
    )


def _unreadable(host: Host, device: Device) -> str:
    try:
        with open(host.path(device.path), "rb") as file:
            file.read(1)
    except OSError as error:
        return f"{device.path} cannot be read: {error.strerror}"
    return ""

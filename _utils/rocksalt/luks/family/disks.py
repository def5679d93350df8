"""Whether what is written on this host reaches a disk unencrypted: mounts, swap, members of groups
and temporary folders, each traced down to its disks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import PurePosixPath

from rocksalt.blocks import Below, Mount, Signature
from rocksalt.errors import Refused
from rocksalt.luks import hibernation
from rocksalt.luks.family.reading import LUKS, Reading

SWAP = "swap"
_SWAP = ("swap", "swsuspend")
TEMPORARY = ("/tmp", "/var/tmp")
_ELSEWHERE = re.compile(
    r"nfs4?|cifs|smb3?|9p|virtiofs|vboxsf|afs|ceph|beegfs|lustre|ocfs2_dlmfs|fuse|fuse\.(?!ntfs).*"
)
"""File systems whose files are on other hosts, or are those of a program."""
_DERIVED = ("loop", "overlay")


class Disks:
    """What lies open, as sentences; ``exempt`` are reasons by mount point, device or as swap."""

    def __init__(self, reading: Reading, exempt: Mapping[str, str]):
        self.reading = reading
        self.exempt = exempt

    @cached_property
    def _exempt_devices(self) -> set[str]:
        found = map(self.reading.devices.find, (it for it in self.exempt if it.startswith("/dev/")))
        return {it.number for it in found if it}

    def mounted(self) -> list[str]:
        """File systems that are not encrypted, each once however often it is mounted."""
        systems: dict[str, list[Mount]] = {}
        for mount in self.reading.devices.mounts:
            if not _ELSEWHERE.fullmatch(mount.kind):
                same = mount.number if mount.kind != "overlay" else mount.path
                systems.setdefault(same, []).append(mount)
        found: list[str] = []
        for mounts in sorted(systems.values(), key=self._derived):
            below = self.reading.devices.below_mount(mounts[0])
            if below.safe or self._exempted(mounts):
                continue
            if self._derived(mounts) and not below.unknown:
                continue  # of files in what is mounted elsewhere, which was judged by itself
            left = [it.path for it in mounts if not self._under(it.path)]
            path = min(left or [it.path for it in mounts], key=len)
            what = f"{path} ({mounts[0].kind}{self._device(mounts[0].number)})"
            found += self._open(what, below, mounts[0].number)
        return found

    def _exempted(self, mounts: list[Mount]) -> bool:
        """Whether a file system is exempt by where it is mounted: the whole of it where it was
        decided, and nowhere else. A part of another one that is bound there exempts nothing.
        """
        whole = any(it.path in self.exempt and _whole(it) for it in mounts)
        return whole and all(self._under(it.path) for it in mounts)

    def _under(self, path: str) -> bool:
        """Whether it is an exempted mount point or below one; one of / is about / alone."""
        parents = (it for it in map(str, PurePosixPath(path).parents) if it != "/")
        return path in self.exempt or any(it in self.exempt for it in parents)

    def exemptions(self) -> list[str]:
        """What is exempt of all that this host has, and why, as a person reads it."""
        devices = self.reading.devices
        places = {it.path for it in devices.mounts} | {*TEMPORARY}
        places |= {it.path for it in devices.swaps}
        places |= {SWAP} if devices.swaps else set()
        return [
            f"{name} ({why})"
            for name, why in self.exempt.items()
            if name in places or (name.startswith("/dev/") and devices.find(name))
        ]

    def _derived(self, mounts: list[Mount]) -> bool:
        device = self.reading.devices.by_number.get(mounts[0].number)
        return (device.kind if device else mounts[0].kind) in _DERIVED

    def swaps(self) -> list[str]:
        """Swap in use or not, for what was written to it stays, and where the image of a host that
        hibernates goes. :class:`Refused` where nobody can tell what is on a disk.
        """
        if SWAP in self.exempt:
            return []
        found: list[str] = []
        for swap in self.reading.devices.swaps:
            below = self.reading.devices.below_swap(swap)
            device = self.reading.devices.find(swap.path)
            if not below.safe and swap.path not in self.exempt:
                what = f"{swap.path} (swap, {size(swap.size)})"
                found += self._open(what, below, device.number if device else "")
        found += [*self._images(), *self._marked(lambda it: it.type in _SWAP, "swap not in use")]
        return found or self._known()

    def _images(self) -> Iterator[str]:
        for image in hibernation.images(self.reading.host):
            device = self.reading.devices.find(image.device)
            below = self.reading.devices.below(device.number) if device else Below(memory=True)
            if device and not below.safe:
                what = f"the image of hibernation at {image.place} ({image.said_by})"
                yield from self._open(what, below, device.number)

    def members(self) -> list[str]:
        """Members of groups and arrays that are not encrypted, neither below nor in what is made
        of them. What of that is mounted or swap has been judged as such. :class:`Refused` where
        nobody can tell what is on a disk.
        """
        return list(self._marked(lambda it: it.member)) or self._known()

    def _marked(self, wanted: Callable[[Signature], bool], name: str = "") -> Iterator[str]:
        """Devices with such a signature that are not encrypted, and not judged by what they are
        used for; ``name`` says what they are if not their signature.
        """
        for number, signature in self.reading.signatures.items():
            below = self.reading.devices.below(number)
            if wanted(signature) and not below.safe and not self._covered(number):
                device = self.reading.device(number)
                what = f"{device.path} ({name or signature.type}, {size(device.size)})"
                yield from self._open(what, below, number)

    def _known(self) -> list[str]:
        """Nothing, or :class:`Refused` if there is a disk that nobody knows what is on."""
        found = [
            it.problem
            for number, it in self.reading.signatures.items()
            if it.problem and self._matters(number)
        ]
        if found:
            raise Refused("; ".join(found))
        return []

    def _matters(self, number: str) -> bool:
        """Whether what is on a device can be anything that is not encrypted, nor exempt."""
        below = self.reading.devices.below(number)
        open_ = bool(below.unknown or self._left(below, number))
        return open_ and not below.safe and not self._covered(number)

    def _covered(self, number: str) -> bool:
        device = self.reading.device(number)
        if self.reading.signatures.get(number, Signature()).type == LUKS or device.encrypts:
            return True
        if number in self._used:
            return True
        return bool(device.holders) and all(map(self._covered, device.holders))

    @cached_property
    def _used(self) -> set[str]:
        """Devices that are mounted or swapped to."""
        devices = self.reading.devices
        swaps = (devices.find(it.path) for it in devices.swaps)
        return {it.number for it in devices.mounts} | {it.number for it in swaps if it}

    def temporary(self) -> list[str]:
        """Temporary folders on a disk that is not encrypted."""
        found: list[str] = []
        for path in TEMPORARY:
            below = self.reading.devices.below_path(path)
            if not below.safe and path not in self.exempt:
                mount = self.reading.devices.mount_at(path)
                found += self._open(path, below, mount.number if mount else "")
        return found

    def _open(self, what: str, below: Below, number: str) -> Iterator[str]:
        """Why something is not encrypted, unless that is about exempted devices alone."""
        if below.unknown:
            yield f"{what}: {below.unknown[0]}"
            return
        left = self._left(below, number)
        disks = [it.path for it in below.plain if it.number in left and it.kind != "rom"]
        if disks:
            yield f"{what} lies on {', '.join(disks)}, not encrypted"

    def _left(self, below: Below, number: str) -> set[str]:
        """The lowest devices that are reached without passing an exempted one, from a device
        ``number`` if the way begins with one.
        """
        device = self.reading.devices.by_number.get(number)
        if number in self._exempt_devices:
            return set()
        if device is None or device.backing or not device.plain:
            return {it.number for it in below.plain} - self._exempt_devices
        lower = ((it, self.reading.devices.below(it)) for it in device.plain)
        return set().union(*(self._left(found, it) for it, found in lower))

    def _device(self, number: str) -> str:
        """Of a mount, which may have none."""
        device = self.reading.devices.by_number.get(number)
        return f" on {device.path}, {size(device.size)}" if device else ""


def _whole(mount: Mount) -> bool:
    """Whether all of a file system is mounted there, or all of a subvolume of btrfs."""
    subvolume = mount.kind == "btrfs" and f"subvol={mount.root}" in mount.options.split(",")
    return mount.root == "/" or subvolume


def size(count: int) -> str:
    """Bytes for people: ``1.5 GiB``."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"

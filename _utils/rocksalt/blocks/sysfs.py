"""The devices of a host as ``/sys`` shows them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from rocksalt.blocks import mounts
from rocksalt.blocks.devices import Device, Devices
from rocksalt.errors import Refused
from rocksalt.host import Host

_SYS = "/sys/dev/block"
_BY_ID = "/dev/disk/by-id"
_CRYPT = re.compile(r"CRYPT-(LUKS\d|PLAIN|LOOPAES|TCRYPT|BITLK|FVAULT2)-(?!OPAL-)")
"""What cryptsetup calls devices of device-mapper that encrypt."""
_DM_KINDS = {
    "CRYPT-LUKS2-OPAL-": "opal",
    "CRYPT-VERITY-": "verity",
    "CRYPT-INTEGRITY-": "integrity",
    "LVM-": "lvm",
    "mpath-": "multipath",
}
_NAMED = re.compile(r"(loop|zram|ram|md|bcache|nbd|drbd|zd|sr|fd)\d")
_KINDS = {"sr": "rom", "fd": "floppy", "zd": "zvol"}


def tree(host: Host, plain: Mapping[str, Collection[str]] | None = None) -> Devices:
    """Looks at the devices of a host. ``plain`` is what :func:`rocksalt.luks.tables.plain` knows
    from live tables; without it, a device of device-mapper encrypts if cryptsetup called it so.
    :class:`~rocksalt.errors.Refused` where ``/sys`` or ``/proc`` cannot be read.
    """
    links = host.glob(f"{_SYS}/*")
    if not host.path(_SYS).is_dir():
        raise Refused(f"{_SYS} cannot be read: mount /sys")
    nodes = {os.path.realpath(host.path(link)): os.path.basename(link) for link in links}
    by_id = _by_id(host)
    found = {number: _device(node, number, nodes, by_id) for node, number in nodes.items()}
    if plain is not None:
        found = {number: _known(it, plain) for number, it in found.items()}
    return Devices(host, _held(found), mounts.mounts(host), mounts.swaps(host))


def _device(
    node: str, number: str, nodes: Mapping[str, str], by_id: Mapping[str, list[str]]
) -> Device:
    name, uuid = os.path.basename(node).replace("!", "/"), _attribute(node, "dm/uuid")
    partition = os.path.exists(f"{node}/partition")
    disk = os.path.dirname(node) if partition else node
    slaves = [disk] if partition else _inside(f"{node}/slaves")
    parents = tuple(sorted(nodes.get(os.path.realpath(it), "") for it in slaves))
    kind = "partition" if partition else _kind(node, name, uuid)
    dm_name, backing = _attribute(node, "dm/name"), _attribute(node, "backing_dev")
    return Device(
        name=name,
        number=number,
        path=f"/dev/mapper/{dm_name}" if dm_name else f"/dev/{name}",
        size=int(_attribute(node, "size") or 0) * 512,
        kind=kind,
        parents=parents,
        plain=() if kind == "crypt" else parents,
        dm_name=dm_name,
        dm_uuid=uuid,
        backing=_attribute(node, "loop/backing_file") or backing.removeprefix("none"),
        read_only=_attribute(node, "ro") == "1",
        removable=_attribute(disk, "removable") == "1",
        suspended=_attribute(node, "dm/suspended") == "1",
        by_id=tuple(sorted(by_id.get(name, ()))),
    )


def _kind(node: str, name: str, dm_uuid: str) -> str:
    named = _NAMED.match(name)
    if named:
        return _KINDS.get(named[1], named[1])
    if os.path.isdir(f"{node}/dm"):
        special = (kind for start, kind in _DM_KINDS.items() if dm_uuid.startswith(start))
        return "crypt" if _CRYPT.match(dm_uuid) else next(special, "device-mapper")
    return "virtual" if "/devices/virtual/block/" in node else "disk"


def _known(device: Device, plain: Mapping[str, Collection[str]]) -> Device:
    """A device with what its live table says, whatever it is called; without one it hands on what
    is written to it to nobody knows what.
    """
    if not device.dm_name and device.number not in plain:
        return device
    below = tuple(plain.get(device.number, ("",)))
    encrypts = bool(device.parents) and not below
    return replace(device, kind="crypt" if encrypts else device.kind, plain=below)


def _held(devices: Mapping[str, Device]) -> dict[str, Device]:
    holders: dict[str, list[str]] = {number: [] for number in devices}
    for number, device in devices.items():
        for parent in device.parents:
            holders.setdefault(parent, []).append(number)
    return {
        number: replace(device, holders=tuple(sorted(holders[number])))
        for number, device in devices.items()
    }


def _by_id(host: Host) -> dict[str, list[str]]:
    """Stable names by name of the device."""
    found: dict[str, list[str]] = {}
    for path in host.glob(f"{_BY_ID}/*"):
        name = mounts.resolved(host, path).removeprefix("/dev/")
        found.setdefault(name, []).append(os.path.basename(path))
    return found


def _attribute(node: str, name: str) -> str:
    try:
        with open(f"{node}/{name}", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return ""


def _inside(folder: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in os.listdir(folder)]
    except OSError:
        return []

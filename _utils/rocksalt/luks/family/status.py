"""What a person wants to know of the block devices of a host, at a glance."""

from __future__ import annotations

from typing import Any

from rocksalt.blocks import Device, Signature
from rocksalt.luks.family.checks import Luks
from rocksalt.luks.family.customers import Customers
from rocksalt.luks.family.disks import size
from rocksalt.luks.family.reading import Reading, luks
from rocksalt.luks.headers import Header
from rocksalt.luks.tables import Table

_KINDS = {"crypt": "opened by cryptsetup", "lvm": "logical volume", "md": "RAID"}


def status(it: Luks) -> dict[str, Any]:
    """By the path of each device that has a size, what it is, what is on it and whether that is
    encrypted; then what is exempt from that and why, and the volumes of customers by name.
    """
    if it.container:
        devices: Any = f"those of the host of this container ({it.container})"
    else:
        reading = it.reading
        known = sorted(reading.devices.by_number.values(), key=lambda found: found.path)
        devices = {found.path: _device(reading, found) for found in known if found.size}
    return {
        "devices": devices,
        "exempt": dict(it.setup.settings["exempt"]),
        "volumes": _volumes(it.customers) if it.setup.volumes else {},
    }


def _device(reading: Reading, device: Device) -> dict[str, Any]:
    """What there is nothing to say about is left out."""
    signature = reading.signatures.get(device.number, Signature())
    below = reading.devices.below(device.number)
    parents = [reading.device(it).path for it in device.parents if it in reading.devices.by_number]
    used = [it.path for it in reading.devices.mounts if it.number == device.number]
    used += ["swap"] if device.number in _swaps(reading) else []
    found = {
        "size": size(device.size),
        "kind": _KINDS.get(device.kind, device.kind),
        "on": ", ".join(dict.fromkeys(parents)) or device.backing,
        "content": signature.type or signature.partitions or signature.problem,
        "mounted": ", ".join(sorted(set(used))),
        "encrypted": _encrypted(reading, device, signature, below.safe),
    }
    return {key: value for key, value in found.items() if value}


def _swaps(reading: Reading) -> set[str]:
    found = (reading.devices.find(it.path) for it in reading.devices.swaps)
    return {it.number for it in found if it}


def _encrypted(reading: Reading, device: Device, signature: Signature, safe: bool) -> str:
    """Whether what is on it is encrypted, and how."""
    header = reading.headers.known.get(device.number)
    if header:
        name = reading.open_as(header)
        return f"{how(header)}, {f'open as {name}' if name else 'closed'}"
    table = next((it for it in reading.mapped if it.number == device.number), None)
    if table and safe:
        return f"yes, {_mapped(table)}"
    if not signature.type and not signature.partitions and not device.holders:
        return "" if not safe else "yes"
    return "yes, below" if safe else "no"


def how(header: Header) -> str:
    """A header in words: ``LUKS2 aes-xts-plain64 512 bits, 1 key slot (argon2id)``."""
    ciphers = ", ".join(sorted({it.cipher for it in header.data})) or "no cipher"
    slots = [it for it in header.slots.values() if it.kind != "reencrypt"]
    kdfs = ", ".join(sorted({it.kdf for it in slots}))
    count = f"{len(slots)} key slot{'s' * (len(slots) != 1)}"
    derived = f" ({kdfs})" if kdfs else ""
    apart = f", header in {header.file}" if header.detached else ""
    anew = ", being reencrypted" if header.reencrypting else ""
    words = f"LUKS{header.version} {ciphers} {header.key_size} bits, {count}{derived}"
    return f"{words}{apart}{anew}"


def _mapped(table: Table) -> str:
    ciphers = ", ".join(sorted({f"{it.cipher} {it.key_size} bits" for it in table.crypts}))
    return f"{ciphers} ({table.kind if luks(table) else table.kind or 'plain dm-crypt'})"


def _volumes(customers: Customers) -> dict[str, dict[str, Any]]:
    found = {}
    for name, look in customers.looks.items():
        volume = customers.setup.volumes[name]
        told: dict[str, Any] = {"customer": volume.customer.name, "device": volume.device}
        if isinstance(look, str):
            found[name] = {**told, "state": "unknown", "problem": look}
            continue
        told |= {"state": look.condition, "uuid": look.uuid, "mount": volume.mount}
        told |= {"recipients": look.recipients, "readers": look.readers}
        said = (look.what, look.pending, *look.strangers)
        told |= {"problem": "; ".join(filter(None, said))}
        found[name] = {key: value for key, value in told.items() if value}
    return found

"""What a look at a host shows of its disks, each thing looked at once, and only when asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from rocksalt import blocks
from rocksalt.blocks import Device, Devices, Signature
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks import crypttab, headers, tables
from rocksalt.luks.crypttab import Entry
from rocksalt.luks.headers import Header
from rocksalt.luks.tables import Table
from rocksalt.luks.volumes import wrapping

FSTAB = "/etc/fstab"
LUKS = "crypto_LUKS"


@dataclass(frozen=True)
class Headers:
    """``known`` are the headers that were read, by the number of the device with their data;
    ``unreadable`` says of the others why, a sentence each.
    """

    known: Mapping[str, Header] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()


class Reading:
    """The disks of a host. What cannot be looked at raises :class:`Refused` where it is asked
    for.
    """

    def __init__(self, host: Host, detached: Mapping[str, str]):
        """``detached``: by device, the file with its header."""
        self.host = host
        self.detached = detached

    @cached_property
    def devices(self) -> Devices:
        """The block devices. What is mapped is known from the tables themselves."""
        found = blocks.tree(self.host)
        if not any(it.dm_name for it in found.by_number.values()):
            return found
        return blocks.tree(self.host, tables.plain(self.tables))

    @cached_property
    def tables(self) -> dict[str, Table]:
        """What device-mapper does, by the number of the device."""
        return tables.read(self.host)

    @property
    def mapped(self) -> list[Table]:
        """What device-mapper encrypts."""
        has_dm = any(it.dm_name for it in self.devices.by_number.values())
        return [it for it in self.tables.values() if it.crypts] if has_dm else []

    @cached_property
    def signatures(self) -> dict[str, Signature]:
        """What is on the devices, by their number."""
        return blocks.signatures(self.host, self.devices)

    @cached_property
    def headers(self) -> Headers:
        """The headers of LUKS on all devices, those that lie elsewhere too."""
        known: dict[str, Header] = {}
        unreadable = []
        for number, device in self.devices.by_number.items():
            file = self._elsewhere.get(number)
            signature = self.signatures.get(number, Signature())
            if file is None and signature.type != LUKS and not signature.problem:
                continue
            try:
                found = headers.read(self.host, device.path, file)
            except Refused as error:
                unreadable.append(signature.problem or str(error))
                continue
            if found:
                known[number] = found
            elif file:
                unreadable.append(f"{file} has no header, and {device.path} has its header there")
        return Headers(known, tuple(unreadable))

    @cached_property
    def _elsewhere(self) -> dict[str, str]:
        """Number of a device -> the file with its header, as settings and crypttab say."""
        said = {it.device: it.header for it in self.crypttab if it.header}
        found = {}
        for path, file in {**said, **self.detached}.items():
            device = self.devices.find(path)
            if device:
                found[device.number] = file
        return found

    def header_of(self, table: Table) -> Header | None:
        """The header with which a mapping was opened; None where it is gone."""
        uuid = table.header_uuid.lower()
        found = (it for it in self.headers.known.values() if it.uuid.lower() == uuid)
        return next(found, None) if uuid else None

    def open_as(self, header: Header) -> str:
        """The name under which a header's device is open; empty while it is closed."""
        uuid = header.uuid.lower()
        found = (it.name for it in self.mapped if it.header_uuid.lower() == uuid)
        return next(found, "")

    @cached_property
    def crypttab_text(self) -> str:
        return self.host.read(crypttab.PATH) or ""

    @cached_property
    def crypttab(self) -> list[Entry]:
        """What is opened at boot."""
        return crypttab.entries(self.crypttab_text)

    @cached_property
    def fstab(self) -> dict[str, str]:
        """What fstab mounts: source -> where."""
        lines = (self.host.read(FSTAB) or "").splitlines()
        fields = [line.split() for line in lines if not line.lstrip().startswith("#")]
        return {it[0]: it[1] for it in fields if len(it) > 1}

    def device(self, number: str) -> Device:
        return self.devices.by_number[number]


def encrypts(host: Host) -> bool:
    """Whether a host seems to encrypt something: what is known without starting a program or
    reading a disk.
    """
    with contextlib.suppress(OSError):
        if crypttab.entries(host.read(crypttab.PATH) or ""):
            return True
    marks = (("/sys/block/dm-*/dm/uuid", "CRYPT-"), ("/run/udev/data/b*", f"ID_FS_TYPE={LUKS}"))
    for pattern, mark in marks:
        for path in host.glob(pattern):
            with contextlib.suppress(OSError):
                if mark in (host.read(path) or ""):
                    return True
    return False


def customers(header: Header) -> bool:
    """Whether a header is that of a volume of a customer, by what it says itself."""
    return any(it.get("type") == wrapping.TYPE for it in header.tokens.values())


def luks(table: Table) -> bool:
    """Whether a mapping was opened with a header of LUKS."""
    return table.kind.startswith("LUKS")

"""What device-mapper does right now, without the keys, and how that is against a header."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rocksalt.blocks import Devices
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks.headers import Header, Segment

_NUMBER = re.compile(r"\d+:\d+")
_UUID = re.compile(r"CRYPT-(?P<kind>[A-Z0-9]+(?:-OPAL)?)-(?:(?P<uuid>[0-9a-f]{32})-)?")
_NULL = "cipher_null"
_KEYRING = re.compile(r":(\d+):")
_CAPI_HMAC = re.compile(r"capi:authenc\(hmac\((\w+)\),(\w+)\((\w+)\)\)-(\S+)")
_CAPI_POLY1305 = re.compile(r"capi:rfc7539\((\w+),(poly1305)\)-(\S+)")
_CAPI = re.compile(r"capi:(\w+)\((\w+)\)-(\S+)")
_SECTOR = 512
_KEEP_NOTHING = ("error", "zero")


@dataclass(frozen=True)
class Target:
    """A line of a table: ``start`` and ``length`` in sectors of 512 bytes."""

    start: int
    length: int
    kind: str
    arguments: tuple[str, ...]

    @property
    def devices(self) -> tuple[str, ...]:
        """The numbers of the devices below it."""
        return tuple(it for it in self.arguments if _NUMBER.fullmatch(it))

    @property
    def encrypts(self) -> bool:
        return self.kind == "crypt" and _NULL not in self.arguments[0]


@dataclass(frozen=True)
class Crypt:
    """A target of dm-crypt: ``start``, ``length``, ``iv`` and ``offset`` in sectors of 512 bytes,
    ``cipher`` as cryptsetup names it in headers, ``key_size`` in bits, ``options`` the flags such
    as allow_discards; ``integrity`` as headers name it.
    """

    start: int
    length: int
    cipher: str
    key_size: int
    iv: int
    device: str
    offset: int
    sector_size: int = _SECTOR
    integrity: str = ""
    options: tuple[str, ...] = ()

    @property
    def discards(self) -> bool:
        return "allow_discards" in self.options


@dataclass(frozen=True)
class Table:
    """The live table of a device of device-mapper; ``uuid`` is device-mapper's."""

    name: str
    number: str
    uuid: str
    targets: tuple[Target, ...]

    @property
    def crypts(self) -> tuple[Crypt, ...]:
        """Its targets of dm-crypt; Refused where one is not understood."""
        return tuple(self._crypt(it) for it in self.targets if it.kind == "crypt")

    @property
    def kind(self) -> str:
        """What cryptsetup opened it as (LUKS1, LUKS2, PLAIN, TCRYPT, ...), empty if it did not."""
        found = _UUID.match(self.uuid)
        return found["kind"] if found else ""

    @property
    def header_uuid(self) -> str:
        """The UUID of the header it was opened with, with hyphens; empty if there is none."""
        found = _UUID.match(self.uuid)
        return str(uuid.UUID(found["uuid"])) if found and found["uuid"] else ""

    def _crypt(self, target: Target) -> Crypt:
        try:
            cipher, key, iv, device, offset, *rest = target.arguments
            options = tuple(rest[1:])
            valued = dict(it.split(":", 1) for it in options if ":" in it)
            cipher, integrity = _as_in_header(cipher, valued.get("integrity", ""))
            return Crypt(
                start=target.start,
                length=target.length,
                cipher=cipher,
                key_size=_bits(key),
                iv=int(iv),
                device=device,
                offset=int(offset),
                sector_size=int(valued.get("sector_size", _SECTOR)),
                integrity=integrity,
                options=tuple(it for it in options if ":" not in it),
            )
        except ValueError as error:
            raise Refused(f"the table of {self.name} is not understood: {error}") from None


def _bits(key: str) -> int:
    """The size of a key, which dmsetup shows as zeros or as its place in the kernel's keyring."""
    keyring = _KEYRING.match(key)
    return int(keyring[1]) * 8 if keyring else len(key.strip("-")) * 4


def _as_in_header(cipher: str, integrity: str) -> tuple[str, str]:
    """Cipher and integrity as headers name them: the kernel has one name for both."""
    kind = integrity.partition(":")[2]
    authenticated = _CAPI_HMAC.fullmatch(cipher)
    if authenticated:
        digest, mode, name, iv = authenticated.groups()
        return f"{name}-{mode}-{iv}", f"hmac({digest})"
    stream = _CAPI_POLY1305.fullmatch(cipher)
    if stream:
        return f"{stream[1]}-{stream[3]}", stream[2]
    named = _CAPI.fullmatch(cipher)
    if named:
        mode, name, iv = named.groups()
        return f"{name}-{mode}-{iv}", kind
    return cipher, "" if kind == "none" else kind


def read(host: Host) -> dict[str, Table]:
    """The tables of all devices of device-mapper by number, empty where there are none. Never asks
    for keys. :class:`~rocksalt.errors.Refused` where dmsetup is missing or fails.
    """
    if not host.glob("/sys/block/dm-*"):
        return {}
    # Names hold anything but a slash, and are wanted as the kernel has them.
    fields = ("--noheadings", "--separator", "/", "-o", "major,minor,name,uuid")
    known = {}
    for line in _asked(host, "info", "-c", *fields).splitlines():
        major, minor, name, uuid = line.split("/", 3)
        known[name] = (f"{major}:{minor}", uuid)
    targets: dict[str, list[Target]] = {name: [] for name in known}
    for line in _asked(host, "table").splitlines():
        name = max((it for it in known if line.startswith(f"{it}: ")), key=len, default="")
        start, length, kind, *arguments = line.removeprefix(f"{name}: ").split() or ("0", "0", "")
        if name and kind:
            target = Target(int(start), int(length), kind, tuple(arguments))
            targets[name].append(target)
    return {
        number: Table(name, number, uuid, tuple(targets[name]))
        for name, (number, uuid) in known.items()
    }


def _asked(host: Host, *arguments: str) -> str:
    ran = host.run("dmsetup", "--manglename", "none", *arguments)
    if ran.status == 127:
        raise Refused("dmsetup is not installed, so that the tables of device-mapper are not known")
    if ran.status:
        why = " ".join(ran.err.split()) or f"status {ran.status}"
        raise Refused(f"dmsetup cannot read the tables of device-mapper: {why}")
    return ran.out


def plain(tables: Mapping[str, Table]) -> dict[str, tuple[str, ...]]:
    """For :func:`rocksalt.blocks.tree`: the devices to which each hands on what is written to it
    as it is, none for what encrypts: a table with targets of dm-crypt, and no others that keep
    what is written. The null cipher encrypts nothing. An empty name stands for what a table does
    not show.
    """
    return {number: _plain(table) for number, table in tables.items()}


def _plain(table: Table) -> tuple[str, ...]:
    found: list[str] = []
    for target in table.targets:
        if not target.encrypts and target.kind not in _KEEP_NOTHING:
            found += target.devices or ("",)
    encrypts = any(it.encrypts for it in table.targets)
    return tuple(dict.fromkeys(found)) or (() if encrypts else ("",))


def differences(header: Header, table: Table, devices: Devices) -> list[str]:
    """How an open device is unlike what its header says, a sentence each; empty if it is as the
    header says. While it is being reencrypted only ciphers and UUID are compared.
    """
    crypts, name, found = table.crypts, table.name, []
    if table.header_uuid.lower() != header.uuid.lower():
        opened = table.header_uuid or "none"
        found.append(f"{name} was opened by a header with the UUID {opened}, not {header.uuid}")
    if header.reencrypting:
        ciphers = {it.cipher for it in header.segments}
        said = " and ".join(sorted(ciphers))
        strange = [it.cipher for it in crypts if it.cipher not in ciphers]
        return found + [f"{name} has the cipher {it}, its header says {said}" for it in strange]
    segments = [it for it in header.data if it.kind != "linear"]
    if foreign := {it.kind for it in table.targets} - {"crypt"}:
        found.append(f"{name} is not of dm-crypt alone, but also of {', '.join(sorted(foreign))}")
    if len(crypts) != len(segments):
        return [*found, f"{name} has {len(crypts)} encrypted parts, its header {len(segments)}"]
    for crypt, segment in zip(crypts, segments, strict=True):
        found += _unlike(header, segment, table, crypt, devices)
    return found


def _unlike(
    header: Header, segment: Segment, table: Table, crypt: Crypt, devices: Devices
) -> Iterator[str]:
    """What one part of an open device has otherwise than the header."""
    device, lower = devices.find(header.device), devices.by_number.get(crypt.device)
    pairs: dict[str, tuple[object, object]] = {
        "cipher": (crypt.cipher, segment.cipher),
        "integrity": (crypt.integrity or "none", segment.integrity or "none"),
        "sector size": (crypt.sector_size, segment.sector_size),
        "first IV": (crypt.iv, segment.iv),
    }
    if header.key_size:
        pairs["key size"] = (crypt.key_size, header.key_size)
    if not segment.integrity:
        size = device.size - segment.offset if device and segment.size is None else segment.size
        pairs["offset"] = (crypt.offset * _SECTOR, segment.offset)
        pairs["size"] = (crypt.length * _SECTOR, size)
    for what, (seen, wanted) in pairs.items():
        if seen != wanted:
            yield f"{table.name} has the {what} {seen}, its header says {wanted}"
    # With integrity there is a device of dm-integrity between, which has the offset.
    below = lower.parents if segment.integrity and lower else (crypt.device,)
    if device is None or below != (device.number,):
        where = " and ".join(it.path for it in map(devices.by_number.get, below) if it) or "nothing"
        yield f"{table.name} lies on {where}, its header is that of {header.device}"

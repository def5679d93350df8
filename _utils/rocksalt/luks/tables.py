"""What device-mapper does right now, without the keys, and how that is against a header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rocksalt.blocks import Devices
from rocksalt.host import Host
from rocksalt.luks.headers import Header


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
        raise NotImplementedError


@dataclass(frozen=True)
class Crypt:
    """A target of dm-crypt: ``start``, ``length``, ``iv`` and ``offset`` in sectors of 512 bytes,
    ``cipher`` as cryptsetup names it in headers, ``key_size`` in bits, ``options`` the flags such as
    allow_discards; ``integrity`` as headers name it.
    """

    start: int
    length: int
    cipher: str
    key_size: int
    iv: int
    device: str
    offset: int
    sector_size: int = 512
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
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """What cryptsetup opened it as (LUKS1, LUKS2, PLAIN, TCRYPT, ...), empty if it did not."""
        raise NotImplementedError

    @property
    def header_uuid(self) -> str:
        """The UUID of the header it was opened with, with hyphens; empty if there is none."""
        raise NotImplementedError


def read(host: Host) -> dict[str, Table]:
    """The tables of all devices of device-mapper by number, empty where there are none. Never asks
    for keys. :class:`~rocksalt.errors.Refused` where dmsetup is missing or fails.
    """
    raise NotImplementedError


def plain(tables: Mapping[str, Table]) -> dict[str, tuple[str, ...]]:
    """For :func:`rocksalt.blocks.tree`: the devices to which each hands on what is written to it
    as it is. Those of targets of dm-crypt are none of them, unless its cipher is the null cipher.
    """
    raise NotImplementedError


def differences(header: Header, table: Table, devices: Devices) -> list[str]:
    """How an open device is unlike what its header says, a sentence each; empty if it is as the
    header says. While it is being reencrypted only ciphers and UUID are compared.
    """
    raise NotImplementedError

"""The disk of a volume while its header is changed without the key, by programs that know it by
name and would do the same to any other disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from rocksalt.errors import Refused
from rocksalt.luks import cryptsetup, headers
from rocksalt.luks.config import Volume
from rocksalt.luks.headers import Header
from rocksalt.luks.volumes.machine import Machine


@dataclass(frozen=True)
class Pinned:
    """A disk that has this ``header`` now, and whose ``path`` no other disk gets meanwhile."""

    path: str
    header: Header

    def kill(self, slot: int, digest: str) -> None:
        """Destroys a key slot; :class:`Refused` where it is not the one with this digest."""
        if slot not in self.header.slots or self.header.slots[slot].digest != digest:
            raise Refused(f"{self.path}: slot {slot} is another one than a moment ago")
        cryptsetup.kill_slot(self.path, slot)


@contextlib.contextmanager
def same(machine: Machine, volume: Volume, uuid: str) -> Iterator[Pinned]:
    """The disk of a volume, with this header; :class:`Refused` where it is another one by now.

    The kernel gives neither the number nor the name of a disk that somebody has open to another
    one, also when it is unplugged.
    """
    link = machine.path(volume.device)
    with contextlib.ExitStack() as stack:
        try:
            pin = stack.enter_context(open(link, "rb", buffering=0))
            path = os.path.realpath(link)
            numbers = [machine.disks.number(it) for it in (os.fstat(pin.fileno()), os.stat(path))]
        except OSError as error:
            raise Refused(f"{volume.device} cannot be opened: {error.strerror}") from None
        if numbers[0] != numbers[1]:
            raise Refused(f"{volume.device} leads to another disk than a moment ago")
        header = headers.read(machine.host, path.removeprefix(machine.host.root))
        if header is None or header.uuid != uuid:
            raise Refused(f"{volume.device} has another header than a moment ago")
        yield Pinned(path, header)

"""The file system of a new volume, made once: when it is opened for the first time."""

from __future__ import annotations

from rocksalt.errors import Refused
from rocksalt.luks import cryptsetup
from rocksalt.luks.config import Volume
from rocksalt.luks.programs import must, run
from rocksalt.luks.volumes import formatting, journal, pinning, states
from rocksalt.luks.volumes.machine import Machine
from rocksalt.luks.volumes.states import State

_MAKE = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "nodiscard"),
    "xfs": ("mkfs.xfs", "-q", "-f", "-K"),
}
_PATIENCE = 3600.0
"""Seconds, for a large and slow disk."""


def fill(machine: Machine, volume: Volume, found: State) -> list[str]:
    """Makes the file system of an open volume that has none; what was done, a sentence each.

    That a header says so is not enough, for an old copy of it that was restored says so, too: it
    is made only where nothing was ever written to the volume, or where the journal says that it was
    being made. Nothing is mounted before that is over.
    """
    if not found.fresh or found.header is None or found.mapping is None:
        return []
    entry = journal.read(machine, volume.name)
    if found.header.reencrypting or not isinstance(entry, journal.FirstOpening | None):
        raise Refused(f"the volume {volume.name} has no file system yet, and {found.pending}")
    done, offset = [], min(segment.offset for segment in found.header.data)
    if found.mounts:
        raise Refused(f"the volume {volume.name} is mounted, and its file system not whole yet")
    if entry is not None or formatting.untouched(machine, volume, offset):
        journal.write(machine, volume.name, journal.FirstOpening(found.header.uuid))
        mapping = str(machine.path(volume.mapping))
        ran = run(*_MAKE[volume.filesystem], mapping, timeout=_PATIENCE)
        must(f"no file system could be made in the volume {volume.name}", ran)
        done.append(f"a file system ({volume.filesystem}) was made in the volume {volume.name}")
    with pinning.same(machine, volume, found.uuid) as disk:
        cryptsetup.describe(disk.path, volume.name, states.SUBSYSTEM)
    journal.remove(machine, volume.name)
    return done

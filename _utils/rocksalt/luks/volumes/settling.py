"""Finishes or takes back what was interrupted, as far as that takes no key."""

from __future__ import annotations

import datetime as dt
import os

from rocksalt.errors import Refused
from rocksalt.luks import cryptsetup, headers
from rocksalt.luks.config import Volume
from rocksalt.luks.headers import Header
from rocksalt.luks.volumes import formatting, journal, locks, memory, pinning, states, wrapping
from rocksalt.luks.volumes.machine import Machine


def settle(machine: Machine, volume: Volume) -> list[str]:
    """What was finished or taken back, a sentence each; :class:`Refused` where it cannot be. What
    only the customer's key finishes stays as it is.
    """
    with locks.held(machine, volume.name):
        return unlocked(machine, volume)


def unlocked(machine: Machine, volume: Volume) -> list[str]:
    """The same for whoever has the lock of the volume already."""
    journal.tidy(machine, volume.name)
    entry = journal.read(machine, volume.name)
    if isinstance(entry, journal.Creation):
        return _created(machine, volume, entry)
    if entry is None:
        return []
    header = _header(machine, volume)
    if header is None or states.foreign(volume, header):
        return []
    if entry.uuid != header.uuid:
        raise Refused(
            f"{journal.path(volume.name)} is about another header ({entry.uuid}) than the one on"
            f" {volume.device} ({header.uuid}): the disk was exchanged, or another header restored"
        )
    if isinstance(entry, journal.Rotation):
        return _rotated(machine, volume, header, entry)
    if isinstance(entry, journal.Reencryption):
        return _encrypted(machine, volume, header, entry)
    if header.subsystem != states.FRESH:
        journal.remove(machine, volume.name)
    return []


def _created(machine: Machine, volume: Volume, entry: journal.Creation) -> list[str]:
    if entry.customer != volume.customer.name:
        raise Refused(
            f"the volume {volume.name} was begun for the customer {entry.customer}, and is"
            f" declared for {volume.customer.name} now"
        )
    with formatting.examined(machine, volume, entry) as disk:
        formatting.write_header(disk, entry.image)
    memory.write(machine, volume, entry.uuid, dt.datetime.fromisoformat(entry.begun))
    journal.remove(machine, volume.name)
    return [f"the interrupted creation of the volume {volume.name} was finished"]


def _encrypted(
    machine: Machine, volume: Volume, header: Header, entry: journal.Reencryption
) -> list[str]:
    """Takes back what never began: as long as nothing is encrypted anew, the new key slot opens
    nothing. What is over may only lack its token, for which :func:`opening.adopt` has a key.
    """
    if header.reencrypting:
        return []
    if not _is(header, entry.slot, entry.digest):
        if states.CHANGED not in states.owners(header).values():
            journal.remove(machine, volume.name)
        return []
    for number, slot in header.slots.items():
        if not slot.bound:
            with pinning.same(machine, volume, header.uuid) as disk:
                disk.kill(number, slot.digest)
    journal.remove(machine, volume.name)
    return [f"encrypting the volume {volume.name} anew was taken back before it began"]


def _rotated(
    machine: Machine, volume: Volume, header: Header, entry: journal.Rotation
) -> list[str]:
    """The new slot takes over once its token is there, for that was written when the new key had
    opened it; before, it goes again, and the old key stays.
    """
    if header.reencrypting:
        raise Refused(f"the volume {volume.name} is being encrypted anew: finish that first")
    owners = states.owners(header)
    old = [it for it, digest in entry.old.items() if _is(header, it, digest)]
    if owners.get(entry.new) == states.CUSTOMER:
        going, said = old, f"the key of the volume {volume.name} was replaced"
    elif old:
        going = [entry.new] if entry.new in header.slots else []
        said = f"the interrupted rotation of the key of {volume.name} was taken back"
    else:
        raise Refused(
            f"the rotation of the key of the volume {volume.name} was interrupted, and neither its"
            " old key slot nor its new one is as it was left: nothing was removed"
        )
    for slot in going:
        with pinning.same(machine, volume, header.uuid) as disk:
            disk.kill(slot, header.slots[slot].digest)
    _tidy(machine, volume, header.uuid)
    journal.remove(machine, volume.name)
    return [said]


def _is(header: Header, slot: int, digest: str) -> bool:
    return slot in header.slots and header.slots[slot].digest == digest


def _tidy(machine: Machine, volume: Volume, uuid: str) -> None:
    """Removes our tokens whose slot is gone."""
    with pinning.same(machine, volume, uuid) as disk:
        for token in wrapping.tokens(disk.header):
            if not token.slots:
                cryptsetup.remove_token(disk.path, token.number)


def _header(machine: Machine, volume: Volume) -> Header | None:
    """What is on the disk. A change of ours was cut off: cryptsetup mends the copy of the header
    that it was writing then.
    """
    path = machine.path(volume.device)
    if not path.exists():
        return None
    try:
        return headers.read(machine.host, volume.device)
    except Refused:
        cryptsetup.mend(os.path.realpath(path))
        return headers.read(machine.host, volume.device)

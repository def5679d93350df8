"""New volumes: made without the customer, and closed afterwards."""

from __future__ import annotations

import datetime as dt
import os

from rocksalt.errors import Refused
from rocksalt.luks import cryptsetup, headers, image
from rocksalt.luks.config import RUNTIME, Volume
from rocksalt.luks.cryptsetup import DEFAULT, Strength
from rocksalt.luks.keys import Key, without_core_dumps
from rocksalt.luks.volumes import (
    formatting,
    journal,
    locks,
    memory,
    mounting,
    settling,
    states,
    wrapping,
)
from rocksalt.luks.volumes.machine import Machine

SLOT = TOKEN = 0


def create(
    machine: Machine, volume: Volume, now: dt.datetime, strength: Strength = DEFAULT
) -> list[str]:
    """Makes the volume on its disk, which has to be empty; what was done, a sentence each, nothing
    if it is there. :class:`Refused` says why not: then the disk is as it was, or the journal says
    what to finish.
    """
    with locks.held(machine, volume.name):
        done = settling.unlocked(machine, volume)
        found = states.state(machine, volume)
        if found.made:
            return done
        if found.condition != states.EMPTY:
            raise Refused(found.what)
        mounting.possible(machine, volume, found)
        with without_core_dumps(), Key.random() as key:
            _make(machine, volume, key, now, strength)
        return [*done, f"the volume {volume.name} was made on {volume.device}"]


def forget(machine: Machine, volume: Volume) -> list[str]:
    """Has the next :func:`create` make a volume anew whose header is lost, or take the header that
    is on the disk now for the volume's; what was done, a sentence each. :class:`Refused` while
    the volume is as it was made.
    """
    with locks.held(machine, volume.name):
        made = memory.read(machine, volume.name)
        if made is None:
            return []
        if states.is_open(machine, volume) or states.state(machine, volume).made:
            raise Refused(f"the volume {volume.name} is there, with its header: nothing to forget")
        memory.remove(machine, volume.name)
        return [f"the header {made.uuid} of the volume {volume.name} was forgotten"]


def _make(machine: Machine, volume: Volume, key: Key, now: dt.datetime, strength: Strength) -> None:
    with formatting.examined(machine, volume) as disk:
        uuid, content = _header(machine, volume, key, disk.sector_size, now, strength)
        customer = volume.customer.name
        entry = journal.Creation(
            uuid, customer, volume.device, disk.identity, content, now.isoformat()
        )
        disk.still()
        journal.write(machine, volume.name, entry)
        formatting.write_header(disk, content)
        disk.release()
        if not cryptsetup.opens(os.path.realpath(machine.path(volume.device)), key, SLOT):
            raise Refused(f"{volume.device} was formatted, and its key does not open it")
        disk.still()
    memory.write(machine, volume, uuid, now)
    journal.remove(machine, volume.name)


def _header(
    machine: Machine,
    volume: Volume,
    key: Key,
    sector_size: int,
    now: dt.datetime,
    strength: Strength,
) -> tuple[str, bytes]:
    """UUID and bytes of a new header with the wrapped key in it, made in memory."""
    place = f"{RUNTIME}/{volume.name}.header"
    file = machine.path(place)
    path = str(file)
    file.unlink(missing_ok=True)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags, 0o600), "rb+", buffering=0) as content:
            content.truncate(formatting.SMALLEST)
            cryptsetup.make_header(path, key, strength, sector_size, volume.name, states.FRESH)
            header = headers.read(machine.host, place)
            if header is None or list(header.slots) != [SLOT] or header.tokens:
                raise Refused(f"cryptsetup made no header as it should be for {volume.name}")
            wrapped = wrapping.wrap(key, volume.customer)
            digest = header.slots[SLOT].digest
            token = wrapping.content(volume, SLOT, digest, wrapped, now)
            cryptsetup.import_token(path, TOKEN, token)
            return header.uuid, image.take(content)
    except OSError as error:
        raise Refused(f"{RUNTIME} cannot be written: {error.strerror}") from None
    finally:
        file.unlink(missing_ok=True)

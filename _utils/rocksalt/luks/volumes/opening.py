"""Opens volumes with the key that a customer handed over, and closes them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from rocksalt.errors import Refused
from rocksalt.luks import cryptsetup
from rocksalt.luks.config import Volume
from rocksalt.luks.keys import Key, WrongKey, without_core_dumps
from rocksalt.luks.programs import must
from rocksalt.luks.volumes import (
    filling,
    finishing,
    journal,
    layers,
    locks,
    memory,
    mounting,
    pinning,
    settling,
    states,
    wrapping,
)
from rocksalt.luks.volumes.machine import Machine
from rocksalt.luks.volumes.states import State

_WRONG = "the key that was handed over does not open the volume {}"


def open_volume(machine: Machine, volume: Volume, key: Key) -> list[str]:
    """Opens and mounts the volume; what was done, a sentence each, nothing if it is open and
    mounted. :class:`WrongKey` or :class:`Refused` says why not: then it is as it was.
    """
    with locks.held(machine, volume.name), without_core_dumps():
        done = settling.unlocked(machine, volume)
        found = finished(machine, volume, key)
        layers.moving(machine, volume, found.mapping)
        mounting.possible(machine, volume, found)
        if found.mapping is None:
            done += _opened(machine, volume, found, key)
        else:
            unlocking(volume, found, key)
            done += filling.fill(machine, volume, found)
            done += mounting.mount(machine, volume, found)
        done += adopt(machine, volume, key)
        return [*done, *_remembered(machine, volume, found)]


def mount_volume(machine: Machine, volume: Volume) -> list[str]:
    """Mounts a volume that is open as it is declared; what was done, a sentence each."""
    with locks.held(machine, volume.name):
        found = there(machine, volume)
        if found.mapping is None or found.fresh:
            return []
        layers.moving(machine, volume, found.mapping)
        mounting.possible(machine, volume, found)
        return mounting.mount(machine, volume, found)


def close_volume(machine: Machine, volume: Volume) -> list[str]:
    """Unmounts and closes the volume, also where its disk is gone; what was done, a sentence each,
    nothing if it is closed. :class:`Refused` names who uses it.
    """
    with locks.held(machine, volume.name):
        mapping = states.mapped(machine, volume)
        if mapping is None:
            return []
        layers.moving(machine, volume, mapping)
        done = mounting.unmount(machine, volume, mapping)
        ran = cryptsetup.close_mapping(volume.name)
        must(f"the volume {volume.name} could not be closed", ran)
        return [*done, f"the volume {volume.name} was closed"]


def _remembered(machine: Machine, volume: Volume, found: State) -> Iterator[str]:
    """A header that the customer's key opened is the volume's, where nothing is known of it: what
    was known was lost with the host, or forgotten. Says why that could not be noted.
    """
    if memory.read(machine, volume.name) is None:
        try:
            memory.write(machine, volume, found.uuid, dt.datetime.now(dt.timezone.utc))
        except Refused as error:
            yield str(error)


def there(machine: Machine, volume: Volume) -> State:
    """The state of a volume that is there; :class:`Refused` for all others."""
    found = states.state(machine, volume)
    if found.condition == states.EMPTY:
        raise Refused(f"the volume {volume.name} is not made yet: state.apply hardening.luks")
    if not found.made:
        raise Refused(found.what)
    return found


def finished(machine: Machine, volume: Volume, key: Key) -> State:
    """The state of a volume that is there, once cryptsetup can open it: what was interrupted in the
    last step of encrypting it anew is finished first.
    """
    found = there(machine, volume)
    if found.anew and found.header is not None and finishing.last_slot(found.header) is not None:
        finishing.finish(machine, volume, found.header, key)
        return there(machine, volume)
    return found


def unlocking(volume: Volume, found: State, key: Key) -> int | None:
    """Which of the customer's slots the key opens, None while it is encrypted anew;
    :class:`WrongKey` if none.
    """
    for slot in _slots(found):
        if cryptsetup.opens(found.device, key, slot):
            return slot
    raise WrongKey(_WRONG.format(volume.name))


def _slots(found: State) -> list[int | None]:
    """The slots to try: none that no token of ours names."""
    if found.anew:
        return [None]
    return [it for it, owner in sorted(found.slots.items()) if owner != states.UNKNOWN]


def adopt(machine: Machine, volume: Volume, key: Key) -> list[str]:
    """After a volume was encrypted anew, its token gets to know the new slot, which has the same
    key.
    """
    if not isinstance(journal.read(machine, volume.name), journal.Reencryption):
        return []
    found = there(machine, volume)
    if found.anew or found.header is None:
        return []
    slot = unlocking(volume, found, key)
    naming = [token for token in found.tokens if slot in token.slots]
    if slot is None or len(naming) != 1:
        raise Refused(f"the header of the volume {volume.name} names slot {slot} more than once")
    token = wrapping.moved(found.header, naming[0], slot)
    with pinning.same(machine, volume, found.uuid) as disk:
        cryptsetup.import_token(disk.path, naming[0].number, token, replace=True)
    journal.remove(machine, volume.name)
    return [f"the volume {volume.name} was encrypted anew"]


def _opened(machine: Machine, volume: Volume, found: State, key: Key) -> list[str]:
    """Opens a closed volume; closed again if it cannot be mounted."""
    _map(volume, found, key)
    try:
        now = states.look_again(machine, volume, found)
        made = filling.fill(machine, volume, now)
        mounted = mounting.mount(machine, volume, now)
    except BaseException:
        mapping = states.mapped(machine, volume)
        if mapping is not None:
            mounting.unmount(machine, volume, mapping)
            cryptsetup.close_mapping(volume.name)
        raise
    return [f"the volume {volume.name} was opened", *made, *mounted]


def _map(volume: Volume, found: State, key: Key) -> None:
    for slot in _slots(found):
        try:
            return cryptsetup.open_mapping(found.device, volume.name, key, slot, volume.discard)
        except WrongKey:
            continue
    raise WrongKey(_WRONG.format(volume.name))

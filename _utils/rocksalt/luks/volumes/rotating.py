"""New keys: for the customer's slot, and, by encrypting everything anew, for the volume itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from rocksalt.errors import Refused
from rocksalt.luks import cryptsetup, headers
from rocksalt.luks.config import TOP, Volume
from rocksalt.luks.cryptsetup import DEFAULT, Strength
from rocksalt.luks.keys import Key, without_core_dumps
from rocksalt.luks.volumes import (
    journal,
    layers,
    locks,
    opening,
    pinning,
    settling,
    states,
    wrapping,
)
from rocksalt.luks.volumes.machine import Machine
from rocksalt.luks.volumes.states import State

ADVICE = (
    "a copy of the header that was made before has the old key slot still: who restores it opens"
    " the volume with the old key. Destroy such copies, or encrypt everything anew (reencrypt)"
)


@dataclass(frozen=True)
class Rotation:
    """``wrapped`` is the new key, encrypted to the customer (an age file); ``notes`` what was done
    and what there is to know, a sentence each.
    """

    wrapped: bytes
    notes: list[str]


def rotate(
    machine: Machine,
    volume: Volume,
    key: Key,
    now: dt.datetime,
    strength: Strength = DEFAULT,
    remove_strangers: bool = False,
    recipients: Collection[str] = (),
) -> Rotation:
    """Replaces the key of the customer by a new one. The old one goes when the new one opened the
    volume and its wrapped form is in the header.

    The new key is wrapped to whom the customer wants: to ``recipients`` (fingerprints) where the
    customer named them, otherwise to those who can read the old one. Others that are declared in
    the settings, which the operator writes, are refused.

    Key slots and tokens that are not the customer's stay, and are named, unless
    ``remove_strangers``. :class:`~rocksalt.luks.keys.WrongKey` or :class:`Refused` says why not:
    then the old key opens the volume as before.
    """
    with locks.held(machine, volume.name), without_core_dumps():
        notes = settling.unlocked(machine, volume)
        found = _whole(machine, volume)
        _wanted(volume, found, recipients)
        slot = opening.unlocking(volume, found, key)
        assert slot is not None
        notes += opening.adopt(machine, volume, key)
        with Key.random() as new:
            wrapped = _replace(machine, volume, key, slot, new, now, strength)
        notes += settling.unlocked(machine, volume)
        if remove_strangers:
            notes += _cleaned(machine, volume)
        left = opening.there(machine, volume).strangers
        return Rotation(wrapped, [*notes, _readers(volume), *left, ADVICE])


def _wanted(volume: Volume, found: State, named: Collection[str]) -> None:
    """:class:`Refused` where the settings are not as the customer wants them."""
    declared, wanted = {*volume.customer.fingerprints}, {*named} or {*found.recipients}
    if declared == wanted and (named or not found.undisclosed):
        return
    where = f"{TOP}:customers:{volume.customer.name}:recipients"
    if named:
        raise Refused(
            f"{where}: are {_listed(declared)}, and the customer asked for a key that"
            f" {_listed(wanted)} can unwrap; nothing was changed"
        )
    raise Refused(
        f"{where}: are {_listed(declared)}, and the key of the volume {volume.name} is wrapped to"
        f" {'others' if found.undisclosed else _listed(wanted)}: only if the customer names these"
        " fingerprints, a new key is wrapped to them"
    )


def _readers(volume: Volume) -> str:
    return f"the new key can be unwrapped by {_listed({*volume.customer.fingerprints})}"


def _listed(fingerprints: set[str]) -> str:
    return ", ".join(sorted(fingerprints)) or "nobody"


def reencrypt(
    machine: Machine, volume: Volume, key: Key, strength: Strength = DEFAULT
) -> list[str]:
    """Encrypts everything anew with another volume key, also while it is open; what was done, a
    sentence each. It takes hours; when it was interrupted, the same call goes on with it.
    """
    with locks.held(machine, volume.name), without_core_dumps():
        notes = settling.unlocked(machine, volume)
        found = opening.finished(machine, volume, key)
        layers.moving(machine, volume, found.mapping)
        slot = opening.unlocking(volume, found, key)
        if slot is not None:
            over = opening.adopt(machine, volume, key)
            if over:
                return [*notes, *over]
            entry = _only(opening.there(machine, volume), slot)
            journal.write(machine, volume.name, entry)
        elif journal.read(machine, volume.name) is None:
            journal.write(machine, volume.name, journal.Reencryption(found.uuid, -1, ""))
        options = machine.disks.reencrypt_options
        cryptsetup.reencrypt(found.device, key, slot, strength, options)
        return [*notes, *opening.adopt(machine, volume, key)]


def _only(found: State, slot: int) -> journal.Reencryption:
    """What begins; cryptsetup would drop all keys but this one."""
    assert found.header is not None
    if found.fresh or found.strangers or list(found.slots) != [slot]:
        why = "was never opened" if found.fresh else "has other keys: rotate it first"
        raise Refused(f"the volume {found.header.label} {why}")
    return journal.Reencryption(found.uuid, slot, found.header.slots[slot].digest)


def _whole(machine: Machine, volume: Volume) -> State:
    """The state of a volume whose slots may change."""
    found = opening.there(machine, volume)
    if found.anew:
        raise Refused(f"{found.pending}: finish that first, with reencrypt {volume.name}")
    return found


def _replace(
    machine: Machine,
    volume: Volume,
    key: Key,
    slot: int,
    new: Key,
    now: dt.datetime,
    strength: Strength,
) -> bytes:
    """Puts the new key and its token beside those that are there."""
    found = _whole(machine, volume)
    assert found.header is not None
    header, wrapped = found.header, wrapping.wrap(new, volume.customer)
    free, number = _free(header.slots), _free(header.tokens)
    wrapping.content(volume, free, header.slots[slot].digest, wrapped, now)
    old = {it: header.slots[it].digest for it in _ours(found, slot)}
    journal.write(machine, volume.name, journal.Rotation(header.uuid, free, old))
    try:
        cryptsetup.add_key(found.device, key, new, free, strength)
        if not cryptsetup.opens(found.device, new, free):
            raise Refused(f"the new key does not open the volume {volume.name}")
        after = headers.read(machine.host, volume.device)
        digest = after.slots[free].digest if after else ""
        token = wrapping.content(volume, free, digest, wrapped, now)
        with pinning.same(machine, volume, header.uuid) as disk:
            cryptsetup.import_token(disk.path, number, token)
    except (Refused, OSError):
        settling.unlocked(machine, volume)
        raise
    return wrapped


def _free(taken: Mapping[int, object]) -> int:
    """The first number that is free; cryptsetup refuses what is none."""
    return next(number for number in range(len(taken) + 1) if number not in taken)


def _ours(found: State, slot: int) -> list[int]:
    """The slots that the new one replaces: what the customer's key opened, and further keys of the
    customer.
    """
    return [it for it, owner in found.slots.items() if it == slot or owner == states.CUSTOMER]


def _cleaned(machine: Machine, volume: Volume) -> Iterator[str]:
    """Removes what is not the customer's, once the customer has a slot."""
    found = _whole(machine, volume)
    assert found.header is not None
    if states.CUSTOMER not in found.slots.values():
        raise Refused(f"no key slot of the volume {volume.name} is the customer's")
    for slot, owner in found.slots.items():
        if owner != states.CUSTOMER:
            with pinning.same(machine, volume, found.uuid) as disk:
                disk.kill(slot, found.header.slots[slot].digest)
            yield f"key slot {slot}, which was not the customer's, was removed"
    ours = {token.number for token in found.tokens if token.slots}
    with pinning.same(machine, volume, found.uuid) as disk:
        for number in disk.header.tokens:
            if number not in ours:
                cryptsetup.remove_token(disk.path, number)
                yield f"token {number}, which was not the customer's, was removed"

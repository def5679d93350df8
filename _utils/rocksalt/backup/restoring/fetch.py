"""Finds a snapshot in a vault: what there is, which one is meant, and the full one it leads to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from rocksalt.backup import manifest, names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import BackupError, Unverified
from rocksalt.backup.manifest import Manifest
from rocksalt.backup.proof.verify import Pins
from rocksalt.backup.vaults import Reader

_LARGEST_SIGNATURE = 4096


def manifests(reader: Reader, pins: Pins, refused: list[str] | None = None) -> list[Manifest]:
    """The manifests in a vault, the oldest first, of the instance and by a signer that ``pins``
    names; ``refused`` gets a sentence for every other one.

    Whether they are a whole chain is the business of ``verify``. :class:`Unreachable` where the
    vault does not answer.
    """
    found = []
    for name in sorted(filter(names.MANIFEST.fullmatch, reader.names())):
        try:
            found.append(_manifest(reader, pins, name))
        except Unverified as error:
            if refused is not None:
                refused.append(str(error))
    return sorted(found, key=lambda it: (it.sequence, it.started))


def _manifest(reader: Reader, pins: Pins, name: str) -> Manifest:
    """The manifest of this name, once it is known to be the master's."""
    data = _small(reader, name, manifest.LARGEST)
    signature = _small(reader, name + names.SIGNATURE, _LARGEST_SIGNATURE)
    try:
        sshsig.verify(data, signature, manifest.NAMESPACE, pins.signers)
    except Unverified as error:
        raise Unverified(f"{name}: {error}") from None
    found = manifest.read(data, name)
    if found.instance != pins.instance:
        raise Unverified(f"{name} is of the instance {found.instance}, not {pins.instance}")
    return found


def _small(reader: Reader, name: str, largest: int) -> bytes:
    try:
        with reader.open(name) as file:
            data = file.read(largest + 1)
    except FileNotFoundError:
        raise Unverified(f"{name} is not in the vault") from None
    if len(data) > largest:
        raise Unverified(f"{name} has more than {largest} bytes")
    return data


def choose(manifests: Iterable[Manifest], wanted: int | dt.datetime | None = None) -> Manifest:
    """The snapshot with a sequence number, or the newest that was begun by a time, or the newest
    of all; :class:`BackupError` where there is none, :class:`Unverified` where there are two with
    one number.
    """
    known = sorted(manifests, key=lambda it: it.sequence)
    if isinstance(wanted, dt.datetime):
        fitting = [it for it in known if names.parsed(it.started) <= wanted]
        which = f"begun by {names.utc(wanted)}"
    elif wanted is not None:
        fitting = [it for it in known if it.sequence == wanted]
        which = f"with the number {wanted}"
    else:
        fitting, which = known, "that is signed by the master"
    if not fitting:
        have = f"; there are {known[0].name} to {known[-1].name}" if known else "; there is none"
        raise BackupError(f"the vault has no snapshot {which}{have}")
    chosen = fitting[-1]
    twins = [it.name for it in known if it.sequence == chosen.sequence]
    if len(twins) > 1:
        raise Unverified(f"the vault has {' and '.join(twins)}, of which one can be true at most")
    return chosen


def full(manifests: Iterable[Manifest], chosen: Manifest) -> Manifest:
    """The snapshot that has the archives of ``chosen``: itself, or the one that it is equal to."""
    if chosen.kind == "full":
        return chosen
    try:
        found = choose(manifests, chosen.same_as)
    except Unverified:
        raise
    except BackupError as error:
        raise BackupError(f"{chosen.name} is the same as #{chosen.same_as}: {error}") from None
    if found.kind != "full" or found.sequence >= chosen.sequence:
        raise Unverified(
            f"{chosen.name} is the same as {found.name}, which is no full one before it"
        )
    return found

"""Finds a snapshot in a vault: what there is, which one is meant, and the full one it leads to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from rocksalt.backup.manifest import Manifest
from rocksalt.backup.vaults import Reader
from rocksalt.backup.verify import Pins


def manifests(reader: Reader, pins: Pins, refused: list[str] | None = None) -> list[Manifest]:
    """The manifests in a vault, the oldest first, of the instance and by a signer that ``pins``
    names; ``refused`` gets a sentence for every other one.

    Whether they are a whole chain is the business of ``verify``. :class:`Unreachable` where the
    vault does not answer.
    """
    raise NotImplementedError


def choose(manifests: Iterable[Manifest], wanted: int | dt.datetime | None = None) -> Manifest:
    """The snapshot with a sequence number, or the newest that was finished by a time, or the
    newest of all; :class:`BackupError` where there is none, :class:`Unverified` where there are two
    with one number.
    """
    raise NotImplementedError


def full(manifests: Iterable[Manifest], chosen: Manifest) -> Manifest:
    """The snapshot that has the archives of ``chosen``: itself, or the one that it is equal to."""
    raise NotImplementedError

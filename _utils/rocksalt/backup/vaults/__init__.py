"""Vaults: where snapshots go. Every kind takes new names only, never replaces, never removes."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO


@dataclass(frozen=True)
class Stored:
    """An object in a vault: its size in bytes, when the vault received it (seconds since 1970, by
    the vault's clock; None where it cannot say), and where the vault keeps versions, the one that
    was put first. ``later`` is the newest version with another content, put at ``replaced``.
    """

    size: int
    received: float | None = None
    version: str = ""
    later: str = ""
    replaced: float = 0.0


class Reader(abc.ABC):
    """The side that checks and restores."""

    name: str
    countersigns = False
    """Whether a receiver signs what it takes here."""

    @abc.abstractmethod
    def names(self) -> Mapping[str, Stored]:
        """Every object of the instance. :class:`Unreachable` where the vault does not answer."""

    @abc.abstractmethod
    def open(self, name: str) -> BinaryIO:
        """The content of an object, the version that was put first; FileNotFoundError without it.
        The caller closes it.
        """


class Vault(Reader):
    """The side of the master: puts new objects, and may be unable to read (then ``names`` and
    ``open`` raise :class:`VaultError`).
    """

    @abc.abstractmethod
    def put(self, name: str, source: Path, sha256: str) -> None:
        """Adds an object; done only once it is safely stored as a whole.

        The same name with the same content is no error: a run that was killed does it again.
        Another content is :class:`Taken`, and what is there stays. :class:`Unreachable` where the
        vault does not answer, another :class:`VaultError` where it refuses.
        """

    def receipt(self, manifest: str) -> tuple[bytes, bytes] | None:
        """What the receiver said of a manifest that was put in this run, and its signature."""
        return None

    def checked(self, deep: bool = True) -> tuple[bytes, bytes] | None:
        """A check of all snapshots made by the vault's own host, and its signature, verified; None
        where no host of the vault checks anything. ``deep`` reads the archives.
        """
        return None

    @abc.abstractmethod
    def faults(self) -> list[str]:
        """Why this vault is none that the master cannot rewrite, a sentence each; empty when it is
        one. :class:`Unreachable` where it could not be asked.
        """

    def close(self) -> None:
        """Ends connections; nothing else is done afterwards."""


Settings = Mapping[str, Any]

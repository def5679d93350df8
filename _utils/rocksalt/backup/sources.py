"""What belongs to a Salt master, by its own options: what is packed, what is not, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from rocksalt.backup.pack import Part


class Included(NamedTuple):
    """A file or folder that is packed, with all below it that is not excluded: which option names
    it, into which part it goes, how many regular files and bytes it has.
    """

    path: str
    why: str
    part: str
    files: int
    bytes: int


class Left(NamedTuple):
    """A path that is not packed, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Plan:
    """The parts to pack and how they came about. ``excluded`` is left out on purpose; ``missing`` is
    what should be packed and cannot be: each of them is a warning of the snapshot.
    """

    parts: list[Part]
    included: list[Included]
    excluded: list[Left]
    missing: list[Left]


def plan(opts: Mapping[str, Any], settings: Mapping[str, Any], measure: bool = True) -> Plan:
    """What a snapshot of the master with these options holds.

    ``opts`` are the master's options as Salt has read them; ``settings`` those of
    :mod:`rocksalt.backup.config`. Without ``measure`` files and bytes are 0 and no tree is walked.
    :class:`BackupError` where a setting would lose data: a root inside the spool, the master's own
    keys inside a customer's path.
    """
    raise NotImplementedError

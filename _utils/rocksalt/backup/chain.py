"""Append-only chains, in which every entry holds the hash of the one before: backup manifests,
logs, the logbook. Here is what is wrong with one, found from its links alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Link:
    """What ties an entry to others: its number from 1, the SHA-256 of its bytes, what it says is
    that of the entry before (empty for the first; None where the entry cannot be read), what people
    call it, and numbers that never fall from one entry to the next (``format``, ``revision``).
    """

    sequence: int
    digest: str
    previous: str | None
    name: str
    levels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a chain: ``gap``, ``fork``, ``replay``, ``broken``, ``downgrade``,
    ``rewound`` or ``rewritten``; from which entry on; a sentence.
    """

    code: str
    sequence: int
    sentence: str


def faults(links: Iterable[Link]) -> list[Fault]:
    """Everything that is wrong with a chain that should be whole, from 1 on; in any order."""
    raise NotImplementedError


def follows(before: Link | None, link: Link) -> list[Fault]:
    """Why ``link`` cannot be the entry right after ``before`` (None: be the first one)."""
    raise NotImplementedError


def reaches(links: Iterable[Link], sequence: int, digest: str) -> list[Fault]:
    """Why a chain is not the one whose entry ``sequence`` somebody saw, with this hash."""
    raise NotImplementedError


def differ(chains: Mapping[str, Mapping[int, str]]) -> list[Fault]:
    """Where copies of one chain (name -> sequence -> hash) disagree."""
    raise NotImplementedError

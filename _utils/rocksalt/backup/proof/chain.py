"""Append-only chains, in which every entry holds the hash of the one before: backup manifests,
logs, the logbook. Here is what is wrong with one, found from its links alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

_NUMBER = attrgetter("sequence")


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


def faults(links: Iterable[Link], first: int = 1) -> list[Fault]:
    """Everything that is wrong with a chain that should be whole from ``first`` on; links in any
    order.

    Of entries with the same number the one goes on that the next entry refers to.
    """
    found: list[Fault] = []
    before: list[Link] = []
    names: dict[str, str] = {}
    for number, group in groupby(sorted(links, key=_NUMBER), _NUMBER):
        here = list(group)
        found += _gap(before[0].sequence if before else first - 1, number)
        found += _replays(here, names)
        found += _fork(here)
        found += _joint(before, here)
        before = here
    return found


def reaches(links: Iterable[Link], sequence: int, digest: str) -> list[Fault]:
    """Why a chain is not the one whose entry ``sequence`` somebody saw, with this hash."""
    digests: dict[int, set[str]] = {}
    for link in links:
        digests.setdefault(link.sequence, set()).add(link.digest)
    if digest in digests.get(sequence, ()):
        return []
    if sequence in digests:
        why = f"#{sequence} is not the one that was seen before: the past was written anew"
        return [Fault("rewritten", sequence, why)]
    why = f"#{sequence} was seen before and is gone; the newest is #{max(digests, default=0)}"
    return [Fault("rewound", sequence, why)]


def differ(chains: Mapping[str, Mapping[int, str]]) -> list[Fault]:
    """Where copies of one chain (name -> sequence -> hash) disagree: the first such entry of every
    two of them.
    """
    found = []
    names = list(chains)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            shared = sorted(chains[one].keys() & chains[other].keys())
            number = next((n for n in shared if chains[one][n] != chains[other][n]), None)
            if number is not None:
                why = f"{one} and {other} hold different entries #{number}: one of them was forged"
                found.append(Fault("fork", number, why))
    return found


def _gap(before: int, number: int) -> list[Fault]:
    """Numbers that are left out between two entries."""
    if number <= before + 1:
        return []
    missing = f"#{before + 1}" + (f" to #{number - 1}" if number > before + 2 else "")
    return [Fault("gap", before + 1, f"{missing} missing: removed, or never put here")]


def _replays(here: Iterable[Link], names: dict[str, str]) -> list[Fault]:
    """Entries that were there already, under another name; ``names`` collects them by hash."""
    found = []
    for link in here:
        first = names.setdefault(link.digest, link.name)
        if first != link.name:
            why = f"{link.name} is {first} once more, put here under another name"
            found.append(Fault("replay", link.sequence, why))
    return found


def _fork(here: list[Link]) -> list[Fault]:
    """Several entries with one number."""
    if len({link.digest for link in here}) < 2:
        return []
    together = " and ".join(link.name for link in here)
    why = f"{together} have the same number: two pasts, of which one was forged"
    return [Fault("fork", here[0].sequence, why)]


def _joint(before: list[Link], here: list[Link]) -> list[Fault]:
    """What is wrong between entries and those right before them, if these are there."""
    found = []
    for link in here:
        if link.sequence == 1 and link.previous:
            why = f"{link.name} is the first, and refers to one before it"
            found.append(Fault("broken", 1, why))
        near = [b for b in before if b.sequence + 1 == link.sequence]
        right = next((b for b in near if b.digest == link.previous), None)
        if near and right is None and link.previous is not None:
            why = f"{link.name} does not refer to {near[0].name} as it is here"
            found.append(Fault("broken", link.sequence, f"{why}: one of them was replaced"))
        if before:
            found += _downgrades(right or before[0], link)
    return found


def _downgrades(before: Link, link: Link) -> list[Fault]:
    return [
        Fault(
            "downgrade",
            link.sequence,
            f"{link.name} has {key} {level}, and {before.name} had {before.levels[key]} already",
        )
        for key, level in link.levels.items()
        if level < before.levels.get(key, level)
    ]

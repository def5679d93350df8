"""Places in the journal, and what is missing between the entries that are there."""

from __future__ import annotations

import re
from typing import NamedTuple

from rocksalt.logstash.shipping.positions import GAPS, LOST

REREADS = 8
"""Times that a hole is looked for once more in vain; after that none is, over a connection."""
_SEQUENCES = 8
_CURSOR = re.compile(
    r"s=([0-9a-f]+);i=([0-9a-f]+);b=([0-9a-f]+);m=([0-9a-f]+);t=([0-9a-f]+);x=(.+)"
)


class Cursor(NamedTuple):
    """A place in the journal: number ``i`` in the sequence ``s``, and when it was written. Entries
    that move from memory to the disk get a new ``i`` and ``s``; ``moment`` is what stays. The files
    of the system and of each ordinary user are sequences that journald counts on together.
    """

    s: str
    i: int
    moment: tuple[str, ...]

    @property
    def micros(self) -> int:
        """When the journal took the entry, in microseconds since 1970."""
        return int(self.moment[2], 16)

    def before(self, other: Cursor) -> bool:
        """Whether it was written before another one, within a boot whatever its clock says."""
        which = 1 if self.moment[0] == other.moment[0] else 2
        return int(self.moment[which], 16) < int(other.moment[which], 16)

    def until(self, other: Cursor) -> bool:
        """Whether it is that place or one before it, as far as the two have anything in common."""
        if self.moment[0] == other.moment[0]:
            return not other.before(self)
        return self.s == other.s and self.i <= other.i

    def behind(self, other: Cursor) -> int:
        """How many entries came after another one; where counting began anew, since then."""
        return self.i - other.i if self.i >= other.i else self.i


def cursor(text: str) -> Cursor | None:
    """A cursor's parts; None for what is none."""
    match = _CURSOR.fullmatch(text)
    return Cursor(match[1], int(match[2], 16), match.group(3, 4, 5, 6)) if match else None


class Account:
    """What was read of each sequence over a connection. ``newest`` is the last entry that the
    journal had when it was last asked.
    """

    def __init__(self) -> None:
        self.newest: Cursor | None = None
        self._numbers: dict[str, int] = {}
        self._reread: Cursor | None = None
        self._in_vain = 0

    def start(self, place: Cursor | None) -> None:
        """Entries come again, from behind a place."""
        self._numbers = {place.s: place.i} if place else {}
        self._reread, self._in_vain = None, 0

    def took(self, place: Cursor) -> None:
        """An entry was taken, also one that is known already."""
        number = self._numbers.pop(place.s, 0)
        self._numbers[place.s] = max(number, place.i)
        for sequence in list(self._numbers)[:-_SEQUENCES]:
            del self._numbers[sequence]

    def missing(self, place: Cursor, last: Cursor | None, first: bool) -> dict[str, int] | None:
        """What is missing before an entry that comes after another one, ``first`` over a
        connection; None if that has to be read once more: an entry that two writers made at the
        same time may have been overlooked.
        """
        if not last or place.moment == last.moment:
            return {}
        if place.s != last.s and (first or self._left(last, place)):
            self._numbers.pop(last.s, None)
            return {GAPS: 1}
        if place.s not in self._numbers:
            return {}
        expected = max(self._numbers[place.s], last.i) + 1
        if place.i <= expected:
            return {}
        if self._reread != last and self._in_vain < REREADS:
            self._reread = last
            return None
        self._in_vain += 1
        return {LOST: place.i - expected}

    def _left(self, last: Cursor, place: Cursor) -> bool:
        """Whether a sequence goes on with another one although it had more. What has only moved to
        another one is not newer than what was there.
        """
        newest = self.newest
        if not newest or newest.s != last.s or newest.i <= last.i:
            return False
        return newest.before(place)

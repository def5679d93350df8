"""What a process knows of the book's last records, whether it wrote or read them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import TypeVar

from rocksalt.logbook.records import Record

Value = TypeVar("Value")
KNOWN = 100_000
"""Last records among which one is found again."""
_PENDING, _ADMITTED, _DECIDED = 10_000, 20_000, 20_000
_OPEN = ("start", "lost")
"""From these on something may be missing, up to the next ``gap``."""


class Known:
    """Ids of the last records."""

    def __init__(self, most: int = KNOWN):
        self._order: deque[int] = deque()
        self._all: set[int] = set()
        self._most = most

    def __contains__(self, identity: str) -> bool:
        return hash(identity) in self._all

    def add(self, identity: str) -> None:
        """Notes one."""
        number = hash(identity)
        if number in self._all:
            return
        self._all.add(number)
        self._order.append(number)
        if len(self._order) > self._most:
            self._all.discard(self._order.popleft())


class Memory:
    """``known`` are ids, ``gap`` is the record since which something may be missing, if any; empty
    after it was filled. ``last`` is the last record, ``decided`` are those about keys.
    """

    def __init__(self) -> None:
        self.known = Known()
        self.gap: Record = {}
        self.last: Record = {}
        self.decided: deque[Record] = deque(maxlen=_DECIDED)
        self._pending: OrderedDict[str, set[str]] = OrderedDict()
        self._admitted: OrderedDict[str, tuple[object, ...]] = OrderedDict()

    def note(self, record: Record) -> None:
        """Learns of a record that is in the book, in the order of the book."""
        identity, kind = str(record.get("event.id")), record.get("kind")
        self.known.add(identity)
        self.last = record
        if kind == "job" and "refused" not in record:
            # By its number alone, for the job cache has all minions of a job in one.
            self.known.add(f"job/{record.get('jid')}")
            self._awaits(str(record.get("jid")), set(record.get("minions") or ()))
        elif kind == "return":
            self._answered(str(record.get("jid")), str(record.get("minion")))
        elif kind == "runner":
            self._awaits(str(record.get("jid")), {""})
        elif kind == "runner-return":
            self._answered(str(record.get("jid")), "")
        elif kind == "auth":
            _put(self._admitted, str(record.get("minion")), _admission(record), _ADMITTED)
        elif kind == "key":
            self.decided.append(record)
        elif kind in _OPEN and not self.gap:
            self.gap = record
        elif kind == "gap":
            self.gap = {}

    def is_news(self, record: Record) -> bool:
        """Whether a minion that asks to be let in gets another answer than the last time."""
        return self._admitted.get(str(record.get("minion"))) != _admission(record)

    def is_complete(self, jid: str) -> bool:
        """Whether a job and all its returns are in the book."""
        known = f"job/{jid}" in self.known or f"runner/{jid}" in self.known
        return known and jid not in self._pending

    def pending(self) -> Iterator[str]:
        """Jobs of which returns are missing, the oldest first."""
        return iter(list(self._pending))

    def _awaits(self, jid: str, minions: set[str]) -> None:
        left = {it for it in minions if f"return/{jid}/{it}" not in self.known}
        if left and f"runner-return/{jid}" not in self.known:
            _put(self._pending, jid, self._pending.get(jid, set()) | left, _PENDING)

    def _answered(self, jid: str, minion: str) -> None:
        if jid in self._pending:
            self._pending[jid].discard(minion)
            if not self._pending[jid]:
                del self._pending[jid]


def _admission(record: Record) -> tuple[object, ...]:
    return record.get("act"), record.get("key"), record.get("success")


def _put(kept: OrderedDict[str, Value], key: str, value: Value, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)

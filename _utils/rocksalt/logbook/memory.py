"""What a process knows of the book's last records, whether it wrote or read them."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from rocksalt.logbook.records import Record, short

Key = TypeVar("Key")
Value = TypeVar("Value")
KNOWN = 100_000
"""Last records among which one is found again."""
_PENDING, _NAMES, _LEFT, _ADMITTED, _DECIDED = 10_000, 500_000, 100_000, 20_000, 20_000
_OPEN = ("start", "lost")
"""From these on something may be missing, up to the next ``gap`` that could be filled."""
TOLD = "event.said"
"""In a record that is not whole: the digest of what the whole one said."""
_SAID = ("user", "fun", "arg", "kwarg", "tgt", "refused", "success", "retcode")
_NEEDED = (
    "event.id", "kind", "jid", "minions", "minion", "act", "key", "success", "time", "since",
    "why", "refused", "conflict", "error", "retcode",
    "cut",
)  # fmt: skip


class Known:
    """Ids of the last records, and what each said."""

    def __init__(self, most: int = KNOWN):
        self._all: dict[int, int] = {}
        self._most = most

    def __contains__(self, identity: str) -> bool:
        return hash(identity) in self._all

    def contradicts(self, identity: str, said: str) -> bool:
        """Whether a known one said something else."""
        return self._all.get(hash(identity), hash(said)) != hash(said)

    def add(self, identity: str, said: str = "") -> None:
        """Notes one; what it said first stays."""
        if hash(identity) in self._all:
            return
        self._all[hash(identity)] = hash(said)
        if len(self._all) > self._most:
            del self._all[next(iter(self._all))]


def outcome(record: Mapping[str, Any]) -> int:
    """Of a return: 1 for done, 2 for failed, 4 where neither is known."""
    if record.get("success") is False or record.get("retcode"):
        return 2
    return 1 if record.get("success") else 4


def said(record: Mapping[str, Any]) -> str:
    """What tells two records of the same thing apart; the job cache has less than the bus."""
    kind = record.get("kind")
    if kind not in ("job", "return", "runner", "runner-return"):
        return ""
    keys = ("fun", "success", "retcode") if str(kind).endswith("return") else _SAID
    return json.dumps([record.get(key) for key in keys])


def digest(record: Mapping[str, Any]) -> str:
    """Of what it :func:`said`, also where it is not whole any more."""
    return str(record.get(TOLD) or short(said(record)))


def needed(record: Mapping[str, Any]) -> Record:
    """What has to be known of a record after a restart."""
    return {**{key: record[key] for key in _NEEDED if key in record}, TOLD: digest(record)}


class Memory:
    """``known`` are ids, ``gap`` is the record since which something may be missing, if any; empty
    after it was filled. ``last`` is the last record, ``decided`` are those about keys.
    """

    def __init__(self) -> None:
        self.known = Known()
        self.gap: Record = {}
        self.last: Record = {}
        self.decided: deque[Record] = deque(maxlen=_DECIDED)
        self.named = False
        """Whether any gap was named."""
        self._pending: OrderedDict[str, set[str]] = OrderedDict()
        self._names = 0
        self._left: OrderedDict[str, None] = OrderedDict()
        """Jobs of which it is not known any more who has to answer."""
        self._admitted: OrderedDict[str, tuple[object, ...]] = OrderedDict()
        self._outcomes: OrderedDict[int, int] = OrderedDict()
        """Of the last returns: which outcomes are in the book."""

    def note(self, record: Record, told: str = "") -> None:
        """Learns of a record that is in the book, in the order of the book; ``told`` is the digest
        of what it :func:`said`, where that is known.
        """
        identity, kind = str(record.get("event.id")), record.get("kind")
        self.known.add(identity, told or digest(record))
        self.last = record
        if kind == "return":
            back = _back(record)
            _put(self._outcomes, back, self._outcomes.get(back, 0) | outcome(record), KNOWN)
        if record.get("conflict"):
            return
        if kind == "job" and "refused" not in record:
            # By its number alone, for the job cache has all minions of a job in one.
            self.known.add(f"job/{record.get('jid')}")
            if "minions" in (record.get("cut") or ()):
                _put(self._left, str(record.get("jid")), None, _LEFT)
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
        elif kind == "gap" and not record.get("error"):
            self.gap, self.named = {}, True

    def is_news(self, record: Record) -> bool:
        """Whether a minion that asks to be let in gets another answer than the last time."""
        return self._admitted.get(str(record.get("minion"))) != _admission(record)

    def awaits(self, record: Record) -> bool:
        """Whether a return is the first one of a job that was published for that minion, or has
        another outcome than those that are known: a made-up one uses up nobody's true one.
        """
        jid, known = str(record.get("jid")), self._outcomes.get(_back(record), 0)
        if known:
            return not known & outcome(record)
        return str(record.get("minion")) in self._pending.get(jid, ()) or jid in self._left

    def is_job(self, jid: str) -> bool:
        """Whether that was published."""
        return f"job/{jid}" in self.known

    def is_complete(self, jid: str) -> bool:
        """Whether a job and all its returns are in the book."""
        known = self.is_job(jid) or f"runner/{jid}" in self.known
        return known and jid not in self._pending and jid not in self._left

    def pending(self) -> Iterator[str]:
        """Jobs of which returns are missing, the oldest first."""
        return iter([*self._left, *self._pending])

    def _awaits(self, jid: str, minions: set[str]) -> None:
        left = {it for it in minions if f"return/{jid}/{it}" not in self.known}
        if left and f"runner-return/{jid}" not in self.known:
            before = self._pending.get(jid, set())
            _put(self._pending, jid, before | left, _PENDING + 1)
            self._names += len(self._pending[jid]) - len(before)
        while len(self._pending) > _PENDING or self._names > _NAMES:
            gone, names = self._pending.popitem(last=False)
            self._names -= len(names)
            _put(self._left, gone, None, _LEFT)

    def _answered(self, jid: str, minion: str) -> None:
        if minion in self._pending.get(jid, ()):
            self._pending[jid].discard(minion)
            self._names -= 1
            if not self._pending[jid]:
                del self._pending[jid]


def _back(record: Record) -> int:
    return hash((str(record.get("jid")), str(record.get("minion"))))


def _admission(record: Record) -> tuple[object, ...]:
    return record.get("act"), record.get("key"), record.get("success")


def _put(kept: OrderedDict[Key, Value], key: Key, value: Value, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)

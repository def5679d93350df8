"""How far the log servers have the lines of each source, and how many they will never have.

A position counts once the log server has acknowledged, over the same connection, a line that was
sent some seconds after the one before the position was acknowledged: a log server that loses its
last seconds in a power cut gets them again, however late it is known that it has no power. Counters
move with positions, so that a line that is passed over twice is counted once.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rocksalt.logstash.shipping import STATE_MODE
from rocksalt.logstash.shipping.steps import JOURNAL, NOTHING, Step

RESEND = 5.0
"""Seconds after its acknowledgement in which a log server may lose a line with its power."""
DROPPED, LOST, GAPS, CUT = "dropped", "lost", "unknown_gaps", "cut"
"""What is missing: passed over for there were too many, gone before it was sent, nobody knows how
much; and lines of which only a part is sent.
"""
_SCHEMA = 1
_STEP, _SAVE = 0.25, 1.0


@dataclass
class Passed:
    """What was acknowledged in a moment: positions by source, counts, and the number of lines."""

    at: float
    positions: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    lines: int = 0


class Positions:
    """The file of positions, and what is about to get there. ``problem`` is a sentence about the
    file, or empty; ``reached`` is the last place of the journal that was acknowledged, and
    ``begin`` the one that it is shipped from while no position in it counts.
    """

    def __init__(self, path: str, now: float):
        self._path = path
        self._passed: deque[Passed] = deque()
        self._saved, self._changed = now, False
        self.problem = ""
        self.reached = self.begin = ""
        self.counting: dict[str, Any] = {}
        self.counts = dict.fromkeys((DROPPED, LOST, GAPS, CUT), 0)
        try:
            self._load()
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            self.problem = f"{path} cannot be read, shipping starts with the current boot: {error}"
            self.counts[GAPS] += 1
            self._changed = True

    def _load(self) -> None:
        with open(self._path, "rb") as file:
            value = json.load(file)
        if value["schema"] != _SCHEMA:
            raise ValueError(f"its schema is {value['schema']!r}, not {_SCHEMA}")
        counts = {name: int(value["counts"].get(name, 0)) for name in self.counts}
        self.counting, self.counts = dict(value["positions"].items()), counts
        self.reached = str(value.get("reached") or "")
        self.begin = str(value.get("begin") or "")

    def note(self, now: float, step: Step) -> None:
        """All lines of a step were acknowledged; one without lines goes with those before it."""
        if not self._passed or (step.lines and now - self._passed[-1].at > _STEP):
            self._passed.append(Passed(now))
        last = self._passed[-1]
        last.positions[step.source] = step.position
        if step.source == JOURNAL:
            self.reached, self._changed = step.position, True
        last.lines += len(step.lines)
        for name, count in step.counts.items():
            last.counts[name] = last.counts.get(name, 0) + count

    def settle(self, now: float, proved: float) -> None:
        """Lets count what is old enough, and saves that. ``proved`` is when the last of the lines
        that were acknowledged was sent: then the log server was there.
        """
        while self._passed and proved - self._passed[0].at >= RESEND + _STEP:
            self._count(self._passed.popleft())
        if self._changed and now - self._saved >= _SAVE:
            self.save(now)

    def _count(self, passed: Passed) -> None:
        for source, position in passed.positions.items():
            self.counting[source] = position
            if position is None:
                del self.counting[source]
        for name, count in passed.counts.items():
            self.counts[name] += count
        self._changed = True

    def put(
        self, now: float, source: str, position: Any, counts: Mapping[str, int] = NOTHING
    ) -> None:
        """Counts at once, and is on the disk before anything else happens."""
        self._count(Passed(now, {source: position}, dict(counts)))
        self.save(now)

    def begins(self, place: str) -> None:
        """The journal is shipped from a place on, whenever somebody takes it."""
        self.begin = place
        self.save(self._saved)

    def rewind(self) -> int:
        """Everything that does not count yet is as if it had not been; the number of its lines."""
        lines = sum(it.lines for it in self._passed)
        self._passed.clear()
        return lines

    @property
    def latest(self) -> dict[str, Any]:
        """The positions with those that do not count yet."""
        found = dict(self.counting)
        for passed in self._passed:
            found.update(passed.positions)
        return found

    @property
    def seen(self) -> dict[str, int]:
        """The counters with what does not count yet."""
        found = dict(self.counts)
        for passed in self._passed:
            for name, count in passed.counts.items():
                found[name] += count
        return found

    def save(self, now: float) -> None:
        """Writes the file; a full disk is no reason to stop."""
        value = {
            "schema": _SCHEMA,
            "positions": self.counting,
            "counts": self.counts,
            "reached": self.reached,
            "begin": "" if JOURNAL in self.counting else self.begin,
        }
        self._saved = now
        try:
            replace(self._path, json.dumps(value, indent=1), lasting=True)
        except OSError as error:
            self.problem, self._changed = f"{self._path} cannot be written: {error}", True
            return
        self.problem, self._changed = "", False


def replace(path: str, text: str, lasting: bool = False) -> None:
    """Puts a file there in one step; ``lasting`` is on the disk when this returns."""
    temporary = f"{path}.new"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, STATE_MODE)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        if lasting:
            os.fsync(handle)
    os.replace(temporary, path)
    if lasting:
        with contextlib.suppress(OSError):
            _synchronise(os.path.dirname(path))


def _synchronise(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

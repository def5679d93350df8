"""All sources of this host as one, and how much they have."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rocksalt.logstash.shipping import config as configuration
from rocksalt.logstash.shipping import datasets, journal
from rocksalt.logstash.shipping.config import Config
from rocksalt.logstash.shipping.events import Maker
from rocksalt.logstash.shipping.events import now as micros
from rocksalt.logstash.shipping.journal import Journal
from rocksalt.logstash.shipping.mask import Masker
from rocksalt.logstash.shipping.positions import Positions
from rocksalt.logstash.shipping.reports import NAME as REPORT
from rocksalt.logstash.shipping.reports import Reports
from rocksalt.logstash.shipping.steps import NOTHING, Step
from rocksalt.logstash.shipping.tail import Tail

PROBE = "probe"
COUNT = 10.0
"""Seconds from one count of what waits to the next."""


class Feed:
    """The journal, the files, the drift report, and the lines that this program marks itself."""

    def __init__(
        self, config: Config, positions: Positions, command: Sequence[str] = journal.COMMAND
    ):
        self._config, self._positions = config, positions
        self._maker = Maker(config.host, config.labels, Masker(config.mask))
        self.journal = Journal(self._maker, config.datasets, command)
        self.tail = Tail(config.files, config.ignore, self._maker, self._remember)
        self._reports = Reports(config.report, config.host, self._maker)
        self._probe_at = self._count_at = 0.0
        self._counted: dict[str, int] = {}
        self.oldest = 0

    def _remember(self, source: str, position: Any, counts: Mapping[str, int] = NOTHING) -> None:
        self._positions.put(time.monotonic(), source, position, counts)

    def start(self, now: float) -> None:
        """Gives what is behind the positions that count."""
        counting = self._positions.counting
        self.journal.start(counting.get(journal.NAME), now)
        self.tail.start(counting, now)
        self._reports.start(counting.get(REPORT))
        self._probe_at = min(self._probe_at, now)
        if self._config.at_limit == configuration.DROP:
            self.limit()

    def limit(self) -> None:
        """Passes over the oldest lines where more wait than may."""
        self.journal.limit(self._config.limit)
        self.tail.limit(self._config.limit)

    def stop(self) -> None:
        """Gives nothing until it is started again; a probe that was not acknowledged comes anew."""
        self.journal.stop()
        self._probe_at = 0.0

    def take(self, count: int, now: float) -> Iterator[Step]:
        """About so many steps; the journal and files get half each where both have many."""
        if now >= self._probe_at:
            self._probe_at = now + self._config.probe
            yield self._probe()
        yield from self._reports.take(now)
        self.tail.scan(now)
        taken = 0
        for step in self.tail.take(count // 2, now):
            taken += 1
            yield step
        yield from self.journal.take(max(count - taken, count // 2), now)

    @property
    def pending(self) -> bool:
        """Whether there is something to take already."""
        return self.journal.pending or self.tail.pending

    def _probe(self) -> Step:
        mark = secrets.token_hex(16)
        extra = {"event": {"category": ["host"], "type": ["info"]}, "rocksalt": {"mark": mark}}
        lines = self._maker.of_own(datasets.PROBE, mark, f"rocksalt-ship: probe {mark}", extra)
        return Step(PROBE, None, tuple(lines), micros(), mark=mark)

    def waiting(self, now: float, drained: bool) -> int:
        """About how many lines wait; ``oldest`` is when the first was written, where that is known.
        ``drained`` says that all that could be read was acknowledged.
        """
        if now < self._count_at and not drained:
            return sum(self._counted.values())
        latest = self._positions.latest
        self._counted = self.tail.waiting(latest)
        self._counted[journal.NAME] = self.oldest = 0
        if not drained:
            self._count_at = now + COUNT
            position = latest.get(journal.NAME)
            self._counted[journal.NAME], self.oldest = self.journal.waiting(position)
        return sum(self._counted.values())

    def state(self) -> Mapping[str, Any]:
        """What the status says of each source."""
        latest = self._positions.latest
        place = journal.cursor(latest.get(journal.NAME) or "")
        found = {journal.NAME: {"waiting": self._counted.get(journal.NAME, 0)}}
        if place:
            found[journal.NAME].update(sequence=place.i)
        for path, state in self.tail.state(latest).items():
            found[path] = {**state, "waiting": self._counted.get(path, 0)}
        return found

    def close(self) -> None:
        """Ends journalctl and closes the files."""
        self.journal.stop()
        self.tail.close()

"""All sources of this host as one, and how much they have."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rocksalt.logstash.shipping import config as configuration
from rocksalt.logstash.shipping import files, journal, journalctl, marks
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

COUNT, CHECK = 10.0, 30.0
"""Seconds from one count of what waits to the next, and where nothing seems to wait."""
SOON = 10.0
"""Seconds after which a probe that the journal did not take is tried again."""


class Feed:
    """The journal, the files, the drift report, and the lines that this program marks itself."""

    def __init__(
        self, config: Config, positions: Positions, command: Sequence[str] = journalctl.COMMAND
    ):
        self._config, self._positions = config, positions
        self._maker = Maker(config.host, config.labels, Masker(config.mask))
        beginning = (positions.reached, positions.begin, positions.begins)
        self.journal = Journal(self._maker, config.datasets, command, *beginning)
        self.tail = Tail(config.files, config.ignore, self._maker, self._remember)
        self._reports = Reports(config.report, config.host, self._maker)
        self._probe_at = self._count_at = 0.0
        self._counted: dict[str, int | None] = {}
        self._place: Any = None
        self._no_probe = ""
        self._in_journal = 0
        self._in_files: dict[str, tuple[int, int]] = {}
        self._started = False
        self._open(time.monotonic())

    def _remember(self, source: str, position: Any, counts: Mapping[str, int] = NOTHING) -> None:
        self._positions.put(time.monotonic(), source, position, counts)

    def start(self, now: float) -> None:
        """Gives what is behind the positions that count."""
        self._started = True
        counting = self._positions.counting
        self.journal.start(counting.get(journal.NAME), now)
        self._open(now)
        self._reports.start(counting.get(REPORT))
        if self._config.at_limit == configuration.DROP:
            self.limit()

    def _open(self, now: float) -> None:
        """Opens the files: what is open cannot be rotated away."""
        self.tail.start(self._positions.counting, now)

    def limit(self) -> None:
        """Passes over the oldest lines where more wait than may."""
        self.journal.limit(self._config.limit)
        self.tail.limit(self._config.limit)

    def stop(self) -> None:
        """Gives nothing until it is started again."""
        self._started = False
        self.journal.follower.stop()

    def take(self, count: int, now: float, full: Callable[[], bool]) -> Iterator[Step]:
        """About so many steps, fewer once it is ``full``; the journal and files get half each where
        both have many.
        """
        if now >= self._probe_at:
            self._probe(now)
        yield from self._reports.take(now)
        self.tail.scan(now)
        taken = 0
        for step in self.tail.take(count // 2, now):
            taken += 1
            yield step
            if full():
                break
        for step in self.journal.take(max(count - taken, count // 2), now):
            yield step
            if full():
                return

    def arrived(self, step: Step) -> None:
        """A step was acknowledged."""
        if step.position and step.source.startswith(files.PREFIX):
            files.arrived(step.position)

    @property
    def pending(self) -> bool:
        """Whether there is something to take already."""
        return self.journal.follower.pending or self.tail.pending

    def _probe(self, now: float) -> None:
        """A marked line that goes the way of all others, from the journal on."""
        self._probe_at, self._no_probe = now + self._config.probe, ""
        try:
            journal.write_probe(secrets.token_hex(16))
        except OSError as error:
            self._probe_at = now + min(SOON, self._config.probe)
            self._no_probe = f"{marks.SOCKET} takes no line, journald may not run: {error}"

    def problem(self, now: float) -> str:
        """What is wrong with sources, or empty."""
        found = (self.journal.problem(now), self._no_probe)
        return "; ".join(it for it in found if it)

    def waiting(self, now: float, drained: bool) -> int | None:
        """About how many lines wait, None if journalctl does not say it. ``drained`` says that all
        that was read was acknowledged; what the journal has all the same is what journalctl does
        not tell.
        """
        due = now >= self._count_at
        if due or drained:
            latest = self._positions.latest
            place, number = latest.get(journal.NAME), self._counted.get(journal.NAME, 0)
            if due:
                if not self._started:
                    self._open(now)
                number, self._in_journal = self.journal.waiting(place)
                self._place = place
                self._count_at = now + (CHECK if drained or number is None else COUNT)
            elif number and place != self._place:
                number = self._in_journal = 0
            self._in_files = dict(self._behind(latest))
            self._counted = {**self.tail.waiting(latest), journal.NAME: number}
        counts = self._counted.values()
        return None if None in counts else sum(it for it in counts if it)

    def _behind(self, latest: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
        """The sources that are files of which something waits: since when it is known that it does,
        and where the file ended then.
        """
        present = micros()
        for file in self.tail.files.values():
            offset, size = (latest.get(file.source) or [0])[0], file.state[0]
            since, end = self._in_files.get(file.source, (present, size))
            if offset < end:
                yield file.source, (since, end)
            elif offset < size:
                yield file.source, (present, size)

    @property
    def oldest(self) -> int:
        """When the first line that waits was written, as of the last count, in microseconds since
        1970; of one in a file, when it was seen. 0 where none waits.
        """
        found = (self._in_journal, *(since for since, _ in self._in_files.values()))
        return min((it for it in found if it), default=0)

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
        self.journal.follower.stop()
        self.tail.close()

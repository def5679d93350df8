"""What is on its way to a log server and not acknowledged yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rocksalt.logstash.shipping.link import SILENCE, Link
from rocksalt.logstash.shipping.relp import Frame
from rocksalt.logstash.shipping.steps import Step

LINES, BYTES = 256, 4 * 1024 * 1024
"""Most lines that are under way, and about how many bytes."""
STEPS = 4096
"""About how many steps, most of them without lines, wait for those before them."""


@dataclass
class _Sent:
    step: Step
    at: float
    open: int


class Window:
    """Steps in their order; one is done when all of its lines, and all before it, are acknowledged.
    ``sent`` and ``acknowledged`` count lines. ``proved`` is when the last line that is
    acknowledged was sent; 0 before there is one.
    """

    def __init__(self) -> None:
        self._steps: deque[_Sent] = deque()
        self._open: dict[int, tuple[_Sent, int]] = {}
        self._bytes = 0
        self._heard = self.proved = 0.0
        self.sent = self.acknowledged = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def room(self) -> int:
        """How many lines may follow; 0 while more than half are under way, for many at once cost
        less, and while many steps wait.
        """
        lines = len(self._open) > LINES // 2 or self._bytes > BYTES // 2
        return 0 if lines or len(self._steps) > STEPS else LINES - len(self._open)

    @property
    def full(self) -> bool:
        """Whether no line more may follow."""
        return self._bytes >= BYTES

    @property
    def oldest(self) -> int:
        """When the oldest line was written, in microseconds since 1970; 0 without one."""
        return next((it.step.micros for it in self._steps if it.step.micros), 0)

    def add(self, link: Link, step: Step, now: float) -> None:
        """Sends a step."""
        if not self._open:
            self._heard = now
        sent = _Sent(step, now, len(step.lines))
        for line in step.lines:
            self._open[link.send(line)] = (sent, len(line))
            self._bytes += len(line)
        self.sent += len(step.lines)
        self._steps.append(sent)

    def answered(self, frames: Iterable[Frame], now: float) -> None:
        """Takes acknowledgements; what is unknown is one for an earlier time."""
        for frame in frames:
            if known := self._open.pop(frame.number, None):
                sent, size = known
                sent.open, self._bytes = sent.open - 1, self._bytes - size
                self.acknowledged += 1
                self._heard, self.proved = now, max(self.proved, sent.at)

    def done(self) -> Iterator[Step]:
        """The steps that are done, once each."""
        while self._steps and not self._steps[0].open:
            yield self._steps.popleft().step

    def silent(self, now: float) -> bool:
        """Whether the server has not acknowledged anything for too long."""
        return bool(self._open) and now - self._heard > SILENCE

    def forget(self) -> int:
        """Gives up on what is under way; the number of lines."""
        count = len(self._open)
        self._steps.clear()
        self._open.clear()
        self.proved, self._bytes = 0.0, 0
        return count

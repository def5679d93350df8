"""How far a long run has come: lines on a terminal, events on Salt's bus, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

EVERY = 0.5
"""Seconds between two lines on a terminal."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Step:
    """Where a run is: the phase (``survey``, ``pack``, ``upload``, ``verify``, ...), the part or
    vault it is about, and files and bytes done of those that are expected (0: not known).
    """

    phase: str
    what: str = ""
    files: int = 0
    bytes: int = 0
    of_files: int = 0
    of_bytes: int = 0


Progress = Callable[[Step], None]


def silent(step: Step) -> None:
    """Tells nobody."""


class Meter:
    """Shows steps on a terminal, on one line that is written again at most every half second; shows
    nothing where the stream is no terminal.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic):
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._about = ("", "")
        self._began = self._shown = 0.0
        self._width = 0

    def __call__(self, step: Step) -> None:
        if not self._terminal:
            return
        now = self._clock()
        if (step.phase, step.what) != self._about:
            self.close()
            self._about, self._began = (step.phase, step.what), now
        elif now - self._shown < EVERY:
            return
        self._shown = now
        text = line(step, now - self._began)
        self._stream.write("\r" + text.ljust(self._width))
        self._stream.flush()
        self._width = len(text)

    def close(self) -> None:
        """Ends the line that is shown."""
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
        self._width = 0


def line(step: Step, seconds: float) -> str:
    """One step in words: ``pack operator: 1,204 files, 31.0 MiB of 400.1 MiB, 52.1 MiB/s, 7 s
    left``; ``seconds`` is how long the phase has taken.
    """
    told = []
    if step.files or step.of_files:
        of = f" of {step.of_files:,}" if step.of_files else ""
        told.append(f"{step.files:,}{of} files")
    if step.bytes or step.of_bytes:
        of = f" of {size(step.of_bytes)}" if step.of_bytes else ""
        told.append(f"{size(step.bytes)}{of}")
    if step.bytes and seconds >= EVERY:
        rate = step.bytes / seconds
        told.append(f"{size(round(rate))}/s")
        if step.of_bytes > step.bytes:
            told.append(f"{duration((step.of_bytes - step.bytes) / rate)} left")
    return f"{step.phase} {step.what}".rstrip() + (f": {', '.join(told)}" if told else "")


def size(count: int) -> str:
    """Bytes for a person: ``31.0 MiB``."""
    value, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds for a person: ``7 s``, ``3 min``, ``2 h``, ``4 days``."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"

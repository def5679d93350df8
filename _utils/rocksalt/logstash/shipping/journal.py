"""Reads the journal as journalctl tells it, from a cursor on, and sees what is missing in it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import subprocess
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from rocksalt.logstash.shipping import notify
from rocksalt.logstash.shipping.datasets import plain
from rocksalt.logstash.shipping.events import Maker
from rocksalt.logstash.shipping.positions import DROPPED, GAPS, LOST
from rocksalt.logstash.shipping.steps import Step

NAME = "journal"
MARK = "ROCKSALT_MARK"
MACHINE_ID = "/etc/machine-id"
COMMAND = ("journalctl",)
FIELDS = (
    *("MESSAGE", "PRIORITY", "SYSLOG_FACILITY", "SYSLOG_IDENTIFIER", "SYSLOG_PID", "_PID", "_UID"),
    *("_COMM", "_EXE", "_CMDLINE", "_SYSTEMD_UNIT", "_TRANSPORT", "_SOURCE_REALTIME_TIMESTAMP"),
    MARK,
)
LONGEST = 8 * 1024 * 1024
"""Bytes of an entry as JSON; of one that is longer only that it was there is sent."""
_KEPT, _LONGEST_MARK = 16 * 1024, 64
_CHUNK, _PIPE, _FULL = 256 * 1024, 1024 * 1024, 512
_F_SETPIPE_SZ = 1031
_SHORTEST, _LONGEST = 1.0, 30.0
_CURSOR = re.compile(
    r"s=([0-9a-f]+);i=([0-9a-f]+);b=([0-9a-f]+);m=([0-9a-f]+);t=([0-9a-f]+);x=(.+)"
)
_IN_TEXT = re.compile(rb'"__CURSOR"\s*:\s*"([^"]+)"')


class Cursor(NamedTuple):
    """A place in the journal: number ``i`` in the sequence ``s``, and when it was written. Entries
    that move from memory to the disk get a new ``i`` and ``s``; ``moment`` is what stays.
    """

    s: str
    i: int
    moment: tuple[str, ...]

    @property
    def micros(self) -> int:
        """When the journal took the entry, in microseconds since 1970."""
        return int(self.moment[2], 16)


def cursor(text: str) -> Cursor | None:
    """A cursor's parts; None for what is none."""
    match = _CURSOR.fullmatch(text)
    return Cursor(match[1], int(match[2], 16), match.group(3, 4, 5, 6)) if match else None


class Journal:
    """The journal as a source of steps."""

    def __init__(self, maker: Maker, wanted: Collection[str], command: Sequence[str] = COMMAND):
        self._maker, self._wanted, self._command = maker, frozenset(wanted), tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: deque[bytes] = deque()
        self._rest, self._dropped_bytes = b"", 0
        self._not_before, self._pause = 0.0, _SHORTEST
        self._last: Cursor | None = None
        self._position: str | None = None
        self._first, self._reread = True, ""
        self._gaps = 0
        self._keep: Cursor | None = None
        self._skip = 0

    def start(self, position: str | None, now: float) -> None:
        """Reads from a position on, or from the current boot."""
        self.stop()
        self._keep, self._skip = self._last or self._keep, 0
        self._last = cursor(position) if position else None
        if position and not self._last:
            self._gaps, position = self._gaps + 1, None
        self._position, self._first = position, True
        if now < self._not_before:
            return
        where = [f"--cursor={position}"] if position else self._boot()
        command = [
            *(*self._command, "-o", "json", "--all", "--no-pager", "--quiet", "--follow"),
            *("--no-tail", f"--output-fields={','.join(FIELDS)}", *_of_all_boots(), *where),
        ]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            notify.say(f"{command[0]} cannot be run: {error}")
            self._not_before = now + _LONGEST
            return
        os.set_blocking(self.fileno(), False)
        with contextlib.suppress(OSError):
            _set_pipe(self.fileno())

    def stop(self) -> None:
        """Reads no more, and forgets what was read."""
        if self._process:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout
            self._process.stdout.close()
        self._process = None
        self._lines.clear()
        self._rest, self._dropped_bytes = b"", 0

    @property
    def running(self) -> bool:
        """Whether journalctl is at work."""
        return self._process is not None

    @property
    def hungry(self) -> bool:
        """Whether it makes sense to read."""
        return self._process is not None and len(self._lines) < _FULL

    @property
    def pending(self) -> bool:
        """Whether entries were read that nobody took."""
        return bool(self._lines)

    def fileno(self) -> int:
        """Where journalctl's words come from; -1 while it does not run."""
        if not self._process:
            return -1
        assert self._process.stdout
        return self._process.stdout.fileno()

    def fill(self, now: float) -> None:
        """Reads what is there; starts journalctl again if it has ended."""
        if not self._process:
            if now >= self._not_before:
                self.start(self._position, now)
            return
        try:
            data = os.read(self.fileno(), _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._split(data)
            self._pause = _SHORTEST
            return
        if not self._lines:
            self._not_before = now + self._pause
            self._pause = min(self._pause * 2, _LONGEST)
            self.stop()

    def _split(self, data: bytes) -> None:
        pieces = (self._rest + data).split(b"\n")
        self._rest = pieces.pop()
        self._lines.extend(it for it in pieces if it)
        if len(self._rest) > LONGEST:
            self._dropped_bytes += len(self._rest) - 2 * _KEPT
            self._rest = self._rest[:_KEPT] + b"\0" + self._rest[-_KEPT:]

    def take(self, count: int, now: float) -> Iterator[Step]:
        """At most so many steps of what was read."""
        while count > 0 and self._lines:
            entry = self._parsed(self._lines.popleft())
            place = cursor(entry.get("__CURSOR", ""))
            if not place:
                continue
            missing = self._missing(place)
            if missing is None:
                self.start(self._position, now)
                return
            if self._first and self._last and place.moment == self._last.moment:
                self._first, self._last = False, place
                continue
            self._first, self._last, self._position = False, place, entry["__CURSOR"]
            yield self._step(entry, place, missing)
            count -= 1

    def _step(self, entry: dict[str, Any], place: Cursor, counts: dict[str, int]) -> Step:
        if self._skip and not (self._keep and self._keep.s == place.s and place.i <= self._keep.i):
            self._skip -= 1
            counts[DROPPED] = 1
            return Step(NAME, entry["__CURSOR"], (), place.micros, counts)
        if "omitted" in entry:
            counts[LOST] = counts.get(LOST, 0) + 1
        mark = plain(entry.get(MARK))[:_LONGEST_MARK]
        lines = self._maker.of_journal(entry, place.moment, None if mark else self._wanted)
        return Step(NAME, entry["__CURSOR"], tuple(lines), place.micros, counts, mark)

    def _missing(self, place: Cursor) -> dict[str, int] | None:
        """What is missing before an entry; None if that has to be read once more: one that two
        writers made at the same time may have been overlooked.
        """
        last, counts = self._last, {GAPS: self._gaps} if self._gaps else {}
        self._gaps = 0
        if not last or place.moment == last.moment:
            return counts
        if place.s != last.s:
            if self._first:
                counts[GAPS] = counts.get(GAPS, 0) + 1
            return counts
        if place.i <= last.i + 1:
            return counts
        if self._reread != self._position:
            self._reread = self._position or ""
            return None
        counts[LOST] = place.i - last.i - 1
        return counts

    def _parsed(self, line: bytes) -> dict[str, Any]:
        """An entry; one that was too long has its place and how long it was."""
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            return found if isinstance(found, dict) else {}
        match = _IN_TEXT.search(line)
        place = match[1].decode("ascii", "replace") if match else ""
        size, self._dropped_bytes = self._dropped_bytes + len(line), 0
        known = cursor(place)
        return {
            "__CURSOR": place,
            "__REALTIME_TIMESTAMP": str(known.micros if known else 0),
            "MESSAGE": f"rocksalt-ship: this entry of the journal has {size} bytes and is left out",
            "omitted": size,
        }

    def limit(self, most: int) -> None:
        """Passes over the oldest entries where more wait than may. Those that were on their way
        when a connection ended are sent, for nobody knows whether they arrived.
        """
        newest = self.ask("-n1")
        last = max((it for it in (self._keep, self._last) if it), key=lambda it: it.i, default=None)
        if not last and (first := self._oldest()):
            last = first._replace(i=first.i - 1)
        if newest and last and last.s == newest[0].s:
            self._skip = max(newest[0].i - last.i - most, 0)

    def _boot(self) -> list[str]:
        """What chooses the entries since the last boot. In a sandbox in a container the kernel
        tells another boot than the journal, so ``--boot`` would find none.
        """
        return [f"_BOOT_ID={place.moment[0]}" for place in self.ask("-n1")]

    def _oldest(self) -> Cursor | None:
        """The place of the first entry of the current boot."""
        command = [*self._command, "-o", "json", "--no-pager", "--quiet", "--output-fields=_PID"]
        try:
            ran = subprocess.Popen([*command, *self._boot()], stdout=subprocess.PIPE, bufsize=0)
        except OSError:
            return None
        with ran:
            assert ran.stdout
            match = _IN_TEXT.search(ran.stdout.readline())
            ran.kill()
        return cursor(match[1].decode("ascii", "replace")) if match else None

    def ask(self, *arguments: str) -> list[Cursor]:
        """The places that journalctl prints when it is called with arguments."""
        command = [*self._command, "-o", "json", "--no-pager", "--quiet", "--output-fields=_PID"]
        try:
            ran = subprocess.run(
                [*command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=10
            )
        except (OSError, subprocess.SubprocessError):
            return []
        found = (cursor(it.decode("ascii", "replace")) for it in _IN_TEXT.findall(ran.stdout))
        return [it for it in found if it]

    def waiting(self, position: str | None) -> tuple[int, int]:
        """How many entries are behind a position, and when the first of them was written, in
        microseconds since 1970; 0 where there is none. What another sequence has before counts as
        nothing.
        """
        newest, place = self.ask("-n1"), cursor(position or "")
        if not newest or (place and newest[0].moment == place.moment):
            return 0, 0
        if not place:
            first = self._oldest() or newest[0]
            return newest[0].i - first.i + 1 if first.s == newest[0].s else 1, first.micros
        number = newest[0].i - place.i if place.s == newest[0].s else newest[0].i
        after = self.ask(f"--cursor={position}", "-n2")
        return max(number, 1), next((it.micros for it in after if it.moment != place.moment), 0)


def _of_all_boots() -> list[str]:
    """What makes journalctl follow the entries of this host whenever they were made: ``--follow``
    alone passes over those of earlier boots, also behind a cursor.
    """
    try:
        with open(MACHINE_ID, encoding="ascii") as file:
            return ["--merge", f"_MACHINE_ID={file.read().strip()}"]
    except (OSError, ValueError):
        return ["--merge"]


def _set_pipe(handle: int) -> None:
    fcntl.fcntl(handle, _F_SETPIPE_SZ, _PIPE)

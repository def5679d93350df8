"""One chain from its first line to its last, and all that is wrong with it."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from rocksalt.backup.errors import Unverified
from rocksalt.logstash.receiving import begins, chain, files, removals
from rocksalt.logstash.receiving.evidence import Evidence, Seen
from rocksalt.logstash.receiving.store import TIME, Clock, now

MOST = 50
"""Problems of a host that are told one by one."""
MOMENT = 0.2
"""Seconds after which half a line at the end of the newest file is looked at again."""
_AHEAD = dt.timedelta(hours=1)
"""A line that was received later than that from now is of a clock that is wrong."""
_TAIL = 76
"""Bytes of a line from its hash on, with the end of line."""


class Walk:
    """Reads every line of a host. ``trusted`` is the public key of the log server, or None where it
    is not known: then what it signed is not believed. Lines are kept for ``days``; ``started`` is
    when the check began.
    """

    def __init__(
        self, folder: Path, trusted: str | None, evidence: Evidence | None, days: int,
        started: dt.datetime, clock: Clock = now,
    ):  # fmt: skip
        self.folder, self.host = folder, folder.name
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.lines = 0
        self.has_vanished = False
        """Whether a file was gone before it was read, such as one that is compressed by now."""
        self.first = self.last = ""
        self._more = 0
        self._n, self._hash = 0, chain.ZERO
        self._lost = 0
        """Lines just before that cannot be read."""
        self._before = self._other = ""
        """The hash before the last line, and that of another with the same number."""
        self._fork: int | None = None
        """The place among the problems of the last line, if it does not fit."""
        self._evidence = evidence or Evidence()
        self._is_known = evidence is not None and not evidence.error
        self._seen = self._evidence.hosts.get(self.host, Seen())
        self._until = self._seen.numbers[-1] if self._seen.numbers else 0
        self._beyond = ""
        """When the first line was received after the last one that was witnessed."""
        self._arrived = self._latest = self._limit = ""
        """The latest time up to that line and of all, but for those that are to come."""
        self._next = 0
        self._rewritten = False
        self._trusted, self._days = trusted, days
        self._started, self._clock = started, clock

    def run(self) -> dict[str, Any]:
        """``lines``, times of the ``first`` and ``last`` (null for none), ``problems`` (sentences),
        ``notes`` (others, about what is not wrong), ``unwitnessed_since`` (a time, or null).
        """
        self._start()
        try:
            kept = files.days(self.folder)
            for path in kept:
                self._file(path, path == kept[-1])
            self._others(kept)
        except OSError as error:
            self._wrong(f"{error.filename} cannot be read: {error.strerror}")
        self._end()
        if self._more:
            self.problems.append(f"and {self._more} more")
        return {
            "lines": self.lines,
            "first": self.first or None,
            "last": self.last or None,
            "problems": self.problems,
            "notes": self.notes,
            "unwitnessed_since": self._unwitnessed(),
        }

    def _wrong(self, sentence: str) -> None:
        if len(self.problems) < MOST:
            self.problems.append(sentence)
        else:
            self._more += 1

    def _start(self) -> None:
        """Where the chain has to begin."""
        self._starts = {0: chain.ZERO}
        try:
            found = begins.read(self.folder, self._trusted or "")
        except Unverified as error:
            found = self._of_another_key()
            if found is None:
                self._wrong(f"where the chain begins is not known: {error}")
        if found:
            self._starts = found.starts
            self._n, self._hash = found.n, found.hash
            wrong, notes = removals.judge(found, self._seen, self._evidence, self._days)
            self.notes += notes
            for sentence in wrong:
                self._wrong(sentence)

    def _of_another_key(self) -> begins.Begins | None:
        """Where the chain begins by what another key signed, such as that of a log server before it
        was set up anew: if the first entry of the witness says the same.
        """
        with contextlib.suppress(Unverified):
            found = begins.read(self.folder)
            if found and self._seen.before == (found.n, found.hash):
                self.notes.append(f"{files.BEGINS} is signed by another key; the witness knows it")
                return replace(found, before_n=found.n, before_hash=found.hash)
        return None

    def _file(self, path: Path, newest: bool) -> None:
        self._limit = (self._clock() + _AHEAD).strftime(TIME)
        try:
            with files.opened(path) as file:
                self._lines(_patient(file) if newest else file, path, newest)
        except OSError as error:
            self.has_vanished |= isinstance(error, FileNotFoundError)
            self._wrong(f"{path} cannot be read: {error.strerror or error}")

    def _lines(self, file: Iterable[bytes], path: Path, newest: bool) -> None:
        """The way of a line that is right has to be short: there are hundreds of millions."""
        middle = f'","from":"{self.host}","flags":['.encode()
        sha256 = hashlib.sha256
        for number, data in enumerate(file, 1):
            n, start = self._n + 1, b'{"n":%d,"received":"' % (self._n + 1)
            own = sha256(self._hash.encode() + data[:-_TAIL]).hexdigest()
            right = (
                data[-_TAIL:] == b',"hash":"%b"}\n' % own.encode()
                and data.startswith(start)
                and data.startswith(middle, len(start) + 27)
                and self.lines
            )
            if right:
                self._step(n, own, data, len(start))
            elif data.endswith(b"\n"):
                self._strange(data[:-1], f"line {number} of {path.name}")
            elif not newest:
                self._wrong(f"{path} ends in half a line")
            else:
                self._wrong(f"{path} ends in half a line: it is being written, or was cut")

    def _step(self, n: int, own: str, data: bytes, received: int) -> None:
        """Goes on to a line."""
        self._before, self._other = self._hash, ""
        self._n, self._hash, self._fork, self._lost = n, own, None, 0
        self.lines += 1
        self.last = data[received : received + 27].decode("ascii", "replace")
        if self._next < len(self._seen.numbers) and self._seen.numbers[self._next] <= n:
            self._compare(n, own)
        if self._latest < self.last <= self._limit:
            self._latest = self.last
        if n > self._until and not self._beyond:
            self._beyond, self._arrived = self.last, self._latest

    def _strange(self, data: bytes, place: str) -> None:
        """A line that is not what should come here, or the first."""
        line = chain.read(data)
        if line is None or line.host != self.host:
            self._wrong(f"{place} is no line of this chain")
            self._lost += 1
            return
        if not self.lines:
            self._begin(line, place)
        elif self._lost and self._n < line.head.n <= self._n + 1 + self._lost:
            pass
        elif line.head.n > self._n + 1:
            self._removed(line.head.n)
        elif line.head.n <= self._n:
            self._again(line, place)
            return
        elif not (self._other and line.follows(self._other)):
            fork = len(self.problems)
            self._wrong(f"{place} is not as it arrived: line {line.head.n} or the one before it")
            self._enter(line)
            self._fork = fork
            return
        self._enter(line)

    def _enter(self, line: chain.Line) -> None:
        self._step(line.head.n, line.head.hash, line.data, line.data.index(b'"received":"') + 12)

    def _begin(self, line: chain.Line, place: str) -> None:
        self.first = line.head.received
        before = line.head.n - 1
        if before not in self._starts:
            known = f"line {max(self._starts) + 1}"
            self._wrong(f"the chain begins with line {line.head.n} instead of {known}: cut off")
        elif not line.follows(self._starts[before]):
            self._wrong(f"{place} is not as it arrived: line {line.head.n} or the one before it")

    def _removed(self, n: int) -> None:
        first, last = self._n + 1, n - 1
        gone = f"line {first} was" if first == last else f"lines {first} to {last} were"
        self._wrong(f"{gone} removed")

    def _again(self, line: chain.Line, place: str) -> None:
        """A number that was there already. Where both lines fit, the next one tells which is the
        right one.
        """
        number = line.head.n
        if number != self._n or not line.follows(self._before):
            self._wrong(f"{place} was inserted: line {number} is there already")
            return
        sentence = f"there are two lines {number}: one was inserted"
        if self._fork is not None and self._fork < len(self.problems):
            self.problems[self._fork] = sentence
        else:
            self._wrong(sentence)
        other, self._hash = self._hash, self._before
        self.lines -= 1
        self._enter(line)
        self._other = other

    def _compare(self, n: int, own: str) -> None:
        seen = self._seen
        while self._next < len(seen.numbers) and seen.numbers[self._next] <= n:
            index, self._next = self._next, self._next + 1
            if seen.numbers[index] == n and seen.hash(index) != own and not self._rewritten:
                self._rewritten = True
                when = self._evidence.time(seen, index)
                self._wrong(
                    f"line {n} is another one than the witness saw at {when}: "
                    "the chain was written anew"
                )

    def _end(self) -> None:
        seen = self._seen
        if seen.numbers and seen.numbers[-1] > self._n:
            when = self._evidence.time(seen, len(seen.numbers) - 1)
            self._wrong(
                f"the chain ends with line {self._n}, but the witness saw line "
                f"{seen.numbers[-1]} at {when}: the end was cut off"
            )
        if self._is_known:
            self._judge_witness()

    def _judge_witness(self) -> None:
        seen = self._seen
        if self._until:
            when = self._evidence.time(seen, len(seen.numbers) - 1)
            self.notes.append(f"witnessed up to line {self._until}, at {when}")
        # A clock that was wrong for a moment counts as right before it.
        if self._beyond and self._arrived < (self._started - self._evidence.gap).strftime(TIME):
            self._wrong(
                f"the lines after {self._until} are not witnessed, and the first of them arrived "
                f"at {self._beyond}{', which is to come' * (self._beyond > self._limit)}"
            )

    def _others(self, kept: list[Path]) -> None:
        days = [files.day(path) for path in kept]
        for path in sorted(self.folder.iterdir()):
            day = files.dated(path.name)
            # A later one was made while the others were read.
            if day and (day in days or day > max(days, default="")):
                if day in days and path not in kept:
                    self._twice(kept[days.index(day)], path)
                continue
            if path.name == files.TORN and path.is_dir() and not path.is_symlink():
                self._torn(path)
            elif path.name != files.BEGINS and not path.name.endswith(".new"):
                self._wrong(f"{path} does not belong here")

    def _twice(self, path: Path, packed: Path) -> None:
        """A day that is there twice, which it may be for a moment when it is compressed."""
        if not files.is_same(path, packed) and path.exists():
            self._wrong(f"{packed} does not belong here: {path.name} is there and is another file")

    def _torn(self, folder: Path) -> None:
        if count := len(list(folder.iterdir())):
            self.notes.append(
                f"{folder} has {count} of what was moved from the end of the chain, where a power "
                "cut leaves what is no line: look at it and remove it"
            )

    def _unwitnessed(self) -> str | None:
        seen = self._seen
        if not seen.numbers:
            return self.first or None
        if seen.numbers[-1] >= self._n:
            return None
        return self._evidence.time(seen, len(seen.numbers) - 1)


def _patient(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file that may be written to at this moment."""
    for data in file:
        if data.endswith(b"\n"):
            yield data
        else:
            time.sleep(MOMENT)
            yield data + file.readline()

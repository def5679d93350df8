"""One chain from its first line to its last, and all that is wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rocksalt.backup.errors import Unverified
from rocksalt.logstash.receiving import begins, chain, files
from rocksalt.logstash.receiving.evidence import Evidence, Seen

MOST = 50
"""Problems of a host that are told one by one."""
_TAIL = 76
"""Bytes of a line from its hash on, with the end of line."""


class Walk:
    """Reads every line of a host. ``trusted`` is the public key of the log server, or None where it
    is not known: then what it signed is not believed.
    """

    def __init__(self, folder: Path, trusted: str | None, evidence: Evidence | None):
        self.folder, self.host = folder, folder.name
        self.problems: list[str] = []
        self.lines = 0
        self.first = self.last = ""
        self._more = 0
        self._n, self._hash = 0, chain.ZERO
        self._lost = 0
        """Lines just before that cannot be read."""
        self._fork: tuple[int, str] | None = None
        """After a line that does not fit: its place among problems, and the hash before it."""
        self._evidence = evidence or Evidence()
        self._seen = self._evidence.hosts.get(self.host, Seen())
        self._next = 0
        self._rewritten = False
        self._trusted = trusted

    def run(self) -> dict[str, Any]:
        """``lines``, times of the ``first`` and ``last`` (null for none), ``problems`` (sentences),
        ``unwitnessed_since`` (a time, or null).
        """
        self._start()
        kept = files.days(self.folder)
        for path in kept:
            self._file(path, path == kept[-1])
        self._end()
        self._others(kept)
        if self._more:
            self.problems.append(f"{self.host}: {self._more} more problems of this kind")
        return {
            "lines": self.lines,
            "first": self.first or None,
            "last": self.last or None,
            "problems": self.problems,
            "unwitnessed_since": self._unwitnessed(),
        }

    def _wrong(self, sentence: str) -> None:
        if len(self.problems) < MOST:
            self.problems.append(f"{self.host}: {sentence}")
        else:
            self._more += 1

    def _start(self) -> None:
        """Where the chain has to begin."""
        self._starts = {0: chain.ZERO}
        try:
            if found := begins.read(self.folder, self._trusted or ""):
                self._starts = found.starts
                self._n, self._hash = found.n, found.hash
        except Unverified as error:
            self._wrong(f"where the chain begins is not known: {error}")

    def _file(self, path: Path, newest: bool) -> None:
        try:
            with files.opened(path) as file:
                self._lines(file, path, newest)
        except (OSError, EOFError) as error:
            self._wrong(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")

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
        self._n, self._hash, self._fork, self._lost = n, own, None, 0
        self.lines += 1
        self.last = data[received : received + 27].decode("ascii", "replace")
        if self._next < len(self._seen.numbers) and self._seen.numbers[self._next] <= n:
            self._compare(n, own)

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
        elif line.head.n <= self._n and not self._replaced(line):
            self._wrong(f"{place} was inserted: line {line.head.n} is there already")
            return
        elif line.head.n == self._n + 1:
            self._wrong(f"{place} is not as it arrived: line {line.head.n} or the one before it")
            fork = (len(self.problems) - 1, self._hash)
            self._step(line.head.n, line.head.hash, data, data.index(b'"received":"') + 12)
            self._fork = fork
            return
        self._step(line.head.n, line.head.hash, data, data.index(b'"received":"') + 12)

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

    def _replaced(self, line: chain.Line) -> bool:
        """Whether this is the right line after one that took its number and was inserted."""
        if self._fork is None or line.head.n != self._n or not line.follows(self._fork[1]):
            return False
        place = self._fork[0]
        if place < len(self.problems):
            self.problems[place] = f"{self.host}: a line was inserted before line {line.head.n}"
        self.lines -= 1
        return True

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

    def _others(self, kept: list[Path]) -> None:
        days = {files.day(path) for path in kept}
        for name in sorted(path.name for path in self.folder.iterdir()):
            match = files.NAME.fullmatch(name)
            if (match and match["day"] in days) or name == files.BEGINS or name.endswith(".new"):
                continue
            if name != files.TORN:
                self._wrong(f"{self.folder / name} does not belong here")
                continue
            for half in sorted((self.folder / name).iterdir()):
                self._wrong(
                    f"{half} is half a line that the host never was told to have arrived: "
                    "a power cut leaves that; look at it and remove it"
                )

    def _unwitnessed(self) -> str | None:
        seen = self._seen
        if not seen.numbers:
            return self.first or None
        if seen.numbers[-1] >= self._n:
            return None
        return self._evidence.time(seen, len(seen.numbers) - 1)

"""Runs journalctl: one that follows the journal, and those that are asked something."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import subprocess
import time
from collections import deque
from collections.abc import Sequence

from rocksalt.errors import RocksaltError

COMMAND = ("journalctl",)
HELD = 8 * 1024 * 1024
"""Bytes of an entry as JSON; of one that is longer only its place is known."""
AHEAD = 4 * 1024 * 1024
"""Bytes of entries that are read before they are taken."""
ANSWER = 5.0
"""Seconds that an answer may take."""
OMITTED = "omitted"
"""A key of entries that are too long: their bytes. No field of the journal has small letters."""
_TEXT = ("-o", "json", "--no-pager", "--quiet")
_KEPT, _CHUNK, _PIPE, _FULL = 16 * 1024, 256 * 1024, 1024 * 1024, 512
_F_SETPIPE_SZ = 1031
_SHORTEST, _LONGEST, _LASTING, _DYING = 1.0, 30.0, 5.0, 0.05
_PLACE = re.compile(rb'"__CURSOR"\s*:\s*"([^"]+)"')


class Unanswered(RocksaltError):
    """journalctl does not say what it was asked."""


def ask(command: Sequence[str], *arguments: str) -> list[str]:
    """The cursors of the entries that journalctl prints; :class:`Unanswered` if it fails."""
    whole = (*_TEXT, "--output-fields=_PID", *arguments)
    return [it.decode("ascii", "replace") for it in _PLACE.findall(_asked(command, *whole))]


def _asked(command: Sequence[str], *arguments: str) -> bytes:
    how = f"{command[0]} {arguments[-1]}"
    try:
        ran = subprocess.run(
            [*command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unanswered(f"{how} does not answer within {ANSWER:g} seconds") from None
    except OSError as error:
        raise Unanswered(f"{command[0]} cannot be run: {error}") from None
    if ran.returncode:
        words = " ".join(ran.stderr.decode("utf-8", "backslashreplace").split())[:200]
        raise Unanswered(f"{how} fails with {ran.returncode}: {words or 'it says nothing'}")
    return ran.stdout


def boots(command: Sequence[str]) -> list[str]:
    """All boots that the journal has entries of; :class:`Unanswered` if journalctl fails."""
    return (
        _asked(command, "--no-pager", "--quiet", "--field=_BOOT_ID")
        .decode("ascii", "replace")
        .split()
    )


def first(command: Sequence[str], *arguments: str) -> str:
    """The cursor of the first entry of many, empty without one; :class:`Unanswered` if journalctl
    fails.
    """
    said, code = _begun(command, 1, "--output-fields=_PID", *arguments)
    if code:
        raise Unanswered(f"{command[0]} {arguments[-1] if arguments else ''} fails with {code}")
    match = _PLACE.search(said)
    return match[1].decode("ascii", "replace") if match else ""


def before(command: Sequence[str], fields: Sequence[str], place: str, most: int) -> list[bytes]:
    """The entries up to a cursor, as JSON, the newest first: no more than ``most``, and than may be
    read ahead, and none behind one that is damaged. Of a long field there is nothing.
    :class:`Unanswered` if journalctl takes too long.
    """
    how = (f"--output-fields={','.join(fields)}", f"--cursor={place}", f"-n{most}", "--reverse")
    return _begun(command, most, *how)[0].split(b"\n")[:-1]


def _begun(command: Sequence[str], lines: int, *arguments: str) -> tuple[bytes, int]:
    """What journalctl prints, up to so many lines or a little more, and its exit code."""
    try:
        ran = subprocess.Popen(
            [*command, *_TEXT, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, bufsize=0,
        )  # fmt: skip
    except OSError as error:
        raise Unanswered(f"{command[0]} cannot be run: {error}") from None
    with ran:
        try:
            found, whole = _words(ran, lines)
            return found, ran.wait(ANSWER) if whole else 0
        except subprocess.TimeoutExpired:
            how = f"{command[0]} {arguments[-1]}"
            raise Unanswered(f"{how} does not answer within {ANSWER:g} seconds") from None
        finally:
            ran.kill()


def _words(ran: subprocess.Popen[bytes], lines: int) -> tuple[bytes, bool]:
    """What a process says, and whether that is all; TimeoutExpired where it takes too long."""
    assert ran.stdout
    found, poll, end = bytearray(), select.poll(), time.monotonic() + ANSWER
    poll.register(ran.stdout, select.POLLIN)
    while found.count(b"\n") < lines and len(found) < AHEAD:
        if not poll.poll(max(end - time.monotonic(), 0) * 1000):
            raise subprocess.TimeoutExpired(ran.args, ANSWER)
        if not (data := os.read(ran.stdout.fileno(), _CHUNK)):
            return bytes(found), True
        found += data
    return bytes(found), False


class Follower:
    """A journalctl that follows, and what was read of its words."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: deque[bytes] = deque()
        self._bytes, self._cut = 0, 0
        self._rest, self._place = bytearray(), ""
        self._not_before, self._began, self._pause = 0.0, 0.0, _SHORTEST
        self._problem, self._follow = "", True

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self._process is not None

    @property
    def hungry(self) -> bool:
        """Whether it makes sense to read."""
        return self.running and len(self._lines) < _FULL and self._bytes < AHEAD

    @property
    def pending(self) -> bool:
        """Whether entries were read that nobody took."""
        return bool(self._lines)

    def due(self, now: float) -> bool:
        """Whether it may be started."""
        return now >= self._not_before

    def problem(self, now: float) -> str:
        """A sentence about how it ended; empty once it works again."""
        if self._process and now - self._began >= _LASTING:
            self._problem = ""
        return self._problem

    def failed(self, sentence: str, now: float) -> None:
        """It cannot be started, and is left alone for a while."""
        self.stop()
        self._failed(sentence, now)

    def _failed(self, sentence: str, now: float) -> None:
        self._problem, self._not_before = sentence, now + self._pause
        self._pause = min(self._pause * 2, _LONGEST)

    def start(
        self, command: Sequence[str], arguments: Sequence[str], now: float, follow: bool = True
    ) -> None:
        """Follows from now on, or only reads what is there."""
        self.stop()
        self._follow = follow
        how = ("--follow", "--no-tail") if follow else ()
        whole = [*command, *_TEXT, "--all", *how, *arguments]
        try:
            self._process = subprocess.Popen(
                whole, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            self.failed(f"{command[0]} cannot be run: {error}", now)
            return
        self._began = now
        os.set_blocking(self.fileno(), False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.fileno(), _F_SETPIPE_SZ, _PIPE)

    def stop(self) -> None:
        """Ends it, and forgets what was read."""
        self._end()
        self._lines.clear()
        self._bytes = 0

    def _end(self, patience: float = 0.0) -> int:
        """Its exit code, for which it has some seconds; a line that is not complete is none."""
        code = 0
        if self._process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
            self._process.kill()
            code = self._process.wait()
            assert self._process.stdout
            self._process.stdout.close()
        self._process = None
        self._rest, self._place, self._cut = bytearray(), "", 0
        return code

    def fileno(self) -> int:
        """Where its words come from; -1 while it does not run."""
        if not self._process:
            return -1
        assert self._process.stdout
        return self._process.stdout.fileno()

    def fill(self, now: float) -> None:
        """Reads what is there. Once it has ended, what was read can still be taken."""
        try:
            data = os.read(self.fileno(), _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._split(data)
            self._pause, self._problem = _SHORTEST, ""
            return
        code, self._problem = self._end(_DYING), ""
        if self._follow or code:
            self._failed(f"journalctl {'--follow ' * self._follow}has ended with {code}", now)

    def take(self) -> bytes:
        """The next entry."""
        line = self._lines.popleft()
        self._bytes -= len(line)
        return line

    def _split(self, data: bytes) -> None:
        begin, *others = data.split(b"\n")
        self._rest += begin
        if len(self._rest) > HELD:
            self._shorten()
        if not others:
            return
        self._put(self._short() if self._cut else bytes(self._rest))
        for line in others[:-1]:
            self._put(line)
        self._rest = bytearray(others[-1])

    def _put(self, line: bytes) -> None:
        if line:
            self._lines.append(line)
            self._bytes += len(line)

    def _shorten(self) -> None:
        if match := _PLACE.search(self._rest):
            self._place = match[1].decode("ascii", "replace")
        self._cut += len(self._rest) - _KEPT
        del self._rest[:-_KEPT]

    def _short(self) -> bytes:
        """An entry of its place and its length in the place of one that is too long."""
        size = self._cut + len(self._rest)
        self._shorten()
        self._cut = 0
        return json.dumps({"__CURSOR": self._place, OMITTED: size}).encode()

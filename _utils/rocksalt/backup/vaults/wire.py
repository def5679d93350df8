"""What goes between a master and a receiver through one ssh session: lines of JSON, and after some
of them as many bytes as they say.

A side waits for the other only so long: each wait ends after ``timeout`` seconds without progress.
"""

from __future__ import annotations

import json
import os
import select
from collections.abc import Mapping
from typing import Any

from rocksalt.backup.vaults.content import CHUNK

LONGEST = 1 << 16
"""Bytes that a line may have."""


class Broken(Exception):
    """The other side went away, is silent, or says what makes no sense; the text says which."""


class Silent(Broken):
    """The other side is there as far as is known, but nothing comes or goes."""


class Wire:
    """One side of a session: reads from one file descriptor, writes to another."""

    def __init__(self, source: int, target: int, timeout: float):
        self._source, self._target, self.timeout = source, target, timeout
        self._buffer = b""
        os.set_blocking(target, False)

    def send(self, line: Mapping[str, Any]) -> None:
        self.write(json.dumps(line).encode("ascii") + b"\n")

    def receive(self, longest: int = LONGEST) -> dict[str, Any]:
        """The next line; empty once the other side has ended the session in order."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > longest:
                raise Broken(f"sent a line of more than {longest} bytes")
            data = self._arrived(CHUNK)
            if not data and self._buffer:
                raise Broken("ended in the middle of a line")
            if not data:
                return {}
            self._buffer += data
        text, self._buffer = self._buffer.split(b"\n", 1)
        try:
            line = json.loads(text) if len(text) <= longest else None
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict) or not line:
            raise Broken("sent a line that is none of the protocol")
        return line

    def read(self, most: int) -> bytes:
        """At least one byte, at most so many, of what follows a line."""
        most = min(most, CHUNK)
        data, self._buffer = self._buffer[:most], self._buffer[most:]
        data = data or self._arrived(most)
        if not data:
            raise Broken("ended before all was sent")
        return data

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._wait([], [self._target])
            try:
                view = view[os.write(self._target, view) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Broken(f"ended before all was taken ({error.strerror})") from None

    def _arrived(self, most: int) -> bytes:
        self._wait([self._source], [])
        try:
            return os.read(self._source, most)
        except OSError as error:
            raise Broken(f"cannot be read ({error.strerror})") from None

    def _wait(self, sources: list[int], targets: list[int]) -> None:
        if not any(select.select(sources, targets, [], self.timeout)):
            raise Silent(f"made no progress in {self.timeout:.0f} s")

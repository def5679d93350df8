"""The lines of the door in front of salt-api: log-ins, refusals and calls, one JSON object each.

Its file is followed through rotation by renaming and by copying, and goes on after a pause where it
stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rocksalt.backup.manifest import canonical
from rocksalt.errors import RocksaltError
from rocksalt.logbook.arguments import Arguments, is_hidden
from rocksalt.logbook.records import Record, moment, short
from rocksalt.logstash.receiving import files
from rocksalt.logstash.shipping.rotation import rotated

LONGEST = 1 << 20
"""Bytes of a line; what is longer is passed over in pieces."""


def record(line: bytes, identity: str, arguments: Arguments) -> Record:
    """The record of a line: ``user``, ``address``, ``outcome`` and what else the door says, without
    secrets. A line that is no JSON object is kept as ``text``.
    """
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        said = {"text": line.decode(errors="replace")}
    time = moment(said.pop("time", None))
    arg, kwarg = said.get("arg"), said.get("kwarg")
    if is_hidden(str(said.get("fun"))):
        given = kwarg if isinstance(kwarg, dict) else {}
        arg, kwarg = arguments.call(
            str(said["fun"]), arg if isinstance(arg, list) else [arg] if arg else [], given
        )
        said |= {"arg": arg, "kwarg": kwarg}
    return {
        "time": time, "kind": "api", **arguments.named(_apart(said)),
        "event.id": f"api/{identity}/{short(line.decode(errors='replace'))}",
    }  # fmt: skip


def _apart(said: dict[str, Any]) -> dict[str, Any]:
    """Without names that mean something else in a record."""
    taken = ("kind", "event.id", "event.said", "host.name", "filled", "conflict", "cut")
    return {f"api_{key}" if key in taken else str(key): value for key, value in said.items()}


class Unreadable(RocksaltError):
    """The file, not the book."""


class Tail:
    """The file at a path, and the file that has how far it was read. ``missed`` says what is known
    to be lost, or nothing.
    """

    def __init__(self, path: str, kept: Path):
        self._path, self._kept = path, kept
        self._file = -1
        self._offset = 0
        self._position = _loaded(kept)
        self.missed = ""

    def lines(self) -> Iterator[tuple[bytes, str]]:
        """All whole lines that were added, and what each is known by; :class:`Unreadable` where
        they cannot be read.
        """
        lines = self._lines()
        while True:
            try:
                found = next(lines)
            except StopIteration:
                return
            except OSError as error:
                raise Unreadable(str(error)) from None
            yield found

    def _lines(self) -> Iterator[tuple[bytes, str]]:
        if self._file < 0:
            yield from self._resume()
        while self._file >= 0:
            yield from self._read()
            if not self._moved():
                return
            yield from self._read()
            self._close()
            self._open(self._path, 0)

    def keep(self) -> None:
        """Goes on from here after a restart, when the lines are kept."""
        if self._file >= 0:
            position = [os.fstat(self._file).st_ino, self._offset]
            if position != self._position:
                self._position = position
                files.replace(self._kept, canonical({"inode": position[0], "offset": position[1]}))

    def rewind(self) -> None:
        """Gives all lines since the last :meth:`keep` again."""
        self._close()

    def _resume(self) -> Iterator[tuple[bytes, str]]:
        """What was written to files that were renamed meanwhile, the oldest first."""
        if not self._position:
            self._open(self._path, 0)
            return
        inode, offset = self._position
        there = [(self._path, os.stat(self._path))] if os.path.exists(self._path) else []
        there = sorted([*rotated(self._path, False), *there], key=lambda it: it[1].st_mtime_ns)
        inodes = [state.st_ino for _, state in there]
        later = there[inodes.index(inode) :] if inode in inodes else there[-1:]
        if inode not in inodes:
            self.missed = "the log of the API was rotated away before it was read to its end"
        for path, state in later:
            self._open(path, offset if state.st_ino == inode else 0)
            if path != self._path:
                yield from self._read()
                self._close()

    def _open(self, path: str, offset: int) -> None:
        self._file = -1
        with contextlib.suppress(FileNotFoundError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            self._file = os.open(path, flags)
            self._offset = offset

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _read(self) -> Iterator[tuple[bytes, str]]:
        if self._file < 0:
            return
        state = os.fstat(self._file)
        if state.st_size < self._offset:
            self._offset = 0
        while data := os.pread(self._file, LONGEST, self._offset):
            end = data.rfind(b"\n") + 1 or (len(data) if len(data) == LONGEST else 0)
            if not end:
                return
            start = self._offset
            for line in data[:end].split(b"\n"):
                if line.strip():
                    yield line, f"{state.st_ino}:{start}"
                start += len(line) + 1
            self._offset += end

    def _moved(self) -> bool:
        """Whether another file is at the path by now, and this one has no more."""
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        own = os.fstat(self._file)
        return there.st_ino != own.st_ino


def _loaded(kept: Path) -> list[int]:
    try:
        found = json.loads(kept.read_bytes())
        return [int(found["inode"]), int(found["offset"])]
    except (OSError, ValueError, LookupError, TypeError):
        return []

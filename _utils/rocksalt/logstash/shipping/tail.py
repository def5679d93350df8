"""Follows log files, through every way to rotate them."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from typing import Any

from rocksalt.logstash.shipping.datasets import STARTS
from rocksalt.logstash.shipping.events import Maker
from rocksalt.logstash.shipping.events import now as micros
from rocksalt.logstash.shipping.files import (
    HEAD,
    PREFIX,
    ROTATED,
    File,
    beginning,
    head,
    opened,
    opened_as,
    record,
    siblings,
)  # fmt: skip
from rocksalt.logstash.shipping.positions import DROPPED, GAPS
from rocksalt.logstash.shipping.steps import Step

SCAN = 1.0
"""Seconds from one look for new files to the next."""
UNFINISHED = 60.0
"""Seconds that a line without its end may take, and that a file which was rotated is kept."""
JOIN = 1.0
"""Seconds in which a record of several lines has to be complete."""
_CHUNK, _TYPICAL = 65_536, 120

Remember = Callable[[str, Any], None]


class Tail:
    """All files as a source of steps. ``remember`` writes the position of a new file at once, so
    that its lines have the same ids whatever happens.
    """

    def __init__(
        self, files: Mapping[str, str], ignore: tuple[str, ...], maker: Maker, remember: Remember
    ):
        self._globs, self._ignore, self._maker = dict(files), ignore, maker
        self._remember = remember
        self._scan_at = 0.0
        self.files: dict[str, File] = {}
        self._lost: list[Step] = []

    def start(self, positions: Mapping[str, Any], now: float) -> None:
        """Goes to the positions; those whose file is gone are gaps."""
        known = {it.removeprefix(PREFIX): at for it, at in positions.items() if _is_file(it)}
        first = not positions
        self._lost = []
        for generation in [it for it in self.files if it not in known]:
            os.close(self.files.pop(generation).handle)
        for generation, position in known.items():
            found = self.files.get(generation) or self._found(generation, position)
            if found:
                found.keep, found.skip = max(found.keep, found.start), 0
                found.start, found.buffer, found.grew = position[0], bytearray(), now
                self.files[generation] = found
            elif position is not None:
                self._lost.append(Step(PREFIX + generation, None, (), 0, {GAPS: 1}))
        self._scan(now, first)

    def _found(self, generation: str, position: Any) -> File | None:
        """The file of a position, which may have another name now."""
        if position is None:
            return None
        offset, meta = position
        taken = {(it.meta["device"], it.meta["inode"]) for it in self.files.values()}
        for path in siblings(meta["path"], meta["inode"]):
            made = opened(path, meta["path"], meta["dataset"], generation)
            if not made:
                continue
            same = (made.meta["device"], made.meta["inode"]) == (meta["device"], meta["inode"])
            length, digest = meta["head"]
            same &= made.size >= offset and head(made.handle, length) == digest
            if same and (meta["device"], meta["inode"]) not in taken:
                made.meta = dict(meta)
                return made
            os.close(made.handle)
        return None

    def scan(self, now: float) -> None:
        """Looks for new, renamed and deleted files, where it is time for that."""
        if now >= self._scan_at:
            self._scan(now, False)

    def _scan(self, now: float, first: bool) -> None:
        self._scan_at = now + SCAN
        there = {(it.meta["device"], it.meta["inode"]): it for it in self.files.values()}
        seen = set()
        for pattern, dataset in self._globs.items():
            for path in sorted(glob.glob(pattern)):
                if any(fnmatch(path, it) for it in self._ignore):
                    continue
                try:
                    state = os.stat(path)
                except OSError:
                    continue
                key = (state.st_dev, state.st_ino)
                if not stat.S_ISREG(state.st_mode) or key in seen:
                    continue
                seen.add(key)
                if key not in there and (made := opened(path, path, dataset)):
                    made.start = beginning(made) if first else 0
                    made.grew = now
                    self.files[made.generation] = made
                    self._remember(made.source, made.position())
        for key, file in there.items():
            if key not in seen and not file.gone:
                self._between(file, {*there, *seen}, now)
            file.gone = key not in seen

    def _between(self, old: File, known: set[tuple[int, int]], now: float) -> None:
        """A file was rotated: follows those too that had its name since, and lost it unseen. Of one
        that is compressed by now, only that it was there can be told.
        """
        last = os.fstat(old.handle).st_mtime_ns
        for path in siblings(old.meta["path"]):
            try:
                state = os.stat(path)
            except OSError:
                continue
            rotated = ROTATED.match(path[len(old.meta["path"]) :])
            new = (state.st_dev, state.st_ino) not in known and state.st_mtime_ns >= last
            if not rotated or not new or not stat.S_ISREG(state.st_mode):
                continue
            if rotated["packed"]:
                self._lost.append(Step(old.source, old.position(), (), 0, {GAPS: 1}))
            elif made := opened(path, old.meta["path"], old.dataset):
                made.grew, made.gone = now, True
                self.files[made.generation] = made
                self._remember(made.source, made.position())

    @property
    def pending(self) -> bool:
        """Whether there is something to take already."""
        files = self.files.values()
        unread = any(it.read < it.size or (it.buffer and not it.hungry) for it in files)
        return bool(self._lost) or unread

    def take(self, count: int, now: float) -> Iterator[Step]:
        """At most so many steps, from all files in turn: who was asked comes last."""
        while self._lost:
            yield self._lost.pop()
        for file in list(self.files.values()):
            self.files[file.generation] = self.files.pop(file.generation)
            share = max(count // 2, 8)
            for step in self._of(file, share, now):
                yield step
                count -= 1
            if count <= 0:
                return

    def _of(self, file: File, count: int, now: float) -> Iterator[Step]:
        try:
            intact = self._refill(file, now)
        except OSError:
            return
        if not intact:
            yield from self._truncated(file, now)
            return
        starts = STARTS.get(file.dataset)
        idle = now - file.grew
        whole = file.read >= file.size
        final = whole and idle > JOIN
        ended = whole and (idle > UNFINISHED or (file.gone and idle > JOIN))
        while count > 0 and (length := record(file.buffer, starts, final, ended)):
            yield self._step(file, length)
            count -= 1
        file.hungry = count > 0
        if file.gone and whole and not file.buffer and idle > UNFINISHED:
            os.close(file.handle)
            del self.files[file.generation]
            yield Step(file.source, None)

    def _step(self, file: File, length: int) -> Step:
        data = bytes(file.buffer[:length])
        begin = file.start
        del file.buffer[:length]
        file.start += length
        if file.skip and begin >= file.keep:
            file.skip -= 1
            return Step(file.source, file.position(), (), 0, {DROPPED: 1})
        if not data.strip():
            return Step(file.source, file.position())
        place = (file.generation, begin)
        lines = self._maker.of_file(file.dataset, file.meta["path"], place, data)
        return Step(file.source, file.position(), tuple(lines), micros())

    def _refill(self, file: File, now: float) -> bool:
        """Reads on; False if the file was cut off."""
        size = os.fstat(file.handle).st_size
        if size < file.read:
            return False
        if size > file.size or (file.read < size and not file.buffer):
            file.grew = now
        file.size = size
        if file.read < size and (file.hungry or len(file.buffer) < _CHUNK):
            file.buffer += os.pread(file.handle, _CHUNK, file.read)
        if file.meta["head"][0] < HEAD and size > file.meta["head"][0]:
            length = min(size, HEAD)
            file.meta["head"] = [length, head(file.handle, length)]
        return True

    def _truncated(self, file: File, now: float) -> Iterator[Step]:
        """What was read and not sent goes first; then the file begins anew."""
        counts = {GAPS: 1} if file.read < file.size else {}
        while file.buffer:
            length = record(file.buffer, None, True, True)
            yield self._step(file, length)
        del self.files[file.generation]
        made = opened_as(file.handle, file.meta["path"], file.dataset)
        made.grew, made.gone = now, file.gone
        self.files[made.generation] = made
        self._remember(made.source, made.position())
        yield Step(file.source, None, (), 0, counts)

    def waiting(self, positions: Mapping[str, Any]) -> dict[str, int]:
        """About how many lines each path has behind its position."""
        found: dict[str, int] = {}
        for file in self.files.values():
            offset = (positions.get(file.source) or [0])[0]
            left = max(os.fstat(file.handle).st_size - offset, 0)
            lines = -(-left // _TYPICAL)
            found[file.meta["path"]] = found.get(file.meta["path"], 0) + lines
        return found

    def limit(self, most: int) -> None:
        """Passes over the oldest lines where more wait than may."""
        for file in self.files.values():
            file.keep = max(file.keep, file.start)
            left = (os.fstat(file.handle).st_size - file.keep) // _TYPICAL
            file.skip = max(left - most, 0)

    def state(self, positions: Mapping[str, Any]) -> dict[str, Any]:
        """What the status says of each file."""
        found = {}
        for file in sorted(self.files.values(), key=lambda it: not it.gone):
            offset = (positions.get(file.source) or [0])[0]
            size = os.fstat(file.handle).st_size
            found[file.meta["path"]] = {"dataset": file.dataset, "offset": offset, "size": size}
        return found

    def close(self) -> None:
        """Closes all files."""
        for file in self.files.values():
            os.close(file.handle)
        self.files.clear()


def _is_file(source: str) -> bool:
    return source.startswith(PREFIX)

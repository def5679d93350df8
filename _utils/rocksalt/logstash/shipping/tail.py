"""Follows log files, through every way to rotate them."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from rocksalt.logstash.shipping import rotation
from rocksalt.logstash.shipping.datasets import STARTS, covered
from rocksalt.logstash.shipping.events import Maker
from rocksalt.logstash.shipping.events import now as micros
from rocksalt.logstash.shipping.files import (
    PREFIX,
    File,
    average,
    beginning,
    newest,
    opened,
    opened_as,
    record,
)  # fmt: skip
from rocksalt.logstash.shipping.positions import DROPPED, GAPS
from rocksalt.logstash.shipping.steps import NOTHING, Step

SCAN = 1.0
"""Seconds from one look for new files to the next."""
UNFINISHED = 60.0
"""Seconds that a line without its end may take, and that a file which was deleted is kept."""
JOIN = 1.0
"""Seconds in which a record of several lines has to be complete."""
_CHUNK, _BEFORE = 65_536, 16_384


class Remember(Protocol):
    """Writes a position and counts that hold at once, whatever happens to lines."""

    def __call__(
        self, source: str, position: Any, counts: Mapping[str, int] = NOTHING, /
    ) -> None: ...


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
        self._told: dict[str, int] = {}
        self._lost: deque[Iterator[Step]] = deque()
        self._problems: dict[str, dict[str, str]] = {}

    def start(self, positions: Mapping[str, Any], now: float) -> None:
        """Goes to the positions; those whose file is gone are gaps."""
        known = {it.removeprefix(PREFIX): at for it, at in positions.items() if at and _is_file(it)}
        first = not positions
        self._lost.clear()
        self._maker.restart()
        for generation in [it for it in self.files if it not in known]:
            os.close(self.files.pop(generation).handle)
        missing = []
        for generation, position in known.items():
            path = position[1]["path"]
            self._told[path] = max(self._told.get(path, 0), rotation.written(position))
            if not self._again(generation, position, now):
                missing.append((generation, position))
        for generation, position in sorted(missing, key=_when, reverse=True):
            counts = self._ended(position, now)
            self._lost.append(iter((Step(PREFIX + generation, None, (), 0, counts),)))
        for position in known.values():
            if rotation.was_empty(position):
                self._between(position, now)
        self._scan(now, first)

    def _again(self, generation: str, position: Any, now: float) -> bool:
        """Goes to a position; False if its file is gone."""
        found = self.files.get(generation) or rotation.again(generation, position, self._keys)
        if not found:
            return False
        found.keep, found.until = max(found.keep, found.start), 0
        found.start, found.buffer, found.grew = position[0], bytearray(), now
        self._resume(found)
        self.files[generation] = found
        return True

    def _resume(self, file: File) -> None:
        """A private key may have begun before the place that a file is read from."""
        begin = max(file.start - _BEFORE, 0)
        with contextlib.suppress(OSError):
            before = os.pread(file.handle, file.start - begin, begin)
            self._maker.resume(file.generation, before)

    @property
    def _keys(self) -> set[tuple[int, int]]:
        return {it.key for it in self.files.values()}

    def scan(self, now: float) -> None:
        """Looks for new, renamed and deleted files, where it is time for that."""
        if now >= self._scan_at:
            self._scan(now, False)

    def _scan(self, now: float, first: bool) -> None:
        self._scan_at = now + SCAN
        self._problems = {}
        there = {it.key: it for it in self.files.values()}
        seen = set()
        for pattern, dataset in self._globs.items():
            for path in sorted(glob.glob(pattern)):
                key = None if covered(path, self._ignore) else self._key(path, dataset)
                if key is None or key in seen:
                    continue
                if key not in there:
                    made = self._opened(path, path, dataset, now, first)
                    if not made:
                        continue
                    self._follow(made)
                seen.add(key)
        renamed = [it for key, it in there.items() if key not in seen and not it.gone]
        for key, file in there.items():
            file.gone = key not in seen
        for file in renamed:
            file.since = now
            self._between([file.state[0], file.meta], now)

    def _key(self, path: str, dataset: str) -> tuple[int, int] | None:
        """What a file is told by; None for what is no file."""
        try:
            state = os.stat(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._problems[path] = _problem(dataset, error)
            return None
        return (state.st_dev, state.st_ino) if stat.S_ISREG(state.st_mode) else None

    def _opened(
        self, path: str, known: str, dataset: str, now: float, first: bool = False
    ) -> File | None:
        try:
            made = opened(path, known, dataset)
            made.start = beginning(made) if first else 0
        except FileNotFoundError:
            return None
        except OSError as error:
            self._problems[path] = _problem(dataset, error)
            return None
        made.grew = now
        return made

    def _follow(self, file: File) -> None:
        self.files[file.generation] = file
        self._remember(file.source, file.position())

    def _ended(self, position: Any, now: float) -> Mapping[str, int]:
        """What is missing behind the position of a file that is no more."""
        whole = rotation.compressed(position)
        self._between(position, now, 0 if whole else 1)
        return NOTHING if whole else {GAPS: 1}

    def _between(self, position: Any, now: float, told: int = 0) -> None:
        """A file was rotated: follows those too that had its name since, and lost it unseen. Of one
        that is compressed by now, only that it was there can be told; a compressed file has the
        time of what is in it. So many of them are ``told`` already.
        """
        path, dataset = position[1]["path"], position[1]["dataset"]
        last = rotation.written(position)
        near = (it.state[1] for it in self.files.values() if it.gone and it.path == path)
        since = max(last, self._told.get(path, 0), *near)
        unread = []
        for name, state in rotation.rotated(path, packed=False):
            if (state.st_dev, state.st_ino) in self._keys or state.st_mtime_ns < last:
                continue
            if made := self._opened(name, path, dataset, now):
                made.gone, made.since = True, now
                self._follow(made)
            elif state.st_mtime_ns > since:
                unread.append(state.st_mtime_ns)
        unread += rotation.packed_since(position, since)
        self._told[path] = max((since, *unread))
        if len(unread) > told:
            self._remember(PREFIX + path, None, {GAPS: len(unread) - told})

    @property
    def pending(self) -> bool:
        """Whether there is something to take already."""
        files = self.files.values()
        unread = any(
            (it.read < it.size and not it.problem) or (it.buffer and not it.hungry) for it in files
        )
        return bool(self._lost) or unread

    def take(self, count: int, now: float) -> Iterator[Step]:
        """At most so many steps, from all files in turn: who was asked comes last."""
        for step in self._of_lost(count):
            yield step
            count -= 1
        for file in list(self.files.values()):
            if count <= 0:
                return
            self.files[file.generation] = self.files.pop(file.generation)
            share = max(count // 2, 8)
            for step in self._of(file, share, now):
                yield step
                count -= 1

    def _of_lost(self, count: int) -> Iterator[Step]:
        """What there is to say of files that are no more; who breaks off gets the rest later."""
        while self._lost and count > 0:
            if step := next(self._lost[0], None):
                yield step
                count -= 1
            else:
                self._lost.popleft()

    def _of(self, file: File, count: int, now: float) -> Iterator[Step]:
        file.problem = ""
        try:
            if self._refill(file, now):
                yield from self._records(file, count, now)
            else:
                self._replaced(file, now)
                yield from self._of_lost(count)
        except OSError as error:
            file.problem = _sentence(error)

    def _records(self, file: File, count: int, now: float) -> Iterator[Step]:
        starts = STARTS.get(file.dataset)
        idle = now - file.grew
        whole = file.read >= file.size
        final = whole and idle > JOIN
        ended = whole and (idle > UNFINISHED or (file.gone and idle > JOIN))
        file.hungry = False
        while count > 0 and (length := file.length(starts, final, ended)):
            yield self._step(file, length)
            count -= 1
        file.hungry = count > 0
        if file.gone and whole and not file.buffer and idle > UNFINISHED and self._left(file):
            os.close(file.handle)
            del self.files[file.generation]
            yield Step(file.source, None)

    def _left(self, old: File) -> bool:
        """Whether nobody writes to a rotated file any more: it is deleted, or it was the turn of
        the next one.
        """
        near = (it for it in self.files.values() if it.gone and it.path == old.path)
        return os.fstat(old.handle).st_nlink == 0 or any(it.since > old.since for it in near)

    def _step(self, file: File, length: int) -> Step:
        data = bytes(file.buffer[:length])
        begin = file.start
        del file.buffer[:length]
        file.start += length
        if file.keep <= begin < file.until:
            return Step(file.source, file.position(), (), 0, {DROPPED: 1})
        if not data.strip():
            return Step(file.source, file.position())
        lines = self._maker.of_file(file.dataset, file.path, (file.generation, begin), data)
        return Step(file.source, file.position(), tuple(lines), micros())

    def _refill(self, file: File, now: float) -> bool:
        """Reads on; False if the file was cut off or written anew."""
        if not file.look(now):
            return False
        if file.read < file.size and (file.hungry or len(file.buffer) < _CHUNK):
            file.buffer += os.pread(file.handle, _CHUNK, file.read)
        return True

    def _replaced(self, file: File, now: float) -> None:
        """The file begins anew. What it had is read on in its copy; without one, what was read and
        not sent goes first, and nobody knows what came behind that.
        """
        del self.files[file.generation]
        seen = [file.read, file.meta]
        made = opened_as(file.handle, file.path, file.dataset)
        made.grew, made.gone, made.since = now, file.gone, file.since
        self._follow(made)
        if old := rotation.copy(file.generation, seen, self._keys):
            old.start, old.buffer, old.keep = file.start, file.buffer, max(file.keep, old.keep)
            old.grew, old.gone, old.since, old.ends = now, True, now, file.ends
            self.files[old.generation] = old
            self._between(seen, now)
        else:
            self._lost.append(self._rest(file, self._ended(seen, now)))

    def _rest(self, file: File, counts: Mapping[str, int]) -> Iterator[Step]:
        """What was read of a file that is no more, and what is missing after that."""
        while file.buffer:
            yield self._step(file, record(file.buffer, None, True, True))
        yield Step(file.source, None, (), 0, counts)

    def waiting(self, positions: Mapping[str, Any]) -> dict[str, int]:
        """About how many lines each path has behind its position."""
        found: dict[str, int] = {}
        for file in self.files.values():
            offset = (positions.get(file.source) or [0])[0]
            size = file.state[0]
            left = max(size - offset, 0)
            lines = -(-left // average(file, offset, size)) if left else 0
            found[file.path] = found.get(file.path, 0) + lines
        return found

    def limit(self, most: int) -> None:
        """Passes over the oldest lines of files in which more wait than may."""
        for file in self.files.values():
            file.keep = max(file.keep, file.start)
            if file.state[0] - file.keep > most:
                file.until = max(file.until, newest(file, most))

    def state(self, positions: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """What the status says of each file; ``problem`` is why one is not read."""
        found: dict[str, dict[str, Any]] = {}
        for file in sorted(self.files.values(), key=lambda it: not it.gone):
            offset = (positions.get(file.source) or [0])[0]
            said = {"dataset": file.dataset, "offset": offset, "size": file.state[0]}
            found[file.path] = said | ({"problem": file.problem} if file.problem else {})
        return {**found, **self._problems}

    def close(self) -> None:
        """Closes all files."""
        for file in self.files.values():
            os.close(file.handle)
        self.files.clear()


def _sentence(error: OSError) -> str:
    return error.strerror or str(error)


def _problem(dataset: str, error: OSError) -> dict[str, str]:
    return {"dataset": dataset, "problem": _sentence(error)}


def _when(missing: tuple[str, Any]) -> int:
    return rotation.written(missing[1])


def _is_file(source: str) -> bool:
    return source.startswith(PREFIX)

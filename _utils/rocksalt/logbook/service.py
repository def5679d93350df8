"""The service: three threads that follow the bus, the lines of the API, and the trees; one book."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rocksalt import __version__
from rocksalt.errors import RocksaltError
from rocksalt.logbook import accepted, apilog, follow, gaps, jobcache, records, watching, witnessing
from rocksalt.logbook.arguments import Arguments
from rocksalt.logbook.book import Book
from rocksalt.logbook.bounds import Bounds
from rocksalt.logbook.telling import HEADS, STATUS
from rocksalt.logstash.receiving import store
from rocksalt.logstash.shipping.notify import tell

_MOMENT = 1.0
_TURN = 1.0
"""Seconds for which a gap is filled before the next events."""
_DONE = object()
_TOGETHER = 1000
"""Lines of the API after which it is kept how far they were read."""


class Service:
    """``settings`` are those in logbook.json, ``state`` is the folder for what is known."""

    def __init__(self, settings: Mapping[str, Any], state: Path):
        self._settings = settings
        self._stop = threading.Event()
        self._error = ""
        self._opts = follow.options(settings["config"])
        self._arguments = Arguments(settings["mask"])
        folder = Path(settings["folder"])
        self._book = Book(folder, settings["name"], state / STATUS, self._fail)
        self._bounds = Bounds(folder, self._book.time)
        self._problems: dict[str, str] = {}
        self._kept = state / "trees.json"
        self._trees = watching.Watcher(self._roots(), self._kept)
        self._api = apilog.Tail(settings["api_log"], state / "api.json")
        keys = accepted.folder(self._opts)
        self._keys = accepted.Keys(keys, state / accepted.KEPT, store.now)
        self._keys.replay(self._book.memory.decided)
        self._watch = witnessing.Watch(state / HEADS, store.now) if settings["witness"] else None
        self._cache: jobcache.Cache | None = None

    def run(self) -> None:
        """Until :meth:`stop`. :class:`RocksaltError` if it has to end before."""
        self._start()
        every = float(self._settings.get("watch_seconds", 60))
        workers = [self._worker(self._look, every), self._worker(self._read_api, _MOMENT)]
        try:
            self._follow()
        except (RocksaltError, OSError) as error:
            self._fail(str(error))
        for worker in workers:
            worker.join()
        if self._error:
            raise RocksaltError(self._error)
        self._own("stop")
        self._book.close()

    def stop(self) -> None:
        """Lets it end within a second or two."""
        self._stop.set()

    def _fail(self, sentence: str) -> None:
        self._error = self._error or sentence
        self._stop.set()

    def _worker(self, work: Callable[[], None], every: float) -> threading.Thread:
        def run() -> None:
            try:
                while not self._stop.is_set():
                    work()
                    self._stop.wait(every)
                work()
            except Exception as error:
                self._fail(f"{type(error).__name__}: {error}")

        worker = threading.Thread(target=run, daemon=True)
        worker.start()
        return worker

    def _own(self, kind: str, **more: Any) -> None:
        """A record about the logbook itself."""
        now = self._book.time()
        self._book.add({"time": now, "kind": kind, **more, "event.id": f"{kind}/{now}"})
        self._book.sync()

    def _start(self) -> None:
        gap, memory = self._book.memory.gap, self._book.memory
        stopped = str(memory.last.get("time") if memory.last.get("kind") == "stop" else "")
        since = str(gap.get("since") or stopped or self._book.heard)
        self._own(
            "start", since=since, clean=bool(stopped or not since), pid=os.getpid(),
            version=__version__,
        )  # fmt: skip

    def _follow(self) -> None:
        """Events, and between two connections what was missed."""
        bus = follow.Bus(self._opts)
        tell("READY=1")
        while not self._stop.is_set():
            if not bus.connect():
                self._book.tell(connected=False)
                self._tell_bounds()
                self._stop.wait(_MOMENT)
                continue
            heard = self._book.time()
            self._book.tell(connected=True, heard=heard)
            self._renew()
            filling = self._fill()
            try:
                while not self._stop.is_set():
                    wait = 0.0 if _goes_on(filling) else follow.WAIT
                    heard = self._read(bus, wait)
                    self._book.tell(heard=heard)
            except follow.Lost as error:
                self._own("lost", since=self._bounds.since or heard, why=str(error))
                self._bounds.since = ""
        bus.close()

    def _roots(self) -> dict[str, list[str]]:
        return watching.roots(self._opts, self._settings.get("watch") or {})

    def _renew(self) -> None:
        """A master that comes back may have another configuration, with other trees."""
        before, self._opts = self._roots(), follow.options(self._settings["config"])
        self._cache = None
        if self._roots() != before:
            self._trees = watching.Watcher(self._roots(), self._kept)

    def _read(self, bus: follow.Bus, wait: float = follow.WAIT) -> str:
        """Keeps the next events; up to when all of them were heard, which is not now where they
        waited.
        """
        now = self._book.time()
        stamp: object = None
        for tag, data in bus.read(wait):
            stamp = stamp if isinstance(data, str) else data.get("_stamp")
            self._keep(tag, data)
        if not self._tell_bounds() and self._bounds.since:
            raise follow.Lost("the disk had no room left for the logbook")
        return records.moment(stamp) or now

    def _tell_bounds(self) -> str:
        """Keeps what was left out, and has the status tell the problem, which is given."""
        for record in self._bounds.told():
            self._book.add(record)
        problem = self._bounds.problem()
        self._tell_problem("room", problem)
        return problem

    def _tell_problem(self, about: str, problem: str) -> None:
        """Has the status tell it, with those about other things."""
        self._problems[about] = problem
        self._book.tell(problem="; ".join(filter(None, self._problems.copy().values())))

    def _keep(self, tag: str, data: Mapping[str, Any] | str) -> None:
        """``data`` is a text where it cannot be read: why."""
        try:
            found = (
                records.unread(tag, data) if isinstance(data, str)
                else records.record(tag, data, self._arguments)
            )  # fmt: skip
        except Exception as error:
            # Minions send events: none of them may end the logbook.
            found = records.odd(tag, {}, f"{type(error).__name__}: {error}"[:500])
        if found is None or (found["kind"] == "auth" and not self._book.memory.is_news(found)):
            return
        if self._bounds.admits(found, self._book.memory):
            self._book.add(self._bounds.fitted(found, self._book.memory))
            self._keys.note(found)

    def _fill(self) -> Iterator[None]:
        """Names the gap that ends now, after what the cache has of it. It goes on between events,
        which would be lost if they had to wait.
        """
        opened = self._book.memory.gap
        since = str(opened.get("since") or "")
        if not opened:
            return
        until, began = self._book.time(), time.monotonic()
        counts, error = dict[str, int](), {}
        try:
            if since:
                self._need_room()
                self._cache = self._cache or jobcache.Cache(self._opts)
                for found in gaps.fill(self._book, self._cache, since, self._arguments):
                    counts = found
                    self._need_room()
                    yield
        except Exception as failed:
            # Whatever a returner raises, what comes now has to be kept.
            error = {"error": f"the job cache cannot be read: {type(failed).__name__}: {failed}"}
            if self._bounds.is_full():
                self._bounds.since = self._bounds.since or since
        why = str(opened.get("why") or "the logbook was not running")
        self._own(
            "gap", since=since, until=until, why=why, filled=counts,
            seconds=round(time.monotonic() - began, 3), **error,
        )  # fmt: skip

    def _need_room(self) -> None:
        if self._bounds.is_full():
            raise RocksaltError("the disk has no room left for what is in it")

    def _look(self) -> None:
        if self._bounds.is_full():
            # It is found later as well.
            return
        trees = self._trees
        late = self._watch.look() if self._watch else ()
        for found in (*trees.look(), *self._keys.look(), *late):
            self._book.add(found)
        self._book.sync()
        trees.keep()
        self._tell_problem("trees", trees.problem())
        self._keys.keep()

    def _read_api(self) -> None:
        # Jobs are kept all the same; the status says it.
        problem = ""
        try:
            for number, (line, identity) in enumerate(self._api.lines(), 1):
                if self._bounds.is_full():
                    self._api.rewind()
                    return
                found = apilog.record(line, identity, self._arguments)
                self._book.add(self._bounds.fitted(found, self._book.memory))
                if number % _TOGETHER == 0:
                    self._book.sync()
                    self._api.keep()
        except apilog.Unreadable as error:
            problem = f"the log of the API cannot be read: {error}"
        if self._api.missed:
            self._own("missed", why=self._api.missed)
            self._api.missed = ""
        self._tell_problem("api", problem)
        self._book.sync()
        self._api.keep()


def _goes_on(filling: Iterator[object]) -> bool:
    """Fills a gap for a moment; whether there is more to do."""
    end = time.monotonic() + _TURN
    while next(filling, _DONE) is not _DONE:
        if time.monotonic() >= end:
            return True
    return False

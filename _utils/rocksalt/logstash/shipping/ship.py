"""The loop: takes lines while a log server has them, and keeps account of both."""

from __future__ import annotations

import os
import select
import selectors
import time
from collections.abc import Sequence

from rocksalt.logstash.shipping import config as configuration
from rocksalt.logstash.shipping import journalctl, notify
from rocksalt.logstash.shipping.config import Config
from rocksalt.logstash.shipping.feed import COUNT, Feed
from rocksalt.logstash.shipping.link import Broken, Link
from rocksalt.logstash.shipping.positions import Positions
from rocksalt.logstash.shipping.servers import Servers
from rocksalt.logstash.shipping.status import Status
from rocksalt.logstash.shipping.window import Window

PATIENCE = 0.25
"""Seconds after which files are looked at again."""
FAREWELL = 2.0
"""Seconds to wait for acknowledgements at the end."""
_NAMING = 0.05


class Shipper:
    """Ships until :meth:`stop`; ``folder`` has the positions and the status."""

    def __init__(self, config: Config, folder: str, command: Sequence[str] = journalctl.COMMAND):
        now = time.monotonic()
        self._config = config
        self._positions = Positions(os.path.join(folder, "positions.json"), now)
        self._feed = Feed(config, self._positions, command)
        self._servers = Servers(config)
        self._window = Window()
        self._status = Status(os.path.join(folder, "status.json"), config)
        self._link: Link | None = None
        self._acknowledged = 0
        self._limit_at = 0.0
        self._stopping = False
        if self._positions.problem:
            notify.say(self._positions.problem)

    def stop(self) -> None:
        """Ends the loop soon."""
        self._stopping = True

    def run(self) -> None:
        """The loop, and a clean end."""
        notify.tell("READY=1")
        while not self._stopping:
            self.turn(PATIENCE)
        notify.tell("STOPPING=1")
        self._finish()

    def turn(self, patience: float) -> None:
        """One round; waits at most so many seconds for something to happen."""
        now = time.monotonic()
        if self._servers.step(now):
            self._begin(now)
        if self._link and self._link is not self._servers.current:
            self._end()
        if self._link:
            self._exchange(self._link, now)
        self._report(now)
        self._wait(patience)

    def _begin(self, now: float) -> None:
        """Over a new connection goes all that does not count yet."""
        self._end()
        self._link = self._servers.current
        assert self._link
        self._status.connected(self._link)
        self._status.resent += self._positions.rewind()
        self._acknowledged = self._window.acknowledged
        self._feed.start(now)

    def _end(self) -> None:
        if self._link:
            self._status.resent += self._window.forget()
            self._status.disconnected()
            self._feed.stop()
            self._link = None

    def _exchange(self, link: Link, now: float) -> None:
        """Lines out, acknowledgements in."""
        try:
            self._window.answered(link.step(now), now)
            if self._window.silent(now):
                raise Broken(f"{link.server} does not acknowledge lines")
            if room := self._window.room:
                self._take(link, room, now)
                self._window.answered(link.step(now), now)
        except Broken as error:
            self._settle(now)
            worked = self._window.acknowledged > self._acknowledged
            self._servers.lost(str(error), now, worked)
            self._end()
            return
        self._settle(now)
        self._positions.settle(now, self._window.proved)

    def _take(self, link: Link, room: int, now: float) -> None:
        if self._config.at_limit == configuration.DROP and now >= self._limit_at:
            self._limit_at = now + COUNT
            if self._feed.pending:
                self._feed.limit()
        for step in self._feed.take(room, now, lambda: self._window.full):
            self._window.add(link, step, now)

    def _settle(self, now: float) -> None:
        for step in self._window.done():
            self._positions.note(now, step)
            self._feed.arrived(step)
            if step.mark:
                self._status.arrived(step)

    def _report(self, now: float) -> None:
        if not self._status.due(now):
            return
        drained = bool(self._link) and not self._window and not self._feed.pending
        waiting = self._feed.waiting(now, drained)
        oldest = self._window.oldest or self._feed.oldest
        found = (self._servers.error, self._positions.problem, self._feed.problem(now))
        error = "; ".join(it for it in found if it)
        self._status.write(
            now,
            {
                **{"error": error, "waiting": waiting, "sent": self._window.sent},
                **{"acknowledged": self._window.acknowledged, **self._positions.seen},
                "sources": dict(self._feed.state()),
            },
            oldest,
        )
        notify.tell(f"WATCHDOG=1\nSTATUS={self._status.sentence()}")

    def _wait(self, patience: float) -> None:
        feed, journal, poll = self._feed, self._feed.journal, select.poll()
        idle = self._link is None or not self._window.room
        if not idle and feed.pending:
            patience = 0
        for link in self._servers.links():
            handle, events = link.interest()
            if handle < 0:
                patience = min(patience, _NAMING)
                continue
            read, write = events & selectors.EVENT_READ, events & selectors.EVENT_WRITE
            poll.register(handle, (read and select.POLLIN) | (write and select.POLLOUT))
        if not idle and journal.follower.hungry:
            poll.register(journal.follower.fileno(), select.POLLIN)
        ready = {handle for handle, _ in poll.poll(patience * 1000)}
        if not idle and (journal.follower.fileno() in ready or not journal.follower.running):
            journal.fill(time.monotonic())

    def _finish(self) -> None:
        """Waits a little for what is under way."""
        end = time.monotonic() + FAREWELL
        while self._link and self._window and time.monotonic() < end:
            try:
                self._window.answered(self._link.step(time.monotonic()), time.monotonic())
            except Broken:
                break
            self._settle(time.monotonic())
            time.sleep(0.01)
        self._positions.save(time.monotonic())
        self._feed.close()
        self._servers.close()

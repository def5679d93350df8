"""The events of the master, from its bus; from the end of a connection on, some are missing."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import salt._logging
import salt.config
import salt.utils.event

try:
    from salt.ext.tornado.ioloop import IOLoop
except ImportError:
    # Salt 3008 has none of its own.
    from tornado.ioloop import IOLoop

from rocksalt.errors import RocksaltError

Event = tuple[str, Mapping[str, Any]]
WAIT = 1.0
"""Seconds to wait for events, and for a master that starts."""
TOGETHER = 0.05
"""Seconds in which events are collected: to wake up for each costs more than all that is done."""
_MOST = 2000
"""Events that are collected."""


class Lost(RocksaltError):
    """The bus was left, or the master ended."""


def options(path: str) -> dict[str, Any]:
    """The configuration of the master whose file that is; :class:`RocksaltError` if it is none, for
    Salt would take its defaults.
    """
    if not os.path.isfile(path):
        raise RocksaltError(f"the master's configuration {path} is not there")
    # Salt keeps all that it would log, for handlers that only its own programs set up.
    salt._logging.shutdown_temp_handler()
    logging.root.setLevel(logging.WARNING)
    return dict(salt.config.master_config(path))


class Bus:
    """A connection to the bus of the master with these options.

    Salt connects again by itself, without a word about what was missed: here that is the end.
    """

    def __init__(self, opts: Mapping[str, Any]):
        self._opts = opts
        self._loop = IOLoop()
        self._bus: Any = None
        self._stream: Any = None
        self._events: list[bytes] = []
        self._ended = False

    def connect(self) -> bool:
        """Whether it is connected by now: False while there is no master."""
        self.close()
        self._ended = False
        self._bus = salt.utils.event.get_master_event(
            self._opts, self._opts["sock_dir"], listen=False, io_loop=self._loop
        )
        self._loop.add_callback(self._listen)
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            self._run(TOGETHER)
            self._stream = _stream(self._bus)
            if self._stream is not None:
                return True
        self.close()
        return False

    def read(self) -> list[Event]:
        """The next events; none where there are none for a moment. :class:`Lost` when the
        connection ended, after all that came before.
        """
        if not self._events:
            if self._ended or _stream(self._bus) is not self._stream:
                raise Lost("the event bus of the master ended")
            self._run(WAIT)
        raw, self._events = self._events, []
        return [event for it in raw if (event := self._unpacked(it))]

    def close(self) -> None:
        """Leaves the bus."""
        if self._bus is not None:
            with contextlib.suppress(Exception):
                self._bus.destroy()
            self._run(0)
        self._bus = self._stream = None
        self._events = []

    def _listen(self) -> None:
        self._bus.set_event_handler(self._take)
        self._bus.subscriber.disconnect_callback = self._end

    async def _take(self, raw: bytes) -> None:
        self._events.append(raw)
        if len(self._events) == 1:
            self._loop.call_later(TOGETHER, self._loop.stop)
        elif len(self._events) >= _MOST:
            self._loop.stop()

    async def _end(self, *_: object) -> None:
        self._ended = True
        self._loop.stop()

    def _run(self, seconds: float) -> None:
        timeout = self._loop.call_later(seconds, self._loop.stop)
        self._loop.start()
        self._loop.remove_timeout(timeout)

    def _unpacked(self, raw: bytes) -> Event | None:
        try:
            tag, data = self._bus.unpack(raw)
        except Exception:
            # Half an event is none; Salt's own listeners pass it over as well.
            return None
        return str(tag), data if isinstance(data, Mapping) else {}


def _stream(bus: Any) -> Any:
    """The open stream below a connection, by its name in Salt 3006, or in 3008; None for none."""
    subscriber = bus.subscriber
    found = getattr(subscriber, "stream", None) or getattr(subscriber, "_stream", None)
    return None if found is None or found.closed() or found._connecting else found

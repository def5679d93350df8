"""The events of the master, from its bus; from the end of a connection on, some are missing."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
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
from rocksalt.logbook import packed

Event = tuple[str, Mapping[str, Any] | str]
"""A tag and what came with it, or why that cannot be read."""
WAIT = 1.0
"""Seconds to wait for events, and for a master that starts."""
_END = salt.utils.event.TAGEND.encode()
TOGETHER = 0.05
"""Seconds in which events are collected: to wake up for each costs more than all that is done."""
_MOST, _LARGEST = 2000, 8 << 20
"""Events that are collected, and their bytes."""


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
        self._size = 0
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

    def read(self, wait: float = WAIT) -> Iterator[Event]:
        """The next events; none where there are none for so many seconds. :class:`Lost` when the
        connection ended, after all that came before.
        """
        if not self._events:
            if self._ended or _stream(self._bus) is not self._stream:
                raise Lost("the event bus of the master ended")
            self._run(max(wait, TOGETHER))
        raw, self._events, self._size = self._events, [], 0
        # One by one: unpacked they are many times as large.
        return map(unpacked, raw)

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
        self._size += len(raw)
        if len(self._events) == 1:
            self._loop.call_later(TOGETHER, self._loop.stop)
        elif len(self._events) >= _MOST or self._size >= _LARGEST:
            self._loop.stop()

    async def _end(self, *_: object) -> None:
        self._ended = True
        self._loop.stop()

    def _run(self, seconds: float) -> None:
        timeout = self._loop.call_later(seconds, self._loop.stop)
        self._loop.start()
        self._loop.remove_timeout(timeout)


def unpacked(raw: bytes) -> Event:
    """The event in what came from the bus. Its tag is plain text, whatever follows it."""
    tag, _, body = raw.partition(_END)
    name = tag.decode(errors="replace")
    try:
        data = packed.unpack(body)
    except packed.Unread as error:
        return name, f"{error}, sha256 {hashlib.sha256(body).hexdigest()}"
    return name, data if isinstance(data, Mapping) else {}


def _stream(bus: Any) -> Any:
    """The open stream below a connection, by its name in Salt 3006, or in 3008; None for none."""
    subscriber = bus.subscriber
    found = getattr(subscriber, "stream", None) or getattr(subscriber, "_stream", None)
    return None if found is None or found.closed() or found._connecting else found

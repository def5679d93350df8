"""The events of the master, from its bus; from the end of a connection on, some are missing."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import salt.config
import salt.utils.event

from rocksalt.errors import RocksaltError

Event = tuple[str, Mapping[str, Any]]
WAIT = 1.0
"""Seconds to wait for an event, and for a master that starts."""
ENDED = "the event bus of the master ended"


class Lost(RocksaltError):
    """The bus was left, or the master ended."""


def options(path: str) -> dict[str, Any]:
    """The configuration of the master whose file that is."""
    return dict(salt.config.master_config(path))


class Bus:
    """A connection to the bus of the master with these options."""

    def __init__(self, opts: Mapping[str, Any]):
        self._opts = opts
        self._event: Any = None
        self._stream: Any = None

    def connect(self) -> bool:
        """Whether it is connected by now: False while there is no master."""
        self.close()
        event = salt.utils.event.get_master_event(
            self._opts, self._opts["sock_dir"], listen=False, raise_errors=True
        )
        with contextlib.suppress(OSError):
            event.connect_pub(timeout=WAIT)
        stream = _stream(event)
        if stream is None or stream.closed():
            with contextlib.suppress(Exception):
                event.destroy()
            return False
        # Salt 3008 would wait for another master within a read, as long as that takes.
        event.subscriber.obj.disconnect_callback = _ended
        self._event, self._stream = event, stream
        return True

    def read(self) -> Event | None:
        """The next event; None where there is none for a moment. :class:`Lost` as soon as the
        connection ended, even if Salt made another one, which it does without a word.
        """
        try:
            found = self._event.get_event(wait=WAIT, full=True)
        except OSError:
            raise Lost(ENDED) from None
        if found is not None:
            data = found["data"]
            event = (str(found["tag"]), data if isinstance(data, Mapping) else {})
            if _stream(self._event) is self._stream:
                return event
        elif _stream(self._event) is self._stream and not self._stream.closed():
            return None
        raise Lost(ENDED)

    def close(self) -> None:
        """Leaves the bus."""
        if self._event is not None:
            with contextlib.suppress(Exception):
                self._event.destroy()
        self._event = self._stream = None


async def _ended(*_: object) -> None:
    raise Lost(ENDED)


def _stream(event: Any) -> Any:
    """The stream below a connection, by its name in Salt 3006, or in 3008."""
    inner = getattr(event.subscriber, "obj", None)
    return getattr(inner, "stream", None) or getattr(inner, "_stream", None)

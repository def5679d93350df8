"""Who is logged in. The caller has a random id; the master's token never leaves this process."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Session:
    """A log-in: the user, the master's token and when that ends, in seconds since the epoch;
    the groups that the master knows the user by, and the hash of the password it was made with.
    """

    user: str
    token: str
    expire: float
    groups: tuple[str, ...] = ()
    hash: str = ""


class Sessions:
    """Log-ins by their ids, of which one user has at most ``most``; the oldest give way.

    They are kept by the hash of the id, so that the time of a look-up tells nothing about one.
    """

    def __init__(self, clock: Callable[[], float], most: int = 50):
        self._clock, self._most = clock, most
        self._lock = threading.Lock()
        self._held: dict[bytes, Session] = {}

    def open(self, session: Session) -> tuple[str, list[Session]]:
        """A new id for a log-in, never one that a caller chose, and those that gave way."""
        new = secrets.token_hex(32)
        with self._lock:
            now = self._clock()
            self._held = {key: it for key, it in self._held.items() if it.expire > now}
            own = [key for key, it in self._held.items() if it.user == session.user]
            gone = [self._held.pop(key) for key in own[: max(0, len(own) - self._most + 1)]]
            self._held[_key(new)] = session
        return new, gone

    def find(self, given: str) -> Session | None:
        """The log-in of this id, while it lasts."""
        if not _ID.fullmatch(given):
            return None
        with self._lock:
            found = self._held.get(_key(given))
            if found is not None and found.expire <= self._clock():
                del self._held[_key(given)]
                return None
            return found

    def close(self, given: str) -> None:
        """End a log-in, if it is one."""
        with self._lock:
            self._held.pop(_key(given), None)


def _key(given: str) -> bytes:
    return hashlib.sha256(given.encode()).digest()

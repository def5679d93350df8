"""How often log-ins may fail, by user and by address, and how much one user may do at a time."""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator

MORE = 20
PATIENCE = 10.0
"""Seconds that an attempt waits for others whose outcome decides whether it may go on."""


class Window:
    """What happened by key in the last ``seconds``, of which ``most`` are allowed.

    Of ``keys`` keys the latest are remembered. It is not safe between threads by itself.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float], keys: int = 10_000):
        self.most, self._seconds, self._clock, self._keys = most, seconds, clock, keys
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def count(self, key: str) -> int:
        """How often it happened within the window."""
        times = self._times.get(key)
        if times is None:
            return 0
        while times and times[0] <= self._clock() - self._seconds:
            times.popleft()
        if not times:
            del self._times[key]
        return len(times)

    def wait(self, key: str) -> float:
        """Seconds until it may happen again; 0 is now."""
        if self.count(key) < self.most:
            return 0
        return self._times[key][-self.most] + self._seconds - self._clock()

    def add(self, key: str) -> None:
        """It happened now."""
        times = self._times.setdefault(key, deque(maxlen=self.most))
        times.append(self._clock())
        self._times.move_to_end(key)
        while len(self._times) > self._keys:
            self._times.popitem(last=False)


class Attempts:
    """Failed log-ins, of which an address may have ``most``, and a user :data:`MORE` times as many
    from everywhere: a few would let anybody keep anybody out.

    Never more are under way than could fail, so many at once gain nothing.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float]):
        self._windows = Window(MORE * most, seconds, clock), Window(most, seconds, clock)
        self._under_way: dict[str, int] = {}
        self._changed = threading.Condition()

    def begin(self, user: str, source: str) -> float:
        """Start an attempt, which :meth:`end` has to end, or say in how many seconds (> 0) one
        may be started. Waits for attempts under way where their outcome decides.
        """
        keys = _keys(user, source)
        with self._changed:
            self._changed.wait_for(lambda: self._wait(keys) or not self._full(keys), PATIENCE)
            wait = self._wait(keys) or (1.0 if self._full(keys) else 0)
            if not wait:
                for key in keys:
                    self._under_way[key] = self._under_way.get(key, 0) + 1
            return wait

    def end(self, user: str, source: str, failed: bool) -> None:
        """The outcome of an attempt."""
        with self._changed:
            for key in _keys(user, source):
                self._under_way[key] -= 1
                if not self._under_way[key]:
                    del self._under_way[key]
            if failed:
                for window, key in zip(self._windows, _keys(user, source), strict=True):
                    window.add(key)
            self._changed.notify_all()

    def _wait(self, keys: tuple[str, str]) -> float:
        return max(window.wait(key) for window, key in zip(self._windows, keys, strict=True))

    def _full(self, keys: tuple[str, str]) -> bool:
        return any(
            window.count(key) + self._under_way.get(key, 0) >= window.most
            for window, key in zip(self._windows, keys, strict=True)
        )


class Busy:
    """Users with something under way, ``most`` of each at a time, so that one does not stop all."""

    def __init__(self, most: int):
        self._most = most
        self._lock = threading.Lock()
        self._under_way: Counter[str] = Counter()

    @contextlib.contextmanager
    def one(self, user: str) -> Iterator[bool]:
        """Whether one more of a user may go on, which then is under way."""
        with self._lock:
            may = self._under_way[user] < self._most
            self._under_way[user] += may
        try:
            yield may
        finally:
            with self._lock:
                self._under_way[user] -= may
                if not self._under_way[user]:
                    del self._under_way[user]


def network(source: str) -> str:
    """What an address counts as: itself, and in IPv6 the 64 bits that one customer has."""
    try:
        address = ipaddress.ip_address(source.split("%")[0])
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def _keys(user: str, source: str) -> tuple[str, str]:
    # A directory takes Alice for alice.
    return f"user {user.strip().casefold()}", f"from {network(source)}"

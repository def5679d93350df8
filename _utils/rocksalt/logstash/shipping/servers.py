"""Which log server has the lines: the first that answers, in order of preference."""

from __future__ import annotations

import random
from collections.abc import Callable

from rocksalt.logstash.shipping import link
from rocksalt.logstash.shipping.config import Config
from rocksalt.logstash.shipping.link import Broken, Link

RETURN, SELDOM = 60.0, 1800.0
"""Seconds after which a server before the present one is tried again; each time that it has taken
nothing they double, up to the second figure.
"""
LOOK = 5.0
"""Seconds after which files of certificates are looked at again."""
SHORTEST, LONGEST = 1.0, 30.0
"""Seconds to wait when no server answered, at first and at last."""


class Servers:
    """Keeps one connection, ``current``, and tries for a better one beside it, ``trial``. ``error``
    is the last sentence about either; it is empty once lines can be sent.
    """

    def __init__(
        self, config: Config, make: link.Factory = Link, jitter: Callable[[], float] = random.random
    ):
        self._config, self._make, self._jitter = config, make, jitter
        self.current: Link | None = None
        self.trial: Link | None = None
        self.error = ""
        self._next, self._not_before, self._pause = 0, 0.0, SHORTEST
        self._look_at = 0.0
        self._return_at: dict[int, float] = {}
        self._away: dict[int, float] = {}
        self._untried: list[int] = []

    def links(self) -> list[Link]:
        """The connections to wait for."""
        return [it for it in (self.current, self.trial) if it]

    def lost(self, error: str, now: float, worked: bool) -> None:
        """The present connection is gone, or is to go: the next server is tried at once. ``worked``
        is whether it took lines.
        """
        assert self.current
        index = self._config.servers.index(self.current.server)
        if worked:
            self._away.pop(index, None)
        elif self.current.ready:
            self._away[index] = min(2 * self._away.get(index, RETURN), SELDOM)
        self.current.close()
        self.current, self.error = None, error
        self._advance(index + 1, now, worked)

    def _advance(self, index: int, now: float, worked: bool) -> None:
        """After the last server comes a pause, which grows unless a server worked."""
        if worked:
            self._pause = SHORTEST
        self._next = index
        if index >= len(self._config.servers):
            self._next = 0
            self._not_before = now + self._pause * (0.5 + self._jitter() / 2)
            self._pause = min(self._pause * 2, LONGEST)

    def step(self, now: float) -> bool:
        """Goes on with what is not ready; whether there is a new connection for lines."""
        if self.current and self.current.ready:
            return self._better(now)
        self._drop_trial()
        if not self.current:
            if now < self._not_before:
                return False
            self._begin(now)
        return bool(self.current) and self._ready(now)

    def _begin(self, now: float) -> None:
        try:
            self.current = self._make(self._config.servers[self._next], self._config, now)
        except (Broken, OSError) as error:
            self.error = str(error)
            self._advance(self._next + 1, now, False)

    def _ready(self, now: float) -> bool:
        assert self.current
        try:
            self.current.step(now)
        except Broken as error:
            self.lost(str(error), now, False)
            return False
        if self.current.ready:
            self._settled(now)
        return self.current.ready

    def _settled(self, now: float) -> None:
        self.error = ""
        self._look_at = now + LOOK
        self._return_at = {
            index: now + self._away.get(index, RETURN) for index in range(len(self._config.servers))
        }
        self._untried = []

    def _better(self, now: float) -> bool:
        """Tries servers that are preferred, and the same one with a renewed certificate."""
        assert self.current
        if not self.trial and not self._propose(now):
            return False
        try:
            assert self.trial
            self.trial.step(now)
        except Broken as error:
            self.error = str(error)
            self._drop_trial()
            return False
        if not self.trial.ready:
            return False
        self.current.close()
        self.current, self.trial = self.trial, None
        self._settled(now)
        return True

    def _propose(self, now: float) -> bool:
        assert self.current
        servers = self._config.servers
        index = servers.index(self.current.server)
        for other in range(index):
            if now >= self._return_at[other]:
                self._return_at[other] = now + self._away.get(other, RETURN)
                self._untried.append(other)
        if now >= self._look_at:
            self._look_at = now + LOOK
            if link.stamps(self._config) != self.current.stamps and index not in self._untried:
                self._untried.append(index)
        if not self._untried:
            return False
        try:
            self.trial = self._make(servers[self._untried.pop(0)], self._config, now)
        except (Broken, OSError) as error:
            self.error = str(error)
        return self.trial is not None

    def _drop_trial(self) -> None:
        if self.trial:
            self.trial.close()
            self.trial = None

    def close(self) -> None:
        """Ends all connections."""
        for it in self.links():
            it.close()
        self.current = self.trial = None

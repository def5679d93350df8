"""rocksalt.logstash.shipping.servers: which log server is used, with links that a test moves."""

from __future__ import annotations

import itertools

import pytest

from rocksalt.logstash.shipping import servers
from rocksalt.logstash.shipping.config import Config, Server
from rocksalt.logstash.shipping.link import Broken
from rocksalt.logstash.shipping.servers import LOOK, RETURN, SELDOM, Servers

FIRST, SECOND = Server("10.0.0.1", 2601, "logs1"), Server("10.0.0.2", 2601, "logs2")


class FakeLink:
    def __init__(self, world, server, now):
        self.world, self.server, self.ready, self.closed = world, server, False, False
        self.stamps = world.stamps

    def step(self, now):
        if self.server in self.world.down:
            raise Broken(f"{self.server} is down")
        self.ready = True
        return []

    def close(self):
        self.closed = True


class World:
    """Servers that are up or down, and the time."""

    def __init__(self, monkeypatch, *names):
        self.down: set[Server] = set()
        self.made: list[str] = []
        self.stamps: tuple = (1,)
        self.now = 1000.0
        monkeypatch.setattr(servers.link, "stamps", lambda config: self.stamps)
        config = Config("web1", names or (FIRST, SECOND), "", "", "")
        self.servers = Servers(config, self.make, jitter=lambda: 1.0)

    def make(self, server, config, now):
        if isinstance(self.stamps, str):
            raise Broken(self.stamps)
        self.made.append(server.name)
        return FakeLink(self, server, now)

    def step(self, later=0.0):
        self.now += later
        return self.servers.step(self.now)

    @property
    def current(self):
        return self.servers.current and self.servers.current.server.name


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def test_the_first_that_answers_is_used(world):
    world.down = {FIRST}
    assert not world.step()
    assert world.servers.error == "logs1 (10.0.0.1:2601) is down"
    assert world.step()
    assert (world.current, world.servers.error) == ("logs2", "")
    assert not world.step()


def test_pauses_grow_while_nobody_answers(world):
    world.down = {FIRST, SECOND}
    tried = []
    for _ in range(1500):
        before = len(world.made)
        world.step(0.1)
        tried += [world.now] * (len(world.made) - before)
    rounds = tried[::2]
    pauses = [round(b - a) for a, b in itertools.pairwise(rounds)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert world.made[:4] == ["logs1", "logs2", "logs1", "logs2"]


def test_it_returns_to_the_first(world):
    world.down = {FIRST}
    world.step()
    world.step()
    second = world.servers.current
    assert not world.step(RETURN + 1)
    assert world.current == "logs2"
    world.down = set()
    assert not world.step(RETURN - 2)
    assert world.step(3)
    assert (world.current, second.closed) == ("logs1", True)
    assert world.made == ["logs1", "logs2", "logs1", "logs1"]
    assert not world.step(RETURN + 1)
    assert len(world.made) == 4


def test_one_that_takes_nothing_is_returned_to_less_and_less(world):
    away = []
    world.step()
    for _ in range(7):
        world.servers.lost("it takes nothing", world.now, False)
        world.step()
        assert world.current == "logs2"
        left = world.now
        while world.current == "logs2":
            world.step(1)
        away.append(round(world.now - left))
    assert away == [120, 240, 480, 960, SELDOM, SELDOM, SELDOM]
    world.servers.lost("it is gone", world.now, True)
    world.step()
    left = world.now
    while world.current == "logs2":
        world.step(1)
    assert round(world.now - left) == RETURN


def test_one_that_is_down_is_tried_as_often_as_ever(world):
    world.down = {FIRST}
    world.step()
    world.step()
    made = len(world.made)
    for _ in range(10):
        world.step(RETURN + 1)
    assert world.made[made:] == ["logs1"] * 10


def test_a_lost_connection_goes_to_the_next_at_once(world):
    world.step()
    world.servers.lost("it is gone", world.now, True)
    assert (world.current, world.servers.error) == (None, "it is gone")
    assert world.step()
    assert world.current == "logs2"


def test_one_server_alone_is_tried_after_a_pause(monkeypatch):
    world = World(monkeypatch, FIRST)
    world.step()
    world.servers.lost("it is gone", world.now, True)
    assert not world.step(0.9)
    assert world.step(0.2)


def test_one_that_takes_no_lines_is_not_tried_for_ever_at_once(monkeypatch):
    world = World(monkeypatch, FIRST)
    waits = []
    for _ in range(4):
        start = world.now
        while not world.step(0.1):
            pass
        waits.append(round(world.now - start))
        world.servers.lost("it takes nothing", world.now, False)
    assert waits == [0, 1, 2, 4]


def test_a_renewed_certificate_is_used_at_once(world):
    world.step()
    first = world.servers.current
    assert not world.step(LOOK + 1)
    world.stamps = (2,)
    assert world.step(LOOK + 1)
    assert (world.current, first.closed) == ("logs1", True)
    assert not world.step(LOOK + 1)


def test_a_broken_certificate_leaves_the_connection(world):
    world.step()
    world.stamps = "host.pem cannot be used"
    assert not world.step(LOOK + 1)
    assert (world.current, world.servers.error) == ("logs1", "host.pem cannot be used")

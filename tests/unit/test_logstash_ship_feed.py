"""rocksalt.logstash.shipping.feed: all sources, as the loop sees them."""

from __future__ import annotations

import os

import pytest

from rocksalt.logstash.shipping import config, files
from rocksalt.logstash.shipping.feed import Feed
from rocksalt.logstash.shipping.positions import Positions


class Process:
    """A shipper without a log server, on a host that is a folder."""

    def __init__(self, folder):
        settings = config.Config(
            *("web1", (config.Server("logs1", 1, "logs1"),), "", "", ""),
            **{"files": {f"{folder}/*.log": "x"}, "limit": 5, "at_limit": "drop"},
        )
        self.positions = Positions(f"{folder}/positions.json", 0.0)
        self.feed = Feed(settings, self.positions, ("true",))
        self.feed._probe_at = float("inf")

    def take(self, now=1.0, arrives=True):
        found = list(self.feed.take(400, now, lambda: False))
        for step in found if arrives else ():
            self.positions.note(now, step)
            self.feed.arrived(step)
        return found

    def end(self):
        self.positions.save(1.0)
        self.feed.close()


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", os.getuid())
    path = tmp_path / "a.log"
    path.write_text("")
    return path


def test_what_arrived_is_not_passed_over(tmp_path, log):
    first = Process(tmp_path)
    first.feed.start(0.0)
    log.write_text("x\n" * 50)
    assert len(first.take()) == 50
    first.end()
    for _ in range(2):
        again = Process(tmp_path)
        again.feed.start(10.0)
        assert sum(len(it.lines) for it in again.take(11.0, arrives=False)) == 50
        again.end()
    with log.open("a") as file:
        file.write("y\n" * 20)
    again = Process(tmp_path)
    again.feed.start(10.0)
    found = again.take(11.0)
    assert [it.counts.get("dropped", 0) for it in found] == [0] * 50 + [1] * 15 + [0] * 5
    again.end()

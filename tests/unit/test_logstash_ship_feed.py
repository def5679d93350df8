"""rocksalt.logstash.shipping.feed: all sources, as the loop sees them."""

from __future__ import annotations

import os

import pytest

from rocksalt.logstash.shipping import config, feed, files
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


def test_files_wait_before_there_is_a_log_server(tmp_path, log):
    log.write_text("x\n" * 1000)
    it = Process(tmp_path)
    assert it.feed.waiting(0.0, False) == 1000
    assert it.feed.oldest
    assert it.feed.state()[str(log)]["waiting"] == 1000
    it.feed.start(0.0)
    steps = [step for now in range(1, 12) for step in it.take(float(now))]
    assert (len(steps), len([step for step in steps if step.lines])) == (1000, 5)
    it.end()


@pytest.mark.parametrize("connected", [False, True])
def test_files_are_found_without_a_log_server(tmp_path, log, connected):
    it = Process(tmp_path)
    if connected:
        it.feed.start(0.0)
        it.feed.stop()
    it.feed.waiting(0.0, False)
    (tmp_path / "b.log").write_text("b\n")
    it.feed.waiting(feed.CHECK, False)
    (tmp_path / "b.log").unlink()
    it.feed.start(60.0)
    assert [len(step.lines) for step in it.take(70.0)] == [1]
    it.end()


def test_no_file_is_looked_for_again_while_there_is_a_log_server(tmp_path, log):
    it = Process(tmp_path)
    it.feed.start(0.0)
    log.write_text("x\n" * 3)
    it.take(2.0, arrives=False)
    it.feed.waiting(feed.CHECK, False)
    assert it.take(3.0) == []
    it.end()


def test_a_folder_that_comes_late_is_no_loss(tmp_path, log):
    log.write_text("x\n")
    first = Process(tmp_path)
    first.feed.start(0.0)
    first.take()
    first.positions.settle(100.0, 100.0)
    first.end()
    log.rename(tmp_path / "later")
    again = Process(tmp_path)
    again.feed.waiting(0.0, False)
    (tmp_path / "later").rename(log)
    again.feed.waiting(feed.CHECK, False)
    again.feed.start(60.0)
    assert (again.take(70.0), again.positions.seen["unknown_gaps"]) == ([], 0)
    again.end()

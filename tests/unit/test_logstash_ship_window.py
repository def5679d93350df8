"""rocksalt.logstash.shipping.window: what is on its way to a log server."""

from __future__ import annotations

from types import SimpleNamespace

from rocksalt.logstash.shipping import window
from rocksalt.logstash.shipping.steps import Step
from rocksalt.logstash.shipping.window import Window


class Link:
    """Numbers the lines that are sent."""

    def __init__(self):
        self.number = 0

    def send(self, line):
        self.number += 1
        return self.number


def test_steps_without_lines_take_room():
    it, link = Window(), Link()
    it.add(link, Step("journal", 0, (b"x",)), 1.0)
    for number in range(1, window.STEPS):
        it.add(link, Step("journal", number), 1.0)
    assert it.room == window.LINES - 1
    it.add(link, Step("journal", window.STEPS), 1.0)
    assert it.room == 0
    it.answered([SimpleNamespace(number=1)], 2.0)
    assert [step.position for step in it.done()] == list(range(window.STEPS + 1))
    assert it.room == window.LINES


def test_steps_without_lines_wait_for_nobody():
    it, link = Window(), Link()
    for number in range(10):
        it.add(link, Step("journal", number), 1.0)
    assert len(list(it.done())) == 10

"""rocksalt.logstash.shipping.status: what the shipper says of itself, and what it remembers."""

from __future__ import annotations

import json

import pytest

from rocksalt.logstash.shipping.config import Config, Server
from rocksalt.logstash.shipping.status import BRIEF, Status

CONFIG = Config("web1", (), "", "", "")


def written(status, path):
    """What a status says when it is written."""
    status.write(0.0, {"waiting": 0, "error": ""}, 0)
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"marks": {}}', '{"probe": null}', '{"probe": null, "marks": [1]}']
)
def test_a_file_of_another_version_keeps_nobody_from_starting(tmp_path, text):
    path = tmp_path / "status.json"
    path.write_text(text)
    found = written(Status(str(path), CONFIG), path)
    assert (found["probe"], found["marks"], found["server"]) == (None, {}, None)


def test_what_was_said_before_is_remembered(tmp_path):
    path = tmp_path / "status.json"
    probe = {"mark": "abc", "acknowledged": "2026-01-01T00:00:00Z"}
    since = "2026-01-02T00:00:00Z"
    before = {"probe": probe, "marks": {"x": "y"}, "disconnected_since": since}
    path.write_text(json.dumps(before))
    found = written(Status(str(path), CONFIG), path)
    assert {name: found[name] for name in before} == before


class FakeLink:
    """A connection; ``taken`` is None before a line was sent over it."""

    expires, server = None, Server("10.0.0.1", 2601, "logs1")

    def __init__(self, taken=None):
        self.taken = taken


@pytest.fixture
def status(tmp_path, monkeypatch):
    """A status that said how it is at second 0; called with a second, what it says then."""
    made = Status(str(tmp_path / "status.json"), CONFIG)
    made._value["disconnected_since"] = "at 0"

    def call(second):
        monkeypatch.setattr("rocksalt.logstash.shipping.status.micros", lambda: second)
        monkeypatch.setattr("rocksalt.logstash.shipping.status.stamp", "at {}".format)
        said = written(made, tmp_path / "status.json")
        return (said["server"], said["disconnected_since"])

    call.of = made
    return call


def test_who_takes_no_line_was_not_connected(status):
    """Whoever looks in between sees since when no line is taken, too."""
    status.of.connected(FakeLink(taken=True))
    assert status(1) == ("logs1", None)
    status.of.disconnected()
    assert status(2) == (None, "at 1")
    link = FakeLink(taken=False)
    status.of.connected(link)
    assert status(3) == ("logs1", None)
    status.of.disconnected()
    assert status(4) == (None, "at 1")
    link = FakeLink(taken=False)
    status.of.connected(link)
    assert status(5) == ("logs1", "at 1")
    status.of.disconnected()
    assert status(6) == (None, "at 1")
    status.of.connected(link)
    link.taken = True
    assert status(7) == ("logs1", None)
    status.of.disconnected()
    assert status(8) == (None, "at 7")
    status.of.connected(FakeLink())
    assert status(9) == ("logs1", None)


def test_who_ends_connections_at_once_was_not_connected(status):
    for second in range(1, 9, 2):
        assert status(second) == (None, "at 0")
        status.of.connected(FakeLink())
        assert status(second + 1) == ("logs1", None)
        status.of.disconnected()
    assert status(9) == (None, "at 0")
    status.of.connected(FakeLink())
    assert status(10 + BRIEF) == ("logs1", None)
    status.of.disconnected()
    assert status(11 + BRIEF) == (None, f"at {10 + BRIEF}")

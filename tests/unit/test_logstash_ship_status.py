"""rocksalt.logstash.shipping.status: what the shipper says of itself, and what it remembers."""

from __future__ import annotations

import json

import pytest

from rocksalt.logstash.shipping.config import Config
from rocksalt.logstash.shipping.status import Status

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

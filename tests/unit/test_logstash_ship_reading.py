"""rocksalt.logstash.shipping.reading: what a line says that no document may hold."""

from __future__ import annotations

import time

import pytest

from rocksalt.logstash.shipping import reading


def read(dataset, text, program="", path=""):
    made = {"@timestamp": "now", "event": {"created": "2026-11-23T04:20:00.000001Z"}}
    reading.read(made, text, dataset, program, path)
    return made


@pytest.fixture
def zone(monkeypatch):
    def choose(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield choose
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2026-11-24 03:00:00,123 x", "2026-11-24T03:00:00.123000Z"),
        ("2026-11-24 05:00:00,123 x", "now"),
        ("1990-01-01 00:00:00,000 x", "1990-01-01T00:00:00.000000Z"),
        ("1989-12-31 23:59:59,000 x", "now"),
        ("0999-06-01 00:00:00,000 x", "now"),
        ("9999-06-01 00:00:00,000 x", "now"),
    ],
)
def test_a_time_that_can_be_none_is_not_taken(zone, line, expected):
    zone("UTC")
    assert read("salt", line)["@timestamp"] == expected


@pytest.mark.parametrize("name", ["EAST-14", "WEST+12"])
@pytest.mark.parametrize("line", ["0001-01-01 00:00:00,000 x", "9999-12-31 23:59:59,000 x"])
def test_the_first_and_the_last_moment_are_no_times(zone, name, line):
    zone(name)
    assert read("salt", line)["@timestamp"] == "now"


def test_an_audit_record_has_a_time_that_can_be_one():
    line = "type=LOGIN msg=audit({}.123:7): pid=1"
    assert read("audit", line.format(9_999_999_999), path="/a")["@timestamp"] == "now"
    made = read("audit", line.format(1_700_000_000), path="/a")
    assert made["@timestamp"] == "2023-11-14T22:13:20.123000Z"


@pytest.mark.parametrize("name", ["eth0", "zz-q"])
def test_the_zone_of_an_address_stays_here(name):
    line = f"Accepted publickey for ann from fe80::1%{name} port 22 ssh2"
    assert read("auth", line, "sshd")["source"] == {"ip": "fe80::1", "port": 22}

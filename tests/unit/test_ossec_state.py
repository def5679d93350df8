"""rocksalt.ossec.state: what the signs of the agent say together, and the note of it."""

from __future__ import annotations

import json
import os
import time

import ossec_agent
import pytest
from ossec_agent import CONNECTED, SCANNED, SERVER

from rocksalt import ossec
from rocksalt.ossec import __main__ as main
from rocksalt.ossec import state

SETTINGS = {"never_ban": [], "users": [], "notify_time": 60, "frequency": 3600}
COUNTER = f"{ossec.HOME}/queue/rids/sender_counter"


@pytest.fixture
def agent(host):
    host = ossec_agent.made(host)
    host.start(ago=3600)
    host.put(COUNTER, "0:1:")
    host.log(CONNECTED, SCANNED)
    return host


def look(agent, before=None, **settings):
    return state.look({**SETTINGS, **settings}, time.time(), before or {}, agent.root)


def test_the_status_of_an_agent_that_does_well(agent):
    found = look(agent)
    scanned = state.since(found.pop("scanned"), time.time())
    assert 59 <= scanned <= 63
    assert abs(state.since(found.pop("time"), time.time())) <= 2
    assert found == {
        "schema": 1,
        "daemons": dict.fromkeys(ossec.DAEMONS, True),
        "connected": True,
        "why": "",
        "server": SERVER,
        "answered_within": 180,
        "scan_due": 7800,
        "unread": [],
    }


@pytest.mark.parametrize(
    ("lines", "connected"),
    [
        ((), True),
        (("ossec-agentd: WARN: Server unavailable. Setting lock.",), False),
        (
            (
                "ossec-agentd: WARN: Server unavailable. Setting lock.",
                "ossec-agentd: INFO: Server responded. Releasing lock.",
            ),
            True,
        ),
        (("ossec-agentd(4101): WARN: Waiting for server reply (not started). Tried: 'x'.",), False),
        (("ossec-logcollector: WARN: Server unavailable. Setting lock.",), True),
        (
            ("no line of OSSEC", "", "ossec-agentd: INFO: Trying to connect to server 1.2.3.4,"),
            True,
        ),
    ],
)
def test_the_last_word_of_the_log_counts(agent, lines, connected):
    agent.log(*lines)
    found = look(agent)
    assert found["connected"] == connected
    assert bool(found["why"]) != connected


def test_a_counter_that_is_late_is_no_connection(agent):
    agent.age(COUNTER, 121)
    assert look(agent)["why"].startswith("the agent has sent nothing for 12")
    assert look(agent, notify_time=600)["connected"]
    agent.remove(COUNTER)
    assert look(agent)["why"] == "the agent has never sent anything"


def test_a_number_that_another_process_has_is_no_daemon(agent):
    agent.put("/proc/100/cmdline", "/bin/sleep\0100\0")
    assert look(agent)["daemons"]["ossec-execd"] is False
    agent.put("/proc/101/cmdline", "/usr/bin/python3\0/var/ossec/bin/ossec-agentd\0-f\0")
    assert look(agent)["daemons"]["ossec-agentd"] is True


def test_what_was_rotated_away_is_remembered(agent):
    before = look(agent)
    agent.put(ossec.LOG, "")
    found = look(agent, before)
    assert (found["scanned"], found["server"]) == (before["scanned"], SERVER)
    assert look(agent)["scanned"] is None


def test_the_newer_of_two_scans_counts(agent):
    agent.put(f"{ossec.LOG}.1", f"2020/01/01 00:00:00 {SCANNED}\n")
    assert state.since(look(agent)["scanned"], time.time()) < 70


def test_the_timer_writes_what_monitors_may_read(tmp_path, monkeypatch, agent):
    monkeypatch.setattr(main, "STATE", str(tmp_path / "rocksalt"))
    monkeypatch.setattr(main, "STATUS", str(tmp_path / "rocksalt/ossec-status.json"))
    monkeypatch.setattr(main, "_monitoring", os.getgid)
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    assert main.watch(SETTINGS) == 0
    path = tmp_path / "rocksalt/ossec-status.json"
    assert json.loads(path.read_text())["schema"] == 1
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.parent.stat().st_mode & 0o777 == 0o750
    assert [*path.parent.iterdir()] == [path]


def test_without_settings_nothing_is_noted(capsys):
    assert main.watch({}) == 1
    assert "ossec.json is missing or damaged" in capsys.readouterr().err

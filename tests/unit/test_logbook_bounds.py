"""rocksalt.logbook.bounds: what is kept of what minions send by themselves."""

from __future__ import annotations

import os

import pytest

from rocksalt.logbook import bounds
from rocksalt.logbook import memory as memory_module
from rocksalt.logbook.memory import Memory, needed
from rocksalt.logbook.sentences import sentence

NOW = "2026-11-23T08:00:00.000000Z"


@pytest.fixture
def disk(monkeypatch):
    """Bytes that are free of 100 GiB."""
    free = [50 << 30]

    class State:
        f_frsize, f_blocks = 1, 100 << 30

        @property
        def f_bavail(self):
            return free[0]

    monkeypatch.setattr(os, "statvfs", lambda _: State())
    monkeypatch.setattr(bounds, "_LOOK", -1)
    return free


@pytest.fixture
def made(tmp_path, disk):
    return bounds.Bounds(tmp_path, lambda: NOW), Memory()


def back(minion="web1", jid="1", **more):
    return {"kind": "return", "minion": minion, "jid": jid, "event.id": "x", **more}


def test_what_was_asked_for_is_kept_however_much_one_sends(made, monkeypatch):
    monkeypatch.setattr(bounds, "RECORDS", 3)
    it, memory = made
    memory.note({"kind": "job", "jid": "1", "minions": ["web1", "web2"], "event.id": "job/1/x"})
    claim = {"kind": "claim", "minion": "web1", "tag": "salt/key"}
    assert [it.admits(claim, memory) for _ in range(5)] == [True] * 3 + [False] * 2
    assert not it.admits(back(jid="2"), memory)
    assert it.admits(back(), memory) and it.admits(back("web3", "2"), memory)
    assert it.admits({"kind": "job", "event.id": "x"}, memory)
    assert it.told() == []
    monkeypatch.setattr(bounds, "WINDOW", 0.0)
    [told] = it.told()
    assert (told["kind"], told["left"]) == ("limited", {"web1": 3})
    assert it.told() == [] and it.admits(claim, memory)


@pytest.mark.parametrize(("name", "size"), [("BYTES", 5_000), ("ALL", 5_000)])
def test_large_ones_have_bounds_as_well(made, monkeypatch, name, size):
    monkeypatch.setattr(bounds, name, size)
    it, memory = made
    minions = ["web1"] * 9 if name == "BYTES" else [f"web{number}" for number in range(9)]
    admitted = [it.admits(back(minion, arg=["x" * 1000]), memory) for minion in minions]
    assert admitted == [True] * 4 + [False] * 5


def test_names_without_end_take_no_room(made, monkeypatch):
    monkeypatch.setattr(bounds, "RECORDS", 0)
    monkeypatch.setattr(bounds, "WINDOW", 0.0)
    it, memory = made
    for number in range(200):
        it.admits(back(f"web{number}"), memory)
    [told] = it.told()
    assert len(told["left"]) == 51 and told["left"]["others"] == 150


def test_a_disk_that_fills_up(made, disk):
    it, memory = made
    job = {"kind": "job", "event.id": "x"}
    assert (it.problem(), it.admits(back(), memory), it.since) == ("", True, "")
    disk[0] = bounds.ROOM - 1
    assert "little room" in it.problem()
    assert (it.admits(back(), memory), it.admits(job, memory), it.since) == (False, True, "")
    disk[0] = bounds.ROOM // bounds.LAST - 1
    assert "no room" in it.problem()
    assert (it.admits(job, memory), it.since) == (False, NOW)


def job(jid, minions, **more):
    return {"kind": "job", "jid": jid, "minions": minions, "event.id": f"job/{jid}/x", **more}


def test_a_made_up_return_hides_no_true_one(made, monkeypatch):
    monkeypatch.setattr(bounds, "RECORDS", 3)
    monkeypatch.setattr(bounds, "WINDOW", 0.0)
    it, memory = made
    memory.note(job("7", ["db1"]))
    assert [it.admits(back("db1", f"9{number}"), memory) for number in range(4)][-1] is False
    outcomes = [{"success": True, "retcode": 0}, {"success": False, "retcode": 1}, {}]
    for said in outcomes:
        assert it.admits(back("db1", "7", **said), memory)
        memory.note(back("db1", "7", **said, conflict=memory.is_complete("7")))
        assert not it.admits(back("db1", "7", **said), memory)
    [told] = it.told()
    assert (told["left"], told["of"]) == ({"db1": 4}, ["7/db1"])
    assert sentence(told, {}).endswith("is kept in 0 seconds, among them 7/db1")


def test_made_up_jobs_push_no_true_one_out(made, monkeypatch):
    monkeypatch.setattr(bounds, "RECORDS", 0)
    monkeypatch.setattr(memory_module, "_PENDING", 2)
    it, memory = made
    for jid in "12345":
        memory.note(job(jid, ["db1"]))
    assert it.admits(back("db1", "1"), memory) and it.admits(back("db1", "5"), memory)
    memory.note(back("db1", "1"))
    assert not it.admits(back("db1", "1"), memory) and not it.admits(back("db1", "6"), memory)


def test_what_came_back_is_known_after_a_restart(made):
    _, memory = made
    memory.note(needed(back("db1", "7", success=True, retcode=1, fun="a.b")))
    assert not memory.awaits(back("db1", "7", success=False))
    assert memory.awaits(back("db1", "7", success=True, retcode=0))

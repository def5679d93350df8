"""rocksalt.logbook.bounds: what is kept of what minions send by themselves."""

from __future__ import annotations

import json
import os

import pytest

from rocksalt.logbook import bounds
from rocksalt.logbook import memory as memory_module
from rocksalt.logbook.memory import Memory, digest, needed
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


def test_what_anybody_can_make_up_is_cut_and_never_left_out(made, monkeypatch):
    monkeypatch.setattr(bounds, "WHOLE", 5_000)
    it, memory = made
    long = ["x" * 1000]
    records = [job(str(number), ["web1"], fun="cmd.run", arg=long, kwarg={}) for number in range(9)]
    kept = [it.fitted(record, memory) for record in records if it.admits(record, memory)]
    assert kept[:4] == records[:4] and len(kept) == 9
    assert all(len(json.dumps(small)) < 400 for small in kept[4:])
    assert {key: kept[4].get(key) for key in ("fun", "arg", "kwarg", "minions", "cut")} == {
        "fun": "cmd.run", "arg": None, "kwarg": {}, "minions": ["web1"], "cut": ["arg"],
    }  # fmt: skip
    assert it.problem() == "more is sent than is kept whole in 60 seconds: 5 are cut"
    api = {"kind": "api", "kwarg": {"cmd": "x" * 4000}, "event.id": "x"}
    assert it.fitted(api, memory) == api and it.fitted(api, memory)["cut"] == ["kwarg"]
    monkeypatch.setattr(bounds, "WINDOW", 0.0)
    [told] = it.told()
    assert (told["shortened"], it.problem()) == (6, "")
    assert sentence(told, {}) == (
        "2026-11-23 08:00:00 cut: 6 records: more was sent than is kept in 0 seconds"
    )
    assert it.fitted(records[8], memory) == records[8]


def test_what_is_refused_is_always_kept(made, monkeypatch):
    monkeypatch.setattr(bounds, "RECORDS", 0)
    monkeypatch.setattr(bounds, "WHOLE", 0)
    it, memory = made
    refused = job("1", [], refused="no" * 500, user="bob", fun="cmd.run", arg=["rm"], kwarg={})
    assert it.admits(refused, memory)
    small = it.fitted(refused, memory)
    assert (small["refused"], small["arg"]) == (refused["refused"][: bounds.SMALL], ["rm"])
    assert sentence({**small, "tgt": "web1"}, {}).endswith("(cut: refused)")


def test_what_was_cut_is_no_conflict_and_its_returns_are_awaited(made, monkeypatch):
    monkeypatch.setattr(bounds, "WHOLE", 0)
    monkeypatch.setattr(bounds, "RECORDS", 0)
    it, memory = made
    whole = job("1", [f"web{number}" for number in range(99)], fun="cmd.run", arg=["x" * 1000])
    small = it.fitted(whole, memory)
    assert small["cut"] == ["arg", "minions"] and it.fitted(back(), memory) == back()
    for record in (small, needed(small)):
        known = Memory()
        known.note(record)
        assert not known.known.contradicts("job/1/x", digest(whole))
        assert it.admits(back("web7"), known) and not it.admits(back("web7", "2"), known)
        assert not known.is_complete("1") and [*known.pending()] == ["1"]

"""rocksalt.logbook: a job cache and events as a minion that was broken into can make them."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import threading
import tracemalloc

import pytest

from rocksalt.logbook import book
from rocksalt.logbook.arguments import Arguments

pytest.importorskip("salt.minion")

import msgpack

from rocksalt.logbook import follow, gaps, jobcache, memory, packed

NOW = dt.datetime(2026, 11, 23, 8, 0, 0, 0, dt.timezone.utc)
YEAR_1 = msgpack.ExtType(78, b"00010101T00:00:00.000000")
"""Salt writes the first year so, and cannot read it."""
SINCE = "2026-11-23T07:00:00.000000Z"
PLAIN = Arguments([])


class Site:
    def __init__(self, folder):
        self.jobs = folder / "cache/jobs"
        self.book = book.Book(folder / "book", "m1", folder / "status.json", print, lambda: NOW)
        self.folder = folder
        self.cache = jobcache.Cache(
            {"cachedir": str(folder / "cache"), "hash_type": "sha256", "utc_jid": True,
             "master_job_cache": "local_cache"}
        )  # fmt: skip

    def put(self, jid, load, returns=None, minions=("web1",)):
        digest = hashlib.sha256(jid.encode()).hexdigest()
        here = self.jobs / digest[:2] / digest[2:]
        here.mkdir(parents=True)
        (here / "jid").write_text(jid)
        (here / ".load.p").write_bytes(msgpack.packb({**load, "jid": jid}))
        (here / ".minions.p").write_bytes(msgpack.packb(list(minions)))
        for minion, answer in (returns or {}).items():
            (here / minion).mkdir()
            (here / minion / "return.p").write_bytes(msgpack.packb(answer))
        return here

    def fill(self, since=SINCE):
        counts = [{}, *gaps.fill(self.book, self.cache, since, PLAIN)][-1]
        lines = (self.folder / "book/m1/2026-11-23.jsonl").read_bytes().splitlines()
        return counts, [json.loads(line)["event"] for line in lines]


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "fdatasync", lambda _: None)
    found = Site(tmp_path)
    yield found
    found.book.close()


JIDS = [f"2026112307300{number}000000" for number in range(3)]
LOAD = {"fun": "cmd.run", "arg": ["id"], "user": "alice", "tgt": "web1", "tgt_type": "glob"}
DONE = {"return": "ok", "success": True, "retcode": 0}


@pytest.mark.parametrize(
    ("name", "data", "counts"),
    [
        ("web1/return.p", msgpack.packb({**DONE, "return": YEAR_1}), {"job": 3, "return": 3}),
        ("web1/return.p", b"", {"job": 3, "return": 3}),
        ("web1/return.p", msgpack.packb(DONE)[:-4], {"job": 3, "return": 3}),
        (".load.p", b"\x81", {"odd": 1, "job": 2, "return": 3}),
        (".minions.p", b"\xdc", {"odd": 1, "job": 3, "return": 3}),
        ("jid", b"", {"job": 3, "return": 3}),
        ("jid", b"20261123", {"job": 3, "return": 3}),
        ("jid", b"\xff" * 200, {"job": 3, "return": 3}),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_hides_no_other_job(site, name, data, counts):
    folders = [site.put(jid, LOAD, {"web1": DONE}) for jid in JIDS]
    (folders[0] / name).write_bytes(data)
    found, records = site.fill()
    assert found == counts
    assert {it["jid"] for it in records if it["kind"] == "return"} == {*JIDS}
    unread = [it for it in records if "unread" in it or it["kind"] == "odd"]
    is_whole = name == "jid" or b"00010101" in data
    assert len(unread) == (not is_whole)
    assert all(it.get("success") is None for it in unread)
    assert site.fill()[1] == records


def test_a_job_without_a_number_is_told(site):
    folders = [site.put(jid, LOAD, {"web1": DONE}) for jid in JIDS]
    for name in ("jid", ".load.p"):
        (folders[1] / name).write_bytes(b"")
    counts, records = site.fill()
    assert counts == {"job": 2, "return": 2, "odd": 1}
    assert f"{folders[1]} is of no known job" in records[-1]["why"]


def test_a_return_that_is_too_large_or_no_file(site, monkeypatch):
    monkeypatch.setattr(packed, "LARGEST", 1000)
    folders = [site.put(jid, LOAD, {"web1": DONE}) for jid in JIDS]
    (folders[0] / "web1/return.p").write_bytes(b"x" * 1001)
    (folders[1] / "web1/return.p").unlink()
    os.mkfifo(folders[1] / "web1/return.p")
    records = site.fill()[1]
    unread = [it["unread"] for it in records if "unread" in it]
    assert ["more than 1000 bytes" in unread[0], "no file" in unread[1]] == [True, True]


@pytest.mark.parametrize("empty", [b"\x80", b"\x90"])
def test_a_return_that_would_take_much_memory(site, monkeypatch, empty):
    """It is a byte for each in the file."""
    monkeypatch.setattr(packed, "MOST", 1000)
    folders = [site.put(jid, LOAD, {"web1": DONE}) for jid in JIDS]
    for folder, count in zip(folders, (998, 50_000), strict=False):
        some = b"\xdd" + count.to_bytes(4, "big") + empty * count
        (folder / "web1/return.p").write_bytes(b"\x81\xa6return" + some)
    tracemalloc.start()
    records = site.fill()[1]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    [unread] = [it for it in records if "unread" in it]
    assert unread["jid"] == JIDS[1] and "more than 1000 lists and mappings" in unread["unread"]
    assert peak < 2_000_000


def test_a_job_that_is_odd_hides_no_other_job(site, monkeypatch):
    for jid in JIDS:
        site.put(jid, LOAD, {"web1": DONE})
    real = site.cache.ended

    def ended(jid, minion):
        if jid == JIDS[0]:
            raise ValueError("odd")
        return real(jid, minion)

    monkeypatch.setattr(site.cache, "ended", ended)
    assert site.fill()[0] == {"job": 3, "odd": 1, "return": 2}


def test_large_returns_are_read_one_after_the_other(site):
    minions = [f"web{number}" for number in range(30)]
    site.put(JIDS[0], LOAD, {it: {**DONE, "return": "x" * 300_000} for it in minions}, minions)
    tracemalloc.start()
    counts = site.fill()[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts == {"job": 1, "return": 30} and peak < 3_000_000


@pytest.mark.parametrize("function", ["wheel.key.accept", "runner.state.orchestrate"])
def test_what_a_minion_returned_unasked_is_nobody_elses_call(site, function):
    inner = {"user": "alice", "fun": function, "fun_args": ["evil"], "success": True}
    own = {
        "cmd": "_return", "id": "web2", "fun": function, "fun_args": [], "arg": [], "tgt": "web2",
        "tgt_type": "glob", "success": True, "retcode": 0, "return": inner,
    }  # fmt: skip
    site.put(JIDS[0], own, {"web2": {"return": inner, "success": True, "retcode": 0}}, [])
    site.put(JIDS[1], own, {}, [])
    site.put(JIDS[2], {"fun": "runner.jobs.active", "return": {**inner, "fun": "runner.jobs"}})
    counts, records = site.fill()
    assert counts == {"return": 2, "runner": 1, "runner-return": 1}
    assert {(it["kind"], it["minion"], it["called"]) for it in records[:2]} == {
        ("return", "web2", True)
    }
    assert "alice" not in json.dumps(records[:2])


def test_a_clock_that_was_ahead_when_the_gap_began(site):
    site.put(JIDS[0], LOAD, {"web1": DONE})
    assert site.fill("2026-11-24T08:00:00.000000Z")[0] == {"job": 1, "return": 1}


class Returner(jobcache._Returner):
    def __init__(self, ask):
        self._ask = {"get_jids": ask}


def test_another_returner_that_never_answers(monkeypatch):
    monkeypatch.setattr(jobcache, "PATIENCE", 0.01)
    started, go_on = [], threading.Event()

    def hangs():
        started.append(1)
        go_on.wait(5)

    with pytest.raises(Exception, match="took longer"):
        list(Returner(hangs).jobs())
    go_on.set()
    assert started
    with pytest.raises(Exception, match="KeyError: 'x'"):
        list(Returner(lambda: {}["x"]).jobs())
    assert list(Returner(lambda: {"1": {}}).jobs()) == ["1"]


def event(data):
    return b"salt/job/1/ret/web2\n\n" + msgpack.packb(data)


def test_an_event_that_salt_cannot_unpack():
    assert follow.unpacked(event({"return": YEAR_1, "fun": "a.b"})) == (
        "salt/job/1/ret/web2", {"return": "00010101T00:00:00.000000", "fun": "a.b"},
    )  # fmt: skip
    for body in (event({"a": 1})[:-1], b"t\n\n\xc1", b"t\n\n" + b"\x91" * 5000):
        tag, why = follow.unpacked(body)
        assert tag in ("salt/job/1/ret/web2", "t") and "cannot be unpacked" in why
        assert "sha256" in why
    assert follow.unpacked(b"t\n\n\x91\x01") == ("t", {})


def test_jobs_that_are_pending_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(memory, "_NAMES", 4)
    known = memory.Memory()
    for jid in "123":
        known.note({"kind": "job", "jid": jid, "minions": ["a", "b"], "event.id": f"job/{jid}/x"})
    assert [known.is_complete(jid) for jid in "123"] == [False] * 3
    assert list(known.pending()) == ["1", "2", "3"]


def test_a_gap_stays_open_though_its_beginning_is_not_read(site, monkeypatch):
    site.book.add({"kind": "lost", "since": SINCE, "why": "gone", "event.id": "lost/1"})
    for number in range(5):
        site.book.add({"kind": "claim", "minion": "web1", "event.id": f"claim/{number}"})
    site.book.close()
    monkeypatch.setattr(book, "LEARNED", 3)
    site.book = book.Book(site.folder / "book", "m1", site.folder / "status.json", print)
    assert (site.book.memory.gap["since"], site.book.memory.gap["why"]) == (SINCE, "gone")
    site.book.add({"kind": "gap", "error": "no cache", "event.id": "gap/1"})
    assert site.book.memory.gap
    site.book.add({"kind": "gap", "event.id": "gap/2"})
    site.book.close()
    site.book = book.Book(site.folder / "book", "m1", site.folder / "status.json", print)
    assert site.book.memory.gap == {}

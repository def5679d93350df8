"""rocksalt.logbook: the book, what is filled in, the API's lines, the trees, and the story."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import shutil
import time
import tracemalloc

import pytest

from rocksalt.backup.crypto import sshsig
from rocksalt.errors import Refused, RocksaltError
from rocksalt.logbook import __main__ as cli
from rocksalt.logbook import apilog, book, checking, config, playback, telling, units, watching
from rocksalt.logbook.arguments import Arguments
from rocksalt.logbook.sentences import sentence

NOW = dt.datetime(2026, 11, 23, 8, 0, 0, 0, dt.timezone.utc)
PLAIN = Arguments([])


class Clock:
    def __init__(self):
        self.time = NOW

    def __call__(self):
        return self.time


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "fdatasync", lambda _: None)


@pytest.fixture
def opened(tmp_path, quick):
    """Opens the book; what was open before is left as kill -9 leaves it."""
    there = []

    def fatal(sentence):
        raise AssertionError(sentence)

    def open_it(clock=None):
        if there:
            os.close(there[-1]._lock)
            there[-1]._lock = os.open("/dev/null", os.O_RDONLY)
        state = tmp_path / "status.json"
        there.append(book.Book(tmp_path / "book", "m1", state, fatal, clock or Clock()))
        return there[-1]

    yield open_it
    for it in there:
        it.close()


def job(jid, **more):
    return {
        "time": "2026-11-23T07:00:00.000000Z", "kind": "job", "user": "alice", "fun": "test.ping",
        "arg": [], "kwarg": {}, "jid": jid, "tgt": "web*", "tgt_type": "glob",
        "minions": ["web1", "web2"], "event.id": f"job/{jid}/x", **more,
    }  # fmt: skip


def back(jid, minion="web1", **more):
    return {
        "time": "2026-11-23T07:00:01.000000Z", "kind": "return", "minion": minion, "jid": jid,
        "fun": "test.ping", "success": True, "retcode": 0, "event.id": f"return/{jid}/{minion}",
        **more,
    }  # fmt: skip


def read(tmp_path):
    lines = (tmp_path / "book/m1/2026-11-23.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


def test_each_record_once_also_after_a_kill(opened, tmp_path):
    kept = opened()
    assert [kept.add(it) for it in (job("1"), back("1"), job("1"), back("1"))] == [
        True, True, False, False,
    ]  # fmt: skip
    again = opened()
    assert [again.add(it) for it in (job("1"), back("1"), back("1", "web2"))] == [
        False, False, True,
    ]  # fmt: skip
    lines = read(tmp_path)
    assert [line["n"] for line in lines] == [1, 2, 3]
    assert [line["flags"] for line in lines] == [[], [], []]
    assert {line["event"]["host.name"] for line in lines} == {"m1"}
    assert again.heard == "2026-11-23T08:00:00.000000Z" and again.reach == ""


def test_a_record_that_says_otherwise_takes_no_other_ones_place(opened, tmp_path):
    kept = opened()
    assert kept.add(job("1")) and kept.add(back("1"))
    true = {"success": False, "retcode": 1}
    for is_first in (True, False):
        assert kept.add(back("1", **true)) is is_first
        assert not kept.add(back("1")) and not kept.add(job("1", filled=True))
        kept = opened()
    lines = read(tmp_path)
    assert [line["event"].get("conflict") for line in lines] == [None, None, True]
    assert lines[2]["event"]["success"] is False
    assert kept.add(job("1", user="mallory")) and read(tmp_path)[3]["event"]["conflict"]
    found = playback.play(tmp_path / "book/m1", playback.Filter())
    assert found["story"][-1].endswith(
        "web1: test.ping for alice failed (retcode 1) [job 1] "
        "(CONFLICT: another record says otherwise)"
    )
    asked = playback.play(tmp_path / "book/m1", playback.Filter(user="mallory"))["records"]
    assert [it["kind"] for it in asked] == ["job"]


def test_what_was_refused_is_told_as_said(opened, tmp_path):
    kept = opened()
    kept.add(job("1", user="mallory", refused="no", **{"event.id": "refused/1"}))
    kept.add(job("1"))
    kept.add(back("1"))
    found = playback.play(tmp_path / "book/m1", playback.Filter())["story"]
    assert "said to be mallory's" in found[0] and "for alice done" in found[2]


@pytest.mark.parametrize("packed", [False, True])
def test_large_lines_are_not_held(opened, tmp_path, monkeypatch, packed):
    """After a restart, of what minions made large: no more than so many bytes."""
    kept = opened()
    for number in range(40):
        kept.add(back(str(number), arg=["x" * 50_000]))
    path = tmp_path / "book/m1/2026-11-23.jsonl"
    if packed:
        shutil.copy(path, tmp_path / "plain")
        with gzip.open(f"{path}.gz", "wb") as file:
            file.write(path.read_bytes())
        path.unlink()
    sizes = {"READ": 500_000, "HELD": 400_000}
    for name, size in sizes.items():
        monkeypatch.setattr(book, name, size)
    tracemalloc.start()
    numbers = [line.head.n for line in book.backwards(tmp_path / "book/m1")]
    assert numbers == [*range(40, 33 if packed else 0, -1)]
    monkeypatch.setattr(book, "backwards", counted := Counted(book.backwards))
    again = opened()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000 and counted.lines < 12
    assert again.reach and "return/39/web1" in again.memory.known


class Counted:
    def __init__(self, work):
        self.work, self.lines = work, 0

    def __call__(self, folder):
        for line in self.work(folder):
            self.lines += 1
            yield line


def test_half_a_line_is_moved_aside(opened, tmp_path):
    kept = opened()
    kept.add(job("1"))
    path = tmp_path / "book/m1/2026-11-23.jsonl"
    path.write_bytes(path.read_bytes() + b'{"n":2,"received":"2026')
    again = opened()
    again.add(back("1"))
    assert [line["n"] for line in read(tmp_path)] == [1, 2]
    assert len(os.listdir(tmp_path / "book/m1/torn")) == 1


def test_records_without_a_time_have_that_of_the_clock(opened, tmp_path):
    opened().add(job("1", time=None))
    assert read(tmp_path)[0]["event"]["time"] == "2026-11-23T08:00:00.000000Z"


def test_what_is_read_of_a_long_book(opened, monkeypatch):
    monkeypatch.setattr(book, "LEARNED", 3)
    clock = Clock()
    kept = opened(clock)
    for number in range(5):
        clock.time += dt.timedelta(minutes=1)
        kept.add(job(str(number)))
    again = opened(clock)
    assert again.reach == "2026-11-23T08:03:00.000000Z"
    assert ["job/2" in again.memory.known, "job/1" in again.memory.known] == [True, False]


def test_a_gap_is_open_until_it_is_named(opened):
    kept = opened()
    assert kept.memory.gap == {}
    for kind, is_open in (("start", True), ("lost", True), ("gap", False), ("lost", True)):
        kept.add(
            {
                "time": None,
                "kind": kind,
                "since": kind,
                "event.id": f"{kind}/{is_open}/{id(kind)}/{kept.count}",
            }
        )
        assert bool(kept.memory.gap) is is_open
    kept.add({"time": None, "kind": "start", "since": "later", "event.id": "start/2"})
    assert opened().memory.gap["since"] == "lost"


def test_jobs_of_which_returns_are_missing(opened):
    memory = opened().memory
    for record in (job("1"), back("1"), job("2"), back("2"), back("2", "web2")):
        memory.note(record)
    memory.note({"kind": "runner", "jid": "3", "event.id": "runner/3"})
    assert list(memory.pending()) == ["1", "3"]
    assert [memory.is_complete(it) for it in "1234"] == [False, True, False, False]
    memory.note({"kind": "runner-return", "jid": "3", "event.id": "runner-return/3"})
    assert memory.is_complete("3")


def test_a_minion_that_asks_again_is_no_news(opened):
    memory = opened().memory
    asked = {"kind": "auth", "minion": "web1", "act": "pend", "key": "k", "success": True}
    for number, (change, news) in enumerate(
        [({}, True), ({}, False), ({"act": "accept"}, True), ({}, True), ({"key": "l"}, True)]
    ):
        record = {**asked, **change, "event.id": f"auth/{number}"}
        assert memory.is_news(record) is news
        memory.note(record)


class Cache:
    """A job cache: jid -> (load, returns)."""

    def __init__(self, jobs):
        self._jobs = jobs
        self.asked = []

    def jobs(self, since):
        self.since = since
        return sorted(self._jobs)

    def load(self, jid):
        self.asked.append(jid)
        return dict(self._jobs.get(jid, ({}, {}))[0])

    def returns(self, jid):
        return iter(self._jobs.get(jid, ({}, {}))[1].items())

    def started(self, jid):
        return "2026-11-23T07:30:00.000000Z"

    def ended(self, jid, minion):
        return "2026-11-23T07:30:01.000000Z"

    def lost(self):
        return []


LOAD = {
    "fun": "cmd.run", "arg": ["uptime"], "tgt": "web*", "tgt_type": "glob", "user": "bob",
    "Minions": ["web1", "web2"],
}  # fmt: skip
SINCE = "2026-11-23T07:20:00.000000Z"


def filled(kept, jobs, since=SINCE):
    pytest.importorskip("salt.minion")
    from rocksalt.logbook import gaps

    cache = Cache(jobs)
    return [{}, *gaps.fill(kept, cache, since, PLAIN)][-1], cache


def test_what_the_cache_has_is_filled_in_once(opened, tmp_path):
    kept = opened()
    kept.add(job("1"))
    kept.add(back("1"))
    kept.add(back("1", "web2"))
    kept.add(job("2"))
    jobs = {
        "1": (LOAD, {"web1": {"retcode": 0}}),
        "2": (LOAD, {"web2": {"retcode": 1, "success": False, "return": "x"}}),
        "3": (LOAD, {"web1": {"retcode": 0, "success": True}}),
    }
    counts, cache = filled(kept, jobs)
    assert counts == {"return": 2, "job": 1}
    assert "1" not in cache.asked and cache.since == "2026-11-23T06:15:00.000000Z"
    new = [line["event"] for line in read(tmp_path)][4:]
    assert [(it["kind"], it["jid"], it["filled"]) for it in new] == [
        ("return", "2", True), ("job", "3", True), ("return", "3", True),
    ]  # fmt: skip
    assert (new[1]["user"], new[1]["minions"]) == ("bob", ["web1", "web2"])
    assert [it["time"][14:19] for it in new] == ["30:01", "30:00", "30:01"]
    assert filled(kept, jobs)[0] == {}
    # What the bus tells late is there already.
    asked = {key: LOAD[key] for key in ("user", "fun", "arg", "tgt")}
    assert not kept.add(job("3", **asked, **{"event.id": new[1]["event.id"]}))


def test_runners_and_salt_call_in_the_cache(opened, tmp_path):
    inner = {"fun": "runner.jobs.active", "user": "root", "fun_args": [], "success": True}
    own = {"cmd": "_return", "fun": "test.ping", "fun_args": ["x"], "tgt": "web1", "id": "web1"}
    jobs = {
        "4": ({"fun": "runner.jobs.active", "return": inner}, {"m1_master": {"return": inner}}),
        "5": (own, {"web1": {"retcode": 0, "success": True}}),
    }
    counts, _ = filled(opened(), jobs)
    assert counts == {"runner": 1, "runner-return": 1, "return": 1}
    assert read(tmp_path)[2]["event"]["called"] is True


def test_old_jobs_are_left_where_the_book_is_not_read_so_far(opened):
    kept = opened()
    kept.reach = "2026-11-23T07:10:00.000000Z"
    assert filled(kept, {})[1].since == kept.reach


@pytest.fixture
def door(tmp_path, quick):
    path, kept = tmp_path / "api.jsonl", tmp_path / "api.json"

    def tail():
        return apilog.Tail(str(path), kept)

    return path, tail


def texts(tail):
    found = [line.decode() for line, _ in tail.lines()]
    tail.keep()
    return found


def test_lines_of_the_door(door):
    path, tail = door
    it = tail()
    assert texts(it) == []
    path.write_text("one\ntwo\nha")
    assert texts(it) == ["one", "two"]
    with path.open("a") as file:
        file.write("lf\n")
    assert texts(it) == ["half"]
    path.rename(f"{path}.1")
    assert texts(it) == []
    with open(f"{path}.1", "a") as file:
        file.write("late\n")
    path.write_text("three\n")
    assert texts(it) == ["late", "three"]
    path.write_text("a\n")
    assert texts(it) == ["a"]


def test_a_line_that_comes_while_the_file_is_renamed(door, monkeypatch):
    path, tail = door
    it = tail()
    path.write_text("one\n")
    assert texts(it) == ["one"]
    moved = apilog.Tail._moved

    def late(self):
        if not os.path.exists(f"{path}.1"):
            path.rename(f"{path}.1")
            with open(f"{path}.1", "a") as file:
                file.write("two\n")
            path.write_text("three\n")
        return moved(self)

    monkeypatch.setattr(apilog.Tail, "_moved", late)
    assert texts(it) == ["two", "three"]


def test_lines_of_the_door_after_a_pause(door):
    path, tail = door
    path.write_text("one\n")
    assert texts(tail()) == ["one"]
    assert texts(tail()) == []
    with path.open("a") as file:
        file.write("two\n")
    path.rename(f"{path}.2")
    os.utime(f"{path}.2", (1, 1))
    path.with_name("api.jsonl.1").write_text("three\n")
    os.utime(f"{path}.1", (2, 2))
    path.write_text("four\n")
    it = tail()
    assert (texts(it), it.missed) == (["two", "three", "four"], "")
    assert texts(tail()) == []


def test_lines_of_the_door_that_are_gone(door):
    path, tail = door
    path.write_text("one\n")
    texts(tail())
    path.rename(path.with_name("elsewhere"))
    path.write_text("two\n")
    it = tail()
    assert texts(it) == ["two"] and "rotated away" in it.missed


def test_a_long_line_of_the_door(door, monkeypatch):
    monkeypatch.setattr(apilog, "LONGEST", 8)
    path, tail = door
    path.write_text("x" * 20 + "\nlast\n")
    it = tail()
    assert "".join(texts(it)) == "x" * 20 + "last"


def test_a_record_of_the_door():
    said = {
        "time": "2026-11-23T08:00:00.123+00:00", "event": "call", "user": "alice", "kind": "x",
        "source": "10.0.0.7", "fun": "deploy.run", "kwarg": {"password": "y"}, "outcome": "ok",
    }  # fmt: skip
    found = apilog.record(json.dumps(said).encode(), "1:2", PLAIN)
    identity = found.pop("event.id")
    assert identity.startswith("api/1:2/")
    assert found == {
        **said, "time": "2026-11-23T08:00:00.123000Z", "kind": "api", "api_kind": "x",
        "kwarg": {"password": "***"},
    }  # fmt: skip
    assert apilog.record(b"no JSON \xff", "1:2", PLAIN)["text"] == "no JSON \ufffd"


@pytest.fixture
def trees(tmp_path, quick):
    (tmp_path / "states").mkdir()
    (tmp_path / "states/a.sls").write_text("a")

    def watcher():
        roots = {"file_roots:base": [str(tmp_path / "states"), str(tmp_path / "none")]}
        return watching.Watcher(roots, tmp_path / "trees.json")

    return tmp_path / "states", watcher


def looked(watcher):
    found = watcher.look()
    watcher.keep()
    return [{key: it[key] for key in it if key not in ("digest", "event.id")} for it in found]


ABOUT = {"time": None, "kind": "files", "tree": "file_roots:base"}


def test_changes_of_trees(trees):
    folder, watcher = trees
    it = watcher()
    about = ABOUT
    assert looked(it) == [{**about, "files": 1, "first": True}]
    assert looked(it) == []
    (folder / "a.sls").write_text("b")
    (folder / ".git").mkdir()
    (folder / ".git/index").write_text("x")
    (folder / "b.sls").write_text("b")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/evil.sls").write_text("x")
    (folder / "loop").symlink_to(folder)
    names = [".git/index", "__pycache__/evil.sls", "b.sls", "loop"]
    assert looked(watcher()) == [
        {
            **about, "files": 5, "added": [str(folder / name) for name in names],
            "changed": [str(folder / "a.sls")],
        }
    ]  # fmt: skip
    (folder / "b.sls").unlink()
    assert looked(watcher()) == [{**about, "files": 4, "removed": [str(folder / "b.sls")]}]


def test_a_state_that_was_changed_and_changed_back(trees):
    folder, watcher = trees
    it = watcher()
    looked(it)
    (folder / "a.sls").write_text("evil")
    (folder / "a.sls").write_text("a")
    [found] = looked(watcher())
    assert found["touched"] == [str(folder / "a.sls")] and "changed" not in found
    assert looked(watcher()) == []


def test_folders_that_link_to_each_other_are_looked_at_once(trees):
    folder, watcher = trees
    for number in range(8):
        (folder / f"d{number}").mkdir()
        (folder / f"d{number}/f").write_text("x")
        for other in range(8):
            (folder / f"d{number}/l{other}").symlink_to(f"../d{other}")
    it = watcher()
    assert looked(it) == [{**ABOUT, "files": 1 + 8 + 64, "first": True}]
    (folder / "d0/l1").unlink()
    (folder / "d0/l1").symlink_to("../d2")
    assert str(folder / "d0/l1") in looked(it)[0]["changed"]


def test_what_is_no_file_or_too_much_does_not_hold_it_up(trees, monkeypatch):
    folder, watcher = trees
    os.mkfifo(folder / "pipe")
    monkeypatch.setattr(watching, "LARGEST", 5)
    (folder / "large").write_text("123456")
    it = watcher()
    looked(it)
    (folder / "large").write_text("654321")
    assert looked(it)[0]["changed"] == [str(folder / "large")]
    monkeypatch.setattr(watching, "FILES", 2)
    assert looked(it)[0]["unwatched"]


def test_a_change_that_was_not_kept_is_found_again(trees):
    folder, watcher = trees
    it = watcher()
    looked(it)
    (folder / "a.sls").write_text("b")
    [first], [second] = it.look(), it.look()
    assert first == second
    it.keep()
    (folder / "a.sls").write_text("a")
    [third] = it.look()
    it.keep()
    (folder / "a.sls").write_text("b")
    [fourth] = it.look()
    assert len({first["event.id"], third["event.id"], fourth["event.id"]}) == 3


def test_a_file_that_cannot_be_read_is_no_file_without_a_change(trees, monkeypatch):
    folder, watcher = trees
    it = watcher()
    looked(it)

    def denied(path, *_):
        raise PermissionError(13, "Permission denied", path)

    (folder / "a.sls").write_text("b")
    monkeypatch.setattr(watching.os, "open", denied)
    [record] = it.look()
    assert record["changed"] == [str(folder / "a.sls")]


@pytest.fixture
def story(opened, tmp_path):
    kept = opened()
    gap = {
        "kind": "gap", "since": "2026-11-23T06:00:00.000000Z",
        "until": "2026-11-23T06:30:00.000000Z",
        "why": "the logbook was not running", "filled": {"job": 2}, "event.id": "gap/1",
    }  # fmt: skip
    records = [
        job("1", kwarg={"app": "shop"}),
        job("2", user="sudo_bob", fun="saltutil.find_job", time="2026-11-23T07:10:00.000000Z"),
        back("1"),
        {**gap, "time": "2026-11-23T07:30:00.000000Z"},
        back("1", "web2", success=False, retcode=2),
        job("0", user="sudo_bob", tgt="db1", minions=["db1"], filled=True,
            time="2026-11-23T06:10:00.000000Z"),
    ]  # fmt: skip
    for record in records:
        kept.add(record)

    def play(limit=100, **asked):
        return playback.play(tmp_path / "book/m1", playback.Filter(**asked), limit)

    return play


def test_the_story_is_in_the_order_of_its_times(story):
    assert story()["story"] == [
        "2026-11-23 06:10:00 said to be sudo_bob: test.ping() on db1 [job 0] (from the job cache)",
        "2026-11-23 07:00:00 alice: test.ping(app=shop) on web1, web2 (glob web*) [job 1]",
        "2026-11-23 07:00:01 web1: test.ping for alice done [job 1]",
        "2026-11-23 07:00:01 web2: test.ping for alice failed (retcode 2) [job 1]",
        "2026-11-23 07:30:00 gap from 2026-11-23T06:00:00.000000Z to 2026-11-23T06:30:00.000000Z: "
        "the logbook was not running; 2 records were filled in from the job cache",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "jids"),
    [
        ({"user": "alice"}, ["1", "1", "1"]),
        ({"user": "sudo_b*"}, ["0"]),
        ({"user": "bob"}, ["0"]),
        ({"tgt": "web2"}, ["1", "1"]),
        ({"tgt": "db1"}, ["0"]),
        ({"fun": "saltutil.*"}, ["2"]),
        ({"since": "2026-11-23T07:00:01.000000Z", "until": "2026-11-23T07:10:00.000000Z"},
         ["1", "1"]),
        ({"user": "nobody"}, []),
    ],
)  # fmt: skip
def test_what_is_asked_for(story, asked, jids):
    assert [it["jid"] for it in story(**asked)["records"]] == jids


def test_no_more_than_the_limit(story):
    found = story(limit=2)
    assert ([it["kind"] for it in found["records"]], found["earlier"]) == (["return", "gap"], 3)


def test_a_story_has_bounds(story, monkeypatch):
    monkeypatch.setattr(playback, "LARGEST", 1200)
    found = story()
    assert 0 < len(found["records"]) < 5 and found["earlier"] == 5 - len(found["records"])
    assert found["records"][-1]["kind"] == "gap"


@pytest.mark.parametrize(
    ("said", "time"),
    [
        ("", ""), (None, ""), ("2h", "2026-11-23T06:00:00.000000Z"),
        ("1d", "2026-11-22T08:00:00.000000Z"), ("2026-11-23", "2026-11-23T00:00:00.000000Z"),
        ("2026-11-23T08:00:00+01:00", "2026-11-23T07:00:00.000000Z"),
        ("2026-11-23T08:00:00Z", "2026-11-23T08:00:00.000000Z"),
    ],
)  # fmt: skip
def test_times_as_people_say_them(said, time):
    assert playback.moment(said, NOW) == time
    with pytest.raises(Refused, match="is no time"):
        playback.moment("yesterday", NOW)


SENTENCES = [
    ({"kind": "auth", "minion": "web1", "key": "k", "act": "pend", "success": True},
     "web1 asked to be let in with the key k: pend"),
    ({"kind": "key", "minion": "web1", "act": "accept", "success": True},
     "somebody on the master: accept the key of web1"),
    ({"kind": "runner", "user": "ann", "fun": "runner.a.b", "arg": ["x"], "jid": "1"},
     "ann: runner.a.b(x) on the master [1]"),
    ({"kind": "runner-return", "user": "ann", "fun": "runner.a.b", "success": False, "jid": "1"},
     "master: runner.a.b for ann failed [1]"),
    ({"kind": "api", "event": "login-refused", "user": "eve", "source": "10.0.0.9",
      "outcome": "wrong password"},
     "eve from 10.0.0.9 was refused a log-in at the API: wrong password"),
    ({"kind": "api", "event": "call", "user": "ann", "source": "10.0.0.9", "fun": "test.ping",
      "tgt": "web1", "outcome": "ok"},
     "ann from 10.0.0.9 called by the API test.ping() on web1: ok"),
    ({"kind": "files", "tree": "file_roots:base", "changed": ["/a"], "added": ["/b"] * 7},
     "file_roots:base: added /b, /b, /b, /b, /b and 2 more; changed /a"),
    ({"kind": "start", "clean": False, "since": "then"},
     "the logbook was started; it had not been stopped, and wrote last at then"),
    ({"kind": "return", "minion": "web1", "fun": "state.apply", "success": True, "jid": "1",
      "states": {"all": 3, "changed": 1, "failed": 0}},
     "web1: state.apply done, 1 changed and 0 failed of 3 [job 1]"),
    ({"kind": "job", "user": "x\n2026-11-23 forged", "fun": "a.b", "tgt": "*", "minions": [],
      "tgt_type": "glob", "jid": "1", "refused": "no"},
     "refused, said to be x\\n2026-11-23 forged's: a.b() on no minion (glob *): no [job 1]"),
    ({"kind": "job", "user": "ann", "fun": "a.b", "tgt": "w", "jid": "1", "conflict": True},
     "ann: a.b() on w [job 1] (CONFLICT: another record says otherwise)"),
    ({"kind": "return", "minion": "web1", "fun": "a.b", "success": None, "jid": "1",
      "unread": "it is empty"},
     "web1: a.b ended, and what came of it cannot be read (it is empty) [job 1]"),
    ({"kind": "odd", "tag": "salt/job/1/new", "why": "it is empty"},
     "salt/job/1/new cannot be read: it is empty"),
    ({"kind": "claim", "minion": "web1", "tag": "salt/key"},
     "web1 sent what only the master says: salt/key"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "words"), SENTENCES)
def test_sentences(record, words):
    found = sentence({"time": "2026-11-23T08:00:00.123456Z", **record}, {})
    assert found == f"2026-11-23 08:00:00 {words}"


SETTINGS = {"name": "m1", "mask": ["(?P<secret>x)"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "a/b"}, "name"), ({"mask": None}, "mask: is missing"), ({"days": 0}, "days"),
        ({"wach": {}}, "did you mean 'watch'"), ({"witness": {"host": 7}}, "witness:host"),
    ],
)  # fmt: skip
def test_settings_that_are_wrong(tmp_path, change, words):
    path = tmp_path / "logbook.json"
    path.write_text(json.dumps({**SETTINGS, **change}))
    with pytest.raises(Refused, match=words):
        config.load(path)


def test_settings(tmp_path):
    path = tmp_path / "logbook.json"
    path.write_text(json.dumps({**SETTINGS, "witness": None}))
    found = config.load(path)
    assert (found["client"], found["witness"], found["days"]) == ("m1-logbook", None, 400)
    for text in ("[]", "{", None):
        path.unlink(missing_ok=True)
        if text:
            path.write_text(text)
        with pytest.raises(Refused):
            config.load(path)


def test_a_book_without_a_witness_is_checked_all_the_same(opened, tmp_path):
    kept = opened()
    kept.add(job("1"))
    kept.add(back("1"))
    settings = config.complete({**SETTINGS, "folder": str(tmp_path / "book")})
    assert checking.seen(settings, "no key", lambda: None) is None
    found = checking.check(settings, "", None)
    assert (found["ok"], found["hosts"]["m1"]["lines"], found["witness"]) == (True, 2, None)
    path = tmp_path / "book/m1/2026-11-23.jsonl"
    path.write_bytes(path.read_bytes().replace(b"alice", b"bobby"))
    assert checking.check(settings, "", None)["ok"] is False
    shutil.rmtree(tmp_path / "book/m1")
    with pytest.raises(RocksaltError, match="has no book of m1"):
        checking.check(settings, "", None)


def test_entries_of_a_witness_need_its_key(opened, tmp_path, capsys):
    opened().add(job("1"))
    path, given = tmp_path / "logbook.json", tmp_path / "entries.jsonl"
    path.write_text(json.dumps({**SETTINGS, "folder": str(tmp_path / "book"), "witness": None}))
    given.write_text("{}\n")
    sshsig.generate(tmp_path / "signing")
    words = ["--config", str(path), "--state", str(tmp_path)]
    assert cli.main(["verify", "--witness-entries", str(given), *words]) == 1
    assert "has no witness, so no key to check entries with" in capsys.readouterr().err


def test_a_witness_that_cannot_be_asked_is_a_problem(opened, tmp_path):
    opened().add(job("1"))
    witness = {"host": "w", "port": 22, "user": "u", "host_key": "x", "key": "y"}
    folder = str(tmp_path / "book")
    settings = config.complete({**SETTINGS, "folder": folder, "witness": witness})

    def away():
        raise RocksaltError("the witness w is away")

    found = checking.check(settings, "", checking.seen(settings, "", away))
    assert (found["ok"], found["problems"]) == (
        False, ["what was witnessed is not known: the witness w is away"],
    )  # fmt: skip


def test_a_runner_never_raises(tmp_path):
    def wrong():
        raise KeyError("x")

    assert telling.plainly(wrong) == {"reason": "KeyError: 'x'", "retcode": 1}
    found = telling.plainly(lambda: telling.status(tmp_path))
    assert found["retcode"] == 1 and "may never have run" in found["reason"]
    path = tmp_path / "logbook.json"
    path.write_text(json.dumps({**SETTINGS, "folder": str(tmp_path)}))
    for limit in (0, "many", None, 10**9):
        found = telling.plainly(lambda limit=limit: telling.played(str(path), limit))
        assert "is no number of records" in found["reason"]
    found = telling.plainly(lambda: telling.played(str(path), 5))
    assert "the logbook never ran" in found["reason"]


@pytest.mark.parametrize(
    ("change", "retcode"),
    [({}, None), ({"connected": False}, 2), ({"problem": "the log of the API"}, 2)],
)
def test_the_status(tmp_path, change, retcode):
    (tmp_path / "status.json").write_text(json.dumps({"connected": True, **change}))
    (tmp_path / "heads.json").write_text(json.dumps({"error": ""}))
    found = telling.status(tmp_path)
    assert (found["running"], found.get("retcode"), found["witness"]) == (
        True, retcode, {"error": ""},
    )  # fmt: skip
    ahead = time.time() + 3600
    os.utime(tmp_path / "status.json", (ahead, ahead))
    assert (telling.status(tmp_path)["running"], telling.status(tmp_path)["retcode"]) == (False, 2)
    os.utime(tmp_path / "status.json", (1, 1))
    assert (telling.status(tmp_path)["running"], telling.status(tmp_path)["retcode"]) == (False, 2)


def test_what_is_installed():
    witness = {"host": "w", "port": 22, "user": "u", "host_key": "x", "key": "y"}
    found = units.files({**SETTINGS, "witness": witness}, "salt", interpreter="/opt/python")
    assert found["/usr/local/bin/rocksalt-logbook"].startswith(b"#!/opt/python -sE\nPK")
    assert b"rocksalt/logbook/follow.py" in found["/usr/local/bin/rocksalt-logbook"]
    assert json.loads(found["/etc/rocksalt/access/logbook.json"])["name"] == "m1"
    rotation = found["/etc/logrotate.d/rocksalt-api"].decode()
    assert '"/var/log/salt/rocksalt-api.jsonl" {' in rotation and "    su salt salt\n" in rotation
    unit = found["/etc/systemd/system/rocksalt-logbook.service"].decode()
    for line in ("User=salt", "Restart=always", "After=salt-master.service", "NoNewPrivileges=true",
                 'ReadWritePaths="/var/log/rocksalt-logbook"', "ProtectSystem=strict"):  # fmt: skip
        assert line in unit.splitlines()
    assert "/etc/systemd/system/rocksalt-logbook-heads.timer" in found
    alone = units.texts(SETTINGS, "master")
    assert not [path for path in alone if "heads" in path]
    assert "User=master" in alone["/etc/systemd/system/rocksalt-logbook.service"]
    assert units.files(SETTINGS, interpreter="/x") == units.files(SETTINGS, interpreter="/x")

"""rocksalt.logbook.service: what it writes as masters come and go, and what ends it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from rocksalt.errors import RocksaltError

pytest.importorskip("salt.minion")

from rocksalt.logbook import config, follow, jobcache, service
from rocksalt.logbook.book import Book

JID = "20261123080000123456"
PING = {"fun": "test.ping", "success": True, "retcode": 0}


class Cache:
    """A job cache: jid -> load; web1 answered each."""

    def __init__(self):
        self.known = {}

    def jobs(self, since):
        return sorted(self.known)

    def load(self, jid):
        return self.known[jid]

    def returns(self, jid):
        return iter([("web1", PING)])

    def started(self, jid):
        return "2026-11-23T08:00:00.000000Z"

    def ended(self, jid, minion):
        return "2026-11-23T08:00:01.000000Z"

    def lost(self):
        return []


class Site:
    """``steps`` are what the bus gives: lists of events, :class:`follow.Lost`, or no master (None
    or True at a connection). After the last one the service is stopped.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder, self.steps, self.cache = folder, [], Cache()
        (folder / "state").mkdir()
        (folder / "states").mkdir()
        roots = {"base": [str(folder / "states")]}
        monkeypatch.setattr(follow, "options", lambda _: {"file_roots": roots})
        monkeypatch.setattr(follow, "Bus", lambda _: self)
        monkeypatch.setattr(jobcache, "Cache", lambda _: self.cache)
        monkeypatch.setattr(service, "_MOMENT", 0.01)
        monkeypatch.setattr(os, "fsync", lambda _: None)
        monkeypatch.setattr(os, "fdatasync", lambda _: None)

    def run(self, *steps):
        self.steps = list(steps)
        settings = config.complete(
            {
                "name": "m1", "mask": [], "config": "x", "folder": str(self.folder / "book"),
                "api_log": str(self.folder / "api.jsonl"), "watch_seconds": 60,
            }
        )  # fmt: skip
        self.service = service.Service(settings, self.folder / "state")
        self.service.run()

    def connect(self):
        return self._next() is True

    def read(self, wait=1.0):
        found = self._next()
        if isinstance(found, Exception):
            raise found
        return found or []

    def close(self):
        pass

    def _next(self):
        if self.steps:
            return self.steps.pop(0)
        self.service.stop()
        return None

    def records(self):
        [path] = (self.folder / "book/m1").glob("*.jsonl")
        return [json.loads(line)["event"] for line in path.read_bytes().splitlines()]

    def kinds(self):
        return [it["kind"] for it in self.records() if it["kind"] != "files"]


@pytest.fixture
def site(tmp_path, monkeypatch):
    return Site(tmp_path, monkeypatch)


def event(jid=JID, minion="web1"):
    return f"salt/job/{jid}/ret/{minion}", {**PING, "id": minion, "jid": jid}


def test_a_master_without_a_configuration(tmp_path):
    with pytest.raises(RocksaltError, match="is not there"):
        follow.options(str(tmp_path / "master"))


def test_the_first_time(site):
    site.run(True, [event(), event(minion="web2"), ("salt/stats", {})], [event()])
    assert site.kinds() == ["start", "gap", "return", "return", "stop"]
    start, gap = (it for it in site.records() if it["kind"] in ("start", "gap"))
    assert (start["since"], start["clean"], gap["since"], gap["filled"]) == ("", True, "", {})


def test_a_master_that_is_not_there_yet(site):
    site.run(False, False, True, [event()])
    assert site.kinds() == ["start", "gap", "return", "stop"]


def test_a_master_that_goes_and_comes_back(site):
    site.cache.known = {JID: {"fun": "test.ping", "user": "alice", "Minions": ["web1"], "arg": []}}
    lost = follow.Lost("the event bus of the master ended")
    site.run(True, [event(jid="20261123080000000000")], lost, False, True, [event()])
    assert site.kinds() == ["start", "gap", "return", "lost", "job", "return", "gap", "stop"]
    records = [it for it in site.records() if it["kind"] != "files"]
    assert (records[4]["filled"], records[4]["user"]) == (True, "alice")
    assert records[6]["filled"] == {"job": 1, "return": 1}
    assert (records[6]["since"], records[6]["why"]) == (records[3]["since"], str(lost))


def test_a_second_start_names_the_gap(site):
    site.run(True)
    site.run(True)
    records = [it for it in site.records() if it["kind"] != "files"]
    assert [it["kind"] for it in records] == ["start", "gap", "stop"] * 2
    assert records[3]["clean"] is True
    assert records[4]["since"] == records[2]["time"]
    assert records[4]["why"] == "the logbook was not running"


def test_a_gap_that_was_not_filled_is_filled_the_next_time(site):
    """The master did not come back before the logbook ended."""
    site.run(True, [event()], follow.Lost("gone"), False)
    [since] = [it["since"] for it in site.records() if it["kind"] == "lost"]
    assert site.kinds()[-2:] == ["lost", "stop"]
    site.run(True)
    records = [it for it in site.records() if it["kind"] != "files"]
    assert [it["kind"] for it in records[-3:]] == ["start", "gap", "stop"]
    assert (records[-2]["since"], records[-2]["why"]) == (since, "gone")


def test_a_killed_one_says_up_to_when_it_heard_all(site):
    """Events may have waited for it when it was killed."""
    site.run(True, [event()])
    [path] = (site.folder / "book/m1").glob("*.jsonl")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    status = site.folder / "state/status.json"
    heard = json.loads(status.read_bytes())["heard"]
    for known, since in ((heard, heard), ("", site.records()[-1]["time"])):
        status.write_text(json.dumps({"heard": known}))
        book = Book(site.folder / "book", "m1", status, print)
        book.close()
        assert book.heard[:19] == since[:19]


def test_events_that_waited_are_heard_late(site):
    site.run(True)
    stamped = (event()[0], {**event()[1], "_stamp": "2026-11-23T07:00:00.500000"})
    site.steps = [[event(), stamped], [event()], []]
    site.service._keep = lambda *_: None
    before = site.service._book.time()
    assert site.service._read(site) == "2026-11-23T07:00:00.500000Z"
    assert before <= site.service._read(site) <= site.service._read(site)


def test_a_job_cache_that_cannot_be_read_is_told(site):
    site.run(True)
    site.cache = None
    site.run(True, [event()])
    [gap] = [it for it in site.records() if it["kind"] == "gap"][1:]
    assert gap["error"].startswith("the job cache cannot be read: AttributeError")
    assert site.kinds()[-2:] == ["return", "stop"]


def test_a_minion_that_asks_again_and_again(site):
    def asked(act, second):
        said = {"id": "web1", "act": act, "pub": "k", "result": True}
        return "salt/auth", {**said, "_stamp": f"2026-11-23T08:00:0{second}.000000"}

    site.run(True, [asked("pend", 1), asked("pend", 2), asked("accept", 3)], [asked("accept", 4)])
    site.run(True, [asked("accept", 5)])
    acts = [(it["act"], it["time"][18]) for it in site.records() if it["kind"] == "auth"]
    assert acts == [("pend", "1"), ("accept", "3")]


def test_an_event_that_cannot_be_read(site, monkeypatch):
    class Odd(dict):
        def get(self, key, default=None):
            if key == "fun":
                raise ValueError("no function")
            return super().get(key, default)

    site.run(True, [(f"salt/job/{JID}/ret/web1", Odd()), event(minion="web2")])
    [odd] = [it for it in site.records() if it["kind"] == "odd"]
    assert (odd["tag"], odd["why"]) == (f"salt/job/{JID}/ret/web1", "ValueError: no function")
    assert site.kinds()[-2:] == ["return", "stop"]


def test_a_full_disk_ends_it(site, monkeypatch):
    from rocksalt.logstash.receiving.store import Store

    take = Store.take

    def full(self, host, text):
        if '"web1"' in text:
            raise OSError(errno.ENOSPC, "No space left on device")
        take(self, host, text)

    monkeypatch.setattr(Store, "take", full)
    with pytest.raises(RocksaltError, match="No space left"):
        site.run(True, [event(minion="web2")], [event()])
    assert site.kinds() == ["start", "gap", "return"]


def test_a_log_of_the_api_that_cannot_be_read_is_told(site):
    (site.folder / "api.jsonl").symlink_to("/etc/hostname")
    site.run(True, [event()])
    assert site.kinds() == ["start", "gap", "return", "stop"]
    status = json.loads((site.folder / "state/status.json").read_bytes())
    assert status["problem"].startswith("the log of the API cannot be read")


def test_files_and_lines_of_the_api_are_kept(site):
    (site.folder / "api.jsonl").write_text('{"event":"login","user":"alice"}\n')
    (site.folder / "states/a.sls").write_text("a")
    site.run(True)
    (site.folder / "states/a.sls").write_text("b")
    site.run(True)
    records = site.records()
    assert [it["user"] for it in records if it["kind"] == "api"] == ["alice"]
    files = [it for it in records if it["kind"] == "files"]
    assert [it.get("first", False) for it in files] == [True, False]
    assert files[1]["changed"] == [str(site.folder / "states/a.sls")]


def test_a_master_that_comes_back_with_other_trees(site, monkeypatch):
    """They are watched from then on, and those that stay go on as they were."""
    more = site.folder / "more"
    more.mkdir()
    (site.folder / "states/a.sls").write_text("a")
    (more / "b.sls").write_text("b")
    trees = [{"base": [str(site.folder / "states")]}]
    monkeypatch.setattr(follow, "options", lambda _: {"file_roots": trees[-1]})

    class Changes(follow.Lost):
        """The moment at which the master ends, to come back with another configuration."""

        def __init__(self):
            trees.append({**trees[0], "dev": [str(more)]})
            super().__init__("the event bus of the master ended")

    steps = iter([lambda: True, lambda: Changes(), lambda: True])
    real = site._next
    monkeypatch.setattr(site, "_next", lambda: next(steps, real)())
    site.run()
    found = [it for it in site.records() if it["kind"] == "files"]
    assert [(it["tree"], it["files"], it["first"]) for it in found] == [
        ("file_roots:base", 1, True),
        ("file_roots:dev", 1, True),
    ]


def test_an_event_that_cannot_be_unpacked_is_told(site):
    site.run(True, [(f"salt/job/{JID}/ret/web1", "9 bytes cannot be unpacked"), ("x", "y")])
    [odd] = [it for it in site.records() if it["kind"] == "odd"]
    assert (odd["tag"], odd["why"]) == (f"salt/job/{JID}/ret/web1", "9 bytes cannot be unpacked")


def test_events_are_kept_while_a_gap_is_filled(site, monkeypatch):
    monkeypatch.setattr(service, "_TURN", 0)
    jids = [f"2026112308000000000{number}" for number in range(3)]
    job = {"fun": "test.ping", "user": "alice", "Minions": ["web1"], "arg": []}
    site.run(True)
    site.cache.known = dict.fromkeys(jids, job)
    site.run(True, [event()], *[None] * 10)
    kinds = site.kinds()[3:]
    assert kinds[:4] == ["start", "job", "return", "return"]
    assert sorted(kinds[4:8]) == ["job"] * 2 + ["return"] * 2 and kinds[8:] == ["gap", "stop"]


def test_a_disk_without_room_is_a_gap_that_is_filled(site, monkeypatch):
    from rocksalt.logbook import bounds

    monkeypatch.setattr(bounds, "_LOOK", -1)
    problems = []

    class Full(list):
        """Events at whose moment the disk is full, or not any more."""

        def __init__(self, room, events):
            super().__init__(events)
            self.room = room

        def __iter__(self):
            monkeypatch.setattr(bounds, "ROOM", self.room)
            return super().__iter__()

    site.cache.known = {JID: {"fun": "test.ping", "user": "alice", "Minions": ["web1"], "arg": []}}
    monkeypatch.setattr(bounds, "SHARE", 1e9)
    monkeypatch.setattr(bounds, "ROOM", 0)
    real = Book.tell
    monkeypatch.setattr(
        Book,
        "tell",
        lambda self, **more: (problems.append(more.get("problem")), real(self, **more)),
    )
    other = "20261123080000000000"
    site.run(
        True, Full(1 << 60, [event(), event(other)]), Full(0, [event(other, "web2")]), True, []
    )
    assert site.kinds() == ["start", "gap", "return", "lost", "job", "return", "gap", "stop"]
    assert any("no room left" in it for it in problems if it)
    records = [it for it in site.records() if it["kind"] != "files"]
    assert records[3]["why"].startswith("the disk had no room")
    assert records[2]["minion"] == "web2" and records[5]["filled"] is True


def test_lines_of_the_api_are_kept_as_they_are_read(site, monkeypatch):
    """One that ends in the middle goes on there, and none is read twice into memory."""
    monkeypatch.setattr(service, "_TOGETHER", 10)
    lines = "".join(f'{{"event":"login","user":"u{number}"}}\n' for number in range(95))
    (site.folder / "api.jsonl").write_text(lines)
    kept = []
    real = service.apilog.Tail.keep
    monkeypatch.setattr(
        service.apilog.Tail, "keep", lambda self: (kept.append(self._offset), real(self))
    )
    site.run(True)
    assert [it["user"] for it in site.records() if it["kind"] == "api"] == [
        f"u{number}" for number in range(95)
    ]
    assert len(kept) >= 10 and kept[-1] == len(lines)


def test_nothing_is_kept_on_a_full_disk_and_all_of_it_later(site, monkeypatch):
    """Lines of the API, changed files, and what is in the job cache wait where they are."""
    from rocksalt.logbook import bounds

    line = '{"event":"login","user":"%s"}\n'
    (site.folder / "api.jsonl").write_text(line % "alice")
    (site.folder / "states/a.sls").write_text("a")
    monkeypatch.setattr(bounds, "_LOOK", -1)
    site.run(True)
    with (site.folder / "api.jsonl").open("a") as file:
        file.write(line % "bob" + line % "carol")
    (site.folder / "states/a.sls").write_text("b")
    job = {"fun": "test.ping", "user": "alice", "Minions": ["web1"], "arg": []}
    site.cache.known = {JID: job, f"{JID}1": job}
    monkeypatch.setattr(bounds, "ROOM", 8 << 60)
    monkeypatch.setattr(bounds, "SHARE", 1e9)
    before = len(site.records())
    site.run(True)
    [gap] = [it for it in site.records()[before:] if it["kind"] not in ("start", "stop")]
    assert gap["error"].endswith("the disk has no room left for what is in it")
    monkeypatch.setattr(bounds, "ROOM", 0)
    site.run(True)
    later = site.records()[before:]
    assert [it["user"] for it in later if it["kind"] == "api"] == ["bob", "carol"]
    assert [it["changed"] for it in later if it["kind"] == "files"] == [
        [str(site.folder / "states/a.sls")]
    ]
    assert {it["jid"] for it in later if it["kind"] == "job"} == {JID, f"{JID}1"}


def test_a_disk_that_fills_up_while_lines_of_the_api_are_read(site, monkeypatch):
    from rocksalt.logbook import bounds

    lines = [f'{{"event":"login","user":"u{number}"}}\n' for number in range(9)]
    (site.folder / "api.jsonl").write_text("".join(lines))
    room = iter([False] * 4)
    monkeypatch.setattr(service.Service, "_look", lambda self: None)
    monkeypatch.setattr(bounds.Bounds, "is_full", lambda self: next(room, True))
    site.run(True)
    users = [it["user"] for it in site.records() if it["kind"] == "api"]
    assert users == [f"u{number}" for number in range(len(users))] and len(users) < 9
    monkeypatch.setattr(bounds.Bounds, "is_full", lambda self: False)
    site.run(True)
    assert [it["user"] for it in site.records() if it["kind"] == "api"] == [
        f"u{number}" for number in range(9)
    ]

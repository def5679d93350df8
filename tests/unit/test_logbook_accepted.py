"""rocksalt.logbook.accepted: keys of minions that are there with nobody's word."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from rocksalt.logbook import accepted, sentences
from rocksalt.logbook.records import told


class Master:
    """A folder of keys; its clock goes on when the test says so."""

    def __init__(self, folder):
        self.folder, self.kept = folder / "minions", folder / "keys.json"
        self.folder.mkdir()
        self.time = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=1)
        self.start()

    def start(self, *book):
        self.keys = accepted.Keys(str(self.folder), self.kept, lambda: self.time)
        self.keys.replay(book)

    def put(self, name, text="a key"):
        (self.folder / name).write_text(text)

    def look(self, later=0.0):
        self.time += dt.timedelta(seconds=later)
        found = self.keys.look()
        self.keys.keep()
        return [record["minion"] for record in found]


@pytest.fixture
def master(tmp_path):
    return Master(tmp_path)


def decided(minion, act="accept", success=True, time=""):
    return {"kind": "key", "minion": minion, "act": act, "success": success, "time": time}


def test_what_is_there_at_the_first_look_is_taken_as_it_is(master):
    master.put("web1")
    master.put(".key_cache")
    assert master.look() == master.look() == []
    assert json.loads(master.kept.read_text())["known"].keys() == {"web1"}


def test_who_says_so_is_enough(master):
    master.look()
    master.keys.note(decided("web1"))
    master.put("web1")
    assert master.look() == []
    master.start()
    assert master.look() == []


@pytest.mark.parametrize(
    "said",
    [
        *([], [decided("web2")], [decided("web1", success=False)], [decided("web1", act="reject")]),
        *([decided("web1"), decided("web1", act="delete")], [decided("web1") | {"kind": "auth"}]),
    ],
)
def test_a_key_with_nobodys_word(master, said):
    master.look()
    for record in said:
        master.keys.note(record)
    master.put("web1")
    assert master.look() == master.look() == ["web1"], "until somebody decides"
    (record,) = master.keys.look()
    assert (record["kind"], record["act"]) == ("key", "found")
    told = sentences.sentence({**record, "time": "2026-11-23T08:00:00"}, {})
    assert (
        told
        == f"2026-11-23 08:00:00 the key {record['key']} of web1 is accepted with nobody's word"
    )
    master.keys.note(decided("web1"))
    assert master.look() == []


def test_another_key_in_its_place(master):
    master.put("web1")
    master.look()
    master.put("web1", "another key")
    assert master.look() == ["web1"]
    master.start()
    assert master.look() == ["web1"]
    master.put("web1")
    assert master.look() == []


def test_a_word_is_for_one_key(master):
    master.look()
    master.keys.note(decided("web1"))
    master.put("web1")
    master.look()
    (master.folder / "web1").unlink()
    master.look()
    master.put("web1", "another key")
    assert master.look() == ["web1"]


def test_a_key_is_there_before_its_event(master):
    master.look()
    master.put("web1")
    master.time = dt.datetime.now(dt.timezone.utc)
    assert master.look(5) == []
    master.keys.note(decided("web1"))
    assert master.look(6) == master.look(60) == []


def test_an_event_that_comes_late(master):
    master.look()
    master.put("web1")
    assert master.look() == ["web1"]
    master.keys.note(decided("web1", time="2020-01-01T00:00:00.000000Z"))
    assert master.look() == []


def test_killed_between_the_book_and_its_own_file(master):
    """The book has what was said since the last look; what is older was taken into account."""
    master.look()
    master.put("web1")
    old, new = (told(master.time + dt.timedelta(minutes=n)) for n in (-5, 1))
    master.start(decided("web1", time=old))
    assert master.look() == ["web1"]
    master.start(decided("web1", time=new), decided("web1", act="found", time=new))
    assert master.look() == []


def test_a_file_that_is_none_begins_anew(master):
    master.look()
    master.put("web1")
    master.kept.write_text("{")
    master.start()
    assert master.look() == []


@pytest.mark.parametrize(
    ("opts", "folder"),
    [
        ({"pki_dir": "/p"}, "/p/minions"),
        ({"pki_dir": "/p", "keys.cache_driver": "localfs_key"}, "/p/minions"),
        ({"pki_dir": "/p", "keys.cache_driver": "mmap_key"}, ""),
        ({"pki_dir": "/p", "cluster_id": "c"}, ""),
        ({}, ""),
    ],
)
def test_whose_keys(opts, folder, tmp_path):
    assert accepted.folder(opts) == folder
    if not folder:
        keys = accepted.Keys(folder, tmp_path / "x", lambda: dt.datetime.now(dt.timezone.utc))
        assert keys.look() == []
        keys.keep()
        assert not (tmp_path / "x").exists()

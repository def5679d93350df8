"""rocksalt.logstash.shipping.tail: files that grow, are rotated, cut off and deleted."""

from __future__ import annotations

import json
import os

import pytest

from rocksalt.logstash.shipping import files, tail
from rocksalt.logstash.shipping.events import Maker
from rocksalt.logstash.shipping.mask import Masker
from rocksalt.logstash.shipping.tail import Tail


class Follower:
    """A tail at a time that tests set, which notes what a shipper would: positions after
    everything that it took.
    """

    def __init__(self, folder, files=None, ignore=()):
        self.files = files or {f"{folder}/*.log": "x", f"{folder}/minion": "salt"}
        self.ignore = ignore
        self.positions: dict[str, object] = {}
        self.gaps = self.dropped = 0
        self.ids: list[str] = []
        self.now = 100.0
        self.restart()

    def restart(self):
        maker = Maker("web1", {}, Masker([]))
        self.tail = Tail(self.files, self.ignore, maker, self.remember)
        self.rewind()

    def rewind(self, positions=None):
        self.positions = json.loads(json.dumps(positions or self.positions))
        self.tail.start(self.positions, self.now)

    def remember(self, source, position):
        self.positions[source] = position

    def messages(self, later=0.0, count=1000, note=True):
        self.now += later
        self.tail.scan(self.now)
        found = []
        for step in self.tail.take(count, self.now):
            if note:
                self.gaps += step.counts.get("unknown_gaps", 0)
                self.dropped += step.counts.get("dropped", 0)
                self.positions[step.source] = step.position
                if step.position is None:
                    del self.positions[step.source]
            documents = [json.loads(it) for it in step.lines]
            self.ids += [it["event"]["id"] for it in documents]
            found += [it["message"] for it in documents]
        return found


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\n")
    return path


@pytest.fixture
def follower(tmp_path, log):
    return Follower(tmp_path)


def append(path, text):
    with path.open("ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def test_lines_are_taken_once(follower, log):
    assert follower.messages() == ["one", "two"]
    assert follower.messages() == []
    append(log, "three\nfo")
    assert follower.messages() == ["three"]
    append(log, "ur\n\n")
    assert follower.messages() == ["four"]
    follower.restart()
    assert follower.messages() == []


def test_a_line_without_an_end_is_sent_after_a_minute(follower, log):
    append(log, "half")
    assert follower.messages() == ["one", "two"]
    assert follower.messages(later=tail.UNFINISHED - 1) == []
    assert follower.messages(later=2) == ["half"]


def test_what_does_not_count_comes_again_with_the_same_ids(follower, log):
    before = json.loads(json.dumps(follower.positions))
    follower.messages()
    first, follower.ids = follower.ids, []
    follower.rewind(before)
    assert follower.messages() == ["one", "two"]
    assert follower.ids == first
    follower.ids = []
    follower.positions = before
    follower.restart()
    follower.messages()
    assert follower.ids == first


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("name", ["a.log.1", "a.log-20261123"])
def test_a_renamed_file_is_finished(follower, log, restarted, name):
    assert follower.messages() == ["one", "two"]
    append(log, "last\n")
    log.rename(log.parent / name)
    log.write_text("new\n")
    if restarted:
        follower.restart()
    assert sorted(follower.messages(later=2)) == ["last", "new"]
    append(log.parent / name, "very last\nhalf")
    assert follower.messages(later=2) == ["very last"]
    assert follower.messages(later=2) == ["half"]
    follower.messages(later=tail.UNFINISHED + 1)
    assert len(follower.tail.files) == len(follower.positions) == 1
    assert follower.gaps == 0


def rotate(log, text):
    for number in range(5, 0, -1):
        name = f"{log}.{number - 1}" if number > 1 else str(log)
        if os.path.exists(name):
            os.rename(name, f"{log}.{number}")
    log.write_text(text)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_file_that_came_and_went_unseen_is_followed(follower, log, restarted):
    old = log.parent / "a.log.1"
    old.write_text("long ago\n")
    os.utime(old, (1, 1))
    (log.parent / "a.log.txt").write_text("another\n")
    assert follower.messages() == ["one", "two"]
    rotate(log, "three\n")
    rotate(log, "four\n")
    if restarted:
        follower.restart()
    assert sorted(follower.messages(later=2)) == ["four", "three"]
    assert follower.messages(later=2) == []
    follower.restart()
    assert (follower.messages(later=2), follower.gaps) == ([], 0)


def test_a_file_that_was_compressed_unseen_is_a_gap(follower, log):
    follower.messages()
    rotate(log, "three\n")
    rotate(log, "four\n")
    os.rename(f"{log}.1", f"{log}.1.gz")
    assert follower.messages(later=2) == ["four"]
    assert follower.gaps == 1
    follower.messages(later=2)
    assert follower.gaps == 1


def test_a_file_that_is_gone_is_a_gap(follower, log):
    follower.messages()
    log.unlink()
    log.write_text("other\n")
    follower.restart()
    assert follower.messages() == ["other"]
    assert follower.gaps == 1
    follower.restart()
    assert (follower.messages(), follower.gaps) == ([], 1)


def test_a_deleted_file_is_read_to_its_end(follower, log):
    follower.messages()
    append(log, "last\n")
    log.unlink()
    assert follower.messages(later=2) == ["last"]
    assert follower.gaps == 0


def test_another_file_with_the_same_inode_is_seen(follower, log):
    follower.messages()
    with log.open("r+b") as file:
        file.write(b"ONE\ntwo\nthree\n")
    follower.restart()
    assert follower.messages() == ["ONE", "two", "three"]
    assert follower.gaps == 1


def test_a_file_that_is_cut_off_begins_anew(follower, log):
    append(log, "half")
    assert follower.messages() == ["one", "two"]
    os.truncate(log, 0)
    append(log, "new\n")
    assert follower.messages() == ["half"]
    assert follower.messages() == ["new"]
    assert follower.gaps == 0
    assert len(set(follower.ids)) == 4
    follower.restart()
    assert (follower.messages(), follower.gaps) == ([], 0)


def test_what_was_cut_off_before_it_was_read_is_a_gap(follower, log):
    follower.messages()
    append(log, "x" * tail._CHUNK + "\nlost\n")
    follower.messages()
    os.truncate(log, 0)
    follower.messages()
    assert follower.gaps == 1


def test_what_was_cut_off_before_it_counted_is_a_gap(follower, log):
    before = json.loads(json.dumps(follower.positions))
    follower.messages()
    os.truncate(log, 0)
    append(log, "new\n")
    follower.messages(note=False)
    follower.rewind(before | {it.source: it.position() for it in follower.tail.files.values()})
    follower.messages()
    assert follower.gaps == 1


RECORD = "2026-11-23 04:20:00,123 [salt.minion     :1][ERROR   ][2] uh"


def test_records_of_several_lines_are_one(follower, log):
    minion = log.parent / "minion"
    minion.write_text(f"{RECORD}\nTraceback:\n  File\n")
    assert follower.messages(later=2) == ["one", "two"]
    append(minion, f"Error: x\n{RECORD}\n")
    assert follower.messages() == [f"{RECORD}\nTraceback:\n  File\nError: x"]
    assert follower.messages(later=0.5) == []
    assert follower.messages(later=1) == [RECORD]


def test_a_record_has_an_end(follower, log):
    minion = log.parent / "minion"
    minion.write_text(f"{RECORD}\n" + "more\n" * 100)
    found = follower.messages(later=2)[2:] + follower.messages(later=2)
    assert [it.count("\n") for it in found] == [63, 36]


def test_a_large_record_is_one(follower, log):
    minion = log.parent / "minion"
    long = "\n".join([RECORD, *["y" * 5_000] * 40])
    minion.write_text(f"{long}\n{RECORD}\n")
    found = []
    for _ in range(6):
        found += follower.messages(later=0.5)
    assert "".join(found) == f"onetwo{long}{RECORD}"
    assert len({it.partition("-")[0] for it in follower.ids}) == 4


def test_an_endless_line_is_cut(follower, log):
    append(log, b"\xff" * (files.LONGEST + 10) + b"\n")
    found = []
    for _ in range(40):
        found += follower.messages()
    assert found[:2] == ["one", "two"]
    assert "".join(found[2:]) == "\\xff" * (files.LONGEST + 10)


def test_the_first_run_begins_near_the_end_of_a_large_file(tmp_path):
    large = tmp_path / "a.log"
    large.write_bytes(b"".join(b"%07d\n" % it for it in range(files.LONGEST // 4)))
    follower = Follower(tmp_path)
    assert follower.messages(count=8)[0] == f"{files.LONGEST // 8 + 1:07d}"
    (tmp_path / "b.log").write_bytes(large.read_bytes())
    follower.messages(later=2, count=8)
    assert any(it.start < 1000 for it in follower.tail.files.values())


def test_some_files_stay_here(tmp_path, log):
    (tmp_path / "b.log").write_text("b\n")
    (tmp_path / "c.log").mkdir()
    follower = Follower(tmp_path, ignore=(f"{tmp_path}/b*",))
    assert follower.messages() == ["one", "two"]


def test_no_file_waits_for_another(follower, log):
    append(log, "x\n" * 100)
    (log.parent / "b.log").write_text("b\n" * 100)
    found = follower.messages(later=2, count=50)
    found += follower.messages(count=8)
    assert (found.count("x"), found.count("b")) == (31, 12)


def test_the_oldest_are_passed_over(follower, log):
    follower.messages()
    append(log, ("y" * (tail._TYPICAL - 1) + "\n") * 20)
    before = json.loads(json.dumps(follower.positions))
    assert len(follower.messages(count=10, note=False)) == 8
    follower.rewind(before)
    follower.tail.limit(5)
    assert len(follower.messages()) == 13
    assert follower.dropped == 7


def test_what_waits_is_estimated(follower, log):
    follower.messages()
    append(log, "x" * tail._TYPICAL * 3)
    assert follower.tail.waiting(follower.positions) == {str(log): 3}
    state = {"dataset": "x", "offset": 8, "size": 8 + tail._TYPICAL * 3}
    assert follower.tail.state(follower.positions) == {str(log): state}

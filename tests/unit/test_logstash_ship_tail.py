"""rocksalt.logstash.shipping.tail: files that grow, are rotated, cut off and deleted."""

from __future__ import annotations

import errno
import gzip
import json
import os
import stat
from types import SimpleNamespace

import pytest

from rocksalt.logstash.shipping import files, tail
from rocksalt.logstash.shipping.events import Maker
from rocksalt.logstash.shipping.mask import Masker
from rocksalt.logstash.shipping.steps import NOTHING
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
        maker = Maker("web1", {}, Masker(["(?P<secret>-----BEGIN PRIVATE KEY-----)"]))
        self.tail = Tail(self.files, self.ignore, maker, self.remember)
        self.rewind()

    def rewind(self, positions=None):
        self.positions = json.loads(json.dumps(positions or self.positions))
        self.tail.start(self.positions, self.now)

    def remember(self, source, position, counts=NOTHING):
        self.gaps += counts.get("unknown_gaps", 0)
        self.positions[source] = position
        if position is None:
            del self.positions[source]

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
    append(log.parent / name, "late\n")
    assert follower.messages(later=tail.UNFINISHED + 1) == ["late"]
    log.rename(log.parent / "a.log.0")
    log.write_text("newer\n")
    append(log.parent / name, "latest\n")
    assert sorted(follower.messages(later=2)) == ["latest", "newer"]
    follower.messages(later=tail.UNFINISHED + 1)
    assert len(follower.tail.files) == len(follower.positions) == 2
    (log.parent / "a.log.0").unlink()
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


def pack(log, number):
    plain = log.parent / f"{log.name}.{number}"
    packed, state = f"{plain}.gz", plain.stat()
    with gzip.open(packed, "wb") as file:
        file.write(plain.read_bytes())
    os.utime(packed, ns=(state.st_atime_ns, state.st_mtime_ns))
    plain.unlink()


def truncate(log, text):
    """A rotation by copy."""
    if os.path.exists(f"{log}.1"):
        os.rename(f"{log}.1", f"{log}.2")
    (log.parent / f"{log.name}.1").write_bytes(log.read_bytes())
    log.write_text(text)


@pytest.mark.parametrize("restarted", [False, True])
def test_copies_that_were_made_unseen_are_followed(follower, log, restarted):
    assert follower.messages() == ["one", "two"]
    append(log, "three\n")
    truncate(log, "b1 and more\nb2 and more\n")
    truncate(log, "c\n")
    if restarted:
        follower.restart()
    found = follower.messages(later=2) + follower.messages(later=2)
    assert sorted(found) == ["b1 and more", "b2 and more", "c", "three"]
    follower.restart()
    assert (follower.messages(later=2), follower.gaps) == ([], 0)


@pytest.mark.parametrize("restarted", [False, True])
def test_copies_of_a_file_that_was_empty_are_followed(tmp_path, restarted):
    log = tmp_path / "a.log"
    log.write_text("")
    follower = Follower(tmp_path)
    assert follower.messages() == []
    append(log, "a\n")
    truncate(log, "b\n")
    truncate(log, "c\n")
    if restarted:
        follower.restart()
    else:
        follower.rewind()
    assert sorted(follower.messages(later=2)) == ["a", "b", "c"]
    follower.restart()
    assert (follower.messages(later=2), follower.gaps) == ([], 0)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("unread", ["", "three\n"])
def test_copies_are_followed_though_the_first_is_compressed(follower, log, restarted, unread):
    follower.messages()
    append(log, unread)
    truncate(log, "b1 and more\nb2 and more\n")
    truncate(log, "c\n")
    pack(log, 2)
    if restarted:
        follower.restart()
    found = follower.messages(later=2) + follower.messages(later=2)
    assert sorted(found) == ["b1 and more", "b2 and more", "c"]
    assert follower.gaps == bool(unread)
    follower.restart()
    assert (follower.messages(later=2), follower.gaps) == ([], bool(unread))


@pytest.mark.parametrize("restarted", [False, True])
def test_copies_that_were_compressed_unseen_are_gaps(follower, log, restarted):
    follower.messages()
    truncate(log, "b1 and more\nb2 and more\n")
    truncate(log, "c\n")
    pack(log, 1)
    pack(log, 2)
    if restarted:
        follower.restart()
    assert follower.messages(later=2) + follower.messages(later=2) == ["c"]
    assert follower.gaps == 1
    follower.restart()
    assert (follower.messages(later=2), follower.gaps) == ([], 1)


@pytest.mark.parametrize("unread", ["", "three\n"])
def test_a_file_is_followed_though_the_one_before_it_was_compressed(follower, log, unread):
    follower.messages()
    append(log, unread)
    rotate(log, "b1\nb2\n")
    rotate(log, "c\n")
    pack(log, 2)
    follower.restart()
    follower.rewind()
    assert sorted(follower.messages(later=2)) == ["b1", "b2", "c"]
    assert follower.gaps == bool(unread)
    follower.restart()
    assert (follower.messages(later=2), follower.gaps) == ([], bool(unread))


def test_compressed_files_are_one_gap_each(follower, log):
    follower.messages()
    rotate(log, "b1\n")
    follower.messages(later=2)
    for text in ("c\n", "d\n", "e\n"):
        rotate(log, text)
    for number in (1, 2, 3, 4):
        pack(log, number)
    for _ in range(3):
        follower.restart()
        follower.rewind()
    assert (follower.messages(later=2), follower.gaps) == (["e"], 2)
    follower.restart()
    assert (follower.messages(later=2), follower.gaps) == ([], 2)


def test_a_gap_is_counted_once_while_its_file_is_kept(follower, log):
    follower.messages()
    for text in ("b\n", "c\n"):
        rotate(log, text)
    pack(log, 1)
    for _ in range(3):
        follower.restart()
        follower.messages(later=2)
    assert follower.gaps == 1


def test_an_archive_that_is_being_made_is_no_gap(follower, log):
    follower.messages()
    rotate(log, "b\n")
    (log.parent / "a.log.1.gz").write_bytes(b"half")
    assert (follower.messages(later=2), follower.gaps) == (["b"], 0)


def test_a_file_between_that_is_not_read_is_a_gap(follower, log, monkeypatch):
    follower.messages()
    rotate(log, "b\n")
    rotate(log, "c\n")
    opened = tail.opened

    def refuse(path, known, dataset):
        if path.endswith(".1"):
            raise PermissionError("uid 7 owns it")
        return opened(path, known, dataset)

    monkeypatch.setattr(tail, "opened", refuse)
    assert (follower.messages(later=2), follower.gaps) == (["c"], 1)
    for _ in range(3):
        follower.restart()
    assert follower.gaps == 1


def test_a_file_between_is_followed_once(follower, log):
    follower.messages()
    rotate(log, "b\n")
    follower.messages(later=2)
    rotate(log, "c\n")
    rotate(log, "d\n")
    follower.restart()
    assert sorted(follower.messages(later=2)) == ["c", "d"]
    assert (len(follower.tail.files), follower.gaps) == (4, 0)


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
    assert follower.gaps == 1
    assert len(set(follower.ids)) == 4
    follower.restart()
    assert (follower.messages(), follower.gaps) == ([], 1)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("more", [1, 100])
def test_a_file_that_was_written_anew_while_nobody_looked_is_a_gap(follower, log, restarted, more):
    follower.messages()
    append(log, "lost\n" * 10)
    log.write_text("new\n" * more)
    if restarted:
        follower.restart()
    else:
        follower.rewind()
    assert follower.messages() + follower.messages() == ["new"] * more
    assert follower.gaps == 1


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("old", ["a.log.1", "a.log-20261123"])
def test_the_copy_of_a_file_that_is_cut_off_is_read_on(follower, log, restarted, old):
    (log.parent / "a.log.2").write_text("one\ntwo\nlong ago\n")
    os.utime(log.parent / "a.log.2", (1, 1))
    append(log, "half")
    assert follower.messages() == ["one", "two"]
    append(log, " and half\nthree\n")
    (log.parent / old).write_bytes(log.read_bytes())
    log.write_text("new\n" * 20)
    if restarted:
        follower.restart()
    found = follower.messages(later=2) + follower.messages(later=2)
    assert sorted(found) == ["half and half", *["new"] * 20, "three"]
    follower.rewind()
    follower.restart()
    assert (follower.messages(later=2), follower.gaps) == ([], 0)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("unread", ["", "three\n"])
def test_a_file_that_is_compressed_at_once_is_no_gap(follower, log, restarted, copied, unread):
    follower.messages()
    if unread and (restarted or copied):
        append(log, unread)
    packed = log.parent / "a.log.1.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    written = log.stat().st_mtime_ns
    if copied:
        os.truncate(log, 0)
    else:
        os.utime(packed, ns=(written, written))
        log.unlink()
    if restarted:
        follower.restart()
    log.write_text("new\n")
    assert follower.messages(later=2) + follower.messages(later=2) == ["new"]
    assert follower.gaps == bool(unread and (restarted or copied))


@pytest.mark.parametrize(("later", "gaps"), [(0, 0), (-400_000_000, 0), (1, 1)])
def test_other_archives_are_told_by_their_time(follower, log, later, gaps):
    os.utime(log, ns=(10**18 + 500_000_000,) * 2)
    follower.messages()
    log.rename(log.parent / "a.log.1.xz")
    os.utime(log.parent / "a.log.1.xz", ns=(10**18 + 500_000_000 + later,) * 2)
    (log.parent / "a.log.1.xz").replace(log.parent / "b.xz")
    (log.parent / "a.log.1.xz").write_bytes(b"packed")
    os.utime(log.parent / "a.log.1.xz", ns=(10**18 + 500_000_000 + later,) * 2)
    follower.restart()
    assert (follower.messages(), follower.gaps) == ([], gaps)


def test_the_number_of_a_device_may_change(follower, log, monkeypatch):
    follower.messages()
    for position in follower.positions.values():
        position[1]["device"] = 77
    follower.restart()
    append(log, "three\n")
    assert (follower.messages(), follower.gaps) == (["three"], 0)


def test_a_gap_that_was_seen_stays(follower, log):
    before = json.loads(json.dumps(follower.positions))
    follower.messages()
    rotate(log, "three\n")
    rotate(log, "four\n")
    os.rename(f"{log}.1", f"{log}.1.gz")
    follower.messages(later=2, note=False)
    follower.rewind(before)
    follower.messages(later=2)
    assert follower.gaps == 1


def test_what_was_cut_off_before_it_was_read_is_a_gap(follower, log):
    follower.messages()
    append(log, "x" * tail._CHUNK + "\nlost\n")
    follower.messages()
    os.truncate(log, 0)
    follower.messages()
    assert follower.gaps == 1


def test_what_was_read_of_a_file_that_is_cut_off_waits_until_it_is_taken(follower, log):
    append(log, "".join(f"n{it}\n" for it in range(2, 50)))
    assert len(follower.messages(count=16)) == 8
    log.write_text("new\n")
    steps = follower.tail.take(16, follower.now)
    assert b'"n8"' in next(steps).lines[0]
    steps.close()
    assert follower.tail.pending
    assert follower.messages(count=20) == [f"n{it}" for it in range(9, 29)]
    assert follower.gaps == 0
    assert follower.messages() + follower.messages() == [f"n{it}" for it in range(29, 50)] + ["new"]
    assert (follower.gaps, len(follower.positions)) == (1, 1)


def test_files_are_pending_though_taking_was_broken_off(follower, log):
    append(log, "half")
    follower.messages()
    append(log, "\n2\n3\n")
    steps = follower.tail.take(16, follower.now)
    assert b'"half"' in next(steps).lines[0]
    steps.close()
    assert follower.tail.pending
    assert follower.messages() == ["2", "3"]


def test_a_record_that_grows_later_keeps_its_end(follower, log):
    minion = log.parent / "minion"
    minion.write_text(f"{RECORD}\n")
    follower.messages(later=2, note=False)
    before = json.loads(json.dumps(follower.positions))
    assert follower.messages(later=2, note=False) == [RECORD]
    first, follower.ids = sorted(follower.ids), []
    append(minion, "Traceback\n")
    follower.rewind({it: [0, at[1]] for it, at in before.items()})
    found = follower.messages(later=2) + follower.messages(later=2)
    assert sorted(found) == sorted([RECORD, "Traceback", "one", "two"])
    assert len(set(follower.ids)) == 4
    assert set(first) < set(follower.ids)


def test_a_link_is_followed_where_it_is_of_root_alone(tmp_path, log, monkeypatch):
    (tmp_path / "b.log").symlink_to("a.log")
    monkeypatch.setattr(files, "ROOT", os.getuid())
    assert Follower(tmp_path, {f"{tmp_path}/b.log": "x"}).messages() == ["one", "two"]
    monkeypatch.setattr(files, "ROOT", os.getuid() + 1)
    refused = Follower(tmp_path, {f"{tmp_path}/b.log": "x"})
    assert refused.messages() == []
    problem = {"dataset": "x", "problem": "b.log is a link that is not of root alone"}
    assert refused.tail.state({}) == {f"{tmp_path}/b.log": problem}
    refused = Follower(tmp_path, {f"{tmp_path}/d/a.log": "x"})
    (tmp_path / "d").symlink_to(".")
    assert refused.messages(later=2) == []
    assert "d is a link" in refused.tail.state({})[f"{tmp_path}/d/a.log"]["problem"]


def test_a_refused_link_hides_nothing(tmp_path, log, monkeypatch):
    monkeypatch.setattr(files, "ROOT", os.getuid() + 1)
    (tmp_path / "0.log").symlink_to("a.log")
    assert Follower(tmp_path).messages() == ["one", "two"]


def test_another_name_of_a_file_is_not_followed(tmp_path, log, monkeypatch):
    os.link(log, tmp_path / "b.log")
    monkeypatch.setattr(files, "ROOT", os.getuid() + 1)
    assert Follower(tmp_path).messages() == []
    monkeypatch.setattr(files, "ROOT", os.getuid())
    assert Follower(tmp_path).messages() == ["one", "two"]


@pytest.mark.parametrize(
    ("owner", "folder", "mode", "links", "refused"),
    [
        (0, 7, 0o755, 1, False),
        (7, 7, 0o755, 1, False),
        (8, 7, 0o755, 1, True),
        (0, 7, 0o755, 2, True),
        (8, 0, 0o775, 2, False),
        (8, 0, 0o1777, 1, True),
    ],
)
def test_whose_files_are_read(owner, folder, mode, links, refused):
    file = SimpleNamespace(st_mode=stat.S_IFREG, st_uid=owner, st_nlink=links)
    where = SimpleNamespace(st_mode=stat.S_IFDIR | mode, st_uid=folder)
    assert bool(files.unfit(file, where)) is refused
    assert files.unfit(SimpleNamespace(st_mode=stat.S_IFIFO), where) == "it is no regular file"


def test_an_error_of_a_file_is_named(follower, log, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", broken)
    append(log, "three\n")
    assert follower.messages() == []
    assert not follower.tail.pending
    said = follower.tail.state(follower.positions)[str(log)]
    assert said == {"dataset": "x", "offset": 0, "size": 14, "problem": "Input/output error"}
    (log.parent / "b.log").write_text("b\n")
    follower.messages(later=2)
    said = follower.tail.state(follower.positions)[f"{log.parent}/b.log"]
    assert said == {"dataset": "x", "problem": "Input/output error"}
    monkeypatch.setattr(os, "fstat", broken)
    follower.messages(later=2)
    assert follower.tail.waiting(follower.positions)[str(log)] == 1
    follower.tail.limit(1)
    monkeypatch.undo()
    monkeypatch.setattr(os, "stat", broken)
    found = follower.messages(later=2)
    said = follower.tail.state(follower.positions)[str(log)]
    assert said == {"dataset": "x", "problem": "Input/output error"}
    monkeypatch.undo()
    assert sorted(found + follower.messages(later=2)) == ["b", "one", "three", "two"]


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


@pytest.mark.parametrize("length", [10, 600])
def test_the_oldest_are_passed_over(follower, log, length, monkeypatch):
    follower.messages()
    monkeypatch.setattr(files, "_MANY", 25)
    append(log, ("y" * (length - 1) + "\n") * 20)
    before = json.loads(json.dumps(follower.positions))
    assert len(follower.messages(count=10, note=False)) == 8
    follower.rewind(before)
    follower.tail.limit(5)
    assert (len(follower.messages()), follower.dropped) == (13, 7)


def test_nothing_is_passed_over_below_the_limit(follower, log):
    append(log, ("y" * 600 + "\n") * 98)
    follower.tail.limit(100)
    assert (len(follower.messages(count=1000)), follower.dropped) == (100, 0)


def test_what_waits_is_estimated(follower, log):
    follower.messages()
    append(log, ("x" * 599 + "\n") * 3)
    assert follower.tail.waiting(follower.positions) == {str(log): 3}
    state = {"dataset": "x", "offset": 8, "size": 1808}
    assert follower.tail.state(follower.positions) == {str(log): state}
    follower.messages()
    assert follower.tail.waiting(follower.positions) == {str(log): 0}


def test_a_pattern_stands_for_part_of_one_name(tmp_path, log):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/c.log").write_text("c\n")
    wanted = {f"{tmp_path}/*.log": "x", f"{tmp_path}/d/*.log": "x"}
    assert Follower(tmp_path, wanted, (f"{tmp_path}/*.log",)).messages() == ["c"]


def test_an_endless_line_is_cut_between_words(follower, log):
    append(log, "x" * (files.LONGEST - 20) + " token: hunter2" + "y" * 100 + "\n")
    found = []
    for _ in range(40):
        found += follower.messages()
    assert "".join(found[2:]) == "x" * (files.LONGEST - 20) + " token: hunter2" + "y" * 100
    assert any(it == "hunter2" + "y" * 100 for it in found)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_key_goes_on_where_a_file_is_read_on(follower, log, restarted):
    append(log, "-----BEGIN PRIVATE KEY-----\nMIIE\n")
    assert follower.messages() == ["one", "two", "***", "***"]
    append(log, "abcd\n-----END PRIVATE KEY-----\nabcd\n")
    if restarted:
        follower.restart()
    else:
        follower.rewind()
    assert follower.messages() == ["***", "-----END PRIVATE KEY-----", "abcd"]

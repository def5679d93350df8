"""rocksalt.logstash.receiving: what arrives is kept, hashed, and found again after any end."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import signal
import stat
import threading
import time
from typing import Any

import pytest
from logstash_received import DAY, NOW, Server, event

from rocksalt.errors import Refused, RocksaltError
from rocksalt.logstash.receiving import chain, conf, files, keep, mend, store, units, writer

ZEROS = "0" * 64


@pytest.fixture
def server(tmp_path, monkeypatch):
    before = os.umask(0o027)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    yield Server(tmp_path, monkeypatch)
    os.umask(before)


def head(n, own, received="2026-11-23T04:20:00.123456Z"):
    return chain.Head(n, own, received)


# A line.


def test_a_line_is_what_came_and_a_hash():
    text = '{"host": {"name": "web1"},  "a": "\\u0000€"}'
    line = chain.append(
        chain.Head(), "web1", "2026-11-23T04:20:00.123456Z", text, chain.event(text), []
    )
    body = (
        '{"n":1,"received":"2026-11-23T04:20:00.123456Z","from":"web1","flags":[],'
        '"event":{"host": {"name": "web1"},  "a": "\\u0000€"}'
    ).encode()
    own = hashlib.sha256(ZEROS.encode() + body).hexdigest()
    assert line.data == body + f',"hash":"{own}"}}'.encode()
    assert line.head == head(1, own)
    assert chain.read(line.data) == line
    assert line.follows(ZEROS)
    assert not line.follows("1" * 64)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ('{"host":{"name":"web1"}}', []),
        ('{"host.name":"web1"}', []),
        ('{"host":{"name":"web2"}}', ["host"]),
        ('{"host":"web1"}', ["host"]),
        ("{}", ["host"]),
        ('{"host":{"name":"evil"},"host":{"name":"web1"}}', ["host"]),
        ('{"host":{"name":"web1"},"host":{"name":"evil"}}', ["host"]),
        ('{"host":{"name":"evil","name":"web1"}}', ["host"]),
        ('{"host":{"name":"web1"},"host.name":"evil"}', ["host"]),
        ('{"host":{"n\\u0061me":"evil","name":"web1"}}', ["host"]),
        ('{"host":{"name":"web1","id":1},"host":{"name":"web1"},"host.name":"web1"}', []),
        ('{"a":{"name":"x","name":"y"},"host":{"id":1},"host":{"name":"web1"}}', []),
        ('{"host":{"name":"web1"}} ', []),
        ("", ["json"]),
        ("[1]", ["json"]),
        ("half a {", ["json"]),
        ('{"a":NaN}', ["json"]),
        ('{"a":1}\n', ["json"]),
        ('{"a":\r1}', ["json"]),
        ('{"a":"\udcff"}', ["json"]),
        ("[" * 100_000, ["json"]),
        ('{"a":' + "9" * 5000 + "}", ["json"]),
        ('x","hash":"' + "0" * 64 + '"}\n{"n":2', ["json"]),
    ],
)
def test_nothing_in_a_line_passes_for_another(server, text, flags):
    kept = server.store()
    kept.take("web1", text)
    (data,) = server.lines()
    found = json.loads(data)
    assert (found["n"], found["from"], found["flags"]) == (1, "web1", flags)
    if flags == ["json"]:
        assert found["raw"] == text
    else:
        assert b'"event":' + text.encode() + b',"hash"' in data
    assert server.problems() == []


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"n":0,"received":"x"}', b'{"n":01,"a":1}', b"\xff\x00"]
)
def test_what_is_no_line(data):
    assert chain.read(data) is None


# The chain of a host.


def test_lines_are_numbered_by_host(server):
    kept = server.store()
    for host in ("web1", "db.1", "web1"):
        kept.take(host, event(host=host))
    kept.sync()
    found = kept.status()
    assert {host: it["n"] for host, it in found["hosts"].items()} == {"web1": 2, "db.1": 1}
    assert found["hosts"]["web1"]["hash"] == json.loads(server.lines()[1])["hash"]
    assert found["hosts"]["web1"]["received"] == "2026-11-23T04:20:00.123456Z"
    assert found["time"] == "2026-11-23T04:20:00.123456Z"
    assert stat.S_IMODE(server.file().stat().st_mode) == 0o640
    assert stat.S_IMODE(server.file().parent.stat().st_mode) == 0o750


@pytest.mark.parametrize("host", ["", ".", "..", ".a", "a/b", "a\0", "ä", "a" * 129])
def test_names_that_are_no_folders(server, host):
    with pytest.raises(RocksaltError, match="is no name of a host"):
        server.store().take(host, event())


def test_links_are_not_followed(server, tmp_path):
    (tmp_path / "away").mkdir()
    (server.path / "web9").symlink_to(tmp_path / "away")
    kept = server.store()
    with pytest.raises(NotADirectoryError):
        kept.take("web9", event())
    (server.path / "web1" / "2026-11-23.jsonl").symlink_to(tmp_path / "file")
    kept.take("web1", event())
    assert not (tmp_path / "file").exists()
    assert len(server.lines()) == 1
    (path,) = kept.status()["torn"]
    assert os.readlink(path) == str(tmp_path / "file")


def test_a_chain_goes_on_after_the_writer_ended(server):
    server.receive(3)
    server.receive(2)
    assert [json.loads(line)["n"] for line in server.lines()] == [1, 2, 3, 4, 5]
    assert server.problems() == []


def test_half_a_line_is_moved_aside_wherever_it_ends(server, tmp_path):
    """As a power cut leaves it: at every byte of the last line."""
    server.receive(2)
    whole = server.file().read_bytes()
    first, last = server.lines()
    for cut in range(1, len(last)):
        server.file().write_bytes(whole[:-cut])
        kept = server.store()
        (path,) = kept.status()["torn"]
        half = last[:-cut]
        with open(path, "rb") as file:
            assert file.read() == half
        assert server.file().read_bytes() == first
        assert kept.status()["hosts"]["web1"]["n"] == 1
        kept.take("web1", event(1))
        assert server.file().read_bytes() == whole
        os.unlink(path)


def test_a_file_with_half_a_first_line(server):
    server.receive(1)
    server.time += DAY
    server.file("2026-11-24").write_bytes(b'{"n":2')
    server.receive(1)
    (line,) = server.lines("2026-11-24")
    assert json.loads(line)["n"] == 2
    assert len(os.listdir(server.path / "web1" / "torn")) == 1


ZERO_PAGE = b"\0" * 500
TORN = {
    "a page of zeros": lambda old, new: (old, [new[0], ZERO_PAGE + new[1][500:], *new[2:]]),
    "zeros at the end": lambda old, new: (old, [*new, ZERO_PAGE]),
    "the old file's last half line": lambda old, new: ([*old[:-1], old[-1][:-9]], new),
    "the old file's last line": lambda old, new: (old[:-1], new),
    "the new file's first line": lambda old, new: (old, new[1:]),
}


@pytest.mark.parametrize(
    ("how", "synced", "left"),
    [
        ("a page of zeros", 0, 4), ("a page of zeros", 4, 4), ("a page of zeros", 9, 9),
        ("zeros at the end", 0, 7), ("zeros at the end", 7, 7), ("zeros at the end", 9, 7),
        ("the old file's last half line", 0, 2), ("the old file's last half line", 2, 2),
        ("the old file's last line", 0, 2),
        ("the new file's first line", 3, 3),
    ],
)  # fmt: skip
def test_what_does_not_follow_is_moved_aside(server, how, synced, left):
    """Three lines of a day and four of the next, in which a power cut left no more than ``left``;
    nothing of what was on the disk by then is moved.
    """
    server.receive(3)
    server.time += DAY
    server.receive(4)
    before = [server.lines(), server.lines("2026-11-24")]
    after = [b"".join(lines) for lines in TORN[how](*before)]
    for day, data in zip(("2026-11-23", "2026-11-24"), after, strict=True):
        server.file(day).write_bytes(data)
    kept = server.store(hosts={"web1": {"synced": synced}})
    if left == 9:
        assert kept.status()["torn"] == []
        assert server.file("2026-11-24").read_bytes() == after[1]
        return
    moved = [server.path.joinpath(path).read_bytes() for path in kept.status()["torn"]]
    files_now = [server.file(day).read_bytes() for day in ("2026-11-23", "2026-11-24")]
    assert len(b"".join(files_now + moved)) == len(b"".join(after))
    assert kept.status()["hosts"]["web1"]["n"] == left
    kept.take("web1", event(1))
    kept.sync()
    numbers = [json.loads(it)["n"] for it in server.lines() + server.lines("2026-11-24")]
    assert numbers == [*range(1, left + 2)]


def test_only_the_end_of_a_large_file_is_looked_at(server, monkeypatch):
    server.receive(6)
    lines = server.lines()
    monkeypatch.setattr(mend, "WINDOW", len(lines[0]) * 3)
    server.file().write_bytes(b"".join([b"x" * len(lines[0]), *lines[1:5], b"\0", lines[5]]))
    kept = server.store()
    assert kept.status()["hosts"]["web1"]["n"] == 5
    (path,) = kept.status()["torn"]
    assert server.path.joinpath(path).read_bytes() == b"\0" + lines[5]


def _flipped(path):
    data = gzip.compress(path.read_bytes())
    path.with_name(f"{path.name}.gz").write_bytes(data[:-9] + bytes([data[-9] ^ 255]) + data[-8:])
    path.unlink()


def _link(path):
    path.rename(path.with_name("x"))
    path.symlink_to(path.with_name("x"))


def _folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("how", [_flipped, _link, _folder, lambda it: it.chmod(0)])
def test_a_newest_file_that_cannot_be_read(server, monkeypatch, how):
    """It is moved aside; numbers go on, so that the gap is found and no witness sees one twice."""
    server.receive(2)
    server.receive(1, "web2")
    known = server.store().status()
    how(server.file())
    monkeypatch.setattr(os, "access", lambda path, _: stat.S_IMODE(os.stat(path).st_mode) > 0)
    kept = server.store(**known)
    assert len(kept.status()["torn"]) == 1
    assert kept.status()["failed"] == {}
    kept.take("web1", event(3))
    kept.take("web2", event(2, "web2"))
    kept.sync()
    assert [json.loads(line)["n"] for line in server.lines()] == [3]
    assert {host: it["n"] for host, it in kept.status()["hosts"].items()} == {"web1": 3, "web2": 2}


def test_a_host_whose_chain_cannot_be_opened_stops_no_other(server):
    (server.path / "web1").write_text("")
    kept = server.store()
    assert list(kept.status()["failed"]) == ["web1"]
    kept.take("web2", event(1, "web2"))
    assert list(kept.status()["hosts"]) == ["web2"]
    (server.path / "web1").unlink()
    kept.take("web1", event(1))
    assert kept.status()["failed"] == {}


def test_the_old_day_is_on_the_disk_before_the_new_one_is_there(server, monkeypatch):
    kept = server.store()
    kept.take("web1", event(1))
    server.time += DAY
    seen = []
    monkeypatch.setattr(os, "fdatasync", lambda _: seen.append(server.file("2026-11-24").exists()))
    kept.take("web1", event(2))
    assert seen == [False]


def test_an_old_day_that_does_not_get_to_the_disk_ends_the_writer(server, monkeypatch):
    kept = server.store()
    kept.take("web1", event(1))
    server.time += DAY

    def broken(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    line = json.dumps({"from": "web1", "raw": event(2)}).encode()
    with pytest.raises(store.Unsynced):
        writer.answer(kept, line, lambda _: None)


def test_every_day_has_a_file(server):
    kept = server.store()
    for _ in range(3):
        kept.take("web1", event())
        server.time += DAY
    kept.sync()
    names = ["2026-11-23.jsonl", "2026-11-24.jsonl", "2026-11-25.jsonl"]
    assert sorted(os.listdir(server.path / "web1")) == names
    server.time = NOW
    kept.take("web1", event())
    assert [json.loads(line)["n"] for line in server.lines("2026-11-25")] == [3, 4]
    server.receive(1)
    assert [json.loads(line)["n"] for line in server.lines("2026-11-25")] == [3, 4, 5]
    assert server.problems() == []


@pytest.mark.parametrize(
    ("days", "names"),
    [
        ((0, 1000, 0), {23: [1], 24: [2, 3]}),
        ((0, 1000, 1001, 0, 1, 2), {23: [1], 24: [2], 25: [3, 4, 5, 6]}),
        ((0, 1000, 1), {23: [1], 24: [2, 3]}),
        ((0, 1000, 4), {23: [1], 27: [2, 3]}),
        ((0, 1, -900, 1, 2), {23: [1], 24: [2, 3, 4], 25: [5]}),
        ((0, 4, 1, 0), {23: [1], 24: [2, 3, 4]}),
    ],
)
def test_a_wrong_clock_for_a_moment(server, days, names):
    """Lines at so many days from the first: the files are those of right days again."""
    kept = server.store()
    for number in days:
        server.time = NOW + number * DAY
        kept.take("web1", event())
    kept.sync()
    found = {
        int(path.name[8:10]): [json.loads(line)["n"] for line in path.read_bytes().splitlines()]
        for path in files.days(server.path / "web1")
    }
    assert found == names
    assert server.problems() == []


def test_a_compressed_day_is_not_begun_again(server):
    server.receive(1)
    path = server.file()
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    server.receive(1)
    assert sorted(os.listdir(path.parent)) == ["2026-11-23.jsonl.gz", "2026-11-24.jsonl"]
    assert server.problems() == []


def test_a_file_that_was_removed_is_made_anew(server):
    kept = server.store()
    kept.take("web1", event(1))
    server.file().unlink()
    kept.take("web1", event(2))
    kept.sync()
    assert [json.loads(line)["n"] for line in server.lines()] == [2]


@pytest.mark.parametrize("fitting", [0, 1, 150])
def test_a_full_disk(server, monkeypatch, fitting):
    """Nothing of a line that did not fit is left, and the same line comes again."""
    kept = server.store()
    kept.take("web1", event(1))
    before = server.file().read_bytes()
    real = os.write

    def full(file, data):
        if not fitting:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[:fitting])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        line = json.dumps({"from": "web1", "raw": event(2)}).encode() + b"\n"
        told: list[str] = []
        said = writer.answer(kept, line, told.append)
    assert said.startswith(b"Error: a line was not kept and is tried again: [Errno 28]")
    assert said.count(b"\n") == 1
    assert [said] == [f"Error: {it}\n".encode() for it in told]
    assert server.file().read_bytes() == before
    assert writer.answer(kept, line, told.append) == b"OK\n"
    assert [json.loads(line)["n"] for line in server.lines()] == [1, 2]
    assert server.problems() == []


def test_what_could_not_be_synced_is_said(server, monkeypatch):
    kept = server.store()
    kept.take("web1", event())

    def broken(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(store.Unsynced, match=r"web1 cannot be written to: Input/output error"):
        kept.sync()


def test_only_what_was_written_is_synced(server, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    kept = server.store()
    kept.take("web1", event())
    server.time += DAY
    kept.take("web1", event())
    kept.take("web2", event())
    assert kept.dirty
    kept.sync()
    first, second, other = sorted(set(synced))
    assert synced.count(second) == synced.count(other) == 1
    assert not kept.dirty
    assert first == synced[0]
    count = len(synced)
    kept.sync()
    assert len(synced) == count


def test_no_line_is_taken_while_others_wait_for_the_disk(server, monkeypatch):
    """A sync that takes long, beside which lines come in."""
    passed = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    monkeypatch.setattr(store, "PATIENCE", 0.001)
    kept = server.store()
    outcomes = []

    def slow(_):
        for second in (101.9, 102.0):
            passed[0] = second
            line = json.dumps({"from": "web1", "raw": event(2)}).encode()
            outcomes.append(writer.answer(kept, line, lambda _: None))

    kept.take("web1", event(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", slow)
        kept.sync()
    assert outcomes == [
        b"OK\n",
        b"Error: a line was not kept and is tried again: [Errno 110] the disk takes too long: "
        + f"'{server.path}'\n".encode(),
    ]
    kept.take("web1", event(3))
    assert [json.loads(line)["n"] for line in server.lines()] == [1, 2, 3]
    passed[0] = 103.9
    with pytest.raises(OSError, match="takes too long"):
        kept.take("web1", event(4))
    kept.sync()
    kept.take("web1", event(4))


def test_a_line_waits_for_the_disk(server, monkeypatch):
    passed = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    kept = server.store()
    kept.take("web1", event(1))
    passed[0] = 110.0
    monkeypatch.setattr(kept._lock, "wait_for", lambda is_synced, _: kept.sync() or is_synced())
    kept.take("web1", event(2))
    assert [json.loads(line)["n"] for line in server.lines()] == [1, 2]


def test_flags_and_duplicates_are_counted(server):
    kept = server.store()
    for text in (event(1), event(2), event(1), event(3, "evil"), "x", event(1)):
        kept.take("web1", text)
    kept.sync()
    status = kept.status()
    found = status["hosts"]["web1"]
    flagged = "2026-11-23T04:20:00.123456Z"
    assert found["flags"] == {"host": 1, "json": 1, "last_flagged": flagged}
    assert (found["duplicates"], found["n"]) == (2, 6)
    assert server.store(**status).status()["hosts"]["web1"] == found


def test_bytes_of_a_day_and_of_the_disk(server, monkeypatch):
    found = os.statvfs_result((512, 4096, 100, 50, 40, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: found if path == server.path else None)

    def today(kept):
        return {host: it["bytes_today"] for host, it in kept.status()["hosts"].items()}

    kept = server.store()
    for _ in range(2):
        kept.take("web1", event())
    size = server.file().stat().st_size
    assert kept.status()["disk"] == {"free": 40 * 4096, "size": 100 * 4096}
    assert today(kept) == {"web1": size}
    kept = server.store(**kept.status())
    assert today(kept) == {"web1": size}
    kept.take("web1", event())
    assert today(kept) == {"web1": server.file().stat().st_size}
    server.time += DAY
    assert today(kept) == {"web1": 0}
    kept.take("web1", event())
    assert today(server.store(**kept.status())) == {"web1": len(server.lines("2026-11-24")[0])}
    server.time += DAY
    assert today(server.store(**kept.status())) == {"web1": 0}


def test_the_status_is_young_where_nothing_arrives(server, monkeypatch):
    passed = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    status = server.folder / "status.json"
    keeper = writer._Keeper(server.store(), status)
    times = []
    for second in (100, 130, 161, 200):
        passed[0], server.time = second, NOW + second * DAY / 86400
        keeper._keep()
        times.append(json.loads(status.read_bytes())["time"][14:19])
    assert times == ["21:40", "21:40", "22:41", "22:41"]


def test_ids_are_forgotten():
    recent = store.Recent(2)
    assert [recent.seen(it) for it in "abacab"] == [False, False, True, False, False, False]


# What becomes of old files.


def four_days(server):
    """A line and a head on each of four days."""
    for _ in range(4):
        server.receive(1)
        server.heads()
        server.time += DAY
        server.witness_time += DAY
    server.heads()


def daily(server, found=None):
    seen = server.evidence() if server.settings["witness"] else None
    found = found or server.verify(seen)
    return keep.daily(server.settings, server.signer, found, lambda: server.time, seen)


def kept_days(server):
    return [f"{path.name[8:10]}{path.suffix}" for path in files.days(server.path / "web1")]


ALL = ["23.jsonl", "24.jsonl", "25.jsonl", "26.jsonl"]
PACKED = ["23.gz", "24.gz", "25.gz", "26.jsonl"]


@pytest.mark.parametrize(
    ("days", "ahead", "is_witnessed", "left"),
    [
        (400, 0, True, PACKED),
        (2, 0, True, ["25.gz", "26.jsonl"]),
        (2, 900, True, ["25.gz", "26.jsonl"]),
        (2, 900, False, ["24.gz", "25.jsonl", "26.jsonl"]),
        (0, 900, True, []),
    ],
)
def test_what_is_removed(server, days, ahead, is_witnessed, left):
    """After the days of four lines; ``ahead`` is by how many days the clock is wrong."""
    four_days(server)
    server.settings["days"] = days
    if not is_witnessed:
        server.settings["witness"] = None
    server.time += ahead * DAY
    daily(server)
    assert kept_days(server) == left


@pytest.mark.parametrize("wrong", ["the witness", "the host"])
def test_nothing_is_tidied_where_the_check_found_something(server, wrong):
    four_days(server)
    server.settings["days"] = 1
    found = server.verify(server.evidence())
    if wrong == "the witness":
        found["problems"] = ["what was witnessed is not known: away"]
    else:
        found["hosts"]["web1"]["problems"] = ["line 1 was removed"]
    daily(server, found)
    assert kept_days(server) == ALL


def test_what_the_witness_saw_late_is_kept_longer(server):
    server.receive(1)
    for _ in range(2):
        server.time += DAY
        server.witness_time += DAY
    server.heads()
    server.receive(1)
    server.time += 2 * DAY
    server.witness_time += 2 * DAY
    server.heads()
    server.settings["days"] = 3
    assert not daily(server)["problems"]
    assert kept_days(server) == ["23.gz", "25.jsonl"]
    server.time += DAY
    server.witness_time += DAY
    server.heads()
    daily(server)
    assert kept_days(server) == ["25.jsonl"]


def test_what_is_compressed_already(server):
    """As a power cut leaves it; and another file, which stays."""
    four_days(server)
    path = server.file()
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    before = packed.read_bytes()
    daily(server)
    assert (kept_days(server), packed.read_bytes()) == (PACKED, before)
    path.write_bytes(gzip.decompress(before))
    packed.write_bytes(gzip.compress(b"another"))
    sentence = f"{packed} does not belong here: {path.name} is there and is another file"
    assert daily(server)["hosts"]["web1"]["problems"] == [sentence]
    found = daily(server, {**server.verify(server.evidence()), "hosts": {"web1": {"problems": []}}})
    sentence = f"{packed} is there and is another file: {path} stays as it is"
    assert found["problems"] == [f"web1: old lines cannot be tidied up: {sentence}"]
    assert gzip.decompress(packed.read_bytes()) == b"another"


# What rsyslog talks to.


def run(server, data: bytes) -> tuple[bytes, Any]:
    source, target = os.pipe()
    status = server.folder / "status.json"
    writer.run(server.settings, status, io.BytesIO(data), target)
    os.close(target)
    with open(source, "rb") as file:
        return file.read(), json.loads(status.read_bytes())


def test_every_line_is_confirmed(server):
    assert threading.current_thread() is threading.main_thread()
    raw = ["a\nb", '{"x":1}', "\x01\"'\\"]
    data = b"".join(json.dumps({"from": "web1", "raw": it}).encode() + b"\n" for it in raw)
    data += b'{"from":"web1","raw":"\xff"}\nno JSON\n{"from":"../x","raw":""}\n'
    said, status = run(server, data)
    lines = said.decode().splitlines()
    assert lines[:5] == ["OK"] * 5
    assert [line[:6] for line in lines[5:]] == ["Error:"] * 2
    [today] = (server.path / "web1").glob("*.jsonl")
    stored = [json.loads(line) for line in today.read_bytes().splitlines()]
    assert [it.get("raw", it.get("event")) for it in stored] == ["a\nb", {"x": 1}, raw[2], "\udcff"]
    assert status["hosts"]["web1"]["n"] == 4
    said, status = run(server, b"")
    assert (said, status["hosts"]["web1"]["n"]) == (b"OK\n", 4)


def test_the_writer_ends_with_its_source_alone(server, monkeypatch):
    """A signal in the middle of the end would leave the status unwritten."""
    handlers = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    run(server, b"")
    assert handlers == {signal.SIGTERM: signal.SIG_IGN}


def test_a_second_writer_waits(server):
    lock = files.locked(server.path)
    done: list[int] = []
    waiting = threading.Thread(target=lambda: done.append(files.locked(server.path)))
    waiting.start()
    waiting.join(0.02)
    assert done == []
    os.close(lock)
    waiting.join(5)
    assert len(done) == 1
    os.close(done[0])


# Its configuration and units.

SETTINGS = {"hosts": {"web2": 2602, "db1": 2600}, "path": "/srv/l o%g", "address": "10.0.0.9"}


def test_every_host_has_an_input():
    text = conf.render(SETTINGS)
    first = text.index('name="db1"\n    port="2600"\n    address="10.0.0.9"')
    assert first < text.index('name="web2"\n    port="2602"\n    address="10.0.0.9"')
    assert text.count("input(") == text.count('tls.authMode="name"') == 2
    assert 'tls.permittedPeer=["db1"]' in text
    assert 'workDirectory="/var/lib/rocksalt-logs/rsyslog"' in text
    binary = (
        'binary="/usr/local/sbin/rocksalt-logs write'
        ' --config /etc/rocksalt/logstash/receiver.json"'
    )
    assert binary in text
    assert "address=" not in conf.render({**SETTINGS, "address": ""})
    assert conf.render(SETTINGS) == conf.render({**SETTINGS, "hosts": {"db1": 2600, "web2": 2602}})


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ({'a"b': 2600}, "hardening:logstash:ports has 'a\"b': a name has letters, digits"),
        ({".heads": 2600}, "hardening:logstash:ports has '.heads'"),
        ({"a": 2600, "b": 2600}, "hardening:logstash:ports gives 2600 to a and to b: give each"),
    ],
)
def test_hosts_that_cannot_be_told_apart(hosts, words):
    with pytest.raises(Refused) as caught:
        conf.render({**SETTINGS, "hosts": hosts})
    assert words in str(caught.value)


def test_units():
    found = units.texts(SETTINGS)
    folder = "/etc/systemd/system/rocksalt-logs"
    names = [".service", "-heads.service", "-heads.timer", "-verify.service", "-verify.timer"]
    assert set(found) == {folder + name for name in names}
    services = [text for name, text in found.items() if name.endswith(".service")]
    for text in services:
        assert 'ReadWritePaths="/srv/l o%%g"\n' in text
        assert 'RequiresMountsFor="/srv/l o%%g"\n' in text
        assert "User=rocksalt-logs\n" in text
    start = "ExecStart=/usr/sbin/rsyslogd -n -f /etc/rocksalt/logstash/receiver.conf -i NONE\n"
    assert start in found[f"{folder}.service"]
    verify = found[f"{folder}-verify.service"]
    assert "ExecStart=/usr/local/sbin/rocksalt-logs verify --daily\n" in verify
    assert "OnCalendar=*:*:00\n" in found[f"{folder}-heads.timer"]
    assert "Persistent=true\n" in found[f"{folder}-verify.timer"]

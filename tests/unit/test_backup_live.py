from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from rocksalt.backup.packing import live, tar

SIZE = 3 << 20


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def scratch(tmp_path):
    path = tmp_path / "scratch"
    path.mkdir()
    yield path
    assert os.listdir(path) == []


@pytest.fixture
def copied(folder, scratch):
    """Copies of a file by name, as {name: content}; None for an ordinary one."""

    def copy(name):
        fd = os.open(folder, os.O_RDONLY)
        try:
            copies = live.copies(fd, name, scratch)
        finally:
            os.close(fd)
        if copies is None:
            return None
        copy.covered = list(copies.covered)
        copy.holes = {}
        copy.settled = all(c.settled for c in copies.files)
        copy.status = copies.files[0].status
        contents = {}
        for c in copies.files:
            size = os.fstat(c.fd).st_size
            contents[c.name] = os.pread(c.fd, size, 0)
            copy.holes[c.name] = tar.extents(c.fd, size)
        copies.close()
        return contents

    before = os.listdir("/proc/self/fd")
    yield copy
    assert os.listdir("/proc/self/fd") == before


# Salt's tables

WRITER = """
import fcntl, os, struct, sys
base, size = sys.argv[1], int(sys.argv[2])
lock = open(base + ".lock", "w")
index, heap = os.open(base, os.O_RDWR), os.open(base + ".heap", os.O_RDWR)
number = 0
while True:
    number += 1
    fcntl.flock(lock, fcntl.LOCK_EX)
    for fd, at in ((heap, 0), (index, 0), (index, size - 8), (heap, size - 8)):
        os.pwrite(fd, struct.pack("<Q", number), at)
    fcntl.flock(lock, fcntl.LOCK_UN)
    if number == 100:
        print("busy", flush=True)
"""


def table(folder, lock=True):
    for name in (".keys.idx", ".keys.idx.heap"):
        with open(folder / name, "wb") as file:
            file.write(bytes(8))
            file.truncate(SIZE)
    (folder / ".keys.idx.roster").write_bytes(b"roster")
    if lock:
        (folder / ".keys.idx.lock").touch()


@contextlib.contextmanager
def writing(folder):
    """Another process that writes as Salt does: under the lock, one file after the other."""
    command = [sys.executable, "-c", WRITER, str(folder / ".keys.idx"), str(SIZE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"busy\n"
        try:
            yield
        finally:
            process.kill()


def test_a_table_that_is_written_all_the_time_is_copied_whole(folder, copied):
    table(folder)
    seen = set()
    with writing(folder):
        for _ in range(10):
            found = copied(b".keys.idx")
            assert copied.settled
            numbers = {data[at : at + 8] for data in (found[b".keys.idx"], found[b".keys.idx.heap"])
                       for at in (0, SIZE - 8)}  # fmt: skip
            assert len(numbers) == 1
            seen |= numbers
    assert len(seen) > 1


def test_a_table_is_copied_with_all_that_belongs_to_it(folder, copied):
    table(folder)
    for number in (1, 2, 4):
        (folder / f".keys.idx.heap.{number}").write_bytes(b"%d" % number)
    found = copied(b".keys.idx")
    assert list(found) == [
        b".keys.idx", b".keys.idx.heap", b".keys.idx.heap.1", b".keys.idx.heap.2",
        b".keys.idx.roster",
    ]  # fmt: skip
    assert found[b".keys.idx.roster"] == b"roster"
    assert copied.status.st_ino == (folder / ".keys.idx").stat().st_ino


def test_a_copy_has_holes_where_there_was_nothing(folder, copied):
    (folder / "x.idx.heap").touch()
    (folder / "x.idx").write_bytes(bytes(SIZE) + b"end" + bytes(SIZE))
    assert copied(b"x.idx") == {b"x.idx": bytes(SIZE) + b"end" + bytes(SIZE), b"x.idx.heap": b""}
    assert copied.holes[b"x.idx"] == [(SIZE, 1 << 16)]


def test_an_index_without_a_heap_is_an_ordinary_file(folder, copied):
    (folder / "x.idx").touch()
    assert copied(b"x.idx") is None


def test_a_table_without_a_lock_is_settled_when_nobody_writes(folder, copied):
    table(folder, lock=False)
    assert len(copied(b".keys.idx")) == 3
    assert copied.settled
    assert not (folder / ".keys.idx.lock").exists()


def test_a_table_that_never_rests_is_said_so(folder, copied, monkeypatch):
    table(folder, lock=False)
    real, count = os.read, iter(range(1000))

    def read(fd, size):
        (folder / ".keys.idx").write_bytes(b"%d" % next(count))
        return real(fd, size)

    monkeypatch.setattr(os, "read", read)
    assert set(copied(b".keys.idx")) == {b".keys.idx", b".keys.idx.heap", b".keys.idx.roster"}
    assert not copied.settled


def test_a_lock_that_is_never_free_is_waited_for_but_not_for_ever(folder, copied, monkeypatch):
    table(folder)
    monkeypatch.setattr(live, "PATIENCE", 0.05)
    with open(folder / ".keys.idx.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert len(copied(b".keys.idx")) == 3
        assert copied.settled  # nobody wrote all the same
        monkeypatch.setattr(live, "PATIENCE", 10)
        free = threading.Timer(0.1, fcntl.flock, (lock, fcntl.LOCK_UN))
        free.start()
        begin = time.monotonic()
        assert copied(b".keys.idx")
        free.join()
    assert 0.05 < time.monotonic() - begin < 5


@pytest.mark.parametrize("name", ["write", "ftruncate", "read"])
def test_a_copy_that_fails_leaves_nothing(folder, copied, monkeypatch, name):
    table(folder)

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match="No space left"):
        copied(b".keys.idx")


def test_a_link_in_place_of_an_index_is_not_followed(folder, copied):
    table(folder)
    (folder / ".keys.idx").unlink()
    (folder / ".keys.idx").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match=r"symbolic links|no regular file"):
        copied(b".keys.idx")


# SQLite


def database(folder, mode="delete", name="x.db"):
    connection = sqlite3.connect(folder / name)
    connection.execute(f"pragma journal_mode = {mode}")
    connection.execute("create table numbers (number)")
    connection.executemany("insert into numbers values (?)", [(n,) for n in range(1000)])
    connection.commit()
    return connection


def total(tmp_path, data):
    path = tmp_path / "restored"
    path.write_bytes(data)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        return connection.execute("select count(*) from numbers").fetchone()[0]


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_an_open_database_is_copied_without_what_is_not_committed(tmp_path, folder, copied, mode):
    with contextlib.closing(database(folder, mode)) as connection:
        if mode == "wal":
            connection.execute("insert into numbers values (1)")
        before = sorted(os.listdir(folder))
        found = copied(b"x.db")
        assert sorted(os.listdir(folder)) == before
        assert total(tmp_path, found[b"x.db"]) == 1000
        assert copied.covered == ([b"x.db-wal"] if mode == "wal" else [])


def test_a_database_that_is_written_all_the_time_is_copied_whole(tmp_path, folder, copied):
    with contextlib.closing(database(folder, "wal")):
        stop = threading.Event()

        def write():
            with contextlib.closing(sqlite3.connect(folder / "x.db", timeout=10)) as other:
                while not stop.is_set():
                    other.executemany("insert into numbers values (?)", [(0,)] * 100)
                    other.commit()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            assert [total(tmp_path, copied(b"x.db")[b"x.db"]) % 100 for _ in range(3)] == [0] * 3
        finally:
            stop.set()
            thread.join()


def test_a_database_that_nobody_has_open_is_an_ordinary_file_where_looking_would_write(
    folder, copied
):
    database(folder, "wal").close()
    assert os.listdir(folder) == ["x.db"]
    assert copied(b"x.db") is None
    assert os.listdir(folder) == ["x.db"]


def test_what_only_sqlite_can_mend_goes_as_it_is(folder, copied):
    database(folder).close()
    (folder / "x.db-journal").write_bytes(b"hot")
    assert copied(b"x.db") is None


@pytest.mark.parametrize("content", [b"", b"Berkeley DB" * 100, b"SQLite format 3\0", b"\0" * 600])
def test_other_databases_are_ordinary_files(folder, copied, content):
    (folder / "x.db").write_bytes(content)
    assert copied(b"x.db") is None


def test_a_damaged_database_goes_as_it_is(folder, copied):
    database(folder).close()
    data = bytearray((folder / "x.db").read_bytes())
    data[100:4096] = b"\xff" * 3996
    (folder / "x.db").write_bytes(data[:5000])
    assert copied(b"x.db") is None


def test_a_name_of_any_bytes(tmp_path, folder, copied):
    name = b"\xff ?#%&\n'.db"
    database(folder, name=os.fsdecode(name)).close()
    assert total(tmp_path, copied(name)[name]) == 1000


def test_no_database_is_followed_through_a_link(folder, copied, tmp_path):
    database(tmp_path, name="elsewhere.db").close()
    (folder / "x.db").symlink_to(tmp_path / "elsewhere.db")
    os.mkfifo(folder / "y.db")
    assert copied(b"x.db") is None
    assert copied(b"y.db") is None
    assert copied(b"gone.db") is None


def test_a_python_without_sqlite_archives_them_as_they_are(folder, copied, monkeypatch):
    database(folder).close()
    monkeypatch.setattr(live, "sqlite3", None)
    assert copied(b"x.db") is None


# What is left out


def test_locks_and_seeds_of_gnupg_are_left_out():
    home = {b"pubring.kbx", b"trustdb.gpg", b"gpg.conf", b"S.gpg-agent"}
    locks = {b".#lk0x00005581.host.123", b"pubring.kbx.lock", b"random_seed"}
    assert set(live.unneeded(home | locks)) == locks
    assert live.unneeded(locks) == {}


def test_what_sqlite_makes_anew_is_left_out():
    assert set(live.unneeded({b"x.db", b"x.db-wal", b"x.db-shm", b"y-shm"})) == {b"x.db-shm"}

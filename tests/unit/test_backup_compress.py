from __future__ import annotations

import io
import os
import subprocess

import pytest

from rocksalt.backup.errors import BackupError, Unverified
from rocksalt.backup.packing import compress

DATA = os.urandom(300_000) + bytes(3_000_000) + b"words and words " * 50_000
WAYS = ("gzip", "zstandard", "program")


@pytest.fixture(params=WAYS)
def kind(request, monkeypatch):
    """Each way to compress in turn, whatever this Python has."""
    monkeypatch.setattr(compress, "_OWN", None)
    if request.param == "program":
        monkeypatch.setattr(compress, "_PACKAGE", None)
    return "gzip" if request.param == "gzip" else "zstd"


def compressed(kind, data=DATA, step=100_000):
    target = io.BytesIO()
    writer = compress.Writer(target, kind)
    for start in range(0, len(data), step):
        assert writer.write(data[start : start + step]) == len(data[start : start + step])
    writer.close()
    return target.getvalue()


def read(kind, data):
    with compress.Reader(io.BytesIO(data), kind) as reader:
        return reader.read()


@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_what_was_written_is_read(kind, data):
    assert read(kind, compressed(kind, data)) == data


def test_stock_programs_read_it(kind):
    command = ["gzip", "-dc"] if kind == "gzip" else ["zstd", "-dc"]
    done = subprocess.run(command, input=compressed(kind), capture_output=True, check=True)
    assert done.stdout == DATA


def test_zeros_are_read_a_little_at_a_time(kind):
    reader = compress.Reader(io.BytesIO(compressed(kind, bytes(50_000_000), 1 << 20)), kind)
    total = 0
    while data := reader.read(1 << 16):
        assert len(data) <= 1 << 16
        total += len(data)
    assert total == 50_000_000


@pytest.mark.parametrize("left", [0, 1, 10, 100_000, -1])
def test_what_is_cut_short_is_found(kind, left):
    with pytest.raises(Unverified, match=r"cut short|damaged"):
        read(kind, compressed(kind)[:left])


@pytest.mark.parametrize("at", [0, 1_000, 200_000, -2])
def test_what_is_damaged_is_found(kind, at):
    data = bytearray(compressed(kind))
    data[at] ^= 0xFF
    with pytest.raises(Unverified):
        read(kind, bytes(data))


def test_what_was_added_is_found(kind):
    with pytest.raises(Unverified):
        read(kind, compressed(kind) + b"more")


class Full(io.RawIOBase):
    """A disk that has room for so many bytes."""

    def __init__(self, room):
        self.room = room

    def writable(self):
        return True

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return len(data)


def test_a_full_disk_is_said_so(kind):
    with pytest.raises(OSError, match="No space left"):
        writer = compress.Writer(Full(100_000), kind)
        for _ in range(100):
            writer.write(os.urandom(100_000))
        writer.close()


def test_a_source_that_fails_is_said_so(kind):
    class Failing(io.RawIOBase):
        def read(self, size=-1):
            raise Unverified("was changed")

    with pytest.raises(Unverified, match="was changed"):
        compress.Reader(Failing(), kind).read()


def test_giving_up_ends_the_program(monkeypatch):
    monkeypatch.setattr(compress, "_OWN", None)
    monkeypatch.setattr(compress, "_PACKAGE", None)
    writer = compress.Writer(io.BytesIO(), "zstd")
    writer.write(b"x")
    writer.abort()
    assert writer._pipe._process.returncode is not None
    with compress.Reader(io.BytesIO(compressed("zstd")), "zstd") as reader:
        reader.read(10)
    assert reader._pipe._process.returncode is not None


def test_the_best_way_is_zstd_wherever_it_comes_from(monkeypatch):
    monkeypatch.setattr(compress, "_OWN", None)
    monkeypatch.setattr(compress, "_PACKAGE", None)
    assert compress.best() == "zstd"
    monkeypatch.setattr(compress.shutil, "which", lambda name: None)
    assert compress.best() == "gzip"
    with pytest.raises(BackupError, match="install the package"):
        compress.Reader(io.BytesIO(b""), "zstd")


def test_the_same_data_gives_the_same_bytes(kind):
    assert compressed(kind, step=1 << 20) == compressed(kind, step=1 << 20)

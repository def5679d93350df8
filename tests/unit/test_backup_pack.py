from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import sqlite3
import subprocess
import time

import pytest
from backup_packing import a_socket, one_of_each, packed, seen, unpacked

from rocksalt.backup.crypto import age
from rocksalt.backup.packing import archive, compress, live, pack, tar


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base"
    path.mkdir()
    return path


@pytest.fixture
def out(tmp_path):
    """A private folder for the archive, where nothing else may stay."""
    path = tmp_path / "out"
    path.mkdir()
    return path


def name(path):
    return os.fsencode(path).lstrip(b"/")


def warnings(done):
    return [(w.kind, os.path.basename(w.path)) for w in done.warnings]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# Whole trees


def test_gnu_tar_restores_the_identical_tree(tmp_path, out):
    base = tmp_path / "base"
    one_of_each(base)
    begin = time.process_time()
    done, read = packed(out, base)
    assert time.process_time() - begin < 2  # seconds, for 5 GiB of holes
    assert done.warnings == []
    staging = tmp_path / "staging"
    staging.mkdir()
    options = ["--xattrs", "--xattrs-include=*", "--acls", "--sparse"]
    command = ["tar", *options, "-xpf", "-", "-C", str(staging)]
    subprocess.run(command, input=read.raw, check=True)
    restored, original = seen(staging / str(base)[1:]), seen(base)
    assert restored.keys() == original.keys()
    assert [path for path in original if restored[path] != original[path]] == []
    assert len(read.index) == len(original)


def test_a_second_time_gives_the_same_archive_within(tmp_path):
    one_of_each(tmp_path / "base")
    raw = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        raw.append(packed(tmp_path / folder, tmp_path / "base")[1].raw)
    assert raw[0] == raw[1]
    assert len(raw[0]) % 10240 == 0


def test_the_index_tells_what_is_in_the_archive(tmp_path, out):
    base = tmp_path / "base"
    one_of_each(base)
    _, read = packed(out, base)
    for path, line in read.index.items():
        status = os.lstat(path)
        member = read.members[path[1:]]
        numbers = (line["mode"], line["uid"], line["gid"], line["mtime_ns"])
        assert numbers == (
            status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns
        )  # fmt: skip
        assert (line["type"] == "folder") == member.isdir()
        if "sha256" in line:
            assert line["size"] == status.st_size
            with open(path, "rb") as file:
                assert line["sha256"] == tar.digest(file, line)
                file.seek(0)
                assert "data" in line or line["sha256"] == sha256(file.read())
    folder = os.fsencode(base)
    assert pack.path_of(read.index[folder + b"/raw-link"], "link") == b"\xff"
    assert pack.path_of(read.index[folder + b"/z-hard-link"], "same_as") == folder + b"/ordinary"
    assert read.index[folder + b"/hole"]["data"] == []
    assert read.index[folder + b"/fifo"]["type"] == "fifo"


def test_the_first_member_says_what_it_is(base, out):
    _, read = packed(out, base)
    assert b'"part": "operator"' in read.files[b".rocksalt/about.json"]
    assert b'"format": 1' in read.files[b".rocksalt/about.json"]


def test_files_and_bytes_are_counted(base, out):
    for number in range(300):
        (base / str(number)).write_bytes(bytes(10_000))
    told = []
    target = out / "archive"
    part = pack.Part("x", (str(base),))
    recipients = [age.generate()[1] for _ in range(2)]
    done = pack.pack(part, recipients, target, lambda files, size: told.append((files, size)))
    assert (done.files, done.bytes) == (300, 3_000_000)
    assert told == sorted(told)
    assert len(told) > 3
    assert told[-1] == (300, 3_000_000)
    assert target.stat().st_mode & 0o777 == 0o600


def test_hard_links_are_kept_over_several_roots(tmp_path, out):
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a/file").write_text("once")
    os.link(tmp_path / "a/file", tmp_path / "c/file")
    os.link(tmp_path / "a/file", tmp_path / "b/outside the part")
    done, read = packed(out, tmp_path / "c", tmp_path / "a")
    link = read.members[name(tmp_path / "c/file")]
    assert (link.islnk(), os.fsencode(link.linkname)) == (True, name(tmp_path / "a/file"))
    assert (done.files, done.bytes) == (2, 4)


def test_a_file_as_a_root_and_what_is_excluded(base, out):
    for path in ("keep/file", "drop/file", "single"):
        (base / path).parent.mkdir(exist_ok=True)
        (base / path).touch()
    _, read = packed(out, base / "single", base / "keep", base / "drop", exclude=(f"{base}/drop",))
    assert [os.path.basename(n) for n in read.names[1:-1]] == [b"keep", b"file", b"single"]


def test_a_spool_inside_a_root_is_left_out(base):
    (base / "file").touch()
    (base / "spool").mkdir()
    _, read = packed(base / "spool", base)
    assert read.names[1:-1] == [name(base), name(base / "file")]


def test_a_socket_is_listed(base, out):
    with a_socket(base / "served"):
        done, read = packed(out, base)
    assert warnings(done) == [("skipped", "served")]
    line = read.index[os.fsencode(base / "served")]
    assert (line["type"], line["why"]) == ("socket", "a socket is made anew by what serves it")
    assert name(base / "served") not in read.members


def test_a_gnupg_home_goes_without_what_its_agent_makes(base, out):
    for file in ("trustdb.gpg", "pubring.kbx", "random_seed", "pubring.kbx.lock", "gpg.conf"):
        (base / file).write_text(file)
    with a_socket(base / "S.gpg-agent"):
        done, read = packed(out, base)
    assert done.files == 3
    assert read.index[os.fsencode(base / "random_seed")]["why"] == "GnuPG draws it again"
    assert {w.kind for w in done.warnings} == {"skipped"}


def test_live_files_are_archived_from_copies(base, out):
    for file in ("k.idx", "k.idx.heap", "k.idx.heap.1", "k.idx.lock", "k.idx-other"):
        (base / file).write_text(file)
    with contextlib.closing(sqlite3.connect(base / "x.db")) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table t (c)")
        connection.commit()
        done, read = packed(out, base)
    assert done.warnings == []
    assert {os.path.basename(n): c for n, c in read.files.items() if b"k.idx" in n} == {
        os.fsencode(file.name): os.fsencode(file.name) for file in base.glob("k.idx*")
    }
    assert len(read.names) == len(set(read.names))
    line = read.index[os.fsencode(base / "x.db-wal")]
    assert line["why"] == "is in the copy of x.db"
    assert name(base / "x.db-wal") not in read.members
    assert "why" in read.index[os.fsencode(base / "x.db-shm")]
    database = read.files[name(base / "x.db")]
    assert read.index[os.fsencode(base / "x.db")]["sha256"] == sha256(database)


def test_a_live_file_that_never_rests_is_a_warning(base, out, monkeypatch):
    for file in ("k.idx", "k.idx.heap"):
        (base / file).write_text(file)
    numbers = iter(range(99))
    monkeypatch.setattr(live, "_identity", lambda status: (next(numbers),))
    done, read = packed(out, base)
    assert warnings(done) == [("changed", "k.idx"), ("changed", "k.idx.heap")]
    assert read.files[name(base / "k.idx.heap")] == b"k.idx.heap"


# What belongs to others


@pytest.fixture
def theirs(tmp_path):
    path = tmp_path / "theirs"
    path.mkdir()
    return path


def linked(theirs, base, *names):
    for file in names:
        (theirs / file).write_text("secret of theirs")
        os.link(theirs / file, base / file)


def test_a_hard_link_to_a_file_of_others_is_left_out(base, out, theirs):
    linked(theirs, base, "file")
    for file in ("one", "two", "alone"):
        (base / file).write_text("ours")
    os.link(base / "one", base / "once")
    done, read = packed(out, base, foreign=(str(theirs),))
    why = "is a hard link to a file that belongs to another part"
    assert done.warnings == [archive.Warning("foreign", str(base / "file"), why)]
    line = read.index[os.fsencode(base / "file")]
    assert (line["type"], line["why"]) == ("file", why)
    assert "sha256" not in line
    assert b"secret" not in read.raw
    assert (done.files, done.bytes) == (4, 12)


def test_tables_go_without_what_belongs_to_others(base, out, theirs):
    for file in ("k.idx", "k.idx.heap", "l.idx"):
        (base / file).write_text("ours")
    for file in ("k.idx.heap.1", "k.idx.roster", "l.idx.heap"):
        (base / file).write_text("secret")
    linked(theirs, base, "m.idx", "k.idx.heap.2")
    (base / "m.idx.heap").write_text("ours")
    exclude = tuple(str(base / name) for name in ("k.idx.heap.1", "k.idx.roster", "l.idx.heap"))
    done, read = packed(out, base, exclude=exclude, foreign=(str(theirs),))
    assert warnings(done) == [("foreign", "k.idx.heap.2"), ("foreign", "m.idx")]
    assert b"secret" not in read.raw
    ours = {name(base / file) for file in ("k.idx", "k.idx.heap", "l.idx", "m.idx.heap")}
    assert {n for n, content in read.files.items() if content == b"ours"} == ours


@pytest.mark.parametrize("way", ["excluded", "hard link", "all linked"])
def test_a_database_goes_without_the_journal_of_others(base, out, theirs, way):
    with contextlib.closing(sqlite3.connect(base / "x.db")) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table t (c)")
        connection.execute("pragma wal_checkpoint(truncate)")
        connection.execute("insert into t values ('secret')")
        connection.commit()
        options = {"foreign": (str(theirs),)}
        if way == "excluded":
            options = {"exclude": (str(base / "x.db-wal"), str(base / "x.db-shm"))}
        else:
            os.link(base / "x.db-wal", theirs / "wal")
        if way == "all linked":
            os.link(base / "x.db", theirs / "db")
        done, read = packed(out, base, **options)
    left = {"excluded": [], "hard link": ["x.db-wal"], "all linked": ["x.db", "x.db-wal"]}[way]
    assert warnings(done) == [("foreign", file) for file in left]
    assert b"secret" not in read.raw
    assert (name(base / "x.db") in read.files) == (way != "all linked")


# Files that change while they are read


class Reads:
    """Has something happen after each of the first reads of files below a folder."""

    def __init__(self, monkeypatch, *happenings):
        self.happenings = list(happenings)
        for name in ("read", "pread"):
            monkeypatch.setattr(os, name, functools.partial(self.after, getattr(os, name)))

    def after(self, real, fd, *args):
        data = real(fd, *args)
        if self.happenings and "/base/" in os.readlink(f"/proc/self/fd/{fd}"):
            self.happenings.pop(0)()
        return data


BIG = 3 << 20


@pytest.fixture(params=[100, BIG], ids=["small", "big"])
def file(request, base):
    path = base / "file"
    path.write_bytes(b"a" * request.param)
    return path


def grow(path):
    with open(path, "ab") as file:
        file.write(b"more")


def replace(path):
    path.with_suffix(".new").write_bytes(b"new")
    path.with_suffix(".new").rename(path)


CHANGES = {
    "grew": grow,
    "shrank": lambda path: os.truncate(path, 10),
    "emptied": lambda path: os.truncate(path, 0),
    "replaced": replace,
    "rewritten": lambda path: path.write_bytes(b"b" * path.stat().st_size),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_changes_is_read_again(file, out, monkeypatch, change):
    Reads(monkeypatch, lambda: change(file))
    done, read = packed(out, file.parent)
    content = file.read_bytes()
    assert done.warnings == []
    assert read.files[name(file)] == content
    assert read.index[os.fsencode(file)]["sha256"] == sha256(content)
    assert (done.files, done.bytes) == (1, len(content))
    times = read.names.count(name(file))
    assert times == 1 or (times == 2 and len(read.raw) > BIG)


@pytest.mark.parametrize("change", [grow, CHANGES["rewritten"]], ids=["grows", "is rewritten"])
def test_a_file_that_never_rests_is_archived_with_a_warning(file, out, monkeypatch, change):
    Reads(monkeypatch, *[lambda: change(file)] * 99)
    done, read = packed(out, file.parent)
    assert warnings(done) == [("changed", "file")]
    content = read.files[name(file)]
    assert read.index[os.fsencode(file)]["sha256"] == sha256(content)
    assert done.bytes == len(content)


def test_a_small_file_that_outgrows_every_attempt_ends_all_the_same(base, out, monkeypatch):
    path = base / "file"
    path.write_text("small")
    grow_on = [lambda: grow(path)] * 2 + [lambda: path.write_bytes(b"b" * BIG)]
    Reads(monkeypatch, *grow_on, *[lambda: grow(path)] * 99)
    done, read = packed(out, base)
    assert warnings(done) == [("changed", "file")]
    assert read.index[os.fsencode(path)]["sha256"] == sha256(read.files[name(path)])


def test_another_file_in_the_place_of_a_hard_link_is_none(base, out, monkeypatch):
    for file in ("a", "b"):
        (base / file).write_text(file)
        os.link(base / file, out.parent / file)
    real = os.fstat

    def fstat(fd):  # both have the number of the first, as when that was removed meanwhile
        values = list(real(fd).__reduce__()[1][0])
        values[1] = 42
        return os.stat_result(values, real(fd).__reduce__()[1][1])

    monkeypatch.setattr(os, "fstat", fstat)
    _, read = packed(out, base)
    assert read.files[name(base / "b")] == b"b"


def test_a_file_that_shrinks_for_ever_is_filled_with_zeros(base, out, monkeypatch):
    path = base / "file"
    path.write_bytes(b"a" * BIG)
    shrink = [lambda size=size: os.truncate(path, size) for size in (2 << 20, 1 << 20)]
    until_then = [lambda: None] * ((2 << 20) // archive._CHUNK)
    Reads(monkeypatch, shrink[0], *until_then, shrink[1])
    done, read = packed(out, base)
    assert warnings(done) == [("changed", "file")]
    assert read.files[name(path)] == b"a" * (1 << 20) + bytes(1 << 20)
    assert read.index[os.fsencode(path)]["sha256"] == sha256(read.files[name(path)])


def test_a_sparse_file_that_changes_is_read_again(base, out, monkeypatch):
    path = base / "file"
    with open(path, "wb") as file:
        file.truncate(1 << 30)
        file.write(b"begin")
    Reads(monkeypatch, lambda: grow(path))
    done, read = packed(out, base)
    assert (done.warnings, done.files) == ([], 1)
    assert read.members[name(path)].size == (1 << 30) + 4
    with open(path, "rb") as file:
        line = read.index[os.fsencode(path)]
        assert line["sha256"] == tar.digest(file, line)


def test_a_filesystem_that_compresses_files_is_no_trouble(base, out, monkeypatch):
    """It tells fewer blocks than there is content, and no holes."""
    with open(base / "file", "wb") as file:
        file.truncate(100_000)
        file.write(b"begin")
    monkeypatch.setattr(tar, "extents", lambda fd, size: os.lseek(fd, 0, os.SEEK_END) and None)
    done, read = packed(out, base)
    assert done.warnings == []
    assert read.files[name(base / "file")] == b"begin" + bytes(99_995)


# Faults


def fail_to_open(monkeypatch, wanted, act):
    """Has something happen, or fail, whenever a file of that name is opened."""
    real = os.open

    def opened(path, flags, *args, **kwargs):
        if path == wanted and not flags & os.O_DIRECTORY:
            act()
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", opened)


def fails(error, text):
    def fail(*args):
        raise OSError(error, text)

    return fail


@pytest.fixture
def three(base):
    for file in ("a", "b", "c"):
        (base / file).write_text(file)
    return base


@pytest.mark.parametrize(
    ("error", "text", "kind"),
    [
        (13, "Permission denied", "unreadable"),
        (5, "Input/output error", "unreadable"),
        (24, "Too many open files", "unreadable"),
        (2, "No such file or directory", "vanished"),
        (116, "Stale file handle", "vanished"),
    ],
)
def test_a_file_that_cannot_be_opened_is_a_warning(three, out, monkeypatch, error, text, kind):
    fail_to_open(monkeypatch, b"b", fails(error, text))
    done, read = packed(out, three)
    assert done.warnings == [pack.Warning(kind, str(three / "b"), text)]
    assert read.index[os.fsencode(three / "b")] == {
        "path": str(three / "b"), "type": kind, "why": text
    }  # fmt: skip
    assert read.files.keys() & {name(three / f) for f in "abc"} == {name(three / f) for f in "ac"}
    assert done.files == 2


def test_a_disk_that_fails_in_the_middle_of_a_file_leaves_a_whole_archive(base, out, monkeypatch):
    (base / "a").write_bytes(b"a" * BIG)
    (base / "b").write_bytes(b"b")
    monkeypatch.setattr(archive, "_CHUNK", 1 << 20)
    Reads(monkeypatch, lambda: None, fails(5, "Input/output error"))
    done, read = packed(out, base)
    assert warnings(done) == [("unreadable", "a")]
    assert read.files[name(base / "a")] == b"a" * (1 << 20) + bytes(2 << 20)
    assert read.index[os.fsencode(base / "a")]["why"] == "Input/output error"
    assert read.files[name(base / "b")] == b"b"


def test_a_small_file_on_a_failing_disk_is_not_archived(three, out, monkeypatch):
    Reads(monkeypatch, fails(5, "Input/output error"))
    done, read = packed(out, three)
    assert warnings(done) == [("unreadable", "a")]
    assert name(three / "a") not in read.members


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: path.symlink_to("/etc/shadow"), "link"),
        (lambda path: os.mkfifo(path), "fifo"),
        (lambda path: a_socket(path).close(), "socket"),
        (lambda path: path.mkdir(), "vanished"),
    ],
    ids=["link", "fifo", "socket", "folder"],
)
def test_a_file_that_was_replaced_is_archived_as_what_it_is_now(
    three, out, monkeypatch, make, kind
):
    def swap():
        if (three / "b").is_file():
            (three / "b").unlink()
            make(three / "b")

    fail_to_open(monkeypatch, b"b", swap)
    done, read = packed(out, three)
    assert ("changed", "b") in warnings(done)
    assert read.index[os.fsencode(three / "b")]["type"] == kind
    assert b"root:" not in read.raw


def test_a_fifo_that_became_a_file_is_archived(three, out, monkeypatch):
    (three / "b").unlink()
    os.mkfifo(three / "b")
    real = os.stat

    def stat(path, *args, **kwargs):
        if path == b"b":
            (three / "b").unlink()
            (three / "b").write_text("b")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", stat)
    _, read = packed(out, three)
    assert read.files[name(three / "b")] == b"b"


def test_a_folder_that_vanished_is_a_warning(base, out, monkeypatch):
    (base / "a").mkdir()
    (base / "b").mkdir()
    real = os.open

    def opened(path, *args, **kwargs):
        if path == b"b":
            shutil.rmtree(base / "b", ignore_errors=True)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", opened)
    done, _ = packed(out, base, base / "gone")
    assert warnings(done) == [("vanished", "b")]


def test_a_missing_root_is_a_warning(base, out):
    done, _ = packed(out, base / "missing", base / "missing/deep", base)
    assert done.warnings == []
    (out / "archive").unlink()
    done, _ = packed(out, base / "missing")
    assert warnings(done) == [("vanished", "missing")]


# The target


def test_an_existing_target_is_not_touched(three, out):
    (out / "archive").write_text("mine")
    with pytest.raises(FileExistsError):
        packed(out, three)
    assert (out / "archive").read_text() == "mine"


@pytest.mark.parametrize("failing", ["write", "program", "fsync", "index", "scratch"])
def test_a_full_disk_ends_the_run_and_leaves_nothing(three, out, monkeypatch, failing):
    full = fails(28, "No space left on device")
    if failing == "program":
        monkeypatch.setattr(compress, "_OWN", None)
        monkeypatch.setattr(compress, "_PACKAGE", None)
        (three / "b").write_bytes(os.urandom(4 * BIG))
    if failing in ("write", "program"):
        monkeypatch.setattr(age.Writer, "write", full)
    elif failing == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif failing == "index":
        monkeypatch.setattr(archive.Archive, "_line", full)
    else:
        (three / "k.idx").write_text("x")
        (three / "k.idx.heap").touch()
        monkeypatch.setattr(live, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        packed(out, three)
    assert os.listdir(out) == []


def test_a_wrong_recipient_leaves_nothing(three, out):
    with pytest.raises(ValueError, match="no such key"):
        pack.pack(pack.Part("x", (str(three),)), ["age1nobody"], out / "archive")
    assert os.listdir(out) == []


def test_an_interrupted_run_leaves_nothing_and_no_program(three, out, monkeypatch):
    monkeypatch.setattr(compress, "_OWN", None)
    monkeypatch.setattr(compress, "_PACKAGE", None)
    programs = []
    real = subprocess.Popen

    def started(*args, **kwargs):
        programs.append(real(*args, **kwargs))
        return programs[-1]

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(archive.Archive, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        packed(out, three)
    assert os.listdir(out) == []
    assert [program.returncode for program in programs] == [-9]


@pytest.mark.parametrize("way", ["gzip", "program"])
def test_hosts_without_the_package_write_archives_as_well(three, out, monkeypatch, way):
    monkeypatch.setattr(compress, "_OWN", None)
    monkeypatch.setattr(compress, "_PACKAGE", None)
    if way == "gzip":
        monkeypatch.setattr(compress.shutil, "which", lambda program: None)
    done, read = packed(out, three)
    assert done.compression == ("gzip" if way == "gzip" else "zstd")
    assert read.files[name(three / "c")] == b"c"
    assert unpacked(out / "archive", done.compression).index == read.index

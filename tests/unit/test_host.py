"""rocksalt.host: files are replaced in one step, commands always end in an answer."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import threading
from concurrent import futures

import pytest

from rocksalt.host import Host

ME = threading.get_native_id()


@pytest.fixture
def host(tmp_path) -> Host:
    return Host(f"{tmp_path}/")


def mode(path) -> str:
    return f"{stat.S_IMODE(os.stat(path).st_mode):04o}"


@pytest.mark.parametrize("wanted", ["0644", "0600", "0755"])
def test_write(host, tmp_path, wanted):
    old = os.umask(0o077)
    try:
        host.write("/etc/deep/file", "new\n", wanted)
    finally:
        os.umask(old)
    assert (tmp_path / "etc/deep/file").read_text() == "new\n"
    assert mode(tmp_path / "etc/deep/file") == wanted
    assert os.listdir(tmp_path / "etc/deep") == ["file"]


def test_write_takes_away_what_killed_runs_left(host, tmp_path):
    (tmp_path / "file").write_text("old")
    dead = subprocess.Popen(["true"])
    dead.wait()
    for leftover in (f".file.rocksalt-new.{dead.pid}", f".file.rocksalt-new.{ME}"):
        (tmp_path / leftover).write_text("half of something that is longer than the new text")
        (tmp_path / leftover).chmod(0o666)
    host.write("/file", "new", "0600")
    assert (tmp_path / "file").read_text() == "new"
    assert mode(tmp_path / "file") == "0600"
    assert os.listdir(tmp_path) == ["file"]


def test_write_leaves_what_another_writer_is_writing(host, tmp_path):
    others = tmp_path / f".file.rocksalt-new.{os.getppid()}"
    others.write_text("half")
    host.write("/file", "new")
    assert others.read_text() == "half"


def test_two_writers_at_a_time(host):
    texts = [letter * 300_000 for letter in "abcd"]

    def write(text: str) -> set[str | None]:
        seen = set()
        for _ in range(10):
            host.write("/file", text)
            seen.add(host.read("/file"))
        return seen

    with futures.ThreadPoolExecutor(len(texts)) as pool:
        seen = set().union(*pool.map(write, texts))
    assert seen <= set(texts), "a reader saw something that nobody wrote"
    assert host.glob("/.file*") == []


def test_write_replaces_a_link_and_leaves_its_target(host, tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    host.write("/link", "new")
    assert (tmp_path / "target").read_text() == "old"
    assert not (tmp_path / "link").is_symlink()


def test_write_follows_no_planted_link(host, tmp_path):
    (tmp_path / "victim").write_text("old")
    (tmp_path / f".file.rocksalt-new.{ME}").symlink_to("victim")
    host.write("/file", "new")
    assert (tmp_path / "victim").read_text() == "old"
    assert (tmp_path / "file").read_text() == "new"


def test_a_reader_of_the_old_file_keeps_the_old_text(host, tmp_path):
    (tmp_path / "file").write_text("old")
    with open(tmp_path / "file") as reader:
        host.write("/file", "new")
        assert reader.read() == "old"


def test_bytes_that_are_no_text_survive(host, tmp_path):
    (tmp_path / "file").write_bytes(b"caf\xe9\r\n\r\n")
    host.write("/copy", host.read("/file"))
    assert (tmp_path / "copy").read_bytes() == b"caf\xe9\r\n\r\n"


def test_read(host, tmp_path):
    (tmp_path / "file").write_text("text")
    assert host.read("/file") == "text"
    assert [host.read(path) for path in ("/none", "/file/below", "/")] == [None, None, None]


def test_glob_sorts_as_sshd_does(host, tmp_path):
    for name in ("b.conf", "B.conf", "10.conf", "9.conf", ".hidden.conf", "a.txt"):
        (tmp_path / name).touch()
    assert host.glob("/*.conf") == ["/10.conf", "/9.conf", "/B.conf", "/b.conf"]


def test_attributes(host, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    os.utime(tmp_path / "file", (1, 1))
    found = host.attributes("/link")
    me = pwd.getpwuid(os.getuid()).pw_name
    assert (found.mode, found.owner) == ("0640", me)
    assert found.access == f"{me}:{found.group} 0640"
    assert found.changed > 1, "the time of the last change of mode or owner counts as well"
    assert host.attributes("/link", follow=False).mode == "0777"
    assert host.attributes("/none") is host.attributes("/file/below") is None


def test_remove_and_rename(host, tmp_path):
    (tmp_path / "a").write_text("text")
    host.rename("/a", "/b")
    assert os.listdir(tmp_path) == ["b"]
    host.remove("/b")
    host.remove("/b")
    assert os.listdir(tmp_path) == []


def test_secure(host, tmp_path):
    (tmp_path / "file").touch()
    found = host.attributes("/file")
    host.secure("/file", found.owner, found.group, "0400")
    assert host.attributes("/file").access == f"{found.owner}:{found.group} 0400"


def test_ids_without_a_name(host, tmp_path):
    (tmp_path / "file").touch()
    uid, gid = os.getuid(), os.getgid()
    host.secure("/file", str(uid), str(gid), "0400")
    with open(tmp_path / "file") as file:
        host.own(file.fileno(), "/file", str(uid), str(gid))
    found = os.stat(tmp_path / "file")
    assert (found.st_uid, found.st_gid, mode(tmp_path / "file")) == (uid, gid, "0400")


def test_a_file_is_its_owners_from_the_first_moment_on(host, tmp_path, monkeypatch):
    given: list[tuple[str, str, str, bool]] = []

    def own(handle, path, owner, group):
        given.append((path, owner, group, (tmp_path / "file").exists()))

    monkeypatch.setattr(host, "own", own)
    host.write("/file", "new", "0640", "root:salt")
    assert given == [("/file", "root", "salt", False)]
    assert mode(tmp_path / "file") == "0640"


def test_a_directory_for_the_occasion(host, tmp_path):
    with host.directory("/run"):
        assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    with host.directory("/run"):
        pass
    assert (tmp_path / "run").is_dir(), "it was there before"


def test_a_directory_that_somebody_filled_meanwhile_stays(host, tmp_path):
    with host.directory("/run"):
        (tmp_path / "run/sshd.pid").touch()
    assert (tmp_path / "run/sshd.pid").exists()


def test_a_directory_that_somebody_relies_on_by_now_stays(host, tmp_path):
    asked = []

    def starting() -> bool:
        asked.append((tmp_path / "run").is_dir())
        return True

    with host.directory("/run", unless=starting):
        assert asked == [], "it is asked at the end"
    assert asked == [True]
    assert (tmp_path / "run").is_dir()


def test_run(host):
    done = host.run("sh", "-c", 'cat; echo text; echo "$LC_ALL$HOME" >&2; exit 3')
    assert (done.status, done.out, done.err) == (3, "text\n", "C\n")


def test_run_what_is_not_there_or_takes_too_long(host):
    missing = host.run("no-such-program")
    assert (missing.status, missing.err) == (127, "no-such-program is not installed")
    late = host.run("sleep", "5", timeout=0.05)
    assert (late.status, late.err) == (124, "sleep took more than 0 s")

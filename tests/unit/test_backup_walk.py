from __future__ import annotations

import mmap
import os
import shutil
from pathlib import Path

import pytest
from backup_packing import a_socket
from hypothesis import given
from hypothesis import strategies as st

from rocksalt.backup.packing import walk
from rocksalt.backup.packing.walk import Part


@pytest.fixture
def base(tmp_path):
    """Sorts: a name and what follows it in ASCII, a folder and its content, raw bytes."""
    base = tmp_path / "base"
    for name in ("b/inner/file", "b/z", "b.d/x", "b0", "a", "new\nline", "\udcff"):
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name.encode("ascii", "replace").decode())
    return base


def walked(base, *roots, exclude=()):
    """(path below base, kind) of every entry, or why there is nothing to read."""
    part = Part("x", tuple(map(str, roots or [base])), tuple(map(str, exclude)))
    prefix = os.fsencode(base)
    return [
        (e.path.removeprefix(prefix), (e.error and e.error.strerror) or e.why or e.kind)
        for e in walk.walk(part)
    ]


def paths(*args, **kwargs):
    return [path for path, _ in walked(*args, **kwargs)]


def test_entries_come_sorted_by_name_and_folders_first(base):
    expected = [
        b"", b"/a", b"/b", b"/b/inner", b"/b/inner/file", b"/b/z", b"/b.d", b"/b.d/x", b"/b0",
        b"/new\nline", b"/\xff",
    ]  # fmt: skip
    assert paths(base) == expected
    assert sorted(expected, key=walk.order) == expected


def test_links_are_never_followed(base):
    (base / "c").symlink_to(base / "b")
    (base / "d").symlink_to(base / "a")
    (base / "root").symlink_to(base / "b")
    assert [e for e in walked(base) if e[0] in (b"/c", b"/d")] == [
        (b"/c", "other"),
        (b"/d", "other"),
    ]
    assert walked(base, base / "root") == [(b"/root", "other")]


def test_roots_are_files_or_folders(base):
    assert walked(base, base / "b", base / "a") == [
        (b"/a", "file"),
        (b"/b", "folder"),
        (b"/b/inner", "folder"),
        (b"/b/inner/file", "file"),
        (b"/b/z", "file"),
    ]


def test_a_root_below_another_is_met_once(base):
    roots = (base / "b/inner", base, f"{base}/", base / "b/../b", base)
    assert paths(base, *roots) == paths(base)


def test_roots_of_similar_names_are_no_overlap(base):
    assert paths(base, base / "b", base / "b.d")[-2:] == [b"/b.d", b"/b.d/x"]


def test_the_root_folder_itself(monkeypatch):
    seen = []
    for entry in walk.walk(Part("x", ("/",), ("/proc", "/sys", "/dev", "/tmp"))):
        seen.append((entry.path, entry.name))
        if len(seen) == 2:
            break
    assert seen[0] == (b"/", b".")
    assert seen[1] == (b"/" + seen[1][1], seen[1][1])


def test_excluded_is_left_out_with_what_is_below(base):
    left = paths(base, exclude=[base / "b", f"{base}/b0/", base / "not-there"])
    assert left == [b"", b"/a", b"/b.d", b"/b.d/x", b"/new\nline", b"/\xff"]
    assert paths(base, exclude=[base]) == []


def test_a_missing_root_is_an_entry(base):
    assert walked(base, base / "gone/deep") == [(b"/gone/deep", "No such file or directory")]
    found = list(walk.walk(Part("x", (str(base / "gone"),))))
    assert [(e.path, e.kind) for e in found] == [(os.fsencode(base / "gone"), "other")]


def fail(monkeypatch, name, failure, *broken):
    """Has a function of ``os`` fail for paths of these names."""
    real = getattr(os, name)

    def faulty(path, *args, **kwargs):
        if path in broken:
            raise failure
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, name, faulty)


def test_a_folder_that_cannot_be_opened_is_an_entry(base, monkeypatch):
    fail(monkeypatch, "open", PermissionError(13, "Permission denied"), b"b")
    found = walked(base)
    assert (b"/b", "Permission denied") in found
    assert [path for path, _ in found] == [
        b"", b"/a", b"/b", b"/b.d", b"/b.d/x", b"/b0", b"/new\nline", b"/\xff"
    ]  # fmt: skip


def test_a_folder_that_cannot_be_listed_is_two_entries(base, monkeypatch):
    real = os.scandir
    inner = os.stat(base / "b").st_ino

    def faulty(fd):
        if os.fstat(fd).st_ino == inner:
            raise OSError(5, "Input/output error")
        return real(fd)

    monkeypatch.setattr(os, "scandir", faulty)
    assert walked(base)[2:5] == [
        (b"/b", "folder"),
        (b"/b", "Input/output error"),
        (b"/b.d", "folder"),
    ]


def listed(base):
    """A walk that has listed the first folder, and met what comes before ``b`` there."""
    entries = walk.walk(Part("x", (str(base),)))
    assert [next(entries).kind, next(entries).kind] == ["folder", "file"]
    return entries


def test_a_folder_replaced_by_a_link_is_not_followed(base):
    entries = listed(base)
    shutil.rmtree(base / "b")
    (base / "b").symlink_to("/etc")
    found = [(e.path.removeprefix(os.fsencode(base)), e.kind, e.fd) for e in entries]
    assert found[0] == (b"/b", "other", -1)
    assert found[1][0] == b"/b.d"


def test_a_folder_that_vanished_is_an_entry(base):
    entries = listed(base)
    shutil.rmtree(base / "b")
    errors = [e.path for e in entries if isinstance(e.error, FileNotFoundError)]
    assert errors == [os.fsencode(base / "b")]


def test_nothing_stays_open(base, monkeypatch):
    before = os.listdir("/proc/self/fd")
    entries = walk.walk(Part("x", (str(base),)))
    for _ in range(4):
        next(entries)
    assert len(os.listdir("/proc/self/fd")) > len(before)
    entries.close()
    fail(monkeypatch, "open", PermissionError(13, "Permission denied"), b"inner")
    walked(base)
    assert os.listdir("/proc/self/fd") == before


def test_views_of_the_kernel_are_left_out(base):
    assert walked(base, "/proc/self/task", base / "a") == [
        (b"/proc/self/task", "a view of the kernel (proc), no files"),
        (b"/a", "file"),
    ]


def test_more_levels_than_files_may_be_open_end_in_an_entry(base, monkeypatch):
    fail(monkeypatch, "open", OSError(24, "Too many open files"), b"inner")
    assert (b"/b/inner", "Too many open files") in walked(base)


def survey(tmp_path, base, before=None):
    index = tmp_path / f"survey-{len(list(tmp_path.iterdir()))}"
    return walk.survey(Part("x", (str(base),)), before, index), index


def test_a_survey_of_the_same_is_the_same(tmp_path, base):
    first, index = survey(tmp_path, base)
    second, _ = survey(tmp_path, base, index)
    assert (first.files, first.bytes, first.changed) == (7, 32, 11)
    assert second == walk.Survey(first.digest, 7, 32, 0)


CHANGES = {
    "content": (lambda b: (b / "a").write_text("longer"), 1),
    "the same size": (lambda b: (b / "a").write_text("A"), 1),
    "mode": (lambda b: (b / "b/z").chmod(0o600), 1),
    "time": (lambda b: os.utime(b / "b0", ns=(1, 1)), 1),
    "gone": (lambda b: (b / "b.d/x").unlink(), 2),
    "a folder gone": (lambda b: shutil.rmtree(b / "b"), 5),
    "new, last": (lambda b: (b / "\udcff\udcff").touch(), 2),
    "new, first": (lambda b: (b / "A").touch(), 2),
    "new, with a newline": (lambda b: (b / "new\nlinf\\n").touch(), 2),
    "renamed": (lambda b: (b / "b").rename(b / "bb"), 9),
    "replaced by itself": (
        lambda b: (shutil.copy2(b / "a", b / "A"), (b / "A").rename(b / "a")),
        2,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_survey_tells_what_changed(tmp_path, base, name):
    change, count = CHANGES[name]
    first, index = survey(tmp_path, base)
    change(base)
    second, _ = survey(tmp_path, base, index)
    assert second.changed == count
    assert second.digest != first.digest


def test_the_text_of_a_link_counts(tmp_path, base):
    (base / "link").symlink_to("a b")
    _, index = survey(tmp_path, base)
    assert index.read_bytes().splitlines()[9].split(b" ")[7] == b"a b".hex().encode()


@pytest.mark.parametrize("name", ["keys.idx", "keys.idx.heap", "keys.idx.heap.1"])
def test_what_is_written_in_memory_alone_is_seen(tmp_path, base, name):
    for table in ("keys.idx", "keys.idx.heap", "keys.idx.heap.1"):
        (base / table).write_bytes(b"a" * 8192)
    with open(base / name, "r+b") as file, mmap.mmap(file.fileno(), 8192) as memory:
        memory[0] = 0  # from now on until this page is written back nothing sets a time
        first, index = survey(tmp_path, base)
        assert survey(tmp_path, base, index)[0].changed == 0
        memory[1] = 0
        second, _ = survey(tmp_path, base, index)
    assert second.changed == 1
    assert second.digest != first.digest


def test_sockets_and_what_programs_make_anew_count_for_nothing(tmp_path, base):
    (base / "trustdb.gpg").touch()
    first, index = survey(tmp_path, base)
    (base / "random_seed").write_text("x")
    (base / ".#lk0x0000.host.1").touch()
    with a_socket(base / "S.gpg-agent"):
        second, _ = survey(tmp_path, base, index)
    assert second.changed == 1  # the folder
    assert (second.files, second.bytes) == (first.files, first.bytes)


def test_only_tables_are_read_to_survey_them(tmp_path, base, monkeypatch):
    for name in ("pack.idx", "a.idx", "a.idx.heap.old", "b.idx.roster"):
        (base / name).touch()
    (base / "a.idx.heap").symlink_to("a")
    os.mkfifo(base / "b.idx.heap")
    read = []
    monkeypatch.setattr(walk.live, "content", lambda folder, name: read.append(name) or b"0")
    survey(tmp_path, base)
    assert read == [b"a.idx"]


def test_a_table_that_cannot_be_read_is_told_like_others(tmp_path, base, monkeypatch):
    (base / "x.idx.heap").touch()
    _, index = survey(tmp_path, base)
    fail(monkeypatch, "open", PermissionError(13, "Permission denied"), b"x.idx.heap")
    assert survey(tmp_path, base, index)[0].changed == 1


# What belongs to others


@pytest.fixture
def theirs(tmp_path, base):
    """A folder of others, of which a file and a file in a folder have a second name below base."""
    folder = tmp_path / "theirs"
    (folder / "inner").mkdir(parents=True)
    for name, second in (("secret", "a-link"), ("inner/secret", "b/link")):
        (folder / name).write_text("theirs")
        os.link(folder / name, base / second)
    return folder


def test_a_survey_counts_no_files_of_others(tmp_path, base, theirs):
    def survey(name):
        part = Part("x", (str(base),), foreign=(str(theirs / "inner"), str(tmp_path / "gone")))
        return walk.survey(part, None, tmp_path / name)

    os.link(base / "a", base / "a2")
    before = survey("before")
    assert (before.files, before.bytes) == (9, 39)
    with open(theirs / "inner/secret", "a") as file:
        file.write("more")
    assert survey("after") == before


def test_files_of_others_are_looked_for_only_when_they_could_be_met(tmp_path, base, monkeypatch):
    roots = []
    real = walk.walk
    monkeypatch.setattr(walk, "walk", lambda part: roots.append(part.roots) or real(part))
    part = Part("x", (str(base),), foreign=("/theirs",))
    walk.survey(part, None, tmp_path / "1")
    assert roots == [part.roots]
    for second in ("a2", "a3"):
        os.link(base / "a", base / second)
    walk.survey(part, None, tmp_path / "2")
    assert roots[1:] == [part.roots, part.foreign]


def test_a_survey_counts_what_it_cannot_see(tmp_path, base, monkeypatch):
    _, index = survey(tmp_path, base)
    fail(monkeypatch, "stat", PermissionError(13, "Permission denied"), b"a")
    second, index = survey(tmp_path, base, index)
    assert (second.changed, second.files) == (1, 6)
    assert survey(tmp_path, base, index)[0] == walk.Survey(second.digest, 6, 31, 0)


def test_a_survey_overwrites_nothing(tmp_path, base):
    _, index = survey(tmp_path, base)
    with pytest.raises(FileExistsError):
        walk.survey(Part("x", (str(base),)), None, index)


lines = st.dictionaries(
    st.binary(max_size=3).map(lambda b: b"/" + b.replace(b"\0", b"")), st.integers(0, 2), max_size=8
)


@given(then=lines, now=lines)
def test_two_surveys_are_compared_path_by_path(then, now):
    def survey(seen):
        ordered = sorted(seen.items(), key=lambda item: walk.order(item[0]))
        return [b"%d %b\n" % (value, walk._escaped(path)) for path, value in ordered]

    expected = sum(then.get(path) != now.get(path) for path in {*then, *now})
    assert walk._changed(survey(then), survey(now)) == expected


def test_a_survey_of_nothing(tmp_path):
    empty, _ = survey(tmp_path, Path("/gone"))
    assert (empty.files, empty.bytes, empty.changed) == (0, 0, 1)

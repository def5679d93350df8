from __future__ import annotations

import io
import os
import subprocess
import tarfile

import pytest
from backup_packing import ACL
from hypothesis import given, settings
from hypothesis import strategies as st

from rocksalt.backup.packing import tar

NOW = 1_795_355_555_123_456_789


def member(name=b"etc/salt/master", kind=tar.FILE, mtime=NOW, **more):
    return tar.Member(name, kind, 0o100640, 0, 0, mtime, **more)


def parsed(data):
    with tarfile.open(fileobj=io.BytesIO(data + tar.END), errors="surrogateescape") as archive:
        return archive.next()


def nanoseconds(info):
    seconds, _, fraction = info.pax_headers.get("mtime", str(int(info.mtime))).partition(".")
    sign = -1 if seconds.startswith("-") else 1
    return int(seconds) * 10**9 + sign * int(fraction.ljust(9, "0") or 0)


def test_a_plain_file_has_one_block():
    data = tar.header(member(mtime=5 * 10**9, size=7))
    assert len(data) == 512
    info = parsed(data)
    assert (info.name, info.size, info.mode, info.mtime) == ("etc/salt/master", 7, 0o640, 5)
    assert (info.uname, info.gname, info.pax_headers) == ("root", "root", {})


names = st.lists(
    st.binary(min_size=1, max_size=255).map(lambda b: b.replace(b"/", b"_").replace(b"\0", b"0")),
    min_size=1,
    max_size=6,
).map(b"/".join)


@given(
    name=names,
    mtime=st.integers(-(10**19), 10**20),
    uid=st.integers(0, 2**32 - 2),
    size=st.integers(0, 2**63),
    mode=st.integers(0, 0o7777),
)
def test_every_header_is_read_as_it_was_meant(name, mtime, uid, size, mode):
    data = tar.header(tar.Member(name, tar.FILE, mode, uid, 7, mtime, size))
    info = parsed(data)
    assert os.fsencode(info.name) == name
    assert (info.uid, info.gid, info.size, info.mode) == (uid, 7, size, mode)
    assert nanoseconds(info) == mtime
    assert len(data) % 512 == 0


@given(link=names)
def test_every_link_is_read_as_it_was_meant(link):
    info = parsed(tar.header(member(kind=tar.LINK, link=link)))
    assert info.issym()
    assert os.fsencode(info.linkname) == link


@settings(max_examples=30, deadline=None)
@given(name=names)
def test_gnu_tar_reads_the_names(name):
    listed = subprocess.run(
        ["tar", "--quoting-style=literal", "-tf", "-"],
        input=tar.header(member(name)) + tar.END,
        capture_output=True,
        check=True,
    )
    assert listed.stdout == name + b"\n"


@pytest.mark.parametrize("kind", [tar.DEVICE, tar.BLOCK_DEVICE])
def test_a_device_keeps_its_number(kind):
    info = parsed(tar.header(member(kind=kind, device=os.makedev(259, 70_000))))
    assert info.isdev()
    assert (info.devmajor, info.devminor) == (259, 70_000)


def test_owners_without_a_name_have_a_number(monkeypatch):
    info = parsed(tar.header(tar.Member(b"x", tar.FILE, 0, 4_123_456, 4_123_457, 0)))
    assert (info.uname, info.uid, info.gid) == ("", 4_123_456, 4_123_457)


@pytest.mark.parametrize(("size", "length"), [(1, 8), (2, 9), (90, 98), (91, 99), (92, 101)])
def test_a_record_counts_its_own_length(size, length):
    record = tar.record(b"key", b"v" * size)
    assert record == b"%d key=%b\n" % (length, b"v" * size)
    assert len(record) == length


def test_attributes_are_records(tmp_path):
    path = tmp_path / "file"
    path.touch()
    assert tar.attributes(os.fsencode(path)) == b""
    os.setxattr(path, "user.b=%", b"\0\n")
    os.setxattr(path, "user.a", b"1")
    with open(path) as file:
        assert tar.attributes(file.fileno()) == tar.attributes(os.fsencode(path))
    assert tar.attributes(os.fsencode(path)) == (
        tar.record(b"SCHILY.xattr.user.a", b"1") + tar.record(b"SCHILY.xattr.user.b%3D%25", b"\0\n")
    )


def test_attributes_of_a_link_are_its_own(tmp_path):
    (tmp_path / "file").touch()
    os.setxattr(tmp_path / "file", "user.a", b"1")
    (tmp_path / "link").symlink_to("file")
    assert tar.attributes(os.fsencode(tmp_path / "link")) == b""


def test_a_filesystem_without_attributes_has_none(monkeypatch):
    def unsupported(*args, **kwargs):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "listxattr", unsupported)
    assert tar.attributes(b"/") == b""


def test_an_attribute_that_went_away_is_none(monkeypatch, tmp_path):
    def gone(*args, **kwargs):
        raise OSError(61, "No data available")

    monkeypatch.setattr(os, "listxattr", lambda *args, **kwargs: ["user.gone"])
    monkeypatch.setattr(os, "getxattr", gone)
    assert tar.attributes(b"/") == b""


def test_an_acl_in_words():
    assert tar.acl_text(ACL) == b"user::rw-\nuser:1000:r--\ngroup::r--\nmask::r--\nother::---\n"


def written(path, size, *pieces):
    with open(path, "wb") as file:
        file.truncate(size)
        for start, data in pieces:
            file.seek(start)
            file.write(data)
    return path


PAGE = 4096


def extents(path):
    with open(path, "rb") as file:
        return tar.extents(file.fileno(), path.stat().st_size)


@pytest.mark.parametrize(
    ("size", "pieces", "expected"),
    [
        (3 * PAGE, [(0, b"x" * 3 * PAGE)], None),
        (1 << 30, [], []),
        (9 * PAGE, [(0, b"x"), (4 * PAGE, b"x")], [(0, PAGE), (4 * PAGE, PAGE)]),
        (4 * PAGE + 1, [(4 * PAGE, b"x")], [(4 * PAGE, 1)]),
    ],
)
def test_where_data_is(tmp_path, size, pieces, expected):
    assert extents(written(tmp_path / "file", size, *pieces)) == expected


def test_the_smallest_holes_of_many_are_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(tar, "LARGEST_MAP", 8)
    pieces = [(at * 2 * PAGE, b"x") for at in range(40)]
    path = written(tmp_path / "file", 1 << 24, *pieces, (1 << 20, b"far away"))
    found = extents(path)
    assert len(found) <= 8
    assert found[-1] == (1 << 20, PAGE)
    held = {at for start, length in found for at in range(start, start + length, PAGE)}
    assert held >= {start for start, _ in pieces}


def test_a_file_that_shrinks_while_it_is_mapped_ends_early(tmp_path):
    path = written(tmp_path / "file", 4 * PAGE, (0, b"x" * PAGE))
    with open(path, "rb") as file:
        assert tar.extents(file.fileno(), 1 << 20) == [(0, PAGE)]


def test_a_filesystem_that_tells_no_holes_has_none(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "lseek", unsupported)
    assert tar.extents(0, 5) is None


@pytest.mark.parametrize(
    "where", [[(0, 5)], [], [(PAGE, PAGE), (1 << 33, 100)], [((1 << 34) - 7, 7)]]
)
def test_a_sparse_file_is_read_by_others(tmp_path, where):
    content = {at: bytes([65 + at % 20]) * length for at, length in where}
    data = b"".join(content[at] for at, _ in where)
    header = tar.sparse(member(b"var/sparse\xff", size=1 << 34), where)
    archive = header + tar.padded(data) + tar.END
    info = parsed(archive)
    assert (os.fsencode(info.name), info.size) == (b"var/sparse\xff", 1 << 34)
    assert [piece for piece in info.sparse if piece[1]] == where
    command = ["tar", "-xf", "-", "-C", str(tmp_path)]
    subprocess.run(command, input=archive, check=True)
    with open(os.path.join(os.fsencode(tmp_path), b"var/sparse\xff"), "rb") as file:
        assert os.fstat(file.fileno()).st_size == 1 << 34
        for at, expected in content.items():
            assert os.pread(file.fileno(), len(expected), at) == expected


def test_the_digest_of_what_is_no_hole():
    file = io.BytesIO(b"0123456789")
    assert tar.digest(file, {"data": [[2, 3], [7, 1]]}) == tar.digest(io.BytesIO(b"2347"), {})
    assert tar.digest(file, {}) == tar.digest(io.BytesIO(b"0123456789"), {"data": [[0, 10]]})

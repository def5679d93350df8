"""What the tests of packing share: trees with one of each kind of entry, and archives read back."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocksalt.backup.crypto import age
from rocksalt.backup.packing import compress, pack, tar

IDENTITY, RECIPIENT = age.generate()
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in (
        (1, 6, 0xFFFFFFFF),
        (2, 4, 1000),
        (4, 4, 0xFFFFFFFF),
        (16, 4, 0xFFFFFFFF),
        (32, 0, 0xFFFFFFFF),
    )
)
"""user::rw-, user:1000:r--, group::r--, mask::r--, other::---, as the kernel has it."""


@dataclass
class Unpacked:
    """An archive: contents of regular files and members by name (the last of a name counts), the
    order of names, and the index by absolute path.
    """

    files: dict[bytes, bytes]
    members: dict[bytes, tarfile.TarInfo]
    names: list[bytes]
    index: dict[bytes, dict[str, Any]]
    raw: bytes


def packed(folder: Path, *roots: Path | str, **options: Any) -> tuple[pack.Packed, Unpacked]:
    """Packs roots by way of a folder, and reads the archive."""
    target = folder / "archive"
    part = pack.Part("operator", tuple(map(str, roots)), **options)
    done = pack.pack(part, [RECIPIENT], target)
    assert done.size == target.stat().st_size
    assert done.sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    assert os.listdir(folder) == ["archive"]
    return done, unpacked(target, done.compression)


def unpacked(target: Path, compression: str) -> Unpacked:
    with open(target, "rb") as file:
        plain = age.Reader(file, age.identities(IDENTITY))
        raw = compress.Reader(io.BufferedReader(plain), compression).read()
    files, members, names = {}, {}, []
    with tarfile.open(fileobj=io.BytesIO(raw), errors="surrogateescape") as archive:
        for member in archive:
            name = os.fsencode(member.name)
            names.append(name)
            members[name] = member
            if member.isreg() and member.size < 1 << 24:
                content = archive.extractfile(member)
                assert content
                files[name] = content.read()
    assert names[0] == pack.ABOUT.encode()
    assert names[-1] == pack.INDEX.encode()
    lines = map(json.loads, files[names[-1]].splitlines())
    return Unpacked(files, members, names, {pack.path_of(line): line for line in lines}, raw)


def one_of_each(base: Path) -> None:
    """A tree with every kind of entry that its maker may make, and names of every kind."""
    base.mkdir()
    folder = os.fsencode(base)
    contents = {
        b"ordinary": b"hello",
        b"empty": b"",
        b"n" * 255: b"long",
        b"\xff\xfe no utf-8": b"raw",
        b"new\nline": b"newline",
        b'quote"back\\slash': b"quoted",
        "Ümläut".encode(): b"utf-8",
        b"d" * 200 + b"/" + b"e" * 200 + b"\xff": b"long and raw",
        b"/".join([b"deep"] * 40) + b"/file": b"deep",
        b"big": os.urandom(3 << 20),
        b"attributes": b"attributes",
    }
    for name, content in contents.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(content)
    (base / "empty").chmod(0o4711)
    (base / "sticky").mkdir()
    (base / "sticky").chmod(0o1777)
    with open(base / "holes", "wb") as file:
        file.write(b"begin")
        file.seek(5 << 30)
        file.write(b"middle")
        file.truncate((5 << 30) + (1 << 20))
    with open(base / "hole", "wb") as file:
        file.truncate(1 << 30)
    os.symlink("/absolute/" + "t" * 200, base / "long-link")
    os.symlink(b"\xff", folder + b"/raw-link")
    os.link(base / "ordinary", base / "z-hard-link")
    os.mkfifo(base / "fifo", 0o640)
    attributes = {"user.plain": b"x", "user.odd=%": b"\0\xff\n", "system.posix_acl_access": ACL}
    for key, value in attributes.items():
        os.setxattr(base / "attributes", key, value)
    os.setxattr(base / "sticky", "system.posix_acl_default", ACL)
    if os.geteuid() == 0:
        _only_roots(base)
    os.utime(base / "big", ns=(0, 1))
    os.utime(base / "sticky", ns=(0, 9 * 10**18))


def _only_roots(base: Path) -> None:
    os.mknod(base / "character", 0o020600, os.makedev(1, 3))
    os.mknod(base / "block", 0o060600, os.makedev(7, 200))
    os.chown(base / "ordinary", 12345, 3_000_000)
    capability = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
    os.setxattr(base / "big", "security.capability", capability)


def a_socket(path: Path) -> socket.socket:
    served = socket.socket(socket.AF_UNIX)
    served.bind(str(path))
    return served


def seen(base: Path) -> dict[bytes, tuple[object, ...]]:
    """All that a restored tree has to have in common with the one that was packed."""
    found = {}
    for folder, _, files in os.walk(os.fsencode(base)):
        links = [n for n in os.listdir(folder) if os.path.islink(os.path.join(folder, n))]
        for path in {folder, *(os.path.join(folder, name) for name in (*files, *links))}:
            found[os.path.relpath(path, os.fsencode(base))] = _seen(path)
    return found


def _seen(path: bytes) -> tuple[object, ...]:
    status = os.lstat(path)
    attributes = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }
    link = os.readlink(path) if os.path.islink(path) else b""
    content: object = None
    if os.path.isfile(path) and not link:
        with open(path, "rb") as file:
            where = tar.extents(file.fileno(), status.st_size)
            entry = {} if where is None else {"data": where}
            content = (where, status.st_size, tar.digest(file, entry))
    links = 0 if os.path.isdir(path) else status.st_nlink
    owner = (status.st_uid, status.st_gid)
    kind = (status.st_mode, links, status.st_rdev)
    return (*kind, *owner, status.st_mtime_ns, attributes, link, content)

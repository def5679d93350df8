"""What belongs to one archive: roots, and everything below them in an order that never changes.

Links are never followed, neither as a root nor below one. What is mounted below a root belongs to
it, as it does for those who use the files; only the kernel's own views (``/proc`` and the like)
are left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rocksalt.backup.config import within
from rocksalt.backup.packing import live

FOLDER, FILE, OTHER = "folder", "file", "other"

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK
_VIEWS = re.compile(
    "autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|efivarfs|fusectl|mqueue|nsfs"
    "|proc|pstore|rpc_pipefs|securityfs|selinuxfs|sysfs|tracefs"
)


@dataclass(frozen=True)
class Part:
    """What goes into one archive: absolute ``roots``, files or folders (one that is below another
    one goes with that); ``exclude`` are absolute paths that are left out with what is below them;
    ``foreign`` are those of others, whose files are left out under every name that they have here.
    """

    name: str
    roots: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


class Entry(NamedTuple):
    """Something below a root. ``folder`` is the open folder it is in, under ``name``; ``fd`` a
    folder itself, open, else -1. ``kind`` is what it was when its folder was listed. Both are
    closed once the next entry is asked for. ``error`` is why it cannot be looked at, ``why`` the
    reason not to archive it.
    """

    path: bytes
    folder: int
    name: bytes
    kind: str
    fd: int = -1
    error: OSError | None = None
    why: str = ""


@dataclass(frozen=True)
class Survey:
    """How a part looks by ``lstat`` alone: the SHA-256 over every entry, how many regular files
    and bytes there are, and how many entries are new, different or gone since the survey before
    (all of them where there was none).
    """

    digest: str
    files: int
    bytes: int
    changed: int


class Foreign:
    """The files at and below the ``foreign`` paths of a part that have more names than one, for
    ``status in foreign``. They are looked for once, when the part has such a file.
    """

    def __init__(self, part: Part):
        self._part = Part(part.name, part.foreign)
        self._inodes: set[tuple[int, int]] | None = None

    def __contains__(self, status: os.stat_result) -> bool:
        if status.st_nlink < 2 or not stat.S_ISREG(status.st_mode):
            return False
        if self._inodes is None:
            self._inodes = set(self._found())
        return (status.st_dev, status.st_ino) in self._inodes

    def _found(self) -> Iterator[tuple[int, int]]:
        for entry in walk(self._part):
            if entry.kind is FOLDER or entry.error:
                continue
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(entry.name, dir_fd=entry.folder, follow_symlinks=False)
                if status.st_nlink > 1:
                    yield status.st_dev, status.st_ino


def order(path: bytes) -> bytes:
    """Sorts paths the way :func:`walk` meets them: by names, a folder before what is in it."""
    return path.replace(b"/", b"\0")


def walk(part: Part) -> Iterator[Entry]:
    """Every entry of a part, folders before what is in them."""
    paths = [os.path.normpath(root) for root in part.roots]
    tops = {os.fsencode(p) for p in paths if not any(within(p, q) for q in paths if q != p)}
    left = excluded(part)
    for root in sorted(tops, key=order):
        yield from _tree(root, left)


def excluded(part: Part) -> frozenset[bytes]:
    """The paths that a part does without."""
    return frozenset(os.fsencode(os.path.normpath(path)) for path in part.exclude)


def _tree(root: bytes, excluded: frozenset[bytes]) -> Iterator[Entry]:
    parent, name = os.path.split(root)
    try:
        folder = os.open(parent, _OPEN_FOLDER)
    except OSError as error:
        yield Entry(root, -1, name, OTHER, error=error)
        return
    name = name or b"."
    prefix = parent.rstrip(b"/") + b"/" if name != b"." else b""
    stack = [(folder, prefix, iter([(name, _kind(folder, name), "")]), -1)]
    try:
        while stack:
            folder, prefix, names, device = stack[-1]
            for name, kind, why in names:
                path = prefix + name if prefix else root
                if path in excluded:
                    continue
                if kind is not FOLDER or why:
                    yield Entry(path, folder, name, kind, why=why)
                    continue
                fd = -1
                try:
                    fd = os.open(name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                    beneath = os.fstat(fd).st_dev
                    view = beneath != device and _view(beneath)
                    yield Entry(path, folder, name, FOLDER, fd, why=view or "")
                    if not view:
                        below = path.rstrip(b"/") + b"/"
                        stack.append((fd, below, iter(_listing(fd)), beneath))
                        fd = -1
                        break
                except NotADirectoryError:  # replaced since it was listed
                    yield Entry(path, folder, name, OTHER)
                except OSError as error:
                    yield Entry(path, folder, name, FOLDER, error=error)
                finally:
                    if fd >= 0:
                        os.close(fd)
            else:
                os.close(stack.pop()[0])
    finally:
        for folder, *_ in stack:
            os.close(folder)


def _kind(folder: int, name: bytes) -> str:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError:
        return OTHER
    return FOLDER if stat.S_ISDIR(mode) else FILE if stat.S_ISREG(mode) else OTHER


def _listing(fd: int) -> list[tuple[bytes, str, str]]:
    """(name, kind, why not to archive it) of what is in a folder, sorted."""
    with os.scandir(fd) as entries:
        found = [
            (
                os.fsencode(entry.name),
                (
                    FOLDER
                    if entry.is_dir(follow_symlinks=False)
                    else FILE if entry.is_file(follow_symlinks=False) else OTHER
                ),
                "",
            )
            for entry in entries
        ]
    unneeded = live.unneeded({name for name, _, _ in found})
    if unneeded:
        found = [(name, kind, unneeded.get(name, "")) for name, kind, _ in found]
    found.sort()
    return found


def _view(device: int) -> str:
    """Why what is mounted there is not archived; empty where it is."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            words, _, after = line.partition(" - ")
            kind = after.split(" ", 1)[0]
            if words.split(" ", 3)[2] == number and _VIEWS.fullmatch(kind):
                return f"a view of the kernel ({kind}), no files"
    return ""


def survey(part: Part, before: Path | None, index: Path) -> Survey:
    """Looks at every entry of a part, reading only what can be written without a trace, and
    writes what it saw to the new file ``index``, to be given as ``before`` the next time. OSError
    where ``index`` cannot be written; what cannot be looked at counts as an entry of its own, what
    is not archived does not count.
    """
    digest, files, size = hashlib.sha256(), 0, 0
    foreign = Foreign(part)
    with open(index, "xb") as seen:
        for entry in walk(part):
            if entry.why:
                continue
            status, line = _identity(entry)
            if status and (stat.S_ISSOCK(status.st_mode) or status in foreign):
                continue
            if status and stat.S_ISREG(status.st_mode):
                files += 1
                size += status.st_size
            digest.update(line)
            seen.write(line)
    with open(index, "rb") as now, open(before or os.devnull, "rb") as then:
        return Survey(digest.hexdigest(), files, size, _changed(then, now))


def _identity(entry: Entry) -> tuple[os.stat_result | None, bytes]:
    """What an entry is, and its line of a survey: numbers, the text of a link or the hash of what
    is mapped into memory, the path.
    """
    path, text = _escaped(entry.path), b"-"
    try:
        if entry.error:
            raise entry.error
        if entry.fd >= 0:
            status = os.fstat(entry.fd)
        else:
            status = os.stat(entry.name, dir_fd=entry.folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                text = os.readlink(entry.name, dir_fd=entry.folder).hex().encode()
            elif b".idx" in entry.name and live.mapped(entry.folder, entry.name, status):
                text = live.content(entry.folder, entry.name)
    except OSError as error:
        return None, b"- %d %b\n" % (error.errno or 0, path)
    return status, b"%o %d %d %d %d %d %d %b %b\n" % (
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        text,
        path,
    )


def _escaped(path: bytes) -> bytes:
    return path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")


def _key(line: bytes) -> bytes:
    """Where a line of a survey stands, whose path begins with its first slash."""
    path = line[line.index(b"/") : -1]
    if b"\\" in path:
        parts = path.split(b"\\\\")
        path = b"\\".join(part.replace(b"\\n", b"\n") for part in parts)
    return order(path)


def _changed(then: Iterable[bytes], now: Iterable[bytes]) -> int:
    """Entries that only one of two surveys has, or both have differently."""
    olds, news = iter(then), iter(now)
    old, new = next(olds, None), next(news, None)
    count = 0
    while old is not None and new is not None:
        if old == new:
            old, new = next(olds, None), next(news, None)
            continue
        count += 1
        a, b = _key(old), _key(new)
        old = next(olds, None) if a <= b else old
        new = next(news, None) if b <= a else new
    rest = (old is not None) + (new is not None)
    return count + rest + sum(1 for _ in olds) + sum(1 for _ in news)

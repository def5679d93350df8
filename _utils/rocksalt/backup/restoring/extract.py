"""Writes members below a folder, and nowhere else: by folder descriptors that follow no link."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from rocksalt.backup.errors import BackupError, Locked
from rocksalt.backup.restoring.members import BLOCK, DEVICE, FIFO, FILE, FOLDER, LINK, Member

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Notes:
    """What could not be restored as it was: a sentence for each kind, with a number and the first
    path.
    """

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, path: str) -> None:
        self._found.setdefault(kind, []).append(path)

    def sentences(self) -> list[str]:
        return [
            f"{kind}: {paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
            for kind, paths in self._found.items()
        ]


class Workspace:
    """A folder that only its owner may enter, for one run at a time; what a killed run left in it
    goes first, and all of it at the end.

    :class:`Locked` while another run is at work in it.
    """

    def __init__(self, path: str):
        self.path = path
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        try:
            self.fd = os.open(path, _DIRECTORY)
        except OSError as error:
            raise BackupError(f"{path} is no folder of a restore: {error.strerror}") from None
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(self.fd)
            if not os.path.samestat(found, os.lstat(path)):
                raise BlockingIOError
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise BackupError(f"{path} is somebody else's: remove it, or choose another folder")
            self._clear()
        except (BlockingIOError, FileNotFoundError):
            os.close(self.fd)
            raise Locked(f"another restore is at work in {path}") from None
        except BaseException:
            os.close(self.fd)
            raise

    def _clear(self) -> None:
        """Also the ACL that the folder above gives to new files goes."""
        with contextlib.suppress(OSError):
            os.removexattr(self.fd, "system.posix_acl_default")
        for name in os.listdir(self.path):
            remove(os.path.join(self.path, name))

    @property
    def room(self) -> int:
        """Bytes that may be written here."""
        found = os.statvfs(self.fd)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Removes it, unless it has another name by now."""
        if os.path.lexists(self.path) and os.path.samestat(os.fstat(self.fd), os.lstat(self.path)):
            remove(self.path)
        os.close(self.fd)


def remove(path: str) -> None:
    """Removes a file, or a folder with all that is in it, also what its owner may not enter."""
    if not os.path.isdir(path) or os.path.islink(path):
        os.unlink(path)
        return
    os.chmod(path, 0o700)
    for folder, inner, _ in os.walk(path):
        for name in inner:
            if not os.path.islink(os.path.join(folder, name)):
                os.chmod(os.path.join(folder, name), 0o700)
    shutil.rmtree(path)


class Tree:
    """Writes members below the folder ``fd``. Folders get their attributes from :meth:`finish`,
    when nothing is written into them any more.
    """

    def __init__(self, fd: int, notes: Notes):
        self._fd = fd
        self._notes = notes
        self._at: tuple[bytes, int] = (b"", fd)
        self._folders: dict[bytes, Member] = {}

    def write(self, name: bytes, member: Member, content: IO[bytes] | None) -> None:
        """Makes a new entry ``name`` (below the folder, without a leading slash) of a member.

        BackupError where there is one already that no folder of ours can be.
        """
        with _named(member.path):
            parent, base = self._parent(name)
            if member.kind == FOLDER:
                self._folders[name] = member
                self._folder(parent, base)
            elif member.kind == FILE:
                self._file(parent, base, member, content)
            elif member.kind == LINK:
                os.symlink(member.link, base, dir_fd=parent)
                self._attributes(parent, base, member)
            elif member.kind in (FIFO, DEVICE):
                self._node(parent, base, member)

    def link(self, target: bytes, name: bytes, other: Tree) -> None:
        """Makes ``name`` a hard link to ``target``, which lies below the folder of ``other``."""
        with _named(os.fsdecode(name)):
            at, base = other._parent(target)
            at = os.dup(at)  # the next call may close it
            try:
                to, new = self._parent(name)
                os.link(base, new, src_dir_fd=at, dst_dir_fd=to, follow_symlinks=False)
            finally:
                os.close(at)

    def finish(self) -> None:
        """Gives folders their attributes, inner ones first."""
        for name in sorted(self._folders, reverse=True):
            with _named(os.fsdecode(name)):
                parent, base = self._parent(name)
                self._attributes(parent, base, self._folders[name])

    def close(self) -> None:
        if self._at[1] != self._fd:
            os.close(self._at[1])
        self._at = (b"", self._fd)

    def _parent(self, name: bytes) -> tuple[int, bytes]:
        """The open folder that ``name`` lies in, made where it is missing, and the last part."""
        folder, _, base = name.rpartition(b"/")
        if folder != self._at[0]:
            fd = os.dup(self._fd)
            for step in folder.split(b"/") if folder else ():
                with contextlib.suppress(FileExistsError):
                    os.mkdir(step, 0o755, dir_fd=fd)
                try:
                    inner = os.open(step, _DIRECTORY, dir_fd=fd)
                finally:
                    os.close(fd)
                fd = inner
            self.close()
            self._at = (folder, fd)
        return self._at[1], base

    def _folder(self, parent: int, base: bytes) -> None:
        """One that is there was made for what lies in it."""
        try:
            os.mkdir(base, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(base, dir_fd=parent).st_mode):
                raise

    def _file(self, parent: int, base: bytes, member: Member, content: IO[bytes] | None) -> None:
        assert content is not None
        fd = os.open(base, _NEW, 0o600, dir_fd=parent)
        with open(fd, "wb", buffering=0) as file:
            at = 0
            for start, size in member.pieces:
                for _ in blocks(content, start - at):  # holes, which read as zeros
                    pass
                os.lseek(fd, start, os.SEEK_SET)
                for block in blocks(content, size):
                    _write(fd, block)
                at = start + size
            os.ftruncate(fd, member.info.size)
            self._attributes(parent, base, member, file.fileno())

    def _node(self, parent: int, base: bytes, member: Member) -> None:
        kind = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK}.get(member.info.type, stat.S_IFIFO)
        try:
            os.mknod(
                base, kind | 0o600, member.device if member.kind == DEVICE else 0, dir_fd=parent
            )
        except PermissionError:
            self._notes.add("devices can only be made by root, and are missing", member.path)
            return
        self._attributes(parent, base, member)

    def _attributes(self, parent: int, base: bytes, member: Member, fd: int = -1) -> None:
        """Owner first, because a new owner takes setuid and capabilities away; times last."""
        info, mode = member.info, member.info.mode & 0o7777
        try:
            os.chown(base, info.uid, info.gid, dir_fd=parent, follow_symlinks=False)
        except PermissionError:
            if member.kind != LINK and mode & 0o6000:
                self._notes.add("has no setuid or setgid bit, as it has another owner", member.path)
            mode &= 0o1777
            if (info.uid, info.gid) != (os.geteuid(), os.getegid()):
                self._notes.add("only root restores owners; belongs to this account", member.path)
        if member.kind != LINK:
            os.chmod(base, mode, dir_fd=parent)
        # By descriptor for files; there is no call for others that takes a folder and a name.
        place = fd if fd >= 0 else b"/proc/self/fd/%d/%s" % (parent, base)
        for name, value in member.attributes.items():
            try:
                if isinstance(place, int):
                    os.setxattr(place, name, value)
                else:
                    os.setxattr(place, name, value, follow_symlinks=False)
            except OSError as error:
                self._notes.add(
                    f"could not be given the attribute {name}: {error.strerror}", member.path
                )
        times = (member.mtime_ns, member.mtime_ns)
        os.utime(base, ns=times, dir_fd=parent, follow_symlinks=False)


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """An error of the system in words that name the path in the archive."""
    try:
        yield
    except FileExistsError:
        raise BackupError(f"{path} is twice in what is restored, or was there before") from None
    except OSError as error:
        raise BackupError(f"{path} could not be restored: {error.strerror}") from None


def blocks(source: IO[bytes], size: int) -> Iterator[bytes]:
    """So many bytes, some at a time; fewer only where the source ends."""
    while size > 0 and (block := source.read(min(size, BLOCK))):
        size -= len(block)
        yield block


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def moved_aside(path: str, stamp: str) -> str:
    """Where what is at ``path`` goes when something is restored in its place."""
    return f"{path}.before-restore-{stamp}"


def swap(new: str, path: str, stamp: str) -> str:
    """Puts ``new`` in the place of ``path``, moves what was there aside and returns where to;
    empty where there was nothing.

    Between its two renames nothing is at ``path``; where the second one fails the old one comes
    back.
    """
    aside = moved_aside(path, stamp) if os.path.lexists(path) else ""
    if aside:
        if os.path.lexists(aside):
            raise BackupError(f"{aside} exists already: try again in a second")
        os.rename(path, aside)
    try:
        os.rename(new, path)
    except OSError as error:
        if aside:
            os.rename(aside, path)
        raise BackupError(f"{path} could not be put in place: {error.strerror}") from None
    folder = os.open(str(Path(path).parent), _DIRECTORY & ~os.O_NOFOLLOW)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return aside

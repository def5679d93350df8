"""A vault that is a folder: for the master a mounted disk, for a receiver its own store.

::

    <path>/.rocksalt-vault          marks the folder of a receiver, made with it
    <path>/<instance>/              the objects
    <path>/.incoming/<instance>     what is arriving, and has no name yet
    <path>/.incoming/<instance>.lock

A new object is written, synchronised and read back before it gets its name, by a hard link, which
never replaces anything. So whoever is killed leaves nothing under a final name, and the folder of
the objects may be append-only (``chattr +a``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from rocksalt.backup import names
from rocksalt.backup.errors import Taken, Unreachable, VaultError
from rocksalt.backup.vaults import Settings, Stored, Vault, disks
from rocksalt.backup.vaults.content import CHUNK, content, pieces
from rocksalt.host import synchronise

MARKER = ".rocksalt-vault"
"""What a receiver's folder has; an empty folder on which its disk is not mounted has it not."""
_NAME = re.compile(r"[0-9][A-Za-z0-9.-]*")
_SYNCHRONISED = 64 * CHUNK
"""Bytes after which a file is synchronised while it is written, so that the end is no long wait."""
_REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "raise the quota of its user or make room there",
    errno.EROFS: "mount it for writing",
    errno.EIO: "check the disk, it may be failing",
    errno.EACCES: "let the user of the backup write there",
    errno.EPERM: "let the user of the backup write there, on a file system with hard links",
    errno.EXDEV: "the whole folder has to be on one file system",
    errno.EMLINK: "use a file system with hard links",
    errno.EOPNOTSUPP: "use a file system with hard links",
}
_AWAY = {errno.ENOENT, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENODEV}


class Store:
    """A folder of objects for one instance. Its methods raise OSError; :func:`explained` words it.

    ``alive`` is called again and again during what takes long; ``write`` is a name of its own
    because tests let it fail.
    """

    write = staticmethod(os.write)
    patience = 10.0

    def __init__(self, path: str | Path, instance: str, alive: Callable[[], object] = lambda: None):
        self.path, self._alive = Path(path), alive
        self.folder = self.path / instance
        self._incoming = self.path / ".incoming" / instance
        self._lock = self._incoming.with_name(f"{instance}.lock")

    def names(self) -> dict[str, Stored]:
        """Size and modification time of each object."""
        os.stat(self.path)
        found = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                    status = entry.stat(follow_symlinks=False)
                    found[entry.name] = Stored(status.st_size, status.st_mtime)
        return found

    def descriptor(self, name: str) -> int:
        """Opens an object for reading; FileNotFoundError if there is none of this name."""
        if not _NAME.fullmatch(name) or len(name) > names.LONGEST:
            raise FileNotFoundError(errno.ENOENT, "is no name of an object", name)
        return os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def read(self, name: str, most: int) -> bytes:
        """A small object, or its first ``most`` bytes."""
        with open(self.descriptor(name), "rb") as file:
            return file.read(most)

    def digest(self, name: str) -> str:
        with open(self.descriptor(name), "rb") as file:
            return self._digest(file.fileno())

    def _digest(self, descriptor: int) -> str:
        hashed = hashlib.sha256()
        while data := os.read(descriptor, CHUNK):
            hashed.update(data)
            self._alive()
        return hashed.hexdigest()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone for a while; BlockingIOError if another one is, for longer than ``patience``."""
        for folder in (self._incoming.parent, self.folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self._lock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = time.monotonic() + self.patience
            while not _lock(descriptor, last=time.monotonic() >= end):
                self._alive()
                time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)

    def add(
        self, name: str, pieces: Iterable[bytes], sha256: str, received: float | None = None
    ) -> None:
        """Adds an object, under the lock; FileExistsError leaves what is there.

        ``received`` becomes its modification time. ValueError if what arrived, or what the disk
        gives back, has another hash.
        """
        self._incoming.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._incoming, flags, 0o440)
        try:
            self._write(descriptor, pieces, sha256)
            if received is not None:
                os.utime(descriptor, (received, received))
            os.fsync(descriptor)
            os.link(self._incoming, self.folder / name)
            synchronise(self.folder)
        finally:
            os.close(descriptor)
            self._incoming.unlink(missing_ok=True)

    def _write(self, descriptor: int, pieces: Iterable[bytes], sha256: str) -> None:
        hashed, since = hashlib.sha256(), 0
        for piece in pieces:
            hashed.update(piece)
            view = memoryview(piece)
            while view:
                view = view[self.write(descriptor, view) :]
            since += len(piece)
            if since >= _SYNCHRONISED:
                os.fdatasync(descriptor)
                since = 0
        if hashed.hexdigest() != sha256:
            raise ValueError(f"arrived with the SHA-256 {hashed.hexdigest()}, not {sha256}")
        os.fsync(descriptor)
        # What is read next comes from the disk where the file system lets it.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.lseek(descriptor, 0, os.SEEK_SET)
        if self._digest(descriptor) != sha256:
            raise ValueError("was written, and is another when it is read back: check the disk")

    def remove(self, name: str) -> None:
        """Takes an object away, for the retention of a receiver, under the lock."""
        (self.folder / name).unlink()
        synchronise(self.folder)


class FileVault(Vault):
    """A vault of the type file; ``settings`` is its entry below ``vaults``."""

    store_type = Store

    def __init__(self, name: str, settings: Settings, instance: str):
        self.name, self._who = name, f"the vault {name}"
        self._path = settings["path"]
        self._allowed = bool(settings.get("allow_unencrypted", False))
        self._store = self.store_type(self._path, instance)

    def names(self) -> dict[str, Stored]:
        with explained(self._who, self._path):
            return self._store.names()

    def open(self, name: str) -> BinaryIO:
        with explained(self._who, f"{self._path}: {name}", absent=True):
            file = io.FileIO(self._store.descriptor(name))

        def read(most: int) -> bytes:
            with explained(self._who, f"{self._path}: {name}"):
                return file.read(most) or b""

        return content(read, file.close)

    def put(self, name: str, source: Path, sha256: str) -> None:
        if not uploadable(name):
            raise VaultError(f"{self._who} takes no object named {name!r}")
        self._check_disk()
        with explained(self._who, f"{self._path}: {name}"), self._store.locked():
            try:
                if self._store.digest(name) != sha256:
                    raise taken(self._who, name)
            except FileNotFoundError:
                self._store.add(name, pieces(source), sha256)

    def faults(self) -> list[str]:
        self._check_disk()
        return [
            f"{self._who} is a folder, {self._path}, in which the master's root can"
            " change and remove what is there: add a vault of the type ssh or s3"
        ]

    def _check_disk(self) -> None:
        with explained(self._who, self._path):
            os.stat(self._path)
        if not self._allowed and not disks.encrypted(self._path):
            raise VaultError(
                f"{self._who} is on no encrypted disk, {self._path}: mount one there,"
                " or set allow_unencrypted"
            )


def uploadable(name: str) -> bool:
    """Whether a client may put an object of this name."""
    return len(name) <= names.LONGEST and names.is_uploadable(name)


def taken(vault: str, name: str) -> Taken:
    """The error for a name whose object has another content; ``vault`` is the subject."""
    return Taken(
        f"{vault} has another object named {name} already, which stays: find out with"
        " backup.verify who put it there"
    )


@contextlib.contextmanager
def explained(vault: str, what: str, absent: bool = False) -> Iterator[None]:
    """Words what goes wrong with a folder as a fault of ``vault``, the subject, about ``what``;
    with ``absent`` FileNotFoundError passes.
    """
    try:
        yield
    except ValueError as error:
        raise VaultError(f"{vault} did not take {what}, which {error}") from None
    except BlockingIOError:
        raise Unreachable(
            f"{vault} is in use by another run, {what}: the next run tries again"
        ) from None
    except OSError as error:
        if absent and isinstance(error, FileNotFoundError):
            raise
        text = error.strerror or str(error)
        if error.errno in _AWAY:
            raise Unreachable(
                f"{vault} is away, {what}: {text}: see whether its disk is mounted"
            ) from None
        remedy = _REMEDIES.get(error.errno or 0, "look after its disk")
        raise VaultError(f"{vault} failed, {what}: {text}: {remedy}") from None


def _lock(descriptor: int, last: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if last:
            raise
        return False
    return True

"""Files in folders that users own, read and changed by root: whatever users put there, root is not
led elsewhere, kept waiting or made to give something away.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rocksalt.accounts.database import Account
from rocksalt.errors import Refused
from rocksalt.host import Host

LARGEST = 1 << 20
"""Bytes of a file that is read at all."""
_FLAGS = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class Content:
    """A file's text, the UID it belongs to, and what it is whatever name leads to it: (device,
    inode).
    """

    text: str
    owner: int
    identity: tuple[int, int]


def read(host: Host, path: str) -> Content | None:
    """What is in a file, links followed as sshd follows them; None where there is no regular file
    or an empty one. Raises ``OSError`` where root cannot read it or it is too large.
    """
    name = host.root + path
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):
            return None
        handle = os.open(name, os.O_RDONLY | _FLAGS)
    except ValueError:
        return None
    except OSError as error:
        if error.errno in _NOWHERE:
            return None
        raise
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return None
        return Content(_text(handle, found), found.st_uid, (found.st_dev, found.st_ino))
    finally:
        os.close(handle)


def _text(handle: int, found: os.stat_result) -> str:
    if found.st_size > LARGEST:
        raise OSError(errno.EFBIG, f"it is larger than {LARGEST} bytes")
    return os.read(handle, found.st_size).decode(errors="surrogateescape")


def edit(host: Host, path: str, account: Account, change: Callable[[str], str]) -> None:
    """Replaces a file of an account, in one step, by what ``change`` makes of it; owner and mode
    stay, and so does a link that leads to it. Raises :class:`Refused` for a file of somebody else
    than the account or root, and for one of root's that a link leads to.
    """
    named = Path(os.path.normpath(f"{host.root}/{path.lstrip('/')}"))
    real = Path(os.path.realpath(named))
    folder = _folder(real.parent)
    try:
        handle = os.open(real.name, os.O_RDONLY | os.O_NOFOLLOW | _FLAGS, dir_fd=folder)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise Refused(f"{path} is no regular file any more")
            if found.st_uid != account.uid and (found.st_uid != 0 or real != named):
                raise Refused(
                    f"{path} of {account.name} leads to a file of UID {found.st_uid}; look at it "
                    "and change it by hand"
                )
            text = _text(handle, found)
        finally:
            os.close(handle)
        new = change(text)
        if new != text:
            _replace(folder, real.name, new, (found.st_uid, found.st_gid), found.st_mode & 0o777)
    finally:
        os.close(folder)


def _folder(path: Path) -> int:
    """A handle of a folder, reached without following a link: one put in the way by now is an
    ``OSError``.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open("/", flags)
    for part in path.parts[1:]:
        try:
            inner = os.open(part, flags, dir_fd=handle)
        finally:
            os.close(handle)
        handle = inner
    return handle


def put(host: Host, path: str, account: Account, change: Callable[[str], str]) -> None:
    """Writes what ``change`` makes of a file, or of nothing, into one that is the account's alone,
    complete before it has its name. Below its home, missing folders are made, and others cannot
    write in any on the way. Raises :class:`Refused` where something there is a link or belongs to
    somebody else.
    """
    home, (folder, name) = account.home.rstrip("/"), os.path.split(path)
    below = f"{folder}/".startswith(f"{home}/") and home != ""
    handle = _folder(Path(os.path.realpath(host.path(home if below else folder))))
    try:
        way = home
        if below:
            _close_to_others(handle, way, account)
        for part in filter(None, folder[len(home) :].split("/") if below else ()):
            way = f"{way}/{part}"
            inner = _inner_folder(handle, way, account)
            os.close(handle)
            handle = inner
            _close_to_others(handle, way, account)
        text = change(_current(handle, path, account))
        _replace(handle, name, text, (account.uid, account.gid), 0o600)
    finally:
        os.close(handle)


def _inner_folder(handle: int, path: str, account: Account) -> int:
    """A handle of a folder of the account, made where there is none."""
    name, made = os.path.basename(path), True
    try:
        os.mkdir(name, 0o700, dir_fd=handle)
    except FileExistsError:
        made = False
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        inner = os.open(name, flags, dir_fd=handle)
    except OSError:
        raise Refused(f"{path} is no folder; sshd wants keys in one, so make it one") from None
    if made:
        os.fchown(inner, account.uid, account.gid)
    return inner


def _current(folder: int, path: str, account: Account) -> str:
    """The text of a file of the account in this folder; none where there is no file."""
    try:
        handle = os.open(
            os.path.basename(path), os.O_RDONLY | os.O_NOFOLLOW | _FLAGS, dir_fd=folder
        )
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Refused(f"{path} cannot be read without being led elsewhere: {error}") from None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (account.uid, 0):
            raise Refused(f"{path} is no file of {account.name}; look at it and move it away")
        return _text(handle, found)
    finally:
        os.close(handle)


def _close_to_others(handle: int, path: str, account: Account) -> None:
    found = os.fstat(handle)
    if found.st_uid not in (account.uid, 0):
        raise Refused(f"{path} belongs to UID {found.st_uid}, expected {account.uid}; hand it over")
    if found.st_mode & 0o022:
        os.fchmod(handle, found.st_mode & 0o7755)


def _replace(folder: int, name: str, text: str, ids: tuple[int, int], mode: int) -> None:
    temporary = f".{name}.rocksalt-new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as file:
        file.write(text.encode(errors="surrogateescape"))
        os.fchown(file.fileno(), *ids)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)

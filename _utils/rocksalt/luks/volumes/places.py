"""The folders that volumes are mounted at, reached without following a link, through folders that
root alone can change: nobody else can put another folder in their place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from rocksalt.errors import Refused
from rocksalt.luks.config import TOP, Volume
from rocksalt.luks.volumes.machine import Machine

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SHOWN = 3


@contextlib.contextmanager
def reached(machine: Machine, volume: Volume, make: bool = False) -> Iterator[int | None]:
    """A descriptor of the folder, None where there is none; with ``make``, it is there then, for
    root alone. :class:`Refused` where something on the way is not as it has to be.
    """
    names = volume.mount.strip("/").split("/")
    descriptor, path = os.open(machine.path("/"), _FLAGS), ""
    try:
        _for_root(volume, descriptor, "/")
        for name in names:
            path = f"{path}/{name}"
            step = _step(volume, descriptor, name, path, (path == volume.mount, make))
            if step is None:
                yield None
                return
            os.close(descriptor)
            descriptor = step
            if path != volume.mount:
                _for_root(volume, descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def hidden(volume: Volume, descriptor: int) -> None:
    """:class:`Refused` where something is in the folder that would be hidden by a mount."""
    found = sorted(os.listdir(descriptor))
    if found:
        names = ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        raise Refused(
            f"{_where(volume)} has files of its own, which are not encrypted and would be hidden:"
            f" {names}; move them away"
        )


def kept_for_root(descriptor: int) -> bool:
    """Has root alone enter an empty folder; whether that was not so."""
    found = os.fstat(descriptor)
    if (found.st_uid, stat.S_IMODE(found.st_mode)) == (os.geteuid(), 0o700):
        return False
    os.fchown(descriptor, os.geteuid(), os.getegid())
    os.fchmod(descriptor, 0o700)
    return True


def _step(volume: Volume, folder: int, name: str, path: str, how: tuple[bool, bool]) -> int | None:
    """The next folder on the way, made if it has to be."""
    last, make = how
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700 if last else 0o755, dir_fd=folder)
    try:
        return os.open(name, _FLAGS, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise Refused(f"{_where(volume)}: {path} cannot be opened: {error.strerror}") from None
    if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        raise Refused(f"{_where(volume)} leads elsewhere: {path} is a link")
    raise Refused(f"{_where(volume)}: {path} is not a folder")


def _for_root(volume: Volume, descriptor: int, path: str) -> None:
    found = os.fstat(descriptor)
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise Refused(
            f"{_where(volume)}: others than root can change {path}, and put something else in the"
            f" place of {volume.mount}; choose a folder below one that is root's, such as /srv"
        )


def _where(volume: Volume) -> str:
    return f"{TOP}:volumes:{volume.name}:mount: {volume.mount}"

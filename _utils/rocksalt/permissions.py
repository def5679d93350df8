"""Who may do what with files: owner, group, mode, and lists of others beside them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping

from rocksalt.host import Host


def acl(host: Host, path: str) -> list[str]:
    """The lists of who else may do what with a file: the names of its attributes."""
    try:
        found = os.listxattr(host.path(path), follow_symlinks=False)
    except OSError:
        return []
    return [name for name in found if name.startswith("system.posix_acl_")]


def give(host: Host, path: str, rights: str, top: str = "") -> None:
    """Sets the access of what has this very name. A link is not followed, nor is one among the
    folders from ``top`` on, as somebody else than root may put one there at any moment: then it is
    an OSError.
    """
    owner, group, mode = rights.replace(":", " ").split()
    with _held(host, path, top) as handle:
        host.own(handle, path, owner, group)
        os.chmod(f"/proc/self/fd/{handle}", int(mode, 8))


def secure(host: Host, wanted: Mapping[str, str], top: str = "") -> None:
    """Path -> access, of what is there, as :func:`give` does; what is right already stays as it is,
    for a change of owner or mode looks like one of the file.
    """
    for path, rights in wanted.items():
        if host.path(path).is_symlink():
            continue
        with contextlib.suppress(FileNotFoundError):
            if host.access(path) != rights:
                give(host, path, rights, top)
            for name in acl(host, path):
                with _held(host, path, top) as handle:
                    os.removexattr(f"/proc/self/fd/{handle}", name)
                give(host, path, rights, top)


@contextlib.contextmanager
def _held(host: Host, path: str, top: str) -> Iterator[int]:
    """What has this name, whatever takes its name meanwhile."""
    top = top or os.path.dirname(path)
    handle = os.open(host.path(top), os.O_PATH | os.O_CLOEXEC)
    try:
        for name in os.path.relpath(path, top).split("/"):
            below = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
            os.close(handle)
            handle = below
        if stat.S_ISLNK(os.fstat(handle).st_mode):
            raise OSError(errno.ELOOP, "is a link", path)
        yield handle
    finally:
        os.close(handle)

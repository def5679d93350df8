"""Who may do what with files: owner, group, mode, and lists of others beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from rocksalt.host import Host


def acl(host: Host, path: str) -> list[str]:
    """The lists of who else may do what with a file: the names of its attributes."""
    try:
        found = os.listxattr(host.path(path), follow_symlinks=False)
    except OSError:
        return []
    return [name for name in found if name.startswith("system.posix_acl_")]


def secure(host: Host, wanted: Mapping[str, str]) -> None:
    """Path -> access, of what is there; what is right already stays as it is, for a change of owner
    or mode looks like one of the file.
    """
    for path, rights in wanted.items():
        if host.path(path).is_symlink():
            continue
        if host.access(path) not in (None, rights):
            host.give(path, rights)
        for name in acl(host, path):
            os.removexattr(host.path(path), name)
            host.give(path, rights)

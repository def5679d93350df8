"""Whether a path lies on an encrypted disk, as the kernel tells it in ``/sys`` and ``/proc``."""

from __future__ import annotations

import os

from rocksalt import blocks
from rocksalt.errors import Refused
from rocksalt.host import Host


def encrypted(path: str | os.PathLike[str], root: str = "/") -> bool:
    """Whether all that is written to ``path`` is encrypted by dm-crypt before it reaches a disk.

    What cannot be told (network, memory, FUSE, ZFS) counts as not encrypted. ``root`` is where
    ``/sys``, ``/proc`` and ``/dev`` are. OSError if the path cannot be reached.
    """
    try:
        return blocks.tree(Host(root)).below_path(os.path.abspath(path)).encrypted
    except Refused:
        return False

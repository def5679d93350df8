"""Whether a path lies on an encrypted disk."""

from __future__ import annotations

from pathlib import Path


def encrypted(path: str | Path, root: Path = Path("/")) -> bool:
    """Whether all that is written to ``path`` is encrypted by dm-crypt before it reaches a disk.

    What cannot be told (network, memory, FUSE) counts as not encrypted. ``root`` is where ``sys``
    and ``proc`` are.
    """
    raise NotImplementedError

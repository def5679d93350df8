"""What belongs to one archive: roots, and everything below them in an order that never changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """What goes into one archive: absolute ``roots``, files or folders, none below another one;
    ``exclude`` are absolute paths that are left out with what is below them.
    """

    name: str
    roots: tuple[str, ...]
    exclude: tuple[str, ...] = ()


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


def survey(part: Part, before: Path | None, index: Path) -> Survey:
    """Looks at every entry of a part without reading one, and writes what it saw to the new file
    ``index``, to be given as ``before`` the next time. OSError where ``index`` cannot be written;
    what cannot be looked at counts as an entry of its own.
    """
    raise NotImplementedError

"""Restores a snapshot: to a folder of its own, or in place of what is there.

Nothing is written below the target before the ciphertext has the hash that the manifest says, and
before every member of every archive was looked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rocksalt.backup.manifest import Manifest
from rocksalt.backup.vaults import Reader


@dataclass
class Restored:
    """What a restore did: how many regular files and bytes of content are there now, the paths
    that were restored as a whole, what they replaced (path -> where the old one is now), the parts
    that no identity opens, and a sentence for everything that is not as it was.
    """

    files: int = 0
    bytes: int = 0
    tops: list[str] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def restore(
    reader: Reader,
    manifest: Manifest,
    identities: Sequence[Any],
    staging: Path,
    paths: Sequence[str] = (),
    parts: Iterable[str] | None = None,
    in_place: bool = False,
    progress: Callable[[int, int], None] = lambda files, size: None,
    root: Path = Path("/"),
) -> Restored:
    """Restores a full snapshot (see ``fetch.full``) below the new or empty folder ``staging``.

    ``paths`` are absolute and restrict it to them and what is below them; ``parts`` restricts it to
    those (``operator``, ``customer-NAME``), for each of which an identity is needed then; without
    it parts that no identity opens are only ``missing``. With ``in_place`` every restored file or
    folder takes its own place below ``root``; what was there is moved to
    ``PATH.before-restore-STAMP``, and ``staging`` is only where archives lie meanwhile.
    ``progress`` is told files and bytes of content.

    :class:`BackupError` before anything was written where the target exists or has no room, or
    nothing would be restored; :class:`Unverified` where an archive is not the one in the manifest,
    or has members that would leave the target.
    """
    raise NotImplementedError

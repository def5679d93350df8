"""What is mounted and swapped to on a host, and which mount a path is on."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rocksalt.errors import Refused
from rocksalt.host import Host

MOUNTINFO = "/proc/self/mountinfo"
SWAPS = "/proc/swaps"
_LINKS = 40
"""Links that the kernel follows in one path."""


@dataclass(frozen=True)
class Mount:
    """A mounted file system: ``number`` is that of its device, ``0:...`` where that is none;
    ``source`` what was mounted; ``options`` those of the file system; ``root`` the folder in the
    file system that is seen there, with a btrfs its subvolume.
    """

    id: int
    parent: int
    number: str
    path: str
    kind: str
    source: str
    options: str
    root: str = "/"


@dataclass(frozen=True)
class Swap:
    """Swap in use: ``path`` of a device or a file, ``kind`` is partition or file, ``size`` in
    bytes.
    """

    path: str
    kind: str
    size: int


def mounts(host: Host) -> list[Mount]:
    """All that is mounted, in the order of mounting; Refused where /proc cannot be read."""
    text = host.read(MOUNTINFO)
    if text is None:
        raise Refused(f"{MOUNTINFO} cannot be read: mount /proc")
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        number, parent, device, root, path, *_ = before.split(" ")
        kind, source, options = after.split(" ", 2)
        place = (unescaped(path), kind, unescaped(source), options, unescaped(root))
        found.append(Mount(int(number), int(parent), device, *place))
    return found


def swaps(host: Host) -> list[Swap]:
    """All swap in use."""
    lines = (host.read(SWAPS) or "").splitlines()[1:]
    return [
        Swap(unescaped(path), kind, int(size) * 1024)
        for path, kind, size, *_ in (line.split() for line in lines)
    ]


def at(host: Host, mounts: Sequence[Mount], path: str) -> Mount | None:
    """The mount that a path is on, or would be on if it existed; links are followed. Walked down
    from the root, as the kernel does, for a later mount hides those below it.
    """
    known = {mount.id for mount in mounts}
    tops = [
        it for it in mounts if it.path == "/" and (it.parent not in known or it.parent == it.id)
    ]
    if not tops:
        return None
    current, prefix = _uppermost(mounts, tops[0], "/"), ""
    for part in resolved(host, path).strip("/").split("/"):
        prefix += f"/{part}"
        current = _uppermost(mounts, current, prefix)
    return current


def _uppermost(mounts: Sequence[Mount], below: Mount, path: str) -> Mount:
    """What is mounted last on a path of a mount, itself if nothing is."""
    upon = [it for it in mounts if it.parent == below.id and it.path == path and it.id != below.id]
    return _uppermost(mounts, upon[-1], path) if upon else below


def resolved(host: Host, path: str) -> str:
    """A path without links, as far as it exists. OSError if it cannot be reached."""
    todo, done, links = path.split("/")[::-1], "", 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            done = os.path.dirname(done).rstrip("/")
            continue
        target = host.path(f"{done}/{part}")
        if not target.is_symlink() or links >= _LINKS:
            done += f"/{part}"
            continue
        links, link = links + 1, os.readlink(target)
        done = "" if link.startswith("/") else done
        todo += link.split("/")[::-1]
    return done or "/"


def unescaped(text: str) -> str:
    """As /proc writes spaces and the like: in octal."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)

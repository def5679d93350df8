"""Whether a path lies on an encrypted disk, as the kernel tells it in ``/sys`` and ``/proc``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

_CRYPT = re.compile(r"CRYPT-(LUKS\d|PLAIN|LOOPAES|TCRYPT|BITLK|FVAULT2)-")
"""Device-mapper tables of cryptsetup that encrypt; those of VERITY and INTEGRITY do not."""
_DEEPEST = 16
"""Layers of devices and file systems above each other; more is a loop."""
_UPPER = re.compile(r"(?:^|,)upperdir=([^,]+)")


def _mount_id(path: str) -> int:
    """The kernel's number of the mount that a path is on, or its nearest parent that exists."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        text = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    finally:
        os.close(descriptor)
    return int(re.findall(r"^mnt_id:\s*(\d+)", text, re.MULTILINE)[0])


def encrypted(
    path: str | Path, root: Path = Path("/"), mount_id: Callable[[str], int] = _mount_id
) -> bool:
    """Whether all that is written to ``path`` is encrypted by dm-crypt before it reaches a disk.

    What cannot be told (network, memory, FUSE, ZFS) counts as not encrypted. ``root`` is where
    ``/sys``, ``/proc`` and ``/dev`` are. OSError if the path cannot be reached.
    """
    return _Devices(root, mount_id).holds(str(path), _DEEPEST)


class _Devices:
    def __init__(self, root: Path, mount_id: Callable[[str], int]):
        self._root, self._mount_id = root, mount_id

    def holds(self, path: str, deepest: int) -> bool:
        """Whether a path is on encrypted devices alone."""
        if not deepest:
            return False
        device, kind, source, options = self._mount(self._mount_id(path))
        if kind == "overlay":
            upper = _UPPER.search(options)
            return upper is not None and self.holds(_unescaped(upper[1]), deepest - 1)
        if not device.startswith("0:"):
            return self._encrypts(self._root / "sys/dev/block" / device, deepest - 1)
        if kind != "btrfs":
            return False
        name = os.path.basename(os.path.realpath(self._root / source.lstrip("/")))
        pools = [it.parent for it in (self._root / "sys/fs/btrfs").glob(f"*/devices/{name}")]
        return bool(pools) and all(
            self._encrypts(it, deepest - 1) for pool in pools for it in pool.iterdir()
        )

    def _mount(self, number: int) -> tuple[str, str, str, str]:
        """Device (``8:1``), file system, source and its options."""
        for line in (self._root / "proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            fields = before.split(" ")
            if int(fields[0]) == number:
                kind, source, options = after.split(" ", 2)
                return fields[2], kind, _unescaped(source), options
        return "0:0", "unknown", "", ""

    def _encrypts(self, node: Path, deepest: int) -> bool:
        """Whether a block device encrypts, or all those do that it is made of."""
        node = Path(os.path.realpath(node))
        if not deepest or not node.is_dir():
            return False
        if _CRYPT.match(_text(node / "dm/uuid")):
            return True
        if (node / "partition").exists():
            return self._encrypts(node.parent, deepest - 1)
        backing = _text(node / "loop/backing_file")
        if backing:
            return self.holds(backing, deepest - 1)
        parts = list((node / "slaves").glob("*"))
        return bool(parts) and all(self._encrypts(part, deepest - 1) for part in parts)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _unescaped(text: str) -> str:
    """As mountinfo writes spaces and the like: in octal."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)

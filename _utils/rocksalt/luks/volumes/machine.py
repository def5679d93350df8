"""The host with its disks, as everything about volumes takes it."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rocksalt import blocks
from rocksalt.host import Host


class Disks:
    """What passes for a disk: a block device, and nothing else. Tests have files in its place."""

    reencrypt_options: Sequence[str] = ()
    """Arguments that cryptsetup needs to encrypt such a disk anew."""

    def accepts(self, found: os.stat_result) -> bool:
        """Whether this is a disk."""
        return stat.S_ISBLK(found.st_mode)

    def number(self, found: os.stat_result) -> str:
        """Its number, as the kernel writes it: ``254:16``."""
        return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"

    def tree(self, host: Host) -> blocks.Devices:
        """All of them, with what is made of them and mounted."""
        return blocks.tree(host)


@dataclass(frozen=True)
class Machine:
    """The host, and what passes for a disk there."""

    host: Host = field(default_factory=Host)
    disks: Disks = field(default_factory=Disks)

    def path(self, path: str) -> Path:
        """Where a path of the host is."""
        return self.host.path(path)

    def tree(self) -> blocks.Devices:
        """The devices as they are now."""
        return self.disks.tree(self.host)

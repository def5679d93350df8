"""Where the image of a host that hibernates is written, and whether it can hibernate."""

from __future__ import annotations

from dataclasses import dataclass

from rocksalt.host import Host


@dataclass(frozen=True)
class Image:
    """Where a file (``/proc/cmdline``, ...) says that the image is: ``place`` as written (a path,
    ``UUID=...``, a number ``8:1``), ``device`` as a path or number that
    :meth:`rocksalt.blocks.Devices.find` knows.
    """

    place: str
    device: str
    said_by: str


def images(host: Host) -> list[Image]:
    """All places that are named; none where a host cannot hibernate or nobody says so."""
    raise NotImplementedError

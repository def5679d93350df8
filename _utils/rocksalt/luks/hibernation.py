"""Where the image of a host that hibernates is written, and whether it can hibernate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rocksalt.host import Host
from rocksalt.luks.crypttab import Entry

_RESUME = "/sys/power/resume"
_STATES = "/sys/power/state"
_COMMAND_LINE = "/proc/cmdline"
_INITRAMFS = (
    "/etc/initramfs-tools/initramfs.conf",
    "/etc/initramfs-tools/conf.d/*",
    "/usr/share/initramfs-tools/conf.d/*",
)
_NOWHERE = ("", "none", "auto", "0:0")
_SAYS = re.compile(r"^\s*(?:export\s+)?RESUME=(\S*)", re.MULTILINE)


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
    states = host.read(_STATES)
    if states is not None and "disk" not in states.split():
        return []
    return [
        Image(place, Entry(0, "", place).device, path)
        for path, place in _said(host)
        if place not in _NOWHERE
    ]


def _said(host: Host) -> Iterator[tuple[str, str]]:
    """Each file with what it names. A file in a swap is named by the device that has it."""
    yield _RESUME, (host.read(_RESUME) or "").strip()
    words = (host.read(_COMMAND_LINE) or "").split()
    if "noresume" not in words:
        for word in words:
            if word.startswith("resume="):
                yield _COMMAND_LINE, word.partition("=")[2]
    for pattern in _INITRAMFS:
        for path in host.glob(pattern):
            for place in _SAYS.findall(host.read(path) or ""):
                yield path, place.strip("\"'")

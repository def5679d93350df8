"""Whether there is room for the lines that come."""

from __future__ import annotations

import datetime as dt
import glob
import os
from collections.abc import Iterator

from rocksalt.findings import Seen, some
from rocksalt.logstash import controls, roles, told
from rocksalt.logstash.facts import Checks, Facts

SHARE, DAYS = 10, 7
"""Percent of the disk that have to be free, and days for which that has to last."""
ENOUGH = f"{SHARE} % and more"
_LASTS = f"{DAYS} days and more"


def free(it: Facts, path: str) -> str:
    """How much of the disk of a folder is free."""
    return _share(*it.wires.disk(path))


def _share(size: int, left: int) -> str:
    share = 100 * left // max(size, 1)
    return ENOUGH if share >= SHARE else f"{share} %"


def why(path: str, found: str) -> str:
    """The sentence for a disk that is too full."""
    return f"the disk of {path} has {found} free, expected {ENOUGH}"


def _expected(_: Facts) -> dict[str, str]:
    return {"free": ENOUGH, "lasts": _LASTS}


def _seen(it: Facts) -> Seen:
    """By what the disk says, and by what the log server says of it, whichever is less."""
    path, said = roles.receiver(it.setup)["path"], told.status(it.host)
    size, left = it.wires.disk(path)
    disk = said.get("disk") or {}
    left = min(left, disk.get("free", left))
    actual, reasons = {"free": _share(size, left), "lasts": _LASTS}, []
    if actual["free"] != ENOUGH:
        reasons.append(why(path, actual["free"]))
    hosts = (said.get("hosts") or {}).values()
    a_day = max(*_received(it, path), sum(host.get("bytes_today", 0) for host in hosts))
    if left < DAYS * a_day:
        actual["lasts"] = f"{left // a_day} days"
        reasons.append(
            f"what is free lasts for {left // a_day} days like the last one, on which "
            f"{a_day >> 20} MiB came, expected {DAYS}"
        )
    return Seen(actual, some(reasons))


def _received(it: Facts, path: str) -> Iterator[int]:
    """Bytes of lines that came today, and yesterday."""
    for ago in (0, 1):
        day = f"{it.now - dt.timedelta(days=ago):%Y-%m-%d}"
        found = it.host.glob(f"{glob.escape(path)}/*/{day}*.jsonl")
        yield sum(os.lstat(it.host.path(file)).st_size for file in found)


CHECKS: Checks = {controls.ROOM: (_expected, _seen)}

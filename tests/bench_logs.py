"""What shipping logs costs a host and a log server: numbered lines at a steady rate, from a journal
to the files of a log server.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from logs import RECEIVER, SHIPPER, Site, Speaker
from rocksalt_lab import Host, Lab

RATES = {1000: 20, 10_000: 20}
"""Lines a second, and for how many seconds."""
PROCESSOR, MEMORY = {"shipper": 0.25, "log server": 0.25}, {"shipper": 64, "log server": 96}
"""Limits: seconds of a processor for 1,000 lines, and MiB."""

Row = tuple[str, float, float, str, str]


def rows() -> list[Row]:
    """For each rate: processor time and memory of both sides, and how fast lines arrived."""
    with Lab.start() as lab:
        site = Site(lab, lab.salt_cluster())
        site.prepare()
        site.harden()
        site.connect()
        return [row for rate, seconds in RATES.items() for row in _shipped(site, rate, seconds)]


def _shipped(site: Site, rate: int, seconds: float) -> list[Row]:
    units = {
        "shipper": [(site.web1, SHIPPER)],
        "log server": [(site.logs1, RECEIVER), (site.logs2, RECEIVER)],
    }
    before = {name: _processor(all_of) for name, all_of in units.items()}
    begin = time.monotonic()
    speaker = Speaker(site.web1, f"bench{rate}", rate)
    time.sleep(seconds)
    count = speaker.end()
    written = time.monotonic() - begin
    site.caught_up(site.web1, 300)
    took = time.monotonic() - begin
    found = site.received(site.web1, f"bench{rate}")
    assert found.numbers == [[0, count - 1]], f"lines are missing: {found.numbers[:5]}"
    note = f"{count} lines, {count / written:.0f} a second written, {count / took:.0f} arrived"
    return [
        *(
            (
                f"{name}, 1,000 lines at {rate} a second",
                (_processor(all_of) - before[name]) * 1000 / count,
                PROCESSOR[name],
                "s",
                note,
            )
            for name, all_of in units.items()
        ),
        *(
            (f"{name}, memory at {rate} lines a second", _most(all_of), MEMORY[name], "MiB", "Pss")
            for name, all_of in units.items()
        ),
    ]


Unit = tuple[Host, str]


def _group(host: Host, unit: str) -> str:
    shown = host.run(f"systemctl show {unit} -P ControlGroup").stdout.strip()
    return f"/sys/fs/cgroup{shown}"


def _processor(units: Iterable[Unit]) -> float:
    """Seconds of a processor that units have used, whichever of the log servers took the lines."""
    stats = [host.read(f"{_group(host, unit)}/cpu.stat") for host, unit in units]
    return sum(int(stat.split("usage_usec ")[1].split()[0]) for stat in stats) / 1e6


def _most(units: Iterable[Unit]) -> float:
    """MiB of the unit that has most."""
    return max(_memory(*unit) for unit in units)


def _memory(host: Host, unit: str) -> float:
    """MiB of its processes, where a page that several share counts in parts."""
    pids = host.read(f"{_group(host, unit)}/cgroup.procs").split()
    files = " ".join(f"/proc/{pid}/smaps_rollup" for pid in pids)
    sizes = host.run(f"grep -hs ^Pss: {files}", check=False).stdout.split()
    return sum(map(int, sizes[1::3])) / 1024

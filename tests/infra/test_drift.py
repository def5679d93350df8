"""That the host compares itself with the baseline, by what systemd and its report say."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest

from .asking import Look
from .files import named, stat
from .pillars import Expected
from .units import drop_ins

FAMILY = "drift"
TIMER, SERVICE = "rocksalt-drift.timer", "rocksalt-drift.service"
REPORT = "/var/lib/rocksalt/last.json"
DAY = 24 * 60
UNITS = {"h": 3600, "min": 60, "s": 1, "ms": 0.001, "us": 0.000001, "": 1}
GRACE = 600  # seconds for the report itself


def look(wanted: Expected) -> dict[str, str]:
    keys = "Id,ActiveState,UnitFileState,FragmentPath,DropInPaths,ExecStart,TimersCalendar"
    return {
        "units": f"systemctl show {TIMER} {SERVICE} -p {keys},RandomizedDelayUSec,Persistent",
        "head": f"head -c 400 {REPORT}",
        "stat": stat(f"/var/lib/rocksalt {REPORT}"),
        "now": "date +%s",
    }


@pytest.mark.controls("DRIFT-001")
def test_the_timer_runs(seen: Look, settings: dict[str, Any]) -> None:
    timer = seen["units"].blocks[TIMER]
    assert (timer["ActiveState"], timer["UnitFileState"]) == ("active", "enabled")
    assert timer["Persistent"] == "yes"
    times = minutes(timer["TimersCalendar"])
    every = list(range(min(times, default=0), DAY, settings["interval"]))
    assert times == every, timer["TimersCalendar"]
    assert seconds(timer["RandomizedDelayUSec"]) == settings["jitter"]


def minutes(calendar: str) -> list[int]:
    """The minutes of a day at which a timer runs that runs each day; none where it is otherwise."""
    found = re.search(r"OnCalendar=(?:\*-\*-\* )?([^\s:]+):([^\s:]+)(?::00)? ", calendar)
    if not found:
        return []
    hours, parts = _all(found[1], 24), _all(found[2], 60)
    return [hour * 60 + minute for hour in hours for minute in parts]


def _all(field: str, end: int) -> list[int]:
    """The numbers of a field such as ``*``, ``00/15`` or ``03,09``."""
    found: set[int] = set()
    for part in field.replace("*", "0/1" if "/" not in field else "0").split(","):
        start, _, step = part.partition("/")
        found |= set(range(int(start), end, int(step))) if step else {int(start)}
    return sorted(found)


def seconds(span: str) -> float:
    """The seconds of a time such as ``1min 30s``."""
    parts = re.findall(r"([\d.]+)([a-z]*)", span)
    return sum(float(number) * UNITS[unit] for number, unit in parts)


@pytest.mark.controls("DRIFT-002")
def test_it_runs_the_report(seen: Look) -> None:
    for name, unit in seen["units"].blocks.items():
        assert unit["FragmentPath"] == f"/etc/systemd/system/{name}"
        assert drop_ins(unit) == []
    (command,) = (
        part.removeprefix("argv[]=").split()
        for part in seen["units"].blocks[SERVICE]["ExecStart"].split(" ; ")
        if part.startswith("argv[]=")
    )
    assert command[0].endswith("/salt-call") and command[-1] == "drift.record"


@pytest.mark.controls("DRIFT-003")
def test_the_last_report_is_recent(seen: Look, settings: dict[str, Any]) -> None:
    assert not seen["head"].code, seen["head"].said
    time = json.loads('"' + seen["head"].text.split('"time": "')[1].split('"')[0] + '"')
    taken = dt.datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.timezone.utc)
    age = int(seen["now"].text) - taken.timestamp()
    assert age < 2 * settings["interval"] * 60 + settings["jitter"] + GRACE
    files = named(seen["stat"])
    assert files[REPORT].owner == "root" and files[REPORT].mode & 0o027 == 0
    assert files["/var/lib/rocksalt"].mode & 0o022 == 0

"""tests/infra: when a host compares itself, by the words of systemctl."""

from __future__ import annotations

import pytest
from infra import test_drift as drift
from infra.asking import Answer

TIMER = """Id=rocksalt-drift.timer
ActiveState=active
UnitFileState=enabled
TimersCalendar={{ OnCalendar={} ; next_elapse=Mon 2026-01-05 10:00:00 UTC }}
RandomizedDelayUSec={}
Persistent=yes
"""


def judge(calendar: str, interval: int, delay: str = "5min", jitter: int = 300) -> None:
    seen = {"units": Answer(TIMER.format(calendar, delay), 0)}
    drift.test_the_timer_runs(seen, {"interval": interval, "jitter": jitter})


@pytest.mark.parametrize(
    ("calendar", "interval"),
    [
        ("*-*-* *:00/15:00", 15),
        ("*-*-* *:00/5:00", 5),
        ("*-*-* 00/1:00:00", 60),
        ("*-*-* *:00:00", 60),
        ("*-*-* 00/12:00:00", 720),
        ("*-*-* 00:00:00", 1440),
    ],
)
def test_it_runs_as_often_as_declared(calendar: str, interval: int) -> None:
    judge(calendar, interval)
    with pytest.raises(AssertionError):
        judge(calendar, interval * 2 if interval < 1440 else 60)


@pytest.mark.parametrize(
    "calendar", ["*-01-01 00:00:00", "Mon *-*-* 00:00:00", "*-*-01 00:00:00", "*-*-* *:00,10:00"]
)
@pytest.mark.parametrize("interval", [60, 1440])
def test_it_runs_otherwise(calendar: str, interval: int) -> None:
    with pytest.raises(AssertionError):
        judge(calendar, interval)


def test_it_is_delayed_as_declared() -> None:
    for delay, jitter in (("0", 0), ("1min 30s", 90), ("1h", 3600), ("45s", 45)):
        judge("*-*-* *:00:00", 60, delay, jitter)
    with pytest.raises(AssertionError):
        judge("*-*-* *:00:00", 60, "10h", 300)


@pytest.mark.parametrize(
    ("path", "good"),
    [
        ("", True),
        ("/run/systemd/system/service.d/zzz-lxc-service.conf", True),
        ("/etc/systemd/system/rocksalt-drift.service.d/x.conf", False),
    ],
)
def test_a_drop_in_for_every_service_is_no_tampering(path: str, good: bool) -> None:
    text = (
        "Id=rocksalt-drift.service\nFragmentPath=/etc/systemd/system/rocksalt-drift.service\n"
        f"DropInPaths={path}\nExecStart={{ path=/a ; argv[]=/usr/bin/salt-call drift.record ; }}\n"
    )
    if good:
        drift.test_it_runs_the_report({"units": Answer(text, 0)})
    else:
        with pytest.raises(AssertionError):
            drift.test_it_runs_the_report({"units": Answer(text, 0)})

"""The host reports by itself: a systemd timer, and the last report that agents read without asking
Salt.
"""

from __future__ import annotations

import datetime as dt
import grp
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rocksalt.findings import AS_RENDERED, Seen, compared
from rocksalt.host import Host, unit_properties
from rocksalt.transaction import ASIDE, systemctl

UNIT = "rocksalt-drift"
FOLDER = "/etc/systemd/system"
_CLOCK_TOLERANCE = 300
_OF_OUR_UNITS = re.compile(r"/rocksalt-(?:drift)?\.(?:service|timer)(?:\.d/[^/]+)?$")
_PROPERTIES = "ActiveState,UnitFileState,NeedDaemonReload,FragmentPath,DropInPaths"
_HEADER = "# Written by rocksalt; state.apply hardening.drift undoes a change here.\n"


@dataclass(frozen=True)
class Look:
    """Unit texts as found, the timer's state, the files by which systemd overrides the units, and
    the age of the last report in seconds (None: there is none).
    """

    texts: Mapping[str, str | None]
    timer: Mapping[str, Any]
    overrides: Sequence[str]
    age: float | None


def salt_call() -> str:
    """The salt-call of the Salt that runs this code: beside its interpreter, else beside the
    running program.
    """
    folders = [os.path.dirname(sys.executable), os.path.dirname(os.path.abspath(sys.argv[0]))]
    candidates = [os.path.join(folder, "salt-call") for folder in folders]
    return next((path for path in candidates if os.access(path, os.X_OK)), "/usr/bin/salt-call")


def paths() -> dict[str, str]:
    """Where the units are: ``service`` and ``timer``."""
    return {kind: f"{FOLDER}/{UNIT}.{kind}" for kind in ("service", "timer")}


def units(settings: Mapping[str, Any], config_dir: str) -> dict[str, str]:
    """The service and the timer: path -> text. It runs with ``--local``, so a host reports while
    the master is away, and in the folder above its configuration, to which a clone's is relative.
    """
    service = f"""{_HEADER}
[Unit]
Description=Compare this host with its hardening baseline

[Service]
Type=oneshot
WorkingDirectory={os.path.dirname(config_dir)}
ExecStart={salt_call()} --local --config-dir={config_dir} drift.record
StandardOutput=null
SuccessExitStatus=1 2 3
Nice=10
IOSchedulingClass=idle
TimeoutStartSec=10min
"""
    timer = f"""{_HEADER}
[Unit]
Description=Compare this host with its hardening baseline, every {settings["interval"]} minutes

[Timer]
OnCalendar={_calendar(settings["interval"])}
RandomizedDelaySec={settings["jitter"]}
Persistent=true

[Install]
WantedBy=timers.target
"""
    return {paths()["service"]: service, paths()["timer"]: timer}


def _calendar(minutes: int) -> str:
    """Systemd's expression for every so many minutes, from once a minute to once a day."""
    if minutes < 60:
        return f"*:0/{minutes}"
    return "daily" if minutes >= 1440 else f"0/{minutes // 60}:00"


def record(host: Host, state_dir: str, text: str) -> str:
    """Replaces the last report; the folder is closed to everybody but root and the monitoring
    group.
    """
    path = f"{state_dir}/last.json"
    host.write(path, text, mode="0640")
    group = _monitoring_group()
    host.secure(state_dir, "root", group, "0750")
    host.secure(path, "root", group, "0640")
    return path


def _monitoring_group() -> str:
    try:
        return grp.getgrnam("nagios").gr_name
    except KeyError:
        return "root"


def look(host: Host, state_dir: str) -> Look:
    """Reads units, timer and last report."""
    service, timer = _shown(host)
    return Look(
        texts={path: host.read(path) for path in paths().values()},
        timer={
            "timer": timer.get("ActiveState", "unknown"),
            "at boot": timer.get("UnitFileState") or "not there",
            "as on disk": all(unit.get("NeedDaemonReload") == "no" for unit in (service, timer)),
        },
        overrides=_overrides(host, service, timer),
        age=_age(host.read(f"{state_dir}/last.json")),
    )


def _shown(host: Host) -> tuple[dict[str, str], dict[str, str]]:
    """What systemd knows of the service and of the timer."""
    names = [os.path.basename(path) for path in paths().values()]
    units = unit_properties(host.run("systemctl", "show", *names, "-p", _PROPERTIES).out)
    service, timer = [*units, {}, {}][:2]
    return service, timer


def _overrides(host: Host, *units: Mapping[str, str]) -> list[str]:
    """What systemd reads instead of our units or on top of them, and what it will read from beside
    them after its next reload. A drop-in for every service of the host (``service.d``) is not about
    us, and containers come with some.
    """
    found = [path for own in paths().values() for path in host.glob(f"{own}.d/*.conf")]
    for unit in units:
        found += [unit.get("FragmentPath", ""), *shlex.split(unit.get("DropInPaths", ""))]
    return [
        path
        for path in dict.fromkeys(found)
        if path
        and path not in paths().values()
        and not path.rpartition("/")[0].endswith(("/service.d", "/timer.d"))
    ]


def _age(text: str | None) -> float | None:
    try:
        stamp = dt.datetime.strptime(json.loads(text or "")["time"], "%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, KeyError, TypeError):
        return None
    now = dt.datetime.now(dt.timezone.utc)
    return (now - stamp.replace(tzinfo=dt.timezone.utc)).total_seconds()


def expected(settings: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Control id -> what it expects, given the rendered units."""
    return {
        "DRIFT-001": {"timer": "active", "at boot": "enabled", "as on disk": True},
        "DRIFT-002": {**dict.fromkeys(texts, AS_RENDERED), "overrides": []},
        "DRIFT-003": f"at most {_stale_after(settings)} minutes old",
    }


def actual(
    found: Look, settings: Mapping[str, Any], texts: Mapping[str, str], outdated: bool
) -> dict[str, Seen]:
    """Control id -> what was seen; ``outdated`` says that the host was changed since its last
    report.
    """
    seen = {path: compared(found.texts[path], text) for path, text in texts.items()}
    why = [f"{path} {state}" for path, state in seen.items() if state != AS_RENDERED]
    why += [f"{path} overrides {UNIT}" for path in found.overrides]
    return {
        "DRIFT-001": Seen(dict(found.timer)),
        "DRIFT-002": Seen({**seen, "overrides": list(found.overrides)}, "; ".join(why)),
        "DRIFT-003": _last_report(found.age, _stale_after(settings), outdated),
    }


def _stale_after(settings: Mapping[str, Any]) -> int:
    """Minutes in which two reports were due, as late as the timer may make them."""
    return int(2 * settings["interval"] + math.ceil(settings["jitter"] / 60))


def _last_report(age: float | None, stale_after: int, outdated: bool) -> Seen:
    if age is None:
        return Seen(None, "there is no last report, so agents that read it see nothing")
    minutes = f"{age / 60:.0f} minutes old"
    if age > stale_after * 60:
        return Seen(minutes, f"the last report is {minutes}")
    if age < -_CLOCK_TOLERANCE:
        return Seen(
            minutes, "the last report is from the future: the clock was set back, or it was forged"
        )
    if outdated:
        return Seen(minutes, "the host was changed after the last report was made")
    return Seen(f"at most {stale_after} minutes old")


def enforce(host: Host, texts: Mapping[str, str]) -> None:
    """Writes the units, moves away what overrides them, and starts the timer; systemd is told every
    time, not only in the run that wrote them.
    """
    for path, text in texts.items():
        host.write(path, text)
    systemctl(host, "daemon-reload")
    if _move_overrides(host):
        systemctl(host, "daemon-reload")
    systemctl(host, "enable", "--quiet", f"{UNIT}.timer")
    systemctl(host, "restart", f"{UNIT}.timer")


def _move_overrides(host: Host) -> bool:
    """Renames what overrides our units, so that systemd passes over it and nothing is lost. A file
    that another unit owns, for which ours was made an alias, stays as it is.
    """
    found = [path for path in _overrides(host, *_shown(host)) if _OF_OUR_UNITS.search(path)]
    for path in found:
        host.rename(path, path + ASIDE)
    return bool(found)


def clean(host: Host) -> None:
    """Takes the units away; reports made so far stay."""
    host.run("systemctl", "disable", "--now", "--quiet", f"{UNIT}.timer")
    for path in leftovers(host):
        host.remove(path)
    host.run("systemctl", "daemon-reload")


def leftovers(host: Host) -> list[str]:
    """The units that are on the host."""
    return [path for path in paths().values() if host.read(path) is not None]

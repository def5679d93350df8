"""The host reports by itself: a systemd timer, and the last report that agents read without asking
Salt.
"""

from __future__ import annotations

import datetime as dt
import grp
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rocksalt.errors import Refused
from rocksalt.findings import AS_RENDERED, Seen
from rocksalt.host import Host

UNIT = "rocksalt-drift"
FOLDER = "/etc/systemd/system"
_CLOCK_TOLERANCE = 300
_HEADER = "# Written by rocksalt; state.apply hardening.drift undoes a change here.\n"


@dataclass(frozen=True)
class Look:
    """Unit texts as found, the timer's state, and the age of the last report in seconds (None:
    there is none).
    """

    texts: Mapping[str, str | None]
    timer: Mapping[str, Any]
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
    shown = host.run(
        "systemctl", "show", f"{UNIT}.timer", "-p", "ActiveState,UnitFileState,NeedDaemonReload"
    ).out
    properties = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return Look(
        texts={path: host.read(path) for path in paths().values()},
        timer={
            "timer": properties.get("ActiveState", "unknown"),
            "at boot": properties.get("UnitFileState") or "not there",
            "as on disk": properties.get("NeedDaemonReload") == "no",
        },
        age=_age(host.read(f"{state_dir}/last.json")),
    )


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
        "DRIFT-002": dict.fromkeys(texts, AS_RENDERED),
        "DRIFT-003": f"at most {settings['stale_after']} minutes old",
    }


def actual(
    found: Look, settings: Mapping[str, Any], texts: Mapping[str, str], outdated: bool
) -> dict[str, Seen]:
    """Control id -> what was seen; ``outdated`` says that the host was changed since its last
    report.
    """
    seen = {path: _compared(found.texts[path], text) for path, text in texts.items()}
    return {
        "DRIFT-001": Seen(dict(found.timer)),
        "DRIFT-002": Seen(
            seen,
            "; ".join(f"{path} {state}" for path, state in seen.items() if state != AS_RENDERED),
        ),
        "DRIFT-003": _last_report(found.age, settings["stale_after"], outdated),
    }


def _compared(text: str | None, wanted: str) -> str:
    if text is None:
        return "does not exist"
    return AS_RENDERED if text == wanted else "was edited"


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
    """Writes the units and starts the timer; systemd is told every time, not only in the run that
    wrote them.
    """
    for path, text in texts.items():
        if host.read(path) != text:
            host.write(path, text)
    for command in (
        ("daemon-reload",),
        ("enable", "--quiet", f"{UNIT}.timer"),
        ("restart", f"{UNIT}.timer"),
    ):
        ran = host.run("systemctl", *command)
        if ran.status:
            raise Refused(f"systemctl {' '.join(command)}: {' '.join(ran.err.split())}")


def clean(host: Host) -> None:
    """Takes the units away; reports made so far stay."""
    host.run("systemctl", "disable", "--now", "--quiet", f"{UNIT}.timer")
    for path in leftovers(host):
        host.remove(path)
    host.run("systemctl", "daemon-reload")


def leftovers(host: Host) -> list[str]:
    """The units that are on the host."""
    return [path for path in paths().values() if host.read(path) is not None]

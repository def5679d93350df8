"""What makes the host take, check and try out snapshots by itself: systemd's timers, or the
schedule of the Salt master.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rocksalt.backup import program

FOLDER = "/etc/systemd/system"
PREFIX = "rocksalt-backup-"
_HEADER = "# Written by rocksalt; state.apply hardening.backup undoes a change here.\n"
_NEVER_OURS = """\
NoNewPrivileges=true
ProtectSystem=full
ProtectHome=read-only
ProtectClock=true
ProtectControlGroups=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
RestrictRealtime=true
LockPersonality=true
"""
"""What neither a snapshot nor a check does; a drill starts a Salt master in namespaces of its own
and is left alone. What a master names may lie in any folder, in /tmp as well.
"""


@dataclass(frozen=True)
class Job:
    """Something that is done again and again; ``hours`` from one time to the next."""

    name: str
    description: str
    command: str
    minutes: int
    sandbox: str = ""

    @property
    def unit(self) -> str:
        return PREFIX + self.name


def jobs(settings: Mapping[str, Any], salt_run: str, config_dir: str) -> list[Job]:
    """What this host does, by its settings. ``salt_run`` is the path of that command."""
    runner = f"{salt_run} --config-dir={config_dir} backup."
    sandbox = _NEVER_OURS + "".join(map(_writable, _written(settings, config_dir)))
    checking = f"{runner}verify" if settings["master"] else f"{program.PATH} verify"
    found = []
    if settings["master"]:
        what = "Take a snapshot of the Salt master"
        found.append(Job("snapshot", what, f"{runner}snapshot", settings["interval"], sandbox))
    if settings["master"] or settings["receiver"] or settings["drill"]:
        what = "Check every snapshot in the vaults"
        found.append(Job("verify", what, checking, settings["verify_every"] * 60, sandbox))
    if "identity" in settings["drill"]:
        what = "Restore the newest snapshot and try it out"
        command = f"{program.PATH} drill"
        found.append(Job("drill", what, command, settings["drill_every"] * 60))
    return found


def _written(settings: Mapping[str, Any], config_dir: str) -> list[str]:
    """Where a snapshot or a check writes, which may be below /home or /root."""
    vaults = settings["vaults"].values()
    found = [it["path"] for it in vaults if it["type"] == "file" and "path" in it]
    if settings["master"]:
        found = [config_dir, settings["spool"], *found]
    return [*found, settings["receiver"]["path"]] if "path" in settings["receiver"] else found


def _writable(path: str) -> str:
    """What is not there is no reason not to start: the job says so itself."""
    quoted = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'ReadWritePaths="-{quoted}"\n'


def timed(settings: Mapping[str, Any], jobs: list[Job]) -> list[Job]:
    """Those of the jobs that systemd starts."""
    return [] if settings["run_by"] == "salt" and settings["master"] else jobs


def texts(settings: Mapping[str, Any], jobs: list[Job], config_dir: str) -> dict[str, str]:
    """The files: path -> content. Services are there with either way of starting, for people."""
    found = {f"{FOLDER}/{job.unit}.service": _service(job, config_dir) for job in jobs}
    own = timed(settings, jobs)
    found |= {f"{FOLDER}/{job.unit}.timer": _timer(job, settings["jitter"]) for job in own}
    if not own and jobs:
        found[schedule(config_dir)] = _schedule(jobs, settings["jitter"])
    return found


def schedule(config_dir: str) -> str:
    """The file of the master's schedule."""
    return f"{config_dir}/master.d/rocksalt-backup.conf"


def _service(job: Job, config_dir: str) -> str:
    return f"""{_HEADER}
[Unit]
Description={job.description}
Wants=network-online.target
After=network-online.target salt-master.service

[Service]
Type=oneshot
ExecStart={job.command}
SuccessExitStatus=4 5
TimeoutStartSec=12h
UMask=0077
Nice=10
IOSchedulingClass=idle
{job.sandbox}"""


def _timer(job: Job, jitter: int) -> str:
    return f"""{_HEADER}
[Unit]
Description={job.description}, every {_in_words(job.minutes)}

[Timer]
OnCalendar={calendar(job.minutes)}
RandomizedDelaySec={jitter}
Persistent=true

[Install]
WantedBy=timers.target
"""


def _schedule(jobs: list[Job], jitter: int) -> str:
    """JSON is YAML."""
    entries = {
        job.unit: {
            "function": f"backup.{job.name}",
            "minutes": job.minutes,
            "splay": jitter,
            "run_on_start": False,
        }
        for job in jobs
    }
    return f"{_HEADER}{json.dumps({'schedule': entries}, indent=2)}\n"


def calendar(minutes: int) -> str:
    """Systemd's expression for every so many minutes; what is done daily or more seldom is done at
    night.
    """
    if minutes < 60:
        return f"*:0/{minutes}"
    if minutes < 1440:
        return f"0/{minutes // 60}:00"
    if minutes < 7 * 1440:
        return "*-*-* 03:30"
    return "Sun *-*-* 03:30" if minutes < 28 * 1440 else "*-*-01 03:30"


def _in_words(minutes: int) -> str:
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"

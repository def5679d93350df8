"""The units of the logbook, and all that is installed for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rocksalt import logbook, program

FOLDER = "/etc/systemd/system"
_HEADER = "# Written by rocksalt; state.apply hardening.access undoes a change here.\n"
_SANDBOX = """\
User={user}
Group={group}
UMask=0027
NoNewPrivileges=true
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
ProtectClock=true
ProtectControlGroups=true
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
PrivateDevices=true
PrivateTmp=true
LockPersonality=true
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
SystemCallFilter=@system-service
StateDirectory=rocksalt-logbook
StateDirectoryMode=0700
ReadWritePaths="{path}"
"""
_IDLE = "Nice=10\nIOSchedulingClass=idle\n"


def entry() -> str:
    """The module whose ``main`` is the program."""
    return "rocksalt.logbook.__main__"


def files(
    settings: Mapping[str, Any], user: str = "salt", group: str = "",
    interpreter: str = "", library: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:  # fmt: skip
    """All that is installed: path -> content. The program and units are root's, the program 0755,
    the others 0644; logbook.json is 0640 and the group's of the master. ``settings`` are what
    :func:`config.load` reads, ``user`` is the master's. Before the service starts its ``folder``
    has to be there, 0750 and the user's, and for a witness the keys in the state folder.
    """
    sources = program.sources(entry()) if library is None else library
    built = program.build(interpreter or program.python(), entry(), sources)
    told = json.dumps(settings, indent=1, sort_keys=True) + "\n"
    return {
        logbook.PROGRAM: built,
        logbook.CONFIG: told.encode("ascii"),
        logbook.ROTATION: _rotation(settings, user, group or user).encode(),
        **{path: text.encode() for path, text in texts(settings, user, group).items()},
    }


def texts(settings: Mapping[str, Any], user: str = "salt", group: str = "") -> dict[str, str]:
    """The units: path -> content."""
    path = _escaped(str(settings.get("folder") or logbook.FOLDER))
    sandbox = _SANDBOX.format(user=user, group=group or user, path=path)
    heads, verify = logbook.HEADS_UNIT, logbook.VERIFY_UNIT
    found = {
        logbook.UNIT: _service(sandbox),
        f"{verify}.service": _job(
            "Check the logbook of the Salt master", "verify --daily", "infinity", sandbox + _IDLE
        ),
        f"{verify}.timer": _timer(
            "Check the logbook of the Salt master", "*-*-* 03:40", 3600, True
        ),
    }
    if settings.get("witness"):
        what = "Have the logbook of the Salt master witnessed"
        found[f"{heads}.service"] = _job(what, "heads", "5min", sandbox)
        found[f"{heads}.timer"] = _timer(what, "*:*:00", 5, False)
    return {f"{FOLDER}/{name}": text for name, text in found.items()}


def _service(sandbox: str) -> str:
    return f"""{_HEADER}
[Unit]
Description=Logbook of the Salt master
After=salt-master.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={logbook.PROGRAM} run
Restart=always
RestartSec=2
TimeoutStartSec=5min
TimeoutStopSec=30
OOMScoreAdjust=-500
MemoryMax=1G
{sandbox}
[Install]
WantedBy=multi-user.target
"""


def _job(description: str, command: str, limit: str, sandbox: str) -> str:
    return f"""{_HEADER}
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={logbook.PROGRAM} {command}
TimeoutStartSec={limit}
{sandbox}"""


def _timer(description: str, calendar: str, jitter: int, persistent: bool) -> str:
    return f"""{_HEADER}
[Unit]
Description={description}

[Timer]
OnCalendar={calendar}
RandomizedDelaySec={jitter}
AccuracySec=1s
Persistent={str(persistent).lower()}

[Install]
WantedBy=timers.target
"""


def _rotation(settings: Mapping[str, Any], user: str, group: str) -> str:
    """Renamed and not copied, so that whoever follows it loses nothing. The last one is as it was
    written, as the logbook may be behind; reviews look for the use of rights in all of them.
    """
    return f"""{_HEADER}
"{settings.get("api_log") or logbook.API_LOG}" {{
    su {user} {group}
    weekly
    maxsize 200M
    rotate 30
    compress
    delaycompress
    missingok
    notifempty
    nocreate
}}
"""


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")

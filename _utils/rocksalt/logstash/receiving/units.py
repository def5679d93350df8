"""The units of a log server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rocksalt import logstash

FOLDER = "/etc/systemd/system"
_HEADER = "# Written by rocksalt; state.apply hardening.logstash undoes a change here.\n"
_SANDBOX = """\
User={user}
Group={user}
UMask=0027
NoNewPrivileges=true
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=true
ProtectClock=true
ProtectControlGroups=true
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
ProtectProc=invisible
PrivateDevices=true
PrivateTmp=true
LockPersonality=true
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
SystemCallFilter=@system-service
StateDirectory=rocksalt-logs rocksalt-logs/rsyslog
StateDirectoryMode=0750
ReadWritePaths="{path}"
"""


def texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """The files: path -> content. ``settings`` are those in receiver.json."""
    path = _escaped(settings["path"])
    sandbox = _SANDBOX.format(user=logstash.USER, path=path)
    heads, verify = logstash.HEADS_UNIT, logstash.VERIFY_UNIT
    return {
        f"{FOLDER}/{logstash.RECEIVER_UNIT}": _receiver(path, sandbox),
        f"{FOLDER}/{heads}.service": _job(
            "Have received logs witnessed", "heads", "5min", path, sandbox
        ),
        f"{FOLDER}/{heads}.timer": _timer("Have received logs witnessed", "*:*:00", 5, False),
        f"{FOLDER}/{verify}.service": _job(
            "Check all received logs", "verify --daily", "infinity", path, f"{sandbox}{_IDLE}"
        ),
        f"{FOLDER}/{verify}.timer": _timer("Check all received logs", "*-*-* 03:30", 3600, True),
    }


_IDLE = "Nice=10\nIOSchedulingClass=idle\n"


def _receiver(path: str, sandbox: str) -> str:
    return f"""{_HEADER}
[Unit]
Description=Receive the logs of other hosts
Documentation=man:rsyslogd(8)
Wants=network-online.target
After=network-online.target
RequiresMountsFor="{path}"
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=/usr/sbin/rsyslogd -n -f {logstash.RSYSLOG_CONFIG} -i NONE
Restart=always
RestartSec=2
TimeoutStopSec=30
LimitNOFILE=65536
OOMScoreAdjust=-500
{sandbox}
[Install]
WantedBy=multi-user.target
"""


def _job(description: str, command: str, limit: str, path: str, sandbox: str) -> str:
    return f"""{_HEADER}
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target
RequiresMountsFor="{path}"

[Service]
Type=oneshot
ExecStart={logstash.LOGS} {command}
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


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")

"""The service of systemd that runs the shipper, as root with hardly any of its powers."""

from __future__ import annotations

from rocksalt import logstash
from rocksalt.logstash.shipping import WRONG

_TEXT = f"""\
# Written by rocksalt; state.apply hardening.logstash undoes a change here.

[Unit]
Description=Ship the logs of this host
Wants=network-online.target
After=network-online.target systemd-journal-flush.service
RequiresMountsFor=/var/log/journal {logstash.STATE}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={logstash.SHIPPER} run
Restart=always
RestartSec=1
RestartPreventExitStatus={WRONG}
TimeoutStopSec=10
WatchdogSec=120
OOMScoreAdjust=-500
MemoryHigh=192M
MemoryMax=256M
TasksMax=32
LimitNOFILE=4096
CPUWeight=50
Nice=5
UMask=0077
StateDirectory=rocksalt/logstash
StateDirectoryMode=0750
CapabilityBoundingSet=CAP_DAC_READ_SEARCH
AmbientCapabilities=
NoNewPrivileges=true
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=true
PrivateDevices=true
ProtectClock=true
ProtectControlGroups=true
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
MemoryDenyWriteExecute=true
RemoveIPC=true
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def text() -> str:
    """The unit."""
    return _TEXT

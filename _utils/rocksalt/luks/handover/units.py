"""What listens for customers and what opens volumes at boot: units of systemd, and the keys of
customers for sshd.

A customer's key logs in to a forced command, ``relay``, without any right. It passes on to a socket
of that customer, behind which systemd starts ``serve`` as root. Nothing here may have a mount
namespace of its own: what a volume is mounted on would be seen by nobody else. That leaves out
``ProtectSystem``, ``PrivateTmp``, ``ReadWritePaths`` and most other directives of that kind, and
``ProtectClock``, which takes block devices away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rocksalt.luks import config, program

FOLDER = "/etc/systemd/system"
SOCKETS = "/run/rocksalt-volumes"
PREFIX = "rocksalt-volumes-"
OPENER = "rocksalt-luks-open.service"
MOST = 8
"""Connections of one customer at a time."""
_HEADER = "# Written by rocksalt; state.apply hardening.luks undoes a change here.\n"
_WITHOUT_NAMESPACE = """\
UMask=0077
LimitCORE=1
LimitMEMLOCK=infinity
TasksMax=64
NoNewPrivileges=true
LockPersonality=true
RestrictRealtime=true
RestrictSUIDSGID=true
RestrictNamespaces=true
SystemCallArchitectures=native
"""
_OWN_WORK_ALONE = """\
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_ALG
IPAddressDeny=any
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER
CapabilityBoundingSet=CAP_IPC_LOCK CAP_IPC_OWNER CAP_MKNOD CAP_SYS_NICE CAP_SYS_PTRACE
CapabilityBoundingSet=CAP_SYS_RESOURCE
SystemCallFilter=@system-service @mount
SystemCallErrorNumber=EPERM
"""


def socket_path(customer: str) -> str:
    """Where ``serve`` listens for a customer."""
    return f"{SOCKETS}/{customer}.sock"


def served(customers: Mapping[str, config.Customer]) -> list[config.Customer]:
    """Customers that hand over keys by SSH."""
    return [customer for _, customer in sorted(customers.items()) if customer.ssh_keys]


def sockets(customers: Mapping[str, config.Customer]) -> list[str]:
    """Names of the sockets that have to be enabled and to listen."""
    return [f"{PREFIX}{customer.name}.socket" for customer in served(customers)]


def services(volumes: Mapping[str, config.Volume]) -> list[str]:
    """Names of the services that have to be enabled: what opens volumes at boot, if any has a key
    service.
    """
    return [OPENER] if any(volume.key_command for volume in volumes.values()) else []


def texts(
    customers: Mapping[str, config.Customer], volumes: Mapping[str, config.Volume], group: str
) -> dict[str, str]:
    """The units: path -> content. ``group`` is that of the account at which customers log in."""
    found = {}
    for customer in served(customers):
        unit = f"{FOLDER}/{PREFIX}{customer.name}"
        found[f"{unit}.socket"] = _socket(customer.name, group)
        found[f"{unit}@.service"] = _service(customer.name)
    return found | {f"{FOLDER}/{name}": _opener() for name in services(volumes)}


def authorized_keys(customers: Iterable[config.Customer]) -> str:
    """Who reaches the relay, each as one customer and as nothing else."""
    lines = ["# Written by rocksalt; state.apply hardening.luks undoes a change here."]
    for customer in customers:
        command = f'restrict,command="{program.PATH} relay {customer.name}"'
        for line in customer.ssh_keys:
            kind, key = line.split()[:2]
            lines.append(f"{command} {kind} {key} {customer.name}")
    return "\n".join([*lines, ""])


def _socket(customer: str, group: str) -> str:
    """Many connections at a time are turned away one by one; the socket stays."""
    return f"""{_HEADER}
[Unit]
Description=Requests of {customer} about volumes

[Socket]
ListenStream={socket_path(customer)}
Accept=true
SocketUser=root
SocketGroup={group}
SocketMode=0660
DirectoryMode=0755
RemoveOnStop=true
MaxConnections={MOST}
TriggerLimitIntervalSec=0

[Install]
WantedBy=sockets.target
"""


def _service(customer: str) -> str:
    return f"""{_HEADER}
[Unit]
Description=A request of {customer} about volumes
CollectMode=inactive-or-failed

[Service]
ExecStart={program.PATH} serve {customer}
StandardInput=socket
StandardOutput=journal
StandardError=journal
SuccessExitStatus=1
{_WITHOUT_NAMESPACE}{_OWN_WORK_ALONE}"""


def _opener() -> str:
    """Asks key services again until they answer, for an hour."""
    return f"""{_HEADER}
[Unit]
Description=Open the volumes whose keys a key service has
Wants=network-online.target
After=network-online.target nss-lookup.target
StartLimitIntervalSec=2h
StartLimitBurst=60

[Service]
Type=oneshot
ExecStart={program.PATH} open-all
Restart=on-failure
RestartSec=60
TimeoutStartSec=30min
{_WITHOUT_NAMESPACE}
[Install]
WantedBy=multi-user.target
"""

"""The texts: NRPE's whole configuration, and the drop-in of its unit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rocksalt import nrpe

HEADER = "# Written by rocksalt; state.apply hardening.nrpe undoes a change here.\n"
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; the ones of TLS 1.3 are all good, and NRPE has no say in them."""
VERSIONS = {"1.2": "TLSv1.2+", "1.3": "TLSv1.3+"}
CLOSED = {"dont_blame_nrpe": "0", "allow_bash_command_substitution": "0"}
"""What lets nobody send arguments or shell code."""
COMMAND_LINE = (nrpe.PROGRAM, "-c", nrpe.CONFIG, "-f")
PATIENCE = 30
"""Seconds that somebody who connects has for the handshake."""
LOG_CERTIFICATES = "0x20"
"""Who asked, by certificate, and why a handshake failed."""
LINE = 2046
"""Bytes of a line; NRPE takes what is behind them for the next one."""
_OTHERS = ("include", "include_file", "include_dir")
_SPACE = b" \t\n\v\f\r"

SANDBOX = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ReadOnlyPaths": "/run",
    "ProtectHome": "read-only",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "RestrictSUIDSGID": "yes",
    "RestrictRealtime": "yes",
    "RestrictNamespaces": "yes",
    "LockPersonality": "yes",
    "SystemCallArchitectures": "native",
}
"""Property of systemd -> value, as a drop-in says it and ``systemctl show`` gives it. Plugins look
at all file systems and processes, and may use the network. In a container, ``strict`` together with
``ProtectControlGroups`` leaves /run writable, so that is named as well.
"""
_UNIT = f"""\
[Unit]
Wants=network-online.target
After=network-online.target
ConditionPathExists={nrpe.CERTIFICATE}
ConditionPathExists={nrpe.KEY}
ConditionPathExists={nrpe.AUTHORITY}

[Service]
EnvironmentFile=
ExecStart=
ExecStart={" ".join(COMMAND_LINE)}
User={nrpe.USER}
Group={nrpe.USER}
SupplementaryGroups=
Restart=on-failure
RestartSec=5
UMask=0077
ReadWritePaths=-/var/lib/nagios
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""


def drop_in() -> str:
    """The drop-in of the unit. The command line is given anew, for the distribution's takes options
    from a file, one of which switches TLS off. It waits for its certificate, and for the network:
    an address that is not there yet ends NRPE.
    """
    return f"{HEADER}\n{_UNIT}" + "".join(f"{key}={value}\n" for key, value in SANDBOX.items())


def render(
    settings: Mapping[str, Any],
    address: str,
    allowed: Iterable[str],
    commands: Mapping[str, str],
) -> str:
    """The text of nrpe.cfg. It names no pid file: systemd knows the process, and a stale one keeps
    NRPE from starting.
    """
    options = {
        "log_facility": "daemon",
        "debug": "0",
        "server_address": address,
        "server_port": settings["port"],
        "nrpe_user": nrpe.USER,
        "nrpe_group": nrpe.USER,
        "allowed_hosts": ",".join(allowed),
        **CLOSED,
        "command_timeout": settings["timeout"],
        "connection_timeout": PATIENCE,
        "ssl_version": VERSIONS[settings["tls_minimum"]],
        "ssl_use_adh": "0",
        "ssl_cipher_list": CIPHERS,
        "ssl_client_certs": "2",
        "ssl_cacert_file": nrpe.AUTHORITY,
        "ssl_cert_file": nrpe.CERTIFICATE,
        "ssl_privatekey_file": nrpe.KEY,
        "ssl_logging": LOG_CERTIFICATES,
    }
    lines = [f"{key}={value}" for key, value in options.items()]
    lines += [f"command[{name}]={line}" for name, line in sorted(commands.items())]
    return "\n".join([HEADER, *lines, ""])


def parse(text: str) -> list[tuple[str, str]]:
    """The options of a configuration as NRPE reads them, in their order; what is none is left out,
    as NRPE stops there or passes over it.
    """
    found = []
    for line in _lines(text):
        key, _, value = line.lstrip("=").partition("=")
        if key and value and not line.startswith("#"):
            found.append((key, value))
    return found


def _lines(text: str) -> Iterator[str]:
    for raw in text.encode(errors="surrogateescape").split(b"\n"):
        whole = raw + b"\n"
        for at in range(0, len(whole), LINE):
            line = whole[at : at + LINE].partition(b"\0")[0].strip(_SPACE)
            yield line.decode(errors="surrogateescape")


def effective(text: str) -> dict[str, str]:
    """Option -> value; NRPE takes the last one that it reads."""
    return dict(parse(text))


def heard(text: str) -> list[str]:
    """Who is heard; everybody where it is empty. A second list adds to the first."""
    lists = [value for key, value in parse(text) if key == "allowed_hosts"]
    return [entry.strip() for entry in ",".join(lists).split(",") if entry.strip()]


def others(text: str) -> list[str]:
    """Files and folders that NRPE reads as well."""
    return [value for key, value in parse(text) if key in _OTHERS]


def guarded(text: str) -> bool:
    """Whether a NRPE on this text asks for certificates and hears nobody but whom it names."""
    options = effective(text)
    files = (f"ssl_{name}_file" for name in ("cacert", "cert", "privatekey"))
    closed = options.get("ssl_client_certs") == "2" and options.get("ssl_use_adh") == "0"
    return closed and all(map(options.get, files)) and bool(heard(text)) and not others(text)


def trial(text: str, address: str, port: int) -> str:
    """The same configuration for a NRPE that is tried out on another address, where only this host
    asks.
    """
    other = {"server_address": address, "server_port": str(port), "allowed_hosts": address}
    lines = [f"{key}={other.get(key, value)}" for key, value in parse(text)]
    return "\n".join([*lines, ""])

"""Where sshd takes connections, by what ``ss`` and systemd say."""

from __future__ import annotations

import ipaddress
import re

from .asking import Look


def by_socket(seen: Look) -> bool:
    """Whether systemd listens, and starts sshd for it, which only SSHD-012 is about."""
    units = seen["units"].blocks
    return "active" == units["ssh.socket"]["ActiveState"] != units["ssh.service"]["ActiveState"]


def listening(seen: Look) -> set[tuple[str, int, str]]:
    """Where sshd takes connections: address, port and process. What sessions forward is only for
    this host.
    """
    if by_socket(seen):
        found = re.findall(r"(\S+):(\d+) \(Stream\)", seen["socket"].text)
        return {(bare(address), int(port), "") for address, port in found}
    main = seen["units"].blocks["ssh.service"]["MainPID"]
    ends = set()
    for line in seen["listening"].lines:
        address, port = line.split()[3].rsplit(":", 1)
        local = address.startswith(("127.", "[::1]"))
        for pid in re.findall(r'"sshd(?:-session)?",pid=(\d+)', line):
            if pid == main or not local:
                ends.add((bare(address), int(port), pid))
    return ends


def bare(address: str) -> str:
    """An address in its usual form, or a wildcard as it is."""
    address = re.sub(r"[\[\]]", "", address)
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address

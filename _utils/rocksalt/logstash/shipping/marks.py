"""Lines with a mark, by which it shows whether lines arrive."""

from __future__ import annotations

import socket

MARK = "ROCKSALT_MARK"
SOCKET = "/run/systemd/journal/socket"


def write(mark: str, message: str, identifier: str, timeout: float, path: str = "") -> None:
    """Writes a line to the journal, in its own protocol; OSError if that has not taken it after so
    many seconds.
    """
    text = f"MESSAGE={message}\nPRIORITY=6\nSYSLOG_IDENTIFIER={identifier}\n{MARK}={mark}\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.settimeout(timeout)
        journal.sendto(text.encode(), path or SOCKET)

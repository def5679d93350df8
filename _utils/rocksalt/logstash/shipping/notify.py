"""Tells systemd how it goes, and its journal what went wrong."""

from __future__ import annotations

import contextlib
import os
import socket
import sys


def tell(text: str) -> None:
    """Says something to systemd, where that started this program."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
        way.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        way.sendall(text.encode())


def plain(data: bytes) -> str:
    """What others say, in one line: control characters are written as escapes."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(it if it.isprintable() else ascii(it)[1:-1] for it in text)


def say(sentence: str) -> None:
    """A sentence for people."""
    print(f"rocksalt-ship: {sentence}", file=sys.stderr, flush=True)

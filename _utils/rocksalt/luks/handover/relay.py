"""The forced command of a customer's SSH key: passes a request on to the customer's socket, and the
answer back. It has no right but to connect there.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import BinaryIO

from rocksalt.errors import Refused
from rocksalt.luks.handover import commands, frames, receiving, units

FAILED, USAGE = 1, 2
_CHUNK = 4096


def relay(
    customer: str, text: str, stdin: int, out: BinaryIO, errors: BinaryIO, path: str = ""
) -> int:
    """Asks for ``text`` (SSH_ORIGINAL_COMMAND) in the name of the customer and gives the exit code
    of the answer. ``stdin`` is a descriptor, of which only commands that need a key are read.
    """
    receiving.keep_private()
    try:
        asked = commands.parsed(text)
    except Refused as error:
        errors.write(f"{error}\n".encode())
        return USAGE
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path or units.socket_path(customer))
        except OSError:
            errors.write(b"nobody listens for you on this host at the moment\n")
            return FAILED
        given = stdin if asked.needs_key else None
        pump = threading.Thread(target=_pass_on, args=(connection, asked.text, given), daemon=True)
        pump.start()
        try:
            return _answer(connection, out, errors)
        except ConnectionError:
            errors.write(b"there was no answer: too many requests at a time, or a failure here\n")
            return FAILED


def _pass_on(connection: socket.socket, request: str, given: int | None) -> None:
    """Sends the request and no more of what is handed over than anybody reads."""
    with contextlib.suppress(OSError):
        connection.sendall(f"{request}\n".encode())
        left = receiving.LARGEST + 1
        while given is not None and left:
            data = os.read(given, min(_CHUNK, left))
            if not data:
                break
            connection.sendall(data)
            left -= len(data)
        connection.shutdown(socket.SHUT_WR)


def _answer(connection: socket.socket, out: BinaryIO, errors: BinaryIO) -> int:
    for kind, data in frames.received(connection):
        if kind == frames.EXIT:
            return data[0] if data else FAILED
        target = out if kind == frames.OUT else errors
        target.write(data)
        target.flush()
    raise ConnectionError("the answer broke off")

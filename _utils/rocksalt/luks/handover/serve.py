"""Answers one request of a customer, as root, on a connection that systemd accepted.

Which customer it is stands in the unit; the request names at most one of that customer's volumes.
What is read of it, and for how long, is limited before anything else is done.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import pwd
import socket
import struct
import sys
import time
from collections.abc import Iterable

from rocksalt.errors import Refused, RocksaltError
from rocksalt.luks import config
from rocksalt.luks.handover import commands, frames, receiving
from rocksalt.luks.volumes.machine import Machine

OK, FAILED = 0, 1
LINE_SECONDS, KEY_SECONDS, ANSWER_SECONDS = 10.0, 180.0, 60.0
"""For the request, which a program sends; for the key, before which a person may be asked for a
passphrase; for taking the answer.
"""


def serve(customer: str, connection: socket.socket, machine: Machine, path: str) -> int:
    """Answers, and gives the exit code that the customer was told. ``path`` is that of the
    configuration. The journal has who asked for what, and how it went.
    """
    receiving.keep_private()
    asked = Request(connection)
    code = FAILED
    try:
        said = _answer(customer, asked, machine, path)
        _say(connection, frames.OUT, said.out)
        _say(connection, frames.ERROR, _lines(said.notes))
        code = OK
    except RocksaltError as error:
        _say(connection, frames.ERROR, _lines([str(error)]))
    except Exception as error:  # its words might hold anything
        _say(connection, frames.ERROR, b"a failure on this host, which its journal names\n")
        print(f"{customer}: {_place(error)}", file=sys.stderr)
    print(f"{customer}: {asked.words}: exit code {code}", file=sys.stderr, flush=True)
    _say(connection, frames.EXIT, bytes([code]))
    return code


def _answer(customer: str, asked: Request, machine: Machine, path: str) -> commands.Answer:
    settings = config.load(path)
    _check_peer(asked.connection, settings["user"])
    request = commands.parsed(asked.line())
    asked.words = request.text
    own = {n: it for n, it in config.volumes(settings).items() if it.customer.name == customer}
    now = dt.datetime.now(dt.timezone.utc)
    return commands.carry_out(machine, settings, own, request, asked.key, now)


class Request:
    """What a customer sends, up to its limits; ``words`` are for the journal."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.words = "no request"
        self._rest = bytearray()

    def line(self) -> str:
        """The first line."""
        end = time.monotonic() + LINE_SECONDS
        while b"\n" not in self._rest and len(self._rest) <= commands.LONGEST:
            if not self._more(end, "request"):
                break
        line, _, rest = self._rest.partition(b"\n")
        self._rest[:] = bytes(len(self._rest))
        self._rest = rest
        return line.decode("ascii", "replace")

    def key(self) -> bytearray:
        """What is handed over: up to its end, or to what is too much for a key."""
        end = time.monotonic() + KEY_SECONDS
        while len(self._rest) <= receiving.LARGEST and self._more(end, "key"):
            pass
        return self._rest

    def _more(self, end: float, what: str) -> bool:
        self.connection.settimeout(max(0.01, end - time.monotonic()))
        try:
            data = self.connection.recv(1024)
        except TimeoutError:
            raise Refused(f"no whole {what} arrived in time: try again") from None
        self._rest += data
        return bool(data)


def accepted() -> socket.socket:
    """The connection that systemd handed over as standard input. No program that is started for
    the request has it.
    """
    connection = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    return connection


def _check_peer(connection: socket.socket, user: str) -> None:
    """Only root and the account of customers may ask; the rights of the socket say so, too."""
    size = struct.calcsize("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    uid = struct.unpack("3i", credentials)[1]
    allowed = {0}
    with contextlib.suppress(KeyError):
        allowed.add(pwd.getpwnam(user).pw_uid)
    if uid not in allowed:
        raise Refused(f"the user with the number {uid} may not ask for anything here")


def _lines(sentences: Iterable[str]) -> bytes:
    return "".join(f"{it}\n" for it in sentences).encode(errors="replace")


def _say(connection: socket.socket, kind: bytes, data: bytes) -> None:
    """What was begun is finished although nobody listens any more."""
    if data:
        with contextlib.suppress(OSError):
            connection.settimeout(ANSWER_SECONDS)
            frames.send(connection, kind, data)


def _place(error: Exception) -> str:
    """What went wrong and where, without its words."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    return f"{type(error).__name__} at {where}"

"""Asks for the addresses of log servers, beside the loop, for that may wait."""

from __future__ import annotations

import socket
import threading
from typing import Any

from rocksalt.logstash.shipping.config import Server

_asked: dict[Server, Naming] = {}


def ask(server: Server) -> Naming:
    """The question for a server's addresses; the same one as before while nobody answers it."""
    known = _asked.pop(server, None)
    if not known or known.done:
        known = Naming(server)
    if not known.done:
        _asked[server] = known
    return known


class Naming:
    """A question, and once it is ``done`` what was ``found``; without any, ``error`` says why."""

    def __init__(self, server: Server):
        self.found: list[Any] = []
        self.error = ""
        self.done = True
        try:
            self._ask(server, socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            self._begin(server)

    def _begin(self, server: Server) -> None:
        self.done = False
        try:
            threading.Thread(target=self._try, args=(server,), daemon=True).start()
        except RuntimeError as error:
            self.error, self.done = str(error), True

    def _ask(self, server: Server, flags: int = 0) -> None:
        self.found = socket.getaddrinfo(
            server.host, server.port, type=socket.SOCK_STREAM, flags=flags
        )

    def _try(self, server: Server) -> None:
        try:
            self._ask(server)
        except (OSError, UnicodeError) as error:
            self.error = words(error)
        self.done = True


def words(error: BaseException) -> str:
    """An error of the system or of TLS in its own words."""
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or error)

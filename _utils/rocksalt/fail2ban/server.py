"""Questions to the running fail2ban over its socket.

Its own client takes a fifth of a second per question, most of it spent on starting Python. The
protocol is a pickled list of words, and a pickled ``(status, value)`` as the answer.
"""

from __future__ import annotations

import io
import pickle
import socket
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from rocksalt import fail2ban
from rocksalt.host import Host

_END = b"<F2B_END_COMMAND>"
_PATIENCE = 10.0
_PLAIN = {"str": str, "set": set, "frozenset": frozenset, "dict": dict, "list": list}

# What describes a jail, by the names of its configuration; a jail has more than these.
JAIL_KEYS = (
    *("maxretry", "findtime", "ignoreip", "ignoreself", "ignorecommand"),
    *("bantime", "bantime.increment", "bantime.factor", "bantime.maxtime", "bantime.overalljails"),
    *("bantime.formula", "bantime.multipliers", "bantime.rndtime"),
    *("journalmatch", "logpath", "failregex", "ignoreregex"),
)
SERVER_KEYS = ("dbfile", "dbpurgeage", "loglevel", "logtarget")


class Silent(Exception):
    """The server does not answer; the text says why."""


class _Plain(pickle.Unpickler):
    """Numbers, texts and what holds them; anything else stays a stranger and runs no code."""

    def find_class(self, module: str, name: str) -> Any:
        return _PLAIN.get(name, _Stranger) if module == "builtins" else _Stranger


class _Stranger:
    """In place of an object of the server's own classes, such as the error that it raised."""

    def __init__(self, *parts: object):
        self.parts = parts

    def __setstate__(self, state: object) -> None:
        """Nothing of it is wanted."""


class Server:
    """A connection to the running server, for use in a ``with`` statement."""

    def __init__(self, host: Host):
        self._path = str(host.path(fail2ban.SOCKET))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> Server:
        self._socket.settimeout(_PATIENCE)
        try:
            self._socket.connect(self._path)
        except OSError as error:
            self._socket.close()
            raise Silent(f"{fail2ban.SOCKET}: {error.strerror or error}") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._socket.close()

    def ask(self, *words: str) -> Any:
        """The value that answers a command; None where the server refuses it."""
        try:
            self._socket.sendall(pickle.dumps(list(words), protocol=2) + _END)
            status, value = _Plain(io.BytesIO(b"".join(self._answer()))).load()
        except (OSError, pickle.UnpicklingError, EOFError, TypeError, ValueError) as error:
            raise Silent(f"{fail2ban.SOCKET} answers {' '.join(words)} with: {error}") from None
        return None if status else value

    def _answer(self) -> Iterator[bytes]:
        tail = b""
        while not tail.endswith(_END):
            chunk = self._socket.recv(65536)
            if not chunk:
                raise OSError("the connection was closed")
            tail = (tail + chunk)[-len(_END) :]
            yield chunk

    def jails(self) -> list[str]:
        """The names of the jails that run."""
        status: dict[str, str] = dict(self.ask("status") or ())
        names = status.get("Jail list", "").split(",")
        return sorted(filter(None, (name.strip() for name in names)))

    def jail(self, name: str) -> dict[str, Any]:
        """Everything about one jail that a control speaks of; ``actions`` is action -> property ->
        value.
        """
        found = {key: self.ask("get", name, key) for key in JAIL_KEYS}
        actions = self.ask("get", name, "actions") or []
        found["actions"] = {action: self._action(name, action) for action in actions}
        return found

    def _action(self, jail: str, action: str) -> dict[str, Any]:
        names: Iterable[str] = self.ask("get", jail, "actionproperties", action) or ()
        return {
            name: self.ask("get", jail, "action", action, name)
            for name in names
            if name not in ("ESCAPE_CRE", "ESCAPE_VN_CRE", "banEpoch")
        }

    def bans(self, name: str) -> list[str]:
        """The addresses that a jail holds banned."""
        found: Sequence[object] = self.ask("get", name, "banip") or ()
        return [str(address) for address in found]

"""One connection to a log server: TCP, TLS, RELP, without ever waiting."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import ssl
from collections.abc import Callable
from typing import Any

from rocksalt.errors import RocksaltError
from rocksalt.logstash.shipping import naming, notify, relp
from rocksalt.logstash.shipping.config import Config, Server
from rocksalt.logstash.shipping.naming import words

CONNECT, TURN = 5.0, 1.0
"""Seconds until a server has to have taken the connection, with RELP. Where its name has several
addresses, each has its part of them, but at least a turn.
"""
SILENCE = 15.0
"""Seconds in which something of what is under way has to be acknowledged."""
_BUFFER = 256 * 1024
_CHUNK, _STEP = 65_536, 1024 * 1024
_NAMING, _CONNECTING, _SECURING, _OPENING, _READY, _CLOSED = range(6)
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 15_000}
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Broken(RocksaltError):
    """A connection cannot be made, or has ended."""


def context(config: Config) -> ssl.SSLContext:
    """What a connection needs of files, read anew; :class:`Broken` names the one that is wrong."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        made.load_verify_locations(config.ca)
    except (OSError, ssl.SSLError) as error:
        raise Broken(f"{config.ca} cannot be used as the authority: {words(error)}") from None
    try:
        made.load_cert_chain(config.certificate, config.key)
    except (OSError, ssl.SSLError) as error:
        raise Broken(
            f"{config.certificate} with {config.key} cannot be used: {words(error)}"
        ) from None
    return made


def stamps(config: Config) -> tuple[Any, ...]:
    """What changes when one of the files does."""
    found = []
    for path in (config.ca, config.certificate, config.key):
        with contextlib.suppress(OSError):
            state = os.stat(path)
            found.append((path, state.st_mtime_ns, state.st_ino, state.st_size))
    return tuple(found)


class Link:
    """A connection from its beginning; ``ready`` once lines can be sent. ``taken`` is whether the
    server acknowledged any, None before one was sent. Methods raise :class:`Broken` with a
    sentence about what is wrong. Times are seconds of ``now``.
    """

    def __init__(self, server: Server, config: Config, now: float):
        self.server, self.began, self.stamps = server, now, stamps(config)
        self.expires: float | None = None
        self.taken: bool | None = None
        self._context = context(config)
        self._state = _NAMING
        self._socket: socket.socket | None = None
        self._addresses: list[Any] = []
        self._until, self._each = now + CONNECT, CONNECT
        self._naming = naming.ask(server)
        self._out = bytearray()
        self._parser = relp.Parser()
        self._wants = 0
        self._number = 1

    @property
    def ready(self) -> bool:
        """Whether the server takes lines."""
        return self._state == _READY

    @property
    def waiting(self) -> int:
        """Bytes that the kernel has not taken."""
        return len(self._out)

    def interest(self) -> tuple[int, int]:
        """File descriptor and events to wait for; -1 while there is none."""
        if not self._socket:
            return -1, 0
        if self._state < _OPENING:
            return self._socket.fileno(), self._wants or _WRITE
        return self._socket.fileno(), _READ | (_WRITE if self._out else 0)

    def send(self, data: bytes) -> int:
        """Puts a line on its way; the number that its acknowledgement will have."""
        self.taken = bool(self.taken)
        self._number = relp.following(self._number)
        self._out += relp.encode(self._number, relp.SYSLOG, data)
        return self._number

    def step(self, now: float) -> list[relp.Frame]:
        """Does what can be done without waiting; the answers that came. An address that does not
        do leaves its turn to the next one.
        """
        step = self._step
        while True:
            try:
                return step(now)
            except (Broken, OSError, relp.Garbled) as error:
                if self._state >= _READY or not self._addresses:
                    raise self._broken(error) from None
                step = self._connect

    def _broken(self, error: Exception) -> Broken:
        if isinstance(error, Broken):
            return error
        if isinstance(error, ssl.SSLError):
            return Broken(self._refusal(error))
        said = words(error) if isinstance(error, OSError) else error
        return Broken(f"{self.server}: {said}")

    def _step(self, now: float) -> list[relp.Frame]:
        if self._state < _READY and now > self._until:
            raise Broken(f"{self.server} does not answer within {self._each:g} seconds")
        if self._state == _NAMING and self._naming.done:
            self._addresses = [*self._naming.found]
            if not self._addresses:
                raise Broken(f"{self.server} has no address: {self._naming.error}")
            self._each = max(CONNECT / len(self._addresses), min(TURN, CONNECT))
            self._connect(now)
        if self._state == _CONNECTING and self._socket:
            self._connected()
        if self._state == _SECURING:
            self._secure()
        if self._state < _OPENING:
            return []
        self._write()
        found = self._read()
        self._write()
        return found

    def close(self) -> None:
        """Ends it; a farewell is said where that costs no time."""
        if self._state == _READY and not self._out:
            with contextlib.suppress(OSError, Broken):
                self._out += relp.encode(relp.following(self._number), relp.CLOSE)
                self._write()
        self._state = _CLOSED
        if self._socket:
            self._socket.close()
            self._socket = None

    def _connect(self, now: float) -> list[relp.Frame]:
        """Begins with the next address; there is no answer yet."""
        family, _, _, _, address = self._addresses.pop(0)
        if self._socket:
            self._socket.close()
        self._socket, self._until = None, now + self._each
        self._out, self._parser = bytearray(), relp.Parser()
        self._socket = made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in _KEEPALIVE.items():
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._state, self._wants = _CONNECTING, _WRITE
        code = made.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        return []

    def _connected(self) -> None:
        assert self._socket
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        try:
            self._socket.getpeername()
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                return
            raise
        try:
            self._socket = self._context.wrap_socket(
                self._socket, server_hostname=self.server.name, do_handshake_on_connect=False
            )
        except (ValueError, UnicodeError) as error:
            raise Broken(
                f"{self.server} has no name that a certificate can have: {error}"
            ) from None
        self._state = _SECURING

    def _secure(self) -> None:
        assert isinstance(self._socket, ssl.SSLSocket)
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._wants = _READ
            return
        except ssl.SSLWantWriteError:
            self._wants = _WRITE
            return
        shown = self._socket.getpeercert() or {}
        if end := shown.get("notAfter"):
            self.expires = float(ssl.cert_time_to_seconds(str(end)))
        self._state = _OPENING
        self._out += relp.encode(self._number, relp.OPEN, relp.OFFER)

    def _write(self) -> None:
        assert self._socket
        while self._out:
            try:
                sent = self._socket.send(self._out[:_CHUNK])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                return
            del self._out[:sent]

    def _read(self) -> list[relp.Frame]:
        assert self._socket
        found: list[relp.Frame] = []
        size = 0
        while size < _STEP:
            try:
                data = self._socket.recv(_CHUNK)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                break
            if not data:
                raise Broken(self._ended())
            # Servers send small answers and wait for the kernel to acknowledge each of them.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            size += len(data)
            found += self._parser.feed(data)
        return self._opened(found) if self._state == _OPENING else self._answers(found)

    def _opened(self, frames: list[relp.Frame]) -> list[relp.Frame]:
        for frame in frames:
            if frame.command != relp.ANSWER or not frame.accepted:
                said = notify.plain(frame.data[:200])
                raise Broken(f"{self.server} does not speak RELP with this host: {said}")
            self._state = _READY
        return []

    def _answers(self, frames: list[relp.Frame]) -> list[relp.Frame]:
        for frame in frames:
            if frame.command == relp.FAREWELL:
                raise Broken(f"{self.server} says that it ends")
            if not frame.accepted:
                said = notify.plain(frame.data[:200])
                raise Broken(f"{self.server} does not take a line: {said}")
            self.taken = True
        return frames

    def _ended(self) -> str:
        if self._state == _READY:
            return f"{self.server} ended the connection"
        return (
            f"{self.server} ended the connection before it took a line: it may not trust this"
            " host's certificate, or have this port for another host"
        )

    def _refusal(self, error: ssl.SSLError) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"{self.server} has a certificate that is not to be trusted: {error.verify_message}"
            )
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return self._ended()
        alert = (error.reason or "").partition("ALERT_")[2].lower().replace("_", " ")
        if alert:
            return f"{self.server} does not take this host's certificate: {alert}"
        return f"{self.server}: TLS fails: {words(error)}"


Factory = Callable[[Server, Config, float], Link]

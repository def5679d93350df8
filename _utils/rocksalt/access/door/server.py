"""The HTTP server of the door: CherryPy's own (cheroot), with deadlines and limits.

Cheroot alone shakes hands with new connections one after the other, so that one silent client
stops all, and waits ten seconds for each byte, so that a few slow ones do.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from cheroot import wsgi
from cheroot.makefile import MakeFile
from cheroot.server import HTTPConnection, HTTPRequest
from cheroot.ssl import Adapter

from .limits import network

log = logging.getLogger("rocksalt.api")
READING, WRITING, IDLE, LINGERING = 10, 60, 10, 2
"""Seconds for a handshake and a whole request, for a whole answer, between two requests, and for
what still comes from somebody who was refused before the end.
"""
CROWDED = 2
"""Seconds for a handshake and a whole request while others wait for a thread."""
MAX_HEADERS = 16384
"""Bytes of the first line and all headers."""


class _Socket(ssl.SSLSocket):
    """A connection whose handshake is part of its first request, and both have one deadline."""

    _began = _reading = _writing = 0.0
    leave: Callable[[], None] | None = None
    crowded: Callable[[], bool] = staticmethod(lambda: False)

    def begin(self, seconds: float) -> None:
        """From now on so many seconds are for reading."""
        self._began = time.monotonic()
        self._reading, self._writing = self._began + seconds, 0.0

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """Read; what comes too late or is no TLS is the end of what comes."""
        while (left := self._left()) > 0:
            self.settimeout(min(left, CROWDED))
            try:
                return super().recv_into(*args, **kwargs)
            except TimeoutError:
                continue
            except ssl.SSLError as error:
                log.debug("a connection ended: %s", error)
                break
        return 0

    def _left(self) -> float:
        """Seconds for reading."""
        now = time.monotonic()
        end = self._reading or now + READING
        return (min(end, self._began + CROWDED) if self.crowded() else end) - now

    def send(self, *args: Any, **kwargs: Any) -> int:
        """Write, as long as the whole answer is within its time."""
        self._writing = self._writing or time.monotonic() + WRITING
        left = self._writing - time.monotonic()
        if left <= 0:
            raise BrokenPipeError(32, "the answer was not taken in time")
        self.settimeout(left)
        try:
            return super().send(*args, **kwargs)
        except (ssl.SSLError, TimeoutError) as error:
            raise BrokenPipeError(32, "the connection ended") from error

    def _real_close(self) -> None:
        leave, self.leave = self.leave, None
        if leave:
            leave()
        super()._real_close()  # type: ignore[misc]


class _Adapter(Adapter):
    """Gives new connections TLS, and lets no address have more than its part of them."""

    def __init__(self, context: ssl.SSLContext, most: int, crowded: Callable[[], bool]):
        context.sslsocket_class = _Socket
        self.context, self._most, self._crowded = context, most, crowded
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def bind(self, sock: socket.socket) -> socket.socket:
        return sock

    def wrap(self, sock: socket.socket) -> tuple[socket.socket, dict[str, str]]:
        try:
            address = network(sock.getpeername()[0])
            with self._lock:
                if self._open[address] >= self._most:
                    raise ConnectionError(f"{address} has {self._most} connections")
            found = self.context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
            )
        except OSError as error:
            sock.close()
            # One that cheroot takes for the end of this connection, in all its versions.
            raise ConnectionResetError(errno.ECONNRESET, str(error)) from error
        with self._lock:
            self._open[address] += 1
        assert isinstance(found, _Socket)
        found.leave, found.crowded = lambda: self._left(address), self._crowded
        return found, self.get_environ()

    def _left(self, address: str) -> None:
        with self._lock:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    def get_environ(self) -> dict[str, str]:
        return {"wsgi.url_scheme": "https", "HTTPS": "on"}

    def makefile(self, sock: Any, mode: str = "r", bufsize: int = -1) -> Any:
        return MakeFile(sock, mode, bufsize)


class _Request(HTTPRequest):
    """What cheroot refuses by itself is refused in JSON as well, and ends the connection."""

    def read_request_headers(self) -> Any:
        good = super().read_request_headers()  # type: ignore[no-untyped-call]
        # Nobody reads such a body, so what comes next is not the next request.
        self.close_connection = self.close_connection or self.chunked_read
        return good

    def simple_response(self, status: Any, msg: str = "") -> None:
        status = str(status)
        sentence = msg or status[4:]
        body = json.dumps({"status": int(status[:3]), "return": sentence}).encode()
        self.close_connection = True
        head = (
            f"{self.server.protocol} {status}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            self.conn.wfile.write(head.encode("latin-1") + body)
            self._linger()

    def _linger(self) -> None:
        """Take some of what is under way: an end before that takes the answer away as well."""
        self.conn.socket.begin(LINGERING)
        room = bytearray(65536)
        for _ in range(16):
            if not self.conn.socket.recv_into(room):
                return


class _Connection(HTTPConnection):
    RequestHandlerClass = _Request
    came = False

    def communicate(self) -> Any:
        self.socket.begin(READING)
        return super().communicate()  # type: ignore[no-untyped-call]


class _Gateway(wsgi.Gateway_10):
    """Adds the name in the certificate of the caller, which is checked by then."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        environ: dict[str, Any] = super().get_environ()  # type: ignore
        certificate = self.req.conn.socket.getpeercert() or {}
        names = [value for part in certificate.get("subject", ()) for _, value in part]
        return {**environ, "rocksalt.certificate": ", ".join(names)}


class _Server(wsgi.Server):
    ConnectionClass = _Connection

    def process_conn(self, conn: Any) -> None:
        """Give a connection to a thread, a new one not before something came."""
        if conn.came:
            super().process_conn(conn)
        else:
            conn.came = True
            self._connections.put(conn)  # type: ignore[attr-defined]

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        log.log(logging.ERROR if level >= logging.ERROR else logging.DEBUG, "%s", msg)


def server(
    address: tuple[str, int], application: Any, context: ssl.SSLContext, threads: int, max_body: int
) -> Any:
    """The server, not yet started; ``safe_start()`` serves until the process ends."""
    made = _Server(
        address, application, numthreads=threads, max=threads, server_name="rocksalt",
        request_queue_size=64, timeout=IDLE, shutdown_timeout=1, accepted_queue_size=10 * threads,
        accepted_queue_timeout=1,
    )  # fmt: skip
    made.gateway = _Gateway
    made.ssl_adapter = _Adapter(context, max(2, threads // 2), lambda: made.requests.qsize > 0)
    made.max_request_header_size, made.max_request_body_size = MAX_HEADERS, max_body
    made.keep_alive_conn_limit = 4 * threads
    return made

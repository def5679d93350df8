"""What relay and serve say to each other over a customer's socket.

The relay sends a line, and behind it what the customer hands over, up to its end. The answer is
frames: a letter, the size in four bytes, so many bytes. :data:`EXIT` is the last of them, with the
exit code in one byte.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

OUT, ERROR, EXIT = b"O", b"E", b"X"
_LARGEST = 64 << 10


def send(connection: socket.socket, kind: bytes, data: bytes) -> None:
    """Sends data, in several frames where they are large."""
    for start in range(0, len(data) or 1, _LARGEST):
        part = data[start : start + _LARGEST]
        connection.sendall(kind + len(part).to_bytes(4, "big") + part)


def received(connection: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """The frames of an answer, up to the last. ConnectionError for what is no answer."""
    while head := _exactly(connection, 5):
        kind, size = head[:1], int.from_bytes(head[1:], "big")
        if kind not in (OUT, ERROR, EXIT) or size > _LARGEST:
            raise ConnectionError("the answer cannot be understood")
        yield kind, _exactly(connection, size)
        if kind == EXIT:  # whoever answered did not read everything, and what comes now is an error
            return


def _exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes; none where the connection has ended instead of beginning with them."""
    data = bytearray()
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more and data:
            raise ConnectionError("the answer broke off")
        if not more:
            break
        data += more
    return bytes(data)

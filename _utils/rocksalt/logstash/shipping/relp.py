"""RELP, the protocol in which a log server says of each line that it has it: bytes in, frames out.

A frame is ``number command length data`` and a newline; a length of 0 has no data. Numbers go from
1 to 999,999,999 and start again; 0 is what a server says without being asked.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rocksalt import __version__
from rocksalt.errors import RocksaltError

OFFER = (
    f"relp_version=0\nrelp_software=rocksalt-ship,{__version__},rocksalt\ncommands=syslog"
).encode()
OPEN, SYSLOG, CLOSE, ANSWER, FAREWELL = "open", "syslog", "close", "rsp", "serverclose"
LAST = 999_999_999
LONGEST = 65_536
"""Bytes of an answer; servers say much less."""
_HEAD = re.compile(rb"(\d{1,9}) ([A-Za-z]{1,32}) (\d{1,9})([ \n])")
_HEAD_LENGTH = 9 + 1 + 32 + 1 + 9 + 1
_OK = b"200"


class Garbled(RocksaltError):
    """What the other side says is no RELP."""


class Frame(NamedTuple):
    """A message; ``number`` is that of the question which an answer belongs to."""

    number: int
    command: str
    data: bytes

    @property
    def accepted(self) -> bool:
        """Whether an answer is a yes."""
        return self.command == ANSWER and self.data[:3] == _OK


def encode(number: int, command: str, data: bytes = b"") -> bytes:
    """The bytes of a frame."""
    if not data:
        return b"%d %s 0\n" % (number, command.encode())
    return b"%d %s %d %s\n" % (number, command.encode(), len(data), data)


def following(number: int) -> int:
    """The number after another one."""
    return number + 1 if number < LAST else 1


class Parser:
    """Takes bytes as they come and gives the frames that are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that end in ``data``; :class:`Garbled` where there is something else."""
        self._buffer += data
        found: list[Frame] = []
        start = 0
        while (end := self._frame(start, found)) > start:
            start = end
        del self._buffer[:start]
        return found

    def _frame(self, start: int, found: list[Frame]) -> int:
        """Where the frame ends that begins at ``start``; ``start`` where it is not complete."""
        head = _HEAD.match(self._buffer, start)
        if not head:
            rest = bytes(self._buffer[start : start + _HEAD_LENGTH])
            if len(rest) == _HEAD_LENGTH or b"\n" in rest:
                raise Garbled(f"what it says is no RELP: {rest[:32]!r}")
            return start
        number, command, length = int(head[1]), head[2].decode(), int(head[3])
        if length > LONGEST or (length > 0) != (head[4] == b" "):
            raise Garbled(f"what it says is no RELP: {head[0]!r}")
        end = head.end() + length
        if not length:
            found.append(Frame(number, command, b""))
            return end
        if len(self._buffer) <= end:
            return start
        if self._buffer[end] != 0x0A:
            raise Garbled(f"what it says is no RELP: frame {number} has no end")
        found.append(Frame(number, command, bytes(self._buffer[head.end() : end])))
        return end + 1

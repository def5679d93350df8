"""How much of a witness one log server may have, so that it stops that of no other."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import syslog
import time
from pathlib import Path

from rocksalt.backup import names
from rocksalt.errors import Refused
from rocksalt.logstash.receiving import files

EVERY = 20.0
"""Seconds in which a client may have one new entry, and what it did not use it may use later."""
BACKLOG = 2000
"""Entries that a client may have at once."""
MONTHLY = 1 << 30
"""Bytes that a client may have kept in a month, where it has few hosts."""
HOSTLY = 8 << 20
"""Bytes for each of its hosts, where that is more: 133 bytes each minute are 6 MB."""
PATIENCE = 10.0
"""Seconds for which a session waits until another one of its client ends."""
_AHEAD = 3600.0
"""Seconds for which what was noted may be of a time to come."""
_FILE = "taken.json"


class Taken:
    """How many entries the client of a folder may have now, and how many bytes it had this month;
    ``now`` is the time by the clock of the witness.
    """

    def __init__(self, folder: Path, now: dt.datetime):
        self._path, self._time = folder / _FILE, now.timestamp()
        self._month = names.utc(now)[:7]
        try:
            found = json.loads(self._path.read_bytes())
            passed = self._time - float(found["time"])
            if passed < -_AHEAD:
                raise ValueError("a clock that was wrong")
            passed = max(0.0, passed)
            self._entries = min(BACKLOG, float(found["entries"]) + passed / EVERY)
            self._bytes = int(found["bytes"]) if found["month"] == self._month else 0
        except FileNotFoundError:
            self._entries, self._bytes = float(BACKLOG), 0
        except (ValueError, LookupError, TypeError):
            syslog.syslog(syslog.LOG_WARNING, f"{self._path} was damaged and is made anew")
            self._entries, self._bytes = 1.0, 0

    def judge(self, hosts: int = 0) -> None:
        """:class:`Refused` where an entry is one too many for a client of so many hosts."""
        most = max(MONTHLY, hosts * HOSTLY)
        if self._entries < 1:
            raise Refused(f"too many entries: one in {EVERY:.0f} s, or {BACKLOG} after a pause")
        if self._bytes >= most:
            raise Refused(
                f"{self._bytes >> 20} MiB of entries in {self._month}: {most >> 20} MiB a month "
                "are kept for a log server with so many hosts"
            )

    def add(self, size: int) -> None:
        """Counts one that was taken."""
        found = {
            "time": self._time, "entries": self._entries - 1,
            "month": self._month, "bytes": self._bytes + size,
        }  # fmt: skip
        files.replace(self._path, json.dumps(found).encode("ascii"))


def locked(folder: Path) -> int:
    """A lock on the folder of a client; :class:`Refused` where others hold it for too long."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(folder / ".lock", flags, 0o640)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(descriptor)
                raise Refused(
                    f"busy: another session of {folder.name} has not ended for {PATIENCE:.0f} s"
                ) from None
            time.sleep(0.1)

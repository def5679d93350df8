"""When people last logged in and called something, from the lines that the door writes."""

from __future__ import annotations

import datetime as dt
import glob
import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

LOG = "/var/log/salt/rocksalt-api.jsonl"


@dataclass
class Uses:
    """What a log says. ``begins`` is the time of its first line; without one nobody can be said to
    have used nothing, and ``why`` is the reason.
    """

    begins: dt.datetime | None = None
    why: str = ""
    logins: dict[str, dt.datetime] = field(default_factory=dict)
    calls: dict[str, dict[str, dt.datetime]] = field(default_factory=dict)
    damaged: int = 0

    def add(self, line: dict[str, Any], time: dt.datetime) -> None:
        """Takes a line of the log in."""
        self.begins = min(self.begins or time, time)
        user, fun = str(line.get("user")), line.get("fun")
        if line.get("event") == "login":
            self.logins[user] = max(self.logins.get(user, time), time)
        elif line.get("event") == "call" and isinstance(fun, str):
            calls = self.calls.setdefault(user, {})
            calls[fun] = max(calls.get(fun, time), time)

    def last(self, user: str) -> dt.datetime | None:
        """The last sign of somebody."""
        times = [*self.calls.get(user, {}).values()]
        if user in self.logins:
            times.append(self.logins[user])
        return max(times, default=None)


def read(path: str = LOG) -> Uses:
    """The log, and those that rotation moved away from beside it."""
    uses = Uses()
    files = sorted(glob.glob(f"{glob.escape(path)}*"))
    try:
        for file in files:
            with gzip.open(file, "rb") if file.endswith(".gz") else open(file, "rb") as lines:
                _take(uses, lines)
    except (OSError, EOFError) as error:
        return Uses(why=f"{file} cannot be read: {error}")
    if not files:
        uses.why = f"there is no {path}"
    elif uses.begins is None:
        uses.why = f"{path} has no line"
    return uses


def _take(uses: Uses, lines: Iterable[bytes]) -> None:
    for line, time in _parsed(lines):
        if line is None or time is None:
            uses.damaged += 1
        else:
            uses.add(line, time)


def _parsed(lines: Iterable[bytes]) -> Iterator[tuple[dict[str, Any] | None, dt.datetime | None]]:
    for text in lines:
        try:
            line = json.loads(text)
            time = dt.datetime.fromisoformat(line["time"])
            yield (line, time) if time.tzinfo else (None, None)
        except (ValueError, TypeError, KeyError):
            yield None, None

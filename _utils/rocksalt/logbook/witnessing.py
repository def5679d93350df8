"""Whether the witness sees the book each minute; the book itself says where it does not."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from rocksalt.backup import names
from rocksalt.logbook.checking import GAP
from rocksalt.logbook.records import Record, told


class Watch:
    """``status`` is the file in which the program that asks the witness says what came of it."""

    def __init__(self, status: Path, clock: Callable[[], dt.datetime]):
        self._status, self._clock = status, clock
        self._since: str | None = None
        """Since when it is late, if it is."""

    def look(self) -> Iterator[Record]:
        """A record when it begins to be late, and one when it is seen again."""
        until, why = self._known()
        now = self._clock()
        late = not until or now - until > GAP
        if late and self._since is None:
            self._since = told(until) if until else "the beginning"
            yield _record("unwitnessed", now, since=self._since, why=why or "it was not asked")
        elif not late and self._since is not None:
            yield _record("witnessed", now, since=self._since)
            self._since = None

    def _known(self) -> tuple[dt.datetime | None, str]:
        try:
            found = json.loads(self._status.read_bytes())
            until = found["witnessed_until"]
            return names.parsed(until) if until else None, str(found.get("error") or "")
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            return None, f"{self._status} cannot be read: {error}"


def _record(kind: str, now: dt.datetime, **more: str) -> Record:
    return {"time": told(now), "kind": kind, **more, "event.id": f"{kind}/{told(now)}"}

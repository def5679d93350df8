"""The story in the book: records that fit, in the order of their times, and a sentence for each."""

from __future__ import annotations

import datetime as dt
import fnmatch
import heapq
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocksalt.errors import Refused
from rocksalt.logbook.book import read
from rocksalt.logbook.records import Record, told
from rocksalt.logbook.sentences import sentence
from rocksalt.logstash.receiving import files

LIMIT, MOST, LARGEST = 1000, 10_000, 16 << 20
"""Records that are told, unless more are asked for; the most that can be, and their bytes, for all
of it goes over the master's bus.
"""
_AGO = re.compile(r"(?P<count>\d+)(?P<unit>[smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_BEFORE = dt.timedelta(days=1)
"""So much earlier jobs are looked up whose returns are asked for."""
_JOBS = 100_000
_NOISE = "saltutil.find_job"
"""What Salt asks by itself while somebody waits."""


@dataclass(frozen=True)
class Filter:
    """What is asked for: names may have * and ?, empty is all. Times are those of records; what is
    about no job (a gap, a changed file) fits where neither ``user`` nor ``tgt`` nor ``fun`` is.
    """

    user: str = ""
    since: str = ""
    until: str = ""
    tgt: str = ""
    fun: str = ""

    def fits(self, record: Mapping[str, Any], job: Mapping[str, Any]) -> bool:
        """Whether a record does; ``job`` is the one that it belongs to, empty for none."""
        time = str(record.get("time", ""))
        if (self.since and time < self.since) or (self.until and time > self.until):
            return False
        user = str(record.get("user") or job.get("user") or "")
        function = str(record.get("fun", ""))
        if function == _NOISE and not self.fun:
            return False
        return (
            (not self.user or any(fnmatch.fnmatchcase(it, self.user) for it in _people(user)))
            and (not self.fun or _named(function, self.fun))
            and (not self.tgt or any(fnmatch.fnmatchcase(it, self.tgt) for it in _hosts(record)))
        )


def moment(text: object, now: dt.datetime) -> str:
    """What a person says for a time, as records have it: ``2h`` (that long ago; s, m, h, d, w), a
    date, or a time (UTC, unless it says an offset). :class:`Refused` for anything else.
    """
    said = str(text or "").strip()
    if not said:
        return ""
    if ago := _AGO.fullmatch(said):
        return told(now - dt.timedelta(**{_UNITS[ago["unit"]]: int(ago["count"])}))
    try:
        found = dt.datetime.fromisoformat(said.replace("Z", "+00:00"))
    except ValueError:
        raise Refused(
            f"{said!r} is no time: say 2h, 2026-11-23 or 2026-11-23T08:00 (UTC)"
        ) from None
    return told(found if found.tzinfo else found.replace(tzinfo=dt.timezone.utc))


def play(folder: Path, asked: Filter, limit: int = LIMIT) -> dict[str, Any]:
    """What fits of the book in a folder, the last ``limit`` records of it: ``records``, the
    ``story`` (a sentence for each), how many ``earlier`` ones were left out.
    """
    kept: list[tuple[str, int, int, Record, Record]] = []
    count = held = 0
    jobs: OrderedDict[str, Record] = OrderedDict()
    for number, (size, record) in enumerate(_records(folder, asked.since)):
        jid = str(record.get("jid") or "")
        if _is_call(record) and jid not in jobs:
            jobs[jid] = {"user": record.get("user")}
            if len(jobs) > _JOBS:
                jobs.popitem(last=False)
        job = jobs.get(jid, {})
        if asked.fits(record, job):
            count += 1
            heapq.heappush(kept, (str(record.get("time", "")), number, size, record, job))
            held += size
            while len(kept) > limit or (held > LARGEST and len(kept) > 1):
                held -= heapq.heappop(kept)[2]
    kept.sort(key=lambda it: it[:2])
    return {
        "story": [sentence(record, job) for *_, record, job in kept],
        "records": [record for *_, record, _ in kept],
        "earlier": count - len(kept),
    }


def _records(folder: Path, since: str) -> Iterator[tuple[int, Record]]:
    """Records that may be of a time, with their bytes, in the order in which they were kept. A
    record is kept after its time.
    """
    first = ""
    if since:
        time = dt.datetime.fromisoformat(since.replace("Z", "+00:00"))
        first = (time - _BEFORE).date().isoformat()
    for path in files.days(folder):
        if files.day(path) < first:
            continue
        with files.opened(path) as file:
            for line in file:
                if record := read(line):
                    yield len(line), record


def _is_call(record: Mapping[str, Any]) -> bool:
    """Whether it says whose a job is. What was refused is nobody's: any minion can say so."""
    kind, is_other = record.get("kind"), "refused" in record or record.get("conflict")
    return kind in ("job", "runner", "wheel") and not is_other


def _named(function: str, pattern: str) -> bool:
    names = {function, *function.split(","), function.partition(".")[2]}
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _people(user: str) -> list[str]:
    """Who that is: with sudo, Salt says so before the name."""
    return [user, user.removeprefix("sudo_")]


def _hosts(record: Mapping[str, Any]) -> list[str]:
    """The minions that a record is about, and the target as it was written."""
    tgt = record.get("tgt")
    targets = [*map(str, tgt)] if isinstance(tgt, list) else [str(tgt)] if tgt else []
    own = [str(record["minion"])] if record.get("minion") else []
    return [*own, *map(str, record.get("minions") or ()), *targets]

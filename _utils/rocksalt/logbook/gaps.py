"""What the bus told while nobody listened, from the master's job cache.

The cache has jobs, returns and runners. Wheel calls and keys are not in it, and what happened to
those is missing; lines of the API and changes of files are found by those who follow them.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import salt.minion
import salt.utils.jid

from rocksalt.logbook import records
from rocksalt.logbook.arguments import Arguments
from rocksalt.logbook.book import Book
from rocksalt.logbook.records import Record

MARGIN = dt.timedelta(minutes=65)
"""So much before a gap the cache is looked through: events may have waited for the book, and in
autumn numbers of jobs, which are local times, go back by an hour.
"""
_JID = "%Y%m%d%H%M%S%f"
_CLIENTS = ("runner", "wheel")


class Cache:
    """The job cache of the master with these options, through its returner."""

    def __init__(self, opts: Mapping[str, Any]):
        self._opts = opts
        minion = salt.minion.MasterMinion(opts, states=False, rend=False, matcher=False)
        self._ask: dict[str, Callable[..., Any]] = {
            name: minion.returners[f"{opts['master_job_cache']}.{name}"]
            for name in ("get_jids", "get_load", "get_jid")
        }

    def jobs(self, since: str) -> list[str]:
        """Numbers of all jobs from a time of a record on, in their order."""
        time = dt.datetime.fromisoformat(since.replace("Z", "+00:00"))
        bound = (time if self._opts.get("utc_jid") else time.astimezone()).strftime(_JID)
        return sorted(str(jid) for jid in self._ask["get_jids"]() if str(jid) >= bound)

    def load(self, jid: str) -> dict[str, Any]:
        """What was asked for."""
        return dict(self._ask["get_load"](jid) or {})

    def returns(self, jid: str) -> dict[str, dict[str, Any]]:
        """What came back, by minion."""
        found = self._ask["get_jid"](jid) or {}
        return {str(minion): it for minion, it in found.items() if isinstance(it, dict)}

    def started(self, jid: str) -> str | None:
        """The time in the number of a job."""
        try:
            found = dt.datetime.strptime(jid[:20], _JID)
        except ValueError:
            return None
        utc = dt.timezone.utc if self._opts.get("utc_jid") else None
        return records.told(found.replace(tzinfo=utc) if utc else found.astimezone())

    def ended(self, jid: str, minion: str) -> str | None:
        """When a return was written, where the cache is the one of files; else when it began."""
        with contextlib.suppress(OSError, KeyError, TypeError):
            if self._opts["master_job_cache"] == "local_cache":
                top = os.path.join(self._opts["cachedir"], "jobs")
                folder = salt.utils.jid.jid_dir(jid, top, self._opts["hash_type"])
                state = os.stat(os.path.join(folder, minion, "return.p"))
                return records.told(dt.datetime.fromtimestamp(state.st_mtime, dt.timezone.utc))
        return self.started(jid)


def fill(book: Book, cache: Cache, since: str, arguments: Arguments) -> dict[str, int]:
    """Keeps what is in the cache and not in the book: jobs from ``since`` on, and returns of those
    before it. How many of each kind there were.
    """
    counts: dict[str, int] = {}
    for jid in _candidates(book, cache, since):
        if book.memory.is_complete(jid):
            continue
        for record in found(jid, cache, arguments):
            if _is_known(book, record):
                continue
            if book.add({**record, "filled": True}):
                counts[record["kind"]] = counts.get(record["kind"], 0) + 1
    return counts


def found(jid: str, cache: Cache, arguments: Arguments) -> Iterator[Record]:
    """The records of a job in the cache, in their order."""
    load = cache.load(jid)
    client = str(load.get("fun", "")).partition(".")[0]
    inner = load.get("return")
    if client in _CLIENTS and isinstance(inner, Mapping):
        yield {**records.called(client, "new", jid, inner, arguments), "time": cache.started(jid)}
        yield records.called(client, "ret", jid, inner, arguments)
        return
    own = load.get("cmd") == "_return"
    if load and not own:
        asked = {**load, "minions": load.get("Minions")}
        yield {**records.job(jid, asked, arguments), "time": cache.started(jid)}
    answers = []
    for minion, answer in cache.returns(jid).items():
        said = {**(load if own else {"fun": load.get("fun")}), **answer}
        record = records.returned(jid, minion, said, arguments)
        answers.append({**record, "time": cache.ended(jid, minion)})
    yield from sorted(answers, key=lambda it: (it["time"] or "", it["minion"]))


def _candidates(book: Book, cache: Cache, since: str) -> list[str]:
    """What was read of the book tells of no job that is older than its reach."""
    early = records.told(dt.datetime.fromisoformat(since.replace("Z", "+00:00")) - MARGIN)
    jobs = cache.jobs(max(early, book.reach))
    return sorted({*book.memory.pending(), *jobs})


def _is_known(book: Book, record: Record) -> bool:
    return record["kind"] == "job" and f"job/{record['jid']}" in book.memory.known

"""What the bus told while nobody listened, from the master's job cache.

The cache has jobs, returns and runners. Wheel calls and keys are not in it, and what happened to
those is missing; lines of the API and changes of files are found by those who follow them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt.logbook import records
from rocksalt.logbook.arguments import Arguments
from rocksalt.logbook.book import Book
from rocksalt.logbook.jobcache import UNREAD, Cache
from rocksalt.logbook.records import Record

MARGIN = dt.timedelta(minutes=65)
"""So much before a gap the cache is looked through: events may have waited for the book, and in
autumn numbers of jobs, which are local times, go back by an hour.
"""
_CLIENTS = ("runner", "wheel")
_ANSWER = ("return", "retcode", "success")


def fill(book: Book, cache: Cache, since: str, arguments: Arguments) -> Iterator[dict[str, int]]:
    """Keeps what is in the cache and not in the book: jobs from ``since`` on, and returns of those
    before it. After each job: how many of each kind there were so far.
    """
    counts: dict[str, int] = {}
    for jid in _candidates(book, cache, since):
        if not book.memory.is_complete(jid):
            for record in _found(jid, cache, arguments):
                if not _is_known(book, record) and book.add({**record, "filled": True}):
                    counts[record["kind"]] = counts.get(record["kind"], 0) + 1
        yield counts
    for why in cache.lost():
        if book.add(records.odd("job cache", {}, why)):
            counts["odd"] = counts.get("odd", 0) + 1
    yield counts


def _found(jid: str, cache: Cache, arguments: Arguments) -> Iterator[Record]:
    try:
        yield from found(jid, cache, arguments)
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        # Minions wrote into it: no job may hide those after it.
        yield records.odd(f"job/{jid}", {}, f"{type(error).__name__}: {error}"[:300])


def found(jid: str, cache: Cache, arguments: Arguments) -> Iterator[Record]:
    """The records of a job in the cache, in their order."""
    load = cache.load(jid)
    why = load.pop(UNREAD, "") or ("" if "fun" in load or not load else "it has no function")
    if why:
        yield {**records.odd(f"job/{jid}", {}, str(why)), "jid": jid, "time": cache.started(jid)}
    client = str(load.get("fun", "")).partition(".")[0]
    inner = load.get("return")
    # A runner has none; what minions send has, whatever else they say.
    own = load.get("cmd") == "_return"
    if client in _CLIENTS and isinstance(inner, Mapping) and "cmd" not in load:
        yield {**records.called(client, "new", jid, inner, arguments), "time": cache.started(jid)}
        yield records.called(client, "ret", jid, inner, arguments)
        return
    if "fun" in load and not own:
        asked = {**load, "minions": load.get("Minions")}
        yield {**records.job(jid, asked, arguments), "time": cache.started(jid)}
    sender = str(load.get("id")) if own else ""
    answers: dict[str, Record] = {}

    def take(minion: str, answer: Mapping[str, Any]) -> None:
        said = {**(load if own and minion == sender else {"fun": load.get("fun")}), **answer}
        record = records.returned(jid, minion, said, arguments)
        if UNREAD in answer:
            record = {**record, "success": None, "retcode": None, UNREAD: answer[UNREAD]}
        answers[minion] = {**record, "time": cache.ended(jid, minion)}

    for minion, answer in cache.returns(jid):
        take(minion, answer)
    if own and sender not in answers:
        # Its own return is in what it sent as well.
        take(sender, {key: load[key] for key in _ANSWER if key in load})
    yield from sorted(answers.values(), key=lambda it: (it["time"] or "", it["minion"]))


def _candidates(book: Book, cache: Cache, since: str) -> list[str]:
    """What was read of the book tells of no job that is older than its reach. A time that is to
    come was told by a clock that went wrong, and nobody knows how long before.
    """
    early = ""
    if since <= book.time():
        early = records.told(dt.datetime.fromisoformat(since.replace("Z", "+00:00")) - MARGIN)
    jobs = cache.jobs(max(early, book.reach))
    return sorted({*book.memory.pending(), *jobs})


def _is_known(book: Book, record: Record) -> bool:
    return record["kind"] == "job" and f"job/{record['jid']}" in book.memory.known

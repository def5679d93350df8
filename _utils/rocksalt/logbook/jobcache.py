"""The job cache of the master, read so that nothing in it can hold up who reads it."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import salt.minion
import salt.utils.jid

from rocksalt.errors import RocksaltError
from rocksalt.logbook import packed, records

PATIENCE = 60.0
"""Seconds for what a returner of Salt is asked."""
UNREAD = "unread"
"""In what is given instead of what cannot be read: why not."""
_JID = "%Y%m%d%H%M%S%f"
_NUMBER = re.compile(r"[\w.-]{1,80}")
_LOAD, _MINIONS, _RETURN = ".load.p", ".minions.p", "return.p"
_OF_SYNDIC = re.compile(r"\.minions\..+\.p")
_FILES = "local_cache"


class Cache:
    """That of the master with these options: its files, or another one through its returner."""

    def __init__(self, opts: Mapping[str, Any]):
        self._opts = opts
        self._reads = _Files(opts) if opts["master_job_cache"] == _FILES else _Returner(opts)

    def jobs(self, since: str) -> list[str]:
        """Numbers of all jobs from a time of a record on, in their order; of all for no time."""
        bound = ""
        if since:
            time = dt.datetime.fromisoformat(since.replace("Z", "+00:00"))
            bound = (time if self._opts.get("utc_jid") else time.astimezone()).strftime(_JID)
        return sorted(jid for jid in self._reads.jobs() if jid >= bound)

    def load(self, jid: str) -> dict[str, Any]:
        """What was asked for; with ``unread`` where all or some of it cannot be read."""
        return self._reads.load(jid)

    def returns(self, jid: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The minions that answered and what came back, with ``unread`` instead of what cannot be
        read; one after the other, as together they may be more than fits into memory.
        """
        return self._reads.returns(jid)

    def lost(self) -> list[str]:
        """Jobs without a number that can be read: what is wrong with each."""
        return self._reads.lost

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
        return self._reads.ended(jid, minion) or self.started(jid)


class _Files:
    """The cache that Salt keeps in files, which is its default."""

    def __init__(self, opts: Mapping[str, Any]):
        self._top = os.path.join(opts["cachedir"], "jobs")
        self._hash = opts["hash_type"]
        self.lost: list[str] = []

    def jobs(self) -> Iterator[str]:
        self.lost = []
        for folder in (it for top in _folders(self._top) for it in _folders(top)):
            unread: list[str] = []
            if jid := self._number(folder, unread):
                yield jid
            elif unread:
                self.lost.append(f"{folder} is of no known job: {unread[0]}")

    def load(self, jid: str) -> dict[str, Any]:
        folder, unread = self._folder(jid), list[str]()
        given = _read(os.path.join(folder, _LOAD), unread)
        if given is not None and not isinstance(given, dict):
            unread.append(f"{_LOAD} has no job")
        load = given if isinstance(given, dict) else {}
        load.pop(UNREAD, None)
        minions: set[str] = set()
        for name in _names(folder):
            if name == _MINIONS or _OF_SYNDIC.fullmatch(name):
                there = _read(os.path.join(folder, name), unread)
                minions |= {str(it) for it in there} if isinstance(there, list) else set()
        if minions:
            load["Minions"] = sorted(minions)
        return {**load, UNREAD: "; ".join(unread)} if unread else load

    def returns(self, jid: str) -> Iterator[tuple[str, dict[str, Any]]]:
        folder = self._folder(jid)
        for name in _names(folder):
            path = os.path.join(folder, name, _RETURN)
            if not name.startswith(".") and os.path.lexists(path):
                unread: list[str] = []
                said = _read(path, unread)
                known = said if isinstance(said, dict) and "return" in said else {"return": said}
                known.pop(UNREAD, None)
                yield name, {UNREAD: unread[0]} if unread else known

    def ended(self, jid: str, minion: str) -> str | None:
        with contextlib.suppress(OSError, ValueError):
            state = os.stat(os.path.join(self._folder(jid), minion, _RETURN))
            return records.told(dt.datetime.fromtimestamp(state.st_mtime, dt.timezone.utc))
        return None

    def _number(self, folder: str, unread: list[str]) -> str:
        """The number of the job in a folder, which is named by it. Salt keeps it in a file of its
        own, but for a job that only a minion knew.
        """
        found = ""
        with contextlib.suppress(OSError):
            found = packed.content(os.path.join(folder, "jid"), 100).decode(errors="replace")
        if not self._is_of(found, folder):
            load = _read(os.path.join(folder, _LOAD), unread)
            found = str(load.get("jid")) if isinstance(load, dict) else ""
            if load is not None and not self._is_of(found, folder):
                unread.append("it has another number")
        return found if self._is_of(found, folder) else ""

    def _is_of(self, jid: str, folder: str) -> bool:
        return _NUMBER.fullmatch(jid) is not None and self._folder(jid) == folder

    def _folder(self, jid: str) -> str:
        return str(salt.utils.jid.jid_dir(jid, self._top, self._hash))


class _Returner:
    """Another one. An answer that does not come in time ends it, not who asked."""

    def __init__(self, opts: Mapping[str, Any]):
        self.lost: list[str] = []
        minion = salt.minion.MasterMinion(opts, states=False, rend=False, matcher=False)
        self._ask: dict[str, Callable[..., Any]] = {
            name: minion.returners[f"{opts['master_job_cache']}.{name}"]
            for name in ("get_jids", "get_load", "get_jid")
        }

    def jobs(self) -> Iterator[str]:
        return map(str, self._answer("get_jids") or ())

    def load(self, jid: str) -> dict[str, Any]:
        return dict(self._answer("get_load", jid) or {})

    def returns(self, jid: str) -> Iterator[tuple[str, dict[str, Any]]]:
        found = self._answer("get_jid", jid) or {}
        return ((str(minion), it) for minion, it in found.items() if isinstance(it, dict))

    def ended(self, *_: str) -> str | None:
        return None

    def _answer(self, name: str, *given: str) -> Any:
        found: list[Any] = []

        def ask() -> None:
            try:
                found.append(self._ask[name](*given))
            except Exception as error:
                found.append(RocksaltError(f"{type(error).__name__}: {error}"))

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(PATIENCE)
        answer = found[0] if found else RocksaltError(f"{name} took longer than {PATIENCE} s")
        if isinstance(answer, RocksaltError):
            raise answer
        return answer


def _read(path: str, unread: list[str]) -> Any:
    try:
        return packed.load(path)
    except FileNotFoundError:
        return None
    except packed.Unread as error:
        unread.append(f"{os.path.basename(path)}: {error}")
    except OSError as error:
        unread.append(f"{os.path.basename(path)}: {error.strerror}")
    return None


def _names(folder: str) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(os.listdir(folder))
    return []


def _folders(top: str) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError), os.scandir(top) as entries:
        yield from [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]

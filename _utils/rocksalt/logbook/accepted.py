"""Keys of minions that are accepted although nobody said so: a key that salt-key or wheel accepts
is told on the event bus; one that was put into the folder, or accepted unasked, is not.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rocksalt.backup.manifest import canonical
from rocksalt.logbook import watching
from rocksalt.logbook.records import Record, moment, told
from rocksalt.logstash.receiving import files

KEPT = "keys.json"
GRACE = dt.timedelta(seconds=10)
"""Between a key that is there and the event about it."""
_IN_FILES, _FOUND = "localfs_key", "found"
_CHANGED = 1
"""Where the state of a file has when it was changed, in ns."""


def folder(opts: Mapping[str, Any]) -> str:
    """Where the accepted keys of a master are; empty where that is no folder of its own: the other
    masters of a cluster tell its bus nothing.
    """
    elsewhere = opts.get("cluster_id") or opts.get("keys.cache_driver", _IN_FILES) != _IN_FILES
    return "" if elsewhere or not opts.get("pki_dir") else os.path.join(opts["pki_dir"], "minions")


class Keys:
    """The accepted keys in a folder, and the file that has which of them somebody accepted. What is
    there at the first look is taken as it is.
    """

    def __init__(self, folder: str, kept: Path, clock: Callable[[], dt.datetime]):
        self._folder, self._kept, self._clock = folder, kept, clock
        self._lock = threading.Lock()
        self._looked, self._known = _loaded(kept)
        self._said: set[str] = set()
        self._tree: watching.Tree = {}

    def note(self, record: Mapping[str, Any]) -> None:
        """Somebody decided on a key."""
        minion, act = str(record.get("minion")), record.get("act")
        if record.get("kind") != "key" or act == _FOUND or not record.get("success"):
            return
        with self._lock:
            (self._said.add if act == "accept" else self._said.discard)(minion)

    def replay(self, records: Iterable[Mapping[str, Any]]) -> None:
        """The same of what the book has, as far as it came after the last look."""
        for record in records:
            if str(record.get("time")) >= self._looked:
                self.note(record)

    def look(self) -> list[Record]:
        """A record for each key that is there with nobody's word."""
        if not self._folder:
            return []
        until, first = self._clock() - GRACE, not self._looked
        self._tree = watching.files_of(self._folder, self._tree)
        there = {
            name: state for path, state in self._tree.items()
            if not (name := os.path.basename(path)).startswith(".")
        }  # fmt: skip
        settled = {
            name: str(state[-1]) for name, state in there.items()
            if first or state[_CHANGED] <= until.timestamp() * 1e9
        }  # fmt: skip
        with self._lock:
            said = {name for name in self._said if name in settled or name not in there}
            self._said -= said
        known = {name: it for name, it in self._known.items() if name in there}
        known |= {name: it for name, it in settled.items() if first or name in said}
        self._known, self._looked = known, told(until)
        return [_found(name, it) for name, it in sorted(settled.items()) if known.get(name) != it]

    def keep(self) -> None:
        """Goes on from here after a restart, when the records are kept."""
        if self._folder:
            found = {"looked": self._looked, "known": self._known}
            files.replace(self._kept, canonical(found))


def _found(minion: str, digest: str) -> Record:
    return {
        "time": None, "kind": "key", "minion": minion, "act": _FOUND, "success": True,
        "key": digest[:16], "event.id": f"key/{minion}/found/{digest[:16]}",
    }  # fmt: skip


def _loaded(kept: Path) -> tuple[str, dict[str, str]]:
    try:
        found = json.loads(kept.read_bytes())
        looked = moment(found["looked"]) or ""
        return looked, {str(name): str(it) for name, it in found["known"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return "", {}

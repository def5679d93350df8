"""Accepted keys of minions of which the logbook has no record that anybody accepted them."""

from __future__ import annotations

import datetime as dt
import fnmatch
import hashlib
import os
from collections.abc import Iterator

from rocksalt import logbook
from rocksalt.access.facts import Facts
from rocksalt.logbook import accepted
from rocksalt.logstash import told

_KEYS = f"{logbook.STATE}/{accepted.KEPT}"
_SHAPE = {"looked": str, "known": {"*": str}}


def keys(it: Facts) -> list[str]:
    """Minions whose key is accepted, of which nothing says by whom, and which no setting names. One
    that is younger than the logbook's last look is not judged yet, nor is any without a logbook.
    """
    found = told.read(it.host, _KEYS, _SHAPE, "the logbook") if it.settings["logbook"] else {}
    if "looked" not in found or "known" not in found:
        return []
    until = dt.datetime.fromisoformat(found["looked"].replace("Z", "+00:00"))
    return [*_unrecorded(it, found["known"], until.timestamp())]


def _unrecorded(it: Facts, known: dict[str, str], until: float) -> Iterator[str]:
    declared = [*it.settings["minions"], *it.settings["masters"]]
    for path in it.host.glob(f"{it.pki}/minions/*"):
        name, text = os.path.basename(path), it.host.read(path)
        if text is None or os.stat(it.host.path(path)).st_ctime > until:
            continue
        digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
        named = any(fnmatch.fnmatchcase(name, pattern) for pattern in declared)
        if known.get(name) != digest and (name in known or not named):
            yield name

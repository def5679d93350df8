"""Accepted keys of minions of which the logbook has no record that anybody accepted them."""

from __future__ import annotations

import datetime as dt
import fnmatch
import hashlib
import os
from collections.abc import Iterator

from rocksalt import logbook
from rocksalt.access.facts import Facts
from rocksalt.logbook import accepted, packed
from rocksalt.logstash import told

_KEYS = f"{logbook.STATE}/{accepted.KEPT}"
_SHAPE = {"looked": str, "known": {"*": str}}
_LARGEST = 64 << 10
"""Bytes of a key that are read, of which it has a few hundred."""


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
        name, digest = os.path.basename(path), ""
        try:
            if os.lstat(it.host.path(path)).st_ctime > until:
                continue
            digest = hashlib.sha256(packed.content(str(it.host.path(path)), _LARGEST)).hexdigest()
        except FileNotFoundError:
            continue
        except OSError:
            pass  # the folder is the master's user's: what is no file is nobody's key
        named = any(fnmatch.fnmatchcase(name, pattern) for pattern in declared)
        if known.get(name) != digest and (name in known or not named):
            yield name

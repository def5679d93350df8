"""Entries of the journal as journalctl prints them, no matter how long they are."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from rocksalt.logstash.shipping import places
from rocksalt.logstash.shipping.datasets import plain
from rocksalt.logstash.shipping.journalctl import OMITTED

PROGRAM = "rocksalt-ship"
LONGEST = 1024 * 1024
"""Bytes of an entry as JSON; of the fields of one that is longer only the beginning is sent."""
LONGEST_FIELD = 256 * 1024


def parsed(line: bytes) -> dict[str, Any]:
    """An entry; of a long one the beginning of each field, with a word about what is left out."""
    with contextlib.suppress(ValueError):
        found = json.loads(line)
        if not isinstance(found, dict):
            return {}
        if OMITTED in found:
            return _omitted(plain(found.get("__CURSOR")), found[OMITTED])
        return _cut(found) if len(line) > LONGEST else found
    return {}


def _omitted(text: str, size: int) -> dict[str, Any]:
    place = places.cursor(text)
    return {
        "__CURSOR": text,
        "__REALTIME_TIMESTAMP": str(place.micros if place else 0),
        "MESSAGE": f"{PROGRAM}: this entry of the journal has {size} bytes and is left out",
        OMITTED: size,
    }


def _cut(entry: dict[str, Any]) -> dict[str, Any]:
    found, omitted = dict(entry), 0
    for name, value in entry.items():
        text = plain(value)
        left = len(text) - LONGEST_FIELD
        if left > 0:
            found[name] = f"{text[:LONGEST_FIELD]} [{PROGRAM}: {left} characters are left out]"
            omitted += left
    return {**found, OMITTED: omitted} if omitted else found

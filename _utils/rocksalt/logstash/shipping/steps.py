"""What a source of lines gives: one step further, and what has to be sent for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

JOURNAL = "journal"
"""The name of the journal as a source."""
NOTHING: Mapping[str, int] = {}


class Step(NamedTuple):
    """After all of ``lines`` are acknowledged, ``source`` is at ``position`` (JSON; None: it is at
    its end and will not come back). ``micros`` is the time of the line since 1970, ``counts`` what
    is missing before it, ``mark`` a word whose arrival somebody waits for: with ``probe``
    this program itself.
    """

    source: str
    position: Any
    lines: tuple[bytes, ...] = ()
    micros: int = 0
    counts: Mapping[str, int] = NOTHING
    mark: str = ""
    probe: bool = False

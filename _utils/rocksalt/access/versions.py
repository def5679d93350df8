"""Releases of Salt without a hole that is known in the master or its API.

Sources: the release notes of 3006.6, 3006.12 and 3006.17, the PyPI advisories PYSEC-2026-1898 and
PYSEC-2026-1902 for 3007, salt issue 69069 for 3008, and the dates of endoflife.date.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One line of releases: its first release without a known hole, the last day on which holes are
    closed (None while nobody has said), and what each release closed, the latest first.
    """

    least: int
    ends: dt.date | None
    closed: tuple[tuple[int, str], ...]


LINES = {
    3006: Line(
        17,
        dt.date(2027, 7, 31),
        (
            (17, "CVE-2025-62349: minions that use an old protocol to pass for others"),
            (12, "CVE-2024-38824 and CVE-2025-22237: minions that write and run on the master"),
            (6, "CVE-2024-22231 and CVE-2024-22232: files of the master that anybody reads"),
        ),
    ),
    3007: Line(
        9,
        dt.date(2026, 7, 31),
        (
            (9, "CVE-2025-62349: minions that use an old protocol to pass for others"),
            (4, "CVE-2024-38824 and CVE-2025-22236: minions that write on the master"),
        ),
    ),
    3008: Line(2, None, ((2, "salt issue 69069: secrets of the pillar that every user reads"),)),
}
SIGNING = {3006: 26, 3008: 3}
"""By line, the first release that is known to sign the very bytes that masters verify: salt issue
68181, closed by 3006.26. What those before signed, no master takes.
"""
_VERSION = re.compile(r"\b(\d{4})(?:\.(\d+))?")


def running() -> str:
    """The release of the Salt that runs this."""
    import salt.version

    return str(salt.version.__version__)


def number(text: str) -> tuple[int, int] | None:
    """The line and the release in what ``salt-master --version`` prints; None where there is none.

    >>> number("salt-master 3008.3 (Argon)")
    (3008, 3)
    """
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2] or 0)) if found else None


def hole(version: tuple[int, int], today: dt.date) -> str:
    """What is known to be wrong with a release, as a sentence; empty where nothing is.

    Raises :class:`LookupError` for a line that is newer than this table.
    """
    line, release = version
    name = f"Salt {line}.{release}"
    if line > max(LINES):
        raise LookupError(f"{name} is of a line that this baseline does not know; update it")
    known = LINES.get(line)
    newest = f"{max(LINES)}.{LINES[max(LINES)].least}"
    if known is None:
        return f"{name} is of a line whose holes nobody closes; install {newest} or later"
    if known.ends and today > known.ends:
        return f"nobody closes holes of {name} since {known.ends}; install {newest} or later"
    if release >= known.least:
        return ""
    found = "; ".join(what for fixed, what in known.closed if release < fixed)
    return f"{name} has known holes, install {line}.{known.least} or later: {found}"


def unverifiable(text: str) -> str:
    """Why no master can verify what a release signs; empty where it can, as in lines to come."""
    found = number(text)
    if found is None:
        return f"is of a release that nobody knows: {text[:40]!r}"
    line, release = found
    if line > max(SIGNING) or (line in SIGNING and release >= SIGNING[line]):
        return ""
    least = SIGNING.get(line, SIGNING[max(SIGNING)])
    newest = f"{line if line in SIGNING else max(SIGNING)}.{least}"
    return f"is of Salt {line}.{release}, which signs what no master verifies: install {newest}"

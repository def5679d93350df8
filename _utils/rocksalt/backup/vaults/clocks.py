"""The clocks of two hosts, on which retention, signatures and the order of snapshots depend."""

from __future__ import annotations

import datetime as dt

from rocksalt.backup import names
from rocksalt.backup.errors import VaultError

SKEW = 300
"""Seconds that they may be apart."""
REMEDY = "set the clock of this host right (NTP)"


def now() -> dt.datetime:
    """By the clock of this host."""
    return dt.datetime.now(dt.timezone.utc)


def compare(vault: str, there: dt.datetime, here: dt.datetime) -> None:
    """:class:`VaultError` where they are too far apart; ``vault`` is the subject."""
    apart = (there - here).total_seconds()
    if abs(apart) > SKEW:
        raise VaultError(
            f"{vault} has a clock that is {apart:+.0f} s off, {names.utc(there)} where this host"
            f" has {names.utc(here)}: {REMEDY}, or that of the vault"
        )

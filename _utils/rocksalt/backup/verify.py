"""Whether what a vault holds is what was signed: all of it, in order, and lately.

Nothing here needs a decryption key, trusts a vault or a master, or holds an archive in memory.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rocksalt.backup.manifest import Manifest
from rocksalt.backup.vaults import Reader


@dataclass(frozen=True)
class Pins:
    """Whom to believe, known beforehand and not from the vault: the instance, the public keys that
    sign its manifests, the offline authority of its recipients, and the keys of the vault's
    receiver and of hosts that report. Without receivers nobody but the master vouches for the past.
    """

    instance: str
    signers: tuple[str, ...]
    authority: str
    receivers: tuple[str, ...] = ()
    reporters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """What is wrong, with which snapshot (0: none in particular), and how bad: ``error`` is a loss
    or a lie, ``warning`` something to look after.
    """

    code: str
    sentence: str
    sequence: int = 0
    severity: str = "error"


@dataclass(frozen=True)
class Report:
    """The outcome for one vault. ``head`` is the SHA-256 of the newest manifest; ``digests`` those
    of all, by sequence; ``past`` warnings about what is over since more than a week;
    ``unwitnessed_since`` the time of the first snapshot that no pinned receiver vouches for,
    directly or by a later one.
    """

    vault: str
    instance: str
    time: str
    problems: tuple[Problem, ...]
    past: tuple[Problem, ...]
    snapshots: int
    newest: Manifest | None
    head: str
    digests: Mapping[int, str]
    archives_checked: int
    bytes_checked: int
    unwitnessed_since: str | None

    @property
    def ok(self) -> bool:
        """Whether there is no error; there may be warnings."""
        return not any(problem.severity == "error" for problem in self.problems)

    @property
    def code(self) -> int:
        """The exit code that says so: OK, WARNINGS or UNVERIFIED."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """For JSON and for the status file; without the digests."""
        raise NotImplementedError


def check(
    reader: Reader,
    pins: Pins,
    now: dt.datetime,
    deep: bool = True,
    expected: tuple[int, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    archives: bool = True,
) -> Report:
    """Everything that is wrong with what ``reader`` holds at the time ``now`` (with a time zone).

    ``deep`` reads and hashes every archive; otherwise their sizes have to do. ``expected`` is a
    snapshot that was seen before: its sequence and the SHA-256 of its manifest. ``archives`` is
    False for a witness, which keeps none. ``progress`` gets bytes done and bytes to do.
    :class:`Unreachable` where the vault does not answer; :class:`BackupError` for a pinned key that
    is none.
    """
    raise NotImplementedError


def across(reports: Sequence[Report]) -> list[Problem]:
    """What is wrong between vaults and witnesses of one instance, although each may be right."""
    raise NotImplementedError

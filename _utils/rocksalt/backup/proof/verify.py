"""Whether what a vault holds is what was signed: all of it, in order, and lately.

Nothing here needs a decryption key, trusts a vault or a master, or holds an archive in memory.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rocksalt.backup import errors, names
from rocksalt.backup.manifest import Manifest
from rocksalt.backup.proof import chain
from rocksalt.backup.proof.judge import Pins, Problem
from rocksalt.backup.proof.look import Look, unwitnessed
from rocksalt.backup.vaults import Reader

__all__ = ["Pins", "Problem", "Report", "across", "check", "vouched"]


@dataclass(frozen=True)
class Report:
    """The outcome for one vault. ``head`` is the SHA-256 of the newest manifest; ``digests`` those
    of all, and ``started`` their times, by sequence; ``past`` warnings about what was over more
    than a week ago; ``witnessed`` the newest snapshot for which a pinned receiver vouches, and so
    for all before it (0: none).
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
    witnessed: int
    started: Mapping[int, str] = field(default_factory=dict)

    @property
    def unwitnessed_since(self) -> str | None:
        """The time of the first snapshot for which nobody vouches; None where there is none."""
        return unwitnessed(self.started, self.witnessed)

    @property
    def ok(self) -> bool:
        """Whether there is no error; there may be warnings."""
        return not any(problem.severity == "error" for problem in self.problems)

    @property
    def code(self) -> int:
        """The exit code that says so: OK, WARNINGS or UNVERIFIED."""
        if not self.ok:
            return errors.UNVERIFIED
        return errors.WARNINGS if self.problems else errors.OK

    def as_dict(self) -> dict[str, Any]:
        """For JSON and for the status file: the fields, with ``newest`` cut down to what the chain
        is about, without those that hold something of every snapshot, and with the properties.
        """
        kept = ("sequence", "kind", "same_as", "started", "finished", "next")
        newest = self.newest and {key: getattr(self.newest, key) for key in kept}
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        del fields["digests"], fields["started"]
        fields["problems"] = [dataclasses.asdict(problem) for problem in self.problems]
        fields["past"] = [dataclasses.asdict(problem) for problem in self.past]
        fields.update(newest=newest, unwitnessed_since=self.unwitnessed_since)
        return {**fields, "ok": self.ok, "code": self.code}


def check(
    reader: Reader,
    pins: Pins,
    now: dt.datetime,
    deep: bool = True,
    expected: tuple[int, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    archives: bool = True,
    first: int | None = None,
) -> Report:
    """Everything that is wrong with what ``reader`` holds at the time ``now`` (with a time zone).

    ``deep`` reads and hashes every archive; otherwise their sizes have to do. ``expected`` is a
    snapshot that was seen before: its sequence and the SHA-256 of its manifest. ``archives`` is
    False for a witness, which keeps none. ``first`` is the snapshot with which this vault began, if
    the caller knows. ``progress`` gets bytes done and bytes to do.
    :class:`Unreachable` where the vault does not answer; :class:`BackupError` for a pinned key that
    is none.
    """
    look = Look(reader, pins, now)
    look.manifests()
    look.chain(expected, first)
    look.reports()
    look.versions()
    if archives:
        look.archives(deep, progress or (lambda done, total: None))
    look.leftovers(archives)
    look.freshness()
    return Report(
        vault=reader.name,
        instance=pins.instance,
        time=names.utc(now),
        problems=tuple(look.problems()),
        past=tuple(look.past()),
        snapshots=len(look.digests),
        newest=look.newest,
        head=look.head,
        digests=look.digests,
        started=look.started,
        archives_checked=look.archives_checked,
        bytes_checked=look.bytes_checked,
        witnessed=look.witnessed,
    )


def across(reports: Sequence[Report]) -> list[Problem]:
    """What is wrong between vaults and witnesses of one instance, although each may be right."""
    chains = {report.vault: report.digests for report in reports}
    problems = [
        Problem(fault.code, f"{fault.sentence}; compare both with a witness", fault.sequence)
        for fault in chain.differ(chains)
    ]
    foreign = sorted({report.instance for report in reports})
    if len(foreign) > 1:
        problems.append(Problem("foreign", f"the vaults are of several instances: {foreign}"))
    ahead = max(reports, key=lambda report: max(report.digests, default=0), default=None)
    for report in reports:
        have, there = (max(r.digests, default=0) for r in (report, ahead or report))
        if have < there and ahead:
            why = f"{report.vault} has snapshots up to #{have}, and {ahead.vault} up to #{there}"
            why += ": it catches up with the next run, or newer ones are withheld"
            problems.append(Problem("behind", why, have + 1, "warning"))
    return problems


def vouched(reports: Sequence[Report]) -> list[Report]:
    """The same reports, each with what the receivers of the other vaults vouch for: who vouches for
    a snapshot by its hash does so wherever it is kept.
    """
    found = []
    for report in reports:
        numbers = [
            other.witnessed
            for other in reports
            if other.instance == report.instance
            and other.digests.get(other.witnessed, "none") == report.digests.get(other.witnessed)
        ]
        best = max([report.witnessed, *numbers])
        found.append(dataclasses.replace(report, witnessed=best))
    return found

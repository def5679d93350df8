"""One snapshot: survey, pack, sign, commit locally, then deliver to every vault.

Where the clock is set back, the snapshot is taken all the same, with a warning, and says that it
was started a second after the one before it: times in a chain never run backwards.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rocksalt.backup import delivery, names, recipients, sources, status
from rocksalt.backup import progress as telling
from rocksalt.backup.building import Builder, NoRoom, Notes, sizes
from rocksalt.backup.delivery import Line
from rocksalt.backup.errors import (
    OK,
    WARNINGS,
    BackupError,
    Locked,
    Unreachable,
    Unverified,
)
from rocksalt.backup.manifest import Manifest
from rocksalt.backup.spool import Known, Spool
from rocksalt.backup.sshsig import Signer
from rocksalt.backup.vaults import Vault

QUIET = frozenset({"skipped"})
"""Kinds of warnings that are told and change no exit code: sockets exist only while they serve."""


@dataclass
class Result:
    """What a run did: ``code`` from :mod:`rocksalt.backup.errors`; ``kind`` is ``full`` or
    ``same``; ``vaults`` maps names to ``{"sequence", "time", "error", "receipt", "faults"}``;
    ``warnings`` are sentences with paths, which go nowhere but to the local status; ``archives``
    maps parts to ``{"size", "files", "bytes", "changed"}`` of the newest full, ``before`` those of
    the full before it.
    """

    code: int
    sequence: int
    kind: str
    vaults: dict[str, dict[str, Any]]
    warnings: list[str] = field(default_factory=list)
    archives: dict[str, dict[str, int]] = field(default_factory=dict)
    before: dict[str, dict[str, int]] = field(default_factory=dict)
    started: str = ""
    finished: str = ""
    next: str = ""
    reason: str = ""


def take(
    opts: Mapping[str, Any],
    settings: Mapping[str, Any],
    vaults: Sequence[Vault],
    signer: Signer,
    now: dt.datetime,
    progress: telling.Progress = telling.silent,
    force: bool = False,
    status_path: str = status.PATH,
) -> Result:
    """Takes a snapshot and brings every vault up to date, in order.

    ``force`` makes it a full one although nothing changed. :class:`Locked` while another run is at
    work. Any other :class:`BackupError` means that no snapshot was taken; it is recorded in the
    status, and the vaults were given what they still lacked.
    """
    run = _Run(opts, settings, vaults, signer, now, progress, status_path)
    try:
        with run.spool.locked():
            result = run.take(force)
            run.record(result)
    except Locked:
        raise
    except (BackupError, OSError) as error:
        failure = _explained(error, run.spool.path)
        run.record_failure(failure)
        raise failure from error
    return result


def _explained(error: Exception, spool: Path) -> BackupError:
    if isinstance(error, BackupError):
        return error
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return BackupError(f"the disk of the spool {spool} is full")
    return BackupError(f"{type(error).__name__}: {error}")


class _Run:
    """One run, while the spool is locked."""

    def __init__(self, opts: Mapping[str, Any], settings: Mapping[str, Any],
                 vaults: Sequence[Vault], signer: Signer, now: dt.datetime,
                 progress: telling.Progress, status_path: str):  # fmt: skip
        self.opts, self.settings, self.signer = opts, settings, signer
        self.began, self.clock = dt.datetime.now(dt.timezone.utc), now
        self.progress, self.status_path = progress, status_path
        self.instance: str = settings["instance"]
        self.spool = Spool(settings["spool"])
        configured = settings["vaults"]
        self.lines = [Line(v, configured.get(v.name, {}).get("archives", True)) for v in vaults]
        self.known: dict[str, Known] = {}
        self.notes = Notes()
        salt = str(opts.get("saltversion", ""))
        self.builder = Builder(
            settings, self.spool, signer, self.notes, progress, now, self.now, salt
        )

    def now(self) -> dt.datetime:
        """The time by the clock that this run was given."""
        return self.clock + (dt.datetime.now(dt.timezone.utc) - self.began)

    def take(self, force: bool) -> Result:
        for sentence in self.spool.heal():
            self.notes.warn("spool", sentence)
        self._ask()
        try:
            manifest = self._build(force)
        finally:  # what was taken before is delivered all the same
            self._deliver()
        return self._result(manifest)

    def _build(self, force: bool) -> Manifest:
        record = recipients.authorised(self.settings)
        plan = sources.plan(self.opts, self.settings, measure=False)
        for left in plan.missing:
            self.notes.warn("missing", f"{left.path} is not in the snapshot: {left.why}")
        what = (plan.parts, record, self.lines, self.known, self._expect, force)
        try:
            return self.builder.build(*what)
        except NoRoom:
            self._deliver()
            return self.builder.build(*what)

    def _ask(self) -> None:
        """Learns what the vaults have, and goes on from there."""
        for line in self.lines:
            delivery.ask(line, self.instance, self.signer.public)
        remembered = self.spool.known()
        self.known = {n: k for n, k in remembered.items() if n in {ln.name for ln in self.lines}}
        for sentence in delivery.reconcile(self.spool, self.lines, self.known):
            self.notes.warn("chain", sentence)
        if self.spool.head() is None:
            self._check_first()
        for line in self.lines:
            self._learn(line)
        if all(line.name in self.known for line in self.lines):
            for sentence in delivery.mend(self.spool, self.known):
                self.notes.warn("chain", sentence)

    def _check_first(self) -> None:
        """A chain begins once: not because the vault that has it is away, or a key is another."""
        if any(line.code == Unverified.code for line in self.lines):
            raise Unverified(f"the spool {self.spool.path} has no chain, and {self._errors()}")
        away = [line.name for line in self.lines if not line.answered]
        before = status.sequence(self.instance, self.status_path)
        if away and (before or len(away) == len(self.lines)):
            lost = f"; there was a snapshot #{before}" if before else ""
            raise Unreachable(
                f"the spool {self.spool.path} has no chain, and {', '.join(away)}, which may have"
                f" one, did not answer{lost}: {self._errors()}"
            )
        mute = [line.name for line in self.lines if line.answered and not line.says]
        if before and len(mute) == len(self.lines):
            why = f"none of {', '.join(mute)} tells this master what it has"
            self.notes.warn("chain", f"the chain begins anew after a snapshot #{before}: {why}")

    def _errors(self) -> str:
        return "; ".join(f"{line.name}: {line.error}" for line in self.lines if line.error)

    def _learn(self, line: Line) -> None:
        """What a vault says counts more than what is remembered of it."""
        known = self.known.get(line.name)
        if line.head:
            newest = line.head.manifest.sequence
            first = known.first if known and known.first <= newest else 1
            self.known[line.name] = Known(first, newest)
        elif line.says and known and known.newest >= known.first:
            self.notes.warn("chain", f"the vault {line.name} is empty, and had #{known.newest}")
            del self.known[line.name]

    def _expect(self, sequence: int) -> None:
        """A vault that is new gets this snapshot first; that is known before there is one."""
        for line in self.lines:
            self.known.setdefault(line.name, Known(sequence, sequence - 1))
        self.spool.remember(self.known)

    def _deliver(self) -> None:
        for line in self.lines:
            if line.name in self.known and line.answered and not line.error:
                delivery.deliver(self.spool, line, self.lines, self.known, self.instance,
                                 self.signer.public, self.progress)  # fmt: skip
        if self.known:
            delivery.tidy(self.spool, self.known)

    def _result(self, manifest: Manifest) -> Result:
        code = delivery.judge(self.lines, self.known, manifest.sequence, self.settings["success"])
        if code == OK and set(self.notes.counts) - QUIET:
            code = WARNINGS
        full = self.spool.full()
        return Result(
            code, manifest.sequence, manifest.kind, self._vaults(), self.notes.sentences,
            archives=sizes(full) if full else {},
            before=self.builder.about(full).get("before", {}),
            started=manifest.started, finished=names.utc(max(self.now(), self.clock)),
            next=manifest.next, reason=self._errors(),
        )  # fmt: skip

    def _vaults(self) -> dict[str, dict[str, Any]]:
        before = status.section("snapshot", self.instance, self.status_path).get("vaults", {})
        return delivery.described(self.lines, self.known, before, names.utc(self.now()))

    def record(self, result: Result) -> None:
        """Tells the agents on this host how it went."""
        value = {
            "time": result.started, "tried": names.utc(self.clock), "code": result.code,
            "sequence": result.sequence,
            "kind": result.kind, "started": result.started, "finished": result.finished,
            "next": result.next, "vaults": result.vaults, "archives": result.archives,
            "before": result.before, "warnings": result.warnings, "reason": result.reason,
        }  # fmt: skip
        self._update(value)

    def record_failure(self, error: BackupError) -> None:
        """The newest snapshot stays in the status, beside why there is none after it."""
        tried = names.utc(self.clock)
        none = {
            "time": tried, "next": tried, "sequence": 0, "kind": "", "started": "", "finished": "",
            "archives": {}, "before": {},
        }  # fmt: skip
        value = {
            **none, **status.section("snapshot", self.instance, self.status_path),
            "tried": tried, "code": error.code, "vaults": self._vaults(),
            "warnings": self.notes.sentences, "reason": str(error),
        }  # fmt: skip
        with contextlib.suppress(OSError):  # on the disk that is full, perhaps
            self._update(value)

    def _update(self, value: Mapping[str, Any]) -> None:
        status.update("snapshot", value, self.instance, names.utc(self.clock), self.status_path)

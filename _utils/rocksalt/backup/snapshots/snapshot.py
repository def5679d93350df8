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

from rocksalt.backup import names, status
from rocksalt.backup import progress as telling
from rocksalt.backup.crypto import recipients
from rocksalt.backup.crypto.sshsig import Signer
from rocksalt.backup.errors import (
    OK,
    WARNINGS,
    BackupError,
    Locked,
    Unreachable,
    Unverified,
)
from rocksalt.backup.manifest import Manifest
from rocksalt.backup.snapshots import delivery, lines, sources
from rocksalt.backup.snapshots.building import Builder, NoRoom, Notes
from rocksalt.backup.snapshots.lines import Line
from rocksalt.backup.snapshots.spool import Known, Spool
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
    begin: bool = False,
) -> Result:
    """Takes a snapshot and brings every vault up to date, in order.

    ``force`` makes it a full one although nothing changed, and although the clock is far ahead of
    the snapshot before; ``begin`` lets a chain begin where nobody can say that there is none:
    where there is one, it goes on. :class:`Locked` while another run is at
    work. Any other :class:`BackupError` means that no snapshot was taken; it is recorded in the
    status, and the vaults were given what they still lacked.
    """
    run = _Run(opts, settings, vaults, signer, now, progress, status_path, begin)
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
                 progress: telling.Progress, status_path: str, begin: bool):  # fmt: skip
        self.begin = begin
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
            lines.ask(line, self.instance, self.signer.public)
        remembered = self._remembered()
        self.known = {n: k for n, k in remembered.items() if n in {ln.name for ln in self.lines}}
        safe = lines.confirmed(remembered.values())
        for sentence in lines.reconcile(self.spool, self.lines, safe):
            self.notes.warn("chain", sentence)
        if self.spool.head() is None:
            self._check_first()
        for line in self.lines:
            lines.learn(line, self.known)
        safe = max(safe, lines.confirmed(self.known.values()))
        if all(line.name in self.known for line in self.lines):
            for sentence in lines.mend(self.spool, safe):
                self.notes.warn("chain", sentence)

    def _remembered(self) -> dict[str, Known]:
        """What vaults confirmed, also ones that are not used any more; where the spool is lost, the
        status tells of it.
        """
        told = status.section("snapshot", self.instance, self.status_path).get("vaults", {})
        newest = {name: entry.get("sequence", 0) for name, entry in told.items()}
        return {**{n: Known(1, seq) for n, seq in newest.items() if seq}, **self.spool.known()}

    def _check_first(self) -> None:
        """A chain begins once: not because the vault that has it is away, tells nothing or lost it,
        or a key is another.
        """
        if any(line.code == Unverified.code for line in self.lines):
            raise Unverified(f"the spool {self.spool.path} has no chain, and {self._errors()}")
        before = status.sequence(self.instance, self.status_path)
        silent = [line for line in self.lines if not line.says]
        if self.begin:
            self.known.clear()
        elif before or silent:
            away = any(not line.answered for line in silent)
            raise (Unreachable if away else Unverified)(self._why_none_begins(before, silent))

    def _why_none_begins(self, before: int, silent: Sequence[Line]) -> str:
        lost = f"; there was a snapshot #{before}" if before else ""
        mute = ", ".join(f"{line.name} ({line.error or line.silence})" for line in silent)
        who = f"{mute} cannot say whether there is one" if mute else "no vault has one"
        return (
            f"the spool {self.spool.path} has no chain, and {who}{lost}: if this master was"
            f" backed up before, put its newest manifest and the .sig of that into"
            f" {self.spool.chain}; if it never was, salt-run backup.snapshot begin=True"
        )

    def _errors(self) -> str:
        return "; ".join(f"{line.name}: {line.error}" for line in self.lines if line.error)

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
        archives, before = self.builder.compared(self.spool.full())
        return Result(
            code, manifest.sequence, manifest.kind, self._vaults(), self.notes.sentences,
            archives=archives, before=before,
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

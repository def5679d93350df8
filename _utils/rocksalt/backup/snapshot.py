"""One snapshot: survey, pack, sign, commit locally, then deliver to every vault.

Where the clock is set back, the snapshot is taken all the same, with a warning, and says that it
was started a second after the one before it: times in a chain never run backwards.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import json
import platform
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rocksalt import __version__
from rocksalt.backup import delivery, names, recipients, sources, status
from rocksalt.backup import manifest as manifests
from rocksalt.backup import progress as telling
from rocksalt.backup.delivery import Line
from rocksalt.backup.errors import (
    OK,
    WARNINGS,
    BackupError,
    Locked,
    Unreachable,
    Unverified,
)
from rocksalt.backup.manifest import Archive, Manifest
from rocksalt.backup.pack import Part, Survey, pack, survey
from rocksalt.backup.progress import Step
from rocksalt.backup.spool import Head, Known, Spool
from rocksalt.backup.sshsig import Signer
from rocksalt.backup.vaults import Vault

QUIET = frozenset({"skipped"})
"""Kinds of warnings that are told and change no exit code: sockets exist only while they serve."""
_TORN = frozenset({"unreadable", "vanished", "changed"})
_ABOUT = "about.json"
_SANE = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)


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
        self.counts: Counter[str] = Counter()
        self.warnings: list[str] = []

    def now(self) -> dt.datetime:
        """The time by the clock that this run was given."""
        return self.clock + (dt.datetime.now(dt.timezone.utc) - self.began)

    def warn(self, kind: str, sentence: str) -> None:
        self.counts[kind] += 1
        self.warnings.append(sentence)

    def take(self, force: bool) -> Result:
        for sentence in self.spool.heal():
            self.warn("spool", sentence)
        record = recipients.authorised(self.settings)
        plan = sources.plan(self.opts, self.settings, measure=False)
        for left in plan.missing:
            self.warn("missing", f"{left.path} is not in the snapshot: {left.why}")
        self._ask()
        try:
            manifest = self._build(plan.parts, record, force)
        except (BackupError, OSError):
            self._deliver()
            raise
        self._deliver()
        return self._result(manifest)

    def _ask(self) -> None:
        """Learns what the vaults have, and goes on from there."""
        for line in self.lines:
            delivery.ask(line, self.instance, self.signer.public)
        remembered = self.spool.known()
        self.known = {n: k for n, k in remembered.items() if n in {ln.name for ln in self.lines}}
        for sentence in delivery.reconcile(self.spool, self.lines, self.known):
            self.warn("chain", sentence)
        if self.spool.head() is None:
            self._check_first()
        for line in self.lines:
            self._learn(line)

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
            self.warn("chain", f"the chain begins anew although there was a snapshot #{before}:"
                      f" none of {', '.join(mute)} tells this master what it has")  # fmt: skip

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
            self.warn("chain", f"the vault {line.name} is empty, and had #{known.newest}")
            del self.known[line.name]

    def _build(self, parts: Sequence[Part], record: Mapping[str, Any], force: bool) -> Manifest:
        """Makes the snapshot and commits it locally; without it nothing of it is left."""
        before = self.spool.head()
        started, sequence = self._started(before), before.manifest.sequence + 1 if before else 1
        folder = self.spool.partial(names.stem(sequence, started))
        try:
            surveys = self._survey(parts, folder)
            same = None if force else self._unchanged(surveys, record, started)
            archives: dict[str, Archive] = {}
            if same is None:
                self._make_room(surveys)
                archives = self._pack(parts, record, surveys, folder)
                self._note(folder, surveys)
            else:
                _remove(folder / "index")
            manifest = self._manifest(before, sequence, started, record, archives, same)
            data = manifest.to_bytes()
            head = Head(manifest, data, self.signer.sign(data, manifests.NAMESPACE))
            self._expect(sequence)
            self.spool.commit(folder, head)
        except BaseException:
            _remove(folder)
            raise
        return manifest

    def _note(self, folder: Path, surveys: Mapping[str, Survey]) -> None:
        """Keeps what the next runs compare with."""
        last = self.spool.full()
        value = {
            "digests": {name: found.digest for name, found in surveys.items()},
            "before": _sizes(last) if last else {},
        }
        (folder / "index" / _ABOUT).write_text(json.dumps(value))

    def _about(self, full: Manifest | None) -> dict[str, Any]:
        """What was noted with a full snapshot."""
        try:
            return dict(
                json.loads((self.spool.index / full.stem / _ABOUT).read_bytes()) if full else {}
            )
        except (OSError, ValueError, TypeError):
            return {}

    def _started(self, before: Head | None) -> dt.datetime:
        now = self.clock.replace(microsecond=0)
        if before:
            earliest = names.parsed(before.manifest.started) + dt.timedelta(seconds=1)
            if now < earliest - dt.timedelta(seconds=1):
                self.warn("clock", f"the clock says {names.utc(now)}, which is before the snapshot"
                          f" {before.manifest.name}")  # fmt: skip
            now = max(now, earliest)
        if now < _SANE:
            self.warn("clock", f"the clock says {names.utc(now)}, which is long ago")
        return now

    def _survey(self, parts: Sequence[Part], folder: Path) -> dict[str, Survey]:
        full = self.spool.full()
        surveys = {}
        for part in parts:
            self.progress(Step("survey", part.name))
            old = self.spool.index / full.stem / part.name if full else None
            old = old if old and old.exists() else None
            surveys[part.name] = survey(part, old, folder / "index" / part.name)
        return surveys

    def _unchanged(
        self, surveys: Mapping[str, Survey], record: Mapping[str, Any], started: dt.datetime
    ) -> Manifest | None:
        """The full snapshot to which this one would be equal, if it is young and whole, for the
        same recipients, and in every vault's part of the chain.
        """
        full = self.spool.full()
        if full is None or full.recipients != record or _TORN & set(full.warnings):
            return None
        if full.authorisation != self.settings["authorisation"]:
            return None
        age_of_full = started - names.parsed(full.started)
        if age_of_full >= dt.timedelta(hours=self.settings["full_every"]):
            return None
        for line in self.lines:
            if line.name not in self.known or self.known[line.name].first > full.sequence:
                return None
        digests = {name: found.digest for name, found in surveys.items()}
        return full if self._about(full).get("digests") == digests else None

    def _make_room(self, surveys: Mapping[str, Survey]) -> None:
        """Snapshots that wait for an absent vault must not fill the disk."""
        last = self.spool.full()
        size = sum(archive.size for archive in last.archives.values()) if last else 0
        needed = 2 * size if size else sum(found.bytes for found in surveys.values())
        takers = [line.name for line in self.lines if line.archives and line.says]
        held = max((self.known[n].newest for n in takers if n in self.known), default=0)
        for archive in self.spool.make_room(needed, held):
            self.warn("room", f"{archive} waits for a vault and is removed here, because the"
                      " spool's disk gets full: a vault that has it will give it")  # fmt: skip

    def _pack(self, parts: Sequence[Part], record: Mapping[str, Any],
              surveys: Mapping[str, Survey], folder: Path) -> dict[str, Archive]:  # fmt: skip
        archives, stem = {}, folder.stem
        for part in parts:
            found = surveys[part.name]

            def tell(files: int, size: int, part: Part = part, found: Survey = found) -> None:
                self.progress(Step("pack", part.name, files, size, found.files, found.bytes))

            tell(0, 0)
            target = folder / f"{part.name}.part"
            packed = pack(part, recipients.of(record, part.name), target, tell)
            name = names.archive(stem, part.name, packed.compression)
            target.rename(folder / name)
            archives[part.name] = Archive(
                name, packed.sha256, packed.size, recipients.fingerprints(record, part.name),
                packed.files, packed.bytes, found.changed,
            )  # fmt: skip
            for warning in packed.warnings:
                self.warn(warning.kind, f"{warning.path}: {warning.kind}: {warning.detail}")
        return archives

    def _manifest(self, before: Head | None, sequence: int, started: dt.datetime,
                  record: Mapping[str, Any], archives: Mapping[str, Archive],
                  same: Manifest | None) -> Manifest:  # fmt: skip
        wait = dt.timedelta(minutes=self.settings["interval"], seconds=self.settings["jitter"])
        return Manifest(
            instance=self.instance,
            sequence=sequence,
            previous=before.digest if before else "",
            kind="same" if same else "full",
            same_as=same.sequence if same else 0,
            started=names.utc(started),
            finished=names.utc(max(started, self.now())),
            next=names.utc(started + wait),
            archives=archives,
            recipients=record,
            authorisation=self.settings["authorisation"],
            warnings=dict(self.counts),
            versions={
                "rocksalt": __version__,
                "python": platform.python_version(),
                "salt": str(self.opts.get("saltversion", "")),
            },
        )

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
        if code == OK and set(self.counts) - QUIET:
            code = WARNINGS
        full = self.spool.full()
        return Result(
            code, manifest.sequence, manifest.kind, self._vaults(), self.warnings,
            archives=_sizes(full) if full else {}, before=self._about(full).get("before", {}),
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
            "warnings": self.warnings, "reason": str(error),
        }  # fmt: skip
        with contextlib.suppress(OSError):  # on the disk that is full, perhaps
            self._update(value)

    def _update(self, value: Mapping[str, Any]) -> None:
        status.update("snapshot", value, self.instance, names.utc(self.clock), self.status_path)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _sizes(full: Manifest) -> dict[str, dict[str, int]]:
    return {
        part: {"size": a.size, "files": a.files, "bytes": a.bytes, "changed": a.changed}
        for part, a in full.archives.items()
    }

"""Builds one snapshot in the spool: survey, pack, sign, commit."""

from __future__ import annotations

import datetime as dt
import json
import platform
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rocksalt import __version__
from rocksalt.backup import manifest as manifests
from rocksalt.backup import names
from rocksalt.backup.crypto import recipients
from rocksalt.backup.crypto.sshsig import Signer
from rocksalt.backup.errors import BackupError, Unverified
from rocksalt.backup.family.history import CHECKS, History
from rocksalt.backup.manifest import Archive, Manifest
from rocksalt.backup.packing.pack import Part, Survey, pack, survey
from rocksalt.backup.progress import Progress, Step, size
from rocksalt.backup.snapshots.lines import Line
from rocksalt.backup.snapshots.spool import Head, Known, Spool

Sizes = dict[str, dict[str, int]]
"""Size, files, bytes and changes by archive."""
_TORN = frozenset({"unreadable", "vanished", "changed"})
_ABOUT = "about.json"
_SANE = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
_LEAP = dt.timedelta(days=30)
"""Later than that nobody believes a clock: times in a chain never run backwards again."""
_ALARM = dt.timedelta(days=7)
"""So long the full snapshot before an alarm is the one to compare with."""


class NoRoom(BackupError):
    """The disk of the spool has no room for another snapshot."""


class Notes:
    """What is not as it should be: sentences, and counts by kind, which the manifest holds."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.sentences: list[str] = []

    def warn(self, kind: str, sentence: str) -> None:
        self.counts[kind] += 1
        self.sentences.append(sentence)


class Builder:
    """Builds one snapshot, ``begun`` at that time by the clock ``now``, of a master with this
    version of ``salt``.
    """

    def __init__(self, settings: Mapping[str, Any], spool: Spool, signer: Signer, notes: Notes,
                 progress: Progress, begun: dt.datetime, now: Callable[[], dt.datetime],
                 salt: str):  # fmt: skip
        self._settings, self._spool, self._signer = settings, spool, signer
        self._notes, self._progress, self._salt = notes, progress, salt
        self._begun, self._now = begun, now

    def build(self, parts: Sequence[Part], record: Mapping[str, Any], lines: Iterable[Line],
              known: Mapping[str, Known], expect: Callable[[int], None],
              force: bool) -> Manifest:  # fmt: skip
        """Makes the snapshot that follows the spool's newest and commits it; if that fails nothing
        of it is left. ``record`` says who can read it, ``known`` what the vaults of ``lines`` have;
        ``expect`` is told the sequence right before the commit; ``force`` makes it a full one
        although nothing changed.
        """
        before = self._spool.head()
        started, sequence = self._started(before), before.manifest.sequence + 1 if before else 1
        if not force:
            self._believe(before)
        folder = self._spool.partial(names.stem(sequence, started))
        try:
            surveys = self._survey(parts, folder)
            same = None if force else self._unchanged(surveys, record, started, lines, known)
            archives: dict[str, Archive] = {}
            if same is None:
                self._make_room(surveys, lines, known)
                archives = self._pack(parts, record, surveys, folder)
                self._note(folder, surveys, started, force)
            else:
                _remove(folder / "index")
            manifest = self._manifest(before, sequence, started, record, archives, same)
            data = manifest.to_bytes()
            head = Head(manifest, data, self._signer.sign(data, manifests.NAMESPACE))
            expect(sequence)
            self._spool.commit(folder, head)
        except BaseException:
            _remove(folder)
            raise
        return manifest

    def _note(self, folder: Path, surveys: Mapping[str, Survey], started: dt.datetime,
              force: bool) -> None:  # fmt: skip
        """Keeps what the next runs compare with."""
        digests = {name: found.digest for name, found in surveys.items()}
        value = {"digests": digests, **self._baseline(started, force)}
        (folder / "index" / _ABOUT).write_text(json.dumps(value))

    def _baseline(self, started: dt.datetime, force: bool) -> dict[str, Any]:
        """What a full snapshot is compared with: the full before it. Where that one has shrunk or
        was rewritten itself, it is the one before that for a week, with the most changes since: no
        alarm goes away by the next snapshot, unless ``force`` accepts it.
        """
        last = self._spool.full()
        now, before = self.compared(last)
        since = self.about(last).get("since") or (last.started if last else "")
        it = History(self._settings, {"snapshot": {"archives": now, "before": before}}, "", started)
        alarming = any(CHECKS[name][1](it).actual for name in ("shrunk", "rewritten"))
        if force or not alarming or started - names.parsed(since) > _ALARM:
            return {"before": sizes(last) if last else {}}
        changed = {part: entry["changed"] for part, entry in now.items()}
        return {"before": before, "since": since, "changed": changed}

    def compared(self, full: Manifest | None) -> tuple[Sizes, Sizes]:
        """The sizes of a full snapshot, with the most files that changed at once since the one that
        it is compared with, and the sizes of that.
        """
        found, about = sizes(full) if full else {}, self.about(full)
        for part, changed in about.get("changed", {}).items():
            if part in found:
                found[part]["changed"] = max(changed, found[part]["changed"])
        return found, about.get("before", {})

    def about(self, full: Manifest | None) -> dict[str, Any]:
        """What was noted with a full snapshot."""
        try:
            return dict(
                json.loads((self._spool.index / full.stem / _ABOUT).read_bytes()) if full else {}
            )
        except (OSError, ValueError, TypeError):
            return {}

    def _believe(self, before: Head | None) -> None:
        """A clock that leaps ahead once would put off every later snapshot, and hide that there is
        none.
        """
        if before and self._begun > names.parsed(before.manifest.next) + _LEAP:
            raise BackupError(
                f"the clock says {names.utc(self._begun)}, and {before.manifest.name}, the snapshot"
                f" before, was to be followed by {before.manifest.next}: where the clock is right,"
                " salt-run backup.snapshot full=True"
            )

    def _started(self, before: Head | None) -> dt.datetime:
        now = self._begun.replace(microsecond=0)
        if before:
            earliest = names.parsed(before.manifest.started) + dt.timedelta(seconds=1)
            if now < earliest - dt.timedelta(seconds=1):
                late = f"the clock says {names.utc(now)}, which is before {before.manifest.name}"
                self._notes.warn("clock", late)
            now = max(now, earliest)
        if now < _SANE:
            self._notes.warn("clock", f"the clock says {names.utc(now)}, which is long ago")
        return now

    def _survey(self, parts: Sequence[Part], folder: Path) -> dict[str, Survey]:
        full = self._spool.full()
        surveys = {}
        for part in parts:
            self._progress(Step("survey", part.name))
            old = self._spool.index / full.stem / part.name if full else None
            old = old if old and old.exists() else None
            surveys[part.name] = survey(part, old, folder / "index" / part.name)
        return surveys

    def _unchanged(
        self,
        surveys: Mapping[str, Survey],
        record: Mapping[str, Any],
        started: dt.datetime,
        lines: Iterable[Line],
        known: Mapping[str, Known],
    ) -> Manifest | None:
        """The full snapshot to which this one would be equal, if it is young and whole, for the
        same recipients, and in every vault's part of the chain.
        """
        full = self._spool.full()
        if full is None or full.recipients != record or _TORN & set(full.warnings):
            return None
        if full.authorisation != self._settings["authorisation"]:
            return None
        age_of_full = started - names.parsed(full.started)
        if age_of_full >= dt.timedelta(hours=self._settings["full_every"]):
            return None
        if any(line.name not in known or known[line.name].first > full.sequence for line in lines):
            return None
        digests = {name: found.digest for name, found in surveys.items()}
        return full if self.about(full).get("digests") == digests else None

    def _make_room(self, surveys: Mapping[str, Survey], lines: Iterable[Line],
                   known: Mapping[str, Known]) -> None:  # fmt: skip
        """Snapshots that wait for an absent vault must not fill the disk."""
        last = self._spool.full()
        likely = sum(archive.size for archive in last.archives.values()) if last else 0
        needed = 2 * likely if last else sum(found.bytes for found in surveys.values())
        takers = [
            line.name
            for line in lines
            if line.archives and line.says and line.code != Unverified.code
        ]
        held = max((known[name].newest for name in takers if name in known), default=0)
        for archive in self._spool.make_room(needed, held):
            why = "waits for a vault and is removed here, because the disk of the spool gets full"
            self._notes.warn("room", f"{archive} {why}: it has to come from another vault")
        if self._spool.free() < likely:
            raise NoRoom(
                f"the disk of the spool {self._spool.path} has no room for {size(likely)}, so much"
                f" as the last full snapshot took, beside the tenth that stays free;"
                f" {len(self._spool.pending())} snapshots wait there for vaults"
            )

    def _pack(self, parts: Sequence[Part], record: Mapping[str, Any],
              surveys: Mapping[str, Survey], folder: Path) -> dict[str, Archive]:  # fmt: skip
        archives, stem = {}, folder.stem
        for part in parts:
            found = surveys[part.name]

            def tell(files: int, size: int, part: Part = part, found: Survey = found) -> None:
                self._progress(Step("pack", part.name, files, size, found.files, found.bytes))

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
                self._notes.warn(warning.kind, f"{warning.path}: {warning.kind}: {warning.detail}")
        return archives

    def _manifest(self, before: Head | None, sequence: int, started: dt.datetime,
                  record: Mapping[str, Any], archives: Mapping[str, Archive],
                  same: Manifest | None) -> Manifest:  # fmt: skip
        wait = dt.timedelta(minutes=self._settings["interval"], seconds=self._settings["jitter"])
        return Manifest(
            instance=self._settings["instance"],
            sequence=sequence,
            previous=before.digest if before else "",
            kind="same" if same else "full",
            same_as=same.sequence if same else 0,
            started=names.utc(started),
            finished=names.utc(max(started, self._now())),
            next=names.utc(started + wait),
            archives=archives,
            recipients=record,
            authorisation=self._settings["authorisation"],
            warnings=dict(self._notes.counts),
            versions={
                "rocksalt": __version__,
                "python": platform.python_version(),
                "salt": self._salt,
            },
        )


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def sizes(full: Manifest) -> Sizes:
    """Size, files, bytes and changes of each archive of a full snapshot."""
    return {
        part: {"size": a.size, "files": a.files, "bytes": a.bytes, "changed": a.changed}
        for part, a in full.archives.items()
    }

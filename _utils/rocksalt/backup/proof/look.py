"""A vault, looked through once: what is in it, against what its manifests say of it.

``verify`` asks; ``judge`` and ``chain`` know what is wrong with what was read here.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO

from rocksalt.backup import names
from rocksalt.backup.crypto import age, sshsig
from rocksalt.backup.errors import BackupError, Unreachable, Unverified, VaultError
from rocksalt.backup.manifest import LARGEST, Archive, Manifest, digest
from rocksalt.backup.proof import chain, judge, receipts
from rocksalt.backup.proof.judge import Pins, Problem
from rocksalt.backup.vaults import Reader

REPORTS = "rocksalt-report"
"""The namespace of the signatures of reports."""
RECENT = dt.timedelta(days=7)
"""For how long a warning is repeated about something that nobody can mend any more."""
_UNDER_WAY = dt.timedelta(hours=1)
_BLOCK = 1 << 20
_NUMBERED = re.compile(r"[0-9]{8}-[0-9]{8}T[0-9]{6}Z\.")


class Look:
    """Everything that was found; :meth:`manifests` comes first, the others in any order."""

    def __init__(self, reader: Reader, pins: Pins, now: dt.datetime):
        if not pins.signers:
            raise BackupError("no key is pinned that signs manifests, so none can be verified")
        authority = (pins.authority,) if pins.authority else ()
        for key in (*pins.signers, *authority, *pins.receivers, *pins.reporters):
            sshsig.bare(key)
        self._reader, self._pins, self._now = reader, pins, now
        self._stored = reader.names()
        self._found: list[Problem] = []
        self._links: list[chain.Link] = []
        self._fulls: dict[int, Manifest] = {}
        self._wanted: list[tuple[int, Archive]] = []
        self._stems: set[str] = set()
        self._doubted: set[str] = set()
        self._past: list[Problem] = []
        self.witnessed = 0
        self.started: dict[int, str] = {}
        self.newest: Manifest | None = None
        self.head = ""
        self.digests: dict[int, str] = {}
        self.archives_checked = self.bytes_checked = 0

    def problems(self) -> list[Problem]:
        """Errors first; many of a kind in a row are one."""
        return judge.collapsed(self._found)

    def past(self) -> list[Problem]:
        """Likewise, warnings about what was over long ago."""
        return judge.collapsed(self._past)

    def manifests(self) -> None:
        """Reads all manifests, in their order, with their signatures and receipts."""
        if not self._pins.authority:
            why = "the offline key is not pinned, so nobody checked who can read the archives"
            self._add([Problem("unpinned", why, severity="warning")])
        recent: dict[str, Manifest] = {}
        bad = []
        for name in self._matching(names.MANIFEST):
            number = int(name[:8])
            self._stems.add(name.removesuffix(".json"))
            data = b""
            try:
                data = self._content(name)
                found = judge.signed(name, data, self._content(name + names.SIGNATURE), self._pins)
            except Unverified as error:
                why = f"{error}; nothing that it says of #{number} can be believed"
                self._add([Problem("manifest", why, number)])
                self._doubted.add(name.removesuffix(".json"))
                bad.append(chain.Link(number, digest(data), None, name))
                continue
            hashed = digest(data)
            recent = {h: m for h, m in recent.items() if m.sequence >= number - 1}
            self._take(found, hashed, recent.get(found.previous))
            recent[hashed] = found
        self._links += [link for link in bad if link.sequence not in self.digests]

    def _take(self, found: Manifest, hashed: str, before: Manifest | None) -> None:
        """Judges a manifest that a pinned key signed, and remembers what others need of it."""
        self._add(judge.alone(found, self._pins, self._now))
        if before:
            newer = max(names.parsed(m.started) for m in (before, found))
            self._add(judge.after(before, found), newer)
        if found.kind == "same":
            self._add(judge.same(found, self._fulls))
        else:
            self._fulls[found.sequence] = found
        self._wanted += [(found.sequence, archive) for archive in found.archives.values()]
        levels = {"format": found.format}
        if isinstance(found.recipients.get("revision"), int):
            levels["revision of recipients"] = found.recipients["revision"]
        self._links.append(chain.Link(found.sequence, hashed, found.previous, found.name, levels))
        self.started.setdefault(found.sequence, found.started)
        self.digests.setdefault(found.sequence, hashed)
        self.newest, self.head = found, hashed
        self._receipt(found, hashed)

    def _receipt(self, found: Manifest, hashed: str) -> None:
        name = found.stem + names.RECEIPT
        if not self._pins.receivers or name not in self._stored:
            return
        try:
            said = receipts.read(receipts.Receipt, name, *self._signed(name), self._pins.receivers)
        except Unverified as error:
            self._add([Problem("receipt", f"{error}; it proves nothing", found.sequence)])
            return
        problems = judge.receipt(said, found, hashed)
        self._add(problems, names.parsed(said.received))
        if not any(problem.severity == "error" for problem in problems):
            self.witnessed = max(self.witnessed, found.sequence)

    def chain(self, expected: tuple[int, str] | None, first: int | None) -> None:
        """Whether the manifests follow each other, from the first one to what was seen before."""
        faults = chain.faults(self._links, first or self._begin())
        if expected:
            faults += chain.reaches(self._links, *expected)
        self._add(Problem(fault.code, fault.sentence, fault.sequence) for fault in faults)
        for name in self._matching(names.RECEIPTS):
            stem = name.removesuffix(names.RECEIPT)
            if self._pins.receivers and stem not in self._stems:
                why = f"{stem}.json is gone, although {name} says that it was received"
                self._add([Problem("removed", why, int(name[:8]))])

    def _begin(self) -> int:
        """The lowest number of which there is a trace. A vault that was added later does not begin
        with 1; neither does one whose beginning was removed without a trace.
        """
        begin = min((int(n[:8]) for n in self._stored if _NUMBERED.match(n)), default=1)
        if begin > 1 and self.digests:
            when = names.parsed(self.started[min(self.digests)])
            why = f"this vault begins with #{begin}: right if it was added then, otherwise what was"
            why += " before it was removed"
            self._add([Problem("begins", why, begin, "warning")], when)
        return max(begin, 1)

    def reports(self) -> None:
        """Whether reports in the vault were signed by those who are believed."""
        for name in self._matching(names.REPORT) if self._pins.reporters else ():
            try:
                data, signature = self._signed(name)
                sshsig.verify(data, signature, REPORTS, self._pins.reporters)
            except Unverified as error:
                why = f"{name}: {error}; do not believe this report"
                self._add([Problem("report", why, severity="warning")])

    def versions(self) -> None:
        """Whether somebody put another content on a name that was taken; the first one counts."""
        for name, stored in sorted(self._stored.items()):
            if stored.later:
                when = dt.datetime.fromtimestamp(stored.replaced, dt.timezone.utc)
                why = f"{name} was put again with another content at {names.utc(when)}, the version"
                why += f" {stored.later}; what counts is the first, {stored.version}: find out who"
                why += " else has the credentials of this vault"
                number = int(name[:8]) if _NUMBERED.match(name) else 0
                self._add([Problem("version", why, number, "warning")], when)

    def archives(self, deep: bool, progress: Callable[[int, int], None]) -> None:
        """Whether every archive is there and as it was signed, or was pruned by the receiver."""
        here = [(number, a) for number, a in self._wanted if self._size(a) == a.size]
        total = sum(archive.size for _, archive in here)
        owners = {archive.sha256: archive.name for _, archive in self._wanted}
        for number, archive in self._wanted:
            size = self._size(archive)
            if size is None:
                self._missing(number, archive)
                continue
            self.archives_checked += 1
            why = ""
            if size != archive.size:
                why = f"has {size} bytes instead of {archive.size}: it was cut off or replaced"
            elif deep:
                why = self._hashed(archive, owners, lambda done: progress(done, total))
            if why:
                why = f"{archive.name} {why}; restore this snapshot from another vault"
                self._add([Problem("archive", why, number)])

    def _size(self, archive: Archive) -> int | None:
        return self._stored[archive.name].size if archive.name in self._stored else None

    def _hashed(
        self, archive: Archive, owners: dict[str, str], progress: Callable[[int], None]
    ) -> str:
        """What is wrong with the content of an archive; empty if it is what was signed."""
        hashed, size, readers = hashlib.sha256(), 0, None
        try:
            with self._reader.open(archive.name) as file:
                for block in _blocks(file):
                    if readers is None:
                        readers = age.Header(io.BytesIO(block)).stanzas
                    hashed.update(block)
                    size += len(block)
                    self.bytes_checked += len(block)
                    progress(self.bytes_checked)
                    if size > archive.size:
                        break
        except Unverified as error:
            return f"is no archive: {error}"
        except Unreachable:
            raise
        except (OSError, VaultError) as error:
            return f"cannot be read: {error}"
        if hashed.hexdigest() != archive.sha256:
            other = owners.get(hashed.hexdigest())
            return f"has the content of {other}" if other else "was changed"
        if len(readers or ()) != len(archive.recipients):
            return f"can be read by {len(readers or ())} keys, not by {len(archive.recipients)}"
        return ""

    def _missing(self, number: int, archive: Archive) -> None:
        """An archive that is not here was pruned, as the receiver signed, or it was removed."""
        name = archive.name + names.PRUNED
        why = f"{archive.name} is missing"
        if name in self._stored:
            try:
                said = receipts.read(
                    receipts.Tombstone, name, *self._signed(name), self._pins.receivers
                )
                right = (self._pins.instance, archive.name, archive.sha256)
                if (said.instance, said.archive, said.sha256) == right:
                    self._pruned(number, archive)
                    return
                why += f", and {name} is about another one"
            except Unverified as error:
                why += f", and that it was pruned cannot be believed: {error}"
        why += "; restore this snapshot from another vault"
        self._add([Problem("missing", why, number)])

    def _pruned(self, number: int, archive: Archive) -> None:
        """Retention may remove every full but the newest."""
        if number == max(self._fulls):
            why = f"{archive.name} was pruned, and is of the newest full snapshot in this vault"
            self._add([Problem("pruned", why, number)])

    def leftovers(self, archives: bool) -> None:
        """What no manifest speaks of; what a run is putting there right now is none."""
        known = {archive.name for _, archive in self._wanted}
        strangers = []
        for name in sorted(self._stored):
            signed = name.removesuffix(names.SIGNATURE)
            if names.ARCHIVE.fullmatch(name):
                left = name not in known and name[:25] not in self._doubted and archives
            elif names.MANIFEST.fullmatch(signed) or names.RECEIPTS.fullmatch(signed):
                left = signed not in self._stored
            else:
                left = False
                if not names.REPORT.fullmatch(signed) and not names.PRUNES.fullmatch(signed):
                    strangers.append(name)
            if left:
                self._leftover(name)
        if strangers:
            why = f"{len(strangers)} objects are none of a backup, such as {strangers[0]!r}"
            self._add([Problem("stranger", why, severity="warning")])

    def _leftover(self, name: str) -> None:
        number = int(name[:8])
        newest = self.newest.sequence if self.newest else 0
        begun = None
        with contextlib.suppress(ValueError):
            begun = dt.datetime.strptime(name[9:25], names.STAMP).replace(tzinfo=dt.timezone.utc)
        if begun and number > newest and -judge.CLOCK < self._now - begun < _UNDER_WAY:
            return
        why = f"{name} belongs to no manifest: a run was interrupted, the next one made it good"
        self._add([Problem("leftover", why, number, "warning")], begun)

    def freshness(self) -> None:
        """Whether the newest snapshot is one, and whether somebody else saw the last ones."""
        if self.newest is None:
            self._add([Problem("empty", "there is no snapshot that can be believed")])
            return
        number, due = self.newest.sequence, names.parsed(self.newest.next)
        if self._now - due > judge.GRACE:
            why = f"the newest snapshot is #{number} of {self.newest.started}, and the next one was"
            why += f" due at {self.newest.next}: none is made, or newer ones are withheld"
            self._add([Problem("stale", why, number)])
        since = unwitnessed(self.started, self.witnessed)
        owed = self._reader.countersigns or self._matching(names.RECEIPTS)
        late = since and self._now - names.parsed(since) > judge.GRACE
        if self._pins.receivers and owed and late:
            why = f"no receiver vouches here for what was saved since {since}: until one does, root"
            why += " on the master could still replace it"
            self._add([Problem("unwitnessed", why, self.witnessed + 1, "warning")])

    def _matching(self, pattern: re.Pattern[str]) -> list[str]:
        return sorted(name for name in self._stored if pattern.fullmatch(name))

    def _signed(self, name: str) -> tuple[bytes, bytes]:
        return self._content(name), self._content(name + names.SIGNATURE)

    def _content(self, name: str) -> bytes:
        """A small object; :class:`Unverified` where it is missing, unreadable or not small."""
        try:
            with self._reader.open(name) as file:
                data = next(_blocks(file, LARGEST + 1), b"")
        except FileNotFoundError:
            raise Unverified(f"{name} is missing") from None
        except Unreachable:
            raise
        except (OSError, VaultError) as error:
            raise Unverified(f"{name} cannot be read: {error}") from None
        if len(data) > LARGEST:
            raise Unverified(f"{name} is larger than anything of its kind")
        return data

    def _add(self, problems: Iterable[Problem], when: dt.datetime | None = None) -> None:
        """Takes down problems; warnings about what was over long ago go to the past."""
        for problem in problems:
            text = "".join(c if c.isprintable() else "?" for c in problem.sentence)
            old = when is not None and self._now - when > RECENT and problem.severity == "warning"
            kept = Problem(problem.code, text, problem.sequence, problem.severity)
            (self._past if old else self._found).append(kept)


def unwitnessed(started: Mapping[int, str], witnessed: int) -> str | None:
    """When the first snapshot behind the last one was begun that a receiver vouches for."""
    alone = [number for number in started if number > witnessed]
    return started[min(alone)] if alone else None


def _blocks(file: BinaryIO, size: int = _BLOCK) -> Iterator[bytes]:
    """The content in blocks of this size, although reads may give less; the last may be shorter."""
    while True:
        block = file.read(size)
        while 0 < len(block) < size and (more := file.read(size - len(block))):
            block += more
        if not block:
            return
        yield block

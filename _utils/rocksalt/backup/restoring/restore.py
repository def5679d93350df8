"""Restores a snapshot: to a folder of its own, or in place of what is there.

Archives are fetched into a file without a name beside the target, so what is hashed is what is
decrypted, whatever the vault would say if it were asked twice. They are read twice: once to look at
every member, and only then to write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from rocksalt.backup import progress as telling
from rocksalt.backup.crypto import age
from rocksalt.backup.errors import BackupError, Unverified
from rocksalt.backup.manifest import Archive, Manifest
from rocksalt.backup.names import OPERATOR, STAMP
from rocksalt.backup.progress import Step
from rocksalt.backup.restoring import extract, members, placing
from rocksalt.backup.restoring.compare import compare
from rocksalt.backup.restoring.extract import Notes
from rocksalt.backup.restoring.members import FILE, HARD, Contents
from rocksalt.backup.restoring.placing import Places, Plan
from rocksalt.backup.vaults import Reader

_MARGIN = 16 << 20
"""Bytes that have to be free beside what is restored, for folders and other small things."""


@dataclass
class Restored:
    """What a restore did: how many regular files and bytes of content are there now, the paths
    that were restored as a whole, what they replaced (path -> where the old one is now), the parts
    that no identity opens, and a sentence for everything that is not as it was.
    """

    files: int = 0
    bytes: int = 0
    tops: list[str] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def restore(
    reader: Reader,
    manifest: Manifest,
    identities: Sequence[X25519PrivateKey],
    staging: Path,
    paths: Sequence[str] = (),
    parts: Iterable[str] | None = None,
    in_place: bool = False,
    progress: telling.Progress = telling.silent,
    root: Path = Path("/"),
) -> Restored:
    """Restores a full snapshot (see ``fetch.full``) below the new or empty folder ``staging``.

    ``paths`` are absolute and restrict it to them and what is below them; ``parts`` restricts it to
    those (``operator``, ``customer-NAME``), for each of which an identity is needed then; without
    it parts that no identity opens are only ``missing``. With ``in_place`` every restored file or
    folder takes its own place below ``root``; what was there is moved to
    ``PATH.before-restore-STAMP``, and ``staging`` is only where archives lie meanwhile.

    :class:`BackupError` before anything has a place where the target exists or has no room, or
    nothing would be restored; :class:`Unverified` where an archive is not the one in the manifest,
    or has members that would leave the target; :class:`Locked` while another restore is at work
    there. Killed, it leaves a hidden folder that the next one with the same target removes; in
    place, what has been swapped by then is new and the rest is old, and nothing is lost.
    """
    wanted, missing = _readable(manifest, identities, parts)
    notes = Notes()
    with contextlib.ExitStack() as stack:
        if not in_place:
            placing.refuse_occupied(staging)
        space = placing.beside(staging, stack)
        placing.need(space, sum(archive.size for archive in wanted.values()))
        archives = {}
        for part, archive in wanted.items():
            file = stack.enter_context(tempfile.TemporaryFile(dir=space.path))
            _fetch(reader, archive, file, Step("fetch", part), progress)
            archives[part] = members.Archive(file, members.compression(archive.name), identities)
        plan = Plan({part: members.contents(it) for part, it in archives.items()}, paths)
        places = Places(plan, space, root if in_place else None, notes, stack)
        places.need_room(_MARGIN)
        restored = Restored(tops=[f"/{os.fsdecode(top)}" for top in plan.tops], missing=missing)
        _write(archives, plan, places, restored, progress)
        progress(Step("compare"))
        for contents in plan.parts.values():
            _compare(contents, places, notes, strict=in_place)
        plan.tell_absent(notes)
        if in_place:
            _put_in_place(plan, places, restored)
        else:
            os.rename(space.path, staging)
    restored.problems = notes.sentences()
    return restored


def _readable(
    manifest: Manifest, identities: Sequence[X25519PrivateKey], parts: Iterable[str] | None
) -> tuple[dict[str, Archive], list[str]]:
    """The archives that are wanted and can be read, the operator's first, and the parts that no
    identity opens.
    """
    if manifest.kind != "full":
        raise BackupError(f"{manifest.name} has no archives: it is the same as #{manifest.same_as}")
    keys = {age.fingerprint(age.public(identity)) for identity in identities}
    asked = sorted(
        manifest.archives if parts is None else parts, key=lambda it: (it != OPERATOR, it)
    )
    wanted, missing = {}, []
    for part in asked:
        if part not in manifest.archives:
            have = ", ".join(sorted(manifest.archives))
            raise BackupError(f"{manifest.name} has no part {part!r}; it has {have}")
        if keys.isdisjoint(manifest.archives[part].recipients):
            missing.append(part)
        else:
            wanted[part] = manifest.archives[part]
    if missing and (parts is not None or not wanted):
        raise BackupError(f"none of the identities opens {', '.join(missing)} of {manifest.name}")
    return wanted, missing


def _fetch(
    reader: Reader, archive: Archive, file: BinaryIO, step: Step, progress: telling.Progress
) -> None:
    """Copies an archive from the vault; :class:`Unverified` unless it is what was signed."""
    hashed, size = hashlib.sha256(), 0
    try:
        with reader.open(archive.name) as source:
            for block in extract.blocks(source, archive.size + 1):
                hashed.update(block)
                file.write(block)
                size += len(block)
                progress(dataclasses.replace(step, bytes=size, of_bytes=archive.size))
    except FileNotFoundError:
        raise BackupError(
            f"{archive.name} is not in the vault {reader.name}: take another vault, or a snapshot"
            " that its retention still keeps"
        ) from None
    except OSError as error:
        raise BackupError(f"{archive.name} could not be fetched: {error}") from None
    if (size, hashed.hexdigest()) != (archive.size, archive.sha256):
        raise Unverified(
            f"{archive.name} in the vault {reader.name} is not what was signed: nothing is restored"
        )


def _write(
    archives: Mapping[str, members.Archive],
    plan: Plan,
    places: Places,
    restored: Restored,
    progress: telling.Progress,
) -> None:
    """Writes everything, links and attributes of folders last."""
    for part, archive in archives.items():
        entries = plan.parts[part].entries
        for member, content in archive.members():
            name = plan.goes_to(part, member.name)
            entry = entries.get(member.name)
            if (
                name is None
                or entry is None
                or member.kind == HARD
                or member.number != entry.number
            ):
                continue
            _, tree, below = places.at(name)
            tree.write(below, member, content)
            if member.kind == FILE:
                restored.files += 1
                restored.bytes += entry.size
                progress(Step("restore", part, restored.files, restored.bytes))
    for first, name in plan.links():
        _, other, target = places.at(first)
        _, tree, below = places.at(name)
        tree.link(target, below, other)
    for tree in places.trees():
        tree.finish()


def _compare(part: Contents, places: Places, notes: Notes, strict: bool) -> None:
    """Compares what was written with the index; ``strict`` makes a difference an error."""
    differing = compare(part.index, places.path, owners=os.geteuid() == 0)
    if strict and differing:
        words, path = differing[0]
        raise BackupError(
            f"nothing was put in place, for {len(differing)} entries are not as the index of the"
            f" archive says: {path} {words}"
        )
    for words, path in differing:
        notes.add(words, path)


def _put_in_place(plan: Plan, places: Places, restored: Restored) -> None:
    """Swaps in top after top, once all of it is on the disk."""
    os.sync()
    stamp = dt.datetime.now(dt.timezone.utc).strftime(STAMP)
    for top in plan.tops:
        new = places.path(b"/" + top)
        if new is not None:
            target = places.target(top)
            aside = extract.swap(os.fsdecode(new), target, stamp)
            if aside:
                restored.moved[target] = aside

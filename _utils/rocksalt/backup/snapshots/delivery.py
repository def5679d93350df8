"""Brings every vault up to date: in order, each by itself, and never onto two ends of the chain."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from rocksalt.backup import manifest as manifests
from rocksalt.backup import names
from rocksalt.backup.errors import (
    FAILED,
    OK,
    WARNINGS,
    BackupError,
    Unreachable,
    Unverified,
    VaultError,
)
from rocksalt.backup.manifest import Manifest
from rocksalt.backup.progress import Progress, Step
from rocksalt.backup.snapshots.lines import Line, confirmed, fetch, lacking, own
from rocksalt.backup.snapshots.spool import Head, Known, Spool
from rocksalt.backup.vaults import Vault

_BLOCK = 1 << 20


def deliver(spool: Spool, line: Line, lines: Iterable[Line], known: dict[str, Known],
            instance: str, signer: str, progress: Progress) -> None:  # fmt: skip
    """Puts everything that a vault does not have yet; what fails is tried again by the next run."""
    with line.kept():
        while True:
            head = spool.head()
            after = known[line.name].newest
            if head is None or after >= head.manifest.sequence:
                break
            entry = _entry(spool, after + 1, line, lines, instance, signer)
            if line.head and entry.manifest.previous != line.head.digest:
                raise VaultError(
                    f"its newest snapshot {line.head.manifest.name} is not the one that"
                    f" {entry.manifest.name} follows"
                )
            _put(spool, line, entry.manifest, progress)
            line.head = entry
            known[line.name] = Known(known[line.name].first, after + 1)
            spool.remember(known)
        line.faults = line.vault.faults()


def _put(spool: Spool, line: Line, manifest: Manifest, progress: Progress) -> None:
    """Archives, then the signature, then the manifest: with that the snapshot exists."""
    folder, total = spool.entry(manifest), 0
    archives = list(manifest.archives.values()) if line.archives else []
    of_bytes = sum(archive.size for archive in archives)
    progress(Step("upload", line.name, bytes=0, of_bytes=of_bytes))
    for archive in archives:
        _put_archive(line.vault, folder / archive.name, archive.sha256)
        total += archive.size
        progress(Step("upload", line.name, bytes=total, of_bytes=of_bytes))
    for name in (manifest.name + names.SIGNATURE, manifest.name):
        path = folder / name
        line.vault.put(name, path, manifests.digest(path.read_bytes()))
    receipt = line.vault.receipt(manifest.name)
    line.receipt = _received(receipt[0]) if receipt else ""


def _put_archive(vault: Vault, path: Path, sha256: str) -> None:
    """Where a vault refuses an archive that the disk has damaged, no later run tries that again."""
    try:
        vault.put(path.name, path, sha256)
    except Unreachable:
        raise
    except VaultError:
        with open(path, "rb") as file:
            if _digest(file) == sha256:
                raise
        path.unlink()
        raise VaultError(
            f"{path} is damaged and is removed: the next run makes up for it"
        ) from None


def _digest(source: BinaryIO, target: BinaryIO | None = None) -> str:
    """The SHA-256 of what is read, and written to ``target`` if there is one."""
    digest = hashlib.sha256()
    while block := source.read(_BLOCK):
        digest.update(block)
        if target:
            target.write(block)
    return digest.hexdigest()


def _received(receipt: bytes) -> str:
    try:
        return str(json.loads(receipt)["received"])
    except (ValueError, KeyError, TypeError):
        return ""


def _entry(spool: Spool, sequence: int, line: Line, lines: Iterable[Line], instance: str,
           signer: str) -> Head:  # fmt: skip
    """A snapshot in the outbox, with its archives where they are wanted: what is not there any more
    comes from another vault.
    """
    found = spool.find(sequence)
    if found and not (line.archives and lacking(spool, found.manifest)):
        return found
    for other in lines:
        if other is line or not other.says or (line.archives and not other.archives):
            continue
        with contextlib.suppress(BackupError, OSError):
            return _borrowed(spool, other.vault, sequence, line.archives, instance, signer)
    raise VaultError(
        f"needs snapshot #{sequence}, which is not in the outbox any more, and no other vault gives"
        " it to this master: copy it there from another vault, with all after it"
    )


def _borrowed(spool: Spool, vault: Vault, sequence: int, archives: bool, instance: str,
              signer: str) -> Head:  # fmt: skip
    name = next(
        name for name in [*vault.names(), ""]
        if not name or (names.MANIFEST.fullmatch(name) and int(name[:8]) == sequence)
    )  # fmt: skip
    if not name:
        raise VaultError(f"{vault.name} has no snapshot #{sequence}")
    head = fetch(vault, name)
    own(head, instance, signer)
    if not spool.entry(head.manifest).exists():
        spool.borrow(head)
    for archive in lacking(spool, head.manifest) if archives else ():
        target = spool.entry(head.manifest) / archive.name
        part = target.with_name(f"{archive.name}.part")
        with vault.open(archive.name) as source, open(part, "wb") as file:
            right = _digest(source, file) == archive.sha256
        if not right:
            part.unlink()
            raise Unverified(f"{vault.name}: {archive.name} is not what its manifest says")
        os.replace(part, target)
    return head


def tidy(spool: Spool, known: Mapping[str, Known]) -> None:
    """Takes out of the outbox what every vault has."""
    everywhere = min(entry.newest for entry in known.values())
    for head in spool.pending():
        if head.manifest.sequence <= everywhere:
            spool.drop(head.manifest)


def judge(lines: Iterable[Line], known: Mapping[str, Known], sequence: int, success: int) -> int:
    """The exit code for what the vaults did with a snapshot; ``success`` is the number of vaults
    that must have it, 0 all of them. A vault that is not what was signed outweighs that.
    """
    lines = list(lines)
    have = sum(known[line.name].newest >= sequence for line in lines)
    codes = {line.code for line in lines if line.code != OK}
    if Unverified.code in codes:
        return Unverified.code
    if have < (success or len(lines)):
        return Unreachable.code if codes == {Unreachable.code} else FAILED
    return OK if not codes else WARNINGS


def described(lines: Iterable[Line], known: Mapping[str, Known], before: Mapping[str, Any],
              now: str) -> dict[str, dict[str, Any]]:  # fmt: skip
    """What the status says of each vault: the newest snapshot that it has, when that was known, and
    what is wrong. ``before`` is what the status said last.
    """
    found = {}
    for line in lines:
        last = before.get(line.name, {})
        entry = known.get(line.name)
        sequence = confirmed([entry]) if entry else last.get("sequence", 0)
        news = sequence != last.get("sequence")
        found[line.name] = {
            "sequence": sequence,
            "time": now if news else last.get("time", now),
            "error": line.error,
            "receipt": line.receipt or ("" if news else last.get("receipt", "")),
            "faults": line.faults or ([] if not line.error else last.get("faults", [])),
        }
    return found

"""Brings every vault up to date: in order, each by itself, and never onto two ends of the chain."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from rocksalt.backup import manifest as manifests
from rocksalt.backup import names, sshsig
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
from rocksalt.backup.spool import Head, Known, Spool
from rocksalt.backup.vaults import Vault

_BLOCK = 1 << 20


@dataclass
class Line:
    """One vault in this run: whether it takes archives, whether it ``answered`` and could ``say``
    what it has, its newest snapshot, what went wrong (with the exit code of that), what its
    receiver said of the newest manifest, and why it can be rewritten.
    """

    vault: Vault
    archives: bool
    answered: bool = False
    says: bool = False
    head: Head | None = None
    error: str = ""
    code: int = OK
    receipt: str = ""
    faults: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.vault.name

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever goes wrong with this vault stays with this vault."""
        try:
            yield
        except BackupError as error:
            self.fail(str(error), error.code)
        except Exception as error:  # a vault's library raises what it likes
            self.fail(f"{type(error).__name__}: {error}")

    def fail(self, error: str, code: int = FAILED) -> None:
        self.error, self.code = error, code


def ask(line: Line, instance: str, signer: str) -> None:
    """Finds out what a vault has; ``signer`` is the public key of this master."""
    with line.kept():
        try:
            found = _newest(line.vault)
        except Unreachable:
            raise
        except VaultError:  # it may take snapshots and tell nothing
            line.answered = True
            return
        line.answered = True
        if found:
            _own(found, instance, signer)
        line.head, line.says = found, True


def _newest(vault: Vault) -> Head | None:
    known = sorted(filter(names.MANIFEST.fullmatch, vault.names()))
    return _fetch(vault, known[-1]) if known else None


def _fetch(vault: Vault, name: str) -> Head:
    with vault.open(name) as file:
        data = file.read(manifests.LARGEST)
    with vault.open(name + names.SIGNATURE) as file:
        return _head(name, data, file.read(manifests.LARGEST))


def _head(name: str, data: bytes, signature: bytes) -> Head:
    return Head(manifests.read(data, name), data, signature)


def _own(head: Head, instance: str, signer: str) -> None:
    """Whether a snapshot is of this master."""
    if head.manifest.instance != instance:
        raise Unverified(f"holds the snapshots of {head.manifest.instance}, not of {instance}")
    try:
        sshsig.verify(head.data, head.signature, manifests.NAMESPACE, [signer])
    except Unverified as error:
        raise Unverified(
            f"its newest snapshot {head.manifest.name} {error}: the chain goes on with the signing"
            " key it began with only; restore that key, or choose another hardening:backup:instance"
        ) from None


def confirmed(known: Iterable[Known]) -> int:
    """The newest snapshot that some vault confirmed; 0 without one. It is never given up."""
    return max((entry.newest for entry in known if entry.newest >= entry.first), default=0)


def learn(line: Line, known: dict[str, Known]) -> None:
    """Remembers what a vault has. What it confirmed once only grows: a vault that has less lost
    snapshots, and whoever signed them anew would make a second past of them.
    """
    entry = known.get(line.name)
    had = confirmed([entry] if entry else [])
    newest = line.head.manifest.sequence if line.head else 0
    if line.says and newest < had:
        has = f"has #{newest}" if newest else "is empty"
        line.fail(
            f"{has}, and confirmed #{had}: its disk is not mounted, or snapshots were removed from"
            " it; find out why and verify it; to begin anew, give it an empty place and another"
            " name below hardening:backup:vaults",
            Unverified.code,
        )
    elif newest:
        first = entry.first if entry and entry.first <= newest else 1
        known[line.name] = Known(first, newest)


def reconcile(spool: Spool, lines: Iterable[Line], safe: int) -> list[str]:
    """Goes on from the newest snapshot of the vaults where this spool is lost or an old copy;
    returns a sentence for each thing that was done.

    What no vault has gives way; where vaults have different chains, the one that does not fit is
    left alone with an error. Some vault confirmed everything up to ``safe``: :class:`Unverified`
    where none of those that answer has so much, and neither has the spool.
    """
    local = spool.head()
    newest = local.manifest.sequence if local else 0
    strange = [
        line for line in lines
        if line.head and (line.head.manifest.sequence > newest or spool.has(line.head) is False)
    ]  # fmt: skip
    heads = {line.name: line.head for line in strange if line.head}
    if not heads:
        return []
    where, best = max(heads.items(), key=lambda item: item[1].manifest.sequence)
    ahead = best.manifest.sequence > newest
    if ahead and best.manifest.sequence < safe:
        raise Unverified(
            f"the spool {spool.path} has no snapshot after #{newest}, and the newest in the vaults"
            f" that answer is {best.manifest.name}, in {where}; but some vault confirmed #{safe}:"
            " to go on from an older one would make a second past"
        )
    if not ahead and best.manifest.sequence <= safe:
        for line in strange:
            sequence = heads[line.name].manifest.sequence
            line.fail(f"has another snapshot #{sequence} than this master", Unverified.code)
        return []
    told = [
        f"the spool has no snapshot after #{newest}, and the vault {where} has"
        f" {best.manifest.name}: the chain goes on from there"
    ]
    told += [f"{name} was in no vault and is given up" for name in spool.give_up(safe)]
    spool.adopt(best)
    return told


def mend(spool: Spool, safe: int) -> list[str]:
    """Goes back to ``safe``, the newest snapshot that some vault confirmed, if one after it is
    damaged here: nobody could get that one any more, or any that follows. Returns a sentence for
    each thing that was done.
    """
    head = spool.head()
    for sequence in range(safe + 1, head.manifest.sequence + 1 if head else 0):
        found = spool.find(sequence)
        if found is None or _lacking(spool, found.manifest):
            why = f"no vault has it, and #{sequence} is damaged"
            return [f"{name} is given up: {why}" for name in spool.give_up(safe)]
    return []


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
    if found and not (line.archives and _lacking(spool, found.manifest)):
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
    head = _fetch(vault, name)
    _own(head, instance, signer)
    if not spool.entry(head.manifest).exists():
        spool.borrow(head)
    for archive in _lacking(spool, head.manifest) if archives else ():
        target = spool.entry(head.manifest) / archive.name
        part = target.with_name(f"{archive.name}.part")
        with vault.open(archive.name) as source, open(part, "wb") as file:
            right = _digest(source, file) == archive.sha256
        if not right:
            part.unlink()
            raise Unverified(f"{vault.name}: {archive.name} is not what its manifest says")
        os.replace(part, target)
    return head


def _lacking(spool: Spool, manifest: Manifest) -> list[manifests.Archive]:
    folder = spool.entry(manifest)
    return [a for a in manifest.archives.values() if not (folder / a.name).exists()]


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

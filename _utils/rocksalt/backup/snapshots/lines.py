"""What each vault has, and where the chain goes on: never before what one of them confirmed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rocksalt.backup import manifest as manifests
from rocksalt.backup import names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import (
    FAILED,
    OK,
    BackupError,
    Unreachable,
    Unverified,
    VaultError,
)
from rocksalt.backup.manifest import Manifest
from rocksalt.backup.snapshots.spool import Head, Known, Spool
from rocksalt.backup.vaults import Vault


@dataclass
class Line:
    """One vault in this run: whether it takes archives, whether it ``answered`` and ``says`` what
    it has (or why not: ``silence``), its newest snapshot, what went wrong (with the exit code of
    that), what its receiver said of the newest manifest, and why it can be rewritten.
    """

    vault: Vault
    archives: bool
    answered: bool = False
    says: bool = False
    silence: str = ""
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
        except VaultError as error:  # it may take snapshots and tell nothing
            line.answered, line.silence = True, str(error)
            return
        line.answered = True
        if found:
            own(found, instance, signer)
        line.head, line.says = found, True


def _newest(vault: Vault) -> Head | None:
    known = sorted(filter(names.MANIFEST.fullmatch, vault.names()))
    return fetch(vault, known[-1]) if known else None


def fetch(vault: Vault, name: str) -> Head:
    """A manifest in a vault, as it is there; nothing of it was verified."""
    with vault.open(name) as file:
        data = file.read(manifests.LARGEST)
    with vault.open(name + names.SIGNATURE) as file:
        return _head(name, data, file.read(manifests.LARGEST))


def _head(name: str, data: bytes, signature: bytes) -> Head:
    return Head(manifests.read(data, name), data, signature)


def own(head: Head, instance: str, signer: str) -> None:
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
        if found is None or lacking(spool, found.manifest):
            why = f"no vault has it, and #{sequence} is damaged"
            return [f"{name} is given up: {why}" for name in spool.give_up(safe)]
    return []


def lacking(spool: Spool, manifest: Manifest) -> list[manifests.Archive]:
    """The archives of a snapshot in the outbox that are not there any more."""
    folder = spool.entry(manifest)
    return [a for a in manifest.archives.values() if not (folder / a.name).exists()]

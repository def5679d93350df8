"""Snapshots on their way: the local chain of manifests, the outbox, and what each vault has.

::

    lock                            held by the run that is at work
    vaults.json                     the newest sequence that each vault confirmed
    chain/STEM.json, .json.sig      manifests of this master, the newest few hundred
    index/STEM/                     what the last full looked like, a file for each part
    STEM.partial/                   a snapshot that is being built; left by a run that was killed
    outbox/STEM/                    a signed snapshot that some vault does not have yet

Each step is one rename, so a run that was killed leaves either the state before it or the one after
it, and :meth:`Spool.heal` does the rest of what it had begun.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rocksalt.backup import manifest as manifests
from rocksalt.backup.errors import BackupError, Locked, Unverified
from rocksalt.backup.manifest import Manifest
from rocksalt.backup.names import SIGNATURE
from rocksalt.host import Host, synchronise

KEPT = 500
"""Manifests in the local chain; the whole chain is in the vaults."""
SPARE = 0.1
"""Part of the disk that snapshots for absent vaults never fill."""
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Head:
    """A signed manifest, as it is in a vault."""

    manifest: Manifest
    data: bytes
    signature: bytes

    @property
    def digest(self) -> str:
        return manifests.digest(self.data)


@dataclass(frozen=True)
class Known:
    """What a vault has: every snapshot from ``first`` to ``newest``, which is ``first`` - 1 for one
    that has none yet.
    """

    first: int
    newest: int


class Spool:
    """The folder ``hardening:backup:spool``, which belongs to the run that holds its lock."""

    def __init__(self, path: str):
        self.path = Path(path)
        self.chain = self.path / "chain"
        self.outbox = self.path / "outbox"
        self.index = self.path / "index"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else uses the spool meanwhile; :class:`Locked` where somebody does."""
        for folder in (self.path, self.chain, self.outbox, self.index):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise BackupError(f"the spool {folder} cannot be made: {error.strerror}") from None
        try:
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BackupError(f"the spool {self.path} cannot be used: {error.strerror}") from None
        try:
            self._lock(handle)
            yield
        finally:
            os.close(handle)

    def _lock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(f"another snapshot is at work: {self.path}/lock is held") from None

    def heal(self) -> list[str]:
        """Ends what a run that was killed had begun; a sentence for each snapshot in the outbox
        that the disk has damaged, which is gone then.
        """
        lost = []
        for left in [*self.path.glob(f"*{_PARTIAL}"), *self.outbox.glob(f"*{_PARTIAL}")]:
            shutil.rmtree(left)
        for entry in self._entries():
            try:
                _read(entry / f"{entry.name}.json")
                self._settle(entry)
            except (FileNotFoundError, Unverified) as error:
                shutil.rmtree(entry)
                lost.append(f"{entry} was damaged and is removed: {error}")
        for folder in sorted(self.index.iterdir())[:-1]:
            shutil.rmtree(folder)
        self._prune()
        return lost

    def _prune(self) -> None:
        """Keeps the newest manifests, and the newest full one."""
        kept = {path.stem for path in sorted(self.chain.glob("*.json"))[-KEPT:]}
        kept |= {folder.name for folder in self.index.iterdir()}
        for path in self.chain.iterdir():
            if path.name.removesuffix(SIGNATURE).removesuffix(".json") not in kept:
                path.unlink()

    def head(self) -> Head | None:
        """The newest snapshot of this master, None before the first one. What is damaged counts as
        lost: the vaults know better.
        """
        for path in sorted(self.chain.glob("*.json"), reverse=True):
            with contextlib.suppress(OSError, Unverified):
                return _read(path)
        return None

    def full(self) -> Manifest | None:
        """The newest full snapshot, if what it looked like is known."""
        for folder in sorted(self.index.iterdir(), reverse=True):
            with contextlib.suppress(OSError, Unverified):
                return _read(self.chain / f"{folder.name}.json").manifest
        return None

    def has(self, head: Head) -> bool | None:
        """Whether a snapshot is in the local chain; None where that has none of its sequence."""
        for path in self.chain.glob(f"{head.manifest.sequence:08d}-*.json"):
            same = path.name == head.manifest.name
            return same and manifests.digest(path.read_bytes()) == head.digest
        return None

    def digest(self, sequence: int) -> str:
        """The SHA-256 of the manifest with a sequence; empty where the local chain has none."""
        for path in self.chain.glob(f"{sequence:08d}-*.json"):
            return manifests.digest(path.read_bytes())
        return ""

    def adopt(self, head: Head) -> None:
        """Goes on from a snapshot that a vault has and this spool does not."""
        self._write(self.chain / (head.manifest.name + SIGNATURE), head.signature)
        self._write(self.chain / head.manifest.name, head.data)

    def partial(self, stem: str) -> Path:
        """A new folder to build a snapshot in."""
        folder = self.path / f"{stem}{_PARTIAL}"
        (folder / "index").mkdir(mode=0o700, parents=True)
        return folder

    def commit(self, folder: Path, head: Head) -> None:
        """Makes what was built in ``folder`` the newest snapshot; from here on it exists."""
        self._write(folder / (head.manifest.name + SIGNATURE), head.signature)
        self._write(folder / head.manifest.name, head.data)
        synchronise(folder)
        entry = self.outbox / head.manifest.stem
        os.rename(folder, entry)
        synchronise(self.outbox)
        self._settle(entry)

    def _settle(self, entry: Path) -> None:
        """What follows from a snapshot being in the outbox: it is in the chain, and what it looked
        like is known.
        """
        name = f"{entry.name}.json"
        for path in (entry / (name + SIGNATURE), entry / name):
            if not (self.chain / path.name).exists():
                self._write(self.chain / path.name, path.read_bytes())
        if (entry / "index").exists():
            shutil.rmtree(self.index / entry.name, ignore_errors=True)
            os.rename(entry / "index", self.index / entry.name)

    def pending(self) -> list[Head]:
        """The snapshots in the outbox, the oldest first."""
        return [_read(entry / f"{entry.name}.json") for entry in self._entries()]

    def find(self, sequence: int) -> Head | None:
        """The snapshot with a sequence, if it is in the outbox."""
        for entry in self.outbox.glob(f"{sequence:08d}-*Z"):
            return _read(entry / f"{entry.name}.json")
        return None

    def entry(self, manifest: Manifest) -> Path:
        """The folder of a snapshot in the outbox."""
        return self.outbox / manifest.stem

    def borrow(self, head: Head) -> None:
        """Puts a snapshot that another vault has into the outbox, without its archives."""
        folder = self.outbox / f"{head.manifest.stem}{_PARTIAL}"
        folder.mkdir(mode=0o700)
        self._write(folder / (head.manifest.name + SIGNATURE), head.signature)
        self._write(folder / head.manifest.name, head.data)
        os.rename(folder, self.entry(head.manifest))

    def drop(self, manifest: Manifest) -> None:
        """Takes a snapshot out of the outbox."""
        entry = self.entry(manifest)
        os.rename(entry, f"{entry}{_PARTIAL}")
        shutil.rmtree(f"{entry}{_PARTIAL}")

    def give_up(self, after: int) -> list[str]:
        """Forgets the snapshots with a higher sequence, which no vault has; returns their names,
        the newest first.
        """
        for head in reversed(self.pending()):
            if head.manifest.sequence > after:
                self.drop(head.manifest)
        gone = [path for path in self.chain.glob("*.json") if int(path.name[:8]) > after]
        for path in sorted(gone, reverse=True):
            path.unlink()
            path.with_name(path.name + SIGNATURE).unlink(missing_ok=True)
        return [path.name for path in sorted(gone, reverse=True)]

    def known(self) -> dict[str, Known]:
        """What each vault confirmed, as far as is known here."""
        try:
            value = json.loads((self.path / "vaults.json").read_bytes())
            return {name: Known(**entry) for name, entry in value.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def remember(self, known: Mapping[str, Known]) -> None:
        """Replaces what is known of these vaults; of one that is not used any more, it stays."""
        both = {**self.known(), **known}
        value = {name: dataclasses.asdict(entry) for name, entry in both.items()}
        self._write(self.path / "vaults.json", manifests.canonical(value))

    def free(self) -> int:
        """Bytes that snapshots may still fill."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize - int(SPARE * disk.f_blocks * disk.f_frsize)

    def make_room(self, needed: int, held: int) -> list[str]:
        """Removes the archives of the oldest snapshots up to the sequence ``held``, which some
        vault has, until ``needed`` bytes are free; manifests stay. Returns the archives' names.
        """
        removed = []
        for manifest in (head.manifest for head in self.pending()):
            for archive in manifest.archives.values():
                path = self.entry(manifest) / archive.name
                if manifest.sequence <= held and self.free() < needed and path.exists():
                    path.unlink()
                    removed.append(archive.name)
        return removed

    def _entries(self) -> list[Path]:
        return sorted(path for path in self.outbox.iterdir() if path.suffix != _PARTIAL)

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        Host().write(str(path), data.decode("ascii"), mode="0600")


def _read(path: Path) -> Head:
    data = path.read_bytes()
    signature = path.with_name(path.name + SIGNATURE).read_bytes()
    return Head(manifests.read(data, path.name), data, signature)

"""A vault in memory, and a master, an offline authority and a receiver that fill it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import itertools
from collections.abc import Mapping
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rocksalt.backup import manifest, names
from rocksalt.backup.crypto import age, recipients
from rocksalt.backup.crypto.sshsig import Signer
from rocksalt.backup.manifest import Archive, Manifest, digest
from rocksalt.backup.proof import receipts
from rocksalt.backup.proof.judge import Pins
from rocksalt.backup.vaults import Reader, Stored

HOUR = dt.timedelta(hours=1)
BEGIN = dt.datetime(2026, 11, 22, 1, 0, tzinfo=dt.timezone.utc)


def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


class Memory(Reader):
    """Objects by name; ``failing`` ones raise, and reads give ``piece`` bytes at a time."""

    def __init__(self, name: str = "attic"):
        self.name = name
        self.objects: dict[str, bytes] = {}
        self.failing: dict[str, Exception] = {}
        self.piece = 1 << 30

    def names(self) -> Mapping[str, Stored]:
        return {name: Stored(len(data)) for name, data in self.objects.items()}

    def open(self, name: str) -> BinaryIO:
        if name in self.failing:
            raise self.failing[name]
        if name not in self.objects:
            raise FileNotFoundError(name)
        return Trickle(self.objects[name], self.piece)

    def copy(self, name: str) -> Memory:
        other = Memory(name)
        other.objects = dict(self.objects)
        return other


class Trickle(io.BytesIO):
    def __init__(self, data: bytes, piece: int):
        super().__init__(data)
        self.piece = piece

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self.piece if size is None or size < 0 else min(size, self.piece))


class World:
    """The master ``salt1`` takes a snapshot an hour; its own vault is ``vault``."""

    def __init__(self) -> None:
        self.key, self.authority, self.receiver, self.reporter = (signer() for _ in range(4))
        self.ids = {name: age.generate() for name in ("operator", "escrow", "acme", "other")}
        self.vault = Memory()
        self.settings: dict[str, Any] = {
            "instance": "salt1",
            "revision": 1,
            "recipients": [self.ids["operator"][1], self.ids["escrow"][1]],
            "escrow": self.ids["escrow"][1],
            "customers": {"acme": {"recipients": [self.ids["acme"][1]], "paths": ["/srv/acme"]}},
            "authority": self.authority.public,
        }
        self.authorise()
        self.chain: list[Manifest] = []
        self.numbers = itertools.count()

    @property
    def now(self) -> dt.datetime:
        """Ten minutes after the newest snapshot was finished."""
        newest = self.chain[-1].finished if self.chain else names.utc(BEGIN)
        return names.parsed(newest) + dt.timedelta(minutes=10)

    def pins(self, **changes: Any) -> Pins:
        good = Pins("salt1", (self.key.public,), self.authority.public, reporters=())
        return dataclasses.replace(good, **changes)

    def authorise(self, by: Signer | None = None) -> None:
        record = recipients.record_bytes(self.settings)
        signature = (by or self.authority).sign(record, recipients.NAMESPACE)
        self.settings["authorisation"] = signature.decode()

    def archive(self, stem: str, part: str, to: list[str] | None = None) -> Archive:
        """Puts an archive; its content is a number."""
        file = io.BytesIO()
        keys = recipients.of(self.settings, part)
        writer = age.Writer(file, keys if to is None else to)
        writer.write(f"{next(self.numbers)}".encode())
        writer.close()
        name = names.archive(stem, part, "zstd")
        self.vault.objects[name] = file.getvalue()
        return Archive(
            name=name,
            sha256=digest(file.getvalue()),
            size=len(file.getvalue()),
            recipients=sorted(map(age.fingerprint, keys)),
            files=1,
            bytes=1,
            changed=1,
        )

    def draft(self, kind: str = "full", before: Manifest | None = None, **changes: Any) -> Manifest:
        """The manifest of the next snapshot, or of the one behind ``before``; a full one with its
        archives put.
        """
        before = before or (self.chain[-1] if self.chain else None)
        number = before.sequence + 1 if before else 1
        started = changes.pop("at", None) or BEGIN + number * HOUR
        fulls = [m.sequence for m in self.chain if m.kind == "full"]
        archives = {}
        if kind == "full":
            parts = [names.OPERATOR, *(names.CUSTOMER + c for c in self.settings["customers"])]
            stem = names.stem(number, started)
            archives = {part: self.archive(stem, part) for part in parts}
        return dataclasses.replace(
            Manifest(
                instance="salt1",
                sequence=number,
                previous=digest(before.to_bytes()) if before else "",
                kind=kind,
                same_as=fulls[-1] if kind == "same" else 0,
                started=names.utc(started),
                finished=names.utc(started + dt.timedelta(minutes=1)),
                next=names.utc(started + HOUR),
                archives=archives,
                recipients=recipients.record(self.settings),
                authorisation=self.settings["authorisation"],
                warnings={},
                versions={"rocksalt": "0.1.0"},
            ),
            **changes,
        )

    def put(self, found: Manifest, by: Signer | None = None) -> Manifest:
        """Signs a manifest and puts it."""
        data = found.to_bytes()
        self.vault.objects[found.name + ".sig"] = (by or self.key).sign(data, manifest.NAMESPACE)
        self.vault.objects[found.name] = data
        return found

    def append(self, found: Manifest, by: Signer | None = None) -> Manifest:
        """Puts a manifest as the newest."""
        self.chain.append(self.put(found, by))
        return found

    def add(self, kind: str = "full", **changes: Any) -> Manifest:
        """The next snapshot."""
        return self.append(self.draft(kind, **changes))

    def witness(self, *found: Manifest, by: Signer | None = None, **changes: Any) -> None:
        """Puts receipts; a minute after the snapshot was finished unless told otherwise."""
        by = by or self.receiver
        for one in found:
            said = receipts.Receipt(
                instance="salt1",
                sequence=one.sequence,
                manifest=digest(one.to_bytes()),
                received=names.utc(names.parsed(one.finished) + dt.timedelta(minutes=1)),
                receiver=by.public,
            )
            data = manifest.canonical(dataclasses.asdict(dataclasses.replace(said, **changes)))
            self.sign(one.stem + names.RECEIPT, data, by, receipts.NAMESPACE)

    def prune(self, archive: Archive, /, by: Signer | None = None, **changes: str) -> None:
        """Removes an archive as retention does."""
        by = by or self.receiver
        said = {"instance": "salt1", "archive": archive.name, "sha256": archive.sha256, **changes}
        data = receipts.write(
            receipts.Tombstone(**said, pruned=names.utc(BEGIN), receiver=by.public)
        )
        self.sign(archive.name + names.PRUNED, data, by, receipts.NAMESPACE)
        del self.vault.objects[archive.name]

    def sign(self, name: str, data: bytes, by: Signer, namespace: str) -> None:
        self.vault.objects[name] = data
        self.vault.objects[name + ".sig"] = by.sign(data, namespace)

"""Which snapshot is meant, and whose it is."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
from collections.abc import Mapping
from typing import Any, BinaryIO

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rocksalt.backup import manifest, names
from rocksalt.backup.crypto.sshsig import Signer
from rocksalt.backup.errors import BackupError, Unverified
from rocksalt.backup.proof.verify import Pins
from rocksalt.backup.restoring import fetch
from rocksalt.backup.vaults import Reader, Stored

SIGNER, STRANGER = (Signer(Ed25519PrivateKey.generate()) for _ in range(2))
PINS = Pins("salt", (SIGNER.public,), "")
ARCHIVE = {"operator": manifest.Archive("", "0" * 64, 1, ["x"], 1, 1, 1)}


class Memory(Reader):
    name = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def names(self) -> Mapping[str, Stored]:
        return {name: Stored(len(data)) for name, data in self.objects.items()}

    def open(self, name: str) -> BinaryIO:
        if name not in self.objects:
            raise FileNotFoundError(name)
        return io.BytesIO(self.objects[name])

    def add(self, it: manifest.Manifest, signer: Signer = SIGNER) -> None:
        data = it.to_bytes()
        self.objects[it.name] = data
        self.objects[f"{it.name}.sig"] = signer.sign(data, manifest.NAMESPACE)


def snapshot(sequence: int, **other: Any) -> manifest.Manifest:
    """The snapshot of an hour: #1 at one o'clock."""
    started = f"2026-11-22T{sequence:02}:00:00Z"
    stem = names.stem(sequence, names.parsed(started))
    archives = {
        part: dataclasses.replace(it, name=names.archive(stem, part, "zstd"))
        for part, it in ARCHIVE.items()
    }
    it = manifest.Manifest(
        instance="salt", sequence=sequence, previous="", kind="full", same_as=0, started=started,
        finished=started, next=started, archives=archives, recipients={}, authorisation="",
        warnings={}, versions={},
    )  # fmt: skip
    return dataclasses.replace(it, **other)


def heartbeat(sequence: int, full: int) -> manifest.Manifest:
    return snapshot(sequence, kind="same", same_as=full, archives={})


@pytest.fixture
def vault() -> Memory:
    return Memory()


def test_signed_manifests_come_in_their_order(vault: Memory) -> None:
    for sequence in (2, 10, 1):
        vault.add(snapshot(sequence))
    vault.objects["00000003-20261122T030000Z.operator.tar.zst.age"] = b"no manifest"
    refused: list[str] = []
    assert [it.sequence for it in fetch.manifests(vault, PINS, refused)] == [1, 2, 10]
    assert refused == []


def test_what_the_master_did_not_sign_is_refused_and_named(vault: Memory) -> None:
    vault.add(snapshot(1))
    vault.add(snapshot(2), STRANGER)
    vault.add(snapshot(3, instance="other"))
    vault.add(snapshot(4))
    vault.objects[snapshot(4).name] += b" "
    vault.add(snapshot(5))
    del vault.objects[f"{snapshot(5).name}.sig"]
    vault.objects[snapshot(6).name] = bytes(manifest.LARGEST + 1)
    refused: list[str] = []
    assert [it.sequence for it in fetch.manifests(vault, PINS, refused)] == [1]
    assert [sentence[:8] for sentence in refused] == [f"{n:08}" for n in range(2, 7)]
    for sentence, words in zip(
        refused,
        ("who is not trusted", "is of the instance other, not salt", "was changed after",
         "json.sig is not in the vault", "has more than 1048576 bytes"),
        strict=True,
    ):  # fmt: skip
        assert words in sentence
    assert [it.sequence for it in fetch.manifests(vault, PINS)] == [1]


def test_the_newest_or_one_by_number_or_by_time() -> None:
    known = [snapshot(3), snapshot(1), snapshot(2)]
    assert fetch.choose(known).sequence == 3
    assert fetch.choose(known, 1).sequence == 1
    at = dt.datetime(2026, 11, 22, 2, 59, tzinfo=dt.timezone.utc)
    assert fetch.choose(known, at).sequence == 2


def test_what_is_not_there_is_said_with_what_is() -> None:
    known = [snapshot(2), snapshot(3)]
    have = "there are 00000002-20261122T020000Z.json to 00000003-20261122T030000Z.json"
    with pytest.raises(BackupError, match=f"no snapshot with the number 7; {have}"):
        fetch.choose(known, 7)
    early = dt.datetime(2026, 11, 22, tzinfo=dt.timezone.utc)
    with pytest.raises(BackupError, match=f"begun by 2026-11-22T00:00:00Z; {have}"):
        fetch.choose(known, early)
    with pytest.raises(
        BackupError, match="no snapshot that is signed by the master; there is none"
    ):
        fetch.choose([])


def test_two_with_one_number_are_nobodys_choice() -> None:
    twin = snapshot(2, started="2026-11-22T02:30:00Z")
    known = [snapshot(1), snapshot(2), twin]
    with pytest.raises(Unverified, match=r"of which one can be true at most"):
        fetch.choose(known)
    assert fetch.choose(known, 1).sequence == 1


def test_a_heartbeat_leads_to_its_full() -> None:
    known = [snapshot(1), heartbeat(2, 1), heartbeat(3, 1)]
    assert fetch.full(known, known[2]) is known[0]
    assert fetch.full(known, known[0]) is known[0]


@pytest.mark.parametrize(
    ("known", "error", "words"),
    [
        ([heartbeat(2, 1)], BackupError, "is the same as #1: the vault has no snapshot"),
        ([heartbeat(1, 0), heartbeat(2, 1)], Unverified, "which is no full one before it"),
        ([heartbeat(2, 3), snapshot(3)], Unverified, "which is no full one before it"),
    ],
)
def test_a_heartbeat_that_leads_nowhere(known: Any, error: Any, words: str) -> None:
    chosen = next(it for it in known if it.sequence == 2)
    with pytest.raises(error, match=words):
        fetch.full(known, chosen)

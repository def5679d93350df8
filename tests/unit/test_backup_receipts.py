"""rocksalt.backup.proof.receipts: what a receiver says, and only a receiver."""

from __future__ import annotations

import json

import pytest
from backup_chain import signer

from rocksalt.backup.errors import BackupError, Unverified
from rocksalt.backup.proof import receipts
from rocksalt.backup.proof.receipts import Receipt, Tombstone

TIME = "2026-11-22T13:00:05Z"
ARCHIVE = "00000012-20261122T130000Z.operator.tar.zst.age"
HASH = "a" * 64


@pytest.fixture(scope="module")
def receiver():
    return signer()


def made(receiver, kind: str, /, **changes) -> tuple[bytes, bytes]:
    if kind == "receipt":
        data = receipts.write(Receipt("salt1", 12, HASH, TIME, f"{receiver.public} vault"))
    else:
        data = receipts.write(Tombstone("salt1", ARCHIVE, HASH, TIME, f"{receiver.public} vault"))
    if changes:
        data = json.dumps({**json.loads(data), **changes}).encode()
    return data, receiver.sign(data, receipts.NAMESPACE)


READ = {"receipt": Receipt, "tombstone": Tombstone}


def test_a_receipt(receiver):
    found = receipts.read(Receipt, "x", *made(receiver, "receipt"), [receiver.public])
    assert found == Receipt("salt1", 12, HASH, TIME, receiver.public)


def test_a_tombstone(receiver):
    found = receipts.read(Tombstone, "x", *made(receiver, "tombstone"), [f"{receiver.public} old"])
    assert found == Tombstone("salt1", ARCHIVE, HASH, TIME, receiver.public)


@pytest.mark.parametrize("kind", READ)
def test_one_is_not_the_other(receiver, kind):
    (other,) = READ.keys() - {kind}
    with pytest.raises(Unverified, match="no such key"):
        receipts.read(READ[kind], "x", *made(receiver, other), [receiver.public])


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"instance": "A"},
        {"receiver": "me"},
        {"more": 1},
        {"received": "now"},
        {"pruned": "now"},
        {"received": "2026-99-22T13:00:05Z"},
        {"pruned": "2026-99-22T13:00:05Z"},
    ],
)
def test_what_is_neither(receiver, kind, changes):
    with pytest.raises(Unverified, match=r"^x"):
        receipts.read(READ[kind], "x", *made(receiver, kind, **changes), [receiver.public])


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("kind", READ)
def test_what_is_nothing(receiver, kind, data):
    with pytest.raises(Unverified, match=r"^x"):
        receipts.read(
            READ[kind], "x", data, receiver.sign(data, receipts.NAMESPACE), [receiver.public]
        )


@pytest.mark.parametrize("kind", READ)
def test_by_somebody_else(receiver, kind):
    data, _ = made(receiver, kind)
    other = signer()
    with pytest.raises(Unverified, match=r"^x is signed by"):
        receipts.read(
            READ[kind], "x", data, other.sign(data, receipts.NAMESPACE), [receiver.public]
        )
    with pytest.raises(Unverified, match=r"^x speaks for"):
        receipts.read(READ[kind], "x", data, other.sign(data, receipts.NAMESPACE), [other.public])
    with pytest.raises(Unverified, match=r"^x is signed as"):
        receipts.read(READ[kind], "x", data, receiver.sign(data, "file"), [receiver.public])


def test_the_key_of_a_receiver_has_to_be_one():
    with pytest.raises(BackupError, match="is no public key"):
        receipts.write(Receipt("salt1", 12, HASH, TIME, "vault"))

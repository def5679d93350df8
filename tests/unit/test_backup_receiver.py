"""What a receiver takes, refuses, says and keeps, whatever a client sends."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backup_chain import BEGIN, HOUR, World, signer
from backup_receiving import Session, VaultHost, put_all

from rocksalt.backup import names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.crypto.sshsig import Signer
from rocksalt.backup.errors import Unreachable
from rocksalt.backup.manifest import LARGEST, canonical, digest
from rocksalt.backup.proof import receipts
from rocksalt.backup.vaults import receiver, retention, wire
from rocksalt.backup.vaults.file import MARKER
from rocksalt.backup.vaults.wire import Broken, Wire


@pytest.fixture(scope="module")
def world() -> World:
    """Three snapshots: a full, one that is the same, a full."""
    made = World()
    for kind in ("full", "same", "full"):
        made.add(kind)
    return made


@pytest.fixture
def host(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> VaultHost:
    return VaultHost(tmp_path, world, monkeypatch)


@pytest.fixture
def session(host: VaultHost) -> Iterator[Session]:
    made = host.session()
    yield made
    made.end()


def put_chain(session: Session, world: World, count: int = 3) -> None:
    for found in world.chain[:count]:
        assert put_all(session, world, found)["ok"]


def text(answer: dict[str, Any]) -> str:
    assert answer["ok"] is False
    return str(answer["text"])


def test_a_chain_is_taken_and_countersigned(
    host: VaultHost, session: Session, world: World
) -> None:
    host.clock = BEGIN + 5 * HOUR
    first = world.chain[0]
    answer = put_all(session, world, first)
    own = f"{first.stem}.receipt.json"
    said = receipts.read(
        receipts.Receipt,
        own,
        answer["receipt"].encode(),
        answer["signature"].encode(),
        [host.public],
    )
    assert said.sequence == 1
    assert said.manifest == digest(first.to_bytes())
    assert said.received == "2026-11-22T06:00:00Z"
    put_chain(session, world)
    objects = host.objects
    assert objects[own].decode() == answer["receipt"]
    assert objects[f"{own}.sig"].decode() == answer["signature"]
    assert {n: d for n, d in objects.items() if ".receipt." not in n} == world.vault.objects
    assert not list((host.path / ".incoming").glob("salt1"))


def test_what_is_there_is_no_error_and_keeps_its_receipt(
    host: VaultHost, session: Session, world: World
) -> None:
    answer = put_all(session, world, world.chain[0])
    host.tick(hours=5)
    before = host.objects
    assert put_all(session, world, world.chain[0]) == answer
    assert host.objects == before


def test_a_receipt_that_a_kill_prevented_is_made_up_for(
    host: VaultHost, session: Session, world: World
) -> None:
    answer = put_all(session, world, world.chain[0])
    (host.path / "salt1" / f"{world.chain[0].stem}.receipt.json").unlink()
    host.tick(hours=5)
    assert put_all(session, world, world.chain[0]) == answer


def test_another_content_is_refused_and_what_is_there_stays(
    host: VaultHost, session: Session, world: World
) -> None:
    put_chain(session, world)
    before = host.objects
    for name in world.vault.objects:
        answer = session.put(name, b"another")
        assert answer["kind"] == "taken"
        assert name in text(answer)
    assert host.objects == before


@pytest.mark.parametrize(
    "name",
    [
        "", "x", "../00000001-20261122T020000Z.json", "00000001-20261122T020000Z.receipt.json",
        "00000001-20261122T020000Z.operator.tar.zst.age.pruned.json", "a" * 300, "\0",
        "00000001-20261122T020000Z.json.sig.sig", "00000001-20261122T020000Z.json\n",
        "\u0660" * 7 + "\u0661-20261122T020000Z.json", ".incoming", None, 7, ["x"],
    ],
)  # fmt: skip
def test_no_other_names_are_taken(host: VaultHost, session: Session, name: Any) -> None:
    answer = session.ask(op="put", name=name, size=1, sha256="0" * 64)
    assert "takes no object named" in text(answer)
    assert not (host.path / "salt1").exists() or not host.objects


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"size": -1}, "needs the size"),
        ({"size": True}, "needs the size"),
        ({"size": "1"}, "needs the size"),
        ({"size": 1.5}, "needs the size"),
        ({"size": LARGEST + 1}, "takes at most"),
        ({"sha256": "0" * 63}, "needs the SHA-256"),
        ({"sha256": None}, "needs the SHA-256"),
        ({"op": "remove"}, "knows no operation 'remove'"),
        ({"op": None}, "knows no operation None"),
        ({"op": ["put"]}, "knows no operation"),
    ],
)
def test_what_makes_no_sense_is_refused(
    session: Session, world: World, changes: dict[str, Any], why: str
) -> None:
    name = world.chain[0].name
    line = {"op": "put", "name": name, "size": 1, "sha256": "0" * 64, **changes}
    assert why in text(session.ask(**line))
    assert put_all(session, world, world.chain[0])["ok"]


@pytest.mark.parametrize(
    "data",
    [b"\n", b"[]\n", b"{}\n", b"\xff\n", b"{" * 9000 + b"\n", b"[" * 60000 + b"\n", b"x" * 70000],
)
def test_what_is_no_protocol_ends_the_session(
    host: VaultHost, session: Session, data: bytes
) -> None:
    session.wire.write(data)
    assert session.wire.receive() == {}
    assert isinstance(host.ended[0], Unreachable)


def test_an_upload_that_ends_early_leaves_nothing(host: VaultHost, world: World) -> None:
    session = host.session()
    archive = world.chain[0].archives["operator"]
    line = {"op": "put", "name": archive.name, "size": archive.size, "sha256": archive.sha256}
    assert session.ask(**line) == {"ok": True, "go": True}
    session.wire.write(b"begun")
    session.end()
    assert host.objects == {}
    again = host.session()
    assert put_all(again, world, world.chain[0])["ok"]
    again.end()


def test_what_arrives_as_another_content_is_refused(
    host: VaultHost, session: Session, world: World
) -> None:
    archive = world.chain[0].archives["operator"]
    answer = session.put(archive.name, b"x" * archive.size, sha256=archive.sha256)
    assert "arrived with the SHA-256" in text(answer)
    assert host.objects == {}


def test_a_manifest_needs_its_signature_first(session: Session, world: World) -> None:
    found = world.chain[1]
    answer = session.put(found.name, found.to_bytes())
    assert "has no signature yet" in text(answer)


def signed(world: World, session: Session, found: Any, **by: Any) -> dict[str, Any]:
    """Puts a manifest that is not one of the chain, with a signature."""
    data = found if isinstance(found, bytes) else found.to_bytes()
    name = by.pop("name", None) or found.name
    signature = by.get("by", world.key).sign(data, by.get("namespace", "rocksalt-backup"))
    assert session.put(name + ".sig", signature)["ok"]
    return session.put(name, data)


def test_only_the_clients_signer_can_add(host: VaultHost, session: Session, world: World) -> None:
    answer = signed(world, session, world.chain[1], by=world.reporter)
    assert "who is not trusted" in text(answer)


def test_a_signature_for_something_else_does_not_count(session: Session, world: World) -> None:
    answer = signed(world, session, world.chain[1], namespace="rocksalt-report")
    assert "rocksalt-report" in text(answer)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"instance": "salt2"}, "is of the instance salt2"),
        ({"previous": "0" * 64}, "the chain was forked or rebuilt"),
        ({"previous": ""}, "the chain was forked or rebuilt"),
        ({"sequence": 4}, "is not the next one"),
        ({"sequence": 1}, "is not the next one"),
    ],
)
def test_only_what_continues_the_chain_is_taken(
    session: Session, world: World, changes: dict[str, Any], why: str
) -> None:
    put_chain(session, world, 1)
    wrong = dataclasses.replace(world.chain[1], **changes)
    data = wrong.to_bytes()
    answer = session.put(wrong.name + ".sig", world.key.sign(data, "rocksalt-backup"))
    answer = session.put(wrong.name, data) if answer["ok"] else answer
    assert why in text(answer)
    assert put_all(session, world, world.chain[1])["ok"]


def test_a_rebuilt_chain_is_refused(host: VaultHost, session: Session, world: World) -> None:
    """Whoever has the master's key signs whatever he likes, but not twice."""
    put_chain(session, world, 2)
    before = host.objects
    forged = dataclasses.replace(world.chain[1], finished="2026-11-22T03:05:00Z")
    answer = session.put(f"{forged.name}.sig", world.key.sign(forged.to_bytes(), "rocksalt-backup"))
    assert answer["kind"] == "taken"
    later = dataclasses.replace(world.chain[1], started="2026-11-22T03:05:00Z")
    assert "is not the next one" in text(session.put(f"{later.name}.sig", b"x"))
    assert host.objects == before


def test_a_manifest_needs_its_archives(host: VaultHost, session: Session, world: World) -> None:
    answer = signed(world, session, world.chain[0])
    assert "put before it" in text(answer)


def test_a_damaged_archive_is_found_before_its_manifest_counts(
    host: VaultHost, session: Session, world: World
) -> None:
    found = world.chain[0]
    for archive in found.archives.values():
        assert session.put(archive.name, world.vault.objects[archive.name])["ok"]
    damaged = host.path / "salt1" / archive.name
    damaged.chmod(0o600)
    damaged.write_bytes(bytes(archive.size))
    answer = signed(world, session, found)
    assert f"needs {archive.name} with the SHA-256" in text(answer)
    damaged.write_bytes(b"")
    assert "bytes, put before it" in text(signed(world, session, found))


def test_archives_of_another_snapshot_are_none(session: Session, world: World) -> None:
    put_chain(session, world, 2)
    wrong = dataclasses.replace(world.chain[2], archives=world.chain[0].archives)
    assert "archive of another snapshot" in text(signed(world, session, wrong))


def test_a_chain_may_begin_anywhere(session: Session, world: World) -> None:
    assert put_all(session, world, world.chain[2])["ok"]


def test_a_witness_takes_manifests_only(host: VaultHost, world: World) -> None:
    host.client(archives=False)
    session = host.session()
    archive = world.chain[0].archives["operator"]
    assert "is a witness" in text(session.put(archive.name, b"x"))
    for found in world.chain:
        assert session.put(found.name + ".sig", world.vault.objects[found.name + ".sig"])["ok"]
        assert session.put(found.name, found.to_bytes())["receipt"]
    assert session.ask(op="head")["archives"] is False
    session.end()


def test_a_client_without_a_signer_adds_no_snapshot(host: VaultHost, world: World) -> None:
    session = host.session("drill")
    for name in (f"{world.chain[0].name}.sig", world.chain[0].archives["operator"].name):
        assert "it needs hardening:backup:receiver:clients:drill:signer" in text(
            session.put(name, b"x")
        )
    session.end()


def test_a_manifest_from_the_future_is_refused(
    host: VaultHost, session: Session, world: World
) -> None:
    begun = names.parsed(world.chain[0].started)
    host.clock = begun - dt.timedelta(minutes=6)
    answer = put_all(session, world, world.chain[0])
    both = f"begun at {world.chain[0].started}, and here it is {names.utc(host.clock)}"
    assert both in text(answer)
    host.clock = begun - dt.timedelta(minutes=4)
    assert put_all(session, world, world.chain[0])["ok"]


def put_report(
    session: Session,
    world: World,
    finished: str,
    *,
    kind: str = "drill",
    stamp: str = "",
    by: Signer | None = None,
    data: bytes = b"",
    **changes: Any,
) -> dict[str, Any]:
    """Puts a signed report of a drill that finished at a time."""
    name = f"{stamp or names.parsed(finished).strftime(names.STAMP)}.{kind}.json"
    data = data or canonical({"instance": "salt1", "finished": finished, **changes})
    answer = session.put(name + ".sig", (by or world.reporter).sign(data, "rocksalt-report"))
    return session.put(name, data) if answer["ok"] else answer


def test_reports_are_taken_from_both(host: VaultHost, session: Session, world: World) -> None:
    drill = host.session("drill")
    assert put_report(session, world, "2026-11-22T03:00:00Z")["ok"]
    assert put_report(drill, world, "2026-11-22T04:00:00Z")["ok"]
    time = "2026-11-22T04:00:00Z"
    assert put_report(drill, world, time, kind="verify", time=time)["ok"]
    assert len(host.objects) == 6
    drill.end()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"by": signer()}, "who is not trusted"),
        ({"instance": "salt2"}, "is of the instance salt2, not salt1"),
        ({"stamp": "20261122T030001Z"}, "is not the time in its name"),
        ({"stamp": "20261122T042000Z"}, "has 2026-11-22T04:11:00Z, so .* is from the future"),
        ({"stamp": "20991231T000000Z"}, "is from the future"),
        ({"kind": "verify"}, "is no report: it needs an instance and a time, time"),
        ({"data": b"[]"}, "is no report"),
        ({"data": b"[" * 100_000}, "is no report"),
        ({"data": b"{"}, "is no report"),
    ],
)
def test_other_reports_are_refused(
    host: VaultHost, session: Session, world: World, changes: dict[str, Any], why: str
) -> None:
    answer = put_report(session, world, "2026-11-22T03:00:00Z", **changes)
    assert re.search(why, text(answer))
    assert put_report(session, world, "2026-11-22T03:00:00Z")["ok"]


def test_where_no_reporters_are_known_no_report_is_taken(host: VaultHost, world: World) -> None:
    del host.settings["drill_keys"]
    session = host.session("drill")
    answer = put_report(session, world, "2026-11-22T03:00:00Z")
    assert "takes no reports" in text(answer)
    assert "hardening:backup:drill_keys" in text(answer)
    session.end()


def test_the_newest_reports_stay(
    host: VaultHost, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "REPORTS", 2)
    session = host.session()
    for hour in (2, 0, 1, 3):
        assert put_report(session, world, f"2026-11-22T0{hour}:00:00Z")["ok"]
    session.end()
    kept = {f"20261122T0{hour}0000Z.drill.json" for hour in (2, 3)}
    assert host.objects.keys() == kept | {f"{name}.sig" for name in kept}


def test_only_so_many_signatures_wait_for_their_reports(host: VaultHost, world: World) -> None:
    session = host.session()
    assert put_report(session, world, "2026-11-22T03:00:00Z")["ok"]
    waiting = [f"2025{day:04d}T000000Z.drill.json.sig" for day in range(1101, 1121)]
    for name in waiting:
        host.tick(seconds=1)
        assert session.put(name, b"signature")["ok"]
    session.end()
    assert sorted(host.objects)[:-2] == waiting[-10:]


def test_a_signature_is_small(session: Session, world: World) -> None:
    for name in (world.chain[0].name, "20261122T030000Z.drill.json"):
        assert "takes at most 4096 bytes" in text(session.put(f"{name}.sig", bytes(4097)))


def test_without_a_quota_each_instance_has_its_share(
    host: VaultHost, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = os.statvfs_result((1, 1, 1000, 900, 900, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    clients = host.settings["receiver"]["clients"]
    clients["salt2"] = {**clients["salt1"], "instance": "salt2"}
    session = host.session()
    name = world.chain[0].archives["operator"].name
    assert "holds 0 of the 500 bytes of salt1" in text(session.put(name, bytes(501)))
    assert session.put(name, bytes(500))["ok"]
    session.end()


def test_the_quota_refuses_and_keeps_the_old(host: VaultHost, world: World) -> None:
    session = host.session()
    put_chain(session, world, 2)
    session.end()
    before = host.objects
    host.client(quota=sum(map(len, before.values())) + 100)
    session = host.session()
    archive = world.chain[2].archives["operator"]
    answer = session.put(archive.name, world.vault.objects[archive.name])
    assert "raise hardening:backup:receiver:clients:salt1:quota" in text(answer)
    assert host.objects == before
    session.end()


def test_an_object_may_be_too_large(host: VaultHost, world: World) -> None:
    host.settings["receiver"]["largest"] = 10
    session = host.session()
    archive = world.chain[0].archives["operator"]
    assert "takes at most 10 bytes" in text(session.put(archive.name, b"x" * 11))
    session.end()


def test_a_full_disk_is_told_before_anything_is_sent(session: Session, world: World) -> None:
    archive = world.chain[0].archives["operator"]
    answer = session.ask(op="put", name=archive.name, size=1 << 62, sha256="0" * 64)
    assert "No space left on device: make room there" in text(answer)


def test_a_disk_that_fills_up_ends_the_upload(
    host: VaultHost, session: Session, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(receiver.Store, "write", staticmethod(full))
    archive = world.chain[0].archives["operator"]
    answer = session.put(archive.name, b"x" * archive.size)
    assert "No space left on device: make room there" in text(answer)
    assert host.objects == {}
    assert not (host.path / ".incoming" / "salt1").exists()


def test_a_reader_gets_all_and_a_master_no_archive(
    host: VaultHost, session: Session, world: World
) -> None:
    put_chain(session, world)
    drill = host.session("drill")
    listed = json.loads(drill.body(op="names"))
    assert {name: size for name, (size, _) in listed.items()} == {
        name: len(data) for name, data in host.objects.items()
    }
    assert listed[world.chain[0].name][1] == host.clock.timestamp()
    for name, data in host.objects.items():
        assert drill.body(op="get", name=name) == data
    archive, found = world.chain[0].archives["operator"].name, world.chain[0]
    assert "read no archive" in text(session.ask(op="get", name=archive))
    assert session.body(op="get", name=found.name) == found.to_bytes()
    drill.end()


@pytest.mark.parametrize(
    "name", ["../../signing", "/etc/passwd", "00000009-20261122T010000Z.json", "", ".", "\0", None]
)
def test_nothing_else_can_be_read(session: Session, world: World, name: Any) -> None:
    put_chain(session, world, 1)
    assert session.ask(op="get", name=name)["kind"] == "absent"


def test_a_link_in_the_store_is_not_followed(
    host: VaultHost, session: Session, world: World
) -> None:
    put_chain(session, world, 1)
    (host.path / "salt1" / world.chain[2].name).symlink_to("/etc/passwd")
    assert session.ask(op="get", name=world.chain[2].name)["ok"] is False


def test_the_head_says_where_the_chain_is(host: VaultHost, session: Session, world: World) -> None:
    assert session.ask(op="head")["head"] == ""
    put_chain(session, world)
    head = session.ask(op="head")
    assert head["head"] == world.chain[2].name
    assert head["sha256"] == digest(world.chain[2].to_bytes())
    assert head["archives"] is True
    assert head["free"] > 0
    root = [f"the receiver of {host.path} runs as root: give it a user of its own"]
    assert head["faults"] == ([] if os.geteuid() else root)


def test_a_check_is_made_and_signed_here(host: VaultHost, session: Session, world: World) -> None:
    host.clock = world.now
    put_chain(session, world)
    session.wire.send({"op": "verify", "deep": True})
    answer = session.wire.receive()
    body = b""
    while len(body) < answer["size"]:
        body += session.wire.read(answer["size"] - len(body))
    signature = answer["signature"].encode()
    assert sshsig.verify(body, signature, "rocksalt-report", [host.public])
    report = json.loads(body)
    assert report["snapshots"] == 3
    assert report["archives_checked"] == 4
    assert [it for it in report["problems"] if it["severity"] == "error"] == []


def test_who_waits_is_told_that_work_goes_on(
    host: VaultHost, session: Session, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "_ALIVE", -1.0)
    assert session.put(f"{world.chain[0].name}.sig", b"x") == {"busy": True}
    assert session.wire.receive() == {"ok": True}


def test_one_writes_at_a_time(
    host: VaultHost, session: Session, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver.Store, "patience", 0.1)
    name = world.chain[0].archives["operator"].name
    assert session.ask(op="put", name=name, size=5, sha256=digest(b"12345"))["go"]
    other = host.session()
    answer = other.put(f"{world.chain[0].name}.sig", b"x")
    assert answer["kind"] == "unreachable"
    assert "in use by another run" in text(answer)
    session.wire.write(b"12345")
    assert session.wire.receive() == {"ok": True}
    monkeypatch.setattr(receiver.Store, "patience", 10.0)
    assert other.put(f"{world.chain[0].name}.sig", b"x")["ok"]
    other.end()


def test_a_silent_client_is_given_up(
    host: VaultHost, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "IDLE", 0.05)
    session = host.session()
    assert session.wire.receive() == {}
    assert "made no progress" in str(host.ended[0])
    session.end()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: s.pop("receiver"), "clients has no 'salt1'"),
        (lambda s: s["receiver"]["clients"].pop("salt1"), "clients has no 'salt1'"),
        (lambda s: s["receiver"].update(path="/is/not/there"), "No such file"),
        (lambda s: s["receiver"].update(path="/etc/passwd"), "has to be a folder"),
        (lambda s: s["receiver"].update(path="/tmp"), "others cannot write to"),
        (lambda s: s["receiver"].update(path="/proc/self"), "its disk is not mounted"),
    ],
)
def test_settings_that_do_not_serve_are_told(host: VaultHost, change: Any, why: str) -> None:
    change(host.settings)
    session = host.session()
    assert why in text(session.wire.receive())
    session.end()
    assert why in str(host.ended[0])


def test_a_store_needs_an_encrypted_disk(host: VaultHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver.disks, "encrypted", lambda path: False)
    del host.settings["receiver"]["allow_unencrypted"]
    session = host.session()
    assert "is on no encrypted disk" in text(session.wire.receive())
    session.end()


def test_a_store_whose_disk_is_not_mounted_takes_nothing(host: VaultHost) -> None:
    (host.path / MARKER).unlink()
    session = host.session()
    answer = session.wire.receive()
    assert answer["kind"] == "unreachable"
    assert f"{host.path} has no {MARKER}, as the store has: its disk" in text(answer)
    session.end()
    assert isinstance(host.ended[0], Unreachable)
    assert list(host.path.iterdir()) == []


def test_the_receivers_key_is_needed(host: VaultHost, tmp_path: Path) -> None:
    (tmp_path / "signing").unlink()
    session = host.session()
    assert "signing cannot be read" in text(session.wire.receive())
    session.end()


def test_old_archives_go_with_a_tombstone(host: VaultHost, world: World) -> None:
    host.settings["receiver"]["keep"] = {
        "hours": 1, "days": 1, "weeks": 0, "months": 0, "years": 0, "newest_of_day": 1
    }  # fmt: skip
    session = host.session()
    put_chain(session, world, 2)
    host.tick(days=1)
    put_chain(session, world, 3)
    session.end()
    objects = host.objects
    for archive in world.chain[0].archives.values():
        assert archive.name not in objects
        own = archive.name + names.PRUNED
        said = receipts.read(
            receipts.Tombstone, own, objects[own], objects[f"{own}.sig"], [host.public]
        )
        assert (said.archive, said.sha256) == (archive.name, archive.sha256)
    assert all(archive.name in objects for archive in world.chain[2].archives.values())
    assert all(found.name in objects for found in world.chain)


def test_a_retention_that_fails_does_not_undo_the_snapshot(
    host: VaultHost, session: Session, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(receiver.retention, "prune", fails)
    put_chain(session, world)
    assert session.ask(op="head")["head"] == world.chain[2].name


def test_a_wire_waits_only_so_long() -> None:
    source, target = os.pipe()
    full = Wire(source, target, 0.05)
    with pytest.raises(Broken, match="made no progress"):
        full.write(bytes(1 << 20))
    os.close(source)
    with pytest.raises(Broken, match="ended before all was taken"):
        full.write(b"x")
    os.close(target)


def test_a_wire_reads_what_comes_in_pieces() -> None:
    source, target = os.pipe()
    end = Wire(source, target, 5)

    def send() -> None:
        for piece in (b'{"a"', b": 1}\nbo", b"dy", b'{"b": 2}\n'):
            os.write(target, piece)

    thread = threading.Thread(target=send)
    thread.start()
    assert end.receive() == {"a": 1}
    body = b""
    while len(body) < 4:
        body += end.read(4 - len(body))
    assert body == b"body"
    assert end.receive() == {"b": 2}
    thread.join()
    os.close(target)
    assert end.receive() == {}
    with pytest.raises(Broken, match="ended before all was sent"):
        end.read(1)
    os.close(source)
    assert wire.LONGEST >= 1 << 16

"""rocksalt.backup.proof.verify, look and judge: nothing that is done to a vault stays unseen."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import io
import json
import tracemalloc
from types import SimpleNamespace

import pytest
from backup_chain import BEGIN, HOUR, Memory, World, signer

from rocksalt.backup import errors, manifest, names
from rocksalt.backup.crypto import age
from rocksalt.backup.errors import BackupError, Unreachable, VaultError
from rocksalt.backup.manifest import digest
from rocksalt.backup.proof import verify
from rocksalt.backup.vaults import Stored

DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def built():
    """Six snapshots, of which the first and the fourth are full, witnessed by a receiver."""
    world = World()
    for kind in ("full", "same", "same", "full", "same", "same"):
        world.witness(world.add(kind))
    return world


@pytest.fixture
def world(built):
    other = copy.copy(built)
    other.vault = built.vault.copy("attic")
    other.chain, other.settings = list(built.chain), copy.deepcopy(built.settings)
    return other


def looked(
    world, now=None, deep=True, expected=None, archives=True, first=None, **pins
) -> verify.Report:
    pins = {"receivers": (world.receiver.public,), **pins}
    return verify.check(
        world.vault,
        world.pins(**pins),
        now or world.now,
        deep,
        expected,
        archives=archives,
        first=first,
    )


def codes(report: verify.Report) -> set[tuple[str, int, str]]:
    return {(p.code, p.sequence, p.severity) for p in report.problems}


def errors_of(report: verify.Report) -> set[tuple[str, int]]:
    return {(p.code, p.sequence) for p in report.problems if p.severity == "error"}


def only(report: verify.Report) -> verify.Problem:
    (problem,) = report.problems
    return problem


def test_as_it_should_be(world):
    report = looked(world)
    assert report.problems == report.past == ()
    assert report.ok
    assert report.code == errors.OK
    assert report.newest == world.chain[-1]
    assert report.head == digest(world.chain[-1].to_bytes())
    assert report.snapshots == len(report.digests) == 6
    assert report.archives_checked == 4
    archives = [a for m in world.chain for a in m.archives.values()]
    assert report.bytes_checked == sum(archive.size for archive in archives)
    assert report.unwitnessed_since is None


def test_the_report_as_json(world):
    report = looked(world)
    found = json.loads(json.dumps(report.as_dict()))
    assert found["newest"] == {
        "sequence": 6,
        "kind": "same",
        "same_as": 4,
        **{key: getattr(world.chain[-1], key) for key in ("started", "finished", "next")},
    }
    assert (found["ok"], found["code"], found["problems"], found["past"]) == (True, 0, [], [])
    assert (found["vault"], found["time"]) == ("attic", names.utc(world.now))
    assert found["unwitnessed_since"] is None
    assert found["witnessed"] == 6
    assert not {"digests", "started"} & found.keys()


def test_a_report_of_an_empty_vault():
    report = verify.check(Memory(), World().pins(), BEGIN)
    assert errors_of(report) == {("empty", 0)}
    assert report.code == errors.UNVERIFIED
    assert report.as_dict()["newest"] is None


def test_reads_in_small_pieces_are_the_same(world):
    world.vault.piece = 7
    assert looked(world).problems == ()


def test_progress_counts_the_bytes_of_archives(world):
    seen = []
    report = verify.check(
        world.vault,
        world.pins(),
        world.now,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(seen)
    assert seen[-1] == (report.bytes_checked, report.bytes_checked)


# Changes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 7))
def test_a_changed_manifest(world, number):
    name = world.chain[number - 1].name
    world.vault.objects[name] = world.vault.objects[name].replace(b"salt1", b"salt2", 1)
    found = errors_of(looked(world))
    assert ("manifest", number) in found
    assert ("broken", number + 1) in found or number == 6


def test_every_byte_of_a_manifest_counts(world):
    name = world.chain[-1].name
    data = world.vault.objects[name]
    for place in range(0, len(data), 97):
        changed = bytearray(data)
        changed[place] ^= 1
        world.vault.objects[name] = bytes(changed)
        assert errors_of(looked(world, deep=False)) == {("manifest", 6)}


@pytest.mark.parametrize("suffix", ["", ".sig"])
@pytest.mark.parametrize(
    "data", [b"", b"[", b"[]", b"\xff", b"[" * 100_000, b"x" * (manifest.LARGEST + 1)]
)
def test_what_is_no_manifest(world, suffix, data):
    world.vault.objects[world.chain[2].name + suffix] = data
    assert ("manifest", 3) in errors_of(looked(world))


def test_a_changed_manifest_that_the_master_signed_again(world):
    changed = dataclasses.replace(world.chain[2], warnings={"vanished": 1})
    world.put(changed)
    problem = only(looked(world, receivers=()))
    assert (problem.code, problem.sequence) == ("broken", 4)
    assert problem.sentence.startswith(f"{world.chain[3].name} does not refer to {changed.name}")


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200_000,
        b'{"format": 2}',
        b"{}",
        b"nothing",
        json.dumps({"a": "\udc00\x1b[2J"}).encode(),
    ],
)
def test_what_the_master_signed_is_no_manifest(world, text):
    world.sign(world.chain[-1].name, text, world.key, manifest.NAMESPACE)
    report = looked(world)
    assert ("manifest", 6) in errors_of(report)
    assert all(problem.sentence.isprintable() for problem in report.problems)


@pytest.mark.parametrize("key", ["finished", "next"])
def test_a_date_that_is_none(world, key):
    world.put(dataclasses.replace(world.chain[-1], **{key: "2026-99-22T01:00:00Z"}))
    problem = next(p for p in looked(world).problems if p.code == "manifest")
    assert "holds a date that is none" in problem.sentence


def test_a_signature_for_something_else_is_none(world):
    found = world.chain[-1]
    world.sign(found.name, found.to_bytes(), world.key, "file")
    problem = only(looked(world))
    assert (problem.code, problem.sequence) == ("manifest", 6)
    assert "is signed as 'file', not as 'rocksalt-backup'" in problem.sentence


def test_a_missing_signature(world):
    del world.vault.objects[world.chain[2].name + ".sig"]
    problem = only(looked(world))
    assert (problem.code, problem.sequence) == ("manifest", 3)
    assert "is missing" in problem.sentence


def test_an_unknown_signer(world):
    stranger = signer()
    world.append(world.draft(), by=stranger)
    report = looked(world)
    assert errors_of(report) == {("manifest", 7)}
    assert stranger.public in report.problems[0].sentence
    assert report.newest == world.chain[-2]


def test_all_by_an_unknown_signer_is_one_problem(world):
    report = looked(world, signers=(signer().public,))
    assert errors_of(report) == {("manifest", 1), ("empty", 0)}
    manifests = next(p for p in report.problems if p.code == "manifest")
    assert manifests.sentence.endswith("(and likewise up to #6)")


def test_several_signers(world):
    """A master that was rebuilt has another key."""
    new = signer()
    world.append(world.draft("same"), by=new)
    assert looked(world, signers=(world.key.public, new.public), receivers=()).problems == ()


# Gaps, forks, replays -----------------------------------------------------------------------------


def removed(world, *numbers):
    for number in numbers:
        stem = world.chain[number - 1].stem
        for name in [n for n in world.vault.objects if n.startswith(stem)]:
            del world.vault.objects[name]


@pytest.mark.parametrize(
    ("numbers", "first", "words"), [((2,), 2, "#2 missing"), ((2, 3), 2, "#2 to #3 missing")]
)
def test_missing_in_the_middle(world, numbers, first, words):
    removed(world, *numbers)
    problem = only(looked(world))
    assert (problem.code, problem.sequence) == ("gap", first)
    assert problem.sentence.startswith(words)


def test_missing_first(world):
    removed(world, 1)
    assert errors_of(looked(world, first=1)) == {("gap", 1), ("same", 2), ("same", 3)}


def test_the_beginning_leaves_traces(world):
    archive = world.chain[0].archives["operator"].name
    kept = world.vault.objects[archive]
    removed(world, 1, 2, 3)
    world.vault.objects[archive] = kept
    assert errors_of(looked(world)) == {("gap", 1)}


def test_a_vault_that_was_added_later(world):
    """Nobody can say from the vault alone; whoever added it can."""
    removed(world, 1, 2, 3)
    problem = only(looked(world))
    assert (problem.code, problem.sequence, problem.severity) == ("begins", 4, "warning")
    assert looked(world, first=4).problems == ()
    assert errors_of(looked(world, first=3)) == {("gap", 3)}


def test_a_vault_that_was_added_long_ago(world):
    removed(world, 1, 2, 3)
    report = looked(world, world.now + 8 * DAY)
    assert [p.code for p in report.past] == ["begins"]
    assert errors_of(report) == {("stale", 6)}


def test_missing_newest_is_seen_when_the_next_was_due(world):
    now = world.now
    removed(world, 5, 6)
    problem = only(looked(world, now))
    assert (problem.code, problem.sequence) == ("stale", 4)
    assert world.chain[3].next in problem.sentence


def test_missing_newest_is_seen_by_who_saw_it(world):
    head = (6, digest(world.chain[-1].to_bytes()))
    assert looked(world, expected=head).ok
    removed(world, 6)
    problem = only(looked(world, expected=head))
    assert (problem.code, problem.sequence) == ("rewound", 6)


def test_missing_newest_is_seen_by_its_receipt(world):
    del world.vault.objects[world.chain[-1].name]
    found = errors_of(looked(world))
    assert found == {("removed", 6)}


def test_the_whole_chain_is_gone(world):
    world.vault.objects.clear()
    report = looked(world, expected=(6, digest(world.chain[-1].to_bytes())))
    assert errors_of(report) == {("empty", 0), ("rewound", 6)}


def test_grace_for_the_next_one(world):
    due = names.parsed(world.chain[-1].next)
    assert looked(world, due + dt.timedelta(minutes=29)).ok
    assert errors_of(looked(world, due + dt.timedelta(minutes=31))) == {("stale", 6)}


def test_a_fork(world):
    fork = world.put(world.draft("same", before=world.chain[2], at=BEGIN + 4.2 * HOUR))
    report = looked(world, receivers=())
    assert ("fork", 4) in errors_of(report)
    sentence = next(p.sentence for p in report.problems if p.code == "fork")
    assert fork.name in sentence
    assert world.chain[3].name in sentence


def test_a_replayed_manifest(world):
    """The same bytes under a newer name."""
    old = world.chain[4]
    name = names.stem(7, BEGIN + 7 * HOUR) + ".json"
    world.vault.objects[name] = world.vault.objects[old.name]
    world.vault.objects[name + ".sig"] = world.vault.objects[old.name + ".sig"]
    report = looked(world)
    assert ("manifest", 7) in errors_of(report)
    assert f"holds the manifest {old.name}" in next(
        p.sentence for p in report.problems if p.code == "manifest"
    )


def test_a_replayed_vault(world):
    """Somebody puts back what the vault was yesterday."""
    old = world.vault.copy("attic")
    for _ in range(24):
        world.add("same")
    now = world.now
    assert looked(world, now, receivers=()).ok
    world.vault = old
    assert errors_of(looked(world, now, receivers=())) == {("stale", 6)}


def test_another_instance(world):
    """The chain of another master with the same keys."""
    found = errors_of(looked(world, instance="salt2"))
    assert found == {("foreign", 1), ("recipients", 1)}


def test_one_snapshot_of_another_instance(world):
    world.add("same", instance="salt2")
    assert errors_of(looked(world, receivers=())) == {("foreign", 7)}


@pytest.mark.parametrize("previous", ["", "0" * 64])
def test_a_break(world, previous):
    world.add("same", previous=previous)
    assert errors_of(looked(world, receivers=())) == {("broken", 7)}


def test_a_chain_that_begins_with_something_before(world):
    fresh = World()
    fresh.add(previous="0" * 64)
    assert errors_of(verify.check(fresh.vault, fresh.pins(), fresh.now)) == {("broken", 1)}


# Witness -----------------------------------------------------------------------------------------


def rebuilt(world) -> World:
    """Root on the master makes the chain anew, with its own past, and signs all of it."""
    forger = copy.copy(world)
    forger.vault, forger.chain = Memory("attic"), []
    for kind in ("full", "same", "same", "full", "same", "same"):
        forger.add(kind)
    return forger


def test_a_chain_that_was_signed_again_is_right_by_itself(world):
    assert looked(rebuilt(world), receivers=()).ok


def test_a_chain_that_was_signed_again_is_found_by_receipts(world):
    forger = rebuilt(world)
    kept = {n: d for n, d in world.vault.objects.items() if ".receipt." in n}
    forger.vault.objects.update(kept)
    report = looked(forger)
    assert report.unwitnessed_since == forger.chain[0].started
    problem = next(p for p in report.problems if p.code == "contradiction")
    assert problem.sequence == 1
    assert "the past was written anew" in problem.sentence


def test_a_chain_that_was_signed_again_is_found_by_who_saw_its_head(world):
    head = (6, digest(world.chain[-1].to_bytes()))
    assert errors_of(looked(rebuilt(world), receivers=(), expected=head)) == {("rewritten", 6)}


def test_a_chain_that_was_signed_again_is_found_beside_a_witness(world):
    forger = rebuilt(world)
    forger.vault.name = "bucket"
    reports = [looked(world, archives=False), looked(forger, receivers=())]
    assert all(report.ok for report in reports)
    (problem,) = verify.across(reports)
    assert (problem.code, problem.sequence, problem.severity) == ("fork", 1, "error")
    assert problem.sentence.startswith("attic and bucket hold different entries #1")


def test_a_forger_cannot_make_receipts(world):
    forger = rebuilt(world)
    forger.witness(*forger.chain, by=signer())
    found = errors_of(looked(forger))
    assert found == {("receipt", 1)}


def test_a_forger_cannot_speak_for_the_receiver(world):
    world.witness(world.add("same"), by=signer(), receiver=world.receiver.public)
    assert errors_of(looked(world)) == {("receipt", 7)}


def test_unwitnessed_since(world):
    first = world.add("same")
    world.add("same")
    report = looked(world)
    assert report.unwitnessed_since == first.started
    problem = only(report)
    assert (problem.code, problem.sequence, problem.severity) == ("unwitnessed", 7, "warning")
    assert report.code == errors.WARNINGS


def test_a_vault_whose_receipts_were_all_removed(world):
    for name in [name for name in world.vault.objects if ".receipt." in name]:
        del world.vault.objects[name]
    assert looked(world).problems == ()  # a copy that never had any
    world.vault.countersigns = True
    problem = only(looked(world))
    assert (problem.code, problem.sequence, problem.severity) == ("unwitnessed", 1, "warning")
    assert "no receiver vouches here" in problem.sentence


def test_a_name_that_was_put_again(world, monkeypatch):
    name = world.chain[-1].name
    stored = world.vault.names()
    later = (world.now - HOUR).timestamp()
    changed = {**stored, name: dataclasses.replace(stored[name], version="v1", later="v2",
                                                   replaced=later)}  # fmt: skip
    monkeypatch.setattr(world.vault, "names", lambda: changed)
    report = looked(world)
    problem = only(report)
    assert (problem.code, problem.sequence, problem.severity) == ("version", 6, "warning")
    assert "the version v2; what counts is the first, v1" in problem.sentence
    assert report.code == errors.WARNINGS


def test_a_snapshot_of_a_moment_ago_may_wait_for_its_receipt(world):
    first = world.add("same")
    report = looked(world)
    assert report.problems == ()
    assert report.unwitnessed_since == first.started


def test_unwitnessed_from_the_beginning_without_a_receiver(world):
    report = looked(world, receivers=())
    assert report.ok
    assert report.unwitnessed_since == world.chain[0].started


def test_a_later_receipt_vouches_for_all_before(world):
    for number in range(5):
        del world.vault.objects[world.chain[number].stem + ".receipt.json"]
        del world.vault.objects[world.chain[number].stem + ".receipt.json.sig"]
    report = looked(world)
    assert report.problems == ()
    assert report.unwitnessed_since is None


@pytest.mark.parametrize(
    "changes", [{"sequence": 5}, {"instance": "salt2"}, {"manifest": "0" * 64}]
)
def test_a_receipt_that_contradicts(world, changes):
    world.witness(world.chain[-1], **changes)
    assert errors_of(looked(world)) == {("contradiction", 6)}


@pytest.mark.parametrize(
    "changes", [{"received": "now"}, {"format": 2}, {"sequence": 0}, {"receiver": "me"}]
)
def test_a_receipt_that_is_none(world, changes):
    world.witness(world.chain[-1], **changes)
    assert errors_of(looked(world)) == {("receipt", 6)}


@pytest.mark.parametrize("suffix", ["", ".sig"])
def test_a_changed_receipt(world, suffix):
    name = world.chain[-1].stem + ".receipt.json" + suffix
    world.vault.objects[name] += b" "
    assert errors_of(looked(world)) == {("receipt", 6)}


def test_received_long_after_its_date(world):
    """What a vault that was away looks like, and so does a date that was forged."""
    late = world.add("same")
    received = names.utc(names.parsed(late.finished) + dt.timedelta(minutes=31))
    world.witness(late, received=received)
    problem = only(looked(world))
    assert (problem.code, problem.sequence, problem.severity) == ("backdated", 7, "warning")
    assert received in problem.sentence


def test_received_before_it_was_begun(world):
    early = world.add("same")
    world.witness(early, received=names.utc(names.parsed(early.started) - dt.timedelta(minutes=6)))
    problem = only(looked(world))
    assert (problem.code, problem.sequence, problem.severity) == ("clock", 7, "warning")


# Archives ----------------------------------------------------------------------------------------


@pytest.fixture
def archive(world):
    return world.chain[3].archives["operator"]


@pytest.mark.parametrize("place", [0, 30, 100, -40, -1])
def test_a_flipped_bit(world, archive, place):
    data = bytearray(world.vault.objects[archive.name])
    data[place] ^= 1
    world.vault.objects[archive.name] = bytes(data)
    problem = only(looked(world))
    assert (problem.code, problem.sequence) == ("archive", 4)
    assert problem.sentence.startswith(archive.name)
    assert looked(world, deep=False).ok


def test_a_bit_flipped_at_every_boundary_of_a_chunk(world, archive):
    """However large the archive is: at both sides of every 64 KiB."""
    data = world.vault.objects[archive.name] + bytes(range(256)) * 1100
    large = dataclasses.replace(archive, sha256=digest(data), size=len(data))
    found = dataclasses.replace(
        world.chain[3], archives={**world.chain[3].archives, "operator": large}
    )
    world.put(found)
    world.vault.objects[archive.name] = data
    assert errors_of(looked(world, receivers=())) == {("broken", 5)}
    for boundary in range(65536, len(data), 65536):
        for place in (boundary - 1, boundary):
            changed = bytearray(data)
            changed[place] ^= 0x80
            world.vault.objects[archive.name] = bytes(changed)
            assert ("archive", 4) in errors_of(looked(world, receivers=()))


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: b"", lambda d: d + b"x"])
def test_another_size(world, archive, change, deep):
    world.vault.objects[archive.name] = change(world.vault.objects[archive.name])
    problem = only(looked(world, deep=deep))
    assert (problem.code, problem.sequence) == ("archive", 4)
    assert f"instead of {archive.size}" in problem.sentence


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"x", lambda d: d + d * 99])
def test_a_vault_that_lies_about_the_size(world, archive, change):
    size = dict(world.vault.names())
    world.vault.objects[archive.name] = change(world.vault.objects[archive.name])
    world.vault.names = lambda: size
    assert errors_of(looked(world)) == {("archive", 4)}


def test_swapped_archives(world):
    one, other = (world.chain[3].archives[part].name for part in ("operator", "customer-acme"))
    objects = world.vault.objects
    objects[one], objects[other] = objects[other], objects[one]
    assert errors_of(looked(world)) == {("archive", 4)}


def test_an_archive_of_an_older_snapshot(world, archive):
    old = world.chain[0].archives["operator"]
    world.vault.objects[archive.name] = world.vault.objects[old.name]
    assert only(looked(world)).sentence.startswith(f"{archive.name} has the content of {old.name}")


@pytest.mark.parametrize("deep", [True, False])
def test_a_missing_archive(world, archive, deep):
    del world.vault.objects[archive.name]
    problem = only(looked(world, deep=deep))
    assert (problem.code, problem.sequence) == ("missing", 4)
    assert problem.sentence.startswith(f"{archive.name} is missing")


def test_a_witness_has_no_archives(world):
    for name in [n for n in world.vault.objects if n.endswith(".age")]:
        del world.vault.objects[name]
    assert looked(world, archives=False).problems == ()


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), VaultError("refused")])
@pytest.mark.parametrize("what", ["archive", "manifest"])
def test_what_cannot_be_read(world, archive, error, what):
    world.vault.failing[archive.name if what == "archive" else world.chain[3].name] = error
    found = looked(world)
    assert (what, 4) in errors_of(found)
    assert str(error) in next(p.sentence for p in found.problems if p.code == what)


@pytest.mark.parametrize("what", ["archive", "manifest"])
def test_a_vault_that_goes_away_is_not_judged(world, archive, what):
    name = archive.name if what == "archive" else world.chain[3].name
    world.vault.failing[name] = Unreachable("gone")
    with pytest.raises(Unreachable):
        looked(world)


def test_an_archive_for_more_readers_than_it_says(world):
    stem = names.stem(7, BEGIN + 7 * HOUR)
    draft = world.draft()
    extra = world.archive(stem, "operator", [*world.settings["recipients"], world.ids["other"][1]])
    world.append(dataclasses.replace(draft, archives={**draft.archives, "operator": extra}))
    problem = only(looked(world, receivers=()))
    assert (problem.code, problem.sequence) == ("archive", 7)
    assert "can be read by 3 keys, not by 2" in problem.sentence


def test_a_manifest_that_names_another_snapshots_archive(world):
    world.add(archives=dict(world.chain[3].archives))
    assert errors_of(looked(world, receivers=())) == {("swapped", 7)}


def test_a_manifest_that_names_an_archive_as_another_part(world):
    draft = world.draft()
    one, other = (draft.archives[p] for p in ("operator", "customer-acme"))
    world.append(dataclasses.replace(draft, archives={"operator": other, "customer-acme": one}))
    assert ("swapped", 7) in errors_of(looked(world, receivers=()))


class Endless(io.RawIOBase):
    """A large file that is nowhere."""

    def __init__(self, left: int):
        self.left = left

    def read(self, size: int = -1) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return bytes(size)


def test_memory_does_not_grow_with_the_archive(world, archive, monkeypatch):
    size = 48 << 20
    large = dataclasses.replace(archive, size=size)
    world.put(dataclasses.replace(world.chain[3], archives={"operator": large}))
    sizes = {**world.vault.names(), archive.name: Stored(size)}
    small = world.vault.open
    monkeypatch.setattr(world.vault, "names", lambda: sizes)
    monkeypatch.setattr(
        world.vault, "open", lambda name: Endless(size) if name == archive.name else small(name)
    )
    monkeypatch.setattr(age, "Header", lambda source: SimpleNamespace(stanzas=[]))
    tracemalloc.start()
    report = looked(world)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.bytes_checked > size
    assert peak < 6 << 20


# Pruned archives ---------------------------------------------------------------------------------


def test_a_pruned_archive(world):
    world.prune(world.chain[0].archives["operator"])
    report = looked(world)
    assert report.problems == ()
    assert report.archives_checked == 3


def test_a_pruned_archive_that_is_still_there(world):
    old = world.chain[0].archives["operator"]
    data = world.vault.objects[old.name]
    world.prune(old)
    world.vault.objects[old.name] = data
    assert looked(world).problems == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "0" * 64},
        {"instance": "salt2"},
        {"archive": "00000009-20261122T130000Z.operator.tar.zst.age"},
    ],
)
def test_a_tombstone_for_another_archive(world, changes):
    world.prune(world.chain[0].archives["operator"], **changes)
    problem = only(looked(world))
    assert (problem.code, problem.sequence) == ("missing", 1)
    assert "is about another one" in problem.sentence


@pytest.mark.parametrize("receivers", [True, False])
def test_a_tombstone_by_somebody_else(world, receivers):
    by = signer() if receivers else world.receiver
    world.prune(world.chain[0].archives["operator"], by=by)
    pins = {} if receivers else {"receivers": ()}
    problem = only(looked(world, **pins))
    assert (problem.code, problem.sequence) == ("missing", 1)
    assert "cannot be believed" in problem.sentence


def test_a_receipt_is_no_tombstone(world):
    old = world.chain[0].archives["operator"]
    world.prune(old)
    for suffix in ("", ".sig"):
        data = world.vault.objects[f"{world.chain[0].stem}.receipt.json{suffix}"]
        world.vault.objects[f"{old.name}.pruned.json{suffix}"] = data
    assert errors_of(looked(world)) == {("missing", 1)}


def test_the_newest_full_is_never_pruned(world):
    world.prune(world.chain[3].archives["customer-acme"])
    assert errors_of(looked(world)) == {("pruned", 4)}


# Recipients --------------------------------------------------------------------------------------


def recipients_of(world, **changes) -> None:
    """Another record; the authority signs it."""
    world.settings.update(changes)
    world.authorise()


def test_recipients_change_with_a_higher_revision(world):
    recipients_of(world, revision=2, customers={})
    world.add()
    assert looked(world, receivers=()).problems == ()


def test_recipients_change_under_the_same_revision(world):
    recipients_of(world, customers={})
    world.add()
    assert errors_of(looked(world, receivers=())) == {("recipients", 7)}


def test_recipients_that_the_authority_did_not_sign(world):
    world.settings["recipients"].append(world.ids["other"][1])
    world.settings["revision"] = 2
    world.add()
    problem = only(looked(world, receivers=()))
    assert (problem.code, problem.sequence) == ("recipients", 7)
    assert "the offline key did not authorise" in problem.sentence


def test_recipients_that_the_masters_own_key_signed(world):
    world.settings["revision"] = 2
    world.authorise(by=world.key)
    world.add()
    assert errors_of(looked(world, receivers=())) == {("recipients", 7)}


def test_recipients_that_fall_back(world):
    """What somebody authorised once is not good for ever: they lost that key since."""
    old = copy.deepcopy(world.settings)
    recipients_of(world, revision=2, customers={})
    world.add()
    world.settings = old
    world.add()
    problem = only(looked(world, receivers=()))
    assert (problem.code, problem.sequence) == ("downgrade", 8)
    assert "revision of recipients 1" in problem.sentence


def test_recipients_of_another_instance(world):
    recipients_of(world, revision=2, instance="salt2")
    world.add()
    assert errors_of(looked(world, receivers=())) == {("recipients", 7)}


@pytest.mark.parametrize("keys", [["x"], ["0" * 64], 2 * ["0" * 64]])
def test_an_archive_for_others_than_its_record_says(world, keys):
    draft = world.draft()
    wrong = dataclasses.replace(draft.archives["customer-acme"], recipients=keys)
    world.append(dataclasses.replace(draft, archives={**draft.archives, "customer-acme": wrong}))
    found = errors_of(looked(world, receivers=()))
    assert found & {("recipients", 7), ("manifest", 7)}


def test_the_operator_among_the_readers_of_a_customer(world):
    draft = world.draft()
    acme = draft.archives["customer-acme"]
    both = sorted([*acme.recipients, *draft.archives["operator"].recipients])
    wrong = dataclasses.replace(acme, recipients=both)
    world.append(dataclasses.replace(draft, archives={**draft.archives, "customer-acme": wrong}))
    assert ("recipients", 7) in errors_of(looked(world, receivers=()))


def test_a_customer_without_an_archive(world):
    draft = world.draft()
    del world.vault.objects[draft.archives["customer-acme"].name]
    world.append(dataclasses.replace(draft, archives={"operator": draft.archives["operator"]}))
    problem = only(looked(world, receivers=()))
    assert (problem.code, problem.sequence, problem.severity) == ("recipients", 7, "warning")
    assert "has no archive customer-acme" in problem.sentence


def test_a_snapshot_without_what_the_operator_needs(world):
    draft = world.draft()
    acme = draft.archives["customer-acme"]
    world.append(dataclasses.replace(draft, archives={"customer-acme": acme}))
    del world.vault.objects[draft.archives["operator"].name]
    assert errors_of(looked(world, receivers=())) == {("recipients", 7)}


def test_an_archive_for_a_customer_nobody_knows(world):
    draft = world.draft()
    world.settings["customers"]["evil"] = {"recipients": [world.ids["other"][1]]}
    evil = world.archive(draft.stem, "customer-evil")
    world.append(dataclasses.replace(draft, archives={**draft.archives, "customer-evil": evil}))
    problem = only(looked(world, receivers=()))
    assert (problem.code, problem.sequence) == ("recipients", 7)
    assert "customer-evil" in problem.sentence


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"format": 2},
        {"revision": "2"},
        {"recipients": ["age1"]},
        {"customers": {"acme": "all"}},
        {"escrow": None},
        {"extra": 1},
    ],
)
def test_a_record_that_is_none(world, record):
    value = {**world.chain[-1].recipients, **record} if record else {}
    signature = world.authority.sign(manifest.canonical(value), "rocksalt-recipients").decode()
    world.add("same", recipients=value, authorisation=signature)
    assert ("recipients", 7) in errors_of(looked(world, receivers=()))


def test_without_a_pinned_authority_nobody_says_it_is_right(world):
    problem = only(looked(world, authority=""))
    assert (problem.code, problem.severity) == ("unpinned", "warning")


# Dates -------------------------------------------------------------------------------------------


def dated(world, by: dt.timedelta):
    """The next snapshot with a clock that is wrong, and one after that with the right one."""
    at = BEGIN + 7 * HOUR
    wrong = world.add("same", at=at + by)
    seen = looked(world, at + HOUR / 2, receivers=())
    world.add("same", at=at + HOUR)
    return wrong, seen, looked(world, at + HOUR * 1.5, receivers=())


def test_a_clock_a_day_ahead(world):
    _, seen, healed = dated(world, DAY)
    assert errors_of(seen) == {("dates", 7)}
    assert errors_of(healed) == {("dates", 7), ("backwards", 8)}


def test_a_clock_a_day_behind(world):
    _, seen, healed = dated(world, -DAY)
    assert errors_of(seen) == {("stale", 7), ("backwards", 7)}
    assert codes(healed) == {("backwards", 7, "error"), ("late", 8, "warning")}


def test_a_clock_of_1970(world):
    wrong, seen, healed = dated(world, dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) - BEGIN)
    assert wrong.started.startswith("1970-01-01")
    assert errors_of(seen) == {("stale", 7), ("backwards", 7)}
    assert errors_of(healed) == {("backwards", 7)}


def test_a_date_that_nobody_lives_to_see(world):
    world.add("same", at=dt.datetime(9999, 12, 31, 22, tzinfo=dt.timezone.utc))
    world.add("same", at=dt.datetime(9999, 12, 31, 22, 30, tzinfo=dt.timezone.utc))
    found = looked(world, BEGIN + 7 * HOUR, receivers=())
    assert errors_of(found) == {("dates", 7), ("dates", 8), ("same", 7), ("same", 8)}


@pytest.mark.parametrize("minutes", [4, 6])
def test_clocks_may_be_apart_a_little(world, minutes):
    at = BEGIN + 7 * HOUR
    world.add("same", at=at + dt.timedelta(minutes=minutes))
    assert looked(world, at, receivers=()).ok is (minutes == 4)


def test_finished_before_it_began(world):
    world.add("same", finished=names.utc(BEGIN))
    assert errors_of(looked(world, BEGIN + 7.5 * HOUR, receivers=())) == {("dates", 7)}


@pytest.mark.parametrize(("minutes", "ok"), [(-1, False), (0, True)])
def test_the_next_one_before_it(world, minutes, ok):
    """A run may take longer than the interval, but the next one never comes first."""
    world.add("same", next=names.utc(BEGIN + 7 * HOUR + dt.timedelta(minutes=minutes)))
    assert looked(world, BEGIN + 7.2 * HOUR, receivers=()).ok is ok


@pytest.mark.parametrize(("hours", "ok"), [(25, True), (27, False)])
def test_nobody_announces_a_long_silence(world, hours, ok):
    world.add("same", next=names.utc(BEGIN + (7 + hours) * HOUR))
    assert looked(world, receivers=()).ok is ok


def test_a_late_snapshot(world):
    late = world.add("same", at=BEGIN + 9 * HOUR)
    problem = only(looked(world, receivers=()))
    assert (problem.code, problem.sequence, problem.severity) == ("late", 7, "warning")
    assert late.name in problem.sentence


def test_what_was_late_last_week_is_over(world):
    world.add("same", at=BEGIN + 9 * HOUR)
    for day in range(1, 8):
        world.add(at=BEGIN + 9 * HOUR + day * DAY, next=names.utc(BEGIN + (34 + day * 24) * HOUR))
    report = looked(world, receivers=())
    assert [(p.code, p.sequence) for p in report.problems] == [("late", 8)]
    assert [(p.code, p.sequence) for p in report.past] == [("late", 7)]


# Same --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2, 5, 7, 8, 99])
def test_the_same_as_no_full_or_not_the_newest(world, number):
    world.add("same", same_as=number)
    assert errors_of(looked(world, receivers=())) == {("same", 7)}


def test_the_same_with_archives(world):
    draft = world.draft()
    world.append(dataclasses.replace(draft, kind="same", same_as=4))
    assert errors_of(looked(world, receivers=())) == {("same", 7)}


def test_a_full_that_refers_to_another(world):
    world.add(same_as=4)
    assert errors_of(looked(world, receivers=())) == {("same", 7)}


def test_the_same_for_other_recipients(world):
    """The archives of the full can be read by the old ones only."""
    recipients_of(world, revision=2, customers={})
    world.add("same")
    assert errors_of(looked(world, receivers=())) == {("same", 7)}


def test_the_same_for_ever(world):
    for day in range(1, 10):
        world.add("same", at=BEGIN + 6 * HOUR + day * DAY)
    found = errors_of(looked(world, receivers=()))
    assert {code for code, _ in found} == {"same"}


# Leftovers ---------------------------------------------------------------------------------------


def test_an_interrupted_run(world):
    stem = names.stem(5, BEGIN + 4.5 * HOUR)
    left = world.archive(stem, "operator")
    world.vault.objects[f"{stem}.json.sig"] = b"x"
    report = looked(world)
    assert codes(report) == {("leftover", 5, "warning")}
    assert {p.sentence.split()[0] for p in report.problems} == {left.name, f"{stem}.json.sig"}
    assert report.code == errors.WARNINGS


@pytest.mark.parametrize(("minutes", "seen"), [(50, False), (70, True), (-10, True)])
def test_a_run_that_is_under_way(world, minutes, seen):
    world.archive(names.stem(7, world.now - dt.timedelta(minutes=minutes)), "operator")
    assert bool(looked(world).problems) is seen


def test_an_archive_beside_those_of_the_manifest(world):
    world.vault.objects[f"{world.chain[3].stem}.operator.tar.gz.age"] = b"x"
    assert codes(looked(world)) == {("leftover", 4, "warning")}


def test_an_interrupted_run_of_long_ago(world):
    world.archive(names.stem(5, BEGIN - 8 * DAY), "operator")
    report = looked(world)
    assert report.problems == ()
    assert [p.code for p in report.past] == ["leftover"]


def test_a_name_with_a_date_that_is_none(world):
    world.vault.objects["00000007-99999999T999999Z.operator.tar.zst.age"] = b"x"
    assert codes(looked(world)) == {("leftover", 7, "warning")}


def test_what_is_none_of_a_backup(world):
    world.vault.objects["notes\n.txt"] = world.vault.objects["README"] = b""
    problem = only(looked(world))
    assert (problem.code, problem.severity) == ("stranger", "warning")
    assert problem.sentence.startswith("2 objects are none of a backup, such as 'README'")


# Reports -----------------------------------------------------------------------------------------

DRILL = "20261122T130000Z.drill.json"


@pytest.mark.parametrize("pinned", [True, False])
def test_a_report_of_a_drill(world, pinned):
    world.sign(DRILL, b"{}", world.reporter, "rocksalt-report")
    reporters = (world.reporter.public,) if pinned else ()
    assert looked(world, reporters=reporters).problems == ()


@pytest.mark.parametrize("fault", ["signer", "namespace", "unsigned", "changed"])
def test_a_report_that_nobody_should_believe(world, fault):
    by = signer() if fault == "signer" else world.reporter
    world.sign(DRILL, b"{}", by, "file" if fault == "namespace" else "rocksalt-report")
    if fault == "unsigned":
        del world.vault.objects[f"{DRILL}.sig"]
    if fault == "changed":
        world.vault.objects[DRILL] = b"[]"
    problem = only(looked(world, reporters=(world.reporter.public,)))
    assert (problem.code, problem.severity) == ("report", "warning")


# Pins --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pins",
    [
        {"signers": ()},
        {"signers": ("ssh-rsa AAAA",)},
        {"receivers": ("ssh-ed25519 x",)},
        {"authority": "me"},
        {"reporters": ("",)},
    ],
)
def test_a_pin_that_is_none_is_no_verdict(world, pins):
    with pytest.raises(BackupError):
        looked(world, **pins)


# Several vaults ----------------------------------------------------------------------------------


def test_vaults_that_agree(world):
    one = looked(world)
    world.vault = world.vault.copy("bucket")
    assert verify.across([one, looked(world)]) == []
    assert verify.across([one]) == verify.across([]) == []


def test_a_vault_that_is_behind(world):
    one = looked(world)
    world.vault = world.vault.copy("bucket")
    removed(world, 6)
    (problem,) = verify.across([looked(world), one])
    assert (problem.code, problem.sequence, problem.severity) == ("behind", 6, "warning")
    assert problem.sentence.startswith("bucket has snapshots up to #5, and attic up to #6")


def test_who_vouches_does_so_for_copies(world):
    """A bucket has no receiver; the witness beside it has."""
    world.add("same")
    bucket = world.vault.copy("bucket")
    bucket.objects = {n: d for n, d in bucket.objects.items() if ".receipt." not in n}
    witness = looked(world)
    world.vault = bucket
    copied = looked(world)
    assert copied.problems == ()
    assert copied.unwitnessed_since == world.chain[0].started
    one, other = verify.vouched([witness, copied])
    assert one == witness
    assert other.unwitnessed_since == witness.unwitnessed_since == world.chain[6].started


def test_nobody_vouches_for_what_was_replaced(world):
    forger = rebuilt(world)
    forger.vault.name = "bucket"
    reports = [looked(world), looked(forger)]
    assert verify.vouched(reports) == reports
    assert verify.vouched([looked(world, receivers=())])[0].witnessed == 0


def test_vaults_of_two_instances(world):
    one, other = looked(world), World()
    other.vault.name = "bucket"
    report = verify.check(other.vault, other.pins(instance="salt2"), BEGIN)
    assert [p.code for p in verify.across([one, report])] == ["foreign", "behind"]

"""rocksalt.logstash.receiving: a witness removes old entries, and still vouches for all lines."""

from __future__ import annotations

import datetime as dt
import json
import os

import pytest
from logstash_received import DAY, Server

from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified
from rocksalt.errors import RocksaltError
from rocksalt.logstash.receiving import begins, files, keep, ledger, oldest, remote, walk, witness

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(walk, "MOMENT", 0)
    monkeypatch.setattr(oldest, "KEPT", 40)
    found = Server(tmp_path, monkeypatch)
    found.settings["days"] = 40
    return found


def later(server, time):
    server.time += time
    server.witness_time += time


def heads(server, count):
    """A line every ten days, and what is said of it."""
    for _ in range(count):
        server.receive(1)
        later(server, MINUTE)
        assert server.heads() == ""
        later(server, 10 * DAY)


def go_on(server, count):
    """And all else that happens then."""
    for _ in range(count):
        heads(server, 1)
        seen = server.evidence()
        found = keep.daily(
            server.settings, server.signer, server.verify(seen), lambda: server.time, seen
        )
        assert found["ok"], found


def months(server):
    return sorted(path.name[:7] for path in server.witnessed.glob("2*"))


def at(book, time):
    """As if its last entry were of another time."""
    entry = {**json.loads(book.last["entry"]), "time": f"{time:%Y-%m-%dT%H:%M:%SZ}"}
    book.last = {**book.last, "entry": json.dumps(entry)}
    return book


def first(server):
    there = server.connect()
    try:
        return next(there.records())
    finally:
        there.close()


def test_old_months_are_removed(server):
    """Month by month; lines of a host that is quiet since are still vouched for."""
    server.receive(3, "web2")
    go_on(server, 9)
    assert months(server) == ["2026-11", "2026-12", "2027-01", "2027-02"]
    assert "entry" in first(server)
    go_on(server, 4)
    assert months(server) == ["2027-01", "2027-02", "2027-03"]
    one = first(server)
    go_on(server, 4)
    assert months(server) == ["2027-02", "2027-03", "2027-04", "2027-05"]
    assert oldest.sequence(first(server)) > oldest.sequence(one)
    seen = server.evidence()
    assert seen.problems == []
    assert seen.stated == 0
    assert list(seen.hosts["web2"].numbers) == [3]
    assert begins.read(server.path / "web1", server.public).n > 5
    server.receive(1, "web2")
    server.heads()
    assert server.problems(server.evidence()) == []


@pytest.mark.parametrize("days", [70, 10**12])
def test_entries_are_kept_for_as_long_as_lines(server, days):
    server.settings["days"] = days
    go_on(server, 11)
    assert months(server)[0] == "2026-11"
    server.settings["days"] = 1
    later(server, MINUTE)
    server.heads()
    assert months(server)[0] == "2026-11"


@pytest.mark.parametrize("ahead", [True, False])
def test_a_clock_that_is_wrong_removes_nothing(server, ahead):
    heads(server, 5)
    book, then = ledger.Ledger(server.witnessed), server.time + 900 * DAY
    signer = sshsig.Signer.load(server.witness_key)
    if ahead:
        oldest.thin(book, "logs1", signer, then)
    else:
        oldest.thin(at(book, then), "logs1", signer, server.time)
    assert months(server) == ["2026-11", "2026-12", "2027-01"]


def test_what_was_written_anew_is_found(server):
    """Also before the oldest entry."""
    server.settings["days"] = 400
    server.receive(3, "web2")
    go_on(server, 9)
    book = ledger.Ledger(server.witnessed)
    book.days = 0
    signer = sshsig.Signer.load(server.witness_key)
    oldest.thin(at(book, server.time + 30 * DAY), "logs1", signer, server.time + 30 * DAY)
    assert "oldest" in first(server)
    assert server.problems(server.evidence()) == []
    (path,) = files.days(server.path / "web2")
    path.unlink()
    server.receive(5, "web2")
    problems = server.problems(server.evidence())
    assert problems[0].startswith("web2: line 3 is another one than the witness saw at 20")


def test_a_state_that_is_lost(server):
    """What is known of quiet hosts is in what stands for the oldest entries."""
    server.receive(3, "web2")
    go_on(server, 12)
    before = ledger.Ledger(server.witnessed)
    (server.witnessed / "state.json").write_text("{}")
    found = ledger.Ledger(server.witnessed)
    assert (found.heads, found.begins, found.days) == (before.heads, before.begins, 40)
    assert (found.sequence, found.digest, found.last) == (
        before.sequence, before.digest, before.last
    )  # fmt: skip
    (server.witnessed / "state.json").write_text("{}")
    (server.witnessed / "oldest.json").write_text("{}")
    with pytest.raises(RocksaltError, match=r"oldest.json is damaged"):
        ledger.Ledger(server.witnessed)
    with pytest.raises(RocksaltError, match=r"oldest.json is damaged"):
        oldest.line(server.witnessed)


def test_power_lost_before_files_are_removed(server, monkeypatch):
    """And half a line at the end of a month, of another loss."""
    go_on(server, 9)
    path = server.witnessed / "2026-11.jsonl"
    with open(path, "ab") as file:
        file.write(b'{"entry": "{')
    unlink = type(path).unlink

    def lost(here, **more):
        if here.name.startswith("2") and here.parent == server.witnessed:
            raise OSError("no power")
        unlink(here, **more)

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "unlink", lost)
        book = at(ledger.Ledger(server.witnessed), server.time + 10 * DAY)
        signer = sshsig.Signer.load(server.witness_key)
        with pytest.raises(OSError, match="no power"):
            oldest.thin(book, "logs1", signer, server.time + 10 * DAY)
    assert months(server)[0] == "2026-11"
    assert server.problems(server.evidence()) == []
    before = first(server)
    oldest.thin(book, "logs1", signer, server.time + 10 * DAY)
    assert months(server)[0] > "2026-11"
    assert first(server) == before
    assert server.problems(server.evidence()) == []


def test_pieces_begin_with_the_oldest(server, monkeypatch):
    monkeypatch.setattr(witness, "_PIECE", 1)
    heads(server, 12)
    there = server.connect()
    found = list(there.records())
    there.close()
    start = oldest.sequence(found[0])
    numbers = [json.loads(record["entry"])["sequence"] for record in found[1:]]
    assert numbers == list(range(start + 1, ledger.Ledger(server.witnessed).sequence + 1))


BROKEN = {
    "of another": ({"client": "logs2"}, "is of 'logs2', not of logs1"),
    "no heads": ({"heads": {"web1": 5}}, "has no number and hash for 'web1'"),
    "no time": ({"received": "never"}, "is not whole"),
    "no days": ({"days": None}, "is not whole"),
    "nothing": ({"client": None}, "is of None"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_none(server, how):
    changes, words = BROKEN[how]
    heads(server, 12)
    value = {**json.loads(first(server)["oldest"]), **changes}
    text = json.dumps(value).encode()
    signer = sshsig.Signer.load(server.witness_key)
    record = {
        "oldest": text.decode(), "countersignature": signer.sign(text, oldest.NAMESPACE).decode()
    }  # fmt: skip
    with pytest.raises(Unverified, match=words):
        oldest.read(record, "logs1", server.witness_public)


@pytest.mark.parametrize("how", ["changed", "by the log server", "half", "left out", "late"])
def test_what_the_witness_did_not_sign_is_refused(server, monkeypatch, how):
    heads(server, 12)
    there = server.connect()
    records = list(there.records())
    there.close()
    text = records[0]["oldest"]
    if how == "changed":
        records[0]["oldest"] = text.replace("40", "41", 1)
    elif how == "by the log server":
        signature = server.signer.sign(text.encode(), oldest.NAMESPACE).decode()
        records[0]["countersignature"] = signature
    elif how == "half":
        del records[0]["countersignature"]
    elif how == "left out":
        del records[1]
    else:
        records.append(records[0])
    monkeypatch.setattr(remote.Witness, "records", lambda _: iter(records))
    (problem,) = server.evidence().problems
    assert problem.startswith(
        {"left out": f"entry {oldest.sequence(records[0]) + 1} of the witness does not continue",
         "late": "entry "}.get(how, "what the witness has of its oldest entries ")
    )  # fmt: skip


def test_the_first_entry_of_a_month_that_is_not_whole(server):
    heads(server, 13)
    path = sorted(server.witnessed.glob("2*"))[1]
    path.write_bytes(b'{"entry": ')
    book = at(ledger.Ledger(server.witnessed), server.time + 900 * DAY)
    signer = sshsig.Signer.load(server.witness_key)
    oldest.thin(book, "logs1", signer, server.time + 900 * DAY)
    assert len(months(server)) == 3
    assert files.hosts(server.path) == ["web1"]

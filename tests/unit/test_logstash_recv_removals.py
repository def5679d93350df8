"""rocksalt.logstash.receiving: old lines that were removed rightly are told from others."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil

import pytest
from logstash_received import DAY, Server

from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified
from rocksalt.logstash.receiving import begins, evidence, keep, ledger, removals, walk

MINUTE = dt.timedelta(minutes=1)
TIME = "2026-11-23T04:20:00Z"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(walk, "MOMENT", 0)
    found = Server(tmp_path, monkeypatch)
    found.settings["days"] = 3
    return found


def later(server, time):
    server.time += time
    server.witness_time += time


def daily(server):
    seen = server.evidence()
    found = server.verify(seen)
    return keep.daily(server.settings, server.signer, found, lambda: server.time, seen)


def days(server, count, host="web1"):
    """A line a day, and all that happens then."""
    for _ in range(count):
        server.receive(1, host)
        later(server, MINUTE)
        assert server.heads() == ""
        found = daily(server)
        assert found["ok"], found
        later(server, DAY)


def removed(server, host="web1"):
    return begins.read(server.path / host, server.public).n


def test_entries_say_where_chains_begin(server):
    days(server, 6)
    later(server, MINUTE)
    server.heads()
    found = [json.loads(line)["entry"] for _, line in ledger.Ledger(server.witnessed).records()]
    read = [ledger.read(text.encode()) for text in found]
    assert [{host: n for host, (n, _) in it.begins.items()} for it in read] == [
        {}, {}, {}, {}, {}, {"web1": 1}, {"web1": 2}
    ]  # fmt: skip
    assert {it.days for it in read} == {3}
    own = begins.read(server.path / "web1", server.public)
    assert read[-1].begins["web1"] == (own.n, own.hash)


def test_entries_of_before_can_be_read():
    text = ledger.write("logs1", 1, "", TIME, {"web1": (1, "ab" * 32)})
    assert b"begins" not in text
    assert b"days" not in text
    found = ledger.read(text)
    assert (found.begins, found.days) == (None, None)


@pytest.mark.parametrize("more", [{"begins": 5}, {"begins": {"web1": [0, "x"]}}, {"days": "3"}])
def test_entries_that_say_nonsense(more):
    value = json.loads(ledger.write("logs1", 1, "", TIME, {}))
    with pytest.raises(Unverified, match=r"has no|days"):
        ledger.read(json.dumps({**value, **more}).encode())


@pytest.mark.parametrize("both", [False, True])
def test_a_witness_that_begins_anew_does_not_miss_what_was_removed_before(server, both):
    server.receive(2, "web2")
    days(server, 8)
    assert removed(server, "web2") == 2
    assert not list((server.path / "web2").glob("*.jsonl*"))
    shutil.rmtree(server.witnessed)
    if both:
        shutil.rmtree(server.path / ".heads")
    assert server.heads() == ""
    assert server.problems(server.evidence()) == []
    before = removed(server)
    days(server, 6)
    assert removed(server) > before
    server.receive(1, "web2")
    server.heads()
    assert server.problems(server.evidence()) == []


def _remove(server, count, host="web1"):
    """Files, and it is signed rightly."""
    for path in sorted((server.path / host).glob("2*"))[:count]:
        keep._remove(path, server.signer)


@pytest.mark.parametrize("anew", [False, True])
def test_what_was_there_at_the_first_entry_stays(server, anew):
    """Also that which the witness did not see by itself."""
    server.settings["days"] = 400
    for _ in range(3):
        server.receive(5)
        later(server, DAY)
    if anew:
        _remove(server, 1)
    server.heads()
    later(server, 2 * DAY)
    server.heads()
    assert server.problems(server.evidence()) == []
    _remove(server, 1)
    n = 10 if anew else 5
    (problem,) = server.problems(server.evidence())
    assert problem.startswith(f"web1: the lines up to {n} were removed before their time: the")
    assert "saw line 15 at 2026-11-26" in problem
    later(server, 399 * DAY)
    server.heads()
    assert server.problems(server.evidence()) == []


def test_a_host_that_is_said_to_begin_after_its_end(server):
    """As the first entry may say, to have a reason for later."""
    server.receive(3)
    (server.path / "web2").mkdir()
    forged = begins.Begins("web2", 99, "ab" * 32, TIME)
    begins.write(server.path / "web2", forged, server.signer)
    server.heads()
    seen = server.evidence()
    assert seen.hosts["web2"].before == (99, "ab" * 32)
    shutil.rmtree(server.path / "web2")
    server.receive(5, "web2")
    later(server, DAY)
    server.heads()
    server.receive(5, "web2")
    _remove(server, 1, "web2")
    (problem,) = server.problems(server.evidence())
    assert problem.startswith("web2: the lines up to 5 were removed before their time")


def test_lines_of_a_host_that_nobody_saw(server):
    server.receive(1)
    server.heads()
    server.receive(5, "web2")
    _remove(server, 1, "web2")
    later(server, MINUTE)
    server.heads()
    expected = ["web2: the lines after 0 up to 5 were removed, and not witnessed"]
    assert server.problems(server.evidence()) == expected


def test_another_beginning_than_the_first_entry_says(server):
    days(server, 5)
    shutil.rmtree(server.witnessed)
    server.heads()
    own = begins.read(server.path / "web1")
    other = begins.Begins("web1", own.n, "ab" * 32, own.time)
    begins.write(server.path / "web1", other, server.signer)
    problems = server.problems(server.evidence())
    assert problems[0] == f"web1: begins.json has another hash of line {own.n} than the witness"


def test_the_folder_of_a_host_without_lines_may_go(server):
    """Once the witness was told that they are removed, and not before they may be."""
    server.receive(2, "web2")
    server.heads()
    _remove(server, 1, "web2")
    later(server, MINUTE)
    server.heads()
    (server.path / "web2").rename(server.folder / "web2")
    gone = ["web2: the witness saw its lines, and they are gone"]
    assert server.problems(server.evidence()) == gone
    (server.folder / "web2").rename(server.path / "web2")
    later(server, 3 * DAY)
    server.receive(2, "web2")
    server.heads()
    shutil.copytree(server.path / "web2", server.folder / "web2")
    shutil.rmtree(server.path / "web2")
    assert server.problems(server.evidence()) == gone
    shutil.copytree(server.folder / "web2", server.path / "web2")
    days(server, 5)
    server.heads()
    assert not list((server.path / "web2").glob("2*"))
    shutil.rmtree(server.path / "web2")
    assert server.problems(server.evidence()) == []
    days(server, 3)


def test_days_that_are_raised(server):
    days(server, 8)
    server.settings["days"] = 30
    n = removed(server)
    found = server.verify(server.evidence())
    assert found["ok"]
    (note,) = [it for it in found["hosts"]["web1"]["notes"] if "removed" in it]
    assert note.startswith(f"the lines up to {n} were removed when they were kept for 3 days: ")
    days(server, 8)
    assert removed(server) == n


def test_days_that_are_lowered_for_a_removal(server):
    """What was to be kept for longer when it was seen is missed, whatever is said later."""
    server.settings["days"] = 30
    days(server, 6)
    server.settings["days"] = 1
    server.heads()
    assert daily(server)["ok"]
    assert removed(server) > 0
    assert server.problems(server.evidence()) == []
    later(server, MINUTE)
    server.heads()
    server.settings["days"] = 30
    later(server, MINUTE)
    server.heads()
    (problem,) = server.problems(server.evidence())
    assert "were removed before their time" in problem
    assert problem.endswith("and lines are kept for 30 days")


def test_days_that_entries_of_before_do_not_say():
    found = evidence.Evidence()
    for days in (None, 5, 5, 30, None, 3):
        found.took(TIME, TIME)
        found.says(ledger.Entry("logs1", 1, "", TIME, {}, "", {}, days), {})
    assert found.days == [(1, 5), (3, 30), (5, 3)]
    assert [found.kept(0, 6), found.kept(1, 3), found.kept(1, 4), found.kept(2, 2)] == [
        None, 5, 30, 5
    ]  # fmt: skip
    assert [found.kept(4, 5), found.kept(4, 6), found.kept(5, 0)] == [30, 30, 3]


def _of_before(monkeypatch):
    """Entries as they were written once."""
    write = ledger.write
    monkeypatch.setattr(ledger, "write", lambda *it: write(*it[:5]))


def test_a_ledger_of_before_goes_on(server, monkeypatch):
    with monkeypatch.context() as patch:
        _of_before(patch)
        days(server, 6)
        (server.path / ".heads" / "taken.json").unlink()
        for folder in (server.path / ".heads", server.witnessed):
            state = json.loads((folder / "state.json").read_bytes())
            del state["begins"], state["end"]
            (folder / "state.json").write_text(json.dumps(state))
    n = removed(server)
    days(server, 6)
    assert removed(server) > n
    seen = server.evidence()
    assert (seen.stated, seen.hosts["web1"].before[0]) == (6, n)


def test_a_removal_of_before_is_judged_as_it_was(server, monkeypatch):
    """Lines that were there at the first entry of a ledger that does not say where chains begin."""
    server.settings["days"] = 400
    with monkeypatch.context() as patch:
        _of_before(patch)
        server.receive(5)
        later(server, DAY)
        server.receive(5)
        later(server, DAY)
        server.receive(5)
        server.heads()
        _remove(server, 1)
    assert server.problems(server.evidence()) == []
    later(server, MINUTE)
    server.heads()
    assert server.problems(server.evidence()) == []
    _remove(server, 1)
    (problem,) = server.problems(server.evidence())
    assert problem.startswith("web1: the lines up to 10 were removed before their time")


def _new_key(server):
    for name in ("signing", "signing.pub"):
        (server.folder / name).unlink()
    server.public = sshsig.generate(server.folder / "signing")
    server.signer = sshsig.Signer.load(server.folder / "signing")
    server.witness_settings["clients"]["logs1"]["signer"] = server.public
    shutil.rmtree(server.witnessed)
    shutil.rmtree(server.path / ".heads")


def test_a_new_key_of_the_log_server(server):
    days(server, 6)
    n = begins.read(server.path / "web1").n
    _new_key(server)
    later(server, MINUTE)
    assert server.heads() == ""
    found = server.verify(server.evidence())
    assert found["ok"]
    note = "begins.json is signed by another key; the witness knows it"
    assert note in found["hosts"]["web1"]["notes"]
    days(server, 6)
    assert removed(server) > n
    assert server.problems(server.evidence()) == []


def test_another_key_that_the_witness_does_not_know(server):
    days(server, 6)
    path = server.path / "web1" / "begins.json"
    before = path.read_bytes()
    _remove(server, 1)
    after = path.read_bytes()
    path.write_bytes(before)
    _new_key(server)
    server.heads()
    path.write_bytes(after)
    assert "where the chain begins is not known" in server.problems(server.evidence())[0]


def test_a_witness_that_cannot_be_asked_judges_nothing():
    found = begins.Begins("web1", 5, "ab" * 32, TIME)
    away = evidence.Evidence(error="away")
    assert removals.judge(found, evidence.Seen(), away, 400) == ([], [])

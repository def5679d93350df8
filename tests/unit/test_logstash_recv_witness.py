"""rocksalt.logstash.receiving: heads are signed, sent and countersigned, and no other past is."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import time

import pytest
from logstash_received import DAY, NOW, Server

from rocksalt.backup.crypto import sshsig
from rocksalt.errors import Refused, RocksaltError
from rocksalt.logstash.receiving import allowance, evidence, files, ledger, remote, witness

TIME = "2026-11-23T04:20:00Z"
MINUTE = dt.timedelta(minutes=1)
SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    return Server(tmp_path, monkeypatch)


def entries(folder):
    found = [json.loads(line) for _, line in ledger.Ledger(folder).records()]
    return [json.loads(record["entry"]) for record in found]


def heads(server):
    return [it["heads"] for it in entries(server.witnessed)]


def refused(server):
    path = server.witnessed / "refused.jsonl"
    return [json.loads(line)["why"] for line in path.read_bytes().splitlines()]


def minute(server):
    server.time += MINUTE
    server.witness_time += MINUTE


def test_only_what_changed_is_signed(server):
    server.receive(2)
    server.receive(1, "web2")
    assert server.heads() == ""
    server.receive(1)
    minute(server)
    assert server.heads() == ""
    minute(server)
    assert server.heads() == ""
    web1 = [json.loads(line)["hash"] for line in server.lines()]
    web2 = files.head(server.path / "web2")
    assert heads(server) == [
        {"web1": [2, web1[1]], "web2": [1, web2.hash]}, {"web1": [3, web1[2]]}, {}
    ]  # fmt: skip
    first, second, _ = entries(server.witnessed)
    assert (first["server"], first["sequence"], first["previous"]) == ("logs1", 1, "")
    assert (second["sequence"], second["time"]) == (2, "2026-11-23T04:21:00Z")
    assert entries(server.path / ".heads") == entries(server.witnessed)
    assert server.status() == {
        "witnessed_until": "2026-11-23T04:22:00Z", "unwitnessed_since": None, "error": "",
        "failed": {},
    }  # fmt: skip


def test_heads_are_on_the_disk_before_they_are_signed(server, monkeypatch):
    server.receive(1)
    server.time += DAY
    server.receive(1)
    synced: list[str] = []

    def note(descriptor):
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

    monkeypatch.setattr(os, "fdatasync", note)
    with monkeypatch.context() as patch:
        patch.setattr(
            server.signer, "sign", lambda *_: pytest.fail("signed") if not synced else b""
        )
        server.away = True
        server.heads()
    assert synced == ["2026-11-23.jsonl", "2026-11-24.jsonl"]


def test_half_a_line_is_no_head(server):
    server.receive(2)
    with open(server.file(), "ab") as file:
        file.write(b'{"n":3')
    server.heads()
    assert heads(server)[0]["web1"][0] == 2


def test_a_host_that_cannot_be_read_is_left_out_alone(server):
    server.receive(2)
    server.receive(1, "web2")
    server.file().rename(server.folder / "x")
    server.file().symlink_to(server.folder / "x")
    why = f"[Errno 40] Too many levels of symbolic links: '{server.file()}'"
    assert server.heads() == f"web1 is not witnessed: {why}"
    assert server.status() == {
        "witnessed_until": TIME, "unwitnessed_since": None, "error": "", "failed": {"web1": why},
    }  # fmt: skip
    assert [list(it) for it in heads(server)] == [["web2"]]


def test_without_a_witness(server):
    server.settings["witness"] = None
    assert server.heads() == ""
    assert server.status() == {
        "witnessed_until": None, "unwitnessed_since": None, "error": "", "failed": {},
    }  # fmt: skip
    assert not (server.path / ".heads").exists()


def test_what_could_not_be_sent_comes_in_one_entry_of_now(server):
    """However many there are: a new witness knows all after one run."""
    server.away = True
    for number in range(3):
        server.receive(1)
        assert server.heads() == "the witness w is away"
        assert server.status()["unwitnessed_since"] == TIME, number
        minute(server)
    server.away = False
    assert server.heads() == ""
    assert [it["sequence"] for it in entries(server.witnessed)] == [1]
    assert [it["web1"][0] for it in heads(server)] == [3]
    minute(server)
    assert server.heads() == ""
    assert [it["sequence"] for it in entries(server.witnessed)] == [1, 2]
    server.away = True
    minute(server)
    server.heads()
    assert server.status() == {
        "witnessed_until": "2026-11-23T04:24:00Z", "unwitnessed_since": "2026-11-23T04:24:00Z",
        "error": "the witness w is away", "failed": {},
    }  # fmt: skip


def test_a_server_that_was_put_back_says_so(server):
    server.receive(1)
    server.heads()
    kept = {path: path.read_bytes() for path in (server.path / ".heads").iterdir()}
    server.heads()
    server.heads()
    for path, data in kept.items():
        path.write_bytes(data)
    error = server.heads()
    assert error.startswith("the witness has entry 3, and this host only 2: it was put back to")
    assert server.status()["error"] == error
    server.receive(1)
    assert server.heads() == f"the witness has another entry 3 than {server.path / '.heads'}"


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("first", [0, 2])
def test_entries_of_a_wrong_clock_are_made_anew(server, first, away):
    """The clock is years ahead for two runs; the witness may be away for one before."""
    server.receive(1)
    server.receive(1, "web2")
    for _ in range(first):
        server.heads()
    server.away = away
    server.heads()
    right, server.time = server.time, server.time + 1500 * DAY
    for _ in range(2):
        server.receive(1)
        server.heads()
    server.away = False
    assert "in the future: set the clocks right" in server.heads()
    server.time = right + MINUTE
    server.witness_time += MINUTE
    assert server.heads() == ""
    own, there = entries(server.path / ".heads"), entries(server.witnessed)
    assert own == there
    assert [it["time"] for it in own] == [TIME] * (first + 1 - away) + ["2026-11-23T04:21:00Z"]
    told = {host: head[0] for it in own for host, head in it["heads"].items()}
    assert told == {"web1": 3, "web2": 1}
    assert own[-1]["heads"]["web1"][0] == 3
    assert sorted(path.name for path in server.path.glob(".heads/2*")) == ["2026-11.jsonl"]
    assert server.heads() == ""
    assert server.problems(server.evidence()) == []


def test_a_witness_whose_folder_was_moved_aside_begins_anew(server):
    server.receive(1)
    server.heads()
    server.heads()
    shutil.rmtree(server.path / ".heads")
    assert "move the folder of this host on the witness aside to begin anew" in server.heads()
    server.witnessed.rename(server.folder / "aside")
    assert server.heads() == ""
    assert [it["sequence"] for it in entries(server.witnessed)] == [1]
    assert server.problems(server.evidence()) == []


def test_an_account_of_another_witness(server):
    server.receive(1)
    server.settings["witness"]["key"] = server.public
    assert "its receipt is signed by ssh-ed25519" in server.heads()


def test_half_an_entry_of_a_power_cut_goes(server):
    server.receive(1)
    server.heads()
    for folder in (server.path / ".heads", server.witnessed):
        with open(folder / "2026-11.jsonl", "ab") as file:
            file.write(b'{"entry": "{')
    server.heads()
    assert [it["sequence"] for it in entries(server.witnessed)] == [1, 2]
    (server.path / ".heads" / "state.json").unlink()
    server.heads()
    assert [it["sequence"] for it in entries(server.witnessed)] == [1, 2, 3]


def test_months_have_files(server):
    for _ in range(3):
        server.heads()
        server.time += 20 * DAY
        server.witness_time += 20 * DAY
    names = sorted(path.name for path in server.witnessed.glob("2*"))
    assert names == ["2026-11.jsonl", "2026-12.jsonl", "2027-01.jsonl"]
    book = ledger.Ledger(server.witnessed)
    for since in range(4):
        assert [number for number, _ in book.records(since)] == list(range(since + 1, 4))
    assert json.loads(book.record(2)["entry"])["sequence"] == 2
    assert book.record(4) == {}


@pytest.mark.parametrize("how", ["shorter", "another", "not there"])
def test_a_chain_that_went_back_is_left_out_alone(server, how):
    """And is witnessed again once it is right, whatever was signed meanwhile."""
    server.receive(5)
    server.receive(1, "web2")
    assert server.heads() == ""
    server.receive(1, "web2")
    kept = server.file().read_bytes()
    last = json.loads(server.lines()[-1])["hash"]
    server.file().write_bytes(b"".join(server.lines()[:2]) if how == "shorter" else kept)
    if how == "another":
        server.file().write_bytes(kept.replace(last.encode(), b"0" * 64))
    if how == "not there":
        server.file().unlink()
    minute(server)
    why = {
        "shorter": {"web1": "it went back from line 5 to 2"},
        "another": {"web1": "line 5 is another one than was signed"},
        "not there": {},
    }[how]
    said = server.heads()
    assert server.status()["failed"] == why
    assert said == "".join(f"web1 is not witnessed: {it}" for it in why.values())
    assert server.status()["witnessed_until"] == "2026-11-23T04:21:00Z"
    server.file().write_bytes(kept)
    server.receive(1)
    minute(server)
    assert server.heads() == ""
    assert [{host: it[0] for host, it in entry.items()} for entry in heads(server)] == [
        {"web1": 5, "web2": 1}, {"web2": 2}, {"web1": 6}
    ]  # fmt: skip
    assert server.problems(server.evidence()) == []
    assert not (server.witnessed / "refused.jsonl").exists()


@pytest.mark.parametrize("known", [True, False])
def test_an_entry_that_was_refused_is_made_anew(server, known):
    """It is in the log server's own ledger, and stands in the way of those after it."""
    server.receive(5)
    server.receive(1, "web2")
    server.heads()
    server.receive(1, "web2")
    server.heads()
    if not known:
        (server.path / ".heads" / "taken.json").unlink()
    book = ledger.Ledger(server.path / ".heads")
    text = ledger.write("logs1", 3, book.digest, TIME, {"web1": (1, "1" * 64)})
    signature = server.signer.sign(text, ledger.ENTRIES)
    book.add({"entry": text.decode(), "signature": signature.decode()})
    minute(server)
    assert server.heads() == ""
    assert [it["sequence"] for it in entries(server.witnessed)] == [1, 2, 3]
    assert heads(server)[2] == {}
    assert entries(server.path / ".heads") == entries(server.witnessed)


def test_the_past_of_a_month_is_not_read_each_minute(server, monkeypatch):
    for _ in range(5):
        server.receive(1)
        server.heads()
        minute(server)
    read = []
    number = ledger._number
    monkeypatch.setattr(ledger, "_number", lambda *it: read.append(it) or number(*it))
    server.receive(1)
    assert server.heads() == ""
    assert witness.seen(server.witness_settings)["logs1"]["sequence"] == 6
    assert read == []
    assert [it["sequence"] for it in entries(server.witnessed)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("end", [["2026-11.jsonl", 5], ["2026-10.jsonl", 5], ["x", 1], [], [1, 2]])
def test_the_place_of_the_last_entry_is_not_believed(server, end):
    for _ in range(3):
        server.heads()
        minute(server)
    path = server.witnessed / "state.json"
    state = json.loads(path.read_bytes())
    for sequence in (3, 1):
        path.write_text(json.dumps({**state, "sequence": sequence, "end": end}))
        assert ledger.Ledger(server.witnessed).sequence == 3


def test_own_entries_are_kept_for_two_months(server):
    for _ in range(5):
        server.receive(1)
        server.heads()
        server.time += 30 * DAY
        server.witness_time += 30 * DAY
    assert sorted(path.name for path in (server.path / ".heads").glob("2*")) == [
        "2027-02.jsonl", "2027-03.jsonl"
    ]  # fmt: skip
    assert len(list(server.witnessed.glob("2*"))) == 5
    assert server.heads() == ""
    assert server.problems(server.evidence()) == []


def test_heads_that_fail_say_why(server):
    server.receive(1)
    server.heads()
    (server.path / ".heads" / "state.json").unlink()
    (server.path / ".heads" / "2026-11.jsonl").write_bytes(b"none\n")
    minute(server)
    error = server.heads()
    assert error.startswith(f"{server.path}/.heads/2026-11.jsonl has a line that is no entry")
    assert server.status() == {
        "witnessed_until": TIME, "unwitnessed_since": TIME, "error": error, "failed": {}
    }  # fmt: skip


def test_an_own_entry_that_is_missing_is_named(server):
    for _ in range(3):
        server.heads()
        minute(server)
    path = server.path / ".heads" / "2026-11.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    (server.path / ".heads" / "state.json").unlink()
    error = "the witness has entry 3, and this host only 2: it was put back to an earlier state"
    assert server.heads().startswith(error)
    server.witnessed.rename(server.folder / "aside")
    shutil.copytree(server.folder / "aside", server.witnessed)
    assert server.heads() == f"the witness has another entry 3 than {server.path / '.heads'}"


# What a witness refuses, each by itself.


def entry(kept, **changes):
    """The entry that comes next, signed, but for the changes."""
    book = ledger.Ledger(kept.witnessed)
    value = {
        "server": "logs1", "sequence": book.sequence + 1, "previous": book.digest, "time": TIME,
        "heads": {"web1": (9, "9" * 64)}, **changes,
    }  # fmt: skip
    text = ledger.write(**value)
    return {
        "entry": text.decode(), "signature": kept.signer.sign(text, ledger.ENTRIES).decode()
    }  # fmt: skip


def put(server, record):
    there = server.connect()
    try:
        there.put(record)
    finally:
        there.close()


@pytest.fixture
def witnessed(server):
    server.receive(3)
    server.heads()
    server.receive(2)
    server.heads()
    return server


FUTURE = "2026-11-23T04:25:01Z"
REFUSALS = [
    ({"server": "logs2"}, "entry 3 is of 'logs2', not of logs1"),
    ({"sequence": 1}, "entry 1 is another one than was witnessed: another past was sent"),
    ({"sequence": 2}, "entry 2 is another one than was witnessed: another past was sent"),
    ({"sequence": 4}, "entry 4 came after 2: those between are missing"),
    ({"previous": "0" * 64}, "entry 3 does not continue entry 2"),
    ({"previous": ""}, "entry 3 does not continue entry 2"),
    ({"time": FUTURE}, f"entry 3 is of {FUTURE}, in the future: set the clocks right (NTP)"),
    (
        {"heads": {"web1": (4, "4" * 64)}},
        "entry 3 has line 4 of web1, where 5 was witnessed",
    ),
    (
        {"heads": {"web1": (5, "5" * 64)}},
        "entry 3 has another hash for line 5 of web1 than witnessed",
    ),
    ({"heads": {"web1": (0, "5" * 64)}}, "the entry has no number and hash for 'web1'"),
    ({"heads": {"../x": (9, "5" * 64)}}, "the entry has no number and hash for '../x'"),
    ({"heads": {"web1": (9, "5")}}, "the entry has no number and hash for 'web1'"),
    ({"heads": {"web1": (True, "5" * 64)}}, "the entry has no number and hash for 'web1'"),
    ({"time": "2026-13-23T04:20:00Z"}, "the entry has 2026-13-23T04:20:00Z, which is no time"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSALS, ids=[it[1][:40] for it in REFUSALS])
def test_another_past_is_refused(witnessed, changes, words):
    with pytest.raises(remote.Denied) as caught:
        put(witnessed, entry(witnessed, **changes))
    assert str(caught.value) == f"the witness w: {words}"
    assert refused(witnessed) == [words]
    assert len(entries(witnessed.witnessed)) == 2
    put(witnessed, entry(witnessed))
    assert len(entries(witnessed.witnessed)) == 3
    assert witness.seen(witnessed.witness_settings)["logs1"]["refused"] == 1


@pytest.mark.parametrize("what", ["entry", "signature", "signer"])
def test_what_the_log_server_did_not_sign_is_refused(witnessed, tmp_path, what):
    record = entry(witnessed)
    if what == "entry":
        record["entry"] = record["entry"].replace("999", "998", 1)
    elif what == "signature":
        text = record["entry"].encode()
        record["signature"] = witnessed.signer.sign(text, "another").decode()
    else:
        sshsig.generate(tmp_path / "other")
        text = record["entry"].encode()
        signer = sshsig.Signer.load(tmp_path / "other")
        record["signature"] = signer.sign(text, ledger.ENTRIES).decode()
    with pytest.raises(remote.Denied, match=r"the entry (was changed after|is signed)"):
        put(witnessed, record)
    assert len(entries(witnessed.witnessed)) == 2
    assert len(refused(witnessed)) == 1


def many(count, start=0):
    return {"heads": {f"h{start + n}": (1, "5" * 64) for n in range(count)}}


def test_the_number_of_hosts_is_bounded(witnessed, monkeypatch):
    monkeypatch.setattr(witness, "HOSTS", 10)
    put(witnessed, entry(witnessed, **many(9)))
    words = "entry 4 has more than 10 hosts, with those of before"
    with pytest.raises(remote.Denied, match=words):
        put(witnessed, entry(witnessed, **many(1, 9)))
    put(witnessed, entry(witnessed, **many(1, 8)))


def test_the_number_of_entries_is_bounded(server, monkeypatch):
    """A backlog of five at once, then one in 20 s, and what was not used later."""
    monkeypatch.setattr(allowance, "BACKLOG", 5)
    taken = []
    for seconds in [0] * 7 + [19, 20, 21, 39, 40, 41] + [400] * 7 + [0, 19, 401]:
        server.witness_time = NOW + dt.timedelta(seconds=seconds)
        record = entry(server, heads={})
        try:
            put(server, record)
        except remote.Denied as error:
            assert str(error) == "the witness w: too many entries: one in 20 s, or 5 after a pause"
        else:
            put(server, record)
            taken.append(seconds)
    assert taken == [0] * 5 + [20, 40] + [400] * 5
    assert not (server.witnessed / "refused.jsonl").exists()


def test_bytes_a_month_are_bounded(server, monkeypatch):
    monkeypatch.setattr(allowance, "MONTHLY", 1500)
    for _ in range(2):
        put(server, entry(server, heads={}))
    with pytest.raises(remote.Denied, match="MiB of entries in 2026-11: 0 MiB a month are kept"):
        put(server, entry(server, heads={}))
    server.witness_time += 10 * DAY
    put(server, entry(server, heads={}))
    assert json.loads((server.witnessed / "taken.json").read_bytes())["month"] == "2026-12"


@pytest.mark.parametrize(("hostly", "taken"), [(0, 2), (3000, 12)])
def test_bytes_of_many_hosts_are_bounded_by_their_number(server, monkeypatch, hostly, taken):
    monkeypatch.setattr(allowance, "MONTHLY", 1500)
    monkeypatch.setattr(allowance, "HOSTLY", hostly)
    with pytest.raises(remote.Denied, match="MiB of entries in 2026-11"):
        for _ in range(20):
            put(server, entry(server, **many(6)))
    assert len(entries(server.witnessed)) == taken


@pytest.mark.parametrize(("ahead", "taken"), [(30 * DAY, 1), (dt.timedelta(seconds=30), 0)])
def test_a_clock_of_the_witness_that_was_ahead(witnessed, ahead, taken):
    """What was noted then is no more believed than what is damaged."""
    path = witnessed.witnessed / "taken.json"
    found = json.loads(path.read_bytes())
    path.write_text(json.dumps({**found, "entries": 0.5, "time": found["time"] + ahead / SECOND}))
    for _ in range(taken):
        put(witnessed, entry(witnessed, heads={}))
    with pytest.raises(remote.Denied, match="too many entries"):
        put(witnessed, entry(witnessed, heads={}))
    minute(witnessed)
    put(witnessed, entry(witnessed, heads={}))


def test_what_was_taken_is_damaged(witnessed):
    """It is made anew, and leaves no room for many."""
    (witnessed.witnessed / "taken.json").write_bytes(b"{")
    put(witnessed, entry(witnessed, heads={}))
    with pytest.raises(remote.Denied, match="too many entries"):
        put(witnessed, entry(witnessed, heads={}))


def test_a_session_does_not_wait_for_ever(witnessed, monkeypatch):
    monkeypatch.setattr(allowance, "PATIENCE", 0.01)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    lock = files.locked(witnessed.witnessed)
    with pytest.raises(Refused, match="busy: another session of logs1 has not ended for 0 s"):
        allowance.locked(witnessed.witnessed)
    os.close(lock)
    os.close(allowance.locked(witnessed.witnessed))


def test_the_same_entry_twice_is_one(witnessed):
    records = [json.loads(line) for _, line in ledger.Ledger(witnessed.witnessed).records()]
    for record in [*records, *records]:
        put(witnessed, record)
    assert len(entries(witnessed.witnessed)) == 2
    assert not (witnessed.witnessed / "refused.jsonl").exists()


def test_refusals_are_bounded(witnessed, monkeypatch):
    monkeypatch.setattr(witness, "_REFUSED_MOST", 1000)
    for _ in range(5):
        with pytest.raises(remote.Denied):
            put(witnessed, entry(witnessed, sequence=9))
    assert 1 < len(refused(witnessed)) < 5


def test_who_reads_keeps_nobody_from_being_witnessed(witnessed):
    reading = witnessed.connect()
    records = reading.records()
    assert next(records)["entry"]
    witnessed.receive(1)
    minute(witnessed)
    assert witnessed.heads() == ""
    assert len(list(records)) == 1
    assert reading.head()[0] == 2
    reading.close()
    assert len(entries(witnessed.witnessed)) == 3


def test_two_sessions_that_put(witnessed):
    """Each sees what the other one did."""
    first, second = witnessed.connect(), witnessed.connect()
    for there in (first, second, first):
        there.put(entry(witnessed, heads={}))
    first.close()
    second.close()
    assert [it["sequence"] for it in entries(witnessed.witnessed)] == [1, 2, 3, 4, 5]


def test_entries_are_read_in_one_pass(server, monkeypatch):
    for _ in range(20):
        server.heads()
        minute(server)
    monkeypatch.setattr(witness, "_PIECE", 1)
    read = []
    number = ledger._number
    monkeypatch.setattr(ledger, "_number", lambda *it: read.append(it) or number(*it))
    there = server.connect()
    for _ in range(2):
        read.clear()
        assert len(list(there.records())) == 20
        assert len(read) == 20
    assert there._ask({"op": "entries", "since": 18})["more"]
    there._body(1)
    there.close()


def test_text_that_is_no_unicode_is_refused(witnessed):
    there = witnessed.connect()
    for key in ("entry", "signature"):
        with pytest.raises(remote.Denied, match="the entry is no Unicode"):
            there._ask({"op": "put", **entry(witnessed), key: "\ud800"})
    with pytest.raises(remote.Denied, match="knows no operation"):
        there._ask({"op": "\ud800"})
    there.put(entry(witnessed))
    there.close()
    assert refused(witnessed) == ["the entry is no Unicode"] * 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"op": "remove"}, "the witness knows no operation 'remove'"),
        ({"op": "entries", "since": -1}, "the witness needs the number of an entry, not -1"),
        ({"op": "put"}, "the entry has no signature in the form of ssh-keygen -Y sign"),
    ],
)
def test_what_makes_no_sense_is_refused(witnessed, line, words):
    there = witnessed.connect()
    with pytest.raises(remote.Denied, match=words):
        there._ask(line)
    there.close()


def test_only_clients_are_served(server):
    server.witness_settings["clients"] = {}
    signer = sshsig.Signer.load(server.witness_key)
    with pytest.raises(RocksaltError, match="hardening:logstash:witness:clients has no 'logs1'"):
        witness.Desk(server.witness_settings, "logs1", signer, lambda: NOW)


def test_who_was_seen(server):
    nothing = {"sequence": 0, "time": None, "received": None, "refused": 0}
    assert witness.seen(server.witness_settings) == {"logs1": nothing}
    server.witness_time += MINUTE
    server.heads()
    assert witness.seen(server.witness_settings) == {
        "logs1": {"sequence": 1, "time": TIME, "received": "2026-11-23T04:21:00Z", "refused": 0}
    }
    root, path = server.folder, {**server.witness_settings, "path": "/witness"}
    assert witness.seen(path, root)["logs1"]["sequence"] == 1


def test_ssh_keygen_agrees(server, tmp_path):
    """The oracle: what the witness signed verifies with the stock tool, and is about the entry."""
    server.receive(1)
    server.heads()
    (record,) = [json.loads(line) for _, line in ledger.Ledger(server.witnessed).records()]
    (tmp_path / "signature").write_text(record["countersignature"])
    (tmp_path / "allowed").write_text(f"witness1 {server.witness_public}\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "allowed", "-I", "witness1"]
    ran = subprocess.run(
        [*command, "-n", "rocksalt-witness", "-s", tmp_path / "signature"],
        input=record["receipt"].encode(), capture_output=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    receipt = json.loads(record["receipt"])
    assert receipt == {
        "format": 1, "client": "logs1", "sequence": 1, "previous": "", "received": TIME,
        "entry": ledger.read(record["entry"].encode()).digest,
    }  # fmt: skip


# What the log server believes of what the witness has.


def test_evidence(witnessed, monkeypatch):
    monkeypatch.setattr(witness, "_PIECE", 1)
    found = witnessed.evidence()
    hashes = [json.loads(line)["hash"] for line in witnessed.lines()]
    seen = found.hosts["web1"]
    assert found.problems == []
    assert (found.times, found.until) == ([TIME, TIME], TIME)
    assert list(seen.numbers) == [3, 5]
    assert [seen.hash(0), seen.hash(1)] == [hashes[2], hashes[4]]


def damaged(records, how):
    if how == "first removed":
        return records[1:]
    if how == "middle removed":
        return [records[0], records[2]]
    if how == "entry":
        return [{**records[0], "entry": records[1]["entry"]}, *records[1:]]
    if how == "receipt":
        swapped = {key: records[1][key] for key in ("receipt", "countersignature")}
        return [{**records[0], **swapped}, *records[1:]]
    if how == "countersignature":
        swapped = {"countersignature": records[1]["countersignature"]}
        return [{**records[0], **swapped}, *records[1:]]
    return [{"entry": records[0]["entry"]}]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("first removed", "entry 1 of the witness does not continue the one before: some were"),
        ("middle removed", "entry 2 of the witness does not continue the one before: some were"),
        ("entry", "entry 1 of the witness was changed after"),
        ("receipt", "entry 1 of the witness has the receipt of another"),
        ("countersignature", "entry 1 of the witness was changed after"),
        ("half", "entry 1 of the witness is not whole"),
    ],
)
def test_evidence_that_is_none(witnessed, how, words):
    witnessed.heads()
    book = ledger.Ledger(witnessed.witnessed)
    records = damaged([json.loads(line) for _, line in book.records()], how)
    found = evidence.gather(records, "logs1", witnessed.public, witnessed.witness_public)
    (problem,) = found.problems
    assert problem.startswith(words)


def test_a_receipt_that_does_not_continue(witnessed):
    """A witness whose key signed two pasts."""
    book = ledger.Ledger(witnessed.witnessed)
    records = [json.loads(line) for _, line in book.records()]
    receipt = {**json.loads(records[1]["receipt"]), "previous": "0" * 64}
    text = json.dumps(receipt).encode()
    signer = sshsig.Signer.load(witnessed.witness_key)
    records[1]["receipt"] = text.decode()
    records[1]["countersignature"] = signer.sign(text, ledger.RECEIPTS).decode()
    found = evidence.gather(records, "logs1", witnessed.public, witnessed.witness_public)
    assert found.problems == ["entry 2 of the witness was not countersigned after the one before"]

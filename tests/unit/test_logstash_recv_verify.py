"""rocksalt.logstash.receiving: every kind of damage is found, and nothing else is called one."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
from dataclasses import replace

import pytest
from logstash_received import DAY, Server, event

from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified
from rocksalt.errors import RocksaltError
from rocksalt.logstash.receiving import (
    __main__,
    begins,
    chain,
    evidence,
    files,
    keep,
    ledger,
    verify,
    walk,
)

TIME = "2026-11-23T04:20:00Z"
MICRO = "2026-11-23T04:20:00.123456Z"
DAYS = ("2026-11-23", "2026-11-24", "2026-11-25")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Lines 1 to 4 on the first day, 5 to 8 and 9 to 12 on the next; witnessed at 3, 8 and 10."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(walk, "MOMENT", 0)
    found = Server(tmp_path, monkeypatch)
    for count, witnessed in ((3, True), (1, False)):
        receive(found, count, witnessed)
    tomorrow(found)
    receive(found, 4, True)
    tomorrow(found)
    for count, witnessed in ((2, True), (2, False)):
        receive(found, count, witnessed)
    return found


def receive(server, count, witnessed):
    server.receive(count)
    if witnessed:
        assert server.heads() == ""


def tomorrow(server):
    server.time += DAY
    server.witness_time += DAY


def put(server, number, lines):
    """Other lines in the file of a day."""
    server.file(DAYS[number]).write_bytes(b"".join(lines))


def rebuilt(lines, before=chain.Head()):  # noqa: B008
    """The lines with hashes and numbers that fit."""
    made = []
    for data in lines:
        body = json.loads(data)
        text = json.dumps(body["event"])
        line = chain.append(before, "web1", body["received"], text, body["event"], body["flags"])
        made.append(line.data + b"\n")
        before = line.head
    return made


def head(server, number, index):
    """The head after a line."""
    line = chain.read(server.lines(DAYS[number])[index].rstrip(b"\n"))
    assert line
    return line.head


def test_nothing_is_wrong(server):
    found = server.verify(server.evidence())
    assert found == {
        "time": "2026-11-25T04:20:00Z",
        "ok": True,
        "hosts": {
            "web1": {
                "lines": 12, "first": MICRO, "last": "2026-11-25T04:20:00.123456Z",
                "problems": [], "unwitnessed_since": "2026-11-25T04:20:00Z",
                "notes": ["witnessed up to line 10, at 2026-11-25T04:20:00Z"],
            }
        },
        "witness": {"until": "2026-11-25T04:20:00Z", "error": ""},
        "problems": [],
        "notes": [
            "not witnessed from 2026-11-23T04:20:00Z to 2026-11-25T04:20:00Z: what arrived then "
            "could be changed until then",
        ],
    }  # fmt: skip
    server.heads()
    assert server.verify(server.evidence())["hosts"]["web1"]["unwitnessed_since"] is None


def test_without_a_witness(server):
    found = server.verify()
    assert (found["ok"], found["witness"]) == (True, None)
    assert found["hosts"]["web1"]["unwitnessed_since"] == MICRO
    assert verify.text(found) == (
        f"web1: ok, 12 lines, {MICRO} to 2026-11-25T04:20:00.123456Z\n"
        f"  unwitnessed since {MICRO}\n"
        "no witness: root of this host could have written all of it anew"
    )


def test_with_a_witness(server):
    found = server.verify(server.evidence())
    assert verify.text(found) == (
        f"web1: ok, 12 lines, {MICRO} to 2026-11-25T04:20:00.123456Z\n"
        f"  witnessed up to line 10, at {LAST}\n"
        f"  unwitnessed since {LAST}\n"
        f"not witnessed from {TIME} to {LAST}: what arrived then could be changed until then"
    )


def test_a_witness_that_cannot_be_asked_is_never_ok(server):
    found = server.verify(evidence.Evidence(error="the witness w is away"))
    assert not found["ok"]
    assert found["problems"] == ["what was witnessed is not known: the witness w is away"]


def changed(lines, index, old=b"id-", new=b"ID-"):
    return [*lines[:index], lines[index].replace(old, new), *lines[index + 1 :]]


def _swap(server):
    lines = server.lines(DAYS[1])
    put(server, 1, [lines[1], lines[0], *lines[2:]])


def _own_hash(server):
    """A changed line with a hash that fits: then the next one does not."""
    lines = changed(server.lines(DAYS[1]), 1)
    put(server, 1, [lines[0], *rebuilt([lines[1]], head(server, 1, 0)), *lines[2:]])


def _insert(server):
    """A line that has the number and the hash that come next."""
    lines = server.lines(DAYS[1])
    text = event(99)
    extra = chain.append(head(server, 1, 1), "web1", MICRO, text, json.loads(text), [])
    put(server, 1, [*lines[:2], extra.data + b"\n", *lines[2:]])


def _insert_after(server):
    """The same, after the right one."""
    lines = server.lines(DAYS[1])
    _insert(server)
    extra = server.lines(DAYS[1])[2]
    put(server, 1, [*lines[:3], extra, *lines[3:]])


def _rebuild(server):
    """All is written anew, with one line changed: only the witness can know."""
    before = chain.Head()
    for number, day in enumerate(DAYS):
        lines = server.lines(day)
        made = rebuilt(changed(lines, 0) if number == 1 else lines, before)
        put(server, number, made)
        before = chain.read(made[-1].rstrip(b"\n")).head


def _cut_start(server):
    server.file(DAYS[0]).unlink()


def _cut_end(server):
    put(server, 2, server.lines(DAYS[2])[:1])


def _forged_begins(server):
    """A start that the log server did not sign."""
    line = head(server, 0, 3)
    sshsig.generate(server.folder / "other")
    signer = sshsig.Signer.load(server.folder / "other")
    begins.write(
        server.path / "web1", begins.Begins("web1", line.n, line.hash, line.received), signer
    )
    server.file(DAYS[0]).unlink()


def _other_host(server):
    os.rename(server.path / "web1", server.path / "web2")
    (server.path / "web1").mkdir()


def _torn(server):
    with open(server.file(DAYS[2]), "ab") as file:
        file.write(b'{"n":13')
    server.store()


LAST = "2026-11-25T04:20:00Z"
SECOND = "2026-11-24T04:20:00Z"
DAMAGES = {
    "a changed line": (
        lambda it: put(it, 1, changed(it.lines(DAYS[1]), 1)),
        {"web1: line 2 of 2026-11-24.jsonl is not as it arrived: line 6 or the one before it"},
    ),
    "a changed first line": (
        lambda it: put(it, 0, changed(it.lines(DAYS[0]), 0)),
        {"web1: line 1 of 2026-11-23.jsonl is not as it arrived: line 1 or the one before it"},
    ),
    "a changed last line": (
        lambda it: put(it, 2, changed(it.lines(DAYS[2]), 3)),
        {"web1: line 4 of 2026-11-25.jsonl is not as it arrived: line 12 or the one before it"},
    ),
    "another time": (
        lambda it: put(it, 1, changed(it.lines(DAYS[1]), 1, b"T04:20", b"T04:21")),
        {"web1: line 2 of 2026-11-24.jsonl is not as it arrived: line 6 or the one before it"},
    ),
    "a changed line with its hash": (
        _own_hash,
        {"web1: line 3 of 2026-11-24.jsonl is not as it arrived: line 7 or the one before it"},
    ),
    "no line": (
        lambda it: put(it, 1, changed(it.lines(DAYS[1]), 1, b'{"n"', b'["n"')),
        {"web1: line 2 of 2026-11-24.jsonl is no line of this chain"},
    ),
    "one more that is no line": (
        lambda it: put(it, 1, [b"x\n", *it.lines(DAYS[1])]),
        {"web1: line 1 of 2026-11-24.jsonl is no line of this chain"},
    ),
    "a removed line": (
        lambda it: put(it, 1, it.lines(DAYS[1])[:1] + it.lines(DAYS[1])[2:]),
        {"web1: line 6 was removed"},
    ),
    "a removed day": (
        lambda it: it.file(DAYS[1]).unlink(),
        {"web1: lines 5 to 8 were removed"},
    ),
    "an inserted line": (_insert, {"web1: there are two lines 7: one was inserted"}),
    "a line twice": (
        lambda it: put(it, 1, [it.lines(DAYS[1])[0], *it.lines(DAYS[1])]),
        {"web1: there are two lines 5: one was inserted"},
    ),
    "an inserted line that does not fit": (
        lambda it: put(it, 1, [*changed(it.lines(DAYS[1])[:2], 1), *it.lines(DAYS[1])[1:]]),
        {"web1: there are two lines 6: one was inserted"},
    ),
    "an inserted line after the one it copies": (
        _insert_after,
        {"web1: there are two lines 7: one was inserted"},
    ),
    "two lines in the other order": (
        _swap,
        {
            "web1: line 5 was removed",
            "web1: line 2 of 2026-11-24.jsonl was inserted: line 5 is there already",
        },
    ),
    "the beginning cut off": (
        _cut_start,
        {"web1: the chain begins with line 5 instead of line 1: cut off"},
    ),
    "the beginning cut off and signed by another": (
        _forged_begins,
        {
            "web1: the chain begins with line 5 instead of line 1: cut off",
            "web1: where the chain begins is not known: PATH/web1/begins.json is signed by OTHER",
        },
    ),
    "the end cut off": (
        _cut_end,
        {f"web1: the chain ends with line 9, but the witness saw line 10 at {LAST}: the end was "
         "cut off"},
    ),
    "the last day removed": (
        lambda it: it.file(DAYS[2]).unlink(),
        {f"web1: the chain ends with line 8, but the witness saw line 10 at {LAST}: the end was "
         "cut off"},
    ),
    "written anew": (
        _rebuild,
        {f"web1: line 8 is another one than the witness saw at {SECOND}: the chain was written "
         "anew"},
    ),
    "another host's": (
        _other_host,
        {
            *(f"web2: line {line} of {day}.jsonl is no line of this chain"
              for day in DAYS for line in (1, 2, 3, 4)),
            f"web1: the chain ends with line 0, but the witness saw line 10 at {LAST}: the end was "
            "cut off",
        },
    ),
    "a host removed": (
        lambda it: [path.unlink() for path in (it.path / "web1").iterdir()]
        and (it.path / "web1").rmdir(),
        {"web1: the witness saw its lines, and they are gone"},
    ),
    "a link as torn": (
        lambda it: (it.path / "web1" / "torn").symlink_to("/"),
        {"web1: PATH/web1/torn does not belong here"},
    ),
    "a day that is none": (
        lambda it: (it.path / "web1" / "2026-99-99.jsonl").write_text("x"),
        {"web1: PATH/web1/2026-99-99.jsonl does not belong here"},
    ),
    "a day before that was not there": (
        lambda it: (it.path / "web1" / "2026-11-22.jsonl").mkdir(),
        {"web1: PATH/web1/2026-11-22.jsonl cannot be read: it is no file"},
    ),
    "no folder": (
        lambda it: os.rename(it.path, it.folder / "other"),
        {
            "PATH cannot be read: No such file or directory",
            "web1: the witness saw its lines, and they are gone",
        },
    ),
    "half a line now": (
        lambda it: put(it, 2, [*it.lines(DAYS[2]), b'{"n":13']),
        {"web1: PATH/web1/2026-11-25.jsonl ends in half a line: it is being written, or was cut"},
    ),
    "half a line in the middle": (
        lambda it: put(it, 1, [*it.lines(DAYS[1])[:3], it.lines(DAYS[1])[3][:-1]]),
        {
            "web1: PATH/web1/2026-11-24.jsonl ends in half a line",
            "web1: line 8 was removed",
        },
    ),
    "a foreign file": (
        lambda it: (it.path / "web1" / "notes").write_text("x"),
        {"web1: PATH/web1/notes does not belong here"},
    ),
    "a foreign file beside": (
        lambda it: (it.path / "notes").write_text("x"),
        {"PATH/notes does not belong here"},
    ),
    "a link": (
        lambda it: (it.file(DAYS[1]).rename(it.folder / "x"),
                    it.file(DAYS[1]).symlink_to(it.folder / "x")),
        {
            "web1: PATH/web1/2026-11-24.jsonl cannot be read: Too many levels of symbolic links",
            "web1: lines 5 to 8 were removed",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(server, damage):
    seen = server.evidence()
    harm, expected = DAMAGES[damage]
    harm(server)
    found = server.problems(seen)
    assert len(found) == len(set(found))
    shown = {it.replace(str(server.path), "PATH") for it in found}
    assert {it.partition("signed by ")[0] for it in shown} == {
        it.partition("signed by ")[0] for it in expected
    }


def test_many_problems_are_counted(server):
    server.receive(200)
    lines = server.lines(DAYS[2])
    put(server, 2, [line if n % 2 else b"x\n" for n, line in enumerate(lines)])
    found = server.verify(server.evidence())["hosts"]["web1"]["problems"]
    assert len(found) == 51
    assert found[-1] == "and 52 more"


def test_one_host(server):
    server.receive(1, "web2")
    assert list(server.verify(only="web2")["hosts"]) == ["web2"]
    with pytest.raises(RocksaltError, match="has no lines of 'web3'; it has web1, web2"):
        server.verify(only="web3")


# What happens to old files.


def daily(server):
    assert server.heads() == ""
    seen = server.evidence()
    found = server.verify(seen)
    return keep.daily(server.settings, server.signer, found, lambda: server.time, seen)


def names(server):
    return sorted(os.listdir(server.path / "web1"))


def test_old_files_are_compressed(server):
    plain = server.file(DAYS[0]).read_bytes()
    assert daily(server)["ok"]
    assert names(server) == ["2026-11-23.jsonl.gz", "2026-11-24.jsonl", "2026-11-25.jsonl"]
    assert gzip.decompress((server.path / "web1" / "2026-11-23.jsonl.gz").read_bytes()) == plain
    assert server.problems(server.evidence()) == []


def test_a_chain_goes_on_after_a_compressed_file(server):
    for _ in range(5):
        tomorrow(server)
    daily(server)
    assert names(server) == [
        "2026-11-23.jsonl.gz", "2026-11-24.jsonl.gz", "2026-11-25.jsonl",
    ]  # fmt: skip
    server.receive(1)
    assert json.loads(server.lines("2026-11-30")[0])["n"] == 13
    assert server.problems(server.evidence()) == []


def test_a_file_that_is_not_the_same_stays(server, monkeypatch):
    monkeypatch.setattr(files, "_digest", lambda file: file.name)
    found = daily(server)
    path = server.file(DAYS[0])
    assert found["problems"] == [
        f"web1: old lines cannot be tidied up: {path} is not the same after it was compressed: it "
        "stays as it is"
    ]
    assert not found["ok"]
    assert names(server) == [f"{day}.jsonl" for day in DAYS]


DAMAGED = {
    "short": (lambda data: data[:-20], "Compressed file ended before"),
    "bytes that are no code": (lambda data: data[:20] + b"\xff" * 40, "Error -3 while decompress"),
    "another sum": (lambda data: data[:-8] + b"12345678", "CRC check failed"),
    "no gz": (lambda _: b"no gz", "Not a gzipped file"),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_gz_is_that_of_its_host(server, how):
    damage, words = DAMAGED[how]
    server.receive(1, "web2")
    daily(server)
    path = server.path / "web1" / "2026-11-23.jsonl.gz"
    path.write_bytes(damage(path.read_bytes()))
    found = server.verify(server.evidence())
    assert not found["ok"]
    assert found["hosts"]["web1"]["problems"][0].startswith(f"{path} cannot be read: {words}")
    assert found["hosts"]["web2"]["problems"] == []
    with pytest.raises(OSError, match=words):
        files.last(path)


def test_files_are_kept_for_so_many_days(server):
    """Day by day until none is left; the chain is whole all the time, and goes on."""
    server.settings["days"] = 3
    left = []
    for _ in range(5):
        assert daily(server)["ok"]
        left.append(len([name for name in names(server) if files.NAME.fullmatch(name)]))
        tomorrow(server)
    assert left == [3, 3, 2, 1, 0]
    found = begins.read(server.path / "web1", server.public)
    assert (found.n, found.time) == (12, "2026-11-25T04:20:00.123456Z")
    server.receive(1)
    assert json.loads(server.lines("2026-11-30")[0])["n"] == 13
    assert server.problems(server.evidence()) == []


def test_power_lost_before_a_file_was_removed(server, monkeypatch):
    """Where the chain begins is noted, and the file is still there."""
    server.settings["days"] = 1

    unlink = type(server.path).unlink

    def lost(path, **more):
        if path.name.endswith(".jsonl"):
            raise OSError("no power")
        unlink(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(type(server.path), "unlink", lost)
        problem = "web1: old lines cannot be tidied up: no power"
        assert daily(server)["problems"] == [problem]
    assert begins.read(server.path / "web1", server.public).n == 4
    assert server.file(DAYS[0]).exists()
    assert server.problems(server.evidence()) == []
    assert daily(server)["ok"]
    assert not server.file(DAYS[0]).exists()
    assert server.problems(server.evidence()) == []


def test_damaged_chains_are_left_alone(server):
    server.settings["days"] = 1
    put(server, 2, changed(server.lines(DAYS[2]), 1))
    daily(server)
    assert names(server) == [f"{day}.jsonl" for day in DAYS]


def test_begins_of_another_host(server):
    server.settings["days"] = 1
    daily(server)
    target = server.path / "web2" / "begins.json"
    target.parent.mkdir()
    target.write_bytes((server.path / "web1" / "begins.json").read_bytes())
    problems = server.verify()["hosts"]["web2"]["problems"]
    assert problems == [f"where the chain begins is not known: {target} is that of web1"]


BAD_BEGINS = {
    "n": 1 << 63, "hash": "ab", "before_n": -1, "before_hash": None,
}  # fmt: skip


@pytest.mark.parametrize("field", BAD_BEGINS)
def test_begins_that_is_none(server, field):
    """What root has signed may be anything."""
    known = begins.Begins("web1", 4, "ab" * 32, MICRO)
    begins.write(server.path / "web1", replace(known, **{field: BAD_BEGINS[field]}), server.signer)
    assert server.problems(server.evidence()) == [
        f"web1: where the chain begins is not known: {server.path}/web1/begins.json is damaged"
    ]


@pytest.mark.parametrize("number", [0, 1 << 63, True, "1"])
def test_numbers_of_an_entry(number):
    with pytest.raises(Unverified, match="has no number and hash for 'web1'"):
        ledger.read(ledger.write("logs1", 1, "", TIME, {"web1": (number, "ab" * 32)}))


# What the log server signs, and what the witness knows better.


def _forged(server, n, own):
    """All files go, and the log server itself signs that the chain begins later."""
    for path in files.days(server.path / "web1"):
        path.unlink()
    begins.write(server.path / "web1", begins.Begins("web1", n, own, MICRO), server.signer)


def early(n, line, when, days=2):
    return (
        f"web1: the lines up to {n} were removed before their time: the witness saw line {line} at "
        f"{when}, and lines are kept for {days} days"
    )


def other(n):
    return f"web1: begins.json has another hash of line {n} than the witness"


@pytest.mark.parametrize(
    ("n", "right", "expected"),
    [
        (10, True, [early(10, 10, "2026-11-25T04:20:00Z")]),
        (10, False, [other(10), early(10, 10, "2026-11-25T04:20:00Z")]),
        (12, False, ["web1: the lines after 10 up to 12 were removed, and not witnessed"]),
        (99, False, ["web1: the lines after 10 up to 99 were removed, and not witnessed"]),
        (8, False, [
            other(8),
            "web1: the chain ends with line 8, but the witness saw line 10 at "
            "2026-11-25T04:20:00Z: the end was cut off",
        ]),
    ],
)  # fmt: skip
def test_lines_removed_before_their_time(server, n, right, expected):
    """By the time of the witness, whatever this host's clock says."""
    server.settings["days"] = 2
    seen = server.evidence()
    _forged(server, n, head(server, 2, 1).hash if right else "ab" * 32)
    server.time += DAY * 900
    assert server.problems(seen) == expected


def test_lines_after_a_removal_before_its_time(server):
    """The chain goes on, and is witnessed again."""
    _forged(server, 12, "ab" * 32)
    server.receive(1)
    assert server.heads() == ""
    server.settings["days"] = 2
    assert server.problems(server.evidence()) == [early(12, 13, LAST)]


@pytest.mark.parametrize(("days", "n", "expected"), [
    (2, 5, []),
    (3, 5, [early(5, 8, SECOND, 3)]),
    (3, 3, []),
    (3, 2, []),
])  # fmt: skip
def test_some_lines_removed_before_their_time(server, days, n, expected):
    """Line 3 was witnessed long ago, those up to 8 were not; what was before the first entry of the
    witness is not known.
    """
    lines = [*server.lines(DAYS[0]), *server.lines(DAYS[1])]
    before = chain.read(lines[n - 1].rstrip(b"\n")).head
    put(server, 0, lines[n:4])
    put(server, 1, lines[max(n, 4) :])
    known = begins.Begins("web1", n, before.hash, MICRO)
    begins.write(server.path / "web1", known, server.signer)
    server.settings["days"] = days
    assert server.problems(server.evidence()) == expected


def test_first_lines_of_a_later_host_removed_before_their_time(server):
    server.receive(3, "web2")
    assert server.heads() == ""
    path = server.file(DAYS[2], "web2")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[2])
    before = chain.read(lines[1].rstrip(b"\n")).head
    known = begins.Begins("web2", 2, before.hash, MICRO)
    begins.write(server.path / "web2", known, server.signer)
    assert server.problems(server.evidence()) == [early(2, 3, LAST, 400).replace("web1", "web2")]


def test_only_heads_of_lines_that_are_there_are_kept(server):
    """And the last one before, which tells when that was removed."""
    assert list(server.evidence().hosts["web1"].numbers) == [3, 8, 10]
    head8 = head(server, 1, 3)
    begins.write(server.path / "web1", begins.Begins("web1", 9, head8.hash, MICRO), server.signer)
    seen = server.evidence()
    web1 = seen.hosts["web1"]
    assert (list(web1.numbers), web1.hash(0), seen.time(web1, 0)) == ([8, 10], head8.hash, SECOND)
    assert len(web1.hashes) == 64


MINUTES = dt.timedelta(minutes=1)


@pytest.mark.parametrize(("minutes", "problems"), [
    (9, []),
    (11, ["web1: the lines after 10 are not witnessed, and the first of them arrived at "
          "2026-11-25T04:20:00.123456Z"]),
])  # fmt: skip
def test_lines_that_stay_unwitnessed(server, minutes, problems):
    """As they do where the log server leaves a host out of its entries."""
    server.time += minutes * MINUTES
    seen = server.evidence()
    assert server.problems(seen) == problems
    assert server.verify(seen)["notes"][1:] == [
        f"not witnessed from {LAST} to 2026-11-25T04:31:00Z: what arrived then could be changed "
        "until then"
    ] * len(problems)


def test_lines_of_a_time_to_come_that_stay_unwitnessed(server):
    """Whoever leaves a host out of the entries may write any time into its lines."""
    right = server.time
    for number in (1, 2):
        server.time = right + 4000 * DAY
        server.receive(1, f"web{number}")
    server.time = right + 8 * MINUTES
    assert server.problems(server.evidence()) == [
        "web2: the lines after 0 are not witnessed, and the first of them arrived at "
        "2037-11-07T04:20:00.123456Z, which is to come"
    ]
    server.receive(1)
    server.time = right + 20 * MINUTES
    assert server.problems(server.evidence())[0].startswith(
        "web1: the lines after 10 are not witnessed, and the first of them arrived at 2026"
    )


@pytest.mark.parametrize("wrong", [-DAY, DAY, 4000 * DAY])
def test_a_wrong_clock_before_a_check(server, wrong):
    """For one line, in the minute in which the next heads are still to come."""
    assert server.heads() == ""
    server.time += MINUTES
    right = server.time
    server.receive(1)
    server.heads()
    server.time += wrong
    server.receive(1)
    server.time = right + MINUTES
    assert server.problems(server.evidence()) == []
    server.receive(1)
    server.heads()
    later = server.time = server.witness_time = right + 20 * MINUTES
    server.heads()
    assert server.time == later
    assert server.problems(server.evidence()) == []


@pytest.mark.parametrize(("step", "expected"), [
    (0, {"23": [1, 2, 3, 4], "24": [5, 6, 7, 8], "25": [9, 10, 11, 12], "28": [13, 14, 15, 16]}),
    (1, {"23": [1, 2, 3, 4], "24": [5, 6, 7, 8], "25": [9, 10, 11, 12], "28": [13, 14, 15],
         "29": [16]}),
    (-1, {"23": [1, 2, 3, 4], "24": [5, 6, 7, 8], "25": [9, 10, 11, 12],
          "26": [13, 14, 15], "27": [16]}),
])  # fmt: skip
def test_a_clock_that_goes_back_for_a_moment(server, step, expected):
    """The newest file has the name of its day again, if that comes before another file does."""
    server.time += 3 * DAY
    kept = server.store()
    for number in (0, 0, -2):
        server.time += number * DAY
        kept.take("web1", event())
    assert (server.path / "web1" / "2026-11-26.jsonl").exists()
    server.time += (2 + step) * DAY
    kept.take("web1", event())
    kept.sync()
    found = {
        path.name[8:10]: [json.loads(line)["n"] for line in path.read_bytes().splitlines()]
        for path in files.days(server.path / "web1")
    }
    assert found == expected
    assert server.verify()["hosts"]["web1"]["problems"] == []


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("number", [0, 2])
def test_a_day_that_is_there_twice(server, number, same):
    path = server.file(DAYS[number])
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes() if same else b"forged\n"))
    expected = f"web1: {packed} does not belong here: {path.name} is there and is another file"
    assert server.problems(server.evidence()) == ([] if same else [expected])


def test_a_host_whose_folder_is_gone_stops_no_other(server):
    server.receive(1, "web2")
    server.heads()
    (server.path / "web2").rename(server.folder / "web2")
    found = daily(server)
    assert found["problems"] == ["web2: the witness saw its lines, and they are gone"]
    assert not found["ok"]
    assert names(server)[0] == "2026-11-23.jsonl.gz"


def test_a_host_that_was_never_witnessed(server):
    server.receive(1, "web2")
    server.time += 11 * MINUTES
    found = server.verify(server.evidence())["hosts"]["web2"]
    arrived = "the first of them arrived at 2026-11-25T04:20:00.123456Z"
    assert found["problems"] == [f"the lines after 0 are not witnessed, and {arrived}"]
    assert (found["notes"], found["unwitnessed_since"]) == ([], found["first"])


def test_a_quiet_host_has_a_new_line(server):
    """What was witnessed of it long ago was all of it then."""
    assert server.heads() == ""
    tomorrow(server)
    server.receive(1)
    assert server.problems(server.evidence()) == []


def test_time_that_passes_during_a_check(server):
    """What arrived after the witness was asked is not its fault."""
    seen, started = server.evidence(), server.time
    server.time += DAY
    found = verify.check(
        server.settings, server.public, seen, clock=lambda: server.time, started=started
    )
    assert (found["ok"], found["time"]) == (True, "2026-11-26T04:20:00Z")


def test_a_witness_that_has_nothing(server):
    found = server.verify(evidence.Evidence())
    assert found["problems"] == [
        "the witness has no entry of this log server: nothing is witnessed"
    ]
    assert not found["ok"]


def test_entries_of_the_past_count_when_they_are_witnessed(server):
    server.time -= DAY
    server.witness_time += MINUTES
    assert server.heads() == ""
    seen = server.evidence()
    assert seen.until == "2026-11-25T04:21:00Z"
    assert seen.gaps == [(TIME, seen.until)]


def took(*entries):
    found = evidence.Evidence()
    for time, received in entries:
        found.took(f"2026-11-25T{time}:00Z", f"2026-11-25T{received}:00Z")
    return [(since[11:16], to[11:16]) for since, to in found.gaps]


def test_gaps():
    each = [("10:00", "10:00"), ("10:10", "10:10"), ("10:20", "10:20")]
    assert took(*each) == []
    assert took(*each, ("10:31", "10:31")) == [("10:20", "10:31")]
    assert took(*each, ("10:21", "11:30"), ("10:22", "11:30"), ("11:30", "11:30")) == [
        ("10:20", "11:30")
    ]
    assert took(("09:00", "09:11"), ("09:12", "09:12"), ("09:13", "09:40")) == [
        ("09:00", "09:11"), ("09:12", "09:40"),
    ]  # fmt: skip
    assert took(("10:30", "10:00"), ("10:00", "09:00")) == []


def test_many_gaps_are_counted(server):
    seen = evidence.Evidence(gaps=[(TIME, SECOND)] * 52, times=[LAST])
    notes = server.verify(seen)["notes"]
    assert (len(notes), notes[0]) == (51, "2 times before are left out")


@pytest.mark.parametrize("received", ["yesterday", None])
def test_a_receipt_without_a_time(server, received):
    book = ledger.Ledger(server.witnessed)
    records = [json.loads(line) for _, line in book.records()]
    text = json.dumps({**json.loads(records[0]["receipt"]), "received": received}).encode()
    signer = sshsig.Signer.load(server.witness_key)
    records[0]["receipt"] = text.decode()
    records[0]["countersignature"] = signer.sign(text, ledger.RECEIPTS).decode()
    found = evidence.gather(records, "logs1", server.public, server.witness_public)
    assert found.problems == ["entry 1 of the witness has a receipt without a time"]


# What looks like damage, and is none.


def test_what_a_power_cut_left(server):
    _torn(server)
    found = server.verify(server.evidence())
    assert (found["ok"], found["hosts"]["web1"]["notes"]) == (True, [
        f"{server.path}/web1/torn has 1 of what was moved from the end of the chain, where a power "
        "cut leaves what is no line: look at it and remove it",
        f"witnessed up to line 10, at {LAST}",
    ])  # fmt: skip


def test_a_day_that_begins_meanwhile(server, monkeypatch):
    opened = files.opened

    def late(path):
        (server.path / "web1" / "2026-11-26.jsonl").touch()
        return opened(path)

    monkeypatch.setattr(files, "opened", late)
    assert server.problems(server.evidence()) == []
    assert len(names(server)) == 4


def test_files_that_are_tidied_up_meanwhile(server, monkeypatch):
    server.settings["days"] = 1
    days, seen = files.days, server.evidence()

    def stale(folder):
        monkeypatch.setattr(files, "days", days)
        found = days(folder)
        daily(server)
        return found

    monkeypatch.setattr(files, "days", stale)
    found = server.verify(seen)["hosts"]["web1"]
    assert (found["problems"], found["lines"]) == ([], 8)
    assert not server.file(DAYS[0]).exists()


def test_a_file_that_vanishes_again(server, monkeypatch):
    path, days = server.path / "web1" / "2026-11-22.jsonl", files.days
    monkeypatch.setattr(files, "days", lambda folder: [path, *days(folder)])
    assert server.problems(server.evidence()) == [
        f"web1: {path} cannot be read: No such file or directory"
    ]


@pytest.mark.parametrize("rest", [1, 200])
def test_a_line_that_is_being_written(server, monkeypatch, rest):
    """The second half comes while the check waits for it, and one more line."""
    path, lines = server.file(DAYS[2]), server.lines(DAYS[2])
    put(server, 2, [*lines[:2], lines[2][:-rest]])

    def write(_):
        with open(path, "ab") as file:
            file.write(lines[2][-rest:] + lines[3])

    monkeypatch.setattr(walk.time, "sleep", write)
    found = server.verify(server.evidence())["hosts"]["web1"]
    assert (found["problems"], found["lines"]) == ([], 12)


@pytest.mark.parametrize(("owner", "expected"), [(0, []), (1, ["does not belong here"])])
def test_what_a_disk_has_at_its_top(server, monkeypatch, owner, expected):
    monkeypatch.setattr(verify, "ROOT", os.getuid() + owner)
    (server.path / "lost+found").mkdir()
    assert server.problems(server.evidence()) == [
        f"{server.path}/lost+found {words}" for words in expected
    ]


@pytest.mark.parametrize(
    "text",
    ["", "\0" * 100, "[]", '{"heads": {}, "digest": "", "sequence": 1}', "[" * 100_000,
     '{"heads": {"web1": 1}, "digest": "", "last": {}, "sequence": 1}'],
)  # fmt: skip
def test_the_state_of_a_ledger_is_made_anew(server, text):
    for folder in (server.witnessed, server.path / ".heads"):
        (folder / "state.json").write_text(text)
    before = ledger.Ledger(server.witnessed)
    assert (before.sequence, before.heads["web1"][0], before.digest != "") == (3, 10, True)
    assert server.heads() == ""
    assert server.evidence().problems == []
    assert len(server.evidence().times) == 4


# The program.


def run(server, *more):
    """Its exit code, and what it notes of the daily check."""
    config = server.folder / "receiver.json"
    config.write_text(json.dumps(server.settings))
    options = ("--config", config, "--state", server.folder, "--key", server.folder / "signing")
    code = __main__.main(["verify", "--daily", *map(str, (*options, *more))])
    return code, json.loads((server.folder / "verified.json").read_bytes())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x\n", "the witness sent what is no entry: Expecting value"),
        ("[]\n", ""),
        (None, "[Errno 2] No such file or directory"),
    ],
)
def test_entries_that_are_none(server, text, words):
    entries = server.folder / "entries"
    if text:
        entries.write_text(text)
    code, found = run(server, "--witness-entries", entries)
    assert (code, found["ok"], len(found["hosts"])) == (1, False, 1)
    known = f"what was witnessed is not known: {words}" if words else "entry 1 of the witness is"
    assert found["problems"][0].startswith(known)


def test_the_outcome_is_noted_before_old_files_are_touched(server, monkeypatch):
    class Stopped(Exception):
        pass

    def stop(*_, **__):
        raise Stopped

    monkeypatch.setattr(keep, "daily", stop)
    with pytest.raises(Stopped):
        run(server)
    assert list(json.loads((server.folder / "verified.json").read_bytes())["hosts"]) == ["web1"]


def test_the_daily_check(server, monkeypatch):
    """The program asks the witness, and tidies up by what that has."""
    monkeypatch.setattr(__main__, "now", lambda: server.time)
    monkeypatch.setattr(verify.check, "__defaults__", ("", lambda: server.time, None))
    monkeypatch.setattr(keep.daily, "__defaults__", (lambda: server.time, None))
    server.settings["days"] = 1
    code, found = run(server)
    assert (code, found["ok"], found["hosts"]["web1"]["lines"]) == (0, True, 12)
    assert names(server) == ["2026-11-24.jsonl", "2026-11-25.jsonl", "begins.json"]

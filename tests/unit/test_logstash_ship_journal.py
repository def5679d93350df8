"""rocksalt.logstash.shipping.journal: a journal of a file, told by a stand-in for journalctl."""

from __future__ import annotations

import json
import select
import socket
import time

import pytest

from rocksalt.logstash.shipping import entries, journal, journalctl, marks
from rocksalt.logstash.shipping.config import Config
from rocksalt.logstash.shipping.events import Maker
from rocksalt.logstash.shipping.feed import Feed
from rocksalt.logstash.shipping.journal import Journal
from rocksalt.logstash.shipping.mask import Masker
from rocksalt.logstash.shipping.places import REREADS
from rocksalt.logstash.shipping.positions import Positions

MACHINE = "9b9ebfbbee824fec80faf5029913ee05"
BOOT = "2e98be628ae2492eb5467fb0121b1514"
STAND_IN = """#!/bin/sh
for word; do
    case $word in
    --field=_BOOT_ID) sed 's/.*;b=//; s/;.*//' FILE | sort -u; exit 0 ;;
    _BOOT_ID=*) boots="$boots -e ;b=${word#_BOOT_ID=};" ;;
    --cursor=*) cursor=${word#--cursor=} ;;
    -n*) count=${word#-n} ;;
    esac
done
echo "$*" >> FILE.calls
[ "$cursor" ] && first=$(grep -nF "\\"$cursor\\"" FILE | cut -d: -f1)
case $* in *--reverse*) head -n "${first:-0}" FILE | tac | head -n "$count"; exit 0 ;; esac
case $count in
1) grep ${boots:--e .} FILE | tail -n 1; exit 0 ;;
2) exec sed -n "${first:-1},$((${first:-1} + 1))p" FILE ;;
esac
case $* in *--follow*) exec tail -n +"${first:-1}" -f FILE ;; esac
case $* in *--cursor*) tail -n +"${first:-1}" FILE | grep ${boots:--e .}; exit 0 ;; esac
exec cat FILE
"""


def cursor(number, sequence="aa", moment=None):
    moment = moment or number
    return f"s={sequence};i={number:x};b={BOOT};m={moment:x};t={moment + 10:x};x=f{moment:x}"


def entry(number, message=None, sequence="aa", moment=None, **fields):
    micros = str(1_795_407_886_000_000 + number)
    place = cursor(number, sequence, moment)
    known = {"__CURSOR": place, "__REALTIME_TIMESTAMP": micros, "MESSAGE": message or f"n{number}"}
    return json.dumps(known | fields)


class Source:
    """A journal over a file of entries."""

    def __init__(self, folder):
        self.path = folder / "journal"
        self.path.write_text("")
        self.program = folder / "journalctl"
        self.program.write_text(STAND_IN.replace("FILE", str(self.path)))
        self.program.chmod(0o755)
        self.position = None
        self.counts: dict[str, int] = {}
        maker = Maker("web1", {}, Masker([]))
        self.journal = Journal(maker, {"journal"}, [str(self.program)])

    def write(self, *entries):
        with self.path.open("a") as file:
            file.write("".join(f"{it}\n" for it in entries))

    def start(self, position=None):
        self.position = position
        self.journal.start(position, time.monotonic())

    def steps(self, count):
        """So many steps, as soon as they are there."""
        found = []
        deadline = time.monotonic() + 10
        while len(found) < count and time.monotonic() < deadline:
            if self.journal.follower.running:
                select.select([self.journal.follower.fileno()], [], [], 0.05)
            self.journal.fill(time.monotonic())
            found += self.journal.take(count - len(found), time.monotonic())
        for step in found:
            self.position = step.position
            for name, number in step.counts.items():
                self.counts[name] = self.counts.get(name, 0) + number
        return found

    def messages(self, count):
        return [json.loads(line)["message"] for it in self.steps(count) for line in it.lines]

    def calls(self):
        """How it was called to follow."""
        calls = (self.path.parent / "journal.calls").read_text().splitlines()
        return [it for it in calls if "--follow" in it]


@pytest.fixture
def source(tmp_path, monkeypatch):
    machine = tmp_path / "machine-id"
    machine.write_text(f"{MACHINE}\n")
    monkeypatch.setattr(journal, "MACHINE_ID", str(machine))
    monkeypatch.setattr(journal, "BOOT_ID", str(tmp_path / "boot-id"))
    made = Source(tmp_path)
    yield made
    made.journal.follower.stop()


def test_it_begins_with_the_boot_and_goes_on(source):
    source.write(entry(1), entry(2))
    source.start()
    assert source.messages(2) == ["n1", "n2"]
    source.write(entry(3))
    assert source.messages(1) == ["n3"]
    source.write(entry(4))
    source.start(source.position)
    assert source.messages(1) == ["n4"]
    assert source.counts == {}
    first, second = source.calls()
    fields = ",".join(journal.FIELDS)
    common = f"-o json --no-pager --quiet --all --follow --no-tail --output-fields={fields}"
    common += f" --merge _MACHINE_ID={MACHINE}"
    assert first == f"{common} --cursor={cursor(1)}"
    assert second == f"{common} --cursor={cursor(3)}"


def test_an_empty_journal_is_read_from_its_beginning(source):
    source.start()
    source.write(entry(1))
    assert source.messages(1) == ["n1"]
    assert source.calls()[0].endswith(f" --merge _MACHINE_ID={MACHINE}")


def test_what_is_missing_is_counted_after_a_second_look(source):
    source.write(entry(1), entry(5))
    source.start()
    assert source.messages(2) == ["n1", "n5"]
    assert source.counts == {"lost": 3}
    assert len(source.calls()) == 2


def test_what_was_overlooked_is_found(source):
    source.write(entry(1), entry(3))
    source.start()
    assert source.messages(1) == ["n1"]
    source.path.write_text("\n".join([entry(1), entry(2), entry(3)]) + "\n")
    assert source.messages(2) == ["n2", "n3"]
    assert source.counts == {}


@pytest.mark.parametrize(
    ("left", "expected", "counts"),
    [
        ([entry(7), entry(8)], ["n7", "n8"], {"lost": 4}),
        ([entry(7, sequence="bb"), entry(8, sequence="bb")], ["n7", "n8"], {"unknown_gaps": 1}),
        ([entry(9, sequence="bb", moment=2), entry(10, sequence="bb")], ["n10"], {}),
        ([entry(3), entry(4)], ["n3", "n4"], {}),
    ],
)
def test_a_place_that_is_gone(source, left, expected, counts):
    source.write(*left)
    source.start(cursor(2))
    assert source.messages(len(expected)) == expected
    assert source.counts == counts


NEXT = "11112222333344445555666677778888"


def of_next(number, sequence="bb"):
    """An entry of another boot whose clock is behind."""
    return entry(number, f"b{number}", sequence=sequence).replace(BOOT, NEXT)


def test_one_that_fails_before_the_next_boot_is_read_is_started_again(
    source, tmp_path, monkeypatch
):
    monkeypatch.setattr(journalctl, "_SHORTEST", 0.0)
    (tmp_path / "boot-id").write_text(f"{NEXT}\n")
    source.write(of_next(1), entry(101), entry(102))
    good = source.program.read_text()
    source.program.write_text(good.replace("*--cursor*) ", "*--cursor*) exit 1;"))
    source.start(cursor(101))
    source.journal.follower._pause = 0.0
    source.steps(0)
    now = time.monotonic()
    while source.journal.follower.running:
        select.select([source.journal.follower.fileno()], [], [], 0.05)
        source.journal.fill(now)
    assert source.journal.problem(now) == "journalctl has ended with 1"
    source.program.write_text(good)
    assert source.messages(1) == ["n102"]
    source.path.write_text(f"{of_next(1)}\n")
    assert source.messages(1) == ["b1"]
    assert (source.counts, source.journal.problem(now)) == ({}, "")


def followed(source):
    """The words of each journalctl that told entries, without those that all have."""
    calls = (source.path.parent / "journal.calls").read_text().splitlines()
    marker = f" --merge _MACHINE_ID={MACHINE} "
    return [("--follow" in it, it.split(marker)[1]) for it in calls if marker in it]


def test_a_boot_whose_clock_went_back_is_read_from_its_beginning(source, tmp_path):
    (tmp_path / "boot-id").write_text("11112222-3333-4444-5555-666677778888\n")
    source.write(of_next(1), of_next(2), entry(101), entry(102))
    source.start(cursor(101))
    assert source.messages(1) == ["n102"]
    source.path.write_text(f"{of_next(1)}\n{of_next(2)}\n")
    assert source.messages(2) == ["b1", "b2"]
    assert source.counts == {}
    assert followed(source) == [
        (False, f"--cursor={cursor(101)} _BOOT_ID={BOOT}"),
        (True, f"_BOOT_ID={NEXT}"),
    ]
    source.start(source.position)
    source.write(of_next(3))
    assert source.messages(1) == ["b3"]
    source.write(entry(102))
    assert source.journal.waiting(source.position) == (0, 0)
    assert source.journal.waiting(source_cursor(1)) == (2, 12)
    assert followed(source)[2:] == [(True, f"--cursor={source_cursor(2)} _BOOT_ID={NEXT}")]


def source_cursor(number):
    return cursor(number, "bb").replace(BOOT, NEXT)


def test_what_the_last_boot_lost_is_a_gap(source, tmp_path):
    (tmp_path / "boot-id").write_text(f"{NEXT}\n")
    source.write(of_next(1))
    source.start(cursor(101))
    assert source.messages(1) == ["b1"]
    assert source.counts == {"unknown_gaps": 1}
    assert followed(source) == [(True, f"_BOOT_ID={NEXT}")]


@pytest.mark.parametrize("there", [[of_next(3, "aa")], []])
def test_a_boot_that_goes_on_with_the_sequence_or_is_unknown(source, tmp_path, there):
    (tmp_path / "boot-id").write_text(f"{NEXT}\n")
    source.write(entry(1), entry(2), *there)
    source.start(cursor(1))
    assert source.messages(1 + len(there)) == ["n2", "b3"][: 1 + len(there)]
    assert source.counts == {}
    assert followed(source) == [(True, f"--cursor={cursor(1)}")]


def test_a_new_sequence_alone_is_no_gap(source):
    source.write(entry(1), entry(1, "new", sequence="bb", moment=5))
    source.start()
    assert source.messages(2) == ["n1", "new"]
    assert source.counts == {}


def test_a_hole_is_seen_across_another_sequence(source):
    source.write(entry(6), entry(900, sequence="bb"), entry(5000))
    source.start(cursor(5))
    assert source.messages(3) == ["n6", "n900", "n5000"]
    assert source.counts == {"lost": 4099}


USERS = "ee"
"""The sequence of an ordinary user's journal; journald counts on over it and its own."""


def test_lines_of_ordinary_users_are_no_hole(source):
    source.write(entry(6), entry(7, sequence=USERS), entry(8, sequence=USERS), entry(9))
    source.start(cursor(5))
    assert source.messages(4) == ["n6", "n7", "n8", "n9"]
    source.start(cursor(7, USERS))
    assert source.messages(2) == ["n8", "n9"]
    assert source.counts == {}


@pytest.mark.parametrize("sequence", [USERS, "aa"])
def test_a_hole_between_lines_of_users_is_seen(source, sequence):
    source.write(entry(6), entry(7, sequence=USERS), entry(8), entry(11, sequence=sequence))
    source.start(cursor(5))
    assert source.messages(4)[-1] == "n11"
    assert source.counts == {"lost": 2}


def test_a_journald_that_starts_again_goes_on_behind_each_file(source):
    source.write(entry(6), entry(7, sequence=USERS), entry(8, sequence=USERS))
    source.write(entry(7, "again", moment=9), entry(9, sequence=USERS, moment=10), entry(10))
    source.start(cursor(5))
    assert source.messages(6)[3:] == ["again", "n9", "n10"]
    assert source.counts == {}


@pytest.mark.parametrize("position", [cursor(2), cursor(3, USERS)])
def test_lines_of_users_wait_as_others_do(source, position):
    source.write(entry(2), entry(3, sequence=USERS), entry(4), entry(5, sequence=USERS))
    after = journal.cursor(position).i
    assert source.journal.waiting(position) == (5 - after, after + 11)
    source.start(position)
    source.journal.limit(1)
    assert source.messages(5 - after) == ["n5"]
    assert source.counts == {"dropped": 5 - after - 1}


@pytest.mark.parametrize(
    ("there", "then", "counts"),
    [
        (9, entry(1, "new", sequence="bb", moment=10), {"unknown_gaps": 1}),
        (6, entry(1, "new", sequence="bb", moment=10), {}),
        (9, entry(4, "new", sequence="bb", moment=7), {}),
        (9, of_next(1).replace('"b1"', '"new"').replace("t=b", "t=2b"), {"unknown_gaps": 1}),
    ],
)
def test_a_journal_that_is_replaced_while_it_is_followed(source, there, then, counts):
    """What was there and is not read is a gap, unless it has only moved."""
    source.write(*(entry(it) for it in range(6, there + 1)))
    source.start(cursor(5))
    assert source.journal.waiting(cursor(5)) == (there - 5, 16)
    now = time.monotonic()
    while not source.journal.follower.pending:
        source.journal.fill(now)
    (step,) = source.journal.take(1, now)
    source.journal.follower.stop()
    source.journal.follower._put(then.encode())
    (new,) = source.journal.take(1, now)
    assert (step.counts, new.counts) == ({}, counts)


def test_holes_without_end_are_counted_at_once(source):
    source.write(*(entry(it) for it in range(1, 101, 2)))
    source.start()
    assert source.messages(50)[-1] == "n99"
    assert source.counts == {"lost": 49}
    assert len(source.calls()) == 1 + REREADS
    source.start(cursor(1))
    assert len(source.messages(49)) == 49
    assert len(source.calls()) == 2 * (1 + REREADS)


def test_a_position_that_is_no_cursor_is_a_gap(source):
    source.write(entry(1))
    source.start("nonsense")
    assert source.messages(1) == ["n1"]
    assert source.counts == {"unknown_gaps": 1}
    assert source.calls()[0].endswith(f" --cursor={cursor(1)}")


def again(source, begin):
    """Another process, which knows where the journal begins."""
    source.journal.follower.stop()
    maker = Maker("web1", {}, Masker([]))
    begun = []
    source.journal = Journal(
        maker, {"journal"}, [str(source.program)], begin=begin, begins=begun.append
    )
    return begun


def test_nothing_is_lost_before_the_first_connection(source, tmp_path):
    (tmp_path / "boot-id").write_text(f"{BOOT}\n")
    begun = again(source, "")
    assert source.journal.waiting(None) == (0, 0)
    source.write(entry(1), entry(2))
    assert source.journal.waiting(None) == (2, 11)
    assert begun == [cursor(1)]
    (tmp_path / "boot-id").write_text(f"{NEXT}\n")
    source.write(of_next(3, "aa"), of_next(4, "aa"))
    assert again(source, begun[0]) == []
    assert source.journal.waiting(None) == (4, 11)
    source.start()
    assert source.messages(4) == ["n1", "n2", "b3", "b4"]
    source.start()
    assert source.messages(1) == ["n1"]
    assert source.counts == {}
    source.start(cursor(1))
    assert source.messages(1) == ["n2"]


@pytest.mark.parametrize(
    ("left", "expected", "counts"),
    [
        ([entry(7), entry(8)], ["n7", "n8"], {"lost": 5}),
        ([entry(7, sequence="bb"), entry(8, sequence="bb")], ["n7", "n8"], {"unknown_gaps": 1}),
        ([entry(9, sequence="bb", moment=2), entry(10, sequence="bb")], ["n2", "n10"], {}),
        ([entry(2), entry(3)], ["n2", "n3"], {}),
    ],
)
def test_a_beginning_that_is_gone(source, left, expected, counts):
    source.write(*(it.replace("n9", "n2") for it in left))
    again(source, cursor(2))
    source.start()
    assert source.messages(len(expected)) == expected
    assert source.counts == counts


@pytest.mark.parametrize("position", [None, "nonsense"])
def test_a_beginning_that_is_none_or_of_long_ago(source, position):
    source.write(entry(1), entry(2))
    begun = again(source, "nonsense" if position is None else cursor(9, "bb"))
    source.start(position)
    assert source.messages(2) == ["n1", "n2"]
    assert begun == [cursor(1)]


def test_the_present_boot_comes_first_whatever_its_clock_says(source, tmp_path):
    (tmp_path / "boot-id").write_text(f"{NEXT}\n")
    source.program.write_text(
        source.program.read_text().replace("exec cat", "exec grep ${boots:--e .}")
    )
    source.write(of_next(1), of_next(2), entry(101), entry(102))
    assert source.journal.waiting(None) == (2, 11)
    source.start()
    assert source.messages(1) == ["b1"]
    assert followed(source) == [(True, f"--cursor={source_cursor(1)} _BOOT_ID={NEXT}")]


def test_the_beginning_is_on_the_disk_before_anybody_takes_lines(source, tmp_path):
    path = str(tmp_path / "positions.json")
    source.write(entry(1), entry(2))
    for _ in range(2):
        positions = Positions(path, 0.0)
        feed = Feed(Config("web1", (), "", "", ""), positions, [str(source.program)])
        feed.waiting(0.0, False)
        assert (positions.counting, Positions(path, 0.0).begin) == ({}, cursor(1))
        source.write(entry(3).replace(BOOT, NEXT))


def test_what_is_not_wanted_is_passed(source):
    source.write(entry(1, SYSLOG_FACILITY="4"), entry(2))
    source.start()
    first, second = source.steps(2)
    assert (first.lines, first.position) == ((), cursor(1))
    assert len(second.lines) == 1


def test_a_marked_entry_is_always_sent(source):
    source.write(entry(1, SYSLOG_FACILITY="4", ROCKSALT_MARK="abc", _UID="0"))
    source.start()
    (step,) = source.steps(1)
    assert (step.mark, step.probe, len(step.lines)) == ("abc", False, 1)


@pytest.mark.parametrize("fields", [{"_UID": "1001"}, {"_UID": ["0", "0"]}, {}])
def test_a_mark_of_somebody_else_is_none(source, fields):
    source.write(entry(1, SYSLOG_FACILITY="4", ROCKSALT_MARK="abc", **fields))
    source.start()
    (step,) = source.steps(1)
    assert (step.mark, step.lines) == ("", ())


def test_a_probe_is_a_line_of_its_own(source):
    own = {"ROCKSALT_MARK": "abc", "SYSLOG_IDENTIFIER": "rocksalt-ship"}
    source.write(entry(1, "any text", _UID="0", **own), entry(2, _UID="1001", **own))
    source.start()
    probe, other = source.steps(2)
    assert (probe.mark, probe.probe, other.mark, other.probe) == ("abc", True, "", False)
    made = json.loads(probe.lines[0])
    event = {"id": "abc", "dataset": "rocksalt.probe", "kind": "event"}
    event |= {"category": ["host"], "type": ["info"], "created": made["event"]["created"]}
    assert (made["event"], made["message"]) == (event, "rocksalt-ship: probe abc")
    assert made["@timestamp"] == "1970-01-01T00:00:00.000011Z"


def test_a_probe_is_written_in_the_words_of_the_journal(tmp_path, monkeypatch):
    monkeypatch.setattr(marks, "SOCKET", str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as taker:
        taker.bind(marks.SOCKET)
        journal.write_probe("abc")
        assert taker.recv(4096).decode().splitlines() == [
            "MESSAGE=rocksalt-ship: probe abc",
            "PRIORITY=6",
            "SYSLOG_IDENTIFIER=rocksalt-ship",
            "ROCKSALT_MARK=abc",
        ]
    with pytest.raises(OSError, match="refused"):
        journal.write_probe("abc")


@pytest.mark.parametrize("held", [100_000, 2_900_000])
def test_of_too_long_an_entry_is_only_its_place(source, monkeypatch, held):
    monkeypatch.setattr(journalctl, "HELD", held)
    source.write(entry(1), entry(2, "x" * 3_000_000), entry(3), entry(4, "y" * 3_100_000), entry(5))
    source.start()
    sizes = [len(entry(2, "x" * 3_000_000)), len(entry(4, "y" * 3_100_000))]
    said = [
        f"rocksalt-ship: this entry of the journal has {it} bytes and is left out" for it in sizes
    ]
    assert source.messages(5) == ["n1", said[0], "n3", said[1], "n5"]
    assert source.counts == {"cut": 2}


def test_the_place_of_too_long_an_entry_is_found_anywhere(source, monkeypatch):
    monkeypatch.setattr(journalctl, "HELD", 100_000)
    long = {"A": "x" * 400_000, "__CURSOR": cursor(1), "B": "y" * 400_000}
    source.write(json.dumps(long), entry(2))
    source.start()
    assert [it.position for it in source.steps(2)] == [cursor(1), cursor(2)]


@pytest.mark.parametrize(
    "value", ["é" * 1_200_000, [97] * 1_200_000, ["a" * 600_000, "a" * 599_999]]
)
def test_of_a_long_entry_the_beginning_is_sent(source, value):
    source.write(entry(1, value), entry(2, "é" * 1_000_000, _CMDLINE="é" * 300_000))
    source.start()
    first, second = source.steps(2)
    parts = [json.loads(it)["message"] for it in first.lines]
    text = "".join(parts)
    note = " [rocksalt-ship: 937856 characters are left out]"
    assert (len(text), text[-len(note) :]) == (entries.LONGEST_FIELD + len(note), note)
    command = json.loads(second.lines[0])["process"]["command_line"]
    assert len(command) < entries.LONGEST_FIELD + len(note)
    assert (first.counts, second.counts, source.counts) == ({"cut": 1}, {"cut": 1}, {"cut": 2})


def test_no_more_is_read_than_may_wait(source, monkeypatch):
    monkeypatch.setattr(journalctl, "AHEAD", 1_000_000)
    source.write(*(entry(it, "x" * 100_000) for it in range(1, 31)))
    source.start()
    follower = source.journal.follower
    while follower.hungry:
        select.select([follower.fileno()], [], [], 0.05)
        source.journal.fill(time.monotonic())
    assert 1_000_000 <= sum(map(len, follower._lines)) == follower._bytes < 1_300_000
    source.steps(15)
    assert follower.hungry


def test_the_oldest_are_passed_over(source):
    source.write(*(entry(it) for it in range(1, 11)))
    source.start()
    source.journal.limit(4)
    assert source.messages(10) == ["n7", "n8", "n9", "n10"]
    assert source.counts == {"dropped": 6}


def test_what_comes_after_a_jump_of_numbers_is_not_passed_over(source):
    """Where memory was moved to a disk that had an old journal, numbers go on behind that."""
    old = 2_000_000
    source.write(entry(500), *(entry(old + it, sequence="bb", moment=500 + it) for it in (1, 2)))
    source.start(cursor(500))
    source.journal.limit(4)
    source.write(*(entry(old + it, sequence="bb", moment=500 + it) for it in (3, 4)))
    assert source.messages(4) == [f"n{old + 3}", f"n{old + 4}"]
    assert source.counts == {"dropped": 2}


def test_the_first_run_passes_over_no_more_than_there_is(source):
    source.write(*(entry(it) for it in range(1_000_001, 1_000_011)))
    source.start()
    source.journal.limit(4)
    assert source.messages(10)[-4:] == ["n1000007", "n1000008", "n1000009", "n1000010"]
    assert source.counts == {"dropped": 6}
    assert source.journal.waiting(None) == (10, 1_000_011)


def test_what_was_under_way_is_not_passed_over(source):
    source.write(*(entry(it) for it in range(1, 11)))
    source.start(cursor(1))
    source.steps(2)
    source.start(cursor(1))
    source.journal.limit(4)
    assert source.messages(9) == ["n2", "n3", "n7", "n8", "n9", "n10"]
    assert source.counts == {"dropped": 3}


def test_what_was_reached_before_a_restart_is_not_passed_over(source):
    source.write(*(entry(it) for it in range(1, 11)))
    maker = Maker("web1", {}, Masker([]))
    source.journal = Journal(maker, {"journal"}, [str(source.program)], reached=cursor(3))
    source.start(cursor(1))
    source.journal.limit(4)
    assert source.messages(9) == ["n2", "n3", "n7", "n8", "n9", "n10"]
    assert source.counts == {"dropped": 3}


@pytest.mark.parametrize(
    ("reached", "kept"),
    [
        (cursor(900, "bb").replace(BOOT, NEXT), []),
        (cursor(5, "cc").replace(BOOT, NEXT), ["n2", "n3", "n4", "n5"]),
        (cursor(900, "bb", moment=3), ["n2", "n3"]),
    ],
)
def test_what_was_reached_in_another_sequence_is_told_by_its_time(source, reached, kept):
    """Of another boot and another sequence nothing is known."""
    maker = Maker("web1", {}, Masker([]))
    source.journal = Journal(maker, {"journal"}, [str(source.program)], reached=reached)
    source.write(*(entry(it, sequence="cc") for it in range(1, 13)))
    source.start(cursor(1, "cc"))
    source.journal.limit(4)
    messages = source.messages(11)
    assert messages[: len(kept)] == kept
    assert messages[-4:] == ["n9", "n10", "n11", "n12"]


def test_what_comes_before_the_newest_sequence_is_not_passed_over(source):
    maker = Maker("web1", {}, Masker([]))
    source.journal = Journal(maker, {"journal"}, [str(source.program)], reached=cursor(2, "bb", 4))
    source.write(entry(1), entry(2), *(entry(it, sequence="bb", moment=it + 2) for it in (1, 2)))
    source.write(*(entry(it, sequence="bb", moment=it + 2) for it in range(3, 9)))
    source.start(cursor(1))
    source.journal.limit(4)
    assert source.messages(9) == ["n2", "n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"]
    assert source.counts == {}


def test_what_was_reached_stays_over_connections_that_read_less(source):
    source.write(*(entry(it) for it in range(1, 11)))
    source.start(cursor(1))
    source.steps(5)
    for _ in range(3):
        source.start(cursor(1))
        source.steps(1)
    source.start(cursor(1))
    source.journal.limit(1)
    assert source.messages(9) == ["n2", "n3", "n4", "n5", "n6", "n10"]


def test_journalctl_is_started_again(source, monkeypatch):
    monkeypatch.setattr(journalctl, "_SHORTEST", 0.01)
    source.journal.follower._pause = 0.01
    source.write(entry(1))
    source.start()
    assert source.messages(1) == ["n1"]
    source.journal.follower._process.kill()
    source.write(entry(2))
    assert source.messages(1) == ["n2"]
    assert source.counts == {}


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (cursor(1), (2, 12)),
        (cursor(3), (0, 0)),
        (None, (3, 11)),
        (cursor(9, sequence="bb"), (3, 11)),
    ],
)
def test_what_waits(source, position, expected):
    source.write(entry(1), entry(2), entry(3))
    assert source.journal.waiting(position) == expected


@pytest.mark.parametrize("text", ["", "s=1", "s=aa;i=zz;b=1;m=1;t=1;x=1"])
def test_what_is_no_cursor(text):
    assert journal.cursor(text) is None


FAILURES = [
    ("", "JOURNALCTL cannot be run: [Errno 2] No such file or directory: 'JOURNALCTL'"),
    ("echo no file >&2; exit 1", "JOURNALCTL -n1 fails with 1: no file"),
    ("sleep 60", "JOURNALCTL -n1 does not answer within 0.1 seconds"),
]


@pytest.mark.parametrize(("does", "said"), FAILURES)
@pytest.mark.parametrize("position", [None, cursor(1)])
def test_a_journalctl_that_fails_is_told(source, monkeypatch, does, said, position):
    monkeypatch.setattr(journalctl, "ANSWER", 0.1)
    source.program.unlink()
    if does:
        source.program.write_text(f"#!/bin/sh\n{does}\n")
        source.program.chmod(0o755)
    now = time.monotonic()
    if not position:
        source.start()
        assert not source.journal.follower.running
        source.journal.fill(now)
        assert not source.journal.follower.running
    assert source.journal.waiting(position) == (None, 0)
    assert source.journal.problem(now) == said.replace("JOURNALCTL", str(source.program))
    source.journal.limit(1)


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("sleep 60", " does not answer within 0.1 seconds"),
        ("printf half; sleep 60", " does not answer within 0.1 seconds"),
        ("exec >&-; sleep 60", " does not answer within 0.1 seconds"),
        ("exit 3", " fails with 3"),
    ],
)
def test_a_journalctl_that_does_not_tell_the_first_entry(source, monkeypatch, does, said):
    """It is told, and is neither waited for nor taken for an empty journal."""
    monkeypatch.setattr(journalctl, "ANSWER", 0.1)
    source.write(entry(1), entry(2))
    good = source.program.read_text()
    source.program.write_text(good.replace("exec cat FILE".replace("FILE", str(source.path)), does))
    start = time.monotonic()
    assert source.journal.waiting(None) == (None, 0)
    assert source.journal.problem(start).endswith(f"_BOOT_ID={BOOT}{said}")
    assert time.monotonic() - start < 5


def test_the_first_of_no_entries(source):
    assert journalctl.first([str(source.program)]) == ""
    source.program.unlink()
    with pytest.raises(journalctl.Unanswered, match="cannot be run"):
        journalctl.first([str(source.program)])


def test_two_streams_of_a_process_are_told_apart(source):
    """Of an entry there is what journalctl is asked for."""

    def of(number, stream, message):
        known = {"_PID": "7", "_TRANSPORT": "stdout", "_STREAM_ID": stream}
        asked = {name: it for name, it in known.items() if name in journal.FIELDS}
        return entry(number, message, **asked)

    maker = Maker("web1", {}, Masker([r"(?P<secret>-----BEGIN PRIVATE KEY-----)"]))
    source.journal = Journal(maker, {"journal"}, [str(source.program)])
    source.write(of(1, "a", "-----BEGIN PRIVATE KEY-----"), of(2, "b", "abcd"), of(3, "a", "abcd"))
    source.start()
    assert source.messages(3) == ["***", "abcd", "***"]


KEY = ["-----BEGIN PRIVATE KEY-----", "MIIEabcd", "abcd", "-----END PRIVATE KEY-----", "abcd"]


def begins_with_a_key(source, entries, **fields):
    """A journal with such entries, of a source that is masked."""
    maker = Maker("web1", {}, Masker([r"(?P<secret>-----BEGIN PRIVATE KEY-----)"]))
    source.journal = Journal(maker, {"journal"}, [str(source.program)])
    source.write(*(entry(it, text, **fields) for it, text in enumerate(entries, 1)))
    return source.journal


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (1, ["***", "***", KEY[3], "abcd"]),
        (3, [KEY[3], "abcd"]),
        (4, ["abcd"]),
    ],
)
def test_a_key_goes_on_behind_a_position(source, place, expected):
    begins_with_a_key(source, KEY, _PID="7")
    source.start(cursor(place))
    assert source.messages(len(expected)) == expected


def test_a_key_goes_on_over_connections_however_it_ends(source):
    made = begins_with_a_key(source, [*KEY[:3], *["ab"] * 300], _PID="7")
    source.start(cursor(2))
    assert source.messages(2) == ["***", "***"]
    made._maker.restart()
    assert source.messages(1) == ["***"]
    source.start(cursor(150))
    assert source.messages(52) == ["***"] * 51 + ["ab"]
    source.start(cursor(250))
    assert source.messages(1) == ["ab"]
    source.start()
    assert source.messages(2) == ["***", "***"]


def test_what_was_before_a_position_needs_little_memory(source, monkeypatch):
    """Somebody may have written entries of any length."""
    monkeypatch.setattr(journalctl, "AHEAD", 1000)
    begins_with_a_key(source, [KEY[0], *["x" * 700] * 3], _PID="7")
    assert len(journalctl.before([str(source.program)], ("MESSAGE",), cursor(4), 200)) <= 4
    source.write(entry(5, "abcd", _PID="7"))
    source.start(cursor(4))
    assert len(source.messages(1)) == 1


def test_keys_that_cannot_be_looked_for_are_looked_for_again(source, monkeypatch):
    monkeypatch.setattr(journalctl, "_SHORTEST", 0.0)
    monkeypatch.setattr(journalctl, "ANSWER", 1.0)
    begins_with_a_key(source, KEY, _PID="7")
    source.journal.follower._pause = 0.0
    good = source.program.read_text()
    source.program.write_text(good.replace("*--reverse*) ", "*--reverse*) sleep 60; "))
    source.start(cursor(1))
    assert source.journal.problem(0.0).endswith(" --reverse does not answer within 1 seconds")
    source.program.write_text(good)
    assert source.messages(2) == ["***", "***"]


def test_what_was_read_of_one_that_ended_is_taken(source):
    before = "case $* in *--reverse*) exit 1 ;; esac"
    source.program.write_text(f"#!/bin/sh\n{before}\nhead -n 2 {source.path}\nexit 3\n")
    source.write(entry(1), entry(2))
    source.start(cursor(9, sequence="bb"))
    follower, now = source.journal.follower, time.monotonic()
    while follower.running:
        select.select([follower.fileno()], [], [], 0.05)
        source.journal.fill(now)
    assert source.journal.problem(now + 60) == "journalctl --follow has ended with 3"
    assert (follower.pending, follower.hungry, follower.fileno()) == (True, False, -1)
    source.journal.fill(now + 60)
    assert not follower.running
    assert source.messages(2) == ["n1", "n2"]
    source.journal.fill(now + 60)
    assert follower.running
    assert source.journal.problem(now + 64) == "journalctl --follow has ended with 3"
    assert source.journal.problem(now + 66) == ""

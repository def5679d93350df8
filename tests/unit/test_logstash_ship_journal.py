"""rocksalt.logstash.shipping.journal: a journal of a file, told by a stand-in for journalctl."""

from __future__ import annotations

import json
import select
import time

import pytest

from rocksalt.logstash.shipping import journal
from rocksalt.logstash.shipping.events import Maker
from rocksalt.logstash.shipping.journal import Journal
from rocksalt.logstash.shipping.mask import Masker

MACHINE = "9b9ebfbbee824fec80faf5029913ee05"
BOOT = "2e98be628ae2492eb5467fb0121b1514"
STAND_IN = """#!/bin/sh
for word; do
    case $word in
    --cursor=*) cursor=${word#--cursor=} ;;
    -n*) count=${word#-n} ;;
    esac
done
echo "$*" >> FILE.calls
[ "$cursor" ] && first=$(grep -nF "\\"$cursor\\"" FILE | cut -d: -f1)
case $count in
1) exec tail -n 1 FILE ;;
2) exec sed -n "${first:-1},$((${first:-1} + 1))p" FILE ;;
esac
case $* in *--follow*) exec tail -n +"${first:-1}" -f FILE ;; esac
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
            if self.journal.fileno() >= 0:
                select.select([self.journal.fileno()], [], [], 0.05)
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
    made = Source(tmp_path)
    yield made
    made.journal.stop()


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
    common = f"-o json --all --no-pager --quiet --follow --no-tail --output-fields={fields}"
    common += f" --merge _MACHINE_ID={MACHINE}"
    assert first == f"{common} _BOOT_ID={BOOT}"
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


def test_a_new_sequence_alone_is_no_gap(source):
    source.write(entry(1), entry(1, "new", sequence="bb", moment=5))
    source.start()
    assert source.messages(2) == ["n1", "new"]
    assert source.counts == {}


def test_a_position_that_is_no_cursor_is_a_gap(source):
    source.write(entry(1))
    source.start("nonsense")
    assert source.messages(1) == ["n1"]
    assert source.counts == {"unknown_gaps": 1}
    assert source.calls()[0].endswith(f" _BOOT_ID={BOOT}")


def test_what_is_not_wanted_is_passed(source):
    source.write(entry(1, SYSLOG_FACILITY="4"), entry(2))
    source.start()
    first, second = source.steps(2)
    assert (first.lines, first.position) == ((), cursor(1))
    assert len(second.lines) == 1


def test_a_marked_entry_is_always_sent(source):
    source.write(entry(1, SYSLOG_FACILITY="4", ROCKSALT_MARK="abc"))
    source.start()
    (step,) = source.steps(1)
    assert (step.mark, len(step.lines)) == ("abc", 1)


def test_too_long_an_entry_is_left_out(source, monkeypatch):
    monkeypatch.setattr(journal, "LONGEST", 100_000)
    source.write(entry(1), entry(2, "x" * 3_000_000), entry(3))
    source.start()
    first, second, third = source.messages(3)
    assert (first, third) == ("n1", "n3")
    assert second.startswith("rocksalt-ship: this entry of the journal has 3000")
    assert source.counts == {"lost": 1}


def test_the_oldest_are_passed_over(source):
    source.write(*(entry(it) for it in range(1, 11)))
    source.start()
    source.journal.limit(4)
    assert source.messages(10) == ["n7", "n8", "n9", "n10"]
    assert source.counts == {"dropped": 6}


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


def test_journalctl_is_started_again(source, monkeypatch):
    monkeypatch.setattr(journal, "_SHORTEST", 0.01)
    source.journal._pause = 0.01
    source.write(entry(1))
    source.start()
    assert source.messages(1) == ["n1"]
    source.journal._process.kill()
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


def test_without_journalctl_the_rest_goes_on(source, capsys):
    source.journal._command = ("/nowhere/journalctl",)
    source.start()
    assert not source.journal.running
    said = "rocksalt-ship: /nowhere/journalctl cannot be run: "
    assert capsys.readouterr().err.startswith(said)
    source.journal.fill(time.monotonic())
    assert not source.journal.running

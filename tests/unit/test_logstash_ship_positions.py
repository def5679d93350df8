"""rocksalt.logstash.shipping.positions: what counts, and when."""

from __future__ import annotations

import json

import pytest

from rocksalt.logstash.shipping.positions import RESEND, Positions
from rocksalt.logstash.shipping.steps import Step


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "positions.json")


def saved(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def test_a_position_counts_after_some_seconds(path):
    it = Positions(path, 0)
    it.note(10, Step("journal", "a", (b"1",), counts={"lost": 2}))
    it.note(13, Step("journal", "b", (b"2", b"3")))
    it.settle(10 + RESEND, 10 + RESEND)
    assert (it.counting, it.latest, it.counts["lost"], it.seen["lost"]) == (
        {}, {"journal": "b"}, 0, 2,
    )  # fmt: skip
    it.settle(11.5 + RESEND, 11.5 + RESEND)
    assert (it.counting, it.counts["lost"], it.seen["lost"]) == ({"journal": "a"}, 2, 2)
    assert saved(path) == {
        "schema": 1,
        "positions": {"journal": "a"},
        "counts": {"dropped": 0, "lost": 2, "unknown_gaps": 0, "cut": 0},
        "reached": "b",
        "begin": "",
    }
    assert it.rewind() == 2
    assert it.latest == {"journal": "a"}


def test_what_is_sent_again_is_counted_once(path):
    it = Positions(path, 0)
    it.note(1, Step("journal", "a", (), counts={"dropped": 5}))
    it.rewind()
    it.note(2, Step("journal", "a", (), counts={"dropped": 5}))
    it.settle(20, 20)
    assert it.seen["dropped"] == 5


def test_a_position_never_counts_before_its_time_is_over(path):
    it = Positions(path, 0)
    for tenth in range(100):
        it.note(tenth / 10, Step("journal", tenth, (b"x",)))
    it.settle(9.9, 9.9)
    assert it.counting["journal"] <= (9.9 - RESEND) * 10
    assert it.counting["journal"] >= (9.9 - RESEND) * 10 - 6


def test_time_alone_lets_nothing_count(path):
    it = Positions(path, 0)
    it.note(0, Step("journal", "a", (b"1",)))
    it.settle(3600, 0)
    assert it.counting == {}
    assert it.rewind() == 1


def test_a_step_without_lines_goes_with_those_before_it(path):
    it = Positions(path, 0)
    it.note(0, Step("journal", "a", (b"1",)))
    it.note(4, Step("journal", "b"))
    it.note(4.1, Step("journal", "c", (b"2",)))
    it.settle(9, 5.5)
    assert it.counting == {"journal": "b"}


def test_a_gap_that_is_put_counts_at_once(path):
    it = Positions(path, 0)
    it.put(0, "file:1", [3, {}], {"unknown_gaps": 1})
    it.rewind()
    assert (it.seen["unknown_gaps"], saved(path)["counts"]["unknown_gaps"]) == (1, 1)


def test_positions_without_a_kind_of_counts_are_read(path):
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"schema": 1, "positions": {"journal": "a"}, "counts": {"lost": 7}}')
    it = Positions(path, 0)
    assert (it.problem, it.seen["lost"], it.seen["cut"]) == ("", 7, 0)


def test_a_source_ends(path):
    it = Positions(path, 0)
    it.put(0, "file:1", [3, {}])
    it.note(1, Step("file:1", None))
    assert saved(path)["positions"] == {"file:1": [3, {}]}
    it.settle(20, 20)
    assert saved(path)["positions"] == {}


def test_it_is_there_after_a_restart(path):
    it = Positions(path, 0)
    it.note(1, Step("journal", "a", (), counts={"unknown_gaps": 1}))
    it.settle(20, 20)
    again = Positions(path, 0)
    assert (again.counting, again.counts["unknown_gaps"]) == ({"journal": "a"}, 1)
    assert again.reached == "a"
    assert again.problem == ""


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "positions": 3, "counts": {}}']
)
def test_a_damaged_file_is_a_gap(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    it = Positions(path, 0)
    assert it.problem.startswith(f"{path} cannot be read, shipping starts with the current boot: ")
    assert (it.counting, it.seen["unknown_gaps"]) == ({}, 1)
    it.settle(5, 5)
    assert saved(path)["counts"]["unknown_gaps"] == 1


def test_a_full_disk_is_no_reason_to_stop(tmp_path):
    it = Positions(str(tmp_path / "gone" / "positions.json"), 0)
    it.put(0, "journal", "a")
    assert "positions.json cannot be written: " in it.problem
    (tmp_path / "gone").mkdir()
    it.settle(2, 2)
    assert it.problem == ""
    assert saved(tmp_path / "gone" / "positions.json")["positions"] == {"journal": "a"}


def test_where_the_journal_begins_is_kept_until_a_position_counts(path):
    it = Positions(path, 0)
    it.put(1, "file:x", [0])
    it.begins("a")
    assert (it.counting, Positions(path, 2).begin) == ({"file:x": [0]}, "a")
    it.put(3, "journal", "b")
    assert saved(path)["begin"] == Positions(path, 4).begin == ""

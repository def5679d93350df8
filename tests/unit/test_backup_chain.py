"""rocksalt.backup.proof.chain: what is wrong with a chain, seen from its links."""

from __future__ import annotations

import dataclasses
import random

import pytest

from rocksalt.backup.proof import chain
from rocksalt.backup.proof.chain import Link


def whole(length: int = 5, label: str = "", **levels: int) -> list[Link]:
    links: list[Link] = []
    for number in range(1, length + 1):
        before = links[-1].digest if links else ""
        links.append(Link(number, f"{label}{number:064d}", before, f"{label}{number}", levels))
    return links


def changed(links: list[Link], number: int, **changes) -> list[Link]:
    return [dataclasses.replace(x, **changes) if x.sequence == number else x for x in links]


def found(links) -> list[tuple[str, int]]:
    return [(fault.code, fault.sequence) for fault in chain.faults(links)]


def test_a_whole_chain():
    links = whole(50, format=1)
    assert chain.faults([]) == chain.faults(links) == []
    random.Random(5).shuffle(links)
    assert chain.faults(links) == []


@pytest.mark.parametrize(
    ("gone", "code", "words"),
    [
        ({1}, 1, "#1 missing"),
        ({1, 2}, 1, "#1 to #2 missing"),
        ({3}, 3, "#3 missing"),
        ({2, 3, 4}, 2, "#2 to #4 missing"),
    ],
)
def test_a_gap(gone, code, words):
    faults = chain.faults(link for link in whole() if link.sequence not in gone)
    assert [(f.code, f.sequence) for f in faults] == [("gap", code)]
    assert faults[0].sentence.startswith(words)


def test_a_chain_that_begins_later():
    assert chain.faults(whole()[2:], first=3) == []
    assert [fault.code for fault in chain.faults(whole()[3:], first=3)] == ["gap"]


def test_several_gaps():
    assert found(x for x in whole(9) if x.sequence not in (2, 5, 6)) == [("gap", 2), ("gap", 5)]


def test_the_end_alone_does_not_tell_that_more_is_missing():
    assert found(whole(3)) == []


def test_a_replaced_entry():
    assert found(changed(whole(), 3, digest="x")) == [("broken", 4)]


def test_an_entry_that_refers_to_another():
    assert found(changed(whole(), 3, previous="x")) == [("broken", 3)]
    assert found(changed(whole(), 3, previous="")) == [("broken", 3)]


def test_a_first_entry_that_refers_to_one_before():
    assert found(changed(whole(), 1, previous="x")) == [("broken", 1)]


def test_an_entry_that_cannot_be_read():
    """Its place is taken; whether it is right is not said here."""
    assert found(changed(whole(), 3, previous=None)) == []
    assert found(changed(whole(), 3, previous=None, digest="x")) == [("broken", 4)]


def test_a_fork():
    links = whole()
    fork = Link(3, "other", links[1].digest, "3b")
    assert found([*links, fork]) == [("fork", 3)]
    assert found([fork, *links]) == [("fork", 3)]


def test_a_fork_that_goes_on():
    links = whole(3)
    fork = Link(3, "other", links[1].digest, "3b")
    ends = [Link(4, "a", links[2].digest, "4a"), Link(4, "b", "other", "4b")]
    assert found([*links, fork, *ends]) == [("fork", 3), ("fork", 4)]


def test_a_replay():
    links = whole()
    again = dataclasses.replace(links[1], name="6", sequence=6)
    assert found([*links, again]) == [("replay", 6), ("broken", 6)]
    twice = dataclasses.replace(links[1], name="2b")
    assert found([*links, twice]) == [("replay", 2)]


def test_a_downgrade():
    links = whole(format=2, revision=5)
    assert found(changed(links, 4, levels={"format": 1, "revision": 5})) == [("downgrade", 4)]
    assert found(changed(links, 4, levels={"format": 2, "revision": 6})) == [("downgrade", 5)]
    (fault,) = chain.faults(changed(links, 5, levels={"revision": 4}))
    assert fault.sentence == "5 has revision 4, and 4 had 5 already"


def test_a_downgrade_behind_a_gap():
    links = changed(whole(revision=5), 4, levels={"revision": 4})
    assert found(x for x in links if x.sequence in (1, 2, 4)) == [("gap", 3), ("downgrade", 4)]


def test_a_downgrade_is_told_from_the_branch_that_it_continues():
    links = whole(3, revision=1)
    fork = Link(3, "other", links[1].digest, "3b", {"revision": 2})
    end = Link(4, "b", "other", "4b", {"revision": 1})
    assert found([*links, fork, end]) == [("fork", 3), ("downgrade", 4)]


# What somebody saw before ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sequence", "digest", "codes"),
    [
        (5, f"{5:064d}", []),
        (2, f"{2:064d}", []),
        (5, "other", ["rewritten"]),
        (2, f"{3:064d}", ["rewritten"]),
        (6, f"{6:064d}", ["rewound"]),
    ],
)
def test_what_was_seen_before(sequence, digest, codes):
    assert [fault.code for fault in chain.reaches(whole(), sequence, digest)] == codes


def test_nothing_is_left_of_what_was_seen_before():
    (fault,) = chain.reaches([], 5, "x")
    assert (fault.code, fault.sentence) == (
        "rewound",
        "#5 was seen before and is gone; the newest is #0",
    )


# Copies ------------------------------------------------------------------------------------------


def copies(**chains) -> list[tuple[str, int, str]]:
    digests = {name: {x.sequence: x.digest for x in links} for name, links in chains.items()}
    return [(f.code, f.sequence, " ".join(f.sentence.split()[:3])) for f in chain.differ(digests)]


def test_copies_that_agree():
    assert copies() == copies(a=whole()) == copies(a=whole(5), b=whole(3), c=[]) == []


def test_copies_that_disagree():
    other = [*whole(2), *whole(5, "x")[2:]]
    assert copies(a=whole(), b=other, c=whole(4)) == [
        ("fork", 3, "a and b"),
        ("fork", 3, "b and c"),
    ]

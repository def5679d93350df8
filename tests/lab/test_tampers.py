"""Break it, see exactly that, heal it: every tamper case on a real host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import outside
import runs
import tampers
from rocksalt_lab import Host, Lab

HAVE_THEIR_OWN = {"access", "backup", "logstash", "luks", "nrpe", "ossec"}
FAMILIES = [it for it in tampers.families() if it not in HAVE_THEIR_OWN]


@pytest.fixture(scope="module")
def host(master: Host, web1: Host) -> Iterator[Host]:
    """A host on which the administrator has a declared password, and nothing of strangers stays."""
    with runs.conforming(master, web1, accounts=runs.ACCOUNTS) as host:
        yield host


@pytest.fixture(scope="module")
def salt(host: Host) -> Iterator[runs.Asker]:
    """One process on the host, for to start Salt takes longer than most of what is asked of it."""
    asker = runs.Asker(host)
    yield asker
    asker.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_case_is_seen_exactly(host: Host, family: str) -> None:
    cases = tampers.cases(family)
    found = runs.look_after_each(host, cases)
    wrong = {case.name: found[case.name] for case in cases if set(found[case.name]) != case.drifts}
    assert not wrong
    assert found[""] == {}, "the host was not put back"


@pytest.mark.parametrize("family", FAMILIES)
def test_one_run_heals_all_cases_at_once(
    lab: Lab, master: Host, host: Host, salt: runs.Asker, family: str
) -> None:
    cases = [c for c in tampers.cases(family) if not c.alone and not c.needs_a_person]
    for case in cases:
        runs.shell(host, case.command)
    broken = set().union(*(case.drifts for case in cases))
    assert set(runs.differing(salt)) >= broken
    run = runs.apply(salt)
    assert not run.failed
    assert run.controls >= set().union(*(case.healed for case in cases))
    assert not runs.differing(salt)
    assert not runs.apply(salt).changes
    outside.conforms(host)
    assert "uid=0(root)" in lab.ssh(master, "ops", host, "sudo -n id").stdout


@pytest.mark.parametrize(
    "case", [c for f in FAMILIES for c in tampers.cases(f) if c.alone], ids=lambda c: c.name
)
def test_one_run_heals_a_case_of_its_own(
    lab: Lab, master: Host, host: Host, salt: runs.Asker, case: tampers.Case
) -> None:
    runs.shell(host, case.command)
    run = runs.apply(salt, f"hardening.{case.family}")
    assert not run.failed
    assert run.controls >= case.of_family
    assert not runs.differing(salt, families=case.family)
    assert "uid=0(root)" in lab.ssh(master, "ops", host, "sudo -n id").stdout


def test_what_needs_a_person_is_a_warning(host: Host, salt: runs.Asker) -> None:
    (case,) = [c for c in tampers.cases("sshd") if c.needs_a_person]
    runs.shell(host, case.command)
    try:
        run = runs.apply(salt, "hardening.sshd")
        assert set(run.failed) >= {"an administrator keeps a way in over ssh"}
        assert set(runs.differing(salt)) == case.drifts
    finally:
        runs.shell(host, case.undo)
    assert not runs.differing(salt)

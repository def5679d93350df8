"""tests/lab/outside.yaml: by what the lab proves that each test of the suite can fail."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import outside
import tampers

FAMILIES = sorted(outside.SAID)
FILES = sorted(path.stem for path in Path("tests/infra").glob("test_*.py"))


def named(family: str) -> set[str]:
    """The tests that fail in some round of a family."""
    return set().union(*(it.tests for it in outside.rounds(family)))


def test_every_family_has_cases() -> None:
    assert set(FAMILIES) == set(tampers.families())


@pytest.mark.parametrize("family", FAMILIES)
def test_cases_and_tests_exist(family: str) -> None:
    for cases, _ in outside.rounds(family):
        assert len({case.host for case in cases}) == 1, "a round is of one host"
    for name in named(family):
        found = re.fullmatch(r"(\w+) (test_\w+)(\[.+\])?", name)
        assert found and found[1].startswith(family)
        assert hasattr(importlib.import_module(f"infra.test_{found[1]}"), found[2]), name


def test_every_test_of_the_suite_was_seen_to_fail() -> None:
    """A test that cannot fail judges nothing."""
    seen = {*outside.BY_PILLAR, *outside.STRICTER}.union(*map(named, FAMILIES))
    tests = {
        f"{name.removeprefix('test_')} {function}"
        for name in FILES
        for function in dir(importlib.import_module(f"infra.{name}"))
        if function.startswith("test_")
    }
    assert {name.partition("[")[0] for name in seen} == tests


def test_a_report_of_junit_becomes_outcomes() -> None:
    text = """<testsuite>
      <testcase classname="infra.test_sshd" name="test_a[lab://web1-port]"/>
      <testcase classname="infra.test_sshd" name="test_b[ssh://10.79.0.11]">
        <failure message="short">long</failure></testcase>
      <testcase classname="infra.test_sshd" name="test_c[lab://web1]">
        <error message="no">ssh://web1 cannot be reached</error></testcase>
      <testcase classname="infra.test_sshd" name="test_d[local-ipv4]"/>
      <testcase classname="infra.test_sshd" name="test_e[local]">
        <skipped message="a reason">/clone/tests/infra/test_sshd.py:9: a reason</skipped></testcase>
    </testsuite>"""
    outcomes = outside.outcomes(text)
    assert outcomes == {
        "sshd test_a[port]": "passed",
        "sshd test_b": "failed: long",
        "sshd test_c": "error: ssh://web1 cannot be reached",
        "sshd test_d[ipv4]": "passed",
        "sshd test_e": "skipped: a reason",
    }
    assert {*outside.failed(outcomes)} == {"sshd test_b", "sshd test_c"}

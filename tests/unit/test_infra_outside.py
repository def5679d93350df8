"""tests/lab/outside.yaml: the cases by which the lab proves that the suite can fail."""

from __future__ import annotations

import importlib
import re

import pytest
import yaml

import outside
import tampers

SAID = yaml.safe_load(outside.SAID.read_text())
NO_DISKS_IN_CONTAINERS = {"luks"}  # test_infra_luks.py breaks what lsblk and cryptsetup print


def test_every_family_has_cases() -> None:
    assert set(SAID) == set(tampers.families()) - NO_DISKS_IN_CONTAINERS


@pytest.mark.parametrize("family", sorted(SAID))
def test_cases_and_tests_exist(family: str) -> None:
    assert set(SAID[family]) <= {case.name for case in tampers.cases(family)}
    assert len(SAID[family]) >= outside.LEAST
    for name in (test for tests in SAID[family].values() for test in tests):
        found = re.fullmatch(r"(\w+) (test_\w+)(\[.+\])?", name)
        assert found and found[1].startswith(family)
        assert hasattr(importlib.import_module(f"infra.test_{found[1]}"), found[2]), name


def test_a_report_of_junit_becomes_outcomes() -> None:
    text = """<testsuite>
      <testcase classname="infra.test_sshd" name="test_a[lab://web1-port]"/>
      <testcase classname="infra.test_sshd" name="test_b[ssh://10.79.0.11]">
        <failure message="short">long</failure></testcase>
      <testcase classname="infra.test_sshd" name="test_c[lab://web1]">
        <error message="no">ssh://web1 cannot be reached</error></testcase>
    </testsuite>"""
    outcomes = outside.outcomes(text)
    assert outcomes == {
        "sshd test_a[port]": "passed",
        "sshd test_b": "failed: long",
        "sshd test_c": "error: ssh://web1 cannot be reached",
    }
    assert {*outside.failed(outcomes)} == {"sshd test_b", "sshd test_c"}

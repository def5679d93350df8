"""A control without a tamper case does not exist."""

import collections
from pathlib import Path

import pytest
import yaml

import tampers

FAMILIES = sorted(path.parent.name for path in Path("salt/hardening").glob("*/controls.yaml"))

# No host can break these; the lab tests of their families have them.
ABOUT_THE_PILLAR = {"F2B-016", "BKP-015", "NRPE-001", "OSS-001", "LOG-001", "ACL-022"}
NEVER_RIGHT_IN_THE_LAB = {"BKP-032"}  # no dm-crypt


def controls(family):
    return set(
        yaml.safe_load(Path(f"salt/hardening/{family}/controls.yaml").read_text())["controls"]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_control_is_broken_by_some_case(family):
    broken = set().union(*(case.drifts for case in tampers.cases(family)))
    never = ABOUT_THE_PILLAR | NEVER_RIGHT_IN_THE_LAB
    assert controls(family) - broken == controls(family) & never


@pytest.mark.parametrize("family", FAMILIES)
def test_cases_speak_of_controls_that_exist_and_have_names_of_their_own(family):
    cases = tampers.cases(family)
    known = set().union(*map(controls, FAMILIES))
    assert {i for case in cases for i in case.drifts} <= known
    names = collections.Counter(case.name for case in cases)
    assert [name for name, count in names.items() if count > 1 or not name] == []
    assert all(case.command and case.drifts for case in cases)


def test_no_case_is_of_a_family_that_does_not_exist():
    assert tampers.families() == FAMILIES

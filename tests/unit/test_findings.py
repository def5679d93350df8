"""rocksalt.findings: expected against seen, for every control of a family."""

from __future__ import annotations

import datetime as dt

import pytest

from rocksalt import findings
from rocksalt.findings import Seen

WANT = {"LOCK-001": "locked", "LOCK-002": 6, "LOCK-003": True}
GOOD = {"LOCK-001": Seen("locked"), "LOCK-002": Seen(6), "LOCK-003": Seen(True)}


@pytest.fixture
def judge(resolve):
    def call(pillar=None, expected=WANT, **seen):
        looks = {**GOOD, **{f"LOCK-{key[1:]}": look for key, look in seen.items()}}
        looks = {key: look for key, look in looks.items() if look is not None}
        found = findings.judge(resolve(pillar), "lock", expected, looks)
        assert [finding["id"] for finding in found] == list(WANT), "one finding for each control"
        return {finding["id"]: finding for finding in found}

    return call


def test_ok(judge):
    assert judge()["LOCK-001"] == {
        "id": "LOCK-001",
        "family": "lock",
        "severity": "high",
        "remedy": "state",
        "title": "The door is locked",
        "status": "ok",
        "expected": "locked",
        "actual": "locked",
        "reason": "",
        "fix": "state.apply hardening.lock",
    }


@pytest.mark.parametrize(
    ("want", "seen", "reason"),
    [
        ("locked", Seen("open"), "it is open, expected locked"),
        ("locked", Seen("open", "the wind opened it"), "the wind opened it"),
        ("locked", Seen(), "it is absent"),
        (None, Seen("a hole"), "it is a hole, expected absent"),
        (["a", "b"], Seen([]), "it is nothing, expected a, b"),
        (
            {"lock": True, "bolt": True},
            Seen({"lock": True, "bolt": False, "hole": 1}),
            "bolt is no, expected yes; hole is 1, expected absent",
        ),
    ],
)
def test_drift(judge, want, seen, reason):
    finding = judge(expected={**WANT, "LOCK-001": want}, _001=seen)["LOCK-001"]
    assert (finding["status"], finding["reason"]) == ("drift", reason)
    assert (finding["expected"], finding["actual"]) == (want, seen.actual)


def test_the_remedy_of_the_control(judge):
    finding = judge(_003=Seen(False))["LOCK-003"]
    assert (finding["status"], finding["remedy"], finding["fix"]) == ("drift", "manual", "manual")


@pytest.mark.parametrize("status", ["error", "skipped"])
def test_what_could_not_be_looked_at(judge, status):
    finding = judge(_001=Seen("locked", "the light is off", status))["LOCK-001"]
    assert finding["status"] == status
    assert (finding["reason"], finding["actual"]) == ("the light is off", None)


def test_a_check_that_did_not_run_is_an_error(judge):
    assert judge(_001=None)["LOCK-001"]["status"] == "error"
    without = {key: value for key, value in WANT.items() if key != "LOCK-001"}
    finding = judge(expected=without)["LOCK-001"]
    assert finding["status"] == "error"
    assert finding["reason"] == "the family has no check for this control"


def test_a_setting_below_the_floor_is_drift_that_a_person_resolves(judge):
    finding = judge({"lock": {"size": 3}}, {**WANT, "LOCK-002": 3}, _002=Seen(3))["LOCK-002"]
    assert (finding["status"], finding["remedy"], finding["fix"]) == ("drift", "manual", "manual")
    assert finding["reason"] == (
        "hardening:lock:size is 3: the least acceptable value is 4: "
        "correct the pillar, or write a waiver"
    )


def test_drift_is_told_before_the_floor(judge):
    finding = judge({"lock": {"size": 3}}, {**WANT, "LOCK-002": 3}, _002=Seen(2))["LOCK-002"]
    assert finding["remedy"] == "state"
    assert finding["reason"].startswith("it is 2, expected 3; hardening:lock:size is 3: the least")


def test_a_disabled_family_is_drift(judge, waiver):
    pillar = {"lock": {"enabled": False}, "waivers": {"LOCK-001": waiver()}}
    found = judge(pillar)
    assert [finding["status"] for finding in found.values()] == ["waived", "drift", "drift"]
    assert found["LOCK-002"]["reason"] == "the family is disabled by hardening:lock:enabled"
    assert found["LOCK-002"]["remedy"] == "manual"


def test_a_waived_control_is_left_as_found(judge, waiver):
    finding = judge({"waivers": {"LOCK-001": waiver()}}, _001=Seen("open"))["LOCK-001"]
    assert (finding["status"], finding["expected"], finding["actual"]) == ("waived", None, None)
    assert finding["reason"].endswith("for ann: the lock is on order")


def test_a_control_that_is_off_is_skipped(judge):
    pillar = {"lock": {"controls": {"LOCK-001": {"off": "a revolving door"}}}}
    finding = judge(pillar, _001=Seen("open"))["LOCK-001"]
    assert (finding["status"], finding["reason"]) == ("skipped", "switched off: a revolving door")


def test_an_expired_waiver_is_named(judge, waiver, today):
    yesterday = today - dt.timedelta(days=1)
    pillar = {"waivers": {"LOCK-001": waiver(expires=str(yesterday))}}
    finding = judge(pillar, _001=Seen("open"))["LOCK-001"]
    assert finding["status"] == "drift"
    assert finding["reason"] == (
        f"the waiver of ann expired on {yesterday}; it is open, expected locked"
    )
    assert judge(pillar)["LOCK-001"]["reason"] == "", "nothing to excuse, nothing to say"


def test_wanted_leaves_out_what_is_excused(resolve, waiver, today):
    pillar = {
        "waivers": {"LOCK-001": waiver()},
        "lock": {"controls": {"LOCK-002": {"off": "a revolving door"}}},
    }
    assert findings.wanted(resolve(pillar), "lock", WANT) == {"LOCK-003": True}
    expired = {"waivers": {"LOCK-001": waiver(expires=str(today - dt.timedelta(days=1)))}}
    assert findings.wanted(resolve(expired), "lock", WANT) == WANT
    assert findings.wanted(resolve({"lock": {"enabled": False}}), "lock", WANT) == {}


def test_a_family_that_could_not_be_looked_at(resolve):
    found = findings.unknown(resolve().families["lock"], "error", "no light")
    assert [(f["id"], f["status"], f["reason"]) for f in found] == [
        (identifier, "error", "no light") for identifier in WANT
    ]


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "absent"), (True, "yes"), (False, "no"), (0, "0"), ((), "nothing"), (["a", 1], "a, 1")],
)
def test_show(value, words):
    assert findings.show(value) == words

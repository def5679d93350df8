"""The states ``hardening.enforced``, ``safe`` and ``absent``, proved on the family sample."""

from __future__ import annotations

from conftest import Minion, states

ENFORCED = "the sample is enforced where nobody can be locked out"
SAFE = "somebody keeps a way in to the sample"
DOOR = "the door of the sample is closed"
AFTERWARDS = "the run goes on"
GONE = "the sample is gone"

RIGHT = {"greeting": "hello", "password": "a-secret", "door": "closed"}
PEOPLE = {"signature": "signed", "kernel": "new", "key": ""}


def test_drift_is_fixed_and_the_second_look_is_what_counts(minion: Minion) -> None:
    minion.host(greeting="tampered", **PEOPLE)
    result = states(minion.run("state.apply", "hardening.sample"))

    assert {state["result"] for state in result.values()} == {True}
    assert minion.looks == {**RIGHT, **PEOPLE}
    assert result[ENFORCED]["changes"]["SAMPLE-001"] == {"old": "tampered", "new": "hello"}
    assert result[ENFORCED]["comment"] == "2 control(s) of sample enforced."
    assert minion.run("drift.report", families="sample")["findings"] == []


def test_a_second_run_changes_nothing(minion: Minion) -> None:
    minion.host(**RIGHT, **PEOPLE)
    result = states(minion.run("state.apply", "hardening.sample"))

    assert {(state["result"], bool(state["changes"])) for state in result.values()} == {
        (True, False)
    }
    assert result[ENFORCED]["comment"] == "Every control of sample holds."


def test_a_guarded_state_and_its_counterpart_look_after_their_own_controls(minion: Minion) -> None:
    minion.host(**PEOPLE)
    result = states(minion.run("state.apply", "hardening.sample"))

    assert set(result[ENFORCED]["changes"]) == {"SAMPLE-001", "SAMPLE-002"}
    assert set(result[DOOR]["changes"]) == {"SAMPLE-005"}
    both = minion.run("state.single", "hardening.enforced", "all of it", family="sample", test=True)
    minion.host(**PEOPLE)
    both = minion.run("state.single", "hardening.enforced", "all of it", family="sample", test=True)
    assert set(next(iter(both.values()))["changes"]) == {"SAMPLE-001", "SAMPLE-002", "SAMPLE-005"}


def test_what_is_left_after_enforcement_fails_the_state(minion: Minion) -> None:
    minion.pillar({}, failing="enforce")
    minion.host(greeting="tampered", password="a-secret", **PEOPLE)
    result = states(minion.run("state.apply", "hardening.sample"))

    assert result[ENFORCED]["result"] is False
    assert result[ENFORCED]["changes"] == {}
    assert "1 control(s) of sample still differ:" in result[ENFORCED]["comment"]
    assert "SAMPLE-001 The greeting is the declared one: it is tampered, expected hello" in (
        result[ENFORCED]["comment"]
    )
    assert result[AFTERWARDS]["result"] is True


def test_what_a_fix_brought_about_is_fixed_as_well(minion: Minion) -> None:
    minion.pillar({}, failing="uncover")
    minion.host(greeting="tampered", password="a-secret", **PEOPLE)
    result = states(minion.run("state.apply", "hardening.sample"))

    assert result[ENFORCED]["result"] is True
    assert set(result[ENFORCED]["changes"]) == {"SAMPLE-001", "SAMPLE-002"}
    assert result[ENFORCED]["comment"] == "2 control(s) of sample enforced."
    assert minion.looks == {**RIGHT, **PEOPLE}


def test_a_refusal_is_told_together_with_what_is_left(minion: Minion) -> None:
    minion.pillar({}, failing="refuse")
    minion.host(greeting="tampered", password="a-secret", **PEOPLE)
    result = states(minion.run("state.apply", "hardening.sample"))

    assert result[ENFORCED]["result"] is False
    assert result[ENFORCED]["comment"].startswith("the sample does not want to; everything is as")
    assert "SAMPLE-001" in result[ENFORCED]["comment"]
    assert minion.looks["greeting"] == "tampered"


def test_an_error_of_a_look_is_told_as_it_is(minion: Minion) -> None:
    for test in (True, False):
        minion.host(greeting="tampered", fog="thick", **PEOPLE)
        result = states(minion.run("state.apply", "hardening.sample", test=test))
        result |= states(minion.run("state.apply", "hardening.sample.clean", test=test))

        for state in (result[ENFORCED], result[SAFE], result[GONE]):
            assert (state["result"], state["changes"]) == (False, {})
            assert state["comment"] == "the sample cannot be seen: there is fog"
        assert result[AFTERWARDS]["result"] is True
        assert minion.looks == {"greeting": "tampered", "fog": "thick", **PEOPLE}


def test_a_second_look_that_fails_proves_no_change(minion: Minion) -> None:
    minion.pillar({}, failing="fog")
    minion.host(greeting="tampered", password="a-secret", **PEOPLE)
    result = states(minion.run("state.apply", "hardening.sample"))

    assert (result[ENFORCED]["result"], result[ENFORCED]["changes"]) == (False, {})
    assert result[ENFORCED]["comment"].splitlines() == [
        "the sample does not want to; everything is as it was",
        "the sample cannot be seen: there is fog",
    ]


def test_what_is_ours_and_will_not_go_fails_the_state(minion: Minion) -> None:
    minion.pillar({}, failing="refuse")
    minion.host(**RIGHT, **PEOPLE)
    result = states(minion.run("state.apply", "hardening.sample.clean"))

    assert (result[GONE]["result"], result[GONE]["changes"]) == (False, {})
    assert result[GONE]["comment"] == "the sample does not want to; everything is as it was"
    assert minion.looks == {**RIGHT, **PEOPLE}


def test_what_no_state_can_fix_is_a_warning(minion: Minion) -> None:
    minion.host(**RIGHT, key="")
    result = states(minion.run("state.apply", "hardening.sample"))

    assert result[ENFORCED]["result"] is True
    assert result[ENFORCED]["warnings"] == [
        "2 control(s) of sample need a person:",
        "  SAMPLE-003 Somebody has signed: it is absent",
        "  SAMPLE-004 The kernel is the new one: it is absent",
    ]


def test_a_setting_below_the_floor_is_enforced_and_stays_drift(minion: Minion) -> None:
    minion.pillar({}, greeting="rude")
    minion.host(**RIGHT, **PEOPLE)
    result = states(minion.run("state.apply", "hardening.sample"))

    assert minion.looks["greeting"] == "rude"
    assert result[ENFORCED]["result"] is True
    reason = "hardening:sample:greeting is 'rude': acceptable values are hello, good day"
    assert reason in "".join(result[ENFORCED]["warnings"])
    [finding] = minion.run("drift.report", families="sample")["findings"]
    assert (finding["id"], finding["status"], finding["remedy"]) == (
        "SAMPLE-001", "drift", "manual",
    )  # fmt: skip


def test_test_mode_shows_the_changes_and_touches_nothing(minion: Minion) -> None:
    minion.host(greeting="tampered", **PEOPLE)
    result = states(minion.run("state.apply", "hardening.sample", test=True))

    assert result[ENFORCED]["result"] is None
    assert result[ENFORCED]["changes"]["SAMPLE-001"] == {"old": "tampered", "new": "hello"}
    assert "2 control(s) of sample would be enforced:" in result[ENFORCED]["comment"]
    assert result[SAFE]["result"] is True
    assert minion.looks == {"greeting": "tampered", **PEOPLE}


def test_test_mode_names_what_a_person_has_to_do(minion: Minion) -> None:
    minion.host(greeting="tampered", key="")
    result = states(minion.run("state.apply", "hardening.sample", test=True))

    assert result[ENFORCED]["result"] is None
    assert result[ENFORCED]["warnings"] == [
        "2 control(s) of sample need a person:",
        "  SAMPLE-003 Somebody has signed: it is absent",
        "  SAMPLE-004 The kernel is the new one: it is absent",
    ]


def test_without_a_way_in_only_the_dangerous_part_stops(minion: Minion) -> None:
    for test in (True, False):
        minion.host(signature="signed", kernel="new")
        result = states(minion.run("state.apply", "hardening.sample", test=test))

        assert (result[SAFE]["result"], result[SAFE]["comment"]) == (
            False,
            "nobody has a key; the guarded controls of sample are left as found",
        )
        assert result[DOOR]["result"] is False
        assert "One or more requisite failed" in result[DOOR]["comment"]
        assert "door" not in minion.looks
        assert result[ENFORCED]["result"] is (None if test else True)
        assert result[AFTERWARDS]["result"] is True


def test_an_excused_control_is_left_as_found(minion: Minion) -> None:
    minion.pillar({}, controls={"SAMPLE-001": {"off": "no greetings here"}})
    minion.host(greeting="tampered", **PEOPLE)
    result = states(minion.run("state.apply", "hardening.sample"))

    assert {state["result"] for state in result.values()} == {True}
    assert minion.looks["greeting"] == "tampered"
    [finding] = minion.run("drift.report", families="sample")["findings"]
    assert (finding["status"], finding["reason"]) == ("skipped", "switched off: no greetings here")


def test_a_disabled_family_is_drift_and_left_as_found(minion: Minion) -> None:
    minion.pillar({}, enabled=False)
    minion.host()
    result = states(minion.run("state.apply", "hardening.sample"))

    assert {state["changes"] == {} for state in result.values()} == {True}
    assert minion.looks == {}
    assert set(minion.run("drift.controls").values()) >= {"drift"}
    report = minion.run("drift.report", families="sample")
    assert report["summary"]["drift"] == 5
    assert report["findings"][0]["reason"] == "the family is disabled by hardening:sample:enabled"


def test_clean_takes_away_what_is_ours_and_nothing_else(minion: Minion) -> None:
    minion.host(**RIGHT, **PEOPLE)
    would = states(minion.run("state.apply", "hardening.sample.clean", test=True))
    assert would[GONE]["result"] is None
    assert len(would[GONE]["changes"]) == 3
    assert minion.looks == {**RIGHT, **PEOPLE}

    done = states(minion.run("state.apply", "hardening.sample.clean"))
    assert done[GONE]["result"] is True
    assert minion.looks == PEOPLE

    again = states(minion.run("state.apply", "hardening.sample.clean"))
    assert again[GONE]["changes"] == {}
    assert again[GONE]["comment"] == "Nothing of sample is on this host."


def test_another_environment_is_judged_by_its_own_catalogue(minion: Minion) -> None:
    roots = minion.options["file_roots"]["base"]
    minion.configure(file_roots={"base": [], "prod": roots})
    minion.host(greeting="tampered", **PEOPLE)
    result = states(minion.run("state.apply", "hardening.sample", saltenv="prod"))

    assert {state["result"] for state in result.values()} == {True}
    assert minion.looks == {**RIGHT, **PEOPLE}
    assert (minion.state_dir / "settings-prod.json").exists()
    assert minion.run("drift.report", families="sample", saltenv="prod")["findings"] == []

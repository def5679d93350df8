"""rocksalt.report: the document, its schema, its return code and its text."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import json
from pathlib import Path

import jsonschema
import pytest

from rocksalt import __version__, findings, report
from rocksalt.errors import NoSuch
from rocksalt.findings import Seen

REPO = Path(__file__).resolve().parents[2]
STATUSES = ("ok", "drift", "waived", "skipped", "error")


@pytest.fixture(scope="session")
def validator():
    schema = json.loads((REPO / "docs/drift-report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture
def found(resolve, waiver):
    """A baseline and its findings, one of each status."""
    pillar = {
        "waivers": {"LOCK-001": waiver()},
        "lock": {"pin_code": "1", "controls": {"LOCK-002": {"off": "a revolving door"}}},
    }
    baseline = resolve(pillar)
    more = findings.judge(
        resolve(),
        "lock",
        {"LOCK-001": {"lock": "shut", "bolt": True}, "LOCK-002": 6},
        {"LOCK-001": Seen({"lock": "open", "bolt": True}), "LOCK-002": Seen(6)},
    )
    return baseline, [*findings.judge(baseline, "lock", {}, {})[:2], *more]


def test_the_document(found, validator):
    baseline, entries = found
    document = report.build(baseline, "web1", entries, everything=True)
    validator.validate(document)
    assert {entry["status"] for entry in document["findings"]} == set(STATUSES)
    assert document == json.loads(json.dumps(document))
    assert (document["schema"], document["host"], document["version"]) == (1, "web1", __version__)
    assert document["warnings"] == ["hardening:lock:pin_code is now called hardening:lock:code"]
    age = dt.datetime.now(dt.timezone.utc) - dt.datetime.fromisoformat(
        document["time"].replace("Z", "+00:00")
    )
    assert dt.timedelta(0) <= age < dt.timedelta(seconds=10)
    assert document["summary"] == {
        "controls": 5,
        "ok": 1,
        "drift": 1,
        "waived": 1,
        "skipped": 1,
        "error": 1,
        "score": 25.0,
        "worst": "high",
    }


def test_without_what_is_ok_the_summary_is_the_same(found, validator):
    full, short = (report.build(*found[:1], "web1", found[1], everything=e) for e in (True, False))
    validator.validate(short)
    default = report.build(found[0], "web1", found[1])
    assert default["findings"] == short["findings"]
    assert short["summary"] == full["summary"]
    assert [f for f in full["findings"] if f["status"] != "ok"] == short["findings"]


def test_cached_settings_have_an_age(found, validator):
    hour_ago = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=1)
    baseline = dataclasses.replace(found[0], source="cached", time=hour_ago, warnings=())
    document = report.build(baseline, "web1", [])
    validator.validate(document)
    assert document["settings"] == "cached"
    assert 3600 <= document["settings_age"] < 3610
    assert "warnings" not in document


@pytest.mark.parametrize(
    "break_it",
    [
        lambda d: d.pop("time"),
        lambda d: d.update(result=True),
        lambda d: d.update(schema=2),
        lambda d: d.update(time="2026-01-01 00:00:00"),
        lambda d: d.update(settings="guessed"),
        lambda d: d.update(settings="cached"),
        lambda d: d.update(settings_age=5),
        lambda d: d.update(warnings=[]),
        lambda d: d["summary"].update(ok=-1),
        lambda d: d["summary"].update(score=101),
        lambda d: d["summary"].update(worst="grave"),
        lambda d: d["summary"].pop("waived"),
        lambda d: d["findings"][0].pop("fix"),
        lambda d: d["findings"][0].update(note="x"),
        lambda d: d["findings"][0].update(status="fine"),
        lambda d: d["findings"][0].update(id="lock-1"),
        lambda d: d["findings"][0].update(reason=""),
        lambda d: d["findings"][0].update(severity="grave"),
        lambda d: d["findings"][0].update(remedy="hope"),
    ],
)
def test_the_schema_is_strict(found, validator, break_it):
    document = report.build(*found[:1], "web1", found[1])
    assert validator.is_valid(document)
    broken = copy.deepcopy(document)
    break_it(broken)
    assert not validator.is_valid(broken)


def entry(status: str, severity: str = "low", **other):
    return {
        "id": "LOCK-001",
        "family": "lock",
        "severity": severity,
        "remedy": "state",
        "title": "The door is locked",
        "status": status,
        "expected": None,
        "actual": None,
        "reason": "",
        "fix": "state.apply hardening.lock",
        **other,
    }


@pytest.mark.parametrize(
    ("statuses", "score"),
    [
        ([], None),
        (["skipped"], None),
        (["ok", "skipped"], 100.0),
        (["drift"], 0.0),
        (["ok", "error"], 50.0),
        (["ok", "ok", "waived"], 66.7),
    ],
)
def test_score(statuses, score):
    assert report.summary(map(entry, statuses))["score"] == score


def test_worst_is_the_worst_that_drifted():
    mixed = [entry("ok", "critical"), entry("drift", "low"), entry("drift", "medium")]
    assert report.summary(mixed)["worst"] == "medium"
    assert report.summary(mixed[:1])["worst"] is None


@pytest.mark.parametrize(
    ("statuses", "retcode"),
    [
        ([], 0),
        (["ok", "waived", "skipped"], 0),
        (["ok", "drift"], 2),
        (["error"], 3),
        (["drift", "error"], 3),
    ],
)
def test_retcode(statuses, retcode):
    assert report.retcode({"summary": report.summary(map(entry, statuses))}) == retcode


# Which controls ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ((None, None, None), "LOCK-001 LOCK-002 LOCK-003 WATCH-001"),
        (("lock", None, None), "LOCK-001 LOCK-002 LOCK-003"),
        (("lock, watch", None, "high"), "LOCK-001 LOCK-003"),
        ((["watch"], None, None), "WATCH-001"),
        ((None, "LOCK-002,WATCH-001", None), "LOCK-002 WATCH-001"),
        ((None, ["LOCK-002"], "critical"), ""),
        (("watch", "LOCK-002", None), ""),
        ((None, None, "medium"), "LOCK-001 LOCK-003 WATCH-001"),
        ((None, None, "low"), "LOCK-001 LOCK-002 LOCK-003 WATCH-001"),
    ],
)
def test_chosen(resolve, arguments, ids):
    assert report.chosen(resolve(), *arguments) == set(ids.split())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("lokc", None, None), "families: no family 'lokc'; did you mean 'lock'?"),
        ((None, "LOCK-01", None), "controls: no control 'LOCK-01'; did you mean 'LOCK-001'?"),
        (
            (None, None, "grave"),
            "severity: 'grave' is not one of critical, high, medium, low",
        ),
    ],
)
def test_a_name_that_does_not_exist_is_no_empty_report(resolve, arguments, problem):
    with pytest.raises(NoSuch) as caught:
        report.chosen(resolve(), *arguments)
    assert str(caught.value) == problem


# Text --------------------------------------------------------------------------------------------


def told(*entries, **other) -> str:
    document = {
        "host": "web1",
        "settings": "live",
        "summary": report.summary(entries),
        "findings": list(entries),
        **other,
    }
    return report.text(document)


def test_text_of_a_drift():
    finding = entry(
        "drift",
        "high",
        expected={"lock": "shut", "bolt": True},
        actual={"lock": "open", "bolt": True},
        reason="the wind opened it",
    )
    assert told(finding).splitlines() == [
        "web1: 1 control: 1 drift; score 0.0",
        "",
        "drift   LOCK-001  high  The door is locked",
        "        expected: lock shut",
        "        actual: lock open",
        "        why: the wind opened it",
        "",
        "To fix: state.apply hardening.lock",
    ]


def test_text_of_what_a_person_has_to_do():
    text = told(entry("drift", remedy="manual", fix="manual", expected=1, actual=2, reason="r"))
    assert "        expected: 1\n        actual: 2\n        why: r\n        remedy: manual" in text
    assert "To fix" not in text


def test_text_of_nothing_wrong():
    assert told(entry("ok")).splitlines()[0] == "web1: 1 control: 1 ok; score 100.0"
    assert told() == "web1: 0 controls: none; no score"


def test_the_gravest_first():
    lines = told(
        entry("waived", "critical", id="W", reason="w"),
        entry("drift", "low", id="D2"),
        entry("drift", "critical", id="D1"),
        entry("error", "low", id="E", reason="e"),
    ).splitlines()
    assert [line.split()[1] for line in lines if line[:1] in "dew" and "  " in line] == [
        "E",
        "D1",
        "D2",
        "W",
    ]


def test_what_could_not_be_looked_at_for_one_reason_is_told_once():
    lines = told(*(entry("error", id=f"E{n}", reason="no light") for n in range(3))).splitlines()
    assert sum("no light" in line for line in lines) == 1
    assert "        and 2 more: E1, E2" in lines


def test_what_was_skipped_for_one_reason_is_one_line_at_the_end():
    away = [entry("skipped", id=f"S{n}", reason="nobody is there") for n in range(5)]
    few = [entry("skipped", id=f"T{n}", reason="switched off: no") for n in range(4)]
    assert told(*away, *few, entry("error", id="E", reason="e")).splitlines()[1:] == [
        "",
        "error   E  low  The door is locked",
        "        why: e",
        "",
        "skipped S0, S1, S2 and 2 more: nobody is there",
        "skipped T0, T1, T2, T3: switched off: no",
    ]


def test_the_reason_is_left_out_where_it_says_what_is_there_once_more():
    shown = told(entry("drift", expected=[], actual=["bob"], reason="bob"))
    assert "        expected: nothing\n        actual: bob\n" in shown
    assert "why:" not in shown


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (0, "0 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7200, "2 hours"),
        (3 * 86400, "3 days"),
    ],
)
def test_text_says_that_settings_are_cached(seconds, age):
    text = told(settings="cached", settings_age=seconds)
    assert text.endswith(f"no score, judged by settings cached {age} ago")


def test_drift_is_told_one_by_one_and_so_is_what_has_no_reason():
    drifts = (entry("drift", id=f"D{n}", reason="the wind") for n in range(2))
    fine = (entry("ok", id=f"O{n}") for n in range(2))
    text = told(*drifts, *fine)
    assert "more:" not in text
    assert all(identifier in text for identifier in ("D0", "D1", "O0", "O1"))


def test_warnings_and_long_lines():
    reason = "because " * 40
    text = told(entry("waived", reason=reason), warnings=["a is now called b"])
    assert text.splitlines()[1] == "warning: a is now called b"
    assert all(len(line) <= 100 for line in text.splitlines())


def test_colour():
    document = {"host": "h", "settings": "live", "summary": report.summary([]), "findings": []}
    document["findings"] = [entry("drift")]
    assert "\033[31mdrift  \033[0m LOCK-001" in report.text(document, colour=True)
    assert "\033" not in report.text(document)

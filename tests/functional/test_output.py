"""The report as people read it, as programs read it, and while the master is away."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import stat
from typing import Any

import jsonschema
import pytest

from conftest import REPOSITORY, Minion

SCHEMA = json.loads((REPOSITORY / "docs" / "drift-report.schema.json").read_text())
DRIFTED = {"greeting": "tampered", "password": "a-secret", "kernel": "new", "door": "closed"}


def validate(report: Any) -> None:
    """Raises where the document is not what docs/drift-report.schema.json promises."""
    checker = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    checker.validate(report)


def test_the_json_is_what_the_schema_promises(minion: Minion, today: dt.date) -> None:
    tomorrow = today + dt.timedelta(days=1)
    waiver = {"reason": "r", "owner": "o", "approver": "a", "expires": tomorrow}
    minion.pillar(
        {"waivers": {"SAMPLE-003": waiver}}, controls={"SAMPLE-005": {"off": "no doors here"}}
    )
    minion.host(**DRIFTED)

    result = minion.call("--local", "drift.report", "all=True")
    validate(result.value)
    status = {finding["id"]: finding["status"] for finding in result.value["findings"]}
    assert [status[f"SAMPLE-00{number}"] for number in range(1, 6)] == [
        "drift", "ok", "waived", "ok", "skipped",
    ]  # fmt: skip
    minion.pillar({}, folder="/nonexistent")
    validate(minion.run("drift.report"))
    recorded = minion.run("drift.record")
    validate(json.loads((minion.state_dir / "last.json").read_text()))
    assert recorded["summary"]["error"] >= 5


def test_the_schema_refuses_what_is_no_report(minion: Minion) -> None:
    minion.host(**DRIFTED)
    report = minion.run("drift.report", families="sample")

    for wrong in ({"schema": 2}, {"time": "yesterday"}, {"settings": "cached"}, {"extra": 1}):
        with pytest.raises(jsonschema.ValidationError):
            validate({**report, **wrong})


def test_people_read_text(minion: Minion) -> None:
    minion.host(**DRIFTED)
    result = minion.call("--local", "--no-color", "drift.report", "families=sample", out="")

    assert result.stdout.splitlines() == [
        "web1: 5 controls: 2 drift, 3 ok; score 60.0",
        "",
        "drift   SAMPLE-001  high  The greeting is the declared one",
        "        expected: hello",
        "        actual: tampered",
        "        why: it is tampered, expected hello",
        "",
        "drift   SAMPLE-003  medium  Somebody has signed",
        "        expected: signed",
        "        actual: absent",
        "        why: it is absent",
        "        remedy: manual",
        "",
        "To fix: state.apply hardening.sample",
    ]


def test_without_drift_the_text_is_one_line(minion: Minion) -> None:
    minion.host(**{**DRIFTED, "greeting": "hello"}, signature="signed")
    result = minion.call("--local", "--no-color", "drift.report", "families=sample", out="")

    assert result.stdout == "web1: 5 controls: 5 ok; score 100.0\n"
    assert result.retcode == 0


def test_an_error_instead_of_a_report_is_printed_as_it_is(minion: Minion) -> None:
    result = minion.call("--local", "drift.report", "families=shd", out="")

    assert result.retcode == 1
    assert "families: no family 'shd'; did you mean 'sshd'?" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def master_away(minion: Minion) -> None:
    """Neither files nor pillar, as for ``salt-call --local`` on a minion whose master is away.

    Such a minion never had a list of local files; Salt keeps this one's for twenty seconds.
    """
    shutil.rmtree(minion.folder / "root", ignore_errors=True)
    minion.configure(file_roots={"base": []})
    minion.pillar_text("{}")


def test_with_the_master_away_the_kept_settings_judge(minion: Minion) -> None:
    minion.pillar({}, greeting="good day", password="", controls={"SAMPLE-005": {"off": "no door"}})
    minion.host(**{**DRIFTED, "password": "", "signature": "signed"}, key="")
    minion.run("state.apply", "hardening.sample")
    assert stat.S_IMODE((minion.state_dir / "settings-base.json").stat().st_mode) == 0o600
    live = minion.run("drift.controls")

    master_away(minion)
    result = minion.call("--local", "drift.report", "families=sample", "all=True")
    validate(result.value)
    assert (result.value["settings"], result.retcode) == ("cached", 0)
    assert 0 <= result.value["settings_age"] < 600
    status = {finding["id"]: finding["status"] for finding in result.value["findings"]}
    assert status == {key: live[key] for key in status} and status["SAMPLE-001"] == "ok"

    minion.host(greeting="hello")
    text = minion.call("--local", "--no-color", "drift.report", "families=sample", out="")
    assert ", judged by settings cached " in text.stdout.splitlines()[0]
    assert "expected: good day" in text.stdout


def test_with_neither_master_nor_kept_settings_there_is_no_judgement(minion: Minion) -> None:
    master_away(minion)
    result = minion.call("--local", "drift.report")

    assert result.retcode == 1
    assert result.value is None or "findings" not in result.value
    sentence = "there is no hardening/ in the file root of saltenv base and no settings cached in"
    assert sentence in result.stdout + result.stderr


def test_kept_settings_are_of_their_own_environment(minion: Minion) -> None:
    minion.host()
    minion.run("hardening.prepare")
    master_away(minion)

    result = minion.call("--local", "drift.report", "saltenv=prod")
    assert result.retcode == 1
    assert "settings-prod.json" in result.stdout + result.stderr


def test_a_kept_secret_is_not_judged_by_its_replacement(minion: Minion) -> None:
    """The snapshot has no secret, so what depends on it cannot be called right or wrong."""
    minion.host(**DRIFTED)
    minion.run("hardening.prepare")
    master_away(minion)

    snapshot = (minion.state_dir / "settings-base.json").read_text()
    assert "a-secret" not in snapshot
    status = minion.run("drift.controls")
    assert status["SAMPLE-002"] != "ok"

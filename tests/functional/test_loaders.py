"""Every function of the modules through Salt's own loaders, without a daemon."""

from __future__ import annotations

import datetime as dt
import json
import re
import stat

import pytest
from salt.exceptions import CommandExecutionError

from conftest import Minion, states
from rocksalt import __version__

FAMILIES = [
    "accounts", "firewall", "sshd", "backup", "fail2ban", "nrpe", "ossec", "logstash", "luks",
    "access", "sample", "drift",
]  # fmt: skip


def test_settings_merge_the_pillar_and_hide_secrets(minion: Minion) -> None:
    minion.pillar({"sshd": {"max_sessions": 3}})

    assert minion.run("hardening.settings", "sshd")["max_sessions"] == 3
    everything = minion.run("hardening.settings")
    assert list(everything) == FAMILIES
    assert everything["sample"]["password"] == "***"
    assert everything["sshd"]["allow_groups"] == ["sudo"]


def test_roles_come_from_the_pillar_and_from_the_minions_configuration(minion: Minion) -> None:
    minion.configure(hardening={"roles": ["jump-host"], "state_dir": str(minion.state_dir)})
    roles = {
        "web": {"minions": ["web*"], "settings": {"sshd": {"max_sessions": 4}}},
        "jump-host": {"settings": {"sshd": {"tcp_forwarding": "local"}}},
        "database": {"minions": ["db*"], "settings": {"sshd": {"max_sessions": 1}}},
    }
    minion.pillar({"roles": roles})

    settings = minion.run("hardening.settings", "sshd")
    assert (settings["max_sessions"], settings["tcp_forwarding"]) == (4, "local")
    assert minion.run("hardening.validate")["roles"] == ["web", "jump-host"]


def test_the_catalogue_lists_every_promise(shared_minion: Minion) -> None:
    controls = shared_minion.run("hardening.controls")

    assert list(dict.fromkeys(control["family"] for control in controls)) == FAMILIES
    for control in controls:
        assert control["title"] and control["rationale"] and control["references"]
    critical = shared_minion.run("hardening.controls", families="sample", severity="critical")
    assert [control["id"] for control in critical] == ["SAMPLE-002", "SAMPLE-005"]


def test_the_rest_of_the_module_hardening(shared_minion: Minion) -> None:
    caller = shared_minion.caller()

    assert caller.cmd("hardening.version") == __version__
    assert caller.cmd("hardening.families") == FAMILIES
    assert caller.cmd("hardening.guarded", "sample") == ["SAMPLE-005"]
    found = caller.cmd("hardening.validate")
    undeclared = [text.split(" ", 1)[0] for text in found.pop("warnings")]
    assert undeclared == ["hardening:networks:management", "hardening:accounts:administrators"]
    assert found == {"valid": True, "problems": [], "roles": [], "waivers": {}}


def test_waivers_say_how_long_they_last(minion: Minion, today: dt.date) -> None:
    in_ten_days = today + dt.timedelta(days=10)
    waiver = {"reason": "a plan", "owner": "web", "approver": "security"}
    minion.pillar({"waivers": {"SAMPLE-001": {**waiver, "expires": in_ten_days}}})
    minion.host()

    assert minion.run("hardening.waivers") == {
        "SAMPLE-001": {**waiver, "expires": in_ten_days.isoformat(), "days_left": 10}
    }
    assert minion.run("drift.controls")["SAMPLE-001"] == "waived"


def test_prepare_keeps_the_settings_without_secrets_for_root_alone(minion: Minion) -> None:
    assert minion.run("hardening.prepare") == dict.fromkeys(FAMILIES, True)

    snapshot = minion.state_dir / "settings-base.json"
    assert stat.S_IMODE(snapshot.stat().st_mode) == 0o600
    assert "a-secret" not in snapshot.read_text()
    kept = json.loads(snapshot.read_text())
    assert kept["version"] == __version__ and list(kept["families"]) == FAMILIES


def test_the_report_counts_lists_and_sets_the_return_code(minion: Minion) -> None:
    minion.host(greeting="hello", password="a-secret", door="closed", kernel="new")
    caller = minion.caller()
    report = caller.cmd("drift.report", families="sample")

    assert [finding["id"] for finding in report["findings"]] == ["SAMPLE-003"]
    assert (report["settings"], report["host"]) == ("live", "web1")
    assert report["summary"] == {
        "controls": 5, "ok": 4, "drift": 1, "waived": 0, "skipped": 0, "error": 0,
        "score": 80.0, "worst": "medium",
    }  # fmt: skip
    assert caller.sminion.functions.pack["__context__"]["retcode"] == 2
    everything = caller.cmd("drift.report", families=["sample"], all=True)
    assert len(everything["findings"]) == 5


def test_a_check_that_cannot_run_is_an_error_and_hides_no_other_family(minion: Minion) -> None:
    minion.pillar({}, folder=str(minion.folder / "missing"))
    caller = minion.caller()
    status = caller.cmd("drift.controls")

    assert {status[f"SAMPLE-00{number}"] for number in range(1, 6)} == {"error"}
    assert "error" not in {status["DRIFT-001"], status["DRIFT-002"]}
    assert caller.sminion.functions.pack["__context__"]["retcode"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"families": "shd"}, "families: no family 'shd'; did you mean 'sshd'?"),
        ({"controls": "SAMPLE-01"}, "controls: no control 'SAMPLE-01'; did you mean 'SAMPLE-001'?"),
        ({"severity": "grave"}, "severity: 'grave' is not one of critical, high, medium, low"),
    ],
)
def test_a_report_on_what_does_not_exist_is_an_error(
    shared_minion: Minion, arguments: dict[str, str], message: str
) -> None:
    with pytest.raises(CommandExecutionError, match=re.escape(message)):
        shared_minion.run("drift.report", **arguments)


def test_record_writes_the_full_report_for_agents(minion: Minion) -> None:
    minion.host()
    recorded = minion.run("drift.record")

    last = minion.state_dir / "last.json"
    assert recorded["path"] == str(last)
    assert stat.S_IMODE(last.stat().st_mode) == 0o640
    assert stat.S_IMODE(minion.state_dir.stat().st_mode) == 0o750
    report = json.loads(last.read_text())
    assert report["summary"] == recorded["summary"]
    assert len(report["findings"]) == report["summary"]["controls"]


@pytest.mark.parametrize(
    ("family", "rendered"), [("accounts", "use_pty"), ("sshd", "PermitRootLogin no")]
)
def test_a_family_looks_at_this_machine_without_touching_it(
    shared_minion: Minion, family: str, rendered: str
) -> None:
    caller = shared_minion.caller()
    catalogue = caller.cmd("hardening.controls", families=family)
    findings = caller.cmd(f"{family}.drift")

    assert [finding["id"] for finding in findings] == [control["id"] for control in catalogue]
    for finding in findings:
        assert finding["status"] in ("ok", "drift", "error", "skipped")
        assert finding["status"] == "ok" or finding["reason"]
    assert set(caller.cmd(f"{family}.safe")) == {"safe", "reason"}
    assert rendered in str(caller.cmd(f"{family}.render"))


def test_drift_renders_units_that_run_this_salt_with_this_configuration(minion: Minion) -> None:
    texts = minion.run("drift.render")

    service = texts["/etc/systemd/system/rocksalt-drift.service"]
    assert f"--config-dir={minion.config} " in service
    assert "OnCalendar" in texts["/etc/systemd/system/rocksalt-drift.timer"]


def test_the_whole_baseline_in_test_mode_touches_nothing(minion: Minion) -> None:
    minion.host(greeting="tampered", key="")
    result = states(minion.run("state.apply", "hardening", test=True))

    assert result["this host reports its drift by itself"]["result"] is None
    assert result["the sample is enforced where nobody can be locked out"]["result"] is None
    assert minion.looks == {"greeting": "tampered", "key": ""}
    assert not minion.state_dir.exists()

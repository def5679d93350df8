"""rocksalt.drift: the units, the timer and the age of the last report."""

from __future__ import annotations

import datetime as dt
import grp
import json
import os
import re
import sys

import pytest

from rocksalt import drift
from rocksalt.errors import Refused
from rocksalt.findings import Seen

SETTINGS = {"interval": 60, "jitter": 300}
SERVICE, TIMER = (
    "/etc/systemd/system/rocksalt-drift.service",
    "/etc/systemd/system/rocksalt-drift.timer",
)
SHOW = "systemctl show rocksalt-drift.service rocksalt-drift.timer"
RUNNING = f"""\
ActiveState=inactive
UnitFileState=static
NeedDaemonReload=no
FragmentPath={SERVICE}
DropInPaths=

ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no
FragmentPath={TIMER}
DropInPaths=
"""
DROP_IN = f"{SERVICE}.d/x.conf"
OVERRIDDEN = RUNNING.replace("DropInPaths=\n", f"DropInPaths={DROP_IN}\n", 1)
ASKED = (
    *SHOW.split(),
    *("-p", "ActiveState,UnitFileState,NeedDaemonReload,FragmentPath,DropInPaths"),
)
STATE = "/var/lib/rocksalt"


@pytest.fixture
def texts():
    return drift.units(SETTINGS, "/etc/salt")


@pytest.fixture
def healthy(host, texts):
    for path, text in texts.items():
        host.put(path, text)
    host.answer(SHOW, RUNNING)
    host.put(f"{STATE}/last.json", report(minutes=5))
    return host


def report(minutes: float) -> str:
    time = dt.datetime.now(dt.timezone.utc) - dt.timedelta(minutes=minutes)
    return json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ")})


def differing(host, texts, outdated=False) -> dict[str, str]:
    """Control id -> reason, of those that are not as expected."""
    look = drift.look(host, STATE)
    want, seen = drift.expected(SETTINGS, texts), drift.actual(look, SETTINGS, texts, outdated)
    assert want.keys() == seen.keys()
    return {i: seen[i].reason for i in want if want[i] != seen[i].actual}


def test_as_expected(healthy, texts):
    assert differing(healthy, texts) == {}


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (lambda h: h.remove(TIMER), {"DRIFT-002": f"{TIMER} does not exist"}),
        (
            lambda h: h.put(SERVICE, "[Service]\nExecStart=/bin/true\n"),
            {"DRIFT-002": f"{SERVICE} was edited"},
        ),
        (lambda h: h.answer(SHOW, RUNNING.replace("=active", "=failed")), {"DRIFT-001": ""}),
        (lambda h: h.answer(SHOW, RUNNING.replace("enabled", "disabled")), {"DRIFT-001": ""}),
        (lambda h: h.answer(SHOW, RUNNING.replace("=no", "=yes", 1)), {"DRIFT-001": ""}),
        (lambda h: h.answer(SHOW, RUNNING.replace("=no", "=yes")), {"DRIFT-001": ""}),
        (
            lambda h: h.answer(SHOW, OVERRIDDEN),
            {"DRIFT-002": f"{DROP_IN} overrides rocksalt-drift"},
        ),
        (
            lambda h: h.answer(SHOW, RUNNING.replace(TIMER, "/run/systemd/other.timer")),
            {"DRIFT-002": "/run/systemd/other.timer overrides rocksalt-drift"},
        ),
        (lambda h: h.answer(SHOW, "", status=1), {"DRIFT-001": ""}),
        (
            lambda h: h.remove(f"{STATE}/last.json"),
            {"DRIFT-003": "there is no last report, so agents that read it see nothing"},
        ),
        (
            lambda h: h.put(f"{STATE}/last.json", report(minutes=126)),
            {"DRIFT-003": "the last report is 126 minutes old"},
        ),
        (
            lambda h: h.put(f"{STATE}/last.json", report(minutes=-6)),
            {
                "DRIFT-003": "the last report is from the future: the clock was set back, or it "
                "was forged"
            },
        ),
    ],
)
def test_must_change(healthy, texts, change, reasons):
    change(healthy)
    assert differing(healthy, texts) == reasons


@pytest.mark.parametrize("minutes", [124, 0, -4])
def test_recent_enough(healthy, texts, minutes):
    healthy.put(f"{STATE}/last.json", report(minutes))
    assert differing(healthy, texts) == {}


@pytest.mark.parametrize(
    ("interval", "jitter", "minutes"), [(240, 300, 485), (5, 0, 10), (60, 61, 122), (1440, 0, 2880)]
)
def test_a_report_may_be_as_old_as_two_intervals(interval, jitter, minutes):
    expected = drift.expected({"interval": interval, "jitter": jitter}, {})
    assert expected["DRIFT-003"] == f"at most {minutes} minutes old"


@pytest.mark.parametrize(
    "drop_in",
    [
        "/run/systemd/system/service.d/zzz-lxc-service.conf",
        "/usr/lib/systemd/system/timer.d/x.conf",
    ],
)
def test_a_drop_in_for_every_service_is_not_about_ours(healthy, texts, drop_in):
    healthy.answer(SHOW, RUNNING.replace("DropInPaths=", f"DropInPaths={drop_in}"))
    assert differing(healthy, texts) == {}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"time": 5}', '{"time": null}', '{"time": "now"}',
     '{"time": "2026-01-01T00:00:00"}'],
)  # fmt: skip
def test_a_report_that_cannot_be_read_is_none(healthy, texts, text):
    healthy.put(f"{STATE}/last.json", text)
    assert list(differing(healthy, texts)) == ["DRIFT-003"]


def test_a_report_from_before_a_change_is_outdated(healthy, texts):
    assert differing(healthy, texts, outdated=True) == {
        "DRIFT-003": "the host was changed after the last report was made"
    }


@pytest.mark.parametrize(
    ("minutes", "calendar"),
    [(5, "*:0/5"), (59, "*:0/59"), (60, "0/1:00"), (360, "0/6:00"), (1440, "daily")],
)
def test_the_timer(minutes, calendar):
    text = drift.units({**SETTINGS, "interval": minutes}, "/etc/salt")[TIMER]
    assert f"\nOnCalendar={calendar}\nRandomizedDelaySec=300\nPersistent=true\n" in text
    assert "\nWantedBy=timers.target\n" in text


def test_the_service_runs_without_the_master(texts):
    (command,) = re.findall(r"^ExecStart=(.*)$", texts[SERVICE], re.MULTILINE)
    assert command == (f"{drift.salt_call()} --local --config-dir=/etc/salt drift.record")
    assert "\nSuccessExitStatus=1 2 3\n" in texts[SERVICE], "drift is no failure of the service"


def test_salt_call_of_the_salt_that_runs(tmp_path, monkeypatch):
    program = tmp_path / "bin/salt-minion"
    program.parent.mkdir()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python/bin/python3"))
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert drift.salt_call() == "/usr/bin/salt-call"
    (tmp_path / "bin/salt-call").touch()
    assert drift.salt_call() == "/usr/bin/salt-call", "it is no program"
    (tmp_path / "bin/salt-call").chmod(0o755)
    assert drift.salt_call() == str(tmp_path / "bin/salt-call")


def test_record_closes_the_folder(host, monkeypatch):
    entry = grp.struct_group(("nagios", "x", 1, []))
    monkeypatch.setattr(grp, "getgrnam", lambda name: entry)
    secured = []
    monkeypatch.setattr(host, "secure", lambda *arguments: secured.append(arguments))
    assert drift.record(host, STATE, "{}") == f"{STATE}/last.json"
    assert host.read(f"{STATE}/last.json") == "{}"
    assert secured == [
        (STATE, "root", "nagios", "0750"),
        (f"{STATE}/last.json", "root", "nagios", "0640"),
    ]


def test_record_without_a_monitoring_agent(host, monkeypatch):
    def nobody(name):
        raise KeyError(name)

    monkeypatch.setattr(grp, "getgrnam", nobody)
    drift.record(host, STATE, "old")
    drift.record(host, STATE, "new")
    assert host.read(f"{STATE}/last.json") == "new"
    assert host.attributes(STATE).access == "root:root 0750"
    assert host.attributes(f"{STATE}/last.json").mode == "0640"
    assert os.listdir(host.path(STATE)) == ["last.json"]


def test_enforce_tells_systemd_every_time(host, texts):
    host.answer("systemctl")
    for _ in range(2):
        host.ran.clear()
        drift.enforce(host, texts)
        assert host.ran == [
            ("systemctl", "daemon-reload"),
            ASKED,
            ("systemctl", "enable", "--quiet", "rocksalt-drift.timer"),
            ("systemctl", "restart", "rocksalt-drift.timer"),
        ]
    assert {path: host.read(path) for path in texts} == texts


def test_enforce_moves_away_what_overrides_our_units(healthy, texts):
    healthy.answer("systemctl")
    healthy.answer(SHOW, OVERRIDDEN)
    healthy.put(DROP_IN, "[Service]\nExecStart=/bin/true\n")
    drift.enforce(healthy, texts)
    assert healthy.glob(f"{SERVICE}.d/*") == [f"{DROP_IN}.disabled-by-rocksalt"]
    assert [command[1] for command in healthy.ran] == [
        *("daemon-reload", "show", "daemon-reload", "enable", "restart")
    ]


def test_a_drop_in_that_systemd_has_not_read_yet(healthy, texts):
    healthy.put(DROP_IN, "[Service]\n")
    assert differing(healthy, texts) == {"DRIFT-002": f"{DROP_IN} overrides rocksalt-drift"}


def test_drop_ins_from_elsewhere_and_with_a_blank(healthy, texts):
    paths = ["/run/systemd/system/rocksalt-.service.d/p.conf", f"{TIMER}.d/x y.conf"]
    healthy.answer("systemctl")
    for path in paths:
        healthy.put(path)
    shown = f'DropInPaths={paths[0]} "{paths[1]}"\n'
    healthy.answer(SHOW, RUNNING.replace("DropInPaths=\n", shown, 1))
    assert sorted(drift.look(healthy, STATE).overrides) == sorted(paths)
    drift.enforce(healthy, texts)
    assert [healthy.read(path) for path in paths] == [None, None]
    assert [healthy.read(f"{path}.disabled-by-rocksalt") for path in paths] == ["", ""]


def test_enforce_leaves_the_files_of_other_units(healthy, texts):
    other = "/usr/lib/systemd/system/ssh.service"
    healthy.answer("systemctl")
    healthy.answer(SHOW, RUNNING.replace(SERVICE, other))
    healthy.put(other, "[Service]\n")
    drift.enforce(healthy, texts)
    assert healthy.read(other) == "[Service]\n"
    assert "DRIFT-002" in differing(healthy, texts)


def test_enforce_replaces_a_link_to_another_unit(healthy, texts):
    healthy.answer("systemctl")
    healthy.rename(SERVICE, "/opt.service")
    healthy.path(SERVICE).symlink_to(healthy.path("/opt.service"))
    drift.enforce(healthy, texts)
    assert not healthy.path(SERVICE).is_symlink()


def test_enforce_refuses_when_systemd_does(host, texts):
    host.answer("systemctl daemon-reload")
    host.answer("systemctl enable", status=1, err="Unit file\nis masked.\n")
    with pytest.raises(Refused) as caught:
        drift.enforce(host, texts)
    assert str(caught.value) == (
        "systemctl enable --quiet rocksalt-drift.timer: Unit file is masked."
    )


def test_clean_takes_the_units_and_leaves_the_reports(healthy):
    healthy.answer("systemctl")
    assert sorted(drift.leftovers(healthy)) == [SERVICE, TIMER]
    drift.clean(healthy)
    assert drift.leftovers(healthy) == []
    assert healthy.read(f"{STATE}/last.json")
    assert healthy.ran[-2:] == [
        ("systemctl", "disable", "--now", "--quiet", "rocksalt-drift.timer"),
        ("systemctl", "daemon-reload"),
    ]


def test_a_timer_that_systemd_does_not_know(host):
    host.answer(
        SHOW,
        "NeedDaemonReload=no\nFragmentPath=\n\n"
        "ActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no\nFragmentPath=\n",
    )
    found = drift.look(host, STATE)
    assert found.timer == {"timer": "inactive", "at boot": "not there", "as on disk": True}
    assert found.overrides == []
    assert found.age is None
    assert isinstance(drift.actual(found, SETTINGS, {}, False)["DRIFT-001"], Seen)

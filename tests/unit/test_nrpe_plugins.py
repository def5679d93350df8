"""rocksalt.nrpe.plugins: what they print and exit with, and as programs of their own."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import subprocess
import sys

import pytest

from rocksalt import __version__
from rocksalt.nrpe import shipped
from rocksalt.nrpe.plugins import drift, luks, ossec, plugin

LINE = re.compile(r"[A-Z]+ (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+( \| (\S+=\S+ ?)+)?\n")
FIGURE = re.compile(r"[a-z_]+=-?[0-9.]+(s|%|B)?(;[0-9.]*){0,4}")
STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


NOW = dt.datetime.now(dt.timezone.utc)


def ago(**how: float) -> str:
    then = NOW - dt.timedelta(**how)
    return then.strftime("%Y-%m-%dT%H:%M:%SZ")


def finding(identifier: str, severity: str, status: str = "ok", family: str = "sshd") -> dict:
    return {
        "id": identifier, "family": family, "severity": severity, "status": status,
        "reason": "it | is\nso",
    }  # fmt: skip


def report(*findings: dict, **other: object) -> dict:
    return {
        "schema": 1, "host": "web1", "time": ago(minutes=12), "settings": "live",
        "summary": {"score": 97.4},
        "findings": [finding("SSHD-001", "high"), *findings], **other,
    }  # fmt: skip


def agent(**other: object) -> dict:
    names = ("ossec-execd", "ossec-agentd", "ossec-logcollector", "ossec-syscheckd")
    return {
        "schema": 1, "time": ago(seconds=30), "daemons": dict.fromkeys(names, True),
        "connected": True, "why": "", "server": "10.0.0.1", "answered_within": 180,
        "scanned": ago(hours=3), "scan_due": 43800, **other,
    }  # fmt: skip


@pytest.fixture
def check(tmp_path, capsys, monkeypatch):
    """Runs a plugin on a report; state and line."""
    monkeypatch.setattr(plugin, "_now", lambda: NOW)

    def call(module, content, *options, status=None) -> tuple[str, str]:
        path = tmp_path / "last.json"
        if content is not None:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        words = ["--report", str(path), *options]
        if module is ossec:
            if status is not None:
                (tmp_path / "status.json").write_text(json.dumps(status))
            words += ["--status", str(tmp_path / "status.json")]
        code = module.main(words)
        line = capsys.readouterr().out
        assert LINE.fullmatch(line), line
        for figure in line.partition(" | ")[2].split():
            assert FIGURE.fullmatch(figure), figure
        assert f" {STATES[code]} - " in line
        return STATES[code], line

    return call


LOW = finding("A-001", "low", "drift")
MEDIUM = finding("A-002", "medium", "drift")
CRITICAL = finding("A-003", "critical", "drift")
ERROR = finding("A-004", "low", "error")
FINE = [finding("B-001", "high", "waived"), finding("B-002", "critical", "skipped")]


@pytest.mark.parametrize(
    ("findings", "options", "state", "words"),
    [
        ([], [], "OK", "1 of 1 controls hold; reported 12 min ago"),
        (FINE, [], "OK", "1 of 3 controls hold"),
        ([LOW], [], "WARNING", "1 of 2 controls drifted: A-001 (low)"),
        ([MEDIUM, LOW], [], "WARNING", "2 of 3 controls drifted: A-002 (medium), A-001 (low)"),
        ([LOW, CRITICAL], [], "CRITICAL", "A-003 (critical), A-001 (low)"),
        ([MEDIUM], ["-w", "high"], "OK", "1 of 2 controls drifted"),
        ([MEDIUM], ["-c", "medium"], "CRITICAL", "A-002 (medium)"),
        ([MEDIUM], ["--warning=low", "--critical=critical"], "WARNING", "A-002"),
        ([ERROR], [], "UNKNOWN", "1 could not be checked: A-004 (low)"),
        ([ERROR, LOW], [], "UNKNOWN", "could not be checked"),
        ([ERROR, CRITICAL], [], "CRITICAL", "A-003 (critical)"),
        ([{**LOW, "id": f"A-{n:03}"} for n in range(9)], [], "WARNING", "and 4 more"),
    ],
)
def test_the_worst_counts(check, findings, options, state, words):
    found, line = check(drift, report(*findings), *options)
    assert found == state
    assert words in line


def test_figures(check):
    findings = [LOW, MEDIUM, MEDIUM, CRITICAL, ERROR, *FINE]
    figures = check(drift, report(*findings))[1].partition(" | ")[2].split()
    assert figures[:8] == [
        *("score=97.4%;;;0;100", "drift=4;;;0", "critical=1;;;0", "high=0;;;0", "medium=2;;;0"),
        *("low=1;;;0", "error=1;;;0", "waived=1;;;0"),
    ]
    assert re.fullmatch(r"age=72\ds;9000", figures[8])


UNKNOWN = {
    "no report": (None, [], "there is no drift report: "),
    "damaged": ("{", [], "is damaged"),
    "deep": ("[" * 100_000, [], "what was read is damaged: RecursionError"),
    "something else": ("[]", [], "is no drift report of schema 1"),
    "another schema": (report(schema=2), [], "is no drift report of schema 1"),
    "stale": (report(time=ago(hours=3)), [], "the last drift report is 3 h old"),
    "stale by option": (report(), ["--max-age", "600"], "the last drift report is 12 min old"),
    "from the future": (report(time=ago(minutes=-10)), [], "is from the future"),
    "no time": (report(time="yesterday"), [], "does not say when it was made"),
    "old settings": (
        report(settings="cached", settings_age=31 * 86400),
        [],
        "judges by settings that are 31 days old",
    ),
    "old settings by option": (
        report(settings="cached", settings_age=2 * 86400),
        ["--max-settings-age", "1"],
        "judges by settings that are 2 days old",
    ),
    "no findings": (report(findings=[]), [], "says nothing of any family"),
    "findings that are none": (report(findings=[{"a": 1}]), [], "what was read is damaged"),
    "an unheard-of severity": (report(finding("A-1", "dire")), [], "what was read is damaged"),
    "findings that are no list": (report(findings=5), [], "what was read is damaged"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_nothing_can_be_told(check, name):
    content, options, words = UNKNOWN[name]
    state, line = check(drift, content, *options)
    assert (state, words in line) == ("UNKNOWN", True), line


def test_cached_settings_are_usual(check):
    cached = report(settings="cached", settings_age=29 * 86400)
    assert check(drift, cached)[0] == "OK"


def test_a_file_that_is_none(check, tmp_path):
    (tmp_path / "last.json").mkdir()
    state, line = check(drift, None)
    assert (state, "cannot be read: Is a directory" in line) == ("UNKNOWN", True)


def test_one_family(check):
    findings = [finding("LUKS-001", "critical", "drift", "luks"), CRITICAL]
    state, line = check(luks, report(*findings))
    assert state == "CRITICAL"
    assert "1 of 1 controls drifted: LUKS-001 (critical)" in line
    assert "A-003" not in line and "score" not in line
    state, line = check(luks, report())
    assert (state, "says nothing of luks" in line) == ("UNKNOWN", True)


# OSSEC --------------------------------------------------------------------------------------------

HOLDS = report(finding("OSS-002", "high", "ok", "ossec"))
UNWATCHED = report(finding("OSS-001", "high", "drift", "ossec"))
AGENTS = {
    "all well": (HOLDS, agent(), "OK", "10.0.0.1 answered in the last 3 min; last scan 3 h ago"),
    "not connected": (
        HOLDS,
        agent(connected=False, why="Waiting for server reply"),
        "CRITICAL",
        "not connected: Waiting for server reply",
    ),
    "a daemon is dead": (
        HOLDS,
        agent(daemons={"ossec-syscheckd": False, "ossec-agentd": True}),
        "CRITICAL",
        "not running: ossec-syscheckd",
    ),
    "no responses": (HOLDS, agent(daemons={"ossec-execd": False}), "OK", "answered"),
    "no scan": (HOLDS, agent(scanned=None), "WARNING", "no scan has ended yet"),
    "an old scan": (HOLDS, agent(scanned=ago(hours=13)), "WARNING", "last scan 13 h ago"),
    "no status": (HOLDS, None, "UNKNOWN", "there is no status of the OSSEC agent"),
    "an old status": (HOLDS, agent(time=ago(minutes=6)), "UNKNOWN", "the agent is 6 min off"),
    "drift": (
        report(finding("OSS-003", "critical", "drift", "ossec")),
        agent(),
        "CRITICAL",
        "OSS-003 (critical)",
    ),
    "no server": (UNWATCHED, None, "CRITICAL", "OSS-001 (high)"),
    "no server by decision": (
        report(finding("OSS-001", "high", "skipped", "ossec")),
        None,
        "OK",
        "OSSEC OK - none of its controls applies; reported",
    ),
    "no server for a time": (
        report(finding("OSS-001", "high", "waived", "ossec")),
        None,
        "OK",
        "none of its controls applies",
    ),
    "an old report": (report(time=ago(days=2)), agent(), "UNKNOWN", "2 days old"),
    "an old report of a dead agent": (
        report(time=ago(days=2)),
        agent(connected=False, why="x"),
        "CRITICAL",
        "not connected: x",
    ),
    "a damaged status": (HOLDS, {"schema": 1, "time": ago(seconds=1)}, "UNKNOWN", "is damaged"),
}


@pytest.mark.parametrize("name", AGENTS)
def test_agents(check, name):
    content, status, state, words = AGENTS[name]
    found, line = check(ossec, content, status=status)
    assert (found, words in line) == (state, True), line


def test_figures_of_an_agent(check):
    line = check(ossec, HOLDS, status=agent())[1]
    assert " | connected=1;;;0;1 scan_age=108" in line


# The standard form --------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [drift, luks, ossec])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--help"], "--critical SEVERITY"),
        (["-h"], "usage: check_"),
        (["-V"], __version__),
        (["--nonsense"], "UNKNOWN - unrecognized arguments: --nonsense; see check_"),
        (["-w", "critical"], "UNKNOWN - -w critical is worse than -c high"),
        (["-c", "5"], "UNKNOWN - argument -c/--critical: invalid choice: '5'"),
        (["-t", "0"], "UNKNOWN - argument -t/--timeout: '0' is not a number of seconds"),
        (["--max-age", "x"], "UNKNOWN - argument --max-age: invalid int value: 'x'"),
    ],
)
def test_help_and_mistakes_are_unknown(capsys, module, options, words):
    with pytest.raises(SystemExit) as stopped:
        module.main(options)
    assert stopped.value.code == 3
    assert words in capsys.readouterr().out


def test_a_bar_does_not_begin_figures():
    told = [plugin.Told(1, "a | b\nc", ("x=1",)), plugin.Told(0, "")]
    assert plugin.line("IT", 1, told) == "IT WARNING - a / b c | x=1\n"


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The plugins as files that are run, without anything of the project beside them."""
    folder = tmp_path_factory.mktemp("plugins")
    found = {}
    for path, text in shipped.programs(sys.executable).items():
        program = folder / os.path.basename(path)
        program.write_bytes(text.encode(errors="surrogateescape"))
        program.chmod(0o755)
        found[program.name] = program
    return found


def test_programs_of_their_own(programs, tmp_path):
    assert set(programs) == {"check_salt_drift", "check_luks", "check_ossec"}
    (tmp_path / "last.json").write_text(json.dumps(report(CRITICAL)))
    command = [programs["check_salt_drift"], "--report", tmp_path / "last.json"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd="/", env={})
    assert (ran.returncode, ran.stderr) == (2, "")
    assert LINE.fullmatch(ran.stdout)


def test_a_plugin_gives_up(programs, tmp_path):
    """A file of which nothing comes: the timeout has its say."""
    os.mkfifo(tmp_path / "last.json")
    command = [programs["check_luks"], "--report", tmp_path / "last.json", "-t", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd="/", env={})
    assert (ran.returncode, ran.stdout) == (3, "LUKS UNKNOWN - not done in 1 s\n")


def test_a_plugin_needs_the_standard_library_alone(programs):
    """``-I`` and an empty path: no packages are there to be found."""
    code = "import sys; sys.path = [p for p in sys.path if 'packages' not in p]; "
    code += "sys.path.insert(0, sys.argv[1]); import rocksalt.nrpe.plugins.ossec as it; it.main"
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(programs["check_ossec"])], capture_output=True
    )
    assert ran.returncode == 0, ran.stderr

"""Whether the agent sees what it shall: files, logs, and what the server takes away from that."""

from __future__ import annotations

from rocksalt.errors import Refused
from rocksalt.findings import Seen, some
from rocksalt.ossec import CONF, SYSCHECKD, controls, state, watched
from rocksalt.ossec.facts import Checks, Facts, listed, nothing

_GRACE, _CLOCK = 7200, 300


def _scanned_expected(it: Facts) -> str:
    return f"at most {state.scan_due(it.settings['frequency']) // 60} minutes ago"


def _scanned_seen(it: Facts) -> Seen:
    age = state.since(it.status["scanned"], it.now)
    due = it.status["scan_due"]
    if age is not None and age < -_CLOCK:
        return Seen("in the future", "the last scan is said to end later than now")
    if age is not None and age <= due:
        return Seen(_scanned_expected(it))
    started = it.daemons[SYSCHECKD]
    if started is not None and it.now - started < min(due, _GRACE):
        minutes = (it.now - started) / 60
        why = f"{SYSCHECKD} runs for {minutes:.0f} minutes and has not ended a scan yet"
        return Seen(problem="skipped", reason=why)
    if age is None:
        return Seen("never", "no scan is known to have ended")
    return Seen(f"{age / 60:.0f} minutes ago", f"the last scan ended {age / 60:.0f} minutes ago")


def _covered_seen(it: Facts) -> Seen:
    text, shared = it.host.read(CONF), it.host.read(watched.AGENT_CONF)
    try:
        sections = watched.in_force(text, shared, it.agent)
    except Refused as error:
        return Seen(problem="error", reason=str(error))
    disabled = [s for s in sections if s.name == "syscheck" and s.value("disabled") == "yes"]
    found = ["the scan is disabled"] if disabled else watched.uncovered(sections, it.host)
    return listed(found)


def _handed_out_seen(it: Facts) -> Seen:
    try:
        return listed(watched.handed_out(it.host.read(watched.AGENT_CONF), it.agent))
    except Refused as error:
        return Seen(problem="error", reason=str(error))


def _logs_seen(it: Facts) -> Seen:
    found = it.status["unread"]
    return listed(found, some(f"the agent has given up reading {log}" for log in found))


CHECKS: Checks = {
    controls.SCANNED: (_scanned_expected, _scanned_seen),
    controls.COVERED: (nothing, _covered_seen),
    controls.HANDED_OUT: (nothing, _handed_out_seen),
    controls.LOGS: (nothing, _logs_seen),
}

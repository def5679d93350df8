"""The running agent: its daemons, the server, its configuration, and its key."""

from __future__ import annotations

from typing import Any

from rocksalt import systemd
from rocksalt.errors import Refused
from rocksalt.findings import AS_RENDERED, Seen, compared, some
from rocksalt.ossec import CONF, STATUS, TOP, conf, controls, enrolment, files, state
from rocksalt.ossec.facts import Checks, Facts, amiss, files_seen, files_wanted

_STALE = 300


def _running_expected(it: Facts) -> dict[str, Any]:
    return {**dict.fromkeys(it.needed, "runs"), "at boot": "enabled"}


def _running_seen(it: Facts) -> Seen:
    actual = {name: "runs" if it.daemons[name] else "does not run" for name in it.needed}
    known = systemd.units(it.host, [it.unit]).get(it.unit, {}) if it.unit else {}
    boot = known.get("UnitFileState") or "not there"
    actual["at boot"] = "enabled" if boot == "generated" else boot  # by a script of System V
    dead = [name for name in it.needed if not it.daemons[name]]
    why = [f"{' and '.join(dead)} {'does' if len(dead) == 1 else 'do'} not run"] if dead else []
    if dead and it.key is None:
        why.append("this host has never enrolled, and cannot run them without a key")
    if actual["at boot"] != "enabled":
        why.append(f"{it.unit or 'the agent'} does not start at boot")
    return Seen(actual, some(why))


def _connected_expected(it: Facts) -> str:
    within = state.LOST_AFTER * it.settings["notify_time"]
    return f"connected: a server answered at most {within} s ago"


def _connected_seen(it: Facts) -> Seen:
    if it.status["connected"]:
        return Seen(_connected_expected(it))
    return Seen("not connected", it.status["why"])


def _configured_expected(it: Facts) -> dict[str, Any]:
    return {CONF: AS_RENDERED, "differences": [], "faults": [], "in force": True}


def _configured_seen(it: Facts) -> Seen:
    text, wanted = it.host.read(CONF), it.render()
    content = compared(text, wanted)
    found, faults = [], []
    if text is not None and content != AS_RENDERED:
        faults = conf.faults(text)
        try:
            found = conf.differences(conf.flat(conf.parse(text)), conf.flat(conf.parse(wanted)))
        except Refused:
            found = []
    why = [f"{CONF} {content}"] if content != AS_RENDERED else []
    why += [*found, *faults, *(f"{name} runs on an older one" for name in it.late)]
    actual = {CONF: content, "differences": found, "faults": faults, "in force": not it.late}
    return Seen(actual, some(why))


def _enrolled_expected(it: Facts) -> dict[str, Any]:
    return {"name": it.declared.name, "faults": []}


def _enrolled_seen(it: Facts) -> Seen:
    faults = enrolment.faults(it.declared, it.key, it.note)
    hand = enrolment.by_hand(it.declared, it.key, it.note) if faults else ""
    if hand and it.adoptable:
        hand = ""
    actual = {"name": it.key.name if it.key else None, "faults": faults}
    return Seen(actual, some([*faults, hand] if hand else faults), remedy="manual" if hand else "")


def _verified_seen(it: Facts) -> Seen:
    if it.note.verified and it.key:
        return Seen("by its certificate")
    why = f"{TOP}:enrolment_ca is empty" if not it.settings["enrolment_ca"] else ""
    why = why or "this host enrolled before hardening:ossec:enrolment_ca was given"
    return Seen("not at all", f"{why}; give it and run ossec.enrol, after removing the agent there")


def _noted_expected(it: Facts) -> dict[str, Any]:
    wanted = files_wanted(files.units())
    return {**wanted, "overrides": [], "timer": "active, enabled", "status": "recent"}


def _noted_seen(it: Facts) -> Seen:
    found = files_seen(it.host, files.units())
    why = [*amiss(found, files.units())]
    actual: dict[str, Any] = {**found, "overrides": systemd.overrides(it.host, files.units())}
    why += [f"{path} overrides our unit" for path in actual["overrides"]]
    timer = f"{files.UNIT}.timer"
    actual["timer"] = systemd.state(systemd.units(it.host, [timer]).get(timer, {}))
    if actual["timer"] != "active, enabled":
        why.append(f"{timer} is {actual['timer']}")
    age = state.since(state.read(str(it.host.path(STATUS))).get("time"), it.now)
    actual["status"] = "recent" if age is not None and -_STALE < age < _STALE else "old"
    if actual["status"] == "old":
        why.append(f"{STATUS} is {'missing' if age is None else f'{age:.0f} s old'}")
    return Seen(actual, some(why))


CHECKS: Checks = {
    controls.RUNNING: (_running_expected, _running_seen),
    controls.CONNECTED: (_connected_expected, _connected_seen),
    controls.CONFIGURED: (_configured_expected, _configured_seen),
    controls.ENROLLED: (_enrolled_expected, _enrolled_seen),
    controls.VERIFIED: (lambda it: "by its certificate", _verified_seen),
    controls.NOTED: (_noted_expected, _noted_seen),
}

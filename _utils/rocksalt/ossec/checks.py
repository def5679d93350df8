"""What each control of the family expects, and what was seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from rocksalt import systemd
from rocksalt.errors import Refused
from rocksalt.findings import AS_RENDERED, Seen, compared
from rocksalt.host import Host
from rocksalt.ossec import (
    AGENTD,
    CONF,
    DAEMONS,
    EXECD,
    HOME,
    KEYS,
    OPTIONS,
    ORIGINALS,
    RESPONSES,
    STATUS,
    SYSCHECKD,
    TOP,
    bans,
    conf,
    enrolment,
    files,
    installed,
    repository,
    state,
    watched,
)
from rocksalt.ossec.declared import Declared, facts, rendered

WATCHED, RUNNING, CONNECTED, CONFIGURED, ENROLLED, VERIFIED = (
    *("OSS-001", "OSS-002", "OSS-003", "OSS-004", "OSS-005", "OSS-006"),
)
SCANNED, COVERED, HANDED_OUT, UNCHANGED, ACCESS, GUARDED = (
    *("OSS-007", "OSS-008", "OSS-009", "OSS-010", "OSS-011", "OSS-012"),
)
UNBANNED, NOTED, NO_COMMANDS, SIGNED = "OSS-013", "OSS-014", "OSS-015", "OSS-016"
LOGS = "OSS-017"
UNITS = ("ossec-agent.target", "ossec-hids-agent.service", "ossec-hids.service", "ossec.service")
"""What starts all daemons, by whichever name the package has; the first one that is there."""
DIVERSIONS = "/var/lib/dpkg/diversions"
_SHOWN = 4
_STALE = 300
_GRACE = 7200


class Ossec:
    """The comparison for one host: settings in, expected and seen values out. ``now`` is in seconds
    since 1970.
    """

    def __init__(self, declared: Declared, host: Host, now: float):
        self.declared = declared
        self.settings: Mapping[str, Any] = declared.settings
        self.host = host
        self.now = now

    @cached_property
    def version(self) -> str:
        """The agent's version, empty where it is not installed."""
        return installed.version(self.host)

    @cached_property
    def package(self) -> str:
        return repository.package(self.declared)

    @cached_property
    def build(self) -> str:
        return installed.build(self.host, self.package)

    @cached_property
    def status(self) -> dict[str, Any]:
        """How the agent does now."""
        before = state.read(str(self.host.path(STATUS)))
        return state.look(self.declared.program(), self.now, before, self.host.root)

    @cached_property
    def daemons(self) -> dict[str, float | None]:
        return state.daemons(self.host.root)

    @property
    def needed(self) -> list[str]:
        """The daemons that have to run; the one for responses ends by itself where none are."""
        return [name for name in DAEMONS if name != EXECD or self.settings["active_response"]]

    @cached_property
    def unit(self) -> str:
        """What starts the agent; empty where nothing of systemd does."""
        known = systemd.units(self.host, UNITS)
        return next((name for name in UNITS if known.get(name, {}).get("FragmentPath")), "")

    @cached_property
    def key(self) -> enrolment.Key | None:
        return enrolment.key(self.host.read(KEYS))

    @cached_property
    def note(self) -> enrolment.Note:
        return enrolment.note(self.host)

    def render(self) -> str:
        """The agent's configuration."""
        known = facts(self.host, self.settings, installed.numbers(self.version))
        return rendered(self.declared, known)

    def own(self) -> dict[str, tuple[str, str]]:
        """Our program and what it knows of the settings."""
        return files.own(self.declared.program(), self.declared.place.interpreter)

    def scripts(self) -> list[str]:
        """The names of all scripts for responses, before which ours stand."""
        found = [*self.host.glob(f"{RESPONSES}/*"), *self.host.glob(f"{ORIGINALS}/*")]
        names = {path.rpartition("/")[2] for path in found if self.host.path(path).is_file()}
        return sorted(names - {*files.HARMLESS})

    def expected(self) -> dict[str, Any]:
        """Control id -> what it expects."""
        found = {identifier: expect(self) for identifier, (expect, _) in CHECKS.items()}
        return {WATCHED: "a server is declared", **found}

    def seen(self) -> dict[str, Seen]:
        """Control id -> what was seen."""
        if not self.declared.servers:
            why = f"{TOP}:servers is empty: nobody watches this host"
            skipped = Seen(problem="skipped", reason="no OSSEC server is declared (OSS-001)")
            return {
                WATCHED: Seen("nobody watches this host", why),
                **dict.fromkeys(CHECKS, skipped),
            }
        found = {WATCHED: Seen("a server is declared")}
        absent = Seen(None, f"the OSSEC agent is not installed in {HOME}")
        for identifier, (_, look) in CHECKS.items():
            there = self.version or identifier in (SIGNED, UNBANNED, NOTED)
            found[identifier] = look(self) if there else absent
        return found


def some(found: Iterable[object]) -> str:
    """A list as a sentence can carry it."""
    words = [*map(str, found)]
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return "; ".join(words[:_SHOWN]) + more


def _listed(found: Sequence[object], why: str = "") -> Seen:
    """What should be an empty list."""
    return Seen([str(item) for item in found], why or some(found))


# One pair per control: expected(it), seen(it) ----------------------------------------------------


def _running_expected(it: Ossec) -> dict[str, Any]:
    return {**dict.fromkeys(it.needed, "runs"), "at boot": "enabled"}


def _running_seen(it: Ossec) -> Seen:
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


def _connected_expected(it: Ossec) -> str:
    within = state.LOST_AFTER * it.settings["notify_time"]
    return f"connected: a server answered at most {within} s ago"


def _connected_seen(it: Ossec) -> Seen:
    if it.status["connected"]:
        return Seen(_connected_expected(it))
    return Seen("not connected", it.status["why"])


def _configured_expected(it: Ossec) -> dict[str, Any]:
    return {CONF: AS_RENDERED, "differences": [], "faults": [], "in force": True}


def _configured_seen(it: Ossec) -> Seen:
    text, wanted = it.host.read(CONF), it.render()
    content = compared(text, wanted)
    found, faults = [], []
    if text is not None and content != AS_RENDERED:
        faults = conf.faults(text)
        try:
            found = conf.differences(conf.flat(conf.parse(text)), conf.flat(conf.parse(wanted)))
        except Refused:
            found = []
    late = late_daemons(it)
    why = [f"{CONF} {content}"] if content != AS_RENDERED else []
    why += [*found, *faults, *(f"{name} runs on an older one" for name in late)]
    actual = {CONF: content, "differences": found, "faults": faults, "in force": not late}
    return Seen(actual, some(why))


def late_daemons(it: Ossec) -> list[str]:
    """Daemons that started before what they read was written; for the one that speaks with the
    server that is the key, too.
    """
    found = []
    for name in it.needed:
        started = it.daemons[name]
        for path in (CONF, KEYS) if name == AGENTD else (CONF,):
            attributes = it.host.attributes(path)
            if started and attributes and attributes.changed > started:
                found.append(name)
                break
    return found


def enrolment_faults(it: Ossec) -> list[str]:
    """Why this host is not enrolled as it should be."""
    return enrolment.faults(it.declared, it.key, it.note)


def _enrolled_expected(it: Ossec) -> dict[str, Any]:
    return {"name": it.declared.name, "faults": []}


def _enrolled_seen(it: Ossec) -> Seen:
    faults = enrolment_faults(it)
    hand = enrolment.by_hand(it.declared, it.key, it.note) if faults else ""
    if hand and enrolment.adoptable(it.declared, it.key, it.status):
        hand = ""
    actual = {"name": it.key.name if it.key else None, "faults": faults}
    return Seen(actual, some([*faults, hand] if hand else faults), remedy="manual" if hand else "")


def _verified_seen(it: Ossec) -> Seen:
    if it.note.verified and it.key:
        return Seen("by its certificate")
    why = f"{TOP}:enrolment_ca is empty" if not it.settings["enrolment_ca"] else ""
    why = why or "this host enrolled before hardening:ossec:enrolment_ca was given"
    return Seen("not at all", f"{why}; give it and run ossec.enrol, after removing the agent there")


def _scanned_expected(it: Ossec) -> str:
    return f"at most {state.scan_due(it.settings['frequency']) // 60} minutes ago"


def _scanned_seen(it: Ossec) -> Seen:
    age = state.since(it.status["scanned"], it.now)
    due = it.status["scan_due"]
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


def _covered_seen(it: Ossec) -> Seen:
    text, shared = it.host.read(CONF), it.host.read(watched.AGENT_CONF)
    try:
        sections = watched.in_force(text, shared)
    except Refused as error:
        return Seen(problem="error", reason=f"{CONF} cannot be judged: {error}")
    disabled = [s for s in sections if s.name == "syscheck" and s.value("disabled") == "yes"]
    found = ["the scan is disabled"] if disabled else watched.uncovered(sections, it.host)
    return _listed(found)


def _handed_out_seen(it: Ossec) -> Seen:
    return _listed(watched.handed_out(it.host.read(watched.AGENT_CONF)))


def _unchanged_seen(it: Ossec) -> Seen:
    if installed.record(it.host).version != it.build:
        why = "this version has not been written down yet, which state.apply hardening.ossec does"
        return Seen(problem="skipped", reason=why)
    return _listed(installed.changed(it.host, it.package))


def _access_expected(it: Ossec) -> dict[str, Any]:
    return {"written down": it.build, **installed.wanted_access(it.host)}


def _access_seen(it: Ossec) -> Seen:
    wanted, now = installed.wanted_access(it.host), installed.access(it.host)
    why = [f"{p} is {now[p]}, expected {wanted[p]}" for p in now if now[p] != wanted[p]]
    written = installed.record(it.host).version
    if written != it.build:
        why.append(f"how version {it.build} was installed is not written down yet")
    return Seen({"written down": written, **now}, some(why))


def _guarded_expected(it: Ossec) -> dict[str, Any]:
    found = {path: f"{AS_RENDERED}, {rights}" for path, (_, rights) in it.own().items()}
    return {
        **found,
        "scripts": dict.fromkeys(it.scripts(), "behind ours"),
        "management": "declared",
    }


def _guarded_seen(it: Ossec) -> Seen:
    actual: dict[str, Any] = files_seen(it.host, it.own())
    why = [f"{path} is not as rendered" for path, state in actual.items() if not _right(state)]
    actual["scripts"] = {name: script_state(it.host, name) for name in it.scripts()}
    why += [f"{n}: {s}" for n, s in actual["scripts"].items() if s != "behind ours"]
    declared = "management" in it.declared.baseline.networks
    actual["management"] = "declared" if declared else "not declared"
    if not declared:
        lost = "hardening:networks:management is not declared, so administrators may be banned"
        return Seen(actual, some([lost, *why]), remedy="" if why else "manual")
    return Seen(actual, some(why))


def _right(state: str | None) -> bool:
    return bool(state) and str(state).startswith(AS_RENDERED)


def files_seen(host: Host, wanted: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Path -> how a file of ours is, with its access."""
    found: dict[str, Any] = {}
    for path, (text, _) in wanted.items():
        attributes = host.attributes(path, follow=False)
        there = host.read(path)
        found[path] = f"{compared(there, text)}, {attributes.access}" if attributes else None
    return found


def script_state(host: Host, name: str) -> str:
    """Whether our script stands before one of the package's, also after the next upgrade."""
    path, original = f"{RESPONSES}/{name}", f"{ORIGINALS}/{name}"
    text = host.read(path)
    if not files.is_wrapper(path, text):
        return "missing" if text is None else "bans whom it is told to"
    attributes = host.attributes(path, follow=False)
    if attributes is None or attributes.owner != "root" or int(attributes.mode, 8) & 0o022:
        return "others can change it"
    if host.read(original) is None:
        return "the package's script is gone"
    return "behind ours" if path in diverted(host) else "the next upgrade would replace it"


def diverted(host: Host) -> dict[str, str]:
    """Path -> where dpkg puts what a package has for it."""
    lines = (host.read(DIVERSIONS) or "").splitlines()
    triples = zip(lines[::3], lines[1::3], strict=False)
    return {path: to for path, to in triples if to.startswith(f"{ORIGINALS}/")}


def _unbanned_seen(it: Ossec) -> Seen:
    try:
        return _listed(bans.unwanted(it.host, it.declared.never_ban))
    except Refused as error:
        return Seen(problem="error", reason=str(error))


def _noted_expected(it: Ossec) -> dict[str, Any]:
    found = {path: f"{AS_RENDERED}, {rights}" for path, (_, rights) in files.units().items()}
    return {**found, "overrides": [], "timer": "active, enabled", "status": "recent"}


def _noted_seen(it: Ossec) -> Seen:
    actual = files_seen(it.host, files.units())
    why = [f"{path} is not as rendered" for path, state in actual.items() if not _right(state)]
    actual["overrides"] = systemd.overrides(it.host, files.units())
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


def _no_commands_seen(it: Ossec) -> Seen:
    found = [*installed.remote_commands({path: it.host.read(path) for path in OPTIONS})]
    return _listed(found, some(f"{path} allows logcollector.remote_commands" for path in found))


def _signed_expected(it: Ossec) -> dict[str, Any]:
    return dict.fromkeys(repository.files(it.declared), f"{AS_RENDERED}, root:root 0644")


def _signed_seen(it: Ossec) -> Seen:
    wanted = {path: (text, "") for path, text in repository.files(it.declared).items()}
    actual = files_seen(it.host, wanted)
    if it.package and it.settings["repository"] and not wanted:
        why = f"{TOP}:repository_key is empty: {it.package} comes from where apt finds it"
        return Seen("apt's other sources", why, remedy="manual")
    return Seen(
        actual, some(f"{p} is {s or 'missing'}" for p, s in actual.items() if not _right(s))
    )


def _logs_seen(it: Ossec) -> Seen:
    found = it.status["unread"]
    return _listed(found, some(f"the agent has given up reading {log}" for log in found))


def _nothing(it: Ossec) -> list[str]:
    return []


CHECKS: dict[str, tuple[Callable[[Ossec], Any], Callable[[Ossec], Seen]]] = {
    RUNNING: (_running_expected, _running_seen),
    CONNECTED: (_connected_expected, _connected_seen),
    CONFIGURED: (_configured_expected, _configured_seen),
    ENROLLED: (_enrolled_expected, _enrolled_seen),
    VERIFIED: (lambda it: "by its certificate", _verified_seen),
    SCANNED: (_scanned_expected, _scanned_seen),
    COVERED: (_nothing, _covered_seen),
    HANDED_OUT: (_nothing, _handed_out_seen),
    UNCHANGED: (_nothing, _unchanged_seen),
    ACCESS: (_access_expected, _access_seen),
    GUARDED: (_guarded_expected, _guarded_seen),
    UNBANNED: (_nothing, _unbanned_seen),
    NOTED: (_noted_expected, _noted_seen),
    NO_COMMANDS: (_nothing, _no_commands_seen),
    SIGNED: (_signed_expected, _signed_seen),
    LOGS: (_nothing, _logs_seen),
}

"""What keeps the agent what it is: its own files, and what stands before its responses."""

from __future__ import annotations

from typing import Any

from rocksalt.errors import Refused
from rocksalt.findings import Seen, some
from rocksalt.host import Host
from rocksalt.ossec import (
    OPTIONS,
    ORIGINALS,
    PROGRAM,
    RESPONSES,
    SETTINGS,
    TOP,
    bans,
    controls,
    files,
    installed,
    repository,
    state,
    watched,
)
from rocksalt.ossec.facts import (
    Checks,
    Facts,
    amiss,
    files_seen,
    files_wanted,
    listed,
    nothing,
)

BEHIND_OURS = "behind ours"
_GONE = "the package's script is gone"
_LOST = "what was written down of this version is lost; look at the agent, then run ossec.accept"
DIVERSIONS = "/var/lib/dpkg/diversions"


def _unchanged_seen(it: Facts) -> Seen:
    """What the package brought can be told without our record; the rest only by it."""
    found = installed.changed(it.host, it.package, it.build)
    unknown = installed.unknown(it.host, it.package)
    if found or not unknown or installed.record(it.host).version == it.build:
        return listed(found)
    if it.lost:
        return Seen([f"{path} may be anybody's" for path in unknown], f"{_LOST}: {some(unknown)}")
    why = "this version has not been written down yet, which state.apply hardening.ossec does"
    return Seen(problem="skipped", reason=why)


def _access_expected(it: Facts) -> dict[str, Any]:
    return {"written down": it.build, **installed.wanted_access(it.host)}


def _access_seen(it: Facts) -> Seen:
    wanted, now = installed.wanted_access(it.host), installed.access(it.host)
    why = [f"{p} is {now[p]}, expected {wanted[p]}" for p in now if now[p] != wanted[p]]
    written = installed.record(it.host).version
    if it.lost:
        return Seen(
            {"written down": written, **now}, some([*why, _LOST]), "", "" if why else "manual"
        )
    if written != it.build:
        why.append(f"how version {it.build} was installed is not written down yet")
    return Seen({"written down": written, **now}, some(why))


def _guarded_expected(it: Facts) -> dict[str, Any]:
    return {
        **files_wanted(it.own()),
        "scripts": dict.fromkeys(it.scripts(), BEHIND_OURS),
        "not known": [],
    }


def _guarded_seen(it: Facts) -> Seen:
    own = it.own()
    found = files_seen(it.host, own)
    why = [*amiss(found, own)]
    actual: dict[str, Any] = {**found}
    actual["scripts"] = {name: script_state(it.host, name) for name in it.scripts()}
    why += [f"{n}: {s}" for n, s in actual["scripts"].items() if s != BEHIND_OURS]
    actual["not known"] = missing = it.declared.missing
    if missing:
        lost = f"{' and '.join(missing)}, so every ban is refused until it is known who must get in"
        return Seen(actual, some([lost, *why]), remedy="" if why else "manual")
    return Seen(actual, some(why))


def script_state(host: Host, name: str) -> str:
    """Whether our script stands before one of the package's, also after the next upgrade."""
    path, original = f"{RESPONSES}/{name}", f"{ORIGINALS}/{name}"
    text = host.read(path)
    if not files.is_wrapper(path, text):
        return "missing" if text is None else "bans whom it is told to"
    if any(_open(host, file) for file in (path, original)):
        return "others can change it"
    if path not in diverted(host):
        return "the next upgrade would replace it"
    return BEHIND_OURS if host.read(original) is not None else _GONE


def _open(host: Host, path: str) -> bool:
    """Whether somebody else than root can change what is there."""
    found = host.attributes(path, follow=False)
    return found is not None and (found.owner != "root" or bool(int(found.mode, 8) & 0o022))


def unguarded(it: Facts) -> list[str]:
    """In words, what of the guard does not stand yet, without which the server could have anybody
    banned. A script that is gone bans nobody.
    """
    program = {PROGRAM: it.own()[PROGRAM]}
    states = {name: script_state(it.host, name) for name in it.scripts()}
    there, wanted = state.read(str(it.host.path(SETTINGS))), it.declared.program()
    asked = all(there.get(key) == wanted.get(key) for key in ("never_ban", "users"))
    return [
        *amiss(files_seen(it.host, program), program),
        *([] if asked else [f"{SETTINGS} does not say who must get in"]),
        *(f"{n}: {s}" for n, s in states.items() if s not in (BEHIND_OURS, _GONE)),
    ]


def diverted(host: Host) -> dict[str, str]:
    """Path -> where dpkg puts what a package has for it."""
    lines = (host.read(DIVERSIONS) or "").splitlines()
    triples = zip(lines[::3], lines[1::3], strict=False)
    return {path: to for path, to in triples if to.startswith(f"{ORIGINALS}/")}


def _unbanned_seen(it: Facts) -> Seen:
    try:
        found = bans.unwanted(it.host, it.declared.never_ban)
    except Refused as error:
        return Seen(problem="error", reason=str(error))
    liftable = any(ban.liftable for ban in found)
    return Seen([*map(str, found)], some(found), remedy="" if liftable or not found else "manual")


def _no_commands_seen(it: Facts) -> Seen:
    """The agent cannot refuse a command for the scan: only whoever has the server can."""
    allowed = installed.remote_commands({path: it.host.read(path) for path in OPTIONS})
    try:
        commands = watched.prefilters(it.host.read(watched.AGENT_CONF), it.agent)
    except Refused as error:
        if not allowed:
            return Seen(problem="error", reason=str(error))
        commands = []
    run = [f"{watched.AGENT_CONF} has root run {command!r} for every file" for command in commands]
    remedy = "manual" if run and not allowed else ""
    return Seen([*allowed, *run], some([*allowed, *run]), remedy=remedy)


def _repository(it: Facts) -> dict[str, tuple[str, str]]:
    return {path: (text, files.FOR_ALL) for path, text in repository.files(it.declared).items()}


def _signed_expected(it: Facts) -> dict[str, Any]:
    return {**files_wanted(_repository(it))}


def _signed_seen(it: Facts) -> Seen:
    wanted = _repository(it)
    if it.package and not wanted:
        empty = "repository_key" if it.settings["repository"] else "repository"
        why = f"{TOP}:{empty} is empty: {it.package} comes from where apt finds it"
        return Seen("apt's other sources", why, remedy="manual")
    actual = files_seen(it.host, wanted)
    return Seen(actual, some(amiss(actual, wanted)))


CHECKS: Checks = {
    controls.UNCHANGED: (nothing, _unchanged_seen),
    controls.ACCESS: (_access_expected, _access_seen),
    controls.GUARDED: (_guarded_expected, _guarded_seen),
    controls.UNBANNED: (nothing, _unbanned_seen),
    controls.NO_COMMANDS: (nothing, _no_commands_seen),
    controls.SIGNED: (_signed_expected, _signed_seen),
}

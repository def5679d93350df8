"""The master itself: whose it is, what it is configured to do, and what it started on."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterable
from typing import Any

from rocksalt.access import controls, door, rendering, sources, versions
from rocksalt.access.facts import API, MASTER, ROOT, Checks, Facts
from rocksalt.findings import AS_RENDERED, Seen, compared, show, some
from rocksalt.host import Host, unit_properties

ANYBODY_ELSE = "anybody but root"
RUNS, STARTED, AFTER = "active, enabled", "started", "after its files were written"
NO_HOLE = "no known hole"
_OLDEST_PROTOCOL = 3
"""Of minions that log in; older ones let a minion pass for another (CVE-2025-62349)."""


# As whom it runs ----------------------------------------------------------------------------------


def _user_expected(it: Facts) -> dict[str, str]:
    wanted = it.settings["user"]
    wanted = ANYBODY_ELSE if wanted == ROOT else wanted
    return {"configured": wanted, **dict.fromkeys(_running(it), wanted)}


def _running(it: Facts) -> dict[str, str]:
    """The services that run, and as whom."""
    users = {unit: it.runs_as(unit) for unit in (MASTER, API)}
    return {unit: user for unit, user in users.items() if user}


def _user_seen(it: Facts) -> Seen:
    actual = {"configured": it.user, **_running(it)}
    wanted = it.settings["user"]
    if wanted == ROOT:
        return Seen(actual, f"{it.setup.family.where('user')} is root: name an ordinary user")
    why = []
    if it.user != wanted:
        said = it.said_by("user")
        why.append(
            f"the master's option user is {it.user}{said}: give {it.main}, {it.pki}, "
            f"{it.opts['cachedir']} and its logs to {wanted}, and write user: {wanted}"
        )
    why += [
        f"{unit} runs as {user}; restart it" if it.user == wanted else f"{unit} runs as {user}"
        for unit, user in actual.items()
        if unit != "configured" and user != wanted
    ]
    return Seen(actual, some(why))


# Its configuration --------------------------------------------------------------------------------


def _ours_expected(it: Facts) -> dict[str, str]:
    return {it.config_path: f"{AS_RENDERED}, {it.readable}"}


def _ours_seen(it: Facts) -> Seen:
    path = it.config_path
    rights = it.host.access(path)
    if rights is None:
        return Seen({path: None}, f"{path} does not exist")
    state = compared(it.host.read(path), it.config)
    if it.host.path(path).is_symlink():
        state = "is a link"
    why = [f"{path} {state}"] if state != AS_RENDERED else []
    why += [f"{path} is {rights}, expected {it.readable}"] if rights != it.readable else []
    return Seen({path: f"{state}, {rights}"}, some(why))


def config_files(it: Facts) -> list[str]:
    """What the master reads when it starts: its configuration, and how it checks passwords."""
    folder = os.path.dirname(it.config_path)
    door = [path for path in rendering.door_files() if not path.startswith(_NOT_THE_MASTERS)]
    included = sources.folders(it.host, it.main, it.sources)
    found = [*(source.path for source in it.sources), folder, *included, *door]
    return [*dict.fromkeys(found)]


_NOT_THE_MASTERS = f"{door.NETAPI_DIR}/"


def started(host: Host, unit: str) -> float | None:
    """When the process of a unit started, in seconds since 1970; None while it is not active. What
    changed from then on it may not have read: it reads its files before it says that it is ready.
    """
    wanted = [*_STAMPS, *(f"{name}Monotonic" for name in _STAMPS)]
    shown = host.run(
        "systemctl", "show", unit, "--timestamp=us+utc", "-p", f"ActiveState,{','.join(wanted)}"
    )
    found, *_ = unit_properties(shown.out) or [{}]
    name = next((it for it in _STAMPS if int(found.get(f"{it}Monotonic") or 0)), "")
    if found.get("ActiveState") != "active" or not name:
        return None
    since = time.time() - time.monotonic() + int(found[f"{name}Monotonic"]) / 1e6
    # The one stands still while the host does, the other one goes wrong with the clock.
    return min(since, _moment(found.get(name, ""), since))


def _moment(text: str, otherwise: float) -> float:
    """``Mon 2026-11-23 08:15:30.123456 UTC`` in seconds since 1970."""
    try:
        found = dt.datetime.strptime(" ".join(text.split()[1:]), "%Y-%m-%d %H:%M:%S.%f UTC")
    except ValueError:
        return otherwise
    return found.replace(tzinfo=dt.timezone.utc).timestamp()


_STAMPS = ("ExecMainStartTimestamp", "ActiveEnterTimestamp")


def changed(host: Host, path: str) -> float | None:
    """When a file was last changed, by the host's own clock; other times anybody can set."""
    try:
        return os.stat(host.path(path)).st_ctime
    except (FileNotFoundError, NotADirectoryError):
        return None


def later(it: Facts, unit: str, paths: Iterable[str]) -> list[str]:
    """What changed since a service started; raises :class:`LookupError` while it does not run. What
    has a date to come would be later than each start, see :func:`ahead`.
    """
    begun, now = started(it.host, unit), time.time()
    if begun is None:
        raise LookupError(f"when {unit} started cannot be told, for it does not run")
    found = {path: changed(it.host, path) for path in paths}
    return [path for path, at in found.items() if at and begun < at <= now]


def ahead(it: Facts) -> list[str]:
    """What the services read that changed when the clock was ahead."""
    tls = [it.settings["tls_certificate"], it.settings["tls_key"], it.settings["client_ca"]]
    programs = (path for unit in (MASTER, API) for path in program_files(it, unit))
    paths = [*config_files(it), *rendering.door_files(), *programs, *filter(None, tls)]
    found, now = {path: changed(it.host, path) for path in paths}, time.time()
    return [path for path, at in found.items() if at and at > now]


def program_files(it: Facts, unit: str) -> list[str]:
    """The file of a service's program: that of a newer release has a newer file."""
    path = it.program(unit)
    return [path] if path.startswith("/") else []


def _current_expected(it: Facts) -> dict[str, str]:
    return {MASTER: "active", STARTED: AFTER}


def _current_seen(it: Facts) -> Seen:
    if not it.is_active(MASTER):
        state = it.units.get(MASTER, {}).get("ActiveState", "unknown")
        strays = f"; {', '.join(it.strays)} was not started by systemd" if it.strays else ""
        remedy = "manual" if it.strays or not it.is_installed(MASTER) else ""
        return Seen({MASTER: state}, f"{MASTER} is {state}{strays}", remedy=remedy)
    read, coming = later(it, MASTER, [*config_files(it), *program_files(it, MASTER)]), ahead(it)
    if not read and not coming:
        return Seen(_current_expected(it))
    why = [f"{MASTER} was not started since {some(read)} changed"] if read else []
    why += [f"{path} has a date to come, so that nobody can tell who has read it: once the clock "
            "is right, touch it" for path in coming]  # fmt: skip
    actual = {MASTER: "active", STARTED: f"before {some([*read, *coming])}"}
    return Seen(actual, some(why), remedy="" if read else "manual")


# What it signs with, and for how long it believes -------------------------------------------------


def _algorithms_expected(it: Facts) -> dict[str, Any]:
    found: dict[str, Any] = {**rendering.algorithms(it.settings), "sign_pub_messages": True}
    if it.option("minimum_auth_version") is not None:
        found["minimum_auth_version"] = f"{_OLDEST_PROTOCOL} or later"
    return found


def _algorithms_seen(it: Facts) -> Seen:
    wanted = _algorithms_expected(it)
    actual = {key: it.option(key) for key in wanted}
    if "minimum_auth_version" in actual and actual["minimum_auth_version"] >= _OLDEST_PROTOCOL:
        actual["minimum_auth_version"] = wanted["minimum_auth_version"]
    return Seen(actual, _differing(it, actual, wanted))


def _differing(it: Facts, actual: dict[str, Any], wanted: dict[str, Any]) -> str:
    return some(
        f"{key} is {show(value)}, expected {show(wanted[key])}{it.said_by(key)}"
        for key, value in actual.items()
        if value != wanted[key]
    )


def _tokens_expected(it: Facts) -> dict[str, Any]:
    hours = rendering.hours(it.settings)
    return {"token_expire": f"{hours} h or less", "token_expire_user_override": False}


def _tokens_seen(it: Facts) -> Seen:
    wanted, hours = _tokens_expected(it), rendering.hours(it.settings)
    actual = {key: it.option(key) for key in wanted}
    seconds = actual["token_expire"]
    if isinstance(seconds, (int, float)):
        fine = 0 < seconds <= hours * 3600
        actual["token_expire"] = wanted["token_expire"] if fine else f"{seconds / 3600:g} h"
    return Seen(actual, _differing(it, actual, wanted))


# Its release --------------------------------------------------------------------------------------


def _holes_seen(it: Facts) -> Seen:
    """By what the program of the service says of itself."""
    ran = it.host.run(it.program(MASTER), "--version", timeout=60)
    found = versions.number(ran.out) if ran.status == 0 else None
    if found is None:
        why = " ".join((ran.err or ran.out).split()) or "it prints none"
        return Seen(problem="error", reason=f"the version of {it.program(MASTER)}: {why}")
    known = versions.hole(found, it.now.date())
    return Seen(known or NO_HOLE, known)


CHECKS: Checks = {
    controls.UNPRIVILEGED: (_user_expected, _user_seen),
    controls.OURS: (_ours_expected, _ours_seen),
    controls.CURRENT: (_current_expected, _current_seen),
    controls.ALGORITHMS: (_algorithms_expected, _algorithms_seen),
    controls.TOKENS: (_tokens_expected, _tokens_seen),
    controls.KNOWN_HOLES: (lambda it: NO_HOLE, _holes_seen),
}

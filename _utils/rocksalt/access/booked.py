"""The logbook of the master: its program and units, whether it runs, and whether it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from rocksalt import logbook, logstash, permissions, program, systemd
from rocksalt.access import controls, master
from rocksalt.access.facts import MASTER, Checks, Facts
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import BackupError
from rocksalt.errors import Refused
from rocksalt.findings import AS_RENDERED, Seen, compared, some
from rocksalt.host import Host
from rocksalt.logbook import telling, units
from rocksalt.logstash import told
from rocksalt.logstash.facts import age
from rocksalt.logstash.server import key_state

PROGRAM_FILE, UNIT_FILE = "root:root 0755", "root:root 0644"
FOLDERS = {logbook.FOLDER: "0750", logbook.STATE: "0700"}
KEYS = (logbook.SIGNING_KEY, logbook.TRANSPORT_KEY)
UNIT_PATH = f"{units.FOLDER}/{logbook.UNIT}"
HEADS_TIMER = f"{logbook.HEADS_UNIT}.timer"
_HEARD, _STRANGE, _BESIDE = "heard the master", "of others", "beside"
_LATELY = "within a minute"
_CHECKED, _WITNESSED, _NOBODY = "within 2 days", "within 5 minutes", "no witness"
_DAY, _MINUTE = 86400, 60
_WRITER = "the logbook"
_SSH = 22
_STATUS = {"heard": str, "problem": str}


def settings(it: Facts) -> dict[str, Any]:
    """logbook.json of this host."""
    given = it.settings["logbook_witness"]
    witness = {"port": _SSH, "user": logstash.WITNESS_USER, **given}
    return {
        "name": it.setup.minion,
        "mask": list(it.setup.baseline.families[logstash.FAMILY].settings["mask"]),
        "config": it.main,
        "days": it.settings["logbook_days"],
        "watch": {"master configuration": [it.main, f"{it.folder}/master.d"]},
        **({"witness": witness} if given else {}),
    }


@cache
def _library() -> Mapping[str, bytes]:
    return program.sources(units.entry())


def files(it: Facts) -> dict[str, tuple[str, str]]:
    """Path -> content, as :class:`rocksalt.host.Host` reads it, and access of what is installed."""
    made = units.files(settings(it), it.user, it.group, library=_library())
    own = {logbook.PROGRAM: PROGRAM_FILE, logbook.CONFIG: it.readable}
    return {
        path: (data.decode(errors="surrogateescape"), own.get(path, UNIT_FILE))
        for path, data in made.items()
    }


def texts(it: Facts) -> dict[str, str]:
    """Path -> content of what is text: all but the program."""
    return {path: text for path, (text, _) in files(it).items() if path != logbook.PROGRAM}


def unit_paths(it: Facts) -> list[str]:
    """The files of the units."""
    return [*units.texts(settings(it), it.user, it.group)]


def running(it: Facts) -> list[str]:
    """The units that run from boot on."""
    timers = [f"{logbook.VERIFY_UNIT}.timer"]
    timers += [HEADS_TIMER] if it.settings["logbook_witness"] else []
    return [logbook.UNIT, *timers]


def folders(it: Facts) -> dict[str, str]:
    """Path -> access of the folders that are the master's own user's."""
    return {path: f"{it.user}:{it.group} {mode}" for path, mode in FOLDERS.items()}


def key_access(it: Facts) -> str:
    """The access of the logbook's keys."""
    return f"{it.user}:{it.group} 0600"


def strange(it: Facts) -> list[str]:
    """What in the folders is not the user's, who has to go on with it."""
    found = []
    for top in FOLDERS:
        for parent, names, others in os.walk(it.host.path(top)):
            for name in sorted([*names, *others]):
                path = os.path.join(parent, name)[len(it.host.root) :]
                at = it.host.attributes(path, follow=False)
                if at and at.owner != it.user:
                    found.append(path)
    return found


def stale(it: Facts) -> list[str]:
    """Units of a witness that is not declared any more."""
    wanted = {*unit_paths(it)}
    return [path for path in installed(it.host) if path.startswith(units.FOLDER)
            and path not in wanted]  # fmt: skip


def installed(host: Host) -> list[str]:
    """What of the logbook is on a host, without what it has written."""
    own = (logbook.PROGRAM, logbook.CONFIG, logbook.ROTATION)
    there = [path for path in own if host.attributes(path, False)]
    names = (logbook.UNIT, f"{logbook.HEADS_UNIT}.*", f"{logbook.VERIFY_UNIT}.*")
    found = (path for name in names for path in host.glob(f"{units.FOLDER}/{name}"))
    return [*there, *(path for path in found if path.endswith((".service", ".timer")))]


# Whether it is kept -------------------------------------------------------------------------------


def _kept_expected(it: Facts) -> dict[str, Any]:
    if not it.settings["logbook"]:
        return {"installed": []}
    return {
        **{path: f"{AS_RENDERED}, {rights}" for path, (_, rights) in files(it).items()},
        **folders(it),
        **dict.fromkeys(KEYS, f"{sshsig.KIND}, {key_access(it)}"),
        **dict.fromkeys(running(it), master.RUNS),
        master.STARTED: master.AFTER,
        _HEARD: _LATELY,
        _STRANGE: [],
        _BESIDE: [],
    }


def _kept_seen(it: Facts) -> Seen:
    if not it.settings["logbook"]:
        left = installed(it.host)
        why = f"{it.setup.family.where('logbook')} is false, and {some(left)} is there"
        return Seen({"installed": left}, why if left else "")
    wanted, actual, reasons = _kept_expected(it), dict[str, Any](), list[str]()
    for path, (text, _) in files(it).items():
        rights = it.host.access(path)
        state = "is a link" if it.host.path(path).is_symlink() else ""
        state = state or compared(it.host.read(path), text)
        actual[path] = f"{state}, {rights}" if rights else None
    for path in FOLDERS:
        also = ", and others by an ACL" if permissions.acl(it.host, path) else ""
        actual[path] = f"{it.host.access(path) or 'does not exist'}{also}"
    actual |= {path: key_state(it.host, path) for path in KEYS}
    known = systemd.units(it.host, running(it))
    actual |= {unit: systemd.state(known.get(unit, {})) for unit in running(it)}
    found = {path: state for path, state in actual.items() if state != wanted[path]}
    reasons += [
        f"{path} {'is ' if path in known else ''}{state or 'does not exist'}"
        for path, state in found.items()
    ]
    actual |= {master.STARTED: master.AFTER, _HEARD: _LATELY}
    if known.get(logbook.UNIT, {}).get("ActiveState") == "active":
        if changed := master.later(it, logbook.UNIT, _read_at_start(it)):
            actual[master.STARTED] = f"before {some(changed)}"
            reasons.append(f"{logbook.UNIT} was not started since {some(changed)} changed")
        if it.is_active(MASTER) and (deaf := why_deaf(it)):
            actual[_HEARD] = deaf
            reasons.append(deaf)
    actual[_STRANGE] = strange(it)
    reasons += [f"{path} is not {it.user}'s" for path in actual[_STRANGE]]
    actual[_BESIDE] = [*systemd.overrides(it.host, unit_paths(it)), *stale(it)]
    reasons += [f"{path} changes what runs" for path in actual[_BESIDE]]
    return Seen(actual, some(reasons))


def _read_at_start(it: Facts) -> list[str]:
    """What the service has in memory; a newer Salt has a newer interpreter."""
    return [logbook.PROGRAM, logbook.CONFIG, UNIT_PATH, program.python()]


def why_deaf(it: Facts) -> str:
    """Why the service is not to be believed to hear the master and the door; empty where it is."""
    path = f"{logbook.STATE}/{telling.STATUS}"
    said = told.read(it.host, path, _STATUS, _WRITER)
    heard = age(it.now, said.get("heard"))
    if heard is None or heard > _MINUTE:
        return f"the logbook heard the master last at {said.get('heard') or 'no time'}"
    return said.get("problem") or ""


# Whether it is whole ------------------------------------------------------------------------------


def _whole_expected(it: Facts) -> dict[str, Any]:
    return {"checked": _CHECKED, "problems": [], "witnessed": _WITNESSED}


def _whole_seen(it: Facts) -> Seen:
    checked, problems = _checked(it)
    witnessed, why = _witnessed(it)
    late = [] if checked == _CHECKED else [f"{checked}: systemctl start {logbook.VERIFY_UNIT}"]
    actual = {"checked": checked, "problems": problems, "witnessed": witnessed}
    return Seen(actual, some([*problems, *late, *filter(None, [why])]))


def _checked(it: Facts) -> tuple[str, list[str]]:
    """When the book was last checked, and what was found."""
    path = f"{logbook.STATE}/{telling.VERIFIED}"
    found = told.read(it.host, path, told.VERIFIED_SHAPE, _WRITER)
    if not found:
        return "the book was never checked", []
    passed = age(it.now, found.get("time"))
    checked = _CHECKED
    if passed is None or passed > 2 * _DAY:
        checked = f"the book was last checked at {found.get('time')}"
    elif it.settings["logbook_witness"] and not found.get("witness"):
        checked = "the book was last checked without its witness"
    return checked, list(_problems(it, found))


def _problems(it: Facts, found: Mapping[str, Any]) -> Iterator[str]:
    hosts = found.get("hosts") or {}
    said = [text for name in sorted(hosts) for text in hosts[name].get("problems") or ()]
    said += found.get("problems") or []
    yield from said
    if it.setup.minion not in hosts:
        yield f"the last check found no book of {it.setup.minion}"
    elif not found.get("ok") and not said:
        yield "the last check failed"


def is_checked(it: Facts) -> bool:
    """Whether the last check is young, asked the witness and found nothing."""
    try:
        return _checked(it) == (_CHECKED, [])
    except Refused:
        return False


def _witnessed(it: Facts) -> tuple[str, str]:
    """How long ago the witness saw the book, and what is wrong with that."""
    if not it.settings["logbook_witness"]:
        where = it.setup.family.where("logbook_witness")
        return _NOBODY, (
            f"{where}: is empty, so whoever becomes root here can write another past; name a "
            "second host there"
        )
    path = f"{logbook.STATE}/{telling.HEADS}"
    found = told.read(it.host, path, told.HEADS_SHAPE, _WRITER)
    passed = age(it.now, found.get("witnessed_until"))
    if passed is None or passed > 5 * _MINUTE:
        last = found.get("unwitnessed_since") or found.get("witnessed_until") or "the beginning"
        error = f": {found['error']}" if found.get("error") else ""
        return f"unwitnessed since {last}", f"unwitnessed since {last}{error}"
    if failed := found.get("failed"):
        why = some(f"{name} is not witnessed: {text}" for name, text in sorted(failed.items()))
        return why, why
    return _WITNESSED, ""


# What cannot be -----------------------------------------------------------------------------------


def problems(given: Mapping[str, Any], where: Callable[..., str]) -> Iterator[str]:
    """What is wrong with the settings of the logbook, a sentence each."""
    witness = given["logbook_witness"]
    if not witness:
        return
    for key in ("host", "host_key", "key"):
        if key not in witness:
            yield f"{where('logbook_witness', key)}: is missing; logging.md says where it is from"
    for key in ("host_key", "key"):
        try:
            sshsig.bare(witness.get(key) or "")
        except BackupError as error:
            if key in witness:
                yield f"{where('logbook_witness', key)}: {error}"
    if not given["logbook"]:
        yield f"{where('logbook_witness')}: means nothing, as {where('logbook')} is false"


CHECKS: Checks = {
    controls.BOOKED: (_kept_expected, _kept_seen),
    controls.WHOLE: (_whole_expected, _whole_seen),
}

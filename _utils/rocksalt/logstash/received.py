"""What a log server received: from whom, whether it is unchanged and witnessed, and who can read
it.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt import logstash, permissions, systemd
from rocksalt.errors import Refused
from rocksalt.findings import Seen, some
from rocksalt.host import Host
from rocksalt.logstash import certified, controls, roles, told
from rocksalt.logstash.facts import Checks, Facts

_WORK = f"{logstash.RECEIVING}/rsyslog"
"""systemd's business (StateDirectory) but for the trial of the configuration before the first
start.
"""
STRICT = f"{logstash.USER}:{logstash.USER} 0750"
_DAY = 86400
_CHECKED, _WITNESSED, _SIGNED = 2 * _DAY, 300, 600
_MOST = 50_000
_FLAGGED = {"host": "name another host", "json": "are no JSON"}
_GROUP = f"in the group {logstash.USER}"


# From whom ----------------------------------------------------------------------------------------


def _heard_expected(it: Facts) -> dict[str, str]:
    own = roles.receiver(it.setup)
    return dict.fromkeys(sorted(own["hosts"]), f"heard within {own['silent']} s, under its name")


def _heard_seen(it: Facts) -> Seen:
    said = told.status(it.host)
    started = systemd.started(it.host, logstash.RECEIVER_UNIT)
    wanted, why = _heard_expected(it), []
    silent, hosts = roles.receiver(it.setup)["silent"], said.get("hosts") or {}
    up = it.now.timestamp() - started if started else None
    actual, failed = {}, said.get("failed") or {}
    for host, good in wanted.items():
        state = _state(it, hosts.get(host) or {}, silent, up)
        if host in failed:
            state = f"is not taken from: {failed[host]}"
        actual[host] = state or good
        why += [f"{host} {state}"] if state else []
    return Seen(actual, some(why))


def _state(it: Facts, known: Mapping[str, Any], silent: int, up: float | None) -> str:
    """What is wrong with a host, the rest of a sentence. One that never sent had ``up`` seconds
    to.
    """
    last = known.get("received")
    waits = it.age(last) if last else up
    if waits is None or waits > silent:
        return f"sent its last line at {last}" if last else "has not sent a line yet"
    flags = known.get("flags") or {}
    flagged = it.since(flags.get("last_flagged"))
    if flagged is None or flagged > _DAY:
        return ""
    found = [f"{flags[kind]} {words}" for kind, words in _FLAGGED.items() if flags.get(kind)]
    return f"sent lines of which {' and '.join(found)}, last at {flags['last_flagged']}"


# Unchanged and witnessed --------------------------------------------------------------------------


def _verified_expected(it: Facts) -> dict[str, Any]:
    return {"checked": "within 2 days", "problems": []}


def _verified_seen(it: Facts) -> Seen:
    found = told.verified(it.host)
    if not found:
        unit = f"{logstash.VERIFY_UNIT}.service"
        return Seen(None, f"nothing was ever checked: systemctl start {unit}")
    actual, why = _verified_expected(it), []
    age = it.age(found.get("time"))
    if age is None or age > _CHECKED:
        actual["checked"] = f"at {found.get('time')}"
        why.append(f"the last check was at {found.get('time')}")
    hosts = found.get("hosts") or {}
    problems = [
        f"{host}: {it_}" for host in sorted(hosts) for it_ in hosts[host].get("problems") or ()
    ]
    problems += found.get("problems") or []
    problems += [f"the last check left out {host}" for host in _left_out(it, found)]
    if not found.get("ok") and not problems:
        problems = ["the last check failed"]
    actual["problems"] = problems
    return Seen(actual, some([*problems, *why]))


def _left_out(it: Facts, found: Mapping[str, Any]) -> list[str]:
    """Hosts with lines of a day before that of the last check, which says nothing of them."""
    top, day = roles.receiver(it.setup)["path"], str(found.get("time"))[:10]
    names = (path.rsplit("/", 2)[1:] for path in it.host.glob(f"{glob.escape(top)}/*/*.jsonl*"))
    there = {host for host, name in names if name[:10] < day}
    return sorted(there - {*(found.get("hosts") or {})})


def is_verified(it: Facts) -> bool:
    """Whether the last check is young and found nothing."""
    try:
        return bool(_verified_seen(it).actual == _verified_expected(it))
    except Refused:
        return False


def _witnessed_seen(it: Facts) -> Seen:
    if not roles.receiver(it.setup)["witness"]:
        where = it.setup.family.where("receiver", "witness")
        return Seen(
            "no witness",
            f"{where}: is missing, so whoever becomes root here can write another past; name a "
            "second host there",
        )
    found = told.heads(it.host)
    until = found.get("witnessed_until")
    age = it.age(until)
    if age is None or age > _WITNESSED:
        since = found.get("unwitnessed_since") or until or "the beginning"
        error = f": {found['error']}" if found.get("error") else ""
        return Seen(f"unwitnessed since {since}", f"unwitnessed since {since}{error}")
    if why := _unwitnessed(it, found.get("failed") or {}):
        return Seen(some(why), some(why))
    return Seen(_witnessed_expected(it))


def _unwitnessed(it: Facts, failed: Mapping[str, str]) -> list[str]:
    """Hosts whose last line nobody but this log server vouches for, a sentence each."""
    top = roles.receiver(it.setup)["path"]
    signed = told.signed(it.host, top)
    why = [f"{host} is not witnessed: {reason}" for host, reason in sorted(failed.items())]
    for host, known in sorted((told.status(it.host).get("hosts") or {}).items()):
        last, until = known.get("n") or 0, signed.get(host, 0)
        if host not in failed and last > until and _quiet(it, f"{top}/{host}") > _SIGNED:
            why.append(f"{host} is witnessed up to line {until} of {last}")
    return why


def _quiet(it: Facts, folder: str) -> float:
    """Seconds since something was written to the chain in a folder."""
    found = it.host.glob(f"{glob.escape(folder)}/*.jsonl")
    changed = [os.lstat(it.host.path(path)).st_mtime for path in found]
    return it.now.timestamp() - max(changed, default=0)


def _witnessed_expected(it: Facts) -> str:
    return f"within {_WITNESSED // 60} minutes"


# Who can read it ----------------------------------------------------------------------------------


def folders(it: Facts) -> dict[str, str]:
    """Path -> access of the log server's folders."""
    own = (roles.receiver(it.setup)["path"], logstash.RECEIVING)
    return dict.fromkeys(own, STRICT)


def make_folders(host: Host, it: Facts) -> None:
    """The folders, and access to all that is in the store. A folder of somebody else is
    refused.
    """
    refuse_taken(host, roles.receiver(it.setup)["path"], logstash.USER, "receiver")
    for path, rights in folders(it).items():
        make_folder(host, path, rights)
    if host.attributes(_WORK, follow=False) is None:
        make_folder(host, _WORK, STRICT)
    close(host, roles.receiver(it.setup)["path"], logstash.USER)


def close(host: Host, top: str, user: str) -> None:
    """Nobody but ``user`` and root gets at what is in a folder."""
    for path, _ in open_in(host, top, user):
        mode = "0750" if host.path(path).is_dir() else "0640"
        permissions.secure(host, {path: f"{user}:{user} {mode}"}, top)


def make_folder(host: Host, path: str, rights: str) -> None:
    """A folder; those above it are everybody's to pass. What is there and is none is refused."""
    target = host.path(path)
    if host.attributes(path, follow=False) is None:
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.mkdir(mode=0o700)
    if target.is_symlink() or not target.is_dir():
        raise Refused(f"{path} is no folder: remove it")
    if host.access(path) != rights:
        permissions.give(host, path, rights)


def refuse_taken(host: Host, path: str, user: str, role: str) -> None:
    """Nobody else's folder is taken over."""
    found = host.attributes(path, follow=False)
    if found is None or found.owner == user:
        return
    if not host.path(path).is_dir() or host.path(path).is_symlink():
        raise Refused(f"{logstash.TOP}:{role}:path: {path} is no folder")
    # One of root is what a file system of its own begins with.
    owned = host.attributes(f"{path}/lost+found", follow=False)
    passed = {"lost+found"} if owned and owned.owner == "root" else set()
    if entries := sorted({*os.listdir(host.path(path))} - passed):
        raise Refused(
            f"{logstash.TOP}:{role}:path: {path} is of {found.owner} and holds {some(entries)}; it "
            "needs a folder of its own"
        )


def _closed_expected(it: Facts) -> dict[str, Any]:
    return {**folders(it), "open to others": [], _GROUP: "nobody"}


def _closed_seen(it: Facts) -> Seen:
    wanted = folders(it)
    actual: dict[str, Any] = {path: it.host.access(path) for path in wanted}
    why = [
        f"{path} {'is ' + have if have else 'does not exist'}, expected {wanted[path]}"
        for path, have in actual.items()
        if have != wanted[path]
    ]
    top = roles.receiver(it.setup)["path"]
    found = [f"{path} is {state}" for path, state in open_in(it.host, top, logstash.USER)]
    others = certified.strangers(it.host, logstash.USER)
    actual |= {"open to others": found, _GROUP: ", ".join(others) or "nobody"}
    people = [f"{actual[_GROUP]} can read logs, by the group {logstash.USER}"] if others else []
    remedy = "manual" if people and not why and not found else ""
    return Seen(actual, some([*why, *found, *people]), remedy=remedy)


def open_in(host: Host, top: str, user: str) -> Iterator[tuple[str, str]]:
    """What in a folder others than ``user`` can read, or write, or own, and how it is."""
    for path in _entries(host, top):
        found = host.attributes(path, follow=False)
        if found is None:
            continue
        ours = {found.owner, found.group} <= {user, "root"}
        if host.path(path).is_symlink():
            yield path, "a link"
        elif not ours or int(found.mode, 8) & 0o027 or permissions.acl(host, path):
            yield path, found.access


def _entries(host: Host, top: str) -> Iterator[str]:
    """What is below a folder; links are not followed. Of very many files, those beyond ``_MOST``
    are left out: others reach none in a folder that is closed, and every folder is looked at.
    """
    seen = 0
    for parent, names, files in os.walk(host.path(top)):
        seen += len(files)
        for name in sorted([*names, *files] if seen <= _MOST else names):
            yield os.path.join(parent, name)[len(host.root) :]


RUNNING: Checks = {
    controls.HEARD: (_heard_expected, _heard_seen),
    controls.UNCHANGED: (_verified_expected, _verified_seen),
    controls.WITNESSED: (_witnessed_expected, _witnessed_seen),
}
"""What there is to see once the log server runs."""
CHECKS: Checks = {controls.CLOSED: (_closed_expected, _closed_seen)}

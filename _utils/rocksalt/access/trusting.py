"""Whom the master trusts: people by their rights, and minions by their keys."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt.access import compiled, controls, unrecorded
from rocksalt.access.facts import Checks, Facts
from rocksalt.errors import Refused
from rocksalt.findings import Seen, show, some

_DAY = 86400
_SOCKET = "publisher_acl"
_MORE_RIGHTS = ("eauth_acl_module",)
"""Options that have others than the master's configuration say who may do what."""
_GROUNDS = {**compiled.GROUNDS, **compiled.ALONE}
_AS_SHIPPED = {"eauth_tokens": "localfs", "ipc_mode": "ipc"}
"""Options by which tokens are in files of the master's own, and its sockets in its own folder. With
others, who reaches a database or a port of this host has the rights of everybody.
"""
_TOKENS = "eauth_tokens.cache_driver"
"""The same of Salt 3008, where it is that of ``cache`` unless it is set."""
_IN_FILES = "localfs_key"
_WAITING, _STRANGE = "waiting", "accepted, not declared"
_UNRECORDED = "accepted, not recorded"
Right = tuple[str, str, str]
"""Who says who somebody is, who it is, and one entry of their rights as JSON."""


# Who may do what ----------------------------------------------------------------------------------


def rights(options: Mapping[str, Any]) -> set[Right]:
    """Every entry of what people may, through salt-api and the master's socket."""
    backends = {
        **(options.get("external_auth") or {}),
        _SOCKET: options.get(_SOCKET) or {},
    }
    return {
        (backend, person, json.dumps(entry, sort_keys=True, default=str))
        for backend, people in backends.items()
        for person, entries in _items(people)
        for entry in (entries if isinstance(entries, list) else [entries])
    }


def _items(people: Any) -> Iterator[tuple[str, Any]]:
    """People and their entries, whatever is there in their place."""
    if isinstance(people, Mapping):
        yield from ((str(person), entries) for person, entries in people.items())
    elif people:
        yield "everybody", people


def _rights_expected(it: Facts) -> dict[str, Any]:
    others = {**_GROUNDS, **_AS_SHIPPED, **dict.fromkeys(_MORE_RIGHTS, "")}
    found = {"undeclared": [], "missing": [], **others}
    return {**found, _TOKENS: "localfs"} if _TOKENS in it.opts else found


def _rights_seen(it: Facts) -> Seen:
    declared = rights(compiled.compile(it.settings, it.now))
    found = rights({key: it.option(key) for key in ("external_auth", _SOCKET)})
    undeclared = [_in_words(it, right) for right in sorted(found - declared)]
    missing = sorted({f"{who} of {by}" for by, who, _ in declared - found})
    wanted = _rights_expected(it)
    others = {key: it.option(key) for key in (*_GROUNDS, *_MORE_RIGHTS)}
    others |= {key: "" for key in _MORE_RIGHTS if not others[key]}
    others |= {key: it.option(key) or value for key, value in _AS_SHIPPED.items()}
    if _TOKENS in wanted:
        others[_TOKENS] = it.option(_TOKENS) or it.option("cache") or wanted[_TOKENS]
    why = [f"undeclared: {right}" for right in undeclared]
    why += [f"{who} has not all the rights that are declared" for who in missing]
    why += [
        f"{key} is {show(value)}, expected {show(wanted[key]) or 'nothing'}{it.said_by(key)}"
        for key, value in others.items()
        if value != wanted[key]
    ]
    return Seen({"undeclared": undeclared, "missing": missing, **others}, some(why))


def _in_words(it: Facts, right: Right) -> str:
    backend, person, entry = right
    keys = (_SOCKET, person) if backend == _SOCKET else ("external_auth", backend, person)
    return f"{person} of {backend} may {entry}{it.said_by(*keys)}"


def _emergency_seen(it: Facts) -> Seen:
    """Grants of roles that are for days, while they last."""
    settings, found = it.settings, []
    for kind in ("users", "groups"):
        for name, one in sorted(settings[kind].items()):
            for grant in one["grants"]:
                role = settings["roles"].get(grant["role"], {})
                if role.get("days") and not compiled.is_over(grant, it.now):
                    reason = grant.get("reason", "no reason is given")
                    until = grant.get("until", "for good")
                    found.append(f"{name} has {grant['role']} until {until}: {reason}")
    return Seen(found, some(found))


# Keys of minions ----------------------------------------------------------------------------------


def _keys_expected(it: Facts) -> dict[str, Any]:
    strange = [] if it.settings["minions"] else _not_compared(it)
    return {_WAITING: [], _STRANGE: strange, _UNRECORDED: []}


def _not_compared(it: Facts) -> str:
    return f"not compared, as {it.setup.family.where('minions')} is empty"


def _keys_seen(it: Facts) -> Seen:
    """Keys that nobody accepted, rejected or removed since longer than is allowed, and accepted
    ones of minions that are not declared, or of which nobody knows who accepted them.
    """
    in_files(it)
    waiting, strange = [*_waiting(it)], [*_strange(it)]
    why = [f"{some(waiting)}; see salt-key"] if waiting else []
    if strange:
        where = it.setup.family.where("minions")
        why.append(f"accepted, and not named by {where}: {some(strange)}; salt-key -d, or name it")
    compared = strange if it.settings["minions"] else _not_compared(it)
    found = [name for name in unrecorded.keys(it) if name not in strange]
    why += [f"{some(found)} accepted with nobody's word in the logbook: see whose key it is, then "
            "salt-key -d, and -a where it is right"] if found else []  # fmt: skip
    return Seen({_WAITING: waiting, _STRANGE: compared, _UNRECORDED: found}, "; ".join(why))


def in_files(it: Facts) -> None:
    """Raises :class:`Refused` where the master has its keys elsewhere than in files."""
    driver = it.option("keys.cache_driver") or _IN_FILES
    if driver != _IN_FILES:
        raise Refused(f"keys are where keys.cache_driver {driver} has them, not in files")


def _waiting(it: Facts) -> Iterator[str]:
    days = it.settings["pending_days"]
    for state in ("minions_pre", "minions_denied"):
        for path in it.host.glob(f"{it.pki}/{state}/*"):
            try:
                age = it.now.timestamp() - os.stat(it.host.path(path)).st_mtime
            except FileNotFoundError:  # somebody has just decided
                continue
            if age > days * _DAY:
                word = "waits" if state == "minions_pre" else "was denied, and waits"
                yield f"{os.path.basename(path)} {word} since {int(age // _DAY)} days"


def _strange(it: Facts) -> Iterator[str]:
    """Accepted minions that are not declared; none where nothing is, for then nobody knows."""
    known = [*it.settings["minions"], *it.settings["masters"]]
    accepted = it.host.glob(f"{it.pki}/minions/*") if it.settings["minions"] else []
    for name in map(os.path.basename, accepted):
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in known):
            yield name


CHECKS: Checks = {
    controls.RIGHTS: (_rights_expected, _rights_seen),
    controls.WAITING: (_keys_expected, _keys_seen),
    controls.EMERGENCY: (lambda it: [], _emergency_seen),
}

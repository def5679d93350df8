"""Whom the master trusts: people by their rights, minions by their keys, and what it takes
unasked.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt.access import compiled, controls, rendering
from rocksalt.access.facts import Checks, Facts
from rocksalt.findings import Seen, show, some

_ACCEPTS = re.compile(r"\bkey\.(?:accept|accept_dict|gen_accept)\b")
_DAY = 86400
_SOCKET = "publisher_acl"
_MORE_RIGHTS = ("eauth_acl_module",)
"""Options that have others than the master's configuration say who may do what."""
_GROUNDS = {**compiled.GROUNDS, **compiled.ALONE}
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
    return {"undeclared": [], "missing": [], **_GROUNDS, **dict.fromkeys(_MORE_RIGHTS, "")}


def _rights_seen(it: Facts) -> Seen:
    declared = rights(compiled.compile(it.settings, it.now))
    found = rights({key: it.option(key) for key in ("external_auth", _SOCKET)})
    undeclared = [_in_words(it, right) for right in sorted(found - declared)]
    missing = sorted({f"{who} of {by}" for by, who, _ in declared - found})
    wanted = _rights_expected(it)
    others = {key: it.option(key) for key in (*_GROUNDS, *_MORE_RIGHTS)}
    others |= {key: "" for key in _MORE_RIGHTS if not others[key]}
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


# What is taken unasked ----------------------------------------------------------------------------


def _unasked_expected(it: Facts) -> dict[str, Any]:
    return {**rendering.REFUSING, "accepts keys by": []}


def _unasked_seen(it: Facts) -> Seen:
    actual = {key: it.option(key) or type(value)() for key, value in rendering.REFUSING.items()}
    why = [
        f"{key} is {show(value)}{it.said_by(key)}"
        for key, value in actual.items()
        if value != rendering.REFUSING[key]
    ]
    accepting = [*_autosigned(it), *_reactors(it)]
    why += [f"keys are accepted by {way}" for way in accepting]
    return Seen({**actual, "accepts keys by": accepting}, some(why))


def _autosigned(it: Facts) -> Iterator[str]:
    """Files by whose content the master accepts a key: of names, of grains, and one per name."""
    if path := it.option("autosign_file"):
        lines = [line.strip() for line in (it.host.read(path) or "").splitlines()]
        if any(line and not line.startswith("#") for line in lines):
            yield f"autosign_file {path}"
    grains = it.option("autosign_grains_dir")
    places = (*([f"{grains}/*", f"{grains}/*/*"] if grains else []), f"{it.pki}/minions_autosign/*")
    yield from (path for place in places for path in it.host.glob(place))


def _reactors(it: Facts) -> Iterator[str]:
    """States of the reactor with a function in them that accepts keys, and those that nobody can
    look at; the words are looked for as they are, whatever renders the file.
    """
    reactor = it.option("reactor") or []
    named = [item for entry in reactor if isinstance(entry, Mapping) for item in entry.items()]
    for tag, states in named:
        for state in states if isinstance(states, list) else [states]:
            path = _resolved(it, str(state))
            text = it.host.read(path) if path else None
            if text is None:
                yield f"reactor {tag}: {state}, which cannot be read"
            elif _ACCEPTS.search(text):
                yield f"reactor {tag}: {path}"


def _resolved(it: Facts, state: str) -> str | None:
    """The file of a state of the reactor; None where that is not on this host."""
    if not state.startswith("salt://"):
        return state
    name = state.removeprefix("salt://").partition("?")[0]
    roots = [root for paths in it.option("file_roots").values() for root in paths]
    found = (os.path.join(root, name) for root in roots)
    return next((path for path in found if it.host.attributes(path)), None)


def _waiting_seen(it: Facts) -> Seen:
    """Keys of minions that nobody accepted, rejected or removed since longer than is allowed."""
    days, found = it.settings["pending_days"], []
    for state in ("minions_pre", "minions_denied"):
        for path in it.host.glob(f"{it.pki}/{state}/*"):
            try:
                age = it.now.timestamp() - os.stat(it.host.path(path)).st_mtime
            except FileNotFoundError:  # somebody has just decided
                continue
            if age > days * _DAY:
                word = "waits" if state == "minions_pre" else "was denied, and waits"
                found.append(f"{os.path.basename(path)} {word} since {int(age // _DAY)} days")
    return Seen(found, f"{some(found)}; see salt-key" if found else "")


CHECKS: Checks = {
    controls.RIGHTS: (_rights_expected, _rights_seen),
    controls.UNASKED: (_unasked_expected, _unasked_seen),
    controls.WAITING: (lambda it: [], _waiting_seen),
    controls.EMERGENCY: (lambda it: [], _emergency_seen),
}

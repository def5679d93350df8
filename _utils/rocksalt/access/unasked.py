"""What the master takes unasked, and what it does by itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from rocksalt.access import controls, rendering
from rocksalt.access.facts import Checks, Facts
from rocksalt.access.sources import plain
from rocksalt.errors import Refused
from rocksalt.findings import Seen, show, some

_ACCEPTS = re.compile(r"\bkey\.(?:accept|accept_dict|gen_accept)\b")
_KEYS, _ITSELF, _LDAP = "accepts keys by", "does by itself", "passwords for LDAP"
_SECURED, _PLAIN = "encrypted, for a server that is known", "open, or for any server, or not asked"
_COMMANDS = re.compile(r"cmd_.*|ext_nodes")
"""Sources of pillar and tops that run a command on the master."""
_LDAP_CONF = "/etc/ldap/ldap.conf"
_UNVERIFIED = re.compile(r"^TLS_REQCERT\s+(never|allow|try)\b", re.M | re.I)
_THIS_HOST = re.compile(r"ldapi://.*|ldap://(?:localhost|127\.[0-9.]+|\[::1\])(?::\d+)?/?")


def _expected(it: Facts) -> dict[str, Any]:
    found = {**rendering.REFUSING, _KEYS: [], _ITSELF: []}
    return {**found, _LDAP: _SECURED} if it.settings["backend"] == "ldap" else found


def _seen(it: Facts) -> Seen:
    actual = {key: it.option(key) or type(value)() for key, value in rendering.REFUSING.items()}
    why = [
        f"{key} is {show(value)}{it.said_by(key)}"
        for key, value in actual.items()
        if value != rendering.REFUSING[key]
    ]
    accepting, unread = _reactions(it)
    accepting = [*_autosigned(it), *accepting]
    why += [f"keys are accepted by {way}" for way in accepting]
    itself = [one for one in automatic(it) if one not in it.settings["automatic"]]
    if itself:
        where = it.setup.family.where("automatic")
        why.append(f"the master does by itself what {where} does not name: {some(itself)}")
    actual |= {_KEYS: accepting, _ITSELF: itself}
    if it.settings["backend"] == "ldap":
        open_ways = _open_ldap(it)
        actual[_LDAP] = _PLAIN if open_ways else _SECURED
        why += open_ways
    if unread and not why:
        return Seen(problem="error", reason=some(unread))
    return Seen(actual, some([*why, *unread]))


# Keys ---------------------------------------------------------------------------------------------


def _autosigned(it: Facts) -> Iterator[str]:
    """Files by whose content the master accepts a key: of names, of grains, and one per name."""
    if path := it.option("autosign_file"):
        lines = [line.strip() for line in (it.host.read(path) or "").splitlines()]
        if any(line and not line.startswith("#") for line in lines):
            yield f"autosign_file {path}"
    grains = it.option("autosign_grains_dir")
    places = (*([f"{grains}/*", f"{grains}/*/*"] if grains else []), f"{it.pki}/minions_autosign/*")
    yield from (path for place in places for path in it.host.glob(place))


def _reactions(it: Facts) -> tuple[list[str], list[str]]:
    """States of the reactor with a function in them that accepts keys, and those that nobody can
    look at; the words are looked for as they are, whatever renders the file.
    """
    accepting, unread = [], []
    for tag, state in reactor(it):
        paths = states_of(it, state)
        if not paths:
            unread.append(f"reactor {tag}: {state} cannot be read here")
        texts = ((path, it.host.read(path) or "") for path in paths)
        accepting += [f"reactor {tag}: {path}" for path, text in texts if _ACCEPTS.search(text)]
    return accepting, unread


def reactor(it: Facts) -> Iterator[tuple[str, str]]:
    """Each tag of the reactor with each of its states. Raises :class:`Refused` where they are in a
    file that cannot be read.
    """
    told = it.option("reactor") or []
    if isinstance(told, str):
        try:
            told = yaml.safe_load(it.host.read(told) or "") or []
        except yaml.YAMLError:
            raise Refused(f"reactor: {told} is no YAML") from None
    for entry in told if isinstance(told, list) else []:
        for tag, states in entry.items() if isinstance(entry, Mapping) else ():
            yield from (
                (str(tag), str(s)) for s in (states if isinstance(states, list) else [states])
            )


def states_of(it: Facts, state: str) -> list[str]:
    """The files of a state of the reactor, which may be a glob; none where they are not on this
    host.
    """
    if not state.startswith("salt://"):
        return [path for path in it.host.glob(state) if it.host.read(path) is not None]
    name = state.removeprefix("salt://").partition("?")[0]
    roots = [root for paths in it.option("file_roots").values() for root in paths]
    found = (os.path.join(root, name) for root in roots)
    return [path for path in found if it.host.attributes(path)][:1]


# By itself ----------------------------------------------------------------------------------------


def automatic(it: Facts) -> list[str]:
    """What the master does without that anybody asks, by its configuration: ``engine webhook``."""
    found = [f"reactor {tag}" for tag, _ in reactor(it)]
    found += [f"engine {name}" for name in _names(it.option("engines"))]
    found += [f"schedule {name}" for name in _names(it.option("schedule"))]
    # Only their names count, whatever secrets are beside these.
    for option in ("ext_pillar", "master_tops"):
        names = _names(plain(it.opts.get(option)))
        found += [f"{option} {name}" for name in names if _COMMANDS.fullmatch(name)]
    return list(dict.fromkeys(found))


def _names(given: Any) -> list[str]:
    """Those of a mapping, or of a list of names and mappings."""
    items = given if isinstance(given, list) else [given or {}]
    return [
        str(name) for one in items for name in (one if isinstance(one, Mapping) else [one]) if name
    ]


# LDAP ---------------------------------------------------------------------------------------------


def _open_ldap(it: Facts) -> list[str]:
    """How somebody between the master and LDAP gets at passwords, or answers in its place."""
    told = {key: it.option(f"auth.ldap.{key}") for key in ("uri", "server", "tls", "starttls")}
    server = f"ldap{'s' if told['tls'] else ''}://{told['server'] or 'localhost'}"
    open_ways = [
        f"passwords go to {uri} as they are: set auth.ldap.starttls, or have ldaps://"
        for uri in re.split(r"[\s,]+", str(told["uri"] or server).strip())
        if not (told["starttls"] or uri.startswith("ldaps://") or _THIS_HOST.fullmatch(uri))
    ]
    if it.option("auth.ldap.no_verify"):
        open_ways.append(f"auth.ldap.no_verify is yes{it.said_by('auth.ldap.no_verify')}")
    if it.option("auth.ldap.anonymous"):
        open_ways.append(f"auth.ldap.anonymous is yes{it.said_by('auth.ldap.anonymous')}")
    found = _UNVERIFIED.findall(it.host.read(_LDAP_CONF) or "")
    return open_ways + [f"{_LDAP_CONF} says TLS_REQCERT {how}, expected demand" for how in found]


CHECKS: Checks = {controls.UNASKED: (_expected, _seen)}

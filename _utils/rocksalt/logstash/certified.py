"""The certificates and keys of log shipping: whose they are, how long, and who can read them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rocksalt import logstash, permissions
from rocksalt.accounts import database
from rocksalt.errors import Refused
from rocksalt.findings import Seen, some
from rocksalt.host import Host
from rocksalt.logstash import controls, roles
from rocksalt.logstash.facts import Checks, Facts
from rocksalt.pki import certificates, held
from rocksalt.transaction import Transaction

ENROL = "salt-run logs.enrol"
HOST = held.Place(
    logstash.AUTHORITY, logstash.CERTIFICATE, logstash.KEY, logstash.NEXT_KEY, certificates.CLIENT
)
SERVER = held.Place(
    *(logstash.AUTHORITY, logstash.SERVER_CERTIFICATE, logstash.SERVER_KEY),
    *(logstash.NEXT_SERVER_KEY, certificates.SERVER),
)
FOLDER_ACCESS, PLAIN, ROOT_ONLY = "root:root 0755", "root:root 0644", "root:root 0600"
_AS_GIVEN, _ANOTHER = "as in pillar", "another one"
_LISTED = " and more by an ACL"
_GROUP = f"in the group {logstash.USER}"


# Whose they are -----------------------------------------------------------------------------------


def _genuine_expected(it: Facts) -> dict[str, Any]:
    given = dict.fromkeys(roles.given(it.setup), _AS_GIVEN)
    return {"problems": [], "names": it.setup.minion, **given}


def _genuine_seen(it: Facts) -> Seen:
    found, minion = held.read(it.host, HOST), it.setup.minion
    actual: dict[str, Any] = {
        path: _AS_GIVEN if it.host.read(path) == text else _ANOTHER
        for path, text in roles.given(it.setup).items()
    }
    differing = [path for path, state in actual.items() if state == _ANOTHER]
    why = [f"{path} is not what the pillar gives" for path in differing]
    problems = place_problems(found, HOST, it) or list(found.problems.values())
    names = minion
    if found.chain and minion not in certificates.names(found.chain[0]):
        names = ", ".join(certificates.names(found.chain[0])) or "nobody"
        why.append(f"{logstash.CERTIFICATE} is for {names}, and log servers wait for {minion}")
    if (problems or names != minion) and not roles.given(it.setup):
        why.append(f"bring one from the master: {ENROL} {minion}")
    remedy = "" if differing else "manual"
    actual = {"problems": problems, "names": names, **actual}
    return Seen(actual, some([*problems, *why]), remedy=remedy)


def place_problems(found: held.Held, place: held.Place, it: Facts) -> list[str]:
    """What is wrong with a certificate whose files could all be read."""
    if not found.complete or not found.authority:
        return []
    problems = list(certificates.root_problems(found.authority, place.authority))
    problems += certificates.problems(
        found.chain, found.authority, place.certificate, it.now, place.usage
    )
    if not certificates.fits(found.chain[0], found.key):
        problems.append(f"{place.key} is not the key of {place.certificate}")
    return problems


# For how long -------------------------------------------------------------------------------------


def _ends(it: Facts) -> dict[str, str]:
    """What ends -> when, as ``2026-11-22``."""
    found: dict[str, Any] = {}
    places = {"certificate": HOST} if it.setup.ships else {}
    places |= {"own log server": SERVER} if it.setup.receives else {}
    for name, place in places.items():
        own = held.read(it.host, place)
        if own.chain:
            found[name] = min(map(certificates.expires, own.chain))
        if own.authority:
            found["authority"] = certificates.expires(own.authority)
    ends = {name: f"{end:%Y-%m-%dT%H:%M:%SZ}" for name, end in found.items()}
    said = (it.status or {}).get("server_expires") if it.setup.ships else None
    return {**ends, "log server": said} if said else ends


def _expiry_expected(it: Facts) -> dict[str, str]:
    return dict.fromkeys(_ends(it), f"valid for {it.setup.settings['renew_days']} days and more")


def _expiry_seen(it: Facts) -> Seen:
    actual, why = _expiry_expected(it), []
    for name, end in _ends(it).items():
        age = it.since(end)
        left = int(-age // 86400) if age is not None else -1
        if left < it.setup.settings["renew_days"]:
            actual[name] = f"{left} days left"
            why.append(f"the certificate of the {_OWNERS[name]} ends on {end[:10]}")
    if not actual:
        return Seen(problem="skipped", reason=f"there is no certificate yet ({controls.GENUINE})")
    ours = any(actual[name] != _expiry_expected(it)[name] for name in actual if name != _OTHER)
    if why and ours and not roles.given(it.setup):
        why.append(f"renew it from the master: {ENROL} {it.setup.minion}")
    return Seen(actual, some(why))


_OTHER = "log server"
_OWNERS = {
    "certificate": "shipper",
    "own log server": "log server on this host",
    "authority": "authority",
    _OTHER: "log server that takes the lines",
}


# Who can read them --------------------------------------------------------------------------------


def rights(it: Facts) -> dict[str, str]:
    """Path -> access of the folder, of certificates, and of keys, whether they are there or not."""
    found = {
        logstash.FOLDER: FOLDER_ACCESS,
        **dict.fromkeys((logstash.AUTHORITY, logstash.CERTIFICATE), PLAIN),
        **dict.fromkeys((logstash.KEY, logstash.NEXT_KEY, logstash.NEXT_SERVER_KEY), ROOT_ONLY),
        logstash.SERVER_CERTIFICATE: PLAIN,
        logstash.SERVER_KEY: f"root:{logstash.USER} 0640" if it.setup.receives else ROOT_ONLY,
    }
    if it.setup.receives:
        keys = (logstash.SIGNING_KEY, logstash.TRANSPORT_KEY)
        found |= dict.fromkeys(keys, f"{logstash.USER}:{logstash.USER} 0600")
    return found


def _private_expected(it: Facts) -> dict[str, str]:
    found = {path: r for path, r in rights(it).items() if it.host.access(path)}
    return {**found, _GROUP: "nobody"} if it.setup.receives else found


def _private_seen(it: Facts) -> Seen:
    wanted, actual = rights(it), {}
    for path in wanted:
        if found := it.host.access(path):
            actual[path] = f"{found}{_LISTED if permissions.acl(it.host, path) else ''}"
    why = [
        f"{path} is {have}, expected {wanted[path]}"
        for path, have in actual.items()
        if have != wanted[path]
    ]
    if not it.setup.receives:
        return Seen(actual, some(why))
    others = strangers(it.host, logstash.USER)
    actual[_GROUP] = ", ".join(others) or "nobody"
    people = [f"{actual[_GROUP]} can read keys, by the group {logstash.USER}"] if others else []
    return Seen(actual, some([*why, *people]), remedy="manual" if people and not why else "")


def strangers(host: Host, group: str) -> list[str]:
    """Who is in a group beside its own account."""
    return sorted(database.read(host).members.get(group, set()) - {group})


# The log server's ---------------------------------------------------------------------------------


def server_given(it: Facts) -> dict[str, str]:
    """Path -> content of what the pillar gives for a log server as well: a certificate that is for
    one, and its key.
    """
    found = roles.given(it.setup)
    text = found.get(logstash.CERTIFICATE)
    if not text or not it.setup.receives:
        return {}
    own = certificates.load(text, it.setup.family.where("certificate"))
    if certificates.SERVER not in certificates.usages(own[0]):
        return {}
    key = found.get(logstash.KEY) or it.host.read(logstash.KEY)
    return {logstash.SERVER_CERTIFICATE: text, **({logstash.SERVER_KEY: key} if key else {})}


def _serving_expected(it: Facts) -> dict[str, Any]:
    given = dict.fromkeys(server_given(it), _AS_GIVEN)
    return {"problems": [], "names": roles.called(it.setup), **given}


def _serving_seen(it: Facts) -> Seen:
    found, called = held.read(it.host, SERVER), roles.called(it.setup)
    given = server_given(it)
    actual: dict[str, Any] = {
        path: _AS_GIVEN if it.host.read(path) == text else _ANOTHER for path, text in given.items()
    }
    differing = [path for path, state in actual.items() if state == _ANOTHER]
    problems = place_problems(found, SERVER, it) or list(found.problems.values())
    why = [f"{path} is not what the pillar gives" for path in differing]
    names = certificates.names(found.chain[0]) if found.chain else called
    lacking = [name for name in called if not _is_for(name, names)]
    if lacking:
        why.append(
            f"{logstash.SERVER_CERTIFICATE} is for {', '.join(names) or 'nobody'}, and hosts call "
            f"this log server {', '.join(lacking)}"
        )
    if problems or lacking:
        why.append(_how_to_get(it))
    actual |= {"problems": problems, "names": [name for name in called if name not in lacking]}
    return Seen(actual, some([*problems, *why]), remedy="" if differing else "manual")


def _is_for(name: str, names: list[str]) -> bool:
    star = f"*.{name.partition('.')[2]}"
    return bool({name.lower(), star.lower()} & {known.lower() for known in names})


def _how_to_get(it: Facts) -> str:
    if roles.given(it.setup):
        where = it.setup.family.where("certificate")
        return f"{where}: give one that is for a server as well, by that name"
    return f"bring one from the master: {ENROL} {it.setup.minion}"


SERVER_CHECKS: Checks = {controls.SERVER_GENUINE: (_serving_expected, _serving_seen)}

# The change ---------------------------------------------------------------------------------------

CHECKS: Checks = {
    controls.GENUINE: (_genuine_expected, _genuine_seen),
    controls.EXPIRY: (_expiry_expected, _expiry_seen),
    controls.PRIVATE: (_private_expected, _private_seen),
}


def put(host: Host, it: Facts, change: Transaction, ids: Collection[str]) -> None:
    """Writes what the pillar gives, and sets who may read what."""
    if controls.GENUINE in ids:
        key = key_of_given(it)
        if key is not None:
            change.write(logstash.KEY, key, "0600")
            change.remove(logstash.NEXT_KEY)
        for path, text in roles.given(it.setup).items():
            if host.read(path) != text or host.path(path).is_symlink():
                change.write(path, text, "0600")
    if controls.SERVER_GENUINE in ids:
        for path, text in server_given(it).items():
            if host.read(path) != text or host.path(path).is_symlink():
                change.write(path, text, "0600")
    if {controls.GENUINE, controls.PRIVATE, controls.SERVER_GENUINE} & {*ids}:
        secure(host, it)


def secure(host: Host, it: Facts) -> None:
    """Owners and modes of certificates and keys."""
    permissions.secure(host, rights(it))


def key_of_given(it: Facts) -> str | None:
    """The key that was made here, for a certificate that the pillar gives without one."""
    text = roles.given(it.setup).get(logstash.CERTIFICATE)
    if not text or it.setup.settings["private_key"] or it.host.read(logstash.CERTIFICATE) == text:
        return None
    where = it.setup.family.where("certificate")
    try:
        return held.key_of(it.host, HOST, certificates.load(text, where)[0])
    except Refused as refused:
        raise Refused(
            f"{where}: {refused} (logstash.request), or give {logstash.TOP}:private_key"
        ) from None

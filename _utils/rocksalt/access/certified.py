"""The certificate of salt-api, its key, and the passwords of people."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from rocksalt import access
from rocksalt.access import controls, rendering
from rocksalt.access.door import passwords
from rocksalt.access.facts import ROOT, Checks, Facts
from rocksalt.errors import Refused
from rocksalt.findings import AS_RENDERED, Seen, compared, some
from rocksalt.permissions import acl
from rocksalt.pki import certificates

_GROUP = "in the group {}"
_LISTED = " and more by an ACL"
_STRONG = "strong hashes"
NO_HASHES = "the settings are those that were kept, and they have no hashes of passwords"


def _genuine_expected(it: Facts) -> dict[str, Any]:
    return {"problems": [], "ends": f"in {it.settings['renew_days']} days or later"}


def _genuine_seen(it: Facts) -> Seen:
    """By its own words: who signed it, those who log in have to judge."""
    path = it.settings["tls_certificate"]
    try:
        own, key = it.chain[0], it.key
    except Refused as refused:
        return Seen({"problems": [str(refused)], "ends": None}, str(refused))
    problems = [*certificates.strength_problems(own, path)]
    problems += certificates.time_problems(own, path, it.now)
    if certificates.SERVER not in certificates.usages(own):
        problems.append(f"{path}: is not for a server")
    if own.subject == own.issuer:
        problems.append(f"{path}: signed itself, so that nobody can tell it from a forged one")
    if len(it.chain) > 1:
        problems += certificates.chain_problems(it.chain[:-1], it.chain[-1], path)
    if not certificates.fits(own, key):
        problems.append(f"{it.settings['tls_key']} is not the key of {path}")
    names = certificates.names(own)
    if not names:
        problems.append(f"{path}: is for no name, which those who log in look for")
    days = certificates.days_left(own, it.now)
    wanted = _genuine_expected(it)["ends"]
    ends = wanted if days >= it.settings["renew_days"] else f"in {days} days"
    why = [*problems, *([f"{path} ends {ends}"] if ends != wanted else [])]
    return Seen({"problems": problems, "ends": ends}, some(why))


# Secrets ------------------------------------------------------------------------------------------


def _key_expected(it: Facts) -> dict[str, str]:
    return {it.settings["tls_key"]: it.readable, _GROUP.format(it.group): "nobody"}


def _key_seen(it: Facts) -> Seen:
    path, wanted = it.settings["tls_key"], it.readable
    rights = it.host.access(it.key_file)
    if rights is None:
        return Seen(None, f"{path} does not exist", remedy="manual")
    listed = _LISTED if acl(it.host, it.key_file) else ""
    others, group = _others(it), _GROUP.format(it.group)
    actual = {path: f"{rights}{listed}", group: ", ".join(others) or "nobody"}
    why = [f"{path} is {rights}{listed}, expected {wanted}"] if rights + listed != wanted else []
    people = [f"{actual[group]} can read {path}, by the group {it.group}"] if others else []
    left = why_left(it) if why else ""
    manual = left or (people and not why)
    return Seen(
        actual, some([*why, *filter(None, [left]), *people]), remedy="manual" if manual else ""
    )


def why_left(it: Facts) -> str:
    """Why the file of the private key is not ours to give; empty where it is. Its path may lead to
    a file of others: that of another key, or whatever a link is set on by who may set one.
    """
    path, certificate = it.settings["tls_key"], it.settings["tls_certificate"]
    try:
        if not certificates.fits(it.chain[0], it.key):
            return f"{path} is not the key of {certificate}"
        for link in _links(str(it.host.path(path))):
            folder = os.path.dirname(link)[len(it.host.root) :] or "/"
            at = it.host.attributes(folder)
            if at is None or at.owner != ROOT or int(at.mode, 8) & _WRITABLE:
                whose = at.access if at else "elsewhere"
                return f"{path} is reached by a link in {folder} ({whose}), which is not root's"
    except (Refused, OSError) as error:
        return str(error)
    return ""


_WRITABLE, _MOST_LINKS = 0o022, 40


def _links(path: str) -> Iterator[str]:
    """The links that lead from a path to its file."""
    at, rest, count = "/", path.strip("/").split("/"), 0
    while rest:
        name = rest.pop(0)
        here = os.path.normpath(os.path.join(at, name))
        if not os.path.islink(here):
            at = here
            continue
        yield here
        count += 1
        if count > _MOST_LINKS:
            raise OSError(f"{path} goes through more than {_MOST_LINKS} links")
        target = os.readlink(here)
        at = "/" if target.startswith("/") else at
        rest = [word for word in target.split("/") if word] + rest


def _others(it: Facts) -> list[str]:
    """Who can read what the master's group can."""
    return it.strangers if it.user != ROOT else []


def _passwords_expected(it: Facts) -> dict[str, str] | None:
    if it.settings["backend"] != "file":
        return None
    return {
        access.USERS: f"{AS_RENDERED}, {it.readable}",
        "hashes": _STRONG,
        _GROUP.format(it.group): "nobody",
    }


def _passwords_seen(it: Facts) -> Seen:
    text, rights = it.host.read(access.USERS), it.host.access(access.USERS)
    if it.settings["backend"] != "file":
        return Seen(rights, f"{access.USERS} is there, and passwords are checked by LDAP")
    if not it.setup.knows_hashes:
        return Seen(problem="error", reason=NO_HASHES)
    if rights is None:
        return Seen(None, f"{access.USERS} does not exist")
    state = compared(text, rendering.users(it.settings) or "")
    if it.host.path(access.USERS).is_symlink():
        state = "is a link"
    weak, others = weak_hashes(it), _others(it)
    listed = _LISTED if acl(it.host, access.USERS) else ""
    wanted = f"{AS_RENDERED}, {it.readable}"
    actual = {
        access.USERS: f"{state}, {rights}{listed}",
        "hashes": some(weak) or _STRONG,
        _GROUP.format(it.group): ", ".join(others) or "nobody",
    }
    have = actual[access.USERS]
    why = [f"{access.USERS} {have}, expected {wanted}"] if have != wanted else []
    people = [f"{', '.join(others)} can read it, by the group {it.group}"] if others else []
    manual = not why and (weak or people)
    return Seen(actual, some([*why, *weak, *people]), remedy="manual" if manual else "")


def weak_hashes(it: Facts) -> list[str]:
    """Whose declared hash somebody could guess, or nobody could ever match."""
    return [
        f"{it.setup.family.where('hashes', name)} is no strong hash: salt-call --local "
        "access.password makes one"
        for name, text in sorted(it.settings["hashes"].items())
        if not passwords.is_strong(text)
    ]


CHECKS: Checks = {
    controls.GENUINE: (_genuine_expected, _genuine_seen),
    controls.KEY: (_key_expected, _key_seen),
    controls.PASSWORDS: (_passwords_expected, _passwords_seen),
}

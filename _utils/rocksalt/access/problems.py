"""What in the settings of the family contradicts itself, although each is well-formed."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from rocksalt import access
from rocksalt.access import booked, compiled, deploys, judging, rooted, targets, widening
from rocksalt.access.door import names
from rocksalt.schema import nearest
from rocksalt.settings import SECRET, Baseline, as_date

FUNCTION = re.compile(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*")
Grant = Mapping[str, Any]
Where = Callable[..., str]


def problems(
    baseline: Baseline,
    minion: str,
    functions: Collection[str] = (),
    runners: Collection[str] = (),
) -> list[str]:
    """A sentence each, whatever the host is like: it stops every family.

    ``functions`` and ``runners`` are the names that are loaded here. A function of a module that is
    not among them may exist on other hosts, so nothing is said of it.
    """
    family = baseline.families[access.FAMILY]
    settings, where = family.settings, family.where
    today = baseline.time.astimezone(dt.timezone.utc).date()
    return [
        *_people(settings, where),
        *_roles(settings, where, {"functions": functions, "runners": runners}),
        *_apps(settings, where),
        *_grants(settings, where, today),
        *widening.problems(settings, where, today),
        *(_passwords(settings, where) if minion in settings["masters"] else ()),
        *_door(settings, where),
        *_signing(settings, where),
        *booked.problems(settings, where),
    ]


def _people(settings: Mapping[str, Any], where: Where) -> Iterator[str]:
    for name in sorted(settings["users"]):
        if not names.USER.fullmatch(name):
            yield (
                f"{where('users', name)}: {name!r} is no log-in name of letters, digits and . _ @ "
                "- alone; Salt takes other characters for a pattern of many names"
            )
        elif settings["backend"] == "ldap" and name != names.folded(name):
            yield (
                f"{where('users', name)}: {name!r} would have no rights, as directories take Alice "
                f"for alice and the door makes small letters of both; write {names.folded(name)}"
            )
        elif others := names.taken_for(name, settings["users"]):
            yield (
                f"{where('users', name)}: Salt would give {name} the rights of "
                f"{', '.join(others)} as well, as a point is any character there; one of "
                "them needs another name"
            )
    for name in sorted(settings["groups"]):
        if not names.GROUP.fullmatch(name):
            yield (
                f"{where('groups', name)}: {name!r} is no name of a group of letters, digits, "
                "spaces and . _ - alone"
            )
    if settings["groups"] and settings["backend"] == "file":
        yield (
            f"{where('groups')}: {', '.join(sorted(settings['groups']))} cannot be, as backend is "
            "file, which knows no groups; give their members grants of their own"
        )
    if (settings["users"] or settings["groups"]) and not settings["masters"]:
        yield (
            f"{where('masters')}: is empty, so that nobody has the rights that are granted; name "
            "the minion of the host that runs the Salt master"
        )


def _roles(
    settings: Mapping[str, Any], where: Where, loaded: Mapping[str, Collection[str]]
) -> Iterator[str]:
    for name, role in sorted(settings["roles"].items()):
        for kind in ("functions", "runners"):
            for function in role.get(kind, ()):
                why = _function(function, loaded[kind])
                if why:
                    yield f"{where('roles', name, kind)}: {function!r} {why}"
        if not (role.get("functions") or role.get("runners") or role.get("deploys")):
            yield (
                f"{where('roles', name)}: the role may do nothing; give it functions, runners or "
                "deploys: true"
            )


def _function(name: str, loaded: Collection[str]) -> str:
    if not FUNCTION.fullmatch(name):
        return "is not the whole name of one function, such as test.ping"
    if name == compiled.DEPLOY:
        return "would deploy every app; write deploys: true in the role, and apps in its grants"
    modules = {known.partition(".")[0] for known in loaded}
    if name.partition(".")[0] in modules and name not in loaded:
        return f"does not exist{nearest(name, loaded)}"
    return ""


def _apps(settings: Mapping[str, Any], where: Where) -> Iterator[str]:
    for name, app in sorted(settings["apps"].items()):
        if not deploys.NAME.fullmatch(name):
            yield (
                f"{where('apps', name)}: {name!r} is no name of an app, which begins with a small "
                "letter and has small letters, digits, _ and - alone; nobody can deploy it"
            )
        why = judging.problem(app["version"])
        if why:
            yield f"{where('apps', name, 'version')}: {app['version']!r} {why}"
        for target in app["minions"]:
            if targets.problem(target):
                yield f"{where('apps', name, 'minions')}: {target!r} {targets.problem(target)}"


def _grants(settings: Mapping[str, Any], where: Where, today: dt.date) -> Iterator[str]:
    for kind in ("users", "groups"):
        for name, person in sorted(settings[kind].items()):
            for number, grant in enumerate(person["grants"]):
                at = f"{where(kind, name, 'grants')}:{number}"
                if grant["role"] not in settings["roles"]:
                    hint = nearest(grant["role"], settings["roles"])
                    yield f"{at}:role: there is no role {grant['role']!r}{hint}"
                else:
                    role = settings["roles"][grant["role"]]
                    yield from _targets(grant, role, at)
                    yield from _limits(grant, role, at, today)
                    yield from _granted_apps(grant, role, settings["apps"], at)


def _targets(grant: Grant, role: Mapping[str, Any], at: str) -> Iterator[str]:
    named = grant.get("targets", [])
    if not named and (role.get("functions") or role.get("deploys")):
        yield (
            f"{at}:targets: {'is empty' if 'targets' in grant else 'is missing'}; name the minions "
            f"on which {grant['role']} holds"
        )
    if named and not (role.get("functions") or role.get("deploys")):
        yield f"{at}:targets: {named!r} mean nothing, as {grant['role']} has only runners"
    for target in named:
        why = targets.problem(target)
        if why:
            yield f"{at}:targets: {target!r} {why}"
        elif targets.is_everything(target) and not role.get("everywhere"):
            yield f"{at}:targets: {target!r} is every host, and {grant['role']} is no role for that"
        elif targets.is_everything(target) and not grant.get("everywhere"):
            yield (
                f"{at}:targets: {target!r} is every host; write everywhere: true beside it if that "
                "is meant"
            )
    if grant.get("everywhere") and not any(map(targets.is_everything, named)):
        yield f"{at}:everywhere: means nothing without the target *; name it, or leave this out"


def _limits(grant: Grant, role: Mapping[str, Any], at: str, today: dt.date) -> Iterator[str]:
    last = as_date(grant["until"]) if "until" in grant else None
    if "until" in grant and last is None:
        yield f"{at}:until: {grant['until']!r} is not a day such as {today}"
    if not role.get("days"):
        return
    latest = today + dt.timedelta(days=role["days"])
    for key in ("until", "reason"):
        if not str(grant.get(key, "")).strip():
            right = f"such as {latest}" if key == "until" else "in words"
            yield f"{at}:{key}: is missing; {grant['role']} is for a time and a reason, {right}"
    if last and last > latest:
        yield (
            f"{at}:until: {last} is too far away; {grant['role']} lasts until {latest} at the "
            "latest"
        )


def _granted_apps(
    grant: Grant, role: Mapping[str, Any], apps: Mapping[str, Any], at: str
) -> Iterator[str]:
    if grant.get("apps") and not role.get("deploys"):
        yield f"{at}:apps: {grant['apps']!r} mean nothing, as {grant['role']} does not deploy"
        return
    # Who may apply any state needs no app to do so.
    if role.get("deploys") and "apps" not in grant and not rooted.functions(role):
        yield f"{at}:apps: is missing; name the apps to deploy{_known(apps)}, or write [] for none"
    for name in grant.get("apps", ()):
        if name not in apps:
            yield f"{at}:apps: there is no app {name!r}{nearest(name, apps)}"
        elif _separate(grant.get("targets", []), apps[name]["minions"]):
            yield (
                f"{at}:apps: {name} belongs on {', '.join(apps[name]['minions'])}, and none of "
                f"that can be among the targets {', '.join(grant['targets'])}"
            )


def _known(apps: Mapping[str, Any]) -> str:
    return f" (there are {', '.join(sorted(apps))})" if apps else ""


def _separate(some: list[str], others: list[str]) -> bool:
    """Whether two lists of targets, both good, have no host in common."""
    good = some and not any(targets.problem(target) for target in [*some, *others])
    return bool(good) and not targets.overlap(some, others)


def _passwords(settings: Mapping[str, Any], where: Where) -> Iterator[str]:
    """Those of the master, for other hosts do not see them; settings that were kept have none."""
    if settings["hashes"] == SECRET:
        return
    if settings["backend"] != "file":
        if settings["hashes"]:
            yield (
                f"{where('hashes')}: {', '.join(sorted(settings['hashes']))} are not asked for "
                "their passwords here, as backend is ldap; take the hashes away"
            )
        return
    for name in sorted(set(settings["users"]) - set(settings["hashes"])):
        yield (
            f"{where('hashes')}: {name} of {where('users', name)} has none, and so cannot log in; "
            "add what `salt-call --local access.password` prints"
        )
    for name in sorted(set(settings["hashes"]) - set(settings["users"])):
        hint = nearest(name, settings["users"])
        yield f"{where('hashes', name)}: there is no user {name!r}{hint}"


def _door(settings: Mapping[str, Any], where: Where) -> Iterator[str]:
    address = settings["address"]
    if address:
        try:
            everywhere = ipaddress.ip_address(address).is_unspecified
        except ValueError:
            yield f"{where('address')}: {address!r} is no address such as 10.0.0.5"
        else:
            if everywhere and not settings["any_address"]:
                yield (
                    f"{where('address')}: {address} is every address of the host; name one of the "
                    f"internal network, or set {where('any_address')}: true"
                )
    for key in ("tls_certificate", "tls_key", "client_ca"):
        path = settings[key]
        if path and (not path.startswith("/") or "/../" in f"{path}/"):
            yield f"{where(key)}: {path!r} is no whole path such as /etc/rocksalt/access/{key}.pem"
    if settings["tls_key"] in (settings["tls_certificate"], settings["client_ca"]):
        yield (
            f"{where('tls_key')}: {settings['tls_key']!r} is the file of a certificate as well; "
            "the key is a file of its own, as nobody else may read it"
        )


def _signing(settings: Mapping[str, Any], where: Where) -> Iterator[str]:
    if settings["require_signed"] and not settings["minions_sign"]:
        yield (
            f"{where('require_signed')}: is true, and {where('minions_sign')} is false: no minion "
            "could answer; have them all sign first"
        )

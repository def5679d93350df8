"""All rights in one form: Salt's own ``external_auth``, made of users, grants, roles and apps.

Salt enforces it, and :mod:`rocksalt.access.asking` answers from it, so that they cannot differ.
Salt looks for patterns from the beginning of a text on, but not to its end: here each of them takes
one text as a whole.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from rocksalt.access import door, targets
from rocksalt.access.door.grants import DATA as DATA
from rocksalt.access.door.grants import DEPLOY as DEPLOY
from rocksalt.access.door.grants import STATUS
from rocksalt.settings import as_date

BACKENDS = {"file": door.AUTH, "ldap": door.LDAP}
"""The setting ``backend`` -> Salt's name of who checks passwords."""
RUNNER = "@runner"
GROUNDS = {
    "minion_data_cache": True,
    "keep_acl_in_token": False,
    "permissive_acl": False,
    "auth.enable_expanded_auth_matching": False,
    "enable_ssh_minions": False,
}
"""Options of the master that the compiled form rests on. Without the cache, Salt 3006 takes each
target of a right for all minions; the others keep old rights in tokens, or match differently.
"""
ALONE = {"order_masters": False}
"""What no file of ours may change, as a site has it on purpose or not: a master above others sends
calls for hosts that it does not know, and for these any target is taken for granted.
"""
_LOCAL = ("local", "local_async")
_RUNNER = ("runner", "runner_async")

Entry = dict[str, list[Any]]
Settings = Mapping[str, Any]


def compile(settings: Settings, now: dt.date) -> dict[str, Any]:
    """What the master's configuration says of people's rights, the same bytes for equal settings.

    ``{"external_auth": {backend: {person: [{compound or "@runner": [permission]}]}},
    "publisher_acl": {}}``. People use salt-api, so the master's own socket is for nobody. A grant
    whose last day is before ``now`` (of UTC) gives nothing, nor does one that contradicts itself.
    """
    today = _day(now)
    people = {
        **{name: user["grants"] for name, user in settings["users"].items()},
        **{f"{name}%": group["grants"] for name, group in settings["groups"].items()},
    }
    rights = {
        name: _entries(grants, settings, today)
        for name, grants in sorted(people.items())
        if settings["backend"] != "file" or not name.endswith("%")
    }
    found = {name: entries for name, entries in rights.items() if entries}
    return {"external_auth": {BACKENDS[settings["backend"]]: found}, "publisher_acl": {}}


def clients(settings: Settings, now: dt.date) -> list[str]:
    """Which clients salt-api has to serve: those of runners only where somebody may call one."""
    (people,) = compile(settings, now)["external_auth"].values()
    runs = any(RUNNER in entry for entries in people.values() for entry in entries)
    return [*_LOCAL, *(_RUNNER if runs else ())]


def described(settings: Settings) -> dict[str, Any]:
    """What the compiled form cannot say: why, as what and until when somebody has a right. It goes
    into the master's configuration as :data:`DATA`, and holds no secret.

    ``{"users": {name: [grant]}, "groups": {name: [grant]}, "roles": {name: role}, "apps": {name:
    {"version", "minions", "customer", "timeout"}}}``, with the roles and apps that are granted.
    """
    people = {
        kind: {name: _plain(one["grants"]) for name, one in sorted(settings[kind].items())}
        for kind in ("users", "groups")
    }
    grants = [grant for kind in people.values() for given in kind.values() for grant in given]
    roles = {grant["role"] for grant in grants}
    apps = {app for grant in grants for app in grant.get("apps", ())}
    kept = ("version", "minions", "customer", "timeout")
    return {
        **people,
        "roles": {n: dict(role) for n, role in sorted(settings["roles"].items()) if n in roles},
        "apps": {
            name: {key: app[key] for key in kept if key in app}
            for name, app in sorted(settings["apps"].items())
            if name in apps
        },
    }


def rights(grant: Mapping[str, Any], settings: Settings) -> list[Entry]:
    """What one grant gives, whatever the day is; ``settings`` needs ``roles`` and ``apps``."""
    role = settings["roles"].get(grant["role"], {})
    named = grant.get("targets", [])
    if any(targets.problem(target) for target in named):
        return []
    everywhere = bool(role.get("everywhere") and grant.get("everywhere"))
    if any(targets.is_everything(target) for target in named) and not everywhere:
        return []
    names = set(role.get("functions", ()))
    permissions: list[Any] = []
    if role.get("deploys"):
        permissions = _deploys(grant.get("apps", ()), settings["apps"], STATUS in names)
        names -= {STATUS}
    permissions = [*map(exactly, sorted(names)), *permissions]
    found: list[Entry] = []
    if named and permissions:
        found.append({targets.compound(named): permissions})
    if role.get("runners"):
        found.append({RUNNER: [exactly(name) for name in sorted(set(role["runners"]))]})
    return found


def is_over(grant: Mapping[str, Any], now: dt.date) -> bool:
    """Whether the last day of a grant has passed in UTC; one that is no day has."""
    if "until" not in grant:
        return False
    last = as_date(grant["until"])
    return last is None or last < _day(now)


def exactly(text: str) -> str:
    """The pattern of this very text, from its beginning to its end."""
    return rf"^{re.escape(text)}\Z"


def wholly(pattern: str) -> str:
    """A pattern that has to match a text as a whole."""
    return rf"^(?:{pattern})\Z"


def _entries(grants: Iterable[Mapping[str, Any]], settings: Settings, now: dt.date) -> list[Entry]:
    """Those of all grants that are not over: each once, sorted, runners in one."""
    found = [e for grant in grants if not is_over(grant, now) for e in rights(grant, settings)]
    runners = sorted({name for entry in found for name in entry.get(RUNNER, ())})
    hosts = {json.dumps(entry, sort_keys=True): entry for entry in found if RUNNER not in entry}
    return [*(hosts[text] for text in sorted(hosts)), *([{RUNNER: runners}] if runners else [])]


def _deploys(names: Iterable[str], apps: Mapping[str, Any], looks: bool) -> list[Any]:
    """The permission to deploy apps, each in the versions that it may have, and to look how that
    went, where a role has that. Only keywords are looked at: as positions, app and version are not
    in them, which is refused.
    """
    known = {name: {"app": exactly(name)} for name in sorted(set(names) & set(apps))}
    versions = {name: {"version": wholly(apps[name]["version"])} for name in known}
    if not known:
        return []
    seen = [{exactly(STATUS): [{"kwargs": it} for it in known.values()]}] if looks else []
    return [*seen, {exactly(DEPLOY): [{"kwargs": {**known[it], **versions[it]}} for it in known]}]


def _plain(grants: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    keys = ("role", "targets", "apps", "until", "reason", "everywhere")
    return [{key: grant[key] for key in keys if key in grant} for grant in grants]


def _day(now: dt.date) -> dt.date:
    if isinstance(now, dt.datetime):
        return (now.astimezone(dt.timezone.utc) if now.tzinfo else now).date()
    return now

"""Whether what a master lets people do is what their grants give: by person, target and call."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .master import OURS

GRANTING = ("external_auth", "publisher_acl")
DEPLOYS, LOOKS = "deploy.run", "deploy.status"
Grant = Mapping[str, Any]


def undeclared(files: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> list[str]:
    """Rights that no grant gives, in words; also all that another file than ours has."""
    found = []
    for path, tree in files.items():
        for key in GRANTING:
            given = tree.get(key) or {}
            if path != OURS or key != "external_auth" or not isinstance(given, Mapping):
                found += [f"{path}: {key}"] if given else []
                continue
            for people in given.values():
                found += [f"{who}: {right}" for who, right in _too_much(people, settings)]
    return found


def _too_much(people: Any, settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if not isinstance(people, Mapping):
        yield "everybody", people
        return
    for who, entries in people.items():
        grants = list(_grants(str(who), settings))
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, Mapping):
                yield who, entry
                continue
            for target, calls in entry.items():
                for call in calls if isinstance(calls, list) else [calls]:
                    if not any(_gives(grant, str(target), call, settings) for grant in grants):
                        yield who, {target: call}


def _grants(who: str, settings: Mapping[str, Any]) -> Iterator[Grant]:
    """The grants of a person, or of a group (``ops%``), whose last day has not passed."""
    people = settings["groups"] if who.endswith("%") else settings["users"]
    today = dt.datetime.now(dt.timezone.utc).date().isoformat()
    for grant in people.get(who.removesuffix("%"), {}).get("grants", ()):
        if str(grant.get("until", today)) >= today:
            yield grant


def _gives(grant: Grant, target: str, call: Any, settings: Mapping[str, Any]) -> bool:
    role = settings["roles"].get(grant["role"], {})
    if target == "@runner":
        return _only(call) in role.get("runners", ())
    hosts = {host for part in target.split(" or ") for host in _hosts(part)}
    everywhere = role.get("everywhere") and grant.get("everywhere")
    if hosts != set(grant.get("targets", ())) or (any(map(_everything, hosts)) and not everywhere):
        return False
    if isinstance(call, Mapping):
        return bool(role.get("deploys")) and _deploys(grant, call, settings)
    return _only(call) in role.get("functions", ())


def _deploys(grant: Grant, call: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether a permission lets somebody deploy, or ask about, only apps of the grant."""
    apps = {name: settings["apps"].get(name, {}) for name in grant.get("apps", ())}
    for function, conditions in call.items():
        name = _only(function)
        if name not in (DEPLOYS, LOOKS) or not isinstance(conditions, list) or not conditions:
            return False
        for condition in conditions:
            words = condition.get("kwargs") if isinstance(condition, Mapping) else None
            if not isinstance(words, Mapping):
                return False
            app = _only(words.get("app"))
            if app not in apps:
                return False
            version = words.get("version", "")
            if name == DEPLOYS and version != rf"^(?:{apps[app].get('version')})\Z":
                return False
    return True


def _hosts(part: str) -> list[str]:
    """The ids of ``L@web1,web2``, or one glob."""
    return part[2:].split(",") if part.startswith("L@") else [part]


def _everything(host: str) -> bool:
    """Whether a target is a glob in which no name is left."""
    return not re.search("[A-Za-z0-9]", re.sub(r"\[[^]]*\]", "", host))


def _only(pattern: Any) -> str | None:
    """The one text that a pattern takes; None where it may take others."""
    found = re.fullmatch(r"\^(.*)\\Z", pattern) if isinstance(pattern, str) else None
    text = re.sub(r"\\(.)", r"\1", found[1]) if found else ""
    return text if found and re.escape(text) == found[1] else None

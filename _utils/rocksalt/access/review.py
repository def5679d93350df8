"""The review: every person, role and right in words, when it was used last, what changed since the
last review, and who is root by other ways than roles.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt.access import asking, rooted, wording, writers
from rocksalt.access.signing import Review
from rocksalt.access.uses import Uses
from rocksalt.backup import names

Options = Mapping[str, Any]


def reviewed(opts: Options) -> dict[str, Any]:
    """All that a review is about, as its record keeps it: ``{"external_auth", "described", "root":
    {"files": {person: [what]}, "elsewhere": [who], "unseen": [what could not be looked at]}}``.
    """
    by_files, unseen = writers.writers(opts)
    return {
        "external_auth": opts.get("external_auth") or {},
        "described": asking.known(opts),
        "root": {"files": by_files, "elsewhere": writers.remotes(opts), "unseen": unseen},
    }


def review(
    opts: Options, seen: Mapping[str, Any], uses: Uses, now: dt.datetime, days: int,
    last: Review | None,
) -> dict[str, Any]:  # fmt: skip
    """What a reviewer reads. ``seen`` is :func:`reviewed`; ``days`` is for how long a right may be
    unused.

    ``{"time", "people": {name: {"may": [sentences], "last_login":
    time or None, "last_calls": {function: time}, "unused": [functions] or None where nobody can
    tell}}, "unused":
    sentence of what is meant, "root": {"roles": [sentences], "files", "elsewhere", "unseen"},
    "strangers": [who used salt-api and has no rights of their own], "changes": {"since": sentence,
    "more": [sentences], "less": [sentences]}, "warnings": [sentences]}``
    """
    since = now - dt.timedelta(days=days)
    judged = uses.begins is not None and uses.begins <= since
    people = dict(sorted(_people(seen)))
    return {
        "time": names.utc(now),
        "people": {
            _title(name): _person(name, entries, seen, uses, now, since if judged else None)
            for name, entries in people.items()
        },
        "unused": _unused(uses, since, days),
        "root": {"roles": list(_by_roles(people)), **seen["root"]},
        "strangers": sorted({*uses.logins, *uses.calls} - set(people)),
        "changes": _changes(seen, last),
        "warnings": asking.warnings(opts),
    }


def _people(seen: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Name, or group with a %, -> entries: those with rights, and those with grants alone."""
    found: dict[str, list[Any]] = {name: [] for name in seen["described"]["users"]}
    found |= {f"{name}%": [] for name in seen["described"]["groups"]}
    for people in seen["external_auth"].values():
        for name, entries in (people or {}).items():
            if not name.startswith("^"):  # what a backend is told, such as the name of its file
                found.setdefault(name, []).extend(
                    entries if isinstance(entries, list) else [entries]
                )
    yield from found.items()


def _person(
    name: str, entries: list[Any], seen: Mapping[str, Any], uses: Uses, now: dt.datetime,
    since: dt.datetime | None,
) -> dict[str, Any]:  # fmt: skip
    data = seen["described"]
    group = name.endswith("%")
    given = data["groups"].get(name[:-1], ()) if group else data["users"].get(name, ())
    told = {"may": asking.sentences(data, given, entries, now) or ["nothing"]}
    if group:
        return told  # whose members are, LDAP knows
    login, calls = uses.logins.get(name), uses.calls.get(name, {})
    return {
        **told,
        "last_login": names.utc(login) if login else None,
        "last_calls": {function: names.utc(time) for function, time in sorted(calls.items())},
        "unused": None if since is None else _not_called(entries, calls, since),
    }


def _not_called(
    entries: list[Any], calls: Mapping[str, dt.datetime], since: dt.datetime
) -> list[str]:
    """Functions that somebody may call, and did not since then."""
    functions = set()
    for entry in asking.single(entries):
        permissions = next(iter(entry.values())) if isinstance(entry, Mapping) else [entry]
        for permission in permissions:
            pattern = permission if isinstance(permission, str) else next(iter(permission))
            functions.add(wording.named(pattern) or wording.permission(pattern))
    return sorted(name for name in functions if name not in calls or calls[name] < since)


def _unused(uses: Uses, since: dt.datetime, days: int) -> str:
    if uses.begins is None:
        return f"nobody can tell what was used: {uses.why}"
    begins = names.utc(uses.begins)
    lost = f"; {uses.damaged} lines of the log could not be read" if uses.damaged else ""
    if uses.begins > since:
        return (
            f"nobody can tell yet what was not used for {days} days: the log begins {begins}{lost}"
        )
    return f"unused is what was not called for {days} days, since {names.utc(since)}{lost}"


def _by_roles(people: Mapping[str, list[Any]]) -> Iterator[str]:
    for name, entries in people.items():
        for how in rooted.by_rights(asking.single(entries)):
            yield f"{_title(name)} is root {how}"


def _changes(seen: Mapping[str, Any], last: Review | None) -> dict[str, Any]:
    """What a person gained and lost since the last review."""
    if last is None:
        return {"since": "there was no review yet", "more": [], "less": []}
    before, now = set(_facts(last.reviewed)), set(_facts(seen))
    return {
        "since": f"{last.reviewer} reviewed at {names.utc(last.time)}",
        "more": sorted(now - before),
        "less": sorted(before - now),
    }


def _facts(seen: Mapping[str, Any]) -> Iterator[str]:
    """All that was reviewed, in sentences that can be compared."""
    for backend, people in seen["external_auth"].items():
        for name, entries in (people or {}).items():
            for entry in asking.single(entries if isinstance(entries, list) else [entries]):
                yield f"{_title(name)} may, by {backend}, {wording.entry(entry)}"
    for kind, mark in (("users", ""), ("groups", "%")):
        for name, grants in seen["described"][kind].items():
            yield from (f"{_title(name + mark)} is {wording.grant(grant)}" for grant in grants)
    for who, what in seen["root"]["files"].items():
        yield from (f"{who} can write {place}" for place in what)
    yield from (f"{who} is root" for who in seen["root"]["elsewhere"])


def _title(name: str) -> str:
    return f"group {name[:-1]}" if name.endswith("%") else name

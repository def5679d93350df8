"""Who may do what, answered by Salt's own check from the configuration that the master has."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rocksalt.access import compiled, wording
from rocksalt.access.door import choosing, names
from rocksalt.access.door.filter import ANYBODY, Rules, refusal
from rocksalt.access.door.grants import Grants
from rocksalt.errors import Refused

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """A call that somebody may make. One without a target is of a runner."""

    user: str
    fun: str
    tgt: Any = None
    tgt_type: str = "glob"
    arg: list[Any] = field(default_factory=list)
    kwarg: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether it is a runner."""
        return self.tgt in (None, "", [])

    @property
    def low(self) -> dict[str, Any]:
        """As it comes to salt-api."""
        given = {"arg": self.arg, "kwarg": dict(self.kwarg)}
        asked = {"fun": self.fun, **{key: value for key, value in given.items() if value}}
        if self.runs:
            return {"client": "runner", **asked}
        return {"client": "local", "tgt": self.tgt, "tgt_type": self.tgt_type, **asked}

    @property
    def arguments(self) -> list[Any]:
        """As they come to the master."""
        return [*self.arg, *([{**self.kwarg, "__kwarg__": True}] if self.kwarg else [])]


def named(user: object, groups: Iterable[str] = ()) -> None:
    """:class:`Refused` where nobody and no group can be called so: Salt would take the text for a
    pattern, which may take for ever.
    """
    if not isinstance(user, str) or len(user) > names.LONGEST or not names.USER.fullmatch(user):
        raise Refused(
            f"user: {ascii(user)[:60]} is no log-in name of letters, digits and . _ @ - alone, and "
            f"at most {names.LONGEST} of them"
        )
    for group in groups:
        if len(group) > names.LONGEST_GROUP or not names.GROUP.fullmatch(group):
            raise Refused(
                f"groups: {ascii(group)[:60]} is no name of a group of letters, digits, spaces and "
                f". _ - alone, and at most {names.LONGEST_GROUP} of them"
            )


def can(opts: Options, check: Any, question: Question, now: dt.datetime) -> dict[str, Any]:
    """Whether a call would be let through: by the door, and then by the master.

    ``opts`` is the configuration of the master, ``check`` Salt's ``CkMinions`` of it. Returns
    ``{"allowed": bool, "rule": {compound or "@runner": [permission]} or None, "reason"}``.
    """
    named(question.user, question.groups)
    entries = rights(opts, check, question.user, question.groups)
    if not entries:
        return _no(f"{question.user} has no rights")
    if others := namesakes(opts, question.user):
        return _no(
            f"Salt takes {question.user!r} for {wording.listed(others)} as well; nobody may log in "
            "by such a name"
        )
    if ended := _ended(known(opts), question, now):
        return _no(ended)
    why = refusal([question.low], Rules(frozenset(opts.get("netapi_enable_clients") or ())))
    if why:
        return _no(f"salt-api refuses it: {why}")
    minions = [] if question.runs else choosing.minions(check, question.tgt, question.tgt_type)
    if not question.runs and not minions:
        return _no(f"no accepted minion is {question.tgt_type} {question.tgt!r}")
    if not _allowed(check, entries, question, minions):
        return _no(_why(check, entries, question, minions))
    rule = next(one for one in single(entries) if _allowed(check, [one], question, minions))
    return {"allowed": True, "rule": rule, "reason": f"{question.user} may, {wording.entry(rule)}"}


def explain(
    opts: Options, check: Any, user: str, groups: Iterable[str], now: dt.date
) -> dict[str, Any]:
    """What somebody may do, in words: ``{"user", "may": [sentences], "warnings": [sentences]}``.

    Each sentence is of a grant; what is in force without one is told as such.
    """
    groups = list(groups)
    named(user, groups)
    data = known(opts)
    given = [
        *data["users"].get(user, ()),
        *(grant for group in groups for grant in data["groups"].get(group, ())),
    ]
    may = sentences(data, given, rights(opts, check, user, groups), now)
    return {
        "user": user,
        "may": may or [f"{user} may do nothing; no grant names {user}"],
        "warnings": warnings(opts),
    }


def known(opts: Options) -> dict[str, Any]:
    """What the master's configuration holds of users, groups, roles and apps."""
    return {"users": {}, "groups": {}, "roles": {}, "apps": {}, **(opts.get(compiled.DATA) or {})}


def sentences(
    data: Mapping[str, Any], given: Iterable[Mapping[str, Any]], entries: list[Any], now: dt.date
) -> list[str]:
    """What each grant of somebody gives, and what is in force without one."""
    may, left = [], list(single(entries))
    for grant in given:
        wanted = compiled.rights(grant, data)
        may.append(f"{wording.grant(grant)}: {_in_force(grant, wanted, entries, now)}")
        left = [one for one in left if one not in list(single(wanted))]
    return may + [f"without a grant of the baseline, {wording.entry(one)}" for one in left]


def rights(opts: Options, check: Any, user: str, groups: Iterable[str] = ()) -> list[Any]:
    """The entries of the compiled form that are of somebody, as Salt finds them."""
    backends = (opts.get("external_auth") or {}).values()
    found = [check.fill_auth_list(people, user, list(groups)) for people in backends if people]
    return [entry for entries in found for entry in entries]


def namesakes(opts: Options, user: str) -> list[str]:
    """Others whose rights Salt gives to somebody who logs in with this name."""
    backends = (opts.get("external_auth") or {}).values()
    return names.taken_for(user, {name for found in backends for name in found or ()})


def warnings(opts: Options) -> list[str]:
    """Options of the master with which rights are not what they look like."""
    return [
        f"{key} is {opts.get(key)!r} in the master's configuration; rights rest on it being {right}"
        for key, right in {**compiled.GROUNDS, **compiled.ALONE}.items()
        if bool(opts.get(key)) is not right
    ]


def _ended(data: Mapping[str, Any], question: Question, now: dt.datetime) -> str:
    """What the door says where a grant has ended that the master heeds still."""
    user, time = question.user, now.timestamp()
    grants = Grants(data)
    if grants.all_over(user, question.groups, time):
        return f"salt-api lets {user} not log in: all that {user} was granted has ended"
    if grants.is_over(user, question.groups, question.low, time):
        return f"salt-api refuses it: the grant that gave {user} {question.fun} has ended"
    return ""


def _no(reason: str) -> dict[str, Any]:
    return {"allowed": False, "rule": None, "reason": reason}


def _allowed(check: Any, entries: list[Any], question: Question, minions: list[str]) -> bool:
    """Salt's own check, with what its master hands to it."""
    if question.runs:
        given = {"arg": question.arg, "kwarg": dict(question.kwarg)}
        return check.runner_check(entries, question.fun, given) is True
    return bool(
        check.auth_check(
            entries, question.fun, question.arguments, question.tgt, question.tgt_type,
            minions=minions, whitelist=list(ANYBODY),
        )
    )  # fmt: skip


def single(entries: Iterable[Any]) -> Iterator[Any]:
    """The same rights with one permission in each entry."""
    for entry in entries:
        if isinstance(entry, Mapping) and len(entry) == 1:
            ((where, found),) = entry.items()
            for permission in found if isinstance(found, list) else [found]:
                yield {where: [permission]}
        else:
            yield entry


def _in_force(grant: Mapping[str, Any], wanted: list[Any], entries: list[Any], now: dt.date) -> str:
    """What a grant gives in fact."""
    effective = list(single(entries))
    there = all(one in effective for one in single(wanted))
    if compiled.is_over(grant, now):
        still = "; its rights go with the next highstate of the master" if there and wanted else ""
        return f"is over{still}"
    if not wanted:
        return "gives nothing"
    if not there:
        return "is not in force, the master's configuration does not have it"
    return "; ".join(map(wording.entry, wanted))


def _why(check: Any, entries: list[Any], question: Question, minions: list[str]) -> str:
    """What of a call is not allowed, in a sentence that says what would be."""
    who, fun = question.user, question.fun
    fitting = [
        (where, permission)
        for one in single(entries)
        if isinstance(one, Mapping)
        for where, (permission,) in one.items()
        if where.startswith("@") is question.runs and re.match(_pattern(permission), fun)
    ]
    if not fitting:
        return f"{who} has no right to call {fun}{' as a runner' if question.runs else ''}"
    if question.runs:
        return f"{who} may call {wording.permission(fitting[0][1])}"
    covering = [
        found
        for found in fitting
        if check.validate_tgt(found[0], question.tgt, question.tgt_type, minions=minions)
    ]
    if covering:
        allowed = dict.fromkeys(wording.permission(permission) for _, permission in covering)
        return f"{who} may call {' or '.join(allowed)}, each as a keyword"
    places = list(dict.fromkeys(where for where, _ in fitting))
    known = {place: set(check.check_minions(place, "compound")["minions"]) for place in places}
    outside = sorted(set(minions) - set().union(*known.values()))
    words = wording.listed(wording.place(place) for place in places)
    if outside:
        return f"{who} may call {fun} {words}, and not on {wording.listed(outside)}"
    return f"{who} may call {fun} {words}; name hosts of one of these in one call"


def _pattern(permission: Any) -> str:
    return permission if isinstance(permission, str) else str(next(iter(permission)))

"""Whether somebody reviewed the rights that are declared, and not too long ago."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt.access import compiled, controls, signing, wording
from rocksalt.access.facts import Checks, Facts
from rocksalt.backup import names
from rocksalt.backup.errors import Unverified
from rocksalt.findings import Seen, some

_HOW = "salt-run access.review sign=NAME"


def unreviewed(
    settings: Mapping[str, Any], reviewed: Mapping[str, Any], now: dt.date
) -> Iterator[str]:
    """What is declared and was not, or otherwise, at a review: what was taken away since, or is
    over, nobody has to look at. ``reviewed`` is what ``review.reviewed`` returned then.
    """
    declared, before = compiled.described(settings), reviewed["described"]
    for kind, mark in (("users", ""), ("groups", "group ")):
        for name, grants in declared[kind].items():
            known = before[kind].get(name, ())
            new = (one for one in grants if one not in known and not compiled.is_over(one, now))
            yield from (f"{mark}{name} is {wording.grant(grant)}" for grant in new)
    for kind in ("roles", "apps"):
        for name, one in declared[kind].items():
            if _of_rights(before[kind].get(name, {})) != _of_rights(one):
                yield f"{kind[:-1]} {name} is another"
    if compiled.BACKENDS[settings["backend"]] not in reviewed["external_auth"]:
        yield f"{settings['backend']} says who somebody is"


def _of_rights(one: Mapping[str, Any]) -> dict[str, Any]:
    """Without how long a deploy may take, which nobody may do more by."""
    return {key: value for key, value in one.items() if key != "timeout"}


def _expected(it: Facts) -> dict[str, Any]:
    return {"last review": _within(it), "not reviewed": []}


def _within(it: Facts) -> str:
    return f"within {it.settings['review_days']} days"


def _seen(it: Facts) -> Seen:
    try:
        last = signing.last_review(str(it.host.path(signing.BASE)))
    except Unverified as error:
        return Seen({"last review": "unverified", "not reviewed": []}, str(error))
    if last is None:
        why = f"nobody has reviewed the rights yet: {_HOW}"
        return Seen({"last review": None, "not reviewed": []}, why)
    new = sorted(unreviewed(it.settings, last.reviewed, it.now))
    in_time = dt.timedelta() <= it.now - last.time <= dt.timedelta(it.settings["review_days"])
    when = names.utc(last.time)
    actual = {"last review": _within(it) if in_time else when, "not reviewed": new}
    if in_time and not new:
        return Seen(actual)
    since = f"; not reviewed is: {some(new)}" if new else ""
    return Seen(actual, f"{last.reviewer} reviewed at {when}{since}: {_HOW}")


CHECKS: Checks = {controls.REVIEWED: (_expected, _seen)}

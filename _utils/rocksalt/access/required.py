"""That the master takes signed answers alone: only once every accepted minion signs, for it drops
what the others answer.
"""

from __future__ import annotations

import datetime as dt
import os
from typing import Any

from rocksalt import access
from rocksalt.access import controls, rendering, sources, survey, trusting
from rocksalt.access.facts import Checks, Facts
from rocksalt.backup import names
from rocksalt.findings import Seen, show, some
from rocksalt.host import Host

FRESH = dt.timedelta(hours=1)
"""How old may be what decides that signatures become required."""
_LAGGING, _ASKED = "lagging", "last asked"


def against(it: Facts) -> str:
    """Why the master must not require signatures yet; empty where it may, or does."""
    if not it.settings["require_signed"] or _in_force(it):
        return ""
    where = it.setup.family.where("require_signed")
    if it.option("order_masters"):
        return f"{where}: what a syndic passes on has no signature of its own (order_masters)"
    last = _last(it)
    if last is None:
        return f"{where}: nobody has asked yet which minions sign: {survey.HOW}"
    if not dt.timedelta() <= it.now - last.time <= FRESH:
        when = names.utc(last.time)
        return f"{where}: minions were asked at {when}, and not in the last hour: {survey.HOW}"
    if last.algorithm != it.settings["signing_algorithm"]:
        return (
            f"{where}: minions were asked when the master verified by {last.algorithm}, and not by "
            f"{it.settings['signing_algorithm']}: apply this with {where}: false, then {survey.HOW}"
        )
    if lagging := last.lagging(_accepted(it)):
        found = some(f"{name} {why}" for name, why in lagging.items())
        return (
            f"{where}: the master would drop what these answer: {found}. Have them sign "
            f"({it.setup.family.where('minions_sign')}), or take the keys of those away that are "
            f"gone (salt-key -d), then {survey.HOW}"
        )
    return ""


def _in_force(it: Facts) -> bool:
    """Whether the configuration requires signatures already, by the algorithm that is wanted."""
    wanted = {**rendering.SIGNED, "signing_algorithm": it.settings["signing_algorithm"]}
    return all(it.option(key) == value for key, value in wanted.items())


def _last(it: Facts) -> survey.Survey | None:
    """What minions did when they were asked last; None where they were not."""
    return survey.read(it.host, f"{it.option('cachedir')}/{survey.FILE}")


def _accepted(it: Facts) -> list[str]:
    trusting.in_files(it)
    return [os.path.basename(path) for path in it.host.glob(f"{it.pki}/minions/*")]


def against_clean(host: Host, folder: str) -> str:
    """Why our configuration must not be taken from a master: without it the answers of those that
    sign are lost. Empty where nobody signs, as far as anybody knows.
    """
    cache = "/var/cache/salt/master"
    for source in sources.read(host, f"{folder}/master"):
        cache = str(source.data.get("cachedir", cache))
    path = f"{cache}/{survey.FILE}"
    last = survey.read(host, path)
    signing = [it for it, how in last.minions.items() if how == survey.SIGNS] if last else []
    if not signing:
        return ""
    return (
        f"{some(signing)} sign what they answer, which is lost to a master without "
        f"signing_algorithm: set {access.TOP}:minions_sign: false, apply hardening.access on all "
        f"hosts, then {survey.HOW}; or remove {path}, if these minions are gone"
    )


def _expected(it: Facts) -> dict[str, Any]:
    return {**rendering.SIGNED, _ASKED: _within(it), _LAGGING: {}}


def _within(it: Facts) -> str:
    return f"within {it.settings['signing_days']} days"


def _seen(it: Facts) -> Seen:
    actual: dict[str, Any] = {key: it.option(key) for key in rendering.SIGNED}
    why = [
        f"{key} is {show(value)}, expected yes{it.said_by(key)}"
        for key, value in actual.items()
        if not value
    ]
    last = _last(it)
    when = names.utc(last.time) if last else None
    limit = dt.timedelta(it.settings["signing_days"])
    in_time = last is not None and dt.timedelta() <= it.now - last.time <= limit
    lagging = last.lagging(_accepted(it)) if last else {}
    if not in_time:
        why.append(f"minions were last asked whether they sign: {when or 'never'}; {survey.HOW}")
    why += [f"{name} {reason}" for name, reason in lagging.items()]
    return Seen({**actual, _ASKED: _within(it) if in_time else when, _LAGGING: lagging}, some(why))


CHECKS: Checks = {controls.REQUIRED: (_expected, _seen)}

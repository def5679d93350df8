"""What is valid in the pillar and yet likely not meant."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt.settings import Baseline


def advice(baseline: Baseline, pillar: Mapping[str, Any]) -> list[str]:
    """What is valid and yet likely not meant: no pillar at all, nobody who may come in, settings
    below a floor, waivers that have ended.
    """
    found = list(baseline.warnings)
    if not pillar:
        found.append("this minion has no pillar 'hardening': every setting has its default")
    found += list(_undeclared(baseline))
    today = dt.datetime.now(dt.timezone.utc).date()
    for family in baseline.families.values():
        for control in family.controls.values():
            weak = family.below_floor(control)
            if weak and control.id not in baseline.excused(family, today):
                found.append(f"{weak}; {control.id} is drift until it is corrected or waived")
    found += [
        f"hardening:waivers:{identifier} ended on {waiver.expires} and excuses nothing"
        for identifier, waiver in baseline.waivers.items()
        if not waiver.active(today)
    ]
    return found


def _undeclared(baseline: Baseline) -> Iterator[str]:
    """What everybody has to declare: without it a part of a family is refused."""
    if _enabled(baseline, "firewall") and not baseline.networks.get("management"):
        yield (
            "hardening:networks:management does not say where administrators come from, such as"
            " [10.0.0.0/24]: until then the packet filter stays off"
        )
    accounts = _enabled(baseline, "accounts") and baseline.families["accounts"]
    if accounts and not accounts.settings["administrators"]:
        yield (
            "hardening:accounts:administrators declares nobody: root and the accounts of images"
            " are locked only where somebody else has a way in"
        )


def _enabled(baseline: Baseline, family: str) -> bool:
    return family in baseline.families and bool(baseline.families[family].settings["enabled"])

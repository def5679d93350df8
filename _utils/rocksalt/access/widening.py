"""Grants of one person of which one makes the limits of another worth nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

from rocksalt.access import compiled, targets

Grant = Mapping[str, Any]
Where = Callable[..., str]


def problems(settings: Mapping[str, Any], where: Where, today: dt.date) -> Iterator[str]:
    """Pairs of a person's grants of which one makes a limit of the other worth nothing."""
    for kind in ("users", "groups"):
        for name, person in sorted(settings[kind].items()):
            grants = list(enumerate(person["grants"]))
            live = [(n, grant) for n, grant in grants if not compiled.is_over(grant, today)]
            for (n, one), (m, other) in combinations(live, 2):
                at = where(kind, name, "grants")
                if _is_in(one, other, settings):
                    yield _said(f"{at}:{n}", one, f"{at}:{m}", other)
                elif _is_in(other, one, settings):
                    yield _said(f"{at}:{m}", other, f"{at}:{n}", one)


def _said(path: str, narrow: Grant, wider: str, wide: Grant) -> str:
    return (
        f"{path}: {narrow['role']} on {', '.join(narrow.get('targets', ())) or 'the master'} "
        f"limits nothing, as {wide['role']} of {wider} gives all of it "
        f"{'until ' + str(wide['until']) if 'until' in wide else 'for good'}; keep one of the two"
    )


def _is_in(narrow: Grant, wide: Grant, settings: Mapping[str, Any]) -> bool:
    """Whether one grant gives all that another one gives, for at least as long."""
    roles = settings["roles"]
    if narrow["role"] not in roles or wide["role"] not in roles:
        return False
    if "until" in wide and str(narrow.get("until", "9")) > str(wide["until"]):
        return False
    less, more = (_given(grant, roles[grant["role"]]) for grant in (narrow, wide))
    named = narrow.get("targets", [])
    return any(less) and all(a <= b for a, b in zip(less, more, strict=True)) and (
        targets.within(named, wide.get("targets", []))
    )  # fmt: skip


def _given(grant: Grant, role: Mapping[str, Any]) -> tuple[set[str], set[str], set[str]]:
    apps = set(grant.get("apps", ())) if role.get("deploys") else set()
    return set(role.get("functions", ())), set(role.get("runners", ())), apps

"""Grants of one person of which one makes the limits of another worth nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

from rocksalt.access import compiled, rooted, targets, wording

Grant = Mapping[str, Any]
Where = Callable[..., str]


def problems(settings: Mapping[str, Any], where: Where, today: dt.date) -> Iterator[str]:
    """Pairs of a person's grants of which one makes a limit of the other worth nothing."""
    for kind in ("users", "groups"):
        for name, person in sorted(settings[kind].items()):
            grants = list(enumerate(person["grants"]))
            live = [(n, grant) for n, grant in grants if not compiled.is_over(grant, today)]
            at = where(kind, name, "grants")
            for pair in combinations(live, 2):
                for (n, one), (m, other) in (pair, pair[::-1]):
                    if gives := _widens(one, other, settings):
                        yield _said(f"{at}:{n}", one, f"{at}:{m}", other, gives)
                        break


def _said(path: str, narrow: Grant, wider: str, wide: Grant, gives: str) -> str:
    return (
        f"{path}: {narrow['role']} on {', '.join(narrow.get('targets', ())) or 'the master'} "
        f"limits nothing, as {wide['role']} of {wider} gives {gives} "
        f"{'until ' + str(wide['until']) if 'until' in wide else 'for good'}; keep one of the two"
    )


def _widens(narrow: Grant, wide: Grant, settings: Mapping[str, Any]) -> str:
    """What one grant gives, for at least as long, by which another one limits nothing."""
    roles = settings["roles"]
    if narrow["role"] not in roles or wide["role"] not in roles:
        return ""
    if "until" in wide and str(narrow.get("until", "9")) > str(wide["until"]):
        return ""
    less, more = roles[narrow["role"]], roles[wide["role"]]
    within = targets.within(narrow.get("targets", []), wide.get("targets", []))
    pairs = zip(_given(narrow, less), _given(wide, more), strict=True)
    if within and any(_given(narrow, less)) and all(a <= b for a, b in pairs):
        return "all of it"
    limits = less.get("deploys") and narrow.get("apps") and not _of_root(less, True)
    root = _of_root(more, within) if limits else []
    return f"root there by {wording.listed(root)}" if root else ""


def _of_root(role: Mapping[str, Any], on_targets: bool) -> list[str]:
    """What of a role makes root, on its targets or by the master; no limit of an app holds then."""
    return [*(rooted.functions(role) if on_targets else ()), *rooted.runners(role)]


def _given(grant: Grant, role: Mapping[str, Any]) -> tuple[set[str], set[str], set[str]]:
    apps = set(grant.get("apps", ())) if role.get("deploys") else set()
    return set(role.get("functions", ())), set(role.get("runners", ())), apps

"""Settings of the family access for its unit tests: the shipped roles, two apps, three people."""

from __future__ import annotations

import datetime as dt
from typing import Any

from rocksalt import settings

TODAY = dt.date(2026, 11, 23)
NOON = dt.datetime(2026, 11, 23, 12, tzinfo=dt.timezone.utc)
APPS = {
    "shop": {"states": ["shop.deployed"], "version": r"\d+\.\d+\.\d+", "minions": ["web*"]},
    "blog": {"states": ["blog"], "version": r"v\d+|main", "minions": ["web*", "db1"]},
}
ALICE = {"role": "deployer", "targets": ["web*", "db1"], "apps": ["shop", "blog"]}
BOB = {"role": "auditor", "targets": ["*"], "everywhere": True}
CAROL = {
    "role": "break-glass",
    "targets": ["web1"],
    "until": "2026-11-24",
    "reason": "the shop is down, ticket 7",
}


def pillar(**other: Any) -> dict[str, Any]:
    """A good pillar ``hardening:access``; arguments replace parts of it."""
    people = {"alice": ALICE, "bob": BOB, "carol": CAROL}
    return {
        "masters": ["salt"],
        "apps": APPS,
        "users": {name: {"grants": [grant]} for name, grant in people.items()},
        "hashes": dict.fromkeys(people, "scrypt$x"),
        **other,
    }


def granted(*grants: dict[str, Any], **other: Any) -> dict[str, Any]:
    """A pillar in which alice alone has these grants."""
    return pillar(users={"alice": {"grants": list(grants)}}, hashes={"alice": "scrypt$x"}, **other)


def baseline(shipped: Any, values: dict[str, Any]) -> settings.Baseline:
    return settings.resolve(shipped, {"access": values}, {}, "salt", now=NOON)


def resolved(shipped: Any, values: dict[str, Any] | None = None) -> Any:
    """The settings of the family."""
    found = baseline(shipped, pillar() if values is None else values)
    return found.families["access"].settings

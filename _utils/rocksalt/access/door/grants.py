"""Grants that have ended since the master's configuration was written: Salt heeds them until it is
written anew, the door does not.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

DATA = "rocksalt_access"
"""The key of the master's options that says who was granted what, as what and until when."""
DEPLOY, STATUS = "deploy.run", "deploy.status"
"""Of these a role that deploys gives those of the apps in its grant."""


class Grants:
    """Those of the master's options; ``groups`` are those of which the master knows somebody as a
    member.
    """

    def __init__(self, data: Mapping[str, Any]):
        self._data = data

    def all_over(self, user: str, groups: Iterable[str], time: float) -> bool:
        """Whether somebody had grants, and none lasts; ``time`` is in seconds since the epoch."""
        given = self._of(user, groups)
        return bool(given) and all(_is_over(grant, time) for grant in given)

    def is_over(
        self, user: str, groups: Iterable[str], call: Mapping[str, Any], time: float
    ) -> bool:
        """Whether what is called was in a grant that has ended, and is in none that lasts."""
        found = [_is_over(it, time) for it in self._of(user, groups) if self._gives(it, call)]
        return bool(found) and all(found)

    def _of(self, user: str, groups: Iterable[str]) -> list[Mapping[str, Any]]:
        known = self._data.get("groups", {})
        own = list(self._data.get("users", {}).get(user, ()))
        return own + [grant for group in groups for grant in known.get(group, ())]

    def _gives(self, grant: Mapping[str, Any], call: Mapping[str, Any]) -> bool:
        """Whether a grant is of this function, and of the app where it is one that deploys."""
        role, name = self._data.get("roles", {}).get(grant["role"], {}), call["fun"]
        if role.get("deploys") and name in (DEPLOY, STATUS):
            return call.get("kwarg", {}).get("app") in grant.get("apps", ())
        return name in role.get("functions", ()) or name in role.get("runners", ())


def _is_over(grant: Mapping[str, Any], time: float) -> bool:
    """Whether the last day has passed in UTC; one that is no day has."""
    if "until" not in grant:
        return False
    today = dt.datetime.fromtimestamp(time, dt.timezone.utc).date()
    try:
        return dt.date.fromisoformat(str(grant["until"])) < today
    except ValueError:
        return True

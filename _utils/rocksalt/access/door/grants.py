"""Grants that have ended since the master's configuration was written: Salt heeds them until it is
written anew, the door does not.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

DATA = "rocksalt_access"
"""The key of the master's options that says who was granted what, as what and until when."""
_DEPLOY = "deploy.run"


class Grants:
    """Those of the master's options. Who is in which group is known to LDAP alone, so that somebody
    without grants of their own is taken for a member of all.
    """

    def __init__(self, data: Mapping[str, Any]):
        self._data = data

    def all_over(self, user: str, time: float) -> bool:
        """Whether somebody had grants, and none lasts; ``time`` is in seconds since the epoch."""
        given = self._of(user)
        return bool(given) and all(_is_over(grant, time) for grant in given)

    def is_over(self, user: str, function: str, time: float) -> bool:
        """Whether a function was in a grant that has ended, and is in none that lasts."""
        found = [_is_over(it, time) for it in self._of(user) if function in self._functions(it)]
        return bool(found) and all(found)

    def _of(self, user: str) -> list[Mapping[str, Any]]:
        own = list(self._data.get("users", {}).get(user, ()))
        groups = self._data.get("groups", {}).values()
        return own + [grant for grants in groups for grant in grants]

    def _functions(self, grant: Mapping[str, Any]) -> set[str]:
        role = self._data.get("roles", {}).get(grant["role"], {})
        names = {*role.get("functions", ()), *role.get("runners", ())}
        return names | {_DEPLOY} if role.get("deploys") else names


def _is_over(grant: Mapping[str, Any], time: float) -> bool:
    """Whether the last day has passed in UTC; one that is no day has."""
    if "until" not in grant:
        return False
    today = dt.datetime.fromtimestamp(time, dt.timezone.utc).date()
    try:
        return dt.date.fromisoformat(str(grant["until"])) < today
    except ValueError:
        return True

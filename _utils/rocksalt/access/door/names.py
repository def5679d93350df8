"""Names of people; Salt takes that of whoever logs in for a pattern of those who have rights."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]*")
LONGEST = 64
"""Letters of a name at log-in."""
GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 ._-]*")
LONGEST_GROUP = 255


def folded(name: str) -> str:
    """The one spelling of a name that a directory knows in several."""
    return name.lower()


def taken_for(name: str, people: Iterable[str]) -> list[str]:
    """Those of other names whose rights Salt gives to somebody who logs in with this one, for it
    takes the name as a glob and as a regular expression: ``jan.doe`` is ``jan-doe`` as well.

    Groups, whose names end with ``%``, are nobody's.
    """
    others = [one for one in people if one != name and not one.endswith("%")]
    return sorted(one for one in others if _expression(name, one))


def _expression(name: str, one: str) -> bool:
    try:
        whole = re.match(rf"\A{name}\Z", one)
    except re.error:
        whole = None
    return bool(whole) or fnmatch.fnmatch(one, name)

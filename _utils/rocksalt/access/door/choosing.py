"""Which minions a target means."""

from __future__ import annotations

import inspect
from typing import Any

MERGES = "state.apply"
"""A function that Salt asks minions alone, without what they say that they manage."""


def minions(check: Any, tgt: Any, tgt_type: str = "glob", fun: str = MERGES) -> list[str]:
    """The accepted minions that a target means; ``check`` is Salt's ``CkMinions``. With another
    function Salt adds what minions manage to those of a glob, since 3008.
    """
    known = inspect.signature(check.check_minions).parameters
    extra = {"fun": fun} if "fun" in known else {}
    return sorted(check.check_minions(tgt, tgt_type, **extra)["minions"])

"""What is wrong, one sentence at a time, and what a report makes of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from rocksalt.findings import Seen

A_PERSON = "a person decides"
_NAMED = 5
"""How many faults a reason names; the actual value has them all."""


class Fault(NamedTuple):
    """One thing that is wrong, as a sentence; what its repair has to know; and, where no state
    repairs it, why.
    """

    text: str
    about: Any = None
    manual: str = ""


def undecided(text: str) -> Fault:
    """What only a person can judge."""
    return Fault(text, manual=A_PERSON)


def seen(faults: Iterable[Fault]) -> Seen:
    """Nothing wrong is an empty list. What a state can repair comes first; where it can repair
    nothing, a person has to.
    """
    found = sorted(faults, key=lambda fault: bool(fault.manual))
    reasons = [_why(fault) for fault in found[:_NAMED]]
    if len(found) > _NAMED:
        reasons.append(f"and {len(found) - _NAMED} more")
    remedy = "manual" if found and found[0].manual else ""
    return Seen([shown(fault.text) for fault in found], shown("; ".join(reasons)), remedy=remedy)


def _why(fault: Fault) -> str:
    told = fault.manual and fault.manual != A_PERSON
    return f"{fault.text} ({fault.manual})" if told else fault.text


def shown(text: str) -> str:
    """A text that terminals and serialisers take, whatever somebody named a file."""
    return text if text.isprintable() else ascii(text)[1:-1]

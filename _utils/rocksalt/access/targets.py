"""Hosts that a grant names: ids of minions, and globs of them.

Nothing else: grains are what a minion says of itself, and compounds, pillars and ranges are more
than a person can oversee who reviews a grant.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

_WILD = re.compile(r"[*?\[]")
_CLASS = r"\[!?[A-Za-z0-9._-]+\]"
_TARGET = re.compile(rf"(?:[A-Za-z0-9._*?-]|{_CLASS})+")
_LONGEST = 255
_OPERATORS = ("and", "or", "not")


def problem(target: str) -> str:
    """What is wrong with a target, or nothing."""
    if "@" in target:
        return "is a compound target; only ids of minions and globs of them may be named"
    if target in _OPERATORS:
        return "is an operator of compound targets; only ids of minions and globs may be named"
    if "," in target or " " in target:
        return "is more than one target; write them as a list"
    if not _TARGET.fullmatch(target) or len(target) > _LONGEST:
        return "is neither the id of a minion nor a glob such as web*"
    return ""


def is_glob(target: str) -> bool:
    """Whether a target may be more than one host."""
    return _WILD.search(target) is not None


def is_everything(target: str) -> bool:
    """Whether no name of a host is left in a target: ``*``, ``?*``, ``[a-z]*``."""
    return is_glob(target) and not re.search("[A-Za-z0-9]", re.sub(_CLASS, "", target))


def compound(targets: Iterable[str]) -> str:
    """The targets as one of Salt's compounds: ``L@db1,db2 or web*``."""
    found = sorted(set(targets))
    ids = [target for target in found if not is_glob(target)]
    globs = [target for target in found if is_glob(target)]
    return " or ".join([*([f"L@{','.join(ids)}"] if ids else []), *globs])


def split(text: str) -> list[str] | None:
    """The targets of what :func:`compound` made; None for what it cannot have made."""
    found = []
    for word in text.split(" or "):
        found += word[2:].split(",") if word.startswith("L@") else [word]
    return None if any(problem(target) for target in found) else found


def overlap(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether a host can be in both."""
    others = list(others)
    return any(_meet(_simple(one), _simple(other)) for one in some for other in others)


def within(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether all hosts of the first are surely in the second."""
    others = list(others)
    return all(any(_covers(other, one) for other in others) for one in some)


def _covers(glob: str, target: str) -> bool:
    if not is_glob(target) or glob == target:
        return glob == target or fnmatch.fnmatchcase(target, glob)
    # Matched as text, for what is at least as wide; but ? and [] would take its * for a character.
    return not set(glob) & set("?[") and fnmatch.fnmatchcase(target, glob)


def _simple(target: str) -> str:
    """Without classes of characters, which count as any character."""
    return re.sub(_CLASS, "?", target)


def _meet(one: str, other: str) -> bool:
    """Whether a text matches both globs of ``*`` and ``?``."""
    waiting, known = [(0, 0)], set()
    while waiting:
        at = i, j = waiting.pop()
        if at in known:
            continue
        known.add(at)
        a, b = one[i : i + 1], other[j : j + 1]
        if not a and not b:
            return True
        if "*" in (a, b):
            # The star ends here, or takes what the other has here.
            waiting += [(i + 1, j)] if a else []
            waiting += [(i, j + 1)] if b else []
        elif a and b and (a == b or "?" in (a, b)):
            waiting.append((i + 1, j + 1))
    return False

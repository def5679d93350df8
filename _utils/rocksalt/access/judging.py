"""Whether a pattern of versions is one that can be let loose on what a caller sends."""

from __future__ import annotations

import re
import string
import warnings

from rocksalt.access import compiled, patterns

ANYTHING = ("any thing; $(reboot)", "../../x\ny")
"""No version is like these."""
ODD = frozenset("$`;|&<>(){}'\"\\*?!#" + string.whitespace)
"""No version has these."""
CLIMBING = ("..", "../x", "../../etc/passwd", "x/../../y", "/etc/passwd")
_RIGHT = r"say what a version looks like, such as \d+\.\d+\.\d+"


def problem(pattern: str) -> str:
    """What is wrong with the pattern of an app's versions, or nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # Alone as well: with a bracket too many it would be another one among ours.
            re.compile(pattern)
            whole = re.compile(compiled.wholly(pattern), re.ASCII)
            slow, crowded = patterns.slow(pattern), patterns.crowded(pattern)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        return f"is no regular expression: {error}"
    if slow:
        return (
            "has a repeat within a repeat, with which one call can keep the master busy for years; "
            r"begin what is repeated with a sign that it has nowhere else, such as \d+(\.\d+)*"
        )
    if crowded:
        return (
            "has repeats or alternatives side by side that take the same signs, with which calls "
            r"can keep the master busy; part them by a sign that they do not take, such as "
            r"\d+(\.\d+)*"
        )
    if any(whole.match(text) for text in ANYTHING):
        return rf"matches everything; {_RIGHT}"
    return _harm(pattern, whole)


def _harm(pattern: str, whole: re.Pattern[str]) -> str:
    """What a good pattern lets into a version that means something where versions are used."""
    if odd := sorted(patterns.signs(pattern) & ODD):
        return f"lets {odd[0]!r} into a version, which a shell or a template heeds; {_RIGHT}"
    if "-" in patterns.begins(pattern):
        return f"lets a version begin with -, as options do; {_RIGHT}"
    if climbs := [text for text in CLIMBING if whole.match(text)]:
        return f"matches {climbs[0]!r}, which is another folder; {_RIGHT}"
    return ""

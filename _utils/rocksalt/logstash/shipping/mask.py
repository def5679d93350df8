"""Takes secrets out of lines: ``***`` for what the group ``secret`` of an expression matches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rocksalt.errors import Refused

MASKED = "***"
GROUP = "secret"


class Masker:
    """The expressions, ready for many lines; :class:`Refused` names the one that is wrong."""

    def __init__(self, patterns: Sequence[str]):
        if wrong := list(problems(patterns)):
            raise Refused("; ".join(wrong))
        self._patterns = [re.compile(it) for it in patterns]

    def mask(self, text: str) -> str:
        """The text without its secrets."""
        for pattern in self._patterns:
            if pattern.search(text):
                text = pattern.sub(_masked, text)
        return text


def problems(patterns: Iterable[str]) -> Iterator[str]:
    """What is wrong with expressions, a sentence each."""
    for pattern in patterns:
        try:
            groups = re.compile(pattern).groupindex
        except (re.error, OverflowError, RecursionError) as error:
            yield f"{pattern!r} is no regular expression: {error}"
            continue
        if GROUP not in groups:
            yield f"{pattern!r} has no group (?P<{GROUP}>...) around what is secret"


def _masked(match: re.Match[str]) -> str:
    """The whole match with its secret replaced; without one, where an alternative has none."""
    start, end = match.span(GROUP)
    if start < 0:
        return match[0]
    offset = match.start()
    return match[0][: start - offset] + MASKED + match[0][end - offset :]

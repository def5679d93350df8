"""Takes secrets out of lines: ``***`` for what the group ``secret`` of an expression matches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rocksalt.errors import Refused

MASKED = "***"
GROUP = "secret"
PIECE = 65_536
"""Characters that are looked at together, for what an expression needs grows with its text."""
KEY_RECORDS = 200
"""Records over which a private key may go that comes in several."""
_NEAR = 256
_BEGIN = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(r"-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_OF_KEY = re.compile(
    r"(?m)^[ \t|'\"+-]*[A-Za-z0-9+/]{1,128}={0,2}[ \t'\",]*$"
    r"|(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{32,}={0,2}"
)
"""A line of a private key, by itself or behind what a log writes before it."""


class Masker:
    """The expressions, ready for many lines; :class:`Refused` names the one that is wrong."""

    def __init__(self, patterns: Sequence[str]):
        if wrong := list(problems(patterns)):
            raise Refused("; ".join(wrong))
        self._patterns = [re.compile(it) for it in patterns]

    def mask(self, text: str) -> str:
        """The text without its secrets."""
        return self.follow(text, 0)[0]

    def follow(self, text: str, left: int) -> tuple[str, int]:
        """The text without its secrets, where a private key that began earlier may go on for
        ``left`` records, and for how many it may after this one.
        """
        parts = []
        for piece in self._pieces(text):
            if left:
                piece, left = _rest(piece, left)
            parts.append(self._once(piece))
            if _unended(piece) and not _BEGIN.search(parts[-1]):
                left = KEY_RECORDS + 1
        return "".join(parts), max(left - 1, 0)

    def _once(self, text: str) -> str:
        for pattern in self._patterns:
            if pattern.search(text):
                text = pattern.sub(_masked, text)
        return text

    def _pieces(self, text: str) -> Iterator[str]:
        start = 0
        while len(text) - start > PIECE:
            end = self._cut(text, start + PIECE)
            yield text[start:end]
            start = end
        yield text[start:]

    def _cut(self, text: str, end: int) -> int:
        """Where to cut a text so that no secret is on both sides, before ``end``."""
        for place in _places(text, end):
            before, behind = text[place - _NEAR : place], text[place : place + _NEAR]
            if self._once(before + behind) == self._once(before) + self._once(behind):
                return place
        return end


def _places(text: str, end: int) -> Iterator[int]:
    """Places to cut a text at, the best first."""
    first = end - PIECE // 4
    yield text.rfind("\n", first, end) + 1 or end
    place = end
    for _ in range(16):
        place = text.rfind(" ", first, place)
        if place < 0:
            break
        yield place + 1
    yield from range(end, first, -_NEAR)


def _unended(text: str) -> bool:
    """Whether a private key begins and does not end."""
    begins = [it.start() for it in _BEGIN.finditer(text)]
    return bool(begins) and not _END.search(text, begins[-1])


def _rest(text: str, left: int) -> tuple[str, int]:
    """Takes out what looks like the rest of a private key, up to its end. No more than that, or
    else who writes its first line hides what others say.
    """
    end = _END.search(text)
    stop = end.end() if end else len(text)
    begin = _BEGIN.search(text, 0, stop)
    if begin:
        return text, 0
    return _OF_KEY.sub(MASKED, text[:stop]) + text[stop:], 0 if end else left


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

"""Patterns of versions that take for ever. The master matches what a caller sent, and while it does
so it answers nobody: a repeat within a repeat tries every way to part a text among the two.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Iterable, Iterator
from typing import Any

if sys.version_info >= (3, 11):
    from re import _constants as sre
    from re import _parser as parser
else:
    import sre_constants as sre
    import sre_parse as parser

_REPEATS = {
    getattr(sre, name)
    for name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
    if hasattr(sre, name)
}
_SIGNS = frozenset(string.punctuation) - {"_"}
"""What is no word, digit or space to a pattern, and has no other case."""
_OF_WORDS = {sre.CATEGORY_DIGIT, sre.CATEGORY_WORD, sre.CATEGORY_SPACE}


def slow(pattern: str) -> bool:
    r"""Whether a repeat of a good pattern has something in it that can be taken in several ways,
    and does not begin or end with a sign that nothing else in it can be: ``(\d+\.?)+`` is slow,
    ``(\.\d+)*`` and ``(\d+-)+`` are not.
    """
    return any(_is_slow(body) for body in _repeated(parser.parse(pattern)))


def _repeated(node: Any) -> Iterator[list[Any]]:
    """What is repeated in a pattern, however deep."""
    for kind, value in _nodes(node):
        if kind in _REPEATS and value[1] > 1:
            yield _flat(value[2])


def _is_slow(body: list[Any]) -> bool:
    if not any(_has_choice(kind, value) for kind, value in _nodes(body)):
        return False
    return not (_parts(body[0], body[1:]) or _parts(body[-1], body[:-1]))


def _has_choice(kind: Any, value: Any) -> bool:
    if kind in _REPEATS:
        return bool(value[0] != value[1])
    return kind in (sre.BRANCH, sre.GROUPREF, sre.GROUPREF_EXISTS)


def _parts(item: Any, rest: list[Any]) -> bool:
    """Whether an item is one sign of some, none of which the rest can be."""
    kind, value = item
    found = [(sre.LITERAL, value)] if kind is sre.LITERAL else value if kind is sre.IN else []
    signs = {chr(it) for what, it in found if what is sre.LITERAL}
    if not found or len(signs) != len(found) or not signs <= _SIGNS:
        return False
    return not any(_can_be(kind, value, signs) for kind, value in _nodes(rest))


def _can_be(kind: Any, value: Any, signs: Iterable[str]) -> bool:
    """Whether a node of a pattern takes one of these signs, or may."""
    if kind is sre.LITERAL:
        return chr(value) in signs
    if kind is sre.RANGE:
        return any(value[0] <= ord(sign) <= value[1] for sign in signs)
    if kind is sre.CATEGORY:
        return value not in _OF_WORDS
    return kind in (sre.ANY, sre.NOT_LITERAL, sre.NEGATE, sre.GROUPREF, sre.GROUPREF_EXISTS)


def _flat(pattern: Any) -> list[Any]:
    """The items of a part of a pattern, with those of its groups in their places."""
    found: list[Any] = []
    for kind, value in pattern:
        found += _flat(value[-1]) if kind is sre.SUBPATTERN else [(kind, value)]
    return found


def _nodes(found: Any) -> Iterator[tuple[Any, Any]]:
    """Every node of a pattern with what it has, from the top on."""
    for kind, value in found:
        yield kind, value
        for part in _within(value):
            yield from _nodes(part)


def _within(value: Any) -> Iterator[Any]:
    """The parts of a pattern in the value of a node: patterns, and members of a class."""
    if isinstance(value, parser.SubPattern):
        yield value
    elif isinstance(value, (tuple, list)):
        if value and all(isinstance(it, tuple) and len(it) == 2 for it in value):
            yield value
        else:
            for it in value:
                yield from _within(it)

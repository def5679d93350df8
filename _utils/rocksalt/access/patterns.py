"""Patterns of versions that take for ever, and what they let in. The master matches what a caller
sent, and while it does so it answers nobody: a repeat within a repeat, or beside another one, tries
every way to part a text among the two.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Callable, Iterable, Iterator
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
_ALL = frozenset(map(chr, range(128))) | frozenset("\xe9\u0663\u2003\u2603")
"""ASCII, and one of each other kind: a letter, a digit, a space and what is none."""
_LONG = 65
"""Ways to end a repeat without an end, in a version."""
_MOST_WAYS = 5000
_AHEAD = {sre.ASSERT, sre.ASSERT_NOT}
_REFERENCES = {sre.GROUPREF, sre.GROUPREF_EXISTS}
_CATEGORIES: dict[Any, Callable[[str], bool]] = {
    sre.CATEGORY_DIGIT: str.isdecimal,
    sre.CATEGORY_NOT_DIGIT: lambda sign: not sign.isdecimal(),
    sre.CATEGORY_SPACE: str.isspace,
    sre.CATEGORY_NOT_SPACE: lambda sign: not sign.isspace(),
    sre.CATEGORY_WORD: lambda sign: sign.isalnum() or sign == "_",
    sre.CATEGORY_NOT_WORD: lambda sign: not (sign.isalnum() or sign == "_"),
}
_OF_WORDS = {sre.CATEGORY_DIGIT, sre.CATEGORY_WORD, sre.CATEGORY_SPACE}


def slow(pattern: str) -> bool:
    r"""Whether a repeat of a good pattern has something in it that can be taken in several ways,
    and does not begin or end with a sign that nothing else in it can be: ``(\d+\.?)+`` is slow,
    ``(\.\d+)*`` and ``(\d+-)+`` are not.
    """
    return any(_is_slow(body) for body in _repeated(parser.parse(pattern)))


def crowded(pattern: str) -> bool:
    r"""Whether a good pattern can part a version among its repeats in too many ways, as
    ``\d+\.?\d*\.?\d*`` does, and ``\d+(\.\d+)*`` does not.
    """
    found = parser.parse(pattern)
    if _ways(_flat(found)) > _MOST_WAYS:
        return True
    return not all(_is_plain(body) for body in _repeated(found))


def signs(pattern: str) -> frozenset[str]:
    """What may be in a text that matches, of ASCII and some of the rest."""
    return _signs(_flat(parser.parse(pattern)), ahead=False)


def begins(pattern: str) -> frozenset[str]:
    """What a text that matches may begin with, of ASCII and some of the rest."""
    return _first(_flat(parser.parse(pattern)))


def _ways(items: list[Any]) -> int:
    """In how many ways a version may be parted among neighbours, at most."""
    return max((ways for ways, _ in _chains(items)), default=1)


def _chains(items: list[Any]) -> Iterator[tuple[int, int]]:
    """Ways of neighbours of which one can take what the next one begins with, and how many of them
    have a choice.
    """
    for place, item in enumerate(items):
        ways, count, taken = _choices(item), 1, _signs([item])
        if ways == 1:
            continue
        for other in items[place + 1 :]:
            if _first([other]) & taken:
                more = _choices(other)
                ways, count = ways * more, count + (more > 1)
                taken |= _signs([other])
            elif not _may_be_empty(other):
                break
        yield ways, count


def _choices(item: Any) -> int:
    """In how many ways one item may take a part of a version, at most."""
    kind, value = item
    if kind in _REPEATS:
        least, most, body = value
        inner = _ways(_flat(body))
        return inner + 1 if most == 1 and least == 0 else max(inner, _ends(least, most))
    if kind is sre.BRANCH:
        found = [_ways(_flat(part)) for part in value[1]]
        return max(found) if _are_apart(value[1]) else sum(found)
    if kind in _REFERENCES:
        return _LONG
    return max((_ways(_flat(part)) for part in _parts_of(value)), default=1)


def _ends(least: int, most: int) -> int:
    return min(int(most) - int(least) + 1, _LONG)


def _is_plain(body: list[Any]) -> bool:
    """Whether what is repeated can take each of its texts in one way."""
    if any(count > 1 for _, count in _chains(body)):
        return False
    for kind, value in body:
        if kind is sre.BRANCH and not _are_apart(value[1]):
            return False
        if not all(_is_plain(_flat(part)) for part in _parts_of(value)):
            return False
    return True


def _are_apart(parts: list[Any]) -> bool:
    """Whether what alternatives begin with tells them apart."""
    found = [_first(_flat(part)) for part in parts]
    return sum(map(len, found)) == len(frozenset().union(*found))


def _first(items: Iterable[Any]) -> frozenset[str]:
    """What a text may begin with."""
    found: frozenset[str] = frozenset()
    for item in items:
        parts = _parts_of(item[1])
        found |= (
            frozenset().union(*(_first(_flat(part)) for part in parts)) if parts else _signs([item])
        )
        if not _may_be_empty(item):
            break
    return found


def _may_be_empty(item: Any) -> bool:
    kind, value = item
    if kind in _REPEATS:
        return bool(value[0] == 0 or value[2].getwidth()[0] == 0)
    if kind in _AHEAD or kind is sre.AT or kind in _REFERENCES:
        return True
    parts = _parts_of(value)
    return bool(parts) and any(part.getwidth()[0] == 0 for part in parts)


def _parts_of(value: Any) -> list[Any]:
    return [part for part in _within(value) if isinstance(part, parser.SubPattern)]


def _signs(items: Iterable[Any], ahead: bool = True) -> frozenset[str]:
    """What items may take, also what they only look at where it is to be ``ahead``."""
    found: frozenset[str] = frozenset()
    for kind, value in items:
        if kind is sre.LITERAL:
            found |= {chr(value).lower(), chr(value).upper()}
        elif kind is sre.NOT_LITERAL:
            found |= _ALL - {chr(value)}
        elif kind is sre.IN:
            found |= frozenset(sign for sign in _ALL if _is_in(sign, value))
        elif kind is sre.ANY or (kind in _REFERENCES and ahead):
            found |= _ALL
        elif kind not in _AHEAD or ahead:
            for part in _parts_of(value):
                found |= _signs(_flat(part), ahead)
    return found


def _is_in(sign: str, members: list[Any]) -> bool:
    """Whether a class has a sign, in one of its cases."""
    negated = bool(members[0][0] is sre.NEGATE)
    cases = (sign,) if negated else (sign.lower(), sign.upper())
    return any(_is_one(case, *it) for it in members for case in cases) is not negated


def _is_one(sign: str, kind: Any, value: Any) -> bool:
    if kind is sre.LITERAL:
        return bool(ord(sign) == value)
    if kind is sre.RANGE:
        return bool(value[0] <= ord(sign) <= value[1])
    return bool(kind is sre.CATEGORY and _CATEGORIES[value](sign))


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

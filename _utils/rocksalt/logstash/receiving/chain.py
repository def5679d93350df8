"""A received line, and the chain that all lines of a host are.

::

    {"n":17,"received":"2026-11-23T04:20:00.123456Z","from":"web1","flags":[],"event":{...},"hash":"<64 hex>"}

``event`` is the text that came, verbatim, where that is a JSON object in one line; else ``raw`` has
it as a string. ``flags``: ``json`` for the latter, ``host`` where the event names another host, or
none, or more than this one.
``hash`` is the SHA-256 of the hash of the line before (64 zeros before the first) and of all bytes
of the line before ``,"hash"``.
"""  # noqa: E501

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ZERO = "0" * 64
_TAIL = len(',"hash":"') + 64 + len('"}')
_LINE = re.compile(
    rb'\{"n":(?P<n>[1-9][0-9]{0,18}),"received":"(?P<received>[0-9TZ:.-]{27})",'
    rb'"from":"(?P<host>[A-Za-z0-9._-]+)",.*,"hash":"(?P<hash>[0-9a-f]{64})"\}'
)


@dataclass(frozen=True)
class Head:
    """How far a chain is: the number and the hash of its last line, and when that was received
    (empty before the first).
    """

    n: int = 0
    hash: str = ZERO
    received: str = ""


@dataclass(frozen=True)
class Line:
    """What a line says of itself, and its bytes without the end of line."""

    host: str
    head: Head
    data: bytes

    def follows(self, previous: str) -> bool:
        """Whether its hash is right after a line with that hash."""
        return digest(previous, self.data[:-_TAIL]) == self.head.hash


def digest(previous: str, body: bytes) -> str:
    """The hash of a line; ``body`` is what comes before its own hash."""
    return hashlib.sha256(previous.encode("ascii") + body).hexdigest()


def event(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None where it is none, or not in one line."""
    if "\n" in text or "\r" in text:
        return None
    try:
        # What is no Unicode cannot be kept verbatim among what is.
        text.encode()
        found = json.loads(text, parse_constant=_refuse, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def flags(found: dict[str, Any] | None, host: str) -> list[str]:
    """What is strange about an event that came from a host."""
    if found is None:
        return ["json"]
    names = list(_names(found))
    return [] if names and all(name == host for name in names) else ["host"]


def _names(found: dict[str, Any]) -> Iterator[Any]:
    """All names of hosts in an event: readers differ in which of several they take."""
    for host in _values(found, "host"):
        yield from _values(host, "name")
    yield from _values(found, "host.name")


def _values(value: object, key: str) -> list[Any]:
    if isinstance(value, _Twice):
        return [own for name, own in value.pairs if name == key]
    return [value[key]] if isinstance(value, dict) and key in value else []


class _Twice(dict[str, Any]):
    """An object that has a key more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]):
        super().__init__(pairs)
        self.pairs = pairs


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Twice(pairs)


def identity(found: dict[str, Any] | None) -> str | None:
    """The id of an event, which is the same when it is sent again."""
    named = (found or {}).get("event")
    value = named.get("id") if isinstance(named, dict) else (found or {}).get("event.id")
    return value if isinstance(value, str) else None


def append(
    before: Head, host: str, received: str, text: str, found: dict[str, Any] | None, odd: list[str]
) -> Line:
    """The next line of the chain of a host; ``found`` is :func:`event` of the text."""
    value = f'"event":{text}' if found is not None else f'"raw":{json.dumps(text)}'
    body = (
        f'{{"n":{before.n + 1},"received":"{received}","from":"{host}",'
        f'"flags":{json.dumps(odd, separators=(",", ":"))},{value}'
    ).encode()
    own = digest(before.hash, body)
    data = b'%b,"hash":"%b"}' % (body, own.encode("ascii"))
    return Line(host, Head(before.n + 1, own, received), data)


def read(data: bytes) -> Line | None:
    """A line without its end; None for what is no line of a chain."""
    match = _LINE.fullmatch(data)
    if match is None:
        return None
    n, received, host, own = match.groups()
    return Line(host.decode(), Head(int(n), own.decode(), received.decode()), data)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not in JSON")

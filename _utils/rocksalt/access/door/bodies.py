"""Bodies of requests: bytes -> what they say, or :class:`Refused`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from .errors import Refused

JSON, FORM = "application/json", "application/x-www-form-urlencoded"


def parsed(body: bytes, content_type: str, accepted: Iterable[str] = (JSON,)) -> Any:
    """What a body says, where its type is one of the accepted and it is well-formed.

    Numbers that JSON does not have and keys that are there twice are refused: another reader might
    see another call than the filter did.
    """
    accepted = tuple(accepted)
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if kind not in accepted:
        raise Refused(415, f"the Content-Type has to be {' or '.join(accepted)}")
    if [it for it in parameters if it and it not in ("charset=utf-8", 'charset="utf-8"')]:
        raise Refused(415, "the body has to be in UTF-8")
    try:
        text = body.decode("utf-8")
        return _form(text) if kind == FORM else _json(text)
    except (ValueError, RecursionError):
        raise Refused(400, f"the body is no well-formed {kind}") from None


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once, parse_constant=_never)


def _form(text: str) -> dict[str, str]:
    return _once(parse_qsl(text, True, strict_parsing=True, errors="strict", max_num_fields=8))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _never(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")

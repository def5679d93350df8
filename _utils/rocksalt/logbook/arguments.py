"""Arguments of a call as they may be kept: without secrets, and not without bounds.

What is secret is told by the expressions for logs, by the names of keywords, and by functions that
take a password at a place without a name. What is given as pillar, standard input, environment or
contents is hidden whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rocksalt.access.door import masking
from rocksalt.access.door.masking import MASKED
from rocksalt.logstash.shipping.mask import Masker

LONGEST = 2000
"""Characters of one text."""
MOST = 100
"""Items of a list or a mapping."""
DEEPEST = 6
_HIDDEN = {"pillar", "stdin", "env", "contents", "context", "defaults", "header_dict", "params"}
_FUNCTION = re.compile(
    r"(?:shadow|pass|vault|gpg|nacl|htpasswd|webutil|ldap3|keyring)\."
    r"|.*(?:passw|passphrase|secret|token|credential|crypt"
    r"|user_(?:create|add|exists|chpass)|(?:add|create)_user)"
)
_NO_WORDS = (Mapping, list, tuple, set, bool, type(None))
_KEYWORD = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<value>.*)", re.DOTALL)


class Arguments:
    """``patterns`` are regular expressions with a group ``secret``, as in
    ``hardening:logstash:mask``.
    """

    def __init__(self, patterns: Sequence[str]):
        self._masker = Masker(patterns)

    def split(self, function: str, given: object) -> tuple[list[Any], dict[str, Any]]:
        """Arguments by place, and those by name, of what Salt has as ``arg`` or ``fun_args``."""
        items = list(given) if isinstance(given, (list, tuple)) else [given] if given else []
        named: dict[str, Any] = {}
        placed = []
        for item in items:
            if isinstance(item, Mapping) and (item.get("__kwarg__") or item is items[-1]):
                named.update((str(key), value) for key, value in item.items())
            else:
                placed.append(item)
        named.pop("__kwarg__", None)
        hidden = _FUNCTION.match(function) is not None
        return self._placed(placed, hidden), self.named(named)

    def named(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A mapping without its secrets."""
        return {
            self.text(str(key)): self._named(str(key), value, 0) for key, value in _first(given)
        }

    def text(self, value: str) -> str:
        """A text without its secrets."""
        return _short(masking.text(self._masker.mask(value[: 2 * LONGEST])), len(value))

    def clean(self, value: object, depth: int = 0) -> Any:
        """Any value without its secrets, as JSON has it."""
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if depth >= DEEPEST:
            return "..."
        if isinstance(value, Mapping):
            pairs = [(str(key), it) for key, it in _first(value)]
            return {self.text(key): self._named(key, it, depth) for key, it in pairs}
        if isinstance(value, (list, tuple, set)):
            return self._placed(list(value), False, depth + 1)
        return self.text(value.decode(errors="replace") if isinstance(value, bytes) else str(value))

    def _placed(self, values: list[Any], hidden: bool, depth: int = 0) -> list[Any]:
        """By place: they may be the words of a command line. Of a function that takes a secret,
        all but the first are hidden, which is whose it is.
        """
        found: list[Any] = []
        for index, value in enumerate(values[:MOST]):
            word = _KEYWORD.fullmatch(value) if isinstance(value, str) else None
            if hidden and index and not word:
                found.append(_hide(value))
            elif word and _is_hidden(word["name"]):
                found.append(f"{word['name']}={MASKED}")
            elif index and not isinstance(value, _NO_WORDS):
                found.append(self._word(values, index, depth))
            else:
                found.append(self.clean(value, depth))
        return found + [f"... ({len(values)} in all)"] * (len(values) > MOST)

    def _word(self, values: list[Any], index: int, depth: int) -> Any:
        value = self.clean(values[index], depth)
        near = [*values[max(index - masking.NEAR, 0) : index], value]
        said = masking.word(near, len(near) - 1, 2 * LONGEST)
        return value if said == str(value) else said

    def _named(self, name: str, value: object, depth: int) -> Any:
        return _hide(value) if _is_hidden(name) else self.clean(value, depth + 1)


def _first(given: Mapping[Any, Any]) -> Iterable[tuple[Any, Any]]:
    return list(given.items())[:MOST]


def _is_hidden(name: str) -> bool:
    return name in _HIDDEN or masking.is_secret(name)


def _short(text: str, whole: int) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({whole} characters)"


def _hide(value: object, depth: int = 0) -> Any:
    """The shape of a value, with the names in it."""
    if isinstance(value, Mapping) and depth < DEEPEST:
        return {str(key)[:100]: _hide(it, depth + 1) for key, it in _first(value)}
    return None if value is None else MASKED

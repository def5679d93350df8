"""Arguments of a call as they may be kept: without secrets, and not without bounds.

What is secret is told by the expressions for logs, by the names of keywords, and by functions that
take a password at a place without a name. What is given as pillar, standard input, environment or
contents is hidden whole.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rocksalt.access.door import masking
from rocksalt.access.door.masking import MASKED
from rocksalt.logstash.shipping.mask import Masker

LONGEST = 2000
"""Characters of one text."""
MOST = 100
"""Items of a list or a mapping."""
DEEPEST = 6
WHOLE, _EACH = 32_000, 8
"""Characters of all arguments of a call, and what one costs at least."""
TELLING = (
    "fun", "cmd", "cmds", "command", "commands", "code", "script", "source", "name", "mods", "sls",
    "arg", "kwarg", "args", "kwargs", "tgt", "user", "runas", "app", "version",
)  # fmt: skip
"""Names that tell most of what a call does: they are kept first."""
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
        return self.call(function, placed, named)

    def call(
        self, function: str, placed: Sequence[Any], named: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:  # fmt: skip
        """The same of both."""
        hidden, one = is_hidden(function), _Call(self._masker)
        # What is said last is cut first.
        telling = one.named({key: named[key] for key in TELLING if key in named}, 0, hidden)
        found = one.placed(list(placed), hidden)
        rest = {key: value for key, value in named.items() if key not in telling}
        return found, _ordered(named, {**telling, **one.named(rest, 0, hidden)})

    def named(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A mapping without its secrets."""
        return _Call(self._masker).named(given, 0)

    def text(self, value: str) -> str:
        """A text without its secrets."""
        return _Call(self._masker).text(value)

    def clean(self, value: object) -> Any:
        """Any value without its secrets, as JSON has it."""
        return _Call(self._masker).clean(value)


class _Call:
    """One call, of which no more than :data:`WHOLE` characters are kept."""

    def __init__(self, masker: Masker):
        self._masker, self._left = masker, WHOLE

    def text(self, value: str) -> str:
        """A text without its secrets. One that is cut says so, and what it was: its digest, unless
        that could tell a secret.
        """
        looked = value[: 2 * LONGEST]
        masked = masking.text(self._masker.mask(looked))
        most = min(LONGEST, max(self._left, 0))
        self._left -= min(len(masked), most) + _EACH
        if len(masked) <= most and len(looked) == len(value):
            return masked
        own = f", sha256 {_digest(value)}" if masked == looked else ""
        return f"{masked[:most]}... ({len(value)} characters{own})"

    def clean(self, value: object, depth: int = 0) -> Any:
        """Any value without its secrets, as JSON has it."""
        if value is None or isinstance(value, (bool, int)):
            self._left -= _EACH
            return value
        if isinstance(value, float):
            self._left -= _EACH
            return value if math.isfinite(value) else str(value)
        if depth >= DEEPEST:
            return "..."
        if isinstance(value, Mapping):
            return self.named({str(key): it for key, it in value.items()}, depth)
        if isinstance(value, (list, tuple, set)):
            return self.placed(list(value), False, depth + 1)
        return self.text(value.decode(errors="replace") if isinstance(value, bytes) else str(value))

    def placed(self, values: list[Any], hidden: bool, depth: int = 0) -> list[Any]:
        """By place: they may be the words of a command line. Of a function that takes a secret,
        all but the first are hidden, which is whose it is.
        """
        found: list[Any] = []
        for index, value in enumerate(values[:MOST]):
            if self._left <= 0:
                break
            word = _KEYWORD.fullmatch(value) if isinstance(value, str) else None
            if hidden and (index or isinstance(value, Mapping)):
                found.append(_hide(value))
            elif hidden and isinstance(value, (list, tuple)) and depth < DEEPEST:
                found.append(self.placed(list(value), True, depth + 1))
            elif word and _is_hidden(word["name"]):
                found.append(f"{word['name']}={MASKED}")
            elif isinstance(value, (Mapping, list, tuple, set, bool, type(None))):
                found.append(self.clean(value, depth))
            else:
                found.append(self._word(values, index, depth))
        return found + [f"... ({len(values)} in all)"] * (len(values) > len(found))

    def named(self, given: Mapping[str, Any], depth: int, hidden: bool = False) -> dict[str, Any]:
        """By name, in the order given. Where there are too many, the telling ones stay."""
        found = dict[str, Any]()
        names = [*(key for key in TELLING if key in given), *given]
        for name in dict.fromkeys(names):
            if len(found) >= MOST or self._left <= 0:
                break
            hides = hidden or _is_hidden(name)
            found[name] = _hide(given[name]) if hides else self.clean(given[name], depth + 1)
        kept = {self.text(name): value for name, value in _ordered(given, found).items()}
        left = len(given) - len(found)
        return {**kept, "...": f"{left} more"} if left else kept

    def _word(self, values: list[Any], index: int, depth: int) -> Any:
        value = self.clean(values[index], depth)
        near = [*values[max(index - masking.NEAR, 0) : index], value]
        said = masking.word(near, len(near) - 1, 2 * LONGEST)
        return value if said == str(value) else said


def is_hidden(function: str) -> bool:
    """Whether a function takes a secret at a place, or by a name, that does not tell it."""
    return any(_FUNCTION.match(name) for name in function.split(","))


def _ordered(given: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """What was found, in the order of what was given."""
    return {**{key: found[key] for key in given if key in found}, **found}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _is_hidden(name: str) -> bool:
    return name in _HIDDEN or masking.is_secret(name)


def _hide(value: object, depth: int = 0) -> Any:
    """The shape of a value, with the names in it."""
    if isinstance(value, Mapping) and depth < DEEPEST:
        return {str(key)[:100]: _hide(it, depth + 1) for key, it in list(value.items())[:MOST]}
    return None if value is None else MASKED

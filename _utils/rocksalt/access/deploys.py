"""What may be deployed on a host, and what came of it: pure, ``deployed`` keeps the records and
``deploying`` does it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from rocksalt import access
from rocksalt.access import compiled
from rocksalt.access.door.filter import LONGEST_VERSION
from rocksalt.errors import NoSuch, Refused

NAME = re.compile(r"[a-z][a-z0-9_-]*")
"""An app's name, which is that of its record as well."""
TIMEOUT = 600
"""Seconds that a deploy may take where the app does not say."""
_LONGEST_COMMENT = 2000
_MOST_FAILED = 20
_SECRET = re.compile(r"(?i)pass|secret|token|private|credential|hash|(?:^|[_-])key$")
_SHORTEST_SECRET = 6
_CONFLICT = re.compile(r'The function "[^"]*" is running as PID ')


@dataclass(frozen=True)
class App:
    """One that belongs on this host; ``version`` is the pattern that a version matches as a
    whole.
    """

    name: str
    states: tuple[str, ...]
    version: str
    timeout: int


@dataclass(frozen=True)
class Outcome:
    """How many states ran and how many changed something; id -> comment of those that failed."""

    states: int
    changed: int
    failed: Mapping[str, str]

    @property
    def result(self) -> bool:
        return not self.failed

    def told(self) -> dict[str, Any]:
        return {"states": self.states, "changed": self.changed, "failed": dict(self.failed)}


def find(apps: Mapping[str, Mapping[str, Any]], name: object, minion: str) -> App:
    """The app of this minion, or :class:`NoSuch`. What others there are is not told, for whoever
    may deploy here need not know them.
    """
    here = sorted(
        app
        for app, it in apps.items()
        if NAME.fullmatch(app) and any(fnmatchcase(minion, glob) for glob in it["minions"])
    )
    if name not in here:
        near = difflib.get_close_matches(str(name), here, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise NoSuch(f"app: {name!r} is no app of {minion} in {access.TOP}:apps{hint}")
    it = apps[str(name)]
    return App(str(name), tuple(it["states"]), it["version"], it.get("timeout") or TIMEOUT)


def check(app: App, version: object, test: object) -> None:
    """:class:`Refused` where this version is not one to deploy, or ``test`` not yes or no."""
    if not isinstance(version, str):
        raise Refused(
            f"version: {version!r} is no text (as a number 1.10 is 1.1): put it in quotes of its "
            """own, version='"1.10"'"""
        )
    if not isinstance(test, bool):
        raise Refused(f"test: {test!r} is neither True nor False")
    odd = Refused(
        f"version: {_short(ascii(version))} is no version of {app.name}: it has more than "
        f"{LONGEST_VERSION} characters, or some that are not printable ASCII"
    )
    if len(version) > LONGEST_VERSION:
        raise odd
    where = f"{access.TOP}:apps:{app.name}:version"
    try:
        matches = re.match(compiled.wholly(app.version), version)
    except (re.error, OverflowError, RecursionError) as error:
        raise Refused(f"{where}: {app.version!r} is no regular expression: {error}") from None
    if not matches:
        raise Refused(
            f"version: {_short(ascii(version))} is no version of {app.name}, which has to match "
            f"{app.version!r} as a whole ({where})"
        )
    if not (version.isascii() and version.isprintable()):
        raise odd


def outcome(app: App, returned: object, test: bool, mask: Callable[[str], str]) -> Outcome:
    """What a run of an app's states amounts to, from what ``state.apply`` returned: a mapping of
    states, or a list of errors where they could not be rendered.
    """
    if not isinstance(returned, Mapping) or not all(
        isinstance(it, Mapping) for it in returned.values()
    ):
        return failed(app, returned, mask)
    if not returned:
        return failed(app, "no state was applied", mask)
    states = returned.values()
    changed = [it for it in states if it.get("changes") or (test and it.get("result") is None)]
    bad = [(key, it) for key, it in returned.items() if it.get("result") is False]
    shown = {_identifier(mask(key)): _why(it, mask) for key, it in bad[:_MOST_FAILED]}
    if len(bad) > _MOST_FAILED:
        shown["others"] = f"{len(bad) - _MOST_FAILED} more states failed"
    return Outcome(len(states), len(changed), shown)


def failed(app: App, errors: object, mask: Callable[[str], str]) -> Outcome:
    """That of a run which came to nothing."""
    return Outcome(0, 0, {", ".join(app.states): _comment(errors, mask)})


def conflict(returned: object) -> bool:
    """Whether Salt did nothing because another run of states is active."""
    return (
        isinstance(returned, list)
        and bool(returned)
        and all(_CONFLICT.match(str(it)) for it in returned)
    )


def secrets(pillar: object, inside: bool = False) -> Iterator[str]:
    """Texts of a pillar below keys that sound like secrets, each line by itself."""
    if isinstance(pillar, Mapping):
        for key, value in pillar.items():
            yield from secrets(value, inside or bool(_SECRET.search(str(key))))
    elif isinstance(pillar, (list, tuple)):
        for value in pillar:
            yield from secrets(value, inside)
    elif inside and isinstance(pillar, (str, int)):
        for line in str(pillar).splitlines():
            if len(line.strip()) >= _SHORTEST_SECRET:
                yield line.strip()


def masker(pillar: object, mask: Callable[[str], str]) -> Callable[[str], str]:
    """Takes secrets out of a text: those of the pillar, and what ``mask`` knows by its looks."""
    known = sorted(set(secrets(pillar)), key=len, reverse=True)

    def masked(text: str) -> str:
        for secret in known:
            text = text.replace(secret, "***")
        return mask(text)

    return masked


def _identifier(key: str) -> str:
    """``shop is there (file.managed /srv/x)`` of ``file_|-shop is there_|-/srv/x_|-managed``."""
    parts = key.split("_|-")
    if len(parts) != 4:
        return key
    module, identifier, name, function = parts
    what = f"{module}.{function}{'' if name == identifier else f' {name}'}"
    return f"{identifier} ({_short(what, 200)})"


def _why(state: Mapping[str, Any], mask: Callable[[str], str]) -> str:
    """The comment of a state, and what its command said: that is not in the comment."""
    changes = state.get("changes")
    said = changes.get("stderr") if isinstance(changes, Mapping) else ""
    return _comment([it for it in (state.get("comment"), said) if it], mask)


def _comment(found: object, mask: Callable[[str], str]) -> str:
    texts: Sequence[object] = found if isinstance(found, (list, tuple)) else [found]
    return _short(mask("\n".join(str(it) for it in texts)).strip() or "no comment")


def _short(text: str, longest: int = _LONGEST_COMMENT) -> str:
    """Both ends of what is too long: an error tends to be in one of them."""
    half = longest // 2
    return text if len(text) <= 2 * half else f"{text[:half]} ... {text[-half:]}"

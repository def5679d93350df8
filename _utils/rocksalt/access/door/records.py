"""What was asked of the door and how it ended: one line of JSON for each, without secrets."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from . import masking

log = logging.getLogger("rocksalt.api")
_LONGEST = 1000
"""Letters of one text."""
_MOST = 1000
"""Members of one list or mapping."""


class Records:
    """Lines in a file, which may be moved away at any time, and in the log of salt-api.

    A file that cannot be written is said in the log and stops nobody.
    """

    def __init__(self, path: str, clock: Callable[[], float]):
        self._path, self._clock = path, clock
        self._lock = threading.Lock()

    def write(self, event: str, outcome: str, **what: Any) -> None:
        """One line; see :func:`line` for what it may say."""
        text = line(self._clock(), event, outcome, **what)
        log.info("%s", text)
        with self._lock:
            try:
                _append(self._path, f"{text}\n".encode())
            except OSError as error:
                log.error("a line could not be written to %s: %s", self._path, error.strerror)


def line(
    now: float,
    event: str,
    outcome: str,
    user: str = "",
    source: str = "",
    call: object = None,
    certificate: str = "",
    jid: str = "",
) -> str:
    """A line: ``event`` is login, login-refused, logout, asked (before a call), call (when it has
    ended), refused or limited; ``certificate`` is the name in that of the caller, where callers
    need one; ``call`` is what was asked.
    """
    asked = call if isinstance(call, dict) else {}
    said = {
        "time": dt.datetime.fromtimestamp(now, dt.timezone.utc).isoformat(timespec="milliseconds"),
        "event": event,
        "user": _short(user),
        "source": source,
        "certificate": certificate,
        **{key: masked(asked.get(key)) for key in ("client", "fun", "tgt", "tgt_type")},
        **{key: masked(asked.get(key)) for key in ("arg", "kwarg")},
        "outcome": masked(outcome),
        **({"jid": jid} if jid else {}),
    }
    return json.dumps(said, default=str)


def masked(value: Any, depth: int = 6) -> Any:
    """The value without what is secret by its name, cut where it is long."""
    if isinstance(value, str):
        # What is cut off below is not looked at; it may be a whole body.
        return _short(masking.text(value[: 4 * _LONGEST]))
    if isinstance(value, (dict, list)) and not depth:
        return "..."
    if isinstance(value, Mapping):
        some = list(value.items())[:_MOST]
        return {_short(str(key)): _named(str(key), it, depth) for key, it in some}
    if isinstance(value, list):
        some = value[:_MOST]
        return [_placed(some, index, depth) for index in range(len(some))]
    return value if isinstance(value, (int, float, type(None))) else _short(str(value))


def _placed(some: list[Any], index: int, depth: int) -> Any:
    """One of a list, which may be the words of a command line."""
    if isinstance(some[index], str):
        return _short(masking.word(some, index, 4 * _LONGEST))
    return masked(some[index], depth - 1)


def _named(name: str, value: Any, depth: int) -> Any:
    return masking.MASKED if masking.is_secret(name) else masked(value, depth - 1)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _append(path: str, data: bytes) -> None:
    """Adds a line whole; where a disk was full, what is left of the last one ends here."""
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o640)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            data = b"\n" + data
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)

"""What was asked of the door and how it ended: one line of JSON for each, without secrets."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger("rocksalt.api")
MASKED = "***"
_LONGEST = 1000
"""Letters of one text."""
_MOST = 1000
"""Members of one list or mapping."""
_SECRET = re.compile(
    r"(?i)pass(?!ive|enger|ed)|pwd|secret|token|credential|private|hash|api[-_]?key|^key$|[-_]key$"
    r"|auth"
)
_WORD = re.compile(r"([^\s=:\"']{1,64})(?:=(?!=)|[\"']?\s*:\s*(?=[^\s:/]))")
"""A name and its value: ``a=b``, ``"a": "b"``."""
_OPTION = re.compile(
    r"(?i)(?<!\S)(?:-{1,2}[\w-]{0,40}(?:pass|pwd|secret|token|credential|key)[\w-]{0,40}"
    r"|[\w-]{0,40}(?:password|passwd|passphrase|secret|token)|sshpass\s+-p|\S{0,8}(?:bearer|basic))\s+"
    r"|(?<!\S)(?:-p(?=\S)|(?:-u|--(?:proxy-)?user)[\s=]?[^\s:]{1,64}:)"
)
"""What stands before a secret on a command line."""
_ACCOUNT = re.compile(r"[^\s:]:")
"""What ``chpasswd`` reads."""
_IN_URL = re.compile(r"(://[^/\s:@]{0,200}:)[^/\s@]{1,200}@")


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
    """A line: ``event`` is login, login-refused, logout, call, refused or limited; ``certificate``
    is the name in that of the caller, where callers need one; ``call`` is what was asked.
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
        return _short(_IN_URL.sub(rf"\1{MASKED}@", _unnamed(value[: 4 * _LONGEST])))
    if isinstance(value, (dict, list)) and not depth:
        return "..."
    if isinstance(value, Mapping):
        some = list(value.items())[:_MOST]
        return {
            _short(str(key)): MASKED if _SECRET.search(str(key)) else masked(it, depth - 1)
            for key, it in some
        }
    if isinstance(value, list):
        some = value[:_MOST]
        return [
            MASKED if _follows_option(before, it) else masked(it, depth - 1)
            for before, it in zip([None, *some], some, strict=False)
        ]
    return value if isinstance(value, (int, float, type(None))) else _short(str(value))


def _unnamed(text: str) -> str:
    """A text without the value of a secret name, which reaches to its end: it may have blanks."""
    named = (it for it in _WORD.finditer(text) if _SECRET.search(it[1]))
    found = [next(named, None), _OPTION.search(text)]
    if "chpasswd" in text:
        found.append(_ACCOUNT.search(text))
    end = min((it.end() for it in found if it), default=len(text))
    return text[:end] + MASKED if end < len(text) else text


def _follows_option(before: object, value: object) -> bool:
    """Whether a member of a list is the value of an option before it."""
    if not isinstance(before, str) or not isinstance(value, str):
        return False
    return _OPTION.fullmatch(f"{before} ") is not None


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _append(path: str, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o640)
    try:
        os.write(handle, data)
    finally:
        os.close(handle)

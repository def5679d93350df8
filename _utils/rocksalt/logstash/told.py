"""What the programs of the log server tell in files, and those of the logbook. They belong to an
account that faces the network, so what is in them may be anything.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from typing import Any

from rocksalt import logstash
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.logstash.receiving import files, ledger

STATUS = f"{logstash.RECEIVING}/status.json"
HEADS = f"{logstash.RECEIVING}/heads.json"
VERIFIED = f"{logstash.RECEIVING}/verified.json"
_LARGEST = 64 << 20
_TIME = (str, type(None))
_REASONS = {"*": str}
_STATUS = {
    "hosts": {
        "*": {
            "n": int,
            "received": _TIME,
            "bytes_today": int,
            "flags": {"host": int, "json": int, "last_flagged": _TIME},
        }
    },
    "failed": _REASONS,
    "disk": {"free": int, "size": int},
}
HEADS_SHAPE = {
    "witnessed_until": _TIME,
    "unwitnessed_since": _TIME,
    "error": str,
    "failed": _REASONS,
}
VERIFIED_SHAPE = {"time": str, "ok": bool, "hosts": {"*": {"problems": [str]}}, "problems": [str]}
_LEDGER = {"heads": {"*": [(int, str)]}}


def status(host: Host) -> Mapping[str, Any]:
    """How the writer is, empty where it never said: ``hosts`` with ``n``, ``received``,
    ``bytes_today`` and ``flags``, ``failed`` and ``disk``; any of them may be missing.
    :class:`Refused` for what is not that.
    """
    return read(host, STATUS, _STATUS)


def heads(host: Host) -> Mapping[str, Any]:
    """What was witnessed: ``witnessed_until``, ``unwitnessed_since``, ``error``, ``failed``."""
    return read(host, HEADS, HEADS_SHAPE)


def verified(host: Host) -> Mapping[str, Any]:
    """The last check: ``time``, ``ok``, ``hosts`` with ``problems``, and others of none."""
    return read(host, VERIFIED, VERIFIED_SHAPE)


def signed(host: Host, store: str) -> dict[str, int]:
    """Host -> the number of its last line that the log server signed for its witness."""
    found = read(host, f"{store}/{files.HEADS}/{ledger.STATE}", _LEDGER)
    known = (found.get("heads") or {}).items()
    return {name: head[0] for name, head in known if head and isinstance(head[0], int)}


def read(
    host: Host, path: str, shape: Mapping[str, Any], writer: str = "the log server"
) -> Mapping[str, Any]:
    """What a file tells, empty where there is none; :class:`Refused` for what has not the shape."""
    try:
        # A named pipe, or a device, would keep whoever reads it waiting.
        handle = os.open(host.path(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    with open(handle, "rb") as file:
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        data = file.read(_LARGEST + 1) if regular else b""
    try:
        found = json.loads(data) if len(data) <= _LARGEST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not _fits(found, shape):
        raise Refused(f"{path} is not what {writer} writes: remove it, and it is made anew")
    return found


def _fits(value: Any, shape: Any) -> bool:
    """Whether a value has a shape; keys may be missing, and others be there."""
    if isinstance(shape, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(value[key], shape.get(key, shape.get("*"))) for key in value
            if key in shape or "*" in shape
        )  # fmt: skip
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(it, shape[0]) for it in value)
    return isinstance(value, shape)

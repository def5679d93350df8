"""The master's auth module rocksalt_file: names and salted scrypt hashes in a file."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

_HERE = str(Path(__file__).resolve().parent.parent)
if _HERE not in sys.path:
    sys.path.append(_HERE)

from rocksalt_door import (  # type: ignore[import-not-found]  # noqa: E402
    conf,
    passwords,
    sealing,
)

log = logging.getLogger("rocksalt.api")
__virtualname__ = "rocksalt_file"
__opts__: dict[str, Any]


def __virtual__() -> Any:
    """Where the master has the door."""
    if conf.SECTION in __opts__:
        return __virtualname__
    return False, f"the master's options have no section {conf.SECTION}"


def auth(username: str, password: str) -> bool:
    """Whether this is the user's password, and came through the door."""
    word = sealing.opened(__opts__, username, password)
    try:
        users = Path(conf.read(__opts__).users_file).read_text()
    except (OSError, ValueError) as error:
        log.error("nobody can log in: %a", error)
        return False
    return passwords.may_enter(users, str(username), word or "") and word is not None

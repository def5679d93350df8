"""The master's auth module rocksalt_ldap: Salt's own ldap, with its options ``auth.ldap.*``, for
passwords that came through the door.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import salt.auth.ldap

_HERE = str(Path(__file__).resolve().parent.parent)
if _HERE not in sys.path:
    sys.path.append(_HERE)

from rocksalt_door import (  # type: ignore[import-not-found]  # noqa: E402
    conf,
    directory,
    sealing,
)

log = logging.getLogger("rocksalt.api")
__virtualname__ = "rocksalt_ldap"
__opts__: dict[str, Any]


def __virtual__() -> Any:
    """Where the master has the door."""
    if conf.SECTION in __opts__:
        return __virtualname__
    return False, f"the master's options have no section {conf.SECTION}"


def auth(username: str, password: str) -> bool:
    """Whether the directory knows the user by this password, and it came through the door."""
    if directory.lets_anybody_in(__opts__):
        log.error("nobody can log in: auth.ldap.anonymous asks for no passwords")
        return False
    word = sealing.opened(__opts__, username, password)
    if word is None:
        return False
    return bool(directory.in_time(lambda: bool(_directory().auth(username, word))))


def groups(username: str, **kwargs: Any) -> list[str]:
    """The groups of a user whose password came through the door."""
    word = sealing.opened(__opts__, username, kwargs.get("password"))
    if word is None:
        return []
    return list(directory.in_time(lambda: _directory().groups(username, password=word)))


def process_acl(auth_list: list[Any], opts: dict[str, Any] | None = None) -> Any:
    """Rights as Salt's ldap expands them."""
    return _directory().process_acl(auth_list, opts)


def _directory() -> Any:
    """Salt's module, which Salt's loader would give its options."""
    salt.auth.ldap.__opts__ = __opts__
    return salt.auth.ldap

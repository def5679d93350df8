"""Passwords are good at the door alone.

The master asks its auth module for whoever sends it a name and a password, also straight to its
port for minions, where neither the filter nor the limits of log-ins are. So the door vouches for a
password with a secret that it shares with the auth module, and one without that is no password.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import conf

log = logging.getLogger("rocksalt.api")
_DIGITS = 64


def renew(path: str) -> bytes:
    """A new secret in a file that is its owner's alone, put in the place of the one before."""
    secret = secrets.token_bytes(32)
    new = f"{path}.new"
    Path(new).unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.write(handle, secret)
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(new, path)
    return secret


def seal(secret: bytes, user: str, password: str) -> str:
    """The password as the door hands it to the master."""
    return _proof(secret, user, password) + password


def unseal(secret: bytes, user: str, sealed: str) -> str | None:
    """The password that the door vouched for; None where it did not."""
    proof, password = sealed[:_DIGITS], sealed[_DIGITS:]
    good = hmac.compare_digest(proof.encode(), _proof(secret, user, password).encode())
    return password if good and len(secret) >= 32 else None


def secret(opts: Mapping[str, Any]) -> bytes:
    """The secret that is in force; :class:`OSError` where there is none."""
    return Path(conf.seal_file(opts)).read_bytes()


def opened(opts: Mapping[str, Any], user: object, sealed: object) -> str | None:
    """What an auth module does with the password that the master hands to it; None where the door
    did not vouch for it.
    """
    if not isinstance(user, str) or not isinstance(sealed, str):
        return None
    try:
        word = unseal(secret(opts), user, sealed)
    except OSError as error:
        log.error("nobody can log in: %a", error)
        return None
    if not word:
        log.warning("a log-in that did not come through the door was refused")
    return word or None


def _proof(secret: bytes, user: str, password: str) -> str:
    said = "\0".join((user, password)).encode("utf-8", "surrogatepass")
    return hmac.new(secret, said, hashlib.sha256).hexdigest()

"""Passwords as salted hashes: ``scrypt:N:r:p:salt:hash``, the last two in base64."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from typing import NamedTuple

N, R, P = 2**15, 8, 1
_SALT, _HASH = 16, 32
_MOST_MEMORY = 128 * 2**20
"""Bytes; a hash of another program may ask for more than ours, but not for the whole master."""


class _Hash(NamedTuple):
    n: int
    r: int
    p: int
    salt: bytes
    hash: bytes

    def of(self, password: str) -> bytes:
        return hashlib.scrypt(
            password.encode("utf-8", "surrogatepass"), salt=self.salt, n=self.n, r=self.r, p=self.p,
            maxmem=2 * _MOST_MEMORY, dklen=len(self.hash),
        )  # fmt: skip


def make(password: str = "") -> tuple[str, str]:
    """A password (a new one of 144 random bits where none is given) and its hash."""
    password = password or secrets.token_urlsafe(18)
    salt = secrets.token_bytes(_SALT)
    hashed = _Hash(N, R, P, salt, b"\0" * _HASH).of(password)
    texts = [base64.b64encode(it).decode() for it in (salt, hashed)]
    return password, ":".join(["scrypt", str(N), str(R), str(P), *texts])


def is_strong(text: str) -> bool:
    """Whether this is a hash as :func:`make` makes it, or a stronger one."""
    found = _parsed(text)
    return bool(
        found
        and found.n >= N
        and found.r >= R
        and len(found.salt) >= _SALT
        and len(found.hash) >= _HASH
    )


def is_password(text: str, password: str) -> bool:
    """Whether the password has this hash; never where the text is no hash."""
    found = _parsed(text)
    return found is not None and hmac.compare_digest(found.of(password), found.hash)


def may_enter(users: str, user: str, password: str) -> bool:
    """Whether the lines ``name:hash`` know this user by this password.

    An unknown user takes the time of one of those that are known, always the same one, which
    nobody can foretell without the lines. A name that is there twice is nobody's.
    """
    found = _parsed(hash_of(users, user)) if user else None
    stand_in = _stand_in(users, user)  # made for everybody, for that takes time as well
    asked = found or stand_in
    return hmac.compare_digest(asked.of(password), asked.hash) and found is not None


def _stand_in(users: str, user: str) -> _Hash:
    """The hash that the password of an unknown user is compared with."""
    hashes = [found for _, text in _lines(users) if (found := _parsed(text.strip()))]
    chance = hashlib.sha256(f"{users}:{user}".encode("utf-8", "surrogatepass")).digest()
    return hashes[int.from_bytes(chance[:8], "big") % len(hashes)] if hashes else _NOBODY


def hash_of(users: str, user: str) -> str:
    """What the lines have for a user, empty where there is none or more than one."""
    hashes = [text.strip() for name, text in _lines(users) if name == user]
    return hashes[0] if len(hashes) == 1 else ""


def _lines(users: str) -> Iterator[tuple[str, str]]:
    for line in users.splitlines():
        name, colon, text = line.partition(":")
        if colon and not line.startswith("#"):
            yield name, text


def _parsed(text: str) -> _Hash | None:
    words = text.split(":")
    if len(words) != 6 or words[0] != "scrypt":
        return None
    try:
        n, r, p = (int(word) for word in words[1:4])
        salt, hashed = (base64.b64decode(word, validate=True) for word in words[4:])
    except (ValueError, binascii.Error):
        return None
    fits = n > 1 and n & (n - 1) == 0 and r > 0 and 0 < p <= 16 and 128 * n * r <= _MOST_MEMORY
    return _Hash(n, r, p, salt, hashed) if fits and salt and 16 <= len(hashed) <= 128 else None


_NOBODY = _Hash(N, R, P, b"nobody's salt!!!", b"\0" * _HASH)

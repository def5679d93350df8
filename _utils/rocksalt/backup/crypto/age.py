"""Files in the format age-encryption.org/v1, which the program ``age`` writes and reads as well,
for X25519 recipients: with ``cryptography`` alone, streaming.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from rocksalt.backup.crypto import bech32
from rocksalt.backup.errors import BackupError, Unverified

CHUNK = 64 << 10
"""Bytes of plain text that are sealed at once; only the last chunk may be shorter."""
_TAG = 16
_VERSION = b"age-encryption.org/v1"
_LARGEST_HEADER = 256 << 10
_PUBLIC, _SECRET = "age", "AGE-SECRET-KEY-"


def recipient(text: str) -> X25519PublicKey:
    """The public key in ``age1...``; ValueError says, as the end of a sentence, what is wrong."""
    key = X25519PublicKey.from_public_bytes(bech32.decode(text, _PUBLIC))
    _shared(X25519PrivateKey.generate(), key)
    return key


def fingerprint(text: str) -> str:
    """SHA-256 of a recipient as it is written: what ``printf %s age1... | sha256sum`` shows."""
    recipient(text)
    return hashlib.sha256(text.encode()).hexdigest()


def generate() -> tuple[str, str]:
    """A new key pair: the identity, which is secret, and its recipient."""
    key = X25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return bech32.encode(_SECRET, secret), public(key)


def public(identity: X25519PrivateKey) -> str:
    """The recipient of an identity."""
    return bech32.encode(_PUBLIC, _raw(identity.public_key()))


def identities(text: str) -> list[X25519PrivateKey]:
    """The identities in a file as age-keygen writes it; :class:`BackupError` names the line that is
    none, and never shows it.
    """
    found = []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith((_VERSION.decode(), "-----BEGIN AGE")):
            raise BackupError(
                "the identity file is encrypted with a passphrase: age -d -o identity FILE"
                " decrypts it, onto a disk in memory"
            )
        try:
            found.append(X25519PrivateKey.from_private_bytes(bech32.decode(line, _SECRET)))
        except ValueError as error:
            raise BackupError(f"line {number} of the identity file {error}") from None
    if not found:
        raise BackupError(f"the identity file holds no identity; one begins with {_SECRET}1")
    return found


class Writer:
    """Encrypts what is written to it to all recipients (``age1...``) and writes that to ``target``.

    Only :meth:`close` completes the file, and it leaves ``target`` open; without it nobody takes
    the file for a whole one. ValueError for a recipient that is none.
    """

    def __init__(self, target: BinaryIO, recipients: Sequence[str]):
        if not recipients:
            raise ValueError("an archive needs a recipient")
        self._target = target
        self._pending = bytearray()
        self._count = 0
        file_key, nonce = os.urandom(16), os.urandom(16)
        keys = [recipient(text) for text in recipients]
        header = b"".join([_VERSION, b"\n", *(_wrap(file_key, key) for key in keys), b"---"])
        target.write(header + b" " + _encoded(_mac(file_key, header)) + b"\n" + nonce)
        self._aead = _payload_cipher(file_key, nonce)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Takes all of it, and seals every chunk that is known not to be the last."""
        view = memoryview(data).cast("B")
        start = 0
        if self._pending:
            start = min(CHUNK - len(self._pending), len(view))
            self._pending += view[:start]
            if start == len(view):
                return start
            self._seal(self._pending)
            self._pending = bytearray()
        while len(view) - start > CHUNK:
            self._seal(view[start : start + CHUNK])
            start += CHUNK
        self._pending += view[start:]
        return len(view)

    def close(self) -> None:
        """Seals the last chunk."""
        self._seal(self._pending, last=True)
        self._pending = bytearray()

    def _seal(self, chunk: bytearray | memoryview, last: bool = False) -> None:
        self._target.write(self._aead.encrypt(_nonce(self._count, last), bytes(chunk), None))
        self._count += 1


class Reader(io.RawIOBase):
    """The plain text of an encrypted file. It gives nothing that was not written like this, in this
    order: :class:`Unverified` for what was changed, cut off or added, :class:`BackupError` where no
    identity is a recipient's. ``source`` stays open.
    """

    def __init__(self, source: BinaryIO, identities: Sequence[X25519PrivateKey]):
        super().__init__()
        self._source = source
        self._chunk = memoryview(b"")
        self._count = 0
        self._last = False
        header = Header(source)
        file_key = header.file_key(identities)
        self._rest = header.rest
        nonce = self._take(16)
        if len(nonce) < 16:
            raise Unverified("the archive ends within its header")
        self._aead = _payload_cipher(file_key, nonce)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fills what it can from one chunk; 0 only at the end of the whole, verified text."""
        if not self._chunk and not self._last:
            self._chunk = memoryview(self._open())
        view = memoryview(buffer).cast("B")
        size = min(len(view), len(self._chunk))
        view[:size] = self._chunk[:size]
        self._chunk = self._chunk[size:]
        return size

    def _open(self) -> bytes:
        """The next chunk; whether it is the last one is in its own nonce, so that nobody can make
        another one the last.
        """
        sealed = self._take(CHUNK + _TAG)
        plain = None
        if len(sealed) == CHUNK + _TAG:
            plain = self._opened(sealed, last=False)
        if plain is None:
            plain = self._opened(sealed, last=True)
            self._last = plain is not None
        where = f"the archive was changed or cut off at byte {self._count * CHUNK} of its content"
        if plain is None or (not plain and self._count):
            raise Unverified(where)
        if self._last and self._take(1):
            raise Unverified("something was added behind the end of the archive")
        self._count += 1
        return plain

    def _opened(self, sealed: bytes, last: bool) -> bytes | None:
        try:
            return self._aead.decrypt(_nonce(self._count, last), sealed, None)
        except (InvalidTag, ValueError):
            return None

    def _take(self, size: int) -> bytes:
        """So many bytes of the source, fewer only at its end."""
        data, self._rest = self._rest[:size], self._rest[size:]
        while len(data) < size:
            more = self._source.read(size - len(data))
            if not more:
                break
            data += more
        return data


class Header:
    """The beginning of an encrypted file: who can read it, and the key of its content, wrapped for
    each of them. :class:`Unverified` where it is no such beginning.
    """

    def __init__(self, source: BinaryIO):
        self.rest = b""
        """What was read of the source behind the header."""
        self._source = source
        self._read = 0
        self._covered: list[bytes] = []
        lines = self._lines()
        if next(lines) != _VERSION:
            raise Unverified("the archive does not begin as age archives do")
        self.stanzas: list[tuple[list[str], bytes]] = []
        line = next(lines)
        while not line.startswith(b"---"):
            self.stanzas.append(_stanza(line, lines))
            line = next(lines)
        if not self.stanzas:
            raise Unverified("the header of the archive names no recipient")
        self._mac = _decoded(line.removeprefix(b"--- "), 32)
        self._covered.append(b"---")

    def file_key(self, identities: Sequence[X25519PrivateKey]) -> bytes:
        """The key of the content, once the header is known to be as it was written."""
        for arguments, body in self.stanzas:
            if arguments[0] != "X25519":
                continue
            for identity in identities:
                key = _unwrap(arguments, body, identity)
                if key is not None:
                    if not hmac.compare_digest(_mac(key, b"".join(self._covered)), self._mac):
                        raise Unverified("the header of the archive was changed")
                    return key
        raise BackupError("none of the identities can read the archive: it has other recipients")

    def _lines(self) -> Iterator[bytes]:
        """Lines without their ends; those of stanzas are covered by the header's MAC."""
        while True:
            while b"\n" not in self.rest:
                more = self._source.read(4096)
                self._read += len(more)
                if not more or self._read > _LARGEST_HEADER:
                    raise Unverified("the archive ends within its header")
                self.rest += more
            line, _, self.rest = self.rest.partition(b"\n")
            if not line.startswith(b"---"):
                self._covered.append(line + b"\n")
            yield line


def _stanza(line: bytes, lines: Iterator[bytes]) -> tuple[list[str], bytes]:
    """Arguments and body of what begins with ``-> TYPE ...``."""
    arguments = line.split(b" ")
    visible = all(a and all(33 <= byte <= 126 for byte in a) for a in arguments)
    if arguments[0] != b"->" or len(arguments) < 2 or not visible:
        raise Unverified("the header of the archive is none of age")
    body = b""
    for part in lines:
        if len(part) > 64:
            break
        body += part
        if len(part) < 64:
            return [argument.decode() for argument in arguments[1:]], _decoded(body)
    raise Unverified("the header of the archive is none of age")


def _wrap(file_key: bytes, key: X25519PublicKey) -> bytes:
    """The stanza with which the owner of ``key`` finds the file key."""
    ephemeral = X25519PrivateKey.generate()
    share = _raw(ephemeral.public_key())
    wrapping = _wrapping_key(_shared(ephemeral, key), share, _raw(key))
    body = ChaCha20Poly1305(wrapping).encrypt(bytes(12), file_key, None)
    return b"-> X25519 " + _encoded(share) + b"\n" + _encoded(body) + b"\n"


def _unwrap(arguments: Sequence[str], body: bytes, identity: X25519PrivateKey) -> bytes | None:
    """The file key; None if it was wrapped for somebody else."""
    if len(arguments) != 2 or len(body) != 32:
        raise Unverified("the header of the archive is none of age")
    share = _decoded(arguments[1].encode(), 32)
    try:
        shared = _shared(identity, X25519PublicKey.from_public_bytes(share))
    except ValueError as error:
        raise Unverified(f"the header of the archive {error}") from None
    wrapping = _wrapping_key(shared, share, _raw(identity.public_key()))
    try:
        return ChaCha20Poly1305(wrapping).decrypt(bytes(12), body, None)
    except InvalidTag:
        return None


def _shared(private: X25519PrivateKey, key: X25519PublicKey) -> bytes:
    try:
        return private.exchange(key)
    except ValueError:
        raise ValueError("holds a key of low order, with which everybody could read") from None


def _wrapping_key(shared: bytes, share: bytes, key: bytes) -> bytes:
    return _hkdf(shared, share + key, _VERSION + b"/X25519")


def _payload_cipher(file_key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(_hkdf(file_key, nonce, b"payload"))


def _mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_hkdf(file_key, b"", b"header"), header, "sha256")


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, info).derive(secret)


def _nonce(count: int, last: bool) -> bytes:
    return count.to_bytes(11, "big") + bytes([last])


def _raw(key: X25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _encoded(data: bytes) -> bytes:
    """Base64 without padding."""
    return base64.b64encode(data).rstrip(b"=")


def _decoded(text: bytes, size: int | None = None) -> bytes:
    """What :func:`_encoded` made, and only the one text that it makes of it."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        data = b""
    if _encoded(data) != text or size not in (None, len(data)):
        raise Unverified("the header of the archive is none of age")
    return data

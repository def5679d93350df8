"""Signatures as ``ssh-keygen -Y sign`` makes them (OpenSSH's PROTOCOL.sshsig), with Ed25519."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
import struct
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from rocksalt.backup.errors import BackupError, Unverified

KIND = "ssh-ed25519"
_MAGIC = b"SSHSIG"
_PRIVATE = b"openssh-key-v1\0"
_HASH = b"sha512"
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
_COLUMNS = 70


class Signer:
    """A private key that signs; ``public`` is its public half, as in authorized_keys."""

    def __init__(self, key: Ed25519PrivateKey):
        self._key = key
        self.public = _line(key.public_key())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Signer:
        """The key in a file of ssh-keygen; :class:`BackupError` says why it cannot be used."""
        try:
            with open(path, "rb") as file:
                mode, data = os.fstat(file.fileno()).st_mode, file.read()
        except OSError as error:
            raise BackupError(f"the key {path} cannot be read: {error.strerror}") from None
        if stat.S_IMODE(mode) & 0o077:
            raise BackupError(f"the key {path} can be read by others: chmod 600 {path}")
        if _locked(data):
            raise BackupError(f"the key {path} has a passphrase, so nothing can use it")
        try:
            key = load_ssh_private_key(data, password=None)
        except (TypeError, ValueError, UnsupportedAlgorithm):
            raise BackupError(f"the key {path} is no private key of OpenSSH") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise BackupError(f"the key {path} is not of the type {KIND}")
        return cls(key)

    def sign(self, message: bytes, namespace: str) -> bytes:
        """A detached signature in armour; ``namespace`` says what the signature is good for."""
        signature = _packed(KIND.encode(), self._key.sign(_signed(message, namespace)))
        fields = (_blob(self.public), namespace.encode(), b"", _HASH, signature)
        text = base64.b64encode(_MAGIC + struct.pack(">I", 1) + _packed(*fields))
        lines = [text[i : i + _COLUMNS] for i in range(0, len(text), _COLUMNS)]
        return b"\n".join([_BEGIN, *lines, _END, b""])


def _locked(data: bytes) -> bool:
    """Whether a private key of OpenSSH is encrypted: the name of the cipher comes first in it."""
    text = b"".join(line for line in data.split(b"\n") if not line.startswith(b"-"))
    try:
        blob = base64.b64decode(text)
    except binascii.Error:
        return False
    return blob.startswith(_PRIVATE) and not blob.startswith(_PRIVATE + _packed(b"none"))


def generate(path: str | os.PathLike[str]) -> str:
    """Writes a new key without a passphrase, 0600, and its public half beside it (``.pub``), and
    returns that. :class:`BackupError` if there is one already.
    """
    key = Ed25519PrivateKey.generate()
    public = _line(key.public_key())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    for target, data, mode in (
        (os.fspath(path), private, 0o600),
        (f"{os.fspath(path)}.pub", f"{public}\n".encode(), 0o644),
    ):
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise BackupError(f"{target} exists already, and is not replaced") from None
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    return public


def bare(line: str) -> str:
    """A public key without its comment; :class:`BackupError` if it is not one of Ed25519."""
    kind, _, rest = line.strip().partition(" ")
    text = rest.split(" ")[0]
    try:
        blob = base64.b64decode(text, validate=True)
        name, key = _fields(blob, 2)
    except (ValueError, Unverified):
        name, key = b"", b""
    if kind != KIND or name != KIND.encode() or len(key) != 32:
        raise BackupError(f"{line.strip()!r} is no public key of the type {KIND}")
    return f"{kind} {text}"


def verify(message: bytes, signature: bytes, namespace: str, trusted: Iterable[str]) -> str:
    """Which of the trusted public keys, as it was given, made the signature; :class:`Unverified`
    says why it is none of theirs.
    """
    keys = {_blob(bare(line)): line for line in trusted}
    public, found, reserved, algorithm, raw = _fields(_dearmoured(signature), 5)
    if found != namespace.encode():
        raise Unverified(f"is signed as {found.decode(errors='replace')!r}, not as {namespace!r}")
    if reserved or algorithm != _HASH:
        raise Unverified("is signed in a way that is not used here")
    kind, value = _fields(raw, 2)
    if kind != KIND.encode():
        raise Unverified(f"is signed with a key that is not of the type {KIND}")
    if public not in keys:
        known = ", ".join(keys.values()) or "none"
        raise Unverified(f"is signed by {_shown(public)}, who is not trusted; trusted is {known}")
    try:
        Ed25519PublicKey.from_public_bytes(public[-32:]).verify(value, _signed(message, namespace))
    except InvalidSignature:
        raise Unverified(f"was changed after {keys[public]} signed it") from None
    return keys[public]


def _signed(message: bytes, namespace: str) -> bytes:
    """What is really signed."""
    return _MAGIC + _packed(namespace.encode(), b"", _HASH, hashlib.sha512(message).digest())


def _dearmoured(signature: bytes) -> bytes:
    """The fields of a signature in armour, without what all signatures begin with."""
    lines = signature.split(b"\n")
    if lines[0] != _BEGIN or lines[-2:] != [_END, b""]:
        raise Unverified("has no signature in the form of ssh-keygen -Y sign")
    try:
        blob = base64.b64decode(b"".join(lines[1:-2]), validate=True)
    except binascii.Error:
        raise Unverified("has a damaged signature") from None
    head = _MAGIC + struct.pack(">I", 1)
    if not blob.startswith(head):
        raise Unverified("has a signature of an unknown version")
    return blob[len(head) :]


def _packed(*fields: bytes) -> bytes:
    """Fields as SSH writes them: length, content."""
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def _fields(blob: bytes, count: int) -> list[bytes]:
    """Exactly so many fields; :class:`Unverified` for more, fewer or half a one."""
    fields: list[bytes] = []
    rest = blob
    while rest and len(fields) < count:
        size = int.from_bytes(rest[:4], "big")
        fields.append(rest[4 : 4 + size])
        if len(rest) < 4 + size:
            break
        rest = rest[4 + size :]
    if rest or len(fields) != count:
        raise Unverified("has a damaged signature")
    return fields


def _line(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"{KIND} {base64.b64encode(_packed(KIND.encode(), raw)).decode()}"


def _blob(line: str) -> bytes:
    return base64.b64decode(line.split(" ")[1])


def _shown(public: bytes) -> str:
    return f"{KIND} {base64.b64encode(public).decode()}"

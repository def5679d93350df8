"""Public keys: lines of authorized_keys files and what sshd would make of them.

Sources: sshd(8) "AUTHORIZED_KEYS FILE FORMAT", RFC 4253 section 6.6 for the key blob.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rocksalt.sshd.known_keys import PUBLISHED

_SIGNATURES = {
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"),
}
_KINDS = ("ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-", "rsa-sha2-")
_RSA = ("ssh-rsa", "rsa-sha2-256", "rsa-sha2-512")


@dataclass(frozen=True)
class Key:
    """One public key. ``bits`` is the modulus of an RSA key, 0 for other kinds; ``options`` is name
    -> value.
    """

    kind: str
    bits: int
    fingerprint: str
    comment: str
    options: dict[str, str]


def parse(text: str) -> list[Key]:
    """The keys of an authorized_keys file; lines that sshd would not understand are left out, as
    sshd does. A line ends where sshd ends it, and an RSA key may go by the name of a signature.
    """
    return [key for key in map(_line, text.split("\n")) if key is not None]


def _line(line: str) -> Key | None:
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    options: dict[str, str] = {}
    if not line.startswith(_KINDS):
        end = _end_of_options(line)
        options, line = _options(line[:end]), line[end:].strip()
    kind, blob, comment = (*line.split(maxsplit=2), "", "", "")[:3]
    try:
        raw = base64.b64decode(blob, validate=True)
        fields = _fields(raw)
    except (ValueError, struct.error):
        return None
    written, kind = kind, fields[0].decode("ascii", "replace") if fields else ""
    if not kind or written not in (_RSA if kind == "ssh-rsa" else (kind,)):
        return None
    digest = base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")
    bits = (
        int.from_bytes(fields[2], "big").bit_length()
        if kind == "ssh-rsa" and len(fields) > 2
        else 0
    )
    return Key(kind, bits, f"SHA256:{digest}", comment.strip(), options)


def _fields(raw: bytes) -> list[bytes]:
    found = []
    while raw:
        (size,) = struct.unpack(">I", raw[:4])
        if size > len(raw) - 4:
            raise struct.error("the key is cut off")
        found.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return found


def _end_of_options(line: str) -> int:
    quoted = False
    for index, character in enumerate(line):
        if character == '"' and line[index - 1] != "\\":
            quoted = not quoted
        elif character in " \t" and not quoted:
            return index
    return len(line)


def _options(text: str) -> dict[str, str]:
    found: list[str] = []
    quoted, part = False, ""
    for index, character in enumerate(text):
        if character == '"' and text[index - 1] != "\\":
            quoted = not quoted
        if character == "," and not quoted:
            found, part = [*found, part], ""
        else:
            part += character
    pairs = (entry.partition("=") for entry in [*found, part])
    return {name.lower(): value.strip('"') for name, _, value in pairs}


def refused(
    key: Key, algorithms: Iterable[str] | None, least_rsa: int, management: Sequence[str]
) -> str:
    """Why this key gives nobody a shell from the management networks; empty when it does.

    ``algorithms`` are the accepted signature algorithms (None: any), ``least_rsa`` the smallest RSA
    modulus in bits.
    """
    if key.fingerprint in PUBLISHED:
        return f"its private key is public: {PUBLISHED[key.fingerprint]}"
    accepted = None if algorithms is None else set(algorithms)
    if accepted is not None and not accepted & set(_SIGNATURES.get(key.kind, (key.kind,))):
        return f"{key.kind} keys are no longer accepted"
    if key.kind == "ssh-rsa" and key.bits < least_rsa:
        return f"its RSA key of {key.bits} bits is shorter than {least_rsa}"
    if "cert-authority" in key.options:
        return "its key is a certificate authority, not a log-in key"
    if "command" in key.options:
        return "its key is bound to one command"
    if "expiry-time" in key.options and _expired(key.options["expiry-time"]):
        return f"its key expired ({key.options['expiry-time']})"
    return _wrong_origin(key.options.get("from"), management)


def _expired(when: str) -> bool:
    """Local time unless it ends in Z; sshd does not accept a key whose time it cannot read."""
    layouts = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
    stamp = when.rstrip("Zz")
    try:
        end = dt.datetime.strptime(stamp, layouts[len(stamp)])
    except (KeyError, ValueError):
        return True
    now = dt.datetime.now(dt.timezone.utc)
    return (end.astimezone() if stamp == when else end.replace(tzinfo=dt.timezone.utc)) < now


def _wrong_origin(patterns: str | None, management: Sequence[str]) -> str:
    if patterns is None:
        return ""
    if not management:
        return f"its key is limited to {patterns} and hardening:networks:management is not set"
    listed = [part.strip() for part in patterns.split(",") if part.strip()]
    for network in map(ipaddress.ip_network, management):
        covering = [p for p in listed if p.lstrip("!") == "*" or _covers(p.lstrip("!"), network)]
        if covering and not any(pattern.startswith("!") for pattern in covering):
            return ""
    return f"its key is limited to {patterns}, outside the management networks"


def _covers(pattern: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    """Whether some management address may use a key limited to ``pattern``."""
    try:
        return ipaddress.ip_network(pattern, strict=False).overlaps(network)
    except (ValueError, TypeError):
        return False

"""One-time keys of this host: a customer encrypts the key of a volume to one, and only this host
can read that, once, for some minutes and for one purpose.

A request is ``{"statement", "signature"}``: the statement is JSON that names host, volume, header,
recipient and end, and what for: for a new key, who could read that. This host's SSH key signs it,
so that a customer who knows that key knows whose recipient it is.

The secret half is in the kernel's keyring, which ends it; what it was made for is in a file below
:data:`FOLDER`.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime as dt
import io
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from rocksalt.backup.crypto import age, sshsig
from rocksalt.backup.errors import BackupError
from rocksalt.backup.manifest import canonical
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks import config
from rocksalt.luks.handover import keyring, receiving
from rocksalt.luks.keys import SIZE, Key

NAMESPACE = "rocksalt-volume-key"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
FOLDER = f"{config.RUNTIME}/onetime"
FORMAT = 1
OPEN, ROTATE, EXPEL, REENCRYPT = "open", "rotate", "expel", "reencrypt"
PURPOSES = (OPEN, ROTATE, EXPEL, REENCRYPT)
REPLACING = (ROTATE, EXPEL)
"""Purposes that end with a new key, which the recipients in the statement can read."""
_BEGIN, _END = "-----BEGIN AGE ENCRYPTED FILE-----", "-----END AGE ENCRYPTED FILE-----"
_LARGEST = 64 << 10


def request(
    host: Host,
    minion: str,
    volume: config.Volume,
    uuid: str,
    what: str,
    minutes: int,
    now: dt.datetime,
) -> dict[str, str]:
    """Makes a one-time key for the volume with this UUID, in place of an older one, and says so:
    ``{"statement": text, "signature": text}``. ``what`` is one of :data:`PURPOSES`.
    :class:`Refused` where this host cannot sign.
    """
    if what not in PURPOSES:
        raise Refused(f"what={what}: a key is handed over for one of {', '.join(PURPOSES)}")
    sweep(host, now)
    try:
        signer = sshsig.Signer.load(host.path(HOST_KEY))
    except BackupError as error:
        raise Refused(
            f"this host cannot sign a request: {error}; ssh-keygen -A makes one"
        ) from None
    identity, recipient = age.generate()
    statement = {
        "format": FORMAT,
        "host": minion,
        "volume": volume.name,
        "uuid": uuid,
        "what": what,
        "recipients": readers(volume, what),
        "recipient": recipient,
        "expires": written(now + dt.timedelta(minutes=minutes)),
    }
    text = canonical(statement)
    signature = signer.sign(text, NAMESPACE)
    for path in (config.RUNTIME, FOLDER):
        host.path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    keyring.keep(_name(host, volume.name), identity.encode(), minutes * 60)
    host.write(_path(volume.name), json.dumps({**statement, "created": written(now)}), "0600")
    return {"statement": text.decode(), "signature": signature.decode()}


def readers(volume: config.Volume, what: str) -> list[str]:
    """Who could read the key that such a purpose ends with; nobody where there is no new one."""
    return sorted(volume.customer.recipients) if what in REPLACING else []


def take(
    host: Host, volume: config.Volume, uuid: str, what: str, sealed: str, now: dt.datetime
) -> Key:
    """The key in ``sealed``: an age file in armour or in base64. The one-time key is gone
    afterwards, whatever comes of it. :class:`Refused` says why there is none.
    """
    not_in_the_clear(volume, sealed)
    kept, identity = _taken(host, volume.name)
    again = f"ask for a new one: luks.request {volume.name} what={what}"
    if kept is None:
        raise Refused(
            f"{volume.name}: there is no one-time key for it here, each can be used once; {again}"
        )
    if identity is None or not _lasts(kept, now):
        raise Refused(f"{volume.name}: the one-time key has expired; {again}")
    if kept["uuid"] != uuid:
        raise Refused(f"{volume.name}: was made anew since the one-time key was asked for; {again}")
    if kept["what"] != what:
        raise Refused(f"{volume.name}: the key was handed over for {kept['what']} alone; {again}")
    if kept["recipients"] != readers(volume, what):
        raise Refused(
            f"{volume.name}: the customer agreed to other recipients than those that are declared"
            f" now; {again}"
        )
    try:
        reader = age.Reader(io.BytesIO(_dearmoured(sealed)), age.identities(identity.decode()))
        return receiving.key(bytearray(reader.read(receiving.LARGEST)))
    except (BackupError, Refused) as error:
        raise Refused(f"{volume.name}: {error}; the one-time key is used up, {again}") from None


def not_in_the_clear(volume: config.Volume, sealed: str) -> None:
    """:class:`Refused` if what should be encrypted is the key itself, or what unwraps it: it was an
    argument, and whoever sees arguments has it.
    """
    text = "".join(sealed.split())
    found = [text.encode(errors="replace"), *_decoded(text)]
    if any(receiving.IDENTITY in it.upper() for it in found):
        raise Refused(
            f"{volume.name}: this is the customer's identity, and the job cache of the master has"
            " it now: make a new one, declare it, rotate and reencrypt the volume"
        )
    if any(len(it) == SIZE for it in found[1:]):
        raise Refused(
            f"{volume.name}: this is a key that is not encrypted, and the job cache of the master"
            " has it now: rotate and reencrypt the volume"
        )


def _decoded(text: str) -> list[bytes]:
    """What it may be an encoding of."""
    found = []
    ways: list[tuple[Callable[[str], bytes], str]] = [
        (base64.b64decode, "=="), (base64.urlsafe_b64decode, "=="), (bytes.fromhex, ""),
    ]  # fmt: skip
    for decode, padding in ways:
        with contextlib.suppress(ValueError):
            found.append(decode(text + padding))
    return found


def sweep(host: Host, now: dt.datetime) -> None:
    """Removes what is known of one-time keys that nobody can use any more."""
    for path in host.glob(f"{FOLDER}/*.json"):
        kept = _parsed(host.read(path))
        if kept is None or not _lasts(kept, now):
            host.remove(path)


def written(time: dt.datetime) -> str:
    """A time as statements have it: UTC, to the second."""
    return time.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _path(volume: str) -> str:
    return f"{FOLDER}/{volume}.json"


def _name(host: Host, volume: str) -> str:
    """Of the secret in the kernel; hosts in tests have folders, and secrets, of their own."""
    return f"{NAMESPACE}:{host.path(_path(volume))}"


def _taken(host: Host, volume: str) -> tuple[dict[str, Any] | None, bytes | None]:
    """The one-time key of a volume and its secret, which are gone from now on: of several who want
    them at the same time, one has them.
    """
    text = host.read(_path(volume))
    try:
        os.unlink(host.path(_path(volume)))
    except FileNotFoundError:
        return None, None
    return _parsed(text), keyring.take(_name(host, volume))


def _parsed(text: str | None) -> dict[str, Any] | None:
    try:
        kept = json.loads(text or "")
    except ValueError:
        return None
    fields = ("uuid", "what", "created", "expires")
    whole = isinstance(kept, dict) and all(isinstance(kept.get(it), str) for it in fields)
    return kept if whole and isinstance(kept.get("recipients"), list) else None


def _lasts(kept: Mapping[str, str], now: dt.datetime) -> bool:
    """Times of this form sort as texts. A clock that was set back makes no key last longer."""
    return kept["created"] <= written(now) < kept["expires"]


def _dearmoured(sealed: str) -> bytes:
    """The age file in armour or base64, whatever became of its line ends on the way."""
    text = sealed.strip()
    if len(text) > _LARGEST:
        raise Refused("what was handed over is too long for an encrypted key")
    text = text.removeprefix(_BEGIN).removesuffix(_END)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refused("what was handed over is neither armour of age nor base64") from None

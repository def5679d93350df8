"""One-time keys of this host: a customer encrypts the key of a volume to one, and only this host
can read that, once and for some minutes.

A request is ``{"statement", "signature"}``: the statement is JSON that names host, volume, header,
recipient and end. This host's SSH key signs it, so that a customer who knows that key knows whose
recipient it is.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import io
import json
import os
from collections.abc import Mapping
from typing import Any

from rocksalt.backup.crypto import age, sshsig
from rocksalt.backup.errors import BackupError
from rocksalt.backup.manifest import canonical
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks import config
from rocksalt.luks.handover import receiving
from rocksalt.luks.keys import Key

NAMESPACE = "rocksalt-volume-key"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
FOLDER = f"{config.RUNTIME}/onetime"
FORMAT = 1
_BEGIN, _END = "-----BEGIN AGE ENCRYPTED FILE-----", "-----END AGE ENCRYPTED FILE-----"
_LARGEST = 64 << 10


def request(
    host: Host, minion: str, volume: config.Volume, uuid: str, minutes: int, now: dt.datetime
) -> dict[str, str]:
    """Makes a one-time key for the volume with this UUID, in place of an older one, and says so:
    ``{"statement": text, "signature": text}``. :class:`Refused` where this host cannot sign.
    """
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
        "recipient": recipient,
        "expires": written(now + dt.timedelta(minutes=minutes)),
    }
    text = canonical(statement)
    signature = signer.sign(text, NAMESPACE)
    for path in (config.RUNTIME, FOLDER):
        host.path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = {**statement, "created": written(now), "identity": identity}
    host.write(_path(volume.name), json.dumps(kept), "0600")
    return {"statement": text.decode(), "signature": signature.decode()}


def take(host: Host, volume: config.Volume, uuid: str, sealed: str, now: dt.datetime) -> Key:
    """The key in ``sealed``: an age file in armour or in base64. The one-time key is gone
    afterwards, whatever comes of it. :class:`Refused` says why there is none.
    """
    kept = _taken(host, volume.name)
    again = f"ask for a new one: luks.request {volume.name}"
    if kept is None:
        raise Refused(
            f"{volume.name}: there is no one-time key for it here, each can be used once; {again}"
        )
    if not _lasts(kept, now):
        raise Refused(f"{volume.name}: the one-time key has expired; {again}")
    if kept["uuid"] != uuid:
        raise Refused(f"{volume.name}: was made anew since the one-time key was asked for; {again}")
    try:
        reader = age.Reader(io.BytesIO(_dearmoured(sealed)), age.identities(kept["identity"]))
        return receiving.key(bytearray(reader.read(receiving.LARGEST)))
    except (BackupError, Refused) as error:
        raise Refused(f"{volume.name}: {error}; the one-time key is used up, {again}") from None


def sweep(host: Host, now: dt.datetime) -> None:
    """Removes one-time keys that nobody can use any more."""
    for path in host.glob(f"{FOLDER}/*.json"):
        kept = _parsed(host.read(path))
        if kept is None or not _lasts(kept, now):
            host.remove(path)


def written(time: dt.datetime) -> str:
    """A time as statements have it: UTC, to the second."""
    return time.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _path(volume: str) -> str:
    return f"{FOLDER}/{volume}.json"


def _taken(host: Host, volume: str) -> dict[str, Any] | None:
    """The one-time key of a volume, which is gone from now on: of several who want it at the same
    time, one has it.
    """
    text = host.read(_path(volume))
    try:
        os.unlink(host.path(_path(volume)))
    except FileNotFoundError:
        return None
    return _parsed(text)


def _parsed(text: str | None) -> dict[str, Any] | None:
    try:
        kept = json.loads(text or "")
    except ValueError:
        return None
    fields = ("uuid", "created", "expires", "identity")
    whole = isinstance(kept, dict) and all(isinstance(kept.get(it), str) for it in fields)
    return kept if whole else None


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

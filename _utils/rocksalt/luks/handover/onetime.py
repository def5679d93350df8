"""One-time keys of this host: a customer encrypts the key of a volume to one, and only this host
can read that, once and for some minutes.

A request is ``{"statement", "signature"}``: the statement is JSON of host, volume, header, recipient
and end; this host's SSH key signs it, so that a customer who knows that key knows whose recipient
it is.
"""

from __future__ import annotations

import datetime as dt

from rocksalt.host import Host
from rocksalt.luks.config import Volume
from rocksalt.luks.cryptsetup import Key

NAMESPACE = "rocksalt-volume-key"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
FORMAT = 1


def request(
    host: Host, minion: str, volume: Volume, uuid: str, minutes: int, now: dt.datetime
) -> dict[str, str]:
    """Makes a one-time key for the volume with this UUID, in place of an older one, and says so:
    ``{"statement": text, "signature": text}``. :class:`Refused` where this host cannot sign.
    """
    raise NotImplementedError


def take(host: Host, volume: Volume, uuid: str, sealed: str, now: dt.datetime) -> Key:
    """The key in ``sealed``: an age file in armour or in base64. The one-time key is gone
    afterwards, whatever comes of it. :class:`Refused` says why there is none.
    """
    raise NotImplementedError

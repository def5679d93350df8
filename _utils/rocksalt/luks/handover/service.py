"""A key service: the command ``key_command`` of a volume prints its key."""

from __future__ import annotations

from rocksalt.luks.config import Volume
from rocksalt.luks.cryptsetup import Key

PATIENCE = 60.0


def fetch(volume: Volume) -> Key:
    """The key that the volume's ``key_command`` prints, raw or in base64; :class:`Refused` says why
    there is none, and never what was printed.
    """
    raise NotImplementedError

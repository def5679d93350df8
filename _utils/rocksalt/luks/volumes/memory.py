"""What is remembered of a volume that was made, so that a disk whose header was lost is not taken
for a new one, nor another header for the volume's.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, dataclass

from rocksalt.errors import Refused
from rocksalt.luks.config import STATE, Volume
from rocksalt.luks.volumes.machine import Machine


@dataclass(frozen=True)
class Made:
    """The header with this ``uuid`` was written to ``device`` for ``customer``; ``time`` in UTC."""

    uuid: str
    device: str
    customer: str
    time: str


def path(name: str) -> str:
    """Where it is kept."""
    return f"{STATE}/{name}.made"


def read(machine: Machine, name: str) -> Made | None:
    """What was made, None where nothing is known of it; :class:`Refused` if that is damaged."""
    try:
        text = machine.host.read(path(name))
        return None if text is None else Made(**json.loads(text))
    except (ValueError, TypeError, OSError):
        raise Refused(
            f"{path(name)} is damaged: it says which header the volume {name} has, so that no other"
            " is taken for it; restore it"
        ) from None


def write(machine: Machine, volume: Volume, uuid: str, now: dt.datetime) -> None:
    """Keeps it on the disk, at once or not at all."""
    time = now.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = Made(uuid, volume.device, volume.customer.name, time)
    try:
        machine.host.write(path(volume.name), json.dumps(asdict(made), indent=1) + "\n", "0600")
    except OSError as error:
        raise Refused(f"{path(volume.name)} cannot be written: {error.strerror}") from None


def remove(machine: Machine, name: str) -> None:
    """Nothing is known any more."""
    machine.host.remove(path(name))

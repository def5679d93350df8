"""What cryptsetup puts between an open volume and its disk while it encrypts everything anew, and
leaves there when it is killed.
"""

from __future__ import annotations

from rocksalt.blocks import Device, Devices
from rocksalt.errors import Refused
from rocksalt.luks.config import Volume
from rocksalt.luks.volumes.machine import Machine


def below(tree: Devices, device: Device) -> set[str]:
    """The numbers of all that a device lies on."""
    found: set[str] = set()
    todo = [device]
    while todo:
        parents = set(todo.pop().parents) - found
        found |= parents
        todo += [tree.by_number[it] for it in parents if it in tree.by_number]
    return found


def still(machine: Machine, volume: Volume, mapping: Device | None) -> str:
    """Why nothing can be read from an open volume, or written to it; empty for all others.

    Whoever moved data when it was killed had stopped everybody else. They must not go on: what they
    wrote would be encrypted with the old key where the new one is in use already.
    """
    if mapping is None:
        return ""
    for number in {mapping.number, *below(machine.tree(), mapping)}:
        if (machine.host.read(f"/sys/dev/block/{number}/dm/suspended") or "").strip() == "1":
            return (
                f"the volume {volume.name} stands still, since encrypting it anew was killed:"
                " restart this host and open the volume, which recovers what was being written"
            )
    return ""


def moving(machine: Machine, volume: Volume, mapping: Device | None) -> None:
    """:class:`Refused` where a volume is :func:`still`: whoever touched it would never return."""
    why = still(machine, volume, mapping)
    if why:
        raise Refused(why)

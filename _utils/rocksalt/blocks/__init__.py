"""The block devices of a host, what lies on what, and whether what is written to them is encrypted
by dm-crypt before it reaches a disk: as the kernel tells it in ``/sys`` and ``/proc``.
"""

from rocksalt.blocks.devices import Below, Device, Devices
from rocksalt.blocks.mounts import Mount, Swap
from rocksalt.blocks.probing import Signature, signatures
from rocksalt.blocks.sysfs import tree

__all__ = [
    "Below",
    "Device",
    "Devices",
    "Mount",
    "Signature",
    "Swap",
    "signatures",
    "tree",
]

"""The last configuration of ours that the master answered with. A run that is killed between a new
one and the master's answer leaves nobody who knows the old one; the next run has it from here.

It is not in ``master.d``, which is compared with the start of the master by its date.
"""

from __future__ import annotations

from rocksalt.access import rendering
from rocksalt.access.facts import ROOT
from rocksalt.host import Host

PATH = "/var/lib/rocksalt/access-answered.conf"
_OWNER, _MODE = f"{ROOT}:{ROOT}", "0600"


def text(host: Host) -> str | None:
    """What the master answered with, None where nobody knows or somebody else may have written."""
    if host.access(PATH) != f"{_OWNER} {_MODE}":
        return None
    found = host.read(PATH)
    return found if found and found.startswith(rendering.HEADER) else None


def keep(host: Host, answered: str | None) -> None:
    """Remembers a configuration of ours."""
    if answered and answered.startswith(rendering.HEADER) and text(host) != answered:
        host.write(PATH, answered, _MODE, _OWNER)

"""The restore drill: fetches the newest snapshot, restores it, and starts the master that is in it.

On a host that holds an identity, never on the master. The restored master runs in namespaces of its
own, without a network, and everything is gone afterwards.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocksalt.backup.sshsig import Signer
from rocksalt.backup.vaults import Vault

NAMESPACE = "rocksalt-report"


@dataclass(frozen=True)
class Drill:
    """How a drill went: the exit code, seconds from its beginning to the minion's answer (``rto``),
    the age of the restored data in seconds (``rpo``, None where nothing was fetched), and each step
    as ``{"name", "status": "ok" | "failed" | "skipped", "reason"}``.
    """

    code: int
    instance: str
    host: str
    sequence: int
    started: str
    finished: str
    rto: int
    rpo: int | None
    steps: list[dict[str, str]]
    format: int = 1

    def to_bytes(self) -> bytes:
        """What is signed."""
        raise NotImplementedError


def run(
    settings: dict[str, Any],
    vaults: Sequence[Vault],
    identities: Sequence[Any],
    signer: Signer | None,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.timezone.utc),
    tell: Callable[[str], None] = lambda line: None,
    work: Path | None = None,
    config: str = "/etc/salt/master",
) -> Drill:
    """Restores the newest snapshot of ``settings["drill"]`` and tries it out.

    The first of ``vaults`` that answers and is verified gives the snapshot; the signed report is
    put into each of them that takes one (what does not is a step that failed). ``tell`` gets a line
    per step. ``work`` is the folder below which it all happens, else one in memory where it fits;
    ``config`` the path of the master's configuration file. Raises nothing but :class:`Locked`:
    what fails is a step.
    """
    raise NotImplementedError

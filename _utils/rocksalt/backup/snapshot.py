"""One snapshot: survey, pack, sign, commit locally, then deliver to every vault."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rocksalt.backup import progress as telling
from rocksalt.backup import status
from rocksalt.backup.sshsig import Signer
from rocksalt.backup.vaults import Vault


@dataclass
class Result:
    """What a run did: ``code`` from :mod:`rocksalt.backup.errors`; ``kind`` is ``full`` or
    ``same``; ``vaults`` maps names to ``{"sequence", "time", "error", "receipt"}``; ``warnings``
    are sentences with paths, which go nowhere but to the local status.
    """

    code: int
    sequence: int
    kind: str
    vaults: dict[str, dict[str, Any]]
    warnings: list[str] = field(default_factory=list)
    archives: dict[str, dict[str, int]] = field(default_factory=dict)
    started: str = ""
    finished: str = ""
    next: str = ""
    reason: str = ""


def take(
    opts: Mapping[str, Any],
    settings: Mapping[str, Any],
    vaults: Sequence[Vault],
    signer: Signer,
    now: dt.datetime,
    progress: telling.Progress = telling.silent,
    force: bool = False,
    status_path: str = status.PATH,
) -> Result:
    """Takes a snapshot and brings every vault up to date, in order.

    :class:`Locked` while another run is at work. Any other :class:`BackupError` means that no
    snapshot was taken; it is recorded in the status, and the vaults were given what they still
    lacked.
    """
    raise NotImplementedError

"""Whether the book is what was written: against its own hashes, and what a witness has seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rocksalt.backup.crypto import sshsig
from rocksalt.errors import RocksaltError
from rocksalt.logbook import config
from rocksalt.logstash.receiving import begins, heads, keep, remote, verify
from rocksalt.logstash.receiving.evidence import Evidence, gather
from rocksalt.logstash.receiving.store import Clock, now

Connect = Callable[[], remote.Witness]


def connect(settings: Mapping[str, Any], transport: str) -> remote.Witness:
    """A session with the witness in the settings."""
    return remote.Witness(settings["witness"], settings["client"], transport)


def send(
    settings: Mapping[str, Any], signer: sshsig.Signer, status: Path, there: Connect,
    clock: Clock = now,
) -> str:  # fmt: skip
    """Signs how far the book is and has that witnessed; what went wrong, or nothing."""
    return heads.run(config.chains(settings), signer, status, there, clock)


def check(
    settings: Mapping[str, Any], signer: str, evidence: Evidence | None, clock: Clock = now
) -> dict[str, Any]:
    """As :func:`rocksalt.logstash.receiving.verify.check` tells it; ``signer`` is the public key
    that signs how far the book is, ``evidence`` None where there is no witness.
    """
    started = clock()
    if not Path(settings["folder"], settings["name"]).is_dir():
        raise RocksaltError(f"{settings['folder']} has no book of {settings['name']}")
    return verify.check(config.chains(settings), signer, evidence, clock=clock, started=started)


def daily(
    settings: Mapping[str, Any], signer: sshsig.Signer, found: Mapping[str, Any],
    evidence: Evidence | None,
) -> dict[str, Any]:  # fmt: skip
    """Compresses and removes what is old enough of a book without a problem."""
    return keep.daily(config.chains(settings), signer, found, evidence=evidence)


def seen(
    settings: Mapping[str, Any], signer: str, there: Connect,
    records: Iterable[Mapping[str, str]] | None = None,
) -> Evidence | None:  # fmt: skip
    """What the witness has, of a session with it, or of ``records`` that somebody brought from it.
    None where there is none; what goes wrong is in it.
    """
    if not settings["witness"]:
        return None
    known = (settings["client"], signer, settings["witness"]["key"])
    try:
        removed = begins.numbers(Path(settings["folder"]), signer)
        if records is not None:
            return gather(records, *known, removed)
        session = there()
        try:
            return gather(session.records(), *known, removed)
        finally:
            session.close()
    except (RocksaltError, OSError) as error:
        return Evidence(error=str(error))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        return Evidence(error=f"the witness sent what is no entry: {error}")


def brought(path: str) -> list[dict[str, str]]:
    """The records of a witness in a file."""
    with open(path, encoding="ascii") as file:
        return [dict(json.loads(line)) for line in file]

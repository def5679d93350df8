"""Whether the book is what was written: against its own hashes, and what a witness has seen."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rocksalt.backup import names
from rocksalt.backup.crypto import sshsig
from rocksalt.errors import RocksaltError
from rocksalt.logbook import config
from rocksalt.logstash.receiving import begins, heads, keep, ledger, oldest, remote, verify
from rocksalt.logstash.receiving.evidence import Evidence, gather
from rocksalt.logstash.receiving.store import Clock, now

Connect = Callable[[], remote.Witness]
GAP = dt.timedelta(seconds=150)
"""So long the book may be without its witness, which sees it each minute."""
HOLE, RECENT = dt.timedelta(minutes=5), dt.timedelta(days=2)
"""A time without a witness that is longer is a problem for so long, so that somebody looks."""


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
    found = verify.check(config.chains(settings), signer, evidence, clock=clock, started=started)
    problems = [*found["problems"], *_holes(evidence, started)]
    return {**found, "problems": problems, "ok": found["ok"] and not problems}


def _holes(evidence: Evidence | None, now: dt.datetime) -> Iterator[str]:
    """Times without a witness that were long, and not long ago."""
    for since, until in evidence.gaps if evidence else ():
        ended = names.parsed(until)
        if ended - names.parsed(since) > HOLE and now - ended < RECENT:
            yield (
                f"the witness saw nothing from {since} to {until}: what was written then could be "
                "changed, look at what the audit logs of this host say of that time"
            )


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
            return gather(records, *known, removed, GAP)
        session = there()
        try:
            return gather(session.records(), *known, removed, GAP)
        finally:
            session.close()
    except (RocksaltError, OSError) as error:
        return Evidence(error=str(error))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        return Evidence(error=f"the witness sent what is no entry: {error}")


def brought(path: str) -> Iterator[dict[str, str]]:
    """The records of a witness in a file, or in a copy of its folder."""
    folder = Path(path)
    if not folder.is_dir():
        with open(path, encoding="ascii") as file:
            yield from (dict(json.loads(line)) for line in file)
        return
    # What stands for the entries that were removed comes first.
    number, data = oldest.line(folder)
    lines = (line for _, line in ledger.Ledger(folder).records(number))
    yield from (dict(json.loads(line)) for line in ([data] if number else []))
    yield from (dict(json.loads(line)) for line in lines)


def elsewhere(
    folder: str, name: str, client: str, key: str, days: int | None, records: Iterable[Any],
    signer: str, clock: Clock = now,
) -> dict[str, Any]:  # fmt: skip
    """:func:`check` of a copy of the book, by what the checker knows: nothing of the host that
    wrote it is believed. ``key`` is that of the witness, whose ``records`` somebody brought. Lines
    are kept for ``days``, or for the most that the witness was ever told.
    """
    book = {"name": name, "folder": folder, "witness": {"key": key}, "mask": []}
    settings = config.complete({**book, **({"client": client} if client else {})})
    evidence = seen(settings, signer, _nobody, records)
    said = evidence.kept(0, len(evidence.times)) if evidence else None
    settings = {**settings, "days": days or max(said or 0, settings["days"])}
    return check(settings, signer, evidence, clock)


def _nobody() -> remote.Witness:
    raise RocksaltError("no witness is asked where its entries were brought")

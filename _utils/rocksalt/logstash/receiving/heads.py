"""Once a minute: how far the chains of all hosts are, signed, and sent to the witness."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rocksalt.backup import names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.manifest import canonical
from rocksalt.errors import RocksaltError
from rocksalt.logstash.receiving import files, ledger
from rocksalt.logstash.receiving.remote import Away, Denied, Witness
from rocksalt.logstash.receiving.store import Clock, now

Connect = Callable[[], Witness]


def synced(path: Path) -> dict[str, tuple[int, str]]:
    """How far the chain of each host is on the disk: (n, hash)."""
    found = {}
    for host in files.hosts(path):
        head = files.head(path / host)
        if head is None:
            continue
        # Two, as there may be a newer file by now, or one without a line.
        for file in files.days(path / host)[-2:]:
            _sync(file)
        found[host] = (head.n, head.hash)
    return found


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def run(
    settings: Mapping[str, Any], signer: sshsig.Signer, status: Path, connect: Connect,
    clock: Clock = now,
) -> str:  # fmt: skip
    """Makes an entry, and sends all that the witness has not; what went wrong, in a sentence, or
    nothing. ``status`` is the file that tells of it: ``witnessed_until``, ``unwitnessed_since``
    (times, or null), ``error``.
    """
    if not settings.get("witness"):
        _tell(status, None, None, "")
        return ""
    folder = Path(settings["path"], files.HEADS)
    folder.mkdir(0o750, exist_ok=True)
    lock = files.locked(folder)
    try:
        book = ledger.Ledger(folder)
        _add(book, settings, signer, clock)
        return _send(book, status, connect)
    finally:
        os.close(lock)


def _add(
    book: ledger.Ledger, settings: Mapping[str, Any], signer: sshsig.Signer, clock: Clock
) -> None:
    current = synced(Path(settings["path"]))
    changed = {host: head for host, head in current.items() if book.heads.get(host) != head}
    time = names.utc(clock())
    text = ledger.write(settings["name"], book.sequence + 1, book.digest, time, changed)
    signature = signer.sign(text, ledger.ENTRIES)
    book.add({"entry": text.decode("ascii"), "signature": signature.decode("ascii")})


def _send(book: ledger.Ledger, status: Path, connect: Connect) -> str:
    until, error = _known(status).get("witnessed_until"), ""
    try:
        there = connect()
        try:
            sequence, digest = there.head()
            _compare(book, sequence, digest)
            for _, line in book.records(sequence):
                record = json.loads(line)
                there.put(record)
                until = json.loads(record["entry"])["time"]
            if sequence == book.sequence:
                until = json.loads(book.last["entry"])["time"]
        finally:
            there.close()
    except (Away, Denied) as failed:
        error = str(failed)
    since = (until or json.loads(book.record(1)["entry"])["time"]) if error else None
    _tell(status, until, since, error)
    return error


def _compare(book: ledger.Ledger, sequence: int, digest: str) -> None:
    """That the witness has the same past, so that it says why it does not take another."""
    if sequence > book.sequence:
        raise Denied(
            f"the witness has entry {sequence}, and this host only {book.sequence}: it was "
            f"put back to an earlier state, or {book.folder} was changed"
        )
    own = book.record(sequence).get("entry", "") if sequence else ""
    if sequence and ledger.read(own.encode()).digest != digest:
        raise Denied(f"the witness has another entry {sequence} than {book.folder}")


def _known(status: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(status.read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def _tell(status: Path, until: str | None, since: str | None, error: str) -> None:
    found = {"witnessed_until": until, "unwitnessed_since": since, "error": error}
    try:
        files.replace(status, canonical(found))
    except OSError as failed:
        raise RocksaltError(f"{status} cannot be written: {failed.strerror}") from None

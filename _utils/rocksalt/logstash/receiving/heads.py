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
from rocksalt.logstash.receiving import files, ledger, mend
from rocksalt.logstash.receiving.remote import Away, Denied, Witness
from rocksalt.logstash.receiving.store import Clock, now

Connect = Callable[[], Witness]


def synced(path: Path) -> tuple[dict[str, tuple[int, str]], dict[str, str]]:
    """How far the chain of each host is on the disk: (n, hash); and why that of others is not
    known.
    """
    found, failed = {}, {}
    for host in files.hosts(path):
        try:
            head = files.head(path / host)
            if head is None:
                continue
            # Two, as there may be a newer file by now, or one without a line.
            for file in files.days(path / host)[-2:]:
                mend.sync(file)
            found[host] = (head.n, head.hash)
        except OSError as error:
            failed[host] = str(error)
    return found, failed


def run(
    settings: Mapping[str, Any], signer: sshsig.Signer, status: Path, connect: Connect,
    clock: Clock = now,
) -> str:  # fmt: skip
    """Makes an entry, and sends all that the witness has not; what went wrong, in a sentence, or
    nothing. ``status`` is the file that tells of it: ``witnessed_until``, ``unwitnessed_since``
    (times, or null), ``error``, ``failed`` (hosts that are left out -> why).
    """
    if not settings.get("witness"):
        _tell(status, None, None, "", {})
        return ""
    folder = Path(settings["path"], files.HEADS)
    folder.mkdir(0o750, exist_ok=True)
    lock = files.locked(folder)
    try:
        book = ledger.Ledger(folder)
        failed = _add(book, settings, signer, clock)
        error = _send(book, status, connect, failed)
        return error or "; ".join(f"{host} is not witnessed: {why}" for host, why in failed.items())
    finally:
        os.close(lock)


def _add(
    book: ledger.Ledger, settings: Mapping[str, Any], signer: sshsig.Signer, clock: Clock
) -> dict[str, str]:
    """Makes an entry; the hosts that it leaves out."""
    current, failed = synced(Path(settings["path"]))
    changed = {host: head for host, head in current.items() if book.heads.get(host) != head}
    time = names.utc(clock())
    text = ledger.write(settings["name"], book.sequence + 1, book.digest, time, changed)
    signature = signer.sign(text, ledger.ENTRIES)
    book.add({"entry": text.decode("ascii"), "signature": signature.decode("ascii")})
    return failed


def _send(
    book: ledger.Ledger, status: Path, connect: Connect, failed: Mapping[str, str]
) -> str:  # fmt: skip
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
    except (Away, Denied) as caught:
        error = str(caught)
    since = (until or json.loads(book.record(1)["entry"])["time"]) if error else None
    _tell(status, until, since, error, failed)
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


def _tell(
    status: Path, until: str | None, since: str | None, error: str, failed: Mapping[str, str]
) -> None:
    found = {
        "witnessed_until": until, "unwitnessed_since": since, "error": error,
        "failed": dict(failed),
    }  # fmt: skip
    try:
        files.replace(status, canonical(found))
    except OSError as failed:
        raise RocksaltError(f"{status} cannot be written: {failed.strerror}") from None

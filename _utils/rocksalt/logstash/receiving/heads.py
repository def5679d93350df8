"""Once a minute: how far the chains of all hosts are, signed, and sent to the witness."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rocksalt.backup import names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.manifest import canonical
from rocksalt.errors import RocksaltError
from rocksalt.host import synchronise
from rocksalt.logstash.receiving import files, ledger, mend
from rocksalt.logstash.receiving.remote import Away, Denied, Witness
from rocksalt.logstash.receiving.store import Clock, now

Connect = Callable[[], Witness]
Add = Callable[[ledger.Ledger], Mapping[str, str]]


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
        add = partial(_add, settings=settings, signer=signer, clock=clock)
        failed = add(book)
        error = _send(book, status, connect, failed, lambda seq: _renewed(book, seq, add, clock()))
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


def _renewed(book: ledger.Ledger, sequence: int, add: Add, time: dt.datetime) -> ledger.Ledger:
    """Puts one entry of now in the place of those after ``sequence``, the last one of the witness,
    from the first that is of a time to come on: a wrong clock made them, and no witness takes them.
    """
    for number, line in book.records(sequence):
        entry = ledger.read(json.loads(line)["entry"].encode())
        if names.parsed(entry.time) > time:
            book = _cut(book, number - 1)
            add(book)
            break
    return book


def _cut(book: ledger.Ledger, keep: int) -> ledger.Ledger:
    """Without the entries after one. How far chains were then is not looked up: the next entry says
    it of all.
    """
    last = book.record(keep) if keep else {}
    own = ledger.read(last["entry"].encode()).digest if last else ""
    state = {"sequence": keep, "digest": own, "last": last, "heads": {}}
    # The state first: with it, what is left of the others is read again, and cut again.
    files.replace(book.folder / ledger.STATE, canonical(state))
    for path in sorted(book.folder.glob("*.jsonl"), reverse=True):
        size = 0
        with files.opened(path) as file:
            for line in file:
                if ledger.read(json.loads(line)["entry"].encode()).sequence > keep:
                    break
                size += len(line)
        if not size:
            path.unlink()
        elif size < path.stat().st_size:
            os.truncate(path, size)
            mend.sync(path)
        if size:
            break
    synchronise(book.folder)
    return ledger.Ledger(book.folder)


def _send(
    book: ledger.Ledger, status: Path, connect: Connect, failed: Mapping[str, str],
    renewed: Callable[[int], ledger.Ledger],
) -> str:  # fmt: skip
    until, error = _known(status).get("witnessed_until"), ""
    try:
        there = connect()
        try:
            sequence, digest = there.head()
            _compare(book, sequence, digest)
            book = renewed(sequence)
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
            f"put back to an earlier state, or {book.folder} was changed; if its disk was lost, "
            f"move the folder of this host on the witness aside to begin anew"
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

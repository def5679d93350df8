"""Once a minute: how far the chains of all hosts are, signed, and sent to the witness.

What the witness did not take is not sent later: one entry of now comes in its place. It would tell
no more, as a receipt is of the time at which it was written.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rocksalt.backup import names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified
from rocksalt.backup.manifest import canonical
from rocksalt.errors import RocksaltError
from rocksalt.logstash.receiving import begins, files, ledger, mend
from rocksalt.logstash.receiving.remote import Denied, Witness
from rocksalt.logstash.receiving.store import Clock, now

Connect = Callable[[], Witness]
Heads = Mapping[str, tuple[int, str]]
MONTHS = 2
"""Files of own entries that stay. The witness has all of them, and nobody else needs those."""
_TAKEN = "taken.json"
"""How far chains were when the witness took the last entry: ``sequence``, ``heads``, ``begins``."""


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
    """Makes an entry, and has it witnessed; what went wrong, in a sentence, or nothing. ``status``
    is the file that tells of it: ``witnessed_until``, ``unwitnessed_since`` (times, or null),
    ``error``, ``failed`` (hosts that are left out -> why).
    """
    if not settings.get("witness"):
        _tell(status, None, None, "", {})
        return ""
    pen = _Pen(settings, signer, clock)
    known, until, error = _known(status), None, ""
    try:
        until = pen.send(connect)
    except (RocksaltError, OSError) as caught:
        error = str(caught)
    until = until or known.get("witnessed_until")
    since = (until or known.get("unwitnessed_since") or names.utc(clock())) if error else None
    _tell(status, until, since, error, pen.failed)
    left = [f"{host} is not witnessed: {why}" for host, why in pen.failed.items()]
    return error or "; ".join(left)


class _Pen:
    """Writes entries; ``failed`` are the hosts that the last one leaves out, and why."""

    def __init__(self, settings: Mapping[str, Any], signer: sshsig.Signer, clock: Clock):
        self._settings, self._signer, self._clock = settings, signer, clock
        self._path = Path(settings["path"])
        self._folder = self._path / files.HEADS
        self.failed: dict[str, str] = {}

    def send(self, connect: Connect) -> str:
        """Has an entry of now witnessed; its time."""
        self._folder.mkdir(0o750, exist_ok=True)
        lock = files.locked(self._folder)
        try:
            book = ledger.Ledger(self._folder)
            self._add(book)
            there = connect()
            try:
                self._put(book, there)
            finally:
                there.close()
            self._took(book)
            return ledger.read(book.last["entry"].encode()).time
        finally:
            os.close(lock)

    def _put(self, book: ledger.Ledger, there: Witness) -> None:
        sequence, digest = there.head()
        _compare(book, sequence, digest)
        if book.sequence > sequence + 1:
            book.cut(sequence, *self._taken(book, sequence))
            self._add(book)
        if book.sequence > sequence:
            there.put(book.last)

    def _add(self, book: ledger.Ledger) -> None:
        """Makes an entry."""
        current, self.failed = synced(self._path)
        for host, head in list(current.items()):
            if why := _back(book.heads.get(host), head):
                self.failed[host] = why
                del current[host]
        text = ledger.write(
            self._settings["name"], book.sequence + 1, book.digest, names.utc(self._clock()),
            _changed(current, book.heads), _changed(_begins(self._path), book.begins),
            self._settings["days"],
        )  # fmt: skip
        signature = self._signer.sign(text, ledger.ENTRIES)
        book.add({"entry": text.decode("ascii"), "signature": signature.decode("ascii")})

    def _took(self, book: ledger.Ledger) -> None:
        """Notes what the witness has now."""
        found = {"sequence": book.sequence, "heads": book.heads, "begins": book.begins}
        files.replace(self._folder / _TAKEN, json.dumps(found).encode("ascii"))
        book.thin(MONTHS)

    def _taken(self, book: ledger.Ledger, sequence: int) -> tuple[Heads, Heads]:
        """How far the chains were with an entry that the witness has, and where they began."""
        known, heads, started = 0, {}, {}
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            found = json.loads((self._folder / _TAKEN).read_bytes())
            if 0 < found["sequence"] <= sequence:
                heads, started = (
                    {host: (int(n), str(own)) for host, (n, own) in found[key].items()}
                    for key in ("heads", "begins")
                )
                known = found["sequence"]
        for number, line in book.records(known) if known < sequence else ():
            if number > sequence:
                break
            entry = ledger.read(json.loads(line)["entry"].encode())
            heads.update(entry.heads)
            started.update(entry.begins or {})
        return heads, started


def _back(before: tuple[int, str] | None, head: tuple[int, str]) -> str:
    """How a chain went back, which no witness takes. It is left out, and all others are seen."""
    if before and head[0] < before[0]:
        return f"it went back from line {before[0]} to {head[0]}"
    if before and head[0] == before[0] and head != before:
        return f"line {head[0]} is another one than was signed"
    return ""


def _changed(found: Heads, before: Heads) -> Heads:
    return {host: head for host, head in found.items() if before.get(host) != head}


def _begins(path: Path) -> dict[str, tuple[int, str]]:
    """The last line that was removed of each host, whoever signed that."""
    found = {}
    for host in files.hosts(path):
        with contextlib.suppress(Unverified):
            if here := begins.read(path / host):
                found[host] = (here.n, here.hash)
    return found


def _compare(book: ledger.Ledger, sequence: int, digest: str) -> None:
    """That the witness has the same past, so that it says why it does not take another."""
    if sequence > book.sequence:
        raise Denied(
            f"the witness has entry {sequence}, and this host only {book.sequence}: it was "
            f"put back to an earlier state, or {book.folder} was changed; if its disk was lost, "
            f"move the folder of this host on the witness aside to begin anew"
        )
    if sequence and _digest(book, sequence) != digest:
        raise Denied(f"the witness has another entry {sequence} than {book.folder}")


def _digest(book: ledger.Ledger, sequence: int) -> str:
    """The hash of one entry; mostly that before the last."""
    if sequence == book.sequence:
        return book.digest
    if sequence == book.sequence - 1:
        return ledger.read(book.last["entry"].encode()).previous
    own = book.record(sequence).get("entry", "")
    return ledger.read(own.encode()).digest if own else ""


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

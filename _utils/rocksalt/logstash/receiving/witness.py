"""What runs on the witness for a log server that logs in by ssh: it countersigns how far its chains
are.

The log server speaks first; every line of it is answered by one line (``backup.vaults.wire``)::

    {"op": "head"}                          {"ok", "sequence", "digest", "time"}
    {"op": "put", "entry", "signature"}     {"ok", "receipt", "countersignature"}
    {"op": "entries", "since"}              {"ok", "size", "more"}, then so many bytes of records

An entry is taken if the log server's key signed it, it is the next one and continues the last, no
chain went back or was written anew, it is not from the future, and not one too many. The receipt
has the hash of the entry, the time by this host's clock, and the hash of the receipt before.

A log server that lost its entries begins anew once the folder of its client was moved aside.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import syslog
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from rocksalt.backup import names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import BackupError, Unverified
from rocksalt.backup.manifest import canonical, digest
from rocksalt.backup.vaults.wire import Broken, Wire
from rocksalt.errors import Refused, RocksaltError
from rocksalt.logstash import TOP
from rocksalt.logstash.receiving import allowance, files, ledger, oldest
from rocksalt.logstash.receiving.store import Clock, now

Line = Mapping[str, Any]
IDLE = 120.0
"""Seconds without a byte after which a log server is taken for gone."""
LARGEST = 1 << 22
"""Bytes that an entry may have: tens of thousands of hosts."""
AHEAD = dt.timedelta(minutes=5)
HOSTS = 10_000
"""Hosts that a log server may have."""
_PIECE = 1 << 20
_REFUSED = "refused.jsonl"
_REFUSED_MOST = 1 << 20
"""Bytes of refusals that are kept; later ones are in the host's log only."""


def serve(
    settings: Mapping[str, Any], client: str, key: str, stdin: BinaryIO, stdout: BinaryIO,
    clock: Clock = now,
) -> None:  # fmt: skip
    """Serves one session until it ends. ``settings`` are those in witness.json, ``key`` is the file
    of the key that countersigns. :class:`RocksaltError` if the client is none, or went away.
    """
    wire = Wire(stdin.fileno(), stdout.fileno(), IDLE)
    try:
        try:
            desk = Desk(settings, client, sshsig.Signer.load(key), clock)
        except (RocksaltError, OSError) as error:
            wire.send({"ok": False, "text": str(error)})
            raise
        try:
            while line := wire.receive(LARGEST):
                answer, body = desk.answer(line)
                wire.send(answer)
                wire.write(body)
        finally:
            desk.close()
    except Broken as error:
        raise RocksaltError(f"the log server {client} {error}") from None


class Desk:
    """What one client may ask for."""

    def __init__(
        self, settings: Mapping[str, Any], client: str, signer: sshsig.Signer, clock: Clock
    ):
        if client not in settings["clients"]:
            raise RocksaltError(f"{TOP}:witness:clients has no {client!r}")
        self._client, self._signer, self._clock = client, signer, clock
        self._trusted = settings["clients"][client]["signer"]
        self._folder = Path(settings["path"], client)
        self._folder.mkdir(0o750, exist_ok=True)
        self._ledger = ledger.Ledger(self._folder)
        self._has_put = False
        self._read = 0
        self._records: Iterator[tuple[int, bytes]] = iter(())
        """Those after the one with the number that was read last."""

    def close(self) -> None:
        """Ends what was being read, and removes entries that are too old, after others were put."""
        self._records = iter(())
        if self._has_put:
            lock = allowance.locked(self._folder)
            try:
                oldest.thin(self._ledger, self._client, self._signer, self._clock())
            finally:
                os.close(lock)

    def answer(self, line: Line) -> tuple[Line, bytes]:
        """Does what a line asks for; the answer, and the bytes after it."""
        operations: dict[str, Callable[[Line], tuple[Line, bytes]]] = {
            "head": self._head, "put": self._put, "entries": self._entries,
        }  # fmt: skip
        try:
            operation = operations.get(str(line.get("op")))
            if operation is None:
                raise Refused(f"the witness knows no operation {line.get('op')!r}")
            return operation(line)
        except (RocksaltError, OSError, ValueError) as error:
            sentence = f"log server {self._client} refused: {error}"
            syslog.syslog(syslog.LOG_WARNING, sentence)
            return {"ok": False, "text": str(error)}, b""

    def _head(self, _: Line) -> tuple[Line, bytes]:
        here, time = self._ledger, names.utc(self._clock())
        return {"ok": True, "sequence": here.sequence, "digest": here.digest, "time": time}, b""

    def _put(self, line: Line) -> tuple[Line, bytes]:
        """One session at a time puts, and others may read."""
        lock = allowance.locked(self._folder)
        try:
            self._ledger = ledger.Ledger(self._folder)
            record = self._taken(str(line.get("entry")), str(line.get("signature")))
            self._has_put = True
        finally:
            os.close(lock)
        own = {key: record[key] for key in ("receipt", "countersignature")}
        return {"ok": True, **own}, b""

    def _taken(self, text: str, signature: str) -> dict[str, str]:
        """The record of an entry that is taken, now or before."""
        try:
            known = self._judge(text.encode(), signature.encode())
        except (BackupError, UnicodeError) as error:
            why = "is no Unicode" if isinstance(error, UnicodeError) else error
            self._note(text, f"the entry {why}")
            raise Refused(f"the entry {why}") from None
        except Refused as error:
            self._note(text, str(error))
            raise
        return known or self._new(text, signature)

    def _judge(self, text: bytes, signature: bytes) -> dict[str, str]:
        """The record of an entry that is here already, empty for one that may be taken."""
        sshsig.verify(text, signature, ledger.ENTRIES, [self._trusted])
        entry, here = ledger.read(text), self._ledger
        number = f"entry {entry.sequence}"
        if entry.server != self._client:
            raise Refused(f"{number} is of {entry.server!r}, not of {self._client}")
        if entry.sequence <= here.sequence:
            known = here.record(entry.sequence)
            if known.get("entry", "").encode() == text:
                return known
            raise Refused(f"{number} is another one than was witnessed: another past was sent")
        if entry.sequence > here.sequence + 1:
            raise Refused(f"{number} came after {here.sequence}: those between are missing")
        if entry.previous != here.digest:
            raise Refused(f"{number} does not continue entry {here.sequence}")
        if names.parsed(entry.time) > self._clock() + AHEAD:
            raise Refused(f"{number} is of {entry.time}, in the future: set the clocks right (NTP)")
        if len(here.heads.keys() | entry.heads.keys()) > HOSTS:
            raise Refused(f"{number} has more than {HOSTS} hosts, with those of before")
        for host, (n, own) in sorted(entry.heads.items()):
            before, seen = here.heads.get(host, (0, ""))
            if n < before:
                raise Refused(f"{number} has line {n} of {host}, where {before} was witnessed")
            if n == before and own != seen:
                raise Refused(f"{number} has another hash for line {n} of {host} than witnessed")
        return {}

    def _new(self, text: str, signature: str) -> dict[str, str]:
        """The record of an entry that is taken, if it is not one too many."""
        taken = allowance.Taken(self._folder, self._clock())
        taken.judge(len(self._ledger.heads))
        record = self._signed(text, signature)
        taken.add(sum(map(len, record.values())))
        return record

    def _signed(self, text: str, signature: str) -> dict[str, str]:
        entry, before = ledger.read(text.encode()), self._ledger.last.get("receipt", "")
        receipt = canonical(
            {
                "format": ledger.FORMAT,
                "client": self._client,
                "sequence": entry.sequence,
                "entry": entry.digest,
                "received": names.utc(self._clock()),
                "previous": digest(before.encode("ascii")) if before else "",
            }
        )
        countersignature = self._signer.sign(receipt, ledger.RECEIPTS)
        record = {
            "entry": text,
            "signature": signature,
            "receipt": receipt.decode("ascii"),
            "countersignature": countersignature.decode("ascii"),
        }
        self._ledger.add(record)
        return record

    def _entries(self, line: Line) -> tuple[Line, bytes]:
        since = line.get("since")
        if type(since) is not int or since < 0:
            raise Refused(f"the witness needs the number of an entry, not {since!r}")
        if not since or since != self._read:
            self._read, self._records = since, self._after(since)
        body = bytearray()
        # All in one pass, for a month may have a million lines.
        for number, record in self._records:
            self._read = number
            body += record
            if len(body) >= _PIECE:
                break
        more = self._read < self._ledger.sequence
        return {"ok": True, "size": len(body), "more": more}, bytes(body)

    def _after(self, since: int) -> Iterator[tuple[int, bytes]]:
        """The records after one; what stands for those that were removed is the first."""
        number, data = oldest.line(self._folder)
        if since < number:
            yield number, data
        yield from self._ledger.records(max(since, number))

    def _note(self, text: str, why: str) -> None:
        path = self._folder / _REFUSED
        line = {"time": names.utc(self._clock()), "why": why, "entry": text[: 1 << 14]}
        if not path.exists() or path.stat().st_size < _REFUSED_MOST:
            files.append(path, json.dumps(line, sort_keys=True).encode("ascii") + b"\n")


def seen(settings: Mapping[str, Any], root: Path = Path("/")) -> dict[str, dict[str, Any]]:
    """What is known of each client of a witness: ``sequence`` of its last entry (0 for none), its
    ``time``, when it was ``received`` (both None for none), how many were ``refused``.
    """
    found: dict[str, dict[str, Any]] = {}
    for client in settings["clients"]:
        folder = root / settings["path"].lstrip("/") / client
        here = ledger.Ledger(folder)
        entry, receipt = (json.loads(here.last.get(key, "{}")) for key in ("entry", "receipt"))
        found[client] = {
            "sequence": here.sequence,
            "time": entry.get("time"),
            "received": receipt.get("received"),
            "refused": _lines(folder / _REFUSED),
        }
    return found


def _lines(path: Path) -> int:
    if not os.path.lexists(path):
        return 0
    with files.opened(path) as file:
        return sum(1 for _ in file)


def read(receipt: bytes, countersignature: bytes, key: str) -> dict[str, Any]:
    """What a receipt says; :class:`Unverified` unless ``key`` (a public key) signed it."""
    sshsig.verify(receipt, countersignature, ledger.RECEIPTS, [key])
    try:
        return dict(json.loads(receipt))
    except (ValueError, TypeError):
        raise Unverified("is no receipt") from None

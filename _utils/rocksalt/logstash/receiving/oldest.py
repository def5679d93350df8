"""Where what a witness has of a log server begins, once the entries of old months were removed:
how far each chain was then. The hash of a line vouches for all before it, so only the times are
lost at which those were seen, and they are longer ago than lines are kept.

It is the first record that the witness sends: ``oldest`` (canonical JSON) and ``countersignature``.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rocksalt.backup import names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified
from rocksalt.backup.manifest import canonical, digest
from rocksalt.errors import RocksaltError
from rocksalt.host import synchronise
from rocksalt.logstash.receiving import files, ledger

NAMESPACE = "rocksalt-witness-oldest"
KEPT = 400
"""Days for which a witness keeps entries at least; longer where lines are kept for longer."""
_MARGIN, _MOST = 31, 36_500


@dataclass(frozen=True)
class Oldest:
    """What stands for all entries up to one: ``heads`` and ``begins`` are those of all hosts then,
    ``days`` the most that were said, ``receipt`` the hash of its receipt, ``received`` its time.
    """

    entry: ledger.Entry
    receipt: str
    received: str


def thin(book: ledger.Ledger, client: str, signer: sshsig.Signer, now: dt.datetime) -> None:
    """Removes the files of old months, after how far chains were then was signed. ``now`` is by
    the clock of the witness, and that of the log server has to agree.
    """
    days = min(max(KEPT, book.days), _MOST) + _MARGIN
    said = names.parsed(ledger.read(book.last["entry"].encode()).time)
    limit = names.utc(min(now, said) - dt.timedelta(days=days))
    found, gone = book.months(), []
    for path, following in pairwise(found):
        # All in a file was received before the first in the next one.
        record = _first(following)
        if not record or json.loads(record["receipt"])["received"] > limit:
            break
        gone.append(path)
    if gone:
        value = _folded(book, client, gone)
        text = canonical(value)
        signature = signer.sign(text, NAMESPACE).decode("ascii")
        record = {"oldest": text.decode("ascii"), "countersignature": signature}
        files.replace(book.folder / ledger.OLDEST, json.dumps(record).encode("ascii"))
        for path in gone:
            path.unlink()
        synchronise(book.folder)


def line(folder: Path) -> tuple[int, bytes]:
    """The record in a folder as a line, and up to which entry it goes; 0 where there is none."""
    try:
        with files.opened(folder / ledger.OLDEST) as file:
            data = file.read()
        return sequence(json.loads(data)), data + b"\n"
    except FileNotFoundError:
        return 0, b""
    except (ValueError, LookupError, TypeError, AttributeError):
        raise RocksaltError(f"{folder / ledger.OLDEST} is damaged") from None


def sequence(record: Mapping[str, str]) -> int:
    """The number of the last entry for which a record stands."""
    return int(json.loads(record["oldest"])["sequence"])


def read(record: Mapping[str, str], client: str, key: str) -> Oldest:
    """What a record says; :class:`Unverified` unless ``key`` signed it for the client."""
    try:
        text = record["oldest"].encode()
        sshsig.verify(text, record["countersignature"].encode(), NAMESPACE, [key])
        value = json.loads(text)
        if value["client"] != client:
            raise Unverified(f"is of {value['client']!r}, not of {client}")
        entry = ledger.Entry(
            client, int(value["sequence"]), "", value["received"],
            ledger.checked(value["heads"]), str(value["entry"]), ledger.checked(value["begins"]),
            int(value["days"]),
        )  # fmt: skip
        names.parsed(value["received"])
        return Oldest(entry, str(value["receipt"]), value["received"])
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Unverified("is not whole") from None


def _folded(book: ledger.Ledger, client: str, gone: Iterable[Path]) -> dict[str, Any]:
    """What the entries in files say, and those before them."""
    number, data = line(book.folder)
    value: dict[str, Any] = json.loads(json.loads(data)["oldest"]) if number else {}
    value = {"format": ledger.FORMAT, "client": client, "heads": {}, "begins": {}, **value}
    for record in _records(gone):
        entry = json.loads(record["entry"])
        if entry["sequence"] > number:
            value["heads"].update(entry["heads"])
            value["begins"].update(entry.get("begins", {}))
            value |= {
                "sequence": entry["sequence"], "entry": digest(record["entry"].encode()),
                "receipt": digest(record["receipt"].encode()),
                "received": json.loads(record["receipt"])["received"],
            }  # fmt: skip
    return {**value, "days": book.days}


def _records(gone: Iterable[Path]) -> Iterator[dict[str, str]]:
    for path in gone:
        with files.opened(path) as file:
            for own in file:
                # Half a line, which a power cut left, is none.
                if own.endswith(b"\n"):
                    yield json.loads(own)


def _first(path: Path) -> dict[str, str]:
    with files.opened(path) as file:
        own = file.readline()
    return dict(json.loads(own)) if own.endswith(b"\n") else {}

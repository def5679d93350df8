"""What a witness has seen of the chains of a log server, checked. Times are those of its receipts,
by its own clock: what an entry says of its time is only what the log server says.

All entries are read each time, and 44 bytes are kept of each head of a line that is still there: of
100 hosts that send each minute 6 MB a day, 2.5 GB in 400 days.
"""

from __future__ import annotations

import datetime as dt
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rocksalt.backup import names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified
from rocksalt.backup.manifest import digest
from rocksalt.logstash.receiving import ledger, witness

GAP = dt.timedelta(minutes=10)
"""So long lines may be without a witness: it is asked each minute."""


@dataclass
class Seen:
    """How far the chain of one host was, time after time: line ``numbers[i]`` had the hash
    ``hashes[32 * i:]`` at ``times[i]``, an index into :attr:`Evidence.times`. Of the lines up to
    ``begins``, which are no longer there, only the last one.
    """

    begins: int = 0
    numbers: array[int] = field(default_factory=lambda: array("Q"))
    hashes: bytearray = field(default_factory=bytearray)
    times: array[int] = field(default_factory=lambda: array("I"))

    def add(self, n: int, own: str, time: int) -> None:
        """One more."""
        if n <= self.begins:
            del self.numbers[:], self.hashes[:], self.times[:]
        self.numbers.append(n)
        self.hashes += bytes.fromhex(own)
        self.times.append(time)

    def hash(self, index: int) -> str:
        """One hash in hexadecimal."""
        return self.hashes[32 * index : 32 * index + 32].hex()


@dataclass
class Evidence:
    """All that a witness has of a log server; ``times`` are those of its receipts, ``gaps`` those
    from and to which it saw nothing for longer than :data:`GAP`, or only what it was told too late.
    ``problems`` are sentences. ``error`` says why it could not be asked, or nothing.
    """

    hosts: dict[str, Seen] = field(default_factory=dict)
    times: list[str] = field(default_factory=list)
    gaps: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def until(self) -> str | None:
        """When the witness took the last entry."""
        return self.times[-1] if self.times else None

    def time(self, seen: Seen, index: int) -> str:
        """When the witness saw that."""
        return self.times[seen.times[index]]

    def took(self, time: str, received: str) -> None:
        """Notes when an entry was received, and what time it says it is of."""
        for since in (*self.times[-1:], time):
            if names.parsed(received) - names.parsed(since) > GAP:
                if self.gaps and self.gaps[-1][1] >= since:
                    since = min(since, self.gaps.pop()[0])
                self.gaps.append((since, received))
        self.times.append(received)


def gather(
    records: Iterable[Mapping[str, str]], server: str, signer: str, key: str,
    begins: Mapping[str, int] | None = None,
) -> Evidence:  # fmt: skip
    """The records of a witness, oldest first; ``signer`` is the public key of the log server,
    ``key`` that of the witness. What one of them did not sign counts for nothing. ``begins`` has
    the last line that was removed of a host.
    """
    found = Evidence()
    previous, receipt = "", ""
    for number, record in enumerate(records, 1):
        what = f"entry {number} of the witness"
        try:
            entry, said = _checked(record, server, signer, key)
        except Unverified as error:
            found.problems.append(f"{what} {error}")
            break
        if (entry.sequence, entry.previous) != (number, previous):
            found.problems.append(f"{what} does not continue the one before: some were removed")
            break
        if said["previous"] != receipt:
            found.problems.append(f"{what} was not countersigned after the one before")
            break
        previous, receipt = entry.digest, digest(record["receipt"].encode())
        found.took(entry.time, said["received"])
        for host, (n, own) in entry.heads.items():
            seen = found.hosts.setdefault(host, Seen((begins or {}).get(host, 0)))
            seen.add(n, own, len(found.times) - 1)
    return found


def _checked(
    record: Mapping[str, str], server: str, signer: str, key: str
) -> tuple[ledger.Entry, dict[str, str]]:
    """The entry of a record, and what its receipt says."""
    try:
        entry, signature, receipt, countersignature = (
            record[name].encode() for name in ("entry", "signature", "receipt", "countersignature")
        )
    except (KeyError, AttributeError, TypeError):
        raise Unverified("is not whole") from None
    try:
        sshsig.verify(entry, signature, ledger.ENTRIES, [signer])
    except Unverified as error:
        raise Unverified(f"{error} (as the log server)") from None
    try:
        said = witness.read(receipt, countersignature, key)
    except Unverified as error:
        raise Unverified(f"{error} (as the witness)") from None
    found = ledger.read(entry)
    if (said.get("client"), said.get("entry")) != (server, found.digest):
        raise Unverified("has the receipt of another")
    if found.server != server:
        raise Unverified(f"is of {found.server!r}, not of {server}")
    try:
        names.parsed(said["received"])
    except (ValueError, KeyError, TypeError):
        raise Unverified("has a receipt without a time") from None
    return found, {"previous": str(said.get("previous")), "received": said["received"]}

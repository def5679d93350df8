"""What a witness has seen of the chains of a log server, checked. Times are those of its receipts,
by its own clock: what an entry says of its time is only what the log server says.

All entries are read each time, and 44 bytes are kept of each head of a line that is still there: of
100 hosts that send each minute 6 MB a day, 2.5 GB in 400 days.
"""

from __future__ import annotations

import datetime as dt
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rocksalt.backup import names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified
from rocksalt.backup.manifest import digest
from rocksalt.logstash.receiving import ledger, oldest, witness

GAP = dt.timedelta(minutes=10)
"""So long lines may be without a witness: it is asked each minute."""


@dataclass
class Seen:
    """How far the chain of one host was, time after time: line ``numbers[i]`` had the hash
    ``hashes[32 * i:]`` at ``times[i]``, an index into :attr:`Evidence.times`. Of the lines up to
    ``begins``, which are no longer there, only the last one.

    ``before`` is the last line, with its hash, that was removed before the witness knew of it;
    ``removed`` the index of the first entry that says that those up to ``begins`` are, ``told`` the
    last one of which any entry said that it was.
    """

    begins: int = 0
    before: tuple[int, str] = (0, "")
    removed: int | None = None
    told: int = 0
    numbers: array[int] = field(default_factory=lambda: array("Q"))
    hashes: bytearray = field(default_factory=bytearray)
    times: array[int] = field(default_factory=lambda: array("I"))

    def add(self, n: int, own: str, time: int) -> None:
        """One more."""
        if n < self.before[0]:
            # Nobody can have removed lines that were still to come.
            self.before = (0, "")
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
    from and to which it saw nothing for longer than ``gap``, or only what it was told too late.
    ``problems`` are sentences. ``error`` says why it could not be asked, or nothing.

    ``stated`` is the index of the first entry that says where chains begin, None for none; ``days``
    for how many lines were to be kept, at each index from which on that is another number.
    """

    hosts: dict[str, Seen] = field(default_factory=dict)
    times: list[str] = field(default_factory=list)
    gaps: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    error: str = ""
    stated: int | None = None
    days: list[tuple[int, int]] = field(default_factory=list)
    gap: dt.timedelta = GAP

    @property
    def until(self) -> str | None:
        """When the witness took the last entry."""
        return self.times[-1] if self.times else None

    def time(self, seen: Seen, index: int) -> str:
        """When the witness saw that."""
        return self.times[seen.times[index]]

    def kept(self, since: int, to: int) -> int | None:
        """The most days for which lines were to be kept from the entry with one index until that
        with another, None where one of them does not say it.
        """
        first = bisect_right(self.days, since, key=lambda it: it[0]) - 1
        found = [days for index, days in self.days[max(first, 0) :] if index <= since or index < to]
        return max(found) if first >= 0 and found else None

    def says(self, entry: ledger.Entry, begins: Mapping[str, int]) -> None:
        """Notes what an entry that was just received says of what was removed."""
        index = len(self.times) - 1
        if entry.days is not None and [days for _, days in self.days[-1:]] != [entry.days]:
            self.days.append((index, entry.days))
        for host, (n, own) in (entry.begins or {}).items():
            seen = self.seen(host, begins)
            seen.told = n
            if self.stated is None:
                seen.before = (n, own)
            if seen.removed is None and n >= seen.begins:
                seen.removed = index
        if self.stated is None and entry.begins is not None:
            self.stated = index

    def adds(self, entry: ledger.Entry, begins: Mapping[str, int]) -> None:
        """Notes what an entry that was just received says."""
        self.says(entry, begins)
        for host, (n, own) in entry.heads.items():
            self.seen(host, begins).add(n, own, len(self.times) - 1)

    def seen(self, host: str, begins: Mapping[str, int]) -> Seen:
        """What was seen of a host, to be added to."""
        return self.hosts.setdefault(host, Seen(begins.get(host, 0)))

    def misses(self, seen: Seen, days: int) -> bool:
        """Whether a host has to have lines, as some were seen that were not removed, or not after
        so many days.
        """
        if not seen.numbers or seen.numbers[-1] > seen.told:
            return bool(seen.numbers)
        when = self.time(seen, len(seen.numbers) - 1)
        return (names.parsed(self.times[-1]) - names.parsed(when)).days < days - 1

    def took(self, time: str, received: str) -> None:
        """Notes when an entry was received, and what time it says it is of."""
        for since in (*self.times[-1:], time):
            if names.parsed(received) - names.parsed(since) > self.gap:
                if self.gaps and self.gaps[-1][1] >= since:
                    since = min(since, self.gaps.pop()[0])
                self.gaps.append((since, received))
        self.times.append(received)


def gather(
    records: Iterable[Mapping[str, str]], server: str, signer: str, key: str,
    begins: Mapping[str, int] | None = None, gap: dt.timedelta = GAP,
) -> Evidence:  # fmt: skip
    """The records of a witness, oldest first; ``signer`` is the public key of the log server,
    ``key`` that of the witness. What one of them did not sign counts for nothing. ``begins`` has
    the last line that was removed of a host; ``gap`` is how long lines may be without a witness.
    """
    found = Evidence(gap=gap)
    number, previous, receipt = 0, "", ""
    for record in records:
        if "oldest" in record and not number:
            try:
                start = oldest.read(record, server, key)
            except Unverified as error:
                found.problems.append(f"what the witness has of its oldest entries {error}")
                break
            found.took(start.received, start.received)
            found.adds(start.entry, begins or {})
            number, previous, receipt = start.entry.sequence, start.entry.digest, start.receipt
            continue
        number += 1
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
        found.adds(entry, begins or {})
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

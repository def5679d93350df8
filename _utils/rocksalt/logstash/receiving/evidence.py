"""What a witness has seen of the chains of a log server, checked."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified
from rocksalt.backup.manifest import digest
from rocksalt.logstash.receiving import ledger, witness


@dataclass
class Seen:
    """How far the chain of one host was, time after time: line ``numbers[i]`` had the hash
    ``hashes[32 * i:]`` at ``times[i]``, an index into :attr:`Evidence.times`.
    """

    numbers: array[int] = field(default_factory=lambda: array("Q"))
    hashes: bytearray = field(default_factory=bytearray)
    times: array[int] = field(default_factory=lambda: array("L"))

    def add(self, n: int, own: str, time: int) -> None:
        """One more."""
        self.numbers.append(n)
        self.hashes += bytes.fromhex(own)
        self.times.append(time)

    def hash(self, index: int) -> str:
        """One hash in hexadecimal."""
        return self.hashes[32 * index : 32 * index + 32].hex()


@dataclass
class Evidence:
    """All that a witness has of a log server; ``problems`` are sentences. ``error`` says why it
    could not be asked, or nothing.
    """

    hosts: dict[str, Seen] = field(default_factory=dict)
    times: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def until(self) -> str | None:
        """The time of the last entry."""
        return self.times[-1] if self.times else None

    def time(self, seen: Seen, index: int) -> str:
        """When the witness saw that."""
        return self.times[seen.times[index]]


def gather(
    records: Iterable[Mapping[str, str]], server: str, signer: str, key: str
) -> Evidence:  # fmt: skip
    """The records of a witness, oldest first; ``signer`` is the public key of the log server,
    ``key`` that of the witness. What one of them did not sign counts for nothing.
    """
    found = Evidence()
    previous, receipt = "", ""
    for number, record in enumerate(records, 1):
        what = f"entry {number} of the witness"
        try:
            entry, after = _checked(record, server, signer, key)
        except Unverified as error:
            found.problems.append(f"{what} {error}")
            break
        if (entry.sequence, entry.previous) != (number, previous):
            found.problems.append(f"{what} does not continue the one before: some were removed")
            break
        if after != receipt:
            found.problems.append(f"{what} was not countersigned after the one before")
            break
        previous, receipt = entry.digest, digest(record["receipt"].encode())
        found.times.append(entry.time)
        for host, (n, own) in entry.heads.items():
            found.hosts.setdefault(host, Seen()).add(n, own, len(found.times) - 1)
    return found


def _checked(
    record: Mapping[str, str], server: str, signer: str, key: str
) -> tuple[ledger.Entry, str]:
    """The entry of a record, and the hash of the receipt before its own."""
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
    return found, str(said.get("previous"))

"""A folder of signed entries about how far chains are, one a line, a file a month: the log server's
own, and what a witness keeps of it.

An entry is canonical JSON: ``format``, ``server``, ``sequence`` (from 1), ``previous`` (SHA-256 of
the entry before, empty for the first), ``time``, ``heads`` (host -> [n, hash], those that changed).
A record is what the file has of it: ``entry`` and ``signature``, and at a witness ``receipt`` and
``countersignature``.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocksalt import schema
from rocksalt.backup import names
from rocksalt.backup.errors import Unverified
from rocksalt.backup.manifest import canonical, digest
from rocksalt.errors import RocksaltError
from rocksalt.logstash.receiving import HOST, files

FORMAT = 1
ENTRIES = "rocksalt-heads"
RECEIPTS = "rocksalt-witness"
"""Namespaces of signatures."""
STATE = "state.json"
_MONTH = re.compile(r"\d{4}-\d\d\.jsonl")
_HASH = re.compile(r"[0-9a-f]{64}")
_FIELDS: dict[str, dict[str, Any]] = {
    "format": {"type": "integer", "min": FORMAT, "max": FORMAT, "required": True},
    "server": {"type": "string", "required": True},
    "sequence": {"type": "integer", "min": 1, "required": True},
    "previous": {"type": "string", "pattern": "([0-9a-f]{64})?", "required": True},
    "time": {"type": "string", "pattern": "[0-9-]{10}T[0-9:]{8}Z", "required": True},
}


@dataclass(frozen=True)
class Entry:
    """One entry; ``digest`` is the SHA-256 of its text."""

    server: str
    sequence: int
    previous: str
    time: str
    heads: Mapping[str, tuple[int, str]]
    digest: str


def write(
    server: str, sequence: int, previous: str, time: str, heads: Mapping[str, Any]
) -> bytes:  # fmt: skip
    """The text of an entry, to be signed."""
    found = {
        "format": FORMAT, "server": server, "sequence": sequence, "previous": previous,
        "time": time, "heads": {host: list(head) for host, head in heads.items()},
    }  # fmt: skip
    return canonical(found)


def read(text: bytes) -> Entry:
    """The entry in a text; :class:`Unverified` says why it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Unverified("is no JSON") from None
    heads = value.pop("heads", None) if isinstance(value, dict) else None
    if found := schema.problems(value, {"type": "mapping", "fields": _FIELDS}, "it"):
        raise Unverified("; ".join(found))
    if not isinstance(heads, dict):
        raise Unverified("has no heads")
    for host, head in heads.items():
        if not HOST.fullmatch(host) or not is_head(head):
            raise Unverified(f"has no number and hash for {host!r}")
    try:
        names.parsed(value["time"])
    except ValueError:
        raise Unverified(f"has {value['time']}, which is no time") from None
    heads = {host: (n, own) for host, (n, own) in heads.items()}
    return Entry(
        value["server"], value["sequence"], value["previous"], value["time"], heads, digest(text)
    )


def is_head(value: object) -> bool:
    """Whether something is the number of a line, which fits in 63 bits, and its hash."""
    match value:
        case [int(n), str(own)]:
            return type(n) is int and 0 < n < 1 << 63 and _HASH.fullmatch(own) is not None
    return False


class Ledger:
    """The entries in a folder. ``heads`` is how far every chain was at last: host -> (n, hash);
    ``last`` is the last record.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.sequence, self.digest = 0, ""
        self.heads: dict[str, tuple[int, str]] = {}
        self.last: dict[str, str] = {}
        self._load()

    def add(self, record: Mapping[str, str]) -> None:
        """Appends a record; it is on the disk when this returns."""
        entry = read(record["entry"].encode())
        line = json.dumps(record, sort_keys=True).encode("ascii") + b"\n"
        # By its number, not by a clock: the order of files is that of the entries.
        month = max([entry.time[:7], *(path.name[:7] for path in self._files())])
        files.append(self.folder / f"{month}.jsonl", line)
        self._know(entry, record)
        self._save()

    def records(self, since: int = 0) -> Iterator[tuple[int, bytes]]:
        """The number and the line of every record after ``since``."""
        found = self._files()
        starts = [self._first(path) for path in found]
        for index, path in enumerate(found):
            after = starts[index + 1] if index + 1 < len(found) else None
            if after is not None and after <= since + 1:
                continue
            with files.opened(path) as file:
                for line in file:
                    number = _number(line, path)
                    if number > since and line.endswith(b"\n"):
                        yield number, line

    def record(self, sequence: int) -> dict[str, str]:
        """One record, empty if there is none."""
        if sequence == self.sequence:
            return self.last
        number, line = next(self.records(sequence - 1), (0, b"{}"))
        return dict(json.loads(line)) if number == sequence else {}

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _MONTH.fullmatch(path.name))

    def _first(self, path: Path) -> int:
        with files.opened(path) as file:
            line = file.readline()
        return _number(line, path) if line.endswith(b"\n") else self.sequence + 1

    def _know(self, entry: Entry, record: Mapping[str, str]) -> None:
        self.sequence, self.digest, self.last = entry.sequence, entry.digest, dict(record)
        self.heads.update(entry.heads)

    def _save(self) -> None:
        state = {
            "sequence": self.sequence, "digest": self.digest, "last": self.last,
            "heads": {host: list(head) for host, head in self.heads.items()},
        }  # fmt: skip
        files.replace(self.folder / STATE, canonical(state))

    def _load(self) -> None:
        """The state that was saved, and the entries after it; all of them where there is none, or
        none that is whole: it only spares reading them.
        """
        with contextlib.suppress(
            FileNotFoundError, ValueError, LookupError, TypeError, AttributeError, RecursionError
        ):
            state = json.loads((self.folder / STATE).read_bytes())
            heads = {host: (int(n), str(own)) for host, (n, own) in state["heads"].items()}
            last, known = dict(state["last"]), str(state["digest"])
            self.sequence, self.digest = int(state["sequence"]), known
            self.heads, self.last = heads, last
        for _, line in self.records(self.sequence):
            record = json.loads(line)
            self._know(read(record["entry"].encode()), record)


def _number(line: bytes, path: Path) -> int:
    """The number of the entry in the line of a file; 0 for half a line."""
    if not line.endswith(b"\n"):
        return 0
    try:
        return int(json.loads(json.loads(line)["entry"])["sequence"])
    except (ValueError, KeyError, TypeError):
        raise RocksaltError(f"{path} has a line that is no entry: {line[:80]!r}") from None

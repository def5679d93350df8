"""A folder of signed entries about how far chains are, one a line, a file a month: the log server's
own, and what a witness keeps of it.

An entry is canonical JSON: ``format``, ``server``, ``sequence`` (from 1), ``previous`` (SHA-256 of
the entry before, empty for the first), ``time``, ``heads`` (host -> [n, hash], those that changed),
``begins`` (the same for the last line that was removed of a host) and ``days`` (for which lines are
kept); those of before this was said have neither.
A record is what the file has of it: ``entry`` and ``signature``, and at a witness ``receipt`` and
``countersignature``.
"""

from __future__ import annotations

import contextlib
import json
import os
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
from rocksalt.host import synchronise
from rocksalt.logstash.receiving import HOST, files, mend

FORMAT = 1
ENTRIES = "rocksalt-heads"
RECEIPTS = "rocksalt-witness"
"""Namespaces of signatures."""
STATE = "state.json"
OLDEST = "oldest.json"
"""What a witness has instead of entries that it removed (``oldest``)."""
_MONTH = re.compile(r"\d{4}-\d\d\.jsonl")
_HASH = re.compile(r"[0-9a-f]{64}")
_FIELDS: dict[str, dict[str, Any]] = {
    "format": {"type": "integer", "min": FORMAT, "max": FORMAT, "required": True},
    "server": {"type": "string", "required": True},
    "sequence": {"type": "integer", "min": 1, "required": True},
    "previous": {"type": "string", "pattern": "([0-9a-f]{64})?", "required": True},
    "time": {"type": "string", "pattern": "[0-9-]{10}T[0-9:]{8}Z", "required": True},
    "days": {"type": "integer", "min": 0},
}
Heads = Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class Entry:
    """One entry; ``digest`` is the SHA-256 of its text. ``begins`` and ``days`` are None in those
    that do not say it.
    """

    server: str
    sequence: int
    previous: str
    time: str
    heads: Heads
    digest: str
    begins: Heads | None = None
    days: int | None = None


def write(
    server: str, sequence: int, previous: str, time: str, heads: Mapping[str, Any],
    begins: Mapping[str, Any] | None = None, days: int | None = None,
) -> bytes:  # fmt: skip
    """The text of an entry, to be signed."""
    found: dict[str, Any] = {
        "format": FORMAT, "server": server, "sequence": sequence, "previous": previous,
        "time": time, "heads": _lists(heads),
    }  # fmt: skip
    if begins is not None:
        found["begins"] = _lists(begins)
    if days is not None:
        found["days"] = days
    return canonical(found)


def read(text: bytes) -> Entry:
    """The entry in a text; :class:`Unverified` says why it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Unverified("is no JSON") from None
    is_mapping = isinstance(value, dict)
    found = value.pop("heads", None) if is_mapping else None
    begins = value.pop("begins", None) if is_mapping else None
    if wrong := schema.problems(value, {"type": "mapping", "fields": _FIELDS}, "it"):
        raise Unverified("; ".join(wrong))
    heads, begins = checked(found), None if begins is None else checked(begins)
    try:
        names.parsed(value["time"])
    except ValueError:
        raise Unverified(f"has {value['time']}, which is no time") from None
    return Entry(
        value["server"], value["sequence"], value["previous"], value["time"], heads, digest(text),
        begins, value.get("days"),
    )  # fmt: skip


def checked(value: object) -> dict[str, tuple[int, str]]:
    """The numbers and hashes of hosts that something is; :class:`Unverified` if it is not that."""
    if not isinstance(value, dict):
        raise Unverified("has no heads")
    for host, head in value.items():
        if not HOST.fullmatch(host) or not is_head(head):
            raise Unverified(f"has no number and hash for {host!r}")
    return {host: (n, own) for host, (n, own) in value.items()}


def _lists(heads: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {host: list(head) for host, head in heads.items()}


def is_head(value: object) -> bool:
    """Whether something is the number of a line, which fits in 63 bits, and its hash."""
    match value:
        case [int(n), str(own)]:
            return type(n) is int and 0 < n < 1 << 63 and _HASH.fullmatch(own) is not None
    return False


class Ledger:
    """The entries in a folder. ``heads`` is how far every chain was at last: host -> (n, hash),
    ``begins`` the last line that was removed; ``days`` the most for which lines were to be kept;
    ``last`` is the last record.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.sequence, self.digest = 0, ""
        self.heads: dict[str, tuple[int, str]] = {}
        self.begins: dict[str, tuple[int, str]] = {}
        self.days = 0
        self.last: dict[str, str] = {}
        self._end = ("", 0)
        """The file with the last record, and how many bytes that has with it; empty if unknown."""
        self._load()

    def add(self, record: Mapping[str, str]) -> None:
        """Appends a record; it is on the disk when this returns."""
        entry = read(record["entry"].encode())
        line = json.dumps(record, sort_keys=True).encode("ascii") + b"\n"
        # By its number, not by a clock: the order of files is that of the entries.
        month = max([entry.time[:7], *(path.name[:7] for path in self.months())])
        path = self.folder / f"{month}.jsonl"
        files.append(path, line)
        self._end = (path.name, path.stat().st_size)
        self._know(entry, record)
        self._save()

    def cut(self, keep: int, heads: Heads, begins: Heads) -> None:
        """Removes the entries after one, with which the chains were that far."""
        last = self.record(keep) if keep else {}
        self.sequence, self.last, self._end = keep, last, ("", 0)
        self.digest = read(last["entry"].encode()).digest if last else ""
        self.heads, self.begins = dict(heads), dict(begins)
        # The state first: with it, what is left of the others is read again, and cut again.
        self._save()
        for path in reversed(self.months()):
            size = self._size(path, keep)
            if size:
                os.truncate(path, size)
                mend.sync(path)
                break
            path.unlink()
        synchronise(self.folder)

    def thin(self, months: int) -> None:
        """Removes all files but the newest."""
        for path in self.months()[:-months]:
            path.unlink()

    def records(self, since: int = 0) -> Iterator[tuple[int, bytes]]:
        """The number and the line of every record after ``since``."""
        name, size = self._end if since >= self.sequence else ("", 0)
        for path in self._from(since, name):
            with files.opened(path) as file:
                file.seek(size if path.name == name else 0)
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

    def _from(self, since: int, name: str) -> list[Path]:
        """The files with records after ``since``, which are in that one and later ones, if any."""
        found = self.months()
        if name:
            return [path for path in found if path.name >= name]
        starts = [self._first(path) for path in found[1:]]
        return [
            path for path, after in zip(found, [*starts, since + 2], strict=False)
            if after > since + 1
        ]  # fmt: skip

    def months(self) -> list[Path]:
        """Its files, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _MONTH.fullmatch(path.name))

    def _first(self, path: Path) -> int:
        with files.opened(path) as file:
            line = file.readline()
        return _number(line, path) if line.endswith(b"\n") else self.sequence + 1

    def _size(self, path: Path, keep: int) -> int:
        """How many bytes of a file are records up to one."""
        size = 0
        with files.opened(path) as file:
            for line in file:
                if not 0 < _number(line, path) <= keep:
                    break
                size += len(line)
        return size

    def _know(self, entry: Entry, record: Mapping[str, str]) -> None:
        self.sequence, self.digest, self.last = entry.sequence, entry.digest, dict(record)
        self.heads.update(entry.heads)
        self.begins.update(entry.begins or {})
        self.days = max(self.days, entry.days or 0)

    def _save(self) -> None:
        state = {
            "sequence": self.sequence, "digest": self.digest, "last": self.last,
            "heads": _lists(self.heads), "begins": _lists(self.begins), "end": list(self._end),
            "days": self.days,
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
            last, end = dict(state["last"]), self._checked(*state.get("end", ("", 0)))
            self._start(state, str(state["digest"]))
            self.last, self._end = last, end
        if not self.sequence:
            self._start_with_oldest()
        for _, line in self.records(self.sequence):
            record = json.loads(line)
            self._know(read(record["entry"].encode()), record)

    def _start(self, found: Mapping[str, Any], own: str) -> None:
        """Goes on from what was written down; ``own`` is the hash of the last entry of then."""
        heads, begins = (
            {host: (int(n), str(own)) for host, (n, own) in known.items()}
            for known in (found["heads"], found.get("begins", {}))
        )
        days, self.sequence = int(found.get("days", 0)), int(found["sequence"])
        self.digest, self.heads, self.begins, self.days = own, heads, begins, days

    def _start_with_oldest(self) -> None:
        path = self.folder / OLDEST
        try:
            found = json.loads(json.loads(path.read_bytes())["oldest"])
            self._start(found, str(found["entry"]))
        except FileNotFoundError:
            pass
        except (ValueError, LookupError, TypeError, AttributeError):
            raise RocksaltError(f"{path} is damaged") from None

    def _checked(self, name: str, size: int) -> tuple[str, int]:
        """Where the last record ends, if a line ends there."""
        if _MONTH.fullmatch(name) and size > 0:
            with contextlib.suppress(OSError), files.opened(self.folder / name) as file:
                file.seek(size - 1)
                if file.read(1) == b"\n":
                    return name, size
        return "", 0


def _number(line: bytes, path: Path) -> int:
    """The number of the entry in the line of a file; 0 for half a line."""
    if not line.endswith(b"\n"):
        return 0
    try:
        return int(json.loads(json.loads(line)["entry"])["sequence"])
    except (ValueError, KeyError, TypeError):
        raise RocksaltError(f"{path} has a line that is no entry: {line[:80]!r}") from None

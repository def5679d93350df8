"""Documents in the Elastic Common Schema, one for each line, as the bytes that are sent.

What is no field of the schema is below ``rocksalt``. Nothing is taken from a text before its
secrets are out of it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from rocksalt.logstash.shipping import datasets, reading
from rocksalt.logstash.shipping.datasets import plain
from rocksalt.logstash.shipping.mask import Masker

Document = dict[str, Any]
Keys = dict[tuple[str, ...], int]
"""Of each source in which a private key goes on, for how many records it may."""
SOURCE = ("_PID", "_STREAM_ID", "_TRANSPORT")
"""What tells sources in the journal apart."""
ECS = "8.17.0"
LONGEST = 48 * 1024
"""Bytes of a message as JSON; longer ones are sent in parts."""
NAME, COMMAND = 256, 16_384
"""Characters of a name, and of a command line; longer ones are cut."""
_AHEAD, _CACHED, _KEYS = 1024, 4096, 256
LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron"),
    *("authpriv", "ftp", "ntp", "security", "console", "solaris-cron"),
    *(f"local{number}" for number in range(8)),
)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def identity(*parts: object) -> str:
    """An id that the same line always gets, and no other."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]


def stamp(micros: int) -> str:
    """Microseconds since 1970 as a time in UTC."""
    return f"{_second(micros // 1_000_000)}.{micros % 1_000_000:06d}Z"


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


@functools.lru_cache(64)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class Maker:
    """Makes the documents of one host."""

    def __init__(self, host: str, labels: Mapping[str, str], masker: Masker):
        self._host = host
        self._masker = masker
        self._common: Document = {"ecs": {"version": ECS}, "host": {"name": host}}
        if labels:
            self._common["labels"] = dict(labels)
        self._cached = functools.lru_cache(1024)(masker.mask)
        self._of_files: Keys = {}
        self._of_journal: Keys = {}

    def restart(self) -> None:
        """Files are read from an earlier place: no private key goes on in them."""
        self._of_files.clear()

    def resume(self, generation: str, before: bytes) -> None:
        """A file is read on behind these bytes, in which a private key may begin."""
        if b"PRIVATE KEY" in before:
            text = before.decode("utf-8", "backslashreplace")
            self._masked(text, "", self._of_files, (generation,))

    def resume_journal(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """The journal is read on behind these entries, in which a private key may begin."""
        self._of_journal.clear()
        for entry in entries:
            message, source = plain(entry.get("MESSAGE")), _source(entry)
            if "PRIVATE KEY" in message or source in self._of_journal:
                dataset = datasets.of_journal(entry, message)
                self._masked(message, dataset, self._of_journal, source)

    def of_journal(
        self, entry: Mapping[str, Any], moment: tuple[str, ...], wanted: Collection[str] | None
    ) -> list[bytes]:
        """The documents of an entry, none if its dataset is not among the ``wanted``; ``moment`` is
        what stays of its cursor wherever it is kept.
        """
        message = plain(entry.get("MESSAGE"))
        dataset = datasets.of_journal(entry, message)
        if wanted is not None and dataset not in wanted:
            return []
        micros = int(entry.get("_SOURCE_REALTIME_TIMESTAMP") or entry["__REALTIME_TIMESTAMP"])
        made = self._document(dataset, identity(self._host, *moment), micros)
        self._describe(made, entry)
        program = made["process"].get("name", "") if _speaks(entry) else ""
        text = self._masked(message, dataset, self._of_journal, _source(entry))
        return self._finish(made, text, dataset, program)

    def of_file(self, dataset: str, path: str, place: tuple[str, int], data: bytes) -> list[bytes]:
        """The documents of a record; ``place`` is the generation of its file and where it begins
        there.
        """
        text = data.decode("utf-8", "backslashreplace").rstrip("\r\n")
        made = self._document(dataset, identity(self._host, *place), now())
        made["log"] = {"file": {"path": path}}
        made["rocksalt"] = {"offset": place[1]}
        made["process"] = {}
        text = self._masked(text, dataset, self._of_files, place[:1])
        return self._finish(made, text, dataset, "", path)

    def of_own(self, dataset: str, key: str, message: str, extra: Document) -> list[bytes]:
        """A document of our own; ``extra`` goes in as it is."""
        made = self._document(dataset, key, now())
        made["process"] = {}
        for name, value in extra.items():
            made[name] = {**made.get(name, {}), **value} if isinstance(value, dict) else value
        return self._finish(made, self._masker.mask(message), "", "")

    def _masked(self, text: str, dataset: str, keys: Keys, source: tuple[str, ...]) -> str:
        """A text without its secrets; a private key may have begun earlier in its source."""
        if dataset == datasets.AUDIT:
            text = reading.without_hidden(text, self._masker)
        text, left = self._masker.follow(text, keys.pop(source, 0))
        if left:
            keys[source] = left
            if len(keys) > _KEYS:
                del keys[next(iter(keys))]
        return text

    def _field(self, value: Any, most: int = NAME) -> str:
        """A field beside the message, masked and cut."""
        text = plain(value)
        start = text[: most + _AHEAD]
        masked = self._cached(start) if len(start) <= _CACHED else self._masker.mask(start)
        whole = len(text) == len(start) and len(masked) <= most
        return masked if whole else f"{masked[: most - 3]}..."

    def _document(self, dataset: str, key: str, micros: int) -> Document:
        event = {"id": key, "dataset": dataset, "kind": "event", "created": stamp(now())}
        return {"@timestamp": stamp(micros), "event": event, **self._common}

    def _describe(self, made: Document, entry: Mapping[str, Any]) -> None:
        """What the journal knows of a line beside its text."""
        get = entry.get
        process: Document = {}
        if name := get("SYSLOG_IDENTIFIER") or get("_COMM"):
            process["name"] = self._field(name)
        if (pid := plain(get("_PID") or get("SYSLOG_PID"))).isdecimal() and len(pid) < 10:
            process["pid"] = int(pid)
        if executable := get("_EXE"):
            process["executable"] = self._field(executable)
        if command := get("_CMDLINE"):
            process["command_line"] = self._field(command, COMMAND)
        made["process"] = process
        if user := get("_UID"):
            made["user"] = {"id": plain(user)[:NAME]}
        made["log"] = log = {}
        if syslog := _syslog(plain(get("PRIORITY")), plain(get("SYSLOG_FACILITY"))):
            if "severity" in syslog:
                log["level"] = syslog["severity"]["name"]
            if "name" in process:
                syslog["appname"] = process["name"]
            log["syslog"] = syslog
        own = {"unit": get("_SYSTEMD_UNIT"), "transport": get("_TRANSPORT")}
        made["rocksalt"] = {name: self._field(it) for name, it in own.items() if it}

    def _finish(
        self, made: Document, text: str, dataset: str, program: str, path: str = ""
    ) -> list[bytes]:
        """Reads a text that is masked, and splits what is too long."""
        reading.read(made, text, dataset, program, path)
        for name in ("process", "log"):
            if not made.get(name, True):
                del made[name]
        return list(_encoded(made, text))


def _source(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(plain(entry.get(it))[:NAME] for it in SOURCE)


def _speaks(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is of whom it says: anybody can write to the journal as sshd. That sudo was
    what root put there is enough, for it may still run as the user.
    """
    return plain(entry.get("_UID")) == "0" or plain(entry.get("_EXE")) == "/usr/bin/sudo"


def _syslog(priority: str, facility: str) -> Document:
    """``log.syslog``: its priority is what both make together. A new one each time."""
    found: Document = {}
    severity = int(priority) if priority.isdecimal() and len(priority) < 3 else 8
    code = int(facility) if facility.isdecimal() and len(facility) < 4 else 24
    if severity < len(LEVELS):
        found["severity"] = {"code": severity, "name": LEVELS[severity]}
    if code < len(FACILITIES):
        found["facility"] = {"code": code, "name": FACILITIES[code]}
    if len(found) == 2:
        found["priority"] = code * 8 + severity
    return found


def _encoded(made: Document, text: str) -> Iterator[bytes]:
    made["message"] = text
    if len(text) < LONGEST // 6:
        yield _bytes(made)
        return
    parts = list(_parts(text))
    own, key = made.setdefault("rocksalt", {}), made["event"]["id"]
    for number, part in enumerate(parts, 1):
        made["message"] = part
        if len(parts) > 1:
            own["part"] = f"{number}/{len(parts)}"
            made["event"]["id"] = f"{key}-{number}"
        yield _bytes(made)


def _parts(text: str) -> Iterator[str]:
    """The text in pieces of which none is too long as JSON."""
    start = 0
    while start < len(text):
        size = LONGEST
        while len(_bytes(text[start : start + size])) > LONGEST:
            size = size * 3 // 4
        yield text[start : start + size]
        start += size


def _bytes(value: Any) -> bytes:
    return _encode(value).encode("utf-8", "backslashreplace")

"""The witness, as its log server talks to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt.backup.errors import BackupError, Unverified
from rocksalt.backup.manifest import digest
from rocksalt.backup.vaults.session import Session
from rocksalt.backup.vaults.wire import Broken, Wire
from rocksalt.errors import RocksaltError
from rocksalt.logstash.receiving import witness

TIMEOUT = 60
_COMMAND = "rocksalt-logs witness"
_DENIED = (
    ("Host key verification failed", "shows another host key than its setting host_key"),
    ("Permission denied", "lets this host not in: let it know the key that logstash.keys prints"),
)


class Away(RocksaltError):
    """The witness cannot be asked."""


class Denied(RocksaltError):
    """The witness does not do what it was asked for, or what it says is not its own."""


class Witness:
    """A session with the witness. ``settings`` is ``witness`` in receiver.json, ``client`` the name
    of this log server there, ``key`` the file of the key to log in with.
    """

    program: tuple[str, ...] = ("ssh",)

    def __init__(self, settings: Mapping[str, Any], client: str, key: str):
        self._settings, self._client = settings, client
        self._who = f"the witness {settings['host']}"
        try:
            self._session: Session | None = Session(
                self._who, self.program, settings, TIMEOUT, key, _COMMAND
            )
        except BackupError as error:
            raise Away(str(error)) from None

    def head(self) -> tuple[int, str]:
        """The number and the hash of the last entry that it has."""
        found = self._ask({"op": "head"})
        try:
            return int(found["sequence"]), str(found["digest"])
        except (KeyError, ValueError, TypeError):
            raise Denied(f"{self._who} does not say how far it is") from None

    def put(self, record: Mapping[str, str]) -> None:
        """Has an entry witnessed."""
        own = {key: record[key] for key in ("entry", "signature")}
        found = self._ask({"op": "put", **own})
        receipt, signature = (
            str(found.get(key)).encode() for key in ("receipt", "countersignature")
        )
        try:
            said = witness.read(receipt, signature, self._settings["key"])
        except Unverified as error:
            raise Denied(f"{self._who}: its receipt {error}") from None
        if (said.get("client"), said.get("entry")) != (self._client, digest(own["entry"].encode())):
            raise Denied(f"{self._who}: its receipt is for another entry")

    def records(self) -> Iterator[dict[str, str]]:
        """All that it has, in order."""
        since, more = 0, True
        while more:
            found = self._ask({"op": "entries", "since": since})
            lines = self._body(int(found.get("size", 0))).splitlines()
            for line in lines:
                record = json.loads(line)
                since = int(json.loads(record.get("oldest") or record["entry"])["sequence"])
                yield record
            more = bool(found.get("more")) and bool(lines)

    def close(self) -> None:
        """Ends the session."""
        self._end()

    def _end(self) -> str:
        """What ssh said, until the end."""
        session, self._session = self._session, None
        return session.end()[1] if session else ""

    def _wire(self) -> Wire:
        if self._session is None:
            raise Broken("ended the session")
        return self._session.wire

    def _body(self, size: int) -> bytes:
        data = bytearray()
        try:
            while len(data) < size:
                data += self._wire().read(size - len(data))
        except Broken as error:
            raise self._gone(error) from None
        return bytes(data)

    def _ask(self, line: Mapping[str, Any]) -> dict[str, Any]:
        try:
            self._wire().send(line)
            answer = self._wire().receive()
        except Broken as error:
            raise self._gone(error) from None
        if not answer:
            raise self._gone(Broken("ended the session"))
        if answer.get("ok") is not True:
            raise Denied(f"{self._who}: {answer.get('text', 'no reason given')}")
        return answer

    def _gone(self, error: Broken) -> Away:
        said = self._end()
        for pattern, sentence in _DENIED:
            if pattern in said:
                return Away(f"{self._who} {sentence}")
        last = (said.splitlines() or [""])[-1]
        return Away(f"{self._who} {error}: {last}" if last else f"{self._who} {error}")

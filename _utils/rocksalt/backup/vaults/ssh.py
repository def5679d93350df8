"""A vault behind the forced command of an ssh server, which is :mod:`vaults.receiver`."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from rocksalt.backup import config, names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Taken, Unreachable, Unverified, VaultError
from rocksalt.backup.proof import receipts
from rocksalt.backup.vaults import Settings, Stored, Vault, clocks
from rocksalt.backup.vaults.content import content, pieces
from rocksalt.backup.vaults.session import DRAINED, Session
from rocksalt.backup.vaults.wire import Broken, Silent, Wire

TIMEOUT = 60
"""Seconds without progress after which the vault host is taken for gone."""
_LARGEST = 1 << 28
"""Bytes that a list of names or a report may have."""
_COMMAND = "rocksalt-backup receive"
_REPORTS = "rocksalt-report"
_KINDS = {"taken": Taken, "unreachable": Unreachable}
_GONE = 255
"""What ssh ends with when it was ssh that failed, and not what it ran."""
_DENIED: tuple[tuple[str, str], ...] = (
    (
        "Host key verification failed|No .* host key is known",
        "shows another host key than its setting host_key: find out why before you change that",
    ),
    (
        "Load key|not accessible|bad permissions|invalid format",
        "cannot be entered because {key} is no usable private key of root's alone",
    ),
    (
        "Permission denied",
        "refuses {key} for {user}: let hardening.backup on the vault host know its public half",
    ),
)


class SshVault(Vault):
    """A vault of the type ssh; ``settings`` is its entry below ``vaults``."""

    program: tuple[str, ...] = ("ssh",)
    now = staticmethod(clocks.now)
    countersigns = True

    def __init__(self, name: str, settings: Settings, instance: str):
        self.name, self._settings, self._instance = name, settings, instance
        self._who = f"the vault {name}"
        self._timeout = settings.get("timeout", TIMEOUT)
        self._session: Session | None = None
        self._compared = False
        self._body = _Body(0)
        self._receipts: dict[str, tuple[bytes, bytes]] = {}

    def names(self) -> dict[str, Stored]:
        try:
            found = json.loads(self._whole({"op": "names"})[0])
            return {name: Stored(size, received) for name, (size, received) in found.items()}
        except (ValueError, TypeError, AttributeError):
            raise VaultError(f"{self._who} lists its objects in a way that is not known") from None

    def open(self, name: str) -> BinaryIO:
        answer = self._ask({"op": "get", "name": name}, name)
        body = self._body = _Body(self._size(answer))

        def read(most: int) -> bytes:
            if body.left and (body is not self._body or self._session is None):
                raise VaultError(f"{self._who}: {name} was left before it was read")
            if not body.left or not most or self._session is None:
                return b""
            try:
                return body.read(self._session.wire, most)
            except Broken as error:
                raise self._failed(name, error) from None

        return content(read, lambda: None)

    def put(self, name: str, source: Path, sha256: str) -> None:
        try:
            size = source.stat().st_size
        except OSError as error:
            raise VaultError(f"{source} cannot be read: {error.strerror}") from None
        if not self._compared:
            self.head()
        line = {"op": "put", "name": name, "size": size, "sha256": sha256}
        answer = self._ask(line, name)
        if answer.get("go"):
            self._send(name, source, size)
            answer = self._answer(name)
        if names.MANIFEST.fullmatch(name):
            self._receipts[name] = self._witnessed(name, sha256, answer)

    def receipt(self, manifest: str) -> tuple[bytes, bytes] | None:
        return self._receipts.get(manifest)

    def head(self) -> dict[str, Any]:
        """What the receiver says of itself: ``head`` (the name of the newest manifest, empty for
        none) and its ``sha256``, ``archives`` (whether it takes them), its ``time``, ``free``
        bytes, ``faults``. :class:`VaultError` where the clocks of both hosts differ.
        """
        found = self._ask({"op": "head"}, "its state")
        try:
            there = names.parsed(str(found.get("time")))
        except ValueError:
            raise VaultError(f"{self._who} does not tell its time") from None
        clocks.compare(self._who, there, self.now())
        self._compared = True
        return found

    def checked(self, deep: bool = True) -> tuple[bytes, bytes]:
        """A check of all snapshots made by the receiver's host (``verify.Report.as_dict`` as JSON),
        and that host's signature, which was verified; ``deep`` reads the archives.
        """
        body, answer = self._whole({"op": "verify", "deep": deep})
        signature = str(answer.get("signature", "")).encode()
        try:
            sshsig.verify(body, signature, _REPORTS, [self._settings["receiver"]])
        except Unverified as error:
            raise VaultError(f"{self._who}: the report of its check {error}") from None
        return body, signature

    def faults(self) -> list[str]:
        head = self.head()
        found = [f"{self._who}: {fault}" for fault in head.get("faults", ())]
        if self._settings.get("archives", True) and not head.get("archives"):
            found.append(f"{self._who} is a witness: its receiver takes no archives")
        return found

    def close(self) -> None:
        if self._session:
            self._session.end()
        self._session = None

    def _send(self, name: str, source: Path, size: int) -> None:
        assert self._session is not None
        sent = 0
        try:
            for piece in pieces(source):
                sent += len(piece)
                self._session.wire.write(piece)
        except Broken as error:
            # A receiver that refuses in the middle says why before it ends.
            with contextlib.suppress(Broken):
                self._understood(name, self._session.wire.receive())
            raise self._failed(name, error) from None
        finally:
            if sent != size:
                self.close()
        if sent != size:
            raise VaultError(f"{self._who} was sent {sent} of {size} bytes: {source} has changed")

    def _ask(self, line: Mapping[str, Any], what: str) -> dict[str, Any]:
        """The answer to a line, through a new session if there is none."""
        try:
            session = self._ready()
            session.wire.send(line)
        except Broken as error:
            if self._session:
                with contextlib.suppress(Broken):
                    self._understood(what, self._session.wire.receive())
            raise self._failed(what, error) from None
        return self._answer(what)

    def _answer(self, what: str) -> dict[str, Any]:
        assert self._session is not None
        try:
            while (answer := self._session.wire.receive()) == {"busy": True}:
                pass
        except Broken as error:
            raise self._failed(what, error) from None
        return self._understood(what, answer)

    def _understood(self, what: str, answer: dict[str, Any]) -> dict[str, Any]:
        if not answer:
            raise self._failed(what, Broken("ended the session"))
        if answer.get("ok") is True:
            return answer
        text = str(answer.get("text", "no reason given"))
        if answer.get("kind") == "absent":
            raise FileNotFoundError(f"{self._who}: {text}")
        raise _KINDS.get(str(answer.get("kind")), VaultError)(f"{self._who}: {text}")

    def _whole(self, line: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
        answer = self._ask(line, str(line["op"]))
        size = self._size(answer)
        if size > _LARGEST:
            raise VaultError(f"{self._who} answers with {size} bytes, more than is believed")
        data = bytearray()
        try:
            while len(data) < size and self._session:
                data += self._session.wire.read(size - len(data))
        except Broken as error:
            raise self._failed(str(line["op"]), error) from None
        return bytes(data), answer

    def _size(self, answer: Mapping[str, Any]) -> int:
        size = answer.get("size")
        if type(size) is not int or size < 0:
            raise VaultError(f"{self._who} answers without a size, but with {size!r}")
        return size

    def _witnessed(self, name: str, sha256: str, answer: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """The receipt in an answer, if it is the pinned receiver's and for this manifest."""
        text, signature = (str(answer.get(key, "")).encode() for key in ("receipt", "signature"))
        try:
            found = receipts.read(
                receipts.Receipt, name, text, signature, [self._settings["receiver"]]
            )
        except Unverified as error:
            raise VaultError(f"{self._who}: its receipt for {error}") from None
        if (found.instance, found.manifest) != (self._instance, sha256):
            raise VaultError(f"{self._who}: its receipt for {name} is for another manifest")
        return text, signature

    def _ready(self) -> Session:
        """A session in which nothing is left over; what was not read of an object is lost."""
        left, self._body = self._body.left, _Body(0)
        if left > DRAINED:
            self.close()
        while self._session and left:
            left -= len(self._session.wire.read(left))
        if self._session is None:
            self._session = Session(
                self._who, self.program, self._settings, self._timeout,
                config.TRANSPORT_KEY, _COMMAND,
            )  # fmt: skip
        return self._session

    def _failed(self, what: str, error: Broken) -> VaultError:
        """Ends the session; the error says what ssh says, or what went wrong here."""
        session, self._session = self._session, None
        status, said = session.end() if session else (None, "")
        settings, last = self._settings, (said.splitlines() or [""])[-1]
        for pattern, sentence in _DENIED:
            if re.search(pattern, said):
                words = sentence.format(key=config.TRANSPORT_KEY, user=settings["user"])
                return VaultError(f"{self._who} ({settings['host']}) {words}")
        away = status in (None, 0, _GONE, Unreachable.code) or status < 0
        if away or isinstance(error, Silent):
            text = f"{self._who} ({settings['host']}) {error}, {what}"
            return Unreachable(f"{text}: {last}" if last else text)
        return VaultError(f"{self._who} ({settings['host']}) failed, {what}: {last or status}")


class _Body:
    """What follows an answer: ``left`` bytes of it have not been read."""

    def __init__(self, left: int):
        self.left = left

    def read(self, wire: Wire, most: int) -> bytes:
        data = wire.read(min(most, self.left))
        self.left -= len(data)
        return data

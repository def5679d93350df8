"""What runs on a vault host for a client that logs in by ssh: takes new objects, countersigns.

The client speaks first; every line of it is answered by one line (see :mod:`vaults.wire`)::

    {"op": "head"}                        the newest manifest, time, free bytes, what is wrong
    {"op": "names"}                       every object
    {"op": "get", "name"}                 one; archives only for a client with ``read``
    {"op": "put", "name", "size", "sha256"}    "go", then the bytes; "have" if it is there already
    {"op": "verify", "deep"}              a check of all snapshots by this host, signed

A manifest is accepted only if the client's signer made it, it continues the chain, is not from the
future, and all its archives are here. Then a receipt says so, with this host's own time and
signature. A report is accepted only if one of ``drill_keys`` signed it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import stat
import syslog
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from rocksalt.backup import config, manifest, names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import BackupError, Taken, Unreachable, Unverified, VaultError
from rocksalt.backup.proof import receipts, verify
from rocksalt.backup.vaults import Stored, disks, retention
from rocksalt.backup.vaults.content import CHUNK
from rocksalt.backup.vaults.file import MARKER, FileVault, Store, explained, taken, uploadable
from rocksalt.backup.vaults.intake import REPORTS, Intake, newest
from rocksalt.backup.vaults.wire import Broken, Wire

Clock = Callable[[], dt.datetime]
Line = Mapping[str, Any]

IDLE = 300.0
"""Seconds without a byte after which a client is taken for gone."""
_ALIVE = 5.0
"""Seconds after which a client that waits is told that work goes on."""
_HASH = re.compile(r"[0-9a-f]{64}")
_KINDS: tuple[tuple[type[BackupError], str], ...] = (
    (Taken, "taken"),
    (Unreachable, "unreachable"),
    (BackupError, "refused"),
)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def serve(
    settings: Mapping[str, Any], client: str, stdin: BinaryIO, stdout: BinaryIO, now: Clock = _now
) -> None:
    """Serves one session of a client named in ``settings["receiver"]["clients"]`` until it ends.

    ``stdin`` and ``stdout`` need file descriptors, and nothing may have been read of them.
    ``settings`` are the whole settings of this host. :class:`BackupError` if they do not allow to
    serve this client, :class:`Unreachable` if it went away; all else the client is told.
    """
    wire = Wire(stdin.fileno(), stdout.fileno(), IDLE)
    try:
        try:
            desk = _Desk(settings, client, wire, now)
        except BackupError as error:
            wire.send(_refusal(error))
            raise
        while line := wire.receive():
            desk.answer(line)
    except Broken as error:
        raise Unreachable(f"the client {client} {error}") from None


def _refusal(error: BackupError) -> Line:
    kind = next(kind for type_, kind in _KINDS if isinstance(error, type_))
    return {"ok": False, "kind": kind, "text": str(error)}


class _Desk:
    """One client's session."""

    def __init__(self, settings: Mapping[str, Any], client: str, wire: Wire, now: Clock):
        self._settings, self._wire, self._now = settings, wire, now
        self._receiver = settings.get("receiver") or {}
        if client not in self._receiver.get("clients", {}):
            raise BackupError(f"{config.TOP}:receiver:clients has no {client!r}")
        self._name, self._client = client, self._receiver["clients"][client]
        self._instance = self._client["instance"]
        self._path = _checked(self._receiver)
        self._signer = sshsig.Signer.load(config.SIGNING_KEY)
        self._store = Store(self._path, self._instance, self._alive)
        self._intake = Intake(self._store, settings, client, now)
        self._told = time.monotonic()
        self._sending = False

    def answer(self, line: Line) -> None:
        """Does what one line asks for; a refusal is told to the client."""
        operations = {
            "head": self._head, "names": self._names, "get": self._get, "put": self._put,
            "verify": self._verify,
        }  # fmt: skip
        try:
            operation = operations.get(str(line.get("op")))
            if operation is None:
                raise VaultError(f"the receiver knows no operation {line.get('op')!r}")
            with explained("the receiver", str(line.get("name", self._path))):
                operation(line)
        except BackupError as error:
            syslog.syslog(syslog.LOG_WARNING, f"backup client {self._name} refused: {error}")
            self._wire.send(_refusal(error))
            if self._sending:
                raise Broken("was refused while it sent") from None

    def _alive(self) -> None:
        if time.monotonic() - self._told > _ALIVE:
            self._told = time.monotonic()
            self._wire.send({"busy": True})

    def _head(self, _: Line) -> None:
        head = newest(self._store.names())
        disk = os.statvfs(self._path)
        self._wire.send(
            {
                "ok": True,
                "head": head,
                "sha256": self._store.digest(head) if head else "",
                "time": names.utc(self._now()),
                "archives": self._client.get("archives", True),
                "free": disk.f_bavail * disk.f_frsize,
                "faults": _faults(self._path),
            }
        )

    def _names(self, _: Line) -> None:
        there = {name: [it.size, it.received] for name, it in self._store.names().items()}
        self._give(json.dumps(there).encode("ascii"))

    def _give(self, body: bytes, **more: Any) -> None:
        self._wire.send({"ok": True, "size": len(body), **more})
        self._wire.write(body)

    def _get(self, line: Line) -> None:
        name = str(line.get("name"))
        if names.ARCHIVE.fullmatch(name) and not self._client.get("read"):
            raise VaultError(f"the receiver lets {self._name} read no archive, so not {name}")
        try:
            descriptor = self._store.descriptor(name)
        except FileNotFoundError:
            self._wire.send({"ok": False, "kind": "absent", "text": f"{name} is not there"})
            return
        with open(descriptor, "rb") as file:
            left = os.fstat(descriptor).st_size
            self._wire.send({"ok": True, "size": left})
            while left:
                try:
                    data = file.read(min(left, CHUNK))
                except OSError as error:
                    raise Broken(f"cannot be given {name}: {error.strerror}") from None
                if not data:
                    raise Broken(f"cannot be given {name}: it became shorter")
                self._wire.write(data)
                left -= len(data)

    def _verify(self, line: Line) -> None:
        settings = {"path": self._path, "allow_unencrypted": True}
        clients = self._receiver["clients"].values()
        same = [it for it in clients if it["instance"] == self._instance]
        pins = verify.Pins(
            self._instance,
            tuple(sorted({it["signer"] for it in same if "signer" in it})),
            self._settings.get("authority", ""),
            (self._signer.public,),
            tuple(self._settings.get("drill_keys", ())),
        )
        report = verify.check(
            FileVault("receiver", settings, self._instance),
            pins,
            self._now(),
            deep=line.get("deep") is not False,
            progress=lambda *_: self._alive(),
            archives=all(it.get("archives", True) for it in same if "signer" in it),
        )
        body = manifest.canonical(report.as_dict())
        self._give(body, signature=self._signer.sign(body, REPORTS).decode("ascii"))

    def _put(self, line: Line) -> None:
        name, size, sha256 = _announced(line)
        with self._store.locked():
            there = self._store.names()
            have = name in there
            if not have:
                self._intake.admit(name, size, there)
                self._wire.send({"ok": True, "go": True})
                self._sending = True
                self._take(name, size, sha256, there)
            elif self._store.digest(name) != sha256:
                raise taken("the receiver", name)
            receipt = self._receipt(name) if names.MANIFEST.fullmatch(name) else {}
            self._wire.send({"ok": True, **receipt})
            if not have:
                self._prune(name)

    def _take(self, name: str, size: int, sha256: str, there: Mapping[str, Stored]) -> None:
        """Reads what the client sends, and adds it if it is as it has to be."""
        received = self._now().timestamp()
        if names.ARCHIVE.fullmatch(name):
            self._store.add(name, self._arriving(size), sha256, received)
            return
        data = b"".join(self._arriving(size))
        try:
            self._intake.judge(name, data, there)
        except Unverified as error:
            # So that the right one can come: a signature counts for nothing without what it signs.
            with contextlib.suppress(FileNotFoundError):
                self._store.remove(name + names.SIGNATURE)
            raise Unverified(f"the receiver did not take {name}: it {error}") from None
        self._store.add(name, [data], sha256, received)

    def _arriving(self, size: int) -> Iterator[bytes]:
        while size:
            data = self._wire.read(size)
            size -= len(data)
            self._sending = size > 0
            yield data
        self._sending = False

    def _receipt(self, name: str) -> dict[str, str]:
        """What this host says of a manifest; for one that was there already, what it said then."""
        own = name.removesuffix(".json") + names.RECEIPT
        try:
            text = self._store.read(own, manifest.LARGEST)
            signature = self._store.read(own + names.SIGNATURE, manifest.LARGEST)
        except FileNotFoundError:
            received = dt.datetime.fromtimestamp(
                self._store.names()[name].received or 0, dt.timezone.utc
            )
            text = receipts.write(
                receipts.Receipt(
                    self._instance, int(name[:8]), self._store.digest(name),
                    names.utc(received), self._signer.public,
                )
            )  # fmt: skip
            signature = retention.countersign(self._store, self._signer, own, text, self._now())
        return {"receipt": text.decode("ascii"), "signature": signature.decode("ascii")}

    def _prune(self, name: str) -> None:
        """After what came; it is taken, so what fails here is for this host's administrator."""
        try:
            if names.MANIFEST.fullmatch(name):
                retention.prune(self._store, self._signer, self._receiver.get("keep"), self._now())
            elif names.REPORT.fullmatch(name.removesuffix(names.SIGNATURE)):
                retention.prune_reports(self._store)
        except (OSError, BackupError) as error:
            syslog.syslog(syslog.LOG_ERR, f"backup retention of {self._store.folder}: {error}")


def _announced(line: Line) -> tuple[str, int, str]:
    name, size, sha256 = line.get("name"), line.get("size"), line.get("sha256")
    if not isinstance(name, str) or not uploadable(name):
        raise VaultError(f"the receiver takes no object named {str(name)[: names.LONGEST]!r}")
    if type(size) is not int or size < 0:
        raise VaultError(f"the receiver needs the size of {name} in bytes, not {size!r}")
    if not isinstance(sha256, str) or not _HASH.fullmatch(sha256):
        raise VaultError(f"the receiver needs the SHA-256 of {name} in hexadecimal")
    return name, size, sha256


def _checked(receiver: Mapping[str, Any]) -> str:
    """The folder of the store, if it can be trusted with anything."""
    path, where = str(receiver["path"]), f"{config.TOP}:receiver:path"
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise BackupError(f"{where}: {path} cannot be used: {error.strerror}") from None
    if not stat.S_ISDIR(mode) or mode & 0o022:
        raise BackupError(f"{where}: {path} has to be a folder that others cannot write to")
    if not os.path.lexists(os.path.join(path, MARKER)):
        raise Unreachable(
            f"{where}: {path} has no {MARKER}, as the store has: its disk is not mounted"
        )
    if not receiver.get("allow_unencrypted") and not disks.encrypted(path):
        raise BackupError(
            f"{where}: {path} is on no encrypted disk: mount one there, or set allow_unencrypted"
        )
    return path


def _faults(path: str) -> list[str]:
    if os.geteuid() == 0:
        return [f"the receiver of {path} runs as root: give it a user of its own"]
    return []

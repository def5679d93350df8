"""A receiver in a thread of this process, and the client's end of its session."""

from __future__ import annotations

import datetime as dt
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from backup_chain import World

from rocksalt.backup import config
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import BackupError
from rocksalt.backup.manifest import Manifest, digest
from rocksalt.backup.vaults import receiver
from rocksalt.backup.vaults.file import MARKER
from rocksalt.backup.vaults.ssh import SshVault
from rocksalt.backup.vaults.wire import Wire


class VaultHost:
    """A host that is a vault for the clients ``salt1`` (a master) and ``drill`` (which reads)."""

    def __init__(self, folder: Path, world: World, monkeypatch: pytest.MonkeyPatch):
        self.path = folder / "vault"
        self.path.mkdir(mode=0o700)
        (self.path / MARKER).touch()
        self.public = sshsig.generate(folder / "signing")
        monkeypatch.setattr(config, "SIGNING_KEY", str(folder / "signing"))
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)
        self.clock = world.now
        monkeypatch.setattr(SshVault, "now", lambda _: self.clock)
        self.world = world
        self.settings: dict[str, Any] = {
            "authority": world.authority.public,
            "drill_keys": [world.reporter.public],
            "receiver": {
                "path": str(self.path),
                "allow_unencrypted": True,
                "clients": {
                    "salt1": {"instance": "salt1", "key": "x", "signer": world.key.public},
                    "drill": {"instance": "salt1", "key": "y", "read": True},
                },
            },
        }
        self.ended: list[BackupError | None] = []
        self._threads: list[threading.Thread] = []

    @property
    def objects(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in (self.path / "salt1").iterdir()}

    def client(self, name: str = "salt1", **changes: Any) -> None:
        self.settings["receiver"]["clients"][name].update(changes)

    def session(self, client: str = "salt1") -> Session:
        return Session(self, client)

    def serve(self, client: str, source: int, target: int) -> None:
        with os.fdopen(source, "rb") as stdin, os.fdopen(target, "wb") as stdout:
            try:
                receiver.serve(self.settings, client, stdin, stdout, lambda: self.clock)
            except BackupError as error:
                self.ended.append(error)
            else:
                self.ended.append(None)

    def tick(self, **much: float) -> None:
        self.clock += dt.timedelta(**much)


class Session:
    """A client's end; with :meth:`end`, what ssh's own session has for a vault."""

    def __init__(self, host: VaultHost, client: str):
        source, self._target = os.pipe()
        self._source, target = os.pipe()
        self._thread = threading.Thread(
            target=host.serve, args=(client, source, target), daemon=True
        )
        self._thread.start()
        self.wire = Wire(self._source, self._target, 10)

    def ask(self, **line: Any) -> dict[str, Any]:
        self.wire.send(line)
        return self.wire.receive()

    def put(self, name: str, data: bytes, **lies: Any) -> dict[str, Any]:
        line = {"op": "put", "name": name, "size": len(data), "sha256": digest(data), **lies}
        answer = self.ask(**line)
        if answer.get("go"):
            self.wire.write(data)
            answer = self.wire.receive()
        return answer

    def body(self, **line: Any) -> bytes:
        size, data = self.ask(**line)["size"], b""
        while len(data) < size:
            data += self.wire.read(size - len(data))
        return data

    def end(self) -> tuple[int | None, str]:
        os.close(self._target)
        os.close(self._source)
        self._thread.join(10)
        assert not self._thread.is_alive()
        return 0, ""


def put_all(session: Session, world: World, found: Manifest) -> dict[str, Any]:
    """Puts a snapshot of the world's own vault, as a master does; the last answer."""
    objects = world.vault.objects
    order = [archive.name for archive in found.archives.values()]
    for name in [*order, found.name + ".sig"]:
        assert session.put(name, objects[name]) == {"ok": True}
    return session.put(found.name, objects[found.name])

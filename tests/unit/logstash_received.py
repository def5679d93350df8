"""A log server in a folder: lines that arrive, its keys, and a witness to talk to."""

from __future__ import annotations

import datetime as dt
import json
import os
import threading
from pathlib import Path
from typing import Any

from rocksalt.backup.crypto import sshsig
from rocksalt.backup.vaults.wire import Wire
from rocksalt.logstash.receiving import begins, evidence, heads, remote, store, verify, witness

NOW = dt.datetime(2026, 11, 23, 4, 20, 0, 123456, dt.timezone.utc)
DAY = dt.timedelta(days=1)


def event(number: int = 1, host: str = "web1", **more: Any) -> str:
    """What a host sends."""
    return json.dumps({"event": {"id": f"id-{number}"}, "host": {"name": host}, **more})


class Session:
    """In place of ssh: the witness in a thread, through pipes."""

    def __init__(self, server: Server):
        there, to = os.pipe()
        back, answers = os.pipe()
        self.wire = Wire(back, to, 5)
        self._ends = (to, back)
        self._thread = threading.Thread(target=self._serve, args=(server, there, answers))
        self._thread.start()

    def _serve(self, server: Server, there: int, answers: int) -> None:
        with open(there, "rb", 0) as stdin, open(answers, "wb", 0) as stdout:
            witness.serve(
                server.witness_settings, "logs1", server.witness_key, stdin, stdout,
                lambda: server.witness_time,
            )  # fmt: skip

    def end(self) -> tuple[int | None, str]:
        for end in self._ends:
            os.close(end)
        self._thread.join()
        return 0, ""


class Server:
    """The log server logs1 with a witness; ``time`` is what both clocks show."""

    def __init__(self, folder: Path, monkeypatch: Any):
        self.folder, self.path = folder, folder / "logs"
        self.path.mkdir()
        (folder / "witness").mkdir()
        self.time = self.witness_time = NOW
        self.public = sshsig.generate(folder / "signing")
        self.witness_public = sshsig.generate(folder / "witness-signing")
        self.witness_key = str(folder / "witness-signing")
        self.signer = sshsig.Signer.load(folder / "signing")
        self.away = False
        self.settings: dict[str, Any] = {
            "name": "logs1", "path": str(self.path), "hosts": {"web1": 2601}, "days": 400,
            "witness": {
                "host": "w", "port": 22, "user": "u", "host_key": "x", "key": self.witness_public
            },
        }  # fmt: skip
        self.witness_settings = {
            "name": "witness1", "path": str(folder / "witness"),
            "clients": {"logs1": {"key": "x", "signer": self.public}},
        }  # fmt: skip
        monkeypatch.setattr(remote, "Session", lambda *_: Session(self))

    @property
    def witnessed(self) -> Path:
        """What the witness has of us."""
        return self.folder / "witness" / "logs1"

    def store(self, **more: Any) -> store.Store:
        return store.Store(self.path, self.settings["hosts"], more, lambda: self.time)

    def receive(self, count: int, host: str = "web1") -> None:
        """So many lines, and the writer ends."""
        kept = self.store()
        for number in range(count):
            kept.take(host, event(number, host))
        kept.sync()

    def file(self, day: str = "2026-11-23", host: str = "web1") -> Path:
        return self.path / host / f"{day}.jsonl"

    def lines(self, day: str = "2026-11-23") -> list[bytes]:
        return self.file(day).read_bytes().splitlines(keepends=True)

    def connect(self) -> remote.Witness:
        if self.away:
            raise remote.Away("the witness w is away")
        return remote.Witness(self.settings["witness"], "logs1", "key")

    def heads(self) -> str:
        """What the timer does."""
        status = self.folder / "heads.json"
        return heads.run(self.settings, self.signer, status, self.connect, lambda: self.time)

    def status(self) -> Any:
        return json.loads((self.folder / "heads.json").read_bytes())

    def evidence(self) -> evidence.Evidence:
        there = self.connect()
        try:
            return evidence.gather(
                there.records(), "logs1", self.public, self.witness_public,
                begins.numbers(self.path, self.public),
            )  # fmt: skip
        finally:
            there.close()

    def verify(self, seen: evidence.Evidence | None = None, only: str = "") -> dict[str, Any]:
        return verify.check(self.settings, self.public, seen, only, lambda: self.time)

    def problems(self, seen: evidence.Evidence | None = None) -> list[str]:
        found = self.verify(seen)
        each = [f"{host}: {text}" for host, it in found["hosts"].items() for text in it["problems"]]
        assert found["ok"] is (not each and not found["problems"])
        return [*each, *found["problems"]]

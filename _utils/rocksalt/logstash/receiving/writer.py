"""What rsyslog hands every line to (omprog with confirmMessages): one JSON object a line on
standard input, ``OK`` on standard output once it is in the chain of its host, or what went wrong;
then rsyslog asks again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import syslog
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from rocksalt.backup.manifest import canonical
from rocksalt.errors import RocksaltError
from rocksalt.logstash.receiving import files
from rocksalt.logstash.receiving.store import Store, Unsynced

EVERY = 1.0
"""Seconds after which what was taken is on the disk, and the status tells of it."""
_KNOWN = {
    **{"n": int, "hash": str, "received": str, "synced": int, "bytes_today": int},
    "duplicates": int,
}
_FLAGS = {"host": int, "json": int, "last_flagged": str}
_QUIET = 60.0
"""Seconds for which the same trouble is not told again, and the status may stay as it is."""


def run(settings: Mapping[str, Any], status: Path, source: BinaryIO, target: int) -> None:
    """Takes lines until ``source`` ends. ``settings`` are those in receiver.json, ``status`` is the
    file that tells how it goes, ``target`` a descriptor for the answers.
    """
    path = Path(settings["path"])
    lock = files.locked(path)
    store = Store(path, settings["hosts"], _before(status))
    # The end is that of the source: rsyslog takes its time to hand over what it has.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    keeper = _Keeper(store, status)
    keeper.start()
    told = _Told()
    try:
        os.write(target, b"OK\n")
        for line in source:
            os.write(target, answer(store, line, told.tell))
    except Unsynced as error:
        _stop(error)
    finally:
        keeper.end()
        os.close(lock)


def answer(store: Store, line: bytes, tell: Any) -> bytes:
    """Takes one line; what rsyslog is to be told. :class:`Unsynced` ends the writer."""
    try:
        said = json.loads(line.decode(errors="surrogateescape"))
        store.take(said["from"], said["raw"])
    except Unsynced:
        raise
    except (OSError, RocksaltError, ValueError, KeyError, TypeError) as error:
        sentence = " ".join(f"a line was not kept and is tried again: {error}".split())
        tell(sentence)
        return f"Error: {sentence}\n".encode(errors="replace")
    return b"OK\n"


class _Told:
    """Troubles in the host's own log, each once a minute."""

    def __init__(self) -> None:
        self._last = ("", 0.0)

    def tell(self, sentence: str) -> None:
        """Says it unless it was said just now."""
        before, when = self._last
        if sentence != before or time.monotonic() - when > _QUIET:
            self._last = (sentence, time.monotonic())
            syslog.syslog(syslog.LOG_ERR, sentence)


class _Keeper(threading.Thread):
    """Brings what was taken to the disk, and writes the status."""

    def __init__(self, store: Store, status: Path):
        super().__init__(daemon=True)
        self._store, self._status = store, status
        self._ended = threading.Event()
        self._written = 0.0

    def run(self) -> None:
        """Until :meth:`end`."""
        while not self._ended.wait(EVERY):
            self._keep()

    def end(self) -> None:
        """Once more, and no more."""
        self._ended.set()
        self.join()
        self._keep()

    def _keep(self) -> None:
        young = time.monotonic() - self._written < _QUIET
        if not self._store.dirty and young and self._status.exists():
            return
        try:
            self._store.sync()
        except Unsynced as error:
            _stop(error)
        self._written = time.monotonic()
        with contextlib.suppress(OSError):
            files.replace(self._status, canonical(self._store.status()))


def _stop(error: Unsynced) -> NoReturn:
    """Hosts were told that those lines arrived. They send the last ones again when they connect
    again, which they do when rsyslog starts anew.
    """
    syslog.syslog(syslog.LOG_CRIT, str(error))
    os.kill(os.getppid(), signal.SIGTERM)
    os._exit(1)


def _before(status: Path) -> dict[str, Any]:
    try:
        found = json.loads(status.read_bytes())
    except (OSError, ValueError):
        return {}
    hosts = found.get("hosts") if isinstance(found, dict) else None
    if not isinstance(hosts, dict):
        return {}
    return {"time": found.get("time"), "hosts": {name: _known(it) for name, it in hosts.items()}}


def _known(said: Any) -> dict[str, Any]:
    """What is known of a host, without what is not as this program writes it."""
    if not isinstance(said, dict):
        return {}
    found = _fitting(said, _KNOWN)
    if isinstance(said.get("flags"), dict):
        found["flags"] = _fitting(said["flags"], _FLAGS)
    return found


def _fitting(said: dict[str, Any], kinds: Mapping[str, type]) -> dict[str, Any]:
    return {name: said[name] for name, kind in kinds.items() if type(said.get(name)) is kind}

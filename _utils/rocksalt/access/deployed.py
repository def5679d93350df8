"""Records of deploys: one file an app, and a lock that one deploy at a time holds.

A record says ``running`` until its deploy is over. Where nobody holds the lock for it any more, the
deploy was ended from outside, and nobody knows how far it came: ``interrupted``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rocksalt.access.deploys import NAME
from rocksalt.errors import NoSuch, Refused
from rocksalt.host import Host

OK, FAILED, RUNNING, INTERRUPTED = "ok", "failed", "running", "interrupted"
UNREADABLE = "unreadable"
_LOCK = "lock"
_TRIES, _PAUSE = 5, 0.1
"""Who looks whether the lock is held has it for a moment."""


class Records:
    """Those of a host, below ``folder``."""

    def __init__(self, host: Host, folder: str):
        self.host = host
        self.folder = folder

    def path(self, app: str) -> str:
        return f"{self.folder}/{app}.json"

    def read(self, app: str) -> dict[str, Any] | None:
        """As it stands; None where there is none, :class:`Refused` where it is none of ours."""
        text = self.host.read(self.path(app))
        if text is None:
            return None
        try:
            found = json.loads(text)
            if {found[key].__class__ for key in ("app", "version", "status", "started")} == {str}:
                return dict(found)
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise Refused(f"{self.path(app)} is damaged; the next deploy of {app} writes it anew")

    def write(self, record: Mapping[str, Any]) -> None:
        text = json.dumps(record, indent=1, sort_keys=True)
        self.host.write(self.path(record["app"]), f"{text}\n", mode="0600")

    @contextlib.contextmanager
    def kept(self, app: str) -> Iterator[None]:
        """The record is again what it was where a deploy is refused meanwhile."""
        before = self.host.read(self.path(app))
        try:
            yield
        except Refused:
            if before is None:
                self.host.remove(self.path(app))
            else:
                self.host.write(self.path(app), before, mode="0600")
            raise

    def previous(self, app: str) -> str | None:
        """The version that was last deployed with success, where that is known."""
        try:
            found = self.read(app)
        except Refused:
            return None
        version = found and found.get("version" if found["status"] == OK else "previous")
        return str(version) if version else None

    @contextlib.contextmanager
    def alone(self, about: Mapping[str, Any]) -> Iterator[None]:
        """Nobody else deploys meanwhile, whatever the app; :class:`Refused` says who does."""
        self._make_folder()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        handle = os.open(self._lock, flags, 0o600)
        try:
            if not _locked(handle):
                raise Refused(f"{_who(_content(handle))}: nothing was done, try again later")
            try:
                _tell(handle, json.dumps(about).encode())
                yield
            finally:
                _tell(handle, b"")
                # A process that a state left behind may have the file open as well.
                fcntl.flock(handle, fcntl.LOCK_UN)
        finally:
            os.close(handle)

    def holder(self) -> dict[str, Any] | None:
        """What the deploy that is under way says about itself; None where there is none."""
        try:
            handle = os.open(self._lock, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _content(handle)
        finally:
            os.close(handle)
        return None

    def status(self, app: str = "") -> dict[str, dict[str, Any]]:
        """App -> its record, of all that there are or of one: :class:`NoSuch` where that has
        none.
        """
        paths = self.host.glob(f"{self.folder}/*.json")
        apps = [name for name in (Path(it).stem for it in paths) if NAME.fullmatch(name)]
        if app and app not in apps:
            raise NoSuch(f"app: no deploy of {app!r} is on record here")
        return {it: self._status(it) for it in apps if it == app or not app}

    def _status(self, app: str) -> dict[str, Any]:
        try:
            found = self.read(app) or {}
            if found.get("status") != RUNNING or (self.holder() or {}).get("app") == app:
                return found
            # It may have ended, and written so, since its record was read.
            again = self.read(app) or {}
        except Refused as error:
            return {"app": app, "status": UNREADABLE, "reason": str(error)}
        if again != found:
            return again
        reason = "it was ended from outside; what it had done by then is not known"
        return {**found, "status": INTERRUPTED, "reason": reason}

    @property
    def _lock(self) -> Path:
        return self.host.path(f"{self.folder}/{_LOCK}")

    def _make_folder(self) -> None:
        folder = self.host.path(self.folder)
        folder.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)


def _locked(handle: int) -> bool:
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def _tell(handle: int, text: bytes) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, text, 0)


def _content(handle: int) -> dict[str, Any]:
    """Empty while its holder comes or goes."""
    try:
        found = json.loads(os.pread(handle, 65_536, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _who(about: Mapping[str, Any]) -> str:
    if not about:
        return "another deploy is under way"
    by = f" by {about['user']}" if about.get("user") else ""
    job = f", job {about['jid']}" if about.get("jid") else ""
    return f"{about['app']} {about['version']} is being deployed{by} since {about['started']}{job}"

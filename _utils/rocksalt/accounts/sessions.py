"""Who is on the host right now: sessions of systemd-logind and owners of running processes."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass

from rocksalt.host import Host

_SESSIONS = "/run/systemd/sessions"


@dataclass(frozen=True)
class Live:
    """UIDs that have a session, and UIDs that have a process."""

    sessions: frozenset[int] = frozenset()
    processes: frozenset[int] = frozenset()


def read(host: Host) -> Live:
    """Looks at files only; no program is run for it. A session that ends meanwhile is left out."""
    return Live(frozenset(_sessions(host)), frozenset(_owners(host)))


def _sessions(host: Host) -> list[int]:
    """The files beside the sessions are pipes, which must not be read."""
    paths = [path for path in host.glob(f"{_SESSIONS}/*") if host.path(path).is_file()]
    texts = [host.read(path) or "" for path in paths]
    return [int(uid) for text in texts for uid in re.findall(r"^UID=(\d+)$", text, re.MULTILINE)]


def _owners(host: Host) -> set[int]:
    found = set()
    with os.scandir(host.path("/proc")) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.name.isdigit():
                    found.add(entry.stat().st_uid)
    return found

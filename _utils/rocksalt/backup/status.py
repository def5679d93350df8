"""What the last runs did, in one small file that agents and checks only read.

::

    {"schema": 1, "instance": "master1", "time": "2026-11-22T13:00:42Z",
     "snapshot": {"time": ..., "tried": ..., "code": 0, "sequence": 12, "kind": "full",
                  "started": ..., "finished": ..., "next": ..., "reason": "", "warnings": [],
                  "vaults": {"far": {"sequence": 12, "time": ..., "error": "", "receipt": ...,
                                     "faults": []}},
                  "archives": {"operator": {"size": 1, "files": 1, "bytes": 1, "changed": 1}},
                  "before": {...}},
     "verify": {"time": ..., "code": 0, "problems": [],
                "vaults": {"far": {"code": 0, "problems": [], "newest": {"sequence": 12, ...},
                                   "unwitnessed_since": None, "seen": [12, "SHA-256"], ...}}},
     "drill": {"time": ..., "code": 0, "rto": 40, "rpo": 3600, "host": "drill1", "sequence": 12,
               "steps": {"fetch": "ok", ...}, "problems": []}}

``snapshot`` speaks of the newest snapshot, which was begun at ``time``; ``code`` and ``reason`` of
the last run, which was ``tried`` later where it took none. Times are UTC, sizes bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt.backup.errors import BackupError
from rocksalt.host import Host

SCHEMA = 1
PATH = "/var/lib/rocksalt/backup-status.json"
_NEEDED = ("fetch", "compare", "keys", "master")
"""The steps without which a drill shows nothing."""


def read(path: str = PATH) -> dict[str, Any]:
    """The status; empty where no run has written one yet. :class:`BackupError` where the file
    cannot be understood.
    """
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BackupError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise BackupError(f"{path} is no backup status of schema {SCHEMA}")
    return value


def section(name: str, instance: str, path: str = PATH) -> dict[str, Any]:
    """One section of the status; empty where there is none, or only one of another instance."""
    with contextlib.suppress(BackupError):
        status = read(path)
        found = status.get(name) if status.get("instance") == instance else None
        return dict(found) if isinstance(found, dict) else {}
    return {}


def sequence(instance: str, path: str = PATH) -> int:
    """The number of the newest snapshot that the status tells of; 0 without one."""
    found = section("snapshot", instance, path).get("sequence", 0)
    return found if isinstance(found, int) else 0


def update(
    section: str, value: Mapping[str, Any], instance: str, now: str, path: str = PATH
) -> dict[str, Any]:
    """Replaces one section (``snapshot``, ``verify`` or ``drill``) in one step and keeps the
    others, also when two runs write at the same time. A file that cannot be understood is replaced,
    and so is one of another instance.

    ``now`` is the time as ``2026-11-22T13:00:00Z``. Returns the whole status.
    """
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with _alone(path):
        try:
            status = read(path)
        except BackupError:
            status = {}
        if status.get("instance") != instance:
            status = {}
        status.update({"schema": SCHEMA, "instance": instance, "time": now, section: dict(value)})
        _replace(path, json.dumps(status, indent=1, sort_keys=True) + "\n")
    return status


def unseen(verify: Mapping[str, Any]) -> list[str]:
    """The vaults in which the last check, a section of the status, saw no snapshot at all."""
    return sorted(
        name for name, entry in verify.get("vaults", {}).items() if not entry.get("newest")
    )


def untried(drill: Mapping[str, Any]) -> list[str]:
    """The steps that a drill, a section of the status, needs for a good end and did not take."""
    steps = drill.get("steps", {})
    return [name for name in _NEEDED if steps.get(name) != "ok"]


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: str, text: str) -> None:
    """The new file is readable by the group of the agents from its first moment under its name."""
    Host().write(f"{path}.new", text, mode="0640")
    with contextlib.suppress(KeyError, PermissionError):
        os.chown(f"{path}.new", -1, grp.getgrnam("nagios").gr_gid)
    os.replace(f"{path}.new", path)

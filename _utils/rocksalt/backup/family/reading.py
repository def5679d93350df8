"""What a look at a host shows of its Salt master, its vault and its drills. Asks no other host."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rocksalt import systemd
from rocksalt.backup import status as statuses
from rocksalt.backup.errors import BackupError
from rocksalt.backup.vaults.file import MARKER
from rocksalt.host import Host

MASTER_UNIT = "salt-master.service"
_FILES, _LARGEST, _SECONDS = 100_000, 64 * 1024, 10.0
_IDENTITY = re.compile(rb"AGE-SECRET-KEY-(PQ-)?1[A-Z0-9]{20}", re.IGNORECASE)
_PRIVATE = re.compile(
    rb"-----BEGIN OPENSSH PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END OPENSSH PRIVATE KEY-----"
)


@dataclass(frozen=True)
class Place:
    """Whose host this is: the minion's id, the folder of Salt's configuration, Salt's interpreter
    and ``salt-run``, and of the master's options the folders in which it looks for runners and
    libraries, and what it serves.
    """

    minion: str
    config_dir: str
    interpreter: str
    salt_run: str
    runners: Sequence[str] = ()
    libraries: Sequence[str] = ()
    served: Sequence[str] = ()


def master_signs(host: Host, config_dir: str) -> list[str]:
    """Why this host is a Salt master, shortly; empty when it is none."""
    found = []
    unit = systemd.units(host, [MASTER_UNIT]).get(MASTER_UNIT, {})
    if unit.get("ActiveState") in ("active", "activating", "reloading"):
        found.append(f"{MASTER_UNIT} runs")
    if unit.get("UnitFileState") in ("enabled", "enabled-runtime"):
        found.append(f"{MASTER_UNIT} starts at boot")
    key = f"{config_dir}/pki/master/master.pem"
    if host.attributes(key, follow=False) is not None:
        found.append(f"{key} exists")
    return found


def status(host: Host) -> tuple[dict[str, Any], str]:
    """The status of the last runs, and why there is none."""
    try:
        return statuses.read(str(host.path(statuses.PATH))), ""
    except BackupError as error:
        return {}, str(error)


def secrets(host: Host, folders: Iterable[str], authority: str) -> list[str]:
    """Files that hold a key which opens snapshots, or the private half of ``authority``. Raises
    :class:`TimeoutError` where there are too many of them, or reading them takes too long.
    """
    blob = _blob(authority)
    deadline = time.monotonic() + _SECONDS
    found = []
    for number, path in enumerate(_small_files(host, folders)):
        if number >= _FILES:
            raise TimeoutError(f"the search for keys came to {path} after {_FILES} files")
        if time.monotonic() > deadline:
            raise TimeoutError(f"the search for keys came to {path} in {_SECONDS:.0f} s")
        try:
            content = host.path(path).read_bytes()
        except OSError:
            continue
        if _IDENTITY.search(content):
            found.append(f"{path} has an age identity")
        elif blob and any(blob in _decoded(key) for key in _PRIVATE.findall(content)):
            found.append(f"{path} has the private half of hardening:backup:authority")
    return found


def _small_files(host: Host, folders: Iterable[str]) -> Iterator[str]:
    for folder in dict.fromkeys(folders):
        for parent, _, names in os.walk(host.path(folder)):
            for name in names:
                path = os.path.join(parent, name)
                found = _status(path)
                if found and stat.S_ISREG(found.st_mode) and found.st_size <= _LARGEST:
                    yield path[len(host.root) :]


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _blob(public: str) -> bytes:
    """The 32 bytes of a public key of Ed25519."""
    fields = public.split(" ")
    return _decoded(fields[1].encode())[-32:] if len(fields) > 1 else b""


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()))
    except binascii.Error:
        return b""


def contents(folder: str, names: Iterable[str]) -> dict[str, bytes | None]:
    """Files below a folder."""
    return {name: _content(os.path.join(folder, name)) for name in names}


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def marked(host: Host, path: str) -> bool:
    """Whether a folder is a store."""
    return host.attributes(f"{path}/{MARKER}", follow=False) is not None


def entries(host: Host, path: str) -> list[str]:
    """What is in a folder, other than what a file system has by itself; nothing without it."""
    there = host.path(path).iterdir() if host.attributes(path) else ()
    return sorted(entry.name for entry in there if entry.name != "lost+found")


def strays(host: Host, path: str, user: str, instances: Iterable[str]) -> list[str]:
    """What lies in a store and is no object of a declared client's instance."""
    known = {*instances}
    found = []
    for entry in sorted(host.path(path).iterdir()) if host.attributes(path) else ():
        inner = f"{path}/{entry.name}"
        if entry.name in (".incoming", "lost+found", MARKER):
            continue
        if entry.name not in known or not entry.is_dir() or entry.is_symlink():
            found.append(inner)
            continue
        for item in sorted(entry.iterdir()):
            attributes = host.attributes(f"{inner}/{item.name}", follow=False)
            regular = item.is_file() and not item.is_symlink()
            if not regular or not attributes or attributes.owner != user:
                found.append(f"{inner}/{item.name}")
    return found


def as_json(value: Mapping[str, Any]) -> str:
    """JSON as our files have it."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"

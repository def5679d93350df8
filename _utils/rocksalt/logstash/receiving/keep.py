"""What happens to the files of a chain as they grow old: compressed after two days, removed after
as many as the settings say.
"""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from rocksalt.backup.crypto import sshsig
from rocksalt.errors import RocksaltError
from rocksalt.host import synchronise
from rocksalt.logstash.receiving import begins, chain, files
from rocksalt.logstash.receiving.store import Clock, now

PLAIN = 2
"""Days for which a file is left as it was written; nothing is appended to an older one."""
_LEVEL = 6
_BLOCK = 1 << 20


def daily(
    settings: Mapping[str, Any], signer: sshsig.Signer, found: Mapping[str, Any], clock: Clock = now
) -> dict[str, Any]:
    """Tidies up the hosts in whose chain ``found`` (:func:`verify.check`) has no problem: where it
    has one, all stays as it is, for whoever looks into it. The same outcome, with what went wrong.
    """
    problems = list(found["problems"])
    for host, it in found["hosts"].items():
        if not it["problems"]:
            try:
                folder = Path(settings["path"], host)
                tidy(folder, settings["days"], signer, clock().date())
            except (OSError, RocksaltError) as error:
                problems.append(f"{host}: old lines cannot be tidied up: {error}")
    return {**found, "problems": problems, "ok": found["ok"] and problems == found["problems"]}


def tidy(folder: Path, days: int, signer: sshsig.Signer, today: dt.date) -> None:
    """Removes and compresses what is old enough of the chain of a host."""
    for path in files.days(folder):
        age = (today - dt.date.fromisoformat(files.day(path))).days
        if age > days:
            _remove(path, signer)
        elif age >= PLAIN and not path.name.endswith(".gz"):
            _compress(path)


def _remove(path: Path, signer: sshsig.Signer) -> None:
    """Removes the oldest file, after where the chain begins then was signed."""
    before = begins.read(path.parent, signer.public)
    start = before.head if before else chain.Head()
    line = files.last(path)
    if line and line.head.n > start.n:
        head = line.head
        here = begins.Begins(
            path.parent.name, head.n, head.hash, head.received, start.n, start.hash
        )
        begins.write(path.parent, here, signer)
    path.unlink()
    synchronise(path.parent)


def _compress(path: Path) -> None:
    packed = path.with_name(f"{path.name}.gz")
    new = packed.with_name(f".{packed.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
    with open(descriptor, "wb") as target:
        with files.opened(path) as source, gzip.GzipFile(
            "", "wb", _LEVEL, target, mtime=0
        ) as file:  # fmt: skip
            while data := source.read(_BLOCK):
                file.write(data)
        target.flush()
        os.fsync(target.fileno())
    with files.opened(path) as source, gzip.open(new) as file:
        same = _digest(source) == _digest(file)  # type: ignore[arg-type]
    if not same:
        new.unlink()
        raise RocksaltError(f"{path} is not the same after it was compressed: it stays as it is")
    os.replace(new, packed)
    synchronise(path.parent)
    path.unlink()
    synchronise(path.parent)


def _digest(file: BinaryIO) -> bytes:
    found = hashlib.sha256()
    while data := file.read(_BLOCK):
        found.update(data)
    return found.digest()

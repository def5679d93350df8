"""What happens to the files of a chain as they grow old: compressed after two days, removed after
as many as the settings say.
"""

from __future__ import annotations

import datetime as dt
import gzip
import os
from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rocksalt.backup.crypto import sshsig
from rocksalt.errors import RocksaltError
from rocksalt.host import synchronise
from rocksalt.logstash.receiving import begins, chain, files, verify
from rocksalt.logstash.receiving.evidence import Evidence, Seen
from rocksalt.logstash.receiving.store import Clock, now

PLAIN = 2
"""Days for which a file is left as it was written; nothing is appended to an older one."""
_LEVEL = 6
_BLOCK = 1 << 20


Is = Callable[[chain.Head], bool]


def daily(
    settings: Mapping[str, Any], signer: sshsig.Signer, found: Mapping[str, Any],
    clock: Clock = now, evidence: Evidence | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Tidies up the hosts in whose chain ``found`` (:func:`verify.check`) has no problem, if there
    is none of all hosts, such as a witness that could not be asked: else all stays as it is, for
    whoever looks into it. A host whose folder is gone keeps no other one's lines. ``evidence`` is
    what the witness has. The same outcome, with what went wrong.
    """
    problems = list(found["problems"])
    of_all = set(problems) - set(verify.gone(evidence, found["hosts"], settings["days"]))
    tidied = {} if of_all else found["hosts"]
    today = _today(found, clock)
    for host in (host for host, it in tidied.items() if not it["problems"]):
        is_old = partial(_is_due, settings, evidence, host, today)
        try:
            tidy(Path(settings["path"], host), settings["days"], signer, today, is_old)
        except (OSError, RocksaltError) as error:
            problems.append(f"{host}: old lines cannot be tidied up: {error}")
    return {**found, "problems": problems, "ok": found["ok"] and problems == found["problems"]}


def tidy(folder: Path, days: int, signer: sshsig.Signer, today: dt.date, is_old: Is) -> None:
    """Removes and compresses what is old enough of the chain of a host, by the names of its files
    and, to be removed, by what ``is_old`` says of the last line. The newest file is never
    compressed: the chain goes on from its end.
    """
    kept, removing = files.days(folder), True
    for path in kept:
        age = (today - dt.date.fromisoformat(files.day(path))).days
        removing = removing and age > days and _is_old(path, is_old)
        if removing:
            _remove(path, signer)
        elif age >= PLAIN and path != kept[-1] and not path.name.endswith(".gz"):
            _compress(path)


def _is_old(path: Path, is_old: Is) -> bool:
    line = files.last(path)
    return line is None or is_old(line.head)


def _is_due(
    settings: Mapping[str, Any], evidence: Evidence | None, host: str, today: dt.date,
    head: chain.Head,
) -> bool:  # fmt: skip
    """Whether a line was received, and where there is a witness seen by it, long enough ago."""
    if (today - _date(head.received)).days <= settings["days"]:
        return False
    if not settings.get("witness"):
        return True
    seen = evidence.hosts.get(host, Seen()) if evidence else Seen()
    index = bisect_left(seen.numbers, head.n)
    if evidence is None or index == len(seen.numbers):
        return False
    return (today - _date(evidence.time(seen, index))).days >= int(settings["days"])


def _today(found: Mapping[str, Any], clock: Clock) -> dt.date:
    """The day by the clock, but not one that neither the witness nor any line has seen: a clock
    that goes wrong for a moment removes nothing.
    """
    there = found["witness"]
    times = [there["until"]] if there else [it["last"] for it in found["hosts"].values()]
    return min([clock().date(), *([_date(max(filter(None, times)))] if any(times) else [])])


def _date(time: str) -> dt.date:
    return dt.date.fromisoformat(time[:10])


def _remove(path: Path, signer: sshsig.Signer) -> None:
    """Removes the oldest file, after where the chain begins then was signed."""
    # Its signature was checked, or the witness says the same: else nothing is removed.
    before = begins.read(path.parent)
    start = before.head if before else chain.Head()
    line = files.last(path)
    if line and line.head.n > start.n:
        head = line.head
        here = begins.Begins(
            path.parent.name, head.n, head.hash, head.received, start.n, start.hash
        )
        begins.write(path.parent, here, signer)
    _unlink(path)


def _compress(path: Path) -> None:
    packed = path.with_name(f"{path.name}.gz")
    if os.path.lexists(packed):
        if not files.is_same(path, packed):
            raise RocksaltError(f"{packed} is there and is another file: {path} stays as it is")
        _unlink(path)
        return
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
    if not files.is_same(path, new):
        new.unlink()
        raise RocksaltError(f"{path} is not the same after it was compressed: it stays as it is")
    os.replace(new, packed)
    synchronise(path.parent)
    _unlink(path)


def _unlink(path: Path) -> None:
    path.unlink()
    synchronise(path.parent)

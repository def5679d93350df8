"""The daily check: recomputes the chains of all hosts from their first line, and compares them with
what the witness saw. Nothing that was found before is believed.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rocksalt.backup import names
from rocksalt.errors import RocksaltError
from rocksalt.logstash.receiving import files
from rocksalt.logstash.receiving.evidence import Evidence
from rocksalt.logstash.receiving.store import Clock, now
from rocksalt.logstash.receiving.walk import MOST, Walk

ROOT = 0
_OWN = (files.HEADS, ".lock")


def check(
    settings: Mapping[str, Any], signer: str, evidence: Evidence | None, only: str = "",
    clock: Clock = now, started: dt.datetime | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The chains of all hosts, or of ``only`` one. ``settings`` are those in receiver.json,
    ``signer`` is the log server's public key, ``evidence`` None where there is no witness,
    ``started`` the time before that was asked for.

    ``time``, ``ok``, ``hosts`` (see :meth:`Walk.run`), ``witness`` (null, or ``until``, the time of
    its last receipt, and ``error``), ``problems`` of no single host, ``notes`` (sentences on what
    is not wrong).
    """
    started = started or clock()
    path = Path(settings["path"])
    there, strange = _listed(path)
    if only and only not in there:
        raise RocksaltError(f"{path} has no lines of {only!r}; it has {', '.join(there) or 'none'}")
    hosts = [only] if only else there
    known = (signer, evidence, settings["days"], started, clock)
    found = {host: _walked(path / host, *known) for host in hosts}
    problems = _witnessed(evidence)
    if not only:
        problems = [*problems, *gone(evidence, there, settings["days"]), *strange]
    return {
        "time": names.utc(clock()),
        "ok": not problems and not any(it["problems"] for it in found.values()),
        "hosts": found,
        "witness": {"until": evidence.until, "error": evidence.error} if evidence else None,
        "problems": problems,
        "notes": _gaps(evidence, started),
    }


def _walked(folder: Path, *known: Any) -> dict[str, Any]:
    """What is found of a host; once more, where a file was compressed or removed meanwhile."""
    walk = Walk(folder, *known)
    found = walk.run()
    return Walk(folder, *known).run() if walk.has_vanished else found


def text(found: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = []
    for host, it in found["hosts"].items():
        span = f", {it['first']} to {it['last']}" if it["lines"] else ""
        lines.append(f"{host}: {'NOT OK' if it['problems'] else 'ok'}, {it['lines']} lines{span}")
        lines += [f"  {sentence}" for sentence in (*it["problems"], *it["notes"])]
        if it["unwitnessed_since"]:
            lines.append(f"  unwitnessed since {it['unwitnessed_since']}")
    lines += [*found["problems"], *found["notes"]]
    if found["witness"] is None:
        lines.append("no witness: root of this host could have written all of it anew")
    return "\n".join(lines)


def _witnessed(evidence: Evidence | None) -> list[str]:
    """What is wrong with the witness."""
    if evidence is None:
        return []
    if evidence.error:
        return [*evidence.problems, f"what was witnessed is not known: {evidence.error}"]
    if not evidence.times and not evidence.problems:
        return ["the witness has no entry of this log server: nothing is witnessed"]
    return evidence.problems


def _gaps(evidence: Evidence | None, started: dt.datetime) -> list[str]:
    """The newest times without a witness."""
    if evidence is None:
        return []
    gaps = list(evidence.gaps)
    if evidence.until and started - names.parsed(evidence.until) > evidence.gap:
        gaps.append((evidence.until, names.utc(started)))
    notes = [
        f"not witnessed from {since} to {to}: what arrived then could be changed until then"
        for since, to in gaps[-MOST:]
    ]
    return [f"{len(gaps) - MOST} times before are left out", *notes] if gaps[MOST:] else notes


def gone(evidence: Evidence | None, there: Iterable[str], days: int) -> list[str]:
    """What is said of hosts that the witness saw and that are not there any more."""
    hosts = evidence.hosts if evidence else {}
    return [
        f"{host}: the witness saw its lines, and they are gone"
        for host in sorted(hosts.keys() - {*there})
        if evidence and evidence.misses(hosts[host], days)
    ]


def _listed(path: Path) -> tuple[list[str], list[str]]:
    """The hosts below a path, and what is wrong there."""
    try:
        there = files.hosts(path)
        with os.scandir(path) as entries:
            strange = sorted(
                entry.name for entry in entries
                if entry.name not in (*there, *_OWN) and not _is_of_the_disk(entry)
            )  # fmt: skip
    except OSError as error:
        return [], [f"{path} cannot be read: {error.strerror}"]
    return there, [f"{path / name} does not belong here" for name in strange]


def _is_of_the_disk(entry: os.DirEntry[str]) -> bool:
    """Whether it is what a file system of its own has at its top."""
    return (
        entry.name == "lost+found"
        and entry.is_dir(follow_symlinks=False)
        and entry.stat(follow_symlinks=False).st_uid == ROOT
    )

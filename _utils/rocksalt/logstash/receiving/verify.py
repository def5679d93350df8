"""The daily check: recomputes the chains of all hosts from their first line, and compares them with
what the witness saw. Nothing that was found before is believed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rocksalt.backup import names
from rocksalt.errors import RocksaltError
from rocksalt.logstash.receiving import files
from rocksalt.logstash.receiving.evidence import Evidence
from rocksalt.logstash.receiving.store import Clock, now
from rocksalt.logstash.receiving.walk import Walk

_OWN = (files.HEADS, ".lock")


def check(
    settings: Mapping[str, Any], signer: str, evidence: Evidence | None, only: str = "",
    clock: Clock = now,
) -> dict[str, Any]:  # fmt: skip
    """The chains of all hosts, or of ``only`` one. ``settings`` are those in receiver.json,
    ``signer`` is the log server's public key, ``evidence`` None where there is no witness.

    ``time``, ``ok``, ``hosts`` (see :meth:`Walk.run`), ``witness`` (null, or ``until``, the time of
    its last entry, and ``error``), ``problems`` of no single host.
    """
    path = Path(settings["path"])
    there = files.hosts(path)
    if only and only not in there:
        raise RocksaltError(f"{path} has no lines of {only!r}; it has {', '.join(there) or 'none'}")
    hosts = [only] if only else there
    found = {host: Walk(path / host, signer, evidence).run() for host in hosts}
    problems = list(evidence.problems) if evidence else []
    if evidence and evidence.error:
        problems.append(f"what was witnessed is not known: {evidence.error}")
    if not only:
        problems += _gone(evidence, there) + _strange(path)
    return {
        "time": names.utc(clock()),
        "ok": not problems and not any(it["problems"] for it in found.values()),
        "hosts": found,
        "witness": {"until": evidence.until, "error": evidence.error} if evidence else None,
        "problems": problems,
    }


def text(found: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = []
    for host, it in found["hosts"].items():
        span = f", {it['first']} to {it['last']}" if it["lines"] else ""
        lines.append(f"{host}: {'NOT OK' if it['problems'] else 'ok'}, {it['lines']} lines{span}")
        lines += [f"  {problem}" for problem in it["problems"]]
        if it["unwitnessed_since"]:
            lines.append(f"  unwitnessed since {it['unwitnessed_since']}")
    lines += found["problems"]
    if found["witness"] is None:
        lines.append("no witness: root of this host could have written all of it anew")
    return "\n".join(lines)


def _gone(evidence: Evidence | None, there: list[str]) -> list[str]:
    missing = sorted(set(evidence.hosts if evidence else ()) - set(there))
    return [f"{host}: the witness saw its lines, and they are gone" for host in missing]


def _strange(path: Path) -> list[str]:
    there = set(files.hosts(path)) | set(_OWN)
    with os.scandir(path) as entries:
        return [
            f"{path / name} does not belong here"
            for name in sorted(entry.name for entry in entries)
            if name not in there
        ]

"""What other hosts say of their checks and drills: signed, and believed only where it fits."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rocksalt.backup import names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified, VaultError
from rocksalt.backup.proof.judge import Pins, Problem
from rocksalt.backup.restoring import drill as drills
from rocksalt.backup.vaults import Reader

_CLOCK = dt.timedelta(minutes=5)
_LONGEST = dt.timedelta(hours=12)
"""What a check of all vaults may take."""
_LOOKED_AT = 100
"""Reports of drills, from the newest on; a client can put any number."""


@dataclass(frozen=True)
class Answer:
    """What the host of a vault found in it."""

    problems: list[Problem]
    archives_checked: int
    bytes_checked: int


def answer(data: bytes, vault: str, instance: str, now: dt.datetime) -> Answer:
    """The report of a check for which a receiver was just asked, whose signature was verified.

    :class:`VaultError` for one that is not understood, of another instance or of another time.
    """
    try:
        told = json.loads(data)
        found = Answer(
            [Problem(**problem) for problem in told["problems"]],
            int(told["archives_checked"]),
            int(told["bytes_checked"]),
        )
        whose, time = told["instance"], names.parsed(told["time"])
    except (KeyError, TypeError, ValueError) as error:
        raise VaultError(
            f"the vault {vault} reports its check in a way that is not known: "
            f"{type(error).__name__} {error}"
        ) from None
    if whose != instance:
        raise VaultError(f"the vault {vault} reports a check of {whose}, and not of {instance}")
    if not -_CLOCK <= time - now <= _LONGEST:
        raise VaultError(
            f"the vault {vault} reports a check of {told['time']}, and it is {names.utc(now)}: "
            "its clock is wrong, or that is an old one"
        )
    return found


def drill(vault: Reader, pins: Pins, newest: int, now: dt.datetime) -> dict[str, Any] | None:
    """What the status says of the newest drill with a believable report in the vault; None without
    one. ``newest`` is the number of the newest snapshot there.

    :class:`VaultError` where the vault lets this host read nothing.
    """
    there = vault.names()
    found = [name for name in there if (kind := names.REPORT.fullmatch(name))
             and kind["kind"] == "drill" and name + names.SIGNATURE in there]  # fmt: skip
    for name in sorted(found, reverse=True)[:_LOOKED_AT]:
        try:
            value = _believed(vault, name, pins)
            time = names.parsed(value["time"])
        except (KeyError, OSError, TypeError, Unverified, ValueError):
            continue
        stamp = name.partition(".")[0]
        known = isinstance(value["sequence"], int) and value["sequence"] <= newest
        if known and stamp == time.strftime(names.STAMP) and time <= now + _CLOCK:
            return value
    return None


def _believed(vault: Reader, name: str, pins: Pins) -> dict[str, Any]:
    """A report that a pinned key signed, about the instance that is meant."""
    with vault.open(name) as file:
        data = file.read()
    with vault.open(name + names.SIGNATURE) as file:
        signature = file.read()
    sshsig.verify(data, signature, drills.NAMESPACE, pins.reporters)
    report = json.loads(data)
    if report["instance"] != pins.instance:
        raise ValueError(f"{name} is about {report['instance']}")
    return drilled(report)


def drilled(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the status says of a drill, by its report."""
    steps = report["steps"]
    problems = [f"{it['name']}: {it['reason']}" for it in steps if it["status"] != "ok"]
    return {
        "time": report["finished"], "code": report["code"], "rto": report["rto"],
        "rpo": report["rpo"], "host": report["host"], "sequence": report["sequence"],
        "steps": {it["name"]: it["status"] for it in steps}, "problems": problems,
    }  # fmt: skip

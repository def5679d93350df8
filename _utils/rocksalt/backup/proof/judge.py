"""What a manifest says, judged by pinned keys, by itself, by the one before it, and by a receipt.

All of it is pure: what comes in was read from a vault that nobody trusts.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from functools import lru_cache

from rocksalt.backup import manifest, names
from rocksalt.backup.crypto import recipients, sshsig
from rocksalt.backup.errors import BackupError, Unverified
from rocksalt.backup.manifest import Manifest
from rocksalt.backup.proof.receipts import Receipt

GRACE = dt.timedelta(minutes=30)
"""How much later than announced a snapshot or its receipt may come."""
CLOCK = dt.timedelta(minutes=5)
"""How far the clocks of two hosts may be apart."""
LONGEST_SILENCE = dt.timedelta(hours=26)
"""What no interval, with its jitter, reaches: nobody has to believe a later announcement."""
LONGEST_SAME = dt.timedelta(days=8)
"""For how long there may be no full snapshot."""
_ALIKE = 4


@dataclass(frozen=True)
class Pins:
    """Whom to believe, known beforehand and not from the vault: the instance, the public keys that
    sign its manifests, the offline authority of its recipients, and the keys of the vault's own
    receiver and of hosts that report. Without receivers nobody but the master vouches for the past.
    """

    instance: str
    signers: tuple[str, ...]
    authority: str
    receivers: tuple[str, ...] = ()
    reporters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """What is wrong, with which snapshot (0: none in particular), and how bad: ``error`` is a loss
    or a lie, ``warning`` something to look after.
    """

    code: str
    sentence: str
    sequence: int = 0
    severity: str = "error"


def signed(name: str, data: bytes, signature: bytes, pins: Pins) -> Manifest:
    """The manifest in the object ``name``; :class:`Unverified` unless a pinned key signed it."""
    try:
        sshsig.verify(data, signature, manifest.NAMESPACE, pins.signers)
    except Unverified as error:
        raise Unverified(f"{name} {error}") from None
    try:
        found = manifest.read(data, name)
        for text in (found.finished, found.next):
            names.parsed(text)
    except ValueError as error:
        raise Unverified(f"{name} holds a date that is none: {error}") from None
    except RecursionError:
        raise Unverified(f"{name} is no manifest: it is nested too deeply") from None
    return found


def alone(found: Manifest, pins: Pins, now: dt.datetime) -> list[Problem]:
    """What is wrong with a manifest whatever came before."""
    number = found.sequence
    problems = _dates(found, now)
    if pins.authority:
        problems += _recipients(found, pins)
    if found.instance != pins.instance:
        why = f"{found.name} belongs to {found.instance!r}, not to {pins.instance!r}"
        problems.append(Problem("foreign", f"{why}: another chain was put here", number))
    if found.kind == "same" and found.archives:
        why = f"{found.name} says that nothing changed, and names archives"
        problems.append(Problem("same", why, number))
    if found.kind == "full" and found.same_as:
        why = f"{found.name} is a full snapshot, and refers to #{found.same_as}"
        problems.append(Problem("same", why, number))
    for part, archive in found.archives.items():
        if archive.name not in (names.archive(found.stem, part, c) for c in names.SUFFIXES):
            why = f"{found.name} names {archive.name} as its archive {part}, which it is not"
            problems.append(Problem("swapped", why, number))
    return problems


def _dates(found: Manifest, now: dt.datetime) -> list[Problem]:
    times = (found.started, found.finished, found.next)
    started, finished, following = map(names.parsed, times)
    why = ""
    if started > now + CLOCK:
        why = f"lies in the future ({found.started}): the master's clock is wrong, or it was forged"
    elif finished < started or following < started:
        why = f"has dates in the wrong order: {', '.join(times)}"
    elif following - finished > LONGEST_SILENCE:
        why = f"announces the next one for {found.next} only, so that nobody would miss one"
    return [Problem("dates", f"{found.name} {why}", found.sequence)] if why else []


def _recipients(found: Manifest, pins: Pins) -> list[Problem]:
    """Whether the archives can be read by those, and only those, whom the offline key named."""
    number = found.sequence
    try:
        record = json.dumps(found.recipients, sort_keys=True)
        parts = _authorised(record, found.authorisation, pins.authority)
    except Unverified as error:
        why = f"{found.name} has recipients whom the offline key did not authorise: {error}"
        return [Problem("recipients", why, number)]
    problems = []
    if found.recipients["instance"] != pins.instance:
        why = f"{found.name} has the recipients of {found.recipients['instance']!r}"
        problems.append(Problem("recipients", f"{why}, not of {pins.instance!r}", number))
    if found.kind == "same":
        return problems
    for part in sorted(parts.keys() | found.archives.keys()):
        why = ""
        severity = "error"
        if part not in found.archives:
            why = f"has no archive {part}: nothing of it was saved"
            severity = "error" if part == names.OPERATOR else "warning"
        elif part not in parts:
            why = f"has an archive {part}, whose recipients were never authorised"
        elif sorted(found.archives[part].recipients) != parts[part]:
            why = f"encrypted {part} to others than the authorised recipients"
        if why:
            problems.append(Problem("recipients", f"{found.name} {why}", number, severity))
    return problems


@lru_cache(maxsize=64)
def _authorised(record: str, authorisation: str, authority: str) -> dict[str, list[str]]:
    """Part -> fingerprints of a record, which is the same in most manifests."""
    value = json.loads(record)
    recipients.verify(value, authorisation, authority)
    try:
        return recipients.parts(value)
    except (BackupError, ValueError) as error:
        raise Unverified(f"a recipient {error}") from None


def after(before: Manifest, found: Manifest) -> list[Problem]:
    """What is wrong with a manifest right behind ``before``."""
    problems = []
    number = found.sequence
    started, due = names.parsed(found.started), names.parsed(before.next)
    if started < names.parsed(before.started):
        why = f"{found.name} says it is older than {before.name} before it: it was forged"
        problems.append(Problem("backwards", why, number))
    elif started - due > GRACE:
        why = f"{found.name} came late: it was due at {before.next}, and nothing was saved between"
        problems.append(Problem("late", why, number, "warning"))
    old, new = before.recipients, found.recipients
    if old != new and old.get("revision") == new.get("revision"):
        why = f"{found.name} has other recipients than {before.name} under the same revision"
        problems.append(Problem("recipients", f"{why} {new.get('revision')!r}", number))
    return problems


def same(found: Manifest, fulls: dict[int, Manifest]) -> list[Problem]:
    """What is wrong with a ``same``; ``fulls`` are those before it, by sequence and in order."""
    full = fulls.get(found.same_as)
    newest = next(reversed(fulls), 0)
    if full is None or found.same_as >= found.sequence:
        why = f"says it is the same as #{found.same_as}, which is no full snapshot before it"
    elif found.same_as != newest:
        why = f"says it is the same as #{found.same_as}, although #{newest} is newer"
    elif full.recipients != found.recipients:
        why = f"has other recipients than #{found.same_as}, whose archives it stands for"
    elif names.parsed(found.started) - names.parsed(full.started) > LONGEST_SAME:
        why = f"says that nothing changed since {full.started}, and no full one was made since"
    else:
        return []
    return [Problem("same", f"{found.name} {why}", found.sequence)]


def receipt(said: Receipt, found: Manifest, digest: str) -> list[Problem]:
    """What a receiver said of a manifest against the manifest as it is here."""
    name, number = found.name, found.sequence
    if (said.instance, said.sequence, said.manifest) != (found.instance, number, digest):
        why = f"{name} is not what the receiver took at {said.received}: the past was written anew"
        return [Problem("contradiction", f"{why}, do not restore from this vault", number)]
    received = names.parsed(said.received)
    if names.parsed(found.started) - received > CLOCK:
        why = f"{name} was received at {said.received}, before it was begun: a clock is wrong"
        return [Problem("clock", why, number, "warning")]
    if received - names.parsed(found.finished) > GRACE:
        why = f"{name} was received at {said.received}, long after it says it was finished"
        why += f" ({found.finished}): the vault could not be reached, or the date was forged"
        return [Problem("backdated", why, number, "warning")]
    return []


def collapsed(problems: list[Problem]) -> list[Problem]:
    """In order, errors first; one problem for each row of many of a kind that follow each other."""
    found: list[Problem] = []
    row: list[Problem] = []
    once = sorted(dict.fromkeys(problems), key=lambda p: (p.severity, p.code, p.sequence))
    for problem in [*once, None]:
        joins = (
            problem is not None
            and bool(row)
            and (problem.code, problem.severity) == (row[0].code, row[0].severity)
            and 0 < problem.sequence - row[-1].sequence <= 1
        )
        if not joins:
            if len(row) >= _ALIKE:
                first, last = row[0], row[-1].sequence
                why = f"{first.sentence} (and likewise up to #{last})"
                row = [Problem(first.code, why, first.sequence, first.severity)]
            found += row
            row = []
        if problem is not None:
            row.append(problem)
    return found

"""Reviews that were done: a record each, signed, which names the one before by its digest.

The signature is as ``ssh-keygen -Y verify`` reads it. With the key that this module makes it shows
that somebody reviewed on this host; with a key that only the reviewer has, it shows who.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocksalt.backup import names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Unverified
from rocksalt.backup.manifest import canonical, digest
from rocksalt.errors import Refused
from rocksalt.host import Host

BASE = "/etc/rocksalt/access"
"""Below it are ``reviews``, ``review.key`` of this host, and ``reviewers``: public keys, a line
each, of people who sign with their own.
"""
NAMESPACE = "rocksalt-access-review"
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z\.json")
_REVIEWER = re.compile(r"[^\W_][\w .@'-]{0,99}")
_KEYS = {"schema", "reviewer", "time", "digest", "previous", "reviewed"}


@dataclass(frozen=True)
class Review:
    """A record. ``digest`` is that of ``reviewed``, all rights at that time; ``own`` is that of the
    record itself.
    """

    path: str
    reviewer: str
    time: dt.datetime
    digest: str
    previous: str
    own: str
    reviewed: dict[str, Any]


def digest_of(reviewed: dict[str, Any]) -> str:
    """The digest by which two reviews are of the same rights."""
    return digest(canonical(reviewed))


def sign(
    reviewer: str, reviewed: dict[str, Any], now: dt.datetime, own: str | None = None,
    base: str = BASE,
) -> Review:  # fmt: skip
    """Writes a record, signed with the key in the file ``own``, or that of this host, which is made
    if there is none yet. :class:`Refused` for an own key that is of no reviewer, and where the last
    record is of a time to come; :class:`Unverified` where one is not what was signed.
    """
    if not _REVIEWER.fullmatch(reviewer):
        raise Refused(f"sign: {reviewer!r} is no name of a reviewer")
    signer = _signer(own, base)
    now = now.astimezone(dt.timezone.utc).replace(microsecond=0)
    last = last_review(base)
    if last and last.time >= now:
        raise Refused(f"{last.path} is of {names.utc(last.time)}, which is not before now")
    record = canonical(
        {
            "schema": 1,
            "reviewer": reviewer,
            "time": names.utc(now),
            "digest": digest_of(reviewed),
            "previous": last.own if last else "",
            "reviewed": reviewed,
        }
    )
    path = f"{base}/reviews/{now.strftime(names.STAMP)}.json"
    host = Host()
    # First: a record that is there is signed.
    host.write(f"{path}.sig", signer.sign(record, NAMESPACE).decode("ascii"), "0644")
    host.write(path, record.decode("ascii"), "0644")
    return _read(Path(path), [signer.public])


def last_review(base: str = BASE) -> Review | None:
    """The last record, or None where there is none. :class:`Unverified` says which record is not
    what was signed, or is missing between others. That the last ones are missing, only the logbook
    can tell.
    """
    paths = sorted(
        path for path in Path(base, "reviews").glob("*.json") if _NAME.fullmatch(path.name)
    )
    keys = reviewers(base) if paths else []
    last: Review | None = None
    for path in paths:
        review = _read(path, keys)
        if review.previous != (last.own if last else ""):
            what = f"that of {last.path}" if last else "none"
            raise Unverified(f"{path} does not follow {what}; a review was taken away or put in")
        last = review
    return last


def reviewers(base: str = BASE) -> list[str]:
    """The public keys that reviews are signed with: of reviewers, and of this host."""
    found = []
    for name in ("review.key.pub", "reviewers"):
        text = Host().read(f"{base}/{name}") or ""
        found += [line.strip() for line in text.splitlines() if line.strip()[:1] not in ("", "#")]
    return found


def _signer(own: str | None, base: str) -> sshsig.Signer:
    path = Path(base, "review.key")
    if not own and not path.exists():
        path.parent.mkdir(0o755, parents=True, exist_ok=True)
        sshsig.generate(path)
    signer = sshsig.Signer.load(own or path)
    if signer.public not in map(sshsig.bare, reviewers(base)):
        raise Refused(
            f"the key {own or path} is of no reviewer: add {signer.public} to {base}/reviewers"
        )
    return signer


def _read(path: Path, keys: list[str]) -> Review:
    data = path.read_bytes()
    try:
        signature = Path(f"{path}.sig").read_bytes()
    except FileNotFoundError:
        raise Unverified(f"{path} has no signature beside it") from None
    try:
        sshsig.verify(data, signature, NAMESPACE, keys)
        record = json.loads(data)
        time = names.parsed(record["time"])
    except Unverified as error:
        raise Unverified(f"{path} {error}") from None
    except (ValueError, TypeError, KeyError):
        raise Unverified(f"{path} is no record of a review") from None
    reviewed = record.get("reviewed")
    if set(record) != _KEYS or record["schema"] != 1 or record["digest"] != digest_of(reviewed):
        raise Unverified(f"{path} is no record of a review")
    if path.name != f"{time.strftime(names.STAMP)}.json":
        raise Unverified(f"{path} is the record of {record['time']} by another name")
    return Review(
        str(path), record["reviewer"], time, record["digest"], record["previous"], digest(data),
        reviewed,
    )  # fmt: skip

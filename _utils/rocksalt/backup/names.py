"""The names of objects in a vault, all in one folder per instance.

::

    00000012-20261122T130000Z.json                          the manifest: with it a snapshot exists
    00000012-20261122T130000Z.json.sig                      its signature, put before it
    00000012-20261122T130000Z.operator.tar.zst.age          an archive, put before both
    00000012-20261122T130000Z.customer-acme.tar.zst.age     another one, for other recipients
    00000012-20261122T130000Z.receipt.json, .json.sig       what a receiver says of the manifest
    00000012-20261122T130000Z.operator.tar.zst.age.pruned.json, .json.sig  its retention removed it
    20261122T130000Z.drill.json, .json.sig                  a report of a drill or of a check
"""

from __future__ import annotations

import datetime as dt
import re

OPERATOR = "operator"
CUSTOMER = "customer-"
SIGNATURE = ".sig"
RECEIPT = ".receipt.json"
PRUNED = ".pruned.json"
STAMP = "%Y%m%dT%H%M%SZ"
TIME = "%Y-%m-%dT%H:%M:%SZ"
LONGEST = 200

_STEM = r"(?P<sequence>[0-9]{8})-(?P<stamp>[0-9]{8}T[0-9]{6}Z)"
_PART = r"(?P<part>operator|customer-[a-z0-9][a-z0-9-]{0,62})"
MANIFEST = re.compile(rf"{_STEM}\.json")
ARCHIVE = re.compile(rf"{_STEM}\.{_PART}\.tar\.(?P<compression>zst|gz)\.age")
REPORT = re.compile(r"(?P<stamp>[0-9]{8}T[0-9]{6}Z)\.(?P<kind>drill|verify)\.json")
RECEIPTS = re.compile(rf"{_STEM}\.receipt\.json")
PRUNES = re.compile(rf"{ARCHIVE.pattern}\.pruned\.json")
SUFFIXES = {"zstd": "zst", "gzip": "gz"}

INSTANCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


def stem(sequence: int, started: dt.datetime) -> str:
    """What the names of one snapshot begin with."""
    return f"{sequence:08d}-{started.strftime(STAMP)}"


def archive(stem: str, part: str, compression: str) -> str:
    """The name of an archive; ``compression`` is ``zstd`` or ``gzip``."""
    return f"{stem}.{part}.tar.{SUFFIXES[compression]}.age"


def is_uploadable(name: str) -> bool:
    """Whether a client may put an object of this name: a manifest, an archive, a report, or the
    signature of one that has one.
    """
    signed = name.removesuffix(SIGNATURE)
    if MANIFEST.fullmatch(signed) or REPORT.fullmatch(signed):
        return True
    return ARCHIVE.fullmatch(name) is not None


def utc(time: dt.datetime) -> str:
    """A time as text, such as ``2026-11-22T13:00:00Z``."""
    return time.astimezone(dt.timezone.utc).strftime(TIME)


def parsed(text: str) -> dt.datetime:
    """The time that :func:`utc` wrote; ValueError for anything else."""
    return dt.datetime.strptime(text, TIME).replace(tzinfo=dt.timezone.utc)

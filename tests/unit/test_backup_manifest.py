"""Manifests and the names of what lies in a vault."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import Any

import pytest

from rocksalt.backup import manifest, names
from rocksalt.backup.errors import Unverified
from rocksalt.backup.manifest import Archive, Manifest

STEM = "00000012-20261122T130000Z"
ARCHIVE = f"{STEM}.operator.tar.zst.age"
FULL = Manifest(
    instance="m1", sequence=12, previous="a" * 64, kind="full", same_as=0,
    started="2026-11-22T13:00:00Z", finished="2026-11-22T13:00:05Z", next="2026-11-22T14:05:00Z",
    archives={"operator": Archive(ARCHIVE, "0" * 64, 9, ["SHA256:x"], 3, 4, 5)},
    recipients={"revision": 1}, authorisation="signature", warnings={"changed": 1},
    versions={"rocksalt": "0.1.0"},
)  # fmt: skip
OPERATOR = dataclasses.asdict(FULL)["archives"]["operator"]


def changed(**changes: Any) -> bytes:
    value = dataclasses.asdict(FULL)
    for key, new in changes.items():
        if new is ...:
            del value[key]
        else:
            value[key] = new
    return manifest.canonical(value)


def test_it_is_read_as_it_was_written():
    data = FULL.to_bytes()
    assert manifest.read(data, FULL.name) == FULL
    assert FULL.name == f"{STEM}.json"
    assert manifest.digest(data) == manifest.digest(manifest.read(data, FULL.name).to_bytes())
    assert data.isascii()
    assert data.endswith(b"}\n")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": 2}, "format"),
        ({"sequence": 0}, "sequence"),
        ({"sequence": "12"}, "sequence"),
        ({"sequence": 13}, "holds the manifest 00000013-20261122T130000Z.json"),
        ({"instance": "../x"}, "instance"),
        ({"previous": "b"}, "previous"),
        ({"kind": "delta"}, "kind"),
        ({"started": "2026-11-22T13:00:01Z"}, "holds the manifest"),
        ({"started": "2026-13-22T13:00:00Z"}, "is no time"),
        ({"started": "yesterday"}, "started"),
        ({"archives": {}}, "without an archive"),
        ({"archives": {"operator": {}}}, "archives"),
        ({"archives": {"operator": {**OPERATOR, "x": 1}}}, "x"),
        ({"archives": {"operator": {**OPERATOR, "name": "../x"}}}, "name"),
        ({"warnings": {"changed": -1}}, "warnings"),
        ({"authorisation": ...}, "authorisation"),
        ({"surprise": 1}, "surprise"),
    ],
)  # fmt: skip
def test_what_is_no_manifest(changes, why):
    with pytest.raises(Unverified) as refused:
        manifest.read(changed(**changes), FULL.name)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"null", b"{}", b"\xff", FULL.to_bytes() + b" ", b" " + FULL.to_bytes(),
        json.dumps(dataclasses.asdict(FULL)).encode(),
        FULL.to_bytes().replace(b'"format": 1', b'"format": 1, "format": 1'),
    ],
)  # fmt: skip
def test_what_is_written_in_another_way(data):
    with pytest.raises(Unverified, match=r"\.json"):
        manifest.read(data, FULL.name)


@pytest.mark.parametrize(
    ("name", "yes"),
    [
        (f"{STEM}.json", True),
        (f"{STEM}.json.sig", True),
        (ARCHIVE, True),
        (f"{STEM}.customer-acme.tar.gz.age", True),
        ("20261122T130000Z.drill.json", True),
        ("20261122T130000Z.drill.json.sig", True),
        ("20261122T130000Z.verify.json", True),
        (f"{ARCHIVE}.sig", False),
        (f"{STEM}.receipt.json", False),
        (f"{STEM}.receipt.json.sig", False),
        (f"{ARCHIVE}.pruned.json", False),
        (f"{STEM}.json.sig.sig", False),
        (f"{STEM}.json\n", False),
        (f"../{STEM}.json", False),
        (f"{STEM}.other.tar.gz.age", False),
        (f"{STEM}.customer-.tar.gz.age", False),
        (f"{STEM}.customer-ACME.tar.gz.age", False),
        (f"{STEM}.operator.tar.xz.age", False),
        (f"{STEM}.operator.tar.gz", False),
        ("", False),
        (".sig", False),
    ],
)
def test_what_a_client_may_put(name, yes):
    assert names.is_uploadable(name) is yes


def test_names_are_made_as_they_are_read():
    begun = dt.datetime(2026, 11, 22, 14, 0, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert names.utc(begun) == "2026-11-22T13:00:00Z"
    assert names.parsed("2026-11-22T13:00:00Z") == begun
    stem = names.stem(12, names.parsed("2026-11-22T13:00:00Z"))
    assert (stem, names.archive(stem, "operator", "zstd")) == (STEM, ARCHIVE)
    for compression in names.SUFFIXES:
        longest = names.archive(stem, f"{names.CUSTOMER}{'a' * 63}", compression)
        assert names.is_uploadable(longest)
        assert len(f"{longest}{names.PRUNED}{names.SIGNATURE}") <= names.LONGEST


@pytest.mark.parametrize(
    "text", ["", "2026-11-22", "2026-11-22T13:00:00", "2026-11-22T13:00:00+00:00"]
)
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="does not match"):
        names.parsed(text)

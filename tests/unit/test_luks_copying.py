"""Whether the second copy of a header is one: rocksalt.luks.family.copying."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest

from rocksalt.backup.crypto import age
from rocksalt.luks import copies
from rocksalt.luks.copies import Copy
from rocksalt.luks.family.copying import Copying
from rocksalt.luks.headers import Header, Slot

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.timezone.utc)
UUID = "2f1d3c4b-0000-4000-8000-000000000001"
READER = age.generate()[1]
SLOT = Slot("luks2", 512, "aes-xts-plain64", 512, "argon2id")
HEADER = Header("/dev/sda", "/dev/sda", 2, UUID, slots={0: SLOT}, digest="h")
HELD = {"slot 0": "material"}
COPY = Copy(
    UUID, "/dev/sda", "h", "2026-11-20T12:00:00Z", (age.fingerprint(READER),), "s", 1, material=HELD
)


@pytest.mark.parametrize("digest", ["h", "another"])
@pytest.mark.parametrize(
    ("held", "damaged"),
    [(HELD, False), ({"slot 0": "other"}, True), ({"slot 1": "other"}, False), ({}, False)],
)
def test_key_slots_that_changed_alone_are_for_a_person(
    monkeypatch: pytest.MonkeyPatch, digest: str, held: dict[str, str], damaged: bool
) -> None:
    monkeypatch.setattr(copies, "copies", lambda host: {UUID: COPY})
    monkeypatch.setattr(copies, "material", lambda host, header: held)
    header = Header(**{**vars(HEADER), "digest": digest})
    reading: Any = SimpleNamespace(
        host=None,
        devices=SimpleNamespace(find=lambda path: None),
        headers=SimpleNamespace(known={"8:0": header}),
    )
    settings = {"header_backups": True, "header_backup_days": 31}
    missing = Copying(reading, settings, [], [READER], NOW).missing()
    said = [it.words for it in missing if "key slots in its header are damaged" in it.words]
    assert bool(said) is damaged
    assert [it.careful for it in missing] == ([damaged] if damaged or digest != "h" else [])

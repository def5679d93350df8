"""When a volume counts as encrypted anew although its header says that it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from luks_recorded import recorded

from rocksalt.luks.headers import Header, Segment, Slot
from rocksalt.luks.volumes.finishing import last_slot

OLD = Segment("crypt", "aes-xts-plain64", 16 << 20, sector_size=4096, slots=(0,))
NEW = replace(OLD, slots=(1,))
KEPT = (replace(OLD, flags=("backup-previous",)), replace(NEW, flags=("backup-final",)))
KEY = Slot("luks2", 512, "aes-xts-plain64", 512, "argon2id")
SLOTS = {0: KEY, 1: KEY, 2: replace(KEY, kind="reencrypt", bound=False)}


def header(
    *segments: Segment, slots: Mapping[int, Slot] = SLOTS, needs: str = "online-reencrypt-v2"
) -> Header:
    return Header("/dev/vdb", "/dev/vdb", 2, "u", "", "", segments, slots, requirements=(needs,))


def without(*numbers: int) -> dict[int, Slot]:
    return {number: slot for number, slot in SLOTS.items() if number not in numbers}


@pytest.mark.parametrize(
    "over",
    [
        header(NEW, *KEPT),
        header(NEW, *KEPT, slots=without(0)),
        header(NEW, *KEPT, slots=without(0, 2)),
        header(NEW, slots=without(0, 2)),
    ],
)
def test_all_data_have_the_new_key(over: Header) -> None:
    assert last_slot(over) == 1


@pytest.mark.parametrize(
    "begun",
    [
        header(OLD, *KEPT),
        header(replace(NEW, flags=("in-reencryption",)), *KEPT),
        header(replace(NEW, size=4096), replace(OLD, offset=(16 << 20) + 4096), *KEPT),
        header(replace(NEW, sector_size=512), *KEPT),
        header(replace(NEW, slots=()), KEPT[0], replace(KEPT[1], slots=())),
        header(replace(NEW, kind="linear"), *KEPT),
        header(NEW),
        header(NEW, *KEPT, needs="online-reencrypt-v3"),
        recorded("luks2-reencrypting"),
        recorded("luks2-good"),
    ],
)
def test_others_have_data_left_or_are_not_understood(begun: Header) -> None:
    assert last_slot(begun) is None

"""What recorded headers say, and how they are read where one is damaged or missing."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import pytest
from luks_recorded import DATA, DEVICE, recorded

from rocksalt.errors import Refused
from rocksalt.host import Ran
from rocksalt.luks import headers, intact
from rocksalt.luks.headers import Segment, Slot

# What it says -------------------------------------------------------------------------------------


def test_a_good_header() -> None:
    header = recorded("luks2-good")
    assert header.version == 2
    assert header.uuid == "00000000-0000-4000-8000-000000000003"
    assert (header.label, header.subsystem, header.detached) == ("", "", False)
    assert (
        header.segments
        == header.data
        == (Segment("crypt", "aes-xts-plain64", 16777216, slots=(0,)),)
    )
    assert header.key_size == 512
    digest = header.slots[0].digest
    wanted = Slot("luks2", 512, "aes-xts-plain64", 512, "argon2id", 65536, 4, 2, digest=digest)
    assert header.slots == {0: wanted}
    assert (header.tokens, header.flags, header.requirements) == ({}, (), ())
    assert not header.reencrypting


def test_a_weak_header() -> None:
    header = recorded("luks2-weak")
    assert header.segments[0].cipher == header.slots[0].cipher == "aes-cbc-plain64"
    assert (header.key_size, header.slots[0].kdf) == (128, "pbkdf2")
    assert (header.slots[0].iterations, header.slots[0].hash) == (1000, "sha256")


def test_several_slots_and_tokens() -> None:
    header = recorded("luks2-slots")
    assert (header.label, header.subsystem) == ("customer data", "rocksalt")
    assert header.data[0].sector_size == 4096
    slots = header.slots
    assert [(number, it.kdf, it.bound) for number, it in slots.items()] == [
        (0, "argon2id", True),
        (5, "argon2i", True),
        (7, "pbkdf2", False),
    ]
    assert slots[5].priority == 0
    assert len({it.digest for it in slots.values()}) == 3
    assert header.tokens[0] == {"type": "mine", "keyslots": ["0"], "text": "x"}
    assert header.tokens[1]["type"] == "luks2-keyring"
    # Of the slot that opens nothing, the key has 256.
    assert header.key_size == 512


def test_one_that_is_being_reencrypted() -> None:
    header = recorded("luks2-reencrypting")
    assert header.reencrypting
    assert header.requirements == ("online-reencrypt-v2",)
    assert len(header.segments) == 3
    assert header.data == header.segments[:1]
    assert header.segments[1].flags == ("backup-previous",)
    assert header.slots[2].kind == "reencrypt"


def test_version_1() -> None:
    header = recorded("luks1")
    assert (header.version, header.key_size) == (1, 512)
    assert header.uuid == "00000000-0000-4000-8000-000000000001"
    assert header.segments == (Segment("crypt", "aes-xts-plain64", 2097152),)
    slot = Slot("luks1", 512, "aes-xts-plain64", 512, "pbkdf2", iterations=600000, hash="sha256")
    assert header.slots == {0: slot}


def test_version_1_with_two_slots() -> None:
    header = recorded("luks1-weak")
    assert header.segments[0].cipher == "aes-cbc-essiv:sha256"
    assert {number: it.iterations for number, it in header.slots.items()} == {0: 1000, 3: 2000}
    assert header.slots[3].hash == "sha1"


def test_disks_that_encrypt_by_themselves() -> None:
    """As cryptsetup 2.7 of Debian 13 writes it."""

    def opal(metadata: Any) -> None:
        metadata["segments"]["0"] = {
            "type": "hw-opal",
            "offset": "16777216",
            "size": "1073741824",
            "opal_segment_number": 1,
            "opal_key_size": 32,
            "opal_segment_size": "1073741824",
        }
        metadata["config"]["requirements"] = {"mandatory": ["opal"]}

    header = recorded("luks2-good", opal)
    assert header.segments == (Segment("hw-opal", "", 16777216, 1073741824, slots=(0,)),)
    assert header.requirements == ("opal",)
    assert not header.reencrypting


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("keyslots", "0", "kdf", "salt"), "AAAA"),
        (("keyslots", "0", "area", "offset"), "290816"),
        (("segments", "0", "encryption"), "aes-cbc-plain64"),
        (("tokens", "0"), {"type": "mine", "keyslots": []}),
        (("digests", "0", "salt"), "AAAA"),
        (("config", "flags"), ["allow-discards"]),
    ],
)
def test_the_digest_changes_with_anything(place: tuple[str, ...], value: Any) -> None:
    def change(metadata: Any) -> None:
        for key in place[:-1]:
            metadata = metadata[key]
        metadata[place[-1]] = value

    before, after = recorded("luks2-good"), recorded("luks2-good", change)
    assert before.digest != after.digest
    assert (before.slots[0].digest != after.slots[0].digest) is (place[0] == "keyslots")


def test_the_digest_is_that_of_what_is_said_not_of_how() -> None:
    text, metadata = ((DATA / f"luks2-good.{it}").read_text() for it in ("txt", "json"))
    again = json.dumps(json.loads(metadata), sort_keys=True, indent=4)
    later = text.replace("Epoch:         \t3", "Epoch:         \t9")
    assert later != text
    before, after = (
        headers.parsed(DEVICE, DEVICE, *it) for it in ((text, metadata), (later, again))
    )
    assert before == after
    labelled = headers.parsed(DEVICE, DEVICE, text.replace("(no label)", "other"), metadata)
    assert labelled.digest != before.digest


def test_the_digest_of_version_1_is_not_of_the_name_of_the_file() -> None:
    text = (DATA / "luks1.txt").read_text()
    first, second = (
        headers.parsed(
            DEVICE, DEVICE, text.replace("information for luks1", f"information for {it}")
        )
        for it in "xy"
    )
    assert first == second
    assert headers.parsed(DEVICE, DEVICE, text.replace("600000", "600001")).digest != first.digest


@pytest.mark.parametrize("name", ["luks1", "luks2-good"])
@pytest.mark.parametrize("metadata", ["", "[]", "{}", '{"keyslots": {"0": 1}}'])
def test_what_is_not_understood_is_an_error(name: str, metadata: str) -> None:
    text = (DATA / f"{name}.txt").read_text().replace("MK bits", "Bits")
    with pytest.raises(Refused, match=f"what cryptsetup says of {DEVICE} is not understood"):
        headers.parsed(DEVICE, DEVICE, text, metadata)


# How it is read -----------------------------------------------------------------------------------


def copy(number: int = 3, size: int = 0x4000, first: bool = True) -> bytes:
    """A copy of a header of version 2, with a text in place of the metadata."""
    parts = (size, number, b"", b"sha256", b"salt", b"uuid", b"", 0 if first else size, b"")
    magic = b"LUKS\xba\xbe" if first else b"SKUL\xba\xbe"
    plain = struct.pack(">6sHQQ48s32s64s40s48sQ184s64s", magic, 2, *parts, b"")
    whole = plain.ljust(4096, b"\0") + b"{}".ljust(size - 4096, b"\0")
    return whole[:448] + hashlib.sha256(whole).digest().ljust(64, b"\0") + whole[512:]


def put(host: Any, data: bytes) -> None:
    host.put(DEVICE)
    host.path(DEVICE).write_bytes(data)


def answer(host: Any, name: str) -> None:
    path = host.path(DEVICE)
    host.answer(f"cryptsetup luksDump {path}", (DATA / f"{name}.txt").read_text())
    if (DATA / f"{name}.json").exists():
        metadata = (DATA / f"{name}.json").read_text()
        host.answer(f"cryptsetup luksDump --dump-json-metadata {path}", metadata)


def test_a_header_is_read(host: Any) -> None:
    put(host, copy() + copy(first=False))
    answer(host, "luks2-slots")
    assert headers.read(host, DEVICE) == recorded("luks2-slots")


def test_version_1_is_not_asked_for_metadata(host: Any) -> None:
    put(host, b"LUKS\xba\xbe\0\1")
    answer(host, "luks1")
    assert headers.read(host, DEVICE) == recorded("luks1")
    assert len(host.ran) == 1


def test_a_detached_header_is_read_where_it_is(host: Any) -> None:
    answer(host, "luks2-detached")
    header = headers.read(host, "/dev/sdc", DEVICE)
    assert header
    assert (header.device, header.file, header.detached) == ("/dev/sdc", DEVICE, True)
    assert header.data[0].offset == 0


@pytest.mark.parametrize("data", [b"", b"\0" * 8192, b"LVM2 001" * 99999, b"LUKSX" * 9999])
def test_a_device_without_a_header_has_none(host: Any, data: bytes) -> None:
    put(host, data)
    assert headers.read(host, DEVICE) is None
    assert not host.ran


def test_without_cryptsetup_nothing_is_told(host: Any) -> None:
    put(host, copy() + copy(first=False))
    with pytest.raises(Refused, match=f"cryptsetup is not installed, so that {DEVICE} cannot"):
        headers.read(host, DEVICE)


def test_a_device_that_is_not_there_is_no_device_without_a_header(host: Any) -> None:
    err = f"Device {DEVICE} does not exist or access denied.\n"
    host.answer("cryptsetup luksDump", status=4, err=err)
    with pytest.raises(Refused, match=f"cannot read the header in {DEVICE}: Device .* not exist"):
        headers.read(host, DEVICE)


def test_a_device_that_cannot_be_read_is_no_device_without_a_header(host: Any) -> None:
    host.path(DEVICE).mkdir(parents=True)
    with pytest.raises(Refused, match=f"{DEVICE} cannot be read: Is a directory"):
        headers.read(host, DEVICE)


def test_a_header_that_goes_while_it_is_read_is_an_error(host: Any) -> None:
    answer(host, "luks2-good")
    gone = Ran(1, "", f"Device {DEVICE} is not a valid LUKS device.\n")
    host.answers["cryptsetup", "luksDump", "--dump-json-metadata", str(host.path(DEVICE))] = gone
    with pytest.raises(Refused, match="changed while its header was read"):
        headers.read(host, DEVICE)


# Damaged ones, which cryptsetup would mend --------------------------------------------------------

BAD = b"\xff" * 4096
FIRST, SECOND, BOTH = "first copy is", "second copy is", "both copies are"


@pytest.mark.parametrize(
    ("data", "damaged"),
    [
        (bytes(0x4000) + copy(first=False), FIRST),
        (copy()[:4096] + BAD + bytes(0x2000) + copy(first=False), FIRST),
        (copy(2) + copy(3, first=False), FIRST),
        (copy() + bytes(0x4000), SECOND),
        (copy(), SECOND),
        (copy(4) + copy(3, first=False), SECOND),
        (copy(size=0x10000) + bytes(0x10000), SECOND),
        (copy()[:4096] + BAD, BOTH),
        (copy()[:100], BOTH),
        (b"LUKS\xba\xbe\0\3" + bytes(8192), BOTH),
    ],
)
def test_a_damaged_header_is_said_and_left_alone(
    host: Any, monkeypatch: pytest.MonkeyPatch, data: bytes, damaged: str
) -> None:
    monkeypatch.setattr(intact, "_PAUSE", 0)
    put(host, data)
    with pytest.raises(Refused, match=f"{DEVICE} has a LUKS header .* {damaged} damaged"):
        headers.read(host, DEVICE)
    assert not host.ran
    assert host.path(DEVICE).read_bytes() == data


def test_one_that_was_being_written_is_looked_at_again(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(host, copy(4) + copy(3, first=False))
    whole = copy(4) + copy(4, first=False)
    monkeypatch.setattr(intact.time, "sleep", lambda _: put(host, whole))
    assert intact.look(host.path(DEVICE)) is True


@pytest.mark.parametrize("size", [0x4000, 0x8000, 0x400000])
def test_an_undamaged_one_may_have_any_size(host: Any, size: int) -> None:
    put(host, copy(size=size) + copy(size=size, first=False))
    assert intact.look(host.path(DEVICE)) is True


def test_one_that_the_old_program_was_changing_is_an_error(host: Any) -> None:
    put(host, b"LUKS\xde\xad\0\1" + bytes(592))
    with pytest.raises(Refused, match="left in the middle of cryptsetup-reencrypt"):
        headers.read(host, DEVICE)

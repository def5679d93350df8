"""Tables of device-mapper as a kernel 6.1 had them, and how they are against headers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from luks_recorded import DATA, DEVICE, recorded

from rocksalt.blocks import Device, Devices
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks import tables
from rocksalt.luks.headers import Header
from rocksalt.luks.tables import Crypt, Table, Target

INFO = "dmsetup --manglename none info -c --noheadings --separator / -o major,minor,name,uuid"
TABLE = "dmsetup --manglename none table"
UUID = "CRYPT-LUKS2-00000000000040008000000000000003-disk"
SIZE = 41943040


@pytest.fixture
def real(host: Any) -> dict[str, Table]:
    """Tables by name, as recorded."""
    host.answer(INFO, (DATA / "dmsetup-info.txt").read_text())
    host.answer(TABLE, (DATA / "dmsetup-table.txt").read_text())
    host.put("/sys/block/dm-0/dm/name")
    return {table.name: table for table in tables.read(host).values()}


# What they say ------------------------------------------------------------------------------------


def test_a_table_is_read(real: dict[str, Table]) -> None:
    table = real["good"]
    assert (table.number, table.kind) == ("253:0", "LUKS2")
    assert table.header_uuid == "00000000-0000-4000-8000-00000000000a"
    assert table.crypts == (
        Crypt(
            *(0, 163840, "aes-xts-plain64", 512, 0, "254:16", 32768),
            sector_size=4096,
            options=("allow_discards",),
        ),
    )
    assert table.crypts[0].discards


def test_integrity_is_named_as_in_headers(real: dict[str, Table]) -> None:
    (crypt,) = real["integ"].crypts
    assert (crypt.cipher, crypt.integrity) == ("aes-xts-plain64", "hmac(sha256)")
    assert (crypt.key_size, crypt.device, crypt.sector_size) == (768, "253:1", 4096)
    assert real["integ_dif"].kind == "INTEGRITY"
    assert real["integ_dif"].crypts == ()


@pytest.mark.parametrize(
    ("live", "option", "cipher", "integrity"),
    [
        ("aes-cbc-essiv:sha256", "none", "aes-cbc-essiv:sha256", ""),
        ("capi:gcm(aes)-random", "integrity:28:aead", "aes-gcm-random", "aead"),
        (
            "capi:rfc7539(chacha20,poly1305)-random",
            "integrity:28:aead",
            "chacha20-random",
            "poly1305",
        ),
        (
            "capi:authenc(hmac(sha256),cbc(aes))-essiv:sha256",
            "integrity:32:aead",
            "aes-cbc-essiv:sha256",
            "hmac(sha256)",
        ),
    ],
)
def test_ciphers_are_named_as_in_headers(
    live: str, option: str, cipher: str, integrity: str
) -> None:
    arguments = (live, ":32:logon:x", "0", "253:1", "0", "1", option)
    (crypt,) = Table("disk", "253:2", UUID, (Target(0, 8, "crypt", arguments),)).crypts
    assert (crypt.cipher, crypt.integrity, crypt.key_size) == (cipher, integrity, 256)


def test_a_name_may_have_anything_in_it(real: dict[str, Table], host: Any) -> None:
    table = real["with\\x20space"]
    assert (table.kind, table.number, table.crypts[0].key_size) == ("LUKS1", "253:3", 512)
    host.answer(INFO, "253/0/a/\n253/1/a: 0 8 linear/\n253/2/gone/CRYPT-PLAIN-gone\n")
    host.answer(TABLE, "a: 0 8 crypt x\na: 0 8 linear: 0 8 linear 8:0 0\ngone: \n")
    found = tables.read(host)
    assert found["253:0"].targets == (Target(0, 8, "crypt", ("x",)),)
    assert found["253:1"].targets == (Target(0, 8, "linear", ("8:0", "0")),)
    assert found["253:2"] == Table("gone", "253:2", "CRYPT-PLAIN-gone", ())


def test_what_has_no_header_says_none(real: dict[str, Table]) -> None:
    assert (real["plainswap"].kind, real["plainswap"].header_uuid) == ("PLAIN", "")
    assert (real["noname"].kind, real["noname"].header_uuid) == ("", "")
    assert (real["vg--0-t1"].kind, real["vg--0-t1"].crypts) == ("", ())
    assert real["fake"].header_uuid == ""


def test_keys_are_never_asked_for(real: dict[str, Table], host: Any) -> None:
    assert host.ran
    assert not any("key" in word for command in host.ran for word in command)


def test_what_is_handed_on_as_it_is(real: dict[str, Table]) -> None:
    plain = tables.plain({table.name: table for table in real.values()})
    for name in ("good", "inner", "integ", "plainswap", "noname", "with\\x20space"):
        assert plain[name] == ()
    assert plain["fake"] == ("254:16",)
    assert plain["integ_dif"] == ("254:32",)
    assert plain["vg--0-thin-tpool"] == ("253:7", "253:8")


@pytest.mark.parametrize(
    ("targets", "wanted"),
    [
        ([("crypt", "cipher_null-ecb - 0 8:0 0")], ("8:0",)),
        ([("crypt", "aes-xts-plain64 00 0 8:0 0"), ("linear", "8:1 0")], ("8:1",)),
        ([("linear", "8:1 0"), ("linear", "8:1 9")], ("8:1",)),
        ([("crypt", "aes-xts-plain64 00 0 8:0 0"), ("zero", ""), ("error", "")], ()),
        ([("zero", ""), ("error", "")], ("",)),
        ([("strange", "here")], ("",)),
        ([], ("",)),
    ],
)
def test_what_a_table_hands_on(targets: list[tuple[str, str]], wanted: tuple[str, ...]) -> None:
    lines = tuple(Target(0, 8, kind, tuple(text.split())) for kind, text in targets)
    assert tables.plain({"253:0": Table("x", "253:0", "", lines)}) == {"253:0": wanted}


def test_a_host_without_device_mapper_has_none(host: Any) -> None:
    assert tables.read(host) == {}
    assert not host.ran


def test_without_dmsetup_nothing_is_told(host: Any) -> None:
    host.put("/sys/block/dm-0/dm/name")
    with pytest.raises(Refused, match="dmsetup is not installed"):
        tables.read(host)


def test_a_dmsetup_that_fails_tells_nothing(host: Any) -> None:
    host.put("/sys/block/dm-0/dm/name")
    host.answer("dmsetup", status=1, err="Failure to communicate\nwith the kernel.\n")
    with pytest.raises(Refused, match=r"cannot read .*: Failure to communicate with the kernel\."):
        tables.read(host)


@pytest.mark.parametrize("arguments", [(), ("aes", "00", "x", "8:0", "0")])
def test_a_table_that_is_not_understood_is_an_error(arguments: tuple[str, ...]) -> None:
    table = Table("disk", "253:0", UUID, (Target(0, 8, "crypt", arguments),))
    with pytest.raises(Refused, match="the table of disk is not understood"):
        _ = table.crypts


# Against a header ---------------------------------------------------------------------------------


def machine(*others: Device) -> Devices:
    devices = [Device("sdb1", "8:17", DEVICE, SIZE, "partition"), *others]
    return Devices(Host("/nowhere"), {it.number: it for it in devices}, [], [])


def opened(old: str = "", new: str = "", uuid: str = UUID) -> Table:
    """The recorded header, open: with one text replaced."""
    text = "aes-xts-plain64 :64:logon:cryptsetup:x-d0 0 8:17 32768"
    assert old in text
    length = SIZE // 512 - 32768
    arguments = tuple(text.replace(old, new).split())
    return Table("disk", "253:0", uuid, (Target(0, length, "crypt", arguments),))


def test_a_device_that_is_as_its_header_says() -> None:
    assert tables.differences(recorded("luks2-good"), opened(), machine()) == []


def test_the_text_of_a_uuid_may_have_capitals() -> None:
    header = dataclasses.replace(
        recorded("luks2-good"), uuid="ABCDEF00-0000-4000-8000-000000000003"
    )
    table = opened(uuid="CRYPT-LUKS2-abcdef00000040008000000000000003-disk")
    assert tables.differences(header, table, machine()) == []


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("aes-xts", "aes-cbc", "has the cipher aes-cbc-plain64, its header says aes-xts-plain64"),
        (":64:", ":32:", "has the key size 256, its header says 512"),
        ("x-d0 0", "x-d0 8", "has the first IV 8, its header says 0"),
        ("32768", "4096", "has the offset 2097152, its header says 16777216"),
        ("32768", "32768 1 sector_size:4096", "has the sector size 4096, its header says 512"),
        ("32768", "32768 1 integrity:32:none", ""),
        ("32768", "32768 1 integrity:32:aead", "has the integrity aead, its header says none"),
        ("8:17", "8:33", "lies on /dev/sdc1, its header is that of /dev/sdb1"),
    ],
)
def test_each_difference_is_a_sentence(old: str, new: str, sentence: str) -> None:
    devices = machine(Device("sdc1", "8:33", "/dev/sdc1", SIZE, "partition"))
    found = tables.differences(recorded("luks2-good"), opened(old, new), devices)
    assert found == ([f"disk {sentence}"] if sentence else [])


def test_another_header_of_the_same_kind() -> None:
    other = UUID.replace("3-disk", "4-disk")
    (found,) = tables.differences(recorded("luks2-good"), opened(uuid=other), machine())
    assert found.startswith("disk was opened by a header with the UUID 00000000-0000-4000-8000-00")
    (found,) = tables.differences(recorded("luks2-good"), opened(uuid=""), machine())
    assert "UUID none, not 00000000-0000-4000-8000-000000000003" in found


def test_a_device_that_grew_without_its_mapping() -> None:
    devices = machine()
    grown = dataclasses.replace(devices.by_number["8:17"], size=SIZE * 2)
    devices = dataclasses.replace(devices, by_number={"8:17": grown})
    (found,) = tables.differences(recorded("luks2-good"), opened(), devices)
    assert found == f"disk has the size {SIZE - 16777216}, its header says {SIZE * 2 - 16777216}"


def test_a_device_that_is_gone() -> None:
    devices = Devices(Host("/nowhere"), {}, [], [])
    found = tables.differences(recorded("luks2-good"), opened(), devices)
    assert "disk lies on nothing, its header is that of /dev/sdb1" in found


def test_a_part_that_is_not_encrypted() -> None:
    table = opened()
    more = dataclasses.replace(
        table, targets=(*table.targets, Target(9, 8, "linear", ("8:17", "0")))
    )
    found = tables.differences(recorded("luks2-good"), more, machine())
    assert found == ["disk is not of dm-crypt alone, but also of linear"]
    none = dataclasses.replace(table, targets=(Target(0, 8, "linear", ("8:17", "0")),))
    found = tables.differences(recorded("luks2-good"), none, machine())
    assert found[1] == "disk has 0 encrypted parts, its header 1"


def test_with_integrity_the_device_is_two_below(real: dict[str, Table]) -> None:
    header = recorded("luks2-integrity")
    lower = Device("dm-1", "253:1", "/dev/mapper/integ_dif", 0, "integrity", parents=("8:17",))
    assert tables.differences(header, real["integ"], machine(lower)) == []
    (found,) = tables.differences(header, real["integ"], machine())
    assert found == f"integ lies on nothing, its header is that of {DEVICE}"


def test_a_detached_header(real: dict[str, Table]) -> None:
    header: Header = dataclasses.replace(
        recorded("luks2-detached"), file="/hdr", uuid=real["detached"].header_uuid
    )
    device = Device("vdf", "254:80", DEVICE, 196608 * 512, "disk")
    devices = Devices(Host("/nowhere"), {"254:80": device}, [], [])
    (found,) = tables.differences(header, real["detached"], devices)
    assert found == "detached has the sector size 512, its header says 4096"


def test_while_it_is_reencrypted_it_has_parts_of_both() -> None:
    header = recorded("luks2-reencrypting")
    parts = (Target(0, 8, "crypt", opened().targets[0].arguments), Target(8, 8, "linear", ()))
    table = dataclasses.replace(opened(), targets=parts)
    assert tables.differences(header, table, machine()) == []
    found = tables.differences(header, opened("aes-xts", "aes-cbc"), machine())
    assert found == ["disk has the cipher aes-cbc-plain64, its header says aes-xts-plain64"]


REENCRYPTING = """\
disk-overlay: 0 8192 crypt aes-xts-plain64 :64:logon:cryptsetup:x-d1 0 8:17 32768
disk-overlay: 8192 8192 crypt aes-xts-plain64 :64:logon:cryptsetup:x-d1 8192 253:1 8192
disk-overlay: 16384 40960 crypt aes-xts-plain64 :64:logon:cryptsetup:x-d0 16384 8:17 49152
disk-hotzone-forward: 0 57344 linear 8:17 32768
disk: 0 57344 linear 253:2 0
"""
"""As recorded in the middle of it, with another name, device and key description."""


def test_a_device_is_encrypted_all_the_while_it_is_reencrypted(host: Any) -> None:
    host.put("/sys/block/dm-0/dm/name")
    host.answer(INFO, f"253/0/disk/{UUID}\n253/1/disk-hotzone-forward/\n253/2/disk-overlay/\n")
    host.answer(TABLE, REENCRYPTING)
    found = tables.read(host)
    plain = tables.plain(found)
    assert plain == {"253:0": ("253:2",), "253:1": ("8:17",), "253:2": ()}
    assert tables.differences(recorded("luks2-reencrypting"), found["253:0"], machine()) == []

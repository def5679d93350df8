"""tests/infra: what lies on encrypted disks, by what lsblk and cryptsetup print."""

from __future__ import annotations

import json
from typing import Any

import pytest
from infra import test_luks as luks
from infra.asking import Answer

SETTINGS: dict[str, Any] = {
    "exempt": {"/boot": "the boot loader"},
    "versions": [2],
    "ciphers": ["aes-xts-plain64"],
    "key_size": 512,
    "pbkdfs": ["argon2id"],
    "argon2_memory": 65536,
    "argon2_time": 4,
    "pbkdf2_iterations": 600000,
    "sector_size": 512,
    "integrity": False,
    "tokens": ["systemd-tpm2"],
    "volumes": {},
}
SLOT = {
    "key_size": 64,
    "area": {"encryption": "aes-xts-plain64"},
    "kdf": {"type": "argon2id", "memory": 65536, "time": 4},
}


def device(name: str, kind: str, holds: str = "", *mounts: str, on: Any = ()) -> dict[str, Any]:
    found = {
        "name": f"/dev/{name}",
        "type": kind,
        "fstype": holds or None,
        "mountpoints": [*mounts],
    }
    return {**found, "children": [*on]} if on else found


def disk(root: dict[str, Any], swap: dict[str, Any]) -> dict[str, Answer]:
    boot = device("vda1", "part", "ext4", "/boot")
    tree = {"blockdevices": [device("vda", "disk", on=[boot, root, swap])]}
    return {"blocks": Answer(json.dumps(tree), 0)}


def encrypted(name: str, *below: dict[str, Any]) -> dict[str, Any]:
    return device(name, "part", "crypto_LUKS", on=[device(f"mapper/{name}", "crypt", on=below)])


ROOT = device("mapper/vg-root", "lvm", "ext4", "/")
GOOD = disk(
    device(
        "vda2", "part", "crypto_LUKS", on=[device("mapper/a", "crypt", "LVM2_member", on=[ROOT])]
    ),
    device("vda3", "part", "crypto_LUKS", on=[device("mapper/b", "crypt", "swap", "[SWAP]")]),
)
BARE = disk(
    device("vda2", "part", "LVM2_member", on=[ROOT]), device("vda3", "part", "swap", "[SWAP]")
)
TESTS = (
    luks.test_what_is_mounted_is_encrypted,
    luks.test_swap_is_encrypted,
    luks.test_members_are_encrypted,
)


@pytest.mark.parametrize("test", TESTS)
def test_an_encrypted_disk_passes_and_a_bare_one_fails(test: Any) -> None:
    test(GOOD, SETTINGS)
    with pytest.raises(AssertionError, match="/dev/"):
        test(BARE, SETTINGS)
    test(BARE, {**SETTINGS, "exempt": {"/dev/vda": "a reason", "swap": "another", "/boot": "x"}})


def test_a_place_is_exempt_only_if_all_are() -> None:
    twice = disk(device("vda2", "part", "ext4", "/boot", "/srv"), encrypted("vda3"))
    with pytest.raises(AssertionError):
        luks.test_what_is_mounted_is_encrypted(twice, SETTINGS)
    below = disk(device("vda2", "part", "ext4", "/boot/efi"), encrypted("vda3"))
    luks.test_what_is_mounted_is_encrypted(below, SETTINGS)
    root = disk(device("vda2", "part", "ext4", "/srv"), encrypted("vda3"))
    with pytest.raises(AssertionError):
        luks.test_what_is_mounted_is_encrypted(root, {**SETTINGS, "exempt": {"/": "all"}})


def test_temporary_folders_are_not_excused_with_the_file_system_they_lie_on() -> None:
    said = Answer("/tmp tmpfs tmpfs\n/var/tmp ext4 /dev/mapper/vg-root[/var/tmp]\n", 0)
    test = luks.test_temporary_folders
    test({**GOOD, "temporary": said}, SETTINGS)
    for free in ("/dev/vda2", "/var/tmp"):
        test({**BARE, "temporary": said}, {**SETTINGS, "exempt": {free: "a reason"}})
    for left in ({"/": "a reason"}, {}):
        with pytest.raises(AssertionError, match="/var/tmp"):
            test({**BARE, "temporary": said}, {**SETTINGS, "exempt": left})


def dumps(slot: dict[str, Any], encryption: str = "aes-xts-plain64") -> dict[str, Answer]:
    part = {"encryption": encryption, "sector_size": 512}
    head = {"keyslots": {"0": {**SLOT, **slot}}, "segments": {"0": part}, "tokens": {}}
    return {"dumps": Answer(f"== /dev/vda2\n{json.dumps(head)}\n", 0)}


HEADERS = (luks.test_ciphers_and_keys, luks.test_guessing_costs_enough)


def test_a_good_header_passes() -> None:
    for test in (*HEADERS, luks.test_versions, luks.test_sectors, luks.test_tokens):
        test(dumps({}), SETTINGS)


@pytest.mark.parametrize(
    ("number", "slot", "encryption"),
    [
        (0, {"key_size": 32}, "aes-xts-plain64"),
        (0, {}, "aes-cbc-essiv:sha256"),
        (0, {"area": {"encryption": "aes-cbc-plain"}}, "aes-xts-plain64"),
        (1, {"kdf": {"type": "pbkdf2", "iterations": 9_000_000}}, "aes-xts-plain64"),
        (1, {"kdf": {"type": "argon2id", "memory": 32, "time": 4}}, "aes-xts-plain64"),
        (1, {"kdf": {"type": "argon2id", "memory": 65536, "time": 1}}, "aes-xts-plain64"),
    ],
)
def test_a_weak_header_fails(number: int, slot: dict[str, Any], encryption: str) -> None:
    with pytest.raises(AssertionError, match="/dev/vda2"):
        HEADERS[number](dumps(slot, encryption), SETTINGS)


def test_an_old_header_fails() -> None:
    with pytest.raises(AssertionError, match="/dev/vdb"):
        luks.test_versions({"dumps": Answer("== /dev/vdb\nLUKS1\n", 0)}, SETTINGS)


@pytest.mark.parametrize("said", ["", "Device /dev/vdb does not exist or access denied."])
def test_a_header_that_cannot_be_read_is_not_judged_as_good(said: str) -> None:
    seen = {"dumps": Answer(f"== /dev/vdb\n{said}\n", 0)}
    for test in (*HEADERS, luks.test_sectors, luks.test_tokens):
        with pytest.raises(AssertionError, match="/dev/vdb"):
            test(seen, SETTINGS)


def test_a_container_has_no_disks() -> None:
    assert "systemd-nspawn" in luks.not_here({"container": Answer("systemd-nspawn\n", 0)})
    assert luks.not_here({"container": Answer("none\n", 1)}) == ""

"""How well headers encrypt, against settings; the headers are what cryptsetup told of true ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import luks_recorded
import pytest
import yaml
from block_devices import machine

from rocksalt import blocks
from rocksalt.host import Host
from rocksalt.luks import crypttab
from rocksalt.luks.family.quality import Quality
from rocksalt.luks.family.reading import Headers, Reading
from rocksalt.luks.headers import Header
from rocksalt.luks.tables import Table, Target

SPECS = yaml.safe_load(Path("salt/hardening/luks/defaults.yaml").read_text())
GOOD = "00000000-0000-4000-8000-000000000003"
ROCKSALT = {"type": "rocksalt", "keyslots": ["0"], "volume": "data", "customer": "acme"}


def recorded(name: str, change: Callable[[Any], None] = lambda metadata: None) -> Header:
    return replace(luks_recorded.recorded(name, change), device="/dev/sda1", file="/dev/sda1")


def with_token(**token: Any) -> Header:
    """The header that is weak, with a token."""

    def change(metadata: Any) -> None:
        metadata["tokens"]["0"] = {"keyslots": ["0"], **token}

    return recorded("luks2-weak", change)


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., Quality]:
    """The comparison of headers and tables with settings, on a machine with /dev/sda1."""
    host = Host(str(machine(tmp_path).root))

    def call(
        *known: Header, tables: Iterable[Table] = (), tab: str = "", **settings: Any
    ) -> Quality:
        host.write(crypttab.PATH, tab)
        reading = Reading(host, settings.get("detached_headers", {}))
        vars(reading)["devices"] = blocks.tree(host)
        vars(reading)["tables"] = {it.number: it for it in tables}
        numbered = dict(zip(("8:1", "8:16"), known, strict=False))
        vars(reading)["headers"] = Headers(numbered)
        return Quality(reading, {name: it["default"] for name, it in SPECS.items()} | settings)

    return call


ALL = ("versions", "ciphers", "costs", "sectors", "slots", "tokens")


def found(it: Quality, *looks: str) -> list[str]:
    words = [text for name in looks or ALL for text in it.of_headers(getattr(it, name))]
    return [text.removeprefix("/dev/sda1: ") for text in words]


def test_a_good_header_is_right(look):
    assert found(look(recorded("luks2-good"))) == []


def test_a_weak_header(look):
    assert found(look(recorded("luks2-weak"))) == [
        "encrypts data with aes-cbc-plain64",
        "has a volume key of 128 bits, not 512",
        "encrypts key slot 0 with aes-cbc-plain64",
        "encrypts key slot 0 with 128 bits, not 512",
        "derives key slot 0 with pbkdf2, not argon2id",
    ]


def test_an_old_header(look):
    old = recorded("luks1")
    assert found(look(old), "versions") == ["has a header of LUKS1"]
    assert found(look(old, versions=[1, 2]), "versions") == []


def test_what_was_decided_is_right(look):
    weak = recorded("luks2-weak")
    settings = {"ciphers": ["aes-cbc-plain64"], "key_size": 128, "pbkdfs": ["pbkdf2"]}
    assert found(look(weak, **settings, pbkdf2_iterations=1000)) == []
    assert found(look(weak, **settings)) == ["iterates 1000 times for key slot 0, not 600000"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"argon2_memory": 65537}, "takes 65536 KiB of memory for key slot 0, not 65537"),
        ({"argon2_time": 5}, "makes 4 passes for key slot 0, not 5"),
        ({"sector_size": 4096}, "encrypts sectors of 512 bytes, not 4096"),
        ({"integrity": True}, "does not authenticate its sectors"),
        ({"key_slots": {GOOD: 2}}, "has 1 key slot in use (0), not 2"),
    ],
)
def test_more_than_a_good_header_has(look, setting, words):
    assert found(look(recorded("luks2-good"), **setting)) == [words]


@pytest.mark.parametrize("kind", ["clevis", "systemd-tpm2", "systemd-fido2"])
def test_what_a_machine_opens_may_be_cheap(look, kind):
    header = with_token(type=kind)
    assert found(look(header), "costs") == []
    assert len(found(look(header, tokens=[]), "costs")) == 1, "one that nobody accepts"
    assert len(found(look(with_token(type="other")), "costs")) == 1


def test_more_key_slots_than_declared(look):
    several = recorded("luks2-slots")
    assert found(look(several), "slots") == ["has 3 key slots in use (0, 5, 7), not 1"]
    assert found(look(several, key_slots={several.uuid: 3}), "slots") == []


def test_a_number_of_slots_by_the_name_of_the_open_device(look):
    several = recorded("luks2-slots")
    it = look(several, tables=[opened(several)], key_slots={"the-dm-0": 3})
    assert found(it, "slots") == []


def test_tokens(look):
    assert found(look(with_token(type="clevis")), "tokens") == []
    assert found(look(with_token(type="evil")), "tokens") == ["has token 0 of type 'evil'"]


def test_volumes_of_customers_have_our_tokens_and_a_control_of_their_own_for_slots(look):
    def change(metadata: Any) -> None:
        metadata["tokens"] = {"0": ROCKSALT, "1": {"type": "clevis", "keyslots": ["0"]}}

    header = recorded("luks2-slots", change)
    assert found(look(header), "slots") == []
    assert found(look(header), "tokens") == ["has token 1 of type 'clevis'"]


# What is mapped -----------------------------------------------------------------------------------


def opened(header: Header, cipher: str = "aes-xts-plain64", kind: str = "LUKS2") -> Table:
    """The device as its header has it mapped: it has 32 MiB."""
    words = [cipher, ":64:logon:cryptsetup:x", "0", "8:1", "32768"]
    number = f"{header.uuid.replace('-', '')}-" if kind.startswith("LUKS") else ""
    target = Target(0, 65536 - 32768, "crypt", tuple(words))
    return Table("the-dm-0", "252:0", f"CRYPT-{kind}-{number}the-dm-0", (target,))


def test_what_is_mapped_as_its_header_says(look):
    good = recorded("luks2-good")
    it = look(good, tables=[opened(good)])
    assert it.mapped() == []
    assert it.without_header() == []


def test_a_mapping_with_another_cipher(look):
    good = recorded("luks2-good")
    (words,) = look(good, tables=[opened(good, "aes-xts-plain")]).mapped()
    assert words.startswith("the-dm-0 has the cipher aes-xts-plain, ")


def test_a_mapping_whose_header_is_gone(look):
    it = look(tables=[opened(recorded("luks2-good"))])
    assert it.mapped() == [f"the-dm-0 cannot be opened again: no header has its UUID {GOOD}"]
    assert len(it.without_header()) == 1


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("PLAIN", "the-dm-0 is open as plain dm-crypt, without a header"),
        ("TCRYPT", "the-dm-0 is open as TCRYPT, not LUKS"),
    ],
)
def test_what_encrypts_without_luks(look, kind, words):
    table = opened(recorded("luks2-good"), kind=kind)
    assert look(tables=[table]).without_header() == [words]


def test_swap_with_a_random_key_is_plain(look):
    table = opened(recorded("luks2-good"), kind="PLAIN")
    line = "the-dm-0 /dev/sda1 /dev/urandom swap,plain\n"
    assert look(tables=[table], tab=line).without_header() == []


def test_a_line_that_opens_a_plain_device(look):
    line = "old /dev/sda1 /etc/keys/old plain\n"
    assert look(tab=line).without_header() == ["/etc/crypttab line 1: opens old as plain dm-crypt"]


def test_a_header_elsewhere_has_to_be_declared(look):
    apart = replace(recorded("luks2-detached"), file="/root/header")
    said = look(apart).without_header()
    assert said == ["/dev/sda1 has its header in /root/header, which nobody declared"]
    assert look(apart, detached_headers={"/dev/sda1": "/root/header"}).without_header() == []
    assert len(look(apart, detached_headers={"/dev/sda1": "/srv/other"}).without_header()) == 1

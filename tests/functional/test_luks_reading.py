"""Headers that the real cryptsetup made, in files: what is read of them, and that reading writes
nothing.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import subprocess
from pathlib import Path

import pytest

from rocksalt.backup.crypto import age
from rocksalt.blocks import Device, Devices, Signature, signatures
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks import copies, headers
from rocksalt.luks.headers import Header

pytestmark = pytest.mark.any_salt
CHEAP = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
PART = 4096
NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.timezone.utc)


def cryptsetup(*arguments: str | Path, key: str = "pass") -> None:
    subprocess.run(["cryptsetup", "-q", *arguments], input=key, text=True, check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "a disk"
    path.touch()
    with open(path, "r+b") as file:
        file.truncate(32 << 20)
    return path


@pytest.fixture
def encrypted(disk: Path) -> Path:
    cryptsetup("luksFormat", "--type", "luks2", "--label", "a label", *CHEAP, disk, "-")
    return disk


def read(path: Path) -> Header:
    header = headers.read(Host(), str(path))
    assert header
    return header


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def test_version_2(encrypted: Path) -> None:
    before = digest(encrypted)
    header = read(encrypted)
    assert (header.version, header.label, header.key_size) == (2, "a label", 512)
    assert header.data[0].cipher == "aes-xts-plain64"
    assert (header.slots[0].kdf, header.slots[0].iterations) == ("pbkdf2", 1000)
    assert digest(encrypted) == before


def test_version_1(disk: Path) -> None:
    cryptsetup("luksFormat", "--type", "luks1", "--pbkdf-force-iterations", "1000", disk, "-")
    header = read(disk)
    assert (header.version, header.key_size, list(header.slots)) == (1, 512, [0])


def test_another_slot_changes_the_digest_and_a_look_does_not(encrypted: Path) -> None:
    before = read(encrypted)
    assert read(encrypted) == before
    cryptsetup("luksAddKey", "--key-slot", "4", *CHEAP, encrypted, key="pass\nother\n")
    after = read(encrypted)
    assert list(after.slots) == [0, 4]
    assert after.digest != before.digest
    assert after.slots[0] == before.slots[0]
    cryptsetup("luksKillSlot", encrypted, "4", key="pass")
    assert read(encrypted).digest == before.digest


def test_a_reencryption_that_was_begun(encrypted: Path) -> None:
    cryptsetup("reencrypt", "--init-only", *CHEAP, encrypted)
    assert read(encrypted).reencrypting


@pytest.mark.parametrize(("offset", "which"), [(PART, "first"), (0x4000 + PART, "second")])
def test_a_damaged_copy_is_told_and_not_mended(encrypted: Path, offset: int, which: str) -> None:
    overwrite(encrypted, offset, b"\xff" * 16)
    before = digest(encrypted)
    with pytest.raises(Refused, match=f"whose {which} copy is damaged"):
        headers.read(Host(), str(encrypted))
    assert digest(encrypted) == before
    # This is what it guards against.
    cryptsetup("luksDump", encrypted)
    assert digest(encrypted) != before
    assert read(encrypted).label == "a label"


def test_what_is_no_longer_a_header(encrypted: Path) -> None:
    for offset in (PART, 0x4000 + PART):
        overwrite(encrypted, offset, b"\xff" * 16)
    with pytest.raises(Refused, match="both copies are damaged"):
        headers.read(Host(), str(encrypted))
    subprocess.run(["wipefs", "-qa", encrypted], check=True)
    assert headers.read(Host(), str(encrypted)) is None


def test_what_never_was_one(disk: Path) -> None:
    assert headers.read(Host(), str(disk)) is None
    with pytest.raises(Refused, match="does not exist"):
        headers.read(Host(), f"{disk}-other")


def test_blkid_tells_what_lies_on_devices(encrypted: Path, tmp_path: Path) -> None:
    """Also behind one with nothing on it, where it ends."""
    (tmp_path / "dev").mkdir()
    names = ("vda", "empty", "missing", "vdb")
    for name in (names[0], names[3]):
        (tmp_path / "dev" / name).symlink_to(encrypted)
    (tmp_path / "dev/empty").write_bytes(bytes(1 << 20))
    found = [Device(it, str(at), f"/dev/{it}", 1 << 20, "disk") for at, it in enumerate(names)]
    host = Host(str(tmp_path))
    devices = Devices(host, {it.number: it for it in found}, [], [])
    luks = Signature("crypto_LUKS", read(encrypted).uuid, "a label")
    assert signatures(host, devices) == {
        "0": luks,
        "1": Signature(),
        "2": Signature(problem="/dev/missing cannot be read: No such file or directory"),
        "3": luks,
    }


@pytest.mark.parametrize("version", ["luks1", "luks2"])
def test_a_copy_does_not_give_way_to_damaged_key_slots(
    disk: Path, tmp_path: Path, version: str
) -> None:
    cryptsetup("luksFormat", "--type", version, *CHEAP, disk, "-")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/vda").symlink_to(disk)
    host, recipient = Host(str(tmp_path)), age.generate()[1]

    def copy() -> copies.Copy:
        return copies.back_up(host, "/dev/vda", [recipient], NOW)

    first = copy()
    (tmp_path / "more").write_text("more")
    cryptsetup("luksAddKey", *CHEAP, "--key-file=-", disk, tmp_path / "more")
    assert first.material.items() < copy().material.items()
    cryptsetup("luksKillSlot", "--key-file=-", disk, "1")
    last = copy()
    assert last.material == first.material
    good = copies.content(host, last.uuid)
    overwrite(disk, PART if version == "luks1" else 8 * PART, b"\xff" * 512)
    assert read(disk).digest == last.digest, "nothing else tells"
    with pytest.raises(Refused, match="key slots in its header are damaged"):
        copy()
    assert copies.content(host, last.uuid) == good

"""What is on a disk keeps it from being formatted, whatever the settings; nothing is written."""

from __future__ import annotations

import dataclasses
import errno
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import luks_volumes as given
import pytest
from luks_volumes import SIZE

from rocksalt.blocks import Device, Mount, Swap
from rocksalt.errors import Refused
from rocksalt.luks.config import Volume
from rocksalt.luks.cryptsetup import Strength
from rocksalt.luks.volumes import creating, formatting, journal, states
from rocksalt.luks.volumes.machine import Disks, Machine

MIB = 1 << 20
GPT_HEADER = struct.pack("<8sIIIIQQQQ", b"EFI PART", 65536, 92, 0, 0, 1, 163839, 34, 163806)


def gpt() -> bytes:
    """A partition table whose checksums are right."""
    head = GPT_HEADER + bytes(16) + struct.pack("<QIII", 2, 128, 128, zlib.crc32(bytes(16384)))
    return head[:16] + struct.pack("<I", zlib.crc32(head)) + head[20:]


ON_DISK: dict[str, list[tuple[int, bytes]]] = {
    "ext4": [(1024 + 56, b"\x53\xef")],
    "xfs": [(0, b"XFSB")],
    "btrfs": [(64 * 1024 + 64, b"_BHRfS_M")],
    "swap": [(1024, b"\1\0\0\0\xff\x4f"), (4086, b"SWAPSPACE2")],
    "a physical volume of LVM": [(512, b"LABELONE"), (536, b"LVM2 001")],
    "a member of RAID, superblock 1.2": [(4096, b"\xfc\x4e\x2b\xa9\x01")],
    "a member of RAID, superblock 0.90": [((SIZE & ~65535) - 65536, b"\xfc\x4e\x2b\xa9")],
    "a member of RAID, superblock 1.0": [(SIZE - 8192, b"\xfc\x4e\x2b\xa9\x01")],
    "LUKS1": [(0, b"LUKS\xba\xbe\0\1")],
    "LUKS2": [(0, b"LUKS\xba\xbe\0\2")],
    "the second header of LUKS2 alone": [(16384, b"SKUL\xba\xbe\0\2")],
    "a partition table of DOS": [(510, b"\x55\xaa"), (446, b"\x80" + bytes(3) + b"\x83")],
    "a partition table of type GPT": [(512, gpt())],
    "the second copy of a GPT alone": [(SIZE - 512, GPT_HEADER)],
    "ZFS": [(128 * 1024, b"\x0c\xb1\xba\0\0\0\0\0")],
    "ISO 9660": [(32768, b"\x01CD001")],
    "FAT": [(0, b"\xeb\x3c\x90mkfs.fat"), (510, b"\x55\xaa"), (54, b"FAT16   ")],
    "bcache": [(4096 + 24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81"))],
    "a first byte": [(0, b"\1")],
    "a byte at the end of the header": [(16 * MIB - 1, b"\1")],
    "a byte behind the header": [(20 * MIB, b"\1")],
    "a byte 16 MiB before the end": [(SIZE - 16 * MIB, b"\1")],
    "a last byte": [(SIZE - 1, b"\1")],
    "random data": [(0, os.urandom(4096))],
}
SETTINGS: dict[str, dict[str, Any]] = {
    "the least": {},
    "all": {
        "filesystem": "xfs",
        "options": ("noexec",),
        "owner": "daemon",
        "group": "daemon",
        "mode": "0700",
        "key_command": ("/bin/cat", "/dev/null"),
        "discard": True,
    },
}
STRENGTHS = [Strength(), Strength("aes-cbc-essiv:sha256", 256, "pbkdf2"), Strength(memory=32)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return given.machine(tmp_path)


@pytest.fixture
def volume() -> Volume:
    return given.volume(given.customer()[0])


@pytest.fixture
def disk(machine: Machine) -> Path:
    return machine.path("/disks/acme")


@pytest.fixture(autouse=True)
def never_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here comes so far that a key is made, or that something is written."""

    def broken(*_: object, **__: object) -> None:
        raise AssertionError("this goes too far")

    monkeypatch.setattr(creating, "_header", broken)
    monkeypatch.setattr(formatting.os, "pwrite", broken)


def refused(machine: Machine, volume: Volume) -> str:
    """Why the volume is not made; the same for whoever only asks. Its disk stays as it is."""
    disk = machine.path(volume.device)
    before = given.digest(disk) if disk.is_file() else None
    with pytest.raises(Refused) as asked:
        creating.create(machine, volume, given.NOW)
    obstacles = formatting.obstacles(machine, volume)
    assert len(obstacles) == 1
    assert obstacles[0].startswith("hardening:luks:volumes:data:device: ")
    assert (given.digest(disk) if disk.is_file() else None) == before
    assert not machine.path(journal.path("data")).exists()
    return str(asked.value)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("what", ON_DISK)
def test_whatever_is_on_a_disk_stays(
    what: str, settings: str, machine: Machine, disk: Path, volume: Volume
) -> None:
    with open(disk, "r+b") as file:
        for at, data in ON_DISK[what]:
            file.seek(at)
            file.write(data)
    before = given.digest(disk)
    volume = dataclasses.replace(volume, **SETTINGS[settings])
    for strength in STRENGTHS:
        with pytest.raises(Refused):
            creating.create(machine, volume, given.NOW, strength)
    assert "at least" not in "".join(formatting.obstacles(machine, volume) or ["at least"])
    assert given.digest(disk) == before
    assert not machine.path(journal.path("data")).exists()


def test_an_empty_disk_may_be_formatted(machine: Machine, volume: Volume, disk: Path) -> None:
    before = given.digest(disk)
    assert formatting.obstacles(machine, volume) == []
    assert states.state(machine, volume).condition == states.EMPTY
    assert given.digest(disk) == before


def test_it_says_what_is_on_the_disk(machine: Machine, volume: Volume, disk: Path) -> None:
    with open(disk, "r+b") as file:
        for at, data in ON_DISK["swap"]:
            file.seek(at)
            file.write(data)
    assert "TYPE=swap" in refused(machine, volume)


def test_it_says_where_data_are(machine: Machine, volume: Volume, disk: Path) -> None:
    with open(disk, "r+b") as file:
        file.seek(SIZE - 1)
        file.write(b"\1")
    assert refused(machine, volume).endswith(f"is not empty: there are data at byte {SIZE - 512}")


@pytest.mark.parametrize("size", [0, 512, 32 * MIB, 64 * MIB - 1])
def test_a_small_disk_is_none(size: int, machine: Machine, volume: Volume, disk: Path) -> None:
    os.truncate(disk, size)
    said = refused(machine, volume)
    assert said.endswith(f"has {size} bytes; a volume needs {64 * MIB} at least")


def test_a_missing_disk_is_none(machine: Machine, volume: Volume) -> None:
    machine.path(volume.device).unlink()
    assert refused(machine, volume) == f"{volume.device} does not exist"


def test_a_name_that_leads_nowhere_is_none(machine: Machine, volume: Volume, disk: Path) -> None:
    disk.unlink()
    assert refused(machine, volume) == f"{volume.device} does not exist"


@pytest.mark.parametrize("device", ["/disks/acme", "/dev/disk/by-id/../../../disks/acme"])
def test_only_stable_names_are_taken(device: str, machine: Machine, volume: Volume) -> None:
    said = refused(machine, dataclasses.replace(volume, device=device))
    assert "is no stable name of a disk" in said


def test_a_file_beside_the_links_is_none(machine: Machine, volume: Volume, disk: Path) -> None:
    link = machine.path(volume.device)
    link.unlink()
    disk.rename(link)
    assert refused(machine, volume).endswith("does not exist")


def test_files_are_disks_in_tests_alone(machine: Machine, volume: Volume, disk: Path) -> None:
    production = Machine(machine.host)
    assert type(production.disks) is Disks
    assert refused(production, volume).endswith("is not a disk")
    assert not production.disks.accepts(os.stat("/dev/null"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"read_only": True}, "can only be read"),
        ({"holders": ("253:0",)}, "is what /dev/dm-0 is made of"),
    ],
)
def test_a_disk_in_use_stays(
    change: dict[str, Any], said: str, machine: Machine, volume: Volume
) -> None:
    machine.disks.changes = change
    machine.disks.more = [Device("dm-0", "253:0", "/dev/dm-0", SIZE, "lvm")]
    assert refused(machine, volume).endswith(said)


def test_a_mounted_disk_stays(machine: Machine, volume: Volume, disk: Path) -> None:
    number = machine.disks.number(os.stat(disk))
    machine.disks.mounts = [Mount(1, 0, number, "/srv", "ext4", "/dev/x", "rw")]
    assert refused(machine, volume).endswith("is mounted at /srv")


def test_swap_in_use_stays(machine: Machine, volume: Volume) -> None:
    machine.disks.swaps = [Swap("/disks/acme", "partition", SIZE)]
    assert refused(machine, volume).endswith("is swap in use")


def busy(monkeypatch: pytest.MonkeyPatch, device: str, times: int) -> None:
    """Somebody else has the disk for so many tries to take it; who only looks does not mind."""
    real, left = os.open, [None] * times

    def open_(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if str(path).endswith(device) and flags & os.O_EXCL and left:
            left.pop()
            raise OSError(errno.EBUSY, "busy")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(formatting.os, "open", open_)


def test_what_the_kernel_keeps_for_somebody_stays(
    machine: Machine, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formatting, "_PATIENCE", 0.0)
    busy(monkeypatch, volume.device, 9)
    assert formatting.obstacles(machine, volume) == []
    with pytest.raises(Refused, match="is in use where this host does not show it"):
        creating.create(machine, volume, given.NOW)


def test_who_has_the_disk_for_a_moment_is_waited_for(
    machine: Machine, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(monkeypatch, volume.device, 2)
    with formatting.examined(machine, volume) as found:
        found.still()


def test_who_looks_keeps_nobody_out(machine: Machine, volume: Volume) -> None:
    with formatting.examined(machine, volume):
        assert formatting.obstacles(machine, volume) == []
        assert states.state(machine, volume).condition == states.EMPTY


def test_programs_look_at_what_is_open_already(
    machine: Machine, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another disk might have got the name meanwhile."""
    real, seen = machine.host.run, []

    def run(*command: str, **given: Any) -> Any:
        seen.append(os.path.realpath(command[-1]))
        return real(*command, **given)

    monkeypatch.setattr(machine.host, "run", run)
    real_open = os.open

    def exchanged_now(path: Any, *rest: Any, **more: Any) -> int:
        descriptor = real_open(path, *rest, **more)
        if str(path).endswith(volume.device):
            exchanged(machine, machine.path("/disks/acme"))
        return descriptor

    monkeypatch.setattr(formatting.os, "open", exchanged_now)
    with (
        pytest.raises(Refused, match="leads to another disk than a moment ago"),
        formatting.examined(machine, volume),
    ):
        raise AssertionError("exchanged")
    assert seen == [str(machine.path("/disks/acme"))] * 2


def test_a_disk_too_small_for_its_file_system_is_none(machine: Machine, volume: Volume) -> None:
    said = refused(machine, dataclasses.replace(volume, filesystem="xfs"))
    assert said.endswith(f"has {SIZE} bytes; a volume with xfs needs {320 * MIB} at least")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mount": "/srv/live"}, "/srv/live has files of its own"),
        ({"mount": "/srv/link"}, "/srv/link is a link"),
        ({"mount": "/open/data"}, "others than root can change /open"),
        ({"owner": "nobodyhere"}, "there is no nobodyhere on this host"),
    ],
)
def test_a_volume_that_could_not_be_mounted_is_not_made(
    change: dict[str, Any], said: str, machine: Machine, volume: Volume, disk: Path
) -> None:
    machine.path("/srv/live").mkdir()
    machine.path("/srv/live/data").touch()
    machine.path("/srv/link").symlink_to(machine.path("/srv/live"))
    machine.path("/open").mkdir()
    machine.path("/open").chmod(0o777)
    before = given.digest(disk)
    with pytest.raises(Refused, match=said):
        creating.create(machine, dataclasses.replace(volume, **change), given.NOW)
    assert given.digest(disk) == before


@pytest.mark.parametrize("program", ["blkid", "wipefs"])
@pytest.mark.parametrize("status", [1, 4, 8, 124, 127])
def test_nothing_is_formatted_where_nobody_can_look(
    program: str, status: int, machine: Machine, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = machine.host.run

    def run(*command: str, **given: Any) -> Any:
        ran = real(*command, **given)
        return dataclasses.replace(ran, status=status) if command[0] == program else ran

    monkeypatch.setattr(machine.host, "run", run)
    assert f"is not empty, says {program}: " in refused(machine, volume)


@pytest.fixture
def begun(machine: Machine, volume: Volume, disk: Path) -> journal.Creation:
    """What a creation was about to write when it was killed."""
    with formatting.examined(machine, volume) as found:
        identity = found.identity
    image = os.urandom(300 << 10).ljust(16 * MIB, b"\0")
    return journal.Creation("0123", "acme", volume.device, identity, image, given.NOW.isoformat())


def redo(machine: Machine, volume: Volume, entry: journal.Creation) -> None:
    with formatting.examined(machine, volume, entry) as found:
        formatting.write_header(found, entry.image)


def test_what_was_begun_is_written_again(
    machine: Machine,
    volume: Volume,
    disk: Path,
    begun: journal.Creation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    with open(disk, "r+b") as file:
        file.write(begun.image[:66048])
    redo(machine, volume, begun)
    with open(disk, "rb") as file:
        assert file.read(16 * MIB) == begun.image
        assert not any(file.read())
    redo(machine, volume, begun)


@pytest.mark.parametrize("at", [0, 512, 299 << 10, 5 * MIB, 17 * MIB, SIZE - 1])
def test_nothing_is_written_over_what_was_not_begun(
    at: int, machine: Machine, volume: Volume, disk: Path, begun: journal.Creation
) -> None:
    with open(disk, "r+b") as file:
        file.write(begun.image[:66048])
        file.seek(at)
        file.write(bytes([begun.image[at] ^ 1 if at < len(begun.image) else 1]))
    before = given.digest(disk)
    with pytest.raises(Refused, match="is not empty: there are data at byte"):
        redo(machine, volume, begun)
    assert given.digest(disk) == before


def exchanged_serial(machine: Machine, disk: Path) -> None:
    folder = machine.path("/sys/dev/block") / machine.disks.number(os.stat(disk))
    (folder / "serial").write_text("another\n")


def shrunk(machine: Machine, disk: Path) -> None:
    os.truncate(disk, SIZE - MIB)


def grown(machine: Machine, disk: Path) -> None:
    os.truncate(disk, SIZE + MIB)


def exchanged(machine: Machine, disk: Path) -> None:
    other = given.disk(machine, "other")
    link = machine.path(given.DEVICE)
    link.unlink()
    link.symlink_to(other)


EXCHANGES = [exchanged_serial, shrunk, grown, exchanged]


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_another_disk_than_the_one_begun_stays(
    exchange: Callable[[Machine, Path], None],
    machine: Machine,
    volume: Volume,
    disk: Path,
    begun: journal.Creation,
) -> None:
    exchange(machine, disk)
    before = given.digest(machine.path(volume.device))
    with pytest.raises(Refused, match="is another disk than the one on which the volume was begun"):
        redo(machine, volume, begun)
    assert given.digest(machine.path(volume.device)) == before


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_disk_that_is_exchanged_meanwhile_is_noticed(
    exchange: Callable[[Machine, Path], None], machine: Machine, volume: Volume, disk: Path
) -> None:
    with (
        pytest.raises(Refused, match="another disk than a moment ago"),
        formatting.examined(machine, volume) as found,
    ):
        exchange(machine, disk)
        found.still()


def test_two_do_not_format_at_once(
    machine: Machine, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formatting, "_PATIENCE", 0.0)
    with (
        formatting.examined(machine, volume),
        pytest.raises(Refused, match="is being used by another program"),
    ):
        creating.create(machine, volume, given.NOW)


def test_a_disk_that_does_not_keep_what_is_written_is_noticed(
    machine: Machine, volume: Volume, begun: journal.Creation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formatting.os, "pwrite", lambda _, data, __: len(data))
    with pytest.raises(Refused, match="does not keep what is written to it"):
        redo(machine, volume, begun)


def test_a_disk_that_fails_is_named(
    machine: Machine, volume: Volume, begun: journal.Creation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(formatting.os, "pwrite", fails)
    with pytest.raises(Refused, match="virtio-acme cannot be used: Input/output error"):
        redo(machine, volume, begun)


def test_there_is_one_place_that_writes_to_disks() -> None:
    folder = Path(formatting.__file__).parents[1]
    writing = [path for path in folder.rglob("*.py") if "pwrite(" in path.read_text()]
    assert [path.name for path in writing] == ["formatting.py"]
    calls = [path.name for path in folder.rglob("*.py") if "write_header(" in path.read_text()]
    assert sorted(calls) == ["creating.py", "formatting.py", "settling.py"]


@pytest.mark.parametrize("at", [16 * MIB, 31 * MIB, SIZE - 1])
def test_a_volume_that_was_written_to_is_not_untouched(
    at: int, machine: Machine, volume: Volume, disk: Path
) -> None:
    assert formatting.untouched(machine, volume, 16 * MIB)
    with open(disk, "r+b") as file:
        file.seek(at)
        file.write(b"\1")
    assert not formatting.untouched(machine, volume, 16 * MIB)

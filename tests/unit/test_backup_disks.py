"""What counts as an encrypted disk, on trees like those of the kernel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rocksalt.backup.vaults import disks

LUKS = "CRYPT-LUKS2-0123456789abcdef-disk"
LVM = "LVM-abcdefghijklmnop"


class Machine:
    """``/sys``, ``/proc`` and ``/dev`` of a host: block devices by name, and mounts by path."""

    def __init__(self, root: Path):
        self.root = root
        self.mounts: dict[str, int] = {}
        (root / "proc/self").mkdir(parents=True)
        (root / "dev/mapper").mkdir(parents=True)
        (root / "sys/dev/block").mkdir(parents=True)

    def disk(self, name: str, number: str, *slaves: str, uuid: str = "", backing: str = "") -> None:
        node = self.root / "sys/block" / name
        (node / "slaves").mkdir(parents=True)
        for slave in slaves:
            (node / "slaves" / slave).symlink_to(self._node(slave))
        for file, text in (("dm/uuid", uuid), ("loop/backing_file", backing)):
            if text:
                (node / file).parent.mkdir()
                (node / file).write_text(text + "\n")
        self._known(name, number, node)

    def partition(self, name: str, number: str, disk: str) -> None:
        node = self.root / "sys/block" / disk / name
        node.mkdir(parents=True)
        (node / "partition").write_text("1\n")
        self._known(name, number, node)

    def _known(self, name: str, number: str, node: Path) -> None:
        (self.root / "sys/dev/block" / number).symlink_to(node)
        (self.root / "dev" / name).touch()

    def _node(self, name: str) -> Path:
        return next((self.root / "sys/block").glob(f"**/{name}"))

    def mount(
        self,
        path: str,
        device: str,
        kind: str = "ext4",
        source: str = "/dev/x",
        options: str = "rw",
    ) -> None:
        self.mounts[path] = 30 + len(self.mounts)
        line = f"{self.mounts[path]} 1 {device} / {path} rw shared:1 - {kind} {source} {options}\n"
        with open(self.root / "proc/self/mountinfo", "a") as file:
            file.write(line)

    def pool(self, *names: str) -> None:
        folder = self.root / "sys/fs/btrfs/8f6c/devices"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).symlink_to(self._node(name))

    def __call__(self, path: str) -> bool:
        return disks.encrypted(path, self.root, self.mounts.__getitem__)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.disk("sda", "8:0")
    made.partition("sda1", "8:1", "sda")
    made.disk("sdb", "8:16")
    made.disk("dm-0", "252:0", "sda1", uuid=LUKS)
    made.disk("dm-1", "252:1", "sdb", uuid=LUKS)
    return made


@pytest.mark.parametrize("device", ["8:0", "8:1"])
def test_a_plain_disk_is_not(machine: Machine, device: str) -> None:
    machine.mount("/srv", device)
    assert not machine("/srv")


def test_luks_is(machine: Machine) -> None:
    machine.mount("/srv", "252:0")
    assert machine("/srv")


@pytest.mark.parametrize("uuid", ["CRYPT-VERITY-00-root", "CRYPT-INTEGRITY-00-disk", "", LVM])
def test_device_mapper_alone_is_not(machine: Machine, uuid: str) -> None:
    machine.disk("dm-5", "252:5", "sdb", uuid=uuid)
    machine.mount("/srv", "252:5")
    assert not machine("/srv")


def test_lvm_on_luks_is(machine: Machine) -> None:
    machine.disk("dm-5", "252:5", "dm-0", uuid=LVM)
    machine.mount("/srv", "252:5", "xfs")
    assert machine("/srv")


def test_luks_on_lvm_is(machine: Machine) -> None:
    machine.disk("dm-5", "252:5", "sdb", uuid=LVM)
    machine.disk("dm-6", "252:6", "dm-5", uuid=LUKS)
    machine.mount("/srv", "252:6")
    assert machine("/srv")


def test_a_partition_of_an_encrypted_raid_is(machine: Machine) -> None:
    machine.disk("md0", "9:0", "dm-0", "dm-1")
    machine.partition("md0p1", "259:0", "md0")
    machine.mount("/srv", "259:0")
    assert machine("/srv")


def test_a_raid_with_one_plain_member_is_not(machine: Machine) -> None:
    machine.disk("sdc", "8:32")
    machine.disk("md0", "9:0", "dm-0", "dm-1", "sdc")
    machine.mount("/srv", "9:0")
    assert not machine("/srv")


def test_a_btrfs_is_if_all_its_disks_are(machine: Machine) -> None:
    (machine.root / "dev/mapper/data").symlink_to("../dm-0")
    machine.pool("dm-0", "dm-1")
    machine.mount("/srv", "0:44", "btrfs", "/dev/mapper/data", "rw,subvol=/srv")
    assert machine("/srv")


def test_a_btrfs_with_a_plain_disk_is_not(machine: Machine) -> None:
    machine.pool("dm-0", "sdb")
    machine.mount("/srv", "0:44", "btrfs", "/dev/dm-0")
    assert not machine("/srv")


def test_a_btrfs_of_which_nothing_is_known_is_not(machine: Machine) -> None:
    machine.mount("/srv", "0:44", "btrfs", "/dev/dm-0")
    assert not machine("/srv")


@pytest.mark.parametrize(("below", "expected"), [("252:0", True), ("8:1", False)])
def test_an_overlay_is_what_it_writes_to(machine: Machine, below: str, expected: bool) -> None:
    machine.mount("/up\\040per", below)
    machine.mounts["/up per"] = machine.mounts["/up\\040per"]
    options = "rw,lowerdir=/low,upperdir=/up\\040per,workdir=/work"
    machine.mount("/srv", "0:50", "overlay", "overlay", options)
    assert machine("/srv") is expected


def test_an_overlay_without_an_upper_folder_is_not(machine: Machine) -> None:
    machine.mount("/srv", "0:50", "overlay", "overlay", "ro,lowerdir=/low")
    assert not machine("/srv")


@pytest.mark.parametrize(("below", "expected"), [("252:0", True), ("8:1", False)])
def test_a_loop_device_is_what_its_file_is_on(machine: Machine, below: str, expected: bool) -> None:
    machine.mount("/images/vault", below)
    machine.disk("loop0", "7:0", backing="/images/vault")
    machine.mount("/srv", "7:0")
    assert machine("/srv") is expected


def test_a_loop_device_on_itself_is_not(machine: Machine) -> None:
    machine.disk("loop0", "7:0", backing="/srv")
    machine.mount("/srv", "7:0")
    assert not machine("/srv")


@pytest.mark.parametrize("kind", ["tmpfs", "nfs4", "cifs", "fuse.sshfs", "zfs", "ramfs"])
def test_what_cannot_be_told_is_not(machine: Machine, kind: str) -> None:
    machine.mount("/srv", "0:61", kind, "vault:/srv")
    assert not machine("/srv")


def test_a_mount_or_device_that_is_not_listed_is_not(machine: Machine) -> None:
    machine.mount("/srv", "8:77")
    machine.mounts["/elsewhere"] = 999
    assert not machine("/srv")
    assert not machine("/elsewhere")


def test_the_running_host_is_asked() -> None:
    assert disks.encrypted("/proc/self") is False
    assert disks.encrypted("/proc/is-not-there/at-all") is False


def test_a_path_below_what_exists_is_on_its_mount(machine: Machine) -> None:
    seen: list[Any] = []

    def number(path: str) -> int:
        seen.append(path)
        return disks._mount_id(path)

    disks.encrypted(f"{machine.root}/not/yet", mount_id=number)
    assert seen == [f"{machine.root}/not/yet"]
    assert disks._mount_id(f"{machine.root}/not/yet") == disks._mount_id(os.fspath(machine.root))

"""What reaches a disk unencrypted, and what of that is exempt."""

from __future__ import annotations

from pathlib import Path

import pytest
from block_devices import LUKS, LVM, Machine, machine

from rocksalt import blocks
from rocksalt.blocks import Signature
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.luks.family.disks import Disks, size
from rocksalt.luks.family.reading import Reading

RAID, GROUP = Signature("linux_raid_member"), Signature("LVM2_member")
HEADER, EXT4 = Signature("crypto_LUKS"), Signature("ext4")


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    """With a disk sdc that nobody encrypted, and partitions on it."""
    made = machine(tmp_path)
    made.disk("sdc", "8:32")
    made.partition("sdc1", "8:33", "sdc")
    made.partition("sdc2", "8:34", "sdc")
    return made


def disks(host: Machine, *exempt: str, **signatures: Signature) -> Disks:
    """``signatures`` by the number of the device, as ``n8_33``. Without live tables: a device that
    cryptsetup called encrypted is so.
    """
    reading = Reading(Host(str(host.root)), {})
    vars(reading)["signatures"] = {
        number[1:].replace("_", ":"): it for number, it in signatures.items()
    }
    vars(reading)["devices"] = blocks.tree(Host(str(host.root)))
    return Disks(reading, dict.fromkeys(exempt, "decided"))


# What is mounted ----------------------------------------------------------------------------------


def test_what_is_on_a_disk_in_the_clear_is_named_with_it(host: Machine) -> None:
    host.mount("/srv", "8:33", "ext4")
    assert disks(host).mounted() == [
        "/srv (ext4 on /dev/sdc1, 32.0 MiB) lies on /dev/sdc, not encrypted"
    ]


def test_what_is_encrypted_or_in_memory_is_right(host: Machine) -> None:
    host.mount("/srv", "252:0", "xfs")
    host.mount("/run", "0:22", "tmpfs", "tmpfs")
    host.mount("/proc", "0:23", "proc", "proc")
    assert disks(host).mounted() == []


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "ceph", "9p", "virtiofs", "fuse.sshfs", "fuse"])
def test_what_is_elsewhere_is_no_disk_of_this_host(host: Machine, kind: str) -> None:
    host.mount("/net", "0:40", kind, "server:/export")
    assert disks(host).mounted() == []


def test_what_cannot_be_told_is_not_right(host: Machine) -> None:
    host.mount("/tank", "0:50", "zfs", "tank")
    (found,) = disks(host).mounted()
    assert found.startswith("/tank (zfs): /tank is zfs of tank, which does not show")


@pytest.mark.parametrize(
    "exempt", [["/srv", "/mnt"], ["/srv", "/mnt", "/"], ["/dev/sdc1"], ["/dev/sdc"]]
)
def test_an_exempted_file_system_is_so_if_all_its_mounts_are(
    host: Machine, exempt: list[str]
) -> None:
    host.mount("/srv", "8:33")
    host.mount("/mnt", "8:33")
    assert disks(host, *exempt).mounted() == []


@pytest.mark.parametrize("exempt", ["/srv", "/mnt"])
def test_an_exemption_of_one_mount_is_none_of_another(host: Machine, exempt: str) -> None:
    host.mount("/srv", "8:33")
    host.mount("/mnt", "8:33")
    (other,) = {"/srv", "/mnt"} - {exempt}
    (found,) = disks(host, exempt).mounted()
    assert found.startswith(f"{other} (ext4")


def test_a_file_system_below_an_exempted_one_is_another(host: Machine) -> None:
    host.mount("/boot", "8:33")
    host.mount("/boot/old", "8:33", root="/old")
    assert disks(host, "/boot").mounted() == [], "the same, seen twice"
    host.mount("/boot/data", "8:34")
    (found,) = disks(host, "/boot").mounted()
    assert found.startswith("/boot/data (ext4 on /dev/sdc2")


def test_a_folder_bound_to_an_exempted_place_exempts_nothing(host: Machine) -> None:
    host.mount("/efi", "8:33", root="/some/folder")
    assert len(disks(host, "/efi").mounted()) == 1
    host.mount("/srv", "8:33")
    (found,) = disks(host, "/efi").mounted()
    assert found.startswith("/srv (ext4")


def test_subvolumes_are_parts_of_one_file_system(host: Machine) -> None:
    host.pool("sdc1")
    host.mount("/boot", "0:30", "btrfs", "/dev/sdc1", "rw,subvol=/@boot", root="/@boot")
    assert disks(host, "/boot").mounted() == []
    host.mount("/home", "0:30", "btrfs", "/dev/sdc1", "rw,subvol=/@home", root="/@home")
    (found,) = disks(host, "/boot").mounted()
    assert found.startswith("/home (btrfs")
    assert found.endswith("lies on /dev/sdc, not encrypted")


def test_what_is_exempt_of_what_a_host_has(host: Machine) -> None:
    host.mount("/boot", "8:33")
    assert disks(host, "/boot", "/efi", "/dev/sdz", "/dev/sdc", "swap").exemptions() == [
        "/boot (decided)",
        "/dev/sdc (decided)",
    ]
    host.swap("/dev/sdc2")
    assert disks(host, "swap").exemptions() == ["swap (decided)"]


@pytest.mark.parametrize("exempt", ["/", "/srv/deeper", "/dev/sdc2", "/dev/sdb", "/dev/away"])
def test_an_exemption_is_about_nothing_else(host: Machine, exempt: str) -> None:
    host.mount("/srv", "8:33")
    assert len(disks(host, exempt).mounted()) == 1


def test_of_two_disks_the_exempted_one_is_not_named(host: Machine) -> None:
    host.disk("sdd", "8:48")
    host.disk("dm-9", "252:9", "sdc", "sdd", uuid=LVM)
    host.mount("/srv", "252:9")
    (found,) = disks(host, "/dev/sdd").mounted()
    assert found.endswith("lies on /dev/sdc, not encrypted")


def test_files_that_are_mounted_are_judged_by_what_they_lie_on(host: Machine) -> None:
    """Images of snaps and layers of containers come and go; their file system was judged."""
    host.mount("/srv", "8:33")
    host.disk("loop0", "7:0", backing="/srv/image")
    host.mount("/snap", "7:0", "squashfs", "/dev/loop0")
    host.mount("/merged", "0:60", "overlay", "overlay", "rw,lowerdir=/l,upperdir=/srv/u")
    assert len(disks(host).mounted()) == 1
    assert disks(host, "/srv").mounted() == []


def test_a_disc_in_a_drive_has_nothing_of_this_host(host: Machine) -> None:
    host.disk("sr0", "11:0")
    host.mount("/media", "11:0", "iso9660")
    assert disks(host).mounted() == []


# Swap ---------------------------------------------------------------------------------------------


def test_swap(host: Machine) -> None:
    host.mount("/srv", "8:33")
    host.swap("/dev/sdc2")
    host.swap("/dev/mapper/the-dm-1")
    host.swap("/srv/swapfile", "file")
    host.disk("zram0", "251:0", virtual=True)
    host.swap("/dev/zram0")
    assert disks(host).swaps() == [
        "/dev/sdc2 (swap, 64.0 MiB) lies on /dev/sdc, not encrypted",
        "/srv/swapfile (swap, 64.0 MiB) lies on /dev/sdc, not encrypted",
    ]
    assert disks(host, "swap").swaps() == []
    assert disks(host, "/dev/sdc").swaps() == []
    assert len(disks(host, "/srv/swapfile").swaps()) == 1
    assert len(disks(host, "/srv").swaps()) == 2, "a mount point is not about swap"


SWAPPED = Signature("swap")


def test_swap_that_is_not_in_use_keeps_what_was_written_to_it(host: Machine) -> None:
    found = ["/dev/sdc2 (swap not in use, 32.0 MiB) lies on /dev/sdc, not encrypted"]
    assert disks(host, n8_34=SWAPPED, n252_0=SWAPPED).swaps() == found
    for exempt in ("/dev/sdc2", "/dev/sdc", "swap"):
        assert disks(host, exempt, n8_34=SWAPPED).swaps() == []
    host.swap("/dev/sdc2")
    assert len(disks(host, n8_34=SWAPPED).swaps()) == 1, "told once"


def test_swap_below_dm_crypt_is_that_of_a_former_time(host: Machine) -> None:
    """Who encrypts swap with a random key keeps the label of the device in the clear before it."""
    host.disk("dm-9", "252:9", "sdc2", uuid=LUKS)
    assert disks(host, n8_34=SWAPPED).swaps() == []


# Members of groups --------------------------------------------------------------------------------


def test_a_member_that_nobody_uses(host: Machine) -> None:
    it = disks(host, n8_33=GROUP, n252_0=GROUP)
    assert it.members() == ["/dev/sdc1 (LVM2_member, 32.0 MiB) lies on /dev/sdc, not encrypted"]
    assert disks(host, "/dev/sdc1", n8_33=GROUP).members() == []


def test_a_raid_below_luks(host: Machine) -> None:
    host.disk("sdd", "8:48")
    host.disk("md0", "9:0", "sdc1", "sdd")
    members = {"n8_33": RAID, "n8_48": RAID}
    assert disks(host, **members, n9_0=HEADER).members() == []
    assert len(disks(host, **members, n9_0=EXT4).members()) == 2


def test_a_group_with_encrypted_volumes_and_one_that_is_not(host: Machine) -> None:
    host.disk("dm-7", "252:7", "sdc1", uuid=LVM)
    host.disk("dm-8", "252:8", "dm-7", uuid=LUKS)
    known = {"n8_33": GROUP, "n252_7": HEADER}
    assert disks(host, **known).members() == []
    host.disk("dm-9", "252:9", "sdc1", uuid=LVM)
    (found,) = disks(host, **known, n252_9=EXT4).members()
    assert found.startswith("/dev/sdc1 (LVM2_member")


def test_what_is_mounted_of_a_group_is_told_once(host: Machine) -> None:
    host.disk("dm-9", "252:9", "sdc1", uuid=LVM)
    host.mount("/srv", "252:9")
    it = disks(host, n8_33=GROUP, n252_9=EXT4)
    assert len(it.mounted()) == 1
    assert it.members() == []


BROKEN = Signature(problem="/dev/sdc1 cannot be read: broken")


def test_what_is_on_a_disk_that_cannot_be_read_is_not_known(host: Machine) -> None:
    for look in (Disks.members, Disks.swaps):
        with pytest.raises(Refused, match="/dev/sdc1 cannot be read: broken"):
            look(disks(host, n8_33=BROKEN, n8_34=EXT4))
    assert len(disks(host, n8_33=BROKEN, n8_34=GROUP).members()) == 1


@pytest.mark.parametrize("number", ["n252_0", "n8_33"])
def test_a_disk_that_cannot_be_read_and_keeps_nothing_in_the_clear(
    host: Machine, number: str
) -> None:
    it = disks(host, "/dev/sdc", **{number: BROKEN})
    assert it.members() == it.swaps() == []


# Temporary folders --------------------------------------------------------------------------------


def test_temporary_folders(host: Machine) -> None:
    assert disks(host).temporary() == []
    host.mount("/var", "8:33")
    assert disks(host).temporary() == ["/var/tmp lies on /dev/sdc, not encrypted"]
    assert len(disks(host, "/var").temporary()) == 1, "not by what they lie on"
    for exempt in ("/var/tmp", "/dev/sdc1"):
        assert disks(host, exempt).temporary() == []


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1536, "1.5 KiB"),
        (16 << 20, "16.0 MiB"),
        (256 << 30, "256 GiB"),
        (3 << 40, "3.0 TiB"),
        (9 << 50, "9216 TiB"),
    ],
)
def test_sizes_for_people(count: int, words: str) -> None:
    assert size(count) == words

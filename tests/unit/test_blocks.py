"""What lies on what, and whether it is encrypted, on trees like those of the kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from block_devices import LUKS, LVM, Machine, machine

from rocksalt import blocks
from rocksalt.blocks import Below, Devices
from rocksalt.errors import Refused
from rocksalt.host import Host, Ran
from rocksalt.luks.tables import Table
from rocksalt.luks.tables import plain as plain_by


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    return machine(tmp_path)


def tree(host: Machine, **known: tuple[str, ...]) -> Devices:
    plain = {number.replace("_", ":").lstrip(":"): it for number, it in known.items()}
    return blocks.tree(Host(str(host.root)), plain if known else None)


def below(host: Machine, path: str = "/srv") -> Below:
    return tree(host).below_path(path)


def plain(found: Below) -> list[str]:
    return [device.name for device in found.plain]


# One device on another ----------------------------------------------------------------------------


@pytest.mark.parametrize(("device", "lowest"), [("8:0", "sda"), ("8:1", "sda")])
def test_a_plain_disk_is_not(host: Machine, device: str, lowest: str) -> None:
    host.mount("/srv", device)
    assert plain(below(host)) == [lowest]
    assert not below(host).encrypted
    assert not below(host).safe


def test_luks_is(host: Machine) -> None:
    host.mount("/srv", "252:0")
    found = below(host)
    assert found.encrypted
    assert found.safe
    assert [it.path for it in found.crypts] == ["/dev/mapper/the-dm-0"]


@pytest.mark.parametrize("kind", ["LUKS1", "PLAIN", "TCRYPT", "BITLK", "LOOPAES", "FVAULT2"])
def test_what_else_cryptsetup_opens_is(host: Machine, kind: str) -> None:
    host.disk("dm-5", "252:5", "sdb", uuid=f"CRYPT-{kind}-00-disk")
    host.mount("/srv", "252:5")
    assert below(host).encrypted


@pytest.mark.parametrize(
    "uuid", ["CRYPT-VERITY-00-root", "CRYPT-INTEGRITY-00-disk", "CRYPT-SUBDEV-00-x", "x", LVM]
)
def test_device_mapper_alone_is_not(host: Machine, uuid: str) -> None:
    host.disk("dm-5", "252:5", "sdb", uuid=uuid)
    host.mount("/srv", "252:5")
    assert plain(below(host)) == ["sdb"]


def test_lvm_on_luks_is(host: Machine) -> None:
    host.disk("dm-5", "252:5", "dm-0", uuid=LVM)
    host.mount("/srv", "252:5", "xfs")
    assert below(host).encrypted


def test_luks_on_lvm_is(host: Machine) -> None:
    host.disk("dm-5", "252:5", "sdb", uuid=LVM)
    host.disk("dm-6", "252:6", "dm-5", uuid=LUKS)
    host.mount("/srv", "252:6")
    assert below(host).encrypted


def test_a_thin_volume_is_if_data_and_metadata_are(host: Machine) -> None:
    host.disk("dm-4", "252:4", "dm-0", uuid=f"{LVM}-tdata")
    host.disk("dm-5", "252:5", "sdb", uuid=f"{LVM}-tmeta")
    host.disk("dm-6", "252:6", "dm-4", "dm-5", uuid=f"{LVM}-tpool")
    host.disk("dm-7", "252:7", "dm-6", uuid=LVM)
    host.mount("/srv", "252:7")
    assert plain(below(host)) == ["sdb"]
    assert not below(host).encrypted


def test_luks_with_integrity_is(host: Machine) -> None:
    host.disk("dm-5", "252:5", "sdb", uuid="CRYPT-SUBDEV-00-disk_dif")
    host.disk("dm-6", "252:6", "dm-5", uuid=LUKS)
    host.mount("/srv", "252:6")
    assert below(host).encrypted


def test_luks_over_several_paths_is(host: Machine) -> None:
    host.disk("dm-5", "252:5", "sda", "sdb", uuid="mpath-3600508b400105e21")
    host.disk("dm-6", "252:6", "dm-5", uuid=LUKS)
    host.mount("/srv", "252:6")
    assert below(host).encrypted
    assert tree(host).by_number["252:5"].kind == "multipath"
    assert [it.name for it in tree(host).unencrypted("252:5")] == ["sda", "sdb"]


def test_a_partition_of_an_encrypted_raid_is(host: Machine) -> None:
    host.disk("md0", "9:0", "dm-0", "dm-1", virtual=True)
    host.partition("md0p1", "259:0", "md0")
    host.mount("/srv", "259:0")
    assert below(host).encrypted


def test_a_raid_with_one_plain_member_is_not(host: Machine) -> None:
    host.disk("sdc", "8:32")
    host.disk("md0", "9:0", "dm-0", "dm-1", "sdc", virtual=True)
    host.mount("/srv", "9:0")
    assert plain(below(host)) == ["sdc"]
    assert not below(host).encrypted


def test_a_cache_on_a_plain_disk_is_not(host: Machine) -> None:
    host.disk("bcache0", "251:0", "dm-0", "sdb", virtual=True)
    host.mount("/srv", "251:0")
    assert plain(below(host)) == ["sdb"]


def test_disks_that_leave_encryption_to_their_firmware_cannot_be_told(host: Machine) -> None:
    host.disk("dm-5", "252:5", "sdb", uuid="CRYPT-LUKS2-OPAL-0123456789abcdef-disk")
    host.mount("/srv", "252:5")
    assert below(host).unknown == ("/dev/mapper/the-dm-5 leaves encryption to the disk (OPAL)",)
    assert tree(host, _252_5=()).below("252:5").encrypted


@pytest.mark.parametrize(("name", "kind"), [("drbd0", "drbd"), ("zd0", "zvol"), ("md1", "md")])
def test_what_does_not_show_its_disks_cannot_be_told(host: Machine, name: str, kind: str) -> None:
    host.disk(name, "147:0", virtual=True)
    host.mount("/srv", "147:0")
    reason = f"nothing shows what /dev/{name} ({kind}) lies on"
    assert below(host) == Below(unknown=(reason,))


# Live tables --------------------------------------------------------------------------------------


def test_a_table_is_believed_rather_than_a_name(host: Machine) -> None:
    found = tree(host, _252_0=("8:1",), _252_1=())
    assert not found.by_number["252:0"].encrypts
    assert [it.name for it in found.unencrypted("252:0")] == ["sda"]
    assert found.below("252:1").encrypted


def test_what_has_a_table_that_encrypts_does_whatever_it_is_called(host: Machine) -> None:
    host.disk("dm-5", "252:5", "sdb", uuid="mine")
    assert tree(host, _252_5=()).by_number["252:5"].kind == "crypt"
    assert tree(host, _252_5=()).below("252:5").encrypted


def test_a_table_that_loses_everything_encrypts_nothing(host: Machine) -> None:
    host.disk("dm-5", "252:5", uuid="mine")
    assert not tree(host, _252_5=()).below("252:5").encrypted


def test_a_table_that_does_not_show_what_it_lies_on_cannot_be_told(host: Machine) -> None:
    found = tree(host, _252_0=("",)).below("252:0")
    assert found.unknown == ("dmsetup shows no table of /dev/mapper/the-dm-0 with what it lies on",)


@pytest.mark.parametrize("uuid", [LUKS, LVM])
def test_a_device_of_which_dmsetup_shows_no_table_cannot_be_told(host: Machine, uuid: str) -> None:
    host.disk("dm-5", "252:5", "sdb", uuid=uuid)
    tables = {number: Table("x", number, LUKS, ()) for number in ("252:0", "252:5")}
    for known in (plain_by(tables), {"252:0": ()}):
        found = blocks.tree(Host(str(host.root)), known)
        assert found.below("252:5").unknown
        assert not found.below("252:5").safe
        assert not found.by_number["252:5"].encrypts


# File systems -------------------------------------------------------------------------------------


def test_a_btrfs_is_if_all_its_disks_are(host: Machine) -> None:
    (host.root / "dev/mapper/data").symlink_to("../dm-0")
    host.pool("dm-0", "dm-1")
    host.mount("/srv", "0:44", "btrfs", "/dev/mapper/data", "rw,subvol=/srv")
    assert below(host).encrypted


def test_a_btrfs_with_a_plain_disk_is_not(host: Machine) -> None:
    host.pool("dm-0", "sdb")
    host.mount("/srv", "0:44", "btrfs", "/dev/dm-0")
    assert plain(below(host)) == ["sdb"]


@pytest.mark.parametrize("source", ["/dev/dm-0", "/dev/root"])
def test_a_btrfs_of_which_nothing_is_known_cannot_be_told(host: Machine, source: str) -> None:
    host.mount("/srv", "0:44", "btrfs", source)
    assert len(below(host).unknown) == 1
    assert not below(host).safe


def test_a_bcachefs_is_if_all_its_disks_are(host: Machine) -> None:
    host.mount("/srv", "0:44", "bcachefs", "/dev/dm-0:/dev/dm-1")
    host.mount("/mnt", "0:45", "bcachefs", "/dev/dm-0:/dev/sdb")
    assert below(host).encrypted
    assert plain(below(host, "/mnt")) == ["sdb"]


@pytest.mark.parametrize("option", ["logdev=/dev/sdb", "journal_path=/dev/sdb"])
def test_a_journal_elsewhere_belongs_to_it(host: Machine, option: str) -> None:
    host.mount("/srv", "252:0", "xfs", options=f"rw,{option},noquota")
    assert plain(below(host)) == ["sdb"]


@pytest.mark.parametrize(("device", "expected"), [("252:0", True), ("8:1", False)])
def test_an_overlay_is_what_it_writes_to(host: Machine, device: str, expected: bool) -> None:
    host.mount("/up\\040per", device)
    options = "rw,lowerdir=/low,upperdir=/up\\040per,workdir=/work"
    host.mount("/srv", "0:50", "overlay", "overlay", options)
    assert below(host).encrypted is expected
    assert bool(below(host).plain) is not expected


@pytest.mark.parametrize(
    "options",
    ["ro,lowerdir=/secret:/open\\134:er,x=1", "ro,lowerdir+=/secret,datadir+=/open\\134:er"],
)
def test_an_overlay_to_which_nobody_writes_is_what_it_shows(host: Machine, options: str) -> None:
    host.mount("/secret", "252:0")
    host.mount("/srv", "0:50", "overlay", "overlay", options)
    assert below(host) == Below(crypts=below(host, "/secret").crypts, memory=True)
    host.mount("/open:er", "8:1")
    assert plain(below(host)) == ["sda"]


@pytest.mark.parametrize("options", ["ro,lowerdir=low", "ro", "ro,lowerdir=/low:low"])
def test_an_overlay_of_nobody_knows_what_cannot_be_told(host: Machine, options: str) -> None:
    host.mount("/srv", "0:50", "overlay", "overlay", options)
    assert below(host).unknown


def test_the_overlay_of_a_container_whose_upper_folder_is_outside_cannot_be_told(
    host: Machine,
) -> None:
    host.mount("/", "0:50", "overlay", "overlay", "rw,lowerdir=/l,upperdir=/var/outside")
    assert below(host).unknown == ("/ lies on itself as far as this host shows it",)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "zfs", "ceph", "9p"])
def test_what_cannot_be_told_says_so(host: Machine, kind: str) -> None:
    host.mount("/srv", "0:61", kind, "vault:/srv")
    (why,) = below(host).unknown
    assert why.startswith(f"/srv is {kind} of vault:/srv")
    assert not below(host).safe


@pytest.mark.parametrize(
    "kind",
    ["tmpfs", "ramfs", "proc", "cgroup2", "nfsd", "xenfs", "cpuset", "functionfs", "smackfs"],
)
def test_memory_reaches_no_disk(host: Machine, kind: str) -> None:
    host.mount("/srv", "0:61", kind)
    assert below(host) == Below(memory=True)
    assert below(host).safe
    assert not below(host).encrypted


def test_a_device_that_is_not_listed_cannot_be_told(host: Machine) -> None:
    host.mount("/srv", "8:77")
    assert below(host).unknown == ("the device 8:77 is not among those of this host",)


# Paths --------------------------------------------------------------------------------------------


def test_a_path_below_what_exists_is_on_its_mount(host: Machine) -> None:
    host.mount("/srv", "252:0")
    assert below(host, "/srv/not/yet").encrypted
    assert not below(host, "/srvx").encrypted


def test_links_are_followed(host: Machine) -> None:
    host.mount("/srv", "252:0")
    (host.root / "srv/deep").mkdir(parents=True)
    (host.root / "home").symlink_to("/srv/deep/../deep")
    (host.root / "srv/out").symlink_to("../elsewhere")
    (host.root / "round").symlink_to("round")
    assert below(host, "/home/ann").encrypted
    assert below(host, "/srv/out") == Below(memory=True)
    assert below(host, "/round/x") == Below(memory=True)


def test_the_uppermost_mount_counts(host: Machine) -> None:
    first = host.mount("/srv", "8:1")
    host.mount("/srv/data", "8:16", upon=first)
    host.mount("/srv", "252:0", upon=first)
    assert below(host).encrypted
    # Mounted before the upper one, which hides it.
    assert below(host, "/srv/data").encrypted


def test_a_bind_mount_is_what_it_shows(host: Machine) -> None:
    host.mount("/mnt", "252:0")
    host.mount("/mnt", "8:1", "ext4")
    assert plain(below(host, "/mnt")) == ["sda"]


# Files as devices ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("device", "expected"), [("252:0", True), ("8:1", False)])
def test_a_loop_device_is_what_its_file_is_on(host: Machine, device: str, expected: bool) -> None:
    host.mount("/images", device)
    host.disk("loop0", "7:0", backing="/images/va ult", virtual=True)
    host.mount("/srv", "7:0")
    assert below(host).encrypted is expected


def test_a_loop_device_may_be_of_a_device(host: Machine) -> None:
    host.disk("loop0", "7:0", backing="/dev/sdb", virtual=True)
    assert [it.name for it in tree(host).unencrypted("7:0")] == ["sdb"]


def test_a_loop_device_of_a_file_that_is_gone_cannot_be_told(host: Machine) -> None:
    host.disk("loop0", "7:0", backing="/images/x (deleted)", virtual=True)
    reason = "/dev/loop0 lies on a file that was deleted"
    assert tree(host).below("7:0") == Below(unknown=(reason,))


def test_a_loop_device_on_itself_cannot_be_told(host: Machine) -> None:
    host.disk("loop0", "7:0", backing="/srv/x", virtual=True)
    host.mount("/srv", "7:0")
    assert below(host).unknown == ("/srv lies on itself as far as this host shows it",)


def test_a_device_below_two_others_is_named_once(host: Machine) -> None:
    host.partition("sda2", "8:2", "sda")
    host.disk("md0", "9:0", "sda1", "sda2", virtual=True)
    assert [it.name for it in tree(host).unencrypted("9:0")] == ["sda"]


# Swap ---------------------------------------------------------------------------------------------


def test_swap_is_what_it_lies_on(host: Machine) -> None:
    (host.root / "dev/mapper/the-dm-0").symlink_to("../dm-0")
    host.mount("/srv", "252:1")
    host.swap("/dev/dm-0")
    host.swap("/dev/mapper/the-dm-0")
    host.swap("/srv/swap\\040file", "file")
    host.swap("/dev/sdb")
    host.swap("/gone\\040(deleted)", "file")
    found = tree(host)
    assert [found.below_swap(it).encrypted for it in found.swaps] == [True] * 3 + [False] * 2
    assert plain(found.below_swap(found.swaps[3])) == ["sdb"]
    assert found.below_swap(found.swaps[4]).unknown
    assert found.swaps[2] == blocks.Swap("/srv/swap file", "file", 65536 * 1024)


def test_swap_in_memory_reaches_no_disk_unless_that_is_written_back(host: Machine) -> None:
    host.disk("zram0", "253:0", virtual=True, backing_dev="none")
    host.disk("zram1", "253:1", virtual=True, backing_dev="/dev/sdb")
    host.disk("zram2", "253:2", virtual=True, backing_dev="/dev/dm-0")
    found = tree(host)
    assert found.below("253:0") == Below(memory=True)
    assert [it.name for it in found.unencrypted("253:1")] == ["sdb"]
    assert [found.below(f"253:{it}").safe for it in range(3)] == [True, False, True]


# Devices themselves -------------------------------------------------------------------------------


def test_a_device_is_described(host: Machine) -> None:
    (host.root / "dev/disk/by-id/ata-X").symlink_to("../../sda")
    (host.root / "dev/disk/by-id/ata-X-part1").symlink_to("../../sda1")
    found = tree(host)
    assert found.find("/dev/disk/by-id/ata-X-part1") == blocks.Device(
        name="sda1",
        number="8:1",
        path="/dev/sda1",
        size=65536 * 512,
        kind="partition",
        parents=("8:0",),
        holders=("252:0",),
        plain=("8:0",),
        by_id=("ata-X-part1",),
    )
    assert found.by_number["8:0"].holders == ("8:1",)
    mapped = found.find("/dev/mapper/the-dm-0")
    assert mapped
    assert (mapped.dm_name, mapped.dm_uuid, mapped.plain) == ("the-dm-0", LUKS, ())
    assert found.find("252:0") == mapped
    assert found.find("/dev/sdz") is found.find("9:9") is None


def test_names_of_controllers_have_a_folder(host: Machine) -> None:
    host.disk("cciss!c0d0", "104:0", removable="1", ro="1")
    host.partition("cciss!c0d0p1", "104:1", "cciss!c0d0")
    host.pool("cciss!c0d0")
    host.mount("/srv", "0:44", "btrfs", "/dev/cciss/c0d0")
    found = tree(host)
    assert found.by_number["104:1"].path == "/dev/cciss/c0d0p1"
    assert found.by_number["104:1"].removable
    assert found.by_number["104:0"].read_only
    assert plain(below(host)) == ["cciss/c0d0"]


@pytest.mark.parametrize("path", ["sys/dev/block", "proc/self/mountinfo"])
def test_a_host_that_cannot_be_looked_at_is_an_error(tmp_path: Path, path: str) -> None:
    for folder in {"sys/dev/block", "proc/self"} - {os.path.dirname(path), path}:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(Refused, match=f"/{path} cannot be read"):
        blocks.tree(Host(str(tmp_path)))


def test_the_running_host_is_read() -> None:
    found = blocks.tree(Host())
    assert found.below_path("/proc/self").memory
    assert found.mount_at("/proc/self") == next(it for it in found.mounts if it.path == "/proc")


# What lies on them --------------------------------------------------------------------------------

EXPORT = "UUID=zL2r-5\nLABEL=a\\ b\nVERSION=LVM2 001\nTYPE=LVM2_member\nUSAGE=raid\n"


class Probed(Host):
    """Answers for blkid by device; anything else has nothing on it. As blkid does, it leaves out
    what is not there, and ends at the first device that it cannot tell anything of.
    """

    def __init__(self, root: str, answers: dict[str, Ran]):
        super().__init__(root)
        self.answers = answers
        self.asked: list[list[str]] = []

    def run(self, *command: str, timeout: float = 30, text: str = "") -> Ran:
        assert command[:4] == ("blkid", "-p", "-o", "export")
        names = [it.removeprefix(self.root) for it in command[4:] if os.path.exists(it)]
        self.asked.append(names)
        told: list[str] = []
        ran = Ran(2, "", "")
        for name in names:
            ran = self.answers.get(name, Ran(2, "", ""))
            if ran.status:
                break
            told.append(f"DEVNAME={self.root}{name}\n{ran.out}")
        return Ran(ran.status, "" if ran.status == 124 else "\n".join(told), "")


def test_what_lies_on_devices_is_told_or_why_not(host: Machine) -> None:
    host.disk("sdc", "8:32")
    host.disk("sdd", "8:48", size="0")
    host.disk("sde", "8:64")
    (host.root / "dev/sdc").unlink()
    table = Ran(0, "PTUUID=9\nPTTYPE=gpt\n", "")
    both = Ran(8, "", "")
    answers = {"/dev/sda": table, "/dev/sdb": Ran(0, EXPORT, ""), "/dev/sde": both}
    probed = Probed(str(host.root), answers)
    found = blocks.signatures(probed, blocks.tree(probed))
    assert found["8:0"] == blocks.Signature(partitions="gpt")
    assert found["8:1"] == blocks.Signature()
    assert found["8:16"] == blocks.Signature("LVM2_member", "zL2r-5", "a b")
    assert found["8:32"].problem == "/dev/sdc cannot be read: No such file or directory"
    assert found["8:64"].problem == "blkid cannot tell what is on /dev/sde: status 8"
    assert "8:48" not in found
    members = [number for number, it in found.items() if it.member]
    assert members == ["8:16"]


def test_many_devices_take_few_processes(host: Machine) -> None:
    ext4 = Ran(0, "TYPE=ext4\n", "")
    for number in range(250):
        host.disk(f"vd{number}", f"250:{number}")
    answers = {f"/dev/vd{number}": ext4 for number in range(250)}
    answers |= dict.fromkeys(("/dev/sda", "/dev/sda1", "/dev/sdb", "/dev/dm-0", "/dev/dm-1"), ext4)
    probed = Probed(str(host.root), answers)
    found = blocks.signatures(probed, blocks.tree(probed))
    assert {it.type for it in found.values()} == {"ext4"}
    assert len(found) == 255
    assert len(probed.asked) == 3
    del answers["/dev/vd7"]
    assert blocks.signatures(probed, blocks.tree(probed))["250:7"] == blocks.Signature()
    assert len(probed.asked) <= 3 + 4


def test_a_device_that_does_not_answer_leaves_the_others_known(host: Machine) -> None:
    answers = {"/dev/sda": Ran(124, "", ""), "/dev/sdb": Ran(0, "TYPE=swap\n", "")}
    probed = Probed(str(host.root), answers)
    found = blocks.signatures(probed, blocks.tree(probed))
    assert found["8:0"].problem == "blkid cannot tell what is on /dev/sda: status 124"
    assert found["8:16"].type == "swap"
    assert found["8:1"] == blocks.Signature()


def test_paths_to_a_disk_are_left_to_what_unites_them(host: Machine) -> None:
    host.disk("dm-5", "252:5", "sda", "sdb", uuid="mpath-3600508b400105e21")
    probed = Probed(str(host.root), {})
    found = blocks.signatures(probed, blocks.tree(probed))
    assert found.keys() & {"8:0", "8:1", "8:16", "252:5"} == {"252:5"}


@pytest.mark.parametrize(("name", "kind"), [("sr0", "rom"), ("fd0", "floppy")])
def test_drives_are_not_waited_for(host: Machine, name: str, kind: str) -> None:
    host.disk(name, "11:0", size="2097151", removable="1")
    host.mount("/media", "11:0", "iso9660")
    probed = Probed(str(host.root), {f"/dev/{name}": Ran(99, "", "")})
    found = blocks.tree(probed)
    assert found.by_number["11:0"].kind == kind
    assert "11:0" not in blocks.signatures(probed, found)
    assert plain(below(host, "/media")) == [name]


def test_suspended_devices_are_left_alone(host: Machine) -> None:
    (host.root / "sys/devices/pci/block/dm-0/dm/suspended").write_text("1\n")
    host.disk("dm-5", "252:5", "dm-0", uuid=LVM)
    probed = Probed(str(host.root), {"/dev/dm-0": Ran(99, "", "")})
    found = blocks.signatures(probed, blocks.tree(probed))
    reason = "is suspended, and cannot be read before it resumes"
    assert found["252:0"].problem == f"/dev/mapper/the-dm-0 {reason}"
    assert found["252:5"].problem == f"/dev/mapper/the-dm-5 {reason}"
    assert not found["8:1"].problem


def test_without_blkid_nothing_is_told(host: Machine) -> None:
    probed = Probed(str(host.root), {"/dev/sda": Ran(127, "", "")})
    with pytest.raises(Refused, match="blkid is not installed"):
        blocks.signatures(probed, blocks.tree(probed))

"""A volume is opened, gets its file system once, and is closed; whatever fails leaves it closed."""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd
import re
from pathlib import Path
from typing import Any

import luks_volumes as given
import pytest
from luks_volumes import SIZE, Died, Luks

from rocksalt.blocks import Device, Mount
from rocksalt.errors import Refused
from rocksalt.host import Ran
from rocksalt.luks.config import Volume
from rocksalt.luks.keys import Key, WrongKey
from rocksalt.luks.volumes import (
    filling,
    journal,
    memory,
    mounting,
    opening,
    rotating,
    settling,
    states,
)

OPENED = "the volume data was opened"
MADE = "a file system (ext4) was made in the volume data"
MOUNTED = "the volume data was mounted at /srv/data"


class Case:
    """A closed volume that was never opened, and the programs that work on open ones."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch):
        self.machine, self.key = given.machine(root), Key.random()
        me, mine = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
        self.volume = given.volume(given.customer()[0], owner=me, group=mine)
        self.luks = Luks(monkeypatch, self.machine)
        self.luks.make(self.volume, self.key, fresh=True)
        self.ran: list[str] = []
        self.commands: list[tuple[str, ...]] = []
        self.mounted_on: tuple[int, int] | None = None
        self.fails = ""
        monkeypatch.setattr(filling, "run", self.run)
        monkeypatch.setattr(mounting, "run", self.run)
        monkeypatch.setattr(mounting, "_FLAGS", {})

    def run(self, *command: str, **_: Any) -> Ran:
        self.luks.step()
        if command[0] == self.fails:
            return Ran(32, "", "it cannot")
        self.ran.append(command[0])
        self.commands.append(command)
        if "--no-canonicalize" in command:
            found = os.stat(command[-1])
            self.mounted_on = (found.st_dev, found.st_ino)
        if command[0] == "mount":
            self.machine.disks.mounts = [
                Mount(9, 1, "253:0", "/srv/data", "ext4", "/dev/mapper/data", "rw")
            ]
        if command[0] == "umount":
            self.machine.disks.mounts = []
        if command[0].startswith("mkfs"):
            self.write(20 << 20)
        self.luks.step()
        return Ran(0, "", "")

    def write(self, at: int) -> None:
        with open(self.machine.path("/disks/acme"), "r+b") as file:
            file.seek(at)
            file.write(b"encrypted")

    def open(self, key: Key | None = None, **changes: Any) -> list[str]:
        volume = dataclasses.replace(self.volume, **changes)
        return opening.open_volume(self.machine, volume, key or self.key)

    def close(self) -> list[str]:
        return opening.close_volume(self.machine, self.volume)

    @property
    def condition(self) -> str:
        return states.state(self.machine, self.volume).condition


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


def test_the_first_opening_makes_the_file_system_and_no_other(case: Case) -> None:
    assert case.open() == [OPENED, MADE, MOUNTED]
    assert case.condition == states.OPEN
    assert case.open() == []
    assert case.close() == [
        "the volume data was unmounted from /srv/data", "the volume data was closed"
    ]  # fmt: skip
    assert case.close() == []
    assert case.open() == [OPENED, MOUNTED]
    assert case.ran.count("mkfs.ext4") == 1
    attributes = case.machine.host.attributes("/srv/data")
    assert attributes is not None
    assert attributes.mode == "0750"


def test_nobody_needs_a_key_to_forget_that_a_file_system_was_being_made(case: Case) -> None:
    """It was killed after the header said that there is one."""
    begun = journal.FirstOpening(case.luks.header["uuid"])
    journal.write(case.machine, "data", begun)
    assert states.state(case.machine, case.volume).needs_key
    case.open()
    journal.write(case.machine, "data", begun)
    found = states.state(case.machine, case.volume)
    assert found.pending and not found.needs_key
    settling.settle(case.machine, case.volume)
    assert not states.state(case.machine, case.volume).pending


def test_an_old_header_that_is_restored_makes_no_file_system(case: Case) -> None:
    """It says that there is none yet; what is on the disk says otherwise."""
    case.open()
    case.close()
    case.luks.describe("", "data", states.FRESH)
    assert case.open() == [OPENED, MOUNTED]
    assert case.ran.count("mkfs.ext4") == 1
    assert not states.state(case.machine, case.volume).fresh


@pytest.mark.parametrize("at", [16 << 20, (32 << 20) - 9, SIZE - (16 << 20), SIZE - 9])
def test_nothing_is_made_where_something_was_written(at: int, case: Case) -> None:
    case.write(at)
    case.open()
    assert "mkfs.ext4" not in case.ran


def test_a_file_system_made_in_part_is_made_anew_before_anything_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_anew = 0
    for step in range(100):
        case = Case(tmp_path / str(step), monkeypatch)
        case.luks.left = step
        try:
            case.open()
        except Died:
            case.luks.left = None
        else:
            break
        mounted_before = "mount" in case.ran
        case.open()
        assert case.condition == states.OPEN
        assert not states.state(case.machine, case.volume).fresh
        assert states.state(case.machine, case.volume).pending == ""
        assert journal.read(case.machine, "data") is None
        if mounted_before:
            assert case.ran.count("mkfs.ext4") == 1
        made_anew += case.ran.count("mkfs.ext4") > 1
    assert step > 7
    assert made_anew


def test_a_wrong_key_opens_nothing(case: Case) -> None:
    for _ in range(2):
        with pytest.raises(WrongKey, match="handed over does not open the volume data"):
            case.open(Key.random())
    assert case.condition == states.CLOSED
    assert case.ran == []


def test_a_wrong_key_is_told_so_while_the_volume_is_open(case: Case) -> None:
    case.open()
    with pytest.raises(WrongKey):
        case.open(Key.random())
    assert case.condition == states.OPEN


def test_the_key_of_a_strange_slot_opens_nothing(case: Case) -> None:
    stranger = Key.random()
    case.luks.put(1, stranger)
    with pytest.raises(WrongKey):
        case.open(stranger)


@pytest.mark.parametrize("program", ["mkfs.ext4", "mount"])
def test_what_fails_leaves_it_closed(program: str, case: Case) -> None:
    case.fails = program
    with pytest.raises(Refused, match="volume data"):
        case.open()
    assert case.condition == states.CLOSED
    case.fails = ""
    case.open()
    assert case.condition == states.OPEN


def test_a_folder_with_files_of_its_own_is_not_hidden(case: Case) -> None:
    folder = case.machine.path("/srv/data")
    folder.mkdir()
    for name in "abcd":
        (folder / name).touch()
    with pytest.raises(Refused, match=r"would be hidden: a, b, c, \.\.\.; move"):
        case.open()
    assert case.condition == states.CLOSED


def test_a_link_on_the_way_is_not_followed(case: Case) -> None:
    case.machine.path("/srv/data").symlink_to(case.machine.path("/disks"))
    with pytest.raises(Refused, match="mount: /srv/data leads elsewhere: /srv/data is a link"):
        case.open()


def test_a_folder_in_a_place_of_others_is_none(case: Case) -> None:
    """They could exchange it for a link to /etc while the key is being derived."""
    srv = case.machine.path("/srv")
    for mode in (0o777, 0o775, 0o1777):
        srv.chmod(mode)
        with pytest.raises(Refused, match="mount: /srv/data: others than root can change /srv"):
            case.open()
        assert case.condition == states.CLOSED
        assert not (srv / "data").exists()


def test_it_is_mounted_on_the_folder_that_was_looked_at(case: Case) -> None:
    """Whatever its name leads to by then."""
    case.open()
    command = next(it for it in case.commands if it[0] == "mount")
    assert "--no-canonicalize" in command
    assert re.fullmatch(r"/proc/self/fd/\d+/\.", command[-1])
    folder = case.machine.path("/srv/data").stat()
    assert case.mounted_on == (folder.st_dev, folder.st_ino)


def test_owner_and_mode_are_set_before_nothing_can_be_written(case: Case) -> None:
    case.open(options=("ro", "noexec"))
    mounted, again = [it[it.index("-o") + 1].split(",") for it in case.commands if "-o" in it]
    assert mounted[0] == "rw"
    assert "ro" not in mounted
    assert {"remount", "ro", "noexec", "nodev", "nosuid"} <= {*again}


def test_what_the_customers_key_opened_is_remembered(case: Case) -> None:
    """Such as on a host that was set up anew."""
    assert memory.read(case.machine, "data") is None
    case.open()
    made = memory.read(case.machine, "data")
    assert made is not None
    assert made.uuid == states.state(case.machine, case.volume).uuid
    case.close()
    case.luks.header = {**(case.luks.header or {}), "uuid": "89ab"}
    with pytest.raises(Refused, match="has another header"):
        case.open()


def test_a_place_that_others_can_change_is_told(case: Case) -> None:
    case.open()
    case.machine.path("/srv").chmod(0o777)
    found = states.state(case.machine, case.volume)
    said = mounting.differences(case.machine, case.volume, found)
    assert len(said) == 1
    assert "others than root can change /srv" in said[0]


def test_what_is_mounted_over_it_is_told(case: Case) -> None:
    case.open()
    case.machine.disks.mounts.append(Mount(10, 9, "8:1", "/srv/data", "ext4", "/dev/sda1", "rw"))
    found = states.state(case.machine, case.volume)
    said = ["the volume data is mounted at /srv/data, and something else over it"]
    assert mounting.differences(case.machine, case.volume, found) == said


def test_the_folder_of_a_closed_volume_becomes_that_of_root(case: Case) -> None:
    folder = case.machine.path("/srv/data")
    assert mounting.prepare(case.machine, case.volume) == []
    assert not folder.exists()
    folder.mkdir(0o755)
    assert mounting.prepare(case.machine, case.volume) == ["/srv/data is root's alone now"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert mounting.prepare(case.machine, case.volume) == []


def test_a_folder_with_files_or_through_a_link_is_given_to_nobody(case: Case) -> None:
    folder = case.machine.path("/srv/data")
    folder.mkdir(0o755)
    (folder / "live").touch()
    with pytest.raises(Refused, match="which are not encrypted and would be hidden: live"):
        mounting.prepare(case.machine, case.volume)
    assert folder.stat().st_mode & 0o777 == 0o755
    other = case.machine.path("/other")
    other.mkdir(0o755)
    (folder / "live").unlink()
    folder.rmdir()
    folder.symlink_to(other)
    assert mounting.obstacles(case.machine, case.volume)
    with pytest.raises(Refused, match="is a link"):
        mounting.prepare(case.machine, case.volume)
    assert other.stat().st_mode & 0o777 == 0o755


def test_a_file_in_the_way_is_named(case: Case) -> None:
    case.machine.path("/srv/data").touch()
    with pytest.raises(Refused, match="mount: /srv/data: /srv/data is not a folder"):
        case.open()


def test_another_mount_in_the_way_is_named(case: Case) -> None:
    case.machine.disks.mounts = [Mount(1, 0, "8:1", "/srv/data", "ext4", "/dev/sda1", "rw")]
    with pytest.raises(Refused, match="mount: something else is mounted at /srv/data"):
        case.open()


@pytest.mark.parametrize("what", ["owner", "group"])
def test_who_should_own_it_exists(what: str, case: Case) -> None:
    with pytest.raises(Refused, match=f"volumes:data:{what}: there is no nobodyhere on this host"):
        case.open(**{what: "nobodyhere"})
    assert case.condition == states.CLOSED


@pytest.mark.parametrize("uuid", ["CRYPT-PLAIN-data", "LVM-abc-data", "CRYPT-LUKS2-89ab-data", ""])
def test_what_has_its_name_and_is_not_the_volume_is_left_alone(uuid: str, case: Case) -> None:
    number = case.machine.disks.number(os.stat(case.machine.path("/disks/acme")))
    found = Device("dm-0", "253:0", "/dev/dm-0", SIZE, "crypt", parents=(number,))
    case.machine.disks.more = [dataclasses.replace(found, dm_name="data", dm_uuid=uuid)]
    with pytest.raises(Refused, match="/dev/mapper/data exists, and is not the volume data"):
        case.open()


def test_a_copy_of_the_disk_is_not_the_volume(case: Case) -> None:
    case.open()
    mapping = case.machine.disks.more[0]
    case.machine.disks.more = [dataclasses.replace(mapping, parents=("8:16",))]
    with pytest.raises(Refused, match="is open from another disk than /dev/disk/by-id/virtio-acme"):
        states.state(case.machine, case.volume)


def layered(case: Case, suspended: str) -> None:
    """As cryptsetup has it while it encrypts everything anew, and leaves it when it is killed."""
    case.open()
    mapping = case.machine.disks.more[0]
    case.machine.disks.more = [
        dataclasses.replace(mapping, parents=("253:2",)),
        Device("dm-2", "253:2", "/dev/dm-2", SIZE, "crypt", ("253:1",), dm_name="data-overlay"),
        Device(
            "dm-1", "253:1", "/dev/dm-1", SIZE, "crypt", mapping.parents, dm_name="data-hotzone"
        ),
    ]
    folder = case.machine.path("/sys/dev/block/253:1/dm")
    folder.mkdir(parents=True)
    (folder / "suspended").write_text(f"{suspended}\n")


def test_layers_of_cryptsetup_are_seen_through(case: Case) -> None:
    layered(case, suspended="0")
    assert case.condition == states.OPEN
    assert case.open() == []
    assert len(case.close()) == 2


def test_nobody_touches_a_volume_that_stands_still(case: Case) -> None:
    layered(case, suspended="1")
    found = states.state(case.machine, case.volume)
    assert (found.condition, found.needs_key) == (states.OPEN, True)
    before = list(case.ran)
    for action in (
        case.open,
        case.close,
        lambda: opening.mount_volume(case.machine, case.volume),
        lambda: rotating.reencrypt(case.machine, case.volume, case.key),
    ):
        with pytest.raises(Refused, match="stands still, since encrypting"):
            action()
    assert case.ran == before


def test_who_uses_it_is_named_before_anything_is_unmounted(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.open()
    monkeypatch.setattr(mounting, "_users", lambda _: ["postgres (12)"])
    with pytest.raises(Refused, match=r"data is in use: by postgres \(12\)"):
        case.close()
    assert case.machine.disks.mounts


def test_users_of_a_disk_are_found(tmp_path: Path) -> None:
    with open(tmp_path / "open", "w"):
        found = os.stat(tmp_path)
        number = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
        assert any(it.endswith(f"({os.getpid()})") for it in mounting._users(number))
    assert mounting._users("240:77") == []


def test_a_volume_is_mounted_again_without_a_key(case: Case) -> None:
    assert opening.mount_volume(case.machine, case.volume) == []
    case.open()
    case.machine.disks.mounts = []
    found = states.state(case.machine, case.volume)
    said = ["the volume data is open and not mounted at /srv/data"]
    assert mounting.differences(case.machine, case.volume, found) == said
    assert opening.mount_volume(case.machine, case.volume) == [MOUNTED]


def test_rights_are_put_right_without_a_key(case: Case) -> None:
    case.open()
    case.machine.path("/srv/data").chmod(0o777)
    assert opening.mount_volume(case.machine, case.volume) == ["/srv/data was made as declared"]
    assert opening.mount_volume(case.machine, case.volume) == []


def test_options_that_are_missing_are_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.open()
    monkeypatch.undo()
    flags = os.statvfs(case.machine.path("/srv/data")).f_flag
    said = mounting.differences(
        case.machine,
        dataclasses.replace(case.volume, options=("noexec", "data=ordered")),
        states.State(states.OPEN, mapping=case.machine.disks.more[0],
                     mounts=tuple(case.machine.disks.mounts)),
    )  # fmt: skip
    missing = [n for n, bit in mounting._FLAGS.items() if not flags & bit]
    wanted = [n for n in ("noexec", "nodev", "nosuid") if n in missing]
    assert said == ([f"/srv/data is mounted without {', '.join(wanted)}"] if wanted else [])


def test_a_volume_of_another_customer_is_not_opened(case: Case) -> None:
    stranger: Volume = dataclasses.replace(case.volume, customer=given.customer("other")[0])
    with pytest.raises(Refused, match="is the volume data of the customer acme, not of other"):
        opening.open_volume(case.machine, stranger, case.key)


def test_disks_missing_are_told(case: Case) -> None:
    case.machine.path(given.DEVICE).unlink()
    with pytest.raises(Refused, match="/dev/disk/by-id/virtio-acme does not exist"):
        case.open()
    assert case.close() == []

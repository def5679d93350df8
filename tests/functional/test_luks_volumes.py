"""Volumes of customers with the real cryptsetup and age, on files in the place of disks.

What needs dm-crypt itself (open, mount, close) is tried in a virtual machine of the lab.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import luks_volumes as given
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from luks_killing import killed_after, killed_at, killed_when
from luks_volumes import NOW, WEAK

from rocksalt.errors import Refused
from rocksalt.luks import cryptsetup, programs
from rocksalt.luks.config import RUNTIME, STATE, Customer, Volume
from rocksalt.luks.keys import Key, WrongKey
from rocksalt.luks.volumes import creating, journal, memory, rotating, settling, states
from rocksalt.luks.volumes.machine import Machine
from rocksalt.luks.volumes.states import CUSTOMER, State

pytestmark = pytest.mark.any_salt


@dataclass(frozen=True)
class Place:
    """A machine with one disk, and the customer who has a volume on it."""

    machine: Machine
    customer: Customer
    identity: str

    @property
    def volume(self) -> Volume:
        return given.volume(self.customer)

    @property
    def disk(self) -> Path:
        return self.machine.path("/disks/acme")

    @property
    def state(self) -> State:
        return states.state(self.machine, self.volume)

    def on_disk(self) -> dict[str, Any]:
        """As the first copy of the header has it; empty while it is being written."""
        with open(self.disk, "rb") as file:
            text = file.read(16 << 10)[4096:].partition(b"\0")[0]
        try:
            return dict(json.loads(text))
        except ValueError:
            return {}

    def all_new(self, slots: set[int]) -> bool:
        """Whether these are left, and all data are encrypted as they shall be in the end."""
        found = self.on_disk()
        left = {*map(int, found.get("keyslots", ()))}
        opened = [set(it["segments"]) for it in found.get("digests", {}).values()]
        return slots == left and {"0", "2"} in opened and "flags" not in found["segments"]["0"]

    def first_area(self) -> bytes:
        """The bytes of the first key slot, behind both copies of the header."""
        with open(self.disk, "rb") as file:
            file.seek(32 << 10)
            return file.read(252 << 10)

    def data(self, key: Key) -> list[bytes]:
        """Some sectors, decrypted as the kernel would do it: with AES-XTS and the volume key."""
        file = self.machine.path("/volume-key")
        dump = ["luksDump", "--batch-mode", "--dump-volume-key", f"--volume-key-file={file}"]
        file.unlink(missing_ok=True)
        ran = programs.run("cryptsetup", *dump, "--key-file=-", str(self.disk), given=key)
        assert ran.status == 0, ran
        found = []
        with open(self.disk, "rb") as disk:
            for sector in (0, 1, 5000, 10000, (given.SIZE >> 12) - 4097):
                disk.seek((16 << 20) + (sector << 12))
                tweak = modes.XTS((sector << 3).to_bytes(16, "little"))
                cipher = Cipher(algorithms.AES(file.read_bytes()), tweak).decryptor()
                found.append(cipher.update(disk.read(4096)))
        return found

    def create(self) -> list[str]:
        return creating.create(self.machine, self.volume, NOW, WEAK)

    def key(self, wrapped: bytes | None = None) -> Key:
        """What the customer unwraps."""
        wrapped = wrapped or self.state.wrapped
        assert wrapped is not None
        return Key(given.unwrapped(wrapped, self.identity))

    def copy(self, root: Path) -> Place:
        """The same machine once more; its disk has the same serial number there."""
        subprocess.run(["cp", "-a", "--sparse=always", self.machine.host.root, root], check=True)
        copied = Machine(given.Host(str(root)), given.Files())
        link = copied.path(given.DEVICE)
        link.unlink()
        link.symlink_to(copied.path("/disks/acme"))
        folder = copied.path("/sys/dev/block")
        number = copied.disks.number(os.stat(copied.path("/disks/acme")))
        next(folder.iterdir()).rename(folder / number)
        return replace(self, machine=copied)

    def is_whole(self) -> bool:
        """One key slot, the customer's, whose wrapped key opens it; nothing left over."""
        found = self.state
        assert found.condition == states.CLOSED, found
        assert list(found.slots.values()) == [CUSTOMER]
        assert (found.strangers, found.pending, len(found.tokens)) == ((), "", 1)
        assert [token.number for token in found.tokens] == list(found.header.tokens)
        assert cryptsetup.opens(found.device, self.key(), next(iter(found.slots)))
        state = self.machine.path(STATE)
        assert [it.name for it in state.iterdir()] == ["data.made"]
        made = memory.read(self.machine, "data")
        assert made is not None
        assert made.uuid == found.uuid
        assert [it.name for it in self.machine.path(RUNTIME).iterdir()] == ["data.lock"]
        return True


@pytest.fixture
def place(tmp_path: Path) -> Place:
    customer, identity = given.customer()
    return Place(given.machine(tmp_path / "root"), customer, identity)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """With a volume; tests work on copies of it."""
    customer, identity = given.customer()
    place = Place(given.machine(tmp_path_factory.mktemp("made") / "root"), customer, identity)
    place.create()
    return place


@pytest.fixture
def volume(made: Place, tmp_path: Path) -> Place:
    return made.copy(tmp_path / "copy")


def opened(place: Place) -> None:
    """What the first opening leaves in the header."""
    cryptsetup.describe(str(place.disk), "data", states.SUBSYSTEM)


def test_a_volume_is_made_closed_and_with_one_key(place: Place) -> None:
    assert place.create() == [f"the volume data was made on {given.DEVICE}"]
    assert place.is_whole()
    assert place.state.fresh
    assert place.create() == []
    header = place.state.header
    assert header is not None
    assert header.segments[0].cipher == "aes-xts-plain64"
    assert (header.key_size, header.segments[0].sector_size) == (512, 4096)
    assert header.slots[0].kdf == "argon2id"


def test_unused_space_of_the_header_stays_zero(place: Place) -> None:
    place.create()
    with open(place.disk, "rb") as file:
        head = file.read(16 << 20)
        rest = file.read()
    assert not any(head[512 << 10 :])
    assert not any(rest)


def test_stock_tools_unwrap_the_key(made: Place, tmp_path: Path) -> None:
    export = ["cryptsetup", "token", "export", "--token-id", "0", str(made.disk)]
    token = json.loads(subprocess.run(export, capture_output=True, check=True).stdout)
    (tmp_path / "identity").write_text(made.identity + "\n")
    plain = subprocess.run(
        ["age", "-d", "-i", str(tmp_path / "identity")],
        input=base64.b64decode(token["wrapped"]), capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert len(plain) == 64
    test = ["cryptsetup", "open", "--test-passphrase", "--key-file=-", str(made.disk)]
    subprocess.run(test, input=plain, check=True)
    assert Key(plain) == made.key()


def test_a_key_slot_survives_a_header_of_every_allowed_kind(place: Place) -> None:
    kinds = [
        cryptsetup.Strength(cipher="aes-cbc-essiv:sha256", key_size=256, memory=32),
        cryptsetup.Strength(pbkdf="pbkdf2", iterations=1000),
        cryptsetup.Strength(pbkdf="argon2i", memory=32, time=5),
    ]
    for number, strength in enumerate(kinds):
        name = f"disk{number}"
        given.disk(place.machine, name)
        volume = given.volume(
            place.customer, f"vol{number}", device=f"/dev/disk/by-id/virtio-{name}"
        )
        creating.create(place.machine, volume, NOW, strength)
        header = states.state(place.machine, volume).header
        assert header is not None
        assert header.segments[0].cipher == strength.cipher
        assert (header.slots[0].kdf, header.key_size) == (strength.pbkdf, strength.key_size)


def test_a_creation_killed_at_any_step_is_finished_or_never_began(tmp_path: Path) -> None:
    step = 0
    outcomes = set()
    while True:
        customer, identity = given.customer()
        place = Place(given.machine(tmp_path / str(step)), customer, identity)
        untouched = given.digest(place.disk)
        if not killed_at(step, place.create):
            break
        begun = place.machine.path(journal.path("data")).exists()
        if not begun and place.state.condition == states.EMPTY:
            assert given.digest(place.disk) == untouched
        outcomes.add((begun, place.state.condition))
        settled = settling.settle(place.machine, place.volume)
        assert bool(settled) == begun
        place.create()
        assert place.is_whole()
        shutil.rmtree(tmp_path / str(step))
        step += 1
    assert outcomes == {(False, "empty"), (True, "begun"), (False, "closed")}


def test_a_rotation_killed_at_any_step_leaves_one_key_that_opens(
    made: Place, tmp_path: Path
) -> None:
    step = 0
    outcomes = set()
    old = made.key()
    while True:
        place = made.copy(tmp_path / str(step))

        def rotate(place: Place = place) -> None:
            rotating.rotate(place.machine, place.volume, old, NOW, WEAK)

        if not killed_at(step, rotate):
            break
        said = settling.settle(place.machine, place.volume)
        assert place.is_whole()
        same = place.key() == old
        outcomes.add((same, *said))
        if not same:
            assert not cryptsetup.opens(str(place.disk), old, next(iter(place.state.slots)))
        rotating.rotate(place.machine, place.volume, place.key(), NOW, WEAK)
        assert place.is_whole()
        shutil.rmtree(tmp_path / str(step))
        step += 1
    back = "the interrupted rotation of the key of data was taken back"
    forth = "the key of the volume data was replaced"
    assert outcomes == {(True,), (True, back), (False, forth), (False,)}


def test_a_key_is_rotated_for_the_recipients_of_now(volume: Place) -> None:
    other, identity = given.customer()
    place = replace(volume, customer=other, identity=identity)
    assert place.state.recipients != other.fingerprints
    done = rotating.rotate(
        place.machine, place.volume, volume.key(), NOW, WEAK, recipients=other.fingerprints
    )
    assert place.is_whole()
    assert place.state.recipients == other.fingerprints
    assert place.key(done.wrapped) == place.key()
    readers = f"the new key can be unwrapped by {other.fingerprints[0]}"
    assert done.notes == ["the key of the volume data was replaced", readers, rotating.ADVICE]


def test_an_old_key_opens_nothing_after_a_rotation(volume: Place) -> None:
    old = volume.key()
    rotating.rotate(volume.machine, volume.volume, old, NOW, WEAK)
    before = given.digest(volume.disk)
    with pytest.raises(WrongKey, match="does not open the volume data"):
        rotating.rotate(volume.machine, volume.volume, old, NOW, WEAK)
    assert given.digest(volume.disk) == before


def test_a_rotation_goes_on_from_a_header_with_a_torn_copy(volume: Place) -> None:
    entry = journal.Rotation(volume.state.uuid, 1, {0: volume.state.header.slots[0].digest})
    journal.write(volume.machine, "data", entry)
    with open(volume.disk, "r+b") as file:
        file.seek(4096 + 100)
        file.write(b"torn")
    assert volume.state.condition == states.BEGUN
    said = settling.settle(volume.machine, volume.volume)
    assert said == ["the interrupted rotation of the key of data was taken back"]
    assert volume.is_whole()


def test_a_torn_header_that_nobody_was_writing_is_left_to_its_owner(volume: Place) -> None:
    with open(volume.disk, "r+b") as file:
        file.seek(4096 + 100)
        file.write(b"torn")
    before = given.digest(volume.disk)
    with pytest.raises(Refused, match="first copy is damaged: cryptsetup repair"):
        states.state(volume.machine, volume.volume)
    assert settling.settle(volume.machine, volume.volume) == []
    assert given.digest(volume.disk) == before


def test_a_key_of_the_operator_is_seen_kept_and_removed_when_asked(volume: Place) -> None:
    new = Key.random()
    cryptsetup.add_key(str(volume.disk), volume.key(), new, 3, WEAK)
    assert volume.state.slots == {0: "customer", 3: "unknown"}
    assert volume.state.strangers == ("key slot 3 has a key that is not the customer's",)
    with pytest.raises(WrongKey):
        rotating.rotate(volume.machine, volume.volume, new, NOW, WEAK)
    done = rotating.rotate(volume.machine, volume.volume, volume.key(), NOW, WEAK)
    assert "key slot 3 has a key that is not the customer's" in done.notes
    assert cryptsetup.opens(str(volume.disk), new, 3)
    done = rotating.rotate(
        volume.machine, volume.volume, volume.key(), NOW, WEAK, remove_strangers=True
    )
    assert "key slot 3, which was not the customer's, was removed" in done.notes
    assert volume.is_whole()


def test_a_key_exchanged_in_its_slot_is_seen(volume: Place, tmp_path: Path) -> None:
    for name, key in (("old", volume.key()), ("new", Key.random())):
        (tmp_path / name).write_bytes(key.secret)
    change = ["cryptsetup", "luksChangeKey", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"]
    paths = ["--key-slot=0", "--key-file", tmp_path / "old", volume.disk, tmp_path / "new"]
    subprocess.run([*change, *paths], check=True, capture_output=True)
    assert volume.state.slots == {0: "changed"}
    assert volume.state.strangers == (
        "no key slot has a key of the customer's any more",
        "key slot 0 was changed after the customer's key was put there",
    )
    with pytest.raises(WrongKey):
        rotating.rotate(
            volume.machine, volume.volume, Key((tmp_path / "old").read_bytes()), NOW, WEAK
        )


def test_a_token_of_others_is_seen(volume: Place) -> None:
    token = {"type": "clevis", "keyslots": ["0"]}
    cryptsetup.import_token(str(volume.disk), 5, token)
    assert volume.state.strangers == ("token 5 is of the type clevis",)
    rotating.rotate(volume.machine, volume.volume, volume.key(), NOW, WEAK, remove_strangers=True)
    assert volume.is_whole()


def test_everything_is_encrypted_anew_under_the_same_key(made: Place, volume: Place) -> None:
    opened(volume)
    key, before = volume.key(), volume.state
    rotating.reencrypt(volume.machine, volume.volume, key, WEAK)
    assert volume.is_whole()
    assert volume.key() == key
    assert volume.data(key) == made.data(key)
    assert volume.state.wrapped == before.wrapped
    assert volume.state.header.slots != before.header.slots


def test_encrypting_anew_goes_on_after_it_was_killed(made: Place, tmp_path: Path) -> None:
    step, seen = 0, set()
    key = made.key()
    while True:
        place = made.copy(tmp_path / str(step))
        opened(place)

        def reencrypt(place: Place = place) -> None:
            rotating.reencrypt(place.machine, place.volume, key, WEAK)

        if not killed_at(step, reencrypt):
            break
        settling.settle(place.machine, place.volume)
        found = place.state
        seen.add((found.needs_key, found.strangers))
        reencrypt()
        assert place.is_whole()
        assert place.key() == key
        shutil.rmtree(tmp_path / str(step))
        step += 1
    assert seen == {(False, ()), (True, ())}


@pytest.mark.parametrize("what", ["create", "rotate", "reencrypt"])
def test_programs_that_die_as_well_leave_nothing_that_cannot_be_finished(
    what: str, made: Place, tmp_path: Path
) -> None:
    """At any time, such as when the power fails: cryptsetup is in the middle of writing."""
    key = made.key()
    seconds, died = 0.0, 0
    for part in range(9):
        place = made.copy(tmp_path / str(part))
        opened(place)
        if what == "create":
            place = replace(place, machine=given.machine(tmp_path / f"new{part}"))
        actions: dict[str, Callable[[Place], object]] = {
            "create": Place.create,
            "rotate": lambda it: rotating.rotate(it.machine, it.volume, key, NOW, WEAK),
            "reencrypt": lambda it: rotating.reencrypt(it.machine, it.volume, key, WEAK),
        }
        begin = time.monotonic()
        if part == 0:
            actions[what](place)
            seconds = time.monotonic() - begin
            continue
        moment = seconds * part / 9
        if killed_after(moment, partial(actions[what], place)):
            died += 1
        else:
            seconds = moment  # the machine is less busy than it was
        settling.settle(place.machine, place.volume)
        if what != "rotate":
            actions[what](place)
        assert place.is_whole()
        assert what != "reencrypt" or (place.key(), place.data(key)) == (key, made.data(key))
        shutil.rmtree(tmp_path / str(part))
    assert died > 3


@pytest.mark.parametrize("slots", [{0, 1, 2}, {1, 2}])
def test_the_end_of_encrypting_anew_is_finished(
    slots: set[int], made: Place, tmp_path: Path
) -> None:
    """Dies when all data are encrypted, before or after the old key slot is gone, and the header
    says that all is still to be done.
    """
    key, place = made.key(), made
    for part in range(30):
        place = made.copy(tmp_path / str(part))
        opened(place)
        killed_when(
            lambda place=place: place.all_new(slots),
            lambda place=place: rotating.reencrypt(place.machine, place.volume, key, WEAK),
        )
        settling.settle(place.machine, place.volume)
        if place.all_new(slots):
            break
    else:
        pytest.fail("it was never killed at this moment")
    assert place.state.anew
    before = given.digest(place.disk)
    with pytest.raises(WrongKey):
        rotating.reencrypt(place.machine, place.volume, Key.random(), WEAK)
    assert given.digest(place.disk) == before
    done = rotating.reencrypt(place.machine, place.volume, key, WEAK)
    assert done == ["the volume data was encrypted anew"]
    assert place.is_whole()
    assert (place.key(), place.data(key)) == (key, made.data(key))
    assert not any(place.first_area())
    rotating.reencrypt(place.machine, place.volume, key, WEAK)
    assert place.is_whole()


def test_half_encrypted_anew_takes_no_other_change(volume: Place) -> None:
    opened(volume)
    key = volume.key()
    path = str(volume.disk)
    ran = cryptsetup.run(
        "cryptsetup", "reencrypt", "--init-only", "--batch-mode", "--key-slot=0",
        "--key-file=-", *WEAK.cost, path, given=key,
    )  # fmt: skip
    assert ran.status == 0, ran
    assert volume.state.pending == "the volume data is encrypted anew in part"
    assert (volume.state.needs_key, volume.state.strangers) == (True, ())
    before = given.digest(volume.disk)
    with pytest.raises(Refused, match="finish that first, with reencrypt data"):
        rotating.rotate(volume.machine, volume.volume, key, NOW, WEAK, remove_strangers=True)
    with pytest.raises(WrongKey):
        rotating.reencrypt(volume.machine, volume.volume, Key.random(), WEAK)
    assert given.digest(volume.disk) == before
    rotating.reencrypt(volume.machine, volume.volume, key, WEAK)
    assert volume.is_whole()


def test_two_creators_at_once_make_one_volume(place: Place) -> None:
    said: list[list[str]] = []
    threads = [threading.Thread(target=lambda: said.append(place.create())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, said)) == [0, 1]
    assert place.is_whole()


def test_two_names_of_one_disk_give_one_volume(place: Place) -> None:
    other = place.machine.path("/dev/disk/by-id/wwn-acme")
    other.symlink_to(place.disk)
    volume = given.volume(place.customer, "twin", device="/dev/disk/by-id/wwn-acme")
    place.create()
    before = given.digest(place.disk)
    with pytest.raises(Refused, match="is the volume data, not twin"):
        creating.create(place.machine, volume, NOW, WEAK)
    assert given.digest(place.disk) == before

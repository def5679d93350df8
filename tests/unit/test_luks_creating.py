"""A volume is made as a whole or not at all: journal, locks, and what keeps a creation back."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import luks_volumes as given
import pytest
from luks_volumes import NOW, Died, Luks

from rocksalt.errors import Refused
from rocksalt.luks.config import RUNTIME, STATE, Volume
from rocksalt.luks.cryptsetup import Strength
from rocksalt.luks.keys import Key
from rocksalt.luks.volumes import creating, formatting, journal, locks, memory, settling, states
from rocksalt.luks.volumes.machine import Machine

IMAGE = os.urandom(40 << 10).ljust(16 << 20, b"\0")


class Case:
    """An empty disk, and a header that needs no cryptsetup."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch):
        self.machine = given.machine(root)
        self.volume = given.volume(given.customer()[0])
        self.luks = Luks(monkeypatch, self.machine)
        monkeypatch.setattr(creating, "_header", self.header)
        monkeypatch.setattr(self.luks, "read", self.read)
        monkeypatch.setattr(creating.states.headers, "read", self.read)

    def header(self, machine: Machine, volume: Volume, key: Key, *_: object) -> tuple[str, bytes]:
        self.luks.make(volume, key, fresh=True)
        return "0123-4567", IMAGE

    def read(self, host: Any, device: str, header: str | None = None) -> Any:
        return Luks.read(self.luks, host, device) if self.on_disk == IMAGE else None

    def create(self) -> list[str]:
        return creating.create(self.machine, self.volume, NOW)

    @property
    def disk(self) -> Path:
        return self.machine.path("/disks/acme")

    @property
    def on_disk(self) -> bytes:
        with open(self.disk, "rb") as file:
            return file.read(len(IMAGE))

    @property
    def left_over(self) -> list[str]:
        folders = (self.machine.path(it) for it in (STATE, RUNTIME))
        return sorted(it.name for folder in folders if folder.is_dir() for it in folder.iterdir())


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


def test_a_volume_is_made_once(case: Case) -> None:
    assert case.create() == ["the volume data was made on /dev/disk/by-id/virtio-acme"]
    assert case.on_disk == IMAGE
    assert case.left_over == ["data.lock", "data.made"]
    before = given.digest(case.disk)
    assert case.create() == []
    assert given.digest(case.disk) == before


@pytest.mark.parametrize("at", range(0, 13))
def test_whoever_dies_while_writing_is_followed_by_another(
    at: int, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, writes = os.pwrite, iter(range(10**6))

    def write(descriptor: int, data: bytes, place: int) -> int:
        if next(writes) == at:
            real(descriptor, data[:512], place)
            raise Died
        return real(descriptor, data, place)

    with monkeypatch.context() as patched:
        patched.setattr(formatting.os, "pwrite", write)
        if at < 10:
            with pytest.raises(Died):
                case.create()
            found = states.state(case.machine, case.volume)
            assert (found.condition, found.pending) == (
                states.BEGUN, "the creation of the volume data was interrupted"
            )  # fmt: skip
        else:
            case.create()
    said = ["the interrupted creation of the volume data was finished"]
    assert case.create() == (said if at < 10 else [])
    assert case.on_disk == IMAGE
    assert case.left_over == ["data.lock", "data.made"]


def lost(case: Case) -> None:
    """The header and all around it is gone, as by dd."""
    os.truncate(case.disk, 0)
    os.truncate(case.disk, given.SIZE)


def test_a_volume_whose_header_is_lost_is_not_made_anew(case: Case) -> None:
    case.create()
    lost(case)
    before = given.digest(case.disk)
    found = states.state(case.machine, case.volume)
    assert found.condition == states.OTHER
    with pytest.raises(Refused, match=r"has no header any more; .* restore that from its copy, or"):
        case.create()
    assert given.digest(case.disk) == before
    said = ["the header 0123-4567 of the volume data was forgotten"]
    assert creating.forget(case.machine, case.volume) == said
    assert creating.forget(case.machine, case.volume) == []
    assert case.create() == ["the volume data was made on /dev/disk/by-id/virtio-acme"]


def test_what_is_there_is_not_forgotten(case: Case) -> None:
    case.create()
    with pytest.raises(Refused, match="the volume data is there, with its header"):
        creating.forget(case.machine, case.volume)
    assert memory.read(case.machine, "data") == memory.Made(
        "0123-4567", given.DEVICE, "acme", "2026-11-22T12:00:00Z"
    )


def test_a_creation_that_was_finished_later_is_remembered_as_well(case: Case) -> None:
    begun(case)
    settling.settle(case.machine, case.volume)
    made = memory.read(case.machine, "data")
    assert made is not None
    assert made.uuid == "0123-4567"


def test_another_header_is_not_the_volumes(case: Case) -> None:
    """Anybody can make one with the same label, and wrap a key to a public key."""
    case.create()
    assert case.luks.header is not None
    case.luks.header["uuid"] = "89ab"
    found = states.state(case.machine, case.volume)
    assert found.condition == states.OTHER
    assert "has another header (89ab); the volume data was made on" in found.what
    assert creating.forget(case.machine, case.volume)
    assert states.state(case.machine, case.volume).made


def test_a_damaged_memory_is_named(case: Case) -> None:
    case.create()
    case.machine.path(memory.path("data")).write_text("{}")
    with pytest.raises(Refused, match=r"data\.made is damaged"):
        states.state(case.machine, case.volume)


def test_customers_do_not_wait_for_each_other(case: Case) -> None:
    """Such as for the file system of a large disk."""
    given.disk(case.machine, "other")
    other = dataclasses.replace(
        case.volume, name="other", device="/dev/disk/by-id/virtio-other", mount="/srv/other"
    )
    with locks.held(case.machine, "data"), locks.held(case.machine, other.name, patience=0):
        assert settling.unlocked(case.machine, other) == []


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_full_disk_changes_nothing(
    call: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = given.digest(case.disk), getattr(os, call)

    def full(*args: Any, **kwargs: Any) -> Any:
        if call == "open" and "journal" not in str(args[0]):
            return real(*args, **kwargs)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(journal.os, call, full)
        with pytest.raises(Refused, match="cannot be written: No space left on device"):
            case.create()
    assert given.digest(case.disk) == before
    assert case.left_over == ["data.lock"]
    assert states.state(case.machine, case.volume).condition == states.EMPTY


def begun(case: Case) -> journal.Creation:
    """What is left of a creation that was killed before it wrote to the disk."""
    with formatting.examined(case.machine, case.volume) as disk:
        identity = disk.identity
    case.luks.make(case.volume, Key.random(), fresh=True)
    entry = journal.Creation(
        "0123-4567", "acme", case.volume.device, identity, IMAGE, NOW.isoformat()
    )
    journal.write(case.machine, "data", entry)
    return entry


def test_a_creation_goes_on_for_the_customer_it_was_begun_for_alone(case: Case) -> None:
    begun(case)
    before = given.digest(case.disk)
    other = dataclasses.replace(case.volume, customer=given.customer("other")[0])
    with pytest.raises(Refused, match="begun for the customer acme, and is declared for other now"):
        creating.create(case.machine, other, NOW)
    assert given.digest(case.disk) == before


def test_a_creation_does_not_go_on_on_another_disk(case: Case) -> None:
    begun(case)
    given.disk(case.machine, "other")
    other = dataclasses.replace(case.volume, device="/dev/disk/by-id/virtio-other")
    before = given.digest(case.machine.path("/disks/other"))
    for call in (lambda: settling.settle(case.machine, other), lambda: creating.create(
        case.machine, other, NOW
    )):  # fmt: skip
        with pytest.raises(Refused, match="is another disk than the one on which the volume was"):
            call()
    assert given.digest(case.machine.path("/disks/other")) == before


def test_what_was_begun_is_the_same_in_the_journal(case: Case) -> None:
    entry = begun(case)
    assert journal.read(case.machine, "data") == entry
    path = case.machine.path(journal.path("data"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size < 100 << 10
    assert "image" not in repr(entry)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"what": "nonsense"},
        {"image": "AAAA"},
        {"sha256": "0" * 64},
        {"device": None, "more": 1},
    ],
)
def test_a_damaged_journal_is_named_and_nothing_is_done(change: dict[str, Any], case: Case) -> None:
    begun(case)
    path = case.machine.path(journal.path("data"))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    before = given.digest(case.disk)
    with pytest.raises(
        Refused, match="is damaged: it says what was under way with the volume data"
    ):
        case.create()
    assert given.digest(case.disk) == before


def test_two_at_once_wait_for_each_other(case: Case) -> None:
    order: list[str] = []
    with locks.held(case.machine, "data"):
        other = threading.Thread(target=lambda: order.append(case.create()[0]))
        other.start()
        order.append("first")
    other.join()
    assert order == ["first", "the volume data was made on /dev/disk/by-id/virtio-acme"]


def test_whoever_waits_too_long_is_told_for_whom(case: Case) -> None:
    said = rf"data is being changed by somebody else \(process {os.getpid()}\)"
    with (
        locks.held(case.machine, "data"),
        pytest.raises(Refused, match=said),
        locks.held(case.machine, "data", patience=0),
    ):
        raise AssertionError("two have the lock")


ORPHAN = """
import os, signal, sys
from pathlib import Path
from rocksalt.host import Host
from rocksalt.luks import programs
from rocksalt.luks.volumes import locks
from rocksalt.luks.volumes.machine import Machine
with locks.held(Machine(Host(sys.argv[1])), "data"):
    # A shell that sees its parent die, and works on.
    programs.run("sh", "-c", "kill -9 $PPID; sleep 1; touch " + sys.argv[1] + "/done")
"""


def test_a_program_keeps_the_lock_of_whoever_was_killed(case: Case) -> None:
    root = case.machine.host.root
    command = [sys.executable, "-c", ORPHAN, root]
    paths = os.pathsep.join(filter(None, sys.path))
    ran = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert ran.returncode == -9
    with locks.held(case.machine, "data"):
        assert case.machine.path("/done").exists()


def test_what_settings_allow_is_used_and_the_best_of_it() -> None:
    settings = {
        "ciphers": ["serpent-xts-plain64", "aes-xts-plain64"],
        "key_size": 512,
        "pbkdfs": ["pbkdf2", "argon2id"],
        "argon2_memory": 1024,
        "argon2_time": 1,
        "pbkdf2_iterations": 1000,
    }
    best = Strength.of(settings)
    assert (best.cipher, best.pbkdf, best.time, best.memory) == (
        "aes-xts-plain64", "argon2id", 4, 1024
    )  # fmt: skip
    other = Strength.of({**settings, "ciphers": ["a-b"], "pbkdfs": ["pbkdf2"]})
    assert (other.cipher, other.cost[0]) == ("a-b", "--pbkdf=pbkdf2")

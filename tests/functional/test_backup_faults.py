"""Snapshots on real disks that are full or read-only, and through a real receiver."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_master import BEGIN, HOUR, Master, Memory

from rocksalt.backup import access, commands, status
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import FAILED, OK, UNREACHABLE, UNVERIFIED, WARNINGS, BackupError
from rocksalt.backup.vaults.file import MARKER, FileVault
from rocksalt.backup.vaults.ssh import SshVault

pytestmark = pytest.mark.any_salt

HERE = Path(__file__).resolve().parent
UTILS = HERE.parents[1] / "_utils"
PATHS = f"{HERE}:{HERE.parent / 'unit'}:{UTILS}"


def own_mounts(tmp_path: Path, test: Callable[[Path], None]) -> None:
    """Runs a function of this module where it may mount: in namespaces of its own."""
    words = [sys.executable, "-c", f"import {__name__} as m; m.{test.__name__}(m.Path.cwd())"]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", *words], cwd=tmp_path, check=False,
        capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": PATHS},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def small_disk(path: str, size: str = "2m") -> None:
    os.makedirs(path)
    mount("-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", path)


def near(folder: Path) -> FileVault:
    (folder / "near").mkdir(exist_ok=True)
    settings = {"path": str(folder / "near"), "allow_unencrypted": True}
    return FileVault("near", settings, "master1")


def refused(master: Master, why: str, *vaults: Any, hours: int) -> None:
    try:
        master.take(*vaults, at=BEGIN + hours * HOUR)
    except BackupError as error:
        assert error.code == FAILED
        assert why in str(error), error
    else:
        raise AssertionError("the snapshot was taken")
    assert status.read(master.status)["snapshot"]["code"] == FAILED


def full_spool(folder: Path) -> None:
    master, vault = Master(folder), near(folder)
    small_disk(master.settings["spool"])
    master.take(vault)
    (folder / "srv/salt/big").write_bytes(os.urandom(4 << 20))
    refused(master, "is full", vault, hours=1)
    spool = Path(master.settings["spool"])
    assert not list(spool.glob("*.partial"))
    assert status.read(master.status)["snapshot"]["sequence"] == 1
    os.remove(folder / "srv/salt/big")
    result = master.take(vault, at=BEGIN + 2 * HOUR)
    assert (result.code, result.sequence) == (OK, 2)


def full_of_others(folder: Path) -> None:
    """Somebody else fills the disk of the spool to its last byte."""
    master, vault = Master(folder), near(folder)
    small_disk(master.settings["spool"])
    master.take(vault)
    hog = Path(master.settings["spool"]) / "hog"
    with open(hog, "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    refused(master, "is full", vault, hours=1)
    hog.unlink()
    assert master.take(vault, at=BEGIN + 2 * HOUR).sequence == 2


def read_only_spool(folder: Path) -> None:
    master, vault = Master(folder), near(folder)
    small_disk(master.settings["spool"])
    master.take(vault)
    mount("-o", "remount,ro", master.settings["spool"])
    refused(master, "Read-only file system", vault, hours=1)
    mount("-o", "remount,rw", master.settings["spool"])
    assert master.take(vault, at=BEGIN + 2 * HOUR).code == OK


def full_vault(folder: Path) -> None:
    master, vault, far = Master(folder), near(folder), Memory("far")
    os.rmdir(folder / "near")
    small_disk(str(folder / "near"))
    assert master.take(vault, far).code == OK
    (folder / "srv/salt/big").write_bytes(os.urandom(4 << 20))
    result = master.take(vault, far, at=BEGIN + HOUR)
    assert (result.code, result.vaults["far"]["sequence"]) == (FAILED, 2)
    assert "No space left" in result.vaults["near"]["error"]
    mount("-o", "remount,size=16m", str(folder / "near"))
    assert master.take(vault, far, at=BEGIN + 2 * HOUR).code == OK
    assert sorted(vault.names()) == sorted(far.objects)


def read_only_vault(folder: Path) -> None:
    master, vault = Master(folder), near(folder)
    os.rmdir(folder / "near")
    small_disk(str(folder / "near"))
    mount("-o", "remount,ro", str(folder / "near"))
    assert master.take(vault).code == FAILED
    mount("-o", "remount,rw", str(folder / "near"))
    assert master.take(vault, at=BEGIN + HOUR).code == OK
    assert len([name for name in vault.names() if name.endswith(".json")]) == 2


@pytest.mark.parametrize(
    "test", [full_spool, full_of_others, read_only_spool, full_vault, read_only_vault]
)
def test_disks(tmp_path, test):
    own_mounts(tmp_path, test)


# A real receiver, in a process of its own, without the ssh in between


RECEIVE = """
import sys
from rocksalt.backup import __main__ as program, config
config.SIGNING_KEY = {key!r}
raise SystemExit(program.main(["receive", "--client", "m", "--config", {config!r}]))
"""


class Remote:
    """A vault host for a master, reached by a command that does what ssh's forced one does."""

    def __init__(self, folder: Path, master: Master, name: str = "far", **client: Any):
        self.folder, self.name = folder / name, name
        (self.folder / "store").mkdir(parents=True)
        (self.folder / "store" / MARKER).touch()
        self.public = sshsig.generate(self.folder / "signing")
        entry = {"instance": "master1", "key": "x", "signer": master.signer.public, **client}
        self.settings = {
            **master.settings, "master": False, "vaults": {},
            "receiver": {
                "path": str(self.folder / "store"), "allow_unencrypted": True,
                "clients": {"m": entry},
            },
        }  # fmt: skip
        path = self.folder / "config.json"
        path.write_text(json.dumps(self.settings))
        path.chmod(0o600)
        self.program = self.folder / "ssh"
        script = RECEIVE.format(key=str(self.folder / "signing"), config=str(path))
        self.program.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path[:0] = [{str(UTILS)!r}]\n{script}"
        )
        self.program.chmod(0o700)

    def vault(self) -> SshVault:
        settings = {
            "host": "far", "user": "u", "host_key": "k", "receiver": self.public, "timeout": 20,
        }  # fmt: skip
        vault = SshVault(self.name, settings, "master1")
        vault.program = (str(self.program),)
        return vault

    def move(self, name: str) -> None:
        os.rename(self.program, self.folder / name)
        self.program = self.folder / name


@pytest.fixture
def master(tmp_path: Path) -> Master:
    return Master(tmp_path)


def take(master: Master, *vaults: Any, hours: int = 0) -> Any:
    try:
        return master.take(*vaults, at=dt.datetime.now(dt.timezone.utc) + hours * HOUR)
    finally:
        for vault in vaults:
            vault.close()


def test_a_receiver_takes_snapshots_and_countersigns(tmp_path, master):
    remote = Remote(tmp_path, master)
    for _ in range(2):
        result = take(master, remote.vault())
        assert result.code in (OK, WARNINGS), result
    assert result.vaults["far"]["receipt"].startswith("20")
    assert result.sequence == 2


def test_a_receiver_that_was_away_catches_up(tmp_path, master):
    remote, vault = Remote(tmp_path, master), Memory()
    take(master, vault, remote.vault(), hours=-3)
    program, gone = remote.program, tmp_path / "gone"
    gone.write_text("#!/bin/sh\nexit 255\n")
    gone.chmod(0o700)
    remote.program = gone
    for hours in (-2, -1):
        master.write("srv/salt/top.sls", str(hours))
        assert take(master, vault, remote.vault(), hours=hours).code == UNREACHABLE
    remote.program = program
    result = take(master, vault, remote.vault())
    assert result.vaults["far"]["error"] == ""
    assert result.vaults["far"]["sequence"] == 4


def test_a_receiver_knows_the_chain_of_a_master_that_lost_its_spool(tmp_path, master):
    remote = Remote(tmp_path, master)
    for _ in range(2):
        take(master, remote.vault())
    os.rename(master.settings["spool"], tmp_path / "lost")
    result = take(master, remote.vault())
    assert (result.sequence, result.vaults["far"]["error"]) == (3, "")


def test_a_receiver_that_is_new_begins_in_the_middle(tmp_path, master):
    vault = Memory()
    take(master, vault)
    remote = Remote(tmp_path, master)
    result = take(master, vault, remote.vault())
    assert (result.kind, result.vaults["far"]["sequence"]) == ("full", 2)


def test_a_witness(tmp_path, master):
    vault, witness = Memory(), Remote(tmp_path, master, "witness", archives=False)
    master.settings["vaults"] = {"witness": {"archives": False}}
    result = take(master, vault, witness.vault())
    assert result.vaults["witness"]["error"] == ""
    store = sorted(os.listdir(witness.folder / "store/master1"))
    assert [name.partition(".")[2] for name in store] == [
        "json", "json.sig", "receipt.json", "receipt.json.sig",
    ]  # fmt: skip


def test_the_master_has_its_archives_checked_by_the_vault_host(tmp_path, master, monkeypatch):
    remote = Remote(tmp_path, master)
    take(master, remote.vault())
    entry = {"type": "ssh", "receiver": remote.public}
    settings = {**master.settings, "vaults": {"far": entry}}
    monkeypatch.setattr(access.opening, "vault", lambda *_: remote.vault())

    def check() -> dict[str, Any]:
        return commands.check(
            settings, {}, dt.datetime.now(dt.timezone.utc), key=str(tmp_path / "signing"),
            status_path=master.status,
        )  # fmt: skip

    found = check()["vaults"]["far"]
    assert (found["code"], found["archives_checked"], found["problems"]) == (OK, 1, []), found
    (archive,) = (remote.folder / "store/master1").glob("*.age")
    archive.chmod(0o600)
    data = bytearray(archive.read_bytes())
    data[50] ^= 1
    archive.write_bytes(data)
    found = check()["vaults"]["far"]
    assert (found["code"], found["ok"]) == (UNVERIFIED, False)

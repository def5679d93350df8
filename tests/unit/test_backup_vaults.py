"""Vaults of each type: only new names, nothing by halves, and errors that say what to do."""

from __future__ import annotations

import base64
import datetime as dt
import email.utils
import errno
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from backup_chain import World, signer
from backup_receiving import Session, VaultHost

from rocksalt.backup import names
from rocksalt.backup.errors import BackupError, Taken, Unreachable, VaultError
from rocksalt.backup.manifest import digest
from rocksalt.backup.vaults import Stored, Vault, disks, opening, s3, ssh
from rocksalt.backup.vaults.content import CHUNK
from rocksalt.backup.vaults.file import FileVault, Store

NAME = "00000001-20261122T020000Z.operator.tar.zst.age"
OTHER = "00000001-20261122T020000Z.json.sig"
DATA = bytes(range(256)) * 2048 + b"the end"
PLACE = {"location": "cellar", "admin_domain": "others"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


def put(vault: Vault, source: Path, name: str = NAME) -> None:
    vault.put(name, source, digest(source.read_bytes()))


def read(vault: Vault, name: str = NAME) -> bytes:
    with vault.open(name) as file:
        return file.read()


# The vault that is a folder.


class Faulty(Store):
    """A store on a disk that writes ``good`` bytes, and then raises ``error``."""

    good = 1 << 62
    error: OSError | None = None

    @staticmethod
    def write(descriptor: int, data: Any) -> int:
        if Faulty.good <= 0 and Faulty.error:
            raise Faulty.error
        Faulty.good -= len(data)
        return os.write(descriptor, data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.mkdir()
    return path


@pytest.fixture
def filed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FileVault:
    monkeypatch.setattr(FileVault, "store_type", Faulty)
    monkeypatch.setattr(Faulty, "good", 1 << 62)
    monkeypatch.setattr(Faulty, "error", None)
    settings = {"type": "file", "path": str(folder), "allow_unencrypted": True, **PLACE}
    return FileVault("disk", settings, "salt1")


def left(folder: Path) -> list[str]:
    """Every file below a folder, but for locks."""
    return sorted(it.name for it in folder.rglob("*") if it.is_file() and it.suffix != ".lock")


def test_a_file_is_put_and_read(filed: FileVault, folder: Path, source: Path) -> None:
    assert filed.names() == {}
    put(filed, source)
    put(filed, source, OTHER)
    assert {name: it.size for name, it in filed.names().items()} == {
        NAME: len(DATA),
        OTHER: len(DATA),
    }
    assert filed.names()[NAME].received == pytest.approx(dt.datetime.now().timestamp(), abs=60)
    assert read(filed) == DATA
    assert (folder / "salt1" / NAME).stat().st_mode & 0o777 == 0o440
    assert (folder / "salt1").stat().st_mode & 0o777 == 0o700
    assert left(folder) == sorted([NAME, OTHER])


def test_a_file_is_read_in_pieces(filed: FileVault, source: Path) -> None:
    put(filed, source)
    with filed.open(NAME) as file:
        assert b"".join(iter(lambda: file.read(1000), b"")) == DATA


def test_the_same_again_is_no_error(filed: FileVault, source: Path) -> None:
    put(filed, source)
    before = filed.names()
    put(filed, source)
    assert filed.names() == before


def test_another_content_is_taken(filed: FileVault, source: Path) -> None:
    put(filed, source)
    source.write_bytes(b"another")
    with pytest.raises(Taken, match=f"the vault disk has another object named {NAME}"):
        put(filed, source)
    assert read(filed) == DATA


@pytest.mark.parametrize(
    "name",
    ["x", "", "../x", f"{NAME}.pruned.json", f"{NAME}\n", "00000001-20261122T020000Z.receipt.json"],
)
def test_other_names_are_refused(filed: FileVault, folder: Path, source: Path, name: str) -> None:
    with pytest.raises(VaultError, match="takes no object named"):
        put(filed, source, name)
    assert left(folder) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "x", "", ".", "a" * 300])
def test_what_is_no_object_is_not_found(filed: FileVault, source: Path, name: str) -> None:
    put(filed, source)
    with pytest.raises(FileNotFoundError):
        filed.open(name)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "No space left on device: make room there"),
        (errno.EDQUOT, "raise the quota"),
        (errno.EROFS, "Read-only file system: mount it for writing"),
        (errno.EIO, "Input/output error: check the disk"),
        (errno.EBADMSG, "look after its disk"),
    ],
)
@pytest.mark.parametrize("good", [0, CHUNK])
def test_a_disk_that_fails_leaves_nothing_and_the_next_run_heals(
    filed: FileVault, folder: Path, source: Path, number: int, remedy: str, good: int
) -> None:
    Faulty.good, Faulty.error = good, OSError(number, os.strerror(number))
    with pytest.raises(VaultError, match=f"the vault disk failed, {folder}: {NAME}: .*{remedy}"):
        put(filed, source)
    assert left(folder) == []
    Faulty.error = None
    put(filed, source)
    assert read(filed) == DATA


@pytest.mark.parametrize("call", ["fsync", "link", "posix_fadvise"])
def test_each_step_may_fail(
    filed: FileVault, folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(VaultError, match="check the disk"):
            put(filed, source)
    assert left(folder) == []
    put(filed, source)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP])
def test_a_disk_without_hard_links_is_told(
    filed: FileVault, source: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", fails)
    with pytest.raises(VaultError, match=r"hard links|one file system"):
        put(filed, source)


def test_a_disk_that_writes_less_than_it_says_is_found(
    filed: FileVault, folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Faulty, "write", staticmethod(lambda descriptor, data: len(data)))
    with pytest.raises(VaultError, match="is another when it is read back: check the disk"):
        put(filed, source)
    assert left(folder) == []


def test_a_kill_leaves_nothing_and_the_next_run_heals(
    filed: FileVault, folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was arriving when the process died is in the way of nobody."""
    (folder / ".incoming").mkdir()
    (folder / "salt1").mkdir()
    (folder / ".incoming" / "salt1").write_bytes(b"begun")
    put(filed, source)
    assert left(folder) == [NAME]
    # Killed between the link and the end: both names are one file, which nothing may write to.
    os.link(folder / "salt1" / NAME, folder / ".incoming" / "salt1")
    put(filed, source, OTHER)
    assert read(filed) == read(filed, OTHER) == DATA


def test_a_changed_source_is_not_put(filed: FileVault, folder: Path, source: Path) -> None:
    with pytest.raises(VaultError, match="arrived with the SHA-256"):
        filed.put(NAME, source, digest(b"as it was"))
    assert left(folder) == []


def test_a_source_that_cannot_be_read_is_not_the_vaults_fault(
    filed: FileVault, folder: Path
) -> None:
    with pytest.raises(BackupError, match=r"gone cannot be read: No such file.*") as raised:
        filed.put(NAME, Path("/gone"), digest(b""))
    assert not isinstance(raised.value, VaultError)
    assert left(folder) == []


def test_a_disk_that_is_away_is_unreachable(folder: Path, source: Path) -> None:
    settings = {"path": str(folder / "not-mounted"), "allow_unencrypted": True}
    vault = FileVault("disk", settings, "salt1")
    attempts = (lambda: put(vault, source), vault.names, vault.faults)
    for attempt in attempts:
        with pytest.raises(Unreachable, match="see whether its disk is mounted"):
            attempt()


def test_only_one_writes(
    filed: FileVault, folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "patience", 0.0)
    with Store(folder, "salt1").locked():
        with pytest.raises(Unreachable, match="in use by another run"):
            put(filed, source)
        put(FileVault("disk", {"path": folder, "allow_unencrypted": True}, "salt2"), source)
    put(filed, source)


def test_an_error_while_reading_is_the_vaults(
    filed: FileVault, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(filed, source)

    class Bad(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("rocksalt.backup.vaults.file.io.FileIO", Bad)
    with pytest.raises(VaultError, match=f"{NAME}: Input/output error: check the disk"):
        read(filed)


def test_an_unencrypted_disk_is_refused(
    folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = FileVault("disk", {"path": str(folder)}, "salt1")
    monkeypatch.setattr(disks, "encrypted", lambda path: False)
    for attempt in (lambda: put(vault, source), vault.faults):
        with pytest.raises(VaultError, match=r"is on no encrypted disk, .*set allow_unencrypted"):
            attempt()
    monkeypatch.setattr(disks, "encrypted", lambda path: True)
    put(vault, source)


def test_a_folder_alone_is_a_fault(filed: FileVault) -> None:
    (fault,) = filed.faults()
    assert "the master's root can change" in fault


# The vault behind ssh.

SSH = {"type": "ssh", "host": "vault.example", "user": "keeper", "host_key": "x", **PLACE}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VaultHost:
    world = World()
    for kind in ("full", "same"):
        world.add(kind)
    return VaultHost(tmp_path, world, monkeypatch)


def connected(
    host: VaultHost, monkeypatch: pytest.MonkeyPatch, client: str = "salt1", **more: Any
) -> ssh.SshVault:
    monkeypatch.setattr(ssh, "Session", lambda *_: Session(host, client))
    return ssh.SshVault("offsite", {**SSH, "receiver": host.public, **more}, "salt1")


@pytest.fixture
def remote(host: VaultHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssh.SshVault]:
    vault = connected(host, monkeypatch)
    yield vault
    vault.close()


def put_world(vault: Vault, world: World, folder: Path) -> None:
    """As a master does: archives, signature, manifest."""
    for found in world.chain:
        order = [archive.name for archive in found.archives.values()]
        for name in [*order, f"{found.name}.sig", found.name]:
            path = folder / name
            path.write_bytes(world.vault.objects[name])
            put(vault, path, name)


def test_a_chain_goes_through_ssh(remote: ssh.SshVault, host: VaultHost, tmp_path: Path) -> None:
    put_world(remote, host.world, tmp_path)
    put_world(remote, host.world, tmp_path)
    assert {name: it.size for name, it in remote.names().items()} == {
        name: len(data) for name, data in host.objects.items()
    }
    newest = host.world.chain[-1]
    receipt = remote.receipt(newest.name)
    assert receipt is not None
    assert receipt[0] == host.objects[f"{newest.stem}.receipt.json"]
    assert remote.receipt("another") is None
    assert remote.head()["head"] == newest.name
    assert read(remote, newest.name) == newest.to_bytes()
    with pytest.raises(FileNotFoundError):
        remote.open("00000009-20261122T010000Z.json")


def test_a_reader_reads_archives_in_any_order(
    remote: ssh.SshVault, host: VaultHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_world(remote, host.world, tmp_path)
    drill = connected(host, monkeypatch, "drill")
    archives = [archive.name for archive in host.world.chain[0].archives.values()]
    for name in archives:
        assert read(drill, name) == host.objects[name]
    first = drill.open(archives[0])
    assert read(drill, archives[1]) == host.objects[archives[1]]
    with pytest.raises(VaultError, match="was left before it was read"):
        first.read()
    drill.close()


def test_one_large_object_may_be_left_unread(
    host: VaultHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drill = connected(host, monkeypatch, "drill")
    large = tmp_path / "large"
    large.write_bytes(bytes(8 << 20))
    with Store(host.path, "salt1").locked():
        os.link(large, host.path / "salt1" / NAME)
    with drill.open(NAME) as file:
        assert file.read(10) == bytes(10)
    assert list(drill.names()) == [NAME]
    drill.close()


@pytest.mark.parametrize(
    ("change", "kind", "why"),
    [
        ({"quota": 1}, VaultError, "the vault offsite: the receiver holds 0 of the 1 bytes"),
        ({"archives": False}, VaultError, "is a witness"),
        ({"signer": signer().public}, VaultError, "who is not trusted"),
    ],
)
def test_what_the_receiver_refuses_is_told(
    remote: ssh.SshVault,
    host: VaultHost,
    tmp_path: Path,
    change: dict[str, Any],
    kind: type[BackupError],
    why: str,
) -> None:
    host.client(**change)
    with pytest.raises(kind, match=why):
        put_world(remote, host.world, tmp_path)


def test_a_name_that_is_taken_is_told(
    remote: ssh.SshVault, host: VaultHost, tmp_path: Path, source: Path
) -> None:
    put_world(remote, host.world, tmp_path)
    with pytest.raises(Taken, match="the vault offsite: the receiver has another object"):
        put(remote, source, host.world.chain[0].name)
    with pytest.raises(VaultError, match="read no archive"):
        remote.open(host.world.chain[0].archives["operator"].name)


def test_a_receiver_that_is_busy_is_unreachable(
    remote: ssh.SshVault, host: VaultHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "patience", 0.0)
    with (
        Store(host.path, "salt1").locked(),
        pytest.raises(Unreachable, match="in use by another run"),
    ):
        put_world(remote, host.world, tmp_path)


def test_a_disk_that_fills_up_while_it_is_sent_is_told(
    remote: ssh.SshVault, host: VaultHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(8 << 20))

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", staticmethod(full))
        with pytest.raises(VaultError, match=r"the vault offsite: .*No space left.*make room"):
            put(remote, large)
    assert host.objects == {}
    put_world(remote, host.world, tmp_path)


@pytest.mark.parametrize("pinned", ["another", "none"])
def test_a_receipt_by_another_receiver_is_refused(
    host: VaultHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pinned: str
) -> None:
    other = signer().public
    vault = connected(host, monkeypatch, receiver=other)
    with pytest.raises(VaultError, match=r"its receipt for .* who is not trusted"):
        put_world(vault, host.world, tmp_path)
    vault.close()


def test_the_vault_host_checks_itself(
    remote: ssh.SshVault, host: VaultHost, tmp_path: Path
) -> None:
    host.clock = host.world.now
    put_world(remote, host.world, tmp_path)
    body, signature = remote.checked()
    assert b'"snapshots": 2' in body
    assert signature.startswith(b"-----BEGIN SSH SIGNATURE-----")


@pytest.mark.parametrize("minutes", [6, -6, 60 * 24 * 3650])
def test_a_receiver_with_another_time_is_refused(
    remote: ssh.SshVault, host: VaultHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    minutes: int,
) -> None:  # fmt: skip
    here = host.clock - dt.timedelta(minutes=minutes)
    monkeypatch.setattr(ssh.SshVault, "now", lambda _: here)
    both = f"has a clock that is .* s off, {names.utc(host.clock)} .* {names.utc(here)}: set"
    with pytest.raises(VaultError, match=both):
        put_world(remote, host.world, tmp_path)
    with pytest.raises(VaultError, match=both):
        remote.faults()
    assert remote.names() == {}
    here = host.clock - dt.timedelta(minutes=4)
    put_world(remote, host.world, tmp_path)


def test_a_receiver_without_a_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "Session", lambda *_: Said(b'{"ok": true, "time": 7}\n'))
    with pytest.raises(VaultError, match="the vault offsite does not tell its time"):
        ssh.SshVault("offsite", {**SSH, "receiver": "x"}, "salt1").head()


def test_faults_of_the_receiver_are_those_of_the_vault(
    host: VaultHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = [] if os.geteuid() else ["the vault offsite: the receiver of"]
    vault = connected(host, monkeypatch)
    assert [it[:34] for it in vault.faults()] == root
    vault.close()
    host.client(archives=False)
    vault = connected(host, monkeypatch)
    assert "the vault offsite is a witness: its receiver takes no archives" in vault.faults()
    vault.close()
    witness = connected(host, monkeypatch, archives=False)
    assert [it[:34] for it in witness.faults()] == root
    witness.close()


class Said:
    """A session with a receiver that says what it likes, of an ssh that ends as it likes."""

    def __init__(self, answers: bytes, status: int | None = 0, said: str = ""):
        self._asked, self._out = os.pipe()
        self._in, target = os.pipe()
        os.write(target, answers)
        os.close(target)
        self.wire = ssh.Wire(self._in, self._out, 1)
        self._end = (status, said)

    def end(self) -> tuple[int | None, str]:
        for descriptor in (self._asked, self._out, self._in):
            os.close(descriptor)
        return self._end


@pytest.mark.parametrize(
    ("status", "said", "kind", "why"),
    [
        (
            255,
            "ssh: connect to host vault.example port 22: Connection refused",
            Unreachable,
            "Conn",
        ),
        (255, "ssh: Could not resolve hostname vault.example: Name", Unreachable, "Could not"),
        (255, "Connection reset by peer", Unreachable, "reset"),
        (255, "Timeout, server vault.example not responding.", Unreachable, "not responding"),
        (None, "", Unreachable, "vault.example"),
        (-9, "", Unreachable, "vault.example"),
        (255, "Host key verification failed.", VaultError, "another host key than its setting"),
        (255, "No ED25519 host key is known for rocksalt-vault", VaultError, "another host key"),
        (255, "keeper@vault: Permission denied (publickey).", VaultError, "refuses .* for keeper"),
        (255, 'Load key "/etc/x": error\nPermission denied', VaultError, "no usable private key"),
        (127, "sh: rocksalt-backup: not found", VaultError, "failed, its state: sh: rocksalt"),
        (1, "Traceback\nValueError: oh", VaultError, "ValueError: oh"),
    ],
)
def test_what_ssh_says_is_told(
    monkeypatch: pytest.MonkeyPatch,
    status: int | None,
    said: str,
    kind: type[VaultError],
    why: str,
) -> None:
    monkeypatch.setattr(ssh, "Session", lambda *_: Said(b"", status, said))
    vault = ssh.SshVault("offsite", {**SSH, "receiver": "x"}, "salt1")
    with pytest.raises(kind, match=why) as raised:
        vault.head()
    assert type(raised.value) is kind
    assert "the vault offsite (vault.example)" in str(raised.value)


@pytest.mark.parametrize(
    "answers",
    [b"welcome\n", b"{}\n", b"[1]\n", b"\xff\n", b'{"ok": tru', b"x" * 65536, b'{"ok": false}\n'],
)
def test_a_receiver_that_makes_no_sense_is_an_error(
    monkeypatch: pytest.MonkeyPatch, answers: bytes
) -> None:
    monkeypatch.setattr(ssh, "Session", lambda *_: Said(answers[:60000]))
    vault = ssh.SshVault("offsite", {**SSH, "receiver": "x"}, "salt1")
    with pytest.raises(VaultError):
        vault.head()


@pytest.mark.parametrize(
    "answers",
    [
        b'{"ok": true}\n', b'{"ok": true, "size": -1}\n', b'{"ok": true, "size": "9"}\n',
        b'{"ok": true, "size": 999999999999}\n', b'{"ok": true, "size": 2}\n[]',
        b'{"ok": true, "size": 9}\n{"a": 1}', b'{"ok": true, "size": 8}\n{"a": 1}',
    ],
)  # fmt: skip
def test_a_list_that_makes_no_sense_is_an_error(
    monkeypatch: pytest.MonkeyPatch, answers: bytes
) -> None:
    monkeypatch.setattr(ssh, "Session", lambda *_: Said(answers))
    vault = ssh.SshVault("offsite", {**SSH, "receiver": "x"}, "salt1")
    with pytest.raises(VaultError):
        vault.names()


def test_ssh_is_started_with_nothing_of_this_hosts_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for ssh writes down its arguments and what it was told to know of hosts."""
    stand_in = tmp_path / "ssh"
    stand_in.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" >"$0.words"\n'
        "for word; do case $word in\n"
        'UserKnownHostsFile=*) cat "${word#*=}" >"$0.known";; esac; done\n'
        'echo "no such luck" >&2; exit 255\n'
    )
    stand_in.chmod(0o700)
    monkeypatch.setattr(ssh.SshVault, "program", (str(stand_in),))
    settings = {**SSH, "receiver": "x", "host_key": "ssh-ed25519 AAAA", "port": 2222, "timeout": 9}
    with pytest.raises(Unreachable, match="no such luck"):
        ssh.SshVault("offsite", settings, "salt1").head()
    assert Path(f"{stand_in}.known").read_text() == "rocksalt-vault ssh-ed25519 AAAA\n"
    words = Path(f"{stand_in}.words").read_text().splitlines()
    assert words[:2] == ["-F", "none"]
    assert words[-3:] == ["--", "vault.example", "rocksalt-backup receive"]
    assert {"BatchMode=yes", "IdentitiesOnly=yes", "ServerAliveInterval=3"} <= set(words)
    assert words[words.index("-p") + 1] == "2222"


def test_a_host_without_ssh_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh.SshVault, "program", ("/is/not/there",))
    with pytest.raises(VaultError, match="needs /is/not/there: No such file"):
        ssh.SshVault("offsite", {**SSH, "receiver": "x"}, "salt1").head()


# The vault in a bucket.


class Bucket:
    """What boto3's client is for a vault: a bucket with versions, as AWS answers.

    ``failing`` maps requests to what they raise; ``lock`` is the configuration of Object Lock.
    """

    def __init__(self) -> None:
        self.versions: dict[str, list[bytes]] = {}
        self.failing: dict[str, list[Exception | None]] = {}
        self.lock: dict[str, Any] | None = retention("COMPLIANCE")
        self.skew = dt.timedelta()
        self.answers: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, list[bytes]] = {}
        self.sums: dict[str, str] = {}
        self.calls: list[str] = []

    def __getattr__(self, request: str) -> Any:
        def answered(**words: Any) -> dict[str, Any]:
            self.calls.append(request)
            queue = self.failing.get(request, [])
            error = queue.pop(0) if queue else None
            if error:
                raise error
            found = getattr(self, f"on_{request}")(**words)
            now = dt.datetime.now(dt.timezone.utc) + self.skew
            headers = {"HTTPHeaders": {"date": email.utils.format_datetime(now, usegmt=True)}}
            return {**found, "ResponseMetadata": headers, **self.answers.get(request, {})}

        if request.startswith("on_"):
            raise AttributeError(request)
        return answered

    def on_get_object_lock_configuration(self, **_: Any) -> dict[str, Any]:
        if self.lock is None:
            raise complaint("ObjectLockConfigurationNotFoundError", 404)
        return {"ObjectLockConfiguration": self.lock}

    def on_put_object(self, *, Key: str, Body: bytes, **words: Any) -> dict[str, Any]:
        if words.get("IfNoneMatch") and Key in self.versions:
            raise complaint("PreconditionFailed", 412)
        assert words["ChecksumSHA256"] == total(Body)
        return self._added(Key, Body, words["ChecksumSHA256"])

    def _added(self, key: str, data: bytes, checksum: str) -> dict[str, Any]:
        self.versions.setdefault(key, []).append(data)
        self.sums[key] = checksum
        return {
            "ETag": f'"{hashlib.md5(data).hexdigest()}"',
            "ChecksumSHA256": checksum,
            "VersionId": str(len(self.versions[key])),
        }

    def on_head_object(self, *, Key: str, **_: Any) -> dict[str, Any]:
        return {"ChecksumSHA256": self.sums.get(Key), "VersionId": str(len(self.versions[Key]))}

    def on_create_multipart_upload(self, **_: Any) -> dict[str, Any]:
        self.uploads["1"] = []
        return {"UploadId": "1"}

    def on_upload_part(self, *, Body: bytes, UploadId: str, **_: Any) -> dict[str, Any]:
        self.uploads[UploadId].append(Body)
        return {"ETag": f'"{hashlib.md5(Body).hexdigest()}"', "ChecksumSHA256": total(Body)}

    def on_complete_multipart_upload(
        self, *, Key: str, UploadId: str, **words: Any
    ) -> dict[str, Any]:
        if words.get("IfNoneMatch") and Key in self.versions:
            raise complaint("PreconditionFailed", 412)
        parts = self.uploads.pop(UploadId)
        assert len(words["MultipartUpload"]["Parts"]) == len(parts)
        whole = total(b"".join(hashlib.sha256(part).digest() for part in parts))
        return self._added(Key, b"".join(parts), f"{whole}-{len(parts)}")

    def on_abort_multipart_upload(self, *, UploadId: str, **_: Any) -> dict[str, Any]:
        del self.uploads[UploadId]
        return {}

    def on_get_object(self, *, Key: str, VersionId: str, **_: Any) -> dict[str, Any]:
        return {"Body": io.BytesIO(self.versions[Key][int(VersionId) - 1])}

    def get_paginator(self, request: str) -> Bucket:
        assert request == "list_object_versions"
        return self

    def paginate(self, *, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:
        time = dt.datetime(2026, 11, 22, 2, tzinfo=dt.timezone.utc)
        for key, versions in self.versions.items():
            listed = [
                {
                    "Key": key,
                    "VersionId": str(n),
                    "LastModified": time,
                    "Size": len(data),
                    "ETag": f'"{hashlib.md5(data).hexdigest()}"',
                }
                for n, data in enumerate(versions, 1)
            ]
            if key.startswith(Prefix):
                yield {"Versions": listed[::-1]}
        yield {"DeleteMarkers": [{"Key": key} for key in self.versions]}


def total(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def retention(mode: str) -> dict[str, Any]:
    rule = {"DefaultRetention": {"Mode": mode, "Days": 30}}
    return {"ObjectLockEnabled": "Enabled", "Rule": rule}


def complaint(code: str, status: int) -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Request"
    )


S3 = {
    "type": "s3",
    "bucket": "backups",
    "endpoint": "https://s3.example",
    "prefix": "a/b/",
    **PLACE,
}
KEY = f"a/b/salt1/{NAME}"


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def cloud(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> s3.S3Vault:
    monkeypatch.setattr(s3, "PART", CHUNK)
    vault = s3.S3Vault("cloud", S3, {}, "salt1")
    vault.client = lambda: bucket  # type: ignore[method-assign]
    return vault


@pytest.mark.parametrize("data", [b"", b"small", bytes(CHUNK), DATA, DATA * 3])
def test_an_object_is_put_and_read(
    cloud: s3.S3Vault, bucket: Bucket, source: Path, data: bytes
) -> None:
    source.write_bytes(data)
    put(cloud, source)
    assert bucket.versions == {KEY: [data]}
    assert bucket.uploads == {}
    assert cloud.names() == {NAME: Stored(len(data), 1795312800.0, "1")}
    assert read(cloud) == data


def test_the_version_that_was_put_first_counts(
    cloud: s3.S3Vault, bucket: Bucket, source: Path
) -> None:
    put(cloud, source)
    bucket.versions[KEY] += [b"forged", b"again"]
    assert cloud.names()[NAME] == Stored(len(DATA), 1795312800.0, "1", "3", 1795312800.0)
    bucket.versions[KEY] = [DATA, DATA]
    assert cloud.names()[NAME] == Stored(len(DATA), 1795312800.0, "1")
    assert read(cloud) == DATA
    with pytest.raises(FileNotFoundError):
        cloud.open(OTHER)


@pytest.mark.parametrize("data", [b"small", DATA])
def test_the_same_again_makes_no_version(
    cloud: s3.S3Vault, bucket: Bucket, source: Path, data: bytes
) -> None:
    source.write_bytes(data)
    put(cloud, source)
    put(cloud, source)
    assert bucket.versions == {KEY: [data]}
    assert bucket.uploads == {}


@pytest.mark.parametrize("data", [b"small", DATA])
def test_another_object_is_taken(
    cloud: s3.S3Vault, bucket: Bucket, source: Path, data: bytes
) -> None:
    bucket.versions[KEY] = [b"what was there"]
    source.write_bytes(data)
    with pytest.raises(Taken, match=f"the vault cloud has another object named {NAME}"):
        put(cloud, source)
    assert bucket.versions == {KEY: [b"what was there"]}
    assert bucket.uploads == {}


def test_who_cannot_look_puts_another_version(
    cloud: s3.S3Vault, bucket: Bucket, source: Path
) -> None:
    bucket.versions[KEY] = [DATA]
    bucket.failing["head_object"] = [complaint("403", 403)]
    source.write_bytes(b"small")
    put(cloud, source)
    assert bucket.versions == {KEY: [DATA, b"small"]}


def test_a_server_without_conditions_is_put_to_all_the_same(
    cloud: s3.S3Vault, bucket: Bucket, source: Path
) -> None:
    source.write_bytes(b"small")
    bucket.failing["put_object"] = [complaint("NotImplemented", 501)]
    put(cloud, source)
    assert bucket.versions == {KEY: [b"small"]}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"lock": None}, "has no Object Lock"),
        ({"lock": {"ObjectLockEnabled": "Enabled"}}, "has no default retention"),
        ({"lock": retention("GOVERNANCE")}, "has retention that some may overrule, GOVERNANCE"),
    ],
)
def test_a_bucket_that_is_not_locked_is_refused(
    cloud: s3.S3Vault, bucket: Bucket, source: Path, change: dict[str, Any], why: str
) -> None:
    vars(bucket).update(change)
    assert [why in fault for fault in cloud.faults()] == [True]
    with pytest.raises(VaultError, match=f"the vault cloud {why}.*COMPLIANCE by default"):
        put(cloud, source)
    assert bucket.versions == {}


def test_a_locked_bucket_has_no_fault_and_is_asked_once(
    cloud: s3.S3Vault, bucket: Bucket, source: Path
) -> None:
    assert cloud.faults() == []
    put(cloud, source)
    put(cloud, source, OTHER)
    assert bucket.calls.count("get_object_lock_configuration") == 2


@pytest.mark.parametrize("minutes", [6, -6, 60 * 24, -60 * 24])
def test_a_clock_that_is_off_is_refused(
    cloud: s3.S3Vault, bucket: Bucket, source: Path, minutes: int
) -> None:
    bucket.skew = dt.timedelta(minutes=minutes)
    with pytest.raises(
        VaultError,
        match=r"the vault cloud has a clock .* s off, .* where this host has .*: set the clock",
    ):
        put(cloud, source)
    bucket.skew = dt.timedelta(minutes=4 if minutes > 0 else -4)
    put(cloud, source)


SOURCES = botocore.exceptions


@pytest.mark.parametrize(
    ("error", "kind", "why"),
    [
        (complaint("ExpiredToken", 400), VaultError, "s3_credentials:cloud"),
        (complaint("InvalidAccessKeyId", 403), VaultError, "s3_credentials:cloud"),
        (complaint("SignatureDoesNotMatch", 403), VaultError, "s3_credentials:cloud"),
        (complaint("AccessDenied", 403), VaultError, "what the bucket lets them do"),
        (SOURCES.NoCredentialsError(), VaultError, "s3_credentials:cloud"),
        (complaint("RequestTimeTooSkewed", 403), VaultError, "set the clock"),
        (complaint("NoSuchBucket", 404), VaultError, "see hardening:backup:vaults:cloud"),
        (complaint("InsufficientStorage", 507), VaultError, "make room there"),
        (complaint("BadDigest", 400), VaultError, "BadDigest"),
        (complaint("InternalError", 500), Unreachable, "the next run tries again"),
        (complaint("503", 503), Unreachable, "the next run tries again"),
        (complaint("SlowDown", 503), Unreachable, "the next run tries again"),
        (SOURCES.EndpointConnectionError(endpoint_url="x"), Unreachable, "the next run"),
        (SOURCES.ConnectTimeoutError(endpoint_url="x"), Unreachable, "the next run"),
        (SOURCES.ReadTimeoutError(endpoint_url="x"), Unreachable, "the next run"),
        (SOURCES.ConnectionClosedError(endpoint_url="x"), Unreachable, "the next run"),
        (SOURCES.SSLError(endpoint_url="x", error="y"), VaultError, "vaults:cloud:ca"),
    ],
)
@pytest.mark.parametrize("request_", ["put_object", "upload_part", "complete_multipart_upload"])
def test_what_a_server_complains_about_is_told(
    cloud: s3.S3Vault,
    bucket: Bucket,
    source: Path,
    error: Exception,
    kind: type[VaultError],
    why: str,
    request_: str,
) -> None:
    source.write_bytes(b"small" if request_ == "put_object" else DATA)
    bucket.failing[request_] = [error]
    with pytest.raises(kind, match=f"the vault cloud failed, {NAME}.*{why}") as raised:
        put(cloud, source)
    assert type(raised.value) is kind
    assert (bucket.versions, bucket.uploads) == ({}, {})
    put(cloud, source)
    assert bucket.versions == {KEY: [source.read_bytes()]}


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({"put_object": {"VersionId": "null"}}, "keeps no versions"),
        ({"put_object": {"ChecksumSHA256": "x"}}, "stored something else than it was sent"),
        ({"put_object": {"ETag": '"x"', "ChecksumSHA256": None}}, "stored something else"),
        ({"upload_part": {"ETag": '"x"', "ChecksumSHA256": "x"}}, "does not confirm"),
        ({"complete_multipart_upload": {"ChecksumSHA256": "x-3"}}, "stored something else"),
    ],
)
def test_what_is_not_confirmed_is_not_believed(
    cloud: s3.S3Vault, bucket: Bucket, source: Path, answers: dict[str, Any], why: str
) -> None:
    source.write_bytes(b"small" if "put_object" in answers else DATA)
    bucket.answers = answers
    with pytest.raises(VaultError, match=f"the vault cloud {why}"):
        put(cloud, source)


def test_a_source_that_changed_goes_nowhere(
    cloud: s3.S3Vault, bucket: Bucket, source: Path
) -> None:
    for data in (b"small", DATA):
        source.write_bytes(data)
        with pytest.raises(VaultError, match="has changed since it was made"):
            cloud.put(NAME, source, digest(b"as it was"))
    assert (bucket.versions, bucket.uploads) == ({}, {})
    with pytest.raises(VaultError, match="takes no object named"):
        cloud.put("x", source, digest(DATA))


def test_a_kill_aborts_the_upload(cloud: s3.S3Vault, bucket: Bucket, source: Path) -> None:
    bucket.failing["upload_part"] = [None, KeyboardInterrupt()]  # type: ignore[list-item]
    with pytest.raises(KeyboardInterrupt):
        put(cloud, source)
    assert (bucket.versions, bucket.uploads) == ({}, {})


def test_a_read_that_breaks_off_is_unreachable(
    cloud: s3.S3Vault, bucket: Bucket, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise botocore.exceptions.ReadTimeoutError(endpoint_url="x")

    put(cloud, source)
    bucket.answers["get_object"] = {"Body": Broken()}
    with pytest.raises(Unreachable, match=f"the vault cloud failed, {NAME}"):
        read(cloud)


def test_without_boto3_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(VaultError, match=r"needs boto3, .*: install python3-boto3"):
        s3.S3Vault("cloud", S3, {}, "salt1").faults()


# Opening.


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"type": "file", "path": "/srv"}, FileVault),
        ({**SSH, "receiver": "x"}, ssh.SshVault),
        (S3, s3.S3Vault),
    ],
)
def test_each_type_is_opened(settings: dict[str, Any], kind: type[Vault]) -> None:
    vault = opening.vault("there", settings, {}, "salt1")
    assert type(vault) is kind
    assert vault.name == "there"
    vault.close()


def test_credentials_are_those_of_the_vault(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = {"cloud": {"access_key": "A", "secret_key": "B"}, "other": {}}
    vault = opening.vault("cloud", S3, credentials, "salt1")
    assert isinstance(vault, s3.S3Vault)
    found = vault.client()._request_signer._credentials
    assert (found.access_key, found.secret_key) == ("A", "B")
    assert vault.client().meta.endpoint_url == "https://s3.example"

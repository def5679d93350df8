"""Vaults with their real other side: an S3 server with Object Lock, an sshd, a full disk."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from backup_servers import (
    ADMIN,
    HERE,
    READER,
    WRITER,
    Keys,
    Proxy,
    S3Server,
    VaultHost,
    failing_server,
    free_ports,
    listens,
    proxy,
    s3_server,
    transport_key,
    wait,
)

from conftest import REPOSITORY
from rocksalt.backup import manifest, names
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import Taken, Unreachable, VaultError
from rocksalt.backup.manifest import Archive, Manifest
from rocksalt.backup.proof import receipts
from rocksalt.backup.vaults import Vault, opening
from rocksalt.backup.vaults.file import MARKER

pytestmark = pytest.mark.any_salt

INSTANCE = "salt1"
MEGABYTE = 1 << 20
NAME = "00000001-20261122T020000Z.operator.tar.zst.age"
PLACE = {"location": "there", "admin_domain": "them"}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Master:
    """Takes snapshots of random bytes into a spool, and puts them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.public = sshsig.generate(folder / "signing")
        self._signer = sshsig.Signer.load(folder / "signing")
        self.chain: list[Manifest] = []

    def take(self, size: int = 3 * MEGABYTE) -> Manifest:
        number, started = len(self.chain) + 1, dt.datetime.now(dt.timezone.utc)
        stem = names.stem(number, started)
        data = os.urandom(size)
        name = names.archive(stem, "operator", "zstd")
        (self.folder / name).write_bytes(data)
        found = Manifest(
            instance=INSTANCE,
            sequence=number,
            previous=manifest.digest(self.chain[-1].to_bytes()) if self.chain else "",
            kind="full",
            same_as=0,
            started=names.utc(started),
            finished=names.utc(started),
            next=names.utc(started + dt.timedelta(hours=1)),
            archives={"operator": Archive(name, digest(data), size, ["x"], 1, size, 1)},
            recipients={},
            authorisation="",
            warnings={},
            versions={},
        )
        text = found.to_bytes()
        (self.folder / found.name).write_bytes(text)
        signature = self._signer.sign(text, manifest.NAMESPACE)
        (self.folder / f"{found.name}.sig").write_bytes(signature)
        self.chain.append(found)
        return found

    def put(self, vault: Vault, found: Manifest) -> None:
        for name in (found.archives["operator"].name, f"{found.name}.sig", found.name):
            path = self.folder / name
            vault.put(name, path, digest(path.read_bytes()))


@pytest.fixture
def master(tmp_path: Path) -> Master:
    (tmp_path / "spool").mkdir()
    return Master(tmp_path / "spool")


def read(vault: Any, name: str) -> bytes:
    with vault.open(name) as file:
        return bytes(file.read())


# Behind ssh.


@pytest.fixture
def host(tmp_path: Path, master: Master) -> Iterator[VaultHost]:
    (tmp_path / "host").mkdir()
    made = VaultHost(tmp_path / "host")
    made.client("salt1", instance=INSTANCE, signer=master.public)
    made.client("drill", instance=INSTANCE, read=True)
    with made.sshd(), transport_key(made.transport("salt1")):
        yield made


@contextlib.contextmanager
def opened(settings: dict[str, Any]) -> Iterator[Any]:
    vault = opening.vault("offsite", settings, {}, INSTANCE)
    try:
        yield vault
    finally:
        vault.close()


def stored(host: VaultHost) -> list[str]:
    """Everything in the store but its mark, locks and receipts."""
    files = (it for it in host.store.rglob("*") if it.is_file() and it.name != MARKER)
    return sorted(it.name for it in files if ".receipt." not in it.name and it.suffix != ".lock")


def test_snapshots_go_through_a_real_sshd(host: VaultHost, master: Master) -> None:
    with opened(host.settings()) as vault:
        assert vault.head()["head"] == ""
        for _ in range(2):
            master.put(vault, master.take())
            master.put(vault, master.chain[-1])
        newest = master.chain[-1]
        text, signature = vault.receipt(newest.name)
        said = receipts.read(receipts.Receipt, "receipt", text, signature, [host.public])
        assert said.manifest == digest(newest.to_bytes())
        assert vault.head()["head"] == newest.name
        root = ["the vault offsite: the receiver of"] if os.geteuid() == 0 else []
        assert [fault[:34] for fault in vault.faults()] == root
        assert b'"snapshots": 2' in vault.checked()[0]
        with pytest.raises(VaultError, match="read no archive"):
            vault.open(newest.archives["operator"].name)
        with pytest.raises(Taken):
            vault.put(newest.name, master.folder / "signing", digest(b""))
    with transport_key(host.transport("drill")), opened(host.settings()) as drill:
        archive = newest.archives["operator"]
        assert digest(read(drill, archive.name)) == archive.sha256
        assert set(drill.names()) == {it.name for it in (host.store / INSTANCE).iterdir()}
        with pytest.raises(VaultError, match="takes no snapshot of drill"):
            drill.put(f"{master.take(1).name}.sig", master.folder / "signing", digest(b""))


def test_the_key_is_good_for_nothing_else(host: VaultHost, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text(f"[{HERE}]:{host.port} {host.host_key}\n")
    common = [
        "ssh", "-F", "none", "-p", str(host.port), "-i", host.transport("salt1"), "-o",
        "BatchMode=yes", "-o", f"UserKnownHostsFile={known}", "-o", "ExitOnForwardFailure=yes",
    ]  # fmt: skip
    for words in (["id"], ["-s", "sftp"], ["-N", "-R", f"{HERE}:0:{HERE}:22"]):
        done = subprocess.run(
            [*common, *words[:-1], HERE, words[-1]] if words[0] == "-s" else [*common, HERE, *words]
            if words[0] == "id" else [*common, *words, HERE],
            input=b"id\n", capture_output=True, timeout=20, check=False,
        )  # fmt: skip
        assert b"uid=" not in done.stdout + done.stderr
        assert done.returncode != 0
    assert stored(host) == []


def test_another_host_key_is_refused(host: VaultHost, master: Master, tmp_path: Path) -> None:
    other = sshsig.generate(tmp_path / "other")
    with (
        opened(host.settings(host_key=other)) as vault,
        pytest.raises(VaultError, match="shows another host key") as raised,
    ):
        master.put(vault, master.take(1))
    assert not isinstance(raised.value, Unreachable)


def test_a_key_that_the_host_does_not_know_is_told(
    host: VaultHost, master: Master, tmp_path: Path
) -> None:
    sshsig.generate(tmp_path / "unknown")
    with (
        transport_key(str(tmp_path / "unknown")),
        opened(host.settings()) as vault,
        pytest.raises(VaultError, match=r"refuses .*unknown for") as raised,
    ):
        master.put(vault, master.take(1))
    assert not isinstance(raised.value, Unreachable)


def test_a_host_that_is_down_is_unreachable(master: Master, tmp_path: Path) -> None:
    host = VaultHost(tmp_path)
    found = master.take(1)
    with (
        opened(host.settings()) as vault,
        transport_key(host.transport("salt1")),
        pytest.raises(Unreachable, match="Connection refused"),
    ):
        host.client("salt1", instance=INSTANCE, signer=master.public)
        master.put(vault, found)
    with (
        host.sshd(),
        transport_key(host.transport("salt1")),
        opened(host.settings()) as vault,
    ):
        master.put(vault, found)


@pytest.fixture
def between(host: VaultHost) -> Iterator[Proxy]:
    with proxy(host.port) as made:
        yield made


@pytest.mark.parametrize("mode", ["reset", "stall"])
def test_a_line_that_fails_in_an_upload_is_unreachable_and_the_next_run_heals(
    host: VaultHost, master: Master, between: Proxy, mode: str
) -> None:
    first, second = master.take(1000), master.take()
    with opened(host.settings(port=between.port, timeout=3)) as vault:
        master.put(vault, first)
        before = stored(host)
        between.fails(mode, MEGABYTE)
        began = time.monotonic()
        with pytest.raises(Unreachable, match=second.archives["operator"].name):
            master.put(vault, second)
        assert time.monotonic() - began < 15
        between.heal()
        wait(lambda: stored(host) == before, "the receiver to give up")
        master.put(vault, second)
        assert digest((host.store / INSTANCE / second.name).read_bytes()) == digest(
            second.to_bytes()
        )


def test_a_receiver_that_is_killed_in_an_upload_leaves_nothing(
    host: VaultHost, master: Master, between: Proxy
) -> None:
    found = master.take(4 * MEGABYTE)
    arriving = host.store / ".incoming" / INSTANCE
    between.fails("stall", 2 * MEGABYTE)
    script = (
        "import sys; from pathlib import Path\n"
        "from rocksalt.backup import config; from rocksalt.backup.vaults import opening\n"
        "import json; settings, key, path, sha256 = json.loads(sys.stdin.read())\n"
        "config.TRANSPORT_KEY = key\n"
        f"vault = opening.vault('offsite', settings, {{}}, {INSTANCE!r})\n"
        "try: vault.put(Path(path).name, Path(path), sha256)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    archive = found.archives["operator"]
    words = [
        host.settings(port=between.port, timeout=3), host.transport("salt1"),
        str(master.folder / archive.name), archive.sha256,
    ]  # fmt: skip
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "_utils")},
    )  # fmt: skip
    assert child.stdin and child.stdout
    child.stdin.write(json.dumps(words))
    child.stdin.close()
    wait(lambda: arriving.exists() and arriving.stat().st_size > MEGABYTE, "the upload")
    host.kill_receiver()
    assert child.stdout.read().startswith("Unreachable the vault offsite")
    assert child.wait(10) == 0
    child.stdout.close()
    assert stored(host) == [INSTANCE]
    with opened(host.settings()) as vault:
        master.put(vault, found)
    assert INSTANCE not in stored(host)


# In a bucket.


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """With the bucket that most tests use, each below a prefix of its own."""
    with s3_server(tmp_path_factory.mktemp("s3")) as made:
        made.bucket("locked")
        yield made


def in_bucket(
    server: S3Server, prefix: str, keys: Keys = ADMIN, port: int = 0, **changes: Any
) -> Any:
    endpoint = f"http://{HERE}:{port}" if port else server.endpoint
    settings = {
        "type": "s3", "bucket": "locked", "prefix": prefix, "endpoint": endpoint,
        "timeout": 2, **PLACE, **changes,
    }  # fmt: skip
    return opening.vault("cloud", settings, {"cloud": keys._asdict()}, INSTANCE)


def test_what_was_put_cannot_be_changed_by_who_put_it(server: S3Server, master: Master) -> None:
    """Even with all rights on the bucket: what was put first goes on to count."""
    vault = in_bucket(server, "kept", WRITER)
    found = master.take(20 * MEGABYTE)
    assert vault.faults() == []
    master.put(vault, found)
    archive, key = found.archives["operator"], f"kept/{INSTANCE}/{found.archives['operator'].name}"
    reader = in_bucket(server, "kept", READER)
    before = reader.names()
    assert set(before) == {archive.name, found.name, f"{found.name}.sig"}
    for keys in (WRITER, ADMIN):
        client = server.client(keys)
        client.put_object(Bucket="locked", Key=key, Body=b"forged")
        client.delete_object(Bucket="locked", Key=key)
        with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
            version = before[archive.name].version
            client.delete_object(
                Bucket="locked", Key=key, VersionId=version, BypassGovernanceRetention=True
            )
    after = in_bucket(server, "kept", READER).names()
    forged = after[archive.name]
    assert forged.later not in ("", forged.version)
    first = dataclasses.replace(forged, later="", replaced=0.0)
    assert {**after, archive.name: first} == before
    assert digest(read(in_bucket(server, "kept", READER), archive.name)) == archive.sha256
    with pytest.raises(FileNotFoundError):
        reader.open(NAME)


def test_the_same_again_is_no_error_and_another_content_is_taken(
    server: S3Server, master: Master
) -> None:
    vault = in_bucket(server, "again")
    for size in (1000, 20 * MEGABYTE):
        found = master.take(size)
        master.put(vault, found)
        before = vault.names()
        master.put(vault, found)
        assert vault.names() == before
        archive = found.archives["operator"]
        path = master.folder / archive.name
        path.write_bytes(os.urandom(size))
        with pytest.raises(Taken):
            vault.put(archive.name, path, digest(path.read_bytes()))
        assert vault.names() == before
    uploads = server.client().list_multipart_uploads(Bucket="locked")
    assert uploads.get("Uploads", []) == []


@pytest.mark.parametrize(
    ("bucket", "mode", "why"),
    [("unlocked", "", "has no Object Lock"), ("governed", "GOVERNANCE", "some may overrule")],
)
def test_a_bucket_that_does_not_lock_is_refused(
    server: S3Server, master: Master, bucket: str, mode: str, why: str
) -> None:
    vault = in_bucket(server, "any", bucket=server.bucket(bucket, mode))
    with pytest.raises(VaultError, match=why):
        master.put(vault, master.take(1))
    assert vault.names() == {}


def test_keys_that_do_not_fit_are_told(server: S3Server, master: Master) -> None:
    for keys in (Keys("AKNOBODY", "x"), Keys(WRITER.access_key, "x"), READER):
        with pytest.raises(VaultError, match="see hardening:backup:s3_credentials:cloud") as raised:
            master.put(in_bucket(server, "guarded", keys), master.take(1))
        assert not isinstance(raised.value, Unreachable)
    with pytest.raises(VaultError, match="see hardening:backup"):
        in_bucket(server, "guarded", WRITER).names()


@pytest.mark.parametrize("mode", ["reset", "stall"])
@pytest.mark.parametrize("size", [2 * MEGABYTE, 20 * MEGABYTE])
def test_a_server_that_fails_in_an_upload_leaves_nothing(
    server: S3Server, master: Master, mode: str, size: int
) -> None:
    prefix = f"{mode}-{size}"
    found = master.take(size)
    with proxy(server.port) as between:
        vault = in_bucket(server, prefix, port=between.port, timeout=1)
        assert vault.faults() == []
        between.fails(mode, size // 2)
        with pytest.raises(Unreachable, match="the next run tries again"):
            master.put(vault, found)
        between.heal()
        assert in_bucket(server, prefix).names() == {}
        master.put(in_bucket(server, prefix, port=between.port), found)
    assert len(in_bucket(server, prefix).names()) == 3


def test_a_server_that_is_down_is_unreachable(server: S3Server, master: Master) -> None:
    (port,) = free_ports(1)
    assert not listens(port)
    with pytest.raises(Unreachable, match="the next run tries again"):
        master.put(in_bucket(server, "any", port=port), master.take(1))


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_in_trouble_is_unreachable(server: S3Server, master: Master, status: int) -> None:
    with failing_server(status) as endpoint:
        vault = in_bucket(server, "any", endpoint=endpoint)
        with pytest.raises(Unreachable, match="the next run tries again"):
            vault.faults()


def test_a_clock_that_is_off_is_refused(server: S3Server, master: Master) -> None:
    vault = in_bucket(server, "clock")
    vault.now = lambda: dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)
    with pytest.raises(VaultError, match="set the clock of this host right"):
        master.put(vault, master.take(1))


# In a folder.


CROWDED = f"""
import hashlib, os, subprocess, sys
from pathlib import Path
from rocksalt.backup.errors import VaultError
from rocksalt.backup.vaults import opening

disk, name = Path(sys.argv[1]), {NAME!r}
source = disk.parent / "source"
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", disk], check=True)
settings = {{"type": "file", "path": str(disk), "allow_unencrypted": True}}
vault = opening.vault("disk", settings, {{}}, "salt1")

def put(size):
    source.write_bytes(os.urandom(size))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    try:
        vault.put(name, source, digest)
    except VaultError as error:
        print(error)
    print(*sorted(it.name for it in disk.rglob("*") if it.is_file() and it.suffix != ".lock"))

put(4 << 20)
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
put(1)
subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
put(1 << 20)
"""


def test_a_disk_that_is_full_or_read_only(tmp_path: Path) -> None:
    """In a mount namespace of its own, with which the disk goes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", CROWDED, disk],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "_utils")},
    )  # fmt: skip
    assert done.stderr == ""
    full, nothing, protected, still_nothing, good = done.stdout.splitlines()
    assert full.endswith(f"{NAME}: No space left on device: make room there")
    assert protected.endswith("Read-only file system: mount it for writing")
    assert (nothing, still_nothing, good) == ("", "", NAME)


def test_a_run_that_is_killed_in_an_upload_leaves_nothing(tmp_path: Path) -> None:
    """kill -9 while the object is written; a pipe is a source that does not end."""
    (tmp_path / "disk").mkdir()
    os.mkfifo(tmp_path / "source")
    settings = {"type": "file", "path": str(tmp_path / "disk"), "allow_unencrypted": True, **PLACE}
    script = (
        "from pathlib import Path; from rocksalt.backup.vaults import opening\n"
        f"vault = opening.vault('disk', {settings!r}, {{}}, 'salt1')\n"
        f"vault.put({NAME!r}, Path({str(tmp_path / 'source')!r}), '0' * 64)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "_utils")},
    )
    arriving = tmp_path / "disk/.incoming/salt1"
    with open(tmp_path / "source", "wb") as source:
        source.write(bytes(MEGABYTE))
        source.flush()
        wait(lambda: arriving.exists() and arriving.stat().st_size == MEGABYTE, "the first bytes")
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    vault = opening.vault("disk", settings, {}, "salt1")
    assert vault.names() == {}
    (tmp_path / "good").write_bytes(b"good")
    vault.put(NAME, tmp_path / "good", digest(b"good"))
    assert read(vault, NAME) == b"good"
    assert not arriving.exists()

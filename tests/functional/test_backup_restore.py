"""A real master is restored by the printed runbook, with stock tools alone, and by the drill, in
which the real Salt of this environment starts from it and an old minion logs in.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime as dt
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from backup_servers import free_ports
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from conftest import REPOSITORY, program
from rocksalt.backup import errors, manifest, names
from rocksalt.backup.crypto import age, recipients, sshsig
from rocksalt.backup.packing.pack import pack
from rocksalt.backup.packing.walk import Part
from rocksalt.backup.program import build, sources
from rocksalt.backup.progress import Step
from rocksalt.backup.proof.verify import Pins
from rocksalt.backup.restoring import drill, fetch, rehearsal, restore, stage
from rocksalt.backup.vaults import Stored, Vault

NOW = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
PAGE = REPOSITORY / "docs/backup.md"
ROOT = os.geteuid() == 0


class FolderVault(Vault):
    """Objects in a folder, and nothing that guards them."""

    def __init__(self, folder: Path, name: str = "shelf"):
        self.folder, self.name = folder, name
        folder.mkdir()

    def names(self) -> Mapping[str, Stored]:
        return {it.name: Stored(it.stat().st_size) for it in self.folder.iterdir()}

    def open(self, name: str) -> BinaryIO:
        return (self.folder / name).open("rb")

    def put(self, name: str, source: Path, sha256: str) -> None:
        data = source.read_bytes()
        assert manifest.digest(data) == sha256
        self.add(name, data)

    def add(self, name: str, data: bytes) -> None:
        with (self.folder / name).open("xb") as file:
            file.write(data)

    def faults(self) -> list[str]:
        return []


@dataclasses.dataclass
class Site:
    """A master's files below ``base``, the snapshot of them in ``vault``, and all keys."""

    base: Path
    vault: FolderVault
    settings: dict[str, Any]
    signer: sshsig.Signer
    identity: str
    customer: str
    before: dict[str, tuple[Any, ...]]

    @property
    def pins(self) -> Pins:
        return Pins(self.settings["instance"], (self.signer.public,), self.settings["authority"])

    def restore(self, target: Path, identity: str, **options: Any) -> restore.Restored:
        known = fetch.manifests(self.vault, self.pins)
        full = fetch.full(known, fetch.choose(known))
        return restore.restore(self.vault, full, age.identities(identity), target, **options)

    def drill(self, folder: Path, **drill_settings: Any) -> drill.Drill:
        own = {**self.settings["drill"], **drill_settings}
        return drill.run(
            {**self.settings, "drill": own},
            [self.vault],
            age.identities(self.identity),
            self.signer,
            folders=[str(folder / "drill")],
        )


def key_pair(folder: Path, name: str) -> str:
    """Writes the key pair of a master or minion, and returns the public half."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.pem").write_bytes(private)
    (folder / f"{name}.pem").chmod(0o400)
    (folder / f"{name}.pub").write_bytes(public)
    return public.decode()


def canary(home: Path) -> str:
    """A pillar file with a secret that the new key in a GPG home decrypts."""
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--no-tty", "--trust-model=always"]
    try:
        new = ["--passphrase", "", "--quick-generate-key", "master@example.invalid", "default"]
        subprocess.run([*gpg, *new, "encr"], check=True, capture_output=True)
        to = ["--armor", "--encrypt", "--recipient", "master@example.invalid"]
        secret = subprocess.run([*gpg, *to], input=b"canary", check=True, capture_output=True)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
        (home / "random_seed").unlink()  # made anew, and not archived
    text = secret.stdout.decode().replace("\n", "\n  ")
    return f"#!yaml|gpg\nsecret: |\n  {text}\n"


def master(base: Path) -> None:
    """The files of a master in which there is something of everything."""
    salt, pillar = base / "etc/salt", base / "srv/pillar"
    pki = salt / "pki/master"
    key_pair(pki, "salt.example.invalid")
    for kind in (
        "pem",
        "pub",
    ):  # absolute links to keys with the name of the master, as 3008 has it
        os.symlink(pki / f"salt.example.invalid.{kind}", pki / f"master.{kind}")
    (pki / "minions").mkdir()
    (pki / "minions/web1").write_text(key_pair(base / "minion", "minion"))
    (pki / "minions/web2").write_text(key_pair(base / "other", "minion"))
    publish_port, ret_port = free_ports(2)
    config = {
        "id": "salt.example.invalid",
        "pki_dir": str(pki),
        "file_roots": {"base": [str(base / "srv/salt")]},
        "pillar_roots": {"base": [str(pillar)]},
        "publish_port": publish_port,
        "ret_port": ret_port,
    }
    (salt / "master").write_text(json.dumps(config))
    (pillar / "acme").mkdir(parents=True)
    (pillar / "canary.sls").write_text(canary(salt / "gpgkeys"))
    (pillar / "acme/secret.sls").write_text("acme: secret\n")
    oddities(base / "srv/salt")


def oddities(folder: Path) -> None:
    """Everything that a file system knows of files, as far as we may make it."""
    folder.mkdir(parents=True)
    (folder / "setuid").write_text("x")
    if ROOT:
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (folder / "capable").write_text("x")
        capability = bytes.fromhex("0100000200040000" + 24 * "0")
        os.setxattr(folder / "capable", "security.capability", capability)
        os.chown(folder / "setuid", 1234, 5678)
    (folder / "setuid").chmod(0o4755)
    (folder / ("n" * 255)).write_text("long")
    Path(os.fsdecode(os.fsencode(folder) + b"/no\xffutf\n8")).write_text("odd")
    deep = folder / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(os.urandom(300_000))
    os.link(deep / "file", folder / "hard")
    os.symlink("../../../../etc/shadow", folder / "out")
    os.mkfifo(folder / "fifo", 0o640)
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"island")
    os.setxattr(folder / "setuid", "user.note", b"\0not=text%\xff\n")
    os.setxattr(folder / "hard", "system.posix_acl_access", acl(1000))
    os.utime(folder / "setuid", ns=(1, 1_600_000_000_123_456_789))
    os.utime(folder / "out", ns=(1, 1_500_000_000_987_654_321), follow_symlinks=False)
    (folder / "empty").mkdir(0o2750)
    os.utime(folder, ns=(1, 1_400_000_000_111_222_333))


def acl(user: int) -> bytes:
    """One more user may read and write, as the kernel writes it."""
    entries = [(1, 6, -1), (2, 6, user), (4, 4, -1), (16, 6, -1), (32, 4, -1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def picture(root: Path, without: str = "-") -> dict[str, tuple[Any, ...]]:
    """Everything about everything below a folder, but sockets and when it was read."""
    seen: dict[str, tuple[Any, ...]] = {}
    first: dict[int, str] = {}
    for folder, folders, files in os.walk(root):
        for path in sorted(os.path.join(folder, name) for name in ("", *folders, *files)):
            path, found = path.rstrip("/"), os.lstat(path.rstrip("/"))
            name = os.path.relpath(path, root)
            if stat.S_ISSOCK(found.st_mode) or name.startswith(without):
                continue
            content = ""
            if stat.S_ISREG(found.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            elif stat.S_ISLNK(found.st_mode):
                content = os.readlink(path)
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            }
            same = first.setdefault(found.st_ino, name) if not stat.S_ISDIR(found.st_mode) else ""
            size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
            numbers = (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_rdev)
            seen[name] = (*numbers, size, content, attributes, same)
    return seen


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A full snapshot in two parts, and one that is the same."""
    base = tmp_path_factory.mktemp("site")
    master(base / "host")
    folder = base / "host"
    authority, signer = (sshsig.Signer.load(_key(base / name)) for name in ("authority", "signing"))
    (identity, reader), (_, escrow), (customer, acme) = (age.generate() for _ in range(3))
    settings: dict[str, Any] = {
        "instance": "salt.example.invalid",
        "revision": 1,
        "recipients": [reader, escrow],
        "escrow": escrow,
        "customers": {"acme": {"recipients": [acme], "paths": [str(folder / "srv/pillar/acme")]}},
        "authority": authority.public,
        "vaults": {},
        "drill_keys": [signer.public],
        "drill": {
            "instance": "salt.example.invalid",
            "signer": signer.public,
            "config": str(folder / "etc/salt/master"),
            "canary": str(folder / "srv/pillar/canary.sls"),
            "minion": str(folder / "minion"),
        },
    }
    record = recipients.record_bytes(settings)
    settings["authorisation"] = authority.sign(record, recipients.NAMESPACE).decode()
    site = Site(
        folder, FolderVault(base / "vault"), settings, signer, identity, customer, picture(folder)
    )
    full = _snapshot(site, base / "spool")
    _commit(site, dataclasses.replace(
        full, sequence=2, kind="same", same_as=1, archives={},
        previous=manifest.digest(full.to_bytes()),
        started=names.utc(NOW - dt.timedelta(minutes=5)),
        finished=names.utc(NOW - dt.timedelta(minutes=5)),
        next=names.utc(NOW + dt.timedelta(hours=1)),
    ))  # fmt: skip
    return site


def _key(path: Path) -> Path:
    sshsig.generate(path)
    return path


def _snapshot(site: Site, spool: Path) -> manifest.Manifest:
    spool.mkdir()
    started = NOW - dt.timedelta(hours=1)
    acme = str(site.base / "srv/pillar/acme")
    roots = tuple(str(site.base / it) for it in ("etc/salt", "srv/salt", "srv/pillar"))
    archives = {}
    for part in (Part("operator", roots, (acme,)), Part("customer-acme", (acme,))):
        packed = pack(part, recipients.of(site.settings, part.name), spool / part.name)
        assert {warning.kind for warning in packed.warnings} <= {"skipped"}
        name = names.archive(names.stem(1, started), part.name, packed.compression)
        site.vault.add(name, (spool / part.name).read_bytes())
        archives[part.name] = manifest.Archive(
            name, packed.sha256, packed.size, recipients.fingerprints(site.settings, part.name),
            packed.files, packed.bytes, packed.files,
        )  # fmt: skip
    full = manifest.Manifest(
        instance=site.settings["instance"], sequence=1, previous="", kind="full", same_as=0,
        started=names.utc(started), finished=names.utc(started), next=names.utc(NOW),
        archives=archives, recipients=recipients.record(site.settings),
        authorisation=site.settings["authorisation"], warnings={}, versions={"salt": "3006.1"},
    )  # fmt: skip
    _commit(site, full)
    return full


def _commit(site: Site, it: manifest.Manifest) -> None:
    data = it.to_bytes()
    site.vault.add(f"{it.name}.sig", site.signer.sign(data, manifest.NAMESPACE))
    site.vault.add(it.name, data)


def runbook() -> str:
    """The commands of the page, in the order in which they are printed."""
    _, _, rest = PAGE.read_text().partition("## Restore with stock tools\n")
    section = rest.partition("\n## ")[0]
    return "\n".join(re.findall(r"```bash\n(.*?)```", section, re.DOTALL))


def follow(site: Site, target: Path, identity: Path, part: str) -> subprocess.CompletedProcess[str]:
    """The runbook as somebody follows it who fills in the first lines."""
    answers = {
        "VAULT": site.vault.folder,
        "SIGNER": site.signer.public,
        "IDENTITY": identity,
        "PART": part,
        "TARGET": target,
    }
    script = runbook()
    for name, value in answers.items():
        script, count = re.subn(rf"^{name}=.*$", f"{name}='{value}'", script, flags=re.MULTILINE)
        assert count == 1, name
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, errors="replace")


def expected(site: Site, top: str, without: str = "-") -> dict[str, tuple[Any, ...]]:
    return picture(site.base / top, without)


def restored(site: Site, target: Path) -> Path:
    return Path(f"{target}{site.base}")


def test_the_printed_runbook_restores_bit_by_bit_with_stock_tools(
    site: Site, tmp_path: Path
) -> None:
    for part, identity in (("operator", site.identity), ("customer-acme", site.customer)):
        file = tmp_path / f"{part}.identity"
        file.write_text(identity)
        done = follow(site, tmp_path / part, file, part)
        assert done.returncode == 0, done.stderr
        assert 'Good "rocksalt-backup" signature for master' in done.stderr

    mine = restored(site, tmp_path / "operator")
    assert picture(mine / "etc/salt") == expected(site, "etc/salt")
    assert picture(mine / "srv/salt") == expected(site, "srv/salt")
    assert picture(mine / "srv/pillar") == expected(site, "srv/pillar", without="acme")
    theirs = restored(site, tmp_path / "customer-acme")
    assert picture(theirs / "srv/pillar/acme") == expected(site, "srv/pillar/acme")


def test_the_printed_runbook_stops_at_what_was_changed(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    shutil.copytree(site.vault.folder, folder)
    identity = tmp_path / "identity"
    identity.write_text(site.identity)
    other = dataclasses.replace(site, vault=FolderVault(tmp_path / "empty"))
    other.vault.folder = folder
    archive = next(folder.glob("*operator*"))
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = follow(other, tmp_path / "target", identity, "operator")
    assert done.returncode != 0
    assert "FAILED" in done.stdout
    assert not (tmp_path / "target").exists()

    archive.write_bytes(whole)
    [manifest_file] = folder.glob("00000002-*.json")
    manifest_file.write_bytes(
        manifest_file.read_bytes().replace(b'"sequence": 2', b'"sequence": 3')
    )
    done = follow(other, tmp_path / "target", identity, "operator")
    assert done.returncode != 0
    assert "Could not verify signature" in done.stderr + done.stdout
    assert not (tmp_path / "target").exists()


def test_our_restore_gives_the_same_as_stock_tools(site: Site, tmp_path: Path) -> None:
    both = f"{site.identity}\n{site.customer}\n"
    done = site.restore(tmp_path / "out", both)
    assert (done.problems, done.missing) == ([], [])
    here = restored(site, tmp_path / "out")
    for top in ("etc/salt", "srv/salt", "srv/pillar"):
        assert picture(here / top) == expected(site, top)
    assert sorted(it.name for it in (tmp_path / "out").iterdir()) == ["tmp"]
    assert [it.name for it in tmp_path.iterdir()] == ["out"]


def test_a_customer_opens_only_their_own_part(site: Site, tmp_path: Path) -> None:
    done = site.restore(tmp_path / "out", site.customer)
    assert (done.tops, done.missing) == ([str(site.base / "srv/pillar/acme")], ["operator"])
    with pytest.raises(errors.BackupError, match="none of the identities opens operator"):
        site.restore(tmp_path / "no", site.customer, parts=["operator"])
    operator = site.restore(tmp_path / "mine", site.identity)
    assert operator.missing == ["customer-acme"]
    assert not (restored(site, tmp_path / "mine") / "srv/pillar/acme").exists()


def test_a_killed_restore_is_healed_by_the_next(site: Site, tmp_path: Path) -> None:
    def killed() -> None:
        def at(step: Step) -> None:
            if step.phase == "restore" and step.files > 3:
                os.kill(os.getpid(), signal.SIGKILL)

        site.restore(tmp_path / "out", site.identity, progress=at)

    assert forked(killed) == -signal.SIGKILL
    assert [it.name for it in tmp_path.iterdir()] == [".out.restoring"]
    assert site.restore(tmp_path / "out", site.identity).problems == []
    assert [it.name for it in tmp_path.iterdir()] == ["out"]
    assert picture(restored(site, tmp_path / "out") / "etc/salt") == expected(site, "etc/salt")


def test_a_write_that_fails_leaves_nothing(site: Site, tmp_path: Path) -> None:
    """Files may not grow beyond a limit from here on, as on a full disk; the archive still fits."""

    def limited() -> None:
        largest = max(it.stat().st_size for it in site.vault.folder.iterdir())
        deep = "d" * 120
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 1000, largest + 1000))
        with pytest.raises(errors.BackupError, match=r"/sparse could not be restored: File too"):
            site.restore(tmp_path / "out", site.identity)
        site.restore(tmp_path / "out", site.identity, paths=[str(site.base / "srv/salt" / deep)])

    assert forked(limited) == 0
    assert [it.name for it in tmp_path.iterdir()] == ["out"]


def test_who_is_not_root_restores_the_content_of_everything(site: Site) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        shutil.copytree(site.vault.folder, folder / "vault")
        moved = dataclasses.replace(site, vault=copy.copy(site.vault))
        moved.vault.folder = folder / "vault"

        def unprivileged() -> None:
            if ROOT:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            done = moved.restore(folder / "out", site.identity)
            told = " ".join(done.problems)
            assert "only root restores owners" in told or not ROOT
            assert "devices can only be made by root, and are missing" in told or not ROOT
            mine = picture(Path(f"{folder}/out{site.base}/etc"))
            assert {it: seen[6] for it, seen in mine.items()} == contents
            setuid = Path(f"{folder}/out{site.base}/srv/salt/setuid").stat()
            assert setuid.st_mode & 0o6000 == 0 or not ROOT

        contents = {it: seen[6] for it, seen in expected(site, "etc").items()}
        assert forked(unprivileged) == 0


def forked(function: Callable[[], None]) -> int:
    """Runs a function in a process of its own: 0, or what it ended with; a signal is negative."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_restored_master_starts_and_an_old_minion_logs_in(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(program('salt')).parent}:{os.environ['PATH']}")
    before = (picture(site.base), set(os.listdir("/run")), set(os.listdir("/etc")))
    done = site.drill(tmp_path)

    steps = {it["name"]: (it["status"], it["reason"]) for it in done.steps}
    if ROOT:
        assert {status for status, _ in steps.values()} == {"ok"}, steps
        assert "2 accepted" in steps["minions"][1]
        assert steps["configuration"][1].endswith(", and was of Salt 3006.1")
        assert "web1 logged in with its old key and answered test.ping" in steps["log-in"][1]
        assert done.code == errors.OK
    else:
        reason = "only root can start a master in namespaces of its own"
        assert {steps[name] for name in rehearsal.STEPS} == {("skipped", reason)}
        assert done.code == errors.WARNINGS
    assert "not for this identity: customer-acme" in steps["fetch"][1]
    assert done.sequence == 2
    assert 0 <= done.rto < 200
    assert done.rpo is not None and done.rpo >= 300

    assert (picture(site.base), set(os.listdir("/run")), set(os.listdir("/etc"))) == before
    assert list(tmp_path.iterdir()) == []
    [report] = site.vault.folder.glob("*.drill.json")
    signature = (site.vault.folder / f"{report.name}.sig").read_bytes()
    sshsig.verify(report.read_bytes(), signature, drill.NAMESPACE, [site.signer.public])
    assert json.loads(report.read_bytes())["steps"] == done.steps


def planted(site: Site, tree: Path) -> Path:
    """A copy of the operator's files as a drill restores them, without their oddities."""
    for top in ("etc/salt", "srv/pillar"):
        shutil.copytree(site.base / top, Path(f"{tree}{site.base}", top), symlinks=True,
                        ignore=shutil.ignore_patterns("S.*"))  # fmt: skip
    return restored(site, tree)


def test_a_drill_finds_what_is_broken(site: Site, tmp_path: Path) -> None:
    """The copy of the tree that a drill would have restored, damaged: what it plays says so."""
    tree = tmp_path / "tree"
    here = planted(site, tree)
    pki = here / "etc/salt/pki/master"
    (pki / "master.pub").unlink()
    shutil.copy(site.base / "other/minion.pub", pki / "master.pub")
    (pki / "minions/web1").unlink()
    shutil.rmtree(here / "etc/salt/gpgkeys/private-keys-v1.d")
    config = here / "etc/salt/master"
    config.write_text(json.dumps({**json.loads(config.read_text()), "ret_port": "no port"}))
    steps = played(site, tree, tmp_path / "scratch")
    if not ROOT:
        assert list(steps) == ["namespace"]
        assert steps["namespace"][0] == "skipped"
        return
    assert steps["namespace"][0] == steps["configuration"][0] == steps["minions"][0] == "ok"
    failed = {name: reason for name, (status, reason) in steps.items() if status == "failed"}
    assert f"master.pub does not belong to {site.base}/etc/salt/pki/master" in failed["keys"]
    assert "cannot be decrypted with" in failed["canary"]
    assert "no port" in failed["master"]
    assert steps["log-in"] == ("skipped", "the master does not run")

    config.write_text("file_roots: [")
    assert "cannot be loaded" in played(site, tree, tmp_path / "scratch")["configuration"][1]


def played(site: Site, tree: Path, scratch: Path, *hidden: str, tops: Sequence[str] = ()
           ) -> dict[str, tuple[str, str]]:  # fmt: skip
    """What the program in one file, as drill hosts have it, finds in a tree."""
    scratch.mkdir(exist_ok=True)
    own = site.settings["drill"]
    plan = {
        "tree": str(tree),
        "tops": [str(site.base / "etc/salt"), str(site.base / "srv/pillar"), *tops],
        "scratch": str(scratch),
        "config": own["config"],
        "canary": own["canary"],
        "minion": {
            kind: (site.base / f"minion/minion.{kind}").read_text() for kind in ("pem", "pub")
        },
        "programs": str(Path(program("salt")).parent),
        "hidden": list(hidden),
    }
    packed = scratch.with_name("rocksalt-backup")
    packed.write_bytes(build(sys.executable, sources()))
    script = (
        "import json, sys; from rocksalt.backup.restoring import rehearsal, stage;"
        "print(json.dumps([*stage.play(rehearsal.__name__, json.load(sys.stdin))]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(packed)},
        input=json.dumps(plan), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {it["name"]: (it["status"], it["reason"]) for it in json.loads(done.stdout)}


HOSTILE = """
import ctypes, glob, json, os, stat

BASE = {base!r}
STEP = b'{{"name": "log-in", "status": "ok", "reason": "forged"}}\\n'
libc = ctypes.CDLL(None, use_errno=True)


def called(number):
    if number:
        raise OSError(ctypes.get_errno(), "refused")


def opened(path, flags=os.O_RDONLY):
    os.close(os.open(path, flags))


def forge(path):
    os.write(os.open(path, os.O_WRONLY | os.O_NONBLOCK), STEP)


def made(kind, major, minor):
    path = "/tmp/node%d" % kind
    os.mknod(path, kind | 0o600, os.makedev(major, minor))
    opened(path)


def disks():
    paths = glob.glob("/dev/**", recursive=True)
    found = [it for it in paths if stat.S_ISBLK(os.lstat(it).st_mode)]
    if not found:
        raise OSError("none")
    for it in found:
        opened(it)


tried = {{
    **{{"read " + it: (opened, it) for it in {secrets!r}}},
    "core_pattern": (opened, "/proc/sys/kernel/core_pattern", os.O_WRONLY),
    "sysrq": (opened, "/proc/sysrq-trigger", os.O_WRONLY),
    "uevent_helper": (opened, "/sys/kernel/uevent_helper", os.O_WRONLY),
    "block device": (made, stat.S_IFBLK, 7, 0),
    "character device": (made, stat.S_IFCHR, 1, 5),
    "restored device": (opened, BASE + "/etc/salt/zero"),
    "disks": (disks,),
    **{{"forge %d" % it: (forge, "/proc/1/fd/%d" % it) for it in range(16)}},
    "memory": (opened, "/proc/1/mem", os.O_RDWR),
    "environment": (opened, "/proc/1/environ"),
    "loader": (opened, "/etc/ld.so.cache", os.O_WRONLY),
    "library": (opened, os.__file__, os.O_WRONLY),
    "mount": (lambda: called(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None)),),
    "chroot": (os.chroot, "/tmp"),
    "user namespace": (lambda: called(libc.unshare(0x10000000)),),
}}
told = {{}}
for name, (function, *words) in tried.items():
    try:
        function(*words)
        told[name] = ""
    except OSError as error:
        told[name] = str(error)
told["rights"] = [it.split()[1] for it in open("/proc/self/status") if it[:4] in ("CapE", "CapB")]
told["run"] = os.listdir("/run")
with open(BASE + "/etc/salt/told.json", "w") as file:
    json.dump(told, file)


def __virtual__():
    return False
"""


def test_a_hostile_snapshot_gets_nothing_of_the_drills_host(site: Site, tmp_path: Path) -> None:
    """Whoever had the master wrote the code that the restored one runs; the master starts, for it
    is their own matter what it runs, and their code finds neither our files nor the kernel's.
    """
    tree, identity = tmp_path / "tree", Path(sys.prefix, f"rocksalt-{os.getpid()}/identity")
    here = planted(site, tree)
    (here / "etc/salt/handlers").mkdir()
    config = json.loads((here / "etc/salt/master").read_text())
    config["log_handlers_dirs"] = [str(site.base / "etc/salt/handlers")]
    (here / "etc/salt/master").write_text(json.dumps(config))
    with contextlib.ExitStack() as stack:
        secrets = ["/etc/shadow", str(identity)]
        if ROOT:
            os.mknod(here / "etc/salt/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
            home = stack.enter_context(tempfile.NamedTemporaryFile(dir="/root"))
            (own := stack.enter_context(tempfile.NamedTemporaryFile(dir="/etc"))).write(b"x")
            secrets += [home.name, own.name]
        identity.parent.mkdir()
        stack.callback(shutil.rmtree, identity.parent)
        identity.write_text(site.identity)
        (here / "etc/salt/handlers/hostile.py").write_text(
            HOSTILE.format(base=str(site.base), secrets=secrets)
        )
        steps = played(site, tree, tmp_path / "scratch", str(identity.parent))
    if not ROOT:
        assert steps["namespace"][0] == "skipped"
        return
    assert {status for status, _ in steps.values()} == {"ok"}, steps
    assert "forged" not in steps["log-in"][1]
    told = json.loads((here / "etc/salt/told.json").read_text())
    rights, run = told.pop("rights"), told.pop("run")
    assert {it for it, reason in told.items() if not reason} == set(), told
    assert set(secrets) <= {it.removeprefix("read ") for it in told}
    assert {int(it, 16) for it in rights} == {sum(1 << it for it in (0, 1, 3, 5, 6, 7, 10))}
    assert set(run) <= {"salt", "salt-master.pid", os.path.basename(rehearsal.WORK)}


@pytest.mark.parametrize("top", ["/usr/lib", "/etc", "/dev/shm", "/linked/lib/x"])
def test_nothing_is_restored_over_what_the_drill_itself_runs(
    site: Site, tmp_path: Path, top: str
) -> None:
    tree = tmp_path / "tree"
    planted(site, tree)
    Path(f"{tree}{top}").parent.mkdir(parents=True, exist_ok=True)
    if top.startswith("/linked"):
        shutil.rmtree(tree / "linked")
        os.symlink("/usr", tree / "linked")
    else:
        Path(f"{tree}{top}").mkdir()
    status, reason = played(site, tree, tmp_path / "scratch", tops=[top])["namespace"]
    if not ROOT:
        assert status == "skipped"
        return
    assert status == "failed"
    assert reason.startswith(f"{top} ")


def test_a_drill_that_is_ended_leaves_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM comes while the restored master is on its way up, or is being restored."""
    monkeypatch.setenv("PATH", f"{Path(program('salt')).parent}:{os.environ['PATH']}")
    end = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM))
    real = stage.play

    def play(module: str, plan: Any) -> Iterator[dict[str, str]]:
        for step in real(module, plan):
            yield step
            if step["name"] == "canary":
                end.start()

    monkeypatch.setattr(stage, "play", play)
    if not ROOT:
        end.start()
        monkeypatch.setattr(drill.restore, "restore", lambda *words: time.sleep(60))
    with pytest.raises(SystemExit):
        site.drill(tmp_path)
    end.join()
    assert list(tmp_path.iterdir()) == []
    assert [it for it in commands() if str(site.base) in it or rehearsal.WORK in it] == []


def commands() -> list[str]:
    """The command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_text(errors="replace").replace("\0", " "))
    return found

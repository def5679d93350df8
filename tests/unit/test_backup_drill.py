"""The drill: each step is told as it went, and nothing stays behind."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rocksalt.backup import errors, manifest, names
from rocksalt.backup.crypto.sshsig import Signer
from rocksalt.backup.crypto.sshsig import verify as check_signature
from rocksalt.backup.errors import BackupError, Locked, Unreachable, Unverified, VaultError
from rocksalt.backup.proof import verify
from rocksalt.backup.restoring import drill, fetch, rehearsal, restore, stage
from rocksalt.backup.restoring.extract import Workspace
from rocksalt.backup.restoring.rehearsal import Rehearsal, Skipped
from rocksalt.backup.vaults import Stored, Vault

NOW = dt.datetime(2026, 11, 22, 14, 0, tzinfo=dt.timezone.utc)
SIGNER = Signer(Ed25519PrivateKey.generate())
OK = {"status": "ok", "reason": "fine"}


class Shelf(Vault):
    """A vault that only takes reports."""

    def __init__(self, name: str):
        self.name = name
        self.taken: dict[str, bytes] = {}
        self.full = False

    def names(self) -> Mapping[str, Stored]:
        return {}

    def open(self, name: str) -> BinaryIO:
        raise FileNotFoundError(name)

    def put(self, name: str, source: Path, sha256: str) -> None:
        if self.full:
            raise VaultError(f"{self.name} is full")
        self.taken[name] = source.read_bytes()
        assert manifest.digest(self.taken[name]) == sha256

    def faults(self) -> list[str]:
        return []


def snapshot(sequence: int, **other: Any) -> manifest.Manifest:
    archive = manifest.Archive("x.operator.tar.zst.age", "0" * 64, 10, ["x"], 1, 20, 1)
    fields: dict[str, Any] = {
        "kind": "full", "same_as": 0, "archives": {"operator": archive}, **other,
    }  # fmt: skip
    return manifest.Manifest(
        instance="salt", sequence=sequence, previous="", started=f"2026-11-22T1{sequence}:30:00Z",
        finished="2026-11-22T13:30:01Z", next="2026-11-22T14:30:00Z", recipients={},
        authorisation="", warnings={}, versions={}, **fields,
    )  # fmt: skip


class World:
    """What the drill meets: vaults and what is wrong with them, and how restore and play go."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.vaults = [Shelf("near"), Shelf("far")]
        self.verdicts: dict[str, Any] = {"near": [], "far": []}
        self.known = [snapshot(2), snapshot(3, kind="same", same_as=2, archives={})]
        self.restored: Any = restore.Restored(files=7, bytes=99, tops=["/etc/salt"])
        self.played: list[dict[str, str]] = [
            {"name": name, **OK} for name in (rehearsal.STAGE, *rehearsal.STEPS)
        ]
        self.plan: dict[str, Any] = {}
        self.restored_from = ""
        self.told: list[str] = []
        self.hours = 0.0
        self.witness = False

    def now(self) -> dt.datetime:
        self.hours += 0.01
        return NOW + dt.timedelta(hours=self.hours)

    def check(self, vault: Shelf, *words: Any, **options: Any) -> SimpleNamespace:
        verdict = self.verdicts[vault.name]
        assert options["archives"] is not (self.witness and vault.name == "far")
        if isinstance(verdict, Exception):
            raise verdict
        problems = tuple(verify.Problem("gap", sentence) for sentence in verdict)
        return SimpleNamespace(ok=not problems, problems=problems, snapshots=3)

    def restore(self, vault: Shelf, source: Any, identities: Any, staging: Path) -> Any:
        self.restored_from = vault.name
        assert source.kind == "full"
        assert staging.parent.stat().st_mode & 0o777 == 0o700
        if isinstance(self.restored, Exception):
            raise self.restored
        staging.mkdir()
        return self.restored

    def play(self, module: str, plan: dict[str, Any]) -> Iterator[dict[str, str]]:
        self.plan = plan
        yield from self.played

    def run(self, signer: Signer | None = SIGNER, **settings: Any) -> drill.Drill:
        own = {"instance": "salt", "signer": SIGNER.public, **settings}
        everything = {
            "drill": own, "authority": "a",
            "vaults": {"near": {"receiver": "r"}, "far": {"archives": not self.witness}},
        }  # fmt: skip
        return drill.run(
            everything, self.vaults, [], signer, self.now, lambda it: self.told.append(it["name"]),
            folders=[str(self.folder / "drill")],
        )  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    it = World(tmp_path)
    monkeypatch.setattr(verify, "check", it.check)
    monkeypatch.setattr(fetch, "manifests", lambda vault, pins: it.known)
    monkeypatch.setattr(restore, "restore", it.restore)
    monkeypatch.setattr(stage, "play", it.play)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Workspace, "__init__", _any_owner)
    return it


def _any_owner(self: Workspace, path: str) -> None:
    os.mkdir(path, 0o700)
    self.path, self.fd = path, os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def steps(done: drill.Drill) -> dict[str, tuple[str, str]]:
    return {it["name"]: (it["status"], it["reason"]) for it in done.steps}


def test_all_goes_well(world: World) -> None:
    done = world.run()
    assert done.code == errors.OK
    assert [it["name"] for it in done.steps] == [
        "verify near", "verify far", "fetch", "compare", "namespace", *rehearsal.STEPS,
    ]  # fmt: skip
    assert world.told == [it["name"] for it in done.steps]
    assert steps(done)["fetch"][1] == "00000003-20261122T133000Z.json from near: 7 files, 99 bytes"
    assert (done.sequence, done.instance) == (3, "salt")
    age = names.parsed(done.finished) - names.parsed("2026-11-22T13:30:00Z")
    assert done.rpo == age.total_seconds()
    assert done.rto == (names.parsed(done.finished) - names.parsed(done.started)).total_seconds()
    assert list(world.folder.iterdir()) == []


def test_the_signed_report_is_in_every_vault(world: World) -> None:
    done = world.run()
    for vault in world.vaults:
        name, signature = sorted(vault.taken)
        assert names.REPORT.fullmatch(name)
        assert signature == f"{name}.sig"
        assert list(vault.taken) == [signature, name], "the signature comes first"
        data = vault.taken[name]
        assert data == done.to_bytes()
        check_signature(data, vault.taken[signature], drill.NAMESPACE, [SIGNER.public])
        assert json.loads(data)["code"] == errors.OK


def test_a_vault_that_takes_no_report_is_told(world: World) -> None:
    world.vaults[0].full = True
    done = world.run()
    assert steps(done)["report to near"] == ("failed", "near is full")
    assert done.code == errors.WARNINGS
    assert len(world.vaults[1].taken) == 2


def test_without_a_key_there_is_no_report(world: World) -> None:
    done = world.run(signer=None)
    assert steps(done)["report"] == ("skipped", "this host has no key that signs it")
    assert done.code == errors.WARNINGS
    assert world.vaults[0].taken == {}


def test_another_vault_is_taken_where_one_is_away(world: World) -> None:
    world.verdicts["near"] = Unreachable("near does not answer")
    done = world.run()
    assert steps(done)["verify near"] == ("skipped", "near does not answer")
    assert world.restored_from == "far"
    assert done.code == errors.WARNINGS


def test_another_vault_is_taken_where_one_is_not_true(world: World) -> None:
    world.verdicts["near"] = ["#2 is missing"]
    done = world.run()
    assert steps(done)["verify near"] == ("failed", "#2 is missing")
    assert world.restored_from == "far"
    assert done.code == errors.UNVERIFIED


def test_a_vault_that_is_not_true_is_better_than_none(world: World) -> None:
    world.verdicts = {"near": ["#2 is missing"], "far": Unverified("a pinned key is none")}
    done = world.run()
    assert (world.restored_from, done.code) == ("near", errors.UNVERIFIED)
    assert steps(done)["log-in"][0] == "ok"


def test_a_witness_is_checked_and_never_restored_from(world: World) -> None:
    world.witness = True
    world.verdicts["near"] = ["#2 is missing"]
    done = world.run()
    assert (world.restored_from, steps(done)["verify far"][0]) == ("near", "ok")
    world.verdicts["near"] = Unreachable("no route")
    assert steps(world.run())["fetch"] == ("failed", "no vault answers: near: no route")


def test_no_vault_answers(world: World) -> None:
    world.verdicts = dict.fromkeys(("near", "far"), Unreachable("no route"))
    done = world.run()
    assert done.code == errors.UNREACHABLE
    assert steps(done)["fetch"] == ("failed", "no vault answers: near: no route; far: no route")
    assert steps(done)["log-in"] == ("skipped", "the step 'fetch' failed")
    assert (done.sequence, done.rpo) == (0, None)


def test_an_archive_that_cannot_be_restored(world: World) -> None:
    world.restored = Unverified("it is not what was signed")
    done = world.run()
    assert (done.code, done.sequence, done.rpo) == (errors.UNVERIFIED, 3, None)
    assert {steps(done)[name][0] for name in ("compare", *rehearsal.STEPS)} == {"skipped"}
    assert list(world.folder.iterdir()) == []


def test_a_difference_fails_the_drill_and_does_not_end_it(world: World) -> None:
    world.restored.problems = ["has the mode 0644 instead of 0600: /etc/salt/master"]
    done = world.run()
    assert steps(done)["compare"] == ("failed", world.restored.problems[0])
    assert steps(done)["log-in"][0] == "ok"
    assert done.code == errors.FAILED


def test_a_failed_step_of_the_rehearsal(world: World) -> None:
    world.played[-1] = {"name": "log-in", "status": "failed", "reason": "no answer"}
    assert world.run().code == errors.FAILED


def test_a_skipped_step_is_never_ok(world: World) -> None:
    world.played[-1] = {"name": "log-in", "status": "skipped", "reason": "no key pair"}
    assert world.run().code == errors.WARNINGS


def test_the_report_names_each_step_that_was_skipped(world: World) -> None:
    world.restored.tops = ["/srv/pillar/acme"]
    world.run()
    [report] = [it for name, it in world.vaults[0].taken.items() if not name.endswith(".sig")]
    told = json.loads(report)
    skipped = {it["name"]: it["reason"] for it in told["steps"] if it["status"] == "skipped"}
    assert skipped == dict.fromkeys(
        rehearsal.STEPS, "/etc/salt/master is not in what this identity restores"
    )
    assert told["code"] == errors.WARNINGS


def test_a_rehearsal_that_ends_early_has_failed(world: World) -> None:
    del world.played[3:]
    done = world.run()
    assert steps(done)["rehearsal"] == ("failed", "it ended before its last step")
    assert steps(done)["log-in"] == ("skipped", "the rehearsal did not come to it")
    assert done.code == errors.FAILED


def test_without_namespaces_the_rest_is_skipped(world: World) -> None:
    world.played = [{"name": "namespace", "status": "skipped", "reason": "not permitted"}]
    done = world.run()
    assert done.code == errors.WARNINGS
    assert {steps(done)[name][0] for name in rehearsal.STEPS} == {"skipped"}


def test_only_root_plays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert steps(world.run())["master"] == (
        "skipped", "only root can start a master in namespaces of its own",
    )  # fmt: skip


def test_a_customers_drill_restores_their_part_alone(world: World) -> None:
    world.restored.tops, world.restored.missing = ["/srv/pillar/acme"], ["operator"]
    done = world.run()
    assert steps(done)["fetch"][1].endswith("; not for this identity: operator")
    assert steps(done)["compare"][0] == "ok"
    assert steps(done)["master"] == (
        "skipped", "/etc/salt/master is not in what this identity restores",
    )  # fmt: skip


def test_the_minions_key_pair_goes_in_by_content(world: World, tmp_path: Path) -> None:
    for kind in ("pem", "pub"):
        (tmp_path / f"minion.{kind}").write_text(kind)
    world.folder = tmp_path / "work"
    world.folder.mkdir()
    world.run(minion=str(tmp_path))
    assert world.plan["minion"] == {"pem": "pem", "pub": "pub"}
    done = world.run(minion=str(tmp_path / "none"))
    assert steps(done)["namespace"][0] == "failed"
    assert "the minion's key pair in" in steps(done)["namespace"][1]


def test_no_room_anywhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = drill.shutil._ntuple_diskusage(1, 1, 1)
    monkeypatch.setattr(drill.shutil, "disk_usage", lambda path: usage)
    done = world.run()
    assert steps(done)["fetch"][0] == "failed"
    assert "has room for" in steps(done)["fetch"][1]


def test_two_drills_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(self: Workspace, path: str) -> None:
        raise Locked("another one")

    monkeypatch.setattr(Workspace, "__init__", locked)
    with pytest.raises(Locked):
        world.run()


def test_sigterm_ends_it_and_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    ended = []

    def play(module: str, plan: Any) -> Iterator[dict[str, str]]:
        try:
            yield {"name": rehearsal.STAGE, **OK}
            os.kill(os.getpid(), signal.SIGTERM)
            yield {"name": "configuration", **OK}
        finally:
            ended.append(plan["scratch"])

    monkeypatch.setattr(stage, "play", play)
    with pytest.raises(SystemExit) as end:
        world.run()
    assert end.value.code == 128 + signal.SIGTERM
    assert len(ended) == 1
    assert list(world.folder.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before
    assert world.vaults[0].taken == {}


def test_folders_with_private_keys_are_hidden_from_the_restored_master(world: World) -> None:
    world.run()
    assert world.plan["hidden"] == ["/etc/rocksalt/backup"]
    world.run(identity="/usr/local/keys/drill", minion="")
    assert world.plan["hidden"] == ["/etc/rocksalt/backup", "/usr/local/keys"]


# The stage ---------------------------------------------------------------------------------------


def test_the_stage_has_the_folders_of_programs_and_nothing_above(tmp_path: Path) -> None:
    onedir, venv, lone = (tmp_path / it for it in ("opt/salt", "venv", "home"))
    for folder in (onedir / "lib/python3.10", venv / "bin", venv / "lib/python3.11", lone / "bin"):
        folder.mkdir(parents=True)
    for program in (onedir / "bin/salt-master", venv / "bin/salt-master", lone / "bin/salt-master"):
        program.parent.mkdir(exist_ok=True)
        program.touch(0o755)

    def found(program: Path) -> set[str]:
        return {it for it in stage.programs(str(program)) if it.startswith(str(tmp_path))}

    assert found(onedir / "bin") == {str(onedir)}
    assert found(venv / "bin") == {str(venv)}
    assert found(lone / "bin") == {str(lone / "bin")}


def test_of_etc_only_what_everybody_may_read(tmp_path: Path) -> None:
    for name, mode in (("open", 0o644), ("shadow", 0o640)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    for name, mode in (("folder", 0o755), ("private", 0o711)):
        (tmp_path / name).mkdir(mode)
    os.symlink("shadow", tmp_path / "link")
    os.mkfifo(tmp_path / "fifo")
    public = {it for it in os.listdir(tmp_path) if stage._public(str(tmp_path / it))}
    assert public == {"open", "folder", "link"}
    assert not stage._public(str(tmp_path / "vanished"))


# The rehearsal -----------------------------------------------------------------------------------


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    folder = tmp_path / "pki"
    folder.mkdir()
    key = rsa.generate_private_key(65537, 1024)
    write(folder, key, key)
    return folder


def write(folder: Path, private: rsa.RSAPrivateKey, public: rsa.RSAPrivateKey) -> None:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL)
    (folder / "master.pem").write_bytes(private.private_bytes(*form, serialization.NoEncryption()))
    (folder / "master.pub").write_bytes(
        public.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def playing(pki: Path | str = "/none", **plan: Any) -> Rehearsal:
    it = Rehearsal({"config": "/none/master", **plan})
    it.opts = {"pki_dir": str(pki)}
    return it


def test_a_key_pair_is_one(pki: Path) -> None:
    assert playing(pki).keys() == f"master.pem and master.pub in {pki} are a pair"


def test_two_halves_of_different_keys_are_found(pki: Path) -> None:
    write(pki, *(rsa.generate_private_key(65537, 1024) for _ in range(2)))
    with pytest.raises(BackupError, match=r"master\.pub does not belong to"):
        playing(pki).keys()


@pytest.mark.parametrize("kind", ["pem", "pub"])
def test_a_damaged_or_missing_half_is_found(pki: Path, kind: str) -> None:
    half = pki / f"master.{kind}"
    half.write_bytes(half.read_bytes()[:40])
    with pytest.raises(BackupError, match="cannot be read"):
        playing(pki).keys()
    half.unlink()
    with pytest.raises(BackupError, match="cannot be read"):
        playing(pki).keys()


def test_minions_are_counted() -> None:
    it = playing("/pki")
    with pytest.raises(Skipped, match="the configuration was not loaded"):
        it.minions()
    it.accepted = {}
    with pytest.raises(BackupError, match="no minion is accepted in /pki"):
        it.minions()
    it.accepted = {"web1": "key", "web2": "key"}
    assert it.minions() == "2 accepted"


def test_a_configuration_that_was_not_restored() -> None:
    with pytest.raises(BackupError, match="/none/master was not restored"):
        playing().configuration()


def test_without_salt_the_configuration_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "master").write_text("{}")
    it = playing(programs=str(tmp_path))
    it.config = str(tmp_path / "master")
    with pytest.raises(Skipped, match="salt-master is not installed on this host"):
        it.configuration()


def test_a_canary_has_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "WORK", str(tmp_path / "work"))
    monkeypatch.setattr(rehearsal.shutil, "which", lambda name, path=None: f"/bin/{name}")
    with pytest.raises(Skipped, match="names no pillar file"):
        playing().decryption()
    home, file = tmp_path / "gpg", tmp_path / "canary"
    it = playing(canary=str(file))
    it.opts["gpg_keydir"] = str(home)
    with pytest.raises(BackupError, match="cannot be read"):
        it.decryption()
    file.write_text("password: x\n")
    home.mkdir()
    with pytest.raises(BackupError, match="canary has no PGP message"):
        it.decryption()


def test_a_minion_whose_key_was_never_accepted() -> None:
    it = playing(minion={"pem": "private", "pub": "mine\n"})
    with pytest.raises(Skipped, match="the master does not run"):
        it.log_in()
    it.running, it.accepted = True, {"web1": "theirs"}
    with pytest.raises(BackupError, match="is none of those that the master accepted"):
        it.log_in()
    it.minion = {}
    with pytest.raises(Skipped, match="names no folder with a key pair"):
        it.log_in()


def test_a_master_that_cannot_be_told_where_to_listen_is_not_started() -> None:
    it = playing()
    with pytest.raises(Skipped, match="the configuration was not loaded"):
        it.master()
    it.accepted, it.opts["default_include"] = {"web1": "key"}, "/etc/salt/extra"
    with pytest.raises(Skipped, match="there is no place for a drop-in"):
        it.master()


def test_whatever_happens_in_a_step_is_its_outcome() -> None:
    def skipped() -> str:
        raise Skipped("no gpg")

    def failed() -> str:
        raise BackupError("no pair")

    def broken() -> str:
        raise KeyError("ret_port")

    assert [rehearsal.outcome("x", it) for it in (lambda: "2", skipped, failed, broken)] == [
        {"name": "x", "status": "ok", "reason": "2"},
        {"name": "x", "status": "skipped", "reason": "no gpg"},
        {"name": "x", "status": "failed", "reason": "no pair"},
        {"name": "x", "status": "failed", "reason": "KeyError: 'ret_port'"},
    ]

"""The program ``rocksalt-backup``, and what it shares with the runner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from backup_master import BEGIN, HOUR, Master

from rocksalt.backup import __main__ as program
from rocksalt.backup import access, commands, status
from rocksalt.backup.errors import (
    FAILED,
    OK,
    UNREACHABLE,
    UNVERIFIED,
    WARNINGS,
    BackupError,
    Unreachable,
    VaultError,
)
from rocksalt.backup.restoring import drill

REPO = Path(__file__).resolve().parents[2]


class Site:
    """A master with two vaults that are folders, its settings on disk, and two snapshots."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.master = Master(folder)
        self.config = folder / "config/config.json"
        self.identity = folder / "identity"
        self.status = str(folder / "status.json")
        entry = {"type": "file", "location": "there", "admin_domain": "them"}
        self.master.settings["vaults"] = {
            name: {**entry, "path": str(folder / name), "allow_unencrypted": True}
            for name in ("near", "far")
        }
        for name in ("near", "far", "config"):
            (folder / name).mkdir()
        os.rename(folder / "signing", folder / "config/signing")
        self.identity.write_text(self.master.identity + "\n")
        self.write()
        with access.vaults(self.master.settings, {}) as vaults:
            for hours in (0, 1):
                result = self.master.take(*vaults, at=BEGIN + hours * HOUR)
                assert result.code == OK, result

    def write(self, **changes: Any) -> None:
        self.config.write_text(json.dumps({**self.master.settings, **changes}))
        self.config.chmod(0o600)

    def run(self, *arguments: str) -> int:
        command, *rest = arguments
        noted = ["--status", self.status] if command in ("verify", "drill") else []
        return program.main([command, "--config", str(self.config), *noted, *rest])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def site(made: Site) -> Site:
    """The site as it was made; a test that changes what is in its vaults makes one of its own."""
    made.write()
    return made


def test_list(site, capsys):
    assert site.run("list") == OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:4] == ["1", "2026-11-22T13:00:00Z", "full", "5"]
    assert lines[2].split() == ["2", "2026-11-22T14:00:00Z", "same", "as", "#1"]


def test_list_as_json(site, capsys):
    assert site.run("list", "--json", "--vault", "far") == OK
    found = json.loads(capsys.readouterr().out)
    assert found["vault"] == "far"
    assert found["snapshots"]["1"]["bytes"] == sum(
        len(text)
        for text in ("interface: 0.0.0.0\n", "private\n", "public\n", "base: {}\n", "password: x\n")
    )


def test_a_vault_that_does_not_exist(site, capsys):
    assert site.run("list", "--vault", "fra") == FAILED
    assert capsys.readouterr().err == "rocksalt-backup: no vault 'fra'; there are near, far\n"


@pytest.mark.parametrize("which", [[], ["2"], ["2026-11-22T14:30:00Z"]])
def test_show(site, capsys, which):
    assert site.run("show", *which) == OK
    found = json.loads(capsys.readouterr().out)
    assert (found["sequence"], found["full"], found["kind"]) == (2, 1, "same")
    assert found["archives"]["operator"]["files"] == 5


@pytest.mark.parametrize(
    ("which", "why"),
    [
        ("3", "no snapshot with the number 3"),
        ("2026-11-22T12:00:00Z", "no snapshot begun by"),
        ("yesterday", "is neither the number of a snapshot nor a time"),
    ],
)
def test_show_what_does_not_exist(site, capsys, which, why):
    assert site.run("show", which) == FAILED
    assert why in capsys.readouterr().err


def test_verify(site, capsys, monkeypatch):
    monkeypatch.setattr(program, "_now", lambda: BEGIN + HOUR)
    assert site.run("verify") == OK
    assert capsys.readouterr().out.splitlines() == [
        "near: ok, 2 snapshots, newest #2 of 2026-11-22T14:00:00Z, 1 archives read",
        "  unwitnessed since 2026-11-22T13:00:00Z",
        "far: ok, 2 snapshots, newest #2 of 2026-11-22T14:00:00Z, 1 archives read",
        "  unwitnessed since 2026-11-22T13:00:00Z",
    ]
    noted = status.read(site.status)["verify"]
    assert (noted["code"], noted["vaults"]["near"]["newest"]["sequence"]) == (OK, 2)


def test_verify_of_snapshots_that_stopped(site, capsys, monkeypatch):
    monkeypatch.setattr(program, "_now", lambda: BEGIN + 48 * HOUR)
    assert site.run("verify", "--quick") in (WARNINGS, UNVERIFIED)
    assert "2026-11-22T15:05:00Z" in capsys.readouterr().out  # when the next one was promised


def test_verify_of_one_vault_is_not_noted(site, capsys):
    Path(site.status).unlink(missing_ok=True)
    site.run("verify", "--quick", "near")
    assert not os.path.exists(site.status)
    assert "far" not in capsys.readouterr().out


def now_of(site: Site, at: Any = BEGIN + HOUR, **options: Any) -> dict[str, Any]:
    return commands.check(
        site.master.settings, {}, at, key=str(site.config.parent / "signing"),
        status_path=site.status, **options,
    )  # fmt: skip


def test_verify_in_time(site):
    found = now_of(site)
    assert found["vaults"]["near"]["problems"] == []
    assert (found["code"], found["vaults"]["near"]["seen"][0]) == (OK, 2)


def test_verify_finds_a_changed_archive(tmp_path):
    site = Site(tmp_path)
    archive = next((tmp_path / "near/master1").glob("*.age"))
    archive.chmod(0o600)
    data = bytearray(archive.read_bytes())
    data[-1] ^= 1
    archive.write_bytes(data)
    found = now_of(site)
    assert (found["code"], found["vaults"]["far"]["ok"]) == (UNVERIFIED, True)
    assert found["vaults"]["near"]["ok"] is False


@pytest.mark.parametrize("spool", [True, False])
def test_verify_misses_what_was_there_before(tmp_path, spool):
    site = Site(tmp_path)
    now_of(site)
    if not spool:
        os.rename(site.master.settings["spool"], tmp_path / "lost")
    for path in [*tmp_path.glob("near/master1/00000002*"), *tmp_path.glob("far/master1/00000002*")]:
        path.unlink()
    for _ in range(2):  # what was not believed is not what the next check expects
        found = now_of(site)
        assert found["code"] == UNVERIFIED
        assert found["vaults"]["near"]["seen"][0] == 2


def test_verify_of_a_vault_that_is_gone(tmp_path):
    site = Site(tmp_path)
    os.rename(tmp_path / "near", tmp_path / "elsewhere")
    found = now_of(site)
    assert found["code"] == UNREACHABLE
    assert "could not be checked" in found["vaults"]["near"]["problems"][0]["sentence"]


def test_verify_on_the_vault_host(tmp_path):
    site = Site(tmp_path)
    client = {"instance": "master1", "key": "x", "signer": site.master.signer.public}
    receiver = {"path": str(tmp_path / "near"), "clients": {"m": client, "d": {"instance": "x"}}}
    site.master.settings.update(master=False, vaults={}, receiver=receiver)
    found = now_of(site)
    assert list(found["vaults"]) == ["m"]
    assert found["vaults"]["m"]["snapshots"] == 2


def test_restore(site, tmp_path, capsys):
    target = tmp_path / "out"
    code = site.run("restore", "--identity", str(site.identity), "--to", str(target))
    assert code == OK
    top = target / site.master.path("srv/salt/top.sls").lstrip("/")
    assert top.read_text() == "base: {}\n"
    assert "restored #2 of 2026-11-22T14:00:00Z from near: 5 files" in capsys.readouterr().out


def test_restore_a_path_of_a_snapshot(site, tmp_path, capsys):
    pillar = site.master.path("srv/pillar")
    code = site.run(
        "restore", "1", "--identity", str(site.identity), "--to", str(tmp_path / "out"),
        "--path", pillar, "--vault", "far", "--json",
    )  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert (code, found["sequence"], found["files"]) == (OK, 1, 1)


def test_restore_the_part_of_a_customer(site, tmp_path, capsys):
    code = site.run(
        "restore", "--identity", str(site.identity), "--part", "customer-acme",
        "--to", str(tmp_path / "out"),
    )  # fmt: skip
    assert code == FAILED
    assert "customer-acme" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "why"),
    [(None, "cannot be read"), ("nonsense\n", "line 1 of the identity file"), ("", "no identity")],
)
def test_restore_with_what_is_no_identity(site, tmp_path, capsys, text, why):
    path = tmp_path / "key"
    if text is not None:
        path.write_text(text)
    assert site.run("restore", "--identity", str(path), "--to", str(tmp_path / "out")) == FAILED
    assert why in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_record_is_what_is_signed(site, capsys):
    assert site.run("record") == OK
    found = json.loads(capsys.readouterr().out)
    assert (found["instance"], found["revision"]) == ("master1", 1)


def test_a_drill_is_no_business_of_the_master(site, capsys):
    assert site.run("drill") == FAILED
    assert "must never be on the master" in capsys.readouterr().err


DRILL = {
    "format": 1, "code": OK, "instance": "master1", "host": "drill1", "sequence": 2,
    "started": "2026-11-22T14:10:00Z", "finished": "2026-11-22T14:11:00Z", "rto": 60, "rpo": 660,
    "steps": [{"name": "fetch", "status": "ok", "reason": ""}],
}  # fmt: skip


def test_a_drill_on_a_drill_host(site, tmp_path, capsys, monkeypatch):
    def run(settings, vaults, identities, signer, tell):
        assert ([vault.name for vault in vaults], len(identities)) == (["far"], 1)
        tell(DRILL["steps"][0])
        return drill.Drill(**DRILL)

    monkeypatch.setattr(drill, "run", run)
    site.write(
        master=False,
        drill={
            "instance": "master1", "identity": str(site.identity), "vaults": ["far"],
            "signer": site.master.signer.public,
        },
    )  # fmt: skip
    assert site.run("drill") == OK
    out = capsys.readouterr().out.splitlines()
    assert out == ["ok      fetch", "snapshot #2: took 60 s, of data 11 min old"]
    noted = status.read(site.status)["drill"]
    assert (noted["host"], noted["rpo"], noted["problems"]) == ("drill1", 660, [])


def put_report(site: Site, name: str = "20261122T135900Z", **changes: Any) -> None:
    """A signed report of a drill in the vault near."""
    when = {"started": "2026-11-22T13:58:00Z", "finished": "2026-11-22T13:59:00Z"}
    report = drill.Drill(**{**DRILL, **when, **changes}).to_bytes()
    signature = site.master.authority.sign(report, drill.NAMESPACE)
    for suffix, data in (("", report), (".sig", signature)):
        (site.folder / f"near/master1/{name}.drill.json{suffix}").write_bytes(data)


@pytest.mark.parametrize("trusted", [True, False])
def test_verify_notes_the_drill_whose_report_is_in_the_vault(tmp_path, trusted):
    site = Site(tmp_path)
    put_report(site)
    other = site.master.signer.public
    site.master.settings["drill_keys"] = [site.master.authority.public if trusted else other]
    now_of(site)
    assert ("drill" in status.read(site.status)) == trusted


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("20261122T135930Z", {"instance": "other", "finished": "2026-11-22T13:59:30Z"}),
        ("20261122T135930Z", {"sequence": 3, "finished": "2026-11-22T13:59:30Z"}),
        ("20261122T135930Z", {}),
        ("20991231T000000Z", {"finished": "2099-12-31T00:00:00Z"}),
        ("20261122T135930Z", {"finished": "yesterday"}),
    ],
)
def test_a_drill_that_does_not_fit_hides_no_other(tmp_path, name, changes):
    site = Site(tmp_path)
    put_report(site)
    put_report(site, name, code=FAILED, **changes)
    site.master.settings["drill_keys"] = [site.master.authority.public]
    now_of(site)
    noted = status.read(site.status)["drill"]
    assert (noted["time"], noted["steps"]) == ("2026-11-22T13:59:00Z", {"fetch": "ok"})


class Refusing:
    """A vault that answers each question with the same error."""

    def __init__(self, error: Exception):
        self._error = error

    def names(self) -> None:
        raise self._error

    open = checked = names

    def close(self) -> None:
        pass


BUCKET = {"type": "s3", "location": "there", "admin_domain": "them", "bucket": "salt-backup"}


@pytest.mark.parametrize(
    ("only", "drill_keys", "error", "code"),
    [
        (True, False, VaultError("may not list"), FAILED),
        (True, True, VaultError("may not list"), WARNINGS),
        (False, False, VaultError("may not list"), WARNINGS),
        (True, True, Unreachable("is down"), UNREACHABLE),
        (False, False, Unreachable("is down"), UNREACHABLE),
    ],
)
def test_a_bucket_that_tells_the_master_nothing(
    site, monkeypatch, only, drill_keys, error, code
):  # fmt: skip
    site.write()
    true = access.opening.vault
    settings = {**site.master.settings}
    settings["vaults"] = {**({} if only else settings["vaults"]), "bucket": BUCKET}
    settings["drill_keys"] = [site.master.signer.public] if drill_keys else []
    monkeypatch.setattr(
        access.opening, "vault",
        lambda name, *more: Refusing(error) if name == "bucket" else true(name, *more),
    )  # fmt: skip
    found = commands.check(settings, {}, BEGIN + HOUR, key=str(site.config.parent / "signing"),
                           status_path=site.status)  # fmt: skip
    assert (
        found["code"] in (code, FAILED) if only and code == UNREACHABLE else found["code"] == code
    )
    assert status.unseen(found) == ["bucket"]


@pytest.mark.parametrize("error", [VaultError("its disk is failing"), OSError("EIO")])
def test_a_vault_that_cannot_be_read_is_a_failure(site, monkeypatch, error):
    monkeypatch.setattr(access.opening, "vault", lambda *about: Refusing(error))
    found = now_of(site, vaults=["near"])
    assert (found["code"], found["vaults"]["near"]["code"]) == (FAILED, FAILED)
    assert found["vaults"]["near"]["problems"][0]["severity"] == "error"


ANSWER = {
    "problems": [], "archives_checked": 7, "bytes_checked": 9, "instance": "master1",
    "time": "2026-11-22T14:00:00Z",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"problems": [{"code": "x", "sentence": "lost"}]}, "lost"),
        ({"problems": [{"why": "x"}]}, "in a way that is not known: TypeError"),
        ({"problems": None}, "in a way that is not known: TypeError"),
        ({"archives_checked": "many"}, "in a way that is not known: ValueError"),
        ({"instance": "other"}, "a check of other, and not of master1"),
        ({"time": "2026-11-22T13:00:00Z"}, "its clock is wrong, or that is an old one"),
        ({"time": "2027-11-22T13:00:00Z"}, "its clock is wrong, or that is an old one"),
    ],
)
def test_what_a_receiver_says_of_its_check(site, monkeypatch, change, words):
    """Nonsense is that vault's failure, and the others are checked."""
    vaults = site.master.settings["vaults"]
    settings = {**site.master.settings}
    settings["vaults"] = {**vaults, "far": {**vaults["far"], "type": "ssh"}}
    true = access.opening.vault

    def opened(name, entry, *more):
        vault = true(name, {**entry, "type": "file"}, *more)
        if name == "far":
            told = json.dumps({**ANSWER, **change}).encode()
            vault.checked = lambda: (told, b"")
        return vault

    monkeypatch.setattr(access.opening, "vault", opened)
    found = commands.check(settings, {}, BEGIN + HOUR, key=str(site.config.parent / "signing"),
                           status_path=site.status)["vaults"]  # fmt: skip
    assert found["near"]["code"] == OK
    if not change:
        assert (found["far"]["code"], found["far"]["archives_checked"]) == (OK, 7)
    else:
        assert found["far"]["code"] == (UNVERIFIED if words == "lost" else FAILED)
        assert words in found["far"]["problems"][0]["sentence"]


def test_no_drill_without_an_identity(site, capsys):
    drilling = {"instance": "master1", "vaults": ["far"], "signer": site.master.signer.public}
    site.write(master=False, drill=drilling)
    assert site.run("drill") == FAILED
    assert "hardening:backup:drill:identity: is not set" in capsys.readouterr().err
    assert site.run("verify", "--quick") in (OK, WARNINGS, UNVERIFIED)
    assert "far: " in capsys.readouterr().out


@pytest.mark.parametrize("command", sorted(program._COMMANDS))
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        program.main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: rocksalt-backup {command}")


def test_without_settings(tmp_path, capsys):
    assert program.main(["list", "--config", str(tmp_path / "config.json")]) == FAILED
    assert "state.apply hardening.backup writes it" in capsys.readouterr().err


def test_credentials_that_others_can_read(site, capsys):
    path = site.config.parent / "credentials.json"
    path.write_text("{}")
    path.chmod(0o644)
    assert site.run("list") == FAILED
    assert "chmod 600" in capsys.readouterr().err
    path.unlink()


@pytest.mark.parametrize("text", ["[]", "{", "7"])
def test_credentials_that_are_none(tmp_path, text):
    path = tmp_path / "credentials.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(BackupError, match=r"credentials\.json"):
        access.credentials(str(path))


def test_a_signing_key_that_is_missing(tmp_path):
    with pytest.raises(BackupError, match=r"state\.apply hardening\.backup makes"):
        access.signer(str(tmp_path / "signing"))


def test_a_host_without_vaults(site):
    with pytest.raises(BackupError, match="names no vault"):
        access.sides({**site.master.settings, "master": False})


def test_as_a_program(site):
    done = subprocess.run(
        [sys.executable, "-m", "rocksalt.backup", "list", "--config", str(site.config), "--json"],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": str(REPO / "_utils")},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (OK, "")
    assert json.loads(done.stdout)["vault"] == "near"

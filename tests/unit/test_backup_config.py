"""The settings as programs read them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rocksalt.backup import config
from rocksalt.backup.crypto import age
from rocksalt.backup.errors import BackupError

KEYS = [age.generate()[1] for _ in range(4)]
VAULT = {"type": "file", "location": "there", "admin_domain": "them", "path": "/mnt/x"}
SSH = {
    "type": "ssh", "location": "there", "admin_domain": "them", "host": "h", "user": "u",
    "host_key": "k", "receiver": "r",
}  # fmt: skip
GOOD: dict[str, Any] = {
    "master": True, "instance": "m1", "location": "here", "admin_domain": "us",
    "authority": "ssh-ed25519 AAAA", "authorisation": "signature", "recipients": KEYS[:2],
    "escrow": KEYS[1], "customers": {}, "vaults": {"near": VAULT}, "success": 0, "drill": {},
}  # fmt: skip


def with_(**changes: Any) -> dict[str, Any]:
    return {**GOOD, **changes}


def acme(*paths: str, key: str = KEYS[2]) -> dict[str, Any]:
    return {"recipients": [key], "paths": list(paths)}


def test_nothing_is_wrong():
    assert config.problems(GOOD) == []
    assert (
        config.problems(with_(customers={"acme": acme("/srv/a"), "b": acme("/srv/b", key=KEYS[3])}))
        == []
    )
    assert config.problems(with_(vaults={"near": VAULT, "far": {**SSH, "archives": False}})) == []


@pytest.mark.parametrize(
    ("settings", "where", "why"),
    [
        (with_(recipients=KEYS[:1], escrow=KEYS[0]), "recipients", "needs at least 2"),
        (with_(escrow=KEYS[2]), "escrow", "is none of"),
        (with_(recipients=[*KEYS[:2], KEYS[2][:-1] + "b"]), "recipients", KEYS[2][:-1]),
        (with_(authority=" "), "authority", "is empty"),
        (with_(authorisation=""), "authorisation", "is empty"),
        (with_(location=""), "location", "where this master stands"),
        (with_(success=2), "success", "2 is more than the 1 vaults"),
        (with_(vaults={}), "vaults", "no vault that takes archives"),
        (with_(vaults={"w": {**SSH, "archives": False}}), "vaults", "no vault that takes archives"),
        (with_(vaults={"near": {**VAULT, "bucket": "b"}}), "vaults:near:bucket", "no such setting"),
        (with_(vaults={"s": {**SSH, "path": "/x"}}), "vaults:s:path", "no such setting"),
        (with_(vaults={"s": {"type": "s3"}, "near": VAULT}), "vaults:s:bucket", "is missing"),
        (with_(drill={"vaults": ["gone"]}), "drill:vaults", "'gone' is not below"),
        (with_(customers={"Acme": acme("/a")}), "customers:Acme", "lower-case"),
        (with_(customers={"acme": acme("/a", key="age1x")}), "customers:acme:recipients", "age1x"),
        (with_(customers={"acme": acme("/a", key=KEYS[0])}), "customers:acme:recipients",
         "is also in hardening:backup:recipients"),
        (with_(customers={"a": acme("/a"), "b": acme("/b")}), "customers:b:recipients",
         "is also in hardening:backup:customers:a"),
        (with_(customers={"a": acme("/s/x"), "b": acme("/s/x/y", key=KEYS[3])}),
         "customers:b:paths", "overlaps /s/x of hardening:backup:customers:a"),
        (with_(customers={"a": acme("/s/x/../y", "/s/y/z")}), "customers:a:paths", "overlaps /s/y"),
    ],
)  # fmt: skip
def test_what_is_wrong(settings, where, why):
    (problem,) = config.problems(settings)
    assert problem.startswith(f"hardening:backup:{where}: ")
    assert why in problem


@pytest.mark.parametrize(
    "secret",
    [
        age.generate()[0],
        "AGE-SECRET-KEY-PQ-1QQQQQQQQ",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "PuTTY-User-Key-File-3: ssh-ed25519",
    ],
)
def test_private_keys_are_refused_and_never_shown(secret):
    (problem,) = config.problems(with_(authorisation=secret))
    assert "holds a private key" in problem
    assert secret not in problem
    (problem,) = config.problems(with_(vaults={"x": {"deep": secret.lower()}}))
    assert secret.lower() not in problem


def test_a_host_that_is_no_master_needs_no_recipients():
    settings = with_(master=False, recipients=[], escrow="", authority="", vaults={})
    assert config.problems(settings) == []


@pytest.mark.parametrize(
    ("path", "folder", "yes"),
    [("/a", "/a", True), ("/a/b", "/a", True), ("/ab", "/a", False), ("/a", "/a/b", False),
     ("/a", "/", True), ("/a/b", "/a/", True)],
)  # fmt: skip
def test_within(path, folder, yes):
    assert config.within(path, folder) is yes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    it = tmp_path / "config.json"
    it.write_text(json.dumps(GOOD))
    it.chmod(0o600)
    return it


def test_load(path):
    assert config.load(str(path)) == GOOD


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_what_others_can_write_is_refused(path, mode):
    os.chmod(path, mode)
    with pytest.raises(BackupError, match="chmod go-w"):
        config.load(str(path))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "{}", '{"vaults": []}', '{"vaults": {"a": {"type": "x"}}}', "\0"]
)
def test_what_is_no_configuration(path, text):
    path.write_text(text)
    with pytest.raises(BackupError, match=r"config\.json"):
        config.load(str(path))


def test_what_belongs_to_somebody_else_is_refused(path):
    os.chown(path, 4242, -1)
    with pytest.raises(BackupError, match="belongs to another user: chown root"):
        config.load(str(path))


def test_every_problem_is_told_with_the_file(path):
    path.write_text(json.dumps(with_(success=9, location="")))
    with pytest.raises(BackupError) as refused:
        config.load(str(path))
    lines = str(refused.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{path}: hardening:backup:") for line in lines)


def test_without_a_file(tmp_path):
    with pytest.raises(BackupError, match="does not exist"):
        config.load(str(tmp_path / "gone"))


def test_without_leave_to_read(path, monkeypatch):
    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(BackupError, match="Permission denied"):
        config.load(str(path))

"""tests/infra: what a pillar says comes to the host's shell as one word, and takes bounded time."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from infra import test_backup as backup
from infra import test_logstash as logstash
from infra import test_nrpe as nrpe
from infra import test_ossec as ossec
from infra.asking import Answer
from infra.files import named

NASTY = "a b; touch bad; $(touch bad) 'x' \"y\""


def asked(module: Any, name: str, settings: dict[str, Any], before: str = "") -> str:
    """The answer to a question of a family with these settings."""
    families = {module.FAMILY: SimpleNamespace(settings=settings)}
    wanted: Any = SimpleNamespace(baseline=SimpleNamespace(families=families, networks={}))
    command = before + module.look(wanted)[name]
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20)
    return done.stdout


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a name that a shell would stumble over."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / NASTY
    (path / "site").mkdir(parents=True)
    (path / "site" / "1.age").touch()
    return path


def vault(store: Path) -> dict[str, Any]:
    clients = {"m": {"instance": "site"}}
    receiver = {"path": str(store), "clients": clients}
    limits = {"full_every": 1, "interval": 1, "jitter": 0}
    return {"receiver": receiver, "drill": {}, "spool": str(store), "master": False, **limits}


def test_paths_of_a_backup(store: Path) -> None:
    own = vault(store) | {"drill": {"identity": str(store / "site/1.age")}}
    assert set(named(Answer(asked(backup, "stat", own), 0))) >= {str(store), f"{store}/site/1.age"}
    assert set(named(Answer(asked(backup, "store", own), 0))) == {str(store), f"{store}/site"}
    newest = Answer(asked(backup, "newest", own), 0)
    first = Answer(asked(backup, "first", own), 0)
    now = str(int(first.text) + 5)
    backup.test_every_client_sent_something({"newest": newest, "now": Answer(now, 0)}, own)
    assert not (store.parent / "bad").exists()


def test_a_vault_without_anything_from_its_client(store: Path) -> None:
    (store / "site/1.age").unlink()
    for _ in range(2):
        newest = Answer(asked(backup, "newest", vault(store)), 0)
        seen = {"newest": newest, "now": Answer("1800000000", 0)}
        with pytest.raises(AssertionError):
            backup.test_every_client_sent_something(seen, vault(store))
        if (store / "site").exists():
            (store / "site").rmdir()


def test_paths_of_a_log_server(store: Path) -> None:
    there = {"path": str(store)}
    own = {"receiver": there, "witness": there, "renew_days": 30}
    for name in ("store", "witnessed"):
        found = named(Answer(asked(logstash, name, own), 0))
        assert set(found) == {str(store), f"{store}/site"}
    (store / "site").chmod(0o777)
    assert f"{store}/site" in asked(logstash, "open", own).splitlines()
    assert not (store.parent / "bad").exists()


def test_names_of_plugins_and_of_a_package(store: Path) -> None:
    commands = {"x": {"plugin": str(store / "site/1.age")}}
    own = {"commands": commands, "port": 5666, "renew_days": 30}
    assert list(named(Answer(asked(nrpe, "plugins", own), 0))) == [f"{store}/site/1.age"]
    say = 'dpkg() { shift; printf "%s active-response/bin/\\n" "$#"; }\n'
    assert (
        asked(ossec, "owned", {"package": NASTY, "directories": {NASTY: {}}}, say).split()[0] == "1"
    )
    assert not (store.parent / "bad").exists()


@pytest.mark.parametrize(
    ("address", "place"),
    [("10.0.0.1", "10.0.0.1:5666"), ("2001:db8::1", "[2001:db8::1]:5666"), ("", ":5666")],
)
def test_nrpe_is_asked_at_its_address(address: str, place: str) -> None:
    own: dict[str, Any] = {"commands": {}, "port": 5666, "renew_days": 30}
    say = f'sed() {{ echo "{address}"; }}\ntimeout() {{ echo "$@"; }}\n'
    for name in ("without", "old"):
        assert f" -connect {place} -tls1_" in asked(nrpe, name, own, say)


def test_only_a_master_is_searched_for_identities(store: Path) -> None:
    say = 'timeout() { echo "$@"; }\n'
    assert asked(backup, "identities", vault(store), say) == ""
    assert "find -H /root" in asked(backup, "identities", vault(store) | {"master": True}, say)


def test_the_search_for_identities(tmp_path: Path) -> None:
    key = f"AGE-SECRET-KEY-1{'Q' * 58}\n"
    home, away = tmp_path / "home", tmp_path / "away"
    for folder in (home / "ann", home / ".git", away):
        folder.mkdir(parents=True)
        (folder / "key").write_text(key)
    (home / "large").write_text(key + "x\n" * 600_000)
    (tmp_path / "root").symlink_to(away)
    search = backup.SEARCH.replace(" /root /home ", f" {tmp_path}/root {home} ")
    search = search.replace(" /etc /srv ", " /nonexistent ")
    done = subprocess.run(["sh", "-c", search], capture_output=True, text=True)
    assert set(done.stdout.split()) == {f"{home}/ann/key", f"{tmp_path}/root/key"}
    assert done.stderr == "" and done.returncode != backup.TIMED_OUT


def test_a_search_that_did_not_end_is_no_answer() -> None:
    seen = {"identities": Answer("", backup.TIMED_OUT)}
    with pytest.raises(AssertionError, match="longer than 60 s"):
        backup.test_no_identity_lies_on_the_master(seen, {})
    backup.test_no_identity_lies_on_the_master({"identities": Answer("", 1)}, {})

"""Lines about what was asked of the door: what they say, and what they never say."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from rocksalt.access.door.records import Records, line, masked


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Salt, where it is loaded, keeps what is logged for a log that is never set up here."""
    logger = logging.getLogger("rocksalt.api")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [caplog.handler])


CALL = {
    "client": "local", "tgt": "web1", "tgt_type": "glob", "fun": "deploy.run",
    "kwarg": {"app": "shop", "version": "v1"}, "token": "never",
}  # fmt: skip


def test_a_line_says_who_what_and_how_it_ended() -> None:
    said = json.loads(line(0.5, "call", "ok", "alice", "10.0.0.1", CALL, "laptop", "2026"))
    assert said == {
        "time": "1970-01-01T00:00:00.500+00:00", "event": "call", "user": "alice",
        "source": "10.0.0.1", "certificate": "laptop", "client": "local", "fun": "deploy.run",
        "tgt": "web1", "tgt_type": "glob", "arg": None,
        "kwarg": {"app": "shop", "version": "v1"}, "outcome": "ok", "jid": "2026",
    }  # fmt: skip
    assert list(said)[:2] == ["time", "event"]


@pytest.mark.parametrize("call", [None, [], "x", {"fun": ["a"]}, {"tgt": {"a": [1]}}])
def test_a_line_takes_whatever_was_sent(call: Any) -> None:
    assert json.loads(line(0, "refused", "why", "alice", "::1", call))["event"] == "refused"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"password": "x", "passwd": "x", "db_pwd": ["x"]}, dict.fromkeys(
            ("password", "passwd", "db_pwd"), "***")),
        ({"API-Key": "x", "api_token": {"a": "x"}, "ssh_key": "x", "key": "x"}, dict.fromkeys(
            ("API-Key", "api_token", "ssh_key", "key"), "***")),
        ({"env": [{"SECRET": "x", "b": "y"}]}, {"env": [{"SECRET": "***", "b": "y"}]}),
        ({"app": "shop", "keys": 1, "passive": True}, {"app": "shop", "keys": 1, "passive": True}),
        (["password=x y z"], ["password=***"]),
        (["mysql --password=x -h db"], ["mysql --password=***"]),
        (["a=b token==c token=d e"], ["a=b token==c token=***"]),
        (["postgres://bob:hunter2@db/shop"], ["postgres://bob:***@db/shop"]),
        ("curl -H 'Authorization: Bearer s3cret' x", "curl -H 'Authorization: ***"),
        ("Bearer s3cret", "Bearer ***"),
        ("curl -H 'X: Basic s3cret'", "curl -H 'X: Basic ***"),
        ("mysql -ps3cret shop", "mysql -p***"),
        ("mysql --password s3cret", "mysql --password ***"),
        ("sshpass -p s3cret ssh web1", "sshpass -p ***"),
        ("curl -d '{\"password\": \"s3cret\"}' x", "curl -d '{\"password\": ***"),
        ("db_password: s3cret", "db_password: ***"),
        ("echo root:s3cret | chpasswd", "echo root:***"),
        ("curl -u admin:s3cret x", "curl -u admin:***"),
        ("curl --user=admin:s3cret x", "curl --user=admin:***"),
        ("vault token s3cret", "vault token ***"),
        (["mysql", "--password", "s3cret", "shop"], ["mysql", "--password", "***", "shop"]),
        (["sshpass", "-p", "s3cret", "ssh"], ["sshpass", "-p", "***", "ssh"]),
        (["x", "--password", "a", "--token", "b"], ["x", "--password", "***", "--token", "***"]),
        (["curl", "-u", "ann:s3cret", "x"], ["curl", "-u", "ann:***", "x"]),
        ({"password_hash": "x"}, {"password_hash": "***"}),
        *((text, text) for text in (
            "cat /etc/passwd", "mkdir -p /srv/shop", "ls -u a b", "wrong name or password",
            "'token' may not be given with client local", "https://web1:8000/x", "a::b", "date",
            "call 2: 'ret' may not be given with client local", "tar -C /srv -xf shop-1.2:3.tar",
        )),
        ("a" * 2000, "a" * 1000 + "..."),
        (list(range(2000)), list(range(1000))),
        ([[[[[[[[1]]]]]]]], [[[[[["..."]]]]]]),
        (b"x", "b'x'"),
        ([1, 2.5, None, True], [1, 2.5, None, True]),
    ],
)  # fmt: skip
def test_secrets_are_masked_and_length_is_bounded(value: Any, expected: Any) -> None:
    assert masked(value) == expected


def test_a_name_cannot_forge_a_line() -> None:
    text = line(0, "login-refused", "no", 'x"}\n{"event": "login', "10.0.0.1")
    assert "\n" not in text and json.loads(text)["event"] == "login-refused"


def test_lines_are_added_to_a_private_file_and_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log"
    records = Records(str(path), lambda: 0)
    with caplog.at_level(logging.INFO, "rocksalt.api"):
        records.write("login", "ok", user="alice")
        path.rename(tmp_path / "log.1")
        records.write("logout", "ok", user="alice")
    assert [json.loads(it)["event"] for it in path.read_text().splitlines()] == ["logout"]
    assert [json.loads(it.message)["event"] for it in caplog.records] == ["login", "logout"]
    assert stat.S_IMODE(path.stat().st_mode) & ~0o640 == 0


def test_a_file_that_cannot_be_written_is_said_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "link", tmp_path / "no" / "such"):
        Records(str(path), lambda: 0).write("call", "ok")
    said = [it.message for it in caplog.records if it.levelno == logging.ERROR]
    assert len(said) == 2 and "could not be written" in said[0]
    assert not (tmp_path / "elsewhere").exists()


def test_a_disk_that_is_full_takes_one_line_and_not_the_next(tmp_path: Path) -> None:
    path, records = tmp_path / "log", Records(str(tmp_path / "log"), lambda: 0.0)
    records.write("call", "ok", user="alice")
    with path.open("a") as torn:
        torn.write('{"time": "19')
    records.write("call", "ok", user="bob")
    records.write("call", "ok", user="carol")
    texts = path.read_text().splitlines()
    assert texts[1] == '{"time": "19'
    assert [json.loads(texts[it])["user"] for it in (0, 2, 3)] == ["alice", "bob", "carol"]


def test_a_line_that_is_written_in_parts_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:7]))
    Records(str(tmp_path / "log"), lambda: 0.0).write("call", "ok", user="alice")
    assert json.loads((tmp_path / "log").read_text())["user"] == "alice"

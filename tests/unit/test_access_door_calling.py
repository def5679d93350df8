"""What the door makes of Salt's answers and errors."""

from __future__ import annotations

import fnmatch
import json
import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rocksalt.access.door import choosing, sealing
from rocksalt.access.door.errors import Refused

pytest.importorskip("salt.netapi", reason="only what asks Salt is tested here")
exceptions = pytest.importorskip("salt.exceptions")
calling = pytest.importorskip("rocksalt.access.door.calling")

TRACE = """The minion function caused an exception: Traceback (most recent call last):
  File "/opt/salt/minion.py", line 1, in f
    return g()
AttributeError: no g
"""
LOCAL = {"client": "local", "tgt": "web1", "fun": "test.ping"}
RUNNER = {"client": "runner", "fun": "manage.up"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (TRACE, "The minion function caused an exception: AttributeError: no g"),
        ({"a": [TRACE[41:]]}, {"a": ["AttributeError: no g"]}),
        ("Traceback (most recent call last):", ""),
        (b"\xff\x41", "\ufffdA"),
        ({1: (1, {2})}, {"1": [1, [2]]}),
        ([float("nan"), {"a": float("-inf")}], [None, {"a": None}]),
        ({"a": None, "b": 1.5, "c": "text"}, {"a": None, "b": 1.5, "c": "text"}),
    ],
)
def test_answers_are_plain_and_without_traces(value: Any, expected: Any) -> None:
    assert calling.plain(value) == expected


@pytest.mark.parametrize(
    ("told", "value", "outcome"),
    [
        ({"a": {"ret": 1, "retcode": 0, "jid": "6"}}, {"a": 1}, "ok"),
        ({"a": {"ret": 1, "retcode": 0}, "b": {"ret": 0, "retcode": 2}}, {"a": 1, "b": 0},
         "failed on b"),
        ({"a": {"ret": 1, "success": False}}, {"a": 1}, "failed on a"),
        ({"a": {"failed": True}}, {"a": {}}, "failed on a"),
        ({"a": False}, {"a": False}, "ok"),
        ({}, {}, "no answer"),
    ],
)  # fmt: skip
def test_what_minions_answered(told: Any, value: Any, outcome: str) -> None:
    answers = calling.Answers("7", told)
    assert calling._told(answers, full=False) == calling.Done(value, "7", outcome)


def test_the_whole_answer_on_request() -> None:
    told = {"a": {"ret": 1, "retcode": 0, "jid": "7"}}
    assert calling._told(calling.Answers("7", told), full=True).value == told


def test_who_did_not_answer_is_named_with_the_job() -> None:
    found = calling._told(calling.Answers("7", {"a": {"ret": 1}}, ["b"]), full=False)
    assert found.value == {"a": 1, "b": "no answer yet; see job 7"} and found.jid == "7"
    assert found.outcome == "failed on b; no answer from b"


def test_an_answer_that_is_nested_without_end_costs_nobody_else_s() -> None:
    deep: Any = "x"
    for _ in range(505):
        deep = {"a": [deep]}
    answers = calling.Answers("7", {"a": {"ret": 1}, "b": {"ret": deep}})
    found = calling._told(answers, full=False)
    assert found.value["a"] == 1 and 0 < json.dumps(found.value).count("[") < 30


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ({}, 300),
        ({"timeout": 7}, 7),
        ({"fun": "deploy.run", "kwarg": {"app": "shop"}}, 3660),
        ({"fun": "deploy.run", "kwarg": {"app": "blog"}}, 660),
        ({"fun": "deploy.run"}, 660),
        ({"fun": "deploy.run", "kwarg": {"app": "shop"}, "timeout": 7}, 7),
    ],
)
def test_each_call_ends(salt: Any, more: dict[str, Any], seconds: int) -> None:
    salt._opts["rocksalt_access"] = {"apps": {"shop": {"timeout": 3600}, "blog": {}}}
    assert salt._patience({**LOCAL, **more}) == seconds


@pytest.fixture
def salt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The part of Salt that calls, before whatever it is told to raise."""
    monkeypatch.setattr(logging.getLogger("rocksalt.api"), "propagate", False)
    monkeypatch.setattr(calling.directory, "trouble", lambda opts: "")
    it = object.__new__(calling.Salt)
    it._opts = {"sock_dir": str(tmp_path), "cachedir": str(tmp_path)}
    it._tokens = SimpleNamespace(get_tok=lambda token: {"token": token})
    it._entering = threading.Semaphore(1)
    (tmp_path / "workers.ipc").touch()
    return it


@pytest.mark.parametrize("call", [LOCAL, RUNNER])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (exceptions.AuthorizationError("no"), 403),
        (exceptions.EauthAuthenticationError("no"), 403),
        (exceptions.TokenAuthenticationError("no"), 403),
        (exceptions.AuthenticationError("no"), 401),
        (exceptions.SaltReqTimeoutError("late"), 503),
        (exceptions.SaltDaemonNotRunning("away"), 503),
        (exceptions.SaltClientTimeout("late", jid="7"), 504),
        (exceptions.PublishError("/etc/salt/pki"), 502),
        (exceptions.SaltInvocationError("/etc/salt/pki"), 502),
        (TypeError("/etc/salt/pki"), 502),
        (KeyError("/etc/salt/pki"), 502),
    ],
)
def test_errors_of_salt_are_a_status_and_a_sentence(
    salt: Any, monkeypatch: pytest.MonkeyPatch, call: dict[str, Any], error: Any, status: int
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(salt, "_on_minions", fail)
    monkeypatch.setattr(salt, "_on_master", fail)
    with pytest.raises(Refused) as caught:
        salt.call(call, "token")
    assert caught.value.status == status and "/" not in caught.value.sentence


@pytest.mark.parametrize("known", [{}, None, False])
def test_a_token_that_the_master_has_no_more_is_no_lack_of_rights(
    salt: Any, monkeypatch: pytest.MonkeyPatch, known: Any
) -> None:
    def fail(*_: Any) -> None:
        raise exceptions.TokenAuthenticationError("Authentication failure of type token")

    monkeypatch.setattr(salt, "_on_master", fail)
    salt._tokens = SimpleNamespace(get_tok=lambda _: known)
    with pytest.raises(Refused) as caught:
        salt.call(RUNNER, "token")
    assert caught.value.status == 401


def test_an_error_of_the_master_is_one_line_of_the_log(
    salt: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise exceptions.SaltException("no\n2026-11-24 all is well")

    monkeypatch.setattr(salt, "_on_minions", fail)
    monkeypatch.setattr(logging.getLogger("rocksalt.api"), "handlers", [caplog.handler])
    with pytest.raises(Refused):
        salt.call(LOCAL, "token")
    assert [it.getMessage().count("\n") for it in caplog.records] == [0]


def test_a_master_that_is_away_is_said_at_once(salt: Any, tmp_path: Path) -> None:
    (tmp_path / "workers.ipc").unlink()
    for ask in (lambda: salt.call(LOCAL, "token"), lambda: salt.log_in("alice", "x")):
        with pytest.raises(Refused) as caught:
            ask()
        assert (caught.value.status, caught.value.wait) == (503, 10)


@pytest.mark.parametrize("eauth", ["rocksalt_file", "rocksalt_ldap"])
def test_a_password_goes_sealed_by_what_the_seal_is_now(
    salt: Any, tmp_path: Path, eauth: str
) -> None:
    given: list[dict[str, str]] = []
    salt._eauth = eauth
    salt._resolver = SimpleNamespace(mk_token=given.append)
    for _ in range(2):
        secret = sealing.renew(str(tmp_path / "rocksalt-api.seal"))
        assert salt.log_in("alice", "word") is None
        assert given.pop() == {
            "eauth": eauth, "username": "alice", "password": sealing.seal(secret, "alice", "word"),
        }  # fmt: skip


def test_a_directory_that_is_away_is_asked_for_no_password(
    salt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealing.renew(str(tmp_path / "rocksalt-api.seal"))
    monkeypatch.setattr(calling.directory, "trouble", lambda opts: "it is away")
    salt._eauth = "rocksalt_ldap"
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            salt.log_in("alice", "word")
        assert (caught.value.status, caught.value.wait) == (503, 10)
    salt._eauth, salt._resolver = "rocksalt_file", SimpleNamespace(mk_token=lambda load: "")
    assert salt.log_in("alice", "word") is None


def test_log_ins_leave_processes_of_the_master_to_others(
    salt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealing.renew(str(tmp_path / "rocksalt-api.seal"))
    monkeypatch.setattr(calling, "_PATIENCE", 0.01)
    salt._eauth = "rocksalt_file"
    salt._entering.acquire()
    with pytest.raises(Refused) as caught:
        salt.log_in("alice", "word")
    assert (caught.value.status, caught.value.wait) == (503, 5)


MANY = {name: [{"*": ["^cmd\\.run\\Z"]}] for name in ("jan-doe", "alice", "anne@x.org", "ops%")}


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("alice", False), ("jan-doe", False), ("anne@x.org", False), ("ops", False),
        ("nobody", False), ("jan.doe", True), ("al.ce", True), (".....", True), ("o.s.", False),
        ("anne@x.or.", True),
    ],
)  # fmt: skip
def test_nobody_logs_in_who_would_have_the_rights_of_others(
    salt: Any, tmp_path: Path, name: str, others: bool
) -> None:
    sealing.renew(str(tmp_path / "rocksalt-api.seal"))
    ended: list[str] = []
    checker = object.__new__(calling.salt.utils.minions.CkMinions)
    checker.opts = {"permissive_acl": False}
    salt._checker, salt._eauth = checker, "rocksalt_ldap"
    salt._opts["external_auth"] = {"rocksalt_ldap": MANY}
    salt._tokens = SimpleNamespace(rm_token=ended.append)
    salt._resolver = SimpleNamespace(mk_token=lambda load: {"token": "t", "name": load["username"]})
    assert bool(checker.fill_auth_list({**MANY, name: []}, name, [])) is others
    if not others:
        assert bool(salt.log_in(name, "word")["perms"]) is (name in MANY) and ended == []
        return
    with pytest.raises(Refused) as caught:
        salt.log_in(name, "word")
    assert caught.value.status == 403 and ended == ["t"]


def test_the_hash_is_that_of_the_file_and_of_no_directory(salt: Any, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("# people\nalice:scrypt:1\nbob:x\nbob:y\n")
    salt._eauth, salt._users = "rocksalt_file", str(tmp_path / "users")
    assert [salt.hash(name) for name in ("alice", "bob", "carol")] == ["scrypt:1", "", ""]
    salt._eauth = "rocksalt_ldap"
    assert salt.hash("alice") == ""


class Managing:
    """Salt's check where web2 says that it manages something, as Salt 3008 takes globs."""

    def check_minions(self, expr: str, tgt_type: str = "glob", fun: str = "") -> dict[str, Any]:
        found = [it for it in ("web1", "web2") if fnmatch.fnmatch(it, expr)]
        wild = "*" in expr and fun != "state.apply"
        return {"minions": [*found, *(["anything"] if wild and "web2" in found else [])]}


class Plain:
    """As Salt 3006 has it."""

    def check_minions(self, expr: str, tgt_type: str = "glob") -> dict[str, Any]:
        return {"minions": [it for it in ("web2", "web1") if fnmatch.fnmatch(it, expr)]}


@pytest.mark.parametrize(
    ("check", "tgt", "expected"),
    [
        (Managing(), "web*", (["web1", "web2"], "list")),
        (Managing(), "web1*", ("web1*", "glob")),
        (Managing(), "web2", ("web2", "glob")),
        (Managing(), "db*", ("db*", "glob")),
        (Plain(), "web*", ("web*", "glob")),
    ],
)
def test_what_a_minion_manages_is_in_no_target(
    salt: Any, check: Any, tgt: str, expected: Any
) -> None:
    salt._checker = check
    assert salt._target({**LOCAL, "tgt": tgt}) == expected
    assert salt._target({**LOCAL, "tgt": [tgt], "tgt_type": "list"}) == ([tgt], "list")


def test_what_is_asked_about_a_glob_is_about_the_minions_themselves() -> None:
    assert choosing.minions(Managing(), "web*") == ["web1", "web2"]
    assert choosing.minions(Plain(), "web*") == ["web1", "web2"]

"""The door's three addresses, with a master that is made of paper."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rocksalt.access.door.application import Door
from rocksalt.access.door.conf import Options
from rocksalt.access.door.errors import Refused
from rocksalt.access.door.filter import Rules
from rocksalt.access.door.grants import Grants
from rocksalt.access.door.records import Records

PING = {"client": "local", "tgt": "web1", "fun": "test.ping"}
PASSWORD = "right"
ROLES = {
    "deployer": {"functions": ["test.ping"], "deploys": True},
    "break-glass": {"functions": ["cmd.run", "test.ping"], "deploys": True},
    "auditor": {"runners": ["access.can"]},
}
LAST, AFTER = 1795564799.0, 1795564800.0
"""The end of 2026-11-24 in UTC, in seconds since the epoch."""
FOR_A_DAY = {"role": "break-glass", "until": "2026-11-24"}
GRANTED: dict[str, Any] = {
    "users": {
        "eve": [FOR_A_DAY],
        "olga": [
            {**FOR_A_DAY, "apps": ["shop"]},
            {"role": "deployer", "apps": ["blog"]},
            {"role": "auditor", "until": "soon"},
        ],
    },
    "groups": {"dba": [{"role": "break-glass"}], "ops": [FOR_A_DAY]},
    "roles": ROLES,
}


@dataclass
class Paper:
    """A master that knows one password, and does what it is told."""

    clock: Any
    calls: list[tuple[str, str]] = field(default_factory=list)
    logged_out: list[str] = field(default_factory=list)
    logged_in: int = 0
    trouble: Exception | None = None
    groups: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)

    def hash(self, user: str) -> str:
        return self.hashes.get(user, "")

    def log_in(self, user: str, password: str) -> dict[str, Any] | None:
        if self.trouble:
            raise self.trouble
        if password != PASSWORD:
            return None
        self.logged_in += 1
        return {"token": f"salt-{self.logged_in}", "start": self.clock(), "name": user,
                "expire": self.clock() + 60, "eauth": "rocksalt_file", "perms": [],
                **({"groups": self.groups} if self.groups else {})}  # fmt: skip

    def log_out(self, token: str) -> None:
        self.logged_out.append(token)

    def call(self, call: dict[str, Any], token: str) -> Any:
        if self.trouble:
            raise self.trouble
        self.calls.append((call["fun"], token))
        return SimpleNamespace(value={"web1": True}, jid="2026", outcome="ok")


@dataclass
class Site:
    door: Door
    master: Paper
    log: Path
    clock: SimpleNamespace

    def ask(
        self, method: str, path: str, body: Any = None, token: str = "", **environ: str
    ) -> tuple[int, Any, dict[str, str]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        said: list[Any] = []
        sent = {
            "REQUEST_METHOD": method, "PATH_INFO": path, "REMOTE_ADDR": "10.0.0.1",
            "wsgi.input": io.BytesIO(raw), "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(raw)) if body is not None else "",
            **({"HTTP_X_AUTH_TOKEN": token} if token else {}), **environ,
        }  # fmt: skip
        text = b"".join(self.door(sent, lambda *words: said.extend(words)))
        headers = dict(said[1])
        assert int(headers["Content-Length"]) == len(text)
        assert headers["Content-Type"] == "application/json" and b"Traceback" not in text
        return int(said[0][:3]), json.loads(text)["return"], headers

    def log_in(self, user: str = "alice", password: str = PASSWORD, **environ: str) -> Any:
        return self.ask("POST", "/login", {"username": user, "password": password}, **environ)

    def lines(self) -> list[tuple[str, str, str]]:
        texts = self.log.read_text().splitlines() if self.log.exists() else []
        return [(it["event"], it["user"], it["outcome"]) for it in map(json.loads, texts)]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(logging.getLogger("rocksalt.api"), "propagate", False)
    monkeypatch.setattr(logging.getLogger("rocksalt.api"), "handlers", [logging.NullHandler()])
    now = SimpleNamespace(time=1000.0)
    options = Options("127.0.0.1", "/c", "/k", max_body=2000, login_failures=2)
    master, log = Paper(lambda: now.time), tmp_path / "log"
    records = Records(str(log), lambda: now.time)
    door = Door(
        options, frozenset({"local", "runner"}), master, records, lambda: now.time, Grants(GRANTED)
    )
    yield Site(door, master, log, now)


def test_the_welcome_says_what_is_served(site: Site) -> None:
    status, said, headers = site.ask("GET", "/")
    assert (status, said) == (200, "Welcome")
    assert headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" in headers and site.lines() == []


def test_a_call_from_log_in_to_log_out(site: Site) -> None:
    status, [said], headers = site.log_in()
    token = said["token"]
    assert (status, headers["X-Auth-Token"], said["user"]) == (200, token, "alice")
    assert "salt-1" not in json.dumps(said)
    assert site.ask("POST", "/", [PING, PING], token)[:2] == (200, [{"web1": True}] * 2)
    assert site.master.calls == [("test.ping", "salt-1")] * 2
    assert site.ask("POST", "/logout", token=token)[0] == 200
    assert site.master.logged_out == ["salt-1"]
    assert site.ask("POST", "/", [PING], token)[0] == 401
    assert len(site.master.calls) == 2
    assert site.lines() == [
        ("login", "alice", "ok"), ("asked", "alice", "begun"), ("call", "alice", "ok"),
        ("asked", "alice", "begun"), ("call", "alice", "ok"),
        ("logout", "alice", "ok"), ("refused", "", "not logged in"),
    ]  # fmt: skip


def test_a_log_in_lasts_as_long_as_the_token_of_salt(site: Site) -> None:
    token = site.log_in()[1][0]["token"]
    site.clock.time += 59
    assert site.ask("POST", "/", [PING], token)[0] == 200
    site.clock.time += 1
    assert site.ask("POST", "/", [PING], token)[0] == 401


def test_the_id_in_a_cookie_or_query_is_none(site: Site) -> None:
    token = site.log_in()[1][0]["token"]
    for more in ({"HTTP_COOKIE": f"session_id={token}"}, {"QUERY_STRING": f"token={token}"}):
        assert site.ask("POST", "/", [PING], **more)[0] == 401


def test_nothing_is_done_where_one_call_may_not_pass(site: Site) -> None:
    token = site.log_in()[1][0]["token"]
    status, said, _ = site.ask("POST", "/", [PING, {**PING, "ret": "x"}], token)
    assert (status, said) == (400, "call 2: 'ret' may not be given with client local")
    assert site.master.calls == []
    assert site.lines()[1:] == [("refused", "alice", said)] * 2


def test_what_the_master_refuses_is_told_and_noted(site: Site) -> None:
    token = site.log_in()[1][0]["token"]
    site.master.trouble = Refused(403, "this is not among your rights")
    assert site.ask("POST", "/", [PING], token)[:2] == (403, "this is not among your rights")
    site.master.trouble = Refused(504, "no answer in time")
    assert site.ask("POST", "/", [PING], token)[0] == 504
    site.master.trouble = Refused(503, "away", wait=9.1)
    status, _, headers = site.ask("POST", "/", [PING], token)
    assert (status, headers["Retry-After"]) == (503, "10")
    assert [event for event, *_ in site.lines()] == [
        "login", "asked", "refused", "asked", "call", "asked", "call",
    ]  # fmt: skip


def test_what_was_done_of_many_calls_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    token = site.log_in()[1][0]["token"]
    troubles = iter([None, Refused(403, "not yours"), RuntimeError("/etc"), None])
    call = site.master.call

    def troubled(*words: Any) -> Any:
        site.master.trouble = next(troubles)
        return call(*words)

    monkeypatch.setattr(site.master, "call", troubled)
    assert site.ask("POST", "/", [PING] * 4, token)[:2] == (200, [
        {"web1": True},
        {"status": 403, "return": "not yours"},
        {"status": 500, "return": "this failed; the log of salt-api says why"},
        {"web1": True},
    ])  # fmt: skip
    assert [event for event, *_ in site.lines()] == [
        "login", "asked", "call", "asked", "refused", "asked", "call", "asked", "call",
    ]  # fmt: skip


def test_a_token_that_the_master_knows_no_more_ends_the_log_in(site: Site) -> None:
    token = site.log_in()[1][0]["token"]
    site.master.trouble = Refused(401, "your log-in has ended")
    assert site.ask("POST", "/", [PING], token)[0] == 401
    site.master.trouble = None
    assert site.ask("POST", "/", [PING], token)[0] == 401 and not site.master.calls


def test_a_fault_is_one_sentence(site: Site) -> None:
    token = site.log_in()[1][0]["token"]
    site.master.trouble = RuntimeError("/etc/salt/secret")
    for path, body in (("/", [PING]), ("/login", {"username": "bob", "password": "x"})):
        status, said, _ = site.ask("POST", path, body, token)
        assert (status, said) == (500, "this failed; the log of salt-api says why")
    assert site.lines()[-1] == ("call", "alice", "failed in salt-api")
    # A log-in that could not be judged is none that failed.
    site.master.trouble = None
    assert [site.log_in("bob", "x")[0] for _ in range(3)] == [401, 401, 429]


def test_log_ins_are_limited_by_address_and_by_user(site: Site) -> None:
    assert [site.log_in("alice", "x")[0] for _ in range(3)] == [401, 401, 429]
    status, _, headers = site.log_in("bob")
    assert (status, headers["Retry-After"]) == (429, "900")
    # A stranger elsewhere keeps nobody out by a few wrong guesses, but by many.
    assert site.log_in("alice", PASSWORD, REMOTE_ADDR="10.0.0.2")[0] == 200
    for number in range(38):
        assert site.log_in("alice", "x", REMOTE_ADDR=f"10.0.1.{number}")[0] == 401
    assert site.log_in("alice", PASSWORD, REMOTE_ADDR="10.0.0.2")[0] == 429
    site.clock.time += 901
    assert site.log_in("alice")[0] == 200
    assert [event for event, *_ in site.lines()] == [
        *("login-refused", "login-refused", "limited", "limited", "login"),
        *(["login-refused"] * 38), "limited", "login",
    ]  # fmt: skip


def test_a_flood_of_strangers_does_not_fill_the_file(site: Site) -> None:
    for _ in range(200):
        assert site.ask("POST", "/", [PING])[0] == 401
    lines = site.lines()
    assert len(lines) == 60 and lines[-1][2] == "not logged in; more of this are not noted"
    site.ask("POST", "/", [PING], REMOTE_ADDR="10.0.0.2")
    site.clock.time += 61
    site.ask("POST", "/", [PING])
    assert len(site.lines()) == 62


def test_a_flood_hides_no_guess(site: Site) -> None:
    for _ in range(100):
        site.ask("POST", "/", [PING])
    assert [site.log_in("alice", "x")[0] for _ in range(3)] == [401, 401, 429]
    assert [(event, user) for event, user, _ in site.lines()][60:] == [
        ("login-refused", "alice"), ("login-refused", "alice"), ("limited", "alice")
    ]  # fmt: skip


def test_a_network_of_one_customer_is_noted_as_one_address(site: Site) -> None:
    for number in range(100):
        site.ask("POST", "/", [PING], REMOTE_ADDR=f"2001:db8::{number}")
    assert len(site.lines()) == 60


def test_strangers_at_once_are_noted_without_a_fault(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at the window and what follows from it are one: here each waits amid it."""
    inside: list[int] = []
    most: list[int] = []
    wait = site.door._strange.wait

    def slow(key: str) -> float:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.005)
        inside.pop()
        return wait(key)

    monkeypatch.setattr(site.door._strange, "wait", slow)
    threads = [threading.Thread(target=site.ask, args=("POST", "/", [PING])) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(site.lines()) == 5 and max(most) == 1


def test_the_oldest_log_ins_of_many_are_ended_at_the_master_as_well(site: Site) -> None:
    for _ in range(52):
        assert site.log_in()[0] == 200
    assert site.master.logged_out == ["salt-1", "salt-2"]


@pytest.mark.parametrize(
    ("path", "expected"), [("/run", 404), ("/login/", 404), ("", 404), ("//", 404), ("/LOGIN", 404)]
)
def test_other_addresses_are_none(site: Site, path: str, expected: int) -> None:
    assert site.ask("GET", path)[0] == expected


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "", "post"])
def test_other_methods_are_refused(site: Site, method: str) -> None:
    for path, allowed in (("/", "GET, POST"), ("/login", "POST"), ("/logout", "POST")):
        status, _, headers = site.ask(method, path)
        assert (status, headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"CONTENT_LENGTH": ""}, 411),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, 411),
        ({"CONTENT_LENGTH": "-1"}, 400),
        ({"CONTENT_LENGTH": "1_0"}, 400),
        ({"CONTENT_LENGTH": "2001"}, 413),
        ({"CONTENT_LENGTH": "99999999999999999999"}, 400),
        ({"CONTENT_LENGTH": "2000"}, 400),
        ({"CONTENT_TYPE": "application/x-yaml"}, 415),
        ({"CONTENT_TYPE": ""}, 415),
    ],
)
def test_a_body_needs_its_length_and_type(
    site: Site, environ: dict[str, str], expected: int
) -> None:
    token = site.log_in()[1][0]["token"]
    assert site.ask("POST", "/", [PING], token, **environ)[0] == expected
    assert not site.master.calls


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ({"username": "alice", "password": PASSWORD, "eauth": "rocksalt_file"}, 200),
        ({"username": "alice", "password": PASSWORD, "eauth": "pam"}, 400),
        ({"username": "alice", "password": PASSWORD, "token_expire": 9}, 400),
        ({"username": "alice"}, 400),
        ([], 400),
        ({"username": None, "password": "x"}, 400),
        ({"username": "a" * 65, "password": PASSWORD}, 401),
        ({"username": "ops%", "password": PASSWORD}, 401),
        ({"username": "ali+ce", "password": PASSWORD}, 401),
        ({"username": "alice", "password": "x" * 1025}, 401),
    ],
)
def test_what_a_log_in_may_have(site: Site, words: Any, status: int) -> None:
    assert site.ask("POST", "/login", words)[0] == status
    assert bool(site.master.logged_in) == (status == 200)


def test_a_name_that_the_master_takes_for_others_is_noted(site: Site) -> None:
    site.master.trouble = Refused(403, "Salt takes your name for that of others")
    assert site.log_in("jan.doe")[:2] == (403, "Salt takes your name for that of others")
    assert site.lines() == [("login-refused", "jan.doe", "Salt takes your name for that of others")]


def test_passwords_are_in_no_line(site: Site) -> None:
    site.log_in("hunter2", "hunter2-a")
    site.ask("POST", "/login", {"username": "alice", "password": "hunter2-b", "x": "hunter2-c"})
    site.log_in("hunter2 d", "hunter2-e")
    token = site.log_in()[1][0]["token"]
    assert "hunter2-" not in site.log.read_text() and "hunter2 d" not in site.log.read_text()
    assert token not in site.log.read_text() and PASSWORD not in site.log.read_text()


# Grants that have ended ---------------------------------------------------------------------------


def test_nobody_logs_in_by_a_grant_that_has_ended(site: Site) -> None:
    site.clock.time = LAST
    assert site.log_in("eve")[0] == 200
    site.clock.time = AFTER
    assert site.log_in("eve")[:2] == (403, "all that you were granted has ended")
    assert site.master.logged_out == ["salt-2"]
    assert site.lines()[-1] == ("login-refused", "eve", "all grants have ended")
    assert site.log_in("olga")[0] == site.log_in("alice")[0] == 200


@pytest.mark.parametrize(
    ("user", "fun", "status"),
    [
        ("eve", "cmd.run", 403),
        ("olga", "cmd.run", 403),
        ("olga", "test.ping", 200),
        ("olga", "deploy.run blog", 200),
        ("olga", "deploy.run shop", 403),
        ("olga", "deploy.status shop", 403),
        ("olga", "access.can", 403),
        ("alice", "cmd.run", 200),
    ],
)
def test_a_session_that_is_older_than_the_end(site: Site, user: str, fun: str, status: int) -> None:
    """What grants that last give goes on; who has none here is the master's matter."""
    site.clock.time = LAST
    token = site.log_in(user)[2]["X-Auth-Token"]
    site.clock.time = AFTER
    fun, _, app = fun.partition(" ")
    call = {**PING, "fun": fun, **({"kwarg": {"app": app}} if app else {})}
    found, said, _ = site.ask("POST", "/", [call], token)
    assert found == status
    assert len(site.master.calls) == (status == 200)
    assert status == 200 or said == "the grant that gave you this has ended"
    assert site.lines()[-1][0] == ("call" if status == 200 else "refused")


@pytest.mark.parametrize(("groups", "status"), [([], 403), (["ops", "x"], 403), (["dba"], 200)])
def test_only_groups_that_somebody_is_in_count(site: Site, groups: list[str], status: int) -> None:
    site.master.groups, site.clock.time = groups, LAST
    token = site.log_in("eve")[2]["X-Auth-Token"]
    site.clock.time = AFTER
    assert site.ask("POST", "/", [{**PING, "fun": "cmd.run"}], token)[0] == status
    assert site.log_in("eve")[0] == status


def test_a_member_of_a_group_without_grants_of_their_own() -> None:
    grants = Grants(GRANTED)
    call = {"fun": "cmd.run"}
    assert grants.all_over("ann", ["ops"], AFTER) and not grants.all_over("ann", ["ops"], LAST)
    assert grants.is_over("ann", ["ops"], call, AFTER)
    assert not grants.is_over("ann", ["ops", "dba"], call, AFTER)
    assert not grants.all_over("ann", [], AFTER) and not Grants({}).all_over("ann", ["ops"], AFTER)


def test_another_password_ends_what_the_former_began(site: Site) -> None:
    site.master.hashes = {"alice": "scrypt:1", "bob": "scrypt:1"}
    token, other = site.log_in()[1][0]["token"], site.log_in("bob")[1][0]["token"]
    assert site.ask("POST", "/", [PING], token)[0] == 200
    site.master.hashes["alice"] = "scrypt:2"
    status, said, _ = site.ask("POST", "/", [PING], token)
    assert (status, said) == (401, "the password was changed since; log in again")
    assert site.master.logged_out == ["salt-1"]
    assert site.lines()[-1] == ("logout", "alice", "it was by a former password")
    del site.master.hashes["bob"]
    assert site.ask("POST", "/", [PING], other)[0] == 401
    site.master.hashes["alice"] = "scrypt:1"
    assert site.ask("POST", "/", [PING], token)[0] == 401


def test_a_call_is_written_down_before_it_is_handed_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whoever ends salt-api by it is known."""
    token = site.log_in()[1][0]["token"]
    monkeypatch.setattr(site.master, "call", lambda *_: site.lines() and sys.exit("killed"))
    with pytest.raises(SystemExit):
        site.ask("POST", "/", [PING], token)
    said = json.loads(site.log.read_text().splitlines()[-1])
    assert (said["event"], said["user"], said["source"]) == ("asked", "alice", "10.0.0.1")
    assert (said["fun"], said["tgt"]) == ("test.ping", "web1")


def test_runners_that_nobody_waits_for_are_limited(site: Site) -> None:
    site.door._rules = Rules(frozenset({"runner", "runner_async"}))
    tokens = [site.log_in(name)[1][0]["token"] for name in ("ada", "bob")]
    low = {"client": "runner_async", "fun": "access.can"}
    assert {site.ask("POST", "/", [low], tokens[0])[0] for _ in range(60)} == {200}
    status, _, headers = site.ask("POST", "/", [low], tokens[0])
    assert (status, headers["Retry-After"]) == (429, "60")
    assert site.lines()[-1][0] == "limited" and len(site.master.calls) == 60
    assert site.ask("POST", "/", [{**low, "client": "runner"}], tokens[0])[0] == 200
    assert site.ask("POST", "/", [low], tokens[1])[0] == 200
    site.clock.time += 60
    site.master.calls.clear()
    token = site.log_in("ada")[1][0]["token"]
    assert site.ask("POST", "/", [low], token)[0] == 200


@pytest.mark.parametrize(
    ("eauth", "name"), [("rocksalt_ldap", "alice"), ("rocksalt_file", "aLICE")]
)
def test_one_person_of_a_directory_has_one_name(site: Site, eauth: str, name: str) -> None:
    site.door._options = dataclasses.replace(site.door._options, eauth=eauth)
    asked: list[str] = []
    log_in = site.master.log_in
    site.master.log_in = lambda user, word: asked.append(user) or log_in(user, word)  # type: ignore
    token = site.log_in("aLICE")[1][0]["token"]
    site.ask("POST", "/", [PING], token)
    assert asked == [name] and {user for _, user, _ in site.lines()} == {name}


def test_one_user_does_not_hold_all_threads(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty threads there are: five for a user."""
    tokens = [site.log_in(name)[1][0]["token"] for name in ("alice", "bob")]
    go, waiting, found = threading.Event(), threading.Semaphore(0), []
    call = site.master.call

    def slow(*words: Any) -> Any:
        waiting.release()
        assert go.wait(5)
        return call(*words)

    def ask() -> None:
        found.append(site.ask("POST", "/", [PING], tokens[0])[0])

    monkeypatch.setattr(site.master, "call", slow)
    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
        assert waiting.acquire(timeout=5)
    status, _, headers = site.ask("POST", "/", [PING], tokens[0])
    assert (status, headers["Retry-After"]) == (429, "5")
    assert site.lines()[-1] == ("limited", "alice", "too many requests at a time")
    go.set()
    assert site.ask("POST", "/", [PING], tokens[1])[0] == 200
    for thread in threads:
        thread.join(5)
    assert found == [200] * 5
    assert site.ask("POST", "/", [PING], tokens[0])[0] == 200

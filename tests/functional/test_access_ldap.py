"""Passwords and groups of a real directory, through the door of a real master."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ldap
import pytest
import salt.auth
import salt.config
import salt.loader
from access_doors import APPS, Api, Caller, install, serving
from directories import BOUND, SEARCHED, Authority, Directory
from saltfactories.manager import FactoriesManager

from rocksalt.access.door import directory as door_directory
from rocksalt.access.door import sealing

PEOPLE = ["alice", "anne", "carol", "dave", "eve", "frank"]
GROUPS = {"deployers": ["anne", "carol", "frank"], "unknown": ["eve"], "frank": ["frank"]}
DEPLOYER = {"role": "deployer", "targets": ["web1"], "apps": ["shop"]}
AWAY = "the directory that knows passwords does not answer"
RIGHT = {"client": "local_async", "tgt": "web1", "fun": "deploy.status", "kwarg": {"app": "shop"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ldap")


@pytest.fixture(scope="module")
def directory(folder: Path) -> Iterator[Directory]:
    (folder / "directory").mkdir()
    it = Directory(folder / "directory", PEOPLE, GROUPS)
    # This process, and what it starts, see api as well.
    ldap.set_option(ldap.OPT_X_TLS_CACERTFILE, str(it.authority.path))
    ldap.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
    os.environ["LDAPTLS_CACERT"] = str(it.authority.path)
    try:
        it.start()
        yield it
    finally:
        it.stop()
        del os.environ["LDAPTLS_CACERT"]


@pytest.fixture(scope="module")
def api(salt_factories: FactoriesManager, folder: Path, directory: Directory) -> Iterator[Api]:
    (folder / "door").mkdir()
    salt_factories.environ["LDAPTLS_CACERT"] = str(directory.authority.path)
    rights = {
        "users": {"alice": {"grants": [DEPLOYER]}},
        "groups": {"deployers": {"grants": [DEPLOYER]}},
        "apps": APPS,
    }
    options = {**BOUND, "auth.ldap.uri": directory.tls}
    with serving(
        salt_factories, folder / "door", runs=False, backend="ldap", **rights, **options
    ) as it:
        it.passwords.update({name: f"of-{name}" for name in PEOPLE})
        yield it


def test_a_password_of_the_directory_lets_in(api: Api) -> None:
    alice = api.caller()
    assert alice.log_in("alice", "of-anne").status == 401
    answer = alice.log_in("alice")

    assert (answer.status, answer.said[0]["eauth"]) == (200, "rocksalt_ldap")
    assert alice.call(RIGHT).status == 200
    assert alice.call({**RIGHT, "tgt": "db1"}).status == 403
    assert alice.call({**RIGHT, "fun": "cmd.run"}).status == 403
    assert "of-alice" not in api.log.read_text()


def test_no_password_is_no_log_in(api: Api, directory: Directory) -> None:
    """The directory would say yes, as to anybody."""
    anybody = ldap.initialize(directory.tls)
    anybody.simple_bind_s("uid=alice,ou=People,dc=example,dc=org", "")
    assert anybody.whoami_s() == ""
    caller = api.caller()
    for none in ({"password": ""}, {"password": None}, {"password": False}, {}):
        words = json.dumps({"username": "alice", **none})
        assert caller.ask("POST", "/login", words).status in (400, 401), none


def test_members_of_a_group_have_its_rights_until_they_are_none(
    api: Api, directory: Directory
) -> None:
    carol = api.caller("carol")
    assert carol.call(RIGHT).status == 200
    directory.change("deployers", "carol")
    assert carol.call(RIGHT).status == 200, "a session lasts; how long, token_hours says"
    again = api.caller("carol")

    assert again.call(RIGHT).status == 403
    directory.change("deployers", "carol", ldap.MOD_ADD)
    assert api.caller("carol").call(RIGHT).status == 200


@pytest.mark.parametrize("user", ["dave", "eve"])
def test_who_has_no_grant_may_do_nothing(api: Api, user: str) -> None:
    """Dave is in no group, eve in one that nothing was granted to."""
    caller = Caller(api)
    answer = caller.log_in(user)
    assert answer.status == 401 or caller.call(RIGHT).status == 403


NOBODY = [
    "mallory", "*", "a*", "alice*", "alice)(uid=*", "*)(objectClass=*", "alice)(|(uid=*",
    "alice,ou=People", "alice\\2a", "alice\0", "\0", "a" * 4096, "uid=alice", "alice,", " alice",
    "alice ", "é", "cn=manager,dc=example,dc=org", "reader", "alice%", "{{ username }}", "",
]  # fmt: skip


@pytest.mark.parametrize("user", NOBODY, ids=lambda it: ascii(it)[:30])
def test_a_name_is_no_question_to_the_directory(api: Api, user: str) -> None:
    for password in ("of-alice", "of-the-manager"):
        assert api.caller().log_in(user, password).status == 401


@pytest.mark.parametrize("password", ["*", "\0", "of-alice\0", "x" * 1024, "é" * 500])
def test_a_password_is_compared_as_it_is(api: Api, password: str) -> None:
    assert api.caller().log_in("alice", password).status == 401


def test_a_name_in_other_letters_is_the_same_person(api: Api) -> None:
    """A directory takes Alice for alice, the master does not."""
    caller = Caller(api)
    answer = caller.log_in("Alice", "of-alice")
    assert (answer.status, answer.said[0]["user"]) == (200, "alice")
    assert caller.call(RIGHT).status == 200


def test_guesses_are_limited_as_with_passwords_of_our_own(api: Api) -> None:
    caller = api.caller()
    found = [caller.log_in("dave", f"guess {n}").status for n in range(8)]
    assert found == [401] * 5 + [429] * 3


def test_a_directory_that_is_away_is_said(api: Api, directory: Directory) -> None:
    alice = api.caller("alice")
    caller = api.caller()
    with directory.stopped():
        answers = [caller.log_in("alice") for _ in range(7)]
        assert alice.call(RIGHT).status == 200
    assert {(it.status, it.said) for it in answers} == {(503, AWAY)}
    assert answers[0].headers["retry-after"] == "10"
    assert caller.log_in("alice").status == 200, "an outage is no guess"
    assert [it for it in api.lines() if it["outcome"] == AWAY]


def test_a_directory_that_hangs_stops_nobody_else(api: Api, directory: Directory) -> None:
    alice = api.caller("alice")
    found: list[tuple[int, str, float]] = []

    def wait() -> None:
        start = time.monotonic()
        answer = api.caller().log_in("alice")
        found.append((answer.status, answer.said, time.monotonic() - start))

    with directory.hanging():
        threads = [threading.Thread(target=wait) for _ in range(16)]
        for thread in threads:
            thread.start()
        took = []
        while any(thread.is_alive() for thread in threads):
            start = time.monotonic()
            assert alice.call(RIGHT).status == 200
            took.append(time.monotonic() - start)
        for thread in threads:
            thread.join()
    assert len(took) > 5 and max(took) < 4, "those who are in go on meanwhile"
    assert {status for status, *_ in found} == {503}
    assert AWAY in {said for _, said, _ in found}
    assert max(seconds for *_, seconds in found) < 25
    assert api.caller("alice").call(RIGHT).status == 200


def test_a_directory_with_a_foreign_certificate_gets_no_password(
    api: Api, directory: Directory, tmp_path: Path
) -> None:
    with directory.of(Authority(tmp_path)):
        answer = api.caller().log_in("alice")
    assert (answer.status, answer.said) == (503, AWAY)
    assert api.caller().log_in("alice").status == 200


# What the master's options make of it, without a master ------------------------------------------


class Module:
    """The master's auth modules with options of its own, in this process."""

    def __init__(self, folder: Path, **options: Any):
        install(folder / "installed")
        self.opts = {
            **salt.config.master_config("/nonexistent"), "cachedir": str(folder), **options,
            "rocksalt_api": {}, "auth_dirs": [str(folder / "installed" / "auth")],
            "extension_modules": str(folder / "none"),
            "external_auth": {"rocksalt_ldap": {"alice": []}},
        }  # fmt: skip
        self._secret = sealing.renew(str(folder / "rocksalt-api.seal"))
        self._auth = salt.auth.LoadAuth(self.opts)

    def enters(self, user: str, password: str) -> bool:
        return bool(self._auth.authenticate_eauth(self._load(user, password)))

    def groups(self, user: str, password: str) -> Any:
        return self._auth.get_groups(self._load(user, password))

    def _load(self, user: str, password: str) -> dict[str, str]:
        sealed = sealing.seal(self._secret, user, password)
        return {"eauth": "rocksalt_ldap", "username": user, "password": sealed}


WAYS = {
    "ldaps": ("tls", {}),
    "starttls": ("plain", {"auth.ldap.starttls": True}),
    "plain": ("plain", {}),
}


@pytest.mark.parametrize("how", [BOUND, SEARCHED], ids=["bound", "searched"])
@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_the_directory(
    directory: Directory, tmp_path: Path, way: str, how: dict[str, Any]
) -> None:
    where, more = WAYS[way]
    module = Module(tmp_path, **how, **more, **{"auth.ldap.uri": getattr(directory, where)})

    assert door_directory.trouble(module.opts) == ""
    assert module.enters("alice", "of-alice")
    for user, password in (("alice", "of-anne"), ("alice", ""), ("mallory", "x"), ("*", "x")):
        assert not module.enters(user, password), (user, password)
    assert module.groups("anne", "of-anne") == ["deployers"]
    assert not module.groups("dave", "of-dave")
    for user in ("*", "anne)(memberUid=*", "dave)(|(memberUid=anne"):
        assert not module.groups(user, "of-anne")


@pytest.mark.parametrize("way", ["ldaps", "starttls"])
def test_a_foreign_certificate_is_refused_by_salt_as_well(
    directory: Directory, tmp_path: Path, way: str
) -> None:
    where, more = WAYS[way]
    module = Module(tmp_path, **BOUND, **more, **{"auth.ldap.uri": getattr(directory, where)})
    with directory.of(Authority(tmp_path)):
        assert not module.enters("alice", "of-alice")
        assert getattr(directory, where) in door_directory.trouble(module.opts)
    assert module.enters("alice", "of-alice")


def test_a_group_of_the_name_of_its_member_is_no_right(
    directory: Directory, tmp_path: Path
) -> None:
    """Salt stumbles over it, and then knows of no group at all, as the documentation says."""
    module = Module(tmp_path, **BOUND, **{"auth.ldap.uri": directory.tls})
    assert module.enters("frank", "of-frank") and not module.groups("frank", "of-frank")


def test_nobody_enters_where_no_password_would_be_asked_for(
    directory: Directory, tmp_path: Path
) -> None:
    options = {"auth.ldap.anonymous": True, "auth.ldap.auth_by_group_membership_only": True}
    module = Module(tmp_path, **BOUND, **options, **{"auth.ldap.uri": directory.tls})
    assert not module.enters("alice", "wrong") and not module.enters("alice", "of-alice")


def test_an_auth_module_does_not_wait_for_ever(directory: Directory, tmp_path: Path) -> None:
    """Where the directory hangs after the door has looked."""
    module = Module(tmp_path, **BOUND, **{"auth.ldap.uri": directory.tls})
    start = time.monotonic()
    with directory.hanging():
        assert not module.enters("alice", "of-alice")
    assert time.monotonic() - start < 4 * door_directory.PATIENCE

"""The door of salt-api on a real master: what people's roles allow works, and nothing else does."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import random
import socket
import ssl
import string
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import salt.auth
import salt.channel.client
import salt.client
import salt.exceptions
import salt.payload
import salt.utils.minions
import zmq
from access_doors import DEPLOYS, GRANTS, Api, Caller, address, serving, settings, until
from saltfactories.manager import FactoriesManager

from rocksalt.access import compiled
from rocksalt.access.door.filter import Rules, refusal

CLIENTS = frozenset({"local", "local_async", "runner", "runner_async"})
GUESSED = ("alice-guessed", "nobody")


@pytest.fixture(scope="module")
def api(
    salt_factories: FactoriesManager, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    with serving(salt_factories, tmp_path_factory.mktemp("door")) as it:
        cli = it.master.salt_cli(timeout=120)
        assert cli.run("saltutil.sync_all", minion_tgt="web1").returncode == 0
        assert len(it.users) == len(GRANTS)
        yield it


# What works ---------------------------------------------------------------------------------------


def test_a_log_in_says_who_what_and_until_when(api: Api) -> None:
    answer = api.caller().log_in("alice")

    [said] = answer.said
    assert set(said) == {"token", "start", "expire", "user", "eauth", "perms"}
    assert (said["user"], said["eauth"]) == ("alice", "rocksalt_file")
    assert answer.headers["x-auth-token"] == said["token"]
    assert "set-cookie" not in answer.headers
    assert said["expire"] - said["start"] == pytest.approx(api.master.config["token_expire"], 0.01)
    assert [*said["perms"][0]] == ["L@web1"]


def test_curl_users_log_in_with_a_form(api: Api) -> None:
    words = f"username=alice&password={api.passwords['alice']}&eauth=rocksalt_file"
    kind = "application/x-www-form-urlencoded"
    answer = api.caller().ask("POST", "/login", words, Content_Type=kind)

    assert (answer.status, answer.said[0]["user"]) == (200, "alice")


def test_the_deploy_works_with_its_result_and_is_noted(api: Api) -> None:
    alice = api.users["alice"]
    answer = alice.call(fun="deploy.run", kwarg=DEPLOYS, timeout=60)

    result = answer.said[0]["web1"]
    assert (result["app"], result["version"], result["result"]) == ("shop", "v1.2", True), result
    assert (api.folder / "shop-v1.2").exists()
    line = api.last("call")
    assert (line["user"], line["source"], line["fun"], line["tgt"], line["outcome"]) == (
        "alice", alice.source, "deploy.run", "web1", "ok",
    )  # fmt: skip
    assert line["kwarg"] == DEPLOYS and line["jid"].isdigit()


def test_a_deploy_in_the_background_shows_its_progress(api: Api) -> None:
    alice = api.users["alice"]
    answer = alice.call(client="local_async", fun="deploy.run", kwarg={**DEPLOYS, "version": "v2"})
    [job] = answer.said

    assert job["minions"] == ["web1"] and api.last("call")["jid"] == job["jid"]
    until(lambda: status(alice)["version"] == "v2" and status(alice)["status"] == "ok")


def status(caller: Caller) -> dict[str, Any]:
    [answer] = caller.call(fun="deploy.status", kwarg={"app": "shop"}).said
    found: dict[str, Any] = answer["web1"]["shop"]
    return found


def test_a_runner_works_for_whom_has_it(api: Api) -> None:
    low = {"client": "runner", "fun": "manage.status", "kwarg": {"tgt": "web1"}, "timeout": 30}
    answer = api.users["pat"].call(low)

    assert answer.status == 200 and "web1" in answer.said[0]["up"], answer.text
    assert api.users["alice"].call(low).status == 403
    assert api.last("refused")["fun"] == "manage.status"


def test_what_fails_on_a_minion_is_told_without_its_trace(api: Api) -> None:
    wrong = {"cmd": "id", "output_encoding": "nope"}
    answer = api.users["bob"].call(fun="cmd.run", kwarg=wrong)

    assert answer.said[0]["web1"].endswith("LookupError: unknown encoding: nope"), answer.text
    assert api.last("call")["outcome"] == "failed on web1"


# Escapes ------------------------------------------------------------------------------------------

LOCAL = {"client": "local", "tgt": "web1", "fun": "test.ping"}
RUNNER = {"client": "runner"}
RUN = {**LOCAL, "fun": "deploy.run", "kwarg": DEPLOYS}
ESCAPES: dict[str, tuple[int, Any]] = {
    "another host": (403, {**LOCAL, "tgt": "db1"}),
    "every host": (403, {**LOCAL, "tgt": "*"}),
    "a glob that takes in another": (403, {**LOCAL, "tgt": "[dw]*1"}),
    "a list with another": (403, {**LOCAL, "tgt": ["web1", "db1"], "tgt_type": "list"}),
    "a list with commas": (403, {**LOCAL, "tgt": "web1,db1", "tgt_type": "list"}),
    "a list as a glob": (400, {**LOCAL, "tgt": ["web1", "db1"]}),
    **{
        f"the target {kind}": (400, {**LOCAL, "tgt": tgt, "tgt_type": kind})
        for kind, tgt in {
            "compound": "web1 or db1", "grain": "id:db1", "grain_pcre": "id:.*", "pillar": "a:b",
            "pillar_pcre": "a:.*", "pillar_exact": "a:b", "nodegroup": "all", "range": "%all",
            "pcre": ".*", "ipcidr": "0.0.0.0/0", "node": "db1", "GLOB": "db1",
        }.items()
    },
    "an unknown type of target": (400, {**LOCAL, "tgt_type": ["glob"]}),
    "an old name of that": (400, {**LOCAL, "expr_form": "compound"}),
    "another function": (403, {**LOCAL, "fun": "cmd.run", "kwarg": {"cmd": "id"}}),
    "any state": (403, {**LOCAL, "fun": "state.apply", "kwarg": {"mods": "shop.deployed"}}),
    "a name that begins alike": (403, {**LOCAL, "fun": "test.pingx"}),
    "publishing from the minion": (403, {**LOCAL, "fun": "publish.publish"}),
    "a list of functions": (400, {**LOCAL, "fun": ["test.ping", "cmd.run"], "arg": [[], ["id"]]}),
    "functions with commas": (400, {**LOCAL, "fun": "test.ping,cmd.run", "arg": [[], ["id"]]}),
    "what Salt allows to all": (400, {**LOCAL, "tgt": "db1", "fun": "saltutil.find_job"}),
    "another app": (403, {**RUN, "kwarg": {"app": "blog", "version": "1"}}),
    "another version": (403, {**RUN, "kwarg": {"app": "shop", "version": "v1; id"}}),
    "a version with a tail": (403, {**RUN, "kwarg": {"app": "shop", "version": "v1\n"}}),
    "no version": (403, {**RUN, "kwarg": {"app": "shop"}}),
    "an app by position": (400, {**RUN, "kwarg": {}, "arg": ["blog", "1"]}),
    "an app behind the allowed": (400, {**RUN, "arg": ["app=blog"]}),
    "hidden keywords": (400, {**RUN, "arg": [{"__kwarg__": True, "app": "blog"}]}),
    "hidden deeper": (400, {**RUN, "arg": [[{"__kwarg__": True, "app": "blog"}]]}),
    "a dunder": (400, {**RUN, "kwarg": {**DEPLOYS, "__pub_user": "root"}}),
    "a pillar": (400, {**RUN, "kwarg": {**DEPLOYS, "pillar": {"a": 1}}}),
    "an environment": (400, {**RUN, "kwarg": {**DEPLOYS, "saltenv": "dev"}}),
    **{
        f"the client {client}": (400, {**LOCAL, "client": client})
        for client in (
            "ssh", "wheel", "wheel_async", "local_batch", "local_subset", "caller", "run",
            "destroy", "_prep_auth_info", "cloud", "", "LOCAL",
        )
    },
    "a runner of others": (403, {**RUNNER, "fun": "jobs.last_run"}),
    "results of others": (403, {"client": "runner", "fun": "jobs.list_jobs"}),
    "a runner behind": (403, {**RUNNER, "fun": "salt.cmd", "kwarg": {"fun": "cmd.run"}}),
    "a wheel by a runner": (403, {**RUNNER, "fun": "salt.wheel", "kwarg": {"fun": "key.accept"}}),
    "a runner by position": (400, {**RUNNER, "fun": "manage.status", "arg": [True, "a", "pcre"]}),
    **{
        f"the key {key}": (400, {**RUN, key: value})
        for key, value in {
            "ret": "syslog", "ret_config": "x", "ret_kwargs": {}, "metadata": {}, "batch": "1",
            "module_executors": ["sudo"], "executor_opts": {}, "token": "0" * 64, "subset": 1,
            "eauth": "rocksalt_file", "username": "ada", "password": "x", "user": "root",
            "jid": "../../x", "saltenv": "dev", "raw_shell": True, "key": "x", "auth_list": [".*"],
            "delimiter": ":", "ssh_priv": "x", "ssh_port": "22; id", "roster_file": "/etc/passwd",
            "ssh_options": ["ProxyCommand=id"], "pillar_roots": "x", "to": 1, "kwargs": {},
            "extra_mods": "x;id", "roster": "x", "match_type": "compound", "nodegroup": "all",
        }.items()
    },
    "no dictionary": (400, "test.ping"),
    "nothing": (400, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_an_escape_is_closed(api: Api, name: str) -> None:
    expected, low = ESCAPES[name]
    before = len(api.lines())
    answer = api.users["alice"].call(low)

    assert answer.status == expected, answer.text
    *asked, line = api.lines()[before:]
    assert [it["event"] for it in asked] == (["asked"] if expected == 403 else [])
    assert (line["event"], line["user"]) == ("refused", "alice")
    assert line["outcome"] == answer.said


def test_one_call_that_may_not_pass_stops_those_before_it(api: Api) -> None:
    before = len(api.lines())
    answer = api.users["alice"].call(LOCAL, {**LOCAL, "client": "wheel", "fun": "key.list_all"})

    assert answer.status == 400 and "call 2" in answer.said
    assert {line["event"] for line in api.lines()[before:]} == {"refused"}


def test_nobody_without_a_log_in_calls_anything(api: Api) -> None:
    tokens = ["", "0", "0" * 64, "../" * 20, "../../etc/passwd", "0" * 63 + "\t", "%00", "None"]
    stranger = api.caller()
    for stranger.token in tokens:
        assert stranger.call(LOCAL).status == 401
        assert stranger.ask("POST", "/logout").status == 401
    stranger.token = ""
    for low in (
        {**LOCAL, "token": "0" * 64}, {**LOCAL, "eauth": "auto"}, {"client": "wheel_async"},
        {**LOCAL, "client": "ssh", "token": "x"},
        {**LOCAL, "username": "alice", "password": api.passwords["alice"]},
    ):  # fmt: skip
        assert stranger.call(low).status == 401
    assert (
        stranger.ask("POST", "/", "[]", Cookie=f"session_id={api.users['ada'].token}").status == 401
    )


def test_the_token_of_salt_is_never_seen_and_good_for_nothing_here(api: Api) -> None:
    caller = api.caller("alice")
    held = tokens_of(api, "alice")

    assert held and caller.token not in held
    for token in held:
        assert Caller(api, token).call(LOCAL).status == 401
    assert held.isdisjoint(word for line in api.log.read_text().split('"') for word in [line])


def test_a_session_ends_with_its_log_out_and_the_token_of_salt_with_it(api: Api) -> None:
    held = tokens_of(api, "oscar")
    caller, other = api.caller("oscar"), api.caller("oscar")
    mine = {token for token in tokens_of(api, "oscar") if token not in held}
    assert len(mine) == 2 and caller.call(LOCAL).status == 200
    assert caller.ask("POST", "/logout").status == 200

    assert caller.call(LOCAL).status == 401
    assert caller.ask("POST", "/logout").status == 401
    assert len(mine & tokens_of(api, "oscar")) == 1
    assert other.call(LOCAL).status == 200


def test_the_id_of_a_session_is_never_one_that_the_caller_chose(api: Api) -> None:
    caller = api.caller("alice")
    before = caller.token
    assert caller.log_in("alice").status == 200 and caller.token != before
    chosen = Caller(api, "f" * 64)
    assert chosen.log_in("alice").status == 200 and chosen.token != "f" * 64


def test_a_token_that_ended_at_the_master_ends_the_session(api: Api) -> None:
    held = tokens_of(api, "alice")
    caller = api.caller("alice")
    [token] = tokens_of(api, "alice") - held
    tokens = salt.auth.LoadAuth(dict(api.master.config))
    expired = {**tokens.get_tok(token), "expire": time.time() - 1}
    if hasattr(tokens, "cache"):
        tokens.cache.store("tokens", token, expired)
    else:
        path = Path(api.master.config["token_dir"]) / token
        path.write_bytes(salt.payload.dumps(expired))

    assert caller.call(LOCAL).status == 401
    assert caller.call(LOCAL).said == "log in first, and send the token as X-Auth-Token"


def tokens_of(api: Api, user: str) -> set[str]:
    tokens = salt.auth.LoadAuth(dict(api.master.config))
    return {it for it in tokens.list_tokens() if tokens.get_tok(it).get("name") == user}


def test_a_password_is_good_at_the_door_alone(api: Api) -> None:
    opts = dict(api.master.config)
    words = {"eauth": "rocksalt_file", "username": "alice", "password": api.passwords["alice"]}
    assert not salt.auth.Resolver(opts).mk_token(dict(words))
    with (
        salt.client.get_local_client(mopts=opts) as client,
        pytest.raises(salt.exceptions.AuthenticationError),
    ):
        client.cmd("web1", "test.ping", ret="syslog", **words)


FORGED = {"tgt": "web1", "fun": "test.ping", "arg": [], "ret": "", "jid": "", "user": "root"}
WORDS = {"username": "root", "password": "x"}
STRAIGHT: dict[str, dict[str, Any]] = {
    "CVE-2020-11651, the root key": {"cmd": "_prep_auth_info"},
    "CVE-2020-11651, publishing": {"cmd": "_send_pub", **FORGED},
    "CVE-2020-11652, a file by a wheel": {
        "cmd": "wheel", "fun": "file_roots.read", "path": "../../etc/passwd", "saltenv": "base",
    },
    "CVE-2021-25281, a wheel unasked": {"cmd": "wheel", "fun": "key.accept", "eauth": "auto"},
    "CVE-2021-25282, a file by pillar_roots": {
        "cmd": "wheel", "fun": "pillar_roots.write", "data": "x", "path": "../x", "token": "0" * 64,
    },
    "CVE-2020-25592, any log-in": {"cmd": "runner", "fun": "jobs.list_jobs", "eauth": "auto"},
    "CVE-2021-3144, a token of long ago": {"cmd": "publish", **FORGED, "token": "0" * 64},
    "CVE-2022-22967, by PAM": {"cmd": "mk_token", "eauth": "pam", **WORDS},
    "CVE-2024-38825, by a certificate": {"cmd": "mk_token", "eauth": "pki", **WORDS},
    "a log-in that the options do not name": {"cmd": "mk_token", "eauth": "file", **WORDS},
    "a log-in past the door": {"cmd": "mk_token", "eauth": "rocksalt_file", **WORDS},
    "a token outside of its folder": {
        "cmd": "runner", "fun": "jobs.list_jobs", "kwarg": {}, "token": "../../../../etc/passwd",
    },
    "a runner unasked": {"cmd": "runner", "fun": "jobs.list_jobs", "kwarg": {}},
    "a key that is a guess": {"cmd": "publish", **FORGED, "key": "x"},
    "a token's data by a guess": {"cmd": "get_token", "token": "../tokens/x"},
}  # fmt: skip


@pytest.mark.parametrize("name", STRAIGHT)
def test_the_port_for_minions_is_no_way_round_the_door(api: Api, name: str) -> None:
    before = (api.folder / "log.jsonl").stat().st_size
    answer = straight(api, STRAIGHT[name])

    refused = not answer or answer == "bad load" or "error" in answer
    assert refused and "return" not in answer, answer
    assert not list(Path(api.master.config["root_dir"]).rglob("pillar/x"))
    assert (api.folder / "log.jsonl").stat().st_size == before


@pytest.mark.parametrize("cmd", ["wheel", "runner", "publish"])
def test_a_password_is_no_right_at_that_port(api: Api, cmd: str) -> None:
    words = {"eauth": "rocksalt_file", "username": "pat", "password": api.passwords["pat"]}
    fun = {"wheel": "key.list_all", "runner": "manage.status", "publish": "test.ping"}[cmd]
    load = {**FORGED, "cmd": cmd, "fun": fun, "kwarg": {}, "kwargs": words, **words}
    assert set(straight(api, load)) == {"error"}


def straight(api: Api, load: dict[str, Any]) -> Any:
    """What the master itself answers to somebody who asks it without a key."""
    opts = {**api.master.config, "request_channel_timeout": 5, "request_channel_tries": 1}
    uri = f"tcp://{opts['interface']}:{opts['ret_port']}"
    with salt.channel.client.ReqChannel.factory(opts, crypt="clear", master_uri=uri) as channel:
        return channel.send(load, tries=1, timeout=15)


GARBAGE: list[Any] = [
    b"", b"\xc1", b"x" * 100_000, "text", 7, [], {}, {"enc": "clear"}, {"enc": "aes", "load": b"x"},
    {"enc": "clear", "load": "x"}, {"enc": "clear", "load": {}}, {"enc": "pub", "load": b"\0" * 64},
    {"enc": "clear", "load": {"cmd": "_auth"}}, {"enc": "clear", "load": {"cmd": ["_auth"]}},
    {"enc": "clear", "load": {"cmd": "_auth", "id": "../../x", "pub": 1, "version": 99}},
    {"enc": "clear", "load": {"cmd": "mk_token"}}, {"enc": "clear", "load": {"cmd": "__init__"}},
]  # fmt: skip


def test_garbage_at_the_port_for_minions_stops_nobody(api: Api) -> None:
    """CVE-2023-20897 and the like: more of each than there are processes to end by it."""
    opts = api.master.config
    with zmq.Context() as context:
        for one in GARBAGE:
            sent = one if isinstance(one, bytes) else salt.payload.dumps(one)
            ends = [context.socket(zmq.REQ) for _ in range(opts["worker_threads"] + 1)]
            for end in ends:
                end.linger = 0
                end.connect(f"tcp://{opts['interface']}:{opts['ret_port']}")
                end.send(sent)
            for end in ends:
                if end.poll(500):
                    assert b"Traceback" not in end.recv()
                end.close()
    assert api.users["alice"].call(LOCAL).said == [{"web1": True}]


def test_a_minion_publishes_nothing(api: Api) -> None:
    for fun, arg in (("publish.publish", ["*", "test.ping"]), ("publish.runner", ["manage.up"])):
        done = api.minion.salt_call_cli().run(fun, *arg)
        assert not done.data, done


# The default-deny matrix --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(api: Api) -> list[str]:
    """Every function that the minion has."""
    found: list[str] = api.master.salt_cli().run("sys.list_functions", minion_tgt="web1").data
    assert len(found) > 800 and "deploy.run" in found and "cmd.run" in found
    return found


def rights_of(user: str) -> set[str]:
    role = settings()["roles"][GRANTS[user]["role"]]
    return {*role["functions"], *(["deploy.run"] if role.get("deploys") else [])}


def passing(low: dict[str, Any], auth_list: list[Any], checker: Any) -> bool:
    """Whether a call gets to a minion: by the door, and by Salt as its master asks it."""
    if refusal([low], Rules(CLIENTS)):
        return False
    kwarg = low.get("kwarg")
    args = [*low.get("arg", ()), *([{"__kwarg__": True, **kwarg}] if kwarg else [])]
    minions = checker.check_minions(low["tgt"], "glob")["minions"]
    answer = checker.auth_check(
        auth_list, low["fun"], args, low["tgt"], minions=minions, whitelist=["saltutil.find_job"]
    )
    assert isinstance(answer, bool)
    return answer


@pytest.mark.parametrize("user", GRANTS)
def test_of_all_functions_those_of_the_role_are_allowed(
    api: Api, loaded: list[str], user: str
) -> None:
    checker = salt.utils.minions.CkMinions(dict(api.master.config))
    look = functools.lru_cache(maxsize=None)(checker.check_minions)
    # Salt looks the same few targets up for each function.
    checker.check_minions = lambda expr, tgt_type="glob", *_, **__: look(expr, tgt_type)
    rights = compiled.compile(settings(), dt.datetime.now(dt.timezone.utc))["external_auth"]
    auth_list = checker.fill_auth_list(rights["rocksalt_file"], user, [])
    allowed = {
        (tgt, fun)
        for tgt in ("web1", "db1", "*")
        for fun in [*loaded, "x.y"]
        for arguments in ({}, {"kwarg": DEPLOYS}, {"arg": ["shop", "v1.2"]})
        if passing({"client": "local", "tgt": tgt, "fun": fun, **arguments}, auth_list, checker)
    }

    targets = ("web1", "db1", "*") if user == "ada" else ("web1",)
    declared = rights_of(user) & set(loaded)
    assert declared and allowed == {(tgt, fun) for tgt in targets for fun in declared}


def test_the_functions_of_the_shipped_roles_exist(loaded: list[str]) -> None:
    assert set().union(*map(rights_of, GRANTS)) <= set(loaded)


# Log-ins ------------------------------------------------------------------------------------------


def test_two_hundred_guesses_are_limited_however_many_come_at_once(api: Api) -> None:
    user, source = GUESSED[0], address()
    found: list[int] = []

    def guess() -> None:
        caller = api.caller(source=source)
        found.extend(caller.log_in(user, f"guess {n}").status for n in range(25))

    threads = [threading.Thread(target=guess) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(found), found.count(401), found.count(429)) == (200, 5, 195)
    # The right password is no way to find out, and those who are elsewhere are not kept out.
    answer = api.caller(source=source).log_in(user)
    assert answer.status == 429 and 0 < int(answer.headers["retry-after"]) <= 900
    assert api.caller().log_in(user).status == 200
    assert api.caller(source=source).log_in("alice").status == 429
    assert api.caller().log_in("alice").status == 200
    noted = [line for line in api.lines() if line["source"] == source]
    assert {line["event"] for line in noted} == {"login-refused", "limited"} and len(noted) <= 65


def test_a_failure_takes_as_long_for_who_does_not_exist(api: Api) -> None:
    took = {user: [] for user in ("oscar", GUESSED[1])}
    answers = set()
    for user, times in took.items():
        caller = api.caller()
        for _ in range(2):
            start = time.monotonic()
            answer = caller.log_in(user, "wrong")
            times.append(time.monotonic() - start)
            answers.add((answer.status, answer.text))

    assert len(answers) == 1 and {status for status, _ in answers} == {401}
    assert min(map(min, took.values())) > 0.6


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"username": "alice"}, 400),
        ({"username": "alice", "password": "x", "eauth": "pam"}, 400),
        ({"username": "alice", "password": "x", "eauth": "auto"}, 400),
        ({"username": "alice", "password": "x", "token_expire": 10**9}, 400),
        ({"username": "alice", "password": "x", "token": "x"}, 400),
        ({"username": ["alice"], "password": "x"}, 400),
        ({"username": "alice", "password": {"a": 1}}, 400),
        ({"username": "*", "password": "x"}, 401),
        ({"username": "deployers%", "password": "x"}, 401),
        ({"username": "alice", "password": ""}, 401),
        ({"username": "alice\n", "password": "x"}, 401),
        ([{"username": "alice", "password": "x"}], 400),
        (None, 400),
    ],
)
def test_an_odd_log_in_is_refused(api: Api, words: Any, expected: int) -> None:
    assert api.caller().ask("POST", "/login", json.dumps(words)).status == expected


# HTTP and TLS -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("run", "events", "ws", "hook", "keys", "jobs", "minions", "stats", "token", "app"),
        *("static", "index", "login/", "logout/", "./", "%2e%2e", "login%2f", "favicon.ico"),
        "..%2f..%2fetc%2fpasswd",
    ],
)
def test_there_is_nothing_else(api: Api, path: str) -> None:
    caller = api.users["pat"]
    for method in ("GET", "POST"):
        answer = caller.ask(method, f"/{path}", "[]" if method == "POST" else None)
        assert answer.status in (400, 404), (method, answer.text)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        *((method, "/", 405) for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "X")),
        *((method, "/login", 405) for method in ("GET", "OPTIONS", "PUT")),
        ("GET", "/logout", 405),
        ("GET", "/", 200),
    ],
)
def test_other_methods_are_refused_plainly(api: Api, method: str, path: str, expected: int) -> None:
    answer = api.caller().ask(method, path, Origin="https://evil.example")
    assert answer.status == expected
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cache-control"] == "no-store"
    assert expected == 200 or answer.headers["allow"]


def test_a_head_has_no_body(api: Api) -> None:
    caller = api.caller()
    caller.connection.request("HEAD", "/")
    got = caller.connection.getresponse()
    assert (got.status, got.read()) == (405, b"")


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"- client: local", "application/x-yaml", 415),
        (b"- client: local", "text/yaml", 415),
        (b"client=local&tgt=web1&fun=test.ping", "application/x-www-form-urlencoded", 415),
        (b"[]", "text/plain", 415),
        (b"[]", "application/json; charset=utf-16", 415),
        (b"", "application/json", 400),
        (b"[", "application/json", 400),
        (b"\xff\xfe[]", "application/json", 400),
        (b"[NaN]", "application/json", 400),
        (b"[1e999]", "application/json", 400),
        (b'[{"client":"local","client":"wheel"}]', "application/json", 400),
        (b"[" * 60000, "application/json", 400),
        (b"[" * 20 + b"]" * 20, "application/json", 400),
        (b"[" + b"9" * 5000 + b"]", "application/json", 400),
        (b"[" + b"0," * 30000 + b"0]", "application/json", 400),
        (b'["\\ud800"]', "application/json", 400),
        (b"[" + b" " * 65536 + b"]", "application/json", 413),
        (b"x" * 10_000_000, "application/json", 413),
    ],
)
def test_a_wrong_body_is_refused(api: Api, body: bytes, kind: str, expected: int) -> None:
    caller = Caller(api, api.users["alice"].token)
    try:
        assert caller.ask("POST", "/", body, Content_Type=kind).status == expected
    except (ConnectionError, ssl.SSLEOFError):
        assert len(body) > 1_000_000, "the connection may end only under a body far too large"


def test_random_bodies_never_do_harm(api: Api) -> None:
    chance = random.Random(2026)
    caller = Caller(api, api.users["alice"].token)
    before = len(api.lines())
    for _ in range(300):
        answer = caller.ask("POST", "/", fuzzed(chance))
        assert answer.status in (400, 401, 403), answer.text
        assert set(json.loads(answer.text)) == {"status", "return"}
    assert caller.call(LOCAL).said == [{"web1": True}]
    assert {line["event"] for line in api.lines()[before:]} == {"refused", "asked", "call"}


def fuzzed(chance: random.Random) -> bytes:
    """A body that is almost a call, or far from it, and none that is allowed."""
    odd: list[Any] = [
        None, True, 0, -1, 2**70, 1.5, "", "*", "web1", "db1", "\0", "é\u202e", "a" * 300, [], {},
        [[]], ["web1"], {"a": []}, "wheel", "../../x", "${jndi:x}", "';--", "__kwarg__", "cmd.run",
    ]  # fmt: skip
    low = {**LOCAL, "fun": "cmd.run", "kwarg": {"cmd": "id"}}
    for _ in range(chance.randint(1, 4)):
        name = chance.choice([*low, "ret", "arg", "timeout", "full_return", "x", "__x"])
        value = chance.choice(odd)
        if (name, value) != ("fun", "test.ping"):
            low[name] = value
    body = json.dumps(chance.choice([[low], low, [low, [low]], [[low]]])).encode()
    kind = chance.random()
    if kind < 0.3:
        cut = chance.randrange(len(body))
        return body[:cut] + bytes(chance.choices(range(256), k=3)) + body[cut + 1 :]
    if kind < 0.4:
        return bytes(chance.choices(range(256), k=chance.randint(1, 300)))
    return body


def raw(api: Api, *parts: bytes, secure: bool = True) -> bytes:
    """What comes back for these bytes, until that is JSON or the connection ends."""
    end: socket.socket = socket.create_connection(("127.0.0.1", api.port), timeout=30)
    if secure:
        end = api.trust.wrap_socket(end, server_hostname="127.0.0.1")
    got = b""
    with end, contextlib.suppress(OSError):
        for part in parts:
            end.sendall(part)
        while not got.endswith(b"}") and (more := end.recv(65536)):
            got += more
    return got


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GARBAGE\r\n\r\n", b" 400 "),
        (b"GET / HTTP/9.9\r\n\r\n", b" 505 "),
        (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", b" 414 "),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70000 + b"\r\n\r\n", b" 413 "),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 9000 + b"\r\n", b" 413 "),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", b" 400 "),
        (b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\nConnection: close\r\n\r\n",
         b" 400 "),
        (b"POST /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b" 411 "),
        (b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
         b"\r\n0\r\n\r\n", b" 411 "),
        (b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n"
         b"Connection: close\r\n\r\n0\r\n\r\n", b" 411 "),
    ],
)  # fmt: skip
def test_what_is_no_http_is_refused_plainly(api: Api, sent: bytes, expected: bytes) -> None:
    got = raw(api, sent)
    head, _, body = got.partition(b"\r\n\r\n")
    assert expected in head.splitlines()[0], got
    assert b"application/json" in head and set(json.loads(body)) == {"status", "return"}


def test_plain_http_has_no_answer(api: Api) -> None:
    assert b"HTTP" not in raw(api, b"GET / HTTP/1.0\r\n\r\n", secure=False)
    noise = "".join(random.Random(7).choices(string.printable, k=2000)).encode()
    assert b"HTTP" not in raw(api, noise, secure=False)


def handshake(api: Api, lowest: ssl.TLSVersion, highest: ssl.TLSVersion, ciphers: str = "") -> str:
    context = ssl.create_default_context(cafile=str(api.folder / "api.pem"))
    context.set_ciphers(ciphers or "ALL:@SECLEVEL=0")
    with contextlib.suppress(ValueError):
        context.minimum_version, context.maximum_version = lowest, highest
    with (
        socket.create_connection(("127.0.0.1", api.port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        return str(secure.version())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls_is_refused_by_the_server(api: Api) -> None:
    version = ssl.TLSVersion
    for old in (version.TLSv1, version.TLSv1_1):
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            handshake(api, old, old)
    assert handshake(api, version.TLSv1_2, version.TLSv1_2) == "TLSv1.2"
    assert handshake(api, version.TLSv1_2, version.TLSv1_3) == "TLSv1.3"
    for weak in ("AES128-SHA256", "ECDHE-ECDSA-AES128-SHA256", "AES256-GCM-SHA384"):
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
            handshake(api, version.TLSv1_2, version.TLSv1_2, weak)


def test_silent_and_slow_connections_of_some_stop_nobody(api: Api) -> None:
    with contextlib.ExitStack() as stack:
        for source in [address() for _ in range(4)]:
            for number in range(12):
                with contextlib.suppress(ConnectionError):
                    one = socket.create_connection(("127.0.0.1", api.port), 5, (source, 0))
                    stack.enter_context(one)
                    one.sendall(b"\x16\x03\x01"[: number % 4])
        start = time.monotonic()
        assert api.caller().ask("GET", "/").status == 200
        assert time.monotonic() - start < 8


def test_nothing_secret_is_in_the_lines(api: Api) -> None:
    api.users["alice"].call({**RUN, "password": "hunter2-1", "kwarg": {"token": "hunter2-2"}})
    api.users["alice"].call({**LOCAL, "fun": "cmd.run", "arg": ["db_password=hunter2-3"]})
    api.users["alice"].call({**LOCAL, "fun": "cmd.run", "kwarg": {"env": {"API_KEY": "hunter2-4"}}})
    text = api.log.read_text()

    assert "hunter2" not in text and text.count("***") >= 3
    assert not [word for word in api.passwords.values() if word in text]
    assert not [one.token for one in api.users.values() if one.token in text]
    assert (api.log.stat().st_mode & 0o777) in (0o640, 0o600)

"""Which calls pass the door: a table of both kinds, and that nothing else gets through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocksalt.access.door import bodies
from rocksalt.access.door.errors import Refused
from rocksalt.access.door.filter import CLIENTS, KEYS, NEVER, Rules, refusal

RULES = Rules(CLIENTS)
PING = {"client": "local", "tgt": "web1", "fun": "test.ping"}
RUN = {**PING, "fun": "deploy.run"}
RUNNER = {"client": "runner", "fun": "access.can"}


def status(name: Any) -> dict[str, Any]:
    return {**PING, "fun": "service.status", "kwarg": {"name": name}}


def manage(**kwarg: Any) -> dict[str, Any]:
    return {**RUNNER, "fun": "manage.status", "kwarg": kwarg}


@pytest.mark.parametrize(
    "call",
    [
        PING,
        {**PING, "client": "local_async"},
        {**PING, "tgt": "*"},
        {**PING, "tgt": "web[1-3].example-*.org?"},
        {**PING, "tgt": "web1,web2", "tgt_type": "list"},
        {**PING, "tgt": ["web1", "db-1.example.org"], "tgt_type": "list"},
        {**PING, "tgt_type": "glob", "timeout": 60, "full_return": True},
        {**PING, "arg": []},
        {**RUNNER, "arg": ["a", 1, 2.5, None, True, {"a": ["b"]}, "a==b", "1=2", "a b=c"]},
        {**RUNNER, "kwarg": {"arg": ["x"], "kwarg": {"app": "shop"}, "tgt_type": "list"}},
        {**PING, "kwarg": {"app": "shop", "version": "v1=2", "test": True, "timeout": 3}},
        {**RUN, "kwarg": {"version": "1" * 64}},
        {**PING, "fun": "cmd.run", "kwarg": {"cmd": "-x", "stdin": "-"}},
        status("getty@tty-1.service"),
        manage(),
        manage(tgt="web*"),
        manage(tgt=["web1"], tgt_type="list"),
        {**PING, "fun": "service.status", "kwarg": {"name": "nginx", "sig": -1}},
        {**RUNNER, "kwarg": {"user": "alice", "fun": "test.ping", "tgt": "web1"}},
        {**RUNNER, "client": "runner_async", "arg": ["alice"]},
        {**RUNNER, "timeout": 30, "full_return": False},
    ],
)
def test_an_ordinary_call_passes(call: dict[str, Any]) -> None:
    assert refusal([call], RULES) == ""


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ({**PING, "client": "wheel"}, "client 'wheel' is not served here"),
        ({**PING, "client": "ssh"}, "client 'ssh' is not served here"),
        ({**PING, "client": ["local"]}, "client ['local'] is not served"),
        ({"tgt": "web1", "fun": "test.ping"}, "client None is not served"),
        ({**PING, "ret": "mysql"}, "'ret' may not be given with client local"),
        ({**PING, "module_executors": ["x"]}, "'module_executors' may not be given"),
        ({**PING, "client": "local_async", "full_return": True}, "'full_return' may not be"),
        ({**RUNNER, "tgt": "web1"}, "'tgt' may not be given with client runner"),
        ({**RUNNER, "client": "runner_async", "timeout": 3}, "'timeout' may not be given"),
        ({**PING, "fun": ["test.ping"]}, "fun ['test.ping'] is not the name of one function"),
        ({**PING, "fun": "test.ping,cmd.run"}, "is not the name of one function"),
        ({**PING, "fun": "test.ping\n"}, "is not the name of one function"),
        ({**PING, "fun": "Test.ping"}, "is not the name of one function"),
        ({**PING, "fun": "a.b.c"}, "is not the name of one function"),
        ({**PING, "fun": "ping"}, "is not the name of one function"),
        ({**PING, "fun": "t\u00e9st.ping"}, "is not the name of one function"),
        ({**PING, "fun": "saltutil.find_job"}, "may not be called from here"),
        ({**PING, "tgt": "web1 or db1"}, "is no minion id or glob"),
        ({**PING, "tgt": "G@os:Debian"}, "is no minion id or glob"),
        ({**PING, "tgt": ""}, "is no minion id or glob"),
        ({**PING, "tgt": ["web1"]}, "several need tgt_type list"),
        ({"client": "local", "fun": "test.ping"}, "tgt None is no minion id"),
        ({**PING, "tgt_type": "compound"}, "tgt_type 'compound' may not be used"),
        ({**PING, "tgt_type": "list", "tgt": ["web*"]}, "tgt 'web*' is no minion id"),
        ({**PING, "tgt_type": "list", "tgt": "web1,"}, "tgt '' is no minion id"),
        ({**PING, "tgt_type": "list", "tgt": []}, "list of at most 1000 minion ids"),
        ({**PING, "tgt_type": "list", "tgt": {"web1": 1}}, "list of at most 1000 minion ids"),
        ({**PING, "tgt_type": "list", "tgt": ["web1"] * 1001}, "list of at most 1000"),
        ({**PING, "arg": "a"}, "arg has to be a list"),
        ({**PING, "arg": [1]}, "arg may not be given; put each argument into kwarg by its name"),
        ({**PING, "fun": "saltutil.sync_all", "arg": [True, "dev"]}, "arg may not be given"),
        ({**PING, "fun": "hardening.waivers", "arg": ["dev"]}, "arg may not be given"),
        ({**RUNNER, "kwarg": {"pillar": {}}}, "'pillar' may not be given in kwarg"),
        ({**RUNNER, "arg": ["pillar={}"]}, "argument 'pillar' has a name and belongs in kwarg"),
        ({**RUNNER, "arg": ["\u00fc.x-y=1\n2"]}, "has a name and belongs in kwarg"),
        ({**RUNNER, "arg": [{"__kwarg__": True}]}, "'__kwarg__' may not be given"),
        ({**RUNNER, "arg": [[{"a": {"__x": 1}}]]}, "'__x' may not be given"),
        ({**PING, "kwarg": []}, "kwarg has to be an object"),
        ({**PING, "kwarg": {"__opts__": {}}}, "'__opts__' may not be given"),
        ({**PING, "kwarg": {"a b": 1}}, "'a b' may not be given in kwarg"),
        ({**PING, "kwarg": {"pillar": {}}}, "'pillar' may not be given in kwarg"),
        ({**PING, "timeout": True}, "timeout True is no number of seconds"),
        ({**PING, "timeout": 7201}, "timeout 7201 is no number of seconds"),
        ({**PING, "timeout": "5"}, "timeout '5' is no number of seconds"),
        ({**PING, "full_return": 1}, "full_return has to be true or false"),
        ({**RUNNER, "arg": [2**63]}, "a whole number is too large"),
        ({**RUNNER, "arg": [float("inf")]}, "a number is not finite"),
        ({**RUNNER, "arg": ["a\0"]}, "is no text"),
        ({**RUNNER, "arg": ["\udc80"]}, "is no text"),
        ({**PING, "kwarg": {"\ud800": 1}}, "is no text"),
        ({**RUNNER, "arg": [0] * 2000}, "more than 2000 values"),
        ({**RUNNER, "arg": [[[[[[[[[[1]]]]]]]]]]}, "deeper than 8 levels"),
        (manage(tgt="(a+)+!", tgt_type="pcre"), "tgt_type 'pcre' may not be used"),
        (manage(tgt="E@(a+)+!", tgt_type="compound"), "tgt_type 'compound' may not be used"),
        (manage(tgt_type="pcre"), "tgt_type 'pcre' may not be used"),
        (manage(tgt="(a+)+!"), "is no minion id or glob"),
        ({**manage(), "arg": [True, "(a+)+!", "pcre"]}, "arg may not be given"),
        (status("--host=root@10.6.6.6/x"), "'name' may not begin with -"),
        (status(" --image=/x"), "'name' may not begin with -"),
        (status(["nginx", "-M"]), "'name' may not begin with -"),
        (status({"a": ["-M"]}), "'name' may not begin with -"),
        (status({"-M": 1}), "'name' may not begin with -"),
        ({**status("-a"), "fun": "service.restart"}, "'name' may not begin with -"),
        ({**RUN, "kwarg": {"version": "1" * 65}}, "is longer than 64 letters"),
        ({**RUN, "kwarg": {"version": ["1" * 60000]}}, "is no text; as JSON it has quotes"),
        ({**RUN, "kwarg": {"version": 1.1}}, "version 1.1 is no text; as JSON it has quotes"),
        ("test.ping", "a call has to be an object"),
    ],
)
def test_another_call_does_not(call: Any, why: str) -> None:
    assert why in refusal([call], RULES)


@pytest.mark.parametrize("name", sorted(NEVER))
def test_what_salt_takes_beside_the_function_is_no_keyword(name: str) -> None:
    assert "may not be given" in refusal([{**PING, "kwarg": {name: "x"}}], RULES)


@pytest.mark.parametrize("low", [None, {}, [], PING, "x", 7])
def test_a_body_is_a_list_of_calls(low: Any) -> None:
    assert refusal(low, RULES) == "the body has to be a list of calls"


def test_one_wrong_call_is_named_among_others() -> None:
    assert refusal([PING, PING, {**PING, "tgt": "!"}], RULES) == ""
    assert refusal([PING, {**PING, "tgt": "@"}], RULES).startswith("call 2: tgt '@' is no")
    assert refusal([PING] * 9, RULES).startswith("9 calls are too many")


def test_clients_that_are_not_enabled_are_refused() -> None:
    rules = Rules(frozenset({"local"}))
    assert refusal([PING], rules) == ""
    assert refusal([RUNNER], rules) == "client 'runner' is not served here; those are: local"
    assert "those are: none" in refusal([PING], Rules(frozenset()))
    assert "wheel" in refusal([{"client": "wheel", "fun": "key.x"}], Rules(frozenset({"wheel"})))


def test_a_sentence_stays_short_and_plain_whatever_was_sent() -> None:
    why = refusal([{**PING, "fun": "\n\x1b[31m" + "é" * 9000}], RULES)
    assert len(why) < 200 and why.isprintable() and why.isascii()


KEY = st.sampled_from(
    [*sorted(KEYS["local"]), "ret", "token", "metadata", "batch", "__kwarg__", "jid", "user"]
)
LEAF = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["local", "runner", "web1", "*", "test.ping", "glob", "list", "a=b"])
)
VALUE = st.recursive(
    LEAF, lambda of: st.lists(of, max_size=3) | st.dictionaries(KEY | st.text(), of, max_size=3)
)
CALL = st.dictionaries(KEY, VALUE, max_size=5).map(lambda more: {**PING, **more})


def keys(value: Any) -> Iterator[str]:
    """Every key below a value."""
    if isinstance(value, dict):
        yield from value
    for it in value.values() if isinstance(value, dict) else value:
        if isinstance(it, (dict, list)):
            yield from keys(it)


@settings(max_examples=150, deadline=None)
@given(st.lists(CALL | VALUE, max_size=3))
def test_nothing_unknown_is_ever_in_what_passes(low: list[Any]) -> None:
    if refusal(low, RULES):
        return
    for call in low:
        assert set(call) <= KEYS[call["client"]]
        assert call["fun"].count(".") == 1 and "," not in call["fun"]
        assert call.get("tgt_type", "glob") in ("glob", "list")
        assert NEVER.isdisjoint(call.get("kwarg", {}))
        assert not [key for key in keys(call) if key.startswith("__")]
        json.dumps(call, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("body", "kind", "accepted", "status"),
    [
        (b"[]", "", (bodies.JSON,), 415),
        (b"[]", "text/plain", (bodies.JSON, bodies.FORM), 415),
        (b"[]", "application/json; charset=latin-1", (bodies.JSON,), 415),
        (b"a=1", bodies.FORM, (bodies.JSON,), 415),
        (b"", bodies.JSON, (bodies.JSON,), 400),
        (b"[1,]", bodies.JSON, (bodies.JSON,), 400),
        (b'{"a":1,"a":2}', bodies.JSON, (bodies.JSON,), 400),
        (b"[-Infinity]", bodies.JSON, (bodies.JSON,), 400),
        (b"\xff", bodies.JSON, (bodies.JSON,), 400),
        (b"\xef\xbb\xbf[]", bodies.JSON, (bodies.JSON,), 400),
        (b"[" * 100_000, bodies.JSON, (bodies.JSON,), 400),
        (b"a=1&a=2", bodies.FORM, (bodies.FORM,), 400),
        (b"a=%ff", bodies.FORM, (bodies.FORM,), 400),
        (b"a", bodies.FORM, (bodies.FORM,), 400),
        (b"&".join(b"a%d=1" % n for n in range(9)), bodies.FORM, (bodies.FORM,), 400),
    ],
)
def test_a_body_that_is_not_well_formed_is_refused(
    body: bytes, kind: str, accepted: tuple[str, ...], status: int
) -> None:
    with pytest.raises(Refused) as caught:
        bodies.parsed(body, kind, accepted)
    assert caught.value.status == status


def test_bodies_are_read() -> None:
    assert bodies.parsed(b'[{"a": "\xc3\xa9"}]', "Application/JSON; charset=UTF-8") == [{"a": "é"}]
    form = bodies.parsed(b"username=a&password=b%20%3D&eauth=", bodies.FORM, (bodies.FORM,))
    assert form == {"username": "a", "password": "b =", "eauth": ""}

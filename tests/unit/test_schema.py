"""rocksalt.schema: values against their description, in sentences."""

from __future__ import annotations

import pytest

from rocksalt import schema

PORTS = {"type": "list", "items": {"type": "integer", "min": 1, "max": 65535}, "min": 1}
GROUPS = {"type": "list", "items": {"type": "string", "format": "group"}}
CIPHERS = {"type": "list", "items": {"type": "string", "choices": ["aes256-ctr", "aes128-ctr"]}}
HOURS = {"type": "mapping", "values": {"type": "integer"}}
SERVICE = {
    "type": "mapping",
    "fields": {
        "tcp": PORTS,
        "from": {"type": "string", "choices": ["world", "office"], "required": True},
        "limit": {"type": "mapping", "fields": {"burst": {"type": "integer", "required": True}}},
    },
}
SERVICES = {"type": "mapping", "values": SERVICE}


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ({"type": "boolean"}, False),
        ({"type": "integer", "min": 0, "max": 0}, 0),
        ({"type": "string", "min": 3, "max": 3}, "abc"),
        ({"type": "string", "pattern": "none|/.+"}, "/bin/true"),
        ({"type": "string", "format": "address"}, "2001:db8::1"),
        ({"type": "string", "format": "network"}, "10.0.0.0/8"),
        (PORTS, [1, 65535]),
        (GROUPS, ["sudo", "_admins"]),
        (CIPHERS, []),
        (HOURS, {"mon": 8}),
        (SERVICE, {"from": "world"}),
        (SERVICES, {"ssh": {"tcp": [22], "from": "office", "limit": {"burst": 4}}}),
        ({"type": "list", "items": SERVICE}, [{"from": "world"}, {"from": "office"}]),
        ({**SERVICE, "values": {"type": "integer"}}, {"from": "world", "other": 1}),
    ],
)
def test_right(spec, value):
    assert schema.problems(value, spec, "p") == []


@pytest.mark.parametrize(
    ("spec", "value", "sentences"),
    [
        ({"type": "boolean"}, "yes", ["p: 'yes' is not true or false"]),
        ({"type": "boolean"}, 1, ["p: 1 is not true or false"]),
        ({"type": "integer"}, True, ["p: True is not a whole number"]),
        ({"type": "integer"}, "22", ["p: '22' is not a whole number"]),
        ({"type": "integer", "min": 5}, 4, ["p: 4 is less than 5"]),
        ({"type": "integer", "max": 5}, 6, ["p: 6 is more than 5"]),
        ({"type": "string", "min": 1}, "", ["p: '' is less than 1 characters"]),
        ({"type": "string", "pattern": "a+"}, "aab", ["p: 'aab' does not match a+"]),
        ({"type": "list"}, "a", ["p: 'a' is not a list; write ['a']"]),
        ({"type": "list"}, [1], ["p:0: 1 is not a string"]),
        ({"type": "mapping"}, [], ["p: [] is not a mapping"]),
        (PORTS, [], ["p: [] is less than 1 entries"]),
        (PORTS, [22, 70000], ["p:1: 70000 is more than 65535"]),
        (PORTS, [22, 22], ["p: 22 is listed twice"]),
        (GROUPS, ["Domain Users"], ["p:0: 'Domain Users' is not a group name"]),
        (CIPHERS, ["aes256-crt"], ["p:0: 'aes256-crt' is not known; did you mean 'aes256-ctr'?"]),
        (CIPHERS, ["rot13"], ["p:0: 'rot13' is not known; known are aes128-ctr, aes256-ctr"]),
        (HOURS, {"mon": "eight"}, ["p:mon: 'eight' is not a whole number"]),
        (SERVICE, {}, ["p:from: is missing"]),
        (SERVICES, {"ssh": None}, ["p:ssh: is empty: write a mapping, or leave it out"]),
        (
            SERVICES,
            {"ssh": {"tcp": [0], "from": "ofice"}},
            [
                "p:ssh:tcp:0: 0 is less than 1",
                "p:ssh:from: 'ofice' is not known; did you mean 'office'?",
            ],
        ),
        (
            SERVICES,
            {"ssh": {"form": "world"}},
            [
                "p:ssh:from: is missing",
                "p:ssh:form: no such key; did you mean 'from'?",
            ],
        ),
        (SERVICE, {"from": "world", "to": 1}, ["p:to: no such key; known are from, limit, tcp"]),
        (
            SERVICE,
            {"from": "world", True: 1},
            ["p:True: the key True is not a string; put it in quotes"],
        ),
        (HOURS, {5: 8}, ["p:5: the key 5 is not a string; put it in quotes"]),
        (
            SERVICES,
            {443: None, "ssh": {"from": "world", "limit": {"burst": 1, 22: 1}}},
            [
                "p:443: the key 443 is not a string; put it in quotes",
                "p:ssh:limit:22: the key 22 is not a string; put it in quotes",
            ],
        ),
        (
            {**SERVICE, "values": {"type": "integer"}},
            {"from": "world", None: 1},
            ["p:None: the key None is not a string; put it in quotes"],
        ),
        (SERVICE, {"from": "world", "limit": {}}, ["p:limit:burst: is missing"]),
        ({"type": "list", "items": SERVICE}, [{}], ["p:0:from: is missing"]),
        (
            {**SERVICE, "values": {"type": "integer"}},
            {"from": "world", "other": "one"},
            ["p:other: 'one' is not a whole number"],
        ),
        ({"type": "string", "format": "address"}, "10.0.0.256", ["is not an IPv4 or IPv6"]),
        ({"type": "string", "format": "network"}, "10.0.0.1/8", ["is not a network such as"]),
    ],
)
def test_wrong(spec, value, sentences):
    found = schema.problems(value, spec, "p")
    assert len(found) == len(sentences)
    assert all(sentence in problem for sentence, problem in zip(sentences, found, strict=True))


@pytest.mark.parametrize(
    "key", ["-----BEGIN PRIVATE KEY-----", "AGE-SECRET-KEY-1QQ", "age-secret-key-1q"]
)
def test_a_private_key_is_in_no_error(key):
    spec = {"type": "list", "items": {"type": "string", "pattern": "age1.*"}}
    assert schema.problems([key], spec, "p") == ["p:0: *** does not match age1.*"]


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ({"type": "string"}, 4711),
        ({"type": "integer"}, "4711"),
        ({"type": "string", "max": 1}, "4711"),
        ({"type": "string", "pattern": "[a-z]+"}, "4711"),
        ({"type": "string", "choices": ["a"]}, "4711"),
        ({"type": "string", "format": "address"}, "4711"),
        ({"type": "list"}, ["4711", "4711"]),
        ({"type": "list", "items": {"type": "integer"}}, ["4711"]),
        ({"type": "mapping", "values": {"type": "integer"}}, {"door": "4711"}),
        (
            {"type": "mapping", "values": {"type": "list", "items": {"type": "boolean"}}},
            {"door": ["4711"]},
        ),
        ({"type": "mapping", "fields": {"door": {"type": "integer"}}}, {"door": "4711"}),
    ],
)
def test_a_secret_is_in_no_error(spec, value):
    found = schema.problems(value, {**spec, "secret": True}, "p")
    assert found
    assert "4711" not in " ".join(found)
    assert "***" in " ".join(found)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("text", "needs a type"),
        ({"type": "text"}, "needs a type, one of boolean, integer, string, list, mapping"),
        ({"type": "string", "defualt": ""}, "unknown key 'defualt'; did you mean 'default'?"),
        ({"type": "string", "default": ""}, "needs a default and a help text"),
        ({"type": "string", "help": "h"}, "needs a default and a help text"),
        ({"type": "integer", "default": 0, "min": 1, "help": "h"}, "0 is less than 1"),
        (
            {"type": "list", "items": {"type": "strnig"}, "default": [], "help": "h"},
            "items needs a type",
        ),
        (
            {"type": "list", "items": "string", "default": [], "help": "h"},
            "items needs a type",
        ),
        (
            {
                "type": "mapping",
                "values": {"type": "list", "items": {"type": "string", "secret": True}},
                "default": {},
                "help": "h",
            },
            "values: items: unknown key 'secret'",
        ),
        (
            {"type": "mapping", "fields": ["tcp"], "default": {}, "help": "h"},
            "fields needs a mapping of keys, each with a type",
        ),
        (
            {"type": "mapping", "fields": {"tcp": {"items": {}}}, "default": {}, "help": "h"},
            "fields: tcp needs a type, one of",
        ),
        (
            {
                "type": "mapping",
                "values": {"type": "mapping", "fields": {"a": {"type": "list", "requierd": True}}},
                "default": {},
                "help": "h",
            },
            "values: fields: a: unknown key 'requierd'; did you mean 'required'?",
        ),
        (
            {
                "type": "list",
                "items": {"type": "string", "required": True},
                "default": [],
                "help": "h",
            },
            "items: unknown key 'required'",
        ),
    ],
)
def test_a_description_is_checked_itself(spec, words):
    (problem,) = schema.spec_problems("size", spec, "defaults.yaml")
    assert problem.startswith("defaults.yaml: size")
    assert words in problem


@pytest.mark.parametrize(
    "spec",
    [
        {**PORTS, "default": [22], "help": "Ports.", "formerly": ["port"]},
        {**SERVICES, "default": {"ssh": {"tcp": [22], "from": "office"}}, "help": "Services."},
    ],
)
def test_a_good_description(spec):
    assert schema.spec_problems("ports", spec, "defaults.yaml") == []


@pytest.mark.parametrize("name", ["SSHD-1O1", "sshd-101", "SSHD-l01", "SSHD-I01"])
def test_a_misread_control_is_recognised(name):
    known = ["FW-001", "SSHD-001", "SSHD-101", "SSHD-161"]
    assert schema.nearest(name, known) == "; did you mean 'SSHD-101'?"
    assert schema.nearest("SSHD-1", known) == "; did you mean 'SSHD-001'?"


def test_a_proposal_keeps_secrets_to_itself():
    found = schema.problems("word", {"type": "list", "secret": True}, "p")
    assert found == ["p: *** is not a list; write [***]"]
    bits = {"type": "string", "format": "network"}
    assert schema.problems("10.0.9.5/24", bits, "p") == [
        "p: '10.0.9.5/24' is not a network such as 10.0.0.0/8; did you mean '10.0.9.0/24'?"
    ]
    assert schema.problems("10.0.0.0/33", bits, "p")[0].endswith("a network such as 10.0.0.0/8")

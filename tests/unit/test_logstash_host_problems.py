"""rocksalt.logstash.problems: settings that are each well-formed and contradict each other."""

from __future__ import annotations

import logstash_hosts
import pytest

from rocksalt import settings
from rocksalt.logstash import problems

SERVERS = "hardening:logstash:servers"
PORTS = "hardening:logstash:ports"
FILES = "hardening:logstash:files"


@pytest.fixture
def found(shipped):
    def call(minion: str = "web1", **pillar):
        pillar = {"receiver": {}, **pillar}
        return problems.problems(logstash_hosts.baseline(shipped, logstash=pillar), minion)

    return call


def test_good(found):
    assert found() == []
    assert found(servers=[]) == []
    assert found(servers=[{"host": "10.0.0.9", "port": 2601}], ports={}) == []


def test_the_defaults_alone(shipped):
    assert problems.problems(settings.resolve(shipped, {}, {}, "web1"), "web1") == []


def test_a_server_without_a_port(found):
    said = (
        f"{SERVERS}: 10.79.0.9 has no port, and {PORTS} has none for new1; write new1: 2601, or "
        "another free port, there"
    )
    assert found("new1") == [said]


def test_servers_that_are_named_twice(found):
    servers = [{"host": "Logs1"}, {"host": "logs1", "port": 9}, {"host": "logs2"}]
    assert found(servers=servers) == [
        f"{SERVERS}: logs1 is named twice; name every log server once"
    ]


def test_a_port_of_two_hosts(found):
    assert found(ports={"db1": 2601, "a": 2700}) == [
        f"{PORTS}: 2601 is the port of db1 and web1; each host has a port of its own, for it tells "
        "whose lines they are"
    ]


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("(?P<secret>x", "'(?P<secret>x' is no regular expression: missing ), unterminated "
         "subpattern at position 0"),
        ("secret=.+", "'secret=.+' has no group (?P<secret>...) around what is secret"),
    ],
)  # fmt: skip
def test_masks(found, pattern, sentence):
    assert found(mask=["(?P<secret>x)", pattern]) == [f"hardening:logstash:mask: {sentence}"]


NONE = "is no absolute path of a file, such as /var/log/app/*.log"
ROUND = "is what was received, and would be sent round and round"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("var/log/x.log", NONE),
        ("/var/log/", NONE),
        ("/var//log/x", NONE),
        ("/var/log/../x.log", NONE),
        ("/var/log/x\n.log", NONE),
        ("", NONE),
        ("/var/log/rocksalt/db1/*", ROUND),
        ("/var/log/journal/x", "is the journal; it is shipped by the dataset journal"),
        ("/var/log/a b/*.log", None),
    ],
)
def test_files(found, path, sentence):
    assert found(files={path: "app"}) == ([f"{FILES}:{path}: {sentence}"] if sentence else [])


@pytest.mark.parametrize(
    ("limit", "size", "most"),
    [
        (2147483, 1024, None),
        (2147484, 1024, 2147483),
        (2000000, 256, 536870),
        (5000000, 4096, None),
    ],
)
def test_more_lines_than_the_journal_holds(found, limit, size, most):
    where = "hardening:logstash"
    wanted = (
        f"{where}:limit: {limit} lines are more than a journal of {size} MiB holds, which is about "
        f"{most}; lower it, or raise {where}:journal_size"
    )
    assert found(limit=limit, journal_size=size) == ([wanted] if most else [])


# A log server and a witness -----------------------------------------------------------------------

RECEIVER = "hardening:logstash:receiver"


@pytest.fixture
def witness(public_key):
    return {"host": "10.0.0.8", "host_key": public_key(), "key": public_key()}


def test_a_log_server(found, witness):
    assert found(receiver={"address": "10.0.0.9", "witness": witness}) == []


def test_a_log_server_without_hosts(shipped):
    baseline = settings.resolve(
        shipped, {"logstash": {"receiver": {"address": "10.0.0.9"}}}, {}, "logs1"
    )
    assert problems.problems(baseline, "logs1") == [
        f"{PORTS}: is empty, and {RECEIVER} makes this host a log server: write the minion id of "
        "each host that ships, and a port for it, there"
    ]


@pytest.mark.parametrize("host", ["web1", "10.0.0.9", "localhost", "127.0.0.1"])
def test_a_log_server_that_is_its_own_witness(found, witness, host):
    receiver = {"address": "10.0.0.9", "witness": {**witness, "host": host}}
    assert found(receiver=receiver) == [
        f"{RECEIVER}:witness:host: {host} is this host; a witness is another one, for root here "
        "could write there what it likes"
    ]


def test_a_witness_of_nobody(found):
    assert found(witness={"path": "/srv/witness/logs"})[:1] == [
        "hardening:logstash:witness:clients: is missing; name the log servers there, each with its "
        "key and signer, as logstash.keys prints them"
    ]


def test_all_problems_are_said(found):
    said = found(ports={"db1": 2601}, mask=["x"], files={"x": "x"}, limit=9000000)
    assert [sentence.split(": ")[0] for sentence in said] == [
        *(PORTS, "hardening:logstash:mask", f"{FILES}:x", "hardening:logstash:limit"),
    ]

"""rocksalt.logstash.shipping.events: documents of the Elastic Common Schema."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import re
import time
import tracemalloc
from pathlib import Path

import pytest

from rocksalt.logstash.shipping import events
from rocksalt.logstash.shipping.events import Maker
from rocksalt.logstash.shipping.mask import Masker

FIELDS = {
    words[0]: words[1:]
    for line in (Path(__file__).parent / "data/ecs-fields.txt").read_text().splitlines()
    if not line.startswith("#") and (words := line.split())
}
MOMENT = ("2e98", "60fe9156", "660e9f94841ea", "15773f01")
ENTRY = {
    "__CURSOR": "s=dcb1;i=3;b=2e98;m=60fe9156;t=660e9f94841ea;x=15773f01",
    "__REALTIME_TIMESTAMP": "1795407886172650",
    "_SOURCE_REALTIME_TIMESTAMP": "1795407886167591",
    "_TRANSPORT": "syslog",
    "PRIORITY": "6",
    "SYSLOG_FACILITY": "10",
    "SYSLOG_IDENTIFIER": "sshd",
    "_COMM": "sshd",
    "_EXE": "/usr/sbin/sshd",
    "_CMDLINE": "sshd: ops --password=x",
    "_SYSTEMD_UNIT": "ssh.service",
    "_PID": "15778",
    "_UID": "0",
    "MESSAGE": "Accepted publickey for ops from 192.0.2.7 port 51234 ssh2: ED25519 SHA256:abc",
}
AUTH = {"_TRANSPORT": "syslog", "SYSLOG_FACILITY": "10", "_UID": "0"}
KERNEL = {"_TRANSPORT": "kernel", "SYSLOG_IDENTIFIER": "kernel", "SYSLOG_FACILITY": "0"}
PACKET = "IN=eth0 OUT= MAC=00 SRC=192.0.2.7 DST=10.0.0.1 LEN=40 PROTO=TCP SPT=5 DPT=22 SYN URGP=0 "


@pytest.fixture(autouse=True)
def zone(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def maker(monkeypatch):
    monkeypatch.setattr(events, "now", lambda: 1_795_408_000_000_001)
    return Maker(
        "web1", {"role": "web"}, Masker([r"--?password[= ](?P<secret>\S+)", "(?P<secret>hunter2)"])
    )


def journal(maker, message, **fields):
    entry = {"__REALTIME_TIMESTAMP": "1795407886172650", "MESSAGE": message, **fields}
    found = [json.loads(it) for it in maker.of_journal(entry, MOMENT, None)]
    for document in found:
        conforms(document)
    return found


def file(maker, dataset, text, path="/var/log/x"):
    data = text if isinstance(text, bytes) else text.encode()
    (found,) = maker.of_file(dataset, path, ("g1", 10), data)
    document = json.loads(found)
    conforms(document)
    return document


def conforms(document):
    """Every field is one of the schema and has its type, or is ours."""
    for name, value in flat(document):
        if name.startswith(("rocksalt.", "labels.")):
            continue
        kind, *array = FIELDS[name]
        assert isinstance(value, list) == bool(array), name
        for it in value if array else [value]:
            assert _TYPES[kind](it), (name, it)


_TYPES = {
    "keyword": lambda it: isinstance(it, str),
    "wildcard": lambda it: isinstance(it, str),
    "match_only_text": lambda it: isinstance(it, str),
    "long": lambda it: type(it) is int,
    "ip": lambda it: bool(ipaddress.ip_address(it)),
    "date": lambda it: bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", it)),
}


def flat(value, prefix=""):
    for name, it in value.items():
        if isinstance(it, dict):
            yield from flat(it, f"{prefix}{name}.")
        else:
            yield prefix + name, it


def test_an_entry_of_the_journal(maker):
    (text,) = maker.of_journal(ENTRY, MOMENT, {"auth"})
    found = json.loads(text)
    assert found == {
        "@timestamp": "2026-11-23T04:24:46.167591Z",
        "ecs": {"version": "8.17.0"},
        "host": {"name": "web1"},
        "labels": {"role": "web"},
        "event": {
            "id": events.identity("web1", *MOMENT),
            "dataset": "auth",
            "kind": "event",
            "created": "2026-11-23T04:26:40.000001Z",
            "action": "ssh_login",
            "category": ["authentication"],
            "type": ["start"],
            "outcome": "success",
        },
        "log": {
            "level": "info",
            "syslog": {
                "priority": 86,
                "facility": {"code": 10, "name": "authpriv"},
                "severity": {"code": 6, "name": "info"},
                "appname": "sshd",
            },
        },
        "process": {
            "name": "sshd",
            "pid": 15778,
            "executable": "/usr/sbin/sshd",
            "command_line": "sshd: ops --password=***",
        },
        "user": {"id": "0", "name": "ops"},
        "source": {"ip": "192.0.2.7", "port": 51234},
        "rocksalt": {"unit": "ssh.service", "transport": "syslog"},
        "message": ENTRY["MESSAGE"],
    }
    conforms(found)


def test_what_is_not_wanted_is_left_out(maker):
    assert maker.of_journal(ENTRY, MOMENT, {"journal"}) == []


@pytest.mark.parametrize(
    ("fields", "message", "expected"),
    [
        (AUTH | {"SYSLOG_IDENTIFIER": "sudo"}, "x", "auth"),
        ({"SYSLOG_IDENTIFIER": "sshd-session"}, "x", "auth"),
        ({"_COMM": "su"}, "x", "auth"),
        ({"_TRANSPORT": "audit", "SYSLOG_FACILITY": "4"}, "x", "audit"),
        (KERNEL, "rocksalt-drop-in: " + PACKET, "iptables"),
        (KERNEL, "[UFW BLOCK] " + PACKET, "iptables"),
        (KERNEL, "usb 1-1: SRC=1", "journal"),
        ({"_TRANSPORT": "syslog"}, "rocksalt-drop-in: " + PACKET, "journal"),
        ({"SYSLOG_IDENTIFIER": "fail2ban-server"}, "x", "fail2ban"),
        ({"_COMM": "python3", "_SYSTEMD_UNIT": "salt-minion.service"}, "x", "salt"),
        ({"SYSLOG_IDENTIFIER": "ossec-logcollector"}, "x", "ossec"),
        ({"SYSLOG_IDENTIFIER": "cron", "SYSLOG_FACILITY": "9"}, "x", "journal"),
        ({}, "x", "journal"),
    ],
)
def test_the_dataset_of_an_entry(maker, fields, message, expected):
    (found,) = journal(maker, message, **fields)
    assert found["event"]["dataset"] == expected


SSH = AUTH | {"SYSLOG_IDENTIFIER": "sshd"}
SUDO = AUTH | {"SYSLOG_IDENTIFIER": "sudo"}


@pytest.mark.parametrize(
    ("fields", "message", "expected"),
    [
        (
            SSH,
            "Failed password for invalid user a from 1.1.1.1 port 1 from 2001:db8::1 port 22 ssh2",
            {"event.outcome": "failure", "user.name": "a from 1.1.1.1 port 1",
             "source.ip": "2001:db8::1", "source.port": 22, "event.type": ["start"]},
        ),
        (
            SSH,
            "Invalid user  from 192.0.2.7 port 9",
            {"event.outcome": "failure", "source.ip": "192.0.2.7", "source.port": 9},
        ),
        (
            SSH,
            "Connection closed by authenticating user root 192.0.2.7 port 4022 [preauth]",
            {"source.ip": "192.0.2.7", "source.port": 4022},
        ),
        (SSH, "Accepted none for x from nowhere port 99999 ssh2", {"source.ip": None}),
        (
            SUDO,
            "     ops : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/id --password hunter2",
            {"event.outcome": "success", "event.action": "sudo", "user.name": "ops",
             "user.effective.name": "root",
             "message":
                 "     ops : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/id --password ***"},
        ),
        (
            SUDO,
            "eve : user NOT in sudoers ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
            {"event.outcome": "failure", "user.name": "eve"},
        ),
        (
            KERNEL,
            "rocksalt-drop-in: " + PACKET,
            {"event.action": "drop", "event.type": ["connection", "denied"],
             "source.ip": "192.0.2.7", "source.port": 5, "destination.ip": "10.0.0.1",
             "destination.port": 22, "network.transport": "tcp", "network.direction": "ingress"},
        ),
        (
            KERNEL,
            "other: IN= OUT=eth0 SRC=999.0.2.7 DST=fe80::1 PROTO=ICMPv6 TYPE=1",
            {"event.action": None, "source.ip": None, "destination.ip": "fe80::1",
             "network.direction": "egress", "network.transport": "icmpv6"},
        ),
        (
            SUDO | {"_UID": "1001", "_EXE": "/usr/bin/sudo"},
            "eve : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
            {"event.action": "sudo", "user.name": "eve", "user.id": "1001"},
        ),
        (
            SSH | {"_UID": "1001", "_EXE": "/usr/bin/python3"},
            "Accepted publickey for root from 10.0.0.5 port 22 ssh2",
            {"event.action": None, "event.outcome": None, "user.name": None, "source.ip": None,
             "user.id": "1001", "event.dataset": "auth"},
        ),
        (
            SUDO | {"_UID": "1001"},
            "root : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
            {"event.action": None, "user.name": None, "user.id": "1001"},
        ),
        ({}, [98, 97, 100, 32, 255], {"message": "bad \\xff"}),
        ({}, ["one", "two"], {"message": "one\ntwo"}),
        ({}, None, {"message": "", "log.level": None}),
        ({"PRIORITY": "9", "SYSLOG_FACILITY": "99", "_PID": "x"}, "x", {"log.level": None}),
        ({"PRIORITY": ["3", "4"]}, "x", {"log.level": None}),
        ({"PRIORITY": "0"}, "x", {"log.level": "emerg"}),
    ],
)  # fmt: skip
def test_what_a_line_says(maker, fields, message, expected):
    (found,) = journal(maker, message, **fields)
    values = dict(flat(found))
    assert {name: values.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("dataset", "text", "expected"),
    [
        (
            "salt",
            "2026-11-23 04:20:00,123 [salt.minion     :1234][WARNING ][5678] uh\nTraceback",
            {"@timestamp": "2026-11-23T03:20:00.123000Z", "log.level": "warning",
             "log.logger": "salt.minion", "process.pid": 5678, "rocksalt.offset": 10,
             "log.file.path": "/var/log/x"},
        ),
        (
            "fail2ban",
            "2026-07-23 04:20:00,123 fail2ban.actions        [1234]: NOTICE  [sshd] Ban 192.0.2.7",
            {"@timestamp": "2026-07-23T02:20:00.123000Z", "event.action": "ban",
             "event.type": ["denied"], "rule.name": "sshd", "source.ip": "192.0.2.7",
             "process.pid": 1234, "log.level": "notice"},
        ),
        (
            "fail2ban",
            "2026-11-23 04:20:00,123 fail2ban.filter [1]: INFO    [sshd] Found host - 2026",
            {"event.action": "found", "source.ip": None, "event.type": ["info"]},
        ),
        (
            "audit",
            "type=USER_LOGIN msg=audit(1700000000.123:45): pid=1 uid=0",
            {"@timestamp": "2023-11-14T22:13:20.123000Z", "event.action": "user_login",
             "event.sequence": 45},
        ),
        (
            "audit",
            'type=EXECVE msg=audit(1700000000.1:45): argc=3 a0="mysql" a1="--password" a2="abc"',
            {"message": 'type=EXECVE msg=audit(1700000000.1:45): argc=3 a0="mysql" a1=*** a2=***'},
        ),
        (
            "audit",
            'EXECVE argc=4 a0="vault" a1="--hunter" a2="--password" a3="x"',
            {"message": 'EXECVE argc=4 a0="vault" a1=*** a2=*** a3=***'},
        ),
        (
            "audit",
            'type=EXECVE msg=audit(1700000000.1:45): argc=2 a0="ls" a1=2D2D616C6C20',
            {"message": 'type=EXECVE msg=audit(1700000000.1:45): argc=2 a0="ls" a1=2D2D616C6C20'},
        ),
        (
            "audit",
            "type=PROCTITLE msg=audit(1.1:4): proctitle=6D7973716C002D2D70617373776F72643D78",
            {"message": "type=PROCTITLE msg=audit(1.1:4): proctitle=***"},
        ),
        (
            "ossec",
            "2026/11/23 04:20:00 ossec-analysisd: INFO: Started",
            {"@timestamp": "2026-11-23T03:20:00.000000Z", "process.name": "ossec-analysisd"},
        ),
        (
            "ossec",
            "** Alert 1700000000.1: - syslog\nRule: 5716 (level 5)",
            {"@timestamp": "2023-11-14T22:13:20.000000Z", "event.kind": "alert"},
        ),
        (
            "x",
            b"caf\xe9 \x00\n",
            {"message": "caf\\xe9 \0", "@timestamp": "2026-11-23T04:26:40.000001Z"},
        ),
        ("salt", "2026-99-23 04:20:00,123 no time", {"@timestamp": "2026-11-23T04:26:40.000001Z"}),
    ],
)  # fmt: skip
def test_a_line_of_a_file(maker, dataset, text, expected):
    values = dict(flat(file(maker, dataset, text)))
    assert {name: values.get(name) for name in expected} == expected


def test_ids_tell_lines_apart(maker):
    first = file(maker, "x", "a")["event"]["id"]
    (other,) = maker.of_file("x", "/var/log/x", ("g1", 11), b"a")
    assert len(first) == 32
    assert json.loads(other)["event"]["id"] != first
    assert file(maker, "x", "a")["event"]["id"] == first


@pytest.mark.parametrize("letter", ["x", "ä", "\0", "😀"])
def test_long_lines_come_in_parts(maker, letter):
    text = letter * 110_000
    found = journal(maker, text)
    assert "".join(it["message"] for it in found) == text
    key = events.identity("web1", *MOMENT)
    count = len(found)
    assert [it["rocksalt"]["part"] for it in found] == [f"{n}/{count}" for n in range(1, count + 1)]
    assert [it["event"]["id"] for it in found] == [f"{key}-{n}" for n in range(1, count + 1)]
    assert all(len(json.dumps(it, ensure_ascii=False)) < 52_000 for it in found)


def test_a_secret_on_the_border_of_two_parts_is_masked(maker):
    text = "y" * (events.LONGEST - 20) + " --password=" + "z" * 40 + " rest"
    found = journal(maker, text)
    assert "z" not in "".join(it["message"] for it in found)


@pytest.mark.parametrize("character", ["x", "\0", "😀"])
def test_every_document_has_a_bound(maker, character):
    long = character * 300_000
    names = ("SYSLOG_IDENTIFIER", "_COMM", "_EXE", "_CMDLINE", "_SYSTEMD_UNIT", "_TRANSPORT")
    found = maker.of_journal({**ENTRY, **dict.fromkeys(names, long), "MESSAGE": long}, MOMENT, None)
    assert max(map(len, found)) < 200 * 1024
    first = json.loads(found[0])
    cut = f"{character * (events.NAME - 3)}..."
    assert first["process"]["name"] == first["process"]["executable"] == cut
    assert first["process"]["command_line"] == f"{character * (events.COMMAND - 3)}..."
    assert "".join(json.loads(it)["message"] for it in found) == long


def test_a_secret_on_the_border_of_a_field_is_masked(maker):
    for length in range(events.COMMAND - 30, events.COMMAND + 2):
        (found,) = journal(
            maker, "", _CMDLINE="x" * length + " --password=zzzzzzzzzz" + " y" * 9000
        )
        assert "z" not in found["process"]["command_line"]


def test_long_fields_are_not_kept(maker):
    for number in range(20):
        journal(maker, "x", SYSLOG_IDENTIFIER=f"{number} " + "x" * 100_000, _CMDLINE="y" * 100_000)
    tracemalloc.start()
    for number in range(20, 60):
        journal(maker, "x", SYSLOG_IDENTIFIER=f"{number} " + "x" * 100_000, _CMDLINE="y" * 100_000)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 400_000


def test_a_key_over_several_entries_is_masked():
    maker = Maker("web1", {}, Masker([r"(?P<secret>-----BEGIN PRIVATE KEY-----)"]))
    lines = ["-----BEGIN PRIVATE KEY-----", "MIIEabcd", "abcd", "-----END PRIVATE KEY-----", "abcd"]
    found = [journal(maker, it, _PID="7")[0]["message"] for it in lines[:2]]
    assert [*found, journal(maker, "MIIE", _PID="8")[0]["message"]] == ["***", "***", "MIIE"]
    found = [journal(maker, it, _PID="7")[0]["message"] for it in lines[2:]]
    assert found == ["***", "-----END PRIVATE KEY-----", "abcd"]
    assert file(maker, "x", lines[0])["message"] == "***"
    assert file(maker, "x", lines[1])["message"] == "***"
    maker.restart()
    assert file(maker, "x", lines[1])["message"] == "MIIEabcd"


def test_times_have_microseconds_and_a_zone():
    assert events.stamp(1_795_407_886_000_007) == "2026-11-23T04:24:46.000007Z"
    assert dt.datetime.fromisoformat("2026-11-23T04:24:46+00:00").timestamp() == 1_795_407_886


STRANGE = ["", "9" * 5000, "\0", "ä", [1, 255], ["1", "2"], [[1], "x"], [], None, "x" * 20_000]
FREE = ["MESSAGE", "PRIORITY", "SYSLOG_FACILITY", "SYSLOG_IDENTIFIER", "SYSLOG_PID", "_CMDLINE"]


@pytest.mark.parametrize("name", [*FREE, "_COMM", "_EXE", "_UID", "_SYSTEMD_UNIT", "_TRANSPORT"])
@pytest.mark.parametrize("value", STRANGE)
def test_nobody_stops_the_shipper_by_a_field(maker, name, value):
    for found in maker.of_journal({**ENTRY, "_PID": "", name: value}, MOMENT, None):
        conforms(json.loads(found))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (SUDO, "x : " + "a ; PWD=" * 50_000 + " ; USER=b ; " * 50_000),
        (SSH, "Failed x y " + " from a port 1" * 50_000 + "x"),
        (SSH, "Failed x y z from 1.2.3.4 port " + "9" * 5000),
        (KERNEL, "rocksalt-drop-in: IN= OUT= SRC=1.1.1.1 SPT=" + "9" * 5000 + " "),
        (KERNEL, "IN= OUT= " * 900),
        ({"SYSLOG_IDENTIFIER": "salt"}, "2026-11-23 04:20:00,123 [" + " " * 50_000),
        ({"SYSLOG_IDENTIFIER": "salt"}, "2026-11-23 04:20:00,123 [a:1][ERROR][" + "9" * 5000 + "]"),
        ({"_TRANSPORT": "audit"}, "type=EXECVE msg=audit(1.1:1): " + "a1=41 " * 50_000),
        ({"_TRANSPORT": "audit"}, "type=A msg=audit(1700000000.111:" + "9" * 5000 + "): "),
        ({"SYSLOG_IDENTIFIER": "fail2ban"}, "[" * 50_000 + "] Ban "),
    ],
)
def test_nobody_stops_the_shipper_by_a_text(maker, fields, text):
    before = time.process_time()
    journal(maker, text, **fields)
    assert time.process_time() - before < 2

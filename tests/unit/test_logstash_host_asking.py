"""rocksalt.logstash.asking: what people ask a host for."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import logstash_hosts
import pytest
from logstash_hosts import NOW, stamp

from rocksalt import logstash
from rocksalt.errors import Refused
from rocksalt.logstash import asking
from rocksalt.logstash.shipping import marks


@pytest.fixture
def net(shipped, host):
    return logstash_hosts.good(shipped, host)


@pytest.fixture
def it(shipped, host, net):
    return lambda **pillar: logstash_hosts.comparison(shipped, host, net, **pillar)


# A marked line ------------------------------------------------------------------------------------


def test_a_line_that_arrives(host, net, it):
    written = []

    def meanwhile(now):
        marks = {"other": stamp(1), **({written[0]: stamp()} if now > 1.5 else {})}
        logstash_hosts.said(host, marks=marks)

    net.meanwhile = meanwhile
    found = asking.probe(it(), 30, lambda _, mark: written.append(mark))
    assert found == {"arrived": True, "seconds": 1.6, "server": "logs1"}
    assert len(written[0]) == 32 and int(written[0], 16)


@pytest.mark.parametrize(
    ("status", "server", "reason"),
    [
        ({"waiting": 7}, "logs1", "it has not arrived in 5 s, and 7 lines wait"),
        ({"waiting": None}, "logs1",
         "it has not arrived in 5 s: the shipper cannot ask journalctl"),
        (
            {"server": None, "disconnected_since": "then", "error": "logs1 refuses"},
            None,
            "no log server is connected since then: logs1 refuses",
        ),
        ({"server": None}, None, "no log server is connected: no log server has answered yet"),
    ],
)  # fmt: skip
def test_a_line_that_does_not_arrive(host, net, it, status, server, reason):
    logstash_hosts.said(host, **status)
    found = asking.probe(it(), 5, lambda *_: None)
    assert found == {"arrived": False, "seconds": 5.0, "server": server, "reason": reason}


def test_no_line_is_written_in_vain(host, it):
    written = []
    nobody = asking.probe(it(logstash={"servers": []}), 5, lambda *all: written.append(all))
    assert nobody["reason"] == (
        "nobody receives the logs of this host: hardening:logstash:servers is empty"
    )
    logstash_hosts.unit(host, ActiveState="failed")
    stopped = asking.probe(it(), 5, lambda *all: written.append(all))
    assert stopped["reason"] == ("the shipper does not run: systemctl status rocksalt-ship.service")
    assert (written, nobody["arrived"], stopped["arrived"]) == ([], False, False)


def test_how_a_line_is_written(host, monkeypatch):
    path = host.path(marks.SOCKET)
    path.parent.mkdir(parents=True)
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr(host, "path", lambda _: Path("socket"))
    with pytest.raises(Refused, match="takes no line, so journald does not run"):
        asking.write_mark(host, "abc")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind("socket")
        asking.write_mark(host, "abc")
        got = journal.recv(4096).decode()
    assert got == (
        "MESSAGE=rocksalt looks whether a line arrives: abc\nPRIORITY=6\n"
        "SYSLOG_IDENTIFIER=rocksalt-probe\nROCKSALT_MARK=abc\n"
    )


# Lost lines that somebody looked at ---------------------------------------------------------------


def test_accept(host, it):
    logstash_hosts.said(host, dropped=5, lost=3)
    assert it().seen()["LOG-007"].actual == {"dropped": 5, "lost": 3}
    assert asking.accept(it()) == {"dropped": 5, "lost": 3, "unknown_gaps": 0}
    assert json.loads(host.read(logstash.ACCEPTED))["time"] == NOW.isoformat()
    assert host.access(logstash.ACCEPTED) == "root:root 0600"
    assert it().seen()["LOG-007"].actual == {}


def test_a_shipper_that_forgot_is_accepted_as_well(host, it):
    host.put(logstash.ACCEPTED, '{"dropped": 9}')
    assert it().seen()["LOG-007"].actual == {"dropped": -9}
    asking.accept(it())
    assert it().seen()["LOG-007"].actual == {}


def test_nothing_to_accept(host, it):
    host.remove(logstash.STATUS)
    with pytest.raises(Refused, match="says nothing yet, so there is nothing to accept"):
        asking.accept(it())


# Keys ---------------------------------------------------------------------------------------------


def test_keys_are_made_once(host):
    host.put(asking.HOST_KEY, "ssh-ed25519 AAAA root@web1\n")
    found = asking.keys(host)
    assert found["host"] == "ssh-ed25519 AAAA"
    assert len({found[name].split()[1] for name in ("signing", "transport", "witness")}) == 3
    assert all(found[name].startswith("ssh-ed25519 ") for name in found)
    paths = (logstash.SIGNING_KEY, logstash.TRANSPORT_KEY, logstash.WITNESS_KEY)
    assert {host.access(path).split()[1] for path in paths} == {"0600"}
    assert asking.keys(host) == found


def test_a_host_without_an_ssh_server(host):
    assert asking.keys(host)["host"] == ""


# What was received --------------------------------------------------------------------------------

VERIFY = "runuser -u rocksalt-logs -- /usr/local/sbin/rocksalt-logs verify --json"


def test_verify(host):
    host.put(logstash.RECEIVER_CONFIG, "{}")
    host.answer(VERIFY, '{"ok": false, "hosts": {}}', status=1)
    host.answer(f"{VERIFY} --host web1", '{"ok": true, "hosts": {"web1": {}}}')
    assert asking.verify(host) == {"ok": False, "hosts": {}}
    assert asking.verify(host, "web1") == {"ok": True, "hosts": {"web1": {}}}


def test_verify_that_fails(host):
    with pytest.raises(Refused, match=r"^this host is no log server: .*receiver.json does not"):
        asking.verify(host)
    host.put(logstash.RECEIVER_CONFIG, "{}")
    host.answer(VERIFY, status=1, err="rocksalt-logs: it has no\nlines")
    with pytest.raises(Refused, match=r"rocksalt-logs verify: rocksalt-logs: it has no lines$"):
        asking.verify(host)

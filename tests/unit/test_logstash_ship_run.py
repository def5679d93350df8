"""rocksalt.logstash.shipping.ship: the whole, from a journal to a log server that may fail."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from types import SimpleNamespace

import pytest
from logstash_relp import HERE, Authority, LogServer
from test_logstash_ship_journal import Source, cursor, entry

from rocksalt.errors import RocksaltError
from rocksalt.logstash.shipping import (
    config,
    feed,
    journal,
    journalctl,
    link,
    marks,
    positions,
    servers,
    status,
    window,
)
from rocksalt.logstash.shipping.__main__ import main
from rocksalt.logstash.shipping.ship import Shipper
from rocksalt.logstash.shipping.steps import Step

ALL = ["journal", "auth", "audit", "iptables", "fail2ban", "ossec", "salt", "drift"]


class Ship:
    """A shipper on a host that is a folder."""

    def __init__(self, folder, *log_servers):
        self.folder, self.state = folder, folder / "state"
        self.state.mkdir()
        self.source = Source(folder)
        self.authority = log_servers[0].authority
        certificate, key = self.authority.issue("web1")
        self.settings = {
            "host": "web1", "servers": [it.settings for it in log_servers],
            "ca": self.authority.path, "certificate": certificate, "key": key,
            "files": {f"{folder}/*.log": "x"},
            "datasets": ALL, "report": str(folder / "last.json"), "ignore": [],
            "mask": [r"password=(?P<secret>\S+)"], "labels": {"role": "web", "customer": ""},
            "limit": 1000, "at_limit": "block", "probe": 300,
        }  # fmt: skip
        self.shipper = None

    @property
    def config(self):
        path = self.folder / "shipper.json"
        path.write_text(json.dumps(self.settings))
        return str(path)

    def start(self):
        """A new process, as far as it matters: nothing but the files is known to it."""
        if self.shipper:
            self.shipper._feed.close()
            self.shipper._servers.close()
        command = [str(self.source.program)]
        self.shipper = Shipper(config.load(self.config), str(self.state), command)

    def until(self, condition):
        """Turns until something is so."""
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, self.shipper._servers.error
            self.shipper.turn(0.01)

    def until_counts(self, condition):
        """Until something is so of the positions; another file gets lines meanwhile, for only what
        is acknowledged later lets a position count.
        """
        with open(self.folder / "later.log", "a", buffering=1) as file:
            self.until(lambda: condition(self.shipper._positions) or not file.write("later\n"))

    def status(self):
        if not (self.state / "status.json").exists():
            self.shipper.turn(0)
        return json.loads((self.state / "status.json").read_text())


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def probes(monkeypatch):
    """The marks of the probes that were written, and all that takes time made quick."""
    marks: list[str] = []
    monkeypatch.setattr(journal, "write_probe", marks.append)
    monkeypatch.setattr(feed, "CHECK", 0.05)
    monkeypatch.setattr(positions, "RESEND", 0.05)
    monkeypatch.setattr(positions, "_STEP", 0.01)
    monkeypatch.setattr(positions, "_SAVE", 0.0)
    monkeypatch.setattr(status, "EVERY", 0.0)
    monkeypatch.setattr(feed, "COUNT", 0.05)
    monkeypatch.setattr(servers, "SHORTEST", 0.02)
    monkeypatch.setattr(servers, "LOOK", 0.02)
    monkeypatch.setattr(servers, "RETURN", 0.05)
    return marks


@pytest.fixture
def server(authority):
    made = LogServer(authority)
    yield made
    made.kill()


@pytest.fixture
def ship(tmp_path, server):
    made = Ship(tmp_path, server)
    yield made
    if made.shipper:
        made.shipper._finish()


def own_probe(number, mark):
    return entry(number, ROCKSALT_MARK=mark, SYSLOG_IDENTIFIER="rocksalt-ship", _UID="0")


def numbered(first, last):
    return [f"n{it}" for it in range(first, last + 1)]


def test_lines_arrive_and_count(ship, server, probes):
    (ship.folder / "a.log").write_text("uses password=hunter2\n")
    ship.source.write(*(entry(it) for it in range(1, 301)))
    ship.start()
    ship.until(lambda: len(server.lines) == 301)
    assert server.messages() == numbered(1, 300)
    assert server.messages("x") == ["uses password=***"]
    (mark,) = probes
    ship.source.write(own_probe(301, mark))
    ship.until(lambda: ship.status()["probe"] and ship.status()["waiting"] == 0)
    found = ship.status()
    known = {name: found[name] for name in ("server", "error", "sent", "acknowledged", "resent")}
    assert known == {"server": "logs1", "error": "", "sent": 302, "acknowledged": 302, "resent": 0}
    assert found["pid"] == os.getpid()
    assert found["probe"]["mark"] == mark
    assert mark in [it["event"]["id"] for it in server.events()]
    assert found["marks"] == {}
    assert (found["disconnected_since"], found["oldest_waiting"], found["full_since"]) == (
        None, None, None,
    )  # fmt: skip
    assert found["server_expires"] > found["time"]
    assert oct((ship.state / "status.json").stat().st_mode & 0o777) == "0o640"
    ship.until_counts(lambda it: it.counting.get("journal") == cursor(301))


def test_a_log_server_that_dies_loses_nothing(ship, server):
    ship.source.write(*(entry(it) for it in range(1, 501)))
    server.acknowledges = 100
    ship.start()
    ship.until(lambda: server.acknowledges == 0)
    server.kill()
    ship.until(lambda: ship.shipper._link is None)
    ship.until(lambda: "refused" in ship.status()["error"])
    assert ship.status()["server"] is None
    assert ship.status()["disconnected_since"]
    ship.until(lambda: ship.status()["waiting"] > 300)
    assert ship.status()["oldest_waiting"].startswith("1970-01-01")
    server.revive()
    ship.until(lambda: set(server.messages()) == set(numbered(1, 500)))
    ids = {it["message"]: it["event"]["id"] for it in server.events()}
    again = [it for it in server.events() if ids[it["message"]] != it["event"]["id"]]
    assert again == []
    assert ship.status()["resent"] > 0


def test_a_shipper_that_dies_loses_nothing(ship, server):
    ship.source.write(*(entry(it) for it in range(1, 101)))
    server.acknowledges = 50
    ship.start()
    ship.until(lambda: server.acknowledges == 0)
    server.acknowledges = None
    ship.start()
    ship.until_counts(lambda it: it.counting.get("journal") == cursor(100))
    assert set(server.messages()) == set(numbered(1, 100))
    count = len(server.messages())
    ship.start()
    ship.source.write(entry(101))
    ship.until(lambda: server.messages()[-1] == "n101")
    assert len(server.messages()) == count + 1


def test_what_was_just_acknowledged_is_sent_again(ship, server, monkeypatch):
    monkeypatch.setattr(positions, "RESEND", 60.0)
    ship.source.write(entry(1), entry(2))
    ship.start()
    ship.until(lambda: ship.shipper._window.acknowledged == 2)
    server.kill()
    server.lines.clear()
    ship.until(lambda: ship.shipper._link is None)
    server.revive()
    ship.until(lambda: len(server.messages()) == 2)
    assert ship.shipper._status.resent == 2


def test_a_server_without_power_gets_its_last_lines_again(ship, server, monkeypatch):
    ship.source.write(*(entry(it) for it in range(1, 4)))
    ship.start()
    ship.until(lambda: ship.shipper._window.acknowledged == 3)
    server.acknowledges = 0
    later = time.monotonic() + 3600
    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", lambda: later)
        ship.shipper.turn(0)
        ship.shipper.turn(0)
    assert ship.shipper._positions.counting == {}
    assert ship.shipper._positions.rewind() == 3


def test_a_silent_server_is_given_up(ship, server, monkeypatch):
    monkeypatch.setattr(window, "SILENCE", 0.05)
    ship.source.write(entry(1))
    server.acknowledges = 0
    ship.start()
    ship.until(lambda: "does not acknowledge lines" in ship.shipper._servers.error)
    server.acknowledges = None
    ship.until(lambda: ship.shipper._window.acknowledged >= 1)


def test_one_that_never_answers_is_given_up(ship, server, monkeypatch):
    monkeypatch.setattr(link, "CONNECT", 0.05)
    server.opens = False
    ship.start()
    ship.until(lambda: "does not answer within 0.05 seconds" in ship.shipper._servers.error)


def test_it_fails_over_and_returns(tmp_path, authority, server):
    second = LogServer(authority, "logs2")
    ship = Ship(tmp_path, server, second)
    server.kill()
    ship.source.write(*(entry(it) for it in range(1, 51)))
    ship.start()
    ship.until(lambda: second.messages() == numbered(1, 50))
    assert ship.status()["server"] == "logs2"
    server.revive()
    ship.until(lambda: ship.status()["server"] == "logs1")
    ship.source.write(entry(51))
    ship.until(lambda: "n51" in server.messages())
    arrived = {*server.messages(), *second.messages()}
    assert arrived == set(numbered(1, 51))
    second.kill()
    ship.shipper._finish()


WRONG = [
    ("name", "is not to be trusted: Hostname mismatch, certificate is not valid for 'other'."),
    ("expired", "is not to be trusted: certificate has expired"),
    ("ca", "is not to be trusted: self"),
    ("certificate", "web9.pem with "),
    ("own", "does not take this host's certificate: "),
    ("answer", "does not take a line: 500 no space"),
]


@pytest.mark.parametrize(("what", "expected"), WRONG)
def test_what_is_wrong_is_said_and_mended(ship, server, authority, tmp_path, what, expected):
    good = server.certificate, dict(ship.settings)
    stranger = Authority(tmp_path, "stranger")
    if what == "name":
        server.certificate = authority.issue("logs1x")
        ship.settings["servers"] = [{**server.settings, "name": "other"}]
    elif what == "expired":
        server.certificate = authority.issue("logs1", days=-1, file="expired")
    elif what == "ca":
        ship.settings["ca"] = stranger.path
    elif what == "certificate":
        ship.settings["certificate"] = str(tmp_path / "web9.pem")
    elif what == "own":
        ship.settings["certificate"], ship.settings["key"] = stranger.issue("web1")
    else:
        server.answer = b"500 no space"
    ship.source.write(entry(1))
    ship.start()
    ship.until(lambda: expected in ship.shipper._servers.error)
    server.certificate, settings = good
    server.answer = b"200 OK"
    if settings != ship.settings:
        ship.settings = settings
        ship.start()
    ship.until(lambda: server.messages()[-1:] == ["n1"] and ship.shipper._servers.error == "")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("255.255.255.255", "Network is unreachable"), ("a..b", "has no address")],
)
def test_a_server_that_is_nowhere(ship, server, host, expected):
    ship.settings["servers"] = [{**server.settings, "host": host}, server.settings]
    ship.source.write(entry(1))
    ship.start()
    said = set()
    ship.until(lambda: said.add(ship.shipper._servers.error) or server.messages() == ["n1"])
    assert any(it.startswith(f"logs1 ({host}:") and expected in it for it in said)


STREAM = socket.SOCK_STREAM


@pytest.mark.parametrize("first", ["silent", "refused", "no family", "no TLS"])
def test_each_address_of_a_name_has_its_turn(ship, server, monkeypatch, first):
    monkeypatch.setattr(link, "TURN", 0.05)
    monkeypatch.setattr(link, "CONNECT", 0.5)
    other = socket.create_server((HERE, 0))
    address, family = other.getsockname(), 9999 if first == "no family" else socket.AF_INET
    if first == "refused":
        other.close()
    found = [(family, STREAM, 6, "", address), (socket.AF_INET, STREAM, 6, "", (HERE, server.port))]
    monkeypatch.setattr(link.socket, "getaddrinfo", lambda *_, **__: list(found))
    if first == "no TLS":
        found[0] = (family, STREAM, 6, "", (HERE, shouting(other)))
    ship.source.write(entry(1))
    ship.start()
    said = set()
    ship.until(lambda: said.add(ship.shipper._servers.error) or server.messages() == ["n1"])
    assert (server.accepted, said) == (1, {""})
    other.close()


def shouting(listener):
    """Says to the first that connects something that is no TLS; the port."""

    def shout():
        made, _ = listener.accept()
        made.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        made.close()

    threading.Thread(target=shout, daemon=True).start()
    return listener.getsockname()[1]


def test_no_address_alone_gets_less_than_all_the_time(ship, server, monkeypatch):
    monkeypatch.setattr(link, "CONNECT", 0.05)
    server.opens = False
    found = [(socket.AF_INET, STREAM, 6, "", (HERE, server.port))] * 2
    monkeypatch.setattr(link.socket, "getaddrinfo", lambda *_, **__: list(found))
    ship.start()
    ship.until(lambda: "does not answer within 0.05 seconds" in ship.shipper._servers.error)
    assert server.accepted == 2


def test_a_server_that_never_stops_answering_keeps_nobody_waiting(ship, server, monkeypatch):
    class Endless:
        def recv(self, size):
            return b"7 rsp 6 200 OK\n" * 100

        def setsockopt(self, *_):
            pass

        def fileno(self):
            return 0

    made = link.Link(config.Server(HERE, server.port, "logs1"), config.load(ship.config), 0.0)
    made._state, made._socket = link._READY, Endless()
    assert 1024 * 1024 // 15 <= len(made.step(0.0)) <= 1024 * 1024 // 15 + 100
    made._socket = None


def test_what_a_server_says_stays_in_its_line(ship, server):
    server.answer = b"500 no\nsshd[1]: Accepted"
    ship.source.write(entry(1))
    ship.start()
    said = "does not take a line: 500 no\\nsshd[1]: Accepted"
    ship.until(lambda: ship.shipper._servers.error.endswith(said))


def test_a_renewed_certificate_is_used(ship, server, authority):
    ship.start()
    ship.until(lambda: ship.shipper._link)
    authority.issue("web1")
    ship.until(lambda: len(server.clients) == 2)
    assert len(set(server.clients)) == 2
    ship.source.write(entry(1))
    ship.until(lambda: server.messages()[-1:] == ["n1"])


def test_a_journal_that_takes_no_probe_is_told(ship, server, monkeypatch):
    def refuse(mark):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(journal, "write_probe", refuse)
    ship.source.write(entry(1))
    ship.start()
    ship.until(lambda: server.messages() == ["n1"] and ship.status()["error"])
    said = f"{marks.SOCKET} takes no line, journald may not run: "
    said += "[Errno 11] Resource temporarily unavailable"
    assert (ship.status()["error"], ship.status()["probe"]) == (said, None)
    now = ship.shipper._feed._probe_at - feed.SOON
    assert now <= time.monotonic()


@pytest.mark.parametrize("does", ["exit 1", "exec sleep 60"])
def test_a_journal_that_cannot_be_read_is_told(ship, server, monkeypatch, does):
    monkeypatch.setattr(journalctl, "ANSWER", 0.05)
    (ship.folder / "a.log").write_text("one\n")
    ship.source.program.write_text(f"#!/bin/sh\n{does}\n")
    ship.start()
    ship.until(lambda: server.messages("x") == ["one"])
    ship.until(lambda: ship.shipper._window.acknowledged == 1 and ship.status()["error"])
    assert (ship.status()["waiting"], ship.status()["full_since"]) == (None, None)
    assert ship.status()["error"].startswith(f"{ship.source.program} -n1 ")
    assert "waiting: nobody knows how many lines" in status.lines(ship.status())


def test_a_journal_that_is_silent_has_lines_that_wait(ship, server):
    program = ship.source.program
    program.write_text(
        program.read_text().replace("tail -n +", "sleep 60 -n +")
    )  # fmt: skip
    ship.source.write(*(entry(it) for it in range(1, 6)))
    ship.start()
    ship.until(lambda: ship.shipper._link)
    ship.until(lambda: ship.status()["waiting"] == 5)
    assert ship.status()["oldest_waiting"] == "1970-01-01T00:00:00.000011Z"
    for _ in range(20):
        ship.shipper.turn(0.01)
        assert ship.status()["waiting"] == 5


def test_a_line_of_a_file_that_waits_has_a_time(ship, server, monkeypatch):
    made = feed.Feed(config.load(ship.config), positions.Positions(f"{ship.state}/p", 0.0), ["x"])
    file = SimpleNamespace(source="file:1", state=(100, 0))
    made.tail.files["1"] = file
    found = []
    for present, offset, size in (
        *((1, 0, 100), (2, 50, 200), (3, 120, 300), (4, 120, 300), (5, 200, 300), (6, 300, 300)),
        (7, 300, 301),
    ):
        monkeypatch.setattr(feed, "micros", lambda present=present: present)
        file.state = (size, 0)
        made._in_files = dict(made._behind({"file:1": [offset, {}]}))
        found.append(made.oldest)
    assert found == [1, 1, 3, 3, 3, 0, 7]
    made._in_journal = 4
    assert made.oldest == 4


def test_lines_of_files_wait_while_nobody_takes_them(ship, server):
    ship.start()
    ship.until(lambda: ship.shipper._link)
    server.kill()
    (ship.folder / "a.log").write_text("one\n")
    ship.shipper._feed.tail.scan(time.monotonic() + 60)
    ship.until(lambda: ship.shipper._link is None)
    ship.until(lambda: ship.status()["oldest_waiting"])
    since = ship.status()["oldest_waiting"]
    assert ship.status()["waiting"] == 1
    ship.shipper.turn(0.1)
    assert ship.status()["oldest_waiting"] == since
    server.revive()
    ship.until(lambda: not ship.status()["oldest_waiting"])
    assert server.messages("x") == ["one"]


def test_no_more_is_under_way_than_may_be(ship, server, monkeypatch):
    monkeypatch.setattr(window, "BYTES", 300_000)
    server.acknowledges = 0
    ship.source.write(*(entry(it, "x" * 100_000) for it in range(1, 9)))
    ship.start()
    ship.until(lambda: len(ship.shipper._window) and not ship.shipper._window.room)
    for _ in range(50):
        ship.shipper.turn(0)
    sizes = [size for _, size in ship.shipper._window._open.values()]
    assert 150_000 < sum(sizes) == ship.shipper._window._bytes < 410_000
    server.kill()
    ship.until(lambda: ship.shipper._link is None)
    server.revive()
    ship.until(lambda: ship.shipper._window.acknowledged == 24)
    assert ship.shipper._window._bytes == 0


def test_a_journalctl_that_ended_while_nothing_is_taken_costs_nothing(ship, server):
    ship.source.program.write_text(f"#!/bin/sh\nhead -n 400 {ship.source.path}\n")
    ship.source.write(*(entry(it) for it in range(1, 401)))
    server.acknowledges = 0
    ship.start()
    follower = ship.shipper._feed.journal.follower
    ship.until(lambda: follower.pending and not ship.shipper._window.room)
    begin = time.monotonic()
    ship.shipper.turn(0.02)
    ship.shipper.turn(0.02)
    assert time.monotonic() - begin >= 0.03


def test_marks_are_told_not_too_often(ship, server, monkeypatch):
    monkeypatch.setattr(status, "EVERY", 1.0)
    it = status.Status(str(ship.folder / "s.json"), config.load(ship.config))
    values = {"waiting": 0, "error": ""}
    it.write(10.0, values, 0)
    it.arrived(Step("journal", "a", mark="m1"))
    assert [it.due(10.1), it.due(10.25)] == [False, True]
    it.write(10.25, values, 0)
    assert [it.due(10.5), it.due(11.3)] == [False, True]
    it.arrived(Step("journal", "b", mark="m2", probe=True))
    assert not it.due(10.5)


def test_marks_are_told(ship, server):
    ship.start()
    for number in range(1, 26):
        ship.source.write(entry(number, ROCKSALT_MARK=f"m{number}", _UID="0"))
    ship.until(lambda: "m25" in ship.status()["marks"])
    assert list(ship.status()["marks"]) == [f"m{it}" for it in range(6, 26)]


def test_the_oldest_are_dropped_and_counted(ship, server):
    ship.settings |= {"at_limit": "drop", "limit": 20}
    ship.source.write(entry(1))
    ship.start()
    ship.until_counts(lambda it: it.counting.get("journal") == cursor(1))
    server.kill()
    ship.until(lambda: ship.shipper._link is None)
    ship.source.write(*(entry(it) for it in range(2, 101)))
    server.revive()
    ship.until(lambda: "n100" in server.messages())
    assert server.messages() == ["n1", *numbered(81, 100)]
    ship.until(lambda: ship.status()["dropped"] == 79)
    ship.until_counts(lambda it: it.counts["dropped"] == 79)


def test_the_drift_report_is_sent_once(ship, server):
    summary = {
        **{"controls": 3, "ok": 1, "drift": 1, "waived": 0, "skipped": 1, "error": 0},
        **{"score": 50.0, "worst": "high"},
    }
    finding = {
        **{"id": "FW-001", "family": "firewall", "severity": "high", "remedy": "state"},
        **{"title": "Inbound traffic is denied", "status": "drift", "expected": 1, "actual": 2},
        **{"reason": "INPUT accepts", "fix": "state.apply hardening.firewall"},
    }
    report = {
        **{"schema": 1, "host": "web1", "time": "2026-11-23T00:00:00Z", "version": "0"},
        **{"settings": "live", "summary": summary},
        "findings": [finding, {**finding, "id": "FW-002", "status": "ok"}],
    }
    (ship.folder / "last.json").write_text(json.dumps(report))
    ship.start()
    ship.until(lambda: len(server.messages("drift")) == 2)
    first, second = (it for it in server.events() if it["event"]["dataset"] == "drift")
    text = "drift report: score 50, 1 ok, 1 drift, 0 waived, 1 skipped, 0 error"
    assert (first["message"], first["event"]["severity"]) == (text, 3)
    rule = {"id": "FW-001", "name": "Inbound traffic is denied", "ruleset": "firewall"}
    assert (second["message"], second["rule"]) == ("INPUT accepts", rule)
    assert (second["event"]["action"], second["event"]["kind"]) == ("drift", "state")
    ship.until_counts(lambda it: it.counting.get("report") == report["time"])
    ship.start()
    reports_sent = len(server.messages("drift"))
    report["time"] = "2026-11-24T00:00:00Z"
    (ship.folder / "last.json").write_text(json.dumps(report))
    ship.until(lambda: len(server.messages("drift")) == reports_sent + 2)
    ids = [it["event"]["id"] for it in server.events() if it["event"]["dataset"] == "drift"]
    assert len(set(ids)) == len(ids)


def test_it_ends_cleanly(ship, server):
    ship.source.write(*(entry(it) for it in range(1, 51)))
    ship.start()
    ship.until(lambda: ship.shipper._window.sent > 10)
    ship.shipper.stop()
    ship.shipper.run()
    assert not ship.shipper._window
    assert json.loads((ship.state / "positions.json").read_text())["schema"] == 1


def test_the_status_is_for_people(ship, server, capsys):
    ship.start()
    ship.source.write(own_probe(1, "abc"))
    ship.until(lambda: ship.shipper._window.acknowledged == 1 and ship.status()["probe"])
    assert main(["status", "--state", str(ship.state)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("connected to logs1 since 20")
    assert "missing: 0 dropped, 0 lost, 0 unknown gaps, 0 cut" in lines
    assert main(["status", "--state", str(ship.folder)]) == 1
    assert "status.json cannot be read, the shipper may never have run" in capsys.readouterr().err


def test_settings_are_checked(ship, server, capsys, monkeypatch):
    assert main(["check", "--config", ship.config]) == 0
    ship.settings |= {"at_limit": "wait", "mask": ["("], "other": 1, "limit": "x"}
    ship.settings["servers"] = [{"host": HERE, "port": 0, "name": "a"}, {"host": HERE}]
    del ship.settings["ca"]
    assert main(["check", "--config", ship.config]) == 1
    said = capsys.readouterr().err
    for sentence in (
        "shipper.json: ca is missing",
        "other is no setting of the shipper",
        "limit is 'x', not a number",
        "mask: '(' is no regular expression",
        "servers[0] has the port 0",
        "servers[1] is {'host': '127.0.0.1'}, not a host, a port and a name",
        "at_limit is 'wait', not block or drop",
    ):
        assert sentence in said
    assert main(["run", "--config", ship.config]) == 78
    assert main(["run", "--config", "/nowhere"]) == 78
    monkeypatch.setattr("rocksalt.logstash.shipping.__main__._COMMANDS", {"run": fail})
    assert main(["run", "--config", ship.config]) == 1


def fail(options):
    """What is not the configuration's fault."""
    raise RocksaltError("no memory")

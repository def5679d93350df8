"""rocksalt.logstash.server and witness: what they put on a host, and how it starts."""

from __future__ import annotations

import socket

import logstash_servers as servers
import pytest
from logstash_servers import ADDRESS, USER, WITNESS

from rocksalt import logstash, permissions
from rocksalt.backup.crypto import sshsig
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.logstash import certified, enforce, received, roles, server, told, witness
from rocksalt.nrpe import tls
from rocksalt.transaction import Transaction

RESTART = ("systemctl", "restart", logstash.RECEIVER_UNIT)
KEYS = f"{roles.WITNESS_HOME}/.ssh/authorized_keys"


@pytest.fixture
def writes(monkeypatch):
    """The paths that were written."""
    found: list[str] = []
    write = Host.write

    def noting(self, path, text, mode="0644"):
        found.append(path)
        write(self, path, text, mode)

    monkeypatch.setattr(Host, "write", noting)
    return found


@pytest.fixture
def listens(monkeypatch):
    """Whether rsyslogd listens after its start, and where somebody looked."""
    found = {"answer": True, "at": []}

    def answers_in(seconds, address, port, alive):
        found["at"].append((address, port))
        return found["answer"]

    monkeypatch.setattr(tls, "answers_in", answers_in)
    return found


def put(host, it, ids=server.CHECKS):
    change = Transaction(host)
    server.put(host, it, change, ids)
    certified.put(host, it, change, {*ids, *certified.CHECKS})
    return change


# A log server -------------------------------------------------------------------------------------


def test_what_is_put(shipped, host, writes):
    servers.bare(host)
    it = servers.comparison(shipped, host)
    writes.clear()
    put(host, it)
    assert {path: host.access(path) for path in writes} == {
        logstash.LOGS: "root:root 0755",
        logstash.RECEIVER_CONFIG: f"root:{USER} 0640",
        logstash.RSYSLOG_CONFIG: f"root:{USER} 0640",
        **{path: "root:root 0644" for path in writes if path.startswith("/etc/systemd/system/")},
    }
    assert {path: host.access(path) for path in received.folders(it)} == {
        "/var/log/rocksalt": f"{USER}:{USER} 0750",
        "/var/lib/rocksalt-logs": f"{USER}:{USER} 0750",
    }
    assert host.access("/var/lib/rocksalt-logs/rsyslog") == f"{USER}:{USER} 0750"
    assert host.access(logstash.SERVER_KEY) == f"root:{USER} 0640"
    keys = (logstash.SIGNING_KEY, logstash.TRANSPORT_KEY)
    assert {host.access(path) for path in keys} == {f"{USER}:{USER} 0600"}
    assert len({sshsig.Signer.load(host.path(path)).public for path in keys}) == 2
    assert servers.differing(it, {"LOG-102", "LOG-105", "LOG-108", "LOG-010"}) == {}


def test_a_second_time_nothing_is_written(shipped, host, writes):
    servers.good(shipped, host)
    before = host.read(logstash.SIGNING_KEY)
    writes.clear()
    put(host, servers.comparison(shipped, host))
    assert writes == []
    assert host.read(logstash.SIGNING_KEY) == before
    assert not [ran for ran in host.ran if ran[0] in ("useradd", "usermod")]


def test_nothing_is_put_for_controls_of_others(shipped, host, writes):
    servers.bare(host)
    server.put(host, servers.comparison(shipped, host), Transaction(host), {"LOG-002"})
    assert writes == []
    assert not host.path(logstash.RECEIVED).exists()


def test_accounts(shipped, host):
    servers.bare(host)
    host.put("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
    put(host, servers.comparison(shipped, host))
    (made,) = [ran for ran in host.ran if ran[0] == "useradd"]
    assert made == (
        "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
        "--shell", "/usr/sbin/nologin", USER,
    )  # fmt: skip
    host.put("/etc/passwd", servers.PASSWD.replace("/usr/sbin/nologin", "/bin/sh"))
    put(host, servers.comparison(shipped, host))
    (changed,) = [ran for ran in host.ran if ran[0] == "usermod"]
    assert changed == (
        "usermod", "--lock", "--expiredate", "", "--shell", "/usr/sbin/nologin", USER
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda host: host.path(server.RSYSLOGD).unlink(),
            "rsyslog is not installed: apt-get install rsyslog rsyslog-relp",
        ),
        (
            lambda host: host.path("/usr/lib/x86_64-linux-gnu/rsyslog/imrelp.so").unlink(),
            "rsyslog has no module imrelp: apt-get install rsyslog-relp",
        ),
        (
            lambda host: host.put("/etc/passwd", f"{USER}:x:990:990::/home/x:/bin/sh\n"),
            f"the account {USER} has the home /home/x, so it is somebody else's",
        ),
        (
            lambda host: host.put("/var/log/rocksalt/theirs"),
            "hardening:logstash:receiver:path: /var/log/rocksalt is of root and holds theirs; it "
            "needs a folder of its own",
        ),
        (
            lambda host: host.put("/var/log/rocksalt"),
            "hardening:logstash:receiver:path: /var/log/rocksalt is no folder",
        ),
    ],
)
def test_refusals(shipped, host, writes, change, words):
    servers.bare(host)
    change(host)
    with pytest.raises(Refused) as caught:
        put(host, servers.comparison(shipped, host))
    assert str(caught.value) == words
    assert writes == []


def test_links_of_the_account_lead_nowhere(shipped, host):
    """It could have root give it what it likes."""
    servers.good(shipped, host)
    host.put("/etc/victim/shadow", mode=0o600)
    host.path("/etc/victim").chmod(0o755)
    work = host.path(f"{logstash.RECEIVING}/rsyslog")
    work.rmdir()
    work.symlink_to(host.path("/etc/victim"))
    host.path(f"{logstash.RECEIVED}/web2").symlink_to(host.path("/etc/victim"))
    put(host, servers.comparison(shipped, host))
    assert host.access("/etc/victim") == "root:root 0755"
    with pytest.raises(OSError, match="Not a directory"):
        permissions.give(
            host, f"{logstash.RECEIVED}/web2/shadow", "root:root 0640", logstash.RECEIVED
        )
    with pytest.raises(OSError, match="is a link"):
        permissions.give(host, f"{logstash.RECEIVED}/web2", "root:root 0640")
    assert host.access("/etc/victim/shadow") == "root:root 0600"


def test_a_folder_that_is_a_link(shipped, host):
    servers.bare(host)
    host.put("/etc/victim/x")
    host.path("/var/lib").mkdir(parents=True)
    host.path(logstash.RECEIVING).symlink_to(host.path("/etc/victim"))
    with pytest.raises(Refused, match=f"{logstash.RECEIVING} is no folder: remove it"):
        put(host, servers.comparison(shipped, host))
    assert host.access("/etc/victim") == "root:root 0755"


def test_a_file_system_of_its_own(shipped, host):
    servers.bare(host)
    host.put(f"{logstash.RECEIVED}/lost+found/x")
    put(host, servers.comparison(shipped, host))
    assert host.access(logstash.RECEIVED) == f"{USER}:{USER} 0750"
    host.owners |= {logstash.RECEIVED: "ann", f"{logstash.RECEIVED}/lost+found": "ann"}
    with pytest.raises(Refused, match=r"is of ann and holds lost\+found; it needs a folder"):
        put(host, servers.comparison(shipped, host))


def undone(host, it, words, ids=(*server.CHECKS, "LOG-002", "LOG-003")):
    """What was disabled and stopped when a change failed."""
    host.ran.clear()
    with pytest.raises(Refused, match=words):
        enforce.enforce(host, it, [*ids])
    return [ran for ran in host.ran if ran[1] in ("disable", "stop")]


def test_a_first_setup_that_fails_leaves_nothing_running(shipped, host, monkeypatch, listens):
    def start(*_):
        raise Refused("the shipper does not start")

    monkeypatch.setattr(enforce.starting, "start", start)
    servers.bare(host)
    it = servers.comparison(shipped, host)
    words = "the shipper does not start; the old configuration is back"
    stopped = undone(host, it, words)
    for unit in server.UNITS:
        assert ("systemctl", "disable", "--quiet", unit) in stopped
        assert ("systemctl", "stop", unit) in stopped
    assert server.leftovers(host) == []
    first = host.ran.index(("systemctl", "enable", "--quiet", "--now", server.UNITS[0]))
    assert host.ran.index(("systemctl", "stop", server.UNITS[0])) > first


def test_a_log_server_that_ran_before_runs_on(shipped, host, listens):
    servers.good(shipped, host)
    shown = "ActiveState=active\nUnitFileState=enabled\n"
    blocks = [f"Id={unit}\n{shown}" for unit in (logstash.SHIPPER_UNIT, *server.UNITS)]
    host.answer(f"systemctl show {logstash.SHIPPER_UNIT} {server.UNITS[0]}", "\n".join(blocks))
    servers.units(host, ago=60)
    listens["answer"] = False
    it = servers.comparison(shipped, host)
    assert undone(host, it, "does not listen on", server.CHECKS) == []


def test_drop_ins_of_others_are_put_aside(shipped, host):
    servers.good(shipped, host)
    host.put(f"{server.UNIT_PATH}.d/x.conf", "[Service]\n")
    change = put(host, servers.comparison(shipped, host))
    assert host.glob(f"{server.UNIT_PATH}.d/*") == [
        f"{server.UNIT_PATH}.d/x.conf.disabled-by-rocksalt"
    ]
    host.ran.clear()
    assert change.undo() == []
    assert host.glob(f"{server.UNIT_PATH}.d/*") == [f"{server.UNIT_PATH}.d/x.conf"]
    assert host.ran == [
        ("systemctl", "daemon-reload"),
        ("systemctl", "try-restart", logstash.RECEIVER_UNIT),
    ]


def test_what_lies_open_is_closed(shipped, host):
    servers.good(shipped, host)
    path = f"{logstash.RECEIVED}/web1/2026-11-23.jsonl"
    host.path(path).chmod(0o666)
    host.owners[f"{logstash.RECEIVED}/web1"] = "ann"
    put(host, servers.comparison(shipped, host))
    assert host.access(path) == f"{USER}:{USER} 0640"
    assert host.access(f"{logstash.RECEIVED}/web1") == f"{USER}:{USER} 0750"


def test_the_start(shipped, host, listens):
    servers.good(shipped, host)
    servers.units(host, ActiveState="inactive")
    host.answer(f"systemctl show {server.UNITS[0]} -p", "ActiveState=inactive\n")
    host.path(told.VERIFIED).unlink()
    server.take_effect(host, servers.comparison(shipped, host))
    done = [ran for ran in host.ran if ran[1] not in ("show",)]
    assert done == [
        ("systemctl", "daemon-reload"),
        (server.RSYSLOGD, "-N1", "-f", logstash.RSYSLOG_CONFIG),
        ("systemctl", "reset-failed", logstash.RECEIVER_UNIT),
        RESTART,
        *(("systemctl", "enable", "--quiet", "--now", unit) for unit in server.UNITS),
        ("systemctl", "start", "rocksalt-logs-heads.service"),
        ("systemctl", "start", "rocksalt-logs-verify.service"),
    ]
    assert listens["at"] == [(ADDRESS, 2601), (ADDRESS, 2602)]


def test_one_that_runs_on_its_files_runs_on(shipped, host, listens):
    servers.good(shipped, host)
    server.take_effect(host, servers.comparison(shipped, host))
    assert RESTART not in host.ran
    assert ("systemctl", "start", "rocksalt-logs-verify.service") not in host.ran
    servers.units(host, ago=60)
    server.take_effect(host, servers.comparison(shipped, host))
    assert RESTART in host.ran


def test_without_a_certificate_nothing_starts(shipped, host, listens):
    servers.good(shipped, host)
    host.path(logstash.SERVER_CERTIFICATE).unlink()
    server.take_effect(host, servers.comparison(shipped, host))
    assert host.ran == []


def test_a_configuration_that_rsyslogd_refuses(shipped, host, listens):
    servers.good(shipped, host)
    servers.units(host, ago=60)
    host.answer(server.RSYSLOGD, status=1, err="rsyslogd: error\nin line 3\n")
    with pytest.raises(Refused) as caught:
        server.take_effect(host, servers.comparison(shipped, host))
    assert str(caught.value) == (
        f"rsyslogd does not take {logstash.RSYSLOG_CONFIG}: rsyslogd: error in line 3"
    )
    assert RESTART not in host.ran


def test_one_that_does_not_come_up(shipped, host, listens):
    servers.good(shipped, host)
    servers.units(host, ago=60)
    listens["answer"] = False
    host.answer("journalctl", "imrelp: cannot bind\n")
    with pytest.raises(Refused) as caught:
        server.take_effect(host, servers.comparison(shipped, host))
    assert str(caught.value) == (
        f"{logstash.RECEIVER_UNIT} does not listen on {ADDRESS} port 2601: imrelp: cannot bind"
    )


def test_taking_it_away(shipped, host):
    servers.good(shipped, host)
    host.put(f"{server.UNIT_PATH}.d/x.conf.disabled-by-rocksalt")
    found = server.leftovers(host)
    assert len(found) == 8 and logstash.LOGS in found
    server.clean(host)
    assert server.leftovers(host) == []
    assert host.glob(f"{server.UNIT_PATH}.d/*") == [f"{server.UNIT_PATH}.d/x.conf"]
    assert [ran[-1] for ran in host.ran] == list(server.UNITS)
    stays = (logstash.SIGNING_KEY, logstash.SERVER_KEY, f"{logstash.RECEIVED}/web1")
    assert all(host.path(path).exists() for path in stays)


# A witness ----------------------------------------------------------------------------------------


def test_a_good_witness(shipped, host):
    servers.witnesses(shipped, host)
    assert servers.differing(servers.watching(shipped, host), witness.CHECKS) == {}
    assert sorted(witness.CHECKS) == ["LOG-201", "LOG-202", "LOG-203"]
    assert host.read(KEYS).splitlines()[1:] == [
        f'restrict,command="{logstash.LOGS} witness --key {logstash.WITNESS_KEY} --client logs1" '
        f"{servers.key()} logs1"
    ]
    assert host.access(KEYS) == "root:root 0644"
    assert host.access(logstash.WITNESS_KEY) == f"{WITNESS}:{WITNESS} 0600"
    assert host.access(logstash.WITNESS_CONFIG) == f"root:{WITNESS} 0640"
    assert host.access(logstash.WITNESSED) == f"{WITNESS}:{WITNESS} 0750"


def test_a_witness_is_put_once(shipped, host, writes):
    servers.witnesses(shipped, host)
    writes.clear()
    before = host.read(logstash.WITNESS_KEY)
    witness.put(host, servers.watching(shipped, host), Transaction(host), witness.CHECKS)
    assert writes == [KEYS]
    assert host.read(logstash.WITNESS_KEY) == before


@pytest.mark.parametrize(
    ("change", "drifts"),
    [
        (
            lambda host: host.put(KEYS, "ssh-ed25519 AAAA ann\n"),
            {"LOG-201": f"{KEYS} was edited, root:root 0644"},
        ),
        (
            lambda host: host.put(f"{KEYS}2", "ssh-ed25519 AAAA ann\n"),
            {"LOG-201": f"{KEYS}2 lies beside the keys of the account"},
        ),
        (
            lambda host: host.path(logstash.WITNESS_CONFIG).unlink(),
            {"LOG-201": f"{logstash.WITNESS_CONFIG} does not exist"},
        ),
        (
            lambda host: host.path(logstash.WITNESS_KEY).chmod(0o644),
            {"LOG-202": f"{logstash.WITNESS_KEY} is the key "},
        ),
        (
            lambda host: host.path(f"{logstash.WITNESSED}/logs1").chmod(0o777),
            {"LOG-202": f"{logstash.WITNESSED}/logs1 is {WITNESS}:{WITNESS} 0777"},
        ),
        (
            lambda host: host.put(f"{logstash.WITNESSED}/logs1/refused.jsonl", "{}\n", 0o640,
                                  WITNESS),
            {"LOG-203": "logs1 sent what was not taken: read "
                        f"{logstash.WITNESSED}/logs1/refused.jsonl, then put it away"},
        ),
    ],
)  # fmt: skip
def test_drift_of_a_witness(shipped, host, change, drifts):
    servers.witnesses(shipped, host)
    change(host)
    found = servers.differing(servers.watching(shipped, host), witness.CHECKS)
    assert found.keys() == drifts.keys()
    for identifier, words in drifts.items():
        assert words in found[identifier]


def test_a_log_server_that_is_not_witnessed(shipped, host):
    servers.bare(host)
    witness.put(host, servers.watching(shipped, host), Transaction(host), witness.CHECKS)

    def seen():
        found = servers.differing(servers.watching(shipped, host), witness.CHECKS)
        return found.get("LOG-203", "")

    assert seen() == "logs1 is not witnessed, not yet"
    assert servers.entry(host, 1, "", 301)["ok"] is True
    assert seen().startswith("logs1 is not witnessed, not since 20")


def test_one_that_is_no_witness_any_more(shipped, host):
    servers.witnesses(shipped, host)
    assert witness.leftovers(host) == [logstash.WITNESS_CONFIG, KEYS]
    witness.clean(host)
    assert witness.leftovers(host) == []
    assert host.path(logstash.WITNESS_KEY).exists()


def test_keys_that_sshd_has_elsewhere(shipped, host):
    servers.bare(host)
    it = servers.watching(shipped, host, sshd={"authorized_keys_files": ["/etc/ssh/keys/%u"]})
    witness.put(host, it, Transaction(host), witness.CHECKS)
    keys = f"/etc/ssh/keys/{WITNESS}"
    assert witness.leftovers(host) == [logstash.WITNESS_CONFIG, keys]
    witness.clean(host)
    assert not host.path(keys).exists()


def test_a_witness_without_room(shipped, host, monkeypatch):
    servers.witnesses(shipped, host)
    monkeypatch.setattr(servers, "SPACE", (1000, 99))
    assert servers.differing(servers.watching(shipped, host), witness.CHECKS) == {
        "LOG-203": f"the disk of {logstash.WITNESSED} has 9 % free, expected 10 % and more"
    }


# Settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"receiver": {"path": "/logs"}}, "receiver:path: '/logs' is no folder of its own"),
        ({"receiver": {"path": "/var/../x/y"}}, "receiver:path: '/var/../x/y' is no folder of"),
        ({"receiver": {"address": "0.0.0.0"}}, "receiver:address: 0.0.0.0 is every address of"),
        ({"ports": {"../x": 2609}}, "ports:../x: '../x' cannot be the name of a folder"),
    ],
)
def test_problems_of_a_log_server(shipped, host, own, words):
    it = servers.comparison(shipped, host, logstash=own)
    (said,) = roles.problems(it.setup)
    assert said.startswith(f"hardening:logstash:{words}")


@pytest.mark.parametrize(
    ("entries", "called", "asked"),
    [
        ([{"host": ADDRESS, "name": "x.example.org"}], ["x.example.org"], ["x.example.org"]),
        ([{"host": ADDRESS}], [ADDRESS], []),
        ([{"host": "10.79.0.8", "name": "logs1"}], ["logs1"], ["logs1"]),
        ([{"host": "logs1", "port": 2700}], ["logs1"], ["logs1"]),
        ([{"host": "LOGS1.", "name": "a"}, {"host": "0::ffff:10.79.0.9", "name": "b"}],
         ["a", "b"], ["a", "b"]),
        ([{"host": "localhost", "name": "here"}], [ADDRESS], []),
        ([{"host": "10.79.0.8", "name": "logs2"}], [ADDRESS], []),
        ([{"host": ADDRESS, "name": "a"}, {"host": "logs1", "name": "b"}], ["a", "b"], ["a", "b"]),
    ],
)  # fmt: skip
def test_what_hosts_call_a_log_server(shipped, host, monkeypatch, entries, called, asked):
    """Nobody is asked for an address: whoever answers could add a name."""
    monkeypatch.setattr(socket, "getaddrinfo", None)
    it = servers.comparison(shipped, host, logstash={"servers": entries})
    assert roles.called(it.setup) == called
    assert roles.asked_for(it.setup) == [*asked, ADDRESS]
    own = {"servers": entries, "receiver": {"address": ADDRESS}}
    role = {"minions": ["log*"], "settings": {"logstash": {"receiver": own["receiver"]}}}
    for pillar in ({"logstash": own}, {"logstash": {"servers": entries}, "roles": {"x": role}}):
        assert roles.rendered(pillar, "logs1") == [*asked, ADDRESS]


@pytest.mark.parametrize(
    ("pillar", "words"),
    [
        ({}, "hardening:logstash:receiver is missing"),
        ({"logstash": {"servers": [{"host": ADDRESS}]}}, "makes it none: hardening:logstash:rec"),
        ({"roles": {"x": {"minions": ["logs2"], "settings": {"logstash": {"receiver": {"x": 1}}}}}},
         "logs1 asks for the certificate of a log server, and its pillar, as the master renders"),
        ({"roles": {"x": {"settings": {"logstash": {"receiver": {"x": 1}}}}}}, "makes it none"),
        ({"logstash": []}, "makes it none"),
        ({"logstash": ["x"]}, "the pillar of logs1 is not well-formed: salt logs1 hardening.valid"),
        ({"logstash": {"receiver": "x"}}, "the pillar of logs1 is not well-formed"),
        ("x", "the pillar of logs1 is not well-formed"),
    ],
)  # fmt: skip
def test_who_is_no_log_server_by_the_pillar_of_the_master(pillar, words):
    with pytest.raises(Refused) as caught:
        roles.rendered(pillar, "logs1")
    assert words in str(caught.value)


def test_a_witness_with_a_key_that_nothing_here_checks(shipped, host, public_key):
    rsa = public_key("ssh-rsa")
    it = servers.comparison(shipped, host, logstash={"receiver": {"witness": {"key": rsa}}})
    assert roles.problems(it.setup) == [
        f"hardening:logstash:receiver:witness:key: {rsa!r} is no public key of the type ssh-ed25519"
    ]


def test_problems_of_a_witness(shipped, host, public_key):
    rsa = public_key("ssh-rsa")
    client = servers.WITNESSING["logstash"]["witness"]["clients"]["logs1"]
    more = {"witness": {"clients": {"logs2": client, "a/b": {**client, "key": rsa}}}}
    it = servers.watching(shipped, host, logstash=more, sshd={"allow_groups": ["sudo"]})
    where = "hardening:logstash:witness:clients"
    assert roles.problems(it.setup) == [
        f"{where}:a/b: 'a/b' cannot be the name of a folder",
        f"{where}:a/b:key: {rsa!r} is no public key of the type ssh-ed25519",
        f"{where}:logs2:key: is the key of another log server; give each its own",
        f"hardening:sshd:allow_groups: lets in sudo only; name {WITNESS} there, the group of the "
        "witness of log servers",
    ]

"""rocksalt.logstash.enforce: a host becomes what the checks expect, or stays as it is."""

from __future__ import annotations

import os
import time

import logstash_hosts
import pytest
from logstash_hosts import GIB, PID, stamp

from rocksalt import logstash
from rocksalt.backup.errors import BackupError
from rocksalt.errors import InvalidSettings, Refused
from rocksalt.host import Ran
from rocksalt.logstash import enforce, journald, shipper, starting
from rocksalt.logstash.facts import digest
from rocksalt.transaction import ASIDE

RESTART = ("systemctl", "restart", logstash.SHIPPER_UNIT)
RELOAD = ("systemctl", "daemon-reload")
STOP = ("systemctl", "disable", "--quiet", "--now", logstash.SHIPPER_UNIT)
RESTART_JOURNAL = ("systemctl", "restart", journald.UNIT)
HOST_IDS = ["LOG-002", "LOG-003", "LOG-004", "LOG-012", "LOG-013", "LOG-015"]
NEW = {"mark": "new", "acknowledged": stamp()}
LATER = "/etc/systemd/journald.conf.d/zzz.conf"
FILES = [*shipper.ACCESS, journald.DROP_IN]


@pytest.fixture
def net(shipped, host):
    return logstash_hosts.good(shipped, host)


@pytest.fixture
def run(shipped, host, net):
    """Enforces controls, all that a state may by default."""

    def call(*ids, **pillar):
        it = logstash_hosts.comparison(shipped, host, net, **pillar)
        host.ran.clear()
        enforce.enforce(host, it, ids or HOST_IDS)

    return call


@pytest.fixture
def fresh(host, net):
    """A host that has its certificates and nothing else of ours; the shipper that is started says
    how it is.
    """
    for path in (*FILES, logstash.STATUS):
        host.remove(path)
    host.answer(logstash_hosts.CAT, logstash_hosts.STOCK)
    logstash_hosts.unit(
        host, ActiveState="inactive", UnitFileState="", FragmentPath="", MainPID="0"
    )

    def meanwhile(_):
        if RESTART in host.ran:
            logstash_hosts.unit(host)
            logstash_hosts.said(host, probe=NEW)

    net.meanwhile = meanwhile
    return net


def changes(host):
    """The commands that ran and change something."""
    return [c for c in host.ran if c[1] != "show" and c[0] != "systemd-analyze"]


def contents(host):
    return {path: host.read(path) for path in FILES}


def test_a_fresh_host(shipped, host, fresh, run):
    run()
    it = logstash_hosts.comparison(shipped, host, fresh)
    assert contents(host) == {**shipper.render(it), journald.DROP_IN: journald.render(it)}
    assert {path: host.access(path) for path in shipper.ACCESS} == shipper.ACCESS
    assert host.access(journald.DROP_IN) == "root:root 0644"
    assert {path: host.access(path) for path in shipper.FOLDERS} == shipper.FOLDERS
    order = [
        *(("systemctl", "daemon-reload"), RESTART_JOURNAL, ("journalctl", "--flush")),
        ("systemctl", "reset-failed", logstash.SHIPPER_UNIT),
        ("systemctl", "enable", "--quiet", logstash.SHIPPER_UNIT),
        RESTART,
    ]
    assert changes(host) == order
    logstash_hosts.journald_has(host)
    seen = logstash_hosts.comparison(shipped, host, fresh).seen()
    assert {i for i in HOST_IDS if seen[i].reason} == set()


def test_nothing_is_done_where_nothing_differs(host, run):
    """A highstate enforces the controls that differ, which are none here."""
    before = contents(host)
    run("LOG-001")
    assert RESTART not in host.ran and RESTART_JOURNAL not in host.ran
    assert contents(host) == before


@pytest.mark.parametrize("ids", [["LOG-012"], ["LOG-013"]])
def test_the_journal_alone(host, run, ids):
    host.put(journald.DROP_IN, "[Journal]\n")
    run(*ids)
    assert RESTART_JOURNAL in host.ran and RESTART not in host.ran
    assert "Storage=persistent" in host.read(journald.DROP_IN)


def test_the_shipper_alone(host, run):
    host.put(logstash.SHIPPER_CONFIG, "{}", 0o644)
    run("LOG-003", "LOG-004")
    assert RESTART in host.ran and RESTART_JOURNAL not in host.ran
    assert host.access(logstash.SHIPPER_CONFIG) == "root:root 0600"


def test_a_link_in_place_of_a_file(host, run):
    """What it leads to is somebody else's, and may change at any time."""
    text = host.read(shipper.UNIT_PATH)
    host.put("/srv/unit", text)
    host.remove(shipper.UNIT_PATH)
    host.path(shipper.UNIT_PATH).symlink_to(host.path("/srv/unit"))
    run("LOG-003")
    assert not host.path(shipper.UNIT_PATH).is_symlink()
    assert host.read(shipper.UNIT_PATH) == text


def test_nobody_receives(host, run):
    host.remove(journald.DROP_IN)
    host.remove(logstash.SHIPPER)
    run("LOG-012", "LOG-013", logstash={"servers": []})
    assert host.read(journald.DROP_IN) is not None
    assert host.read(logstash.SHIPPER) is None
    assert RESTART not in host.ran and host.ran[-1] == STOP


def test_a_shipper_that_is_left_over(host, run):
    """It would send to log servers that are not wanted any more."""
    before = contents(host)
    run("LOG-001", logstash={"servers": []})
    assert changes(host) == [RELOAD, STOP]
    assert contents(host) == before
    logstash_hosts.unit(host, ActiveState="inactive", UnitFileState="disabled")
    run("LOG-001", logstash={"servers": []})
    assert changes(host) == [RELOAD]


def test_one_that_cannot_be_stopped(host, run):
    host.answer(" ".join(STOP), status=1, err="Job failed")
    said = refused(run, "LOG-001", logstash={"servers": []})
    assert said == f"{' '.join(STOP)} failed: Job failed; the old configuration is back"
    again = ("systemctl", "enable", "--quiet", "--now", logstash.SHIPPER_UNIT)
    assert changes(host) == [RELOAD, STOP, again, RELOAD]


def test_without_a_certificate_nothing_starts(host, fresh, run):
    host.remove(logstash.KEY)
    run()
    assert host.read(logstash.SHIPPER_CONFIG) is not None
    assert not [c for c in host.ran if logstash.SHIPPER_UNIT in c and c[1] in ("restart", "enable")]


def test_waived_controls_are_left(host, fresh, run, waiver):
    run(*HOST_IDS, waivers={"LOG-003": waiver(), "LOG-012": waiver(), "LOG-013": waiver()})
    assert contents(host) == dict.fromkeys(FILES)
    assert RESTART_JOURNAL not in host.ran


def test_keys_that_others_can_read(host, run):
    host.path(logstash.KEY).chmod(0o644)
    run("LOG-010")
    assert host.access(logstash.KEY) == "root:root 0600"
    assert RESTART not in host.ran


RECEIVER = {"receiver": {"address": "10.79.0.9"}}
WITNESS = {"witness": {"path": "/srv/witness/logs"}}


@pytest.mark.parametrize(
    ("pillar", "ids", "called"),
    [
        ({}, {"LOG-003", "LOG-101", "LOG-201"}, []),
        (RECEIVER, {"LOG-101", "LOG-203"}, ["server.put", "server.take_effect"]),
        (RECEIVER, {"LOG-012"}, ["server.put"]),
        (WITNESS, {"LOG-201"}, ["witness.put"]),
    ],
)
def test_the_roles_of_a_host(host, run, monkeypatch, pillar, ids, called):
    """What a host is not, is not set up on it."""
    told = []

    monkeypatch.setattr(enforce.server, "put", lambda *args: told.append(("server.put", args[3])))
    monkeypatch.setattr(enforce.witness, "put", lambda *args: told.append(("witness.put", args[3])))
    monkeypatch.setattr(
        enforce.server, "take_effect", lambda *args: told.append(("server.take_effect",))
    )
    logstash_hosts.said(host, probe=NEW)
    run(*ids, logstash=pillar)
    assert [name for name, *_ in told] == called
    assert all(args == [ids] for _, *args in told if args)


def test_a_log_server_that_fails_takes_the_shipper_back(host, run, monkeypatch):
    def fail(*_):
        raise Refused("rsyslogd does not listen")

    before = older(host)
    monkeypatch.setattr(enforce.server, "put", lambda *_: None)
    monkeypatch.setattr(enforce.server, "take_effect", fail)
    ids = ("LOG-003", "LOG-101")
    assert refused(run, *ids, logstash=RECEIVER) == (
        "rsyslogd does not listen; the old configuration is back"
    )
    assert contents(host) == before


# Refused ------------------------------------------------------------------------------------------


def refused(run, *ids, **pillar):
    with pytest.raises(Refused) as caught:
        run(*ids, **pillar)
    return str(caught.value)


def test_a_name_without_an_address(host, fresh, run):
    before = contents(host)
    fresh.names.clear()
    assert refused(run) == "hardening:logstash:servers: logs2 has no address"
    assert contents(host) == before
    assert changes(host) == []


def test_a_name_that_the_shipper_knows_may_be_away(host, net, run):
    """A name service that does not answer is no reason to leave everything else as it is."""
    net.names.clear()
    host.remove(shipper.UNIT_PATH)
    run("LOG-003")
    assert host.read(shipper.UNIT_PATH) is not None


@pytest.mark.parametrize(
    ("pillar", "control"),
    [
        ({"receiver": {"path": "/srv/others"}}, "LOG-101"),
        ({"witness": {"path": "/srv/others"}}, "LOG-201"),
    ],
)
def test_a_folder_of_somebody_else(host, run, pillar, control):
    host.put("/srv/others/x")
    before = older(host)
    role, *_ = pillar
    assert refused(run, "LOG-003", "LOG-012", control, logstash=pillar) == (
        f"hardening:logstash:{role}:path: /srv/others is of root and holds x; it needs a folder of "
        "its own"
    )
    assert (contents(host), changes(host)) == (before, [])


@pytest.mark.parametrize("servers", ["[1]", "7", '{"host": "logs2"}', '[{"name": "logs2"}]'])
def test_a_configuration_that_somebody_wrote(host, fresh, run, servers):
    host.put(logstash.SHIPPER_CONFIG, f'{{"servers": {servers}}}')
    fresh.names.clear()
    assert refused(run) == "hardening:logstash:servers: logs2 has no address"


def test_a_disk_that_is_too_small(host, fresh, run):
    before = contents(host)
    fresh.disk = (GIB // 2, GIB // 4)
    assert refused(run) == (
        "hardening:logstash:journal_size: 1024 MiB are more than the disk of /var/log has, 512 MiB"
    )
    assert contents(host) == before


# Undone -------------------------------------------------------------------------------------------


def older(host):
    """Files of ours as an older version wrote them."""
    for path in FILES:
        host.put(path, "older\n", 0o600)
    return contents(host)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (BackupError("there is no ssh-keygen"), "there is no ssh-keygen"),
        (InvalidSettings(["a: is b"]), str(InvalidSettings(["a: is b"]))),
        (KeyError("logs1"), "'logs1'"),
        (ValueError("not a port"), "ValueError: not a port"),
        (TypeError("no text"), "TypeError: no text"),
    ],
)
def test_whatever_fails_is_taken_back(host, run, monkeypatch, error, sentence):
    """The journal and the shipper had not been restarted, and run on."""

    def fail(*_):
        raise error

    before = older(host)
    monkeypatch.setattr(enforce.certified, "put", fail)
    assert refused(run) == f"{sentence}; the old configuration is back"
    assert (contents(host), changes(host)) == (before, [RELOAD])


def test_a_key_that_is_missing_is_asked_for_before(host, run, monkeypatch):
    def fail(*_):
        raise Refused("it has no key")

    before = older(host)
    monkeypatch.setattr(enforce.certified, "key_of_given", fail)
    assert refused(run, "LOG-003", "LOG-008") == "it has no key"
    assert (contents(host), changes(host)) == (before, [])


def test_a_journald_that_fails_leaves_the_shipper_alone(host, run):
    older(host)
    host.answer("journalctl --flush", status=1, err="no access")
    assert refused(run) == "journalctl --flush: no access; the old configuration is back"
    flush = ("journalctl", "--flush")
    assert changes(host) == [RELOAD, RESTART_JOURNAL, flush, RELOAD, RESTART_JOURNAL]


def test_a_shipper_that_does_not_start(host, net, run):
    before = older(host)
    logstash_hosts.said(host)
    host.answer("journalctl --since=-1min", "started\nno such module\n\nno such module\n")
    said = refused(run)
    assert said == (
        f"{logstash.SHIPPER_UNIT} does not start: started; no such module; the old configuration "
        "is back"
    )
    assert contents(host) == before
    assert host.ran[-3:] == [RELOAD, RESTART_JOURNAL, RESTART]
    assert net.time >= starting.PATIENCE


def test_a_shipper_that_systemd_does_not_start(host, net, run):
    host.answer("journalctl --since=-1min", "rocksalt-ship: no certificate\n")
    host.answer(" ".join(RESTART), status=1, err="Job failed")
    assert refused(run, "LOG-002") == (
        f"{logstash.SHIPPER_UNIT} does not start: rocksalt-ship: no certificate; and going back "
        "failed, too: Job failed"
    )


def test_one_that_did_not_run_before_does_not_run_after(host, fresh, run):
    fresh.meanwhile = None
    assert "it does not say why; the old configuration is back" in refused(run)
    assert contents(host) == dict.fromkeys(FILES)
    disable = ("systemctl", "disable", "--quiet", logstash.SHIPPER_UNIT)
    stop = ("systemctl", "stop", logstash.SHIPPER_UNIT)
    assert host.ran[-4:] == [disable, stop, RELOAD, RESTART_JOURNAL]


def test_systemd_refuses(host, net, run):
    before = older(host)
    host.answer(" ".join(RESTART_JOURNAL), status=1, err="Job failed")
    said = refused(run)
    assert said == (
        f"systemctl restart {journald.UNIT}: Job failed; and going back failed, too: Job failed"
    )
    assert contents(host) == before


@pytest.mark.parametrize(
    ("command", "answer", "sentence"),
    [
        ("journalctl --flush", Ran(1, "", "no access"), "journalctl --flush: no access"),
        (logstash_hosts.SHOW_JOURNALD, Ran(0, "ActiveState=failed\n", ""),
         f"{journald.UNIT} does not run"),
    ],
)  # fmt: skip
def test_a_journald_that_does_not_work(host, run, command, answer, sentence):
    before = older(host)
    host.answers[tuple(command.split())] = answer
    assert refused(run, "LOG-012") == f"{sentence}; the old configuration is back"
    assert contents(host) == before


@pytest.mark.parametrize("path", [logstash.SHIPPER, shipper.UNIT_PATH, LATER])
def test_files_of_a_clock_that_was_ahead(shipped, host, net, run, path):
    """What is started on them is newer than they are, and not started anew each time."""
    ahead = time.time() + 3600
    host.put(LATER, "[Journal]\n")
    os.utime(host.path(path), (ahead, ahead))
    control = "LOG-012" if path == LATER else "LOG-004"
    assert control in different(shipped, host, net)
    run(control)
    assert control not in different(shipped, host, net)
    old = host.attributes(path).changed - 60
    os.utime(host.path(path), (old, old))
    run(control)
    assert host.path(path).stat().st_mtime == pytest.approx(old, abs=1e-3)


def different(shipped, host, net):
    it = logstash_hosts.comparison(shipped, host, net)
    want, seen = it.expected(), it.seen()
    return {i for i in HOST_IDS if want[i] != seen[i].actual}


# What others wrote --------------------------------------------------------------------------------


def test_a_file_that_wins_is_put_aside(host, run):
    host.put(LATER, "[Journal]\nStorage=none\n")
    logstash_hosts.journald_has(host, f"# {LATER}\n[Journal]\nStorage=none\n")
    run("LOG-012")
    assert host.read(LATER) is None
    assert host.read(LATER + ASIDE) == "[Journal]\nStorage=none\n"
    enforce.clean(host)
    assert host.read(LATER) == "[Journal]\nStorage=none\n"


def test_a_file_that_says_the_same_stays(host, run):
    host.put(LATER, "[Journal]\nStorage=persistent\nCompress=no\n")
    text = "[Journal]\nStorage=persistent\nCompress=no\n"
    logstash_hosts.journald_has(host, f"# {LATER}\n{text}")
    run("LOG-012")
    assert host.read(LATER) is not None


def test_a_file_that_ours_beats_stays(host, run):
    earlier = "/etc/systemd/journald.conf.d/00.conf"
    host.put(earlier, "[Journal]\nStorage=none\n")
    ours = f"# {journald.DROP_IN}\n{host.read(journald.DROP_IN)}"
    host.answer(logstash_hosts.CAT, f"# {earlier}\n[Journal]\nStorage=none\n\n{ours}")
    run("LOG-012")
    assert host.read(earlier) is not None


def test_a_file_of_the_distribution_that_wins(host, run):
    path = "/usr/lib/systemd/journald.conf.d/zzz.conf"
    logstash_hosts.journald_has(host, f"# {path}\n[Journal]\nStorage=none\n")
    before = older(host)
    sentence = f"{path} beats {journald.DROP_IN}: take its options out of it"
    assert refused(run, "LOG-003", "LOG-012") == sentence
    assert (contents(host), changes(host)) == (before, [])


def test_a_file_that_would_win(host, fresh, run):
    """Ours is not there yet, and would come before it."""
    path = "/usr/lib/systemd/journald.conf.d/zzz.conf"
    text = f"{logstash_hosts.STOCK}\n# {path}\n[Journal]\nStorage=none\n"
    host.answer(logstash_hosts.CAT, text)
    sentence = f"{path} beats {journald.DROP_IN}: take its options out of it"
    assert refused(run) == sentence
    assert (contents(host), changes(host)) == (dict.fromkeys(FILES), [])


def test_options_that_cannot_be_told(host, run):
    host.answer(logstash_hosts.CAT, status=1, err="Failed to\nread")
    before = older(host)
    assert refused(run) == f"systemd-analyze cat-config {journald.NAME}: Failed to read"
    assert (contents(host), changes(host)) == (before, [])


def test_what_changes_the_unit_is_put_aside(host, run):
    path = f"{shipper.UNIT_PATH}.d/mine.conf"
    host.put(path, "[Service]\nUser=nobody\n")
    run("LOG-003")
    assert host.read(path) is None and host.read(path + ASIDE) is not None
    logstash_hosts.unit(host, DropInPaths="/usr/lib/systemd/system/rocksalt-ship.service.d/x.conf")
    before = older(host)
    assert refused(run, "LOG-003", "LOG-012") == (
        "/usr/lib/systemd/system/rocksalt-ship.service.d/x.conf changes rocksalt-ship.service: "
        "remove it"
    )
    assert (contents(host), changes(host)) == (before, [])
    enforce.clean(host)
    assert host.read(path) == "[Service]\nUser=nobody\n"


# Waiting for the shipper --------------------------------------------------------------------------


def test_a_log_server_is_waited_for(host, net, run):
    """A healthy highstate ends with a first marked line that arrived."""
    logstash_hosts.said(host, server=None)

    def meanwhile(now):
        if now > 4:
            logstash_hosts.said(host, probe=NEW)

    net.meanwhile = meanwhile
    run("LOG-002")
    assert 4 < net.time < 5


@pytest.mark.parametrize("other", [{"server": None, "probe": NEW}, {"probe": None}, {}])
def test_a_log_server_that_is_away_is_no_failure(host, net, run, other):
    """What arrived before the shipper was started does not count."""
    logstash_hosts.said(host, **other)
    run("LOG-002")
    assert starting.PATIENCE <= net.time < starting.PATIENCE + 1


@pytest.mark.parametrize("other", [{"pid": PID + 1}, {"config": digest("older")}])
def test_what_an_older_shipper_said_does_not_count(host, net, run, other):
    logstash_hosts.said(host, **other)
    assert "does not start" in refused(run, "LOG-002")


def test_a_shipper_that_waited_for_its_certificate(shipped, host, fresh):
    logstash_hosts.put_files(host, logstash_hosts.comparison(shipped, host, fresh))
    assert starting.go_on(host, logstash_hosts.comparison(shipped, host, fresh))
    assert RESTART in host.ran and STOP not in host.ran
    host.ran.clear()
    assert not starting.go_on(host, logstash_hosts.comparison(shipped, host, fresh))
    assert RESTART not in host.ran


def test_one_that_cannot_start_with_it(shipped, host, fresh):
    logstash_hosts.put_files(host, logstash_hosts.comparison(shipped, host, fresh))
    fresh.meanwhile = None
    with pytest.raises(Refused, match=r"does not start: it does not say why$"):
        starting.go_on(host, logstash_hosts.comparison(shipped, host, fresh))
    assert host.ran[-1] == STOP


def test_whatever_keeps_it_from_starting(shipped, host, fresh, monkeypatch):
    def fail(*_):
        raise PermissionError(1, "read-only")

    logstash_hosts.put_files(host, logstash_hosts.comparison(shipped, host, fresh))
    monkeypatch.setattr(starting, "renew", fail)
    with pytest.raises(PermissionError):
        starting.go_on(host, logstash_hosts.comparison(shipped, host, fresh))
    assert host.ran[-1] == STOP


@pytest.mark.parametrize("missing", [shipper.UNIT_PATH, logstash.KEY, "servers", "LOG-002"])
def test_one_that_need_not_start(shipped, host, fresh, missing, waiver):
    logstash_hosts.put_files(host, logstash_hosts.comparison(shipped, host, fresh))
    host.remove(missing)
    pillar = {"logstash": {"servers": []}} if missing == "servers" else {}
    pillar |= {"waivers": {missing: waiver()}} if missing == "LOG-002" else {}
    assert not starting.go_on(host, logstash_hosts.comparison(shipped, host, fresh, **pillar))
    assert RESTART not in host.ran


# Taking it away -----------------------------------------------------------------------------------


def test_clean(host, net):
    host.put(logstash.POSITIONS, "{}")
    found = enforce.leftovers(host)
    assert found == [*shipper.ACCESS, logstash.STATUS, journald.DROP_IN]
    enforce.clean(host)
    assert enforce.leftovers(host) == []
    stop = ("systemctl", "disable", "--now", "--quiet", logstash.SHIPPER_UNIT)
    assert stop in host.ran and RESTART_JOURNAL in host.ran
    kept = (logstash.AUTHORITY, logstash.CERTIFICATE, logstash.KEY, logstash.POSITIONS)
    assert all(host.read(path) is not None for path in kept)


def test_clean_where_nothing_is(host):
    host.answer("systemctl")
    enforce.clean(host)
    assert host.ran == [("systemctl", "daemon-reload")]

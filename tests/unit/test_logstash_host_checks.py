"""rocksalt.logstash.checks: a host that ships, against the settings."""

from __future__ import annotations

import json
import os

import logstash_hosts
import pytest
from logstash_hosts import GIB, NOW, stamp

from rocksalt import logstash
from rocksalt.logstash import checks, controls, journald, masking, shipper
from rocksalt.logstash.shipping import datasets
from rocksalt.logstash.shipping.mask import Masker

OWN = (controls.RECEIVED, *shipper.CHECKS, *journald.CHECKS)
"""The controls that are not about certificates, log servers and witnesses."""


@pytest.fixture
def net(shipped, host):
    return logstash_hosts.good(shipped, host)


@pytest.fixture
def differing(shipped, host, net):
    """Control id -> problem or reason, of those that are not as expected."""

    def call(**pillar) -> dict[str, str]:
        it = logstash_hosts.comparison(shipped, host, net, **pillar)
        want, seen = it.expected(), it.seen()
        assert want.keys() == seen.keys()
        assert all(seen[i].reason for i in want if seen[i].problem)
        return {
            i: seen[i].reason or f"{seen[i].actual}"
            for i in OWN
            if seen[i].problem or want[i] != seen[i].actual
        }

    return call


def test_as_expected(differing):
    assert differing() == {}


def test_every_control_is_looked_at(shipped, host, net):
    it = logstash_hosts.comparison(shipped, host, net)
    assert it.seen().keys() == it.setup.family.controls.keys()


def test_what_the_shipper_is_told(shipped, host, net):
    it = logstash_hosts.comparison(
        shipped, host, net,
        logstash={"customer": "acme", "files": {"/var/log/app/*.log": "app"}, "ignore": ["/x/*"]},
    )  # fmt: skip
    found = json.loads(it.render()[logstash.SHIPPER_CONFIG])
    masks = it.setup.settings["mask"]
    assert found["host"] == "web1"
    assert found["servers"] == [
        {"host": "10.79.0.9", "port": 2601, "name": "logs1"},
        {"host": "logs2", "port": 2700, "name": "logs2"},
    ]
    assert (found["ca"], found["certificate"], found["key"]) == (
        *("/etc/rocksalt/logstash/ca.pem", "/etc/rocksalt/logstash/host.pem"),
        "/etc/rocksalt/logstash/host.key",
    )
    assert found["files"]["/var/log/app/*.log"] == "app"
    assert found["files"]["/var/log/dpkg.log"] == "packages"
    assert found["files"]["/var/log/salt/minion"] == "salt"
    assert found["files"]["/var/log/fail2ban.log"] == "fail2ban"
    assert found["report"] == "/var/lib/rocksalt/last.json"
    assert found["labels"] == {"role": "web,all", "customer": "acme"}
    assert (found["ignore"], found["mask"]) == (["/x/*"], masks)
    assert (found["limit"], found["at_limit"], found["probe"]) == (2000000, "block", 300)


def test_less_is_shipped(shipped, host, net):
    it = logstash_hosts.comparison(shipped, host, net, logstash={"datasets": ["auth"]}, roles={})
    found = json.loads(it.render()[logstash.SHIPPER_CONFIG])
    assert (found["datasets"], found["report"]) == (["auth"], "")
    assert found["files"] == dict.fromkeys(datasets.FILES["auth"], "auth")
    assert found["labels"] == {"role": "web,all"}


def test_rendered_texts_can_be_told(shipped, host, net):
    """The program is a zip, which Salt could not return as text."""
    it = logstash_hosts.comparison(shipped, host, net)
    assert set(it.render()) == {journald.DROP_IN, shipper.UNIT_PATH, logstash.SHIPPER_CONFIG}
    json.dumps(it.render()).encode()


def test_nobody_receives(shipped, host, net):
    it = logstash_hosts.comparison(shipped, host, net, logstash={"servers": []})
    want, seen = it.expected(), it.seen()
    where = "hardening:logstash:servers is empty"
    assert seen["LOG-001"].actual is False
    assert seen["LOG-001"].reason == (
        f"nobody receives the logs of this host: {where}; the shipper of before runs on, to the "
        "log servers that it had"
    )
    for i in ("LOG-012", "LOG-013"):
        assert (seen[i].actual, seen[i].problem) == (want[i], "")
    skipped = {i: look.reason for i, look in seen.items() if look.problem == "skipped"}
    nobody = "nobody receives the logs of this host (LOG-001)"
    assert {r for i, r in skipped.items() if i < "LOG-016"} == {nobody}
    assert set(OWN) - set(skipped) == {"LOG-001", "LOG-012", "LOG-013"}
    assert all(want[i] is None for i in skipped)
    assert list(it.render()) == [journald.DROP_IN]


@pytest.mark.parametrize(
    ("state", "enabled", "remedy"),
    [
        ("active", "enabled", "state"),
        ("activating", "disabled", "state"),
        ("failed", "enabled", "state"),
        ("failed", "disabled", ""),
        ("inactive", "", ""),
    ],
)
def test_a_shipper_that_is_left_over(shipped, host, net, state, enabled, remedy):
    """It can be stopped by a state; that nobody receives cannot be mended by one."""
    logstash_hosts.unit(host, ActiveState=state, UnitFileState=enabled)
    it = logstash_hosts.comparison(shipped, host, net, logstash={"servers": []})
    seen = it.seen()["LOG-001"]
    assert (seen.actual, seen.remedy) == (False, remedy)
    assert ("runs on" in seen.reason) is (remedy == "state")
    ships = logstash_hosts.comparison(shipped, host, net).seen()["LOG-001"]
    assert (ships.actual, ships.reason, ships.remedy) == (True, "", "")


def test_a_log_server_that_does_not_ship(shipped, host, net):
    """Its own certificate runs out as well, and its keys are for nobody else."""
    pillar = {"servers": [], "receiver": {"address": "10.79.0.9"}}
    seen = logstash_hosts.comparison(shipped, host, net, logstash=pillar).seen()
    nobody = "nobody receives the logs of this host (LOG-001)"
    found = {i for i, look in seen.items() if look.reason == nobody}
    others = {"LOG-001", "LOG-009", "LOG-010", "LOG-012", "LOG-013"}
    assert found == {i for i in seen if i < "LOG-016"} - others


def test_roles_that_this_host_has_not(shipped, host, net):
    seen = logstash_hosts.comparison(shipped, host, net).seen()
    reasons = {i: look.reason for i, look in seen.items() if i > "LOG-100"}
    assert {r for i, r in reasons.items() if i < "LOG-200"} <= {"this host is no log server"}
    others = {r for i, r in reasons.items() if i > "LOG-200"}
    assert others <= {"this host is no witness of log servers"}


@pytest.mark.parametrize(
    ("shown", "sentence"),
    [
        ({"ActiveState": "failed"}, "failed, enabled"),
        ({"UnitFileState": "disabled"}, "active, disabled"),
        ({"UnitFileState": ""}, "active, not there"),
        ({"NeedDaemonReload": "yes"}, "active, enabled, not as on disk"),
    ],
)
def test_the_unit(host, differing, shown, sentence):
    logstash_hosts.unit(host, **shown)
    assert differing()["LOG-002"] == sentence


def test_stopped(host, differing):
    logstash_hosts.unit(host, ActiveState="inactive")
    found = differing()
    assert set(found) == {"LOG-002", "LOG-004", "LOG-005", "LOG-006", "LOG-014"}
    skipped = {found[i] for i in found if i != "LOG-002"}
    assert skipped == {"the shipper does not run (LOG-002)"}


def test_without_a_certificate(host, differing):
    host.path(logstash.CERTIFICATE).unlink()
    found = differing()
    assert set(found) == {"LOG-002", "LOG-004", "LOG-005", "LOG-006", "LOG-014"}
    assert set(found.values()) == {"the shipper has no certificate yet (LOG-008)"}


@pytest.mark.parametrize(
    ("path", "mode", "how"),
    [
        (logstash.SHIPPER, 0o755, "was edited, root:root 0755"),
        (shipper.UNIT_PATH, 0o644, "was edited, root:root 0644"),
        (logstash.SHIPPER_CONFIG, 0o600, "was edited, root:root 0600"),
    ],
)
def test_edited_files(host, differing, path, mode, how):
    host.put(path, '{"mask": ["(?P<secret>.+)"]}', mode)
    found = differing()
    assert found.pop("LOG-003") == f"{path} {how}"
    changed = path == logstash.SHIPPER_CONFIG
    assert set(found) == ({"LOG-004"} if changed else set())
    host.path(path).unlink()
    assert differing()["LOG-003"] == f"{path} does not exist"


def test_access_to_files(host, differing):
    host.path(logstash.SHIPPER_CONFIG).chmod(0o644)
    host.owners[logstash.SHIPPER] = "ann"
    assert differing() == {
        "LOG-003": f"{logstash.SHIPPER} as rendered, ann:ann 0755; "
        f"{logstash.SHIPPER_CONFIG} as rendered, root:root 0644"
    }


def test_what_changes_the_unit(host, differing):
    host.put(f"{shipper.UNIT_PATH}.d/mine.conf", "[Service]\nUser=nobody\n")
    logstash_hosts.unit(host, FragmentPath="/run/systemd/system/rocksalt-ship.service")
    assert differing() == {
        "LOG-003": f"{shipper.UNIT_PATH}.d/mine.conf changes the unit; "
        "/run/systemd/system/rocksalt-ship.service changes the unit"
    }


def test_a_drop_in_for_every_service_is_not_about_us(host, differing):
    logstash_hosts.unit(host, DropInPaths="/usr/lib/systemd/system/service.d/10-all.conf")
    assert differing() == {}


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ({"pid": 701}, f"what {logstash.STATUS} says is of process 701, not of the unit"),
        (
            {"config": "0" * 64},
            f"the shipper was not started since {logstash.SHIPPER_CONFIG} changed",
        ),
        ({"time": stamp(61)}, f"the shipper hangs: it has said nothing since {stamp(61)}"),
        ({"time": "soon"}, "the shipper hangs: it has said nothing since soon"),
        ({"time": stamp(-400)}, f"the shipper hangs: it has said nothing since {stamp(-400)}"),
    ],
)
def test_the_running_shipper_is_another(host, differing, status, sentence):
    logstash_hosts.said(host, **status)
    assert differing() == {"LOG-004": sentence}


@pytest.mark.parametrize(
    ("time", "age"),
    [
        (stamp(60), 60),
        (stamp(-5).replace("Z", ".250000+00:00"), -5.25),
        ("2026-11-22T00:00:00", None),
        ("soon", None),
        (None, None),
        (7, None),
    ],
)
def test_times(shipped, host, net, time, age):
    assert logstash_hosts.comparison(shipped, host, net).age(time) == age


def test_started_before_its_program(host, differing):
    logstash_hosts.unit(host, ago=60)
    wanted = f"{logstash.SHIPPER}, {shipper.UNIT_PATH}"
    assert differing()["LOG-004"] == f"the shipper was not started since {wanted} changed"


@pytest.mark.parametrize("text", [None, "", "[1]", "{"])
def test_a_shipper_that_says_nothing(host, differing, text):
    host.remove(logstash.STATUS)
    if text is not None:
        host.put(logstash.STATUS, text)
    found = differing()
    assert found["LOG-004"] == "the shipper hangs: it has said nothing since its start"
    others = {found[i] for i in ("LOG-005", "LOG-006", "LOG-007")}
    assert others == {"the shipper has not said yet how it is (LOG-004)"}
    assert found["LOG-011"] == "the shipper has not said yet which files it follows (LOG-004)"
    assert set(found) == {"LOG-004", "LOG-005", "LOG-006", "LOG-007", "LOG-011"}


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ({"disconnected_since": stamp(60)}, None),
        (
            {"disconnected_since": stamp(61), "error": "logs1: certificate has expired"},
            f"connected to no log server, not since {stamp(61)}: logs1: certificate has expired",
        ),
        (
            {"disconnected_since": stamp(-400)},
            f"connected to no log server, not since {stamp(-400)}: none of 10.79.0.9:2601, "
            "logs2:2700 answers",
        ),
        ({"disconnected_since": stamp(60), "server": "logs1"}, None),
        (
            {"disconnected_since": stamp(61), "server": "logs1"},
            f"no log server takes lines, not since {stamp(61)}: logs1 has acknowledged none yet",
        ),
    ],
)
def test_not_connected(host, differing, status, sentence):
    logstash_hosts.said(host, **{"server": None, "connected_since": None, **status})
    assert differing() == ({"LOG-005": sentence} if sentence else {})


@pytest.mark.parametrize(
    ("started", "sentence"),
    [
        (50, ""),
        (70, "connected to no log server, not yet: none of 10.79.0.9:2601, logs2:2700 answers"),
    ],
)
def test_not_connected_since_the_start(shipped, host, net, started, sentence):
    logstash_hosts.said(host, server=None, connected_since=None)
    logstash_hosts.unit(host, ago=started)
    it = logstash_hosts.comparison(shipped, host, net)
    seen = it.seen()["LOG-005"]
    assert seen.reason == sentence
    assert (seen.actual == it.expected()["LOG-005"] == "within the last 60 s") is (not sentence)


LOGS = {"logs": {"tcp": [2601]}}


@pytest.mark.parametrize(
    ("firewall", "shut"),
    [
        ({"output": "allow"}, []),
        ({"output": "deny", "enabled": False}, []),
        ({"output": "deny"}, ["2601 of 10.79.0.9", "2700 of logs2"]),
        ({"output": "deny", "services": LOGS, "egress": {"logs": ["logs"]}}, ["2700 of logs2"]),
        (
            {"output": "deny", "services": LOGS, "egress": {"logs": ["elsewhere"]}},
            ["2601 of 10.79.0.9", "2700 of logs2"],
        ),
        (
            {"output": "deny", "services": {"logs": {"tcp": [2601, 2700]}},
             "egress": {"logs": ["logs"]}},
            [],
        ),
    ],
)  # fmt: skip
def test_the_packet_filter_keeps_lines_in(host, differing, firewall, shut):
    logstash_hosts.said(host, server=None, error="timed out", disconnected_since=stamp(99))
    networks = {"logs": ["10.79.0.0/24"], "elsewhere": ["10.80.0.0/24"]}
    said = differing(firewall=firewall, networks=networks)["LOG-005"].split("; ", 1)
    assert said[0] == f"connected to no log server, not since {stamp(99)}: timed out"
    assert "; ".join(said[1:]) == "; ".join(
        f"hardening:firewall:egress: lets this host out to no tcp/{it}; name a service with that "
        "port and its network there"
        for it in shut
    )


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ({"waiting": 7, "oldest_waiting": stamp(300)}, None),
        (
            {"waiting": 7, "oldest_waiting": stamp(301)},
            f"7 lines wait, the oldest since {stamp(301)}",
        ),
        (
            {"waiting": 7, "oldest_waiting": stamp(-400)},
            f"7 lines wait, the oldest since {stamp(-400)}",
        ),
        ({"waiting": 1999999}, None),
        ({"waiting": 2000000}, "2000000 lines wait"),
        (
            {"waiting": 2000000, "full_since": stamp(9)},
            f"more lines wait than hardening:logstash:limit allows since {stamp(9)}; all stay",
        ),
    ],
)
def test_waiting(host, differing, status, sentence):
    logstash_hosts.said(host, **status)
    assert differing() == ({"LOG-006": sentence} if sentence else {})


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ({"waiting": None, "error": "journalctl says nothing"}, "journalctl says nothing"),
        ({"waiting": None}, "the shipper cannot ask journalctl"),
        ({"waiting": None, "error": "logs1: timed out; journalctl ends; x"}, "journalctl ends"),
        ({"error": "/run/systemd/journal/socket takes no line, journald may not run: it is away"},
         "/run/systemd/journal/socket takes no line, journald may not run: it is away"),
        ({"error": "journalctl ends: Too many open files"},
         "journalctl ends: Too many open files"),
        ({"error": "the journal cannot be read"}, "the journal cannot be read"),
        ({"sources": {"journal": {"waiting": 0, "error": "it hangs"}}}, "it hangs"),
    ],
)  # fmt: skip
def test_a_journal_that_cannot_be_read(shipped, host, net, status, sentence):
    """Nobody knows what waits then, although nothing seems to."""
    logstash_hosts.said(host, **status)
    seen = logstash_hosts.comparison(shipped, host, net).seen()["LOG-006"]
    assert (seen.problem, seen.reason) == (
        "error", f"what waits in the journal is not known: {sentence}",
    )  # fmt: skip


@pytest.mark.parametrize("error", ["logs1: timed out", "/var/log/journals: Permission denied"])
def test_other_errors_are_not_about_the_journal(host, differing, error):
    logstash_hosts.said(host, error=error)
    assert differing() == {}


@pytest.mark.parametrize(
    ("status", "control"),
    [
        ({"dropped": "x"}, "LOG-007"),
        ({"waiting": "x"}, "LOG-006"),
        ({"error": ["x"]}, "LOG-006"),
        ({"sources": ["x"]}, "LOG-011"),
        ({"probe": "x"}, "LOG-014"),
    ],
)
def test_a_status_that_makes_no_sense(shipped, host, net, status, control):
    """It hides no other control."""
    logstash_hosts.said(host, **status)
    seen = logstash_hosts.comparison(shipped, host, net).seen()
    assert seen[control].problem == "error"
    assert seen[control].reason.startswith("this cannot be looked at: ")
    assert seen["LOG-003"].problem == ""


def test_full_and_dropping(shipped, host, net, differing):
    pillar = {"logstash": {"at_limit": "drop"}}
    logstash_hosts.put_files(host, logstash_hosts.comparison(shipped, host, net, **pillar))
    logstash_hosts.said(host, full_since=stamp(9))
    assert differing(**pillar) == {
        "LOG-006": f"more lines wait than hardening:logstash:limit allows since {stamp(9)}; "
        "the oldest are dropped"
    }


LOOK = "look for what was to be hidden, then salt web1 logstash.accept"


@pytest.mark.parametrize(
    ("status", "accepted", "sentence"),
    [
        ({"dropped": 5}, None, f"5 dropped for there were too many; {LOOK}"),
        (
            {"lost": 3, "unknown_gaps": 1},
            None,
            f"3 gone before they were sent; 1 gaps of unknown size; {LOOK}",
        ),
        ({"dropped": 5, "lost": 3}, {"dropped": 5, "lost": 3}, None),
        ({"dropped": 6, "lost": 3}, {"dropped": 5, "lost": 3},
         f"1 dropped for there were too many; {LOOK}"),
        ({"dropped": 4}, {"dropped": 5},
         f"{logstash.POSITIONS} counts fewer than were accepted, so it was made anew; {LOOK}"),
    ],
)  # fmt: skip
def test_dropped_and_lost(host, differing, status, accepted, sentence):
    logstash_hosts.said(host, **status)
    if accepted:
        host.put(logstash.ACCEPTED, json.dumps(accepted))
    assert differing() == ({"LOG-007": sentence} if sentence else {})


def test_lost_lines_are_known_of_a_stopped_shipper(host, differing):
    logstash_hosts.said(host, lost=2)
    logstash_hosts.unit(host, ActiveState="inactive")
    assert differing()["LOG-007"] == f"2 gone before they were sent; {LOOK}"


def probed(seconds):
    return {"mark": "x", "acknowledged": stamp(seconds)}


NEVER = "no marked line has arrived since the shipper started"


@pytest.mark.parametrize(
    ("probe", "started", "restarts", "sentence"),
    [
        (probed(660), 9999, 0, None),
        (probed(660), 9, 7, None),
        (probed(661), 9999, 0, f"the last marked line that arrived did so at {stamp(661)}"),
        (probed(661), 9, 7, f"the last marked line that arrived did so at {stamp(661)}"),
        (probed(-400), 9999, 0, f"the last marked line that arrived did so at {stamp(-400)}"),
        (probed(9999), 600, 0, None),
        (None, 600, 0, None),
        (None, 600, 1, NEVER),
        (None, 700, 0, NEVER),
        ({"mark": "x", "acknowledged": None}, 700, 0, NEVER),
    ],
)
def test_marked_lines(shipped, host, net, probe, started, restarts, sentence):
    logstash_hosts.said(host, probe=probe)
    logstash_hosts.unit(host, ago=started, NRestarts=str(restarts))
    it = logstash_hosts.comparison(shipped, host, net)
    seen = it.seen()["LOG-014"]
    assert seen.reason == (sentence or "")
    assert (seen.actual == it.expected()["LOG-014"] == "within 660 s") is (sentence is None)


def test_masks_of_the_shipper_on_disk(shipped, host, differing):
    config = json.loads(host.read(logstash.SHIPPER_CONFIG))
    mask = ["(?P<secret>what-nobody-[a-z0-9-]+)"]
    host.put(logstash.SHIPPER_CONFIG, json.dumps({**config, "mask": mask}), 0o600)
    assert differing()["LOG-015"] == (
        f"{logstash.SHIPPER_CONFIG} lets out a JSON web token, an access key of a cloud"
    )


@pytest.mark.parametrize("canary", masking.CANARIES)
def test_each_canary_is_masked(shipped, host, net, canary):
    line, secret = masking.CANARIES[canary]
    masker = Masker(logstash_hosts.comparison(shipped, host, net).setup.settings["mask"])
    assert secret in line and secret not in masker.mask(line)


def test_masks_that_mask_nothing(shipped, host, net):
    """Each canary has a secret that gets out without any expression."""
    pillar = {"logstash": {"mask": ["(?P<secret>nothing-like-it)"]}}
    it = logstash_hosts.comparison(shipped, host, net, **pillar)
    logstash_hosts.put_files(host, it)
    seen = it.seen()["LOG-015"]
    assert seen.actual == [*masking.CANARIES]
    assert seen.reason == (
        "hardening:logstash:mask lets out a password in a setting, a password on a command line, "
        f"a password in a variable, a password of PostgreSQL and {len(seen.actual) - 4} more"
    )
    assert seen.remedy == "manual"


def test_masks_that_cannot_be_read(host, differing):
    host.put(logstash.SHIPPER_CONFIG, '{"mask": ["(?P<secret>"]}', 0o600)
    assert "is no regular expression" in differing()["LOG-015"]
    host.put(logstash.SHIPPER_CONFIG, '{"mask": [1]}', 0o600)
    assert differing()["LOG-015"].startswith("this cannot be looked at: TypeError: ")
    host.put(logstash.SHIPPER_CONFIG, "{", 0o600)
    assert differing()["LOG-015"] == f"{logstash.SHIPPER_CONFIG} cannot be read"
    host.remove(logstash.SHIPPER_CONFIG)
    assert differing()["LOG-015"] == "the shipper has no configuration yet (LOG-003)"


# Logs that stay -----------------------------------------------------------------------------------

NAME = "name them in hardening:logstash:files, or in hardening:logstash:ignore"


@pytest.mark.parametrize(
    "path",
    [
        "/var/log/app.log",
        "/var/log/app/error.log",
        "/var/log/app/east/access_log",
        "/var/log/exim4/mainlog",
        "/var/log/samba/log.smbd",
        "/var/log/salt/cloud",
        "/var/log/apt/deep/x.log",
    ],
)
def test_a_log_that_nobody_ships(host, differing, path):
    host.put(path, "a line\n")
    assert differing() == {"LOG-011": f"nobody ships {path}: {NAME}"}


@pytest.mark.parametrize(
    "path",
    [
        "/var/log/app.log.1",
        "/var/log/app.log.2.gz",
        "/var/log/app.log-20261122",
        "/var/log/wtmp",
        "/var/log/kern.log",
        "/var/log/cloud-init-output.log",
        "/var/log/unattended-upgrades/unattended-upgrades.log",
        "/var/log/audit/audit.log",
        "/var/log/installer/initial.log",
        "/var/log/journal/0123/x.log",
        "/var/log/rocksalt/db1/x.log",
        "/var/log/a/b/c/deep.log",
    ],
)
def test_what_need_not_be_named(host, differing, path):
    host.put(path, "a line\n")
    assert differing() == {}


def test_logs_that_are_not_in_use(host, differing):
    host.put("/var/log/old.log", "a line\n")
    old = NOW.timestamp() - 8 * 86400
    os.utime(host.path("/var/log/old.log"), (old, old))
    host.path("/var/log/link.log").symlink_to("/etc/passwd")
    host.path("/var/log/dir.log").mkdir()
    assert differing() == {}


def test_logs_that_are_named(shipped, host, net):
    for name in ("a/x.log", "b/x.log", "c/x.log"):
        host.put(f"/var/log/{name}", "a line\n")
    pillar = {"files": {"/var/log/a/*.log": "a"}, "ignore": ["/var/log/b/x.*", "/var/*/x.log"]}
    followed = (*logstash_hosts.FOLLOWED, "/var/log/a/x.log")
    logstash_hosts.said(host, sources=dict.fromkeys(followed, logstash_hosts.SOURCE))
    it = logstash_hosts.comparison(shipped, host, net, logstash=pillar)
    assert it.seen()["LOG-011"].actual == ["/var/log/c/x.log"]


def test_a_star_stands_for_part_of_one_name(shipped, host, net):
    host.put("/var/log/app/x.log", "a line\n")
    it = logstash_hosts.comparison(shipped, host, net, logstash={"ignore": ["/var/log/*"]})
    assert it.seen()["LOG-011"].actual == ["/var/log/app/x.log"]


def test_many_logs(shipped, host, net):
    for number in range(5):
        host.put(f"/var/log/{number}.log", "a line\n")
    seen = logstash_hosts.comparison(shipped, host, net).seen()["LOG-011"]
    assert seen.actual == [f"/var/log/{number}.log" for number in range(5)]
    names = ", ".join(seen.actual[:4])
    assert seen.reason == f"nobody ships {names} and others: {NAME}"


def test_a_dataset_that_is_not_shipped(shipped, host, net):
    host.put("/var/log/fail2ban.log", "a line\n")
    pillar = {"datasets": ["journal"]}
    it = logstash_hosts.comparison(shipped, host, net, logstash=pillar)
    assert it.seen()["LOG-011"].actual == ["/var/log/fail2ban.log", "/var/log/salt/minion"]


def test_received_logs_in_another_folder(shipped, host, net):
    host.put("/var/log/others/db1/x.log", "a line\n")
    receiver = {"receiver": {"path": "/var/log/others"}}
    it = logstash_hosts.comparison(shipped, host, net, logstash=receiver)
    assert it.seen()["LOG-011"].actual == []


APP = "/var/log/app/x.log"
NOT = f"the shipper does not follow {APP}: "


@pytest.fixture
def follows(shipped, host, net):
    """What LOG-011 says where a file is to be shipped and the status has so much of it."""

    def call(state=None, **status):
        pillar = {"files": {"/var/log/app/*.log": "app"}, "ignore": ["/var/log/app/y*"]}
        known = {**dict.fromkeys(logstash_hosts.FOLLOWED, logstash_hosts.SOURCE)}
        known |= {APP: state} if state else {}
        logstash_hosts.said(host, sources=known, **status)
        it = logstash_hosts.comparison(shipped, host, net, logstash=pillar)
        seen = it.seen()["LOG-011"]
        assert bool(seen.actual) is bool(seen.reason)
        return seen.reason

    host.put(APP, "a line\n")
    return call


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (logstash_hosts.SOURCE, ""),
        (None, f"{NOT}{logstash.STATUS} does not name it"),
        ({"dataset": "app", "problem": "it is a link"}, f"{NOT}it is a link"),
        ({**logstash_hosts.SOURCE, "problem": "Input/output error"}, f"{NOT}Input/output error"),
    ],
)
def test_what_the_shipper_says_of_a_file(follows, state, sentence):
    assert follows(state) == sentence


def test_a_file_that_is_ignored_is_not_followed(host, follows):
    host.put("/var/log/app/y.log", "a line\n")
    host.path("/var/log/app/dir.log").mkdir()
    host.path("/var/log/app/dangling.log").symlink_to(host.path("/nowhere"))
    assert follows(logstash_hosts.SOURCE) == ""


def test_two_names_of_a_file(host, follows):
    """It is followed by one of them."""
    host.path("/var/log/app/now.log").symlink_to(host.path(APP))
    assert follows(logstash_hosts.SOURCE) == ""
    assert follows() == (
        f"the shipper does not follow /var/log/app/now.log: {logstash.STATUS} does not name it; "
        f"{NOT}{logstash.STATUS} does not name it"
    )


def test_a_shipper_without_a_log_server_looks_for_no_file(host, follows):
    wrong = {"dataset": "app", "problem": "it is a link"}
    assert follows(server=None) == ""
    assert follows(wrong, server=None) == f"{NOT}it is a link"
    logstash_hosts.unit(host, ActiveState="failed")
    assert follows() == ""
    assert follows(wrong) == f"{NOT}it is a link"


def test_a_log_that_nobody_ships_is_told_without_a_status(host, differing):
    host.put(logstash.STATUS, "")
    host.put("/var/log/app/x.log", "a line\n")
    assert differing()["LOG-011"] == f"nobody ships /var/log/app/x.log: {NAME}"


# The journal --------------------------------------------------------------------------------------


def test_the_drop_in(shipped, host, net):
    it = logstash_hosts.comparison(shipped, host, net)
    assert journald.render(it).splitlines()[1:] == [
        "",
        "[Journal]",
        "Storage=persistent",
        "SystemMaxUse=1024M",
        "SystemKeepFree=4096M",
        "SystemMaxFileSize=128M",
        "SystemMaxFiles=100",
        "MaxRetentionSec=0",
        "RateLimitIntervalSec=0",
        "RateLimitBurst=0",
        "MaxLevelStore=debug",
        "ReadKMsg=yes",
    ]
    large = logstash_hosts.comparison(shipped, host, net, logstash={"journal_size": 32768})
    text = journald.render(large)
    assert "SystemMaxUse=32768M\n" in text and "SystemMaxFiles=512\n" in text
    net.disk = (10 * GIB, 5 * GIB)
    small = logstash_hosts.comparison(shipped, host, net, logstash={"journal_size": 64})
    text = journald.render(small)
    assert "SystemKeepFree=1536M\nSystemMaxFileSize=8M\nSystemMaxFiles=100\n" in text


LATER = "/etc/systemd/journald.conf.d/zzz.conf"


@pytest.mark.parametrize(
    ("text", "control", "sentence"),
    [
        ("Storage=volatile", "LOG-012", f"{LATER} says Storage=volatile, expected persistent"),
        ("SystemMaxUse=", "LOG-012", f"{LATER} says SystemMaxUse=, expected 1024M"),
        ("SystemKeepFree=90%", "LOG-012", f"{LATER} says SystemKeepFree=90%, expected 4096M"),
        ("SystemMaxFileSize=1G", "LOG-012", f"{LATER} says SystemMaxFileSize=1G, expected 128M"),
        ("MaxRetentionSec=1day", "LOG-012", f"{LATER} says MaxRetentionSec=1day, expected 0"),
        ("RateLimitBurst=9", "LOG-013", f"{LATER} says RateLimitBurst=9, expected 0"),
        ("MaxLevelStore=err", "LOG-013", f"{LATER} says MaxLevelStore=err, expected debug"),
    ],
)
def test_a_file_that_wins(host, differing, text, control, sentence):
    logstash_hosts.journald_has(host, f"# {LATER}\n[Journal]\n; a comment\n{text}")
    assert differing() == {control: sentence}


@pytest.mark.parametrize(
    "text",
    ["#Storage=none", "[Other]\nStorage=none", "[Journal]\nStorage=none\nStorage=persistent"],
)
def test_a_file_that_wins_nothing(host, differing, text):
    logstash_hosts.journald_has(host, f"# {LATER}\n{text}")
    assert differing() == {}


def test_no_drop_in(host, differing):
    host.answer(logstash_hosts.CAT, logstash_hosts.STOCK)
    found = differing()
    assert found["LOG-012"].startswith("no file says Storage, expected persistent; no file says")
    assert found["LOG-013"].startswith("no file says RateLimitIntervalSec, expected 0;")
    assert set(found) == {"LOG-012", "LOG-013"}


def test_journald_runs_on_old_files(host, differing):
    logstash_hosts.journal(host, ago=60)
    why = f"journald was started before {journald.DROP_IN} changed"
    assert differing() == {"LOG-012": why}
    logstash_hosts.journal(host, state="failed")
    assert differing() == {"LOG-012": "journald was started never"}


def test_a_journal_in_memory(host, differing):
    (host.path("/proc/200/fd/9")).unlink()
    (host.path("/proc/200/fd/9")).symlink_to("/run/log/journal/0123/system.journal")
    assert differing() == {"LOG-012": "journald keeps the journal in memory"}


def test_a_journal_that_was_deleted(host, differing):
    (host.path("/proc/200/fd/9")).unlink()
    target = "/var/log/journal/0123/system.journal (deleted)"
    (host.path("/proc/200/fd/9")).symlink_to(target)
    why = "journald keeps the journal in a file that was deleted"
    assert differing() == {"LOG-012": why}


def test_a_comment_hides_no_option(host, differing):
    text = "[Journal]\n# /etc/other.conf\n# /etc/x/systemd/journald.conf.d/a/b.conf\nStorage=none"
    logstash_hosts.journald_has(host, f"# {LATER}\n{text}")
    assert differing() == {"LOG-012": f"{LATER} says Storage=none, expected persistent"}


def test_a_disk_that_is_full(shipped, host, net):
    net.disk = (10 * GIB, 2 * GIB)
    it = logstash_hosts.comparison(shipped, host, net)
    logstash_hosts.put_files(host, it)
    logstash_hosts.journald_has(host)
    seen = it.seen()["LOG-012"]
    assert seen.remedy == "manual"
    assert seen.reason == (
        "the journal may have 1024 MiB (hardening:logstash:journal_size), and has room for 512 "
        "MiB, for journald leaves a part of the disk free; make room on the disk of /var/log"
    )
    net.disk = (10 * GIB, 3 * GIB)
    assert logstash_hosts.comparison(shipped, host, net).seen()["LOG-012"].reason == ""


def test_a_disk_that_is_too_small(differing, net):
    net.disk = (GIB // 2, GIB // 2)
    assert differing() == {
        "LOG-012": "hardening:logstash:journal_size: 1024 MiB are more than the disk of /var/log "
        "has, 512 MiB"
    }


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("LogRateLimitIntervalUSec=30s", "LogRateLimitIntervalUSec=30s"),
        ("LogLevelMax=3", "LogLevelMax=3"),
        ("LogNamespace=own", "LogNamespace=own"),
    ],
)
def test_units_with_limits_of_their_own(shipped, host, net, line, what):
    shown = f"Id=cron.service\nLogLevelMax=-1\n\nId=app.service\n{line}\n"
    host.answer(logstash_hosts.SHOW_ALL, shown)
    seen = logstash_hosts.comparison(shipped, host, net).seen()["LOG-013"]
    assert seen.reason == f"app.service keeps its lines from the journal: {what}"
    assert (seen.remedy, seen.actual["units with limits of their own"]) == (
        "manual", {"app.service": what},
    )  # fmt: skip


def test_systemd_does_not_answer(host, differing):
    host.answer(logstash_hosts.CAT, status=1, err="Failed to\nread")
    host.answer(logstash_hosts.SHOW_ALL, status=1, err="no bus")
    why = "systemd-analyze cat-config systemd/journald.conf: Failed to read"
    assert differing() == {"LOG-012": why, "LOG-013": why}
    logstash_hosts.journald_has(host)
    assert differing() == {"LOG-013": "systemctl show: no bus"}


def test_a_waived_control_is_not_rendered(shipped, host, net, waiver):
    it = logstash_hosts.comparison(shipped, host, net, waivers={"LOG-013": waiver()})
    assert "RateLimit" not in journald.render(it)
    assert "Storage=persistent" in journald.render(it)
    assert checks.CHECKS.keys() >= {"LOG-013"}

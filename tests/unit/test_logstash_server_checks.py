"""rocksalt.logstash.server and its parts: what is seen of a log server."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os

import logstash_servers as servers
import pytest
from logstash_hosts import GIB, NOW, stamp
from logstash_servers import ADDRESS, NAME, USER

from rocksalt import logstash
from rocksalt.logstash import checks, knocking, received, server, told

STORE = logstash.RECEIVED


@pytest.fixture
def knocked(monkeypatch):
    """What strangers get, which a test may change, and where somebody knocked."""
    found = {"answers": servers.REFUSED, "at": []}

    def knock(address, port, name, other=None):
        found["at"].append((address, port, name, other is not None))
        return found["answers"]

    monkeypatch.setattr(knocking, "knock", knock)
    return found


@pytest.fixture
def it(shipped, host, knocked):
    servers.good(shipped, host)
    return lambda **pillar: servers.comparison(shipped, host, **pillar)


def differing(found):
    return servers.differing(found, server.CHECKS)


def test_a_good_log_server(it, knocked):
    assert differing(it()) == {}
    assert knocked["at"] == [(ADDRESS, 2602, "web1", True)]
    assert sorted(server.CHECKS) == [f"LOG-10{n}" for n in range(1, 10)]


def edited(path):
    return lambda host: host.path(path).write_text("other\n") and None


def written(path, **found):
    return lambda host: servers.said(host, path, **found)


def chmod(path, mode):
    return lambda host: host.path(path).chmod(mode)


def heard(**hosts):
    good = {name: servers.host_status() for name in ("logs1", "web1")}
    return written(told.STATUS, time=stamp(), hosts={**good, **hosts}, torn=[])


def aged(path, seconds):
    then = NOW.timestamp() - seconds
    return lambda host: os.utime(host.path(path), (then, then))


def shown(**other):
    return lambda host: servers.units(host, **other)


def removed(path):
    return lambda host: host.path(path).unlink()


WEB1 = {"web1": {"problems": []}}
OLD = f"{logstash.RECEIVER_UNIT} was not started since {logstash.LOGS}, "
LOCKED = f"{USER} has the shell /usr/sbin/nologin and a password"


@pytest.mark.parametrize(
    ("change", "drifts"),
    [
        (shown(ActiveState="failed"), {"LOG-101": "rocksalt-logs.service is failed, enabled"}),
        (shown(UnitFileState="disabled"), {"LOG-101": "heads.timer is active, disabled; "}),
        (shown(ago=60), {"LOG-101": OLD}),
        (
            lambda host: host.put("/etc/shadow", servers.SHADOW.replace(f"{USER}:!", f"{USER}:")),
            {"LOG-101": LOCKED},
        ),
        (
            edited(logstash.RSYSLOG_CONFIG),
            {"LOG-102": f"{logstash.RSYSLOG_CONFIG} was edited, root:rocksalt-logs 0640"},
        ),
        (
            removed(logstash.RECEIVER_CONFIG),
            {"LOG-102": f"{logstash.RECEIVER_CONFIG} does not exist"},
        ),
        (
            chmod(logstash.LOGS, 0o775),
            {"LOG-102": f"{logstash.LOGS} as rendered, root:root 0775"},
        ),
        (
            removed(logstash.SIGNING_KEY),
            {"LOG-102": f"{logstash.SIGNING_KEY} does not exist"},
        ),
        (
            lambda host: host.put(f"{server.UNIT_PATH}.d/x.conf", "[Service]\n"),
            {"LOG-102": f"{server.UNIT_PATH}.d/x.conf changes a unit"},
        ),
        (
            lambda host: servers.listens(host, (ADDRESS, 2601), ("0.0.0.0", 2602)),
            {"LOG-103": f"it does not listen on {ADDRESS} 2602; it listens on 0.0.0.0 2602"},
        ),
        (
            heard(web1=servers.host_status(host=3, json=2, last_flagged=stamp(86_000))),
            {
                "LOG-104": "web1 sent lines of which 3 name another host and 2 are no JSON, last "
                f"at {stamp(86_000)}"
            },
        ),
        (heard(web1=servers.host_status(host=3, last_flagged=stamp(86_500))), {}),
        (
            heard(web1=servers.host_status(host=3, last_flagged=stamp(-9000))),
            {"LOG-104": f"web1 sent lines of which 3 name another host, last at {stamp(-9000)}"},
        ),
        (
            heard(web1=servers.host_status(-301)),
            {"LOG-104": f"web1 sent its last line at {stamp(-301)}"},
        ),
        (
            written(told.STATUS, hosts={}, failed={"web1": "its file is a link"}),
            {"LOG-104": "web1 is not taken from: its file is a link"},
        ),
        (removed(told.STATUS), {}),
        (removed(logstash.SERVER_KEY), {"LOG-105": f"{logstash.SERVER_KEY} does not exist; "}),
        (
            removed(told.VERIFIED),
            {
                "LOG-106": "nothing was ever checked: systemctl start "
                "rocksalt-logs-verify.service"
            },
        ),
        (
            written(told.VERIFIED, time=stamp(172_900), ok=True, hosts=WEB1, problems=[]),
            {"LOG-106": f"the last check was at {stamp(172_900)}"},
        ),
        (
            written(told.VERIFIED, time=stamp(-86_400), ok=True, hosts=WEB1, problems=[]),
            {"LOG-106": f"the last check was at {stamp(-86_400)}"},
        ),
        (
            written(told.VERIFIED, time=stamp(), ok=True, hosts={"logs1": {"problems": []}},
                    problems=[]),
            {"LOG-106": "the last check left out web1"},
        ),
        (
            written(told.VERIFIED, time=stamp(), ok=False, problems=["/x does not belong here"],
                    hosts={"web1": {"problems": ["line 7 was changed"]}}),
            {"LOG-106": "web1: line 7 was changed; /x does not belong here"},
        ),
        (
            written(told.VERIFIED, time=stamp(), ok=False, problems=[], hosts=WEB1),
            {"LOG-106": "the last check failed"},
        ),
        (
            written(told.HEADS, witnessed_until=stamp(301), unwitnessed_since=stamp(301),
                    error="the witness 10.79.0.8 is away"),
            {"LOG-107": f"unwitnessed since {stamp(301)}: the witness 10.79.0.8 is away"},
        ),
        (
            written(told.HEADS, witnessed_until=stamp(-301), error=""),
            {"LOG-107": f"unwitnessed since {stamp(-301)}"},
        ),
        (
            written(told.HEADS, witnessed_until=stamp(30), error="", failed={"web1": "it is torn"}),
            {"LOG-107": "web1 is not witnessed: it is torn"},
        ),
        (
            written(f"{STORE}/.heads/state.json", heads={"logs1": [9, "00"], "web1": [8, "00"]}),
            {},
        ),
        (
            lambda host: (
                written(f"{STORE}/.heads/state.json", heads={"logs1": [9, "00"]})(host),
                aged(f"{STORE}/web1/2026-11-23.jsonl", 601)(host),
            ),
            {"LOG-107": "web1 is witnessed up to line 0 of 9"},
        ),
        (
            lambda host: (
                written(f"{STORE}/.heads/state.json", heads={"logs1": [9, "00"]})(host),
                aged(f"{STORE}/web1/2026-11-23.jsonl", 599)(host),
            ),
            {},
        ),
        (removed(told.HEADS), {"LOG-107": "unwitnessed since the beginning"}),
        (
            chmod(f"{STORE}/web1/2026-11-23.jsonl", 0o644),
            {"LOG-108": f"{STORE}/web1/2026-11-23.jsonl is {USER}:{USER} 0644"},
        ),
        (
            lambda host: host.owners.update({f"{STORE}/web1": "ann"}),
            {"LOG-108": f"{STORE}/web1 is ann:ann 0750"},
        ),
        (chmod(STORE, 0o755), {"LOG-108": f"{STORE} is {USER}:{USER} 0755, expected "}),
        (
            lambda host: host.path(f"{STORE}/web2").symlink_to("/etc"),
            {"LOG-108": f"{STORE}/web2 is a link"},
        ),
    ],
)  # fmt: skip
def test_drift(it, host, change, drifts):
    change(host)
    found = differing(it())
    skipped = {i for i, why in found.items() if "no certificate yet" in why}
    if "LOG-105" in drifts:
        assert skipped == {"LOG-101", "LOG-103", "LOG-104", "LOG-106", "LOG-107"}
    assert found.keys() - skipped == drifts.keys()
    for identifier, words in drifts.items():
        assert words in found[identifier]


def linked(path):
    def change(host):
        host.path(path).rename(host.path("/other.json"))
        host.path(path).symlink_to(host.path("/other.json"))

    return change


def piped(path):
    def change(host):
        host.path(path).unlink()
        os.mkfifo(host.path(path))
        host.path(path).chmod(0o640)

    return change


NOT_OURS = "is not what the log server writes: remove it, and it is made anew"
STATUS_IS_NOT_OURS = dict.fromkeys(("LOG-104", "LOG-107", "LOG-109"), NOT_OURS)


@pytest.mark.parametrize(
    ("change", "drifts"),
    [
        (linked(told.STATUS), dict.fromkeys(STATUS_IS_NOT_OURS, "cannot be read: Too many")),
        (piped(told.STATUS), STATUS_IS_NOT_OURS),
        (piped(told.VERIFIED), {"LOG-106": NOT_OURS}),
        (piped(told.HEADS), {"LOG-107": NOT_OURS}),
        (piped(f"{STORE}/.heads/state.json"), {"LOG-107": f"state.json {NOT_OURS}"}),
        (edited(told.VERIFIED), {"LOG-106": NOT_OURS}),
        *(
            (written(told.VERIFIED, **found), {"LOG-106": NOT_OURS})
            for found in (
                {"hosts": [{}]}, {"hosts": {"web1": []}}, {"hosts": {"web1": {"problems": [{}]}}},
                {"problems": "x"}, {"time": 5}, {"ok": "yes"},
            )
        ),
        *(
            (written(told.STATUS, **found), STATUS_IS_NOT_OURS)
            for found in (
                {"hosts": [{}]}, {"hosts": {"web1": 1}}, {"hosts": {"web1": {"flags": []}}},
                {"hosts": {"web1": {"received": 1}}}, {"hosts": {"web1": {"n": "x"}}},
                {"failed": ["web1"]},
            )
        ),
        (written(told.HEADS, failed=[1]), {"LOG-107": NOT_OURS}),
        (written(f"{STORE}/.heads/state.json", heads=[1]), {"LOG-107": NOT_OURS}),
        (
            lambda host: host.path(told.VERIFIED).write_text("[" * 100_000) and None,
            {"LOG-106": NOT_OURS},
        ),
    ],
)  # fmt: skip
def test_what_the_account_may_write(it, host, change, drifts):
    """Nothing of it hides another control, or keeps who looks waiting."""
    change(host)
    found = differing(it())
    assert found.keys() == drifts.keys()
    for identifier, words in drifts.items():
        assert words in found[identifier]
        assert it().seen()[identifier].problem == "error"
    assert received.is_verified(it()) is ("LOG-106" not in drifts)


@pytest.mark.parametrize("error", [TypeError, AttributeError, ValueError, OSError])
def test_what_cannot_be_looked_at(it, monkeypatch, error):
    def seen(*_):
        raise error("no")

    monkeypatch.setitem(checks.CHECKS, "LOG-104", (lambda it: None, seen))
    name = error.__name__
    assert it().seen()["LOG-104"].reason == f"this cannot be looked at: {name}: no"


MIB = 1 << 20


@pytest.mark.parametrize(
    ("space", "sizes", "words"),
    [
        ((1000, 100), {}, None),
        ((1000, 99), {}, f"the disk of {STORE} has 9 % free, expected 10 % and more"),
        ((100 * MIB, 70 * MIB), {1: 6 * MIB, 2: 90 * MIB}, None),
        (
            (100 * MIB, 70 * MIB),
            {1: 11 * MIB},
            "what is free lasts for 6 days like the last one, on which 11 MiB came, expected 7",
        ),
        (
            (100 * MIB, 70 * MIB),
            {0: 71 * MIB, 1: 11 * MIB},
            "what is free lasts for 0 days like the last one, on which 71 MiB came, expected 7",
        ),
    ],
)
def test_room(it, host, monkeypatch, space, sizes, words):
    monkeypatch.setattr(servers, "SPACE", space)
    host.remove(f"{STORE}/web1/2026-11-23.jsonl")
    for ago, size in sizes.items():
        path = f"{STORE}/logs1/{NOW - dt.timedelta(days=ago):%Y-%m-%d}.jsonl"
        host.put(path, "", 0o640, USER)
        os.truncate(host.path(path), size)
    assert differing(it()).get("LOG-109") == words
    assert it().setup.family.controls["LOG-109"].remedy == "manual"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"disk": {"free": 60 * GIB, "size": 100 * GIB}}, None),
        ({"disk": {"free": 9 * GIB, "size": 100 * GIB}}, f"the disk of {STORE} has 9 % free, "),
        (
            {"disk": {}, "hosts": {"a": {"bytes_today": 5 * GIB}, "b": {"bytes_today": 5 * GIB}}},
            "what is free lasts for 5 days like the last one, on which 10240 MiB came, expected 7",
        ),
        ({"disk": {"free": "x"}}, f"{told.STATUS} {NOT_OURS}"),
    ],
)
def test_room_by_what_the_log_server_says(it, host, status, words):
    written(told.STATUS, **status)(host)
    found = differing(it()).get("LOG-109")
    assert found == words if words is None else found.startswith(words)


def test_a_stranger_in_the_group(it, host):
    host.put("/etc/group", servers.GROUP.replace(f"{USER}:x:990:", f"{USER}:x:990:ann"))
    found = it()
    assert differing(found) == {"LOG-108": f"ann can read logs, by the group {USER}"}
    assert found.seen()["LOG-108"].remedy == "manual"
    assert "ann can read keys" in found.seen()["LOG-010"].reason


@pytest.mark.parametrize(
    ("field", "way"),
    [
        ("without_certificate", "without a certificate"),
        ("foreign_certificate", "certificate of others"),
        ("other_host", "certificate of another host"),
        ("plain", "without TLS"),
    ],
)
def test_strangers_that_are_heard(it, knocked, field, way):
    knocked["answers"] = dataclasses.replace(servers.REFUSED, **{field: "served"})
    assert differing(it()) == {"LOG-103": f"{way}: served"}


RAW = {
    family: {"input": ["-p tcp --dport 2601:2602 -j DROP", "-p tcp --sport 2602 -j ACCEPT"]}
    for family in ("ipv4", "ipv6")
}


@pytest.mark.parametrize(
    ("firewall", "words"),
    [
        (
            {"allow": {"relp": []}},
            "hardening:firewall:allow: lets nobody in at relp; write relp: [networks] there",
        ),
        (
            {"services": {"relp": {"tcp": [2601]}}},
            "hardening:firewall:services: none has tcp/2602, where hardening:logstash:ports makes "
            "this host listen; name one and allow it",
        ),
        (
            {"allow": {"relp": []}, "raw_rules": RAW},
            "hardening:firewall:allow: lets nobody in at relp; write relp: [networks] there",
        ),
    ],
)
def test_a_firewall_that_keeps_hosts_out(it, firewall, words):
    found = it(firewall=firewall)
    assert differing(found) == {"LOG-103": words}
    assert found.seen()["LOG-103"].remedy == "manual"


@pytest.mark.parametrize(
    "rule",
    ["-p tcp --dport 2601:2602 -j ACCEPT", "-p tcp -m multiport --dports 22,2601,2602 -j ACCEPT"],
)
def test_a_firewall_with_a_rule_of_ones_own(it, rule):
    raw = {"ipv4": {"input": [rule]}}
    assert differing(it(firewall={"allow": {"relp": []}, "raw_rules": raw})) == {}


def test_a_firewall_that_is_no_business_of_ours(it):
    assert differing(it(firewall={"enabled": False, "allow": {"relp": []}})) == {}


def test_a_host_that_never_sent(it, host):
    """It has as long as one that fell silent, from the start of the log server on."""
    heard(web1={"n": 0, "received": ""})(host)
    assert differing(it()) == {}
    servers.units(host, ago=1000)
    assert differing(it())["LOG-104"] == "web1 has not sent a line yet"


def test_a_host_that_fell_silent(it, host):
    heard(web1=servers.host_status(901))(host)
    assert differing(it())["LOG-104"] == f"web1 sent its last line at {stamp(901)}"
    heard(web1=servers.host_status(890))(host)
    assert "LOG-104" not in differing(it())


def test_nobody_witnesses(shipped, host, knocked):
    servers.good(shipped, host)
    own = {**servers.PILLAR, "logstash": {**servers.PILLAR["logstash"], "receiver": {
        "address": ADDRESS}}}  # fmt: skip
    found = servers.comparison(shipped, host, own)
    assert differing(found)["LOG-107"] == (
        "hardening:logstash:receiver:witness: is missing, so whoever becomes root here can write "
        "another past; name a second host there"
    )
    assert found.seen()["LOG-107"].actual == "no witness"


def test_a_name_that_the_certificate_lacks(it):
    found = it(logstash={"servers": [{"host": ADDRESS, "name": "other.example.org"}]})
    assert differing(found) == {
        "LOG-105": f"{logstash.SERVER_CERTIFICATE} is for logs1, {NAME}, {ADDRESS}, and hosts call "
        "this log server other.example.org; bring one from the master: salt-run logs.enrol logs1"
    }
    assert found.seen()["LOG-105"].remedy == "manual"


def test_a_certificate_of_others(it, host):
    host.put(logstash.SERVER_CERTIFICATE, servers.signed("logs1", NAME, ADDRESS, by="x")[0])
    assert differing(it())["LOG-105"] == (
        f"{logstash.SERVER_CERTIFICATE}: logs1 was not signed by logs; it needs the certificates "
        f"between it and the authority, in this order; {logstash.SERVER_KEY} is not the key of "
        f"{logstash.SERVER_CERTIFICATE}; bring one from the master: salt-run logs.enrol logs1"
    )


def test_of_very_many_files_the_folders_are_looked_at(it, host, monkeypatch):
    monkeypatch.setattr(received, "_MOST", 0)
    host.path(f"{STORE}/web1/2026-11-23.jsonl").chmod(0o644)
    assert differing(it()) == {}
    host.path(f"{STORE}/web1").chmod(0o755)
    assert differing(it()) == {"LOG-108": f"{STORE}/web1 is {USER}:{USER} 0755"}


def test_settings_that_cannot_be(shipped, host, it):
    own = {**servers.PILLAR, "logstash": {**servers.PILLAR["logstash"], "receiver": {"days": 3}}}
    seen = servers.comparison(shipped, host, own).seen()["LOG-101"]
    assert (seen.problem, seen.reason) == (
        "error",
        "hardening:logstash:receiver:address: is missing; name the address to listen on",
    )

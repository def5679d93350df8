"""rocksalt.ossec.checks: a host in order is ok, and each way to break it drifts, that control
alone.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import ossec_agent
import pytest
from ossec_agent import ADMIN, CONNECTED, OTHER, SERVER, AgentHost, look

from rocksalt import ossec, settings
from rocksalt.findings import judge
from rocksalt.ossec import (
    checks,
    declared,
    enrolment,
    files,
    guard,
    guarded,
    masters,
    state,
    watched,
)

FW, DENY = "firewall-drop.sh", "/etc/hosts.deny"


@pytest.fixture
def agent(host, shipped) -> AgentHost:
    host = ossec_agent.made(host)
    ossec_agent.install(host)
    ossec_agent.in_order(host, shipped)
    return host


def findings(host: AgentHost, shipped: Any, pillar: Any = None, **more: Any) -> dict[str, Any]:
    it = look(host, shipped, pillar, **more)
    found = judge(it.declared.baseline, "ossec", it.expected(), it.seen())
    return {f["id"]: f for f in found if f["status"] != "ok"}


def test_a_host_in_order_is_ok(agent, shipped):
    assert findings(agent, shipped) == {}


def test_every_control_has_a_check(agent, shipped):
    it = look(agent, shipped)
    assert [*it.expected()] == [*it.seen()] == [*shipped["ossec"].controls]


def test_without_a_server_one_control_says_so(agent, shipped):
    found = findings(agent, shipped, {"ossec": {"servers": []}})
    assert [i for i, f in found.items() if f["status"] == "drift"] == ["OSS-001"]
    assert found["OSS-001"]["reason"] == (
        "hardening:ossec:servers is empty: nobody watches this host"
    )
    assert {f["status"] for i, f in found.items() if i != "OSS-001"} == {"skipped"}
    assert "OSS-001" in found["OSS-002"]["reason"]


def test_without_an_agent_everything_about_it_drifts(host, shipped):
    found = findings(ossec_agent.made(host), shipped)
    assert "not installed" in found["OSS-002"]["reason"]
    assert {f["status"] for f in found.values()} == {"drift"}


Break = Callable[[AgentHost], None]


def _conf(old: str, new: str) -> Break:
    def broken(host: AgentHost) -> None:
        text = host.read(ossec.CONF) or ""
        assert old in text
        host.put(ossec.CONF, text.replace(old, new), 0o640)
        host.age(ossec.CONF, 30)
        host.start(ago=-2)

    return broken


def _wrapper_replaced(host: AgentHost) -> None:
    host.put(f"{ossec.RESPONSES}/{FW}", "#!/bin/sh\niptables -I INPUT -s $3 -j DROP\n", 0o550)


def _wait(host: AgentHost) -> None:
    host.put(f"{ossec.HOME}/queue/ossec/.wait", "l")


def _filter(host: AgentHost, *rules: str) -> None:
    host.answer("iptables --version", "iptables v1.8.9")
    text = "".join(f"-A {rule}\n" for rule in rules)
    chains = ":INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OSSEC - [0:0]\n"
    host.answer("iptables-save -t filter", f"*filter\n{chains}{text}COMMIT\n")


def _rules(host: AgentHost) -> None:
    _filter(host, f"OSSEC -s {ADMIN}/32 -j DROP")


def _shared(text: str) -> Break:
    def handed(host: AgentHost) -> None:
        host.put(watched.AGENT_CONF, f"<agent_config>{text}</agent_config>")

    return handed


BROKEN: dict[str, tuple[Break, set[str], str]] = {
    "a daemon was killed": (
        lambda h: h.stop("ossec-syscheckd"),
        {"OSS-002"},
        "ossec-syscheckd does not run",
    ),
    "the agent does not speak": (
        lambda h: h.age(f"{ossec.HOME}/queue/rids/sender_counter", 200),
        {"OSS-003"},
        "the agent has sent nothing for 200 s, though it should every 60 s",
    ),
    "nobody answers": (_wait, {"OSS-003"}, "no server has answered since the agent started"),
    "the server went away": (
        lambda h: h.log("ossec-agentd: WARN: Server unavailable. Setting lock."),
        {"OSS-003"},
        "Server unavailable. Setting lock.",
    ),
    "a folder is not watched any more": (
        _conf('<directories check_all="yes" realtime="yes">/etc</directories>', ""),
        {"OSS-004", "OSS-008"},
        "/etc (check_all yes, realtime yes) is missing",
    ),
    "an empty ignore": (
        _conf("<ignore>/etc/mtab</ignore>", "<ignore></ignore>"),
        {"OSS-004", "OSS-008"},
        "is empty, which OSSEC takes for the beginning of everything",
    ),
    "daemons run on an older file": (
        lambda h: h.start(ago=3600),
        {"OSS-004"},
        "ossec-execd runs on an older one",
    ),
    "another name": (
        lambda h: h.put(ossec.KEYS, ossec_agent.KEY.replace("web1", "web12"), 0o640)
        or h.start(ago=-2),
        {"OSS-005"},
        "is not the key that came when this host enrolled",
    ),
    "never enrolled": (
        lambda h: h.put(ossec.KEYS, "", 0o640) or h.start(ago=-2),
        {"OSS-005", "OSS-006"},
        "this host has never enrolled",
    ),
    "the scan is old": (
        lambda h: h.put(ossec.STATUS, _older(h, 50000))
        or h.path(ossec.LOG).write_text("")
        or h.start(ago=9e4),
        {"OSS-004", "OSS-007"},
        "the last scan ended 833 minutes ago",
    ),
    "the server ignores a folder": (
        _shared("<syscheck><ignore>/etc</ignore></syscheck>"),
        {"OSS-008", "OSS-009"},
        "agent.conf has syscheck ignore '/etc'",
    ),
    "the server disables the scan": (
        _shared("<syscheck><disabled>yes</disabled></syscheck>"),
        {"OSS-008", "OSS-009"},
        "disables syscheck",
    ),
    "a program was replaced": (
        lambda h: h.put(f"{ossec.BIN}/ossec-syscheckd", "other", 0o550),
        {"OSS-010"},
        "/var/ossec/bin/ossec-syscheckd was changed",
    ),
    "a program came": (
        lambda h: h.put(f"{ossec.BIN}/new", "other", 0o550),
        {"OSS-010"},
        "/var/ossec/bin/new came after the agent was installed",
    ),
    "a script behind ours was changed": (
        lambda h: h.put(f"{ossec.ORIGINALS}/{FW}", "#!/bin/sh\nid\n", 0o550),
        {"OSS-010"},
        "active-response/originals/firewall-drop.sh was changed",
    ),
    "a rule is gone": (
        lambda h: h.remove(f"{ossec.SHARED}/rootkit_files.txt"),
        {"OSS-010"},
        "rootkit_files.txt is gone",
    ),
    "others read the key": (
        lambda h: h.path(ossec.KEYS).chmod(0o644),
        {"OSS-011"},
        "client.keys is root:root 0644",
    ),
    "a script bans by itself": (_wrapper_replaced, {"OSS-012"}, "bans whom it is told"),
    "management may be banned": (
        lambda h: h.put(ossec.SETTINGS, '{"never_ban": [], "users": []}', 0o600),
        {"OSS-012"},
        "/etc/rocksalt/ossec.json was edited",
    ),
    "the next upgrade bans": (
        lambda h: h.put(guarded.DIVERSIONS, ""),
        {"OSS-012"},
        "the next upgrade would replace it",
    ),
    "an administrator is banned": (_rules, {"OSS-013"}, f"{ADMIN}/32 is banned by the chain OSSEC"),
    "a server is denied": (
        lambda h: h.put(DENY, f"ALL:203.0.113.9\nALL:{SERVER}\n"),
        {"OSS-013"},
        f"{SERVER} is banned by /etc/hosts.deny",
    ),
    "the timer is edited": (
        lambda h: h.put(files.TIMER, "[Timer]\n"),
        {"OSS-014"},
        "rocksalt-ossec-status.timer was edited",
    ),
    "others can write to the timer": (
        lambda h: h.path(files.TIMER).chmod(0o666),
        {"OSS-014"},
        "rocksalt-ossec-status.timer is root:root 0666, expected root:root 0644",
    ),
    "the status is old": (
        lambda h: h.put(ossec.STATUS, json.dumps({"time": "2020-01-01T00:00:00Z"})),
        {"OSS-014"},
        "ossec-status.json is",
    ),
    "a log is not read": (
        lambda h: h.log(
            "ossec-logcollector: WARN: journald not available on this version of OSSEC"
        ),
        {"OSS-017"},
        "the agent has given up reading journald",
    ),
    "the server may run commands": (
        lambda h: h.put(ossec.OPTIONS[1], "logcollector.remote_commands=1\n", 0o640),
        {"OSS-015"},
        "local_internal_options.conf allows logcollector.remote_commands",
    ),
}


def _older(host: AgentHost, seconds: float) -> str:
    found = json.loads(host.read(ossec.STATUS) or "")
    return json.dumps({**found, "scanned": state.utc(time.time() - seconds)})


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_broken_drifts_and_nothing_else(agent, shipped, how):
    broken, drifts, words = BROKEN[how]
    broken(agent)
    found = findings(agent, shipped)
    assert {*found} == drifts, found
    assert {f["status"] for f in found.values()} == {"drift"}
    assert any(words in f["reason"] for f in found.values()), found


@pytest.mark.parametrize(
    ("pillar", "drifts"),
    [
        ({"ossec": {"servers": ["192.0.2.12"]}}, {"OSS-004", "OSS-005", "OSS-012"}),
        ({"ossec": {"agent_name": "shop"}}, {"OSS-005"}),
        ({"ossec": {"frequency": 3600}}, {"OSS-004", "OSS-012"}),
        ({"ossec": {"never_ban": ["198.18.0.0/24"]}}, {"OSS-012"}),
        ({"networks": {"monitoring": ["198.18.0.5/32"]}}, {"OSS-012"}),
    ],
)
def test_another_pillar_drifts(agent, shipped, pillar, drifts):
    assert {*findings(agent, shipped, pillar)} == drifts


@pytest.mark.parametrize(
    "rule",
    [
        "INPUT ! -s 198.51.100.0/24 -j DROP",
        "INPUT -s 198.0.0.0/8 -i eth1 -j DROP",
        "INPUT -s 198.0.0.0/8 -j DROP",
        f"INPUT -s {ADMIN}/32 -p tcp -m tcp --dport 80 -j DROP",
        f"INPUT -s {ADMIN}/32 -d 198.51.100.9/32 -j DROP",
        f"OTHERS -s {ADMIN}/32 -j DROP",
        f"OSSEC -s {ADMIN}/32 -j RETURN",
    ],
)
def test_a_rule_that_bans_nobody_is_no_ban(agent, shipped, rule):
    _filter(agent, rule)
    assert findings(agent, shipped) == {}


@pytest.mark.parametrize(
    ("how", "lifts"),
    [
        (lambda h: _filter(h, f"INPUT -s {ADMIN}/32 -j DROP"), True),
        (lambda h: _filter(h, f"FORWARD -s {ADMIN}/32 -j DROP"), True),
        (lambda h: _filter(h, "INPUT -s 198.51.100.0/25 -j DROP"), False),
        (lambda h: _filter(h, f"FORWARD -s {ADMIN}/32 -j REJECT --reject-with tcp-reset"), False),
        (lambda h: h.put(DENY, f"ALL:{ADMIN}\n"), True),
        (lambda h: h.put(DENY, f"ALL: {ADMIN}\n"), False),
        (lambda h: h.answer("ip route show", f"unreachable {ADMIN} scope host\n"), True),
        (lambda h: h.answer("ip route show", f"blackhole {ADMIN} proto bird metric 32\n"), False),
    ],
)
def test_only_what_a_response_wrote_is_lifted(agent, shipped, how, lifts):
    """What others wrote to the same places is for a person."""
    how(agent)
    found = findings(agent, shipped)
    assert [*found] == ["OSS-013"]
    assert found["OSS-013"]["remedy"] == ("state" if lifts else "manual")


@pytest.mark.parametrize("route", ["blackhole 198.51.0.0/16 proto bird", "unreachable default"])
def test_a_route_of_a_network_is_no_ban(agent, shipped, route):
    agent.answer("ip route show", f"default via 203.0.113.1 dev eth0\n{route}\n")
    assert findings(agent, shipped) == {}


def test_a_host_that_enrolled_elsewhere_enrols_again(agent, shipped):
    found = findings(agent, shipped, {"ossec": {"servers": ["192.0.2.12"]}})["OSS-005"]
    assert found["remedy"] == "state"
    assert f"this host enrolled with {SERVER}, which is not declared any more" in found["reason"]
    assert "OSS-005" not in findings(agent, shipped, {"ossec": {"servers": [OTHER, SERVER]}})


def test_a_name_that_the_server_changed_is_for_a_person(agent, shipped):
    key = ossec_agent.KEY.replace("web1", "web12")
    agent.put(ossec.KEYS, key, 0o640)
    note = json.loads(agent.read(ossec.NOTE) or "")
    digest = enrolment.key(key).digest
    agent.put(ossec.NOTE, json.dumps({**note, "digest": digest}))
    agent.start(ago=-2)
    found = findings(agent, shipped)["OSS-005"]
    assert found["remedy"] == "manual"
    assert "the server gave it the name web12, for it has another web1" in found["reason"]


def test_the_first_scan_has_time(agent, shipped):
    agent.put(ossec.STATUS, json.dumps({"time": state.utc(time.time())}))
    agent.path(ossec.LOG).write_text("")
    agent.log(CONNECTED)
    found = findings(agent, shipped)
    assert (found["OSS-007"]["status"], [*found]) == ("skipped", ["OSS-007"])


def test_a_scan_of_the_future_does_not_count(agent, shipped):
    agent.put(ossec.STATUS, _older(agent, -1e6))
    agent.path(ossec.LOG).write_text("")
    agent.log(CONNECTED)
    assert findings(agent, shipped)["OSS-007"]["actual"] == "in the future"


def test_a_log_that_was_rotated_still_counts(agent, shipped):
    agent.put(f"{ossec.LOG}.1", agent.read(ossec.LOG) or "")
    agent.path(ossec.LOG).write_text("")
    assert findings(agent, shipped) == {}
    agent.remove(f"{ossec.LOG}.1")  # only the note of the last minute knows it then
    assert findings(agent, shipped) == {}


def test_a_log_that_was_given_up_before_the_start_is_read(agent, shipped):
    agent.log("ossec-logcollector(1904): INFO: File not available, ignoring it: '/var/log/app'.")
    assert findings(agent, shipped)["OSS-017"]["actual"] == ["/var/log/app"]
    agent.log("ossec-agentd: INFO: Started (pid: 35).", CONNECTED)
    assert findings(agent, shipped) == {}


def test_programs_are_read_once_as_bytes(agent, shipped, monkeypatch):
    """They are large: as text they cost 35 times as much."""
    texts = []
    read = type(agent).read
    monkeypatch.setattr(type(agent), "read", lambda h, path: texts.append(path) or read(h, path))
    assert findings(agent, shipped) == {}
    assert not [path for path in texts if path.startswith(ossec.BIN)]


def test_without_responses_their_daemon_need_not_run(agent, shipped):
    pillar = {"ossec": {"active_response": False}}
    agent.put(ossec.CONF, look(agent, shipped, pillar).render(), 0o640)
    agent.start(*[name for name in ossec.DAEMONS if name != "ossec-execd"], ago=-2)
    agent.stop("ossec-execd")
    assert findings(agent, shipped, pillar) == {}


def test_what_the_server_handed_out_may_change_rules(agent, shipped):
    agent.put(f"{ossec.SHARED}/rootkit_files.txt", "new rules\n", 0o640)
    assert {*findings(agent, shipped)} == {"OSS-010"}
    agent.put(f"{ossec.SHARED}/merged.mg", "!6 ar.conf\nnothin!10 rootkit_files.txt\nnew rules\n")
    assert findings(agent, shipped) == {}
    agent.put(f"{ossec.SHARED}/rootkit_files.txt", "none\n", 0o640)
    reason = findings(agent, shipped)["OSS-010"]["reason"]
    assert reason == "/var/ossec/etc/shared/rootkit_files.txt is not what the server handed out"


@pytest.mark.parametrize("networks", [{}, {"management": []}])
def test_without_management_every_ban_is_refused_and_a_person_is_needed(agent, shipped, networks):
    baseline = settings.resolve(shipped, {**ossec_agent.PILLAR, "networks": networks}, {}, "web1")
    place = declared.Place("web1", ossec_agent.MASTERS)
    it = checks.Ossec(declared.Declared(baseline, place), agent, time.time())
    asked = guard.Asked("add", "-", "203.0.113.99")
    assert guard.refusal(asked, it.declared.program()) == "it is not known who must get in"
    for path, (text, access) in it.own().items():
        agent.write(path, text, access[-4:])
    seen = it.seen()["OSS-012"]
    assert seen.actual != it.expected()["OSS-012"] and seen.remedy == "manual"
    assert seen.reason == (
        "hardening:networks:management is missing or empty, so every ban is refused until it is "
        "known who must get in"
    )


def test_a_master_that_was_never_found_has_every_ban_refused(agent, shipped):
    it = look(agent, shipped, masters={"salt.example": []})
    asked = guard.Asked("add", "-", "203.0.113.99")
    assert guard.refusal(asked, it.declared.program()) == "it is not known who must get in"
    assert "no address of the master salt.example is known" in it.seen()["OSS-012"].reason


def test_without_dns_and_without_a_master_its_address_is_still_known(agent, shipped, monkeypatch):
    def fails(*arguments: Any, **more: Any) -> Any:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    assert agent.attributes(ossec.MASTERS).mode == "0600"
    for names in ((), ("salt.example",)):  # as a timer runs; as DNS fails
        found = masters.known(agent, names)
        assert found == ossec_agent.MASTERS
        assert findings(agent, shipped, masters=found) == {}


def test_an_address_of_a_master_is_never_forgotten(agent, shipped, monkeypatch):
    def answers(*arguments: Any, **more: Any) -> Any:
        return [(0, 0, 0, "", ("203.0.113.3", 0)), (0, 0, 0, "", ("fe80::1%eth0", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    found = masters.known(agent, ["salt.example", "[2001:db8::2]"])
    assert found == {
        "[2001:db8::2]": ["2001:db8::2"],
        "salt.example": ["203.0.113.2", "203.0.113.3"],
    }
    assert [*findings(agent, shipped, masters=found)] == ["OSS-012"]
    assert "203.0.113.3/32" in look(agent, shipped, masters=found).declared.never_ban


@pytest.mark.parametrize(
    ("ignored", "hidden"),
    [
        ("<ignore>/etc/PASS</ignore>", True),
        ("<ignore>/etc/passwd/x</ignore>", False),
        ('<ignore type="sregex">^/etc/pass</ignore>', True),
        ('<ignore type="sregex">wd$|.log$</ignore>', True),
        ('<ignore type="sregex">.swp$</ignore>', False),
    ],
)
def test_ignoring_hides_what_begins_alike(agent, shipped, ignored, hidden):
    _conf("<ignore>/etc/mtab</ignore>", ignored)(agent)
    assert ("OSS-008" in findings(agent, shipped)) == hidden


@pytest.mark.parametrize(
    "ignored",
    [
        "<ignore>/etc/pam.d/common</ignore>",
        '<ignore type="sregex">^/etc/pam.d/new</ignore>',
        '<ignore type="sregex">mon-auth$</ignore>',
    ],
)
def test_ignoring_a_part_of_a_folder_hides_it(agent, shipped, ignored):
    agent.put("/etc/pam.d/common-auth")
    _conf("<ignore>/etc/mtab</ignore>", ignored)(agent)
    assert "/etc/pam.d is ignored by" in findings(agent, shipped)["OSS-008"]["reason"]


def test_a_folder_of_which_nothing_is_compared_is_not_watched(agent, shipped):
    text = (agent.read(ossec.CONF) or "").replace('check_all="yes"', 'check_all="no"')
    agent.put(ossec.CONF, text, 0o640)
    assert "OSS-008" in findings(agent, shipped)


@pytest.mark.parametrize(
    "text",
    [
        "<agent_config><!-- !><syscheck><disabled>yes</disabled></syscheck> --></agent_config>",
        "<agent_config><!--><syscheck><disabled>yes</disabled></syscheck><!-- --></agent_config>",
        "<agent_config><![CDATA[x]]></agent_config>",
        "<agent_config><syscheck>\\<!-- --></syscheck></agent_config>",
        "<agent_config><syscheck><ignore>&#47;etc</ignore></syscheck></agent_config>",
        '<agent_config xmlns="x"><syscheck><disabled>yes</disabled></syscheck></agent_config>',
        "<agent_config><syscheck>",
    ],
)
def test_what_ossec_reads_otherwise_is_never_ok(agent, shipped, text):
    agent.put(watched.AGENT_CONF, text)
    found = findings(agent, shipped)
    assert {i: f["status"] for i, f in found.items()} == dict.fromkeys(
        ("OSS-008", "OSS-009", "OSS-015"), "error"
    )


def test_a_comment_hides_nothing(agent, shipped):
    _shared("<!-- <syscheck><disabled>yes</disabled></syscheck> -->")(agent)
    assert findings(agent, shipped) == {}


def test_a_command_before_the_scan_is_one_of_the_server(agent, shipped):
    _shared("<syscheck><prefilter_cmd>/bin/sh -c id</prefilter_cmd></syscheck>")(agent)
    found = findings(agent, shipped)
    assert {i: f["remedy"] for i, f in found.items()} == {"OSS-015": "manual"}
    assert found["OSS-015"]["severity"] == "critical"
    assert "has root run '/bin/sh -c id' for every file" in found["OSS-015"]["reason"]


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("logcollector.remote_commands=1\nlogcollector.remote_commands=0\n", True),
        ("logcollector.remote_commands=0\nlogcollector.remote_commands=1\n", False),
        (" logcollector.remote_commands=0\nlogcollector.remote_commands=1\n", True),
        ("#logcollector.remote_commands=0\nlogcollector.remote_commands=1\n", True),
        ("logcollector.remote_commands =0\nlogcollector.remote_commands=1\n", True),
        ("logcollector.remote_commands=no\n", True),
        ("logcollector.remote_commands=0\r\n", False),
        ("# " + "x" * 1021 + "logcollector.remote_commands=1\n", True),
    ],
)
def test_the_first_line_of_an_option_counts(agent, shipped, text, allowed):
    agent.put(ossec.OPTIONS[1], text, 0o640)
    assert ("OSS-015" in findings(agent, shipped)) == allowed


@pytest.mark.parametrize(
    ("attributes", "text", "weaker"),
    [
        ('os="Windows"', "<syscheck><frequency>3600</frequency></syscheck>", False),
        ('os="Windows|Linux"', "<syscheck><frequency>3600</frequency></syscheck>", True),
        ('os="!Windows"', "<syscheck><skip_nfs>yes</skip_nfs></syscheck>", True),
        ('name="db1"', "<rootcheck><check_files>no</check_files></rootcheck>", False),
        ('name="web1"', "<rootcheck><check_files>no</check_files></rootcheck>", True),
        ('profile="x"', "<rootcheck><base_directory>/x</base_directory></rootcheck>", True),
        ("", "<syscheck><directories>/srv</directories></syscheck>", False),
        ("", "<localfile><location>/var/log/x</location></localfile>", False),
        ("", "<syscheck><scan_on_start>no</scan_on_start></syscheck>", True),
    ],
)
def test_what_is_handed_out_for_this_host_alone_counts(agent, shipped, attributes, text, weaker):
    agent.put(watched.AGENT_CONF, f"<agent_config {attributes}>{text}</agent_config>")
    assert ("OSS-009" in findings(agent, shipped)) == weaker

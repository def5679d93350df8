"""rocksalt.ossec.conf: what is written is what OSSEC reads, and what no daemon says."""

from __future__ import annotations

import ossec_agent
import pytest

from rocksalt import ossec
from rocksalt.errors import Refused
from rocksalt.ossec import conf
from rocksalt.ossec.conf import Entry, Section

GOOD = """\
<ossec_config>
  <client>
    <server-ip>192.0.2.10</server-ip>
    <server-ip>192.0.2.11</server-ip>
    <port>1514</port>
    <notify_time>60</notify_time>
    <time-reconnect>180</time-reconnect>
    <crypto_method>aes</crypto_method>
  </client>
  <syscheck>
    <frequency>21600</frequency>
    <scan_on_start>yes</scan_on_start>
    <directories check_all="yes" realtime="yes">/etc</directories>
    <directories check_all="yes" no_recurse="yes" restrict=".conf$">/srv/www</directories>
    <ignore>/etc/mtab</ignore>
    <nodiff>/etc/shadow</nodiff>
  </syscheck>
  <rootcheck>
    <frequency>43200</frequency>
    <rootkit_files>/var/ossec/etc/shared/rootkit_files.txt</rootkit_files>
    <rootkit_trojans>/var/ossec/etc/shared/rootkit_trojans.txt</rootkit_trojans>
    <system_audit>/var/ossec/etc/shared/system_audit_rcl.txt</system_audit>
  </rootcheck>
  <localfile>
    <log_format>journald</log_format>
    <location>all</location>
  </localfile>
  <active-response>
    <disabled>no</disabled>
  </active-response>
</ossec_config>
"""
PILLAR = {
    "ossec": {
        "directories": {"/srv/www": {"recurse": False, "restrict": ".conf$"}},
        "ignore": ["/etc/mtab"],
        "nodiff": ["/etc/shadow"],
    }
}


@pytest.fixture
def agent(host):
    host = ossec_agent.made(host)
    ossec_agent.install(host)
    for folder in ("/etc", "/srv/www"):
        host.path(folder).mkdir(parents=True, exist_ok=True)
    return host


def test_the_settings_become_this_file(agent, shipped):
    text = ossec_agent.look(agent, shipped, PILLAR).render()
    assert text == GOOD
    assert conf.faults(text) == []


def test_the_file_reads_back_as_what_was_meant(agent, shipped):
    it = ossec_agent.look(agent, shipped, PILLAR)
    sections = conf.parse(it.render())
    assert conf.render(sections) == it.render()
    assert conf.flat(sections)["syscheck directories"] == [
        "/etc (check_all yes, realtime yes)",
        "/srv/www (check_all yes, no_recurse yes, restrict .conf$)",
    ]


def test_a_version_before_4_knows_no_cipher(agent, shipped):
    agent.put(ossec.INIT, 'VERSION="v3.8.0"\n')
    assert "crypto_method" not in ossec_agent.look(agent, shipped).render()
    agent.put(ossec.INIT, 'VERSION="v4.0.0"\n')
    pillar = {"ossec": {"cipher": "blowfish"}}
    text = ossec_agent.look(agent, shipped, pillar).render()
    assert "<crypto_method>blowfish</crypto_method>" in text


def test_logs_are_those_that_are_there(agent, shipped):
    agent.put("/var/log/auth.log")
    agent.put("/var/log/nginx/access.log.1")  # being rotated right now
    pillar = {"ossec": {"logs": {"/var/log/app/*.log": "syslog", "df -P": "command"}}}
    found = conf.flat(conf.parse(ossec_agent.look(agent, shipped, pillar).render()))["localfile"]
    assert found == [
        "log_format syslog, location /var/log/auth.log",
        "log_format apache, location /var/log/nginx/access.log",
        "log_format command, command df -P",
        "log_format syslog, location /var/log/app/*.log",
    ]


def test_responses_are_refused_at_both_ends(agent, shipped):
    text = ossec_agent.look(agent, shipped, {"ossec": {"active_response": False}}).render()
    assert "<disable-active-response>yes</disable-active-response>" in text
    assert "<disabled>yes</disabled>" in text


@pytest.mark.parametrize("value", ["", " /etc", "/etc\n", "/a&b", "/a<b", "/a>b", "/" + "a" * 2047])
def test_no_value_is_written_that_ossec_reads_otherwise(value):
    with pytest.raises(Refused):
        conf.render([Section("syscheck", (Entry("ignore", value),))])
    with pytest.raises(Refused):
        conf.render([Section("syscheck", (Entry("directories", "/x", {"restrict": value}),))])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<ossec_config>", '<?xml version="1.0"?><ossec_config>', "breaks OSSEC before version"),
        ("/etc/mtab", "<![CDATA[/etc/mtab]]>", "OSSEC takes for a comment"),
        ("/etc/mtab", "/etc/a&amp;b", "an entity, which OSSEC does not decode"),
        ("<ignore>/etc/mtab</ignore>", "<ignore/>", "is empty, which OSSEC takes for"),
        (">/etc/mtab<", ">\n /etc/mtab\n<", "begins or ends with a space"),
        ("<port>1514", "<port>70000", "port is '70000', expected a port"),
        ("192.0.2.11", "192.0.2.0/24", "expected an address"),
        ("<time-reconnect>180", "<time-reconnect>60", "not more than notify_time"),
        ("<crypto_method>aes", "<crypto_method>rc4", "expected a cipher"),
        ("21600</frequency>", "21600</frequency><scan_day>monday</scan_day>", "once a week"),
        (">/srv/www<", ">/srv,/etc/<", "/etc is named twice"),
        (' realtime="yes"', ' realtime="yes" report_changes="yes"', "loses alerts"),
        (' check_all="yes" realtime="yes"', "", "has no attribute"),
        ("<rootkit_files>", "<rootkit_file>", "is no XML"),
        ("43200</frequency>", "daily</frequency>", "rootcheck: frequency is 'daily', expected a"),
        (
            "43200</frequency>",
            "1</frequency><check_fies>no</check_fies>",
            "rootcheck: check_fies is",
        ),
        ("43200</frequency>", "1</frequency><scanall>true</scanall>", "expected yes or no"),
        ("<rootcheck>", "<alerts/><rootcheck>", "alerts is no section of an agent"),
        ("<rootcheck>", "<rootcheck/><rootcheck>", "rootcheck is empty"),
    ],
)
def test_what_no_daemon_says(old, new, words):
    assert old in GOOD
    found = conf.faults(GOOD.replace(old, new, 1))
    assert any(words in fault for fault in found), found


def test_a_file_without_a_server():
    assert conf.faults("<ossec_config><global><x>y</x></global></ossec_config>") == [
        "it has no section client",
        "global is no section of an agent",
    ]


def test_several_roots_count():
    text = "<ossec_config><client><port>1</port></client></ossec_config>" * 2
    assert conf.flat(conf.parse(text)) == {"client port": ["1", "1"]}


def test_differences_in_words():
    assert conf.differences({"a": ["1", "2"], "b": ["x"]}, {"a": ["2", "1"], "c": ["y"]}) == [
        "a is in another order",
        "c y is missing",
        "b x is not declared",
    ]


def test_bytes_that_are_no_text_cannot_be_judged():
    with pytest.raises(Refused, match="it is no XML"):
        conf.parse("<ossec_config><a>\udcff</a></ossec_config>")

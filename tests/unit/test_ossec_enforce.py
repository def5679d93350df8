"""rocksalt.ossec.enforce and enrolment: a fresh host gets in order, a second run changes nothing,
and what is refused leaves the host as it was.
"""

from __future__ import annotations

import hashlib
import json
import socket
import time
from pathlib import Path
from typing import Any

import ossec_agent
import pytest
from ossec_agent import ADMIN, CONNECTED, KEY, OTHER, SERVER, AgentHost, look

from rocksalt import ossec
from rocksalt.errors import Refused
from rocksalt.findings import judge
from rocksalt.host import Ran
from rocksalt.ossec import enforce, enrolment, files, guarded, installed, marks, state

SECRET = "s3cr3t-enrolment"
SECRET_OF_A_SNAPSHOT = "***"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(enforce, "_PATIENCE", 0.0)
    monkeypatch.setattr(enforce, "_FOR_SERVER", 0.0)
    monkeypatch.setattr(enforce, "_TO_END", 0.0)


@pytest.fixture
def fresh(host) -> AgentHost:
    """The agent as its package brings it, and a server that takes it."""
    host = ossec_agent.made(host)
    ossec_agent.install(host)
    for path in ("/etc/passwd", "/usr/sbin/sshd"):
        host.put(path)

    def start() -> None:
        host.start(ago=-1)
        host.put(f"{ossec.HOME}/queue/rids/sender_counter", "0:1:")
        host.log(CONNECTED)

    def server(options: Any) -> Ran:
        host.put(ossec.KEYS, KEY.replace("web1", options["-A"]), 0o644)
        return Ran(0, "INFO: Valid key created. Finished.\n", "")

    host.starts, host.server = start, server
    return host


def drifted(host: AgentHost, shipped: Any, pillar: Any = None) -> list[str]:
    it = look(host, shipped, pillar)
    found = judge(it.declared.baseline, "ossec", it.expected(), it.seen())
    return [f["id"] for f in found if f["status"] == "drift" and f["remedy"] == "state"]


def heal(host: AgentHost, shipped: Any, pillar: Any = None) -> list[str]:
    """What ``hardening.enforced`` does; what is left."""
    tried: list[str] = []
    while new := [i for i in drifted(host, shipped, pillar) if i not in tried]:
        tried += new
        enforce.enforce(host, look(host, shipped, pillar), new)
        _timer_ran(host)
    return drifted(host, shipped, pillar)


def _timer_ran(host: AgentHost) -> None:
    host.put(ossec.STATUS, json.dumps({"time": state.utc(time.time())}))


def tree(host: AgentHost) -> dict[str, bytes]:
    """Every file below /var/ossec and /etc."""
    return {
        str(path): path.read_bytes()
        for folder in ("/var/ossec", "/etc")
        for path in Path(host.root + folder).rglob("*")
        if path.is_file() and "/logs/" not in str(path) and "/run/" not in str(path)
    }


def test_a_fresh_host_gets_in_order(fresh, shipped):
    assert heal(fresh, shipped) == []
    assert enrolment.key(fresh.read(ossec.KEYS)).name == "web1"
    assert fresh.attributes(ossec.KEYS).mode == "0640"
    assert (fresh.owners[ossec.KEYS], fresh.groups[ossec.KEYS]) == ("root", "ossec")
    assert fresh.read(f"{ossec.RESPONSES}/restart-ossec.sh").endswith("# restart-ossec.sh\n")
    assert fresh.read(f"{ossec.ORIGINALS}/host-deny.sh").endswith("# host-deny.sh\n")


def test_the_daemons_have_time_to_start(fresh, shipped):
    heal(fresh, shipped)
    assert fresh.patience >= 90, "OSSEC's own script takes up to 60 s"


def test_a_second_run_changes_nothing(fresh, shipped):
    heal(fresh, shipped)
    before, ran = tree(fresh), len(fresh.ran)
    assert heal(fresh, shipped) == []
    assert tree(fresh) == before
    changing = {"restart", "--add", "-A", "--quiet"}
    assert not [words for words in fresh.ran[ran:] if changing & {*words}]


def test_the_secret_is_told_to_agent_auth_alone(fresh, shipped):
    it = look(fresh, shipped, {"ossec": {"enrolment_ca": "CA"}})
    enrolment.enrol(fresh, it.declared, "root:ossec 0640")
    assert fresh.given == {"-P": SECRET, "-v": "CA"}  # without a line end
    assert fresh.inherited == [0, 0], "the files have no name, so nothing can stay"
    [command] = [words for words in fresh.ran if words[0].endswith("agent-auth")]
    assert command[1:7] == ("-m", SERVER, "-p", "1515", "-A", "web1")
    assert SECRET not in " ".join(command)
    kept = [data for path, data in tree(fresh).items()] + [fresh.read(ossec.NOTE).encode()]
    assert not [data for data in kept if SECRET.encode() in data]


@pytest.mark.parametrize(
    ("ran", "words"),
    [
        (Ran(0, "ERROR: Unable to create key. Either wrong password", ""), "the password is wrong"),
        (Ran(1, "", "ossec-authd: Unable to connect to 192.0.2.10:1515"), "nothing answers there"),
        (Ran(1, "ERROR: Invalid agent name: web1 (from manager)", ""), "does not take the name"),
        (Ran(0, SECRET, SECRET), "a wrong password ends like that"),
    ],
)
def test_a_refusal_is_no_enrolment_whatever_the_exit_code(fresh, shipped, ran, words):
    fresh.put(ossec.KEYS, KEY.replace("1024", "1001"), 0o640)
    fresh.server = lambda options: ran
    with pytest.raises(Refused) as caught:
        enrolment.enrol(fresh, look(fresh, shipped).declared, "root:ossec 0640")
    assert words in str(caught.value) and SECRET not in str(caught.value)
    assert fresh.read(ossec.KEYS).startswith("1001 ")
    assert not [*fresh.path("/run").iterdir()]


@pytest.mark.parametrize("killed", [False, True])
def test_an_enrolment_that_failed_leaves_the_key_what_it_was(fresh, shipped, killed):
    heal(fresh, shipped, {"ossec": {"enrolment_ca": "CA"}})
    before = enrolment.note(fresh)

    def server(options: Any) -> Ran:
        if killed:
            raise KeyboardInterrupt
        return Ran(1, "", "Unable to connect to 192.0.2.10:1515")

    fresh.server = server
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt if killed else Refused):
            enrolment.enrol(fresh, look(fresh, shipped).declared, "root:ossec 0640")
        assert enrolment.note(fresh) == before
    assert before.verified
    assert enrolment.faults(look(fresh, shipped).declared, look(fresh, shipped).key, before) == []


def test_without_the_master_the_secret_is_not_known(fresh, shipped):
    it = look(fresh, shipped, {"ossec": {"password": SECRET_OF_A_SNAPSHOT}})
    with pytest.raises(Refused, match="only known while the master is there"):
        enrolment.enrol(fresh, it.declared, "root:ossec 0640")
    assert fresh.given == {}
    assert it.seen()["OSS-005"].remedy == "manual"


def test_an_exit_code_that_complains_after_the_key_came_is_no_failure(fresh, shipped):
    served = fresh.server
    fresh.server = lambda options: served(options) and Ran(1, "", "SSL error (-1). Exiting.")
    assert enrolment.enrol(fresh, look(fresh, shipped).declared, "root:ossec 0640").name == "web1"


def test_it_enrols_once(fresh, shipped):
    heal(fresh, shipped)
    heal(fresh, shipped, {"ossec": {"frequency": 3600}})
    assert len([words for words in fresh.ran if words[0].endswith("agent-auth")]) == 1


def test_killed_after_the_key_came_it_does_not_enrol_again(fresh, shipped):
    class Killed(Exception):
        pass

    def server(options: Any) -> Ran:
        fresh.put(ossec.KEYS, KEY, 0o640)
        raise Killed

    fresh.server = server
    with pytest.raises(Killed):
        enrolment.enrol(fresh, look(fresh, shipped).declared, "root:ossec 0640")
    assert not [*fresh.path("/run").iterdir()]
    it = look(fresh, shipped)
    assert enrolment.faults(it.declared, it.key, it.note) == []


def test_another_server_gets_another_key(fresh, shipped):
    heal(fresh, shipped)
    other = {"ossec": {"servers": [OTHER]}}
    fresh.put(f"{ossec.HOME}/queue/rids/1024", "1")
    fresh.server = lambda options: fresh.put(ossec.KEYS, "2001 web1 any " + "c" * 64) or Ran(
        0, "", ""
    )
    assert heal(fresh, shipped, other) == []
    assert json.loads(fresh.read(ossec.NOTE))["server"] == OTHER
    assert fresh.read(f"{ossec.HOME}/queue/rids/1024") is None
    assert fresh.read(ossec.CONF).count("<server-ip>") == 1


def test_a_key_that_a_declared_server_answers_to_is_kept(fresh, shipped):
    fresh.put(ossec.KEYS, KEY, 0o640)
    fresh.starts()
    pillar = {"ossec": {"password": ""}}
    assert heal(fresh, shipped, pillar) == []
    assert not [words for words in fresh.ran if words[0].endswith("agent-auth")]
    assert fresh.read(ossec.KEYS) == KEY


def test_a_key_that_the_daemon_has_not_read_is_not_kept(fresh, shipped):
    """The server answers to the key that was there before."""
    heal(fresh, shipped)
    fresh.put(ossec.KEYS, f"1024 web1 any {'cd' * 32}\n", 0o640)
    fresh.age(ossec.KEYS, -2)
    fresh.ran.clear()
    heal(fresh, shipped)
    assert [c[0] for c in fresh.ran].count(f"{ossec.BIN}/agent-auth") == 1


def test_without_password_and_certificate_a_person_enrols(fresh, shipped):
    pillar = {"ossec": {"password": ""}}
    left = heal(fresh, shipped, pillar)
    assert left == ["OSS-002"]  # it cannot start without a key, and has its configuration
    assert "<server-ip>" in fresh.read(ossec.CONF)
    seen = look(fresh, shipped, pillar).seen()
    assert seen["OSS-005"].remedy == "manual"
    assert "so it cannot enrol by itself" in seen["OSS-005"].reason
    assert "this host has never enrolled" in seen["OSS-002"].reason


@pytest.mark.parametrize("daemon", ossec.DAEMONS)
def test_a_configuration_that_a_daemon_refuses_changes_nothing(fresh, shipped, daemon):
    heal(fresh, shipped)
    before = tree(fresh)
    line = f"2026/08/12 16:55:11 {daemon}(1237): ERROR: Invalid ip address: 'x'.\n"
    general = f"2026/08/12 16:55:11 {daemon}(1202): ERROR: Configuration error at 'F'. Exiting.\n"
    fresh.tested = lambda name, text: Ran(int(name == daemon), "", line + general)
    with pytest.raises(Refused) as caught:
        enforce.enforce(fresh, look(fresh, shipped, {"ossec": {"frequency": 600}}), ["OSS-004"])
    assert str(caught.value) == (
        f"{daemon} does not take the configuration: ERROR: Invalid ip address: 'x'."
    )
    assert tree(fresh) == before


def test_a_broken_file_in_place_does_not_keep_a_good_one_out(fresh, shipped):
    """syscheckd looks at rootcheck of the file in place, whichever file it is to test."""
    fresh.put(ossec.CONF, "<ossec_config><rootcheck><oops>1</oops></rootcheck></ossec_config>")

    def tested(daemon: str, text: str) -> Ran:
        broken = daemon == "ossec-syscheckd" and "oops" in (fresh.read(ossec.CONF) or "")
        return Ran(int(broken), "", "ossec-syscheckd(1230): ERROR: Invalid element: 'oops'.")

    fresh.tested = tested
    assert heal(fresh, shipped) == []


def test_daemons_that_do_not_come_up_get_the_old_configuration_back(fresh, shipped):
    heal(fresh, shipped)
    before, starts = tree(fresh), fresh.starts

    def fails() -> None:
        if "<frequency>600" in (fresh.read(ossec.CONF) or ""):
            fresh.stop("ossec-syscheckd")
            fresh.log("ossec-syscheckd(1211): ERROR: Unable to access queue.")
        else:
            starts()

    fresh.starts = fails
    with pytest.raises(Refused) as caught:
        enforce.enforce(fresh, look(fresh, shipped, {"ossec": {"frequency": 600}}), ["OSS-004"])
    assert "ossec-syscheckd does not run: " in str(caught.value)
    assert str(caught.value).endswith("Unable to access queue.; the old configuration is back")
    assert tree(fresh) == before
    assert all(state.daemons(fresh.root).values())


def test_scripts_that_an_upgrade_brings_stand_behind_ours(fresh, shipped):
    heal(fresh, shipped)
    fresh.put(f"{ossec.RESPONSES}/route-null.sh", "#!/bin/sh\nroute add $3 reject\n", 0o755)
    assert "OSS-012" in drifted(fresh, shipped)
    enforce.enforce(fresh, look(fresh, shipped), ["OSS-012"])
    assert guarded.script_state(fresh, "route-null.sh") == "behind ours"
    assert "route add" in fresh.read(f"{ossec.ORIGINALS}/route-null.sh")


@pytest.mark.parametrize("step", ["diverted", "renamed"])
def test_killed_between_it_goes_on(fresh, shipped, step):
    path, original = f"{ossec.RESPONSES}/host-deny.sh", f"{ossec.ORIGINALS}/host-deny.sh"
    fresh.run("dpkg-divert", "--divert", original, "--add", path)
    if step == "renamed":
        fresh.path(ossec.ORIGINALS).mkdir()
        fresh.rename(path, original)
    assert heal(fresh, shipped) == []
    assert guarded.script_state(fresh, "host-deny.sh") == "behind ours"


def test_without_its_guard_the_agent_is_neither_enrolled_nor_started(fresh, shipped):
    fresh.diverts = False
    fresh.start()  # with what came before the baseline
    ids = drifted(fresh, shipped)
    with pytest.raises(Refused) as caught:
        enforce.enforce(fresh, look(fresh, shipped), ids)
    assert "firewall-drop.sh cannot be diverted: conflicting diversion" in str(caught.value)
    assert "the agent is neither enrolled nor started, and no response runs" in str(caught.value)
    assert "firewall-drop.sh: bans whom it is told to" in str(caught.value)
    changing = [c for c in fresh.ran if c[0] == "systemctl" and c[1] != "show"]
    assert not [c for c in changing if "ossec-agent.target" in c]
    assert not [c for c in fresh.ran if c[0].endswith("agent-auth")]
    assert state.daemons(fresh.root)[ossec.EXECD] is None
    assert "<active-response>\n    <disabled>yes" in fresh.read(ossec.CONF)
    with pytest.raises(Refused, match="before its guard stands"):
        enforce.enforce(fresh, look(fresh, shipped), ["OSS-002", "OSS-004", "OSS-005"])
    with pytest.raises(Refused, match="before its guard stands"):
        enforce.ready(look(fresh, shipped))
    fresh.diverts = True
    assert heal(fresh, shipped) == []
    assert "<active-response>\n    <disabled>no" in fresh.read(ossec.CONF)


FOREIGN = "#!/bin/sh\niptables -I INPUT -s $3 -j DROP\n"
SUMS = "/var/lib/dpkg/info/ossec-hids-agent.md5sums"
SCRIPT, BEHIND = (f"{folder}/host-deny.sh" for folder in (ossec.RESPONSES, ossec.ORIGINALS))


def _sums(host: AgentHost, *names: str) -> dict[str, Any]:
    """A package that has digests of scripts, and the pillar that names it."""
    texts = {f"{ossec.RESPONSES}/{n}": f"#!/bin/sh\n# {n}\n" for n in names}
    sums = [f"{hashlib.md5(t.encode()).hexdigest()}  {path[1:]}\n" for path, t in texts.items()]
    host.answer("dpkg-query -W", "installed 4.3.0-1")
    host.put(SUMS, "".join(sums))
    return {"ossec": {"package": "ossec-hids-agent", "repository": ""}}


@pytest.mark.parametrize("packaged", [True, False])
def test_what_stands_in_the_way_never_becomes_the_script_of_the_package(fresh, shipped, packaged):
    pillar = _sums(fresh, *ossec_agent.SCRIPTS) if packaged else {}
    heal(fresh, shipped, pillar)
    fresh.put(SCRIPT, FOREIGN, 0o755)
    heal(fresh, shipped, pillar)
    assert fresh.read(BEHIND) == "#!/bin/sh\n# host-deny.sh\n"
    assert files.is_wrapper(SCRIPT, fresh.read(SCRIPT))
    [kept] = fresh.glob(f"{ossec.EVIDENCE}/*")
    assert fresh.read(kept) == FOREIGN
    assert fresh.attributes(kept).mode == "0400"


def test_a_script_that_was_changed_before_is_not_taken_for_the_package_s(fresh, shipped):
    pillar = _sums(fresh, *ossec_agent.SCRIPTS)
    fresh.put(SCRIPT, FOREIGN, 0o755)
    with pytest.raises(Refused, match="is gone: install the agent's package again"):
        enforce.enforce(fresh, look(fresh, shipped, pillar), ["OSS-011", "OSS-012"])
    assert fresh.read(BEHIND) is None
    assert files.is_wrapper(SCRIPT, fresh.read(SCRIPT))
    fresh.put(BEHIND, "#!/bin/sh\n# host-deny.sh\n", 0o550)  # by the diversion
    assert heal(fresh, shipped, pillar) == []


def test_a_script_of_the_package_that_was_put_back_is_used(fresh, shipped):
    pillar = _sums(fresh, *ossec_agent.SCRIPTS)
    heal(fresh, shipped, pillar)
    fresh.put(BEHIND, FOREIGN, 0o755)
    fresh.put(SCRIPT, "#!/bin/sh\n# host-deny.sh\n", 0o550)
    heal(fresh, shipped, pillar)
    assert fresh.read(BEHIND) == "#!/bin/sh\n# host-deny.sh\n"


def test_others_cannot_change_what_stands_behind(fresh, shipped):
    heal(fresh, shipped)
    fresh.path(BEHIND).chmod(0o777)
    fresh.path(ossec.ORIGINALS).chmod(0o777)
    assert drifted(fresh, shipped) == ["OSS-011", "OSS-012"]
    assert heal(fresh, shipped) == []
    assert fresh.attributes(BEHIND).mode == "0550"
    assert fresh.attributes(ossec.ORIGINALS).mode == "0750"


def test_what_a_package_leaves_open_is_closed(fresh, shipped):
    fresh.path(ossec.CONF).chmod(0o666)
    fresh.path(f"{ossec.BIN}/ossec-agentd").chmod(0o757)
    heal(fresh, shipped)
    assert fresh.attributes(ossec.CONF).mode == "0660"
    assert fresh.attributes(f"{ossec.BIN}/ossec-agentd").mode == "0755"


def test_another_version_is_written_down_anew(fresh, shipped):
    heal(fresh, shipped)
    fresh.put(f"{ossec.BIN}/ossec-agentd", "program of 4.4\n", 0o550)
    assert "OSS-010" not in drifted(fresh, shipped)  # for a person
    assert look(fresh, shipped).seen()["OSS-010"].actual
    fresh.put(ossec.INIT, 'VERSION="v4.4.0"\nDATE="later"\n')
    assert "OSS-011" in drifted(fresh, shipped)
    heal(fresh, shipped)
    assert look(fresh, shipped).seen()["OSS-010"].actual == []


def test_a_lost_record_blesses_nothing(fresh, shipped):
    heal(fresh, shipped)
    fresh.put(f"{ossec.BIN}/ossec-agentd", "another program\n", 0o550)
    fresh.remove(ossec.INSTALLED)
    assert heal(fresh, shipped) == []
    assert fresh.read(ossec.INSTALLED) is None
    it = look(fresh, shipped)
    found = {f["id"]: f for f in judge(it.declared.baseline, "ossec", it.expected(), it.seen())}
    for control in ("OSS-010", "OSS-011"):
        assert (found[control]["status"], found[control]["remedy"]) == ("drift", "manual")
        assert "is lost; look at the agent, then run ossec.accept" in found[control]["reason"]
    installed.write_down(fresh, it.build)  # which ossec.accept does
    assert look(fresh, shipped).seen()["OSS-010"].actual == []


def test_with_a_lost_record_owners_and_modes_are_still_kept(fresh, shipped):
    heal(fresh, shipped)
    fresh.remove(ossec.INSTALLED)
    fresh.path(ossec.KEYS).chmod(0o666)
    assert drifted(fresh, shipped) == ["OSS-011"]
    assert heal(fresh, shipped) == []
    assert fresh.attributes(ossec.KEYS).mode == "0640"


@pytest.mark.parametrize("changed", [False, True])
def test_what_the_package_knows_needs_no_record(fresh, shipped, changed):
    pillar = _sums(fresh, *ossec_agent.SCRIPTS)
    sums = fresh.read(SUMS) or ""
    for path in [*fresh.glob(f"{ossec.BIN}/*"), *fresh.glob(f"{ossec.SHARED}/*.txt")]:
        digest = hashlib.md5(fresh.path(path).read_bytes()).hexdigest()
        sums += f"{digest}  {path[1:]}\n"
    fresh.put(SUMS, sums)
    heal(fresh, shipped, pillar)
    fresh.remove(ossec.INSTALLED)
    if changed:
        fresh.put(f"{ossec.BIN}/ossec-agentd", "another program\n", 0o550)
    before = ["/var/ossec/bin/ossec-agentd is not what its package brought"] * changed
    assert look(fresh, shipped, pillar).seen()["OSS-010"].actual == before
    assert heal(fresh, shipped, pillar) == []
    assert look(fresh, shipped, pillar).seen()["OSS-010"].actual == before
    assert "OSS-011" not in drifted(fresh, shipped, pillar)


def test_a_version_is_written_down_whatever_is_waived(fresh, shipped):
    enforce.enforce(fresh, look(fresh, shipped), ["OSS-012"])
    assert look(fresh, shipped).seen()["OSS-010"].actual == []


def test_the_package_knows_its_programs(fresh, shipped):
    pillar = {"ossec": {"package": "ossec-hids-agent", "repository": ""}}
    fresh.answer("dpkg-query -W", "installed 4.3.0-1")
    sums = f"{'0' * 32}  var/ossec/bin/ossec-agentd\n{'1' * 32}  usr/share/doc/x\n"
    fresh.put(SUMS, sums)
    heal(fresh, shipped, pillar)
    seen = look(fresh, shipped, pillar).seen()["OSS-010"]
    assert seen.actual == ["/var/ossec/bin/ossec-agentd is not what its package brought"]


def test_bans_of_administrators_are_lifted(fresh, shipped):
    heal(fresh, shipped)
    fresh.put("/etc/hosts.deny", f"# mine\nALL:{ADMIN}\nALL:203.0.113.9\n", 0o644)
    others = f"blackhole {ADMIN} proto bird\nblackhole 198.51.0.0/16 proto bird\n"
    fresh.answer("ip route show", f"unreachable {ADMIN} scope host\n{others}")
    theirs = f"-A INPUT -s {ADMIN}/32 -j DROP\n-A OSSEC -s {ADMIN}/32 -j DROP\n"
    strangers = (
        "-A INPUT ! -s 198.51.100.0/24 -j DROP\n-A INPUT -s 198.0.0.0/8 -i eth1 -j DROP\n"
        f"-A FORWARD -s {ADMIN}/32 -j REJECT\n-A INPUT -s 198.51.100.0/24 -j DROP\n"
    )
    chains = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OSSEC - [0:0]\n"
    fresh.answer("iptables --version")
    fresh.answer("iptables-save -t filter", f"{chains}{theirs}{strangers}COMMIT\n")
    fresh.answer("iptables --wait")
    fresh.answer("ip route del")
    enforce.enforce(fresh, look(fresh, shipped), ["OSS-013"])
    assert fresh.read("/etc/hosts.deny") == "# mine\nALL:203.0.113.9\n"
    assert [words for words in fresh.ran if {"del", "-D"} & {*words}] == [
        *(
            ("iptables", "--wait", "10", "-D", chain, "-s", f"{ADMIN}/32", "-j", "DROP")
            for chain in ("OSSEC", "INPUT")
        ),
        ("ip", "route", "del", "unreachable", ADMIN),
    ]


def test_without_an_agent_nothing_is_written(host, shipped):
    host = ossec_agent.made(host)
    with pytest.raises(Refused, match="so there is nothing to enforce"):
        enforce.enforce(host, look(host, shipped), drifted(host, shipped))
    assert not [*Path(host.root).rglob("*")]


def test_clean_gives_the_scripts_back_and_keeps_the_agent(fresh, shipped):
    heal(fresh, shipped)
    found = enforce.leftovers(fresh)
    assert {ossec.PROGRAM, files.TIMER, f"{ossec.RESPONSES}/host-deny.sh"} <= {*found}
    enforce.clean(fresh)
    assert enforce.leftovers(fresh) == []
    assert fresh.read(f"{ossec.RESPONSES}/host-deny.sh") == "#!/bin/sh\n# host-deny.sh\n"
    assert not fresh.path(ossec.ORIGINALS).exists()
    assert fresh.read(ossec.KEYS) and "<server-ip>" in fresh.read(ossec.CONF)


def test_clean_gives_back_what_is_no_longer_diverted(fresh, shipped):
    heal(fresh, shipped)
    fresh.put(guarded.DIVERSIONS, "")
    assert f"{ossec.RESPONSES}/host-deny.sh" in enforce.leftovers(fresh)
    enforce.clean(fresh)
    assert fresh.read(f"{ossec.RESPONSES}/host-deny.sh") == "#!/bin/sh\n# host-deny.sh\n"
    assert not fresh.path(ossec.ORIGINALS).exists()


def test_clean_ends_where_somebody_left_a_file(fresh, shipped):
    heal(fresh, shipped)
    fresh.put(f"{ossec.ORIGINALS}/.swp")
    enforce.clean(fresh)
    assert enforce.leftovers(fresh) == []


# Marks -------------------------------------------------------------------------------------------


def test_a_mark_reaches_the_agent(host):
    path = host.path(marks.QUEUE)
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as agent:
        agent.bind(str(path))
        assert marks.send(host, "20261122101500123456", "begins") == (
            "rocksalt: highstate 20261122101500123456 begins"
        )
        assert agent.recv(999) == b"1:rocksalt:rocksalt: highstate 20261122101500123456 begins"


def test_a_mark_without_an_agent_is_no_failure(host):
    assert marks.send(host, "local", "ends").endswith("local ends")


@pytest.mark.parametrize(("job", "moment"), [("1", "goes on"), ("a b", "ends"), ("", "ends")])
def test_no_mark_that_could_be_read_otherwise(host, job, moment):
    with pytest.raises(Refused):
        marks.send(host, job, moment)

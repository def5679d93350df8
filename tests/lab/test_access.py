"""The family access on a real master: people log in from elsewhere and do what their roles say."""

from __future__ import annotations

import datetime as dt
import json
import random
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import outside
import runs
import tampers
from logs import becomes
from masters import (
    BOOK,
    BOOK_STATE,
    CONFIG,
    DEPLOYED,
    DOOR,
    FAMILIES,
    FOLDER,
    LOG,
    ON_HOST,
    PORT,
    USERS,
    Site,
    block,
)
from rocksalt_lab import Lab
from signing import back, two_steps

STATE = "people do on the Salt master what their roles say"
DEPLOYS = {"app": "shop", "version": "v1.4.2"}
MOMENTS = 3
PROGRAM, UNITS = "/usr/local/bin/rocksalt-logbook", "/etc/systemd/system/rocksalt-logbook*"
SETTINGS = f"{FOLDER}/logbook.json"
MANAGED = (
    *(CONFIG, USERS, f"{DOOR}/rocksalt_door/filter.py", SETTINGS),
    "/etc/systemd/system/rocksalt-logbook.service",
)
SPANS = ((1, 5), (5, 10), (10, 16))
"""Seconds of a whole run in which it is killed."""
SERVICES = "salt-master salt-api rocksalt-logbook rocksalt-logbook-heads.timer"


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[Site]:
    """Hosts of its own, for the master becomes another user's."""
    with Lab.start(release=lab.release, salt=lab.salt) as own:
        site = Site(own)
        site.prepare()
        yield site
        site.salt.close()


@pytest.fixture(scope="module")
def hardened(site: Site) -> Site:
    """The master has its roles and its door, behind its packet filter."""
    run = site.apply(FAMILIES)
    assert {"FW-001", "ACL-003", "ACL-008", "ACL-009", "ACL-024"} <= run.controls
    assert site.differing().keys() == {"ACL-023", "ACL-025"}, "nobody has reviewed or seen it"
    site.have_witness()
    assert site.apply().controls >= {"ACL-024"}
    checked = json.loads(site.master.read(f"{BOOK_STATE}/verified.json"))
    assert checked["ok"] and checked["witness"]["until"], "the witness was asked at once"
    assert site.differing().keys() == {"ACL-023"}
    assert site.runner("access.review", "sign=ann")["signed"]["reviewer"] == "ann"
    two_steps(site)
    return site


@pytest.fixture(scope="module")
def alice(hardened: Site) -> str:
    """The token of somebody who deploys."""
    return hardened.log_in("alice")


def shown(site: Site) -> str:
    """All that a run of the family could change."""
    return site.master.run(
        f"find /etc/salt /etc/rocksalt {DOOR} /usr/local/bin /etc/systemd"
        " /var/cache/salt/master/tokens -xdev -not -path '/etc/salt/pki/*'"
        " -printf '%p %m %u %g %s %C@\\n' 2>/dev/null | sort;"
        f"systemctl show -p ActiveState,MainPID,UnitFileState {SERVICES}; iptables-save"
        " | grep '^[:-]' | cut -d'[' -f1"
    ).stdout


# What a run makes ---------------------------------------------------------------------------------


def test_test_mode_says_all_of_it_and_changes_nothing(site: Site) -> None:
    before = shown(site)
    found = site.differing()
    run = site.apply(FAMILIES, test=True)
    by_state = {i for i, it in tampers.controls("access").items() if it.get("remedy") != "manual"}
    by_state.add("ACL-018")  # what is the master's own is closed
    assert run[STATE]["result"] is None
    assert {i for i in run.controls if i.startswith("ACL")} == {*found} & by_state
    assert {*found} >= {"ACL-003", "ACL-008", "ACL-009", "ACL-010", "ACL-013", "ACL-014"}
    assert shown(site) == before


def test_a_run_leaves_no_drift_and_a_second_changes_and_restarts_nothing(hardened: Site) -> None:
    assert not hardened.differing("access") and not hardened.differing("firewall")
    outside.conforms(hardened.master, "access", "firewall")
    hardened.web1_answers()
    before = shown(hardened)
    assert not hardened.apply(FAMILIES).changes
    assert shown(hardened) == before


# What people do -----------------------------------------------------------------------------------


def test_a_deploy_with_curl_gives_its_result(hardened: Site, alice: str) -> None:
    status, said = hardened.call(alice, fun="deploy.run", kwarg=DEPLOYS)
    result = said[0]["web1"]
    assert status == 200 and (result["result"], result["changed"]) == (True, 1)
    assert hardened.web1.read(DEPLOYED).strip() == "v1.4.2"

    tried = hardened.call(
        alice, fun="deploy.run", kwarg={**DEPLOYS, "version": "v2.0.0", "test": 1}
    )
    assert "neither True nor False" in str(tried)
    _, said = hardened.call(alice, fun="deploy.status", kwarg={"app": "shop"})
    record = said[0]["web1"]["shop"]
    assert (record["status"], record["version"], record["user"]) == ("ok", "v1.4.2", "alice")
    assert record["jid"] == result["jid"]


def test_the_docs_way_to_log_in_and_deploy_works(hardened: Site) -> None:
    """With jq and without a secret on a command line; who may do that is the desk."""
    home = hardened.lab.state / "home"
    home.mkdir()
    script = (block("other users would see it:") + block("see what came of it:")).replace(
        "salt1.example.org", hardened.master.ip
    )
    done = hardened.network(
        hardened.desk,
        [
            "bash",
            "-euo",
            "pipefail",
            "-c",
            script.replace("--cacert ca.pem", f"--cacert {hardened.ca}"),
        ],
        input=f"{hardened.passwords['alice']}\n",
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
    )
    tried, deployed, status = _documents(done.stdout)
    assert (tried["web1"]["result"], deployed["web1"]["result"]) == (True, True), done.stderr
    assert status["web1"]["shop"]["version"] == "v1.4.2"
    assert (home / ".salt-session").stat().st_mode & 0o077 == 0


def _documents(text: str) -> list[Any]:
    decoder, found = json.JSONDecoder(), []
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def test_a_script_without_curl_does_the_same(hardened: Site) -> None:
    desk = hardened.desk
    desk.write("/root/pepper.py", (ON_HOST / "pepper.py").read_text())
    where = [f"{hardened.master.ip}:{PORT}", "/root/ca.pem"]
    what = ["alice", "web1", "deploy.run", json.dumps({**DEPLOYS, "version": "v1.5.0"})]
    words = [runs.PYTHON, "/root/pepper.py", *where, *what]
    said = json.loads(desk.run(words, input=hardened.passwords["alice"]).stdout)
    assert said["status"] == [200, 200, 200, 401], "the last one is after the log-out"
    assert said["return"][0]["web1"]["result"] is True
    assert hardened.web1.read(DEPLOYED).strip() == "v1.5.0"


NOT_HERS, NEVER = 403, 400
ESCAPES: dict[str, tuple[int, dict[str, Any]]] = {
    "another host": (NOT_HERS, {"tgt": "master"}),
    "all hosts": (NOT_HERS, {"tgt": "*"}),
    "another host beside hers": (NOT_HERS, {"tgt": ["web1", "master"], "tgt_type": "list"}),
    "by what a minion says": (NEVER, {"tgt": "os:Debian", "tgt_type": "grain"}),
    "states": (NOT_HERS, {"fun": "state.apply", "kwarg": {"mods": "shop.deployed"}}),
    "a shell": (NOT_HERS, {"fun": "cmd.run", "kwarg": {"cmd": "id"}}),
    "two functions": (NEVER, {"fun": ["test.ping", "cmd.run"], "arg": [[], ["id"]], "kwarg": {}}),
    "keys": (NEVER, {"client": "wheel", "fun": "key.list_all"}),
    "ssh": (NEVER, {"client": "ssh", "fun": "cmd.run", "arg": ["id"]}),
    "another app": (NOT_HERS, {"kwarg": {"app": "blog", "version": "v1.0.0"}}),
    "a version with a command": (NOT_HERS, {"kwarg": {"app": "shop", "version": "v1.4.2; id"}}),
    "without a name": (NEVER, {"arg": ["blog", "v1.0.0"], "kwarg": {}}),
    "a name in an argument": (NEVER, {"arg": ["app=blog"]}),
    "other pillar": (NEVER, {"kwarg": {**DEPLOYS, "pillar": {"a": 1}}}),
    "other states": (NEVER, {"kwarg": {**DEPLOYS, "saltenv": "dev"}}),
    "a returner": (NEVER, {"ret": "local_cache"}),
    "another user": (NEVER, {"user": "root"}),
}


def test_nothing_else_gets_through(hardened: Site, alice: str) -> None:
    good = {"fun": "deploy.run", "kwarg": DEPLOYS}
    before = hardened.web1.run("ls -la /srv /var/lib/rocksalt/deploys").stdout
    got = {name: hardened.call(alice, **{**good, **low})[0] for name, (_, low) in ESCAPES.items()}
    assert got == {name: status for name, (status, _) in ESCAPES.items()}
    _, said = hardened.call(alice, fun="deploy.run", kwarg={**DEPLOYS, "queue": True})
    assert "not valid: queue" in said[0]["web1"], "one that only the minion knows"
    assert hardened.web1.run("ls -la /srv /var/lib/rocksalt/deploys").stdout == before
    refused = [json.loads(line) for line in hardened.master.read(LOG).splitlines()]
    hers = [line for line in refused if line["event"] == "refused" and line["user"] == "alice"]
    assert len(hers) >= len(ESCAPES)
    assert {line["source"] for line in hers} == {hardened.desk.ip}


@pytest.mark.parametrize("path", ["/events", "/run", "/ws", "/hook", "/keys", "/minions", "/jobs"])
def test_there_is_no_other_way_in(hardened: Site, alice: str, path: str) -> None:
    own = ["-H", f"X-Auth-Token: {alice}"]
    assert hardened.curl(path, None, *own)[0] == 404
    assert hardened.call(alice, path=path, fun="test.ping")[0] == 404


def test_only_modern_tls_is_spoken(hardened: Site) -> None:
    assert hardened.curl("/")[0] == 200
    assert hardened.curl("/", None, "--tls-max", "1.2")[0] == 200
    old = ["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]
    assert hardened.curl("/", None, *old) == (0, 35)
    plain = hardened.network(hardened.desk, ["curl", "-s", f"http://{hardened.master.ip}:{PORT}/"])
    assert plain.returncode and not plain.stdout


def test_who_is_not_of_the_declared_network_gets_no_connection(hardened: Site) -> None:
    assert hardened.curl("/", None, "-m", "2", host=hardened.attacker) == (0, 28)


def test_guessing_ends_after_five_failures(hardened: Site) -> None:
    """Of a name that nobody has; the desk itself may log in no more until salt-api starts anew."""
    words = {"username": "nobody", "password": "guessed"}
    assert [hardened.curl("/login", words)[0] for _ in range(6)] == [401] * 5 + [429]
    right = {"username": "alice", "password": hardened.passwords["alice"]}
    headers = hardened.lab.state / "headers"
    assert hardened.curl("/login", right, "-D", str(headers))[0] == 429
    assert "Retry-After: " in headers.read_text()
    hardened.master.run("systemctl restart salt-api")
    hardened.becomes_reachable()


def test_a_token_ends_with_the_log_out(hardened: Site) -> None:
    token = hardened.log_in("alice")
    assert hardened.call(token, fun="test.ping") == (200, [{"web1": True}])
    assert hardened.curl("/logout", {}, "-X", "POST", "-H", f"X-Auth-Token: {token}")[0] == 200
    assert hardened.call(token, fun="test.ping")[0] == 401


# What can be asked --------------------------------------------------------------------------------


def test_the_runners_say_what_is_enforced(hardened: Site) -> None:
    told = hardened.runner("access.explain", "alice")
    assert not told["warnings"] and "deploy.run with app shop" in told["may"][0]
    yes = hardened.runner(
        "access.can", "alice", "deploy.run", "web1", f"kwarg={json.dumps(DEPLOYS)}"
    )
    assert yes["allowed"] is True and "deploy" in str(yes["rule"])
    assert hardened.runner("access.can", "alice", "cmd.run", "web1")["allowed"] is False
    review = hardened.runner("access.review")
    assert {*review["people"]} == {"alice", "bob"}
    assert review["people"]["alice"]["last_calls"].keys() >= {"deploy.run", "deploy.status"}
    assert not review["warnings"] and not review["root"]["elsewhere"]
    assert review["changes"]["more"] == review["changes"]["less"] == []

    bob = hardened.log_in("bob")
    asked = {"client": "runner", "fun": "access.explain", "kwarg": {"user": "alice"}}
    status, said = hardened.curl("/", [asked], "-H", f"X-Auth-Token: {bob}")
    assert status == 200 and said["return"][0]["may"] == told["may"]


BRIEF = ("kind", "event", "user", "minion", "fun", "kwarg", "tgt", "success", "outcome", "source")


def test_the_logbook_tells_who_did_what_and_notices_a_changed_line(hardened: Site) -> None:
    master, desk, alice = hardened.master, hardened.desk, hardened.log_in("alice")
    begin = dt.datetime.now(dt.timezone.utc).isoformat()
    version = {**DEPLOYS, "version": "v1.6.0"}
    assert hardened.call(alice, fun="deploy.run", kwarg=version)[0] == 200
    assert hardened.call(alice, fun="cmd.run", kwarg={"cmd": "id"})[0] == NOT_HERS
    master.run("salt web1 cmd.run cmd='exit 3'", check=False)

    by_api = {"kind": "api", "user": "alice", "tgt": "web1", "source": desk.ip}
    done = [
        {"kind": "job", "user": "alice", "fun": "deploy.run", "kwarg": version, "tgt": "web1"},
        {"kind": "return", "minion": "web1", "fun": "deploy.run", "success": True},
        {**by_api, "event": "call", "fun": "deploy.run", "kwarg": version, "outcome": "ok"},
        {**by_api, "event": "refused", "fun": "cmd.run", "kwarg": {"cmd": "id"},
         "outcome": "this is not among your rights"},
        {"kind": "job", "user": "root", "fun": "cmd.run", "kwarg": {"cmd": "exit 3"},
         "tgt": "web1"},
        {"kind": "return", "minion": "web1", "fun": "cmd.run", "success": False},
    ]  # fmt: skip
    told: list[tuple[dict[str, Any], str]] = []
    asked: list[dict[str, Any]] = []

    def is_told() -> bool:
        found = hardened.runner("logbook.playback", f"since={begin}")
        both = list(zip(found["records"], found["story"], strict=True))
        ours = [it for it in both if it[0]["kind"] in ("api", "job", "return")]
        asked[:] = [it for it, _ in ours if it.get("event") == "asked"]
        told[:] = [it for it in ours if it[0].get("event") != "asked"]
        return len(told) >= len(done)

    becomes(is_told, 20)
    assert [(it["user"], it["source"], it["fun"]) for it in asked] == [
        ("alice", desk.ip, "deploy.run"), ("alice", desk.ip, "cmd.run"),
    ]  # fmt: skip
    assert [{key: it[key] for key in BRIEF if key in it} for it, _ in told] == done
    assert told[2][1].endswith(
        f" alice from {desk.ip} called by the API deploy.run(app=shop version=v1.6.0) on web1: ok"
    )

    found = hardened.runner("logbook.verify")
    assert found["ok"] and found["witness"]["error"] == ""
    change = (ON_HOST / "change-line.py").read_text()
    master.run([runs.PYTHON, "-c", change])
    found = hardened.runner("logbook.verify")
    master.run([runs.PYTHON, "-c", change])
    assert not found["ok"] and "line 1 of " in str(found["hosts"]["master"]["problems"])


# What goes wrong ----------------------------------------------------------------------------------


def test_a_highstate_that_restarts_its_own_master_keeps_its_result(hardened: Site) -> None:
    """The run came from that master, and brings rights for an emergency, which are drift."""
    tomorrow = dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=1)
    emergency = {
        "role": "break-glass", "targets": ["web1"], "apps": [], "until": str(tomorrow),
        "reason": "the disk is full",
    }  # fmt: skip
    bob = {"grants": [{"role": "auditor", "targets": ["*"], "everywhere": True}, emergency]}
    hardened.pillar(users={"alice": hardened.users["alice"], "bob": bob})
    before = hardened.pids()
    words = ["salt", "--async", "--out=json", "master", "state.apply", "hardening.access"]
    said = hardened.master.run(words).stdout
    jid = next(word for word in said.replace('"', " ").split() if word.isdigit())
    states = hardened.returned(jid, "master")
    assert all(state["result"] for state in states.values())
    assert any("ACL-003" in state["changes"] for state in states.values())
    assert all(pid != before[unit] for unit, pid in hardened.pids().items())
    found = hardened.differing()
    assert found.keys() == {"ACL-022", "ACL-023"}
    assert all("bob" in why for why in found.values())
    token = hardened.log_in("bob")
    _, said_by_web1 = hardened.call(token, fun="cmd.run", kwarg={"cmd": "id -u"})
    assert said_by_web1 == [{"web1": "0"}]

    hardened.pillar()
    assert hardened.differing().keys() >= {"ACL-003", "ACL-004"}
    hardened.apply()
    assert not hardened.differing()
    again = hardened.log_in("bob")
    assert hardened.call(again, fun="cmd.run", kwarg={"cmd": "id -u"})[0] == 403
    status, _ = hardened.call(token, fun="cmd.run", kwarg={"cmd": "id -u"})
    assert status in (401, 403), "nor his old token"


def test_bad_settings_stop_the_run_before_anything_is_touched(hardened: Site) -> None:
    before = shown(hardened)
    apps = {"shop": {"version": ".*"}}
    users = {"alice": {"grants": [{"role": "deployr", "targets": ["web1"]}]}}
    hardened.pillar(users=users, apps=apps, hashes={}, address="0.0.0.0")
    said = str(hardened.salt.salt_call("state.apply", "hardening.access").value)
    for where in ("users:alice:grants:0:role", "apps:shop:version", "hashes", "address"):
        assert f"hardening:access:{where}" in said
    hardened.pillar()
    assert shown(hardened) == before
    assert hardened.curl("/")[0] == 200


def test_killed_at_any_moment_the_file_is_old_or_new_and_the_master_answers(hardened: Site) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    master, new = hardened.master, hardened.master.read(CONFIG)
    old = f"{new}# what was there before\n"
    moments = [f"{random.Random(seed + n).uniform(0.2 + n, 1.5 + n):.3f}" for n in range(MOMENTS)]
    master.write("/root/kill.py", (ON_HOST / "kill.py").read_text())
    words = [runs.PYTHON, "-W", "ignore", "/root/kill.py", "access.enforce", "ACL-003", *moments]
    master.write(CONFIG, old, mode="0640", owner="root:salt")
    run = master.start(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdin and run.stdout
    for _ in moments:
        assert run.stdout.readline() == "killed\n"
        assert master.read(CONFIG) in (old, new)
        hardened.web1_answers()
        master.write(CONFIG, old, mode="0640", owner="root:salt")
        run.stdin.write("\n")
        run.stdin.flush()
    run.wait()
    hardened.apply()
    assert master.read(CONFIG) == new
    assert not hardened.differing()
    assert not master.run("find /etc /usr/local -name '*rocksalt-new*'").stdout
    assert hardened.call(hardened.log_in("alice"), fun="test.ping")[0] == 200


def test_a_whole_run_killed_at_any_moment_leaves_no_half(hardened: Site) -> None:
    """The last kill is followed by a run on what it left, those before by the old files again."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    master = hardened.master
    new = {path: master.read(path) for path in MANAGED}
    old = {path: f"{text}# what was there before\n" for path, text in new.items()}
    old[SETTINGS] = new[SETTINGS].replace('"days": 400', '"days": 399')
    rights = {path: master.run(["stat", "-c", "%a %U:%G", path]).stdout.split() for path in new}

    def go_back() -> None:
        for path, (mode, owner) in rights.items():
            master.write(path, old[path], mode=mode, owner=owner)

    moments = [f"{random.Random(seed + n).uniform(*span):.3f}" for n, span in enumerate(SPANS)]
    master.write("/root/kill.py", (ON_HOST / "kill.py").read_text())
    words = [runs.PYTHON, "-W", "ignore", "/root/kill.py", "state.apply", "hardening.access"]
    go_back()
    run = master.start([*words, *moments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdin and run.stdout
    for number, moment in enumerate(moments, 1):
        assert run.stdout.readline() == "killed\n"
        found = {path: master.read(path) for path in MANAGED}
        half = [path for path, text in found.items() if text not in (old[path], new[path])]
        assert not half, f"killed after {moment} s"
        hardened.web1_answers()
        assert runs.administrator_gets_in(hardened.lab, master, master)
        hardened.becomes_reachable()
        hardened.log_in("alice")
        if number < len(moments):
            go_back()
        run.stdin.write("\n")
        run.stdin.flush()
    run.wait()
    hardened.apply()
    assert {path: master.read(path) for path in MANAGED} == new
    assert not hardened.differing()
    assert not master.run("find /etc /usr/local -name '*rocksalt-new*'").stdout
    before = shown(hardened)
    assert not hardened.apply().changes
    assert shown(hardened) == before


# Drift --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def breakable(hardened: Site) -> Site:
    """What tamper cases need."""
    master, desk = hardened.master, hardened.desk
    names = f"-addext subjectAltName=DNS:{master.name},IP:{master.ip}"
    desk.run(
        "cd /root; sign() { openssl x509 -req -in api.csr -copy_extensions copy -out $1.pem"
        " -days $2 -CA ca.pem -CAkey ca.key; }; sign renewed 365; sign soon 10;"
        f" openssl req -x509 -key api.key -subj /CN=salt1 {names} -days 365"
        " -addext extendedKeyUsage=serverAuth -out own.pem"
    )
    for name in ("renewed", "soon", "own"):
        master.write(f"/root/{name}.pem", desk.read(f"/root/{name}.pem"))
    for name in ("restart-access.sh", "change-line.py"):
        path = f"/root/{name.partition('.')[0]}"
        master.write(path, (ON_HOST / name).read_text(), mode="0755")
    master.run("/root/restart-access")
    return hardened


def test_every_case_is_seen_exactly(breakable: Site) -> None:
    cases = tampers.cases("access")
    found = runs.look_after_each(breakable.master, cases, "access")
    wrong = {case.name: found[case.name] for case in cases if set(found[case.name]) != case.drifts}
    assert not wrong
    assert found[""] == {}, "the host was not put back"


def test_one_run_heals_what_a_state_can(breakable: Site) -> None:
    cases = [case for case in tampers.cases("access") if not case.needs_a_person]
    alone = [case for case in cases if case.alone]
    for together in ([case for case in cases if not case.alone], *([case] for case in alone)):
        for case in together:
            runs.shell(breakable.master, case.command)
        broken = set().union(*(case.drifts for case in together))
        assert {*breakable.differing()} >= broken
        run = breakable.apply()
        assert run.controls >= set().union(*(case.of_family for case in together))
        assert not breakable.differing()
    before = shown(breakable)
    assert not breakable.apply().changes
    assert shown(breakable) == before
    assert breakable.call(breakable.log_in("alice"), fun="test.ping") == (200, [{"web1": True}])


def test_the_suite_for_users_sees_what_is_broken(breakable: Site) -> None:
    outside.sees(breakable.master, "access")
    outside.conforms(breakable.master, "access")


def test_it_can_all_be_taken_away(hardened: Site) -> None:
    """The last test: there is no salt-api any more, and a master without rights for people."""
    back(hardened)
    assert runs.apply(hardened.salt, "hardening.access.clean", test=True).changes
    assert hardened.master.run(f"ls {CONFIG}").stdout
    assert hardened.apply("hardening.access.clean").changes
    assert not hardened.apply("hardening.access.clean").changes
    made = f"{CONFIG} {USERS} {DOOR} {PROGRAM} {SETTINGS} {UNITS}"
    left = hardened.master.run(f"find {made} -type f", check=False).stdout
    aside = {f"{DOOR}/auth/easy.py", f"{UNITS[:-1]}.service.d/x.conf"}
    assert {*left.split()} == aside, "what was put aside is given back"
    assert hardened.master.run(f"ls {BOOK}/master").stdout, "what was written is kept"
    assert hardened.curl("/", None, "-m", "5") == (0, 7)
    hardened.web1_answers()

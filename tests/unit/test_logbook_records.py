"""rocksalt.logbook: what is kept of an event, and what of its arguments."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from rocksalt.logbook import apilog, records
from rocksalt.logbook.arguments import LONGEST, MOST, WHOLE, Arguments

ROOT = Path(__file__).resolve().parents[2]
MASK = yaml.safe_load((ROOT / "salt/hardening/logstash/defaults.yaml").read_text())["mask"]
ARGUMENTS = Arguments(MASK["default"])
CANARY = "canary-2b9c-of-records"
JID = "20261123080000123456"
NAIVE, AWARE = "2026-11-23T08:00:00.123456", "2026-11-23T08:00:00.123456+00:00"
TIME = "2026-11-23T08:00:00.123456Z"
JOB = {
    "jid": JID, "user": "alice", "fun": "deploy.run", "tgt": "web*", "tgt_type": "glob",
    "arg": ["now", {"__kwarg__": True, "app": "shop", "version": "1.2"}], "missing": ["web9"],
    "minions": ["web1", "web2"], "_stamp": AWARE,
}  # fmt: skip


def kept(tag, data):
    return records.record(tag, data, ARGUMENTS)


def test_a_job():
    found = kept(f"salt/job/{JID}/new", JOB)
    identity = found.pop("event.id")
    assert found == {
        "time": TIME, "kind": "job", "user": "alice", "fun": "deploy.run", "arg": ["now"],
        "kwarg": {"app": "shop", "version": "1.2"}, "jid": JID, "tgt": "web*", "tgt_type": "glob",
        "minions": ["web1", "web2"], "missing": ["web9"],
    }  # fmt: skip
    assert identity.startswith(f"job/{JID}/")
    other = kept(f"salt/job/{JID}/new", {**JOB, "minions": ["web2", "web1"], "_stamp": NAIVE})
    assert (other["event.id"], other["time"]) == (identity, TIME)
    batch = kept(f"salt/job/{JID}/new", {**JOB, "minions": ["web3"]})
    assert batch["event.id"] != identity


def test_a_job_of_many_minions_and_functions():
    minions = [f"web{number}" for number in range(2005)]
    data = {**JOB, "minions": minions, "fun": ["test.ping", "cmd.run"], "arg": [[], ["uptime"]]}
    found = kept(f"salt/job/{JID}/new", data)
    assert (len(found["minions"]), found["more_minions"]) == (2000, 5)
    assert (found["fun"], found["arg"]) == ("test.ping,cmd.run", [[], ["uptime"]])


def test_a_job_that_the_master_refused():
    error = {"name": "AuthorizationError", "message": "Authorization error occurred."}
    found = kept(f"salt/job/{JID}/error", {**JOB, "error": error})
    assert (found["kind"], found["refused"]) == ("job", "Authorization error occurred.")
    assert found["event.id"] == f"refused/{JID}"


@pytest.mark.parametrize(
    ("data", "success", "retcode"),
    [
        ({"success": True, "retcode": 0}, True, 0),
        ({"success": False, "retcode": 2}, False, 2),
        ({"success": {"a.b": True, "c.d": False}, "retcode": {"a.b": 0, "c.d": 3}}, False, 3),
        ({}, None, None),
        ({"success": "yes", "retcode": "0"}, None, None),
    ],
)
def test_a_return(data, success, retcode):
    said = {"fun": "test.ping", "fun_args": [CANARY], "return": CANARY, "_stamp": AWARE, **data}
    found = kept(f"salt/job/{JID}/ret/web1.example.org", said)
    assert found == {
        "time": TIME, "kind": "return", "minion": "web1.example.org", "jid": JID,
        "fun": "test.ping", "success": success, "retcode": retcode,
        "event.id": f"return/{JID}/web1.example.org",
    }  # fmt: skip


def test_a_return_of_states():
    states = {
        "a": {"result": True, "changes": {}, "__run_num__": 0},
        "b": {"result": True, "changes": {"new": CANARY}, "__run_num__": 1},
        "c": {"result": False, "changes": {}, "comment": CANARY, "__run_num__": 2},
    }
    found = kept(f"salt/job/{JID}/ret/web1", {"fun": "state.apply", "return": states})
    assert found["states"] == {"all": 3, "changed": 1, "failed": 1}
    assert CANARY not in json.dumps(found)
    for other in ({"a": {"result": True}}, ["wrong"], {}, {"a": 1}):
        found = kept(f"salt/job/{JID}/ret/web1", {"fun": "state.apply", "return": other})
        assert "states" not in found


def test_what_a_minion_did_unasked():
    said = {
        "fun": "state.apply", "fun_args": ["app"], "tgt": "web1", "tgt_type": "glob", "retcode": 0,
    }  # fmt: skip
    found = kept(f"salt/job/{JID}/ret/web1", said)
    assert (found["called"], found["arg"], found["kwarg"]) == (True, ["app"], {})


@pytest.mark.parametrize(("tag", "kind"), [("run", "runner"), ("wheel", "wheel")])
def test_what_was_called_on_the_master(tag, kind):
    said = {"user": "sudo_ann", "fun": f"{kind}.jobs.active", "_stamp": AWARE}
    asked = kept(f"salt/{tag}/{JID}/new", {**said, "fun_args": ["x", {"password": CANARY}]})
    assert asked == {
        "time": TIME, "kind": kind, "user": "sudo_ann", "fun": f"{kind}.jobs.active",
        "arg": ["x"], "kwarg": {"password": "***"}, "jid": JID, "event.id": f"{kind}/{JID}",
    }  # fmt: skip
    ended = kept(f"salt/{tag}/{JID}/ret", {**said, "success": True, "return": {"retcode": 1}})
    assert (ended["kind"], ended["success"]) == (f"{kind}-return", False)
    assert ended["event.id"] == f"{kind}-return/{JID}"
    assert kept(f"salt/{tag}/{JID}/ret", {**said, "success": True, "return": []})["success"] is True


def test_keys():
    said = {"id": "web1", "act": "pend", "result": True, "pub": "a key", "_stamp": AWARE}
    found = kept("salt/auth", said)
    assert (found["kind"], found["minion"], found["act"], found["success"]) == (
        "auth", "web1", "pend", True,
    )  # fmt: skip
    assert (
        len(found["key"]) == 16 and found["key"] != kept("salt/auth", {**said, "pub": "b"})["key"]
    )
    for act in ("accept", "accepted"):
        found = kept("salt/key", {"id": "web1", "act": act, "result": True})
        assert (found["kind"], found["act"], "key" in found) == ("key", "accept", False)


@pytest.mark.parametrize(
    "tag",
    [
        "salt/job/1/prog/web1/0", "salt/minion/web1/start", "salt/presence/present", "salt/stats",
        "minion_start", f"salt/job/{JID}", f"salt/job/{JID}/new/web1", f"salt/job/{JID}/ret", "",
    ],
)  # fmt: skip
def test_what_is_no_business_of_the_logbook(tag):
    assert kept(tag, JOB) is None


def test_what_a_minion_claims():
    said = {"id": "web1", "cmd": "_minion_event", "data": {}, "_stamp": AWARE}
    found = kept(f"salt/job/{JID}/ret/web2", said)
    assert (found["kind"], found["minion"], found["tag"]) == (
        "claim", "web1", f"salt/job/{JID}/ret/web2",
    )  # fmt: skip
    assert kept("myco/deploy/done", said) is None


COMMANDS = [
    "mysql -u root -p{} app", "mysqldump --password={} app", "sshpass -p {} ssh web1",
    "curl -u admin:{} https://x.test", "curl --proxy-user=admin:{} https://x.test",
    "curl https://admin:{}@x.test/", "PGPASSWORD={} psql app", "useradd -m -p {} ann",
    "usermod -p {} ann", "echo root:{} | chpasswd", "echo {} | passwd --stdin ann",
    "printf {} | sudo -S id", "echo -n {} | cryptsetup open /dev/sdb1 x",
    "echo {} | docker login --password-stdin", "docker login -u ann -p {} hub.test",
    "redis-cli -h db -a {} ping", "ldapsearch -x -D cn=admin -w {} uid=ann",
    "htpasswd -b -c file ann {}", "smbclient //x/y -U ann%{}", "openssl rsa -passin pass:{}",
    "mysql -e IDENTIFIED BY {}", "vault token {}", "x --db-password {}", "x api_key: {}",
]  # fmt: skip


SECRETS = [
    ("test.arg", [{"__kwarg__": True, "password": CANARY}]),
    ("test.arg", [{"__kwarg__": True, "db": {"users": [{"name": "x", "api_key": CANARY}]}}]),
    ("test.arg", [f"password={CANARY}"]),
    ("test.arg", [f"db_passwd=with a space {CANARY}"]),
    ("state.apply", ["app", {"__kwarg__": True, "pillar": {"harmless": {"names": [CANARY]}}}]),
    ("state.apply", ["app", f"pillar={{'harmless': '{CANARY}'}}"]),
    ("cmd.run", [f"mysql -u root -p{CANARY} app"]),
    ("cmd.run", ["mysql", {"__kwarg__": True, "stdin": CANARY}]),
    ("cmd.run", ["env", {"__kwarg__": True, "env": [{"HARMLESS": CANARY}]}]),
    ("cmd.run", [["x", "--password", CANARY]]),
    ("cmd.run", ["x", "--db-password", CANARY]),
    ("cmd.run", [f'curl -H "Authorization: Bearer {CANARY}" https://x.test']),
    *(("cmd.run", [line.format(CANARY)]) for line in COMMANDS),
    *(("cmd.run", [{"__kwarg__": True, "cmd": line.format(CANARY)}]) for line in COMMANDS),
    *(("cmd.run", [line.format(CANARY).split(" ")]) for line in COMMANDS if "|" not in line),
    ("cmd.run", [["mysql", "--password", "x", "--token", CANARY]]),
    ("cmd.run", ["x", "--pin", "--password", 20261123, {"__kwarg__": True, "cmd": CANARY[:0]}]),
    ("file.write", ["/etc/x", {"__kwarg__": True, "contents": CANARY}]),
    ("shadow.set_password", ["root", CANARY]),
    ("mysql.user_create", ["app", "localhost", CANARY]),
    ("vault.write_secret", ["a/b", CANARY]),
    ("test.arg", [f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n" + "x" * 5000]),
    ("test.arg", [{"__kwarg__": True, f"--password={CANARY}": 1}]),
]


@pytest.mark.parametrize(("function", "given"), SECRETS)
def test_no_secret_is_kept(function, given):
    found = kept(f"salt/job/{JID}/new", {**JOB, "fun": function, "arg": given})
    assert CANARY not in json.dumps(found)
    assert "***" in json.dumps(found)


@pytest.mark.parametrize(
    "line",
    [
        "cat /etc/passwd", "mkdir -p /srv/shop", "tar -C /srv -xf shop-1.2:3.tar", "df -h",
        "echo hello | tee /tmp/x", "ssh -p 22 web1 uptime", "docker ps -a", "git log --author=ann",
        "redis-cli ping", "ls -w 80", "systemctl restart shop; echo ok | logger",
    ],
)  # fmt: skip
def test_commands_without_a_secret_are_kept(line):
    assert ARGUMENTS.split("cmd.run", [line]) == ([line], {})
    assert ARGUMENTS.split("cmd.run", [line.split()]) == ([line.split()], {})


def test_what_is_no_secret_is_kept():
    given = [
        "web.conf", 3, True, None,
        {"__kwarg__": True, "version": "1.2", "app": "shop", "passive": True, "token_count": "x"},
    ]  # fmt: skip
    placed, named = ARGUMENTS.split("deploy.run", given)
    assert placed == ["web.conf", 3, True, None]
    assert named == {"version": "1.2", "app": "shop", "passive": True, "token_count": "***"}
    assert ARGUMENTS.split("user.add", ["ann", {"uid": 5}]) == (["ann"], {"uid": 5})
    assert ARGUMENTS.split("shadow.info", ["ann"]) == (["ann"], {})


def test_arguments_have_bounds():
    deep: object = "x"
    for _ in range(50):
        deep = [deep]
    placed, named = ARGUMENTS.split(
        "test.arg", ["y" * 10_000, list(range(1000)), deep, float("nan"), b"\xff", object]
    )
    assert len(placed[0]) < LONGEST + 120 and "... (10000 characters, sha256 " in placed[0]
    assert len(placed[1]) == MOST + 1 and placed[1][-1] == "... (1000 in all)"
    assert len(json.dumps(placed[2])) < 50
    assert placed[3:5] == ["nan", "\ufffd"]
    assert named == {}
    json.dumps(placed, allow_nan=False)


def test_a_command_is_not_hidden_by_other_names():
    named = {f"a{number}": 1 for number in range(105)} | {"cmd": "useradd evil"}
    placed, found = ARGUMENTS.split("cmd.run", [{**named, "__kwarg__": True}])
    assert (placed, found["cmd"], found["..."], len(found)) == (
        [], "useradd evil", "5 more", MOST + 2,
    )  # fmt: skip
    door = json.dumps({"event": "call", "fun": "cmd.run", "kwarg": named}).encode()
    found = apilog.record(door, "1:2", ARGUMENTS)["kwarg"]
    assert (found["cmd"], found["..."]) == ("useradd evil", "6 more")
    long = ["x" * LONGEST] * MOST
    placed, found = ARGUMENTS.split("cmd.run", [*long, *long, {**named, "__kwarg__": True}])
    assert found["cmd"] == "useradd evil" and len(json.dumps([placed, found])) < 2 * WHOLE
    assert placed[-1] == "... (200 in all)" and found["..."] == "105 more"


def test_a_text_that_is_cut_says_what_it_was():
    padded = "true #" + "." * 10_000 + "\nuseradd evil"
    digest = hashlib.sha256(padded.encode()).hexdigest()
    assert ARGUMENTS.text(padded).endswith(f"... ({len(padded)} characters, sha256 {digest})")
    secret = f"x password={CANARY} " + "." * 10_000
    assert ARGUMENTS.text(secret) == f"x password=***... ({len(secret)} characters)"


def test_functions_and_hosts_have_bounds_and_say_so():
    some = kept(f"salt/job/{JID}/new", {**JOB, "fun": ["test.ping"] * 5000 + ["cmd.run"]})
    assert some["fun"] == "test.ping,cmd.run"
    many = [f"module.function_{number}" for number in range(5000)]
    some = kept(f"salt/job/{JID}/new", {**JOB, "fun": many})["fun"]
    assert some.startswith("module.function_0,") and "... (5000 in all, sha256 " in some
    assert len(some) < 2 * records.FUNCTIONS
    assert kept(f"salt/job/{JID}/new", {**JOB, "fun": "x" * 300})["fun"].endswith(
        "(300 characters)"
    )
    hosts = [f"{number:0250}" for number in range(2005)]
    some = kept(f"salt/job/{JID}/new", {**JOB, "minions": hosts, "missing": hosts})
    for key in ("minions", "missing"):
        assert len(some[key]) + some[f"more_{key}"] == 2005
    assert len(json.dumps(some)) < 200_000


@pytest.mark.parametrize(
    ("function", "given"),
    [
        ("vault.write_secret", ["secret/app", {"__kwarg__": True, "value": CANARY, "db": CANARY}]),
        ("shadow.set_password", ["alice", f"{CANARY}=x"]),
        ("shadow.set_password", ["alice", f"db={CANARY}"]),
        ("test.ping,shadow.set_password", [["alice", CANARY], ["alice", f"x={CANARY}"]]),
    ],
)
def test_functions_that_take_a_secret_show_whose_it_is_alone(function, given):
    placed, named = ARGUMENTS.split(function, given)
    assert CANARY not in json.dumps([placed, named])
    found = {"arg": given[:-1], "kwarg": {"db": CANARY}, "fun": function}
    if "," not in function:
        assert placed[0] == given[0]
        assert CANARY not in json.dumps(
            apilog.record(json.dumps(found).encode(), "1:2", ARGUMENTS)
        )  # fmt: skip


@pytest.mark.parametrize("given", [None, "", (), 0, "one"])
def test_arguments_that_are_no_list(given):
    assert ARGUMENTS.split("test.arg", given) == (["one"] if given else [], {})


@pytest.mark.parametrize("stamp", [None, "", "soon", 7, {"x": 1}])
def test_a_time_that_is_none(stamp):
    assert records.moment(stamp) is None
    assert kept("salt/key", {"id": "web1", "_stamp": stamp})["time"] is None

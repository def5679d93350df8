"""fail2ban, as its running server answers, and the bans that the packet filter has."""

from __future__ import annotations

import ast
import ipaddress
from typing import Any

import pytest

from .asking import Look
from .files import loose, named, stat
from .pillars import Expected
from .rules import table

FAMILY = "fail2ban"
OURS = "/etc/fail2ban/jail.d/zz-rocksalt.local"
SERVER = "/etc/fail2ban/fail2ban.d/zz-rocksalt.local"
# For settings, which are judged by what they say; filters, actions and paths are code.
SETTINGS = {"/etc/fail2ban/jail.conf", "/etc/fail2ban/fail2ban.conf"}
DROP_INS = ("/etc/fail2ban/jail.d/", "/etc/fail2ban/fail2ban.d/")
PATHS_OVER = "/etc/fail2ban/paths-overrides.local"
LOOPBACK = {"127.0.0.0/8", "::1"}
PROMPT = "fail2ban> "
OF_SERVER = ("status", "get dbfile", "get dbpurgeage", "get loglevel", "get logtarget", "banned")
OF_JAIL = (
    *("maxretry", "findtime", "bantime", "bantime.increment", "bantime.maxtime"),
    *("ignoreip", "ignoreself", "journalmatch", "logpath", "failregex", "actions"),
)
OF_ACTION = ("chain", "port", "protocol", "actionban")


def jails(wanted: Expected) -> dict[str, dict[str, Any]]:
    """The declared jails with all their settings, by name."""
    families = wanted.baseline.families
    own = families[FAMILY].settings
    found = {}
    for name, jail in own["jails"].items():
        if jail.get("enabled", True):
            every = {key: jail.get(key, own[key]) for key in ("max_retry", "find_time", "ban_time")}
            found[name] = {"units": [f"{name}.service"], "ports": [], **jail, **every}
    if "sshd" in found and not found["sshd"]["ports"]:
        declared = families["firewall"].settings["services"].get("ssh", {}).get("tcp")
        found["sshd"]["ports"] = declared or families["sshd"].settings["ports"]
    return found


def action(jail: dict[str, Any]) -> str:
    return "iptables-multiport" if jail["ports"] else "iptables-allports"


def questions(wanted: Expected) -> list[str]:
    """What the server is asked, all in one session."""
    asked = [*OF_SERVER]
    for name, jail in jails(wanted).items():
        asked += [f"get {name} {key}" for key in OF_JAIL]
        asked += [f"get {name} action {action(jail)} {key}" for key in OF_ACTION]
    return asked


def look(wanted: Expected) -> dict[str, str]:
    asked = " ".join(f"'{it}'" for it in questions(wanted))
    return {
        "unit": "systemctl show fail2ban.service -p ActiveState,UnitFileState",
        "server": f"printf '%s\\n' {asked} exit | fail2ban-client -i",
        "files": "fail2ban-client -d",
        "ours": f"cat {OURS}",
        "mine": f"cat {SERVER}",
        "open": "find /etc/fail2ban ! -type l \\( -perm /022 -o ! -user root \\)",
        "stat": stat(f"{OURS} {SERVER}"),
        "shipped": "dpkg -L fail2ban",
        "changed": "dpkg -V fail2ban",
        "local": "find /etc/fail2ban -name '*.local'",
        "live4": "iptables-save",
        "live6": "ip6tables-save",
    }


@pytest.fixture
def said(seen: Look, wanted: Expected) -> dict[str, str]:
    """The answers of the running server, by question."""
    answers = seen["server"].text.split(PROMPT)[1:]
    asked = questions(wanted)
    assert len(answers) > len(asked), f"fail2ban does not answer: {seen['server'].said}"
    return {question: answer.strip() for question, answer in zip(asked, answers, strict=False)}


def configured(seen: Look) -> list[list[Any]]:
    """What the files would have the server do, as ``fail2ban-client -d`` prints it."""
    assert not seen["files"].code, seen["files"].said
    return [ast.literal_eval(line) for line in seen["files"].lines if line.startswith("[")]


def items(answer: str) -> list[str]:
    """The entries of a list as fail2ban draws it."""
    return [line[2:].strip() for line in answer.splitlines() if line[:2] in ("|-", "`-")]


@pytest.mark.controls("F2B-001")
def test_it_runs_and_answers(seen: Look, said: dict[str, str]) -> None:
    unit = seen["unit"].pairs
    assert (unit["ActiveState"], unit["UnitFileState"]) == ("active", "enabled")
    assert said["status"].startswith("Status")


@pytest.mark.controls("F2B-002")
def test_our_files_are_there(seen: Look, wanted: Expected) -> None:
    assert loose(named(seen["stat"]), 0o077) == [] and len(named(seen["stat"])) == 2
    lines = set(seen["ours"].lines)
    for name, jail in jails(wanted).items():
        assert {
            f"[{name}]",
            f"maxretry = {jail['max_retry']}",
            f"findtime = {jail['find_time']}",
            f"bantime = {jail['ban_time']}",
        } <= lines
    longest = wanted.baseline.families[FAMILY].settings["longest_ban"]
    assert f"dbpurgeage = {longest}" in seen["mine"].lines


@pytest.mark.controls("F2B-003")
def test_files_together_say_what_is_declared(seen: Look, wanted: Expected) -> None:
    lines = configured(seen)
    assert {line[1] for line in lines if line[0] == "start"} == set(jails(wanted))
    values = {(line[1], line[2]): str(line[3]) for line in lines if line[0] == "set" and line[3:]}
    for name, jail in jails(wanted).items():
        found = [values[name, key] for key in ("maxretry", "findtime", "bantime")]
        assert found == [str(jail[key]) for key in ("max_retry", "find_time", "ban_time")]
        never = next(line[3:] for line in lines if line[:3] == ["set", name, "addignoreip"])
        assert _networks(never) == _never(wanted)
    server = {line[1]: str(line[2]) for line in lines if line[0] == "set" and len(line) == 3}
    own = wanted.baseline.families[FAMILY].settings
    assert server["dbpurgeage"] == str(own["longest_ban"]) and server["dbfile"] != "None"


@pytest.mark.controls("F2B-004")
def test_the_server_has_what_its_files_say(
    seen: Look, wanted: Expected, said: dict[str, str]
) -> None:
    lines = configured(seen)
    for name, jail in jails(wanted).items():
        count = 0
        for line in lines:
            if line[1:3] == [name, "addfailregex"]:
                count += len(line[3]) if isinstance(line[3], list) else 1
        assert len(items(said[f"get {name} failregex"])) == count > 0
        for line in lines:
            if line[0] == "multi-set" and line[1:4] == [name, "action", action(jail)]:
                for key, value in line[4]:
                    if key in OF_ACTION:
                        running = said[f"get {name} action {action(jail)} {key}"]
                        assert running.split() == str(value).split(), key


@pytest.mark.controls("F2B-005")
def test_every_declared_jail_runs_and_no_other(wanted: Expected, said: dict[str, str]) -> None:
    names = said["status"].partition("Jail list:")[2].replace(",", " ").split()
    assert set(names) == set(jails(wanted))


@pytest.mark.controls("F2B-006")
def test_jails_read_their_logs(wanted: Expected, said: dict[str, str]) -> None:
    for name, jail in jails(wanted).items():
        if jail.get("logs"):
            assert items(said[f"get {name} logpath"])
        else:
            found = said[f"get {name} journalmatch"].replace("+", " ").split()
            units = {it for it in found if it.startswith("_SYSTEMD_UNIT=")}
            assert units == {f"_SYSTEMD_UNIT={unit}" for unit in jail["units"]}


@pytest.mark.parametrize(
    ("key", "setting"),
    [
        pytest.param(key, setting, marks=pytest.mark.controls(control), id=key)
        for control, key, setting in (
            ("F2B-007", "maxretry", "max_retry"),
            ("F2B-007", "findtime", "find_time"),
            ("F2B-008", "bantime", "ban_time"),
        )
    ],
)
def test_patience(wanted: Expected, said: dict[str, str], key: str, setting: str) -> None:
    for name, jail in jails(wanted).items():
        assert int(said[f"get {name} {key}"]) == jail[setting]


@pytest.mark.controls("F2B-008")
def test_bans_grow(wanted: Expected, settings: dict[str, Any], said: dict[str, str]) -> None:
    for name in jails(wanted):
        assert said[f"get {name} bantime.increment"] == str(settings["increment"])
        assert int(said[f"get {name} bantime.maxtime"]) == settings["longest_ban"]


def _networks(words: list[str]) -> set[str]:
    return {str(ipaddress.ip_network(word)) for word in words}


def _never(wanted: Expected) -> set[str]:
    """Those who are never banned: this host and management."""
    return _networks([*LOOPBACK, *wanted.baseline.networks.get("management", ())])


@pytest.mark.controls("F2B-009")
def test_nobody_else_is_never_banned(wanted: Expected, said: dict[str, str]) -> None:
    for name in jails(wanted):
        assert _networks(items(said[f"get {name} ignoreip"])) == _never(wanted)
        assert said[f"get {name} ignoreself"] == "True"


@pytest.mark.controls("F2B-010")
def test_bans_are_made_where_they_count(seen: Look, wanted: Expected, said: dict[str, str]) -> None:
    chain = "rocksalt-bans" if "rocksalt-bans" in seen["live4"].text else "INPUT"
    for name, jail in jails(wanted).items():
        assert items("`- " + said[f"get {name} actions"].splitlines()[-1]) == [action(jail)]
        about = f"get {name} action {action(jail)}"
        assert (said[f"{about} chain"], said[f"{about} protocol"]) == (chain, "tcp")
        if jail["ports"]:
            assert said[f"{about} port"] == ",".join(map(str, jail["ports"]))
    for version in (4, 6):
        assert f":{chain} " in seen[f"live{version}"].text


@pytest.mark.controls("F2B-011")
def test_every_ban_is_in_force(seen: Look, wanted: Expected, said: dict[str, str]) -> None:
    rules = [it for version in (4, 6) for it in table(seen[f"live{version}"].lines).rules]
    banned = ast.literal_eval(said["banned"])
    for name, jail in jails(wanted).items():
        mine = [it for it in rules if it.chain == f"f2b-{name}"]
        stopped = {it.option("-s").split("/")[0] for it in mine if it.target in ("REJECT", "DROP")}
        assert set().union(*(one.get(name, ()) for one in banned)) <= stopped
        free = {str(it) for it in mine if it.target not in ("REJECT", "DROP")}
        assert free <= {f"-A f2b-{name} -j RETURN"}
        for version in (4, 6):
            of_one = table(seen[f"live{version}"].lines).rules
            block = [it.target for it in of_one if it.chain == f"f2b-{name}"]
            assert "RETURN" not in block[:-1]
            ways = [it for it in of_one if it.target == f"f2b-{name}"]
            assert len(ways) == bool(block) and all(it.ports == jail["ports"] for it in ways)


@pytest.mark.controls("F2B-012")
def test_bans_outlive_a_restart(settings: dict[str, Any], said: dict[str, str]) -> None:
    assert items(said["get dbfile"])[0].startswith("/")
    assert items(said["get dbpurgeage"]) == [f"{settings['longest_ban']}seconds"]


@pytest.mark.controls("F2B-013")
def test_bans_are_logged(settings: dict[str, Any], said: dict[str, str]) -> None:
    assert f"'{settings['log_level']}'" in said["get loglevel"]
    assert items(said["get logtarget"]) == [settings["log_target"]]


@pytest.mark.controls("F2B-014")
def test_only_root_changes_it(seen: Look) -> None:
    assert seen["open"].found == []


@pytest.mark.controls("F2B-015")
def test_filters_and_actions_are_as_shipped(seen: Look) -> None:
    shipped = {path for path in seen["shipped"].lines if path.startswith("/etc/fail2ban/")}
    assert not seen["shipped"].code and shipped, seen["shipped"].said
    changed = {line.split()[-1] for line in seen["changed"].lines}
    laid_over = {
        path
        for path in seen["local"].lines
        if path.replace(".local", ".conf") in shipped - SETTINGS or path == PATHS_OVER
    }
    assert {it for it in changed & shipped if not it.startswith(DROP_INS)} | laid_over == set()


@pytest.mark.controls("F2B-016")
def test_management_is_declared(wanted: Expected) -> None:
    assert wanted.baseline.networks.get("management")

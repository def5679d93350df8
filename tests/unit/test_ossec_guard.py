"""rocksalt.ossec.guard: whatever a log line makes OSSEC ask for, who must get in is not banned."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import subprocess
import sys

import ossec_agent
import pytest

from rocksalt import ossec, program
from rocksalt.ossec import files, guard, shipped, state

SETTINGS = {
    "never_ban": ["198.51.100.0/24", "192.0.2.10/32", "2001:db8:1::/64"],
    "users": ["ann"],
}


def refusal(*arguments: str) -> str:
    return guard.refusal(guard.Asked.of(arguments), SETTINGS)


@pytest.mark.parametrize(
    "address",
    [
        *("198.51.100.7", "192.0.2.10", "2001:db8:1::5", "2001:DB8:1:0::5", "::ffff:198.51.100.7"),
        *("127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.1", "fe80::1", "fe80::1%eth0"),
        *("169.254.1.1", "198.51.100.0/24", "0.0.0.0/0", "198.51.100.7,203.0.113.9", "web1"),
        *("198.051.100.7", "0xc6336407", "3325256711", "198.51.100.7 -j ACCEPT", "-s", "1.2.3"),
    ],
)
def test_who_must_get_in_and_what_is_not_clear_is_refused(address):
    assert refusal("add", "-", address)


@pytest.mark.parametrize("address", ["203.0.113.9", "192.0.2.11", "2001:db8:2::1", "-"])
def test_others_are_banned(address):
    assert refusal("add", "-", address) == ""


def test_a_ban_is_always_lifted():
    assert refusal("delete", "-", "198.51.100.7") == ""


@pytest.mark.parametrize("arguments", [(), ("",), ("ADD", "-", "203.0.113.9"), ("-h",)])
def test_what_is_neither_is_refused(arguments):
    assert "neither add nor delete" in refusal(*arguments)


@pytest.mark.parametrize("settings", [{}, {"never_ban": []}, {"users": []}])
def test_nobody_is_banned_while_it_is_not_known_who_must_get_in(settings):
    asked = guard.Asked("add", "-", "203.0.113.9")
    assert guard.refusal(asked, settings) == "it is not known who must get in"


@pytest.mark.parametrize("user", ["ann", "root", "daemon", "no-such-account", "ann;id"])
def test_accounts_that_are_needed_stay_open(user):
    assert refusal("add", user, "-")


@pytest.mark.parametrize("group", ["sudo", "staff"])
def test_who_may_become_root_by_the_first_group_stays(monkeypatch, group):
    account = pwd.struct_passwd(("bob", "x", 1005, 27, "", "/home/bob", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: account)
    monkeypatch.setattr(grp, "getgrall", lambda: [grp.struct_group((group, "x", 27, []))])
    assert refusal("add", "bob", "-") == ("bob may become root" if group == "sudo" else "")


def test_the_settings_name_everybody(host, shipped):
    host = ossec_agent.made(host)
    pillar = {
        "networks": {
            "monitoring": ["198.18.0.5/32"],
            "salt": ["198.18.0.2/32"],
            "vip": ["2001:db8:9::/64"],
        },
        "ossec": {"never_ban": ["vip", "198.18.1.0/24"]},
        "nrpe": {"monitors": ["198.18.0.6/32"]},
    }
    declared = ossec_agent.look(host, shipped, pillar).declared
    assert declared.never_ban == [
        *("192.0.2.0/28", "192.0.2.10/32", "192.0.2.11/32", "198.18.0.2/32", "198.18.0.5/32"),
        *("198.18.0.6/32", "198.18.1.0/24", "198.51.100.0/24", "203.0.113.2/32"),
        "2001:db8:9::/64",
    ]


# What runs ---------------------------------------------------------------------------------------


@pytest.fixture
def placed(tmp_path, monkeypatch):
    """A folder of the package's scripts, and of tools that write down how they were called."""
    for module in (guard, shipped):
        monkeypatch.setattr(module, "ORIGINALS", str(tmp_path / "originals"))
    monkeypatch.setattr(shipped, "INSTALLED", str(tmp_path / "installed.json"))
    monkeypatch.setattr(shipped, "_KNOWN", str(tmp_path / "dpkg"))
    monkeypatch.setattr(guard, "_LOG", str(tmp_path / "responses.log"))
    monkeypatch.setattr(guard, "_PATH", f"{tmp_path}/tools:/bin:/usr/bin")
    monkeypatch.setenv("PATH", f"{tmp_path}/tools:/bin:/usr/bin")
    for folder in ("originals", "tools", "dpkg"):
        (tmp_path / folder).mkdir()
    script = tmp_path / "originals/host-deny.sh"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    script.chmod(0o755)
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    written = {"digests": {f"{ossec.RESPONSES}/host-deny.sh": digest}}
    (tmp_path / "installed.json").write_text(json.dumps(written))
    return tmp_path


def tool(folder, body: str) -> None:
    path = folder / "tools/iptables"
    path.write_text(f'#!/bin/sh\nshift 2\necho "$@" >> {folder}/called\n{body}\n')
    path.chmod(0o755)


def called(folder) -> list[str]:
    path = folder / "called"
    return path.read_text().splitlines() if path.exists() else []


def test_a_refusal_is_noted_on_one_line(placed):
    arguments = ["add", "-", "198.51.100.7\nadd", "1.2", "5712"]
    assert guard.respond("host-deny.sh", arguments, SETTINGS) == 1
    assert called(placed) == []
    [line] = (placed / "responses.log").read_text().splitlines()
    assert "rocksalt: host-deny.sh add - 198.51.100.7?add 1.2 5712: refused" in line


def test_a_refusal_is_not_noted_through_a_link(placed):
    (placed / "responses.log").symlink_to(placed / "passwd")
    assert guard.respond("host-deny.sh", ["add", "-", "198.51.100.7"], SETTINGS) == 1
    assert not (placed / "passwd").exists()


def test_what_is_allowed_reaches_the_script_of_the_package(placed):
    arguments = ["add", "-", "203.0.113.9", "1.2", "5712", "(web1)", "any->/var/log/auth.log", "-"]
    assert responded(*arguments) == 0
    assert called(placed) == [" ".join(arguments)]


def responded(*arguments: str, **more: str) -> int:
    """What comes of it, in a process of its own, which becomes the script."""
    pid = os.fork()
    if not pid:
        os._exit(guard.respond("host-deny.sh", arguments, {**SETTINGS, **more}))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("action", ["add", "delete"])
@pytest.mark.parametrize("how", ["edited", "linked", "not the package's"])
def test_a_script_that_was_tampered_with_is_never_run(placed, action, how):
    script = placed / "originals/host-deny.sh"
    if how == "edited":
        script.write_text(script.read_text() + "# and more\n")
    elif how == "linked":
        script.rename(placed / "elsewhere")
        script.symlink_to(placed / "elsewhere")
    else:
        sums = f"{'0' * 32}  {ossec.RESPONSES[1:]}/host-deny.sh\n"
        (placed / "dpkg/agent:amd64.md5sums").write_text(sums)
    assert responded(action, "-", "203.0.113.9", package="agent") == 1
    assert called(placed) == []
    assert "is not what the package brought" in (placed / "responses.log").read_text()


@pytest.mark.parametrize("packaged", [True, False])
def test_without_a_record_the_package_decides(placed, packaged):
    script = placed / "originals/host-deny.sh"
    digest = hashlib.md5(script.read_bytes()).hexdigest()
    (placed / "installed.json").unlink()
    if packaged:
        sums = f"{digest}  {ossec.RESPONSES[1:]}/host-deny.sh\n"
        (placed / "dpkg/agent.md5sums").write_text(sums)
    assert responded("add", "-", "203.0.113.9", package="agent") == int(not packaged)
    assert responded("delete", "-", "203.0.113.9", package="agent") == 0
    asked = ["add - 203.0.113.9", "delete - 203.0.113.9"]
    assert called(placed) == asked[int(not packaged) :]


def test_a_script_that_is_gone_bans_nobody(placed):
    assert guard.respond("route-null.sh", ["add", "-", "203.0.113.9"], SETTINGS) == 1
    assert "route-null.sh is gone" in (placed / "responses.log").read_text()


def test_a_ban_goes_behind_the_rules_of_administrators(placed):
    tool(placed, 'case "$1" in -C) exit 1;; esac')
    assert guard.respond("firewall-drop.sh", ["add", "-", "203.0.113.9"], SETTINGS) == 0
    assert called(placed) == [
        "-S rocksalt-bans",
        "-N OSSEC",
        "-C rocksalt-bans -j OSSEC",
        "-A rocksalt-bans -j OSSEC",
        "-C INPUT -j OSSEC",
        "-A INPUT -j OSSEC",
        "-C OSSEC -s 203.0.113.9 -j DROP",
        "-I OSSEC -s 203.0.113.9 -j DROP",
    ]


def test_lifting_takes_every_rule_of_that_address(placed):
    tool(placed, f'[ "$1" != -D ] || [ $(grep -c -e -D {placed}/called) -lt 3 ]')
    assert guard.respond("firewall-drop.sh", ["delete", "-", "203.0.113.9"], SETTINGS) == 0
    assert called(placed)[1:] == ["-D OSSEC -s 203.0.113.9 -j DROP"] * 3


def test_without_our_packet_filter_the_package_bans(placed):
    tool(placed, "exit 1")
    assert guard.respond("firewall-drop.sh", ["add", "-", "203.0.113.9"], SETTINGS) == 1
    assert "originals/firewall-drop.sh is gone" in (placed / "responses.log").read_text()


def test_the_program_runs_alone(tmp_path):
    """In one file, without Salt, PyYAML or cryptography."""
    built = program.build(sys.executable, files._ENTRY, program.sources(files._ENTRY))
    path = tmp_path / "rocksalt-ossec"
    path.write_bytes(built)
    path.chmod(0o755)
    alone = [sys.executable, "-S", "-I", str(path)]
    done = subprocess.run([*alone, "respond", "../x", "add"], capture_output=True, text=True)
    assert (done.returncode, done.stderr[:6]) == (2, "usage:")
    done = subprocess.run(alone, capture_output=True, text=True)
    assert done.returncode == 2


def test_our_script_hands_on_every_argument(tmp_path):
    text = files.wrapper("host-deny.sh")
    assert text.startswith("#!/bin/sh\n# Written by rocksalt")
    assert f'exec {ossec.PROGRAM} respond host-deny.sh "$@"\n' in text
    assert files.is_wrapper(f"{ossec.RESPONSES}/host-deny.sh", text)
    assert not files.is_wrapper(f"{ossec.RESPONSES}/route-null.sh", text)
    assert subprocess.run(["sh", "-n"], input=text, text=True).returncode == 0


@pytest.fixture
def without_salt(placed, monkeypatch):
    """Our script, whose program has lost its interpreter; and how it is asked."""
    ours = placed / "rocksalt-ossec"
    ours.write_text(f"#!{placed}/gone\nimport sys\nprint('ours', *sys.argv[1:])\n")
    ours.chmod(0o755)
    monkeypatch.setattr(files, "PROGRAM", str(ours))
    monkeypatch.setattr(files, "ORIGINALS", str(placed / "originals"))
    monkeypatch.setattr(files, "INSTALLED", str(placed / "installed.json"))
    monkeypatch.setattr(files, "_SPARE", sys.executable)

    def ask(action: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-c", files.wrapper("host-deny.sh"), "sh", action, "-", "203.0.113.9"]
        return subprocess.run(command, capture_output=True, text=True)

    return ask


def test_a_ban_is_lifted_while_the_interpreter_of_salt_is_away(without_salt, placed):
    done = without_salt("delete")
    assert (done.returncode, done.stdout) == (0, "ours respond host-deny.sh delete - 203.0.113.9\n")
    assert without_salt("add").returncode, "nobody is banned meanwhile"
    assert called(placed) == []


@pytest.mark.parametrize("tampered", [False, True])
def test_a_ban_is_lifted_without_any_interpreter(without_salt, placed, monkeypatch, tampered):
    monkeypatch.setattr(files, "_SPARE", str(placed / "gone"))
    if tampered:
        script = placed / "originals/host-deny.sh"
        script.write_text(script.read_text() + "id\n")
    assert bool(without_salt("delete").returncode) == tampered
    assert called(placed) == ["delete - 203.0.113.9"] * (not tampered)


def test_state_reads_no_file_that_is_none(tmp_path):
    assert state.read(str(tmp_path / "none")) == {}
    (tmp_path / "list").write_text("[]")
    assert state.read(str(tmp_path / "list")) == {}

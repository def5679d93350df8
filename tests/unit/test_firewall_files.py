"""rocksalt.firewall.files: what loads the rules at boot, run with programs that only say so."""

from __future__ import annotations

import os
import subprocess

import pytest

from rocksalt.firewall import DOCKER, FORWARD, INPUT, OUTPUT, files

ALLOW = {"INPUT": "DROP", "FORWARD": "DROP", "OUTPUT": "ACCEPT"}
DENY = {**ALLOW, "OUTPUT": "DROP"}
PLAIN = {INPUT: (), FORWARD: (), OUTPUT: ()}
WITH_DOCKER = {**PLAIN, DOCKER: ()}
GUARD = f"{files.LOADER} guard"
FAKE = """#!/bin/sh
line="${0##*/} $*"
echo "$line" >>%(log)s
case $0 in *-restore) cat >/dev/null ;; esac
if echo "$line" | grep -qf %(fail)s; then exit 1; fi
"""
PROGRAMS = (
    *("iptables", "ip6tables", "iptables-restore", "ip6tables-restore"),
    *("logger", "systemctl"),
)


def loader(chains=PLAIN, policies=ALLOW):
    return files.loading(60, chains, policies)[files.LOADER]


# The texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("policies", [ALLOW, DENY])
@pytest.mark.parametrize("chains", [PLAIN, WITH_DOCKER])
def test_the_loader_is_a_good_script(chains, policies, tmp_path):
    script = tmp_path / "load"
    script.write_text(loader(chains, policies))
    for command in (["sh", "-n"], ["shellcheck"]):
        ran = subprocess.run([*command, str(script)], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_every_file(policy):
    it = policy()
    declared = {version: it.chains(version) for version in (4, 6)}
    emergencies = {version: it.emergency(version) for version in (4, 6)}
    texts = {**files.loading(90, it.chains(4), ALLOW), **files.persisted(declared, emergencies)}
    folder, units = "/etc/rocksalt/firewall", "/etc/systemd/system/rocksalt-firewall"
    assert {path: files.mode(path) for path in texts} == {
        f"{folder}/load": "0700",
        f"{units}.service": "0644",
        f"{units}-guard.service": "0644",
        f"{units}-guard.timer": "0644",
        **{f"{folder}/{kind}.v{v}": "0600" for kind in ("rules", "emergency") for v in (4, 6)},
    }
    assert all("# Written by rocksalt" in text for text in texts.values())
    assert f"ExecStart={files.LOADER}\n" in texts[f"{units}.service"]
    assert f"ExecStart={GUARD}\n" in texts[f"{units}-guard.service"]
    assert "OnUnitInactiveSec=90\n" in texts[f"{units}-guard.timer"]
    for line in ("Before=network-pre.target shutdown.target", "DefaultDependencies=no"):
        assert f"{line}\n" in texts[f"{units}.service"]
    rules = texts[f"{folder}/rules.v6"].splitlines()[1:]
    assert rules[:2] == ["*filter", f":{INPUT} - [0:0]"]
    assert rules[-1] == "COMMIT"
    count = sum(len(rules) for rules in emergencies[4].values())
    assert texts[f"{folder}/emergency.v4"].count("\n-A ") == count


def test_what_is_on_the_host(host):
    ours = [
        f"{files.FOLDER}/load",
        f"{files.FOLDER}/rules.v4",
        files.unit("rocksalt-firewall.service"),
    ]
    for path in (*ours, files.unit("rocksalt-drift.service")):
        host.put(path)
    assert files.all_paths(host) == ours


def test_units_shown(host):
    host.answer(
        "systemctl show",
        "Id=rocksalt-firewall.service\nActiveState=active\nDropInPaths=\n\n"
        "Id=rocksalt-firewall-guard.timer\nFragmentPath=/a=b\n",
    )
    assert files.units_shown(host) == {
        "rocksalt-firewall.service": {
            "Id": "rocksalt-firewall.service",
            "ActiveState": "active",
            "DropInPaths": "",
        },
        "rocksalt-firewall-guard.service": {},
        "rocksalt-firewall-guard.timer": {
            "Id": "rocksalt-firewall-guard.timer",
            "FragmentPath": "/a=b",
        },
    }


# The loader at work ------------------------------------------------------------------------------


class Boot:
    """The loader in a folder, with programs that note what they are asked and fail at will."""

    def __init__(self, folder):
        self.folder = folder
        self.mark = folder / "run/emergency"
        (folder / "bin").mkdir()
        for name in PROGRAMS:
            path = folder / "bin" / name
            path.write_text(FAKE % {"log": folder / "log", "fail": folder / "fail"})
            path.chmod(0o755)
        for version in (4, 6):
            for kind in ("rules", "emergency"):
                (folder / f"{kind}.v{version}").write_text("*filter\nCOMMIT\n")

    def run(self, *arguments, fail="", chains=PLAIN, policies=ALLOW):
        """The exit code; programs fail whose command line matches one of the lines of ``fail``."""
        script = self.folder / "load"
        script.write_text(loader(chains, policies))
        (self.folder / "log").write_text("")
        (self.folder / "fail").write_text(f"is-active\n{fail}" if "is-a" not in fail else "nothing")
        environment = {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        command = ["sh", str(script), *arguments]
        ran = subprocess.run(command, env=environment, capture_output=True, check=False)
        return ran.returncode

    def said(self, version=4):
        """What iptables, or ip6tables, was asked to do, without looking."""
        program = "iptables" if version == 4 else "ip6tables"
        lines = (self.folder / "log").read_text().replace(" --wait 10", "").splitlines()
        return [
            line.removeprefix(program).strip()
            for line in lines
            if line.startswith(program) and "--check" not in line
        ]

    def complaints(self):
        lines = (self.folder / "log").read_text().splitlines()
        start = "logger --priority auth.crit --tag rocksalt-firewall "
        return [line.removeprefix(start) for line in lines if line.startswith("logger")]


@pytest.fixture
def boot(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FOLDER", str(tmp_path))
    monkeypatch.setattr(files, "RUN", str(tmp_path / "run"))
    monkeypatch.setattr(files, "EMERGENCY_MARK", str(tmp_path / "run/emergency"))
    return Boot(tmp_path)


FILLED = ["--new-chain rocksalt-bans", "-restore --noflush"]
LED = ["--policy INPUT DROP", "--policy FORWARD DROP", "--policy OUTPUT ACCEPT"]
AT_FIRST = [
    *("--insert INPUT 1 --jump rocksalt-input", "--policy INPUT DROP"),
    *("--insert FORWARD 1 --jump rocksalt-forward", "--policy FORWARD DROP"),
    *("--insert OUTPUT 1 --jump rocksalt-output", "--policy OUTPUT ACCEPT"),
]
ONLY_ADMINISTRATORS = "the IPv4 rules cannot be loaded: only administrators are let in"
COME_BACK = "the IPv{} rules were taken away and come back now"


def test_at_boot(boot):
    assert boot.run(fail="--check") == 0
    assert boot.said(4) == boot.said(6) == [*FILLED, *AT_FIRST]
    assert boot.complaints() == []
    assert not boot.mark.exists()


def test_again(boot):
    """No jump twice; and what an earlier failure left is over."""
    boot.mark.parent.mkdir()
    boot.mark.touch()
    assert boot.run() == 0
    assert boot.said() == [*FILLED, *LED]
    assert not boot.mark.exists()


def test_docker_comes_later(boot):
    assert boot.run(fail="--check", chains=WITH_DOCKER, policies=DENY) == 0
    assert boot.said() == [
        *("--new-chain rocksalt-bans", "--new-chain DOCKER-USER", "-restore --noflush"),
        *(*AT_FIRST[:-1], "--policy OUTPUT DROP"),
        "--insert DOCKER-USER 1 --jump rocksalt-docker",
    ]


def test_the_rules_are_missing(boot):
    (boot.folder / "rules.v4").unlink()
    assert boot.run(fail="--check") == 1
    assert boot.said(4) == [FILLED[0], *FILLED, *AT_FIRST], "of the emergency rules"
    assert boot.said(6) == [*FILLED, *AT_FIRST]
    assert boot.complaints() == [ONLY_ADMINISTRATORS]
    assert boot.mark.exists()


def test_no_rules_can_be_loaded(boot):
    """With nothing that lets administrators in, nothing may be dropped."""
    assert boot.run(fail="^iptables-restore\n--check") == 1
    assert boot.said(4) == [*FILLED, *FILLED]
    assert boot.said(6) == [*FILLED, *AT_FIRST]
    assert boot.complaints() == [
        ONLY_ADMINISTRATORS,
        "not even the emergency rules can be loaded: IPv4 is left as it is",
    ]


def test_packets_do_not_come_to_our_rules(boot):
    assert boot.run(fail="--check\n^iptables .*--insert INPUT") == 1
    assert boot.said(4) == [*FILLED, *(line for line in AT_FIRST if line != "--policy INPUT DROP")]
    assert boot.said(6) == [*FILLED, *AT_FIRST]
    assert boot.complaints() == ["IPv4 INPUT does not lead to rocksalt-input"]


@pytest.mark.parametrize("policies", [ALLOW, DENY])
def test_the_guard_finds_everything_in_place(boot, policies):
    assert boot.run("guard", chains=WITH_DOCKER, policies=policies) == 0
    assert boot.said(4) == boot.said(6) == []
    assert boot.complaints() == []


@pytest.mark.parametrize(
    ("missing", "policies"),
    [
        *((f"--check {chain} --jump", ALLOW) for chain in ("INPUT", "FORWARD", "OUTPUT", "DOCKER")),
        ("--check rocksalt-input --jump rocksalt-bans", ALLOW),
        ("--check rocksalt-output --out-interface lo --jump ACCEPT", DENY),
    ],
)
def test_the_guard_brings_rules_back(boot, missing, policies):
    missing = missing.replace("DOCKER", "DOCKER-USER")
    assert (
        boot.run("guard", fail=f"^ip6tables .*{missing}", chains=WITH_DOCKER, policies=policies)
        == 0
    )
    assert boot.said(4) == []
    assert "-restore --noflush" in boot.said(6)
    assert boot.complaints() == [COME_BACK.format(6)]


def test_the_guard_waits_while_a_change_is_armed(boot):
    assert boot.run("guard", fail="--check is-active") == 0
    assert boot.said(4) == boot.said(6) == []

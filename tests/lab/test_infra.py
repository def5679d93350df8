"""The suite that users run against their hosts (tests/infra) sees what a host is, good or bad."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import on_spot
import outside
import runs
from rocksalt_lab import Host, Lab
from rocksalt_lab.lab import ADMINISTRATOR

NO_HOST_KEYS = "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"


@pytest.fixture(scope="module")
def host(master: Host, web1: Host) -> Iterator[Host]:
    """A host that conforms, with an administrator who has a declared password."""
    with runs.conforming(master, web1, accounts=runs.ACCOUNTS) as host:
        yield host


def test_a_host_that_conforms_passes(host: Host) -> None:
    outcomes = outside.judged(host)
    assert not outside.failed(outcomes)
    passed = [name.split()[0] for name, outcome in outcomes.items() if outcome == "passed"]
    assert {"sshd", "firewall", "fail2ban", "accounts", "drift"} <= set(passed)
    assert passed.count("sshd") > 40


@pytest.mark.parametrize("family", ["accounts", "drift", "fail2ban", "firewall", "sshd"])
def test_a_broken_host_fails_where_it_is_broken(host: Host, family: str) -> None:
    outside.sees(host, family)
    outside.conforms(host, family)


def test_over_ssh_as_somebody_who_is_not_root(lab: Lab, host: Host, tmp_path: Path) -> None:
    config = tmp_path / "ssh-config"
    config.write_text(f"User {ADMINISTRATOR}\nIdentityFile {lab.state / 'key'}\n{NO_HOST_KEYS}")
    at_management = ["nsenter", f"--net={lab.state / 'master/netns'}"]
    way = {"way": f"ssh://{host.ip}", "before": at_management}
    outcomes = outside.judged(host, ["sshd", "firewall"], [f"--ssh-config={config}"], **way)
    assert set(outcomes.values()) == {"passed"}, outcomes
    (error,) = outside.failed(outside.judged(host, ["sshd", "firewall"], **way)).values()
    assert error.startswith(f"error: ssh://{host.ip} cannot be reached: ")


@pytest.fixture(scope="module")
def by_lab(host: Host) -> dict[str, str]:
    """What is found over the lab's own way, with which others are compared."""
    return outside.judged(host)


def test_over_salt_from_the_master(master: Host, host: Host, by_lab: dict[str, str]) -> None:
    """In Salt's own Python, which takes what the suite needs from a folder beside it."""
    on_spot.bring(master)
    assert on_spot.judged(master, f"salt://{host.name}") == by_lab
    host.run("chmod 644 /etc/shadow")
    try:
        words = ["-k", "test_account_files_are_roots"]
        assert outside.failed(on_spot.judged(master, f"salt://{host.name}", words))
    finally:
        host.run("chmod 640 /etc/shadow")


def test_on_the_host_itself_as_somebody_who_is_not_root(host: Host, by_lab: dict[str, str]) -> None:
    on_spot.bring(host)
    assert on_spot.judged(host, "local://", user=ADMINISTRATOR) == by_lab


def test_with_the_pillar_in_a_file(host: Host, by_lab: dict[str, str], tmp_path: Path) -> None:
    """As the host's own Salt prints it; other values are judged by, and too few of them fail."""
    file = tmp_path / "pillar.yaml"
    unmask = "unmask=True" if host.lab.salt == "3008" else ""
    file.write_text(host.run(f"salt-call pillar.items {unmask} --out=yaml").stdout)
    assert outside.judged(host, words=[f"--pillar={file}"]) == by_lab
    file.write_text("hardening: {sshd: {max_auth_tries: 3}}")
    found = outside.failed(outside.judged(host, ["sshd"], [f"--pillar={file}"]))
    assert "At index 0 diff: '4' != '3'" in found["sshd test_directive[maxauthtries]"]


def test_a_pillar_that_says_too_little_fails(master: Host, host: Host, tmp_path: Path) -> None:
    file = tmp_path / "pillar.yaml"
    file.write_text("hardening: {schema: 1}")
    words = [f"--pillar={file}"]
    found = outside.judged(host, ["fail2ban", "logstash", "nrpe", "ossec"], words)
    found |= outside.judged(master, ["access"], words)
    assert set(outside.BY_PILLAR) <= {*outside.failed(found)}


def test_what_is_waived_or_off_is_not_judged(master: Host, pillar: Host, host: Host) -> None:
    off = {"controls": {"SSHD-131": {"off": "a test"}}, "max_auth_tries": 3}
    runs.set_pillar(master, {"accounts": runs.ACCOUNTS, "sshd": off, "drift": {"enabled": False}})
    outcomes = outside.judged(host, ["sshd", "drift"])
    assert not outside.failed(outcomes)
    assert "SSHD-131 is switched off: a test" in outcomes["sshd test_directive[maxauthtries]"]
    assert "hardening:drift:enabled" in outcomes["drift test_the_timer_runs"]


def test_a_pillar_below_the_floor_fails(master: Host, pillar: Host, host: Host) -> None:
    runs.set_pillar(master, {"accounts": runs.ACCOUNTS, "sshd": {"max_auth_tries": 20}})
    found = outside.failed(outside.judged(host, ["sshd"]))
    assert "the greatest acceptable value is 6" in found["sshd test_directive[maxauthtries]"]


def test_a_pillar_that_is_not_valid_is_one_error(master: Host, pillar: Host, host: Host) -> None:
    runs.set_pillar(master, {"accounts": runs.ACCOUNTS, "sshd": {"max_auth_trys": 3}})
    (said,) = outside.failed(outside.judged(host, ["sshd", "drift"])).values()
    assert said.startswith("error") and "max_auth_tries" in said

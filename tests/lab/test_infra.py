"""The suite that users run against their hosts (tests/infra) sees what a host is, good or bad."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import outside
import runs
from rocksalt_lab import Host, Lab
from rocksalt_lab.lab import ADMINISTRATOR

NO_HOST_KEYS = "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"
ACCOUNTS = {
    "remove": ["accounts", "authorized_keys", "crontabs", "members", "sudoers"],
    "password_hashes": {ADMINISTRATOR: f"$y$j9T${'s' * 22}${'h' * 43}"},  # of no password
}


@pytest.fixture(scope="module")
def host(master: Host, web1: Host) -> Iterator[Host]:
    """A host that conforms, with an administrator who has a declared password."""
    with runs.conforming(master, web1, accounts=ACCOUNTS) as host:
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


def test_what_is_waived_or_off_is_not_judged(master: Host, pillar: Host, host: Host) -> None:
    off = {"controls": {"SSHD-131": {"off": "a test"}}, "max_auth_tries": 3}
    runs.set_pillar(master, {"accounts": ACCOUNTS, "sshd": off, "drift": {"enabled": False}})
    outcomes = outside.judged(host, ["sshd", "drift"])
    assert not outside.failed(outcomes)
    assert "SSHD-131 is switched off: a test" in outcomes["sshd test_directive[maxauthtries]"]
    assert "hardening:drift:enabled" in outcomes["drift test_the_timer_runs"]


def test_a_pillar_below_the_floor_fails(master: Host, pillar: Host, host: Host) -> None:
    runs.set_pillar(master, {"accounts": ACCOUNTS, "sshd": {"max_auth_tries": 20}})
    found = outside.failed(outside.judged(host, ["sshd"]))
    assert "the greatest acceptable value is 6" in found["sshd test_directive[maxauthtries]"]


def test_a_pillar_that_is_not_valid_is_one_error(master: Host, pillar: Host, host: Host) -> None:
    runs.set_pillar(master, {"accounts": ACCOUNTS, "sshd": {"max_auth_trys": 3}})
    (said,) = outside.failed(outside.judged(host, ["sshd", "drift"])).values()
    assert said.startswith("error") and "max_auth_tries" in said

"""rocksalt.accounts.ways: who keeps a way in once the family has been enforced."""

from __future__ import annotations

import pytest

from rocksalt import settings
from rocksalt.accounts import ways

MADE = ["ACC-010", "ACC-011", "ACC-012"]


@pytest.fixture
def baseline(shipped):
    def call(waivers=None, **accounts):
        return settings.resolve(
            shipped, {"accounts": accounts, "waivers": waivers or {}}, {}, "web1"
        )

    return call


@pytest.fixture
def bob(public_key):
    return {"bob": {"keys": [public_key()], "nopasswd": True}}


def reason(ssh_host, baseline, ids=()):
    found = ways.safe(ssh_host, baseline, ids)
    assert found.actual is (found.reason.endswith("can log in by key and become root"))
    return found.reason


def test_an_undeclared_way_in_counts_as_long_as_it_stays(ssh_host, baseline):
    assert reason(ssh_host, baseline()) == "ann can log in by key and become root"


def test_a_default_account_does_not_count_once_it_is_locked(ssh_host, baseline, bob, waiver):
    mine = {"default_accounts": ["ann"]}
    assert reason(ssh_host, baseline(**mine)).endswith("ann: the baseline locks it")
    kept = baseline(waivers={"ACC-040": waiver()}, **mine)
    assert reason(ssh_host, kept) == "ann can log in by key and become root"
    declared = baseline(administrators={"ann": bob["bob"]}, **mine)
    assert reason(ssh_host, declared) == "ann can log in by key and become root"


@pytest.mark.parametrize("kind", ["accounts", "authorized_keys", "members", "sudoers"])
def test_only_administrators_count_where_strangers_are_cleared_away(ssh_host, baseline, bob, kind):
    assert reason(ssh_host, baseline(remove=[kind])).endswith("ann: the baseline locks it")
    assert reason(ssh_host, baseline(remove=["crontabs"])).startswith("ann can")
    bob["bob"]["keys"] = [ssh_host.read("/home/ann/.ssh/authorized_keys")]
    declared = baseline(remove=[kind], administrators={"ann": bob["bob"]})
    assert reason(ssh_host, declared).startswith("ann can")


def test_whom_this_run_makes_counts(ssh_host, baseline, bob):
    ssh_host.remove("/home/ann/.ssh/authorized_keys")
    mine = baseline(administrators=bob)
    assert reason(ssh_host, mine).startswith("no account but root has an authorised key")
    assert reason(ssh_host, mine, MADE) == "bob can log in by key and become root"


def test_whom_a_waiver_keeps_from_being_made_does_not(ssh_host, baseline, bob, waiver):
    ssh_host.remove("/home/ann/.ssh/authorized_keys")
    mine = baseline(waivers={"ACC-010": waiver()}, administrators=bob)
    assert reason(ssh_host, mine, MADE).startswith("no account but root")


def test_a_key_that_sshd_will_refuse(ssh_host, baseline, public_key):
    ssh_host.remove("/home/ann/.ssh/authorized_keys")
    short = {"bob": {"keys": [public_key("ssh-rsa", 2048)], "nopasswd": True}}
    assert "bob: its RSA key of 2048 bits is shorter than 3072" in reason(
        ssh_host, baseline(administrators=short), MADE
    )
    elsewhere = {"bob": {"keys": [f'from="192.0.2.7" {public_key()}'], "nopasswd": True}}
    assert "bob: its key is limited to 192.0.2.7" in reason(
        ssh_host, baseline(administrators=elsewhere), MADE
    )


def test_a_group_that_sshd_does_not_let_in(ssh_host, baseline, bob):
    ssh_host.remove("/home/ann/.ssh/authorized_keys")
    mine = baseline(administrators=bob, administrators_group="admins")
    assert "bob: it is in none of the groups sudo" in reason(ssh_host, mine, MADE)


def test_other_families_see_what_the_run_will_have_done(ssh_host, baseline, bob):
    mine = baseline(administrators=bob)
    plan = ways.foreseen(ssh_host, mine, [])
    assert plan.newcomers == [] and plan.stays("debian")
    plan = ways.foreseen(ssh_host, mine, ["ACC-010", "ACC-040"])
    assert [newcomer.name for newcomer in plan.newcomers] == ["bob"]
    assert plan.newcomers[0].groups == ("bob", "sudo")
    assert plan.stays("bob") and not plan.stays("debian")


def test_sshd_in_the_same_run(ssh_host, look, bob):
    ssh_host.remove("/home/ann/.ssh/authorized_keys")
    it = look(ssh_host, accounts={"administrators": bob})
    assert not it.safe(ssh_host, ways.foreseen(ssh_host, it.baseline, ["FW-001"])).actual
    assert it.safe(ssh_host, ways.foreseen(ssh_host, it.baseline, MADE)).actual


def test_nobody_gets_in_with_a_shell_that_is_not_there(ssh_host, baseline, bob):
    ssh_host.remove("/home/ann/.ssh/authorized_keys")
    bob["bob"]["shell"] = "/bin/zsh"
    assert reason(ssh_host, baseline(administrators=bob), MADE).startswith("no account but root")


def test_a_key_that_is_taken_away_does_not_count(ssh_host, baseline, public_key):
    weak = {"ann": {"keys": [public_key("ssh-rsa", 2048)], "nopasswd": True}}
    assert reason(ssh_host, baseline(administrators=weak)).startswith("ann can")
    cleared = baseline(administrators=weak, remove=["authorized_keys"])
    assert reason(ssh_host, cleared).endswith("ann: the baseline takes its keys away")


def test_sshd_as_it_runs_now_has_to_let_somebody_in_as_well(ssh_host, baseline):
    ssh_host.effective("allowgroups sudo", "allowgroups legacy")
    assert reason(ssh_host, baseline()) == (
        "with sshd as it runs now, nobody could log in by key and become root: ann: it is in none "
        "of the groups legacy"
    )


def test_two_keys_where_sshd_asks_for_two(ssh_host, shipped, public_key):
    pillar = {"sshd": {"authentication_methods": ["publickey,publickey"]}}
    mine = settings.resolve(shipped, pillar, {}, "web1")
    assert reason(ssh_host, mine).endswith("ann: sshd asks for 2 different keys and it has 1")
    path = "/home/ann/.ssh/authorized_keys"
    ssh_host.put(path, f"{ssh_host.read(path)}\n{public_key()}", 0o600, owner="ann")
    assert reason(ssh_host, mine).startswith("ann can")

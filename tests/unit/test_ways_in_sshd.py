"""The way in as sshd itself describes it for one account, Match blocks included."""

from __future__ import annotations

import pytest

from rocksalt import sshd

NETWORKS = {"management": ["10.1.0.0/24", "10.2.0.0/24"]}
HOST = "host=management.invalid"
CALL = f"/usr/sbin/sshd -T -C user=ann,{HOST},addr=10.1.0.1,laddr=192.0.2.2,lport=22"


def reason(it, host) -> str:
    """Why ann is no way in; empty when she is one."""
    seen = it.administrator(host)
    assert seen.actual == (seen.reason == "ann can log in by key and become root")
    return "" if seen.actual else seen.reason.partition("ann: ")[2]


def answer_for_ann(host, **keywords: str) -> None:
    host.answer(CALL, "".join(f"{keyword} {value}\n" for keyword, value in keywords.items()))


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("forcecommand", "none", ""),
        ("forcecommand", "internal-sftp -R", "sshd binds it to one command, internal-sftp -R"),
        ("chrootdirectory", "/srv", "sshd locks it into /srv"),
        ("denyusers", "ann", "DenyUsers keeps it out"),
        ("denyusers", "ann@192.0.2.0/24", ""),
        ("denygroups", "sudo", "DenyGroups keeps it out"),
        ("allowusers", "bob", "AllowUsers does not let it in from the management networks"),
        ("allowusers", "ann@10.2.0.7", ""),
    ],
)
def test_what_a_match_block_does_to_an_account(ssh_host, look, keyword, value, expected):
    answer_for_ann(ssh_host, **{keyword: value})
    assert reason(look(ssh_host, networks=NETWORKS), ssh_host) == expected


@pytest.mark.parametrize(
    ("pillar", "spec"),
    [
        ({}, "addr=192.0.2.1,laddr=192.0.2.2,lport=22"),
        (
            {"networks": {"management": ["2001:db8::/64"]}},
            "addr=2001:db8::1,laddr=192.0.2.2,lport=22",
        ),
        (
            {"networks": {"management": ["10.1.0.9/32"]}, "sshd": {"ports": [2222, 22]}},
            "addr=10.1.0.9,laddr=192.0.2.2,lport=2222",
        ),
    ],
)
def test_where_the_account_comes_from(ssh_host, look, pillar, spec):
    assert reason(look(ssh_host, **pillar), ssh_host) == ""
    asked = [call[-1] for call in ssh_host.ran if call[:1] == ("/usr/sbin/sshd",) and "-C" in call]
    assert asked == [f"user=ann,{HOST},{spec}"]


def test_keys_that_are_off_matter_only_if_they_stay_off(ssh_host, look, waiver):
    answer_for_ann(ssh_host, pubkeyauthentication="no")
    assert reason(look(ssh_host, networks=NETWORKS), ssh_host) == ""
    it = look(ssh_host, networks=NETWORKS, waivers={"SSHD-105": waiver()})
    assert reason(it, ssh_host) == "sshd does not let it log in by key"


def test_a_command_that_is_forced_on_everybody(ssh_host, look):
    ssh_host.effective("forcecommand none", "forcecommand /bin/menu")
    assert reason(look(ssh_host), ssh_host) == "sshd binds it to one command, /bin/menu"


def test_no_answer_for_the_account(ssh_host, look):
    ssh_host.answer(CALL, status=255, err="bad")
    assert reason(look(ssh_host, networks=NETWORKS), ssh_host) == ""


def test_a_broken_configuration_is_not_asked_again(ssh_host, look):
    ssh_host.answer("/usr/sbin/sshd -T", status=255, err="line 3: Bad configuration option")
    it = look(ssh_host)
    ssh_host.ran.clear()
    assert reason(it, ssh_host) == ""
    assert not [call for call in ssh_host.ran if call[0] == "/usr/sbin/sshd"]


def test_before_sshd_is_installed(ssh_host, look):
    for path in (sshd.MAIN, "/usr/sbin/sshd"):
        ssh_host.remove(path)
    del ssh_host.answers[("/usr/sbin/sshd", "-T")]
    it = look(ssh_host)
    assert not it.reading.installed
    assert reason(it, ssh_host) == ""
    ssh_host.answer("sudo -n -l -U ann")
    assert reason(it, ssh_host) == "sudo does not let it become root"

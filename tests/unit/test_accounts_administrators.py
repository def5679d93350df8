"""rocksalt.accounts.administrators: declared people get in, root does not."""

from __future__ import annotations

import os
import stat

import pytest

from rocksalt import settings
from rocksalt.accounts import administrators, checks, database
from rocksalt.accounts.reading import Reading
from rocksalt.errors import Refused

ROOT = "root:x:0:0:root:/root:/bin/bash\n"
ANN = "ann:x:1000:1000::/home/ann:/bin/bash\n"
GROUP = "root:x:0:\nsudo:x:27:ann\nann:x:1000:\n"
KEYS = "/home/ann/.ssh/authorized_keys"
HASH = "$y$j9T$QFX2dSX1sLcxJ4pmmQ5bI.$iCWJNfe.FbQpXdDtVV9OV8oM/3MYeGhsEYkoHT4UUR8"


def accounts(
    host, passwd=ROOT + ANN, group=GROUP, root="*:19000::::::", ann="!:19000:0:99999:7:::"
):
    host.put("/bin/bash")
    host.put("/etc/passwd", passwd)
    host.put("/etc/group", group)
    host.put("/etc/shadow", f"root:{root}\nann:{ann}\n")


@pytest.fixture
def ann(public_key):
    """The settings of one administrator."""
    return {"keys": [public_key()], "nopasswd": True}


@pytest.fixture
def look(host, shipped):
    """The comparison of the fake host, this part only."""

    def call(**pillar):
        baseline = settings.resolve(shipped, {"accounts": pillar}, {}, "web1")
        people = database.read(host)
        mine = administrators.read(host, people, baseline)
        return checks.Accounts(baseline, Reading(people=people, administrators=mine))

    return call


def seen(it, identifier):
    expect, judge = administrators.CHECKS[identifier]
    found = judge(it)
    return found.actual == expect(it), found


ROOTS = {
    "star": ("*:19000::::::", True, ""),
    "locked": ("!$y$x:19000::::::", True, ""),
    "usable": ("$y$j9T$a$b:19000::::::", False, "root can log in by password"),
    "empty": (":19000::::::", False, "anybody becomes root without a password"),
}


@pytest.mark.parametrize(("line", "ok", "reason"), ROOTS.values(), ids=ROOTS)
def test_root(host, look, line, ok, reason):
    accounts(host, root=line)
    good, found = seen(look(), "ACC-001")
    assert good is ok and found.reason.startswith(reason)


def test_root_without_an_entry(host, look):
    host.put("/etc/passwd", ROOT)
    assert "no entry" in seen(look(), "ACC-001")[1].reason


def test_root_expires(host, look):
    accounts(host)
    assert seen(look(), "ACC-005")[0]
    accounts(host, root="*:19000:::::1:")
    good, found = seen(look(), "ACC-005")
    assert not good and found.reason.startswith("the account root expires, which stops cron")


def test_root_is_locked_by_password_and_never_by_expiry(host, look):
    accounts(host, root="$y$j9T$a$b:19000:::::1:")
    host.answer("passwd")
    host.answer("chage")
    administrators.fix(host, look(), ["ACC-001", "ACC-005"])
    assert host.ran[-2:] == [
        ("chage", "--expiredate", "-1", "root"),
        ("passwd", "--quiet", "--lock", "root"),
    ]


FAULTS = {
    "good": ({}, ""),
    "missing": ({"passwd": ROOT}, "the account does not exist"),
    "shell": ({"passwd": ROOT + ANN.replace("/bin/bash", "/bin/false")}, "its shell is /bin/false"),
    "expired": ({"ann": "!:19000:0:99999:7::1:"}, "the account has expired"),
    "change": ({"ann": "!:0:0:99999:7:::"}, "its password must be changed at the next log-in"),
    "outdated": ({"ann": "!:19000:0:30:7:::"}, "it has expired although it has no password"),
    "group": ({"group": "sudo:x:27:\nann:x:1000:\n"}, "it is not in the group sudo"),
}


@pytest.mark.parametrize(("host_has", "fault"), FAULTS.values(), ids=FAULTS)
def test_the_account_of_an_administrator(host, look, ann, host_has, fault):
    accounts(host, **host_has)
    good, found = seen(look(administrators={"ann": ann}), "ACC-010")
    assert good is not bool(fault)
    assert found.reason.startswith(f"ann: {fault}" if fault else "")


def test_a_declared_shell_and_uid(host, look, ann):
    accounts(host)
    assert seen(look(administrators={"ann": {**ann, "shell": "/bin/bash"}}), "ACC-010")[0]
    missing = "its shell is /bin/bash, expected /bin/zsh; its shell /bin/zsh is not installed"
    zsh = seen(look(administrators={"ann": {**ann, "shell": "/bin/zsh"}}), "ACC-010")[1]
    assert zsh.reason == f"ann: {missing}" and not zsh.remedy
    accounts(host, passwd=ROOT + ANN.replace("bash", "zsh"))
    zsh = seen(look(administrators={"ann": {**ann, "shell": "/bin/zsh"}}), "ACC-010")[1]
    assert zsh.reason == "ann: its shell /bin/zsh is not installed" and zsh.remedy == "manual"
    accounts(host)
    host.put("/bin/zsh")
    zsh = seen(look(administrators={"ann": {**ann, "shell": "/bin/zsh"}}), "ACC-010")[1]
    assert zsh.reason == "ann: its shell is /bin/bash, expected /bin/zsh" and not zsh.remedy
    uid = seen(look(administrators={"ann": {**ann, "uid": 1500}}), "ACC-010")[1]
    assert uid.reason == "ann: its UID is 1000, expected 1500" and uid.remedy == "manual"


def test_an_expired_password_is_left_to_its_owner(host, look, ann):
    accounts(host, ann=f"{HASH}:19000:0:30:7:::")
    found = seen(look(administrators={"ann": ann}), "ACC-010")[1]
    assert found.reason.startswith("ann: its password has expired") and found.remedy == "manual"
    declared = {"administrators": {"ann": ann}, "password_hashes": {"ann": HASH}}
    assert seen(look(**declared), "ACC-010")[0], "ACC-076 takes the end from declared passwords"


def test_an_administrator_is_made(host, look, ann, public_key):
    accounts(host, passwd=ROOT, group="root:x:0:\n")
    it = look(administrators={"ann": {**ann, "uid": 1500}})
    host.answer("groupadd")
    host.answer("useradd")
    with pytest.raises(Refused, match="ann has no account yet, so its keys have no place"):
        administrators.fix(host, it, ["ACC-010", "ACC-011"])  # the fake useradd makes nobody
    group, user = host.ran[-2:]
    assert group == ("groupadd", "--system", "sudo")
    assert user[:1] + user[-3:] == ("useradd", "--uid", "1500", "ann")
    assert "PASS_MAX_DAYS=99999" in user and "--create-home" in user


def test_an_administrator_is_corrected(host, look, ann):
    accounts(host, passwd=ROOT + ANN.replace("/bin/bash", "/bin/false"), ann="!:0:0:99999:7::1:")
    host.answer("usermod")
    host.answer("chage")
    administrators.fix(host, look(administrators={"ann": ann}), ["ACC-010"])
    usermod = "usermod --append --groups sudo --expiredate  --shell /bin/bash ann"
    assert " ".join(host.ran[-2]) == usermod
    assert host.ran[-1][0] == "chage" and host.ran[-1][-3:] == ("--maxdays", "99999", "ann")


def test_a_shell_of_their_own_stays(host, look, ann):
    accounts(host, passwd=ROOT + ANN.replace("bash", "zsh"), ann="!:19000:0:99999:7::1:")
    host.answer("usermod")
    administrators.fix(host, look(administrators={"ann": ann}), ["ACC-010"])
    assert "--shell" not in host.ran[-1]


def test_what_useradd_says_is_the_reason(host, look, ann):
    accounts(host, passwd=ROOT)
    host.answer("useradd", status=9, err="useradd: group ann exists")
    with pytest.raises(Refused, match="the account ann cannot be made: useradd: group ann exists"):
        administrators.fix(host, look(administrators={"ann": ann}), ["ACC-010"])


def test_declared_keys(host, look, ann, public_key):
    accounts(host)
    it = look(administrators={"ann": ann})
    good, found = seen(it, "ACC-011")
    assert not good and found.reason.endswith(f"(ann@desk) is not in {KEYS}")
    host.put(KEYS, public_key() + "\n# mine\n" + ann["keys"][0], 0o600, owner="ann")
    host.owners.update({"/home/ann": "ann", "/home/ann/.ssh": "ann"})
    assert seen(look(administrators={"ann": ann}), "ACC-011")[0]
    host.path("/home/ann/.ssh").chmod(0o777)
    loose = seen(look(administrators={"ann": ann}), "ACC-011")[1]
    assert loose.reason == "ann: /home/ann/.ssh can be written by others (0777)"


def test_a_key_with_other_options_is_another_way(host, look, ann):
    accounts(host)
    host.put(KEYS, f'command="/bin/true" {ann["keys"][0]}', 0o600, owner="ann")
    host.owners.update({"/home/ann": "ann", "/home/ann/.ssh": "ann"})
    assert not seen(look(administrators={"ann": ann}), "ACC-011")[0]


def test_keys_are_written_beside_those_of_others(host, look, ann, public_key):
    accounts(host)
    foreign = public_key(comment="other")
    host.put(KEYS, f'{foreign}\ncommand="/bin/true" {ann["keys"][0]}\n', 0o666, owner="ann")
    host.path("/home/ann/.ssh").chmod(0o777)
    administrators.fix(host, look(administrators={"ann": ann}), ["ACC-011"])
    assert host.read(KEYS) == f"{foreign}\n{ann['keys'][0]}\n"
    written = host.path(KEYS).stat()
    assert (written.st_uid, written.st_gid, stat.S_IMODE(written.st_mode)) == (1000, 1000, 0o600)
    assert stat.S_IMODE(host.path("/home/ann/.ssh").stat().st_mode) == 0o755


def test_keys_where_there_is_no_folder_yet(host, look, ann):
    accounts(host)
    host.path("/home/ann").mkdir(parents=True)
    administrators.fix(host, look(administrators={"ann": ann}), ["ACC-011"])
    folder = host.path("/home/ann/.ssh").stat()
    assert (folder.st_uid, stat.S_IMODE(folder.st_mode)) == (1000, 0o700)


def test_a_link_in_place_of_the_key_file_gives_nothing_away(host, look, ann):
    accounts(host)
    host.put("/home/ann/.ssh/id_ed25519.pub", "x", owner="ann")
    host.path(KEYS).symlink_to(host.path("/etc/shadow"))
    with pytest.raises(Refused, match="cannot be read without being led elsewhere"):
        administrators.fix(host, look(administrators={"ann": ann}), ["ACC-011"])
    assert host.path(KEYS).is_symlink()


@pytest.mark.parametrize("broken", ["link", "foreign"])
def test_keys_are_not_written_into_what_belongs_to_others(host, look, ann, broken):
    accounts(host)
    home = host.path("/home/ann")
    home.mkdir(parents=True)
    if broken == "link":
        (home / ".ssh").symlink_to("/etc")
        match = "/home/ann/.ssh is no folder"
    else:
        (home / ".ssh").mkdir()
        os.chown(home / ".ssh", 1234, 1234)
        match = "/home/ann/.ssh belongs to UID 1234, expected 1000"
    with pytest.raises(Refused, match=match):
        administrators.fix(host, look(administrators={"ann": ann}), ["ACC-011"])


def test_declared_passwords(host, look, ann):
    pillar = {"administrators": {"ann": ann}, "password_hashes": {"ann": HASH}}
    accounts(host, ann=f"{HASH}:19000:0:99999:7:::")
    assert seen(look(**pillar), "ACC-013")[0]
    accounts(host, ann="$6$other:19000:0:99999:7:::")
    found = seen(look(**pillar), "ACC-013")[1]
    assert found.reason == "ann: its password is not the declared one"
    assert HASH not in str(found)
    host.answer("chpasswd --encrypted")
    administrators.fix(host, look(**pillar), ["ACC-013"])
    assert host.told[-1] == f"ann:{HASH}\n" and HASH not in str(host.ran)
    host.answer("chpasswd --encrypted", status=1, err="chpasswd: line 1: no\n")
    with pytest.raises(Refused, match="does not set the password of ann: chpasswd: line 1: no"):
        administrators.fix(host, look(**pillar), ["ACC-013"])


def test_cached_settings_know_no_passwords(host, shipped, ann):
    pillar = {"accounts": {"administrators": {"ann": ann}, "password_hashes": {"ann": HASH}}}
    live = settings.resolve(shipped, pillar, {}, "web1")
    stored = settings.to_snapshot(live)
    assert HASH not in str(stored)
    it = checks.Accounts(settings.from_snapshot(stored), Reading())
    found = administrators.CHECKS["ACC-013"][1](it)
    assert found.problem == "skipped" and "ask while the master is up" in found.reason


def test_what_fails_for_one_does_not_keep_others_out(host, look, ann, public_key):
    accounts(host, passwd=ROOT, group="sudo:x:27:\n")
    host.answer("useradd")
    refused = ["ann", "bob"]
    with pytest.raises(Refused) as caught:
        administrators.fix(
            host, look(administrators=dict.fromkeys(refused, ann)), ["ACC-010", "ACC-011"]
        )
    assert [call[-1] for call in host.ran if call[0] == "useradd"] == ["ann", "bob"]
    assert str(caught.value).count("has no account yet") == 2

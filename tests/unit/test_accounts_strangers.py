"""rocksalt.accounts.strangers and authorised: who and what was not declared."""

from __future__ import annotations

import os
import stat

import pytest

from rocksalt import settings
from rocksalt.accounts import authorised, checks, database, sessions, strangers
from rocksalt.accounts.reading import Reading
from rocksalt.errors import Refused
from rocksalt.sshd import keys, known_keys
from rocksalt.transaction import DISABLED

ROOT = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"
PASSWD = f"{ROOT}ann:x:1000:1000::/home/ann:/bin/bash\n"
SHADOW = "root:*:19000::::::\ndaemon:*:19000::::::\nann:!:19000::::::\n"
GROUP = "root:x:0:\nadm:x:4:\nsudo:x:27:ann\ndocker:x:990:\nann:x:1000:\n"
EVERYTHING = ["accounts", "authorized_keys", "crontabs", "members"]
VAGRANT = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN1YdxBpNlzxDqfJyw/QKow1F+wvG9hXGoqiysfJOn5Y"


@pytest.fixture
def ann(public_key):
    """The key of ann, the one administrator."""
    return public_key()


@pytest.fixture
def look(host, shipped, ann):
    """The comparison of the fake host, this part only. Every file in it belongs to whoever runs
    the tests, and so to the accounts that ``own`` makes.
    """
    host.path("/proc").mkdir()
    host.put("/etc/passwd", PASSWD)
    host.put("/etc/shadow", SHADOW)
    host.put("/etc/group", GROUP)
    host.put("/home/ann/.ssh/authorized_keys", f"{ann}\n")
    for command in ("usermod", "userdel", "gpasswd"):
        host.answer(command)

    def call(**pillar):
        pillar = {"administrators": {"ann": {"keys": [ann], "nopasswd": True}}, **pillar}
        baseline = settings.resolve(shipped, {"accounts": pillar}, {}, "web1")
        people = database.read(host)
        mine = strangers.read(host, people)
        live = sessions.read(host)
        return checks.Accounts(baseline, Reading(people=people, live=live, strangers=mine))

    return call


def seen(it, identifier):
    expect, judge = strangers.CHECKS[identifier]
    assert expect(it) == []
    return judge(it)


def found(it):
    """The controls that drift."""
    return {i for i in strangers.CHECKS if seen(it, i).actual}


def add(host, line, secret="!:19000::::::", groups=()):
    """An account, in groups beside its own."""
    name = line.split(":")[0]
    host.put("/etc/passwd", host.read("/etc/passwd") + line + "\n")
    if secret is not None:
        host.put("/etc/shadow", f"{host.read('/etc/shadow')}{name}:{secret}\n")
    for group in groups:
        lines = host.read("/etc/group").splitlines()
        grown = [f"{li}{name}" if li.startswith(f"{group}:") else li for li in lines]
        host.put("/etc/group", "\n".join(grown) + "\n")


def own(name, home=None):
    """A line of passwd for an account that owns the files of this test."""
    return f"{name}:x:{os.getuid()}:{os.getgid()}::{home or f'/home/{name}'}:/bin/bash"


def test_a_host_of_declared_people_is_as_expected(look):
    assert found(look()) == set()


# Default accounts ---------------------------------------------------------------------------------

DEFAULTS = {
    "usable": ("/bin/bash", "$y$j9T$a$b:19000::::::", "has a password, has the shell /bin/bash, "),
    "empty": ("/usr/sbin/nologin", ":19000::::1::", "has a password, "),
    "by key": ("/usr/sbin/nologin", "!:19000::::::", ""),
    "no shadow": ("/bin/bash", None, "has the shell /bin/bash, "),
}
LOCK = ("usermod", "--lock", "--expiredate", "1", "--shell", "/usr/sbin/nologin", "debian")


@pytest.mark.parametrize(("shell", "secret", "text"), DEFAULTS.values(), ids=DEFAULTS)
def test_default_accounts_are_locked(look, host, shell, secret, text):
    add(host, f"debian:x:1001:1001::/home/debian:{shell}", secret)
    it = look()
    verdict = seen(it, "ACC-040")
    assert verdict.actual == [f"debian {text}has not expired"]
    assert verdict.remedy == ""
    strangers.fix(host, it, ["ACC-040"])
    assert host.ran == [LOCK]


def test_default_accounts_keep_their_keys_unless_they_stay_open(look, host, public_key):
    add(host, "debian:x:1001:1001::/home/debian:/usr/sbin/nologin", "!:19000:::::1:")
    host.put("/home/debian/.ssh/authorized_keys", public_key())
    assert found(look()) == set()
    off = {"ACC-040": {"off": "the image is rebuilt every night"}}
    assert len(seen(look(controls=off), "ACC-042").actual) == 1


def test_a_declared_default_account_is_none(look, host):
    add(host, "debian:x:1001:1001::/home/debian:/bin/bash")
    assert found(look(users={"debian": {}})) == set()


@pytest.mark.parametrize("trace", ["session", "process"])
def test_the_account_of_a_live_session_is_left_alone(look, host, trace):
    if trace == "session":
        add(host, "debian:x:1001:1001::/home/debian:/bin/bash", groups=["adm"])
        add(host, "eve:x:1002:1002::/home/eve:/bin/bash")
        host.put("/run/systemd/sessions/5", "UID=1001\nUSER=debian\n")
        host.put("/run/systemd/sessions/6", "UID=1002\nUSER=eve\n")
        os.mkfifo(host.path("/run/systemd/sessions/5.ref"))
        why = "is logged in"
    else:
        add(host, own("debian"), groups=["adm"])
        host.path("/proc/77").mkdir()
        why = "has running processes"
    it = look(remove=EVERYTHING)
    for control in ("ACC-040", "ACC-044"):
        assert f"(debian {why})" in seen(it, control).reason
        assert seen(it, control).remedy == "manual"
    if trace == "session":
        assert seen(it, "ACC-043").reason == "eve has the shell /bin/bash (eve is logged in)"
    strangers.fix(host, it, ["ACC-040", "ACC-043", "ACC-044"])
    assert [command for command in host.ran if command[-1] == "debian"] == []


# Keys ---------------------------------------------------------------------------------------------


def test_published_keys_are_found_wherever_they_are_authorised(look, host):
    host.put("/etc/ssh/sshd_config", "AuthorizedKeysFile .ssh/authorized_keys /srv/keys/%u none\n")
    for path in ("/root/.ssh/authorized_keys", "/usr/sbin/.ssh/authorized_keys2", "/srv/keys/ann"):
        host.put(path, f"{VAGRANT}\n")
    it = look()
    verdict = seen(it, "ACC-041")
    assert verdict.actual == [
        "root: Vagrant's insecure Ed25519 key in /root/.ssh/authorized_keys",
        "daemon: Vagrant's insecure Ed25519 key in /usr/sbin/.ssh/authorized_keys2",
        "ann: Vagrant's insecure Ed25519 key in /srv/keys/ann",
    ]
    assert found(it) == {"ACC-041"}


def test_a_published_key_becomes_a_comment(look, host, public_key):
    other = public_key()
    add(host, own("eve"))
    text = f"# mine\n{other}\nno-pty {VAGRANT} v\n\n{other}"
    host.put("/home/eve/.ssh/authorized_keys", text, 0o640)
    it = look()
    assert seen(it, "ACC-041").remedy == ""
    strangers.fix(host, it, ["ACC-041"])
    after = f"# mine\n{other}\n{DISABLED}no-pty {VAGRANT} v\n\n{other}"
    assert host.read("/home/eve/.ssh/authorized_keys") == after
    assert stat.S_IMODE(host.path("/home/eve/.ssh/authorized_keys").stat().st_mode) == 0o640
    assert os.listdir(host.path("/home/eve/.ssh")) == ["authorized_keys"]
    assert "ACC-041" not in found(look())


def test_fingerprints_are_ones():
    for fingerprint in known_keys.PUBLISHED:
        kind, _, digest = fingerprint.partition(":")
        assert (kind, len(digest)) == ("SHA256", 43)


PLACES = {
    "root": "/root/.ssh/authorized_keys",
    "daemon": "/usr/sbin/.ssh/authorized_keys",
    "ann": "/home/ann/.ssh/authorized_keys2",
}


@pytest.mark.parametrize(("name", "path"), PLACES.items(), ids=PLACES)
def test_undeclared_keys_are_reported(look, host, public_key, name, path):
    host.put(path, public_key(comment="mallory@\x1b[2Jdesk"))
    verdict = seen(look(), "ACC-042")
    assert len(verdict.actual) == 1
    assert verdict.actual[0].startswith(f"{name}: SHA256:")
    assert verdict.actual[0].endswith(f" (mallory@\\x1b[2Jdesk) in {path}")
    assert verdict.reason.endswith("(hardening:accounts:remove does not name authorized_keys)")
    assert verdict.remedy == "manual"


def test_keys_of_declared_users(look, host, public_key):
    mine, other = public_key(), public_key()
    add(host, "bob:x:1001:1001::/home/bob:/bin/bash")
    host.put("/home/bob/.ssh/authorized_keys", f"{mine}\n{other}\n")
    assert found(look(users={"bob": {}})) == set()
    assert len(seen(look(users={"bob": {"keys": [mine]}}), "ACC-042").actual) == 1
    assert len(seen(look(users={"bob": {"keys": []}}), "ACC-042").actual) == 2


OPTIONS = [
    ("", "", True),
    ("", "no-pty ", True),
    ("", "cert-authority ", False),
    ('from="10.0.0.1" ', 'from="10.0.0.1" ', True),
    ('from="10.0.0.1" ', "", False),
    ('from="10.0.0.1" ', 'from="*" ', False),
]


@pytest.mark.parametrize(("declared", "there", "fine"), OPTIONS)
def test_a_declared_key_with_other_options(look, host, public_key, declared, there, fine):
    key = public_key()
    add(host, "bob:x:1001:1001::/home/bob:/bin/bash")
    host.put("/home/bob/.ssh/authorized_keys", f"{there}{key}\n")
    it = look(users={"bob": {"keys": [declared + key]}})
    assert (seen(it, "ACC-042").actual == []) == fine


def test_undeclared_keys_are_struck_out_where_that_is_declared(look, host, public_key):
    mine, other = public_key(), public_key()
    add(host, own("bob"))
    host.put("/home/bob/.ssh/authorized_keys", f"{mine}\n{other}\nno-pty {other}\n")
    pillar = {"users": {"bob": {"keys": [mine]}}, "remove": ["authorized_keys"]}
    it = look(**pillar)
    assert seen(it, "ACC-042").remedy == ""
    strangers.fix(host, it, ["ACC-042"])
    expected = f"{mine}\n{DISABLED}{other}\n{DISABLED}no-pty {other}\n"
    assert host.read("/home/bob/.ssh/authorized_keys") == expected
    assert found(look(**pillar)) == set()


def test_nothing_changes_without_its_control(look, host, public_key):
    add(host, own("bob"), groups=["docker"])
    host.put("/home/bob/.ssh/authorized_keys", f"{public_key()}\n{VAGRANT}\n")
    before = host.read("/home/bob/.ssh/authorized_keys")
    strangers.fix(host, look(remove=EVERYTHING), [])
    assert host.read("/home/bob/.ssh/authorized_keys") == before
    assert host.ran == []


def test_a_file_in_which_an_administrator_has_keys_too_is_left_to_a_person(look, host, ann):
    host.put("/etc/ssh/sshd_config", "AuthorizedKeysFile /srv/keys\n")
    host.put("/srv/keys", f"{ann}\n")
    verdict = seen(look(remove=EVERYTHING), "ACC-042")
    assert [text.split(":")[0] for text in verdict.actual] == ["root", "daemon"]
    assert "(/srv/keys is also where ann has keys)" in verdict.reason
    assert verdict.remedy == "manual"


def test_administrators_who_share_a_home_keep_their_keys(look, host, ann, public_key):
    bob = public_key()
    add(host, "bob:x:1001:1001::/home/ann:/bin/bash")
    host.put("/home/ann/.ssh/authorized_keys", f"{ann}\n{bob}\n")
    administrators = {
        name: {"keys": [key], "nopasswd": True} for name, key in {"ann": ann, "bob": bob}.items()
    }
    verdict = seen(look(administrators=administrators, remove=EVERYTHING), "ACC-042")
    assert "authorized_keys is also where bob has keys" in verdict.reason
    assert "authorized_keys is also where ann has keys" in verdict.reason
    assert verdict.remedy == "manual"


@pytest.mark.parametrize("plant", ["pipe", "loop", "folder", "empty", "cut off"])
def test_what_sshd_would_not_read_is_passed_over(look, host, plant):
    add(host, "bob:x:1001:1001::/home/bob:/usr/sbin/nologin")
    path = "/home/bob/.ssh/authorized_keys"
    host.put(path, "ssh-ed25519 ÄÄÄÄ\nssh-ed25519 AAAA\n\x00\n" if plant == "cut off" else "")
    if plant in ("pipe", "loop", "folder"):
        host.path(path).unlink()
        {
            "pipe": os.mkfifo,
            "loop": lambda target: os.symlink(target, target),
            "folder": os.mkdir,
        }[
            plant
        ](host.path(path))
    assert found(look()) == set()


def test_a_file_too_large_to_read_is_reported(look, host):
    host.put("/root/.ssh/authorized_keys", "#" * (1 << 20) + "\n")
    it = look(remove=EVERYTHING)
    for control in ("ACC-041", "ACC-042"):
        verdict = seen(it, control)
        assert verdict.actual == ["root: unknown keys in /root/.ssh/authorized_keys"]
        assert "could not be read: it is larger than" in verdict.reason
        assert verdict.remedy == "manual"


def test_a_link_within_the_own_files_stays_one(look, host, public_key):
    add(host, own("bob"))
    host.put("/home/bob/dotfiles/keys", f"{public_key()}\n", 0o600)
    host.put("/home/bob/.ssh/config")
    host.path("/home/bob/.ssh/authorized_keys").symlink_to("../dotfiles/keys")
    strangers.fix(host, look(remove=EVERYTHING), ["ACC-042"])
    assert host.path("/home/bob/.ssh/authorized_keys").is_symlink()
    assert host.read("/home/bob/dotfiles/keys").startswith(f"{DISABLED}ssh-ed25519 ")


BOB = database.Account("bob", os.getuid() + 1, 1001, "/home/bob", "/bin/bash")


def test_a_link_to_a_file_of_somebody_else_is_not_followed(host):
    host.put("/srv/secret", f"{VAGRANT}\n")
    host.put("/home/bob/.ssh/config")
    path = "/home/bob/.ssh/authorized_keys"
    host.path(path).symlink_to("../../../srv/secret")
    (key,) = keys.parse(VAGRANT)
    strike = authorised.Strike(path, BOB, frozenset({(key.fingerprint, ())}))
    with pytest.raises(Refused, match=r"authorized_keys of bob leads to a file of UID"):
        strike(host)
    assert host.read("/srv/secret") == f"{VAGRANT}\n"


def test_a_file_of_somebody_else_is_left_to_a_person():
    file = authorised.KeyFile(BOB, "/srv/keys", keys.parse(VAGRANT), owner=BOB.uid + 1)
    (fault,) = authorised.known([file])
    assert fault.manual == f"/srv/keys belongs to UID {BOB.uid + 1}"


def test_a_link_put_in_the_way_meanwhile_is_not_followed(look, host, public_key, monkeypatch):
    """The home is swapped for a link between the look at where the path leads and its opening."""
    add(host, own("bob"))
    host.put("/home/bob/.ssh/authorized_keys", f"{public_key()}\n")
    host.put("/srv/.ssh/authorized_keys", f"{public_key()}\n")
    it = look(remove=EVERYTHING)
    realpath = os.path.realpath

    def swapped(path):
        found = realpath(path)
        host.path("/home/bob/.ssh").rename(host.path("/home/bob/away"))
        host.path("/home/bob/.ssh").symlink_to("../../srv/.ssh")
        return found

    monkeypatch.setattr(os.path, "realpath", swapped)
    with pytest.raises(Refused, match=r"^keys stay in .*: (Not a directory|Too many levels)"):
        strangers.fix(host, it, ["ACC-042"])
    assert not host.read("/srv/.ssh/authorized_keys").startswith(DISABLED)


# Accounts -----------------------------------------------------------------------------------------

ACCOUNTS = {
    "shell": ("eve:x:1001:1001::/home/eve:/bin/bash", "!:1::::::", "has the shell /bin/bash"),
    "no shell given": ("eve:x:1001:1001::/home/eve:", "!:1::::::", "has the shell /bin/sh"),
    "password": ("eve:x:1001:1001::/:/usr/sbin/nologin", "$y$j9T$a$b:1::::::", "has a password"),
    "empty password": ("eve:x:1001:1001::/:/usr/sbin/nologin", ":1::::::", "has a password"),
    "in passwd": ("eve:abcdefghijklm:1001:1001::/:/bin/false", None, "has a password"),
    "no shadow": ("eve:x:1001:1001::/home/eve:/bin/zsh", None, "has the shell /bin/zsh"),
    "locked": ("eve:x:1001:1001::/home/eve:/usr/sbin/nologin", "!:1::::::", ""),
    "expired": ("eve:x:1001:1001::/home/eve:/bin/bash", "$y$j9T$a$b:1:::::1:", ""),
    "system": ("eve:x:101:101::/home/eve:/bin/bash", "!:1::::::", ""),
    "nobody": ("nobody:x:65534:65534::/nonexistent:/bin/bash", "!:1::::::", ""),
}


@pytest.mark.parametrize(("line", "secret", "text"), ACCOUNTS.values(), ids=ACCOUNTS)
def test_accounts_that_nobody_declared(look, host, line, secret, text):
    add(host, line, secret)
    verdict = seen(look(), "ACC-043")
    assert verdict.actual == ([f"eve {text}"] if text else [])
    assert verdict.remedy == ("manual" if text else "")
    it = look(remove=EVERYTHING)
    assert seen(it, "ACC-043").remedy == ""
    strangers.fix(host, it, ["ACC-043"])
    assert host.ran == ([("userdel", "eve")] if text else [])


def test_what_fails_is_said_after_the_rest_was_done(look, host):
    add(host, "eve:x:1001:1001::/home/eve:/bin/bash", groups=["docker"])
    add(host, "mallory:x:1002:1002::/home/mallory:/bin/bash")
    host.answer("userdel eve", status=8, err="userdel: user eve is currently used\n")
    with pytest.raises(Refused, match=r"^the account eve stays: userdel: user eve is"):
        strangers.fix(host, look(remove=EVERYTHING), ["ACC-043", "ACC-044"])
    assert host.ran[0] == ("gpasswd", "--delete", "eve", "docker")
    assert host.ran[-1] == ("userdel", "mallory")


def test_what_has_gone_meanwhile_is_passed_over(look, host):
    add(host, "debian:x:1001:1001::/home/debian:/bin/bash", groups=["adm"])
    add(host, "eve:x:1002:1002::/home/eve:/bin/bash", groups=["docker", "sudo"])
    host.put("/var/spool/cron/crontabs/eve", "@daily true\n", 0o600)
    it = look(remove=EVERYTHING)
    assert found(it) == {"ACC-040", "ACC-043", "ACC-044", "ACC-045"}
    host.put("/etc/passwd", PASSWD)
    host.put("/etc/group", GROUP.replace("docker:x:990:\n", ""))
    host.remove("/var/spool/cron/crontabs/eve")
    strangers.fix(host, it, sorted(strangers.CHECKS))
    assert host.ran == []


# Members ------------------------------------------------------------------------------------------


def test_members_of_privileged_groups(look, host):
    text = GROUP.replace("adm:x:4:", "adm:x:4:daemon,ann").replace("990:", "990:root,ghost")
    host.put("/etc/group", text)
    verdict = seen(look(), "ACC-044")
    assert verdict.actual == ["ann is in adm", "daemon is in adm", "ghost is in docker"]
    assert verdict.remedy == "manual"
    it = look(remove=EVERYTHING, members={"adm": ["daemon"]})
    strangers.fix(host, it, ["ACC-044"])
    assert host.ran == [
        ("gpasswd", "--delete", "ann", "adm"),
        ("gpasswd", "--delete", "ghost", "docker"),
    ]


def test_administrators_belong_into_their_own_group_only(look, host):
    host.put("/etc/group", GROUP + "wardens:x:1500:ann\n")
    verdict = seen(look(administrators_group="wardens"), "ACC-044")
    assert verdict.actual == ["ann is in sudo"]


def test_a_primary_group_is_left_to_a_person(look, host):
    add(host, "eve:x:1001:990::/home/eve:/usr/sbin/nologin")
    add(host, "toor:x:1002:0::/home/toor:/usr/sbin/nologin")
    verdict = seen(look(remove=EVERYTHING), "ACC-044")
    assert verdict.reason == "eve is in docker (docker is the primary group of eve)"
    assert verdict.remedy == "manual"


def test_default_accounts_that_are_locked_leave_privileged_groups(look, host):
    add(host, "pi:x:1001:1001::/home/pi:/usr/sbin/nologin", "!:1:::::1:", ["docker"])
    it = look()
    assert seen(it, "ACC-044").remedy == ""
    strangers.fix(host, it, ["ACC-044"])
    assert host.ran == [("gpasswd", "--delete", "pi", "docker")]


def test_default_accounts_that_stay_open_are_members_like_others(look, host):
    add(host, "admin:x:1001:1001::/home/admin:/bin/bash", groups=["adm"])
    off = {"ACC-040": {"off": "the provider's console needs it"}}
    it = look(controls=off)
    assert seen(it, "ACC-044").reason == (
        "admin is in adm (hardening:accounts:remove does not name members)"
    )
    assert seen(it, "ACC-044").remedy == "manual"
    strangers.fix(host, it, ["ACC-044"])
    assert host.ran == []
    assert seen(look(controls=off, remove=["members"]), "ACC-044").remedy == ""
    assert seen(look(controls=off, members={"adm": ["admin"]}), "ACC-044").actual == []


def test_the_process_of_a_service_does_not_keep_it_in_a_group(look, host):
    add(host, own("daemon2").replace(f":{os.getuid()}:", ":101:", 1), groups=["docker"])
    host.path("/proc/77").mkdir()
    it = look(remove=EVERYTHING)
    assert seen(it, "ACC-044").actual == ["daemon2 is in docker"]
    assert seen(it, "ACC-044").remedy == ""


# Crontabs -----------------------------------------------------------------------------------------

CRONTABS = "/var/spool/cron/crontabs"


def test_crontabs_of_strangers_are_put_away(look, host):
    for name in ("root", "ann", "bob", "daemon", "gone", "tmp.x1Y2z3"):
        host.put(f"{CRONTABS}/{name}", f"# of {name}\n", 0o600)
    pillar = {"users": {"bob": {}}}
    verdict = seen(look(**pillar), "ACC-045")
    assert verdict.actual == [f"{CRONTABS}/daemon of daemon", f"{CRONTABS}/gone of gone"]
    assert verdict.remedy == "manual"
    it = look(remove=["crontabs"], **pillar)
    assert seen(it, "ACC-045").remedy == ""
    strangers.fix(host, it, ["ACC-045"])
    assert seen(look(**pillar), "ACC-045").actual == []
    removed = host.path(strangers.REMOVED)
    assert stat.S_IMODE(removed.stat().st_mode) == 0o700
    kept = sorted(removed.iterdir())
    assert [path.name.split("-", 1)[1] for path in kept] == ["crontabs-daemon", "crontabs-gone"]
    assert [path.read_text() for path in kept] == ["# of daemon\n", "# of gone\n"]
    assert strangers.leftovers(host) == []


def test_at_jobs_are_told_by_who_owns_them(look, host):
    host.put("/var/spool/cron/atjobs/a0000101c4d2e6", "#!/bin/sh\n")
    host.put("/var/spool/cron/atjobs/.SEQ", "1\n")
    verdict = seen(look(crontab_users=["ann"]), "ACC-045")
    owner = {0: "root"}.get(os.getuid(), f"UID {os.getuid()}")
    assert verdict.actual == [f"/var/spool/cron/atjobs/a0000101c4d2e6 of {owner}"]


def test_system_crontabs_that_run_as_a_stranger_are_left_to_a_person(look, host):
    add(host, "eve:x:1001:1001::/home/eve:/usr/sbin/nologin")
    host.put("/etc/crontab", "SHELL=/bin/sh\n17 * * * *\troot\tcd / && run-parts\n")
    host.put(
        "/etc/cron.d/job",
        "# 1 * * * * eve true\nMAILTO = 1 2 3 4 eve x\n@daily eve true\n"
        "*/5 1-2 * * mon-fri eve true\n1 * * * * ann true\n1 * * * * daemon true\n",
    )
    host.put("/etc/cron.d/job.dpkg-old", "@reboot eve true\n")
    verdict = seen(look(remove=EVERYTHING), "ACC-045")
    assert verdict.actual == ["/etc/cron.d/job runs commands as eve"]
    assert verdict.remedy == "manual"
    assert seen(look(crontab_users=["eve"]), "ACC-045").actual == []

"""rocksalt.ways_in: an account counts only if every step from the connection to root works."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os

import pytest

from rocksalt import ways_in

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
ann:x:1000:1000:Ann,,,:/home/ann:/bin/bash
broken line
"""
GROUP = "root:x:0:\nann:x:1000:\nsudo:x:27:ann\nops:x:50:\nbroken\n"
DOOR = ways_in.Door(
    allow_groups=["sudo"],
    allow_users=[],
    deny_groups=[],
    deny_users=[],
    key_files=[".ssh/authorized_keys"],
    algorithms=["ssh-ed25519", "rsa-sha2-512"],
    least_rsa=3072,
    management=["10.0.0.0/8"],
)
KEYS = "/home/ann/.ssh/authorized_keys"
ASK_READABLE = "setpriv --reuid 1000 --regid 1000 --init-groups test -r"
TODAY = (dt.datetime.now(dt.timezone.utc).date() - dt.date(1970, 1, 1)).days
MAY = "Matching Defaults entries for ann on web1:\n    env_reset\n\nUser ann may run:\n"


def shadow(secret="$y$j9T$salt$hash", changed=TODAY, longest=99999, inactive="", expires="") -> str:
    return (
        f"root:*:19000:0:99999:7:::\nann:{secret}:{changed}:0:{longest}:7:{inactive}:{expires}:\n"
    )


def sudo(host, *grants: str) -> None:
    host.answer("sudo -n -l -U ann", MAY + "".join(f"    {grant}\n" for grant in grants))


@pytest.fixture
def good(host, public_key):
    """A host with one way in: ann, by key, with a password for sudo."""
    host.put("/etc/passwd", PASSWD)
    host.put("/etc/group", GROUP)
    host.put("/etc/shadow", shadow())
    host.put("/bin/bash")
    host.put("/usr/sbin/nologin")
    host.put(KEYS, public_key(), 0o600, owner="ann")
    host.owners.update({"/home/ann": "ann", "/home/ann/.ssh": "ann"})
    sudo(host, "(ALL : ALL) ALL")
    host.answer(ASK_READABLE)
    return host


def find(host, door=DOOR):
    return ways_in.find(host, door, lambda _: door)


def verdict(host, **door) -> str:
    """The reason why ann is no way in; empty when she is one."""
    found, rejected = find(host, dataclasses.replace(DOOR, **door))
    assert (found == ["ann"]) != bool(rejected.get("ann")) or not (found or rejected)
    return rejected.get("ann", "") if not found else ""


def test_a_way_in(good):
    assert find(good) == (["ann"], {})


def test_nobody_has_a_key(good):
    good.put(KEYS, "")
    assert find(good) == ([], {})


def test_root_is_no_way_in(good, public_key):
    good.remove(KEYS)
    good.put("/root/.ssh/authorized_keys", public_key())
    assert find(good) == ([], {})


KEY_CASES = {
    "forced command": ('command="backup" {ed25519}', "its key is bound to one command"),
    "authority": ("cert-authority {ed25519}", "its key is a certificate authority"),
    "expired": ('expiry-time="20010203" {ed25519}', "its key expired (20010203)"),
    "from outside": ('from="192.0.2.0/24" {ed25519}', "outside the management networks"),
    "from inside": ('from="10.1.0.0/16" {ed25519}', ""),
    "short rsa": ("{rsa2048}", "its RSA key of 2048 bits is shorter than 3072"),
    "long rsa": ("{rsa3072}", ""),
    "algorithm refused": ("{ecdsa}", "ecdsa-sha2-nistp256 keys are no longer accepted"),
    "broken": ("ssh-ed25519 AAAA", "its keys are not in .ssh/authorized_keys"),
    "the second is good": ("{ecdsa}\n{ed25519}", ""),
}


@pytest.mark.parametrize(("line", "reason"), KEY_CASES.values(), ids=KEY_CASES)
def test_keys(good, public_key, line, reason):
    kinds = {
        "ed25519": public_key(),
        "ecdsa": public_key("ecdsa-sha2-nistp256"),
        "rsa2048": public_key("ssh-rsa", 2048),
        "rsa3072": public_key("ssh-rsa", 3072),
    }
    good.put(KEYS, line.format(**kinds), 0o600, owner="ann")
    found = verdict(good)
    assert reason in found
    assert bool(found) == bool(reason)


def test_from_without_management_networks(good, public_key):
    good.put(KEYS, f'from="10.1.2.3" {public_key()}', owner="ann")
    assert "hardening:networks:management is not set" in verdict(good, management=[])


def test_a_key_where_sshd_will_not_look(good):
    good.rename(KEYS, KEYS + "2")
    assert verdict(good) == "its keys are not in .ssh/authorized_keys"
    assert verdict(good, key_files=[".ssh/authorized_keys", ".ssh/authorized_keys2"]) == ""


@pytest.mark.parametrize("pattern", ["/etc/keys/%u", "/etc/keys/u%U", "%h/keys", "keys", "/k%%"])
def test_key_files_elsewhere(good, pattern):
    place = {
        "/etc/keys/%u": "/etc/keys/ann",
        "/etc/keys/u%U": "/etc/keys/u1000",
        "/k%%": "/k%",
    }.get(pattern, "/home/ann/keys")
    good.put(place, good.read(KEYS))
    good.remove(KEYS)
    assert verdict(good, key_files=[pattern]) == ""


@pytest.mark.parametrize(
    ("path", "mode", "owner", "reason"),
    [
        (KEYS, 0o660, "ann", f"{KEYS} can be written by others (0660)"),
        (KEYS, 0o602, "ann", f"{KEYS} can be written by others (0602)"),
        (KEYS, 0o644, "ann", ""),
        (KEYS, 0o644, "root", ""),
        (KEYS, 0o600, "bob", f"{KEYS} belongs to bob"),
        ("/home/ann/.ssh", 0o770, "ann", "/home/ann/.ssh can be written by others (0770)"),
        ("/home/ann/.ssh", 0o700, "bob", "/home/ann/.ssh belongs to bob"),
        ("/home/ann", 0o775, "ann", "/home/ann can be written by others (0775)"),
        ("/home/ann", 0o755, "bob", "/home/ann belongs to bob"),
        ("/home", 0o777, "bob", ""),
    ],
)
def test_strict_modes(good, path, mode, owner, reason):
    good.path(path).chmod(mode)
    good.owners[path] = owner
    assert verdict(good) == reason


def test_strict_modes_of_a_file_outside_of_the_home_go_up_to_the_root(good):
    good.put("/srv/keys/ann", good.read(KEYS))
    good.path("/srv").chmod(0o775)
    assert verdict(good, key_files=["/srv/keys/%u"]) == "/srv can be written by others (0775)"


def test_strict_modes_look_at_where_links_lead_to(good):
    good.put("/srv/keys/ann", good.read(KEYS))
    good.remove(KEYS)
    good.path(KEYS).symlink_to("../../../srv/keys/ann")
    assert verdict(good) == ""
    good.path("/srv").chmod(0o777)
    assert verdict(good) == "/srv can be written by others (0777)"


def test_strict_modes_stop_at_a_home_that_is_a_link(good):
    good.path("/data").mkdir(mode=0o777)
    good.path("/data").chmod(0o777)
    good.rename("/home/ann", "/data/ann")
    good.path("/home/ann").symlink_to("../data/ann")
    good.owners.update(dict.fromkeys(("/data/ann/.ssh/authorized_keys", "/data/ann"), "ann"))
    assert verdict(good) == ""
    good.path("/data/ann").chmod(0o777)
    assert verdict(good) == "/data/ann can be written by others (0777)"


def test_a_key_that_its_user_cannot_read(good):
    good.answer(ASK_READABLE, status=1)
    assert verdict(good) == f"it cannot read {KEYS}"
    good.answers.pop(tuple(ASK_READABLE.split()))
    assert verdict(good) == f"setpriv is not installed, so nothing shows that it can read {KEYS}"


def test_the_file_that_its_user_reads_is_the_one_with_the_key(good):
    good.answer(f"{ASK_READABLE} {good.path(KEYS)}", status=1)
    good.put("/etc/keys/ann", good.read(KEYS))
    assert verdict(good, key_files=[".ssh/authorized_keys", "/etc/keys/%u"]) == ""
    assert verdict(good) == f"it cannot read {KEYS}"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path.name)])
def test_what_is_no_file_holds_no_key(good, make):
    good.remove(KEYS)
    make(good.path(KEYS))
    assert find(good) == ([], {})


def test_a_loose_file_does_not_spoil_another(good):
    good.put("/etc/keys/ann", good.read(KEYS))
    good.path(KEYS).chmod(0o666)
    assert verdict(good, key_files=[".ssh/authorized_keys", "/etc/keys/%u"]) == ""


NOT_ALLOWED = "AllowUsers does not let it in from the management networks"
DENIED = "DenyUsers keeps it out"


@pytest.mark.parametrize(
    ("door", "reason"),
    [
        ({"allow_groups": ["ops"]}, "it is in none of the groups ops"),
        ({"allow_groups": ["ops", "su*"]}, ""),
        ({"allow_groups": []}, ""),
        ({"allow_groups": ["ann"]}, ""),
        ({"allow_users": ["bob"]}, NOT_ALLOWED),
        ({"allow_users": ["bob", "an?"]}, ""),
        ({"deny_users": ["ann"]}, "DenyUsers keeps it out"),
        ({"public_keys": False}, "sshd does not let it log in by key"),
        ({"forced_command": "internal-sftp -R"}, "sshd binds it to one command, internal-sftp -R"),
        ({"chroot": "/srv/%u"}, "sshd locks it into /srv/%u"),
        ({"deny_groups": ["sudo"]}, "DenyGroups keeps it out"),
        ({"deny_groups": ["ops"], "deny_users": ["bob"]}, ""),
    ],
)
def test_who_is_let_in(good, door, reason):
    assert verdict(good, **door) == reason


@pytest.mark.parametrize(
    ("origins", "allowed", "denied"),
    [
        ("*", True, True),
        ("10.0.0.0/8", True, True),
        ("10.1.2.3", True, True),
        ("192.0.2.9", False, False),
        ("2001:db8::/32", False, False),
        ("192.0.2.9,10.0.0.0/24", True, True),
        ("*,!10.0.0.0/24", False, True),
        ("*,!192.0.2.0/24", True, True),
        ("!10.0.0.0/8,192.0.2.0/24", False, False),
        ("10.*", False, True),
        ("desk.example", False, True),
        ("10.0.0.0/8,!desk.example", False, True),
    ],
)
def test_users_from_somewhere(good, origins, allowed, denied):
    entry = f"an*@{origins}"
    assert verdict(good, allow_users=["bob", entry]) == ("" if allowed else NOT_ALLOWED)
    assert verdict(good, deny_users=["bob", entry]) == (DENIED if denied else "")
    assert verdict(good, allow_users=["ann"], deny_users=[f"bob@{origins}"]) == ""


def test_users_from_somewhere_without_management_networks(good):
    assert verdict(good, allow_users=["ann@10.0.0.1"], management=[]) == NOT_ALLOWED
    assert verdict(good, allow_users=["ann@*"], management=[]) == ""
    assert verdict(good, deny_users=["ann@10.0.0.1"], management=[]) == DENIED


def test_what_holds_for_one_account_is_asked_last(good):
    asked = []

    def door_for(user):
        asked.append(user)
        return dataclasses.replace(DOOR, forced_command="/bin/backup")

    reason = "sshd binds it to one command, /bin/backup"
    assert ways_in.find(good, DOOR, door_for) == ([], {"ann": reason})
    sudo(good)
    assert ways_in.find(good, DOOR, door_for) == ([], {"ann": "sudo does not let it become root"})
    assert asked == ["ann"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"expires": TODAY - 1}, "the account has expired"),
        ({"expires": TODAY + 2}, ""),
        ({"changed": 0}, "its password must be changed at the next log-in"),
        ({"changed": TODAY - 31, "longest": 30}, "its password has expired"),
        (
            {"changed": TODAY - 31, "longest": 30, "inactive": 5},
            "its password has expired for good",
        ),
        ({"changed": TODAY - 29, "longest": 30}, ""),
        ({"changed": "", "longest": ""}, ""),
    ],
)
def test_the_account(good, entry, reason):
    good.put("/etc/shadow", shadow(**entry))
    assert verdict(good) == reason


def test_an_account_without_a_shadow_entry(good):
    good.put("/etc/shadow", "ann:*:1\n")
    assert verdict(good) == "it has no shadow entry"


def test_a_shell_that_is_not_there(good):
    good.put("/etc/passwd", PASSWD.replace("/home/ann:/bin/bash", "/home/ann:/bin/zsh"))
    assert verdict(good) == "its shell /bin/zsh is not installed"


def test_sshd_without_pam_refuses_locked_passwords(good):
    good.put("/etc/shadow", shadow(secret="!$y$x"))
    sudo(good, "(ALL) NOPASSWD: ALL")
    assert verdict(good) == ""
    assert verdict(good, pam=False).startswith("sshd, without PAM, refuses accounts")


@pytest.mark.parametrize(
    ("methods", "reason"),
    [
        (["any"], ""),
        (["password", "publickey"], ""),
        (["publickey,password"], "sshd asks for more than keys, publickey,password"),
        (["publickey,publickey"], "sshd asks for 2 different keys and it has 1"),
    ],
)
def test_what_a_log_in_takes(good, methods, reason):
    assert verdict(good, methods=methods) == reason


@pytest.mark.parametrize("shell", ["/usr/sbin/nologin", "/bin/false"])
def test_a_shell_that_is_none(good, shell):
    good.put("/etc/passwd", PASSWD.replace("/home/ann:/bin/bash", f"/home/ann:{shell}"))
    assert verdict(good) == f"its shell is {shell}"


def test_an_empty_shell_is_the_standard_one(good):
    good.put("/bin/sh")
    good.put("/etc/passwd", PASSWD.replace("/home/ann:/bin/bash", "/home/ann:"))
    assert verdict(good) == ""


@pytest.mark.parametrize("path", ["/etc/nologin", "/run/nologin"])
def test_nologin(good, path):
    good.put(path)
    assert verdict(good) == f"{path} keeps everybody out"


@pytest.mark.parametrize(
    ("grants", "secret", "reason"),
    [
        (["(ALL : ALL) ALL"], "$y$j9T$salt$hash", ""),
        (["(ALL) ALL"], "$6$salt$hash", ""),
        (["(root) ALL"], "$6$salt$hash", ""),
        (["(ALL) ALL"], "abJnggxhB/yWI", ""),
        (["(ALL) ALL"], "!", "sudo asks for a password and it has none"),
        (["(ALL) ALL"], "*", "sudo asks for a password and it has none"),
        (["(ALL) ALL"], "", "sudo asks for a password and it has none"),
        (["(ALL) ALL"], "!$6$salt$hash", "sudo asks for a password and it has none"),
        (["(ALL) NOPASSWD: ALL"], "!", ""),
        (["(ALL : ALL) SETENV: NOPASSWD: ALL"], "!", ""),
        (["(ALL) ALL", "(ALL) NOPASSWD: ALL"], "!", ""),
        (
            ["(ALL) NOPASSWD: ALL", "(ALL : ALL) ALL"],
            "!",
            "sudo asks for a password and it has none",
        ),
        (["(ALL) NOPASSWD: /usr/bin/apt"], "!", "sudo does not let it become root"),
        (["(postgres) NOPASSWD: ALL"], "!", "sudo does not let it become root"),
        (["(ALL, !root) NOPASSWD: ALL"], "!", "sudo does not let it become root"),
        ([], "!", "sudo does not let it become root"),
    ],
)
def test_sudo(good, grants, secret, reason):
    good.put("/etc/shadow", shadow(secret))
    sudo(good, *grants)
    assert verdict(good) == reason


def test_sudo_is_missing(good):
    good.answers.pop(("sudo", "-n", "-l", "-U", "ann"))
    assert verdict(good) == "sudo is not installed, so it cannot become root"


def test_one_way_in_is_enough(good, public_key):
    good.put("/etc/passwd", PASSWD + "bob:x:1001:1001::/home/bob:/bin/bash\n")
    good.put("/home/bob/.ssh/authorized_keys", public_key())
    assert find(good) == (["ann"], {})
    good.put("/etc/group", GROUP.replace(":ann", ":"))
    assert find(good) == (
        [],
        {"ann": "it is in none of the groups sudo", "bob": "it has no shadow entry"},
    )


def test_explain():
    assert ways_in.explain(["ann"], {}) == "ann can log in by key and become root"
    assert ways_in.explain([], {}).startswith("no account but root has an authorised key")
    assert ways_in.explain([], {"ann": "x", "bob": "y"}) == (
        "nobody could log in by key and become root: ann: x; bob: y"
    )
    many = ways_in.explain([], {f"user{number}": "x" for number in range(300)})
    assert many.endswith("user4: x; and 295 more")

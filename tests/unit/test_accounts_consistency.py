"""rocksalt.accounts.consistency: rules that hold on every host, and what is repaired."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import stat

import pytest

from rocksalt import settings
from rocksalt.accounts import consistency, database, editing, folders, sessions, strangers
from rocksalt.accounts.checks import Accounts
from rocksalt.accounts.database import GROUP, GSHADOW, PASSWD, SHADOW
from rocksalt.accounts.reading import Reading
from rocksalt.errors import Refused

ME = os.getuid() or 1000
HASH = "$y$j9T$salt$hash"
HOME = "/home/ann"
OPEN_SESSION = "UID={}\nUSER=x\nCLASS=user\n"


@pytest.fixture
def sane(host):
    """A host that keeps to every rule; ann is a person, games a system account."""
    host.put(
        PASSWD,
        "root:x:0:0:root:/root:/bin/bash\n"
        "games:x:5:60:games:/usr/games:/usr/sbin/nologin\n"
        f"ann:x:{ME}:{ME}::{HOME}:/bin/bash\n"
        "nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
    )
    host.put(GROUP, f"root:x:0:\nshadow:x:42:\nann:x:{ME}:\n")
    host.put(SHADOW, f"root:*:1::::::\ngames:*:1::::::\nann:{HASH}:1::::::\n", 0o640)
    host.put(GSHADOW, "root:*::\nann:!::\n", 0o640)
    host.put(f"{HOME}/.profile")
    host.put(f"{HOME}/.ssh/id_rsa", mode=0o600)
    host.put(f"{HOME}/.ssh/id_rsa.pub")
    belong(host, HOME, f"{HOME}/.profile", f"{HOME}/.ssh")
    host.path("/proc").mkdir()
    belong(host, f"{HOME}/.ssh/id_rsa", f"{HOME}/.ssh/id_rsa.pub")
    return host


def belong(host, *paths):
    for path in paths:
        os.chown(host.path(path), ME, ME, follow_symlinks=False)


def put(host, path, mode=0o644):
    """A file of ann's."""
    host.put(path, mode=mode)
    belong(host, path)


@pytest.fixture
def look(shipped):
    def call(host, **family) -> Accounts:
        baseline = settings.resolve(shipped, {"accounts": family}, {}, "web1")
        people = database.read(host)
        seen = consistency.read(host, people, baseline)
        of_root = {"/root": folders.Home()}  # which nobody but root can make
        seen = dataclasses.replace(seen, homes={**seen.homes, **of_root})
        live, keys = sessions.read(host), strangers.read(host, people)
        reading = Reading(people=people, live=live, strangers=keys, consistency=seen)
        return Accounts(baseline, reading)

    return call


def drift(it: Accounts) -> dict[str, tuple[list[str], str]]:
    """Control id -> (what is wrong, who helps), of those that are not as expected."""
    seen = {i: see(it) for i, (_, see) in consistency.CHECKS.items()}
    assert not [i for i, s in seen.items() if s.problem]
    assert all(expect(it) == [] for expect, _ in consistency.CHECKS.values())
    return {i: (s.actual, s.remedy or "state") for i, s in seen.items() if s.actual != []}


def repair(host, it: Accounts) -> None:
    consistency.fix(host, it, sorted(consistency.CHECKS))


def change(host, path, old, new):
    text = host.read(path)
    assert old in text
    host.write(path, text.replace(old, new), "0640" if "shadow" in path else "0644")


def add(host, path, line):
    change(host, path, host.read(path), f"{host.read(path)}{line}\n")


def mode(host, path):
    return stat.S_IMODE(os.lstat(host.path(path)).st_mode)


def test_as_expected(sane, look):
    assert drift(look(sane)) == {}
    before = {p: os.stat(sane.path(p)).st_ino for p in (PASSWD, SHADOW, GROUP, GSHADOW)}
    repair(sane, look(sane))
    assert before == {p: os.stat(sane.path(p)).st_ino for p in before}


# What is wrong, and whom it takes -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "line", "identifier", "text", "remedy"),
    [
        (PASSWD, "toor:x:0:0::/root:/bin/sh", "ACC-050", "toor in /etc/passwd has UID 0", "state"),
        (GROUP, "wheel:x:0:", "ACC-051", "group wheel in /etc/group has GID 0", "manual"),
        (
            PASSWD,
            "eve:x:900:0::/:/usr/sbin/nologin",
            "ACC-051",
            "eve in /etc/passwd has group 0 as its own",
            "manual",
        ),
        (
            PASSWD,
            "eve::900:900::/:/usr/sbin/nologin",
            "ACC-052",
            "eve has an empty password in /etc/passwd",
            "state",
        ),
        (
            PASSWD,
            "+@staff:::",
            "ACC-053",
            "/etc/passwd has a line for NIS that begins with +@staff",
            "state",
        ),
        (
            SHADOW,
            f"games:{HASH}::::::",
            "ACC-055",
            "/etc/shadow has a broken line that begins with games",
            "manual",
        ),
        (
            SHADOW,
            f"{HASH}",
            "ACC-055",
            "/etc/shadow has a broken line that begins with a password hash",
            "manual",
        ),
        (
            PASSWD,
            f"eve:x:{ME}:1::/:/usr/sbin/nologin",
            "ACC-055",
            f"ann and eve have UID {ME}",
            "manual",
        ),
        (GROUP, "staff:x:42:", "ACC-055", "shadow and staff have GID 42", "manual"),
        (GROUP, "ann:x:50:", "ACC-055", "/etc/group has 2 lines for ann", "manual"),
        (
            PASSWD,
            "root:x:0:0::/root:/bin/bash",
            "ACC-055",
            "/etc/passwd has 2 lines for root",
            "manual",
        ),
    ],
)
def test_a_line_that_breaks_one_rule(sane, look, path, line, identifier, text, remedy):
    add(sane, path, line)
    assert drift(look(sane, remove=["accounts"])) == {identifier: ([text], remedy)}


def test_a_shadow_field_may_be_empty_too(sane, look):
    change(sane, SHADOW, f"ann:{HASH}", "ann:")
    wrong = ["ann has an empty password in /etc/shadow"]
    assert drift(look(sane)) == {"ACC-052": (wrong, "state")}


@pytest.mark.parametrize("old", ["$1$salt$hash", "abcdefghijklm"])
def test_weak_hashes(sane, look, old):
    change(sane, SHADOW, HASH, old)
    wrong = ["the password of ann is kept under a weak hash"]
    assert drift(look(sane)) == {"ACC-058": (wrong, "manual")}


@pytest.mark.parametrize("shell", ["/bin/sh", ""])
def test_system_accounts_have_no_shell(sane, look, shell):
    change(sane, PASSWD, "/usr/games:/usr/sbin/nologin", f"/usr/games:{shell}")
    wrong = [f"the shell of games in /etc/passwd is {shell or 'empty'}"]
    assert drift(look(sane)) == {"ACC-054": (wrong, "state")}
    assert drift(look(sane, system_logins=["games"])) == {}
    assert drift(look(sane, users={"games": {}})) == {}


@pytest.mark.parametrize(
    ("shell", "found"),
    [("/usr/bin/git-shell", set()), ("/bin/git-shell", set()), ("/tmp/git-shell", {"ACC-054"})],
)
def test_git_shell_is_none_that_takes_commands(sane, look, shell, found):
    change(sane, PASSWD, "/usr/games:/usr/sbin/nologin", f"/usr/games:{shell}")
    assert drift(look(sane)).keys() == found


@pytest.mark.parametrize("way", ["shell", "password"])
@pytest.mark.parametrize("keys", ["own", "unreadable"])
def test_a_system_account_with_keys_may_be_how_a_tool_gets_in(sane, look, public_key, way, keys):
    if way == "shell":
        change(sane, PASSWD, "/usr/games:/usr/sbin/nologin", "/usr/games:/bin/bash")
        wrong = "the shell of games in /etc/passwd is /bin/bash"
    else:
        change(sane, SHADOW, "games:*", f"games:{HASH}")
        wrong = "games has a password"
    path = "/usr/games/.ssh/authorized_keys"
    sane.put(path, public_key() if keys == "own" else "#" * (1 << 20) + "\n")
    it = look(sane)
    seen = consistency.CHECKS["ACC-054"][1](it)
    assert (seen.reason, seen.remedy) == (f"{wrong} (games has authorised keys)", "manual")
    before = sane.read(PASSWD), sane.read(SHADOW)
    repair(sane, it)
    assert (sane.read(PASSWD), sane.read(SHADOW)) == before
    sane.put(path, "# none\n")
    assert drift(look(sane)) == {"ACC-054": ([wrong], "state")}


def test_keys_that_the_same_run_takes_away_keep_no_shell(sane, look, public_key):
    me = f"tool:x:{ME}:{ME}::/srv/tool:/bin/bash"
    sane.put("/etc/login.defs", f"UID_MIN {ME + 1}\nUID_MAX 60000\n")
    change(sane, PASSWD, f"ann:x:{ME}:{ME}::{HOME}:/bin/bash", me)
    path = "/srv/tool/.ssh/authorized_keys"
    sane.put(path, public_key())
    belong(sane, path)
    assert drift(look(sane))["ACC-054"][1] == "manual"
    assert drift(look(sane, remove=["authorized_keys"]))["ACC-054"][1] == "state"
    off = {"ACC-042": {"off": "another tool looks after keys"}}
    kept = look(sane, remove=["authorized_keys"], controls=off)
    assert drift(kept)["ACC-054"][1] == "manual"


def test_a_running_service_needs_no_shell(sane, look):
    change(sane, PASSWD, "games:x:5:60", f"games:x:{ME}:60")
    change(sane, PASSWD, f"ann:x:{ME}", f"ann:x:{ME + 2}")
    change(sane, PASSWD, "/usr/games:/usr/sbin/nologin", "/usr/games:/bin/bash")
    sane.put("/etc/login.defs", f"UID_MIN {ME + 1}\nUID_MAX 60000\n")
    sane.path("/proc/77").mkdir()
    os.chown(sane.path("/proc/77"), ME, ME)
    it = look(sane)
    assert ME in it.reading.live.processes
    assert drift(it)["ACC-054"][1] == "state"


def test_nobody_is_a_system_account_and_high_numbers_are_people(sane, look):
    change(sane, PASSWD, "/nonexistent:/usr/sbin/nologin", "/nonexistent:/bin/sh")
    add(sane, PASSWD, "carol:x:70000:70000::/home/carol:/bin/sh")
    found = drift(look(sane))
    assert found["ACC-054"] == (["the shell of nobody in /etc/passwd is /bin/sh"], "state")
    assert found["ACC-056"] == (["the home /home/carol of carol does not exist"], "manual")


def test_system_accounts_have_no_password(sane, look):
    change(sane, SHADOW, "games:*", f"games:{HASH}")
    wrong = ["games has a password"]
    assert drift(look(sane, system_logins=["games"])) == {"ACC-054": (wrong, "state")}


@pytest.mark.parametrize(
    ("uid", "path", "old", "new", "identifier"),
    [
        (5, SHADOW, "games:*", "games:", "ACC-052"),
        (5, SHADOW, "games:*", f"games:{HASH}", "ACC-054"),
        (5, PASSWD, "/usr/games:/usr/sbin/nologin", "/usr/games:/bin/sh", "ACC-054"),
        (0, PASSWD, "nobody:", "toor:x:0:0::/root:/bin/sh\nnobody:", "ACC-050"),
    ],
)
def test_an_open_session_keeps_its_account(sane, look, uid, path, old, new, identifier):
    change(sane, path, old, new)
    sane.put("/run/systemd/sessions/7", OPEN_SESSION.format(uid))
    it = look(sane, remove=["accounts"])
    assert {i: remedy for i, (_, remedy) in drift(it).items()} == {identifier: "manual"}
    before = sane.read(path)
    repair(sane, it)
    assert sane.read(path) == before
    sane.remove("/run/systemd/sessions/7")
    repair(sane, look(sane, remove=["accounts"]))
    assert drift(look(sane, remove=["accounts"])) == {}


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ({}, "hardening:accounts:remove leaves accounts alone"),
        ({"remove": ["accounts"], "users": {"toor": {}}}, "it is declared"),
    ],
)
def test_a_second_root_stays_where(sane, look, family, reason):
    add(sane, PASSWD, "toor:x:0:0::/root:/bin/sh")
    it = look(sane, **family)
    seen = consistency.CHECKS["ACC-050"][1](it)
    assert (seen.remedy, seen.reason) == ("manual", f"toor in {PASSWD} has UID 0 ({reason})")
    repair(sane, it)
    assert "toor" in sane.read(PASSWD)


def test_the_only_uid_0_is_never_removed(sane, look):
    change(sane, PASSWD, "root:x:0:0:root", "admin:x:0:0:root")
    found = drift(look(sane, remove=["accounts"]))
    assert found["ACC-050"] == (["admin in /etc/passwd has UID 0"], "manual")


@pytest.mark.parametrize(
    ("path", "mode", "owner", "wrong"),
    [
        (PASSWD, 0o666, "root", "/etc/passwd is root:root 0666, expected root:root 0644"),
        (
            "/etc/shadow-",
            0o644,
            "root",
            "/etc/shadow- is root:root 0644, expected root:shadow 0640",
        ),
        (GSHADOW, 0o640, "ann", "/etc/gshadow is ann:ann 0640, expected root:shadow 0640"),
        (
            "/etc/security/opasswd",
            0o640,
            "root",
            "/etc/security/opasswd is root:root 0640, expected root:root 0600",
        ),
    ],
)
def test_owners_and_modes_of_the_account_files(sane, look, path, mode, owner, wrong):
    sane.put(path, sane.read(path) or "", mode, owner)
    assert drift(look(sane)) == {"ACC-059": ([wrong], "state")}
    repair(sane, look(sane))
    assert drift(look(sane)) == {}


# Home folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [0o775, 0o757, 0o777])
def test_a_home_that_others_can_write(sane, look, bits):
    sane.path(HOME).chmod(bits)
    wrong = [f"others can write in {HOME} (0{bits:o})"]
    assert drift(look(sane)) == {"ACC-056": (wrong, "state")}
    repair(sane, look(sane))
    assert mode(sane, HOME) == 0o755


@pytest.mark.parametrize(
    ("home", "wrong"),
    [
        ("/home/eve", "the home /home/eve of eve does not exist"),
        ("/etc/passwd", "the home /etc/passwd of eve is not a folder"),
        ("", "the home (none) of eve is not a path"),
        ("etc", "the home etc of eve is not a path"),
        ("/srv", "/srv belongs to ann and is the home of eve"),
        (HOME, f"{HOME} is the home of ann and eve"),
    ],
)
def test_a_home_that_is_none(sane, look, home, wrong):
    sane.path("/srv").mkdir()
    belong(sane, "/srv")
    add(sane, PASSWD, f"eve:x:{ME + 1}:1::{home}:/bin/bash")
    assert drift(look(sane)) == {"ACC-056": ([wrong], "manual")}
    repair(sane, look(sane))
    assert drift(look(sane)) == {"ACC-056": ([wrong], "manual")}


def test_accounts_that_cannot_log_in_need_no_home(sane, look):
    add(sane, PASSWD, "eve:x:20001:1::/home/eve:/bin/bash")
    add(sane, SHADOW, "eve:!:1:::::1:")
    assert drift(look(sane)) == {}


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (SHADOW, f"ann:{HASH}:1::::::", f"ann:{HASH}:1:::::1:"),
        (PASSWD, f"{HOME}:/bin/bash", f"{HOME}:/usr/sbin/nologin"),
    ],
)
def test_the_home_of_an_administrator_is_looked_at_in_any_case(
    sane, look, public_key, path, old, new
):
    """The run that makes the account whole again has to close its home as well."""
    change(sane, path, old, new)
    sane.path(HOME).chmod(0o777)
    assert drift(look(sane)) == {}
    administrators = {"ann": {"keys": [public_key()], "nopasswd": True}}
    assert drift(look(sane, administrators=administrators)).keys() == {"ACC-056"}


def test_sudo_obeys_the_files_of_root_even_when_it_has_expired(sane, look):
    change(sane, SHADOW, "root:*:1::::::", "root:*:1:::::1:")
    assert "root" in {account.name for account in look(sane).reading.consistency.residents}


@pytest.mark.parametrize(
    ("name", "bits", "wrong", "healed"),
    [
        (".profile", 0o666, "can be written by others (0666)", 0o644),
        (".ssh", 0o775, "can be written by others (0775)", 0o755),
        (".ssh/authorized_keys", 0o620, "can be written by others (0620)", 0o600),
        (".ssh/id_rsa", 0o644, "can be read by others (0644)", 0o600),
        (".netrc", 0o640, "can be read by others (0640)", 0o600),
        (".pgpass", 0o666, "can be written by others (0666)", 0o600),
    ],
)
def test_dot_files(sane, look, name, bits, wrong, healed):
    path = f"{HOME}/{name}"
    if name == ".ssh":
        sane.path(path).chmod(bits)
    else:
        put(sane, path, bits)
    assert drift(look(sane)) == {"ACC-057": ([f"{path} {wrong}"], "state")}
    repair(sane, look(sane))
    assert mode(sane, path) == healed
    assert drift(look(sane)) == {}


def test_files_that_let_other_hosts_in_are_put_aside(sane, look):
    put(sane, f"{HOME}/.rhosts")
    sane.path(f"{HOME}/.shosts").symlink_to("/dev/null")
    wrong = [f"{HOME}/.{n} lets in whom another host vouches for" for n in ("rhosts", "shosts")]
    belong(sane, f"{HOME}/.shosts")
    assert drift(look(sane)) == {"ACC-057": (wrong, "state")}
    repair(sane, look(sane))
    assert drift(look(sane)) == {}
    assert sane.path(f"{HOME}/.rhosts.disabled-by-rocksalt").is_file()


def test_what_is_not_a_file_of_the_home_is_passed_over(sane, look):
    os.mkfifo(sane.path(f"{HOME}/.pipe"), 0o666)
    sane.path(f"{HOME}/.link").symlink_to(sane.path("/etc/elsewhere"))
    sane.put("/etc/elsewhere", mode=0o666)
    put(sane, f"{HOME}/notes", 0o666)
    sane.path(f"{HOME}/.rhosts").mkdir()
    belong(sane, f"{HOME}/.pipe", f"{HOME}/.link", f"{HOME}/.rhosts")
    assert drift(look(sane)) == {}


def test_a_link_in_place_of_the_ssh_folder_is_not_followed(sane, look):
    sane.path("/srv").mkdir()
    put(sane, "/srv/id_rsa", 0o666)
    sane.rename(f"{HOME}/.ssh", f"{HOME}/.old")
    sane.path(f"{HOME}/.ssh").symlink_to(sane.path("/srv"))
    assert drift(look(sane)) == {}


def test_a_file_of_two_names_is_left_to_a_person(sane, look):
    put(sane, "/etc/shared", 0o666)
    os.link(sane.path("/etc/shared"), sane.path(f"{HOME}/.shared"))
    it = look(sane)
    assert drift(it)["ACC-057"][1] == "manual"
    repair(sane, it)
    assert mode(sane, "/etc/shared") == 0o666


@pytest.mark.parametrize("trap", ["link", "pipe", "second name", "nothing"])
def test_what_took_the_place_of_a_file_is_left_alone(sane, look, trap):
    path = sane.path(f"{HOME}/.profile")
    path.chmod(0o666)
    it = look(sane)
    put(sane, "/etc/other", 0o666)
    path.unlink()
    if trap == "link":
        path.symlink_to(sane.path("/etc/other"))
    elif trap == "pipe":
        os.mkfifo(path, 0o600)
        belong(sane, f"{HOME}/.profile")
    elif trap == "second name":
        os.link(sane.path("/etc/other"), path)
    if trap == "link":
        with pytest.raises(Refused, match=f"{HOME}/.profile stays as it is"):
            repair(sane, it)
    else:
        repair(sane, it)
    assert mode(sane, "/etc/other") == 0o666


def test_a_home_that_changed_hands_is_left_alone(sane, look):
    sane.path(HOME).chmod(0o777)
    it = look(sane)
    (ann,) = (a for a in it.reading.consistency.residents if a.name == "ann")
    with pytest.raises(Refused, match="another owner"):
        folders.close(sane, dataclasses.replace(ann, uid=ME + 1))
    assert mode(sane, HOME) == 0o777


def test_nobody_keeps_a_repair_from_his_neighbour(sane, look):
    put(sane, "/home/bob/.profile", 0o666)
    belong(sane, "/home/bob")
    add(sane, PASSWD, f"bob:x:{ME}:{ME}::/home/bob:/bin/bash")
    put(sane, f"{HOME}/.profile", 0o666)
    it = look(sane)
    sane.remove(f"{HOME}/.profile")
    sane.path(f"{HOME}/.profile").symlink_to("/dev/null")
    with pytest.raises(Refused):
        repair(sane, it)
    assert mode(sane, "/home/bob/.profile") == 0o644


def test_files_of_others_are_named(shipped, sane, look):
    it = look(sane)
    (ann,) = (a for a in it.reading.consistency.residents if a.name == "ann")
    entry = folders.Entry(".bashrc", stat.S_IFREG | 0o666, 5, 1)
    home = folders.Home(uid=ann.uid, entries=[entry])
    (fault,) = folders.dot_faults(ann, home, it.people)
    assert fault.text == f"{HOME}/.bashrc belongs to games and can be written by others (0666)"
    assert fault.manual


def test_names_that_no_terminal_takes(sane, look):
    name = os.fsdecode(b".\xff\x1b[2J")
    put(sane, f"{HOME}/{name}", 0o666)
    (wrong,), _ = drift(look(sane))["ACC-057"]
    assert wrong == f"{HOME}/.\\udcff\\x1b[2J can be written by others (0666)"


def test_a_home_that_cannot_be_listed_is_an_error(sane, look):
    it = look(sane)
    unread = folders.Home("cannot be read", unread="/home/ann cannot be read: Stale file handle")
    it.reading.consistency.homes[HOME] = unread
    seen = consistency.CHECKS["ACC-057"][1](it)
    assert (seen.problem, seen.reason) == ("error", unread.unread)


def test_a_reason_stays_readable(sane, look):
    for number in range(9):
        put(sane, f"{HOME}/.f{number}", 0o666)
    seen = consistency.CHECKS["ACC-057"][1](look(sane))
    assert len(seen.actual) == 9
    assert seen.reason.endswith("; and 4 more")


def test_a_hash_in_passwd_is_one_of_a_system_account_too(sane, look):
    change(sane, PASSWD, "games:x", f"games:{HASH}")
    assert drift(look(sane)).keys() == {"ACC-052", "ACC-054"}
    repair(sane, look(sane))
    assert drift(look(sane)) == {}
    assert f"games:!{HASH}:" in sane.read(SHADOW)


@pytest.mark.parametrize(
    "line", ["toor:x:0:0", "  toor:x:0:0::/root:/bin/sh", "toor:x:+00:0:gecos", "toor:x:-0:0"]
)
def test_a_second_root_in_a_line_that_is_cut_off(sane, look, line):
    add(sane, PASSWD, line)
    assert drift(look(sane)).keys() == {"ACC-050", "ACC-055"}
    repair(sane, look(sane, remove=["accounts"]))
    assert drift(look(sane)) == {}


def test_a_cut_off_line_of_a_system_account_is_made_whole(sane, look):
    add(sane, PASSWD, "eve::900:900")
    repair(sane, look(sane))
    assert drift(look(sane)) == {}
    assert "\neve:x:900:900:::/usr/sbin/nologin\n" in sane.read(PASSWD)


# Repairs of the account files ---------------------------------------------------------------------


def test_a_second_root_leaves_nothing_and_root_everything(sane, look):
    add(sane, PASSWD, "toor:x:0:0::/root:/bin/sh")
    add(sane, SHADOW, f"toor:{HASH}:1::::::")
    change(sane, GROUP, "root:x:0:", "root:x:0:toor,ann")
    change(sane, GSHADOW, "root:*::", "root:*:toor:ann,toor")
    repair(sane, look(sane, remove=["accounts"]))
    assert drift(look(sane)) == {}
    assert "root:x:0:ann\n" in sane.read(GROUP)
    assert "root:*::ann\n" in sane.read(GSHADOW)
    assert not [p for p in (PASSWD, SHADOW, GROUP, GSHADOW) if "toor" in sane.read(p)]
    assert "root:x:0:0:root:/root:/bin/bash" in sane.read(PASSWD)
    assert mode(sane, SHADOW) == 0o640


def test_a_second_root_with_the_name_of_a_person(sane, look):
    add(sane, PASSWD, "ann:x:0:0::/root:/bin/sh")
    repair(sane, look(sane, remove=["accounts"]))
    assert f"ann:{HASH}:" in sane.read(SHADOW)
    assert drift(look(sane)) == {}


@pytest.mark.parametrize("name", ["-x", "Bad.Name$", "a*b"])
def test_names_that_the_shadow_tools_refuse(sane, name):
    add(sane, PASSWD, f"{name}:x:0:0::/root:/bin/sh")
    editing.remove(sane, {name})
    assert name not in sane.read(PASSWD)


@pytest.mark.parametrize(
    ("in_passwd", "in_shadow", "settled"),
    [
        ("x", "ann:", "ann:!:"),
        ("", f"ann:{HASH}", f"ann:{HASH}:"),
        ("", "ann:", "ann:!:"),
        ("", "other:*", "ann:!:"),
        ("$6$salt$hash", "ann:!", "ann:$6$salt$hash:"),
        ("$6$salt$hash", "other:*", "ann:$6$salt$hash:"),
    ],
)
def test_passwords_are_settled(sane, look, in_passwd, in_shadow, settled):
    change(sane, PASSWD, f"ann:x:{ME}", f"ann:{in_passwd}:{ME}")
    change(sane, SHADOW, f"ann:{HASH}", in_shadow)
    assert drift(look(sane)).keys() == {"ACC-052"}
    repair(sane, look(sane))
    assert drift(look(sane)) == {}
    assert f"\nann:x:{ME}:" in sane.read(PASSWD)
    assert f"\n{settled}" in sane.read(SHADOW)


def test_lines_for_nis_go(sane, look):
    before = {path: sane.read(path) for path in (PASSWD, GROUP, SHADOW, GSHADOW)}
    for path in before:
        add(sane, path, "+eve:::")
        add(sane, path, "-@staff")
    repair(sane, look(sane))
    assert {path: sane.read(path) for path in before} == before


def test_system_accounts_are_shut(sane, look):
    change(sane, PASSWD, "/usr/games:/usr/sbin/nologin", "/usr/games:/bin/sh")
    change(sane, SHADOW, "games:*", f"games:{HASH}")
    repair(sane, look(sane))
    assert drift(look(sane)) == {}
    assert "games:x:5:60:games:/usr/games:/usr/sbin/nologin\n" in sane.read(PASSWD)
    assert f"games:!{HASH}:" in sane.read(SHADOW)


def test_only_what_is_asked_for_is_repaired(sane, look):
    add(sane, PASSWD, "+::::::")
    sane.path(HOME).chmod(0o777)
    consistency.fix(sane, look(sane), ["ACC-056"])
    assert drift(look(sane)).keys() == {"ACC-053"}


def test_one_that_cannot_be_repaired_keeps_none_of_the_others(sane, look, monkeypatch):
    add(sane, PASSWD, "+::::::")
    sane.path(HOME).chmod(0o777)
    monkeypatch.setattr(editing, "_PATIENCE", 0)
    pid = os.fork()
    if pid == 0:  # a lock of this process would not keep itself out
        handle = os.open(sane.path(editing.LOCK), os.O_RDWR | os.O_CREAT)
        fcntl.lockf(handle, fcntl.LOCK_EX)
        os.kill(os.getpid(), 19)
        os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    try:
        with pytest.raises(Refused, match="is held by another program"):
            repair(sane, look(sane))
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert drift(look(sane)).keys() == {"ACC-053"}


def test_a_file_that_is_a_link_stays_one(sane):
    sane.rename(PASSWD, "/etc/real")
    sane.path(PASSWD).symlink_to(sane.path("/etc/real"))
    add(sane, "/etc/real", "+::::::")
    editing.drop_legacy(sane, {PASSWD, "/etc/missing"})
    assert sane.path(PASSWD).is_symlink()
    assert "+" not in sane.read("/etc/real")


def test_nothing_of_ours_is_left(sane):
    assert consistency.leftovers(sane) == []
    consistency.clean(sane)
    assert sane.ran == []

"""rocksalt.accounts.pam, profiles and trial: stacks walked, built, and tried by log-ins."""

from __future__ import annotations

import pytest

from rocksalt.accounts import login_defs, pam, profiles, trial
from rocksalt.errors import Refused
from rocksalt.host import Host, Ran
from rocksalt.transaction import ASIDE, DISABLED

FALLBACK = "{0}\trequisite\t\t\tpam_deny.so\n# prime the stack\n{0}\trequired\t\t\tpam_permit.so"
FRAME = """\
#
# /etc/pam.d/common-{0}
#
# here are the per-package modules (the "Primary" block)
{1}
# here's the fallback if no module succeeds
{2}
# and here are more per-package modules (the "Additional" block)
{3}# end of pam-auth-update config
"""
NONE = "[default=1]\t\t\tpam_permit.so"
STOCK = {
    "auth": ("[success=1 default=ignore]\tpam_unix.so nullok", ""),
    "account": ("[success=1 new_authtok_reqd=done default=ignore]\tpam_unix.so ", ""),
    "password": (
        "requisite\t\t\tpam_pwquality.so retry=3\n"
        "[success=1 default=ignore]\tpam_unix.so obscure use_authtok try_first_pass yescrypt",
        "",
    ),
    "session": (NONE, "required\tpam_unix.so \noptional\tpam_systemd.so \n"),
    "session-noninteractive": (NONE, "required\tpam_unix.so \n"),
}
LOCK = "deny=5 unlock_time=900 fail_interval=900"
HARDENED = {
    "auth": (
        f"requisite\tpam_faillock.so preauth silent {LOCK}\n"
        "[success=2 default=ignore]\tpam_unix.so try_first_pass\n"
        f"[default=die]\tpam_faillock.so authfail {LOCK}",
        "",
    ),
    "account": (f"required\tpam_faillock.so \n{STOCK['account'][0]}", ""),
    "password": (
        "requisite\t\t\tpam_pwquality.so retry=3\n"
        "requisite\tpam_pwhistory.so remember=24 enforce_for_root use_authtok\n"
        "[success=1 default=ignore]\tpam_unix.so obscure use_authtok try_first_pass yescrypt",
        "",
    ),
    "session": (
        NONE,
        "required\tpam_unix.so \noptional\tpam_systemd.so \n"
        "optional\tpam_umask.so umask=027 nousergroups\n",
    ),
    "session-noninteractive": (
        NONE,
        "required\tpam_unix.so \noptional\tpam_umask.so umask=027 nousergroups\n",
    ),
}


def common(kind, lines):
    """A common file as pam-auth-update writes it."""
    word = kind.split("-")[0]
    primary, additional = ("".join(f"{word}\t{li}\n" for li in li.splitlines()) for li in lines)
    return FRAME.format(kind, primary.rstrip("\n"), FALLBACK.format(word), additional)


def saved(lines):
    """What pam-auth-update keeps of it."""
    text = (
        "\n".join(lines).replace("success=1 ", "success=end ").replace("success=2", "success=end")
    )
    return "Module: some\n" + "\n".join(line.rstrip() for line in text.splitlines() if line)


def put_stacks(host, stacks):
    for kind, lines in stacks.items():
        host.put(pam.COMMON[kind], common(kind, lines))
        host.put(f"{profiles.SAVED}/{kind}", saved(lines))
    host.put(f"{profiles.SAVED}/seen", "unix\n")


@pytest.fixture
def stacks(host):
    """The stacks of a hardened host, with one text of one of them replaced."""

    def call(kind="auth", old="", new=""):
        put_stacks(host, HARDENED)
        text = host.read(pam.COMMON[kind])
        assert old in text
        host.put(pam.COMMON[kind], text.replace(old, new))
        return {kind: pam.parse(path, host.read) for kind, path in pam.COMMON.items()}

    return call


# Parsing ------------------------------------------------------------------------------------------


def test_a_file_is_parsed_with_includes_comments_and_continued_lines(host):
    host.put("/etc/pam.d/common-auth", "auth required pam_permit.so # yes\n")
    host.put("/etc/pam.d/other", "auth required pam_deny.so\nsession required pam_deny.so\n")
    text = (
        "# a comment\n@include common-auth\nauth include other\n-auth [success=1 \\\n"
        "  default=ignore] /lib/security/pam_x.so a=b [c d]\n\nauth broken\n"
    )
    host.put("/etc/pam.d/sshd", text)
    rules = pam.parse("/etc/pam.d/sshd", host.read)
    assert [(r.module, r.path, r.number) for r in rules] == [
        ("pam_permit.so", "/etc/pam.d/common-auth", 1),
        ("pam_deny.so", "/etc/pam.d/other", 1),
        ("pam_x.so", "/etc/pam.d/sshd", 4),
    ]
    assert rules[2].arguments == ("a=b", "[c d]")
    assert rules[2].options["a"] == "b"
    assert rules[2].place == "/etc/pam.d/sshd line 4"


def test_a_file_that_includes_itself_ends(host):
    host.put("/etc/pam.d/loop", "@include loop\nauth required pam_deny.so\n")
    assert len(pam.parse("/etc/pam.d/loop", host.read)) == 8 + 1


def walk(text, **results):
    rules = pam.parse("/etc/pam.d/x", lambda _: text)
    granted, asked = pam.walk(rules, lambda r: results[r.module.removesuffix(".so")])
    return granted, "".join(r.module.removesuffix(".so") for r in asked)


A, B, C = "auth required a.so", "auth required b.so", "auth required c.so"
WALKS = {
    "required goes on": ("auth required a.so\nauth required b.so", "ab", False),
    "requisite stops": ("auth requisite a.so\nauth required b.so", "a", False),
    "sufficient stops": ("auth sufficient b.so\nauth required a.so", "b", True),
    "sufficient fails": ("auth sufficient a.so\nauth required b.so", "ab", True),
    "sufficient is too late": (f"{A}\nauth sufficient b.so\n{C}", "abc", False),
    "optional alone": ("auth optional b.so", "b", True),
    "optional fails": ("auth optional a.so", "a", False),
    "ignored": ("auth required c.so\nauth required b.so", "cb", True),
    "nothing but ignored": ("auth required c.so", "c", False),
    "a jump": (f"auth [success=1 default=ignore] b.so\n{A}\n{B}", "bb", True),
    "a jump off the end": (f"{B}\nauth [success=2] b.so\nauth requisite a.so", "bb", False),
    "a jump to the end": (f"{B}\nauth [success=1] b.so\nauth requisite a.so", "bb", True),
    "a jump alone": ("auth [success=1] b.so\nauth requisite a.so", "b", False),
    "reset": ("auth required a.so\nauth [success=reset] b.so\nauth required b.so", "abb", True),
    "done after a failure": (f"{A}\nauth [success=done] b.so\n{C}", "abc", False),
    "die": ("auth required b.so\nauth [default=die] a.so\nauth required b.so", "ba", False),
    "no default": ("auth [success=ok] a.so", "a", False),
}  # fmt: skip


@pytest.mark.parametrize(("text", "asked", "granted"), WALKS.values(), ids=WALKS)
def test_a_stack_is_walked_as_libpam_does(text, asked, granted):
    assert walk(text, a="auth_err", b="success", c="ignore") == (granted, asked)


# Judging ------------------------------------------------------------------------------------------


def test_the_hardened_stacks_are_right(stacks):
    here = stacks()
    assert pam.lockout(here, {}) == {"failures": 5, "seconds": 900, "unexpected": []}
    assert pam.history(here, {}) == {"remembered": 24, "root": True}
    assert pam.hashing(here, "SHA512") == "yescrypt"
    assert [pam.umask(here[kind]) for kind in pam.TYPES[3:]] == ["027", "027"]
    assert pam.required(here["password"], pam.QUALITY) is not None
    assert pam.lets_in(here, "right") is not None
    assert pam.lets_in(here, "wrong") is None
    assert pam.lets_in(here, "empty") is None


def test_debians_stacks_lock_nobody_out_and_accept_empty_passwords(host):
    put_stacks(host, STOCK)
    here = {kind: pam.parse(path, host.read) for kind, path in pam.COMMON.items()}
    assert pam.lockout(here, {})["failures"] is None
    assert len(pam.lockout(here, {})["unexpected"]) == 3
    assert pam.history(here, {}) == {"remembered": 0, "root": False}
    assert pam.umask(here["session"]) == "not set"
    assert pam.lets_in(here, "empty").module == "pam_permit.so"
    assert [rule.number for rule in pam.nullok(here["auth"])] == [5]


AUTH = {
    "after the password": (
        f"requisite\tpam_faillock.so preauth silent {LOCK}\nauth\t[success=2",
        "[success=2",
        "does not ask pam_faillock.so preauth",
    ),
    "a jump too short": ("success=2", "success=1", "refuses a right password"),
    "no jump": ("success=2", "success=ok", "refuses a right password"),
    "not counted": (
        f"auth\t[default=die]\tpam_faillock.so authfail {LOCK}\n",
        "",
        "does not count",
    ),
    "root": ("silent", "silent even_deny_root", "root is locked out, too"),
    "lines that differ": ("silent deny=5", "silent deny=50", "differ in deny"),
}


@pytest.mark.parametrize(("old", "new", "sentence"), AUTH.values(), ids=AUTH)
def test_what_is_wrong_with_the_lockout(stacks, old, new, sentence):
    assert sentence in "; ".join(pam.lockout(stacks("auth", old, new), {})["unexpected"])


def test_options_of_the_lockout_come_from_its_file_where_lines_have_none(stacks):
    here = stacks("auth", "deny=5", "")
    assert pam.lockout(here, {})["failures"] == 3
    assert pam.lockout(here, pam.settings("deny = 7\n#deny = 8\n"))["failures"] == 7
    found = pam.lockout(here, pam.settings("even_deny_root"))
    assert found["unexpected"] == ["root is locked out, too"]


def test_the_count_has_to_be_reset(stacks):
    here = stacks("account", "account\trequired\tpam_faillock.so \n", "")
    assert "does not reset" in pam.lockout(here, {})["unexpected"][0]


@pytest.mark.parametrize(
    "new", ["optional\tpam_pwhistory.so", "sufficient\tpam_pwhistory.so"], ids=["opt", "suff"]
)
def test_a_history_that_stops_nobody_is_none(stacks, new):
    here = stacks("password", "requisite\tpam_pwhistory.so", new)
    assert pam.history(here, {})["remembered"] == 0


def test_options_of_the_history_come_from_its_file_where_the_line_has_none(stacks):
    here = stacks("password", "remember=24 enforce_for_root", "")
    assert pam.history(here, {}) == {"remembered": 10, "root": False}
    configured = pam.settings("remember=3\nenforce_for_root\n")
    assert pam.history(here, configured) == {"remembered": 3, "root": True}


@pytest.mark.parametrize(
    ("new", "found"), [("sha512", "sha512"), ("yescrypt md5", "md5"), ("", "sha256")]
)
def test_the_hash_of_new_passwords(stacks, new, found):
    assert pam.hashing(stacks("password", "yescrypt", new), "SHA256") == found


UMASKS = {
    "four digits": ("umask=027", "umask=0077", "077"),
    "relaxed": (" nousergroups", "", "027, relaxed"),
    "none": ("umask=027", "debug", "not set"),
    "a later one": ("# end", "session optional pam_umask.so umask=022 nousergroups\n# end", "022"),
}


@pytest.mark.parametrize(("old", "new", "found"), UMASKS.values(), ids=UMASKS)
def test_the_umask_is_that_of_the_last_module(stacks, old, new, found):
    assert pam.umask(stacks("session", old, new)["session"]) == found


def test_a_line_above_all_others_lets_everybody_in(stacks):
    here = stacks(
        "auth",
        "auth\trequisite\tpam_faillock",
        "auth sufficient pam_permit.so\nauth\trequisite\tpam_faillock",
    )
    assert pam.lets_in(here, "wrong").module == "pam_permit.so"


# Local edits --------------------------------------------------------------------------------------

PATH = pam.COMMON["auth"]


def normalised(text, lines=HARDENED["auth"], path=PATH):
    return profiles.normalised(path, text, saved(lines))


def test_a_file_without_local_edits_stays():
    for kind, lines in HARDENED.items():
        text = common(kind, lines)
        tidy = [line.rstrip() for line in text.splitlines()]
        new = profiles.normalised(pam.COMMON[kind], text, saved(lines))
        assert [line.rstrip() for line in new.splitlines()] == tidy


def test_debian_13s_umask_stays_and_is_no_edit():
    stock = "session optional\t\t\tpam_umask.so"
    text = common("session", HARDENED["session"])
    text = text.replace("pam_permit.so\n# and", f"pam_permit.so\n{stock}\n# and")
    new = profiles.normalised(pam.COMMON["session"], text + stock, saved(HARDENED["session"]))
    assert new.count(stock) == 1 and profiles._whole(text)


EDITS = {
    "options": ("deny=5", "deny=50"),
    "an option more": ("try_first_pass", "try_first_pass nullok"),
    "a line of ours twice": ("# here's", "auth sufficient pam_unix.so nullok\n# here's"),
    "above everything": ("# here are the", "auth sufficient pam_permit.so\n# here are the"),
}


@pytest.mark.parametrize(("old", "new"), EDITS.values(), ids=EDITS)
def test_edits_of_what_the_baseline_judges_go(old, new):
    text = common("auth", HARDENED["auth"])
    assert old in text
    assert normalised(text.replace(old, new)) == normalised(text)


def test_lines_of_others_move_out_of_the_way():
    text = common("auth", HARDENED["auth"])
    edited = text.replace(
        "auth\t[default=die]", "# mine\nauth required pam_access.so\nauth\t[default=die]"
    )
    edited = edited.replace("# end of", "auth optional pam_cap.so\n# end of")
    new = normalised(edited)
    mark = '# here are the per-package modules (the "Primary" block)'
    assert f"# mine\nauth required pam_access.so\n{mark}\n" in new
    assert new.endswith("# end of pam-auth-update config\nauth optional pam_cap.so\n")


def test_lines_come_back_in_their_order():
    text = common("auth", HARDENED["auth"])
    lines = text.split("\n")
    swapped = [*lines[:4], lines[6], lines[5], lines[4], *lines[7:]]
    assert normalised("\n".join(swapped)) == normalised(text)


def test_a_jump_of_others_is_refused():
    line = "auth [success=3 default=ignore] pam_ldap.so\nauth\trequisite\tpam_faillock"
    text = common("auth", HARDENED["auth"]).replace("auth\trequisite\tpam_faillock", line)
    with pytest.raises(Refused, match=r"pam_ldap.so with a jump.*describe it as a profile"):
        normalised(text)


def test_a_jump_of_others_above_our_lines_is_refused():
    line = "auth [success=2 default=ignore] pam_ssh_agent_auth.so\n# here are the"
    text = common("auth", HARDENED["auth"]).replace("# here are the", line, 1)
    with pytest.raises(Refused, match=r"pam_ssh_agent_auth.so with a jump.*describe it as a prof"):
        normalised(text)


# Profiles -----------------------------------------------------------------------------------------


def test_profiles_are_what_pam_auth_update_reads():
    text = profiles.unix()
    assert "nullok" not in text and text.count("yescrypt") == 2 and "\nConflicts: unix\n" in text
    assert profiles.unix(nullok=True).count("nullok") == 2
    assert "yescrypt" not in profiles.unix(yescrypt=False)
    both = profiles.lockout(3, 60)
    assert all("deny=3 unlock_time=60 fail_interval=900" in text for text in both.values())
    first = profiles.history(5).index("Password-Initial")
    assert "use_authtok" not in profiles.history(5)[first:]
    texts = [text, *both.values(), profiles.history(5), profiles.umask("077")]
    assert all("\nDefault: no\n" in text and "even_deny_root" not in text for text in texts)
    for line in "".join(texts).splitlines():
        assert line.startswith("\t") or ": " in line or line.endswith(":")


def test_the_command_names_what_comes_and_what_goes():
    plan = profiles.Plan({"rocksalt-umask": "x"}, enable=["pwquality"], disable=["unix"])
    command = " ".join(plan.command)
    assert "--enable rocksalt-umask pwquality --disable unix --remove rocksalt-first" in command
    assert "rocksalt-umask" not in plan.gone and "--force" not in command


@pytest.fixture
def building(host, monkeypatch):
    """A host with Debian's stacks on which pam-auth-update makes the hardened ones."""
    put_stacks(host, STOCK)
    for kind in STOCK:
        host.put(f"/usr/share/pam/common-{kind}", common(kind, ("$primary", "")))
    plain = host.run

    def run(*command, **other):
        if "pam-auth-update" in command:
            put_stacks(host, HARDENED)
        return plain(*command, **other)

    monkeypatch.setattr(host, "run", run)
    host.answer("env DEBIAN_FRONTEND=noninteractive pam-auth-update")
    return host


def test_the_common_files_are_built(building):
    plan = profiles.Plan({"rocksalt-umask": "text"})
    texts = profiles.build(building, plan)
    assert texts[PATH] == common("auth", HARDENED["auth"])
    assert set(texts) == {
        *pam.COMMON.values(),
        *(f"/var/lib/pam/{k}" for k in (*pam.TYPES, "seen")),
    }
    assert building.read("/usr/share/pam-configs/rocksalt-umask") == "text"
    assert building.ran == [tuple(plan.command)]


def test_a_file_of_somebody_elses_making_is_kept_aside(building):
    building.put(PATH, "auth required pam_unix.so nullok\n")
    texts = profiles.build(building, profiles.Plan())
    assert texts[PATH + ASIDE] == "auth required pam_unix.so nullok\n"
    assert building.ran[0][-3:] == ("--force", "--enable", "some")


def test_what_became_of_our_own_files_is_not_kept_aside(building):
    building.put(PATH, "auth sufficient pam_permit.so\n")
    building.put(f"{profiles.SAVED}/auth", "Module: rocksalt-unix\n")
    assert PATH + ASIDE not in profiles.build(building, profiles.Plan())


JUMPS = {
    "over a file that grows": "auth [success=3 default=ignore] pam_x.so\n@include common-auth\n",
    "into it": "auth [success=1 default=ignore] pam_x.so\n@include common-auth\n",
    "two ways": "auth [success=1 die=2] pam_x.so\nauth required y.so\n@include common-auth\n",
}


@pytest.mark.parametrize("text", JUMPS.values(), ids=JUMPS)
def test_a_jump_of_a_service_into_lines_that_change_is_refused(building, text):
    building.put("/etc/pam.d/sudo", text)
    with pytest.raises(Refused, match=r"sudo line 1, pam_x.so, jumps over lines of .*common-auth"):
        profiles.build(building, profiles.Plan())


KEPT = {
    "right before it": "auth [success=1] pam_x.so\nauth required y.so\n@include common-auth\n",
    "after it": "@include common-auth\nauth [success=1] pam_x.so\nauth required y.so\n",
    "no number": "auth [success=done default=ignore] pam_x.so\n@include common-auth\n",
    "another type": "account [success=1] pam_x.so\n@include common-auth\naccount required y.so\n",
}


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_other_jumps_of_services_stay(building, text):
    building.put("/etc/pam.d/sudo", text)
    assert profiles.build(building, profiles.Plan())


def test_a_jump_over_lines_that_stay_stays(building):
    put_stacks(building, HARDENED)
    building.put("/etc/pam.d/sudo", JUMPS["into it"])
    assert profiles.build(building, profiles.Plan())


def test_a_module_that_would_be_lost_is_refused(building):
    building.put(PATH, "auth sufficient pam_ldap.so\n")
    with pytest.raises(Refused, match=r"line 1, pam_ldap.so, was written by hand"):
        profiles.build(building, profiles.Plan())


def test_pam_auth_update_may_fail(building):
    building.answer("env DEBIAN_FRONTEND=noninteractive pam-auth-update", status=1, err="locked")
    with pytest.raises(Refused, match="pam-auth-update failed: locked"):
        profiles.build(building, profiles.Plan())


# Log-ins ------------------------------------------------------------------------------------------


@pytest.fixture
def inside(host, monkeypatch):
    """The copy of a host; ``verdicts`` says which log-ins by password work."""
    host.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    host.put("/etc/group", "root:x:0:\n")
    host.put("/etc/shadow", "root:*:1::::::\n", 0o640)
    host.put("/etc/pam.d/su", "auth sufficient pam_rootok.so\n")
    host.answer("chpasswd")
    host.answer("stat --format=%g /bin/su", "27\n")
    host.verdicts = {"right": 0, "wrong": 1, "empty": 1}
    plain, known = host.run, []

    def run(*command, text="", **other):
        if command[0] == "chpasswd":
            known.append(text.rstrip("\n").split(":", 1)[1])
        if command[0] == "setpriv":
            typed = text.rstrip("\n")
            kind = "empty" if not typed else "right" if typed in known else "wrong"
            return Ran(host.verdicts[kind], "", "su said so")
        return plain(*command, text=text, **other)

    monkeypatch.setattr(host, "run", run)
    return host


def test_log_ins_are_tried(inside):
    trial.passwords(inside)
    assert "rocksalt-trial:!:" in inside.read("/etc/shadow")
    assert "rocksalt-empty::" in inside.read("/etc/shadow")
    assert inside.attributes("/etc/shadow").mode == "0640"


@pytest.mark.parametrize(
    ("which", "status", "sentence"),
    [
        ("right", 1, "the right password was refused"),
        ("wrong", 0, "a wrong one was accepted"),
        ("empty", 0, "no password was accepted"),
    ],
)
def test_a_log_in_that_goes_wrong_is_refused(inside, which, status, sentence):
    inside.verdicts[which] = status
    with pytest.raises(Refused, match=f"{sentence} at log-in: su said so"):
        trial.passwords(inside)


def test_empty_passwords_are_not_tried_where_they_may_be_accepted(inside):
    inside.verdicts["empty"] = 0
    trial.passwords(inside, empty=False)
    assert inside.read("/etc/pam.d/su").startswith("@include common-auth\n")


def test_a_password_that_cannot_be_set_is_refused(inside):
    inside.answer("chpasswd", status=1, err="too weak")
    with pytest.raises(Refused, match="no password can be set: too weak"):
        trial.passwords(inside)


def test_sessions_of_services_are_tried_by_su(inside):
    inside.put(
        "/etc/pam.d/sshd", "@include common-auth\nauth x y\naccount required pam_nologin.so\n"
    )
    inside.put("/etc/pam.d/cron", "@include common-account\n")
    inside.answer("su --shell=/bin/true ann", status=1)
    inside.answer("su --shell=/bin/true root")
    assert trial.sessions(inside, ["ann"]) == {"sshd for ann": 1, "cron for root": 0}
    assert (
        inside.read("/etc/pam.d/su") == "auth sufficient pam_rootok.so\n@include common-account\n"
    )


def test_the_copy_of_the_host_ends_with_the_process_that_holds_it(monkeypatch):
    ready = "echo ready; exec cat"
    monkeypatch.setattr(trial, "_STAGE", ready)
    monkeypatch.setattr(trial, "_HOLD", ("sh", "-euc"))
    with trial.stage() as inside:
        pid = inside.root.split("/")[2]
        assert Host(f"/proc/{pid}").read("/comm") in ("sh\n", "cat\n")
    assert not Host(f"/proc/{pid}").path("/").exists()


def staged(monkeypatch, tmp_path, mounts, mount):
    """The script that makes a copy, for a table of mounts and a ``mount`` that is a function."""
    table = tmp_path / "mounts"
    table.write_text(mounts)
    script = trial._STAGE.replace("/proc/mounts", str(table)).replace("mkdir -m 1777 /run/lock", "")
    script = script.replace("/tmp/rehearsal", str(tmp_path / "rehearsal"))
    monkeypatch.setattr(trial, "_COPIED", (str(tmp_path / "etc"),))
    (tmp_path / "etc").mkdir()
    monkeypatch.setattr(trial, "_STAGE", f"mount() {{{{ {mount}; }}}}\n{script}")
    monkeypatch.setattr(trial, "_HOLD", ("sh", "-euc"))


def test_every_mount_is_made_read_only(monkeypatch, tmp_path):
    log, space = tmp_path / "log", tmp_path / "a b"
    mounts = f"x / ext4 rw\nproc /proc proc rw\nx {tmp_path}/a\\040b ext4 rw\nx /gone ext4 rw\n"
    space.mkdir()
    fails = f'echo "$*" >>{log}; case $* in *ro?/gone | *ro?/run/*) return 1 ;; esac'
    staged(monkeypatch, tmp_path, f"{mounts}x /run/x fuse rw\n", fails)
    with trial.stage():
        pass
    assert [line for line in log.read_text().splitlines() if line.startswith("-o remount")] == [
        f"-o remount,bind,ro {path}" for path in ("/", space, "/gone", "/run/x")
    ]


def test_a_mount_that_stays_writable_is_refused(monkeypatch, tmp_path):
    (tmp_path / "a b").mkdir()
    mounts = f"x {tmp_path}/a\\040b ext4 rw\n"
    staged(monkeypatch, tmp_path, mounts, "case $* in *remount*) return 1 ;; esac")
    refused = pytest.raises(Refused, match=r"tried here: .*/a b cannot be made read-only$")
    with refused, trial.stage():
        pass


def test_a_host_without_the_right_to_copy_is_refused(monkeypatch):
    monkeypatch.setattr(trial, "_STAGE", "echo mount: permission denied >&2; exit 1")
    monkeypatch.setattr(trial, "_HOLD", ("sh", "-euc"))
    denied = pytest.raises(Refused, match="cannot be tried here: mount: permission denied")
    with denied, trial.stage():
        pass


# login.defs ---------------------------------------------------------------------------------------

DEFS = "# about\nUMASK\t022\nPASS_MAX_DAYS\t99999\nUID_MIN 1000\n#HOME_MODE 0700\n"


def test_login_defs_are_edited_and_restored():
    new = login_defs.edited(DEFS, {"UMASK": "027", "HOME_MODE": "0750"})
    assert f"{DISABLED}UMASK\t022\n" in new
    assert login_defs.parse(new) == {
        **{"PASS_MAX_DAYS": "99999", "UID_MIN": "1000"},
        **{"UMASK": "027", "HOME_MODE": "0750"},
    }
    assert login_defs.is_edited(new) and not login_defs.is_edited(DEFS)
    assert login_defs.edited(new, {"UMASK": "027", "HOME_MODE": "0750"}) == new
    assert login_defs.restored(new) == DEFS
    assert login_defs.parse("UMASK 022\nUMASK 027\n") == {"UMASK": "022 and 027"}


def test_what_stands_below_our_block_stays_without_its_end():
    wanted = {"UMASK": "027", "HOME_MODE": "0750"}
    new = login_defs.edited(DEFS, wanted).replace("# end of rocksalt's settings\n", "")
    new += "# below\nUMASK 077\nFAIL_DELAY 3\n"
    assert login_defs.restored(new) == f"{DEFS}# below\nUMASK 077\nFAIL_DELAY 3\n"
    again = login_defs.edited(new, wanted)
    assert f"# below\n{DISABLED}UMASK 077\nFAIL_DELAY 3\n# begin" in again
    assert login_defs.edited(again, wanted) == again

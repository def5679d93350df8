"""rocksalt.accounts.passwords: what is promised of passwords and sessions, seen and enforced."""

from __future__ import annotations

import contextlib

import pytest
from test_accounts_pam import HARDENED, STOCK, common, put_stacks, saved

from rocksalt import settings
from rocksalt.accounts import (
    ageing,
    checks,
    database,
    login_defs,
    pam,
    passwords,
    profiles,
    shells,
    trial,
)
from rocksalt.accounts import password_checks as promises
from rocksalt.accounts.reading import Reading
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.transaction import ASIDE, DISABLED

DEFS = "UID_MIN 1000\nUID_MAX 60000\nUMASK 022\nPASS_MAX_DAYS 99999\nENCRYPT_METHOD SHA512\n"
PASSWD = (
    "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n"
)
SHADOW = "root:*:19000:0:99999:7:::\nann:$y$j9T$a$b:{today}:0:365:7:::\nbob:!:19000:0:99999:7:::\n"
AUTH, PASSWORD = pam.COMMON["auth"], pam.COMMON["password"]
HASH = "$y$j9T$QFX2dSX1sLcxJ4pmmQ5bI.$iCWJNfe.FbQpXdDtVV9OV8oM/3MYeGhsEYkoHT4UUR8"
UPDATE = "env DEBIAN_FRONTEND=noninteractive pam-auth-update"


@pytest.fixture(autouse=True)
def no_copy_of_this_machine(monkeypatch):
    """Log-ins are tried on lab hosts only."""
    monkeypatch.setattr(trial, "_HOLD", ("false",))


@pytest.fixture
def ann(public_key):
    """Administrators as a pillar declares them."""
    return {"ann": {"keys": [public_key()]}}


@pytest.fixture
def look(host, shipped):
    """The comparison of the fake host, this part only."""

    def call(waivers=None, **pillar):
        whole = {"accounts": pillar, "waivers": waivers or {}}
        baseline = settings.resolve(shipped, whole, {}, "web1")
        people = database.read(host)
        reading = Reading(people=people, passwords=passwords.read(host, people))
        return checks.Accounts(baseline, reading)

    return call


@pytest.fixture
def hardened(host, look):
    """A host on which every control of this part is ok."""
    put_stacks(host, HARDENED)
    host.put("/usr/share/pam-configs/pwquality", "Name: x\n")
    host.put("/var/cache/cracklib/cracklib_dict.pwd")
    host.put("/etc/passwd", PASSWD)
    host.put("/etc/group", "root:x:0:\nsudo:x:27:ann\n")
    host.put("/etc/shadow", SHADOW.format(today=database.today()))
    host.put("/etc/profile", "PS1='$ '\n# TMOUT=1 umask 022\n")
    it = look()
    for name, text in promises.plan(it).texts.items():
        host.put(f"{profiles.FOLDER}/{name}", text)
    host.put(login_defs.PATH, login_defs.edited(DEFS, promises.definitions(it)))
    host.put(promises.QUALITY, promises.quality_file(it))
    host.put(shells.TIMEOUT, shells.script(900))
    return host


def drifting(it):
    """Control id -> reason, of those that are not as expected."""
    found = {i: (expect(it), judge(it)) for i, (expect, judge) in passwords.CHECKS.items()}
    return {i: seen.reason for i, (want, seen) in found.items() if want != seen.actual}


def test_a_hardened_host_is_as_expected(hardened, look):
    assert drifting(look()) == {}
    assert sorted(passwords.CHECKS) == [f"ACC-07{n}" for n in range(9)]


def test_an_empty_folder_drifts_without_an_error(host, look):
    found = drifting(look())
    assert set(found) == set(passwords.CHECKS) - {"ACC-076"}
    assert found["ACC-070"] == "libpam-pwquality is not installed"


def test_debians_own_settings_drift(hardened, look):
    put_stacks(hardened, STOCK)
    hardened.put(login_defs.PATH, DEFS)
    assert set(drifting(look())) == {f"ACC-07{n}" for n in (1, 2, 3, 4, 5, 7)}


def replaced(path, old, new):
    return lambda host: host.put(path, (host.read(path) or "").replace(old, new))


def put(path, text):
    return lambda host: host.put(path, text)


LATER = "/etc/security/pwquality.conf.d/99-x.conf"
DRIFTS = {
    "length": (put(LATER, "minlen = 6"), "ACC-070", "length is 6, not 14"),
    "credit": (put(LATER, "dcredit=5"), "ACC-070", "dcredit is 5, not 0"),
    "argument": (replaced(PASSWORD, "retry=3", "minlen=8"), "ACC-070", "length is 8, not 14"),
    "number": (put(LATER, "minlen = x"), "ACC-070", "length is x, not 14"),
    "root": (replaced(promises.QUALITY, "enforce_for_root", ""), "ACC-070", "root may set any"),
    "no line": (replaced(PASSWORD, "pam_pwquality.so", "pam_x.so"), "ACC-070", "does not ask"),
    "history": (replaced(PASSWORD, "remember=24", "remember=1"), "ACC-071", "remembered is 1, not"),
    "profile": (
        put(f"{profiles.FOLDER}/rocksalt-history", "x"),
        *("ACC-071", "/usr/share/pam-configs/rocksalt-history is not as rendered"),
    ),
    "failures": (replaced(AUTH, "deny=5", "deny=50"), "ACC-072", "failures is 50, not 5"),
    "seconds": (replaced(AUTH, "unlock_time=900", ""), "ACC-072", "seconds is 600, not 900"),
    "faillock.conf": (put(promises.FAILLOCK, "even_deny_root"), "ACC-072", "root is locked out"),
    "nullok": (
        replaced(AUTH, "try_first_pass", "nullok"),
        *("ACC-073", f"{AUTH} line 6 has pam_unix.so with nullok"),
    ),
    "a service": (
        put("/etc/pam.d/vending", "auth required pam_unix.so nullok_secure"),
        *("ACC-073", "/etc/pam.d/vending line 1 has pam_unix.so with nullok"),
    ),
    "everybody": (
        replaced(AUTH, "auth\trequisite\tpam_faillock.so", "auth sufficient pam_permit.so"),
        *("ACC-073", "pam_permit.so, accepts a password that is wrong"),
    ),
    "hash": (replaced(PASSWORD, "yescrypt", "md5"), "ACC-074", ""),
    "method": (replaced(login_defs.PATH, "YESCRYPT", "SHA512"), "ACC-074", ""),
    "twice": (replaced(login_defs.PATH, "UMASK 027", "UMASK 027\nUMASK 022"), "ACC-075", ""),
    "umask": (replaced(pam.COMMON["session"], "umask=027", "umask=022"), "ACC-077", "is 022, not"),
    "profile umask": (
        put("/etc/profile.d/x.sh", "true; umask 0022"),
        *("ACC-077", "/etc/profile.d/x.sh line 1 sets umask to 022"),
    ),
    "timeout edited": (put(shells.TIMEOUT, "x"), "ACC-078", "is not as rendered"),
    "timeout": (
        put("/etc/bash.bashrc", "export TMOUT=0"),
        *("ACC-078", "/etc/bash.bashrc line 1 sets TMOUT to 0"),
    ),
    "unset": (put("/etc/profile.d/x.sh", "unset TMOUT"), "ACC-078", "sets TMOUT to nothing"),
}


@pytest.mark.parametrize(("breaks", "identifier", "reason"), DRIFTS.values(), ids=DRIFTS)
def test_what_is_broken_is_seen(hardened, look, breaks, identifier, reason):
    breaks(hardened)
    assert reason in drifting(look())[identifier]


def test_what_is_no_file_of_a_service_is_not_read(hardened, look):
    for name in ("x.pam-old", "x.dpkg-dist", "x~", "common-auth.disabled-by-rocksalt"):
        hardened.put(f"/etc/pam.d/{name}", "auth required pam_unix.so nullok")
    assert drifting(look()) == {}


def test_the_dictionary_belongs_to_the_quality(hardened, look):
    hardened.remove("/var/cache/cracklib/cracklib_dict.pwd")
    assert "the list of common passwords, is missing" in drifting(look())["ACC-070"]


# What is wanted -----------------------------------------------------------------------------------


def test_settings_reach_the_profiles(host, look):
    host.put("/usr/share/pam-configs/pwquality")
    it = look(lockout_failures=3, lockout_seconds=60, password_history=5, umask="0077")
    plan = promises.plan(it)
    assert tuple(plan.texts) == profiles.OURS
    assert (plan.enable, plan.disable) == (["pwquality"], ["unix"])
    assert "deny=3 unlock_time=60" in plan.texts["rocksalt-last"]
    assert "remember=5" in plan.texts["rocksalt-history"]
    assert "umask=077" in plan.texts["rocksalt-umask"]
    assert promises.definitions(it)["UMASK"] == "077"
    assert "rocksalt-history" not in promises.plan(look(password_history=0)).texts


def test_waived_controls_leave_their_profile_out(look, waiver):
    waived = {f"ACC-07{n}": waiver() for n in (0, 1, 2, 3, 7)}
    plan = promises.plan(look(waived))
    assert list(plan.texts) == ["rocksalt-unix"] and plan.enable == []
    assert "nullok" in plan.texts["rocksalt-unix"]
    plan = promises.plan(look(waived | {"ACC-074": waiver()}))
    assert not plan.texts and plan.disable == []
    assert promises.definitions(look({"ACC-075": waiver()})) == {"ENCRYPT_METHOD": "YESCRYPT"}


def test_never_is_a_number_for_login_defs_and_no_file_for_shells(look):
    it = look(password_max_days=0, shell_timeout=0)
    assert promises.definitions(it)["PASS_MAX_DAYS"] == "99999"
    assert shells.script(it.settings["shell_timeout"]) == ""


# Ageing -------------------------------------------------------------------------------------------

AGES = {
    "as declared": (f"{HASH}:{{today}}:0:365:7::", None, ""),
    "too long": (f"{HASH}:{{today}}:0:99999:7::", "365", "ann lasts for ever, not 365 days"),
    "unset": (f"{HASH}:{{today}}:::::", "365", "ann lasts for ever, not 365 days"),
    "long ago": (f"{HASH}:10000:0:99999:7::", None, "have it changed first"),
    "the last day": (f"{HASH}:{{year_ago}}:0:99999:7::", "365", "not 365 days"),
    "no date": (f"{HASH}::0:99999:7::", None, "have it changed first"),
    "a key": ("!:19000:0:99999:7::", None, ""),
    "a key that ages": ("!:19000:0:90:7::", "-1", "ann has no password and ages: it lasts 90 days"),
    "inactive": ("!:19000:0::7:10:", "-1", "it ends 10 days later"),
}


@pytest.mark.parametrize(("line", "given", "reason"), AGES.values(), ids=AGES)
def test_passwords_age(hardened, look, line, given, reason):
    today = database.today()
    hardened.put("/etc/shadow", f"ann:{line.format(today=today, year_ago=today - 365)}:\n")
    it = look()
    hardened.answer("chage")
    passwords.fix(hardened, it, ["ACC-076"])
    expected = [("chage", "-M", "-1", "-I", "-1", "ann")] if given == "-1" else []
    assert hardened.ran == (expected or ([("chage", "-M", given, "ann")] if given else []))
    assert reason in drifting(it).get("ACC-076", "")
    seen = passwords.CHECKS["ACC-076"][1](it)
    assert seen.remedy == ("manual" if "changed first" in reason else "")


def test_root_never_ages(hardened, look):
    hardened.put("/etc/shadow", f"root:{HASH}:19000:0:30:7:::\n")
    assert "root is an account of the system and ages" in drifting(look())["ACC-076"]


def test_a_password_of_the_pillar_never_ages(hardened, look, ann):
    hardened.put("/etc/shadow", f"ann:{HASH}:10000:0:365:7:::\n")
    it = look(administrators=ann, password_hashes={"ann": HASH})
    assert drifting(it)["ACC-076"] == (
        "the password of ann is declared in the pillar and ages: it lasts 365 days"
    )
    hardened.answer("chage")
    passwords.fix(hardened, it, ["ACC-076"])
    assert hardened.ran == [("chage", "-M", "-1", "-I", "-1", "ann")]


def test_whose_password_the_pillar_has_is_not_guessed(hardened, look, ann):
    hardened.put("/etc/shadow", f"ann:{HASH}:1:0:99999:7:::\nbob:{HASH}:1:0:99999:7:::\n")
    it = look(administrators=ann)
    it.settings = {**it.settings, "password_hashes": settings.SECRET}
    assert it.hashes is None
    assert "ann" not in drifting(it)["ACC-076"] and "bob" in drifting(it)["ACC-076"]


def test_accounts_that_expired_or_need_not_age_are_left_alone(hardened, look):
    hardened.put("/etc/shadow", f"ann:{HASH}:1:0:99999:7::1:\nbob:{HASH}:1:0:99999:7:::\n")
    it = look(users={"bob": {"ages": False}})
    passwords.fix(hardened, it, ["ACC-076"])
    assert drifting(it) == {} and hardened.ran == []
    assert "bob" in drifting(look(users={"bob": {"ages": True}}))["ACC-076"]


def test_declared_never_leaves_passwords_that_last(hardened, look):
    hardened.put("/etc/shadow", f"ann:{HASH}:100:0:99999:7:::\nbob:{HASH}:1::::::\n")
    assert drifting(look(password_max_days=0)).keys() == {"ACC-075"}


def test_one_account_that_cannot_be_changed_stops_no_other(hardened, look):
    hardened.put("/etc/shadow", "ann:!:1:0:9:7:::\nbob:!:1:0:9:7:::\nghost:!:1:0:9:7:::\n")
    hardened.answer("chage", status=1, err="locked")
    with pytest.raises(Refused, match=r"change ann: locked; .*change bob: locked"):
        passwords.fix(hardened, look(), ["ACC-076"])
    assert ageing.longest(0) == ageing.NEVER


# Enforcing ----------------------------------------------------------------------------------------


@pytest.fixture
def rehearsal(hardened, monkeypatch):
    """Debian's stacks; pam-auth-update makes the hardened ones, in a copy that is the host itself,
    and sessions succeed.
    """
    put_stacks(hardened, STOCK)
    for kind in STOCK:
        hardened.put(f"/usr/share/pam/common-{kind}", common(kind, ("$primary", "")))
    made = {path: hardened.read(path) for path in pam.COMMON.values()}
    made |= {f"{profiles.SAVED}/{kind}": saved(HARDENED[kind]) for kind in HARDENED}
    made |= {pam.COMMON[kind]: common(kind, HARDENED[kind]) for kind in HARDENED}
    made[f"{profiles.SAVED}/seen"] = "unix\n"
    monkeypatch.setattr(hardened, "tried", [], raising=False)

    @contextlib.contextmanager
    def stage():
        before = {path: hardened.read(path) for path in made}
        put_stacks(hardened, HARDENED)
        try:
            yield hardened
        finally:
            for path, text in before.items():
                hardened.put(path, text or "")

    monkeypatch.setattr(trial, "stage", stage)
    monkeypatch.setattr(profiles, "build", lambda inside, plan: dict(made))
    monkeypatch.setattr(trial, "passwords", lambda inside, empty: hardened.tried.append(empty))
    monkeypatch.setattr(trial, "sessions", lambda inside, names: dict.fromkeys(names, 0))
    hardened.answer(UPDATE)
    return hardened


def test_the_stacks_are_tried_and_put_into_force(rehearsal, look):
    it = look()
    passwords.fix(rehearsal, it, sorted(drifting(it)))
    assert drifting(look()) == {}
    assert rehearsal.tried == [True]
    assert rehearsal.ran == [tuple(promises.plan(it).command)]


def test_right_stacks_are_not_built_again(rehearsal, look):
    put_stacks(rehearsal, HARDENED)
    for kind in HARDENED:
        modules = "".join(f"Module: {name}\n" for name in profiles.OURS)
        rehearsal.put(f"{profiles.SAVED}/{kind}", modules)
    rehearsal.put(promises.FAILLOCK, "even_deny_root\n")
    passwords.fix(rehearsal, look(), ["ACC-072"])
    assert rehearsal.read(promises.FAILLOCK) == f"{DISABLED}even_deny_root\n"
    assert drifting(look()) == {} and rehearsal.tried == []


@pytest.mark.parametrize("installed", [True, False])
def test_a_missing_line_is_built_again_where_its_package_is_there(rehearsal, look, installed):
    put_stacks(rehearsal, HARDENED)
    for kind in HARDENED:
        modules = "".join(f"Module: {name}\n" for name in profiles.OURS)
        rehearsal.put(f"{profiles.SAVED}/{kind}", modules)
    replaced(PASSWORD, "pam_pwquality.so", "pam_x.so")(rehearsal)
    if not installed:
        rehearsal.remove(f"{profiles.FOLDER}/pwquality")
    passwords.fix(rehearsal, look(), ["ACC-070"])
    assert rehearsal.tried == ([True] if installed else [])
    assert ("ACC-070" in drifting(look())) is not installed


def before(host):
    paths = [*pam.COMMON.values(), *host.glob("/var/lib/pam/*"), *host.glob("/etc/security/*")]
    return {path: host.read(path) for path in [*paths, *host.glob(f"{profiles.FOLDER}/*")]}


def test_a_log_in_that_fails_changes_nothing(rehearsal, look, monkeypatch):
    def fails(inside, empty):
        raise Refused("the right password was refused at log-in")

    rehearsal.put(promises.QUALITY_MAIN, "minlen = 6\n")
    old = before(rehearsal)
    monkeypatch.setattr(trial, "passwords", fails)
    with pytest.raises(Refused, match="refused at log-in; PAM is as it was"):
        passwords.fix(rehearsal, look(), ["ACC-072"])
    assert before(rehearsal) == old and rehearsal.ran == []


def test_sessions_that_worked_have_to_work(rehearsal, look, monkeypatch):
    statuses = iter(
        [{"sshd for ann": 0, "sudo for bob": 1}, {"sshd for ann": 1, "sudo for bob": 1}]
    )
    monkeypatch.setattr(trial, "sessions", lambda inside, names: next(statuses))
    with pytest.raises(Refused, match="sessions would be refused: sshd for ann; PAM"):
        passwords.fix(rehearsal, look(), ["ACC-072"])


def test_what_pam_auth_update_made_is_judged(rehearsal, look, monkeypatch):
    monkeypatch.setattr(trial, "stage", lambda: contextlib.nullcontext(rehearsal))
    with pytest.raises(Refused, match="does not make what is wanted: ACC-071: remembered is 0"):
        passwords.fix(rehearsal, look(), ["ACC-072"])


def test_a_result_that_differs_is_taken_back(rehearsal, look, monkeypatch):
    old = before(rehearsal)
    plain = rehearsal.run

    def run(*command, **other):
        rehearsal.put(AUTH, "auth required pam_deny.so\n")
        return plain(*command, **other)

    monkeypatch.setattr(rehearsal, "run", run)
    with pytest.raises(Refused, match=f"made something else of {AUTH}; PAM is as it was"):
        passwords.fix(rehearsal, look(), ["ACC-072"])
    assert before(rehearsal) == old


def test_options_of_others_are_disabled(rehearsal, look):
    rehearsal.put(promises.QUALITY_MAIN, "# minlen = 8\nminlen = 6\nretry = 9\n")
    rehearsal.put(LATER, "dictcheck=0\n")
    rehearsal.put("/etc/pam.d/vending", "auth required pam_unix.so nullok\naccount x y\n")
    passwords.fix(rehearsal, look(), ["ACC-070"])
    text = rehearsal.read(promises.QUALITY_MAIN)
    assert text == f"# minlen = 8\n{DISABLED}minlen = 6\nretry = 9\n"
    assert rehearsal.read(LATER) == f"{DISABLED}dictcheck=0\n"
    service = (
        f"{DISABLED}auth required pam_unix.so nullok\nauth required pam_unix.so\naccount x y\n"
    )
    assert rehearsal.read("/etc/pam.d/vending") == service
    assert drifting(look()) == {}


def test_a_continued_line_with_nullok_needs_a_person(rehearsal, look):
    rehearsal.put("/etc/pam.d/vending", "auth required pam_unix.so \\\n  nullok\n")
    with pytest.raises(Refused, match="vending line 1 has to be taken out by hand"):
        passwords.fix(rehearsal, look(), ["ACC-073"])


def test_other_files_are_put_right(rehearsal, look):
    hardened = rehearsal
    hardened.put(login_defs.PATH, DEFS)
    hardened.put("/etc/profile.d/x.sh", "umask 002\nTMOUT=0; export TMOUT\n")
    hardened.put(shells.TIMEOUT, "")
    hardened.answer("bash -n")
    passwords.fix(hardened, look(), ["ACC-074", "ACC-075", "ACC-077", "ACC-078"])
    assert drifting(look()) == {}
    assert hardened.read("/etc/profile.d/x.sh").count(DISABLED) == 2


def test_a_start_up_file_that_needs_its_line_keeps_it(hardened, look):
    hardened.put("/etc/profile", "if true; then\nTMOUT=0\nfi\n")
    hardened.answer("bash -n", status=2, err="syntax error")
    hardened.remove(shells.TIMEOUT)
    seen = passwords.CHECKS["ACC-078"][1](look())
    assert seen.reason.endswith(
        "/etc/profile line 2 sets TMOUT to 0, which only a person can change"
    )
    assert seen.remedy == ""
    passwords.fix(hardened, look(), ["ACC-078"])
    assert hardened.read("/etc/profile") == "if true; then\nTMOUT=0\nfi\n"
    assert hardened.read(shells.TIMEOUT) == shells.script(900)
    assert passwords.CHECKS["ACC-078"][1](look()).remedy == "manual"
    hardened.put("/etc/profile.d/x.sh", "umask 0\n")
    assert passwords.CHECKS["ACC-077"][1](look()).remedy == "manual"


IN = shells.STAND_IN
SCRIPTS = {
    "alone": ("umask 002\nid\n", f"{DISABLED}umask 002\nid\n"),
    "between then and fi": (
        "if id; then\n  umask 002\nelse\n  export TMOUT=0\nfi\n",
        f"if id; then\n{DISABLED}  umask 002\n  :{IN}\nelse\n"
        f"{DISABLED}  export TMOUT=0\n  :{IN}\nfi\n",
    ),
    "both of one branch": (
        "if id; then\numask 002\nTMOUT=0\nfi\n",
        f"if id; then\n{DISABLED}umask 002\n:{IN}\n{DISABLED}TMOUT=0\nfi\n",
    ),
    "after then": (
        "if id; then umask 2\nfi\n",
        f"{DISABLED}if id; then umask 2\nif id; then :{IN}\nfi\n",
    ),
    "at the end of a function": (
        "f() {\nid; umask 0; }\n",
        f"f() {{\n{DISABLED}id; umask 0; }}\nid; :; }}{IN}\n",
    ),
    "after a condition": ("id &&\numask 002\nls\n", f"id &&\n{DISABLED}umask 002\n:{IN}\nls\n"),
    "on the next line": (
        "id && \\\nunset TMOUT\nls\n",
        f"id && \\\n{DISABLED}unset TMOUT\n:{IN}\nls\n",
    ),
    "before a condition": ("umask 002 &&\nls\n", None),
    "among other names": ("if id; then\nreadonly A=1 TMOUT=0\nfi\n", None),
    "no script at all": ("if\numask 002\n", None),
}


@pytest.mark.parametrize(("text", "new"), SCRIPTS.values(), ids=SCRIPTS)
def test_lines_of_start_up_files_are_taken_out_of_force(hardened, look, monkeypatch, text, new):
    """The real bash judges."""
    monkeypatch.setattr(hardened, "run", Host().run)
    path = "/etc/profile.d/x.sh"
    hardened.put(path, text)
    passwords.fix(hardened, look(), ["ACC-078"])
    shells.disable(hardened, promises.wrong_umasks(look()))
    assert hardened.read(path) == (new or text)
    assert passwords.restored(hardened.read(path)) == text
    assert any(line.by_hand for line in look().reading.passwords.start_up) is (new is None)


def test_a_line_that_became_indispensable_is_named(hardened, look):
    hardened.put("/etc/profile.d/x.sh", "umask 002\n")
    hardened.answer("bash -n")
    it = look()
    hardened.answer("bash -n", status=2)
    with pytest.raises(Refused, match=r"x.sh line 1 has to be changed by hand"):
        shells.disable(hardened, promises.wrong_umasks(it))


def test_no_idle_time_is_no_file(hardened, look):
    passwords.fix(hardened, look(shell_timeout=0), ["ACC-078"])
    assert hardened.read(shells.TIMEOUT) is None


# Back ---------------------------------------------------------------------------------------------


def test_everything_is_taken_away(rehearsal, look):
    rehearsal.put("/etc/profile.d/x.sh", f"{DISABLED}umask 002\n")
    rehearsal.put(
        "/etc/pam.d/vending", f"{DISABLED}auth x pam_unix.so nullok\nauth x pam_unix.so\n"
    )
    assert len(passwords.leftovers(rehearsal)) == len(profiles.OURS) + 3 + 2
    passwords.clean(rehearsal)
    assert passwords.leftovers(rehearsal) == []
    assert rehearsal.read("/etc/pam.d/vending") == "auth x pam_unix.so nullok\n"
    assert rehearsal.read("/etc/profile.d/x.sh") == "umask 002\n"
    assert rehearsal.read(login_defs.PATH) == DEFS
    assert rehearsal.tried == [False]
    assert "--remove rocksalt-first" in " ".join(rehearsal.ran[0])


def test_what_cannot_be_taken_away_stays_whole(rehearsal, monkeypatch):
    rehearsal.answer(UPDATE, status=1, err="locked")
    old = before(rehearsal)
    with pytest.raises(Refused, match="pam-auth-update failed: locked; PAM is as it was"):
        passwords.clean(rehearsal)
    assert before(rehearsal) == old


def test_a_file_of_somebodys_making_is_given_back(rehearsal, monkeypatch):
    rehearsal.put(f"{AUTH}{ASIDE}", "auth required pam_unix.so\n")
    tried = []
    monkeypatch.setattr(trial, "passwords", lambda inside, empty: tried.append(inside.read(AUTH)))
    assert f"{AUTH}{ASIDE}" in passwords.leftovers(rehearsal)
    passwords.clean(rehearsal)
    assert tried == [rehearsal.read(AUTH)] == ["auth required pam_unix.so\n"]
    assert rehearsal.read(f"{AUTH}{ASIDE}") is None and passwords.leftovers(rehearsal) == []


def test_nothing_of_ours_is_nothing_to_take_away(host):
    passwords.clean(host)
    assert passwords.leftovers(host) == [] and host.ran == []

"""What is wanted of passwords and sessions, and what is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rocksalt.accounts import ageing, database, login_defs, pam, profiles, shells
from rocksalt.findings import Seen, show
from rocksalt.host import Host

if TYPE_CHECKING:
    from rocksalt.accounts.checks import Accounts

STACKS = ("ACC-070", "ACC-071", "ACC-072", "ACC-073", "ACC-074", "ACC-077")
QUALITY, QUALITY_MAIN = (
    "/etc/security/pwquality.conf.d/50-rocksalt.conf",
    "/etc/security/pwquality.conf",
)
FAILLOCK, HISTORY = "/etc/security/faillock.conf", "/etc/security/pwhistory.conf"
_DICTIONARY = "/var/cache/cracklib/cracklib_dict.pwd"
_STOCK_QUALITY = {
    "minlen": "8",
    "dictcheck": "1",
    "usercheck": "1",
    "enforcing": "1",
} | dict.fromkeys(("dcredit", "ucredit", "lcredit", "ocredit"), "0")


@dataclass(frozen=True)
class Reading:
    """What was seen of it on the host: the common files parsed, rules with nullok anywhere, texts
    of our profiles and of other files (path -> text, None where there is none), our script that
    ends idle shells, and what start-up files of others say.
    """

    stacks: pam.Stacks = field(default_factory=lambda: dict.fromkeys(pam.TYPES, ()))
    nullok: Sequence[pam.Rule] = ()
    texts: Mapping[str, str | None] = field(default_factory=dict)
    quality: Mapping[str, str] = field(default_factory=dict)
    timeout: str = ""
    start_up: Sequence[shells.Line] = ()
    dictionary: bool = False

    @property
    def login_defs(self) -> dict[str, str]:
        return login_defs.parse(self.texts.get(login_defs.PATH) or "")

    def settings(self, path: str) -> dict[str, str]:
        """A file of options of a PAM module."""
        return pam.settings(self.texts.get(path) or "")


def read(host: Host, people: database.Database) -> Reading:
    """Looks at the host: files, and bash -n on start-up files that say something."""
    single = [login_defs.PATH, FAILLOCK, HISTORY, QUALITY_MAIN, QUALITY]
    single += [f"{profiles.FOLDER}/{name}" for name in (*profiles.OURS, profiles.QUALITY)]
    rules = [rule for path in pam.services(host) for rule in pam.parse(path, host.read)]
    start_up = shells.read(host)
    return Reading(
        stacks={kind: pam.parse(path, host.read) for kind, path in pam.COMMON.items()},
        nullok=list(dict.fromkeys(pam.nullok(rules))),
        texts={path: host.read(path) for path in single},
        quality=_quality(host),
        timeout=start_up.get(shells.TIMEOUT, ""),
        start_up=shells.lines(host, start_up),
        dictionary=host.attributes(_DICTIONARY) is not None,
    )


def _quality(host: Host) -> dict[str, str]:
    """The effective settings of libpwquality: the folder first, then the file."""
    found = dict(_STOCK_QUALITY)
    for path in [*host.glob("/etc/security/pwquality.conf.d/*.conf"), QUALITY_MAIN]:
        found |= pam.settings(host.read(path) or "")
    return found


# What is wanted -----------------------------------------------------------------------------------


def mask(it: Accounts) -> str:
    """The declared umask in three digits."""
    return f"{int(it.settings['umask'], 8):03o}"


def plan(it: Accounts) -> profiles.Plan:
    """The profiles for the controls that are not waived."""
    s = it.settings
    texts: dict[str, str] = {}
    if "ACC-072" in it.wanted:
        texts |= profiles.lockout(s["lockout_failures"], s["lockout_seconds"])
    if "ACC-071" in it.wanted and s["password_history"]:
        texts["rocksalt-history"] = profiles.history(s["password_history"])
    if {"ACC-073", "ACC-074"} & set(it.wanted):
        texts["rocksalt-unix"] = profiles.unix("ACC-073" not in it.wanted, "ACC-074" in it.wanted)
    if "ACC-077" in it.wanted:
        texts["rocksalt-umask"] = profiles.umask(mask(it))
    installed = it.reading.passwords.texts.get(f"{profiles.FOLDER}/{profiles.QUALITY}") is not None
    return profiles.Plan(
        texts={name: texts[name] for name in profiles.OURS if name in texts},
        enable=[profiles.QUALITY] if "ACC-070" in it.wanted and installed else [],
        disable=[profiles.STOCK] if "rocksalt-unix" in texts else [],
    )


def quality_file(it: Accounts) -> str:
    """Our settings of libpwquality, also those that would take shorter passwords."""
    wanted = {**_STOCK_QUALITY, "minlen": str(it.settings["password_length"])}
    lines = [f"{name} = {value}" for name, value in wanted.items()]
    head = "# Written by rocksalt; changes of this file are overwritten."
    return "\n".join([head, *lines, "enforce_for_root"]) + "\n"


def definitions(it: Accounts) -> dict[str, str]:
    """The settings of login.defs for the controls that are not waived."""
    wanted = {"ENCRYPT_METHOD": "YESCRYPT"} if "ACC-074" in it.wanted else {}
    return {**wanted, **_ageing(it)} if "ACC-075" in it.wanted else wanted


def _ageing(it: Accounts) -> dict[str, str]:
    return {
        "PASS_MAX_DAYS": str(ageing.longest(it.settings["password_max_days"])),
        "PASS_MIN_DAYS": str(it.settings["password_min_days"]),
        "PASS_WARN_AGE": str(it.settings["password_warn_days"]),
        "UMASK": mask(it),
        "HOME_MODE": "0700",
    }


# What is there ------------------------------------------------------------------------------------


def _told(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> Seen:
    """A comparison whose unexpected things are sentences already."""
    names = [name for name in wanted if name != "unexpected" and wanted[name] != actual[name]]
    values = [f"{name} is {show(actual[name])}, not {show(wanted[name])}" for name in names]
    return Seen(actual, "; ".join([*values, *actual["unexpected"]]))


def _edited(it: Accounts, *names: str) -> list[str]:
    """Profiles of ours that are not as rendered, which the next package would bring into force."""
    wanted = plan(it).texts
    found = it.reading.passwords.texts
    paths = {name: f"{profiles.FOLDER}/{name}" for name in names if name in wanted}
    return [
        f"{path} is not as rendered" for n, path in paths.items() if found.get(path) != wanted[n]
    ]


def _quality_wanted(it: Accounts) -> dict[str, Any]:
    return {"length": it.settings["password_length"], "unexpected": []}


def _quality_seen(it: Accounts) -> Seen:
    here = it.reading.passwords
    if here.texts.get(f"{profiles.FOLDER}/{profiles.QUALITY}") is None:
        return Seen(None, "libpam-pwquality is not installed")
    rule = pam.required(here.stacks["password"], pam.QUALITY)
    if rule is None:
        path = pam.COMMON["password"]
        return Seen(None, f"{path} does not ask pam_pwquality.so before it takes a new password")
    found = {**here.quality, **rule.options}
    unexpected = [
        f"{name} is {found[name]}, not {value}"
        for name, value in _STOCK_QUALITY.items()
        if name != "minlen" and found[name] != value
    ]
    if "enforce_for_root" not in found:
        unexpected.append("root may set any password")
    if not here.dictionary:
        unexpected.append(f"{_DICTIONARY}, the list of common passwords, is missing")
    length = int(found["minlen"]) if found["minlen"].isdigit() else found["minlen"]
    return _told(_quality_wanted(it), {"length": length, "unexpected": unexpected})


def _history_wanted(it: Accounts) -> dict[str, Any]:
    remembered = it.settings["password_history"]
    return {"remembered": remembered, "root": remembered > 0, "unexpected": []}


def _history_seen(it: Accounts) -> Seen:
    here = it.reading.passwords
    found = pam.history(here.stacks, here.settings(HISTORY))
    actual = {**found, "unexpected": _edited(it, "rocksalt-history")}
    return _told(_history_wanted(it), actual)


def _lockout_wanted(it: Accounts) -> dict[str, Any]:
    s = it.settings
    return {"failures": s["lockout_failures"], "seconds": s["lockout_seconds"], "unexpected": []}


def _lockout_seen(it: Accounts) -> Seen:
    here = it.reading.passwords
    found = pam.lockout(here.stacks, here.settings(FAILLOCK))
    edited = _edited(it, "rocksalt-first", "rocksalt-last")
    return _told(_lockout_wanted(it), {**found, "unexpected": found["unexpected"] + edited})


def _empty_seen(it: Accounts) -> Seen:
    here = it.reading.passwords
    found = [f"{rule.place} has {rule.module} with nullok" for rule in here.nullok]
    for password in ("empty", "wrong"):
        rule = pam.lets_in(here.stacks, password)
        if rule is not None and rule not in here.nullok:
            found.append(f"{rule.place}, {rule.module}, accepts a password that is {password}")
    found += _edited(it, "rocksalt-unix")
    return Seen(found, "; ".join(found))


def _hash_seen(it: Accounts) -> Seen:
    here = it.reading.passwords
    configured = here.login_defs.get("ENCRYPT_METHOD", "DES")
    return Seen({"PAM": pam.hashing(here.stacks, configured), "login.defs": configured})


def _definitions_seen(it: Accounts) -> Seen:
    found = it.reading.passwords.login_defs
    return Seen({name: found.get(name) for name in _ageing(it)})


def wrong_ages(it: Accounts, people: database.Database) -> Iterator[ageing.Wrong]:
    """The accounts that age otherwise than declared. Which administrators have their password from
    the pillar is not known from cached settings; then all of them are left alone.
    """
    users = it.settings["users"].items()
    exempt = {name for name, entry in users if not (entry or {}).get("ages", True)}
    if it.hashes is None:
        exempt |= set(it.administrators)
    return ageing.wrong(people, it.settings["password_max_days"], it.hashes or (), exempt)


def _ages_seen(it: Accounts) -> Seen:
    wrong = list(wrong_ages(it, it.people))
    manual = bool(wrong) and all(each.expiring for each in wrong)
    found = [each.sentence for each in wrong]
    return Seen(found, "; ".join(found), remedy="manual" if manual else "")


def _umask_wanted(it: Accounts) -> dict[str, Any]:
    return {"session": mask(it), "session-noninteractive": mask(it), "unexpected": []}


def _umask_seen(it: Accounts) -> Seen:
    stacks = it.reading.passwords.stacks
    kinds = ("session", "session-noninteractive")
    wrong, edited = wrong_umasks(it), _edited(it, "rocksalt-umask")
    actual: dict[str, Any] = {kind: pam.umask(stacks[kind]) for kind in kinds}
    right = not edited and all(actual[kind] == mask(it) for kind in kinds)
    actual["unexpected"] = [*map(str, wrong), *edited]
    seen = _told(_umask_wanted(it), actual)
    return dataclasses.replace(seen, remedy=_remedy(wrong) if right else "")


def wrong_umasks(it: Accounts) -> list[shells.Line]:
    """Lines of start-up files that set another umask."""
    lines = it.reading.passwords.start_up
    return [line for line in lines if line.what == "umask" and line.value != mask(it)]


def wrong_timeouts(it: Accounts) -> list[shells.Line]:
    """Lines of start-up files that set another idle time."""
    lines = it.reading.passwords.start_up
    seconds = str(it.settings["shell_timeout"])
    return [line for line in lines if line.what == "TMOUT" and line.value != seconds]


def _timeout_seen(it: Accounts) -> Seen:
    wrong = wrong_timeouts(it)
    same = it.reading.passwords.timeout == shells.script(it.settings["shell_timeout"])
    unexpected = [] if same else [f"{shells.TIMEOUT} is not as rendered"]
    unexpected += map(str, wrong)
    return Seen(unexpected, "; ".join(unexpected), remedy=_remedy(wrong) if same else "")


def _remedy(wrong: Sequence[shells.Line]) -> str:
    """Whether nothing but what needs a person is left."""
    return "manual" if wrong and all(line.by_hand for line in wrong) else ""


CHECKS: dict[str, tuple[Callable[[Accounts], Any], Callable[[Accounts], Seen]]] = {
    "ACC-070": (_quality_wanted, _quality_seen),
    "ACC-071": (_history_wanted, _history_seen),
    "ACC-072": (_lockout_wanted, _lockout_seen),
    "ACC-073": (lambda it: [], _empty_seen),
    "ACC-074": (lambda it: {"PAM": "yescrypt", "login.defs": "YESCRYPT"}, _hash_seen),
    "ACC-075": (_ageing, _definitions_seen),
    "ACC-076": (lambda it: [], _ages_seen),
    "ACC-077": (_umask_wanted, _umask_seen),
    "ACC-078": (lambda it: [], _timeout_seen),
}

"""Administrators and root: who can get in, and who cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from rocksalt import ways_in
from rocksalt.accounts import consoles, database, userfiles
from rocksalt.accounts.database import Account
from rocksalt.errors import Refused
from rocksalt.findings import Seen
from rocksalt.host import Host
from rocksalt.settings import Baseline
from rocksalt.sshd import keys
from rocksalt.transaction import each, must

if TYPE_CHECKING:
    from rocksalt.accounts.checks import Accounts

ROOT, UNEXPIRED, ACCOUNT, KEYS, PASSWORD = "ACC-001", "ACC-005", "ACC-010", "ACC-011", "ACC-013"
_SHELL = "/bin/bash"
_NEVER = "99999"
_AS_DECLARED = "as declared"


@dataclass(frozen=True)
class KeyFile:
    """Where the keys of an administrator belong. ``loose`` says what sshd objects to there."""

    path: str
    text: str = ""
    loose: str = ""


@dataclass(frozen=True)
class Reading:
    """The key files of the declared administrators, which of their shells are installed, and what
    opens a shell on the console.
    """

    key_files: Mapping[str, KeyFile] = field(default_factory=dict)
    shells: frozenset[str] = frozenset()
    consoles: consoles.Reading = field(default_factory=consoles.Reading)


def read(host: Host, people: database.Database, baseline: Baseline) -> Reading:
    """Looks at the key files of the declared administrators that have an account."""
    declared = baseline.families["accounts"].settings["administrators"]
    pattern = _pattern(baseline)
    accounts = [people.by_name[name] for name in declared if name in people.by_name]
    shells = {a.shell for a in accounts} | {_shell(entry) for entry in declared.values()}
    return Reading(
        shells=frozenset(s for s in shells if host.attributes(s or "/bin/sh") is not None),
        key_files={
            a.name: _key_file(host, a, ways_in.key_paths(a, [pattern])[0]) for a in accounts
        },
        consoles=consoles.read(host),
    )


def _shell(declared: Mapping[str, Any]) -> str:
    """The shell of an administrator who is made."""
    return str(declared.get("shell", _SHELL))


def _pattern(baseline: Baseline) -> str:
    """The first place in which sshd looks for keys."""
    sshd = baseline.families.get("sshd")
    return str(sshd.settings["authorized_keys_files"][0]) if sshd else ".ssh/authorized_keys"


def _key_file(host: Host, account: Account, path: str) -> KeyFile:
    text = ways_in.key_text(host, path)
    return KeyFile(path, text, ways_in.loose(host, account, path) if text else "")


# What is wanted and what was seen -----------------------------------------------------------------


def _root_seen(it: Accounts) -> Seen:
    secret = it.people.secrets.get("root")
    if secret is None:
        return Seen(None, "root has no entry in /etc/shadow")
    if secret.empty:
        return Seen("no password is asked for", "anybody becomes root without a password")
    return Seen("usable", "root can log in by password") if secret.usable else Seen("locked")


def _expiry_seen(it: Accounts) -> Seen:
    secret = it.people.secrets.get("root")
    if secret is None or secret.expires is None:
        return Seen("never")
    why = "the account root expires, which stops cron, sudo and what else asks PAM"
    return Seen(f"on day {secret.expires} since 1970", why)


def _as_declared(it: Accounts) -> dict[str, str]:
    return dict.fromkeys(it.administrators, _AS_DECLARED)


def _told(faults: Mapping[str, Sequence[str]], manual: bool = False) -> Seen:
    """What was seen, given what is wrong with each administrator."""
    actual = {name: "; ".join(found) or _AS_DECLARED for name, found in faults.items()}
    why = "; ".join(f"{name}: {text}" for name, text in actual.items() if text != _AS_DECLARED)
    return Seen(actual, why, remedy="manual" if manual else "")


def _accounts_seen(it: Accounts) -> Seen:
    faults = {name: _faults(it, name) for name in it.administrators}
    left = {name: _left_to_a_person(it, name) for name in it.administrators}
    told = {name: [*faults[name], *left[name]] for name in faults}
    return _told(told, manual=any(left.values()) and not any(faults.values()))


def _faults(it: Accounts, name: str) -> list[str]:
    """What keeps an administrator from logging in, that a state can correct."""
    account, secret = it.people.by_name.get(name), it.people.secrets.get(name)
    if account is None or secret is None:
        return ["the account does not exist" if account is None else "it has no shadow entry"]
    declared, group = it.administrators[name], it.settings["administrators_group"]
    found = []
    if _has_wrong_shell(account, declared):
        found.append(f"its shell is {account.shell}, expected {_shell(declared)}")
    if secret.expired:
        found.append("the account has expired")
    if secret.changed == 0:
        found.append("its password must be changed at the next log-in")
    if secret.outdated and not secret.usable:
        found.append("it has expired although it has no password")
    if group not in it.people.groups_of[name]:
        found.append(f"it is not in the group {group}")
    return found


def _has_wrong_shell(account: Account, declared: Mapping[str, Any]) -> bool:
    """Whether it is another than declared, or, where none is, one that takes no commands."""
    return account.shell != declared["shell"] if "shell" in declared else not account.has_shell


def _left_to_a_person(it: Accounts, name: str) -> list[str]:
    """Another UID would take the owner from files, a shell has to be installed, and only its owner
    can change a password.
    """
    declared, account = it.administrators[name], it.people.by_name.get(name)
    secret = it.people.secrets.get(name)
    shell = declared.get("shell") or (account.shell if account else _SHELL)
    found = []
    if account and account.uid != declared.get("uid", account.uid):
        found.append(f"its UID is {account.uid}, expected {declared['uid']}")
    if shell not in it.reading.administrators.shells:
        found.append(f"its shell {shell} is not installed")
    if secret and secret.outdated and secret.usable and name not in (it.hashes or {}):
        found.append("its password has expired: it is changed at an interactive log-in")
    return found


def _keys_seen(it: Accounts) -> Seen:
    faults = {}
    for name in it.administrators:
        file = it.reading.administrators.key_files.get(name)
        if file is None:
            faults[name] = ["the account does not exist"]
            continue
        missing = [f"{_shown(key)} is not in {file.path}" for key in _missing(it, name, file.text)]
        faults[name] = [*missing, *filter(None, [file.loose])]
    return _told(faults)


def _missing(it: Accounts, name: str, text: str) -> list[keys.Key]:
    """The declared keys that a file does not authorise in the declared way."""
    present = [_way(key) for key in keys.parse(text)]
    return [key for key in _declared_keys(it, name) if _way(key) not in present]


def _declared_keys(it: Accounts, name: str) -> list[keys.Key]:
    return [key for line in it.administrators[name]["keys"] for key in keys.parse(line)]


def _way(key: keys.Key) -> tuple[str, dict[str, str]]:
    return key.fingerprint, key.options


def _shown(key: keys.Key) -> str:
    return f"{key.fingerprint} ({key.comment})" if key.comment else key.fingerprint


def _passwords_seen(it: Accounts) -> Seen:
    if it.hashes is None:
        return Seen(
            problem="skipped",
            reason="declared password hashes are not kept on the host; ask while the master is up",
        )
    faults = {}
    for name in it.hashes:
        secret = it.people.secrets.get(name)
        if secret is None:
            faults[name] = ["the account does not exist"]
        else:
            same = secret.password == it.hashes[name]
            faults[name] = [] if same else ["its password is not the declared one"]
    return _told(faults)


# Making it so -------------------------------------------------------------------------------------


def fix(host: Host, it: Accounts, ids: Sequence[str]) -> None:
    """Enforces those of ``ids`` that belong here: people first, then root. What cannot be done for
    one does not keep others from getting in.
    """
    steps: list[Callable[[], object]] = []
    if ACCOUNT in ids:
        steps.append(partial(_group, host, it))
        steps += [partial(_account, host, it, name) for name in it.administrators]
    if KEYS in ids:
        steps += [partial(_keys, host, it, name) for name in it.administrators]
    if PASSWORD in ids:
        steps += [partial(_password, host, it, name) for name in it.hashes or ()]
    steps.append(partial(consoles.fix, host, it.settings["emergency_shell"], ids))
    if UNEXPIRED in ids:
        never = ("chage", "--expiredate", "-1", "root")
        steps.append(partial(must, host, "root still expires", *never))
    if ROOT in ids:
        lock = ("passwd", "--quiet", "--lock", "root")
        steps.append(partial(must, host, "root's password cannot be locked", *lock))
    each(steps)


def _password(host: Host, it: Accounts, name: str) -> None:
    """Its hash becomes the declared one, which only standard input is told."""
    secret, wanted = database.read(host).secrets.get(name), (it.hashes or {})[name]
    if secret is not None and secret.password != wanted:
        done = host.run("chpasswd", "--encrypted", text=f"{name}:{wanted}\n")
        if done.status:
            raise Refused(f"chpasswd does not set the password of {name}: {done.err.strip()}")


def _group(host: Host, it: Accounts) -> None:
    group = it.settings["administrators_group"]
    if it.administrators and group not in it.people.group_by_name:
        must(host, f"the group {group} cannot be made", "groupadd", "--system", group)


def _account(host: Host, it: Accounts, name: str) -> None:
    """The account exists and can log in. One that is there keeps its home, UID and other groups."""
    declared, group = it.administrators[name], it.settings["administrators_group"]
    account, secret = it.people.by_name.get(name), it.people.secrets.get(name)
    if account is None:
        _create(host, it, name)
        return
    change = ["--append", "--groups", group, "--expiredate", ""]
    if _has_wrong_shell(account, declared):
        change += ["--shell", _shell(declared)]
    must(host, f"the account {name} cannot be corrected", "usermod", *change, name)
    if secret is None or secret.changed == 0 or (secret.outdated and not secret.usable):
        days = ("--lastday", str(database.today()), "--maxdays", _NEVER)
        must(host, f"the password of {name} stays expired", "chage", *days, name)


def _create(host: Host, it: Accounts, name: str) -> None:
    """Without a password, and so without one that ages."""
    declared, group = it.administrators[name], it.settings["administrators_group"]
    options = ["--create-home", "--shell", _shell(declared), "--groups", group]
    options += ["--password", "*", "--key", f"PASS_MAX_DAYS={_NEVER}"]
    if "uid" in declared:
        options += ["--uid", str(declared["uid"])]
    if name in it.people.group_by_name:
        options += ["--gid", name]
    must(host, f"the account {name} cannot be made", "useradd", *options, name)


def _keys(host: Host, it: Accounts, name: str) -> None:
    """The declared keys are in the file, beside those that others put there, and sshd accepts it.

    The file is complete before it has its name, for sshd reads it as the account.
    """
    account = database.read(host).by_name.get(name)
    if account is None:
        raise Refused(f"{name} has no account yet, so its keys have no place")
    path = ways_in.key_paths(account, [_pattern(it.baseline)])[0]

    def complete(text: str) -> str:
        missing = _missing(it, account.name, text)
        declared = {key.fingerprint for key in missing}
        kept = [
            line
            for line in text.splitlines()
            if not declared & {key.fingerprint for key in keys.parse(line)}
        ]
        lines = it.administrators[account.name]["keys"]
        added = [line for line in lines if keys.parse(line)[0] in missing]
        return "".join(f"{line.strip()}\n" for line in [*kept, *added])

    userfiles.put(host, path, account, complete)


def leftovers(host: Host) -> list[str]:
    """What is on the host that the baseline put there, people aside."""
    return consoles.leftovers(host)


def clean(host: Host) -> None:
    """Takes it away. Root stays locked."""
    consoles.clean(host)


CHECKS: dict[str, tuple[Callable[[Accounts], Any], Callable[[Accounts], Seen]]] = {
    ROOT: (lambda it: "locked", _root_seen),
    UNEXPIRED: (lambda it: "never", _expiry_seen),
    consoles.EMERGENCY: (
        lambda it: consoles.expected(it.settings["emergency_shell"]),
        lambda it: consoles.seen(
            it.reading.administrators.consoles, it.settings["emergency_shell"]
        ),
    ),
    consoles.BY_ITSELF: (
        lambda it: [],
        lambda it: consoles.by_itself(it.reading.administrators.consoles),
    ),
    ACCOUNT: (_as_declared, _accounts_seen),
    KEYS: (_as_declared, _keys_seen),
    PASSWORD: (lambda it: dict.fromkeys(it.hashes or (), _AS_DECLARED), _passwords_seen),
}

"""Ways in: accounts that can log in by key from the management networks and end as root.

The contract of "never lock anyone out": an account counts only if every step from the connection to
``sudo`` works.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rocksalt.accounts import database, userfiles
from rocksalt.accounts.database import Account, Secret
from rocksalt.host import Host
from rocksalt.sshd import keys
from rocksalt.sshd.keys import Key

_SHOWN = 5
_SUDO_GRANT = re.compile(
    r"^\s*\(\s*(?:ALL|root)\b[^)!]*\)\s*(?P<tags>(?:[A-Z_]+:\s*)*)ALL\s*$", re.MULTILINE
)


@dataclass(frozen=True)
class Door:
    """What sshd demands of an account, in the terms of ``sshd -T``."""

    allow_groups: Sequence[str]
    allow_users: Sequence[str]
    deny_groups: Sequence[str]
    deny_users: Sequence[str]
    key_files: Sequence[str]
    algorithms: Sequence[str] | None
    least_rsa: int
    management: Sequence[str]
    public_keys: bool = True
    forced_command: str = "none"
    chroot: str = "none"
    methods: Sequence[str] = ("any",)
    pam: bool = True

    @property
    def keys_needed(self) -> int:
        """How many different keys one log-in takes; 0 where keys alone are not enough."""
        asked = [[m.partition(":")[0] for m in method.split(",")] for method in self.methods]
        counts = [1 if m == ["any"] else len(m) for m in asked if set(m) <= {"any", "publickey"}]
        return min(counts, default=0)


@dataclass(frozen=True)
class Newcomer:
    """An administrator whom this very run makes, as it will be: ``groups`` it will be in, its
    ``keys`` as lines of authorized_keys.
    """

    name: str
    groups: Sequence[str]
    keys: Sequence[str]


@dataclass(frozen=True)
class Plan:
    """What a run does to the ways in: whom it makes, and which accounts and keys stay."""

    newcomers: Sequence[Newcomer] = ()
    stays: Callable[[str], bool] = lambda _: True
    keeps: Callable[[str, Key], bool] = lambda _, __: True


NOTHING = Plan()


def find(
    host: Host, door: Door, door_for: Callable[[str], Door], plan: Plan = NOTHING
) -> tuple[list[str], dict[str, str]]:
    """(accounts that are a way in, account -> why it is none) for every account that has an
    authorised key somewhere, and for those that a run makes.

    ``door`` is what holds for everybody, ``door_for`` says what holds for one account; it is asked
    last. Stops at the first way in: one is enough, and asking sudo and sshd costs processes.
    """
    rejected: dict[str, str] = {}
    for newcomer in plan.newcomers:
        reason = _newcomer_shut(newcomer, door) or _newcomer_shut(newcomer, door_for(newcomer.name))
        if not reason:
            return [newcomer.name], rejected
        rejected[newcomer.name] = reason
    people = database.read(host)
    for account in people.by_name.values():
        known = account.uid == 0 or account.name in rejected
        if known or not _has_keys(host, account, door):
            continue
        secret, groups = people.secrets.get(account.name), people.groups_of[account.name]
        reason = (
            ("" if plan.stays(account.name) else "the baseline locks it")
            or _no_login(host, account, secret, door)
            or _shut(host, account, groups, door, plan)
            or _not_root(host, account, secret)
            or _shut(host, account, groups, door_for(account.name), plan)
        )
        if not reason:
            return [account.name], rejected
        rejected[account.name] = reason
    return [], rejected


def _newcomer_shut(newcomer: Newcomer, door: Door) -> str:
    """Why sshd would not let somebody in whose account, key file and grant will be right."""
    found = [key for line in newcomer.keys for key in keys.parse(line)]
    return _not_let_in(newcomer.name, newcomer.groups, door) or _too_few(found, door)


def explain(found: Sequence[str], rejected: Mapping[str, str]) -> str:
    """The verdict in words."""
    if found:
        return f"{', '.join(found)} can log in by key and become root"
    if not rejected:
        return "no account but root has an authorised key, so nobody could log in and become root"
    reasons = [f"{user}: {reason}" for user, reason in rejected.items()]
    more = len(reasons) - _SHOWN
    told = "; ".join(reasons[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    return f"nobody could log in by key and become root: {told}"


def key_paths(account: Account, patterns: Sequence[str]) -> list[str]:
    """Where sshd looks for the keys of an account, given its AuthorizedKeysFile."""
    found = []
    for pattern in patterns:
        path = (
            pattern.replace("%h", account.home)
            .replace("%u", account.name)
            .replace("%U", str(account.uid))
        )
        path = path.replace("%%", "%")
        found.append(path if path.startswith("/") else f"{account.home}/{path}")
    return found


def _has_keys(host: Host, account: Account, door: Door) -> bool:
    elsewhere = (".ssh/authorized_keys", ".ssh/authorized_keys2")
    return any(key_text(host, path) for path in key_paths(account, (*door.key_files, *elsewhere)))


def key_text(host: Host, path: str) -> str:
    """A key file; like sshd, this takes regular files only, for users choose what is there."""
    try:
        found = userfiles.read(host, path)
    except OSError:
        return ""
    return found.text if found else ""


def _no_login(host: Host, account: Account, secret: Secret | None, door: Door) -> str:
    if not account.has_shell:
        return f"its shell is {account.shell}"
    if host.attributes(account.shell or "/bin/sh") is None:
        return f"its shell {account.shell} is not installed"
    for path in ("/etc/nologin", "/run/nologin"):
        if host.attributes(path) is not None:
            return f"{path} keeps everybody out"
    if secret is None:
        return "it has no shadow entry"
    if secret.expired:
        return "the account has expired"
    if not door.pam and secret.password.startswith("!"):
        return "sshd, without PAM, refuses accounts whose password is locked"
    if secret.changed == 0:
        return "its password must be changed at the next log-in"
    if secret.outdated:
        return "its password has expired" + (" for good" if secret.inactive is not None else "")
    return ""


def _shut(host: Host, account: Account, groups: set[str], door: Door, plan: Plan) -> str:
    return _not_let_in(account.name, sorted(groups), door) or _no_key(host, account, door, plan)


def _not_let_in(name: str, groups: Sequence[str], door: Door) -> str:
    if not door.public_keys:
        return "sshd does not let it log in by key"
    if not door.keys_needed:
        return f"sshd asks for more than keys, {' or '.join(door.methods)}"
    if door.forced_command != "none":
        return f"sshd binds it to one command, {door.forced_command}"
    if door.chroot != "none":
        return f"sshd locks it into {door.chroot}"
    if any(_denies(entry, name, door.management) for entry in door.deny_users):
        return "DenyUsers keeps it out"
    if door.allow_users and not any(
        _allows(entry, name, door.management) for entry in door.allow_users
    ):
        return "AllowUsers does not let it in from the management networks"
    if _listed(groups, door.deny_groups):
        return "DenyGroups keeps it out"
    if door.allow_groups and not _listed(groups, door.allow_groups):
        return f"it is in none of the groups {', '.join(door.allow_groups)}"
    return ""


def _listed(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _allows(entry: str, name: str, management: Sequence[str]) -> bool:
    """Whether an entry of AllowUsers, ``user`` or ``user@origins``, is sure to let some management
    address in.
    """
    user, origins = _user_and_origins(entry)
    barred = [origin[1:] for origin in origins if origin.startswith("!")]
    return _listed([name], [user]) and (
        origins == ["*"]
        or any(
            _overlap(origins, network, unsure=False) and not _overlap(barred, network, unsure=True)
            for network in management
        )
    )


def _denies(entry: str, name: str, management: Sequence[str]) -> bool:
    """Whether an entry of DenyUsers might keep some management address out."""
    user, origins = _user_and_origins(entry)
    barred = [origin for origin in origins if not origin.startswith("!")]
    return _listed([name], [user]) and (
        not management or any(_overlap(barred, network, unsure=True) for network in management)
    )


def _user_and_origins(entry: str) -> tuple[str, list[str]]:
    user, at, origins = entry.rpartition("@")
    return (user, origins.split(",")) if at else (origins, ["*"])


def _overlap(origins: Sequence[str], network: str, unsure: bool) -> bool:
    """Whether one of the origins has an address of the network; ``unsure`` is the answer for names
    and wildcards.
    """

    def one(origin: str) -> bool:
        try:
            found = ipaddress.ip_network(origin, strict=False)
        except ValueError:
            return origin == "*" or unsure
        return found.overlaps(ipaddress.ip_network(network))

    return any(map(one, origins))


def _no_key(host: Host, account: Account, door: Door, plan: Plan) -> str:
    reason = f"its keys are not in {' or '.join(door.key_files)}"
    usable: list[Key] = []
    for path in key_paths(account, door.key_files):
        found = keys.parse(key_text(host, path))
        if not found:
            continue
        reason = loose(host, account, path) or _unreadable(host, account, path)
        if not reason:
            usable += found
    kept = [key for key in usable if plan.keeps(account.name, key)]
    if not usable:
        return reason
    return _too_few(kept, door) if kept else "the baseline takes its keys away"


def _too_few(found: Sequence[Key], door: Door) -> str:
    """Why these keys are not enough for sshd; empty when they are."""
    reasons = {
        key.fingerprint: keys.refused(key, door.algorithms, door.least_rsa, door.management)
        for key in found
    }
    good = [name for name, reason in reasons.items() if not reason]
    if len(good) >= door.keys_needed:
        return ""
    if good:
        return f"sshd asks for {door.keys_needed} different keys and it has {len(good)}"
    return next(filter(None, reasons.values()), "it has no key")


def loose(host: Host, account: Account, path: str) -> str:
    """What StrictModes would object to between the key file and the home folder, or the root for a
    file outside of it. Like sshd, this looks at where links lead to.
    """
    home, path = _real(host, account.home or "/"), _real(host, path)
    while True:
        found = host.attributes(path)
        if found is None:
            return f"{path} does not exist"
        if found.owner not in (account.name, "root"):
            return f"{path} belongs to {found.owner}"
        if int(found.mode, 8) & 0o022:
            return f"{path} can be written by others ({found.mode})"
        if path in (home, "/"):
            return ""
        path = os.path.dirname(path)


def _real(host: Host, path: str) -> str:
    return os.path.realpath(host.path(path)).removeprefix(host.root) or "/"


def _unreadable(host: Host, account: Account, path: str) -> str:
    """Whether the account can read its key file: sshd opens it as that user. Not knowing counts as
    no. ``setpriv`` rather than ``runuser``, which opens a session that is logged.
    """
    ids = ("--reuid", str(account.uid), "--regid", str(account.gid), "--init-groups")
    asked = host.run("setpriv", *ids, "test", "-r", str(host.path(path)))
    if asked.status == 127:
        return f"setpriv is not installed, so nothing shows that it can read {path}"
    return f"it cannot read {path}" if asked.status else ""


def _not_root(host: Host, account: Account, secret: Secret | None) -> str:
    """Whether sudo makes the account root without a password that nobody has. The last grant
    counts, as in sudoers(5).
    """
    asked = host.run("sudo", "-n", "-l", "-U", account.name)
    if asked.status == 127:
        return "sudo is not installed, so it cannot become root"
    grants = [found.group("tags") for found in _SUDO_GRANT.finditer(asked.out)]
    if not grants:
        return "sudo does not let it become root"
    if "NOPASSWD:" in grants[-1]:
        return ""
    if secret is None or not secret.usable:
        return "sudo asks for a password and it has none"
    return ""

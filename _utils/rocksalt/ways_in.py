"""Ways in: accounts that can log in by key from the management networks and end as root.

The contract of "never lock anyone out": an account counts only if every step from the connection to
``sudo`` works.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rocksalt.host import Host
from rocksalt.sshd import keys

_NO_SHELL = ("nologin", "false", "sync", "shutdown", "halt")
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


@dataclass(frozen=True)
class Account:
    """What passwd says of an account."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


def accounts(passwd: str) -> list[Account]:
    """The accounts of a passwd file; malformed lines are left out."""
    found = []
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) == 7 and fields[2].isdigit() and fields[3].isdigit():
            found.append(Account(fields[0], int(fields[2]), int(fields[3]), fields[5], fields[6]))
    return found


def memberships(group: str, people: Sequence[Account]) -> dict[str, set[str]]:
    """User -> names of its groups, primary and supplementary, from a group file."""
    found: dict[str, set[str]] = {account.name: set() for account in people}
    for line in group.splitlines():
        fields = line.split(":")
        if len(fields) != 4:
            continue
        for account in people:
            if str(account.gid) == fields[2]:
                found[account.name].add(fields[0])
        for user in filter(None, fields[3].split(",")):
            found.setdefault(user, set()).add(fields[0])
    return found


def shadow(text: str) -> dict[str, list[str]]:
    """User -> the nine fields of its shadow entry."""
    return {
        fields[0]: fields
        for fields in (line.split(":") for line in text.splitlines())
        if len(fields) == 9
    }


def find(host: Host, door: Door) -> tuple[list[str], dict[str, str]]:
    """(accounts that are a way in, account -> why it is none) for every account that has an
    authorised key somewhere.

    Stops at the first way in: one is enough, and asking sudo costs a process.
    """
    people = accounts(host.read("/etc/passwd") or "")
    groups = memberships(host.read("/etc/group") or "", people)
    secrets = shadow(host.read("/etc/shadow") or "")
    rejected: dict[str, str] = {}
    for account in people:
        if account.uid == 0 or not _has_keys(host, account, door):
            continue
        reason = (
            _no_login(host, account, secrets.get(account.name))
            or _not_let_in(account, groups[account.name], door)
            or _no_key(host, account, door)
            or _not_root(host, account, secrets.get(account.name))
        )
        if not reason:
            return [account.name], rejected
        rejected[account.name] = reason
    return [], rejected


def explain(found: Sequence[str], rejected: Mapping[str, str]) -> str:
    """The verdict in words."""
    if found:
        return f"{', '.join(found)} can log in by key and become root"
    if not rejected:
        return "no account but root has an authorised key, so nobody could log in and become root"
    reasons = "; ".join(f"{user}: {reason}" for user, reason in rejected.items())
    return f"nobody could log in by key and become root: {reasons}"


def _key_paths(account: Account, patterns: Sequence[str]) -> list[str]:
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
    return any(host.read(path) for path in _key_paths(account, (*door.key_files, *elsewhere)))


def _no_login(host: Host, account: Account, secret: list[str] | None) -> str:
    if (
        account.shell.rsplit("/", 1)[-1] in _NO_SHELL
        or host.attributes(account.shell or "/bin/sh") is None
    ):
        return f"its shell is {account.shell}"
    for path in ("/etc/nologin", "/run/nologin"):
        if host.attributes(path) is not None:
            return f"{path} keeps everybody out"
    if secret is None:
        return "it has no shadow entry"
    today = (dt.datetime.now(dt.timezone.utc).date() - dt.date(1970, 1, 1)).days
    changed, longest, inactive, expires = secret[2], secret[4], secret[6], secret[7]
    if expires.isdigit() and int(expires) <= today:
        return "the account has expired"
    if changed == "0":
        return "its password must be changed at the next log-in"
    if changed.isdigit() and longest.isdigit() and int(changed) + int(longest) < today:
        return "its password has expired" + (" for good" if inactive.isdigit() else "")
    return ""


def _not_let_in(account: Account, groups: set[str], door: Door) -> str:
    def listed(names: Sequence[str], patterns: Sequence[str]) -> bool:
        plain = [pattern.split("@")[0] for pattern in patterns]
        return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in plain)

    if listed([account.name], door.deny_users):
        return "DenyUsers keeps it out"
    if door.allow_users and not listed([account.name], door.allow_users):
        return "it is not in AllowUsers"
    if listed(sorted(groups), door.deny_groups):
        return "DenyGroups keeps it out"
    if door.allow_groups and not listed(sorted(groups), door.allow_groups):
        return f"it is in none of the groups {', '.join(door.allow_groups)}"
    return ""


def _no_key(host: Host, account: Account, door: Door) -> str:
    reason = f"its keys are not in {' or '.join(door.key_files)}"
    for path in _key_paths(account, door.key_files):
        found = keys.parse(host.read(path) or "")
        if not found:
            continue
        loose = _loose(host, account, path)
        if loose:
            reason = loose
            continue
        reasons = [
            keys.refused(key, door.algorithms, door.least_rsa, door.management) for key in found
        ]
        if "" in reasons:
            return ""
        reason = reasons[0]
    return reason


def _loose(host: Host, account: Account, path: str) -> str:
    """What StrictModes would object to between the key file and the home folder."""
    while True:
        found = host.attributes(path)
        if found is None:
            return f"{path} does not exist"
        if found.owner not in (account.name, "root"):
            return f"{path} belongs to {found.owner}"
        if int(found.mode, 8) & 0o022:
            return f"{path} can be written by others ({found.mode})"
        if path in (account.home, "/", ""):
            return ""
        path = path.rsplit("/", 1)[0] or "/"


def _not_root(host: Host, account: Account, secret: list[str] | None) -> str:
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
    if secret is None or not re.match(r"\$|_|[./0-9A-Za-z]{13}$", secret[1]):
        return "sudo asks for a password and it has none"
    return ""

"""Rules that hold on every host, and what breaks them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from rocksalt.accounts import authorised, database, faults, folders
from rocksalt.accounts.database import GROUP, GSHADOW, PASSWD, SHADOW, Account
from rocksalt.accounts.faults import Fault, undecided
from rocksalt.findings import Seen

if TYPE_CHECKING:
    from rocksalt.accounts.checks import Accounts

_PUBLIC, _SECRET = ("root", 0o644), ("shadow", 0o640)
FILES = {
    **{path + old: _PUBLIC for path in (PASSWD, GROUP) for old in ("", "-")},
    **{path + old: _SECRET for path in (SHADOW, GSHADOW) for old in ("", "-")},
    "/etc/security/opasswd": ("root", 0o600),
    "/etc/shells": _PUBLIC,
}
"""Path -> (group, the most that its mode may allow); root owns them all."""
_LOCKED = database.Secret("!")
_GIT_SHELL = ("/usr/bin/git-shell", "/bin/git-shell")
"""It runs git's own commands, and those that the account has in a folder for it."""


def _is_system(people: database.Database, account: Account) -> bool:
    """Whether the UID is one that packages give, nobody's included; above 16 bits are people
    again.
    """
    least, most = people.human
    return 0 < account.uid < least or most < account.uid <= 65535


def residents(people: database.Database, administrators: Collection[str]) -> Iterator[Account]:
    """Who lives in a home folder: people with a shell whose account has not expired; any declared
    administrator, whose account is opened again; and root, whose files sudo and su obey anyway.
    """
    for account in people.accounts:
        if account.name == "root":
            yield account
        elif account.uid >= people.human[0] and not _is_system(people, account):
            secret = people.secrets.get(account.name)
            is_open = account.has_shell and not (secret and secret.expired)
            if is_open or account.name in administrators:
                yield account


def _open_session(it: Accounts, account: Account) -> str:
    """Why the account must stay as it is for now."""
    live = account.uid in it.reading.live.sessions
    return f"{account.name} has an open session" if live else ""


def second_roots(it: Accounts) -> Iterator[Fault]:
    """Accounts that are root under another name."""
    root = it.people.by_name.get("root")
    for account in it.people.accounts:
        if account.uid or account.name == "root":
            continue
        manual = "" if it.removes("accounts") else "hardening:accounts:remove leaves accounts alone"
        if account.name in it.declared:
            manual = "it is declared"
        elif 0 in it.reading.live.sessions:
            manual = "somebody is logged in with UID 0"
        elif root is None or root.uid:
            manual = "root is not there or has not UID 0"
        yield Fault(f"{account.name} in {PASSWD} has UID 0", account.name, manual)


def gid_zero(it: Accounts) -> Iterator[Fault]:
    """Who shares root's group."""
    for group in it.people.groups:
        if group.gid == 0 and group.name != "root":
            yield undecided(f"group {group.name} in {GROUP} has GID 0")
    for account in it.people.accounts:
        if account.gid == 0 and account.uid:
            yield undecided(f"{account.name} in {PASSWD} has group 0 as its own")


def _secret(it: Accounts, account: Account) -> database.Secret:
    """What is compared with a password: what passwd has, unless that leaves it to shadow."""
    if account.password != "x":
        return database.Secret(account.password)
    return it.people.secrets.get(account.name, _LOCKED)


def empty_passwords(it: Accounts) -> Iterator[Fault]:
    """Accounts whose password is the empty one, or no secret."""
    for account in it.people.accounts:
        secret = _secret(it, account)
        if secret.empty:
            path = SHADOW if account.password else PASSWD
            text = f"{account.name} has an empty password in {path}"
            yield Fault(text, account.name, _open_session(it, account))
        elif account.password != "x" and secret.usable:
            text = f"the password hash of {account.name} is in {PASSWD}, which everybody can read"
            yield Fault(text, account.name)


def legacy(it: Accounts) -> Iterator[Fault]:
    """Lines that have a directory asked for accounts."""
    for path, line in it.people.legacy:
        yield Fault(f"{path} has a line for NIS that begins with {line.split(':')[0]}", path)


def system_logins(it: Accounts) -> Iterator[Fault]:
    """System accounts that somebody could log in to. With keys that stay, or a session, one may be
    how a tool administers this host; running processes alone are those of a service, which goes on
    with neither.
    """
    found = []
    for account in it.people.accounts:
        if not _is_system(it.people, account) or account.name in it.declared:
            continue
        may = account.shell in _GIT_SHELL or account.name in it.settings["system_logins"]
        if account.has_shell and not may:
            text = f"the shell of {account.name} in {PASSWD} is {account.shell or 'empty'}"
            found.append((account, text, PASSWD))
        if _secret(it, account).usable:
            found.append((account, f"{account.name} has a password", SHADOW))
    keyed = authorised.keyed(it, it.reading.strangers.key_files) if found else ()
    for account, text, path in found:
        keys = f"{account.name} has authorised keys" if account.name in keyed else ""
        yield Fault(text, (path, account.name), _open_session(it, account) or keys)


def _start(text: str) -> str:
    """How a broken line begins; a hash that lost its name is not told."""
    return "a password hash" if "$" in text else text[:32]


def ambiguous(it: Accounts) -> Iterator[Fault]:
    """Names and numbers that stand for two, and lines that nothing understands."""
    people = it.people
    names = {
        PASSWD: [account.name for account in people.accounts],
        GROUP: [group.name for group in people.groups],
    }
    for path, listed in names.items():
        for name, count in Counter(listed).items():
            if count > 1:
                yield undecided(f"{path} has {count} lines for {name}")
    uids: dict[int, set[str]] = defaultdict(set)
    gids: dict[int, set[str]] = defaultdict(set)
    for account in people.accounts:
        uids[account.uid].add(account.name)
    for group in people.groups:
        gids[group.gid].add(group.name)
    for what, numbers in (("UID", uids), ("GID", gids)):
        for number, sharing in numbers.items():
            if number and len(sharing) > 1:  # 0 has a control of its own
                yield undecided(f"{' and '.join(sorted(sharing))} have {what} {number}")
    for path, start in people.broken:
        yield undecided(f"{path} has a broken line that begins with {_start(start)}")


def home_folders(it: Accounts) -> Iterator[Fault]:
    """Home folders that are not their accounts' alone."""
    shared = defaultdict(set)
    for account in it.reading.consistency.residents:
        shared[account.home].add(account.name)
    for account in it.reading.consistency.residents:
        home = it.reading.consistency.homes.get(account.home)
        if home and len(shared[account.home]) == 1:
            yield from folders.faults(account, home, it.people)
    for path, names in shared.items():
        if len(names) > 1:
            yield undecided(f"{path} is the home of {' and '.join(sorted(names))}")


def dot_files(it: Accounts) -> Iterator[Fault]:
    """A home that several share is looked at for the one that owns it."""
    looked = set()
    owned = {(account.home, account.uid) for account in it.reading.consistency.residents}
    for account in it.reading.consistency.residents:
        home = it.reading.consistency.homes.get(account.home)
        if home is None or account.home in looked:
            continue
        if home.uid == account.uid or (account.home, home.uid) not in owned:
            looked.add(account.home)
            yield from folders.dot_faults(account, home, it.people)


def see_dot_files(it: Accounts) -> Seen:
    """The files in home folders; an error where nothing is known but what could not be listed."""
    unread = [home.unread for home in it.reading.consistency.homes.values() if home.unread]
    found = [*dot_files(it), *(undecided(text) for text in unread)]
    if unread and len(found) == len(unread):
        return Seen(problem="error", reason=faults.seen(found).reason)
    return faults.seen(found)


def weak_hashes(it: Accounts) -> Iterator[Fault]:
    """Passwords that are found out once their hashes are known."""
    for account in it.people.accounts:
        secret = _secret(it, account)
        if secret.usable and not secret.strong:
            yield undecided(f"the password of {account.name} is kept under a weak hash")


def files(it: Accounts) -> Iterator[Fault]:
    """Account files that others than root can change, or read hashes from."""
    for path, found in it.reading.consistency.files.items():
        group, most = FILES[path]
        excess = int(found.mode, 8) & ~most
        if found.owner != "root" or found.group not in ("root", group) or excess:
            yield Fault(f"{path} is {found.access}, expected root:{group} {most:04o}", path)

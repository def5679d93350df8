"""Home folders and what programs obey in them: who owns it and who else can write it.

Their owners may plant anything there, links and pipes among it, at any moment. So a look opens
nothing but folders, links in a home are not followed, and what is changed was opened and looked at
again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rocksalt.accounts.database import Account, Database
from rocksalt.accounts.faults import A_PERSON, Fault, undecided
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.transaction import ASIDE

WRITABLE = 0o022
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SSH = ".ssh"
_TRUSTING = (".rhosts", ".shosts")
_SECRETS, _KEYS = (".netrc", ".pgpass"), (".ssh/id_", ".ssh/identity")


class Entry(NamedTuple):
    """A file or folder of a home; ``name`` begins with a dot and may be ``.ssh/config``, ``mode``
    is the whole ``st_mode``.
    """

    name: str
    mode: int
    uid: int
    links: int

    @property
    def trusts(self) -> bool:
        """Whether it lets other hosts in without a password."""
        return self.name in _TRUSTING

    @property
    def excess(self) -> int:
        """The permissions that others have too many."""
        return self.mode & (0o077 if _is_secret(self.name) else WRITABLE)

    @property
    def single(self) -> bool:
        """Whether it is nothing else under another name."""
        return stat.S_ISDIR(self.mode) or self.links == 1


def _is_secret(name: str) -> bool:
    return name in _SECRETS or (name.startswith(_KEYS) and not name.endswith(".pub"))


@dataclass(frozen=True)
class Home:
    """A home folder. ``problem`` says why there is nothing more to tell; ``unread`` has what could
    not be listed, as a sentence.
    """

    problem: str = ""
    uid: int = 0
    mode: int = 0o755
    entries: Sequence[Entry] = ()
    unread: str = ""


def read(host: Host, paths: Iterable[str]) -> dict[str, Home]:
    """Path -> what is there; of the files only those that begin with a dot."""
    return {path: _home(host, path) for path in paths}


def _home(host: Host, path: str) -> Home:
    if not path.startswith("/") or "\0" in path:
        return Home("is not a path")
    try:
        handle = os.open(host.root + path, _FOLDER)
    except FileNotFoundError:
        return Home("does not exist")
    except NotADirectoryError:
        return Home("is not a folder")
    except OSError as error:
        return Home("cannot be read", unread=f"{path} cannot be read: {error.strerror}")
    entries: list[Entry] = []
    unread = ""
    try:
        found = os.fstat(handle)
        _list(handle, entries)
    except OSError as error:
        unread = f"{path} cannot be listed: {error.strerror}"
    finally:
        os.close(handle)
    return Home("", found.st_uid, stat.S_IMODE(found.st_mode), entries, unread)


def _list(handle: int, entries: list[Entry], folder: str = "") -> None:
    """Adds what is in an open folder, in an order that stays."""
    inside = bool(folder)
    with os.scandir(handle) as listing:
        for item in listing:
            name = item.name
            if inside or name[0] == ".":
                try:
                    found = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if _counts(folder + name, found.st_mode):
                    entries.append(
                        Entry(folder + name, found.st_mode, found.st_uid, found.st_nlink)
                    )
    if not inside:
        if any(entry.name == _SSH and stat.S_ISDIR(entry.mode) for entry in entries):
            with contextlib.suppress(FileNotFoundError), _inner(handle) as inner:
                _list(inner, entries, f"{_SSH}/")
        entries.sort()


def _counts(name: str, mode: int) -> bool:
    """Files, folders of the home itself, and whatever ssh could take for trust."""
    if name in _TRUSTING:
        return not stat.S_ISDIR(mode)
    return stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and "/" not in name)


@contextlib.contextmanager
def _inner(handle: int) -> Iterator[int]:
    """The folder ``.ssh`` of an open home."""
    inner = os.open(_SSH, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
    try:
        yield inner
    finally:
        os.close(inner)


def faults(account: Account, home: Home, people: Database) -> Iterator[Fault]:
    """What is wrong with the home folder of an account; a repair has to know the account."""
    path = account.home
    if home.problem:
        yield undecided(f"the home {path or '(none)'} of {account.name} {home.problem}")
    elif home.uid != account.uid:
        owner = _name(people, home.uid)
        yield undecided(f"{path} belongs to {owner} and is the home of {account.name}")
    elif home.mode & WRITABLE:
        yield Fault(f"others can write in {path} ({home.mode:04o})", account)


def dot_faults(account: Account, home: Home, people: Database) -> Iterator[Fault]:
    """What is wrong with files in it; each fault is about the account and the entry."""
    owners = (account.uid, 0)
    for entry in home.entries:
        if entry.uid in owners and not entry.excess and not entry.trusts:
            continue
        why = []
        if entry.trusts:
            why.append("lets in whom another host vouches for")
        if entry.uid not in owners:
            why.append(f"belongs to {_name(people, entry.uid)}")
        if entry.excess and not stat.S_ISLNK(entry.mode):
            what = "written" if entry.excess & WRITABLE else "read"
            why.append(f"can be {what} by others ({stat.S_IMODE(entry.mode):04o})")
        text = f"{account.home}/{entry.name} {' and '.join(why)}"
        yield Fault(text, (account, entry), _manual(account, home, entry))


def _manual(account: Account, home: Home, entry: Entry) -> str:
    """Why no state may touch it."""
    if home.uid != account.uid:
        return f"{account.home} belongs to somebody else"
    if entry.trusts:
        return ""
    if entry.uid not in (account.uid, 0):
        return A_PERSON
    return "" if entry.single else "the file has other names, too"


def _name(people: Database, uid: int) -> str:
    return people.by_uid[uid].name if uid in people.by_uid else f"UID {uid}"


def close(host: Host, account: Account) -> None:
    """Takes from others the permission to write in a home folder."""
    with _opened(host, account) as handle:
        os.fchmod(handle, stat.S_IMODE(os.fstat(handle).st_mode) & ~WRITABLE)


def tidy(host: Host, account: Account, entries: Iterable[Entry]) -> None:
    """Takes from others what they can do too much with these, and renames those that trust other
    hosts.
    """
    with _opened(host, account) as handle:
        for entry in entries:
            try:
                _repair(handle, entry, account.uid)
            except FileNotFoundError:
                continue
            except OSError as error:
                path = f"{account.home}/{entry.name}"
                raise Refused(f"{path} stays as it is: {error.strerror}") from error


def _repair(home: int, entry: Entry, owner: int) -> None:
    if entry.trusts:
        os.rename(entry.name, entry.name + ASIDE, src_dir_fd=home, dst_dir_fd=home)
    elif entry.name.startswith(f"{_SSH}/"):
        with _inner(home) as inner:
            _tighten(inner, entry, owner)
    else:
        _tighten(home, entry, owner)


@contextlib.contextmanager
def _opened(host: Host, account: Account) -> Iterator[int]:
    handle = os.open(host.root + account.home, _FOLDER)
    try:
        if os.fstat(handle).st_uid != account.uid:
            raise Refused(f"{account.home} got another owner meanwhile, and stays as it is")
        yield handle
    finally:
        os.close(handle)


def _tighten(folder: int, entry: Entry, owner: int) -> None:
    """The file may be another one by now: a link is not followed, a pipe not waited for, and what
    is not the owner's or has a second name stays as it is.
    """
    handle = os.open(os.path.basename(entry.name), _FILE, dir_fd=folder)
    try:
        found = os.fstat(handle)
        now = entry._replace(mode=found.st_mode, uid=found.st_uid, links=found.st_nlink)
        if now.uid in (owner, 0) and now.single:
            os.fchmod(handle, stat.S_IMODE(now.mode) & ~now.excess)
    finally:
        os.close(handle)

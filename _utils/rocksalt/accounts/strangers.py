"""Who and what was not declared: accounts, keys, members, crontabs.

What belongs to the account of somebody who is logged in is left to a person, keys and crontabs
excepted. Debian itself puts nobody into a privileged group.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rocksalt.accounts import authorised, database
from rocksalt.accounts.authorised import unnamed
from rocksalt.accounts.database import Account, Group
from rocksalt.accounts.faults import Fault, seen
from rocksalt.findings import Seen
from rocksalt.host import Host
from rocksalt.source import STATE_DIR
from rocksalt.transaction import each, must

if TYPE_CHECKING:
    from rocksalt.accounts.checks import Accounts

REMOVED = f"{STATE_DIR}/removed"
"""Where crontabs go that were taken away; only root can look."""
_CRONTABS, _AT_JOBS = "/var/spool/cron/crontabs", "/var/spool/cron/atjobs"
_NAME_FOR_CRON = re.compile(r"[A-Za-z0-9_-]+")
_ENTRY = re.compile(r"\s*(?:@\w+|[\d*~-]\S*(?:\s+\S+){4})\s+(\S+)\s+\S")


@dataclass(frozen=True)
class Job:
    """A file of cron or at, and the account that it runs commands as."""

    path: str
    user: str


@dataclass(frozen=True)
class Reading:
    """``spooled`` are crontabs and at jobs, which users make; ``system`` are entries of
    /etc/crontab and /etc/cron.d, which name the account.
    """

    key_files: Sequence[authorised.KeyFile] = ()
    spooled: Sequence[Job] = ()
    system: Sequence[Job] = ()


def read(host: Host, people: database.Database) -> Reading:
    """Looks at the host."""
    return Reading(
        key_files=authorised.read(host, people),
        spooled=[*_crontabs(host, people), *_at_jobs(host, people)],
        system=list(dict.fromkeys(_system_jobs(host))),
    )


def _crontabs(host: Host, people: database.Database) -> Iterator[Job]:
    """Crontabs by the name of their owner; one that ``crontab -e`` is about to rename is none."""
    for path in host.glob(f"{_CRONTABS}/*"):
        name = path.rsplit("/", 1)[-1]
        if name in people.by_name or not name.startswith("tmp."):
            yield Job(path, name)


def _at_jobs(host: Host, people: database.Database) -> Iterator[Job]:
    """Jobs of at, which belong to the account that they run as."""
    for path in host.glob(f"{_AT_JOBS}/*"):
        with contextlib.suppress(FileNotFoundError):
            uid = host.path(path).lstat().st_uid
            yield Job(path, people.by_uid[uid].name if uid in people.by_uid else f"UID {uid}")


def _system_jobs(host: Host) -> Iterator[Job]:
    for path in ("/etc/crontab", *host.glob("/etc/cron.d/*")):
        if _NAME_FOR_CRON.fullmatch(path.rsplit("/", 1)[-1]):
            for line in (host.read(path) or "").split("\n"):
                entry = _ENTRY.match(line)
                if entry:
                    yield Job(path, entry.group(1))


# What should not be there -------------------------------------------------------------------------


def _unlocked(it: Accounts) -> Iterator[Fault]:
    """Default accounts that are more than a name, a home and keys."""
    for name in sorted(it.default_accounts & set(it.people.by_name)):
        account, secret = it.people.by_name[name], it.people.secrets.get(name)
        open_ways = _ways(it, account)
        if secret is None or not secret.expired:
            open_ways.append("has not expired")
        if open_ways:
            lock = ("usermod", "--lock", "--expiredate", "1", "--shell", "/usr/sbin/nologin", name)
            act = _runs(name, f"{name} cannot be locked", *lock)
            yield _unless_live(it, name, f"{name} {', '.join(open_ways)}", act)


def _ways(it: Accounts, account: Account) -> list[str]:
    """What lets somebody log in to an account."""
    secret = it.people.secrets.get(account.name)
    found = [f"has the shell {account.shell or '/bin/sh'}"] if account.has_shell else []
    if account.password != "x" or (secret and (secret.usable or secret.empty)):
        found.insert(0, "has a password")
    return found


def _unless_live(it: Accounts, name: str, text: str, act: Callable[[Host], None]) -> Fault:
    """The account of a live session is never touched. Processes make one of a person's account, not
    of a service's.
    """
    account, live = it.people.by_name.get(name), it.reading.live
    if account is None:
        return Fault(text, act)
    person = it.people.is_human(account) or name in it.default_accounts
    if account.uid in live.sessions:
        return Fault(text, manual=f"{name} is logged in")
    if person and account.uid in live.processes:
        return Fault(text, manual=f"{name} has running processes")
    return Fault(text, act)


def _runs(name: str, failure: str, *command: str) -> Callable[[Host], None]:
    """Runs a command for an account, unless that has gone meanwhile."""

    def act(host: Host) -> None:
        if name in database.read(host).by_name:
            must(host, failure, *command)

    return act


def _strange_accounts(it: Accounts) -> Iterator[Fault]:
    """People's accounts that somebody could log in to; their homes stay when they go."""
    others = {*it.declared, *it.default_accounts, "root", "nobody"}
    for account in it.people.by_name.values():
        name, secret = account.name, it.people.secrets.get(account.name)
        if name in others:
            continue
        if not it.people.is_human(account) or (secret and secret.expired):
            continue
        open_ways = _ways(it, account)
        text = f"{name} {' and '.join(open_ways)}"
        if open_ways and not it.removes("accounts"):
            yield Fault(text, manual=unnamed("accounts"))
        elif open_ways:
            delete = _runs(name, f"the account {name} stays", "userdel", name)
            yield _unless_live(it, name, text, delete)


def _strange_members(it: Accounts) -> Iterator[Fault]:
    privileged = {*it.settings["privileged_groups"], it.settings["administrators_group"]}
    for group in it.people.groups:
        if group.name in privileged:
            for name in sorted(_members(it, group) - _may_be_in(it, group.name)):
                yield _member(it, group, name)


def _members(it: Accounts, group: Group) -> set[str]:
    """With root's group as their primary one accounts are root's double, which is another
    matter.
    """
    return set(group.members) if group.gid == 0 else it.people.members[group.name]


def _may_be_in(it: Accounts, group: str) -> set[str]:
    administrators = it.administrators if group == it.settings["administrators_group"] else ()
    return {"root", *administrators, *it.settings["members"].get(group, ())}


def _member(it: Accounts, group: Group, name: str) -> Fault:
    text = f"{name} is in {group.name}"
    if name not in group.members:
        return Fault(text, manual=f"{group.name} is the primary group of {name}")
    locked = name in it.default_accounts and "ACC-040" in it.wanted
    if not locked and not it.removes("members"):
        return Fault(text, manual=unnamed("members"))
    return _unless_live(it, name, text, partial(_take_out, name, group.name))


def _take_out(name: str, group: str, host: Host) -> None:
    """Takes a member out of a group, unless either has gone meanwhile."""
    now = database.read(host).group_by_name.get(group)
    if now and name in now.members:
        must(host, f"{name} stays in {group}", "gpasswd", "--delete", name, group)


def _strange_jobs(it: Accounts) -> Iterator[Fault]:
    may = {*it.declared, *it.settings["crontab_users"]}
    for job in it.reading.strangers.spooled:
        if job.user not in may:
            manual = "" if it.removes("crontabs") else unnamed("crontabs")
            yield Fault(f"{job.path} of {job.user}", partial(_put_away, job.path), manual)
    for job in it.reading.strangers.system:
        account = it.people.by_name.get(job.user)
        if account and it.people.is_human(account) and job.user not in may:
            text = f"{job.path} runs commands as {job.user}"
            yield Fault(text, manual="files in /etc belong to packages and administrators")


def _put_away(path: str, host: Host) -> None:
    """Cron and at look at what is in their folders only; the file is kept as it is. A job of at
    that ran meanwhile is gone.
    """
    host.path(REMOVED).mkdir(mode=0o700, parents=True, exist_ok=True)
    host.path(REMOVED).chmod(0o700)
    folder, name = path.split("/")[-2:]
    stamp = dt.datetime.now(dt.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    with contextlib.suppress(FileNotFoundError):
        shutil.move(str(host.path(path)), host.path(f"{REMOVED}/{stamp}-{folder}-{name}"))


_FINDERS: dict[str, Callable[[Accounts], list[Fault]]] = {
    "ACC-040": lambda it: list(_unlocked(it)),
    "ACC-041": lambda it: authorised.known(it.reading.strangers.key_files),
    "ACC-042": lambda it: authorised.strange(it, it.reading.strangers.key_files),
    "ACC-044": lambda it: list(_strange_members(it)),
    "ACC-045": lambda it: list(_strange_jobs(it)),
    "ACC-043": lambda it: list(_strange_accounts(it)),
}
"""In the order of repair: what an account has goes before the account."""


def _nothing(it: Accounts) -> list[str]:
    return []


def _check(find: Callable[[Accounts], list[Fault]]) -> Callable[[Accounts], Seen]:
    return lambda it: seen(find(it))


CHECKS: dict[str, tuple[Callable[[Accounts], Any], Callable[[Accounts], Seen]]] = {
    identifier: (_nothing, _check(find)) for identifier, find in _FINDERS.items()
}


def fix(host: Host, it: Accounts, ids: Sequence[str]) -> None:
    """Enforces those of ``ids`` that belong here, as far as it can be done. Raises
    :class:`rocksalt.errors.Refused` with what failed.
    """
    found = [fault for i, find in _FINDERS.items() if i in ids for fault in find(it)]
    acts = dict.fromkeys(fault.about for fault in found if not fault.manual)
    each(partial(act, host) for act in acts)


def leftovers(host: Host) -> list[str]:
    """What is on the host that the baseline put there: nothing, for crontabs that were taken away
    are somebody else's.
    """
    return []


def clean(host: Host) -> None:
    """Takes away nothing."""

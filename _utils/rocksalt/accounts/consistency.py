"""The account files and home folders against the rules that hold on every host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from rocksalt.accounts import database, editing, faults, folders, rules
from rocksalt.accounts.database import PASSWD, SHADOW
from rocksalt.accounts.faults import Fault
from rocksalt.findings import Seen
from rocksalt.host import Attributes, Host
from rocksalt.settings import Baseline
from rocksalt.transaction import each

if TYPE_CHECKING:
    from rocksalt.accounts.checks import Accounts


@dataclass(frozen=True)
class Reading:
    """What was seen of it on the host: who lives in home folders, these by path, and those of
    ``rules.FILES`` that exist.
    """

    residents: Sequence[database.Account] = ()
    homes: Mapping[str, folders.Home] = field(default_factory=dict)
    files: Mapping[str, Attributes] = field(default_factory=dict)


def read(host: Host, people: database.Database, baseline: Baseline) -> Reading:
    """Looks at the host."""
    found = {path: host.attributes(path) for path in rules.FILES}
    administrators = baseline.families["accounts"].settings["administrators"]
    residents = list(rules.residents(people, administrators))
    return Reading(
        residents=residents,
        homes=folders.read(host, {account.home for account in residents}),
        files={path: attributes for path, attributes in found.items() if attributes},
    )


def _remove_second_roots(host: Host, it: Accounts) -> None:
    editing.remove(host, set(_about(rules.second_roots(it))))


def _settle_passwords(host: Host, it: Accounts) -> None:
    editing.settle_passwords(host, set(_about(rules.empty_passwords(it))))


def _drop_legacy(host: Host, it: Accounts) -> None:
    editing.drop_legacy(host, set(_about(rules.legacy(it))))


def _shut_system_accounts(host: Host, it: Accounts) -> None:
    found = _about(rules.system_logins(it))
    editing.shut(host, *({n for path, n in found if path == p} for p in (PASSWD, SHADOW)))


def _close_homes(host: Host, it: Accounts) -> None:
    found = _about(rules.home_folders(it))
    each(partial(folders.close, host, account) for account in found)


def _tidy_homes(host: Host, it: Accounts) -> None:
    todo = defaultdict(list)
    for account, entry in _about(rules.dot_files(it)):
        todo[account].append(entry)
    each(partial(folders.tidy, host, account, entries) for account, entries in todo.items())


def _secure_files(host: Host, it: Accounts) -> None:
    for path in _about(rules.files(it)):
        group, mode = rules.FILES[path]
        host.secure(path, "root", group, f"{mode:04o}")


def _about(found: Iterable[Fault]) -> list[Any]:
    """What a state repairs."""
    return [fault.about for fault in found if not fault.manual]


_REPAIRS = {
    "ACC-050": _remove_second_roots,
    "ACC-052": _settle_passwords,
    "ACC-053": _drop_legacy,
    "ACC-054": _shut_system_accounts,
    "ACC-056": _close_homes,
    "ACC-057": _tidy_homes,
    "ACC-059": _secure_files,
}


def _unexpected(
    look: Callable[[Accounts], Iterator[Fault]],
) -> tuple[Callable[[Accounts], Any], Callable[[Accounts], Seen]]:
    return lambda it: [], lambda it: faults.seen(look(it))


def fix(host: Host, it: Accounts, ids: Sequence[str]) -> None:
    """Enforces those of ``ids`` that belong here. Raises :class:`rocksalt.errors.Refused` with
    what could not be done, after everything else was: nobody keeps a repair from a neighbour.
    """
    each(partial(repair, host, it) for i, repair in _REPAIRS.items() if i in ids)


def leftovers(host: Host) -> list[str]:
    """Nothing: what was repaired stays so."""
    return []


def clean(host: Host) -> None:
    """There is nothing to take away."""


CHECKS: dict[str, tuple[Callable[[Accounts], Any], Callable[[Accounts], Seen]]] = {
    "ACC-050": _unexpected(rules.second_roots),
    "ACC-051": _unexpected(rules.gid_zero),
    "ACC-052": _unexpected(rules.empty_passwords),
    "ACC-053": _unexpected(rules.legacy),
    "ACC-054": _unexpected(rules.system_logins),
    "ACC-055": _unexpected(rules.ambiguous),
    "ACC-056": _unexpected(rules.home_folders),
    "ACC-057": ((lambda it: []), rules.see_dot_files),
    "ACC-058": _unexpected(rules.weak_hashes),
    "ACC-059": _unexpected(rules.files),
}

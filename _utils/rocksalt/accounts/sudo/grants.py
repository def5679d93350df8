"""Our own file of grants. It may only grow until somebody is known to keep a way in, so lines of
former administrators stay until then, and nobody is asked for a password that does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rocksalt.accounts.sudo import rules, sudoers
from rocksalt.accounts.sudo.reading import ADMINISTRATORS

if TYPE_CHECKING:
    from rocksalt.accounts.checks import Accounts


def present(it: Accounts) -> list[sudoers.Line]:
    """The lines of the file that say something; none where sudo does not read it."""
    found = it.reading.sudo
    if ADMINISTRATORS in found.passed_over:
        return []
    return list(
        dict.fromkeys(own for own in found.lines if own.says and own.path == ADMINISTRATORS)
    )


def in_place(it: Accounts, name: str) -> bool:
    """Whether the file says of an administrator what is declared, and nothing else."""
    found = [own.text for own in present(it) if rules.administrator(it, own) == name]
    return found == [rules.line(name, rules.is_free(it, name))]


def rows(it: Accounts) -> list[str]:
    """The lines that the file should have by now, those of former administrators first: the last
    one that fits decides.
    """
    free = {name for name in it.administrators if rules.is_free(it, name)} | {*unasked(it)}
    declared = [rules.line(name, name in free) for name in sorted(it.administrators)]
    return [*_former(it), *declared]


def unasked(it: Accounts) -> list[str]:
    """Administrators who should be asked for a password, have none, and become root without."""
    texts = {own.text for own in present(it)}
    return [
        name
        for name in it.administrators
        if not rules.is_free(it, name)
        and not _has_password(it, name)
        and (rules.line(name, True) in texts or rules.root_grant(it, name)[0] == rules.FREE)
    ]


def _has_password(it: Accounts, name: str) -> bool:
    secret = it.people.secrets.get(name)
    return secret is not None and secret.usable


def _former(it: Accounts) -> list[str]:
    """What the file says of others. A line that sudo does not read or understand goes, for that
    takes nothing from anybody.
    """
    faults = it.reading.sudo.faults
    wrong = {fault.number for fault in faults if fault.path == ADMINISTRATORS}
    return [
        own.text
        for own in present(it)
        if not rules.administrator(it, own) and not wrong & {*range(own.number, own.last + 1)}
    ]

"""How long passwords of existing accounts last."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from rocksalt.accounts import database
from rocksalt.host import Host
from rocksalt.transaction import each, must

NEVER = 99999


@dataclass(frozen=True)
class Wrong:
    """An account that ages otherwise than declared; ``days`` is None where it must not age.
    ``expiring`` is whether the declared days are over already.
    """

    name: str
    days: int | None
    sentence: str
    expiring: bool = False


def longest(days: int) -> int:
    """The setting as shadow has it, where 0 is no special number."""
    return days or NEVER


def wrong(
    people: database.Database,
    days: int,
    pillar: Collection[str] = (),
    exempt: Collection[str] = (),
) -> Iterator[Wrong]:
    """The accounts that age otherwise than declared. Those whose password is in the ``pillar`` must
    not age; ``exempt`` ones may do as they like, and so may those that have expired as a whole.
    """
    today = database.today()
    for name, secret in people.secrets.items():
        account = people.by_name.get(name)
        if account is None or name in exempt or secret.expired:
            continue
        lasts = NEVER if secret.longest is None else secret.longest
        reason = _everlasting(people, account, secret, pillar)
        if reason:
            if lasts < NEVER or secret.inactive is not None:
                yield Wrong(name, None, f"{reason} and ages: {_shown(secret)}")
        elif lasts != longest(days) and not (lasts >= NEVER and not days):
            sentence = f"the password of {name} lasts {_days(lasts)}, not {_days(longest(days))}"
            expiring = secret.changed is None or secret.changed + longest(days) < today
            if expiring:
                sentence += ", and would be expired at once: have it changed first"
            yield Wrong(name, longest(days), sentence, expiring)


def _everlasting(
    people: database.Database,
    account: database.Account,
    secret: database.Secret,
    pillar: Collection[str],
) -> str:
    """Why a password must not age, empty where it has to."""
    if account.name in pillar:
        return f"the password of {account.name} is declared in the pillar"
    if not secret.usable:
        return f"{account.name} has no password"
    return "" if people.is_human(account) else f"{account.name} is an account of the system"


def _shown(secret: database.Secret) -> str:
    parts = [f"it lasts {secret.longest} days"] if secret.longest is not None else []
    parts += [f"it ends {secret.inactive} days later"] if secret.inactive is not None else []
    return ", ".join(parts)


def _days(number: int) -> str:
    return "for ever" if number >= NEVER else f"{number} days"


def fix(host: Host, accounts: Iterable[Wrong]) -> None:
    """Has accounts age as declared, but for passwords that would be expired at once."""
    each(partial(_change, host, account) for account in accounts if not account.expiring)


def _change(host: Host, account: Wrong) -> None:
    ages = ("-M", "-1", "-I", "-1") if account.days is None else ("-M", str(account.days))
    must(host, f"chage cannot change {account.name}", "chage", *ages, account.name)

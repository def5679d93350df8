"""How long passwords of existing accounts last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rocksalt.accounts import database
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.transaction import must

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


def wrong(people: database.Database, days: int) -> Iterator[Wrong]:
    """The accounts that age otherwise than declared."""
    today = database.today()
    for name, secret in people.secrets.items():
        account = people.by_name.get(name)
        if account is None:
            continue
        lasts = NEVER if secret.longest is None else secret.longest
        if not (people.is_human(account) and secret.usable):
            if lasts < NEVER or secret.inactive is not None:
                yield Wrong(name, None, f"{name} has no password and ages: {_shown(secret)}")
        elif lasts != longest(days) and not (lasts >= NEVER and not days):
            sentence = f"the password of {name} lasts {_days(lasts)}, not {_days(longest(days))}"
            expiring = secret.changed is None or secret.changed + longest(days) < today
            if expiring:
                sentence += ", and would be expired at once: have it changed first"
            yield Wrong(name, longest(days), sentence, expiring)


def _shown(secret: database.Secret) -> str:
    parts = [f"it lasts {secret.longest} days"] if secret.longest is not None else []
    parts += [f"it ends {secret.inactive} days later"] if secret.inactive is not None else []
    return ", ".join(parts)


def _days(number: int) -> str:
    return "for ever" if number >= NEVER else f"{number} days"


def fix(host: Host, people: database.Database, days: int) -> None:
    """Has accounts age as declared, but for passwords that would be expired at once."""
    failures = []
    for each in wrong(people, days):
        ages = ("-M", "-1", "-I", "-1") if each.days is None else ("-M", str(each.days))
        if not each.expiring:
            try:
                must(host, f"chage cannot change {each.name}", "chage", *ages, each.name)
            except Refused as error:
                failures.append(str(error))
    if failures:
        raise Refused("; ".join(failures))

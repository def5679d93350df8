"""One look at the host: everything about its accounts that the checks need, and nothing decided
yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rocksalt.accounts import (
    administrators,
    consistency,
    database,
    passwords,
    sessions,
    strangers,
    sudo,
)
from rocksalt.host import Host
from rocksalt.settings import Baseline


@dataclass(frozen=True)
class Reading:
    """What the parts of the family read, each for itself; ``people`` are the account files and
    ``live`` is who is on the host, both read once for all.
    """

    people: database.Database = field(default_factory=database.Database)
    live: sessions.Live = field(default_factory=sessions.Live)
    administrators: administrators.Reading = field(default_factory=administrators.Reading)
    sudo: sudo.Reading = field(default_factory=sudo.Reading)
    strangers: strangers.Reading = field(default_factory=strangers.Reading)
    consistency: consistency.Reading = field(default_factory=consistency.Reading)
    passwords: passwords.Reading = field(default_factory=passwords.Reading)


def read(host: Host, baseline: Baseline) -> Reading:
    """Looks at everything once. Nothing on the host changes."""
    people = database.read(host)
    return Reading(
        people=people,
        live=sessions.read(host),
        administrators=administrators.read(host, people, baseline),
        sudo=sudo.read(host, people),
        strangers=strangers.read(host, people),
        consistency=consistency.read(host, people, baseline),
        passwords=passwords.read(host, people),
    )

"""How passwords are made, checked and kept; sessions that end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rocksalt.accounts import database
from rocksalt.findings import Seen
from rocksalt.host import Host

if TYPE_CHECKING:
    from rocksalt.accounts.checks import Accounts


@dataclass(frozen=True)
class Reading:
    """What was seen of it on the host."""


def read(host: Host, people: database.Database) -> Reading:
    """Looks at the host."""
    return Reading()


def fix(host: Host, it: Accounts, ids: Sequence[str]) -> None:
    """Enforces those of ``ids`` that belong here."""


def leftovers(host: Host) -> list[str]:
    """What is on the host that the baseline put there."""
    return []


def clean(host: Host) -> None:
    """Takes it away."""


CHECKS: dict[str, tuple[Callable[[Accounts], Any], Callable[[Accounts], Seen]]] = {}

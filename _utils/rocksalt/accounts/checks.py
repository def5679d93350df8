"""The comparison for one host: settings and a reading in, expected and seen values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from rocksalt import findings
from rocksalt.accounts import administrators, consistency, passwords, strangers, sudo
from rocksalt.accounts.reading import Reading, read
from rocksalt.findings import Seen
from rocksalt.host import Host
from rocksalt.settings import Baseline
from rocksalt.transaction import each

PARTS = (administrators, sudo, strangers, consistency, passwords)


class Accounts:
    """What the settings declare, and what was read, for the parts to compare."""

    def __init__(self, baseline: Baseline, reading: Reading):
        self.baseline = baseline
        self.reading: Reading = reading
        self.people = reading.people
        self.family = baseline.families["accounts"]
        self.settings: Mapping[str, Any] = self.family.settings
        self.wanted = findings.wanted(baseline, "accounts", self.family.controls)

    @property
    def administrators(self) -> Mapping[str, Mapping[str, Any]]:
        """Name -> ``{keys, nopasswd, shell, uid}``; all but the keys may be missing."""
        return self.settings["administrators"]  # type: ignore[no-any-return]

    @property
    def hashes(self) -> Mapping[str, str] | None:
        """Name -> declared password hash; None where the settings are cached, for secrets are not
        kept on the host.
        """
        found = self.settings["password_hashes"]
        return found if isinstance(found, Mapping) else None

    @cached_property
    def declared(self) -> set[str]:
        """Who may have an account."""
        return {*self.administrators, *self.settings["users"]}

    @cached_property
    def default_accounts(self) -> set[str]:
        """Accounts of images and vendors that nobody declared."""
        return set(self.settings["default_accounts"]) - self.declared

    def removes(self, kind: str) -> bool:
        """Whether the settings have this kind of a stranger's traces taken away."""
        return kind in self.settings["remove"]

    def expected(self) -> dict[str, Any]:
        """Control id -> what it expects."""
        return {i: expect(self) for part in PARTS for i, (expect, _) in part.CHECKS.items()}

    def seen(self) -> dict[str, Seen]:
        """Control id -> what the reading shows."""
        return {i: look(self) for part in PARTS for i, (_, look) in part.CHECKS.items()}


def look(host: Host, baseline: Baseline) -> Accounts:
    """The comparison for a host as it is now."""
    return Accounts(baseline, read(host, baseline))


def enforce(host: Host, it: Accounts, ids: Sequence[str]) -> None:
    """Enforces the controls ``ids``, part by part: administrators get their accounts before others
    lose theirs. Raises :class:`Refused` with what could not be done, after everything else was.
    """
    each(partial(part.fix, host, it, ids) for part in PARTS)


def leftovers(host: Host) -> list[str]:
    """What the baseline put on the host and :func:`clean` takes away. Accounts of people, their
    keys and what sudo grants them stay, for without them nobody might get in.
    """
    return [item for part in PARTS for item in part.leftovers(host)]


def clean(host: Host) -> None:
    """Takes it away."""
    for part in PARTS:
        part.clean(host)

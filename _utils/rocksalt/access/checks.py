"""What each control of the family expects, and what was seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from rocksalt.access import (
    booked,
    certified,
    controls,
    guarded,
    master,
    minion,
    rendering,
    required,
    reviewed,
    served,
    trusting,
    unasked,
)
from rocksalt.access.facts import API, MASTER, Checks, Facts
from rocksalt.errors import Refused
from rocksalt.findings import Seen, some

CHECKS: Checks = {
    **master.CHECKS,
    **served.CHECKS,
    **certified.CHECKS,
    **trusting.CHECKS,
    **unasked.CHECKS,
    **guarded.CHECKS,
    **reviewed.CHECKS,
    **booked.CHECKS,
    **minion.CHECKS,
    **required.CHECKS,
}
_OF_THE_API = (controls.SERVICE, controls.SECURED, controls.GENUINE, controls.KEY)
_NEED_CERTIFICATE = (controls.SERVICE, controls.SECURED)
_NO_MASTER = "this host has no Salt master"


class Access(Facts):
    """The comparison for one host: settings and a host in, expected and seen values out."""

    def expected(self) -> dict[str, Any]:
        """Control id -> what it expects; None where it does not apply."""
        return {controls.DECLARED: True, **{i: want for i, (want, _) in self._compared.items()}}

    def seen(self) -> dict[str, Seen]:
        """Control id -> what was seen."""
        return {
            controls.DECLARED: self._whether_declared,
            **{i: s for i, (_, s) in self._compared.items()},
        }

    @cached_property
    def _compared(self) -> dict[str, tuple[Any, Seen]]:
        return {i: self._looked(i, expect, look) for i, (expect, look) in CHECKS.items()}

    @property
    def governed(self) -> bool:
        """Whether there is a master here that is declared."""
        return self.setup.declared and self.is_installed(MASTER)

    @cached_property
    def _whether_declared(self) -> Seen:
        return self._tried(lambda: (True, self._declared()))[1]

    def _declared(self) -> Seen:
        where = self.setup.family.where("masters")
        if self.setup.declared:
            if self.is_installed(MASTER):
                why = [
                    *(f"{stray} is a master as well, which systemd did not start"
                      for stray in self.strays),
                    *self.elsewhere,
                ]  # fmt: skip
                return Seen(not why, some(why))
            lacking = f"{where} names {self.setup.minion}, and {MASTER} is not installed here"
            return Seen(False, f"{lacking}: apt-get install salt-master, or take the name out")
        if found := self.masters:
            undeclared = f"{'; '.join(found)}, and {where} does not name {self.setup.minion}"
            return Seen(False, f"{undeclared}: name it, or take the master away")
        return Seen(problem="skipped", reason=_NO_MASTER)

    def _inapplicable(self, identifier: str) -> str:
        """Why a control is not about this host; empty where it is."""
        if identifier in minion.IDS:
            return minion.inapplicable(self)
        if not self.setup.declared:
            if self._whether_declared.problem == "error":
                return f"whether there is a Salt master cannot be told ({controls.DECLARED})"
            return (
                f"its master is not declared ({controls.DECLARED})" if self.masters else _NO_MASTER
            )
        if not self.is_installed(MASTER):
            return f"{_NO_MASTER} ({controls.DECLARED})"
        if identifier in _OF_THE_API and not self.setup.serves:
            return f"{self.setup.family.where('address')} is empty, which is no salt-api"
        if identifier in _NEED_CERTIFICATE and self.setup.serves and not self.certified:
            return served.UNCERTIFIED
        if identifier == controls.SECURED and not self.is_active(API):
            return f"{API} does not run ({controls.SERVICE})"
        if identifier == controls.REQUIRED and not self.settings["require_signed"]:
            return f"{self.setup.family.where('require_signed')} is false"
        if identifier == controls.WHOLE and not self.settings["logbook"]:
            return f"{self.setup.family.where('logbook')} is false ({controls.BOOKED})"
        return ""

    def _looked(
        self, identifier: str, expect: Callable[[Facts], Any], look: Callable[[Facts], Seen]
    ) -> tuple[Any, Seen]:
        """What a control expects and saw; what depends on another that failed says so instead."""

        def work() -> tuple[Any, Seen]:
            if why := self._inapplicable(identifier):
                return None, Seen(problem="skipped", reason=why)
            return expect(self), look(self)

        return self._tried(work)

    def _tried(self, work: Callable[[], tuple[Any, Seen]]) -> tuple[Any, Seen]:
        """What a look gives; one that fails hides no other."""
        try:
            return work()
        except Refused as error:
            why = str(error)
        except LookupError as error:
            why = str(error.args[0] if error.args else error)
        except (AttributeError, OSError, RecursionError, TypeError, ValueError) as error:
            # What is read may be of somebody else.
            why = f"this cannot be looked at: {type(error).__name__}: {error}"
        return None, Seen(problem="error", reason=why)

    def render(self) -> dict[str, str]:
        """Our texts by their paths, without the passwords."""
        signing = self.settings["minions_sign"]
        of_minion = {minion.path(self.folder): minion.config(self.settings)} if signing else {}
        if not self.setup.declared:
            return of_minion
        return {
            **of_minion,
            self.config_path: self.config,
            **rendering.door_files(),
            **(booked.texts(self) if self.settings["logbook"] else {}),
        }

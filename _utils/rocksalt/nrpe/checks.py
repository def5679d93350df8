"""What each control of the family expects, and what was seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rocksalt.findings import Seen, some
from rocksalt.nrpe import certified, controls, files, running
from rocksalt.nrpe.facts import NOBODY, Checks, Facts

_ANSWERS = (controls.ADDRESS, controls.SECURED, controls.HEARD)
NEED_ADDRESS = (controls.CONFIG, controls.CURRENT, *_ANSWERS)
NEED_CERTIFICATE = (controls.SERVICE, controls.CURRENT, controls.EXPIRY, controls.DEDICATED)
NEED_PROCESS = (controls.CURRENT, controls.ACCOUNT)
CHECKS: Checks = {**running.CHECKS, **files.CHECKS, **certified.CHECKS}


class Nrpe(Facts):
    """The comparison for one host: settings and a host in, expected and seen values out."""

    def expected(self) -> dict[str, Any]:
        """Control id -> what it expects."""
        found = {i: expect(self) for i, (expect, _) in CHECKS.items()}
        return {controls.WATCHED: True, **found}

    def seen(self) -> dict[str, Seen]:
        """Control id -> what was seen. Where nobody is to ask, there is nothing to look at."""
        unheard = self.setup.unheard if self.setup.monitors else [self._unwatched()]
        watched = Seen(not unheard, some(unheard))
        if not self.setup.monitors:
            skipped = Seen(problem="skipped", reason=f"{NOBODY} ({controls.WATCHED})")
            return {controls.WATCHED: watched, **dict.fromkeys(CHECKS, skipped)}
        if self.reading.absent:
            absent = Seen(None, self.reading.absent, remedy="state")
            return {controls.WATCHED: watched, **dict.fromkeys(CHECKS, absent)}
        found = {i: self._looked(i, look) for i, (_, look) in CHECKS.items()}
        return {controls.WATCHED: watched, **found}

    def _unwatched(self) -> str:
        names = ", ".join(self.setup.settings["monitors"]) or "nobody"
        if self.setup.too_wide:
            return f"{NOBODY}: {some(self.setup.too_wide)}"
        return (
            f"{NOBODY}: {self.setup.family.where('monitors')} names {names}, and no network "
            "of that name is in hardening:networks"
        )

    def _looked(self, identifier: str, look: Callable[[Facts], Seen]) -> Seen:
        """What a control saw; what depends on another that failed says so instead."""
        if identifier in NEED_ADDRESS and (why := self.problem()):
            return Seen(problem="error", reason=why)
        if identifier in NEED_CERTIFICATE and not self.reading.certificates.complete:
            return Seen(
                problem="skipped", reason=f"NRPE has no certificate yet ({controls.GENUINE})"
            )
        stopped = identifier in _ANSWERS and not self.reading.runs
        if stopped or (identifier in NEED_PROCESS and not self.reading.process):
            return Seen(problem="skipped", reason=f"NRPE does not run ({controls.SERVICE})")
        return look(self)

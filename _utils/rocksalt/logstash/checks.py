"""What each control of the family expects, and what was seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rocksalt import logstash
from rocksalt.errors import Refused
from rocksalt.findings import Seen
from rocksalt.logstash import certified, controls, journald, server, shipper, starting, witness
from rocksalt.logstash.facts import Checks, Facts

NOBODY = "nobody receives the logs of this host"
_NEED_CERTIFICATE = (
    *(controls.SERVICE, controls.CURRENT, controls.CONNECTED),
    *(controls.WAITING, controls.PROBED),
)
_NEED_PROCESS = (controls.CURRENT, controls.CONNECTED, controls.WAITING, controls.PROBED)
_NEED_STATUS = (controls.CONNECTED, controls.WAITING, controls.COMPLETE)
_SERVER_AS_WELL = (controls.EXPIRY, controls.PRIVATE)
"""What holds for the certificates of a log server, too, which need not ship."""
CHECKS: Checks = {
    **shipper.CHECKS,
    **journald.CHECKS,
    **certified.CHECKS,
    **server.CHECKS,
    **witness.CHECKS,
}


class Logstash(Facts):
    """The comparison for one host: settings and a host in, expected and seen values out."""

    def expected(self) -> dict[str, Any]:
        """Control id -> what it expects; None where it does not apply."""
        found = {
            i: None if self._inapplicable(i) else expect(self) for i, (expect, _) in CHECKS.items()
        }
        return {controls.RECEIVED: True, **found}

    def seen(self) -> dict[str, Seen]:
        """Control id -> what was seen."""
        found = {i: self._looked(i, look) for i, (_, look) in CHECKS.items()}
        return {controls.RECEIVED: self._received(), **found}

    def _received(self) -> Seen:
        if self.setup.ships:
            return Seen(True)
        nobody = f"{NOBODY}: {self.setup.family.where('servers')} is empty"
        if not starting.runs_on(self):
            return Seen(False, nobody)
        why = f"{nobody}; the shipper of before runs on, to the log servers that it had"
        return Seen(False, why, remedy="state")

    def _inapplicable(self, identifier: str) -> str:
        """Why a control is not about this host; empty where it is."""
        if identifier in journald.CHECKS:
            return ""
        if identifier in server.CHECKS:
            return "" if self.setup.receives else "this host is no log server"
        if identifier in witness.CHECKS:
            return "" if self.setup.witnesses else "this host is no witness of log servers"
        as_well = identifier in _SERVER_AS_WELL and self.setup.receives
        return "" if self.setup.ships or as_well else f"{NOBODY} ({controls.RECEIVED})"

    def _looked(self, identifier: str, look: Callable[[Facts], Seen]) -> Seen:
        """What a control saw; what depends on another that failed says so instead."""
        why = self._inapplicable(identifier) or self._too_early(identifier)
        if why:
            return Seen(problem="skipped", reason=why)
        try:
            return look(self)
        except (LookupError, Refused) as error:
            return Seen(problem="error", reason=str(error))
        except (AttributeError, OSError, TypeError, ValueError) as error:
            # What is read may be of somebody else, and hides no other control.
            why = f"this cannot be looked at: {type(error).__name__}: {error}"
            return Seen(problem="error", reason=why)

    def _too_early(self, identifier: str) -> str:
        if identifier in _NEED_CERTIFICATE and not self.certified:
            return f"the shipper has no certificate yet ({controls.GENUINE})"
        if identifier in _NEED_PROCESS and not self.runs:
            return f"the shipper does not run ({controls.SERVICE})"
        if identifier in _NEED_STATUS and self.status is None:
            return f"the shipper has not said yet how it is ({controls.CURRENT})"
        if identifier == controls.MASKED and self.host.read(logstash.SHIPPER_CONFIG) is None:
            return f"the shipper has no configuration yet ({controls.OURS})"
        return ""

    def render(self) -> dict[str, str]:
        """Our texts for the journal and the shipper; its program, a zip, is no text."""
        found = {journald.DROP_IN: journald.render(self)}
        found |= shipper.render(self) if self.setup.ships else {}
        return {path: text for path, text in found.items() if path != logstash.SHIPPER}

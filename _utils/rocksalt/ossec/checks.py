"""What each control of the family expects, and what was seen."""

from __future__ import annotations

from typing import Any

from rocksalt.findings import Seen
from rocksalt.ossec import HOME, TOP, controls, guarded, running, watching
from rocksalt.ossec.facts import Checks, Facts

CHECKS: Checks = dict(sorted({**running.CHECKS, **watching.CHECKS, **guarded.CHECKS}.items()))
_WITHOUT_AGENT = (controls.SIGNED, controls.UNBANNED, controls.NOTED)


class Ossec(Facts):
    """The comparison for one host: settings in, expected and seen values out."""

    def expected(self) -> dict[str, Any]:
        """Control id -> what it expects."""
        found = {identifier: expect(self) for identifier, (expect, _) in CHECKS.items()}
        return {controls.WATCHED: "a server is declared", **found}

    def seen(self) -> dict[str, Seen]:
        """Control id -> what was seen."""
        if not self.declared.servers:
            why = f"{TOP}:servers is empty: nobody watches this host"
            skipped = Seen(problem="skipped", reason="no OSSEC server is declared (OSS-001)")
            return {
                controls.WATCHED: Seen("nobody watches this host", why),
                **dict.fromkeys(CHECKS, skipped),
            }
        found = {controls.WATCHED: Seen("a server is declared")}
        absent = Seen(None, f"the OSSEC agent is not installed in {HOME}")
        for identifier, (_, look) in CHECKS.items():
            there = self.version or identifier in _WITHOUT_AGENT
            found[identifier] = look(self) if there else absent
        return found

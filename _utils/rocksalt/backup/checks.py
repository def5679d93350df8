"""What each control of the family expects, and what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rocksalt.findings import Seen
from rocksalt.settings import Baseline

NO_MASTER = "no Salt master on this host"


class Backup:
    """The comparison for one host."""

    def __init__(self, baseline: Baseline, signs: Sequence[str]):
        self.settings = baseline.families["backup"].settings
        self.signs = signs

    def expected(self) -> dict[str, Any]:
        """Control id -> what it expects."""
        return {"BKP-001": "backed up" if self.signs or self.settings["master"] else NO_MASTER}

    def seen(self) -> dict[str, Seen]:
        """Control id -> what was seen."""
        if self.settings["master"]:
            return {"BKP-001": Seen("backed up")}
        if not self.signs:
            return {"BKP-001": Seen(NO_MASTER)}
        why = f"{', '.join(self.signs)}, and hardening:backup:master is false"
        return {"BKP-001": Seen("not backed up", why)}

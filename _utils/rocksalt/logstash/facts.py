"""One host as the checks and the enforcement see it: its settings, and how it is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from rocksalt import findings, logstash
from rocksalt.findings import Seen
from rocksalt.host import Host
from rocksalt.settings import Baseline


class Setup:
    """The settings of the family for one host, whose minion's id is ``minion``."""

    def __init__(self, baseline: Baseline, minion: str):
        self.baseline = baseline
        self.minion = minion
        self.family = baseline.families[logstash.FAMILY]
        self.settings: Mapping[str, Any] = self.family.settings

    @property
    def ships(self) -> bool:
        """Whether anybody receives the logs of this host."""
        return bool(self.settings["servers"])

    @property
    def receives(self) -> bool:
        """Whether this host is a log server."""
        return bool(self.settings["receiver"])

    @property
    def witnesses(self) -> bool:
        """Whether this host is the witness of log servers."""
        return bool(self.settings["witness"])


class Facts:
    """One host: what is wanted of it, and how it is. ``interpreter`` runs our programs."""

    def __init__(
        self, baseline: Baseline, minion: str, host: Host, now: dt.datetime, interpreter: str
    ):
        self.setup = Setup(baseline, minion)
        self.host = host
        self.now = now
        self.interpreter = interpreter
        self.wanted = findings.wanted(baseline, logstash.FAMILY, self.setup.family.controls)


Checks = dict[str, tuple[Callable[[Facts], Any], Callable[[Facts], Seen]]]
"""Control id -> what it expects, and what was seen."""

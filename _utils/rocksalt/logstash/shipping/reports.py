"""The drift report of this host as lines: one that sums it up, and one for each finding."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from rocksalt.logstash.shipping import datasets
from rocksalt.logstash.shipping.events import NAME as MOST
from rocksalt.logstash.shipping.events import Maker, identity
from rocksalt.logstash.shipping.events import now as micros
from rocksalt.logstash.shipping.steps import Step

NAME = "report"
LOOK = 5.0
"""Seconds from one look at the report to the next."""
_SEVERITIES = {"critical": 4, "high": 3, "medium": 2, "low": 1}
_STATE = {"kind": "state", "category": ["configuration"], "type": ["info"]}


class Reports:
    """The report at a path as a source of steps; none where the path is empty."""

    def __init__(self, path: str, host: str, maker: Maker):
        self._path, self._host, self._maker = path, host, maker
        self._look_at = 0.0
        self._stamp: tuple[int, int] | None = None
        self._sent: Any = None

    def start(self, position: Any) -> None:
        """Goes to a position, which is the time of a report."""
        self._sent, self._stamp, self._look_at = position, None, 0.0

    def take(self, now: float) -> Iterator[Step]:
        """The lines of a new report."""
        if not self._path or now < self._look_at:
            return
        self._look_at = now + LOOK
        report = self._changed()
        if report is None or report.get("time") in (None, self._sent):
            return
        try:
            steps = list(self._steps(report))
        except (KeyError, TypeError, ValueError, AttributeError):
            return
        yield from steps
        self._sent = report["time"]
        yield Step(NAME, self._sent)

    def _steps(self, report: dict[str, Any]) -> Iterator[Step]:
        yield self._summary(report)
        for finding in report["findings"]:
            if finding["status"] != "ok":
                yield self._finding(report["time"], finding)

    def _changed(self) -> dict[str, Any] | None:
        """The report, where the file is another one than at the last look; one that is not whole is
        looked at again.
        """
        try:
            state = os.stat(self._path)
            stamp = (state.st_mtime_ns, state.st_ino)
            if stamp == self._stamp:
                return None
            with open(self._path, encoding="utf-8") as file:
                report = json.load(file)
        except (OSError, ValueError):
            return None
        self._stamp = stamp
        return report if isinstance(report, dict) else None

    def _summary(self, report: dict[str, Any]) -> Step:
        summary = report["summary"]
        score = "no score" if summary["score"] is None else f"score {summary['score']:g}"
        counts = ", ".join(
            f"{summary[it]} {it}" for it in ("ok", "drift", "waived", "skipped", "error")
        )
        severity = _SEVERITIES.get(summary["worst"] or "", 0)
        extra = {
            "event": {**_STATE, "action": "drift_report", "severity": severity},
            "rocksalt": {"report": report["time"]},
        }
        return self._step(report["time"], "", f"drift report: {score}, {counts}", extra)

    def _finding(self, time: str, finding: dict[str, Any]) -> Step:
        severity = _SEVERITIES.get(finding["severity"], 0)
        extra = {
            "event": {**_STATE, "action": finding["status"], "severity": severity},
            "rule": {
                "id": finding["id"],
                "name": finding["title"][:MOST],
                "ruleset": finding["family"],
            },
            "log": {"level": finding["severity"]},
            "rocksalt": {"report": time},
        }
        return self._step(time, finding["id"], finding["reason"], extra)

    def _step(self, time: str, finding: str, message: str, extra: dict[str, Any]) -> Step:
        key = identity(self._host, "drift", time, finding)
        lines = self._maker.of_own(datasets.DRIFT, key, message, extra)
        return Step(NAME, self._sent, tuple(lines), micros())

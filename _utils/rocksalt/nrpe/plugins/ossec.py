"""``check_ossec``: whether the OSSEC agent is connected and scans, and is as it should be."""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rocksalt.nrpe.plugins import report
from rocksalt.nrpe.plugins.plugin import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    Told,
    Unknown,
    age,
    lasting,
    run,
)

STATUS = "/var/lib/rocksalt/ossec-status.json"
_STALE = 300
_OPTIONAL = "ossec-execd"
"""It ends by itself where responses are switched off; the baseline knows whether it should run."""
_NOBODY = "OSS-001"
_UNWATCHED = ("drift", "waived", "skipped")
"""Whether or not that was decided, there is no agent to ask."""


def main(argv: Sequence[str] | None = None) -> int:
    """The plugin as a command."""
    what = "The OSSEC agent: connection, last scan, and drift from its hardening baseline."
    parser = report.options("check_ossec", what)
    parser.add_argument("--status", default=STATUS, metavar="FILE", help=f"the status ({STATUS})")
    return run("OSSEC", report.chosen(parser, argv), _judge)


def _judge(given: argparse.Namespace, now: dt.datetime) -> Iterator[Told]:
    """What the status says comes first: it is a minute old, the report up to hours."""
    told, unwatched = [], False
    try:
        known = report.load(given.report, "drift report")
        fresh = report.recent(known, given, now)
        told = [*report.findings(known, given, "ossec"), fresh]
        unwatched = any(
            it["id"] == _NOBODY and it["status"] in _UNWATCHED for it in known["findings"]
        )
    except Unknown as unknown:
        told.append(Told(UNKNOWN, str(unknown)))
    if not unwatched:
        yield from _status(given, now)
    yield from told


def _status(given: argparse.Namespace, now: dt.datetime) -> Iterator[Told]:
    try:
        status = report.load(given.status, "status of the OSSEC agent")
        seconds = age(status.get("time"), now, given.status)
        if not -_STALE < seconds < _STALE:
            raise Unknown(
                f"the status of the agent is {lasting(abs(seconds))} off: is its timer up?"
            )
    except Unknown as unknown:
        yield Told(UNKNOWN, str(unknown))
        return
    yield _connection(status)
    yield _scan(status, now)


def _connection(status: Mapping[str, Any]) -> Told:
    figures = (f"connected={int(bool(status['connected']))};;;0;1",)
    dead = sorted(it for it, runs in status["daemons"].items() if not runs and it != _OPTIONAL)
    if dead:
        return Told(CRITICAL, f"not running: {', '.join(dead)}", figures)
    if not status["connected"]:
        return Told(CRITICAL, f"not connected: {status['why']}", figures)
    within = lasting(status["answered_within"])
    return Told(OK, f"{status['server'] or 'a server'} answered in the last {within}", figures)


def _scan(status: Mapping[str, Any], now: dt.datetime) -> Told:
    if not status["scanned"]:
        return Told(WARNING, "no scan has ended yet")
    seconds, due = age(status["scanned"], now, "the last scan"), int(status["scan_due"])
    figures = (f"scan_age={seconds:.0f}s;{due}",)
    state = WARNING if seconds > due else OK
    return Told(state, f"last scan {lasting(max(seconds, 0))} ago", figures)

"""The last drift report as a plugin sees it."""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rocksalt.nrpe.plugins.plugin import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    Parser,
    Told,
    Unknown,
    age,
    lasting,
    parser,
    run,
)

PATH = "/var/lib/rocksalt/last.json"
SCHEMA = 1
SEVERITIES = ("low", "medium", "high", "critical")
_LARGEST = 64 << 20
_CLOCKS = 300
_SHOWN = 5

Report = Mapping[str, Any]


def options(prog: str, description: str) -> Parser:
    """The options of a plugin that reads the report."""
    found = parser(prog, description)
    found.add_argument(
        "-w", "--warning", choices=SEVERITIES, default="low", metavar="SEVERITY",
        help="least severity of drift that is a warning: low (default), medium, high, critical",
    )  # fmt: skip
    found.add_argument(
        "-c", "--critical", choices=SEVERITIES, default="high", metavar="SEVERITY",
        help="least severity of drift that is critical (default high)",
    )  # fmt: skip
    found.add_argument(
        "--max-age", type=int, default=9000, metavar="SECONDS",
        help="age from which on the report is too old to say anything (default 9000)",
    )  # fmt: skip
    found.add_argument(
        "--max-settings-age", type=int, default=30, metavar="DAYS",
        help="the same for settings that the host remembers from its master (default 30)",
    )  # fmt: skip
    found.add_argument("--report", default=PATH, metavar="FILE", help=f"the report ({PATH})")
    return found


def chosen(found: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options as given; thresholds that cross are a mistake."""
    given = found.parse_args(argv)
    if SEVERITIES.index(given.warning) > SEVERITIES.index(given.critical):
        found.error(f"-w {given.warning} is worse than -c {given.critical}")
    return given


def load(path: str, what: str) -> dict[str, Any]:
    """A file in JSON that root wrote; ``what`` it is in words."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.loads(file.read(_LARGEST))
    except FileNotFoundError:
        raise Unknown(f"there is no {what}: {path} does not exist") from None
    except OSError as error:
        raise Unknown(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise Unknown(f"{path} is damaged") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise Unknown(f"{path} is no {what} of schema {SCHEMA}")
    return found


def recent(report: Report, given: argparse.Namespace, now: dt.datetime) -> Told:
    """That the report can be believed; :class:`Unknown` where it cannot."""
    seconds = age(report.get("time"), now, given.report)
    if seconds > given.max_age:
        raise Unknown(
            f"the last drift report is {lasting(seconds)} old: is rocksalt-drift.timer up?"
        )
    if seconds < -_CLOCKS:
        raise Unknown("the last drift report is from the future: was the clock set back?")
    remembered = report.get("settings_age", 0)
    if report["settings"] == "cached" and remembered > given.max_settings_age * 86400:
        raise Unknown(
            f"the report judges by settings that are {lasting(remembered)} old: apply a highstate"
        )
    return Told(
        OK, f"reported {lasting(max(seconds, 0))} ago", (f"age={seconds:.0f}s;{given.max_age}",)
    )


def findings(report: Report, given: argparse.Namespace, family: str = "") -> Iterator[Told]:
    """What the report says of all families, or of one."""
    known = [it for it in report["findings"] if not family or it["family"] == family]
    if not known:
        raise Unknown(f"the last drift report says nothing of {family or 'any family'}")
    by_status: dict[str, list[Mapping[str, Any]]] = {}
    for it in sorted(known, key=lambda it: -SEVERITIES.index(it["severity"])):
        by_status.setdefault(it["status"], []).append(it)
    drifted, failed = by_status.get("drift", []), by_status.get("error", [])
    if drifted:
        words = f"{len(drifted)} of {len(known)} controls drifted: {_named(drifted)}"
        yield Told(_state(drifted[0]["severity"], given), words)
    if failed:
        yield Told(UNKNOWN, f"{len(failed)} could not be checked: {_named(failed)}")
    fine = len(by_status.get("ok", []))
    words = f"{fine} of {len(known)} controls hold" if fine else "none of its controls applies"
    words = "" if drifted or failed else words
    yield Told(OK, words, tuple(_figures(report, family, by_status)))


def _state(severity: str, given: argparse.Namespace) -> int:
    rank = SEVERITIES.index(severity)
    if rank >= SEVERITIES.index(given.critical):
        return CRITICAL
    return WARNING if rank >= SEVERITIES.index(given.warning) else OK


def _named(found: Sequence[Mapping[str, Any]]) -> str:
    names = [f"{it['id']} ({it['severity']})" for it in found[:_SHOWN]]
    return ", ".join(names) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def _figures(
    report: Report, family: str, by_status: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[str]:
    score = report["summary"]["score"]
    if not family and score is not None:
        yield f"score={score}%;;;0;100"
    drifted = by_status.get("drift", ())
    yield f"drift={len(drifted)};;;0"
    for severity in reversed(SEVERITIES):
        yield f"{severity}={sum(it['severity'] == severity for it in drifted)};;;0"
    for status in ("error", "waived"):
        yield f"{status}={len(by_status.get(status, ()))};;;0"


def main(prog: str, label: str, description: str, family: str, argv: Sequence[str] | None) -> int:
    """A plugin that says what the report does, of one family or all."""
    given = chosen(options(prog, description), argv)

    def judge(given: argparse.Namespace, now: dt.datetime) -> Iterator[Told]:
        report = load(given.report, "drift report")
        fresh = recent(report, given, now)
        yield from findings(report, given, family)
        yield fresh

    return run(label, given, judge)

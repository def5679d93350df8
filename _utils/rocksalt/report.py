"""The drift report: the stable document that everything else reads, and its form for people."""

from __future__ import annotations

import datetime as dt
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rocksalt import __version__, schema
from rocksalt.catalogue import SEVERITIES
from rocksalt.errors import NoSuch
from rocksalt.findings import STATUSES, Finding, show
from rocksalt.settings import Baseline

SCHEMA = 1
RETCODE_OK, RETCODE_DRIFT, RETCODE_ERROR = 0, 2, 3


def build(
    baseline: Baseline, host: str, findings: Iterable[Finding], everything: bool = False
) -> dict[str, Any]:
    """The report on ``host``: ``findings`` holds all but the ok ones unless ``everything`` is true.

    The summary always counts every finding given, so a report on one family speaks of that family
    alone.
    """
    findings = list(findings)
    now = dt.datetime.now(dt.timezone.utc)
    report = {
        "schema": SCHEMA,
        "host": host,
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "version": __version__,
        "settings": baseline.source,
        "summary": summary(findings),
        "findings": [f for f in findings if everything or f["status"] != "ok"],
    }
    if baseline.source == "cached":
        report["settings_age"] = int((now - baseline.time).total_seconds())
    if baseline.warnings:
        report["warnings"] = list(baseline.warnings)
    return report


def summary(findings: Iterable[Finding]) -> dict[str, Any]:
    """Counts by status, the score in per cent (None when nothing counts) and the worst severity
    that drifted.
    """
    findings = list(findings)
    counts = Counter(finding["status"] for finding in findings)
    counted = counts["ok"] + counts["drift"] + counts["error"] + counts["waived"]
    drifted = {finding["severity"] for finding in findings if finding["status"] == "drift"}
    return {
        "controls": len(findings),
        **{status: counts[status] for status in STATUSES},
        "score": round(100 * counts["ok"] / counted, 1) if counted else None,
        "worst": next((severity for severity in SEVERITIES if severity in drifted), None),
    }


def retcode(report: Mapping[str, Any]) -> int:
    """0 no drift, 2 drift, 3 a check could not run (3 wins)."""
    if report["summary"]["error"]:
        return RETCODE_ERROR
    return RETCODE_DRIFT if report["summary"]["drift"] else RETCODE_OK


def chosen(
    baseline: Baseline,
    families: Iterable[str] | str | None,
    controls: Iterable[str] | str | None,
    severity: str | None,
) -> set[str]:
    """The control ids a report is asked for; a name that does not exist is an error, not an empty
    report.
    """
    names, ids = _listed(families), _listed(controls)
    known = {i: c for family in baseline.families.values() for i, c in family.controls.items()}
    found = [
        f"families: no family {name!r}{schema.nearest(name, baseline.families)}"
        for name in names
        if name not in baseline.families
    ]
    found += [
        f"controls: no control {i!r}{schema.nearest(i, known)}" for i in ids if i not in known
    ]
    if severity is not None and severity not in SEVERITIES:
        found.append(f"severity: {severity!r} is not one of {', '.join(SEVERITIES)}")
    if found:
        raise NoSuch("; ".join(found))
    grave = SEVERITIES[: SEVERITIES.index(severity) + 1] if severity else SEVERITIES
    return {
        i
        for i, control in known.items()
        if (not names or control.family in names)
        and (not ids or i in ids)
        and control.severity in grave
    }


def _listed(value: Iterable[str] | str | None) -> list[str]:
    if value is None:
        return []
    return [item.strip() for item in value.split(",")] if isinstance(value, str) else list(value)


_COLOURS = {
    "drift": "\033[31m",
    "error": "\033[35m",
    "waived": "\033[33m",
    "skipped": "\033[36m",
    "ok": "\033[32m",
}
_NAMED = 3  # ids of controls that were skipped for one reason; of the others there is the number
_ORDER = ("error", "drift", "waived", "skipped", "ok")


def text(report: Mapping[str, Any], colour: bool = False, width: int = 100) -> str:
    """The report for a person: the verdict first, then each finding with what to do."""
    lines = [_headline(report), *(f"warning: {warning}" for warning in report.get("warnings", ()))]
    ranked = sorted(
        report["findings"],
        key=lambda f: (_ORDER.index(f["status"]), SEVERITIES.index(f["severity"]), f["id"]),
    )
    groups = _alike(ranked)
    for same in groups:
        if same[0]["status"] != "skipped":
            lines += _finding_lines(same, colour, width)
    if skipped := [same for same in groups if same[0]["status"] == "skipped"]:
        lines += ["", *(_skipped_line(same, colour, width) for same in skipped)]
    fixes = sorted({f["fix"] for f in ranked if f["status"] == "drift" and f["remedy"] == "state"})
    if fixes:
        lines += ["", f"To fix: {', '.join(fixes)}"]
    return "\n".join([*lines, ""] if ranked else lines)


def _headline(report: Mapping[str, Any]) -> str:
    counts = report["summary"]
    parts = [f"{counts[status]} {status}" for status in _ORDER if counts[status]]
    score = "no score" if counts["score"] is None else f"score {counts['score']}"
    source = ""
    if report["settings"] == "cached":
        source = f", judged by settings cached {_age(report['settings_age'])} ago"
    controls = f"{counts['controls']} control{'' if counts['controls'] == 1 else 's'}"
    return f"{report['host']}: {controls}: {', '.join(parts) or 'none'}; {score}{source}"


def _age(seconds: int) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"


def _alike(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Findings in groups to be told together: what could not be looked at for the same reason."""
    groups: dict[Any, list[Finding]] = {}
    for finding in findings:
        told_alone = finding["status"] == "drift" or not finding["reason"]
        key = finding["id"] if told_alone else (finding["status"], finding["reason"])
        groups.setdefault(key, []).append(finding)
    return list(groups.values())


def _finding_lines(same: Sequence[Finding], colour: bool, width: int) -> list[str]:
    finding, others = same[0], same[1:]
    status, told = finding["status"], ""
    label = _label(status, colour)
    lines = ["", f"{label} {finding['id']}  {finding['severity']}  {finding['title']}"]
    if status == "drift":
        differing = [(k, show(v)) for k, v in _differing(finding["expected"], finding["actual"])]
        lines += [_wrapped(f"{key}: {value}", width) for key, value in differing]
        told = dict(differing).get("actual", "")
    if others:
        ids = ", ".join(other["id"] for other in others)
        lines.append(_wrapped(f"and {len(others)} more: {ids}", width))
    if finding["reason"] not in ("", told):
        lines.append(_wrapped(f"why: {finding['reason']}", width))
    if status == "drift" and finding["remedy"] != "state":
        lines.append(_wrapped(f"remedy: {finding['remedy']}", width))
    return lines


def _skipped_line(same: Sequence[Finding], colour: bool, width: int) -> str:
    """What was skipped for one reason; ``drift.controls`` has every id."""
    ids = sorted(finding["id"] for finding in same)
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED + 1 else ""
    words = f"{', '.join(ids[:_NAMED] if more else ids)}{more}: {same[0]['reason']}"
    text = textwrap.fill(words, width, initial_indent=" " * 8, subsequent_indent=" " * 10)
    return f"{_label('skipped', colour)} {text.lstrip()}"


def _label(status: str, colour: bool) -> str:
    return f"{_COLOURS[status]}{status:<7}\033[0m" if colour else f"{status:<7}"


def _differing(expected: Any, actual: Any) -> list[tuple[str, Any]]:
    """The two sides reduced to what differs between them."""
    if not (isinstance(expected, Mapping) and isinstance(actual, Mapping)):
        return (
            [("expected", expected), ("actual", actual)]
            if (expected, actual) != (None, None)
            else []
        )
    keys = [k for k in {**expected, **actual} if expected.get(k) != actual.get(k)]
    sides = (("expected", expected), ("actual", actual))
    return [
        (name, "; ".join(f"{k} {show(side.get(k))}" for k in keys)) for name, side in sides if keys
    ]


def _wrapped(line: str, width: int) -> str:
    return textwrap.fill(line, width, initial_indent=" " * 8, subsequent_indent=" " * 10)

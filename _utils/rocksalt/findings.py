"""The comparison at the heart of it: what is expected of a control against what a look at the host
saw.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rocksalt.catalogue import Control
from rocksalt.settings import Baseline, Family

AS_RENDERED = "as rendered"
STATUSES = ("ok", "drift", "waived", "skipped", "error")
_SHOWN = 4


@dataclass(frozen=True)
class Seen:
    """What a look at the host gave for one control: the effective value, and in words why it is not
    the expected one.

    ``problem`` is ``error`` or ``skipped`` when the control could not be looked at; then ``reason``
    says why. ``remedy`` is set where the control's own does not help this time.
    """

    actual: Any = None
    reason: str = ""
    problem: str = ""
    remedy: str = ""


Finding = dict[str, Any]


def compared(text: str | None, wanted: str) -> str:
    """How a file is against its rendered text; ``AS_RENDERED`` where it is the same."""
    if text is None:
        return "does not exist"
    return AS_RENDERED if text == wanted else "was edited"


def some(found: Iterable[object]) -> str:
    """A list as a sentence can carry it."""
    words = [*map(str, found)]
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return "; ".join(words[:_SHOWN]) + more


@dataclass(frozen=True)
class Verdict:
    """The part of a finding that is judged; ``remedy`` replaces the control's own where a state
    cannot help.
    """

    status: str
    expected: Any = None
    actual: Any = None
    reason: str = ""
    remedy: str = ""


def judge(
    baseline: Baseline, name: str, expected: Mapping[str, Any], seen: Mapping[str, Seen]
) -> list[Finding]:
    """A finding for every control of the family ``name``, whatever its status.

    A control for which the family said nothing is an ``error``: a check that did not run is never
    ok.
    """
    family = baseline.families[name]
    today = _today()
    excused = baseline.excused(family, today)
    found = []
    for control in family.controls.values():
        if control.id in excused:
            status, reason = excused[control.id]
            verdict = Verdict(status, reason=reason)
        else:
            verdict = _verdict(family, control, expected, seen)
            if verdict.status == "drift":
                reason = _expired(baseline, control.id, today) + verdict.reason
                verdict = dataclasses.replace(verdict, reason=reason)
        found.append(_finding(control, verdict))
    return found


def wanted(baseline: Baseline, name: str, expected: Mapping[str, Any]) -> dict[str, Any]:
    """``expected`` without the controls that are waived or switched off: what enforcement and
    renderers may write.
    """
    family = baseline.families[name]
    if not family.settings["enabled"]:
        return {}
    excused = baseline.excused(family, _today())
    return {
        identifier: value for identifier, value in expected.items() if identifier not in excused
    }


def unknown(family: Family, status: str, reason: str) -> list[Finding]:
    """The same status and reason for every control: the family could not be looked at."""
    return [
        _finding(control, Verdict(status, reason=reason)) for control in family.controls.values()
    ]


def _verdict(
    family: Family, control: Control, expected: Mapping[str, Any], seen: Mapping[str, Seen]
) -> Verdict:
    if not family.settings["enabled"]:
        reason = f"the family is disabled by hardening:{control.family}:enabled"
        return Verdict("drift", reason=reason, remedy="manual")
    if control.id not in expected or control.id not in seen:
        return Verdict(
            "error", expected.get(control.id), None, "the family has no check for this control"
        )
    want, look = expected[control.id], seen[control.id]
    if look.problem:
        return Verdict(look.problem, want, None, look.reason)
    weak = family.below_floor(control)
    if weak:
        weak += ": correct the pillar, or write a waiver"
    if want != look.actual:
        reason = look.reason or _in_words(want, look.actual)
        reason = f"{reason}; {weak}" if weak else reason
        return Verdict("drift", want, look.actual, reason, look.remedy)
    if weak:
        return Verdict("drift", want, look.actual, weak, remedy="manual")
    return Verdict("ok", want, look.actual)


def _today() -> dt.date:
    return dt.datetime.now(dt.timezone.utc).date()


def _expired(baseline: Baseline, identifier: str, today: dt.date) -> str:
    waiver = baseline.waivers.get(identifier)
    if waiver is None or waiver.active(today):
        return ""
    return f"the waiver of {waiver.owner} expired on {waiver.expires}; "


def _in_words(want: Any, actual: Any) -> str:
    if actual is None:
        return "it is absent"
    if isinstance(want, Mapping) and isinstance(actual, Mapping):
        wrong = [key for key in want if want[key] != actual.get(key)]
        wrong += [key for key in actual if key not in want]
        return "; ".join(
            f"{k} is {show(actual.get(k))}, expected {show(want.get(k))}" for k in wrong
        )
    return f"it is {show(actual)}, expected {show(want)}"


def show(value: Any) -> str:
    """A value as a sentence can carry it."""
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {show(item)}" for key, item in value.items()) or "nothing"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(show, value)) or "nothing"
    return str(value)


def _finding(control: Control, verdict: Verdict) -> Finding:
    remedy = verdict.remedy or control.remedy
    return {
        "id": control.id,
        "family": control.family,
        "severity": control.severity,
        "remedy": remedy,
        "title": control.title,
        "status": verdict.status,
        "expected": verdict.expected,
        "actual": verdict.actual,
        "reason": verdict.reason,
        "fix": f"state.apply hardening.{control.family}" if remedy == "state" else remedy,
    }

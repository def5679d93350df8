"""What the last runs did, as the status file tells it: controls that no state can bring about."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rocksalt.backup import names, status
from rocksalt.backup.errors import OK, WARNINGS
from rocksalt.findings import Seen

_CLOCK_TOLERANCE = 300
_MANY = 20
"""Changed files; fewer of them are a busy hour of a small master."""
_WITNESS_HOURS = 24
_QUIET = ": skipped: "
"""In warnings about sockets and the like, which no snapshot can hold."""
_SHOWN = 3


class History:
    """The status of the last runs, and why there is none (``problem``)."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        found: Mapping[str, Any],
        problem: str,
        now: dt.datetime,
    ):
        self.settings = settings
        self.problem = problem
        self.now = now
        known = found.get("instance") in (None, settings["instance"]) or not settings["master"]
        self._status = found if known else {}

    def section(self, name: str) -> Mapping[str, Any]:
        """What the status says of ``snapshot``, ``verify`` or ``drill``."""
        found: Mapping[str, Any] = self._status.get(name) or {}
        return found

    def hours_since(self, time: str) -> float:
        """Hours since a time such as ``2026-11-22T13:00:00Z``; negative in the future."""
        return (self.now - names.parsed(time)).total_seconds() / 3600

    @property
    def vaults(self) -> Mapping[str, Any]:
        """What the last snapshot says of each vault."""
        found: Mapping[str, Any] = self.section("snapshot").get("vaults") or {}
        return found


def late_after(settings: Mapping[str, Any]) -> int:
    """Minutes in which two snapshots were due, as late as the timer may make them."""
    return int(2 * settings["interval"] + math.ceil(settings["jitter"] / 60))


def unchecked_for(settings: Mapping[str, Any]) -> dt.timedelta:
    """The time in which two checks of the vaults were due."""
    return dt.timedelta(hours=2 * settings["verify_every"] + 1)


def _told(found: Sequence[str]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def _judged(it: History, section: str, what: str, hours: float) -> Seen | None:
    """The last run of a kind: None where it was fine. A state starts one where none was made when
    one was due; a run that failed is for a person, for the next run is due soon.
    """
    last = it.section(section)
    if not last:
        return Seen(None, it.problem or f"there was no {what} yet")
    age = it.hours_since(last["time"])
    if age > hours:
        return Seen(f"{_hours(age)} ago", f"the last {what} was {_hours(age)} ago")
    if age < -_CLOCK_TOLERANCE / 3600:
        words = f"the last {what} is from the future: the clock was set back, or it was forged"
        return Seen(last["time"], words, remedy="manual")
    if last["code"] not in (OK, WARNINGS):
        return Seen(
            f"failed ({last['code']})", f"the last {what} failed: {_why(last)}", remedy="manual"
        )
    return None


def _why(last: Mapping[str, Any]) -> str:
    """The reason of a run that failed, from whatever place its kind has for it."""
    found = [last["reason"]] if last.get("reason") else []
    for name, vault in (last.get("vaults") or {}).items():
        if isinstance(vault, Mapping):
            found += [f"{name}: {_sentence(p)}" for p in vault.get("problems") or ()]
            found += [f"{name}: {vault['error']}"] if vault.get("error") and not found else []
    found += [_sentence(problem) for problem in last.get("problems") or ()]
    return _told(list(dict.fromkeys(found))) or f"exit code {last['code']}"


def _sentence(problem: Any) -> str:
    if isinstance(problem, Mapping):
        return str(problem.get("sentence") or problem.get("reason") or problem)
    return str(problem)


def _hours(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:.0f} days"
    return f"{hours:.0f} hours" if hours >= 2 else f"{hours * 60:.0f} minutes"


def _snapshot_expected(it: History) -> str:
    return f"succeeded at most {late_after(it.settings)} minutes ago"


def _snapshot_seen(it: History) -> Seen:
    fine = _snapshot_expected(it)
    found = _judged(it, "snapshot", "snapshot", late_after(it.settings) / 60)
    return found or Seen(fine)


def _verified_expected(it: History) -> str:
    return f"nothing wrong at most {2 * it.settings['verify_every'] + 1} hours ago"


def _verified_seen(it: History) -> Seen:
    fine = _verified_expected(it)
    hours = 2 * it.settings["verify_every"] + 1
    found = _judged(it, "verify", "check of the vaults", hours)
    blind = status.unseen(it.section("verify"))
    if found or not blind:
        return found or Seen(fine)
    why = [
        f"{name}: {_sentence(problem)}"
        for name in blind
        for problem in it.section("verify")["vaults"][name].get("problems") or ["has no snapshot"]
    ]
    words = f"the last check saw no snapshot in {', '.join(blind)}"
    return Seen(words, _told(why), remedy="manual")


def _drilled_expected(it: History) -> str:
    return f"worked at most {2 * it.settings['drill_every'] + 1} hours ago"


def _drilled_seen(it: History) -> Seen:
    fine = _drilled_expected(it)
    found = _judged(it, "drill", "restore drill", 2 * it.settings["drill_every"] + 1)
    lacking = status.untried(it.section("drill"))
    if found or not lacking:
        return found or Seen(fine)
    words = f"did not come to {', '.join(lacking)}"
    why = f"the last restore drill {words}: {_why(it.section('drill'))}"
    return Seen(words, why, remedy="manual")


def _everywhere_expected(it: History) -> dict[str, str]:
    return dict.fromkeys(it.settings["vaults"], "the newest snapshot")


def _everywhere_seen(it: History) -> Seen:
    newest = it.section("snapshot").get("sequence", 0)
    actual, why = {}, []
    for name in it.settings["vaults"]:
        entry = it.vaults.get(name) or {}
        have = entry.get("sequence", 0)
        actual[name] = "the newest snapshot" if newest and have == newest else f"#{have}"
        if actual[name].startswith("#"):
            error = f": {entry['error']}" if entry.get("error") else ""
            has = f"has #{have} of #{newest}" if have else "has no snapshot"
            why.append(f"{name} {has}{error}")
    return Seen(actual, _told(why))


def _out_of_reach_seen(it: History) -> Seen:
    own = _where(it.settings)
    why = []
    for name, vault in it.settings["vaults"].items():
        entry = it.vaults.get(name) or {}
        same = [
            f"the {key} {vault[key]} of this master"
            for key, mine in zip(("location", "admin_domain"), own, strict=True)
            if vault[key].strip().casefold() == mine
        ]
        if same:
            why.append(f"{name} has {' and '.join(same)}")
        elif not vault.get("archives", True):
            why.append(f"{name} keeps no archives")
        elif not entry.get("sequence"):
            why.append(f"{name} has no snapshot")
        elif entry.get("faults"):
            why.append(_told(entry["faults"]))
        else:
            return Seen("some vault")
    return Seen("no vault", _told(why) or "there is no vault")


def _where(settings: Mapping[str, Any]) -> tuple[str, str]:
    return settings["location"].strip().casefold(), settings["admin_domain"].strip().casefold()


def _shrunk_seen(it: History) -> Seen:
    last = it.section("snapshot")
    now, why = last.get("archives") or {}, []
    for part, before in (last.get("before") or {}).items():
        if part not in now:
            why.append(f"the archive {part} is gone")
            continue
        for key, unit in (("files", "files"), ("bytes", "bytes")):
            if now[part][key] * 2 < before[key]:
                why.append(f"{part} has {now[part][key]} {unit}, and had {before[key]}")
    return Seen(why, _told(why))


def _rewritten_seen(it: History) -> Seen:
    last = it.section("snapshot")
    now, why = last.get("archives") or {}, []
    for part, before in (last.get("before") or {}).items():
        if part not in now:
            continue
        changed, files = now[part]["changed"], now[part]["files"]
        jumped = changed > 3 * before["changed"]
        if changed >= _MANY and jumped and changed * 2 > files:
            why.append(f"{changed} files of {part} changed since the full snapshot before")
        ratio, old = _ratio(now[part]), _ratio(before)
        if changed >= _MANY and ratio > 0.9 and old < 0.75:
            why.append(
                f"{part} compresses to {ratio:.0%} of its size, and before to {old:.0%}: its files "
                "look encrypted"
            )
    return Seen(why, _told(why))


def _ratio(part: Mapping[str, int]) -> float:
    return part["size"] / part["bytes"] if part["bytes"] else 0.0


def _witnessed_seen(it: History) -> Seen:
    receipts = [entry["receipt"] for entry in it.vaults.values() if entry.get("receipt")]
    limit = max(_WITNESS_HOURS, late_after(it.settings) / 60)
    if not receipts:
        return Seen("nobody", "no receiver has countersigned a snapshot yet")
    newest = max(receipts)
    if it.hours_since(newest) > limit:
        return Seen("nobody", f"no receiver has countersigned a snapshot since {newest}")
    return Seen("a receiver")


def _complete_seen(it: History) -> Seen:
    warnings = it.section("snapshot").get("warnings") or []
    found = [warning for warning in warnings if _QUIET not in warning]
    return Seen(found, _told(found))


def _nothing(it: History) -> list[str]:
    return []


CHECKS: dict[str, tuple[Callable[[History], Any], Callable[[History], Seen]]] = {
    "snapshot": (_snapshot_expected, _snapshot_seen),
    "verified": (_verified_expected, _verified_seen),
    "drilled": (_drilled_expected, _drilled_seen),
    "everywhere": (_everywhere_expected, _everywhere_seen),
    "out of reach": (lambda it: "some vault", _out_of_reach_seen),
    "shrunk": (_nothing, _shrunk_seen),
    "rewritten": (_nothing, _rewritten_seen),
    "witnessed": (lambda it: "a receiver", _witnessed_seen),
    "complete": (_nothing, _complete_seen),
}

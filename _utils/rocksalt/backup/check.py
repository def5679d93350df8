"""``check_salt_backup``: one line for a monitoring agent, in the form of Nagios' plugins.

On the master it reads nothing but the status file, which the agent may read. On a vault host it has
to run as root, for it reads the receipts of the store as well, so that a master which fell silent
is noticed from outside.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rocksalt.backup import config, names, status
from rocksalt.backup.errors import OK, WARNINGS, BackupError

FINE, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
GRACE = 900
"""Seconds that a snapshot may take and a timer may start late."""


class Told(NamedTuple):
    """One judgement: how bad, in words, and figures for graphs (``age=720s;4500;8100``)."""

    state: int
    words: str
    figures: tuple[str, ...] = ()


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the check."""
    parser.add_argument("--status", default=status.PATH, help="the status file")
    parser.add_argument(
        "--verify-hours", type=float, default=50, help="greatest age of the last check of vaults"
    )
    parser.add_argument(
        "--drill-hours", type=float, default=340, help="greatest age of the last restore drill"
    )


def run(options: argparse.Namespace, now: dt.datetime | None = None) -> int:
    """Prints the line and gives the exit code: 0 fine, 1 warning, 2 critical, 3 unknown."""
    now = now or dt.datetime.now(dt.timezone.utc)
    told = judged(options, now)
    worst = max((it.state for it in told if it.state != UNKNOWN), default=UNKNOWN)
    if any(it.state == UNKNOWN for it in told) and worst < CRITICAL:
        worst = UNKNOWN
    words = "; ".join(it.words for it in sorted(told, key=lambda it: -it.state))
    figures = " ".join(figure for it in told for figure in it.figures)
    print(f"BACKUP {WORDS[worst]} - {words}{' | ' + figures if figures else ''}")
    return worst


def judged(options: argparse.Namespace, now: dt.datetime) -> list[Told]:
    """What can be said on this host."""
    found: list[Told] = []
    try:
        known = status.read(options.status)
        if "snapshot" in known:
            found += _snapshot(known["snapshot"], now)
            found += _never(known, options.verify_hours)
        for section, hours in (("verify", options.verify_hours), ("drill", options.drill_hours)):
            if section in known:
                found += _run(section, known[section], hours, now)
        found += _vault(now, quiet="snapshot" in known or "drill" in known)
    except (BackupError, OSError) as error:
        found.append(Told(UNKNOWN, str(error)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        found.append(Told(UNKNOWN, f"{options.status}: {type(error).__name__} {error}"))
    return found or [Told(UNKNOWN, f"no backup has run here yet: there is no {options.status}")]


def _snapshot(last: Mapping[str, Any], now: dt.datetime) -> list[Told]:
    """The last snapshot of this master."""
    begun, due = names.parsed(last["time"]), names.parsed(last["next"])
    interval = max((due - begun).total_seconds(), 60)
    age = (now - begun).total_seconds()
    late, lost = int(interval + GRACE), int(2 * interval + GRACE)
    state = CRITICAL if age > lost else WARNING if age > late else FINE
    what = f"snapshot #{last['sequence']} is {_time(age)} old"
    if age < -GRACE:
        state, what = WARNING, f"snapshot #{last['sequence']} is from the future"
    if last["code"] not in (OK, WARNINGS):
        state, what = CRITICAL, f"the last snapshot failed: {last.get('reason') or last['code']}"
    elif last["code"] == WARNINGS:
        state = max(state, WARNING)
        what += f" with {len(last['warnings'])} warnings"
    vaults = last["vaults"]
    behind = sorted(n for n, it in vaults.items() if it["sequence"] != last["sequence"])
    size = sum(part["size"] for part in last["archives"].values())
    figures = (
        f"age={age:.0f}s;{late};{lost}",
        f"size={size}B",
        f"vaults_behind={len(behind)};0;{max(len(vaults) - 1, 0)}",
    )
    found = [Told(state, what, figures)]
    if behind:
        bad = CRITICAL if len(behind) == len(vaults) else WARNING
        found.append(Told(bad, f"it is not in {', '.join(behind)}"))
    return found


def _never(known: Mapping[str, Any], hours: float) -> list[Told]:
    """A chain of snapshots that is longer than the time in which a check was due, and none made."""
    last = known["snapshot"]
    step = names.parsed(last["next"]) - names.parsed(last["time"])
    if "verify" in known or step.total_seconds() * last["sequence"] <= hours * 3600:
        return []
    return [Told(WARNING, "the vaults were never checked")]


def _run(section: str, last: Mapping[str, Any], hours: float, now: dt.datetime) -> list[Told]:
    """The last check of the vaults, or the last drill."""
    name = {"verify": "check of the vaults", "drill": "restore drill"}[section]
    age = (now - names.parsed(last["time"])).total_seconds()
    figure = (f"{section}_age={age:.0f}s;{int(hours * 3600)}",)
    if last["code"] not in (OK, WARNINGS):
        return [Told(CRITICAL, f"the last {name} failed with {last['code']}", figure)]
    if age > hours * 3600:
        return [Told(WARNING, f"the last {name} was {_time(age)} ago", figure)]
    if section == "verify" and (blind := status.unseen(last)):
        return [Told(WARNING, f"the last {name} saw no snapshot in {', '.join(blind)}", figure)]
    if section == "drill" and (lacking := status.untried(last)):
        return [Told(WARNING, f"the last {name} did not come to {', '.join(lacking)}", figure)]
    return [Told(FINE, f"{name} {_time(age)} ago", figure)]


def _vault(now: dt.datetime, quiet: bool) -> list[Told]:
    """What the store of this vault host received last, by its own clock. ``quiet`` is a host that
    is known for something else, where only root reads the settings and nobody has to.
    """
    try:
        settings = config.load()
    except BackupError as error:
        denied = not quiet and not _readable(config.PATH)
        return [Told(UNKNOWN, f"run as root: {error}")] if denied else []
    receiver = settings["receiver"]
    limit = 2 * settings["interval"] * 60 + settings["jitter"] + GRACE
    found = []
    for instance in sorted({it["instance"] for it in receiver.get("clients", {}).values()}):
        last = received(Path(receiver["path"]) / instance)
        if last is None:
            found.append(Told(CRITICAL, f"nothing was received from {instance}"))
            continue
        age = (now - last).total_seconds()
        words = f"{instance} sent its last snapshot {_time(age)} ago"
        figure = (f"received_{instance}={age:.0f}s;;{limit}",)
        found.append(Told(CRITICAL if age > limit else FINE, words, figure))
    return found


def _readable(path: str) -> bool:
    """Whether a file can be read, or is not there."""
    try:
        with open(path, "rb"):
            return True
    except FileNotFoundError:
        return True
    except OSError:
        return False


def received(folder: Path, which: Callable[[Iterable[str]], str] = max) -> dt.datetime | None:
    """When the receiver took the newest manifest, or with ``min`` the oldest; None where it took
    none.
    """
    try:
        name = which([it.name for it in folder.iterdir() if names.RECEIPTS.fullmatch(it.name)])
        return names.parsed(json.loads((folder / name).read_text())["received"])
    except (FileNotFoundError, KeyError, ValueError):
        return None


def _time(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def main(argv: Sequence[str] | None = None) -> int:
    """The check as a command of its own."""
    parser = argparse.ArgumentParser(prog="check_salt_backup", description="State of the backup")
    arguments(parser)
    return run(parser.parse_args(argv))

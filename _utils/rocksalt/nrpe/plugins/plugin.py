"""What every plugin has in common: options, one line with figures, and the exit code, by the
guidelines of monitoring plugins.
"""

from __future__ import annotations

import argparse
import datetime as dt
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from rocksalt import __version__

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


class Told(NamedTuple):
    """One judgement: how bad, in words, and figures such as ``age=720s;10800``."""

    state: int
    words: str
    figures: tuple[str, ...] = ()


class Unknown(Exception):
    """Nothing can be told; the text says why."""


class Parser(argparse.ArgumentParser):
    """Help, the version and mistakes are an unknown state, not the critical one that an exit code
    of 2 would mean.
    """

    def error(self, message: str) -> NoReturn:
        print(f"UNKNOWN - {message}; see {self.prog} --help")
        raise SystemExit(UNKNOWN)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        if message:
            print(message, end="")
        raise SystemExit(UNKNOWN)


Judge = Callable[[argparse.Namespace, dt.datetime], Iterable[Told]]


def parser(prog: str, description: str) -> Parser:
    """The options that every plugin has."""
    found = Parser(prog=prog, description=description, allow_abbrev=False)
    found.add_argument("-V", "--version", action="version", version=f"{prog} {__version__}")
    found.add_argument(
        "-t", "--timeout", type=_seconds, default=10, metavar="SECONDS",
        help="give up after so many seconds (default 10)",
    )  # fmt: skip
    return found


def _seconds(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 1 to 3600")
    return int(text)


def run(label: str, options: argparse.Namespace, judge: Judge) -> int:
    """Prints the line and gives the exit code."""

    def give_up(*_: Any) -> NoReturn:
        raise Unknown(f"not done in {options.timeout} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(options.timeout)
    try:
        told = list(judge(options, _now()))
    except Unknown as unknown:
        told = [Told(UNKNOWN, str(unknown))]
    except Exception as error:
        told = [Told(UNKNOWN, f"what was read is damaged: {type(error).__name__} {error}")]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    state = worst(it.state for it in told)
    sys.stdout.write(line(label, state, told))
    return state


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def worst(states: Iterable[int]) -> int:
    """The state of several together: what is critical is so whatever else is unknown."""
    found = set(states)
    return next((it for it in (CRITICAL, UNKNOWN, WARNING) if it in found), OK)


def line(label: str, state: int, told: Sequence[Told]) -> str:
    """One line, the worst first; a bar would begin the figures."""
    words = "; ".join(it.words for it in sorted(told, key=lambda it: _rank(it.state)) if it.words)
    words = " ".join(words.replace("|", "/").split())
    figures = " ".join(figure for it in told for figure in it.figures)
    return f"{label} {WORDS[state]} - {words}{' | ' + figures if figures else ''}\n"


def _rank(state: int) -> int:
    return (CRITICAL, UNKNOWN, WARNING, OK).index(state)


def age(stamp: Any, now: dt.datetime, what: str) -> float:
    """How many seconds ago a time of our files was."""
    try:
        then = dt.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.timezone.utc)
    except (TypeError, ValueError):
        raise Unknown(f"{what} does not say when it was made") from None
    return (now - then).total_seconds()


def lasting(seconds: float) -> str:
    """A time as a person says it."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

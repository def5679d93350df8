"""What monitoring hosts may ask for: names and the command lines behind them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rocksalt import nrpe
from rocksalt.nrpe import thresholds

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_LONGEST = 2000
"""Bytes of a line, so that it is one with its name (see :data:`rocksalt.nrpe.config.LINE`)."""
_AGE = "--max-age"


def plugin(described: Mapping[str, Any]) -> str:
    """The path of a command's plugin."""
    name: str = described["plugin"]
    return name if name.startswith("/") else f"{nrpe.PLUGINS}/{name}"


def _name(path: str) -> str:
    """The plugin of that name; what a site called like one of ours is not."""
    folder, _, name = path.rpartition("/")
    return "" if name in thresholds.BY_SEVERITY and folder != nrpe.PLUGINS else name


def line(described: Mapping[str, Any], report_age: int) -> str:
    """The command line of a command, for the shell that NRPE gives it to. Plugins of ours that read
    the last report are told after how many seconds it is old.

    NRPE takes ``$`` for the beginning of an argument of the network, and ``$$`` for a dollar sign.
    """
    path = plugin(described)
    words = [path]
    for option, key in (("-w", "warning"), ("-c", "critical")):
        words += [option, described[key]] if key in described else []
    arguments = list(described.get("arguments", ()))
    words += arguments
    reads_report = _name(path) in thresholds.BY_SEVERITY
    if reads_report and not any(word.startswith(_AGE) for word in arguments):
        words += [_AGE, str(report_age)]
    return shlex.join(words).replace("$", "$$")


def lines(commands: Mapping[str, Mapping[str, Any]], report_age: int) -> dict[str, str]:
    """Name -> command line."""
    return {name: line(described, report_age) for name, described in commands.items()}


def problems(
    commands: Mapping[str, Mapping[str, Any]], place: Callable[[str], str]
) -> Iterator[str]:
    """What is wrong with commands although each is well-formed; ``place`` gives the path in the
    pillar of one.
    """
    for name, described in commands.items():
        where = place(name)
        if not _NAME.fullmatch(name):
            yield (
                f"{where}: {name!r} is no name of a command; write letters, digits, dots, hyphens "
                "and underscores"
            )
        words = [str(value) for key, value in described.items() if key != "arguments"]
        words += described.get("arguments", ())
        if any(ord(letter) < 32 for word in words for letter in word):
            yield f"{where}: has a line end or another control character, where NRPE's line ends"
        elif len(line(described, 0).encode()) > _LONGEST:
            yield f"{where}: is longer than {_LONGEST} bytes, and NRPE would cut it"
        if "/../" in plugin(described) or "/./" in plugin(described):
            yield f"{where}:plugin: {described['plugin']!r} needs a path without . and .."
        for why in thresholds.problems(
            _name(plugin(described)), described.get("warning"), described.get("critical")
        ):
            yield f"{where}: {why}"

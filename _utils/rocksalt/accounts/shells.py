"""What start-up files of shells say about idle time and umask."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rocksalt.host import Host
from rocksalt.transaction import DISABLED, Transaction, must

TIMEOUT = "/etc/profile.d/rocksalt-timeout.sh"
_FILES = ("/etc/profile", "/etc/profile.d/*.sh", "/etc/bash.bashrc")
_TMOUT = re.compile(r"(?:^|[\s;&])TMOUT=[\"']?([^\s;&\"']*)")
_UNSET = re.compile(r"(?:^|[\s;&])unset\s+(?:-v\s+)?TMOUT\b")
_UMASK = re.compile(r"(?:^|[\s;&])umask\s+(?:-S\s+)?([0-7]{1,4})\b")
_SCRIPT = """\
# Written by rocksalt; changes of this file are overwritten. Idle interactive shells end.
case $- in
*i*)
    # Somebody may have made it read-only before, which would end the shell here.
    if (TMOUT={seconds}) 2>/dev/null; then
        TMOUT={seconds}
        readonly TMOUT
        export TMOUT
    fi
    ;;
esac
"""


@dataclass(frozen=True)
class Line:
    """A line that sets ``what`` (TMOUT or umask) to ``value``."""

    path: str
    number: int
    what: str
    value: str

    def __str__(self) -> str:
        return f"{self.path} line {self.number} sets {self.what} to {self.value}"


def script(seconds: int) -> str:
    """The file that ends idle shells, empty for never."""
    return _SCRIPT.format(seconds=seconds) if seconds else ""


def read(host: Host) -> dict[str, str]:
    """The start-up files that every shell reads, ours as well: path -> text."""
    paths = dict.fromkeys(path for pattern in _FILES for path in host.glob(pattern))
    return {path: host.read(path) or "" for path in paths}


def lines(texts: Mapping[str, str]) -> list[Line]:
    """What files of others say about either."""
    found = []
    for path, text in texts.items():
        if path == TIMEOUT:
            continue
        for number, line in enumerate(text.split("\n"), 1):
            code = line.split("#", 1)[0]
            found += [Line(path, number, "TMOUT", m[1] or "nothing") for m in _TMOUT.finditer(code)]
            found += [Line(path, number, "TMOUT", "nothing") for _ in _UNSET.finditer(code)]
            found += [
                Line(path, number, "umask", f"{int(m[1], 8):03o}") for m in _UMASK.finditer(code)
            ]
    return found


def disable(host: Host, change: Transaction, wrong: Sequence[Line]) -> None:
    """Takes lines out of force; a file that is no valid script without them is refused."""
    for path in dict.fromkeys(line.path for line in wrong):
        rows = (host.read(path) or "").split("\n")
        for number in {line.number for line in wrong if line.path == path}:
            rows[number - 1] = DISABLED + rows[number - 1]
        change.write(path, "\n".join(rows))
        must(host, f"{path} needs {wrong[0].what}", "bash", "-n", str(host.path(path)))

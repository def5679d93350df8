"""A transaction about sudoers: visudo sees every file before it takes effect and all of them
afterwards, or everything is put back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from rocksalt.accounts.sudo import reading, sudoers
from rocksalt.accounts.sudo.reading import Fault
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.transaction import DISABLED, Transaction

_CANDIDATE = "/run/rocksalt-sudoers-candidate"


class Change:
    """A transaction about sudoers. What visudo found wrong before is not held against it."""

    def __init__(self, host: Host):
        self.host = host
        self.transaction = Transaction(host)
        self.before: set[Fault] = set()

    def __enter__(self) -> Change:
        self.before = set(reading.check(self.host)[0])
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            new = set(reading.check(self.host)[0]) - self.before
            error = Refused(f"sudo would not accept {words(new)}") if new else None
        if isinstance(error, (Refused, OSError)):
            failures = self.transaction.undo()
            how = "the old configuration is back"
            if failures:
                how = f"and going back failed, too: {'; '.join(failures)}"
            raise Refused(f"{error}; {how}") from None

    def faults(self, path: str, text: str) -> set[Fault]:
        """What visudo would find wrong in a file that it did not find wrong before."""
        self.host.write(_CANDIDATE, text, "0600")
        try:
            found = reading.check(self.host, _CANDIDATE)[0]
        finally:
            self.host.remove(_CANDIDATE)
        own = {
            dataclasses.replace(fault, path=path) if fault.path == _CANDIDATE else fault
            for fault in found
            if fault.path == _CANDIDATE or not fault.number
        }
        return own - self.before

    def write(self, path: str, text: str, mode: str | None = None) -> None:
        """Replaces a file of sudoers that visudo likes no less than the old one."""
        new = self.faults(path, text)
        if new:
            raise Refused(f"sudo would not accept {words(new)}")
        self.transaction.write(path, text, mode)

    def disable(self, lines: Iterable[sudoers.Line], checked: bool = True) -> None:
        """Makes remarks of lines, continued ones as a whole."""
        chosen = list(dict.fromkeys(lines))
        for path in dict.fromkeys(line.path for line in chosen):
            numbers = [
                number
                for line in chosen
                if line.path == path
                for number in range(line.number, line.last + 1)
            ]
            text = disabled(self.host.read(path) or "", numbers)
            if checked and path != reading.PLUGINS:
                self.write(path, text)
            else:
                self.transaction.write(path, text)

    def drop(self, lines: Iterable[sudoers.Line]) -> None:
        """Takes lines out of files of our own."""
        chosen = list(lines)
        for path in dict.fromkeys(line.path for line in chosen):
            spans = [range(line.number, line.last + 1) for line in chosen if line.path == path]
            rows = (self.host.read(path) or "").split("\n")
            kept = [row for n, row in enumerate(rows, 1) if not any(n in span for span in spans)]
            self.write(path, "\n".join(kept))

    def rename(self, path: str, new: str) -> None:
        """Renames a file, or a link; sudo passes over names with a dot."""
        names = str(self.host.path(path)), str(self.host.path(new))
        self.transaction.do("mv", "-T", *names, undo=("mv", "-T", *reversed(names)))


def words(faults: Iterable[Fault]) -> str:
    """What visudo found wrong, as a sentence carries it."""
    return "; ".join(sorted(f"{fault.place}: {fault.words}" for fault in faults))


def disabled(text: str, numbers: Iterable[int], prefix: str = DISABLED) -> str:
    """The text with some rows made remarks."""
    rows = text.split("\n")
    for number in set(numbers):
        rows[number - 1] = prefix + rows[number - 1]
    return "\n".join(rows)

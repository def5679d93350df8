"""Changes of a host that can be taken back, and how what others wrote is put aside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from rocksalt.errors import Refused, RocksaltError
from rocksalt.host import Host

DISABLED = "# disabled by rocksalt: "
"""Stands before a line of others that has no effect any more."""
ASIDE = ".disabled-by-rocksalt"
"""Stands behind the name of a file of others that has no effect any more."""


class Transaction:
    """Changes files and remembers what they were, so that everything can be put back."""

    def __init__(self, host: Host):
        self.host = host
        self._undo: list[Callable[[], object]] = []

    def write(self, path: str, text: str, mode: str | None = None, owner: str = "") -> None:
        """Replaces a file of our own, or, without a ``mode``, one of others: its mode stays and a
        link stays a link. With an ``owner``, such as ``root:salt``, it is put back with its own.
        """
        if mode is None:
            path = str(Path(self.host.path(path)).resolve())[len(self.host.root) :]
        attributes = self.host.attributes(path)
        mode = mode or (attributes.mode if attributes else "0600")
        if owner:
            self.remember(path, owned=True)
            self.host.write(path, text, mode, owner)
        else:
            self.remember(path)
            self.host.write(path, text, mode)

    def remove(self, path: str) -> None:
        """Removes a file."""
        self.remember(path)
        self.host.remove(path)

    def rename(self, path: str, new: str) -> None:
        """Gives a file another name."""
        self.host.rename(path, new)
        self._undo.append(lambda: self.host.rename(new, path))

    def remember(self, path: str, owned: bool = False) -> None:
        """Has a file put back that is about to change by other means, ``owned`` by whom it was."""
        attributes, old = self.host.attributes(path), self.host.read(path)
        if attributes is None or old is None:
            self._undo.append(lambda: self.host.remove(path))
        else:
            owner = (f"{attributes.owner}:{attributes.group}",) if owned else ()
            self._undo.append(partial(self.host.write, path, old, attributes.mode, *owner))

    def on_undo(self, step: Callable[[], object]) -> None:
        """Has a step taken when everything is put back, after all that comes later."""
        self._undo.append(step)

    def do(self, *command: str, undo: Sequence[str]) -> None:
        """Runs a command that another one takes back."""
        self._undo.append(lambda: self.host.run(*undo))
        must(self.host, f"{' '.join(command)} failed", *command)

    def undo(self) -> list[str]:
        """Puts everything back as it was before the first change; what could not be put back. No
        step that fails, however, keeps the others from being taken.
        """
        failures = []
        while self._undo:
            try:
                self._undo.pop()()
            except (OSError, RocksaltError) as error:
                failures.append(str(error))
            except Exception as error:  # a step is anybody's
                failures.append(f"{type(error).__name__}: {error}")
        return failures


def each(steps: Iterable[Callable[[], object]]) -> None:
    """Takes every step, also after one that failed; raises :class:`Refused` with all that did."""
    failures = []
    for step in steps:
        try:
            step()
        except (Refused, OSError) as error:
            failures.append(str(error))
    if failures:
        raise Refused("; ".join(failures))


def must(host: Host, failure: str, *command: str) -> None:
    """Runs a command; one that fails refuses the change, in the words of ``failure``."""
    ran = host.run(*command)
    if ran.status:
        raise Refused(f"{failure}: {' '.join((ran.err or ran.out).split())}")


def systemctl(host: Host, *command: str) -> None:
    """Has systemd do something, or refuses the change in its words."""
    must(host, f"systemctl {' '.join(command)}", "systemctl", *command)

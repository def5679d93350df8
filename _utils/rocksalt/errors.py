"""Errors that a user of the baseline can act on: one sentence each, naming the place, the value and
what is right.
"""

from __future__ import annotations

from collections.abc import Iterable


class RocksaltError(Exception):
    """Base of every error raised on purpose."""


class InvalidSettings(RocksaltError):
    """The pillar, the minion's configuration or a catalogue file is wrong; ``problems`` has one
    sentence for each.
    """

    def __init__(self, problems: Iterable[str]):
        self.problems = list(problems)
        count = len(self.problems)
        heading = f"{count} problem{'s' if count > 1 else ''} in the settings, nothing was changed:"
        super().__init__("\n".join([heading, *(f"  - {problem}" for problem in self.problems)]))


class NoSuch(RocksaltError):
    """A question about something that does not exist: a family, a control, a severity."""


class Refused(RocksaltError):
    """A change was not made, or was undone, because it could have locked somebody out or broken a
    service.
    """

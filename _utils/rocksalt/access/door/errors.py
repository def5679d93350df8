"""How a request ends that is not done: a status of HTTP and one sentence for the caller."""

from __future__ import annotations


class Refused(Exception):
    """The request is not done. ``wait`` are seconds after which to try again, 0 where that does
    not help; ``allow`` are the methods that an address has.
    """

    def __init__(self, status: int, sentence: str, wait: float = 0, allow: str = ""):
        super().__init__(sentence)
        self.status, self.sentence, self.wait, self.allow = status, sentence, wait, allow

"""What minions answer, until a deadline of ours. Salt's client waits for as long as one of them
says that it is still at work, and stumbles over answers that are not as it expects.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import salt.client

log = logging.getLogger("rocksalt.api")
_KEPT = ("id", "jid", "return", "success", "out", "fun", "fun_args")
_FAILED = 1
"""The return code of a minion that says none which is a number."""


@dataclass
class Answers:
    """What minions answered to a job, and those that had not when the time was over."""

    jid: str = ""
    told: dict[str, Any] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)


class _Late(Exception):
    """The time is over."""


class Client(salt.client.LocalClient):  # type: ignore[misc]
    """Salt's client, of which the door needs :meth:`run_job` and :meth:`collect`."""

    def __init__(self, opts: Mapping[str, Any]):
        super().__init__(mopts=opts)
        self._deadline, self._asked, self._job = math.inf, frozenset[str](), ""

    def collect(self, seconds: float, what: Mapping[str, Any]) -> Answers:
        """Publish a job, and wait for so long at most for what minions answer. What came is never
        lost to what one of them answers.
        """
        job = self.run_job(**what, listen=True)
        if not job:
            return Answers()
        found = Answers(str(job["jid"]))
        self._deadline = time.monotonic() + seconds
        self._asked, self._job = frozenset(job["minions"]), f"salt/job/{found.jid}"
        pause = min(seconds, self._get_timeout(None))
        more = (what["tgt"], what["tgt_type"])
        try:
            for answer in self.get_cli_event_returns(
                found.jid, set(job["minions"]), pause, *more, token=what["token"]
            ):
                found.told.update(answer)
        except _Late:
            pass
        except Exception as error:
            log.error("the answers to job %s: %a", found.jid, error)
        found.late = sorted(self._asked - set(found.told))
        return found

    def get_returns_no_block(self, tag: str, match_type: str | None = None) -> Iterator[Any]:
        """The events that Salt's client looks at, ``None`` where there is none just now."""
        for event in super().get_returns_no_block(tag, match_type):
            if time.monotonic() > self._deadline:
                raise _Late
            if event is None:
                yield None
            elif (found := self._sound(event)) is not None:
                yield found

    def _sound(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        """The event with no more than Salt's client shall heed; None where that is nothing."""
        tag, data = str(event.get("tag")), event.get("data")
        if not isinstance(data, dict):
            return None
        if "/ret/" not in tag:
            return self._of_syndics(tag, data)
        name = data.get("id")
        if name != tag.rpartition("/")[2] or "return" not in data:
            return None
        if not self.opts["order_masters"] and name not in self._asked:
            return None
        if not tag.startswith(self._job) and not isinstance(data["return"], dict):
            # Whether it is still at work.
            return None
        code = data.get("retcode", 0)
        kept = {key: data[key] for key in _KEPT if key in data}
        return {"tag": tag, "data": {**kept, "retcode": code if type(code) is int else _FAILED}}

    def _of_syndics(self, tag: str, data: Mapping[str, Any]) -> dict[str, Any] | None:
        """Which minions other masters asked, where there are such."""
        named = data.get("minions")
        if not self.opts["order_masters"] or not isinstance(named, list):
            return None
        return {"tag": tag, "data": {"minions": [it for it in named if isinstance(it, str)]}}

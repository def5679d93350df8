"""What the shipper says of itself, for checks and for people."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt import __version__
from rocksalt.logstash.shipping import notify
from rocksalt.logstash.shipping.config import Config
from rocksalt.logstash.shipping.events import now as micros
from rocksalt.logstash.shipping.events import stamp
from rocksalt.logstash.shipping.link import Link
from rocksalt.logstash.shipping.positions import replace
from rocksalt.logstash.shipping.steps import Step

EVERY, SOON = 1.0, 0.2
"""Seconds from one writing to the next, and where somebody waits for it."""
MARKS = 20
BRIEF = 15_000_000
"""Microseconds that a connection lasts at least over which there was nothing to send."""


class Status:
    """The status file, and what is remembered for it."""

    def __init__(self, path: str, config: Config):
        self._path, self._limit = path, config.limit
        self._written, self._awaited = -EVERY, False
        self._said = ""
        self.resent = 0
        self._link: Link | None = None
        self._away: str | None = None
        self._began = 0
        self._value: dict[str, Any] = {
            **{"pid": os.getpid(), "config": config.digest, "program": __version__},
            **{"server": None, "connected_since": None, "disconnected_since": stamp(micros())},
            **{"server_expires": None, "full_since": None, "probe": None, "marks": {}},
        }
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, LookupError):
            with open(path, encoding="utf-8") as file:
                before = json.load(file)
            self._value.update(probe=before["probe"], marks=dict(before["marks"]))
            if before["disconnected_since"]:
                self._value["disconnected_since"] = before["disconnected_since"]

    def connected(self, link: Link) -> None:
        """Lines can be sent. After a connection over which none was taken it has to show that any
        is.
        """
        expires = link.expires and stamp(int(link.expires * 1_000_000))
        since = self._value["disconnected_since"]
        proved = not self._link or self._link.taken is not False
        self._link, self._away, self._began = link, since, micros()
        self._value.update(
            server=link.server.name, connected_since=stamp(micros()), server_expires=expires,
            disconnected_since=None if proved else since,
        )  # fmt: skip

    def disconnected(self) -> None:
        """Lines cannot be sent; since before the connection where that took none, or was brief."""
        taken, brief = self._link and self._link.taken, micros() - self._began < BRIEF
        useless = taken is False or (taken is None and brief)
        since = self._away if useless else stamp(micros())
        self._value.update(server=None, connected_since=None, disconnected_since=since)

    def arrived(self, step: Step) -> None:
        """A line with a mark was acknowledged."""
        time = stamp(micros())
        if step.probe:
            self._value["probe"] = {"mark": step.mark, "acknowledged": time}
            return
        marks = self._value["marks"]
        marks.pop(step.mark, None)
        marks[step.mark] = time
        for mark in list(marks)[:-MARKS]:
            del marks[mark]
        self._awaited = True

    def due(self, now: float) -> bool:
        """Whether it is time to write again."""
        return now - self._written >= (SOON if self._awaited else EVERY)

    def write(self, now: float, values: Mapping[str, Any], oldest: int) -> None:
        """Writes all; ``oldest`` is when the oldest line that waits was written, in microseconds
        since 1970.
        """
        self._written, self._awaited = now, False
        if self._value["server"] and self._link and self._link.taken:
            self._value["disconnected_since"] = None
        waiting = values["waiting"]
        full = self._value["full_since"] or stamp(micros())
        self._value.update(
            values, time=stamp(micros()), resent=self.resent,
            oldest_waiting=stamp(oldest) if oldest else None,
            full_since=full if waiting is not None and waiting > self._limit else None,
        )  # fmt: skip
        with contextlib.suppress(OSError):
            replace(self._path, json.dumps(self._value, indent=1))
        if values["error"] != self._said:
            self._said = values["error"]
            notify.say(self._said or self.sentence())

    def sentence(self) -> str:
        """The status in one sentence."""
        if self._value["server"]:
            return f"Connected to {self._value['server']}"
        return f"Not connected since {self._value['disconnected_since']}"


def lines(status: Mapping[str, Any]) -> Iterator[str]:
    """A status for people."""
    get = status.get
    if get("server"):
        yield f"connected to {status['server']} since {get('connected_since')}"
    else:
        yield f"not connected since {get('disconnected_since')}"
    if get("error"):
        yield f"error: {status['error']}"
    if get("server_expires"):
        yield f"the log server's certificate ends {status['server_expires']}"
    if get("waiting") is None:
        yield "waiting: nobody knows how many lines"
    else:
        yield f"waiting: {status['waiting']} lines, the oldest of {get('oldest_waiting') or 'now'}"
    if get("full_since"):
        yield f"more wait than may since {status['full_since']}"
    sent, gaps = ("sent", "acknowledged", "resent"), ("dropped", "lost", "unknown_gaps", "cut")
    yield "since the start: " + ", ".join(f"{get(it)} {it}" for it in sent)
    yield "missing: " + ", ".join(f"{get(it)} {it.replace('_', ' ')}" for it in gaps)
    probe = get("probe")
    yield f"last probe: {probe['acknowledged'] if probe else 'none was acknowledged'}"
    for name, source in get("sources", {}).items():
        yield f"{name}: {', '.join(f'{key} {value}' for key, value in source.items())}"
    yield f"as of {get('time')}, process {get('pid')}, version {get('program')}"

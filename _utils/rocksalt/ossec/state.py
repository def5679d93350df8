"""How the agent does: which daemons run, whether a server answers, when files were compared last.

No version of OSSEC says when the server answered last: that is in the daemon's memory. What can be
told is that no more than ``time-reconnect`` seconds have passed since, by four signs together: the
daemon lives; it writes its counter with every message that it sends; the lock that it makes when
nobody answers is not there; and the last that its log says of the connection is good.
"""

from __future__ import annotations

import datetime as dt
import glob
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rocksalt.ossec import AGENTD, DAEMONS, HOME, LOG, LOGCOLLECTOR, SYSCHECKD

SCHEMA = 1
LOST_AFTER = 3
"""Signs of life without an answer until the connection counts as lost."""
_SLACK = 60
_TAIL = 4 * 1024 * 1024
_COUNTER, _LOCK = f"{HOME}/queue/rids/sender_counter", f"{HOME}/queue/ossec/.wait"
_LINE = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) ([a-z-]+)(?:\(\d+\))?: (.*)")
_ANSWERED = re.compile(
    r"INFO: (?:Connected to server (?P<server>[0-9a-fA-F:.]+)|Server responded\. Releasing lock)"
)
_SILENT = re.compile(r"WARN: (?:Waiting for server reply|Server unavailable\. Setting lock).*")
_SCANNED = re.compile(r"INFO: Ending syscheck scan")
_STARTED = re.compile(r"INFO: Started ")
_UNREAD = re.compile(
    r"WARN: (?P<what>\w+) not available on this version"
    r"|INFO: File not available, ignoring it: '(.*)'"
)


@dataclass(frozen=True)
class Told:
    """What the log says: whether a server answered last (None: nothing is said), which, and the
    last complaint; when a scan ended last, in seconds since 1970; and which logs the agent that
    runs now has given up.
    """

    answered: bool | None = None
    server: str = ""
    complaint: str = ""
    scanned: float | None = None
    unread: tuple[str, ...] = ()


def heard(lines: Iterable[str]) -> Told:
    """Reads lines of ``ossec.log``, the oldest first."""
    answered, server, complaint = None, "", ""
    scanned: float | None = None
    unread: list[str] = []
    for line in lines:
        match = _LINE.match(line)
        if not match:
            continue
        stamp, daemon, text = match.groups()
        if daemon == AGENTD and (found := _ANSWERED.match(text)):
            answered, server, complaint = True, found["server"] or server, ""
        elif daemon == AGENTD and (lost := _SILENT.match(text)):
            answered, complaint = False, lost[0].removeprefix("WARN: ")
        elif daemon == SYSCHECKD and _SCANNED.match(text):
            scanned = _seconds(stamp)
        elif daemon == AGENTD and _STARTED.match(text):
            unread = []
        elif daemon == LOGCOLLECTOR and (given_up := _UNREAD.match(text)):
            unread.append(given_up["what"] or given_up[2])
    return Told(answered, server, complaint, scanned, tuple(dict.fromkeys(unread)))


def _seconds(stamp: str) -> float:
    """OSSEC writes the host's own time."""
    return time.mktime(time.strptime(stamp, "%Y/%m/%d %H:%M:%S"))


def log(root: str = "") -> list[str]:
    """The end of the log, with that of the one before it."""
    found: list[str] = []
    for path in (f"{root}{LOG}.1", root + LOG):
        try:
            with open(path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
                found += file.read().decode(errors="replace").splitlines()
        except OSError:
            continue
    return found


def daemons(root: str = "") -> dict[str, float | None]:
    """When each daemon started, in seconds since 1970; None for one that does not run."""
    return {name: _started(root, name) for name in DAEMONS}


def number(name: str, root: str = "") -> int | None:
    """The number of a daemon's process; None for one that does not run."""
    found = _running(root, name)
    return found and int(found[0])


def _started(root: str, name: str) -> float | None:
    found = _running(root, name)
    return found and found[1]


def _running(root: str, name: str) -> tuple[str, float] | None:
    """A daemon writes its number into the name of a file, which stays behind where it is killed."""
    for path in glob.glob(f"{glob.escape(root)}{HOME}/var/run/{name}-*.pid"):
        number = path.rpartition("-")[2].removesuffix(".pid")
        try:
            with open(f"{root}/proc/{number}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            if number.isdigit() and name in [
                os.path.basename(word).decode(errors="replace") for word in words[:3]
            ]:
                return number, os.stat(path).st_mtime
        except OSError:
            continue
    return None


def look(
    settings: Mapping[str, Any], now: float, before: Mapping[str, Any], root: str = ""
) -> dict[str, Any]:
    """The status, as JSON types.

    ::

        {"schema": 1, "time": "2026-11-22T00:00:00Z",
         "daemons": {"ossec-agentd": true, ...},
         "connected": true, "why": "", "server": "10.0.0.1", "answered_within": 180,
         "scanned": "2026-11-21T23:00:00Z" or null, "scan_due": 43800, "unread": []}

    ``why`` says in words why it is not connected; ``answered_within`` is how many seconds have
    passed at most since a server answered; ``scan_due`` how old the last scan may become;
    ``unread`` are the logs that the agent has given up.
    ``settings`` has ``notify_time`` and ``frequency``; ``before`` is the status of the last time,
    which knows what has been rotated out of the log.
    """
    running = daemons(root)
    told = heard(log(root))
    notify = int(settings["notify_time"])
    why = _unconnected(root, running[AGENTD], told, notify, now)
    return {
        "schema": SCHEMA,
        "time": utc(now),
        "daemons": {name: started is not None for name, started in running.items()},
        "connected": not why,
        "why": why,
        "server": told.server or str(before.get("server") or ""),
        "answered_within": LOST_AFTER * notify,
        "scanned": utc(told.scanned) if told.scanned else before.get("scanned"),
        "scan_due": scan_due(int(settings["frequency"])),
        "unread": list(told.unread),
    }


def _unconnected(root: str, agentd: float | None, told: Told, notify: int, now: float) -> str:
    if agentd is None:
        return f"{AGENTD} does not run"
    if os.path.exists(root + _LOCK):
        return told.complaint or "no server has answered since the agent started"
    try:
        sent = now - os.stat(root + _COUNTER).st_mtime
    except OSError:
        return "the agent has never sent anything"
    if sent > notify + _SLACK:
        return f"the agent has sent nothing for {sent:.0f} s, though it should every {notify} s"
    return told.complaint if told.answered is False else ""


def scan_due(frequency: int) -> int:
    """Seconds after which a second scan has been missed; before version 4.3 one may come 300 s
    late, and it takes its time.
    """
    return 2 * frequency + 600


def utc(seconds: float) -> str:
    """A time as our files have it."""
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def since(stamp: str | None, now: float) -> float | None:
    """How many seconds ago that was; None for what is no time."""
    try:
        then = dt.datetime.strptime(stamp or "", "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return None
    return now - then.replace(tzinfo=dt.timezone.utc).timestamp()


def read(path: str) -> dict[str, Any]:
    """A file of ours in JSON; empty where there is none that can be read."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

"""Lines by which whoever reads alerts tells a run of Salt from tampering: before its first change
and after its last one, with its job id.
"""

from __future__ import annotations

import contextlib
import re
import socket
import syslog

from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.ossec import HOME

BEGINS, ENDS = "begins", "ends"
QUEUE = f"{HOME}/queue/ossec/queue"
_LOCATION = "rocksalt"
_KIND = "1"
"""How OSSEC marks a line of a log."""
_JOB = re.compile(r"[\w.-]{1,64}")


def line(job: str, moment: str) -> str:
    """What is written down: ``rocksalt: highstate 20261122101500123456 begins``."""
    if moment not in (BEGINS, ENDS) or not _JOB.fullmatch(job):
        raise Refused(f"{job!r} {moment!r} is no mark: it needs a job id and {BEGINS} or {ENDS}")
    return f"rocksalt: highstate {job} {moment}"


def send(host: Host, job: str, moment: str) -> str:
    """Writes it to the log of the host, and where the agent runs to the agent itself, which may not
    read that log at the moment.
    """
    text = line(job, moment)
    syslog.openlog("rocksalt", 0, syslog.LOG_AUTH)
    syslog.syslog(syslog.LOG_NOTICE, text.removeprefix("rocksalt: "))
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as agent:
        agent.setblocking(False)
        agent.sendto(f"{_KIND}:{_LOCATION}:{text}".encode(), str(host.path(QUEUE)))
    return text

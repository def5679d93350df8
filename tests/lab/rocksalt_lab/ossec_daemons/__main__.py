"""Runs the program by whose name the file was called."""

from __future__ import annotations

import sys
from pathlib import Path

from . import agentd, auth, collecting, execd, server

PROGRAMS = {
    "ossec-agentd": agentd.main,
    "ossec-execd": execd.main,
    "ossec-logcollector": collecting.logcollector,
    "ossec-syscheckd": collecting.syscheckd,
    "agent-auth": auth.main,
    "ossec-server-standin": server.main,
}


def main() -> None:
    """Ends with the program's exit code."""
    sys.exit(PROGRAMS[Path(sys.argv[0]).name](sys.argv[1:]))

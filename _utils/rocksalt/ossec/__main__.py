"""The program ``rocksalt-ossec``: notes how the agent does, and decides about its responses."""

from __future__ import annotations

import grp
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence

from rocksalt.ossec import SETTINGS, STATE, STATUS, guard, state

_USAGE = "usage: rocksalt-ossec watch | respond SCRIPT add|delete USER ADDRESS [...]\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    settings = state.read(SETTINGS)
    if words == ["watch"]:
        return watch(settings)
    if words[:1] == ["respond"] and len(words) > 1 and "/" not in words[1]:
        return guard.respond(words[1], words[2:], settings)
    sys.stderr.write(_USAGE)
    return 2


def watch(settings: dict[str, object]) -> int:
    """Writes the status. Its folder is closed to others from the first moment."""
    if not settings:
        sys.stderr.write(
            f"{SETTINGS} is missing or damaged: state.apply hardening.ossec mends it\n"
        )
        return 1
    os.makedirs(STATE, mode=0o750, exist_ok=True)
    found = state.look(settings, time.time(), state.read(STATUS))
    handle, temporary = tempfile.mkstemp(prefix=".ossec-status.", dir=STATE)
    with open(handle, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)
        file.write("\n")
        os.fchown(file.fileno(), 0, _monitoring())
        os.fchmod(file.fileno(), 0o640)
    os.replace(temporary, STATUS)
    return 0


def _monitoring() -> int:
    """The group that may read: NRPE's, or root's where there is none."""
    try:
        return grp.getgrnam("nagios").gr_gid
    except KeyError:
        return 0


if __name__ == "__main__":
    raise SystemExit(main())

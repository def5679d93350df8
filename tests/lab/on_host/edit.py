#!/usr/bin/env python3
"""Runs on a lab host: changes what a program of log shipping said of itself last, and halts what
would say it anew. /root/restart-logs puts it back.

Arguments: ``ship``, ``logs``, ``verified`` or ``heads``, and a statement about ``s``, what was
said; ``ago(seconds)`` is a time.
"""

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

FILES = {
    "ship": ("/var/lib/rocksalt/logstash/status.json", "rocksalt-ship run"),
    "logs": ("/var/lib/rocksalt-logs/status.json", "rocksalt-ship run"),
    "verified": ("/var/lib/rocksalt-logs/verified.json", ""),
    "heads": ("/var/lib/rocksalt-logs/heads.json", ""),
}
FROM_OTHERS = ["-p", "tcp", "--dport", "2601:2604", "!", "-i", "lo", "-j", "DROP"]
"""A log server says anew how it is when lines come, up to a second later."""


def ago(seconds):
    """A time as the programs write it."""
    then = dt.datetime.now(dt.timezone.utc) - dt.timedelta(seconds=seconds)
    return then.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def main():
    """Halt, keep, change."""
    name, statement = sys.argv[1:]
    path, program = FILES[name]
    if name == "logs":
        subprocess.run(["iptables", "-I", "INPUT", *FROM_OTHERS], check=True)
        time.sleep(2)
    if program:
        subprocess.run(["pkill", "--signal=STOP", "--full", program], check=True)
        time.sleep(0.1)
    shutil.copy2(path, f"/root/kept-{name}")
    said = json.loads(Path(path).read_text())
    exec(statement, {"s": said, "ago": ago})
    found = os.stat(path)
    Path(path).write_text(json.dumps(said))
    os.utime(path, (found.st_atime, found.st_mtime))


if __name__ == "__main__":
    main()

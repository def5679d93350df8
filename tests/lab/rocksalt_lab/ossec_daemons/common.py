"""What the daemons share: where things are, the log, the file of the process, and the options."""

from __future__ import annotations

import getopt
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

HOME = Path("/var/ossec")
CONF, KEYS = HOME / "etc/ossec.conf", HOME / "etc/client.keys"
SHARED, LOG, RUN = HOME / "etc/shared", HOME / "logs/ossec.log", HOME / "var/run"
QUEUE, ORDERS = HOME / "queue/ossec/queue", HOME / "queue/alerts/execq"
LOCK = HOME / "queue/ossec/.wait"
VERSION = "OSSEC HIDS v4.3.0 (stand-in of the Rocksalt lab)"
_PATIENCE = 20.0


class Refused(Exception):
    """A daemon does not take its configuration, or cannot run: (number, text) of what it says."""

    def __init__(self, *complaints: tuple[int, str]) -> None:
        super().__init__(complaints)
        self.complaints = complaints


class Program:
    """One daemon: its name, its options, and what it says."""

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self.pid_file = RUN / f"{name}-{os.getpid()}.pid"
        given = dict(getopt.getopt(list(arguments), "Vhtfdc:u:g:D:")[0])
        if {"-h", "-V"} & {*given}:
            print(VERSION, file=sys.stderr)
            sys.exit(0)
        self.only_test = "-t" in given
        self.conf = Path(given.get("-c", CONF))

    def say(self, text: str, level: str = "INFO", number: int = 0) -> None:
        """A line in the log, and on the standard error."""
        shown = f"{self.name}({number})" if number else self.name
        line = f"{time.strftime('%Y/%m/%d %H:%M:%S')} {shown}: {level}: {text}\n"
        sys.stderr.write(line)
        try:
            with LOG.open("a") as file:
                file.write(line)
        except OSError:
            pass

    def run(self, test: Callable[[], None], work: Callable[[], int | None]) -> int:
        """Tests the configuration, then works until it is told to end; the exit code."""
        try:
            test()
            if self.only_test:
                return 0
            signal.signal(signal.SIGTERM, self._end)
            return work() or 0
        except Refused as refused:
            for number, text in refused.complaints:
                self.say(text, "ERROR", number)
            return 1

    def started(self) -> None:
        """Writes down that it runs."""
        self.pid_file.write_text(f"{os.getpid()}\n")
        self.pid_file.chmod(0o640)
        self.say(f"Started (pid: {os.getpid()}).")

    def _end(self, *_: int | FrameType | None) -> NoReturn:
        self.say("SIGNAL [(15)-(Terminated)] Received. Exit Cleaning...", "INFO", 1225)
        self.pid_file.unlink(missing_ok=True)
        os._exit(1)


def connected(path: Path) -> socket.socket | None:
    """The way to another daemon, which comes in time or does not: nothing orders their start, and
    one that was killed leaves its end behind.
    """
    found, deadline = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), time.monotonic() + _PATIENCE
    while True:
        try:
            found.connect(str(path))
            return found
        except OSError:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.1)


def listening(path: Path, group: str = "") -> socket.socket:
    """The end of a way on which a daemon listens to others."""
    path.unlink(missing_ok=True)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    old = os.umask(0o117)
    found.bind(str(path))
    os.umask(old)
    if group:
        shutil.chown(path, group=group)
    return found

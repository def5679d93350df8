"""The daemon that runs responses: the server says which, and for whom."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Sequence

from . import conf
from .common import HOME, ORDERS, SHARED, Program, Refused, listening

SCRIPTS = HOME / "active-response/bin"
_NAMES = SHARED / "ar.conf"


def main(arguments: Sequence[str]) -> int:
    """Runs it; the exit code."""
    program = Program("ossec-execd", arguments)
    disabled = False

    def test() -> None:
        nonlocal disabled
        for element in conf.within(conf.read(program.conf), "active-response"):
            if element.name == "disabled":
                try:
                    disabled = conf.yes_or_no(element)
                except Refused as refused:
                    ends = conf.wrong(program.conf)
                    raise Refused(*refused.complaints, ends) from None

    def work() -> None:
        if disabled:
            program.say("Active response disabled. Exiting.", "INFO", 1350)
            return
        program.started()
        Responses(program).work()

    return program.run(test, work)


class Responses:
    """What was ordered, and when to take it back."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.pending: dict[tuple[str, ...], float] = {}

    def work(self) -> None:
        """Takes orders, for ever."""
        orders = listening(ORDERS, "ossec")
        orders.settimeout(0.5)
        while True:
            with contextlib.suppress(TimeoutError):
                self.order(orders.recv(65536).decode(errors="replace").split(" "))
            for command in [it for it, end in self.pending.items() if time.monotonic() > end]:
                del self.pending[command]
                self.script(command[0], "delete", command[1:])

    def order(self, words: list[str]) -> None:
        """``NAME USER IP ALERT RULE LOCATION FILE``."""
        known = dict(_responses())
        if words[0] not in known:
            self.program.say(f"Invalid command name '{words[0]}' provided.", "ERROR", 1311)
        elif len(words) < 3:
            self.program.say("Invalid number of arguments.", "ERROR")
        else:
            script, timeout = known[words[0]]
            command = (script, *words[1:])
            if command not in self.pending:
                self.script(script, "add", words[1:])
            if timeout:
                self.pending[command] = time.monotonic() + timeout

    def script(self, name: str, action: str, words: Sequence[str]) -> None:
        """Runs one, as root."""
        path = SCRIPTS / name
        if "/" in name or not path.exists():
            self.program.say(f"Active response command not present: '{path}'.")
            return
        subprocess.run([path, action, *words], stdin=subprocess.DEVNULL, check=False)


def _responses() -> list[tuple[str, tuple[str, int]]]:
    """Name -> script and seconds, as the server handed them out."""
    text = _NAMES.read_text() if _NAMES.exists() else ""
    lines = [line.split(" - ") for line in text.splitlines() if line.count(" - ") == 2]
    return [(name, (script, int(timeout))) for name, script, timeout in lines]

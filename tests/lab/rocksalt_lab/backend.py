"""Let testinfra look at lab hosts: `host.testinfra.service("ssh").is_running`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host as TestinfraHost


class LabBackend(BaseBackend):
    """Runs testinfra's commands through a function `argv -> finished process (bytes)`."""

    NAME = "rocksalt-lab"

    def __init__(
        self, name: str, execute: Callable[[list[str]], subprocess.CompletedProcess[bytes]]
    ) -> None:
        super().__init__(name)
        self._execute = execute

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        text = self.get_command(command, *args)
        done = self._execute(["sh", "-c", text])
        return self.result(done.returncode, self.encode(text), done.stdout, done.stderr)


def testinfra_host(
    name: str, execute: Callable[[list[str]], subprocess.CompletedProcess[bytes]]
) -> TestinfraHost:
    """A testinfra host whose commands run through `execute`."""
    return TestinfraHost(LabBackend(name, execute))

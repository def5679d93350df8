"""Let testinfra look at lab hosts: `host.testinfra.service("ssh").is_running`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host as TestinfraHost

Execute = Callable[[list[str]], subprocess.CompletedProcess[bytes]]


class LabBackend(BaseBackend):
    """Runs testinfra's commands through a function `argv -> finished process (bytes)`."""

    NAME = "rocksalt-lab"

    def __init__(self, name: str, execute: Execute, **options: Any) -> None:
        super().__init__(name, **options)
        self._execute = execute

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        text = self.get_command(command, *args)
        done = self._execute(["sh", "-c", text])
        return self.result(done.returncode, self.encode(text), done.stdout, done.stderr)


class OfAnotherProcess(LabBackend):
    """A host of a lab that another process started: ``lab://web1@LAB``, for ``pytest --hosts``."""

    NAME = "lab"

    def __init__(self, spec: str, **options: Any) -> None:
        from .lab import Lab  # which imports the module of hosts, and that one this

        name, _, lab = spec.partition("@")
        host = Lab.load(lab).hosts.get(name)
        if host is None:
            raise RuntimeError(f"the lab {lab} has no host {name!r}")
        super().__init__(name, host.execute, **options)


def testinfra_host(name: str, execute: Execute) -> TestinfraHost:
    """A testinfra host whose commands run through `execute`."""
    return TestinfraHost(LabBackend(name, execute))

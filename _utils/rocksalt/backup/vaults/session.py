"""A session of ssh that this host starts: with one key, to one host key, and nothing else."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rocksalt.backup.errors import VaultError
from rocksalt.backup.vaults.wire import Wire
from rocksalt.host import ENVIRONMENT

DRAINED = 1 << 20
"""Bytes that are read of what ssh says, or of what nobody wants any more."""
_PATIENCE = 2.0
"""Seconds for ssh to end after both pipes were closed."""
_ALIAS = "rocksalt-vault"


class Session:
    """A running ssh: ``wire`` goes to what ``command`` starts on the other host. ``settings`` has
    host, port, user and host_key; ``key`` is the file of the private key, ``timeout`` the seconds
    without progress after which the other host is taken for gone.
    """

    def __init__(
        self, who: str, program: tuple[str, ...], settings: Mapping[str, Any], timeout: int,
        key: str, command: str,
    ):  # fmt: skip
        self._folder = tempfile.TemporaryDirectory(prefix="rocksalt-")
        self._errors = Path(self._folder.name, "errors")
        known = Path(self._folder.name, "known_hosts")
        known.write_text(f"{_ALIAS} {settings['host_key']}\n")
        try:
            with open(self._errors, "wb") as errors:
                self._child = subprocess.Popen(
                    [*program, *_arguments(settings, known, timeout, key), command],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                    env=ENVIRONMENT, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            self._folder.cleanup()
            raise VaultError(f"{who} needs {program[0]}: {error.strerror}") from None
        assert self._child.stdin and self._child.stdout
        self._pipes = (self._child.stdin, self._child.stdout)
        self.wire = Wire(self._child.stdout.fileno(), self._child.stdin.fileno(), timeout)

    def end(self) -> tuple[int | None, str]:
        """Ends it: the status that it ended with by itself, if it did, and what it said."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            status: int | None = self._child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
            status = None
        said = self._errors.read_bytes()[-DRAINED:].decode(errors="replace")
        self._folder.cleanup()
        return status, said


def _arguments(settings: Mapping[str, Any], known: Path, timeout: int, key: str) -> list[str]:
    options = {
        "BatchMode": "yes",
        "CheckHostIP": "no",
        "ClearAllForwardings": "yes",
        "ConnectTimeout": timeout,
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": _ALIAS,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "LogLevel": "ERROR",
        "PreferredAuthentications": "publickey",
        "ServerAliveCountMax": 3,
        "ServerAliveInterval": max(1, timeout // 3),
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "UserKnownHostsFile": known,
    }
    words = ["-F", "none", "-T", "-i", key, "-l", settings["user"]]
    words += ["-p", str(settings.get("port", 22))]
    words += [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    return [*words, "--", settings["host"]]

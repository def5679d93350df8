"""One at a time: locks that end with the last program that was started under them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from rocksalt.errors import Refused
from rocksalt.luks import programs
from rocksalt.luks.config import RUNTIME
from rocksalt.luks.volumes.machine import Machine

PATIENCE = 30.0
"""Seconds to wait for somebody else."""


@contextlib.contextmanager
def held(machine: Machine, name: str, patience: float = PATIENCE) -> Iterator[None]:
    """Nobody else changes the volume meanwhile; :class:`Refused` where somebody does so for longer
    than ``patience`` seconds. A program outlives us when we are killed, and keeps the lock.
    """
    folder = machine.path(RUNTIME)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(folder / f"{name}.lock", flags, 0o600)
    try:
        _wait(descriptor, name, time.monotonic() + patience)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        try:
            with programs.held(descriptor):
                yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _wait(descriptor: int, name: str, until: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                who = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
                raise Refused(
                    f"the volume {name} is being changed by somebody else (process {who})"
                ) from None
        time.sleep(0.05)

"""A key service: the command ``key_command`` of a volume prints its key."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time

from rocksalt.errors import Refused
from rocksalt.host import ENVIRONMENT
from rocksalt.luks.config import Volume
from rocksalt.luks.handover import receiving
from rocksalt.luks.keys import Key, without_core_dumps
from rocksalt.luks.volumes import opening, states
from rocksalt.luks.volumes.machine import Machine

PATIENCE = 60.0
"""Seconds that a key service has to answer."""


def fetch(volume: Volume, patience: float = PATIENCE) -> Key:
    """The key that the volume's ``key_command`` prints, raw or in base64; :class:`Refused` says why
    there is none, and never what was printed.

    What it says on standard error goes nowhere: nobody knows whether that is the key.
    """
    try:
        return receiving.key(_printed(volume.key_command, patience))
    except Refused as error:
        raise Refused(f"{volume.name}: {volume.key_command[0]}: {error}") from None


def open_volume(machine: Machine, volume: Volume) -> list[str]:
    """Opens a volume with the key that its key service has; what was done, a sentence each."""
    if states.state(machine, volume).condition == states.OPEN:
        return opening.mount_volume(machine, volume)
    with without_core_dumps(), fetch(volume) as key:
        return opening.open_volume(machine, volume, key)


def _printed(command: tuple[str, ...], patience: float) -> bytearray:
    """What the command prints, at most a little more than anybody needs."""
    end, data = time.monotonic() + patience, bytearray()
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            bufsize=0, env=ENVIRONMENT, start_new_session=True, cwd="/",
        )  # fmt: skip
    except OSError as error:
        raise Refused(f"cannot be run: {error.strerror}") from None
    with child:
        try:
            _read(child, data, end)
            status = child.wait(max(0.1, end - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            os.killpg(child.pid, signal.SIGKILL)
            raise Refused(f"took more than {patience:.0f} s to print the key") from None
    if status:
        raise Refused(f"ended with status {status}, so there is no key; run it to see why")
    return data


def _read(child: subprocess.Popen[bytes], data: bytearray, end: float) -> None:
    assert child.stdout is not None
    while len(data) <= receiving.LARGEST:
        if not select.select([child.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            raise TimeoutError
        more = os.read(child.stdout.fileno(), 512)
        if not more:
            break
        data += more
    child.stdout.close()

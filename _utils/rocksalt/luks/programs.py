"""Programs that change volumes. What they are handed comes through pipes, so that no key is in an
argument, in the environment or in a file; what they say is shown to nobody but in a refusal.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import subprocess
from collections.abc import Iterator

from rocksalt.errors import Refused
from rocksalt.host import ENVIRONMENT, Ran
from rocksalt.luks.keys import Key

HELD: contextvars.ContextVar[tuple[int, ...]] = contextvars.ContextVar("held", default=())
"""Descriptors of locks, and of what is mounted over. Programs keep them open, so that a lock lasts
as long as a program that was started under it, also when we were killed.
"""


def run(
    *command: str,
    given: Key | bytes = b"",
    new: Key | None = None,
    timeout: float | None = 120,
) -> Ran:
    """Runs a program that finds ``given`` in its standard input and ``new`` in the file that is
    its last argument. One that is not installed gives status 127, one that took more than
    ``timeout`` seconds 124.
    """
    with contextlib.ExitStack() as pipes:
        passed, stdin = HELD.get(), pipes.enter_context(_pipe(given))
        if new is not None:
            descriptor = pipes.enter_context(_pipe(new))
            passed, command = (*passed, descriptor), (*command, f"/dev/fd/{descriptor}")
        try:
            done = subprocess.run(
                command, stdin=stdin, capture_output=True, pass_fds=passed, timeout=timeout,
                text=True, errors="replace", env=ENVIRONMENT, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            return Ran(127, "", f"{command[0]} is not installed")
        except subprocess.TimeoutExpired:
            return Ran(124, "", f"{command[0]} took more than {timeout:.0f} s")
    return Ran(done.returncode, done.stdout, done.stderr)


def must(failure: str, ran: Ran) -> Ran:
    """What ran well; :class:`Refused` in the words of ``failure`` and of the program otherwise."""
    if ran.status:
        said = " ".join((ran.err or ran.out).split()) or f"exit code {ran.status}"
        raise Refused(f"{failure}: {said}")
    return ran


@contextlib.contextmanager
def held(descriptor: int) -> Iterator[None]:
    """Programs that are started meanwhile have the descriptor as well."""
    before = HELD.set((*HELD.get(), descriptor))
    try:
        yield
    finally:
        HELD.reset(before)


@contextlib.contextmanager
def _pipe(content: Key | bytes) -> Iterator[int]:
    """The end of a pipe to read from, with all of ``content`` in it, which is far less than a pipe
    holds: nobody has to copy it or to wait.
    """
    reading, writing = os.pipe()
    try:
        try:
            view = content.secret if isinstance(content, Key) else memoryview(content)
            os.set_blocking(writing, False)
            if len(view) and os.write(writing, view) != len(view):
                raise Refused(f"{len(view)} bytes are more than a pipe holds at once")
        finally:
            os.close(writing)
        yield reading
    finally:
        os.close(reading)

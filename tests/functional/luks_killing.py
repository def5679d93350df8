"""Runs something in a process of its own that dies, as by kill -9, at a step that is counted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITES = 24
"""One in so many writes of a page is a step, for there are many of them, all alike."""
_READING = ("blkid", "wipefs", "luksDump", "--test-passphrase")
"""Programs that change nothing: whoever dies at one of them died before the next one as well."""


class Counter:
    """Dies at a step: before what changes files, and when a program that does has just begun."""

    def __init__(self, last: int):
        self.left = last
        self.writes = 0

    def step(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.step()
            return function(*args, **kwargs)

        return counted

    def behind(self, begin: Callable[..., Any]) -> Callable[..., Any]:
        """With a program that is running, and goes on."""

        def counted(popen: Any, command: Any, *args: Any, **kwargs: Any) -> None:
            begin(popen, command, *args, **kwargs)
            if not any(word in _READING for word in command):
                self.step()

        return counted

    def sometimes(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.writes += 1
            if self.writes % _WRITES == 1:
                self.step()
            return function(*args, **kwargs)

        return counted


def killed_at(step: int, action: Callable[[], object]) -> bool:
    """Whether the process died at this step; it had fewer otherwise, and ended well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            count = Counter(step)
            for module, name in ((os, "replace"), (os, "fsync"), (Path, "unlink")):
                setattr(module, name, count.before(getattr(module, name)))
            os.pwrite = count.sometimes(os.pwrite)
            popen = subprocess.Popen
            subprocess.Popen = type(  # type: ignore[misc]
                "Popen", (popen,), {"__init__": count.behind(popen.__init__)}
            )
            action()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the steps failed without being killed"
    return False


def killed_after(seconds: float, action: Callable[[], object]) -> bool:
    """Whether the process, with all programs that it had started, died after this time."""
    end = time.monotonic() + seconds
    return killed_when(lambda: time.monotonic() > end, action)


def killed_when(moment: Callable[[], bool], action: Callable[[], object]) -> bool:
    """The same at a moment that something outside shows."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            action()
            code = 0
        finally:
            os._exit(code)
    while not moment():
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.WEXITSTATUS(status) == 0
            return False
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)

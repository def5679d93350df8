"""A root folder for a restored master: this host's own, with what was restored in its place.

:func:`play` starts a process in namespaces of its own, as root; the rest is for that process.
Folders that programs write to are overlays in memory, everything else is read-only, so nothing
reaches the host, and all of it is gone with the last process.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rocksalt
from rocksalt.backup.errors import BackupError

_UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_SECONDS = 900
"""After which everything is ended, whatever it is at."""
_WRITTEN = {"etc", "var", "run", "srv", "home", "root", "tmp"}
_KERNEL = {"proc", "sys", "dev"}
_CLEAN = ("/var/cache/salt", "/var/log/salt", "/run/salt", "/dev/shm", "/tmp")
"""What this host's own Salt keeps there is not for the restored one."""
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE = 1, 32, 4096, 16384
_UP = 0x1
_SIOCSIFFLAGS = 0x8914


def play(module: str, plan: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Runs a module of ours as process 1 of namespaces of its own (network, mounts, processes),
    gives it ``plan`` as JSON and yields the steps that it tells, a line of JSON each. One that is
    skipped says why there are no namespaces. All processes in them end with this generator.
    """
    library = str(Path(rocksalt.__file__).resolve().parents[1])
    process = subprocess.Popen(
        [*_UNSHARE, sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": library, "PYTHONWARNINGS": "ignore"},
    )
    assert process.stdin and process.stdout and process.stderr
    clock = threading.Timer(_SECONDS, process.kill)
    clock.start()
    came = False
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            json.dump(plan, pipe)
        for line in process.stdout:
            came = True
            yield json.loads(line)
        if not came:
            told = process.stderr.read().strip().splitlines() or ["unshare said nothing"]
            yield {"name": "namespace", "status": "skipped", "reason": told[-1]}
    finally:
        clock.cancel()
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends process 1 of the namespaces; its parent, which we wait for, sees that only when all the
    others in there have ended too.
    """
    with contextlib.suppress(OSError, ValueError):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        os.kill(int(children), signal.SIGKILL)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mounts; :class:`BackupError` names what could not be mounted."""
    library = ctypes.CDLL(None, use_errno=True)
    words = [os.fsencode(text) or None for text in (source, target, kind)]
    if library.mount(*words, ctypes.c_ulong(flags), data.encode() or None):
        reason = os.strerror(ctypes.get_errno())
        raise BackupError(f"{kind or source} could not be mounted on {target}: {reason}")


def build(scratch: str) -> str:
    """Makes the root folder below the empty folder ``scratch`` and returns it."""
    mount("tmpfs", scratch, "tmpfs", data="mode=0700")
    root = os.path.join(scratch, "root")
    os.mkdir(root, 0o755)
    with os.scandir("/") as entries:
        for entry in entries:
            target = os.path.join(root, entry.name)
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), target)
            elif entry.is_dir():
                os.mkdir(target, 0o755)
                _fill(entry.name, target, scratch)
    return root


def _fill(name: str, target: str, scratch: str) -> None:
    if name == "proc":
        mount("proc", target, "proc")
    elif name in _WRITTEN:
        upper, work = (os.path.join(scratch, f"{name}.{kind}") for kind in ("upper", "work"))
        for folder in (upper, work):
            os.mkdir(folder, 0o755)
        shutil.copystat(f"/{name}", upper)
        layers = f"lowerdir=/{name},upperdir={upper},workdir={work}"
        mount("overlay", target, "overlay", data=layers)
    else:
        mount(f"/{name}", target, flags=_BIND | _RECURSIVE)
        if name not in _KERNEL:
            # The outermost mount; what is mounted further in keeps its own ways.
            mount("none", target, flags=_BIND | _REMOUNT | _READ_ONLY)


def enter(root: str, tree: str, tops: Sequence[str]) -> None:
    """Makes ``root`` the root folder of this process, with each of ``tops`` (absolute paths) as it
    lies below ``tree``.
    """
    opened = []
    for top in tops:
        source = tree + top
        link = os.readlink(source) if os.path.islink(source) else ""
        opened.append((top, link, -1 if link else os.open(source, os.O_PATH | os.O_NOFOLLOW)))
    os.chroot(root)
    os.chdir("/")
    for folder in _CLEAN:
        os.makedirs(folder, exist_ok=True)
        mount("tmpfs", folder, "tmpfs", data="mode=1777" if folder in ("/tmp", "/dev/shm") else "")
    for top, link, fd in opened:
        _put(top, link, fd)


def _put(top: str, link: str, fd: int) -> None:
    """One restored file or folder in its place."""
    try:
        os.makedirs(os.path.dirname(top), exist_ok=True)
        if link:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(top)
            os.symlink(link, top)
            return
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            os.makedirs(top, exist_ok=True)
        elif not os.path.exists(top):
            os.close(os.open(top, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise BackupError(f"there is no place for {top} on this host: {error.strerror}") from None
    mount(f"/proc/self/fd/{fd}", top, flags=_BIND | _RECURSIVE)
    os.close(fd)


def loopback() -> None:
    """Switches on ``lo``, the only network there is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _UP))

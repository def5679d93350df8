"""A root folder for a restored master, in which it finds what it needs and nothing else.

What was restored is code of others: whoever had the master wrote it. :func:`play` starts a process
in namespaces of its own, as root; the rest is for that process. Its root folder is a file system in
memory with this host's programs, read-only, a copy of what everybody may read in /etc, and what was
restored. It has no devices, none of this host's other files and sockets, and no more rights than a
salt-master takes. All of it is gone with the last process.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rocksalt
from rocksalt.backup.errors import BackupError

_UNSHARE = (
    *("unshare", "--net", "--mount", "--ipc", "--pid"),
    *("--fork", "--kill-child", "--mount-proc"),
)
_SECONDS = 900
"""After which everything is ended, whatever it is at."""
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SALT = ("salt-master", "salt-minion", "salt")
_EMPTY = ("/dev", "/etc", "/home", "/mnt", "/opt", "/proc", "/root", "/run", "/srv", "/tmp", "/var")
_VAR = ("cache", "lib", "log", "spool", "tmp")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_OURS = ("rocksalt", "salt")
"""What this host has in /etc is not for the restored master, whatever its modes are."""
_LOADER = "/etc/ld.so.cache"
_LOADED = ("/lib", "/lib32", "/lib64", "/libx32", "/usr/lib", "/usr/lib32", "/usr/lib64")
"""Where process 1 may still load something from: nothing is restored there."""
_READ_ONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _RECURSIVE = 1, 2, 4, 8, 32, 4096, 16384
_UP = 0x1
_SIOCSIFFLAGS = 0x8914
_RIGHTS = (0, 1, 3, 5, 6, 7, 10)
"""CAP_CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, NET_BIND_SERVICE."""
_CAPABILITIES = 0x20080522
"""Version 3 of the kernel's structure: two words of 32 bits for each set."""
_DUMPABLE, _BOUNDING_DROP, _NO_NEW_PRIVILEGES, _AMBIENT, _AMBIENT_CLEAR = 4, 24, 38, 47, 4


def play(module: str, plan: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Runs a module of ours as process 1 of namespaces of its own (network, mounts, processes),
    gives it ``plan`` as JSON and yields the steps that it tells, a line of JSON each. One that is
    skipped says why there are no namespaces. All processes in them end with this generator.
    """
    library = str(Path(rocksalt.__file__).resolve().parents[1])
    # Not a pipe: a path below /proc opens one that belongs to another process, but no socket.
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [*_UNSHARE, sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=theirs.fileno(),
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        start_new_session=True,  # without the terminal of whoever runs the drill
        env={
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": library,
            "PYTHONWARNINGS": "ignore",
        },
    )
    theirs.close()
    assert process.stdin and process.stderr
    clock = threading.Timer(_SECONDS, process.kill)
    clock.start()
    came = False
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            json.dump(plan, pipe)
        with ours, ours.makefile(encoding="utf-8") as lines:
            for line in lines:
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
    if process.stderr:
        process.stderr.close()


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mounts; :class:`BackupError` names what could not be mounted."""
    library = ctypes.CDLL(None, use_errno=True)
    words = [os.fsencode(text) or None for text in (source, target, kind)]
    if library.mount(*words, ctypes.c_ulong(flags), data.encode() or None):
        reason = os.strerror(ctypes.get_errno())
        raise BackupError(f"{kind or source} could not be mounted on {target}: {reason}")


def programs(path: str) -> list[str]:
    """The folders outside /usr that Salt's programs on a search path need, and this Python."""
    found = {sys.prefix, sys.base_prefix}
    for name in _SALT:
        program = shutil.which(name, path=path or None)
        if program:
            found |= {os.path.dirname(program), _prefix(os.path.realpath(program))}
    for folder in list(found):
        found.add(_prefix(os.path.realpath(f"{folder}/bin/python3")))
    found = {it for it in found if os.path.isdir(it) and not _within(it, *_SYSTEM)}
    return sorted(it for it in found - {"/"} if not _within(it, *(found - {it, "/"})))


def _prefix(program: str) -> str:
    """The folder of a Python with its library, else that of the program alone."""
    folder = os.path.dirname(program)
    above = Path(folder).parent
    return str(above) if any(above.glob("lib/python3*")) else folder


def _within(path: str, *folders: str) -> bool:
    return any(path == it or path.startswith(f"{it}/") for it in folders)


def build(scratch: str, trees: Sequence[str], hidden: Sequence[str]) -> str:
    """Makes the root folder below the empty folder ``scratch`` and returns it. It has the folders
    ``trees`` of this host beside those of the system, and what is below ``hidden`` is empty.
    """
    mount("tmpfs", scratch, "tmpfs", _NOSUID | _NODEV, "mode=0700")
    root = os.path.join(scratch, "root")
    for path in ("", *_EMPTY, *(f"/var/{name}" for name in _VAR)):
        os.mkdir(root + path, 0o755)
    for path in ("/tmp", "/var/tmp"):
        os.chmod(root + path, 0o1777)
    os.chmod(f"{root}/root", 0o700)
    os.symlink("/run", f"{root}/var/run")
    for path in (*_SYSTEM, *trees):
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            os.makedirs(root + path, exist_ok=True)
            _bind(path, root + path, _READ_ONLY)
    shown = [os.path.realpath(it) for it in (*_SYSTEM, *trees)]
    for path in map(os.path.realpath, hidden):
        if _within(path, *shown) and os.path.isdir(root + path):
            mount("tmpfs", root + path, "tmpfs", _READ_ONLY | _NOSUID | _NODEV)
    _etc(f"{root}/etc")
    _devices(f"{root}/dev")
    mount("proc", f"{root}/proc", "proc", _NOSUID | _NODEV)
    mount("none", f"{root}/proc", flags=_BIND | _REMOUNT | _READ_ONLY | _NOSUID | _NODEV)
    return root


def _bind(source: str, target: str, flags: int = 0) -> None:
    """Shows a file or folder of this host in another place too, with all that is mounted in it."""
    mount(source, target, flags=_BIND | _RECURSIVE)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split()[4] for line in file]
    for point in {re.sub(r"\\([0-7]{3})", lambda it: chr(int(it[1], 8)), it) for it in points}:
        if _within(point, os.path.realpath(target)):
            kept = os.statvfs(point).f_flag & (_READ_ONLY | _NOEXEC)
            mount("none", point, flags=_BIND | _REMOUNT | _NOSUID | _NODEV | kept | flags)


def _etc(target: str) -> None:
    """Copies what everybody may read in /etc, but our own settings and Salt's."""

    def ignored(folder: str, entries: list[str]) -> set[str]:
        return {
            name
            for name in entries
            if (folder == "/etc" and name in _OURS) or not _public(os.path.join(folder, name))
        }

    # What vanished meanwhile is missing, which is told by the program that needs it.
    with contextlib.suppress(shutil.Error):
        shutil.copytree("/etc", target, symlinks=True, ignore=ignored, dirs_exist_ok=True)
    if os.path.isfile(_LOADER):
        _bind(_LOADER, os.path.dirname(target) + _LOADER, _READ_ONLY)


def _public(path: str) -> bool:
    """Whether everybody may read it."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        return mode & 0o005 == 0o005
    return stat.S_ISLNK(mode) or (stat.S_ISREG(mode) and bool(mode & 0o004))


def _devices(target: str) -> None:
    """A /dev without disks and terminals."""
    mount("tmpfs", target, "tmpfs", _NOSUID, "mode=0755")
    for name in _DEVICES:
        os.close(os.open(f"{target}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        mount(f"/dev/{name}", f"{target}/{name}", flags=_BIND)
    os.symlink("/proc/self/fd", f"{target}/fd")
    os.mkdir(f"{target}/shm")
    os.chmod(f"{target}/shm", 0o1777)


def enter(root: str, tree: str, tops: Sequence[str]) -> None:
    """Makes ``root`` the root folder of this process, with each of ``tops`` (absolute paths) as it
    lies below ``tree``, and gives up the rights that it took.
    """
    opened = []
    tree = os.path.realpath(tree)
    for top in tops:
        source = tree + top
        if os.path.realpath(os.path.dirname(source)) != os.path.dirname(source):
            raise BackupError(f"{top} lies behind a link in what was restored")
        link = os.readlink(source) if os.path.islink(source) else ""
        opened.append((top, link, -1 if link else os.open(source, os.O_PATH | os.O_NOFOLLOW)))
    # From here on nothing is loaded from a place that the restored master could write to.
    loaded = [it for it in sys.path if _within(it, "/usr", sys.prefix, sys.base_prefix)]
    sys.path[:] = loaded
    os.chroot(root)
    os.chdir("/")
    for top, link, fd in opened:
        _put(top, link, fd, (*_LOADED, *loaded, _LOADER, "/proc", "/dev"))
    restrict()


def _put(top: str, link: str, fd: int, ours: Sequence[str]) -> None:
    """One restored file or folder in its place, which is none of ``ours``."""
    place = os.path.join(os.path.realpath(os.path.dirname(top)), os.path.basename(top))
    place = place if link else os.path.realpath(place)
    for path in ours:
        if _within(place, path) or _within(path, place.rstrip("/")):
            raise BackupError(f"{top} was restored, and a drill keeps {path} as this host has it")
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if link:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place)
            os.symlink(link, place)
            return
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            os.makedirs(place, exist_ok=True)
        elif not os.path.exists(place):
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise BackupError(f"there is no place for {top} on this host: {error.strerror}") from None
    _bind(f"/proc/self/fd/{fd}", place)
    os.close(fd)


def restrict() -> None:
    """Leaves this process, and all that it starts, the few rights that a salt-master takes, for
    good: it mounts nothing, makes no devices, and none of the others looks into it.
    """
    library = ctypes.CDLL(None, use_errno=True)

    def control(*numbers: int) -> bool:
        words = [ctypes.c_ulong(it) for it in (*numbers, 0, 0, 0, 0)[1:5]]
        return bool(library.prctl(ctypes.c_int(numbers[0]), *words) == 0)

    highest = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    done = [control(_BOUNDING_DROP, it) for it in range(highest + 1) if it not in _RIGHTS]
    mask = sum(1 << it for it in _RIGHTS)
    sets = struct.pack("=6I", mask, mask, 0, 0, 0, 0)
    done.append(library.capset(struct.pack("=Ii", _CAPABILITIES, 0), sets) == 0)
    done.append(control(_AMBIENT, _AMBIENT_CLEAR))
    done.append(control(_NO_NEW_PRIVILEGES, 1))
    done.append(control(_DUMPABLE, 0))
    if not all(done):
        raise BackupError("the rights of a process that rehearses cannot be restricted here")


def loopback() -> None:
    """Switches on ``lo``, the only network there is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _UP))

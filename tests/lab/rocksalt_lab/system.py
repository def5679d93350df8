"""The machine underneath: commands, processes, mounts and the tools the lab needs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[3]
RUN = Path("/run/rocksalt-lab")

# command -> Debian package that has it
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "gpg": "gpg",
    "git": "git",
    "tar": "tar",
}
# the same for virtual machines
MACHINE_TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mkfs.ext4": "e2fsprogs",
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class LabError(Exception):
    """Something about the lab is wrong; the message is one sentence that says what to do."""


def cache() -> Path:
    """The folder of images and host disks."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rocksalt"


def sh(*command: str | Path, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of the machine; a failure is a LabError with what the command said."""
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **kwargs)
    if done.returncode:
        words = " ".join(str(c) for c in command[:6])
        raise LabError(f"`{words} ...` failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
    return done


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Print what is being done, a sign of life every ten seconds, and how long it took."""
    start, done = time.monotonic(), threading.Event()

    def alive() -> None:
        while not done.wait(10):
            print(f"lab: {text} ... {time.monotonic() - start:.0f} s", flush=True)

    print(f"lab: {text} ...", flush=True)
    threading.Thread(target=alive, daemon=True).start()
    try:
        yield
    finally:
        done.set()
    print(f"lab: {text}: {time.monotonic() - start:.1f} s", flush=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the kernel lets go of it if this process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if it is gone or a zombie.

    Together with the pid this names a process for good, since pids are used again.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def mounts_below(folder: Path) -> list[str]:
    """Mount points at or below a folder, deepest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    below = [p for p in points if p == str(folder) or p.startswith(f"{folder}/")]
    return sorted(below, key=len, reverse=True)


def remove_tree(folder: Path) -> None:
    """Unmount everything at or below a folder, then delete it."""
    for point in mounts_below(folder):
        sh("umount", "--lazy", point)
    if left := mounts_below(folder):
        raise LabError(f"{left[0]} is still mounted: nothing was deleted; unmount it and try again")
    shutil.rmtree(folder, ignore_errors=True)


def ensure_tools(install: bool = True, tools: Mapping[str, str] = TOOLS) -> None:
    """Check that the lab can run here; install missing packages if allowed to."""
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    if "debian" not in release.lower():
        raise LabError("The lab runs on Debian or Ubuntu only; use a virtual machine with Debian.")
    if os.geteuid() != 0:
        raise LabError("The lab boots system containers and needs root; run it with sudo.")
    missing = {package for tool, package in tools.items() if not shutil.which(tool)}
    if not KEYRING.exists():
        missing.add("debian-archive-keyring")
    if not missing:
        return
    command: Sequence[str] = ("apt-get", "install", "--yes", "--no-install-recommends")
    command = (*command, *sorted(missing))
    if not install:
        raise LabError(f"Tools are missing; install them with: {' '.join(command)}")
    with step(f"installing {', '.join(sorted(missing))}"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        sh("apt-get", "update", env=env)
        sh(*command, env=env)

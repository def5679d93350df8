"""The host as the library touches it: run a command, read a file, replace a file in one step."""

from __future__ import annotations

import contextlib
import glob
import grp
import os
import pwd
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
}
_TEMPORARY = ".rocksalt-new"


@dataclass(frozen=True)
class Ran:
    """A finished command; a program that does not exist gives status 127, one that took too long
    124.
    """

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Attributes:
    """Who owns a file and what may be done with it: ``mode`` as ``0644``, ``changed`` in seconds
    since the epoch.
    """

    mode: str
    owner: str
    group: str
    changed: float

    @property
    def access(self) -> str:
        return f"{self.owner}:{self.group} {self.mode}"


class Host:
    """The running host, or the tree below ``root`` in tests; commands always run on the running
    host.
    """

    def __init__(self, root: str = "/"):
        self.root = root.rstrip("/")

    def path(self, path: str) -> Path:
        return Path(self.root + path)

    def run(
        self, *command: str, timeout: float = 30, text: str = "", files: Sequence[int] = ()
    ) -> Ran:
        """Runs a command that reads ``text`` from its standard input, and inherits open files."""
        try:
            done = subprocess.run(
                command, input=text, capture_output=True, text=True, timeout=timeout,
                errors="replace", env=ENVIRONMENT, check=False, pass_fds=files,
            )  # fmt: skip
        except FileNotFoundError:
            return Ran(127, "", f"{command[0]} is not installed")
        except subprocess.TimeoutExpired:
            return Ran(124, "", f"{command[0]} took more than {timeout:.0f} s")
        return Ran(done.returncode, done.stdout, done.stderr)

    def read(self, path: str) -> str | None:
        """The text of a file with the line ends that it has, None where there is none."""
        try:
            return self.path(path).read_bytes().decode(errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def glob(self, pattern: str) -> list[str]:
        """Matching paths in the C locale's order, as sshd and cron sort them."""
        return sorted(found[len(self.root) :] for found in glob.glob(self.root + pattern))

    def attributes(self, path: str, follow: bool = True) -> Attributes | None:
        try:
            found = os.stat(self.path(path), follow_symlinks=follow)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Attributes(
            mode=f"{stat.S_IMODE(found.st_mode):04o}",
            owner=_name(pwd.getpwuid, found.st_uid, "pw_name"),
            group=_name(grp.getgrgid, found.st_gid, "gr_name"),
            changed=max(found.st_ctime, found.st_mtime),
        )

    def write(self, path: str, text: str, mode: str = "0644", owner: str = "") -> None:
        """Replaces a file as a whole: a reader, or a crash at any moment, sees the old text or the
        new one. ``owner`` such as ``root:salt`` is whose it is from the first moment on.

        Two writers at a time do not meet, for each has a temporary file of its own; what a killed
        one left goes first.
        """
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(target)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(text.encode(errors="surrogateescape"))
            if owner:
                self.own(file.fileno(), path, *owner.split(":"))
            os.fchmod(file.fileno(), int(mode, 8))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        synchronise(target.parent)

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path(path).unlink()

    def rename(self, path: str, new: str) -> None:
        os.replace(self.path(path), self.path(new))
        synchronise(self.path(new).parent)

    def secure(self, path: str, owner: str, group: str, mode: str) -> None:
        target = self.path(path)
        os.chown(target, *_ids(owner, group))
        target.chmod(int(mode, 8))

    def own(self, handle: int, path: str, owner: str, group: str) -> None:
        """The owner and group of what is open, which had this path."""
        os.chown(f"/proc/self/fd/{handle}", *_ids(owner, group))

    def access(self, path: str) -> str | None:
        """Owner, group and mode of what has this very name."""
        found = self.attributes(path, follow=False)
        return found.access if found else None

    def give(self, path: str, access: str) -> None:
        """Sets what :meth:`access` tells."""
        self.secure(path, *access.replace(":", " ").split())

    @contextlib.contextmanager
    def directory(
        self, path: str, mode: int = 0o755, unless: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """The directory exists meanwhile; one made for the occasion goes again ``unless`` somebody
        else relies on it by then.
        """
        target = self.path(path)
        try:
            target.mkdir(mode=mode)
        except FileExistsError:
            yield
            return
        try:
            yield
        finally:
            if not unless():
                with contextlib.suppress(OSError):
                    target.rmdir()


def unit_properties(text: str) -> list[dict[str, str]]:
    """What ``systemctl show`` printed, unit by unit."""
    return [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in text.split("\n\n")
    ]


def _temporary(target: Path) -> Path:
    """A name that only this thread writes, beside which no dead thread's file is left."""
    prefix, mine = f".{target.name}{_TEMPORARY}.", str(threading.get_native_id())
    for path in target.parent.glob(f"{glob.escape(prefix)}*"):
        writer = path.name.removeprefix(prefix)
        if writer == mine or not os.path.exists(f"/proc/{writer}"):
            path.unlink(missing_ok=True)
    return target.with_name(prefix + mine)


def _name(lookup, number: int, attribute: str) -> str:  # type: ignore[no-untyped-def]
    try:
        return str(getattr(lookup(number), attribute))
    except KeyError:
        return str(number)


def _ids(owner: str, group: str) -> tuple[int, int]:
    """The numbers of a user and a group; one that has no name is its number, as told above."""
    user = int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid
    return user, int(group) if group.isdigit() else grp.getgrnam(group).gr_gid


def synchronise(path: Path) -> None:
    """Makes the names in a folder safe on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

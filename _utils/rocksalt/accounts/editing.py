"""Lines of the account files changed the way the shadow tools do: under their lock, beside the
file, then in its place.

For a line that names nobody, a second line of one name or a name that looks like an option, those
tools offer nothing.

Sources: lckpwdf(3), passwd(5).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path

from rocksalt.accounts.database import GROUP, GSHADOW, PASSWD, SHADOW, today
from rocksalt.errors import Refused
from rocksalt.host import Host

LOCK = "/etc/.pwd.lock"
LOCKED, NOLOGIN = "!", "/usr/sbin/nologin"
_PATIENCE = 15
"""Seconds, as lckpwdf waits."""

Change = Callable[[list[str]], "list[str] | None"]
"""The fields of a line in; those of the line in its place out, or None for no line."""


@contextlib.contextmanager
def locked(host: Host) -> Iterator[None]:
    """No other program that keeps to the lock changes the account files meanwhile."""
    handle = os.open(host.path(LOCK), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait(handle)
        yield
    finally:
        os.close(handle)


def _wait(handle: int) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise Refused(
                    f"{LOCK} is held by another program, so the account files stay as they are"
                ) from None
        time.sleep(0.1)


def rewrite(host: Host, path: str, change: Change, more: Sequence[str] = ()) -> None:
    """Changes lines of one account file, and adds some; its owner and mode stay.

    A reader sees the old file or the new one, and the text in between is root's alone.
    """
    path = str(Path(host.path(path)).resolve())[len(host.root) :]
    text = host.read(path)
    if text is None:
        return
    changed = (change(line.split(":")) if line else [""] for line in text.split("\n"))
    new = "\n".join(":".join(fields) for fields in changed if fields is not None)
    new += "".join(f"{line}\n" for line in more)
    if new == text:
        return
    found, beside = os.stat(host.path(path)), f"{path}+"
    host.write(beside, new, "0600")
    os.chown(host.path(beside), found.st_uid, found.st_gid)
    os.chmod(host.path(beside), found.st_mode & 0o7777)
    host.rename(beside, path)


def _name(fields: Sequence[str]) -> str:
    """Blanks before a name do not count."""
    return fields[0].lstrip()


def _is_zero(fields: Sequence[str]) -> bool:
    uid = (*fields, "", "", "")[2].strip().lstrip("+-")
    return uid.isdigit() and not uid.strip("0")


def remove(host: Host, names: Set[str]) -> None:
    """Removes accounts with UID 0, and nothing that may be root's: no home folder, no group, no
    process. The line of passwd goes last, so that one that was interrupted is found again.
    """

    def unlisted(*places: int) -> Change:
        def change(fields: list[str]) -> list[str] | None:
            for place in (p for p in places if p < len(fields)):
                members = fields[place].split(",")
                fields[place] = ",".join(name for name in members if name not in names)
            return fields

        return change

    def gone(fields: list[str]) -> list[str] | None:
        return None if _name(fields) in names and _is_zero(fields) else fields

    with locked(host):
        passwd = (line.split(":") for line in (host.read(PASSWD) or "").split("\n"))
        others = {_name(fields) for fields in passwd if gone(fields)}
        rewrite(host, GROUP, unlisted(3))
        rewrite(host, GSHADOW, unlisted(2, 3))
        rewrite(host, SHADOW, lambda f: None if _name(f) in names - others else f)
        rewrite(host, PASSWD, gone)


def settle_passwords(host: Host, names: Set[str]) -> None:
    """Has shadow say what is right as a password, and nothing where that was the empty one."""
    with locked(host):
        in_passwd: dict[str, str] = {}
        for line in (host.read(PASSWD) or "").split("\n"):
            name, password, *_ = [*line.lstrip().split(":"), "x"]
            if name in names and password != "x":
                in_passwd.setdefault(name, password)
        lines = (host.read(SHADOW) or "").split("\n")
        known = {line.split(":")[0].lstrip() for line in lines}
        missing = [name for name in in_passwd if name not in known]

        def locked_or_moved(fields: list[str]) -> list[str]:
            if _name(fields) in names and len(fields) > 1:
                fields[1] = in_passwd.get(_name(fields)) or fields[1] or LOCKED
            return fields

        def in_shadow(fields: list[str]) -> list[str]:
            return [fields[0], "x", *fields[2:]] if _name(fields) in names else fields

        more = [f"{name}:{in_passwd[name] or LOCKED}:{today()}:0:99999:7:::" for name in missing]
        rewrite(host, SHADOW, locked_or_moved, more)
        rewrite(host, PASSWD, in_shadow)


def drop_legacy(host: Host, paths: Set[str]) -> None:
    """Removes the lines that begin with ``+`` or ``-``."""
    with locked(host):
        for path in paths:
            rewrite(host, path, lambda fields: None if _name(fields)[:1] in ("+", "-") else fields)


def shut(host: Host, shells: Set[str], passwords: Set[str]) -> None:
    """Gives accounts a shell that takes no commands, and locks passwords so that unlocking brings
    the old ones back.
    """

    def no_shell(fields: list[str]) -> list[str]:
        return [*(fields + [""] * 6)[:6], NOLOGIN] if _name(fields) in shells else fields

    def no_password(fields: list[str]) -> list[str]:
        if _name(fields) in passwords and not fields[1].startswith(LOCKED):
            fields[1] = LOCKED + fields[1]
        return fields

    with locked(host):
        rewrite(host, SHADOW, no_password)
        rewrite(host, PASSWD, no_shell)

"""Sets up the logbook of the master, starts it, and takes it away. The book and its keys stay."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from pathlib import Path

from rocksalt import logbook, permissions, systemd
from rocksalt.access import booked, starting
from rocksalt.access.facts import MASTER, Facts
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.logbook import units
from rocksalt.transaction import ASIDE, Transaction, must, systemctl

_PATIENCE, _PAUSE = 60, 0.5
"""Looks at whether it hears the master, and seconds between them."""
_FIRST_HEADS, _FIRST_CHECK = 60.0, 300.0
"""Seconds that a run of Salt waits for them; one that takes longer goes on by itself."""
_CHANGEABLE = ("/etc/systemd/", "/run/systemd/")


def prepare(host: Host, it: Facts, change: Transaction) -> None:
    """The folders, and nothing beside the units; comes before the files are written, so that going
    back ends with the old ones.
    """
    if host.attributes(booked.UNIT_PATH):
        change.on_undo(partial(_go_on, host))
    _passable(host.path(logbook.CONFIG).parent)
    for path, rights in booked.folders(it).items():
        _folder(host, path, rights)
    for path in booked.strange(it):
        if not host.path(path).is_symlink() and (at := host.attributes(path)):
            rights = f"{it.user}:{it.group} {at.mode}"
            permissions.give(host, path, rights, _top(path))
    for path in systemd.overrides(host, booked.unit_paths(it)):
        if path.startswith(_CHANGEABLE) and host.attributes(path, follow=False):
            change.rename(path, path + ASIDE)
    for path in booked.stale(it):
        host.run("systemctl", "disable", "--quiet", "--now", os.path.basename(path))
        change.remove(path)


def start(host: Host, it: Facts, change: Transaction) -> None:
    """Makes its keys, starts it anew on its files, and has it checked where that was never done or
    found something. That it hears the master is waited for, but is no condition.
    """
    _make_keys(host, it)
    systemctl(host, "daemon-reload")
    wanted = booked.running(it)
    before = systemd.units(host, wanted)
    for unit in wanted:
        state = before.get(unit, {})
        if state.get("UnitFileState") != "enabled":
            change.on_undo(partial(host.run, "systemctl", *starting.OFF, unit))
        elif state.get("ActiveState") != "active":
            change.on_undo(partial(host.run, "systemctl", "stop", unit))
        systemctl(host, "enable", "--quiet", unit)
    starting.restart(host, logbook.UNIT)
    for unit in wanted[1:]:
        systemctl(host, "start", unit)
    if starting.is_active(host, MASTER):
        _wait_until_it_hears(it)
    if booked.HEADS_TIMER in wanted:
        host.run("systemctl", "start", f"{logbook.HEADS_UNIT}.service", timeout=_FIRST_HEADS)
    if not booked.is_checked(it):
        host.run("systemctl", "start", f"{logbook.VERIFY_UNIT}.service", timeout=_FIRST_CHECK)


def _passable(folder: Path) -> None:
    """The folder of the settings, and that above: who makes them may have a umask that leaves the
    master's user outside.
    """
    for path in (folder.parent, folder):
        if not path.exists():
            path.mkdir(parents=True)
            path.chmod(0o755)


def _folder(host: Host, path: str, rights: str) -> None:
    target = host.path(path)
    if host.attributes(path, follow=False) is None:
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.mkdir(mode=0o700)
    if target.is_symlink() or not target.is_dir():
        raise Refused(f"{path} is no folder: remove it")
    permissions.secure(host, {path: rights})


def _make_keys(host: Host, it: Facts) -> None:
    """As their user, who could otherwise have root write through a link."""
    command = ("runuser", "-u", it.user, "--", logbook.PROGRAM, "keys")
    if any(host.attributes(path, follow=False) is None for path in booked.KEYS):
        must(host, f"{logbook.PROGRAM} makes no keys", *command)
    for path in booked.KEYS:
        permissions.secure(host, {path: booked.key_access(it)}, logbook.STATE)


def _wait_until_it_hears(it: Facts) -> None:
    for _ in range(_PATIENCE):
        with contextlib.suppress(Refused):  # it writes anew what cannot be read
            if not booked.why_deaf(it):
                return
        it.wires.sleep(_PAUSE)


def _top(path: str) -> str:
    return next(top for top in booked.FOLDERS if path.startswith(f"{top}/"))


def _go_on(host: Host) -> None:
    """It runs on with the files that are back, where it runs."""
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "try-restart", logbook.UNIT)


def remove(host: Host) -> None:
    """Takes away units and program, and gives back what was put aside."""
    found = booked.installed(host)
    for path in found:
        if path.startswith(units.FOLDER):
            host.run("systemctl", "disable", "--quiet", "--now", os.path.basename(path))
    for path in found:
        host.remove(path)
        for aside in host.glob(f"{path}.d/*{ASIDE}"):
            host.rename(aside, aside.removesuffix(ASIDE))
    if found:
        host.run("systemctl", "daemon-reload")

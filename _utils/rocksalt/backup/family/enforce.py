"""Makes a host what the checks expect. Keys that are there, snapshots and stores are never touched
but for their access.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

from rocksalt import systemd
from rocksalt.backup import config, program, status
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.errors import BackupError
from rocksalt.backup.family import checks, reading, units
from rocksalt.backup.family.setup import HOME, MASTER
from rocksalt.backup.vaults.file import MARKER
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.transaction import ASIDE, each, must, systemctl

_PATIENCE = 600.0
"""Seconds that a run of Salt waits for the first snapshot and the first check."""
_MARK = "This folder is a vault of rocksalt; without this file its receiver takes nothing.\n"
_OVERRIDE = f"/{units.PREFIX}"


def enforce(host: Host, it: checks.Backup, ids: Sequence[str]) -> None:
    """Enforces the controls ``ids``; raises :class:`Refused` with all that failed."""
    if MASTER in it.setup.roles and not it.signs:
        raise Refused(f"{config.TOP}:master is true, and there is no Salt master here")
    own = [i for i, (roles, *_) in checks.CHECKS.items() if i in ids and it.has(roles)]
    each(partial(_plainly, step, host, it) for i, step in _STEPS.items() if i in own)


def _plainly(step: Callable[[Host, checks.Backup], None], host: Host, it: checks.Backup) -> None:
    try:
        step(host, it)
    except (BackupError, LookupError) as error:
        raise Refused(str(error)) from None


def _account(host: Host, it: checks.Backup) -> None:
    it.setup.account.make(host)


def _folders(host: Host, it: checks.Backup) -> None:
    for path, rights in it.setup.folders().items():
        _make(host, path, rights)


def _store(host: Host, it: checks.Backup) -> None:
    """The store. What is at its path without being it, such as a mount point without its disk, is
    left as it is.
    """
    path = it.setup.receiver["path"]
    if other := checks.other_store(it):
        raise Refused(other)
    _folders(host, it)
    for folder in (path, *it.setup.instances, ".incoming"):
        full = path if folder == path else f"{path}/{folder}"
        if folder == path or host.attributes(full, follow=False):
            _make(host, full, f"{it.setup.user}:{it.setup.user} 0700")
    if not reading.marked(host, path):
        host.write(f"{path}/{MARKER}", _MARK, "0444")
    host.write(checks.STORE_NOTE, f"{path}\n", "0600")


def _files(host: Host, it: checks.Backup) -> None:
    _folders(host, it)
    for path, (text, rights) in checks.wanted_files(it).items():
        if text is not None and host.read(path) != text:
            host.write(path, text, "0600")
        host.give(path, rights)


def _keys(host: Host, it: checks.Backup) -> None:
    _folders(host, it)
    for path, rights in it.setup.own_keys().items():
        if host.attributes(path, follow=False) is None:
            host.remove(f"{path}.pub")
            sshsig.generate(host.path(path))
        host.give(path, rights)


def _runner(host: Host, it: checks.Backup) -> None:
    sync = (it.place.salt_run, f"--config-dir={it.place.config_dir}", "saltutil.sync_all")
    ran = host.run(*sync, timeout=120)
    if ran.status:
        raise Refused(f"salt-run saltutil.sync_all: {' '.join((ran.err or ran.out).split())}")


def _units(host: Host, it: checks.Backup) -> None:
    for path, text in it.setup.units().items():
        host.write(path, text)
    for path in checks.leftover_units(it):
        _stop(host, path)
    systemctl(host, "daemon-reload")
    for path in checks.overrides(it):
        if _OVERRIDE in path:
            host.rename(path, path + ASIDE)
    systemctl(host, "daemon-reload")


def _stop(host: Host, path: str) -> None:
    """Takes a unit away; a run that is under way comes to its end."""
    if path.endswith(".timer"):
        host.run("systemctl", "disable", "--now", "--quiet", os.path.basename(path))
    host.remove(path)


def _start(host: Host, it: checks.Backup) -> None:
    """Timers start at once what was due while they were off. A master takes a schedule over when it
    starts.
    """
    systemctl(host, "daemon-reload")
    timers = it.setup.timers()
    for timer in timers:
        systemctl(host, "enable", "--quiet", timer)
        systemctl(host, "restart", timer)
    if not timers:
        systemctl(host, "try-restart", reading.MASTER_UNIT)


def _run(name: str, host: Host, it: checks.Backup) -> None:
    """Has systemd do it once, and waits for the end; one that takes long goes on by itself."""
    unit = f"{units.PREFIX}{name}.service"
    systemctl(host, "start", "--no-block", unit)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        state = systemd.units(host, [unit]).get(unit, {}).get("ActiveState", "")
        if state not in ("activating", "active", "deactivating"):
            return
        time.sleep(0.2)
    raise Refused(f"{unit} has not ended in {_PATIENCE:.0f} s and goes on")


_STEPS: dict[str, Callable[[Host, checks.Backup], None]] = {
    checks.ACCOUNT: _account,
    checks.FOLDERS: _folders,
    checks.STORE: _store,
    checks.FILES: _files,
    checks.KEYS: _keys,
    checks.RUNNER: _runner,
    checks.UNITS: _units,
    checks.STARTED: _start,
    checks.SNAPSHOT: partial(_run, "snapshot"),
    checks.VERIFIED: partial(_run, "verify"),
}


def _make(host: Host, path: str, rights: str) -> None:
    host.path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    host.give(path, rights)


def make_keys(host: Host) -> dict[str, str]:
    """The public keys of this host, made if there are none yet: ``signing`` and ``transport``."""
    found = {}
    for name, path in (("signing", config.SIGNING_KEY), ("transport", config.TRANSPORT_KEY)):
        if host.attributes(path, follow=False) is None:
            host.path(config.FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
            host.remove(f"{path}.pub")
            sshsig.generate(host.path(path))
        found[name] = sshsig.Signer.load(host.path(path)).public
    return found


def leftovers(host: Host, place: reading.Place) -> list[str]:
    """What the baseline put on the host and ``clean`` takes away. Keys, snapshots, stores and the
    receiver's account stay: without them nobody could restore.
    """
    own = [config.PATH, config.CREDENTIALS, program.PATH, program.PLUGIN, status.PATH]
    own += host.glob(f"{HOME}/.ssh/authorized_keys")
    found = [path for path in own if host.attributes(path, follow=False) is not None]
    return found + checks.installed_units(host, place)


def clean(host: Host, place: reading.Place) -> None:
    """Takes it away; a master with a schedule forgets it when it starts the next time."""
    for path in leftovers(host, place):
        _stop(host, path)
    must(host, "systemctl daemon-reload", "systemctl", "daemon-reload")

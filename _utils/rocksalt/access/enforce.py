"""Makes the host of a master what the checks expect, as one transaction: files first, then the
master where it reads one of them, then salt-api; both have to answer, or everything is as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

from rocksalt import access, permissions, systemd
from rocksalt.access import (
    booked,
    booking,
    certified,
    checks,
    controls,
    door,
    guarded,
    rendering,
    served,
    starting,
)
from rocksalt.access.facts import API, MASTER
from rocksalt.access.sources import plain
from rocksalt.errors import Refused, RocksaltError
from rocksalt.host import Host
from rocksalt.transaction import ASIDE, Transaction

_OLD = "the old configuration is back"
_STARTED_BY = (controls.SERVICE, controls.ADDRESS, controls.SECURED)
"""Controls that salt-api starts anew for, also on files that are right."""


def enforce(host: Host, it: checks.Access, ids: Sequence[str]) -> None:
    """Enforces the controls ``ids``. Raises :class:`Refused`; then either nothing was changed, or
    everything was put back.
    """
    own = {*ids} & {*it.wanted}
    if not own or not it.governed:
        return
    refuse(it, own)
    change, restarted = Transaction(host), list[str]()
    with _undone(host, change, restarted):
        written = _put(host, it, change, own)
        if controls.CURRENT in own or any(_is_the_masters(it, path) for path in written):
            _restart_master(host, it, restarted)
        if not it.setup.serves:
            if controls.ADDRESS in own:
                starting.stop(host)
        elif own & {*_STARTED_BY} or written:
            _restart_api(host, it, own, restarted)
        if controls.BOOKED in own:
            _keep_book(host, it, change)


def refuse(it: checks.Access, own: Collection[str]) -> None:
    """What stands in the way, before anything is touched."""
    if controls.PASSWORDS in own:
        if not it.setup.knows_hashes:
            raise Refused(certified.NO_HASHES)
        if weak := certified.weak_hashes(it):
            raise Refused("; ".join(weak))


def _put(host: Host, it: checks.Access, change: Transaction, own: set[str]) -> list[str]:
    """The files of the drifting controls, and who may read them; the paths that changed."""
    written: list[str] = []
    if controls.DOOR in own:
        for path in served.foreign(it):
            change.rename(path, path + ASIDE)
            written.append(path)
        for path in served.FOLDERS:
            _folder(host, change, path)
        for path, text in rendering.door_files().items():
            written += _write(host, change, path, text, served.PLAIN)
    if controls.PASSWORDS in own:
        passwords = rendering.users(it.settings)
        if passwords is None:
            change.remove(access.USERS)
        else:
            _write(host, change, access.USERS, passwords, it.readable)  # read at each log-in
    if controls.OURS in own:
        host.path(it.config_path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        written += _write(host, change, it.config_path, it.config, it.readable)
        _try_out(it)
    if controls.KEY in own:
        written += _secure(host, change, it.key_file, it.readable)
    for path, rights in guarded.closable(it).items() if controls.PRIVATE in own else ():
        _secure(host, change, path, rights)
    return written


def _keep_book(host: Host, it: checks.Access, change: Transaction) -> None:
    """Last, as it follows the master with the configuration that this has by now."""
    if not it.settings["logbook"]:
        booking.remove(host)
        return
    booking.prepare(host, it, change)
    for path, (text, rights) in booked.files(it).items():
        _write(host, change, path, text, rights)
    booking.start(host, it, change)


def _write(host: Host, change: Transaction, path: str, text: str, rights: str) -> list[str]:
    """A file of ours, where it is not as it should be; its path where that is so."""
    if host.path(path).is_symlink():
        change.rename(path, path + ASIDE)
    if host.read(path) == text:
        return _secure(host, change, path, rights)
    before = host.access(path)
    if before is not None:  # taken back after the text: who had the file has it again
        change.on_undo(lambda: host.give(path, before))
    change.write(path, text, "0600")
    permissions.secure(host, {path: rights})
    return [path]


def _secure(host: Host, change: Transaction, path: str, rights: str) -> list[str]:
    """Who may do what with a file; its path where that was wrong."""
    before = host.access(path)
    if before is None or (before == rights and not permissions.acl(host, path)):
        return []
    change.on_undo(lambda: host.give(path, before))
    permissions.secure(host, {path: rights})
    return [path]


def _folder(host: Host, change: Transaction, path: str) -> None:
    target = host.path(path)
    if not target.exists():
        target.mkdir(parents=True)
        change.on_undo(target.rmdir)
    _secure(host, change, path, served.FOLDER)


def _try_out(it: checks.Access) -> None:
    """Salt has to read what was written, before a master starts on it."""
    try:
        found = it.read_config(it.main)
    except RocksaltError as error:
        raise Refused(f"Salt does not take {it.config_path}: {error}") from None
    ours = rendering.options(it.settings, it.now)["external_auth"]
    for backend, people in ours.items():
        have = plain((found.get("external_auth") or {}).get(backend) or {})
        if not {*people} <= {*have}:
            raise Refused(
                f"Salt does not take external_auth of {it.config_path}; another file"
                f"{it.said_by('external_auth') or ' of the configuration'} replaces it"
            )


def _is_the_masters(it: checks.Access, path: str) -> bool:
    """Whether the master reads a file when it starts, and not salt-api alone."""
    return path == it.config_path or path.startswith((f"{door.AUTH_DIR}/", f"{door.PACKAGE_DIR}/"))


def _restart_master(host: Host, it: checks.Access, restarted: list[str]) -> None:
    restarted.append(MASTER)
    starting.master(host, it)


def _restart_api(host: Host, it: checks.Access, own: set[str], restarted: list[str]) -> None:
    """Starts salt-api, where it has what it needs; one that somebody stopped stays so unless that
    is what is to be put right.
    """
    ready = it.is_installed(API) and it.certified and controls.SERVICE in it.wanted
    if ready and (own & {*_STARTED_BY} or it.is_active(API)):
        restarted.append(API)
        starting.api(host, it)


@contextlib.contextmanager
def _undone(host: Host, change: Transaction, restarted: list[str]) -> Iterator[None]:
    """A change that fails, however, is taken back, and what was restarted runs on as it did."""
    before = systemd.units(host, [MASTER, API])
    try:
        yield
    except Exception as error:
        failures = change.undo()
        for unit in restarted:
            failures += _as_before(host, unit, before.get(unit, {}))
        outcome = f"and going back failed, too: {'; '.join(failures)}" if failures else _OLD
        ours = isinstance(error, (RocksaltError, OSError, LookupError))
        what = error if ours else f"{type(error).__name__}: {error}"
        raise Refused(f"{what}; {outcome}") from (None if ours else error)


def _as_before(host: Host, unit: str, state: dict[str, str]) -> list[str]:
    """Has a service run as it did; what went wrong."""
    if state.get("UnitFileState") == "disabled":
        host.run("systemctl", "disable", "--quiet", unit)
    if state.get("ActiveState") != "active":
        host.run("systemctl", "stop", unit, timeout=starting.PATIENCE)
        return []
    try:
        starting.restart(host, unit)
    except Refused as refused:
        return [str(refused)]
    return []


# Taking it away -----------------------------------------------------------------------------------


def leftovers(host: Host, folder: str) -> list[str]:
    """What the baseline put on the host and ``clean`` takes away. Certificate, key, what apps were
    deployed, and the logbook with its keys stay.
    """
    own = [f"{folder}/master.d/{access.MASTER_CONFIG}", access.USERS]
    found = [path for path in own if (host.read(path) or "").startswith(rendering.HEADER)]
    found += [path for path in rendering.door_files() if host.attributes(path, follow=False)]
    return found + booked.installed(host)


def clean(host: Host, folder: str) -> None:
    """Takes it away, and starts the master anew without the rights that were in it. salt-api, which
    has no door then, is stopped.
    """
    found = leftovers(host, folder)
    booking.remove(host)
    for path in found:
        host.remove(path)
    for folder_of_door in reversed(served.FOLDERS):
        for path in host.glob(f"{folder_of_door}/*{ASIDE}"):
            host.rename(path, path.removesuffix(ASIDE))
        with contextlib.suppress(OSError):
            host.path(folder_of_door).rmdir()
    if any(path.startswith(f"{door.NETAPI_DIR}/") for path in found):
        host.run("systemctl", *starting.OFF, API)
    if starting.is_active(host, MASTER):
        starting.restart(host, MASTER)

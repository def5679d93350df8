"""Makes the host of a master what the checks expect, part by part: what the master reads, then it
has to answer; what is salt-api's alone, which has to as well; the logbook of both. A part that
fails is as it was.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Sequence
from functools import partial

from rocksalt import access, permissions, systemd
from rocksalt.access import (
    answered,
    booked,
    booking,
    certified,
    checks,
    controls,
    door,
    guarded,
    minion,
    preflight,
    rendering,
    required,
    served,
    starting,
    undoing,
)
from rocksalt.access.facts import API, MASTER
from rocksalt.access.sources import plain
from rocksalt.errors import Refused, RocksaltError
from rocksalt.host import Host
from rocksalt.transaction import ASIDE, Transaction, each


def enforce(host: Host, it: checks.Access, ids: Sequence[str]) -> None:
    """Enforces the controls ``ids``: what the master reads, then what is salt-api's alone, then the
    logbook; the minion's last, and whatever becomes of the rest. Raises :class:`Refused`; then
    either nothing was changed, or the parts that failed were put back. Once the master has
    answered, it keeps its part: rights that were taken away stay so.
    """
    own = {*ids} & {*it.wanted}
    of_minion = own & {*minion.IDS}
    of_master = own - of_minion
    parts = [partial(_governed, host, it, of_master)] if of_master and it.governed else []
    parts += [partial(minion.enforce, host, it, of_minion)] if of_minion else []
    each(parts)


def _governed(host: Host, it: checks.Access, own: set[str]) -> None:
    """What is of a host with a master."""
    refuse(it, own)
    against = preflight.against_api(it, own)
    written = _master(host, it, own)
    parts = [partial(_api, host, it, own, written, against)]
    if controls.BOOKED in own:
        parts.append(partial(_keep_book, host, it))
    each(parts)


def refuse(it: checks.Access, own: Collection[str]) -> None:
    """What stands in the way, before anything is touched."""
    preflight.refuse(it, own)
    if controls.PASSWORDS in own:
        if not it.setup.knows_hashes:
            raise Refused(certified.NO_HASHES)
        if weak := certified.weak_hashes(it):
            raise Refused("; ".join(weak))


# What the master reads ----------------------------------------------------------------------------


def _master(host: Host, it: checks.Access, own: set[str]) -> list[str]:
    """Files, and the master where it reads one of them; the paths that changed."""
    change, restarted = Transaction(host), list[str]()
    with undoing.undone(change, partial(undoing.master, host, it, restarted)):
        written = _put(host, it, change, own)
        if controls.CURRENT in own or any(_is_the_masters(it, path) for path in written):
            if why := preflight.widened(it, MASTER):
                raise Refused(why)
            restarted.append(MASTER)
            starting.master(host, it)
    if restarted and host.read(it.config_path) == it.config:
        answered.keep(host, it.config)
    return written


def _put(host: Host, it: checks.Access, change: Transaction, own: set[str]) -> list[str]:
    """The files of the drifting controls, and who may read them; the paths that changed."""
    written: list[str] = []
    if controls.DOOR in own:
        written += _put_door(host, it, change, lambda path: not _is_of_api(path))
    if controls.PASSWORDS in own:
        passwords = rendering.users(it.settings)
        if passwords is None:
            change.remove(access.USERS)
        else:
            _write(host, change, access.USERS, passwords, it.readable)  # read at each log-in
    if controls.OURS in own:
        host.path(it.config_path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _keep_old(host, it)
        written += _write(host, change, it.config_path, it.config, it.readable)
        _try_out(it)
    if controls.KEY in own and not certified.why_left(it):
        written += _secure(host, change, it.key_file, it.readable)
    for path, rights in guarded.closable(it).items() if controls.PRIVATE in own else ():
        _secure(host, change, path, rights, of=it.user)
    return written


def _keep_old(host: Host, it: checks.Access) -> None:
    """Remembers what is about to be replaced, where nobody does and the master runs on it."""
    old = host.read(it.config_path)
    if old and answered.text(host) is None and starting.has_answered(host, it):
        answered.keep(host, old)


def _put_door(
    host: Host, it: checks.Access, change: Transaction, chosen: Callable[[str], bool]
) -> list[str]:
    """The files of the door among the chosen paths, and nothing beside them."""
    written: list[str] = []
    for path in filter(chosen, served.foreign(it)):
        change.rename(path, served.aside(host, path))
        written.append(path)
    for path in filter(chosen, served.FOLDERS):
        _folder(host, change, path)
    for path, text in rendering.door_files().items():
        written += _write(host, change, path, text, served.PLAIN) if chosen(path) else []
    return written


def _is_of_api(path: str) -> bool:
    """Whether salt-api alone reads what is there."""
    return f"{path}/".startswith(f"{door.NETAPI_DIR}/")


def _is_the_masters(it: checks.Access, path: str) -> bool:
    """Whether the master reads a file when it starts, and not salt-api alone."""
    return path == it.config_path or path.startswith((f"{door.AUTH_DIR}/", f"{door.PACKAGE_DIR}/"))


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


# What is salt-api's alone, and the logbook --------------------------------------------------------


def _api(
    host: Host, it: checks.Access, own: set[str], written: Collection[str], against: str
) -> None:
    """Its files, and salt-api itself where they, or others that it reads, were ``written``."""
    change, restarted = Transaction(host), list[str]()
    before = systemd.units(host, [API]).get(API, {})
    with undoing.undone(change, partial(undoing.api, host, before, restarted)):
        mine = _put_door(host, it, change, _is_of_api) if controls.DOOR in own else []
        if not it.setup.serves:
            if controls.ADDRESS in own:
                starting.stop(host)
            return
        due = own & {*preflight.STARTS_API} or written or mine
        if due and preflight.starts_api(it, own):
            if against:
                raise Refused(against)
            restarted.append(API)
            starting.api(host, it)


def _keep_book(host: Host, it: checks.Access) -> None:
    """Last, as it follows the master with the configuration that this has by now."""
    if not it.settings["logbook"]:
        booking.remove(host)
        return
    change = Transaction(host)
    with undoing.undone(change):
        booking.prepare(host, it, change)
        for path, (text, rights) in booked.files(it).items():
            _write(host, change, path, text, rights)
        booking.start(host, it, change)


# Files --------------------------------------------------------------------------------------------


def _write(host: Host, change: Transaction, path: str, text: str, rights: str) -> list[str]:
    """A file of ours, where it is not as it should be; its path where that is so."""
    if host.path(path).is_symlink():
        change.rename(path, path + ASIDE)
    if host.read(path) == text:
        return _secure(host, change, path, rights)
    owner, mode = rights.split()
    change.write(path, text, mode, owner)
    permissions.secure(host, {path: rights})  # from what the folder gives to new files
    return [path]


def _secure(host: Host, change: Transaction, path: str, rights: str, of: str = "") -> list[str]:
    """Who may do what with a file, if it is one ``of`` somebody; its path where that was wrong. No
    link is followed that is set on its way meanwhile.
    """
    folder, name = os.path.split(path)
    real = os.path.realpath(host.path(folder))[len(host.root) :].rstrip("/") + f"/{name}"
    before = host.access(real)
    if before is None or (before == rights and not permissions.acl(host, real)):
        return []
    if of and before.partition(":")[0] != of:
        return []
    change.on_undo(partial(permissions.give, host, real, before, "/"))
    permissions.secure(host, {real: rights}, "/")
    return [path]


def _folder(host: Host, change: Transaction, path: str) -> None:
    target = host.path(path)
    if not target.exists():
        target.mkdir(parents=True)
        change.on_undo(target.rmdir)
    _secure(host, change, path, served.FOLDER)


# Taking it away -----------------------------------------------------------------------------------


def leftovers(host: Host, folder: str) -> list[str]:
    """What the baseline put on the host and ``clean`` takes away. Certificate, key, what apps were
    deployed, and the logbook with its keys stay.
    """
    own = [_config(folder), access.USERS]
    found = [path for path in own if (host.read(path) or "").startswith(rendering.HEADER)]
    found += [path for path in rendering.door_files() if host.attributes(path, follow=False)]
    found += [answered.PATH] if host.attributes(answered.PATH, follow=False) else []
    found += [path for path in [minion.path(folder)] if host.attributes(path, follow=False)]
    return found + booked.installed(host)


def _config(folder: str) -> str:
    return f"{folder}/master.d/{access.MASTER_CONFIG}"


def clean(host: Host, folder: str) -> None:
    """Takes it away, and starts the master anew without the rights that were in it. salt-api, which
    has no door then, is stopped. Killed at any moment, it leaves something that says that it is not
    over: what the master answered with goes last. Raises :class:`Refused` while minions sign.
    """
    found, config = leftovers(host, folder), _config(folder)
    if config in found and (why := required.against_clean(host, folder)):
        raise Refused(why)
    booking.remove(host)
    if any(map(_is_of_api, found)):
        host.run("systemctl", *starting.OFF, API)
    if access.USERS in found:
        host.remove(access.USERS)
    if config in found:
        answered.keep(host, host.read(config))
        host.remove(config)
    if starting.is_active(host, MASTER):
        starting.restart(host, MASTER)
    for path in rendering.door_files():
        host.remove(path)
    for folder_of_door in reversed(served.FOLDERS):
        for path in host.glob(f"{folder_of_door}/*{ASIDE}"):
            host.rename(path, path.removesuffix(ASIDE))
        with contextlib.suppress(OSError):
            host.path(folder_of_door).rmdir()
    if minion.path(folder) in found:
        minion.clean(host, folder)
    host.remove(answered.PATH)

"""What stands in the way of starting the master or salt-api anew, told before anything is touched.

A start puts into force what is on the disk, whoever wrote it: nobody gets rights by ours.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Any

from rocksalt.access import checks, controls, master, required, served
from rocksalt.access.door import tls
from rocksalt.access.facts import API, MASTER, ROOT
from rocksalt.errors import Refused, RocksaltError
from rocksalt.findings import some

STARTS_API = (controls.SERVICE, controls.ADDRESS, controls.SECURED)
"""Controls that salt-api starts anew for, also on files that are right."""
_RESTART_MASTER = (controls.CURRENT, controls.OURS, controls.DOOR)
_RESTART_API = (*STARTS_API, controls.OURS, controls.DOOR, controls.KEY)
_JUDGED = {
    MASTER: (controls.RIGHTS, controls.UNASKED, controls.ALGORITHMS, controls.TOKENS),
    API: (controls.RIGHTS, controls.CLIENTS, controls.ALONE, controls.TOKENS),
}
"""What a start of each puts into force."""
_RUN = "/run"


# The master ---------------------------------------------------------------------------------------


def refuse(it: checks.Access, own: Collection[str]) -> None:
    """Raises :class:`Refused` where what is ours would become somebody else's, or somebody else's
    would come into force, by enforcing the controls ``own``.
    """
    why = [_another_user(it)]
    if {*own} & {controls.OURS, controls.CURRENT}:
        why.append(required.against(it))
    if {*own} & {*_RESTART_MASTER}:
        why.append(widened(it, MASTER, own))
    if any(why):
        raise Refused(some(filter(None, why)))


def _another_user(it: checks.Access) -> str:
    """Why the user of the configuration is not to have what is ours: it is neither the declared one
    nor the one that the master runs as.
    """
    wanted, running = it.settings["user"], it.runs_as(MASTER)
    if it.user in (wanted, running) or wanted == ROOT:
        return ""
    return (
        f"{MASTER} would start as {it.user}{it.said_by('user')}, and runs as "
        f"{running or 'nobody'}: write user: {wanted} there first"
    )


def widened(it: checks.Access, unit: str, own: Collection[str] = ()) -> str:
    """What of others a start of a service would put into force against the baseline; empty where
    that is nothing. ``own`` has the controls whose files are written before.
    """
    would, found, places = _afresh(it, own), list[str](), list[str]()
    for identifier in (one for one in _JUDGED[unit] if one in it.wanted):
        why, at = _differing(would, identifier)
        found += why
        places += at
    new = _not_in_force(would, unit, own, places) if found else []
    if not new:
        return ""
    return (
        f"{unit} would start on what is not in force yet: {some(found)}; take that away first "
        f"(later than its start: {', '.join(new)})"
    )


def _differing(would: checks.Access, identifier: str) -> tuple[list[str], list[str]]:
    """Why a control would not be met, and the files that it names."""
    expect, look = checks.CHECKS[identifier]
    try:
        wanted, seen = expect(would), look(would)
    except (RocksaltError, LookupError, AttributeError, OSError, TypeError, ValueError) as error:
        return [f"{identifier} cannot be looked at: {error}"], []
    if seen.problem != "error" and (seen.problem or wanted == seen.actual):
        return [], []
    lists = seen.actual.values() if isinstance(seen.actual, Mapping) else ()
    named = [item for items in lists if isinstance(items, list) for item in items]
    paths = [item for item in named if isinstance(item, str) and item.startswith("/")]
    return [seen.reason], paths


def _not_in_force(
    it: checks.Access, unit: str, own: Collection[str], places: list[str]
) -> list[str]:
    """Files of others that a service has not read; all of them while it does not run."""
    ours = controls.OURS in own or it.host.read(it.config_path) == it.config
    named = [source.path for source in it.sources if not ours or source.path != it.config_path]
    named += places
    begun = master.started(it.host, unit)
    if begun is None:
        return named or [it.folder]
    return [path for path in dict.fromkeys(named) if (master.changed(it.host, path) or 0) > begun]


def _afresh(it: checks.Access, own: Collection[str]) -> checks.Access:
    """The same host looked at now, as it will be with our file of the configuration."""
    cached = {
        name
        for kind in type(it).__mro__
        for name, value in vars(kind).items()
        if isinstance(value, cached_property)
    }
    found = copy.copy(it)
    found.__dict__ = {name: value for name, value in vars(it).items() if name not in cached}
    if controls.OURS in own and it.opts is not None:  # which names a broken file of others
        with _beside(it) as main:
            found.__dict__["opts"] = _taken(it, main)
    return found


def _taken(it: checks.Access, main: str) -> Mapping[str, Any]:
    try:
        return it.read_config(main)
    except RocksaltError as error:
        raise Refused(f"Salt does not take {it.config_path}: {error}") from None


@contextlib.contextmanager
def _beside(it: checks.Access) -> Iterator[str]:
    """The main file of a folder that is the configuration's own, but for our file in it."""
    it.host.path(_RUN).mkdir(exist_ok=True)
    own, (folder, name) = it.host.path(it.folder), os.path.split(it.config_path)
    with tempfile.TemporaryDirectory(prefix="rocksalt-", dir=it.host.path(_RUN)) as made:
        part = os.path.join(made, os.path.basename(folder))
        os.mkdir(part)
        _link_all(str(own), made, os.path.basename(folder))
        _link_all(str(it.host.path(folder)), part, name)
        with open(os.path.join(part, name), "w", encoding="utf-8") as file:
            file.write(it.config)
        yield f"{made}/{os.path.basename(it.main)}"[len(it.host.root) :]


def _link_all(folder: str, to: str, but: str) -> None:
    names = os.listdir(folder) if os.path.isdir(folder) else []
    for name in names:
        if name != but:
            os.symlink(os.path.join(folder, name), os.path.join(to, name))


# salt-api -----------------------------------------------------------------------------------------


def starts_api(it: checks.Access, own: Collection[str]) -> bool:
    """Whether salt-api is started anew where one of its files changed, or by what is enforced: it
    has what it needs, and one that somebody stopped stays so unless that is to be put right.
    """
    ready = it.is_installed(API) and it.certified and controls.SERVICE in it.wanted
    return ready and bool({*own} & {*STARTS_API} or it.is_active(API))


def against_api(it: checks.Access, own: Collection[str]) -> str:
    """Why salt-api could not start, or must not; empty where nothing stands in the way."""
    if not it.setup.serves or not {*own} & {*_RESTART_API} or not starts_api(it, own):
        return ""
    if it.units[API].get("UnitFileState", "").startswith("masked"):
        return f"{API} is masked: systemctl unmask {API}"
    return _against_tls(it) or _against_address(it) or widened(it, API, own)


def _against_tls(it: checks.Access) -> str:
    files = [it.settings[name] for name in ("tls_certificate", "tls_key", "client_ca")]
    given = [path for path in files if path]
    if missing := [path for path in given if it.host.read(path) is None]:
        return f"{API} cannot start: {some(missing)} does not exist"
    try:
        tls.context(*(str(it.host.path(path)) for path in given))
    except OSError as error:
        why = getattr(error, "reason", None) or error.strerror or error
        return f"{API} cannot start with {', '.join(given)}: {why}"
    return ""


def _against_address(it: checks.Access) -> str:
    address, port = str(it.settings["address"]), int(it.settings["port"])
    failed = it.wires.bound(address, port)
    if failed == errno.EADDRNOTAVAIL:
        return f"{API} cannot listen on {address}, which is no address of this host"
    if failed == errno.EADDRINUSE and not _listens_itself(it, port):
        return f"{API} cannot listen on {address} port {port}, which another process has"
    other = failed not in (0, errno.EADDRINUSE)
    return f"{API} cannot listen on {address} port {port}: {os.strerror(failed)}" if other else ""


def _listens_itself(it: checks.Access, port: int) -> bool:
    try:
        return any(place.endswith(f" {port}") for place in served.places(it))
    except LookupError:
        return it.is_active(API)

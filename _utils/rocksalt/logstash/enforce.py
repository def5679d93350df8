"""Makes a host what the checks expect, as one transaction: what cannot be is refused before
anything is touched, and what fails is taken back.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from rocksalt import logstash, systemd
from rocksalt.errors import Refused, RocksaltError
from rocksalt.host import Host
from rocksalt.logstash import (
    certified,
    checks,
    controls,
    journald,
    received,
    roles,
    server,
    shipper,
    starting,
    witness,
)
from rocksalt.logstash.facts import read_json
from rocksalt.transaction import ASIDE, Transaction, systemctl

_SHIPPER = {
    *(controls.SERVICE, controls.OURS, controls.CURRENT, controls.MASKED, controls.GENUINE),
}
"""Controls that a shipper starts anew for."""


def enforce(host: Host, it: checks.Logstash, ids: Sequence[str]) -> None:
    """Enforces the controls ``ids``. Raises :class:`Refused`; then either nothing was changed, or
    everything was put back.
    """
    own = {*ids} & {*it.wanted}
    if not own:
        return
    refuse(it, own)
    change = Transaction(host)
    restarted: list[str] = []
    with _undone(host, it, change, restarted):
        restart_journal = journald.put(host, it, change, own)
        _put(host, it, change, own)
        systemctl(host, "daemon-reload")
        if restart_journal:
            restarted.append(journald.UNIT)
            journald.take_effect(host)
        _take_effect(host, it, own, restarted)
        if starting.runs_on(it):
            starting.stop(change)


def refuse(it: checks.Logstash, ids: Collection[str]) -> None:
    """What stands in the way of the controls ``ids``, before anything is touched."""
    if found := [*journald.refusals(it, ids), *_refusals(it, ids)]:
        raise Refused("; ".join(found))


def _refusals(it: checks.Logstash, ids: Collection[str]) -> Iterator[str]:
    """What stands in the way of the shipper, of folders and of certificates."""
    if it.setup.ships and controls.OURS in it.wanted:
        yield from _unresolved(it)
        yield from shipper.refusals(it, ids)
    for ask in _asked(it, ids):
        try:
            ask()
        except Refused as refused:
            yield str(refused)


def _asked(it: checks.Logstash, ids: Collection[str]) -> Iterator[Callable[[], object]]:
    setup, taken = it.setup, received.refuse_taken
    if setup.receives and {*server.CHECKS} & {*ids}:
        path = roles.receiver(setup)["path"]
        yield partial(taken, it.host, path, logstash.USER, "receiver")
    if setup.witnesses and {*witness.CHECKS} & {*ids}:
        path = roles.witness(setup)["path"]
        yield partial(taken, it.host, path, roles.witness_user(setup), "witness")
    if (setup.ships or setup.receives) and controls.GENUINE in ids:
        yield partial(certified.key_of_given, it)


def _unresolved(it: checks.Logstash) -> Iterator[str]:
    """Names of log servers that have no address, unless the shipper knows them already: a name
    service that is away is no reason to leave everything else as it is.
    """
    known: Any = (read_json(it.host, logstash.SHIPPER_CONFIG) or {}).get("servers")
    entries = known if isinstance(known, list) else []
    names = [entry.get("host") for entry in entries if isinstance(entry, Mapping)]
    for entry in it.setup.servers:
        name = entry["host"]
        if not _is_address(name) and name not in names and not it.wires.resolves(name):
            yield f"{it.setup.family.where('servers')}: {name} has no address"


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _put(host: Host, it: checks.Logstash, change: Transaction, ids: set[str]) -> None:
    """The files of all the parts that this host has in it."""
    setup = it.setup
    if setup.ships or setup.receives or setup.witnesses:
        shipper.make_folders(host)
    if setup.ships and {*shipper.CHECKS} & ids:
        shipper.put(host, it, change, ids)
    if setup.receives:
        server.put(host, it, change, ids)
    if setup.witnesses:
        witness.put(host, it, change, ids)
    if setup.ships or setup.receives:  # keys are for accounts that are there by now
        certified.put(host, it, change, ids)


def _take_effect(host: Host, it: checks.Logstash, ids: set[str], restarted: list[str]) -> None:
    """Starts what was put; a shipper whose files are the same runs on."""
    if it.setup.receives and ids & {*server.CHECKS, *certified.CHECKS}:
        server.take_effect(host, it)
    starts = it.setup.ships and ids & _SHIPPER and controls.SERVICE in it.wanted
    if starts and it.certified:  # nobody would believe one without a certificate: it waits
        restarted.append(logstash.SHIPPER_UNIT)
        starting.start(host, it)


@contextlib.contextmanager
def _undone(
    host: Host, it: checks.Logstash, change: Transaction, restarted: list[str]
) -> Iterator[None]:
    """A change that fails, however, is taken back, and what was restarted runs on as it did."""
    units = [logstash.SHIPPER_UNIT, *(server.UNITS if it.setup.receives else ())]
    known = systemd.units(host, units)
    before = {unit: known.get(unit, {}) for unit in units}
    try:
        yield
    except Exception as error:
        failures = _taken_back(host, change, before, restarted)
        outcome = "the old configuration is back"
        if failures:
            outcome = f"and going back failed, too: {'; '.join(failures)}"
        ours = isinstance(error, (RocksaltError, OSError, LookupError))
        what = error if ours else f"{type(error).__name__}: {error}"
        raise Refused(f"{what}; {outcome}") from (None if ours else error)


def _taken_back(
    host: Host,
    change: Transaction,
    before: Mapping[str, Mapping[str, str]],
    restarted: Sequence[str],
) -> list[str]:
    """Puts everything back; what could not be. A log server goes on by itself where it ran."""
    again = [*restarted]
    for unit, state in before.items():
        if unit == logstash.SHIPPER_UNIT and unit not in again:
            continue
        if state.get("UnitFileState") != "enabled":
            host.run("systemctl", "disable", "--quiet", unit)
        if state.get("ActiveState") != "active":
            host.run("systemctl", "stop", unit)
            again = [name for name in again if name != unit]
    failures = change.undo()
    host.run("systemctl", "daemon-reload")
    for unit in again:
        ran = host.run("systemctl", "restart", unit)
        failures += [" ".join((ran.err or ran.out).split())] if ran.status else []
    return failures


# Taking it away -----------------------------------------------------------------------------------


def leftovers(host: Host) -> list[str]:
    """What the baseline put on the host and ``clean`` takes away. Keys, certificates, received logs
    and what a witness signed stay.
    """
    parts = (shipper.leftovers(host), journald.leftovers(host))
    others = (part.leftovers(host) for part in (server, witness))
    return [path for part in (*parts, *others) for path in part]


def clean(host: Host) -> None:
    """Takes it away, and gives back what was put aside."""
    if host.attributes(shipper.UNIT_PATH, follow=False):
        host.run("systemctl", "disable", "--now", "--quiet", logstash.SHIPPER_UNIT)
    for part in (witness, server):
        part.clean(host)
    for path in shipper.leftovers(host):
        host.remove(path)
    for path in (path for place in shipper.BESIDE for path in host.glob(place + ASIDE)):
        host.rename(path, path.removesuffix(ASIDE))
    journald.clean(host)
    systemctl(host, "daemon-reload")

"""How a host comes to its certificate: it makes a key that never leaves it, asks, and takes what an
authority signed.
"""

from __future__ import annotations

from typing import Any

from rocksalt import nrpe
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.nrpe import checks, config, enforce, facts, reading, starting
from rocksalt.pki import authority as authorities
from rocksalt.pki import held
from rocksalt.transaction import Transaction


def status(it: checks.Nrpe) -> dict[str, Any]:
    """What the host has: ``{"expires", "days_left", "names", "serial", "authority": SHA-256,
    "renew": whether it needs a new one, "watched": whether anybody asks, "given": whether the
    pillar brings certificates}``.
    """
    days = it.setup.settings["renew_days"]
    names = (it.setup.minion, it.address)
    found = held.read(it.host, reading.PLACE)
    return {
        "watched": bool(it.setup.monitors),
        "given": bool(it.setup.given),
        **held.status(found, reading.PLACE, names, days, it.now),
    }


def request(it: checks.Nrpe) -> str:
    """A request in PEM for this minion's id and the address that NRPE listens on. Its key is new,
    and takes the place of the old one only with its certificate, which comes by :func:`install` or
    by the pillar.
    """
    _refuse_given(it, "private_key")
    if not it.setup.monitors:
        raise Refused(f"{facts.NOBODY}: {nrpe.TOP}:monitors names no network that is declared")
    if why := it.problem():
        raise Refused(why)
    enforce.keep_address(it, Transaction(it.host))
    enforce.folders(it.host)
    return held.ask(it.host, reading.PLACE, it.setup.minion, it.address)


def install(host: Host, it: checks.Nrpe, certificate: str, authority: str) -> str:
    """Takes a certificate, with that of its authority. NRPE starts with it, where it is set up, or
    has its old one again; what happened, in words. :class:`Refused` with what is wrong.
    """
    _refuse_given(it, "ca", "certificate", "private_key")
    usage, what = reading.PLACE.usage, "the certificate"
    signed = held.judged(certificate, authority, it.setup.minion, usage, it.now, what)
    change = Transaction(host)
    held.key_of(host, reading.PLACE, signed[0][0])  # before anything is touched
    with authorities.lock(host, nrpe.FOLDER), enforce.undone(host, change):
        held.put(change, reading.PLACE, signed)
        outcome = _started(host, it)
    host.remove(nrpe.NEXT_KEY)
    return outcome


def _started(host: Host, it: checks.Nrpe) -> str:
    """A host without NRPE, or with another configuration, is the business of the next highstate."""
    if host.attributes(nrpe.PROGRAM) is None:
        return "installed; NRPE starts with it when the baseline sets it up"
    enforce.secure(host)
    if not (host.read(nrpe.CONFIG) or "").startswith(config.HEADER):
        return "installed; NRPE starts with it when the baseline sets it up"
    if why := it.problem():
        raise Refused(why)
    starting.start(host, it)
    return "installed, and NRPE runs with it"


def _refuse_given(it: checks.Nrpe, *keys: str) -> None:
    given = ", ".join(key for key in keys if it.setup.settings[key])
    if given:
        raise Refused(f"{nrpe.TOP} gives {given}, so certificates are the pillar's business")

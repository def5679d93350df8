"""How a host comes to its certificate: it makes a key that never leaves it, asks, and takes what an
authority signed.
"""

from __future__ import annotations

from typing import Any

from rocksalt import nrpe
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.nrpe import authority as authorities
from rocksalt.nrpe import certificates, checks, config, enforce, facts, reading, starting
from rocksalt.transaction import Transaction


def status(it: checks.Nrpe) -> dict[str, Any]:
    """What the host has: ``{"expires", "days_left", "names", "serial", "authority": SHA-256,
    "renew": whether it needs a new one, "watched": whether anybody asks, "given": whether the
    pillar brings certificates}``.
    """
    found = reading.read_certificates(it.host)
    told: dict[str, Any] = {
        "watched": bool(it.setup.monitors),
        "given": bool(it.setup.given),
        "renew": True,
    }
    if not found.complete or not found.authority:
        return told
    own = found.chain[0]
    problems = certificates.server_problems(found.chain, found.authority, "it", it.now)
    left = certificates.days_left(own, it.now)
    late = left < it.setup.settings["renew_days"]
    names = certificates.names(own)
    other = not {it.setup.minion, it.address} <= {*names}
    return {
        **told,
        "expires": f"{certificates.expires(own):%Y-%m-%dT%H:%M:%SZ}",
        "days_left": left,
        "names": names,
        "serial": certificates.serial(own),
        "authority": certificates.fingerprint(found.authority),
        "renew": bool(problems) or late or other or not certificates.fits(own, found.key),
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
    key = certificates.new_key()
    enforce.keep_address(it, Transaction(it.host))
    enforce.folders(it.host)
    it.host.write(nrpe.NEXT_KEY, certificates.key_pem(key), "0600")
    return certificates.request(key, it.setup.minion, it.address)


def install(host: Host, it: checks.Nrpe, certificate: str, authority: str) -> str:
    """Takes a certificate, with that of its authority. NRPE starts with it, where it is set up, or
    has its old one again; what happened, in words. :class:`Refused` with what is wrong.
    """
    _refuse_given(it, "ca", "certificate", "private_key")
    chain = certificates.load(certificate, "the certificate")
    upper = certificates.load_one(authority, "the authority")
    problems = [
        *certificates.time_problems(upper, "the authority", it.now),
        *certificates.root_problems(upper, "the authority"),
        *certificates.server_problems(chain, upper, "the certificate", it.now),
    ]
    if it.setup.minion not in certificates.names(chain[0]):
        problems.append(f"the certificate is not for {it.setup.minion}")
    if problems:
        raise Refused("; ".join(problems))
    change, key = Transaction(host), enforce.key_of(host, chain[0])
    with authorities.lock(host, nrpe.FOLDER), enforce.undone(host, change):
        change.write(nrpe.AUTHORITY, certificates.pem(upper), "0644")
        change.write(nrpe.CERTIFICATE, "".join(map(certificates.pem, chain)), "0644")
        if key is not None:
            change.write(nrpe.KEY, key, "0600")
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

"""How a host comes to a certificate: it makes a key that never leaves it, asks, and takes what an
authority signed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.pki import certificates
from rocksalt.settings import SECRET
from rocksalt.transaction import Transaction


@dataclass(frozen=True)
class Place:
    """Where a host keeps a certificate. ``next_key`` is the key of one that was asked for and has
    not come yet; ``usage`` is what it is for.
    """

    authority: str
    certificate: str
    key: str
    next_key: str
    usage: str = certificates.SERVER


@dataclass(frozen=True)
class Held:
    """What is in the files of a place; ``problems`` says by path why one could not be read."""

    authority: certificates.Certificate | None = None
    chain: Sequence[certificates.Certificate] = ()
    key: Any = None
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether a program can start with them."""
        return bool(self.authority and self.chain and self.key)


Signed = tuple[list[certificates.Certificate], certificates.Certificate]
"""A certificate with those between, and the authority's."""


def read(host: Host, place: Place) -> Held:
    """The authority, the certificate with those between, and the key."""
    found: dict[str, Any] = {}
    problems: dict[str, str] = {}
    loads: tuple[tuple[str, str, Callable[[str, str], Any]], ...] = (
        ("authority", place.authority, certificates.load_one),
        ("chain", place.certificate, certificates.load),
        ("key", place.key, certificates.load_key),
    )
    for name, path, load in loads:
        text = host.read(path)
        if text is None:
            problems[path] = f"{path} does not exist"
            continue
        try:
            found[name] = load(text, path)
        except Refused as refused:
            problems[path] = str(refused)
    return Held(**found, problems=problems)


def status(
    held: Held, place: Place, names: Sequence[str], days: int, now: dt.datetime
) -> dict[str, Any]:
    """``{"expires", "days_left", "names", "serial", "authority": SHA-256, "renew"}`` of what a host
    has, ``renew`` alone where that is nothing. A new one is needed where it is not good, is not
    for all ``names``, or has fewer ``days`` left.
    """
    if not held.complete or not held.authority:
        return {"renew": True}
    own = held.chain[0]
    problems = certificates.problems(held.chain, held.authority, "it", now, place.usage)
    late = certificates.days_left(own, now) < days
    other = not {*names} <= {*certificates.names(own)}
    return {
        "expires": f"{certificates.expires(own):%Y-%m-%dT%H:%M:%SZ}",
        "days_left": certificates.days_left(own, now),
        "names": certificates.names(own),
        "serial": certificates.serial(own),
        "authority": certificates.fingerprint(held.authority),
        "renew": bool(problems) or late or other or not certificates.fits(own, held.key),
    }


def ask(host: Host, place: Place, name: str, *others: str) -> str:
    """A request in PEM. Its key is new, and takes the place of the old one only with its
    certificate.
    """
    key = certificates.new_key()
    asked = certificates.request(key, name, *others)
    host.write(place.next_key, certificates.key_pem(key), "0600")
    return asked


def judged(
    certificate: str, authority: str, name: str, usage: str, now: dt.datetime, what: str
) -> Signed:
    """A certificate that was brought for ``name``, and that of its authority; :class:`Refused` says
    what is wrong with them.
    """
    chain = certificates.load(certificate, what)
    upper = certificates.load_one(authority, "the authority")
    problems = [
        *certificates.time_problems(upper, "the authority", now),
        *certificates.root_problems(upper, "the authority"),
        *certificates.problems(chain, upper, what, now, usage),
    ]
    if name not in certificates.names(chain[0]):
        problems.append(f"{what} is not for {name}")
    if problems:
        raise Refused("; ".join(problems))
    return chain, upper


def key_of(host: Host, place: Place, certificate: certificates.Certificate) -> str | None:
    """The key of a certificate where it is not in use yet."""
    for path in (place.next_key, place.key):
        text = host.read(path)
        if text is not None and certificates.fits(certificate, certificates.load_key(text, path)):
            return text if path == place.next_key else None
    raise Refused("the certificate is for a key that this host does not have: ask it for a request")


def put(change: Transaction, place: Place, signed: Signed) -> None:
    """Writes what :func:`judged` gave, and takes its key into use."""
    chain, upper = signed
    key = key_of(change.host, place, chain[0])
    change.write(place.authority, certificates.pem(upper), "0644")
    change.write(place.certificate, "".join(map(certificates.pem, chain)), "0644")
    if key is not None:
        change.write(place.key, key, "0600")


def given_problems(
    given: Mapping[str, str], where: Callable[[str], str], usage: str = certificates.SERVER
) -> list[str]:
    """What is wrong with ``ca``, ``certificate`` and ``private_key`` of a pillar, as far as they
    are there, whatever the time is; ``where`` gives the pillar path of each.
    """
    found = []
    for key, needs in (("private_key", "certificate"), ("certificate", "ca")):
        if given[key] and not given[needs]:
            found.append(f"{where(needs)}: is missing, for there is {where(key)}")
    try:
        return [*found, *_given(given, where, usage)]
    except Refused as refused:
        return [*found, str(refused)]


def _given(given: Mapping[str, str], where: Callable[[str], str], usage: str) -> list[str]:
    found: list[str] = []
    authority = chain = None
    if given["ca"]:
        authority = certificates.load_one(given["ca"], where("ca"))
        found += certificates.root_problems(authority, where("ca"))
    if given["certificate"]:
        chain = certificates.load(given["certificate"], where("certificate"))
    if chain and authority:
        found += certificates.problems(chain, authority, where("certificate"), usage=usage)
    if chain and given["private_key"] not in ("", SECRET):
        key = certificates.load_key(given["private_key"], where("private_key"))
        if not certificates.fits(chain[0], key):
            found.append(f"{where('private_key')}: is not the key of {where('certificate')}")
    return found

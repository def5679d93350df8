"""The certificates of NRPE: whose they are, and for how long."""

from __future__ import annotations

from typing import Any

from rocksalt import nrpe
from rocksalt.findings import Seen, some
from rocksalt.nrpe import controls, reading
from rocksalt.nrpe.facts import ENROL, Checks, Facts
from rocksalt.pki import certificates


def _genuine_expected(it: Facts) -> dict[str, Any]:
    return {"problems": [], "names": "this host", **dict.fromkeys(it.setup.given, "as in pillar")}


def _genuine_seen(it: Facts) -> Seen:
    found = it.reading.certificates
    actual: dict[str, Any] = {
        path: "as in pillar" if it.host.read(path) == text else "another one"
        for path, text in it.setup.given.items()
    }
    problems = list(found.problems.values())
    why = [
        f"{path} is not what the pillar gives" for path in actual if actual[path] != "as in pillar"
    ]
    names = "this host"
    if found.complete and found.authority:
        problems += certificates.root_problems(found.authority, nrpe.AUTHORITY)
        problems += certificates.problems(found.chain, found.authority, nrpe.CERTIFICATE, it.now)
        if not certificates.fits(found.chain[0], found.key):
            problems.append(f"{nrpe.KEY} is not the key of {nrpe.CERTIFICATE}")
        names = _names(it, found.chain[0])
        why += [f"{nrpe.CERTIFICATE} is for {names}"] if names != "this host" else []
    elif not it.setup.given:
        problems.append(f"bring one from the master: {ENROL} {it.setup.minion}")
    remedy = "" if any(value != "as in pillar" for value in actual.values()) else "manual"
    return Seen(
        {"problems": problems, "names": names, **actual}, some([*why, *problems]), remedy=remedy
    )


def _names(it: Facts, certificate: certificates.Certificate) -> str:
    """``this host`` where a certificate is for it, by its minion's id or the address."""
    found = certificates.names(certificate)
    own = {it.setup.minion, it.address}
    return "this host" if own & {*found} else ", ".join(found) or "nobody"


def _expiry_expected(it: Facts) -> dict[str, str]:
    days = it.setup.settings["renew_days"]
    return dict.fromkeys(("certificate", "authority"), f"valid for {days} days and more")


def _expiry_seen(it: Facts) -> Seen:
    found, wanted = it.reading.certificates, _expiry_expected(it)
    least = it.setup.settings["renew_days"]
    first = min(found.chain, key=certificates.expires)
    own = {"certificate": first, "authority": found.authority}
    actual, why = {}, []
    for name, certificate in own.items():
        left = certificates.days_left(certificate, it.now) if certificate else -1
        actual[name] = wanted[name] if left >= least else f"{left} days left"
        if certificate and left < least:
            what = "one above the certificate" if certificate in found.chain[1:] else f"the {name}"
            why.append(f"{what} ends on {certificates.expires(certificate):%Y-%m-%d}")
    if why and nrpe.CERTIFICATE not in it.setup.given:
        why.append(f"renew it from the master: {ENROL} {it.setup.minion}")
    return Seen(actual, some(why))


def _dedicated_seen(it: Facts) -> Seen:
    authority = it.reading.certificates.authority
    if authority and reading.is_public(it.host, authority):
        why = f"{nrpe.AUTHORITY} is in {reading.PUBLIC_AUTHORITIES}, so it signs for anything"
        return Seen("signs for others as well", why)
    return Seen("signs for monitoring")


CHECKS: Checks = {
    controls.GENUINE: (_genuine_expected, _genuine_seen),
    controls.EXPIRY: (_expiry_expected, _expiry_seen),
    controls.DEDICATED: (lambda it: "signs for monitoring", _dedicated_seen),
}

"""How a host comes to its certificates: it makes keys that never leave it, asks, and takes what an
authority signed. The shipper has the new one at its next connection; a log server starts anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt import logstash
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.logstash import certified, roles, server, starting
from rocksalt.logstash.facts import Facts
from rocksalt.pki import authority as authorities
from rocksalt.pki import held
from rocksalt.transaction import Transaction

_OWN, _SERVER = "host", "server"


def status(it: Facts) -> dict[str, Any]:
    """What the host has: ``{"needed": whether it ships or receives, "given": whether the pillar
    brings certificates, "renew": whether it needs new ones, "expires", "days_left", "names",
    "serial", "authority": SHA-256}``; of a log server the same of its own as ``server``.
    """
    setup, days = it.setup, it.setup.settings["renew_days"]
    own = held.read(it.host, certified.HOST)
    told = {
        "needed": setup.ships or setup.receives,
        "given": any(setup.settings[key] for key in ("ca", "certificate", "private_key")),
        **held.status(own, certified.HOST, [setup.minion], days, it.now),
    }
    if not setup.receives:
        return told
    names = [setup.minion, *roles.asked_for(setup)]
    found = held.read(it.host, certified.SERVER)
    serving = held.status(found, certified.SERVER, names, days, it.now)
    return {**told, "renew": told["renew"] or serving["renew"], "server": serving}


def request(it: Facts) -> dict[str, str]:
    """Requests in PEM: ``host`` for this minion's id, and ``server`` of a log server for what hosts
    call it as well, empty elsewhere. Their keys are new, and take the place of the old ones only
    with their certificates, which come by :func:`install` or by the pillar.
    """
    _refuse_given(it, "private_key")
    setup = it.setup
    if not (setup.ships or setup.receives):
        raise Refused(f"{setup.family.where('servers')}: is empty, so this host needs none")
    if found := roles.problems(setup):
        raise Refused("; ".join(found))
    _folder(it.host)
    asked = held.ask(it.host, certified.HOST, setup.minion)
    if not setup.receives:
        return {_OWN: asked, _SERVER: ""}
    names = [name for name in roles.asked_for(setup) if name != setup.minion]
    return {_OWN: asked, _SERVER: held.ask(it.host, certified.SERVER, setup.minion, *names)}


def install(host: Host, it: Facts, certificates: Mapping[str, str], authority: str) -> str:
    """Puts signed certificates, by the names of :func:`request`, to where they are used; what
    happened, in words. :class:`Refused` with what is wrong: then the old ones are back.
    """
    _refuse_given(it, "ca", "certificate", "private_key")
    signed = _judged(it, certificates, authority)
    change = Transaction(host)
    _folder(host)
    with authorities.lock(host, logstash.FOLDER), _undone(host, it, change):
        for place, chain in signed:
            held.put(change, place, chain)
        outcome = _in_use(host, it, bool(certificates.get(_SERVER)))
    for place, _ in signed:
        host.remove(place.next_key)
    return outcome


def _judged(
    it: Facts, certificates: Mapping[str, str], authority: str
) -> list[tuple[held.Place, held.Signed]]:
    """The certificates that were brought and where they go; nothing is written yet."""
    places = [(_OWN, certified.HOST)]
    # One that the master refused a log server is no reason not to ship.
    serves = it.setup.receives and certificates.get(_SERVER)
    places += [(_SERVER, certified.SERVER)] if serves else []
    found = []
    for name, place in places:
        if not certificates.get(name):
            raise Refused(f"there is no certificate {name!r} among those that were brought")
        what = f"the certificate of the {'log server' if name == _SERVER else 'shipper'}"
        signed = held.judged(
            certificates[name], authority, it.setup.minion, place.usage, it.now, what
        )
        held.key_of(it.host, place, signed[0][0])
        found.append((place, signed))
    return found


def _in_use(host: Host, it: Facts, serving: bool) -> str:
    """What uses them from now on; a shipper that waited for its first certificate starts."""
    outcome = _served(host, it, serving)
    return f"{outcome}; the shipper was started" if starting.go_on(host, it) else outcome


def _served(host: Host, it: Facts, serving: bool) -> str:
    """A log server that was never set up is the business of the next highstate; one that got no
    certificate of its own runs on as it does.
    """
    if not it.setup.receives or not serving:
        return "installed; the shipper has it at its next connection"
    if not server.is_set_up(host):
        return "installed; the log server starts with it when the baseline sets it up"
    certified.secure(host, it)
    server.restart(host, it)
    return "installed, and the log server runs with it"


@contextlib.contextmanager
def _undone(host: Host, it: Facts, change: Transaction) -> Iterator[None]:
    """A change that fails, however, is taken back, and a log server runs on as it did before."""
    try:
        yield
    except Exception as error:
        failures = change.undo()
        if it.setup.receives and server.is_set_up(host):
            with contextlib.suppress(LookupError):
                certified.secure(host, it)
            ran = host.run("systemctl", "restart", logstash.RECEIVER_UNIT)
            failures += [" ".join((ran.err or ran.out).split())] if ran.status else []
        outcome = "the old certificates are back"
        if failures:
            outcome = f"and going back failed, too: {'; '.join(failures)}"
        raise Refused(f"{error}; {outcome}") from error


def _folder(host: Host) -> None:
    """Where certificates and keys are; everybody gets in whatever the umask is."""
    target = host.path(logstash.FOLDER)
    if not target.exists():
        target.mkdir(parents=True)
        for path in (target.parent, target):
            path.chmod(0o755)


def _refuse_given(it: Facts, *keys: str) -> None:
    given = ", ".join(key for key in keys if it.setup.settings[key])
    if given:
        raise Refused(f"{logstash.TOP} gives {given}, so certificates are the pillar's business")

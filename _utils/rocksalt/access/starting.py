"""Starts the master and salt-api anew, and sees that they answer."""

from __future__ import annotations

import ipaddress
from functools import partial

from rocksalt import systemd
from rocksalt.access import knocking
from rocksalt.access.facts import API, MASTER, Facts
from rocksalt.access.master import later
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.nrpe.tls import SERVED
from rocksalt.pki import certificates
from rocksalt.transaction import systemctl

PATIENCE = 60.0
"""Seconds in which a service has to listen after its start."""
_LONGEST = 300.0
"""Seconds that systemd may take to stop a service and start it: the master ends its workers."""
_PORTS = ("publish_port", "ret_port")
OFF = ("disable", "--quiet", "--now")


def restart(host: Host, unit: str) -> None:
    """Starts a service anew, also one that failed too often."""
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "reset-failed", unit)
    ran = host.run("systemctl", "restart", unit, timeout=_LONGEST)
    if ran.status:
        why = " ".join((ran.err or ran.out).split())
        raise Refused(f"{unit} does not start: {why}; {systemd.said(host, unit)}")


def master(host: Host, it: Facts) -> None:
    """Starts the master anew, and sees that minions reach it."""
    restart(host, MASTER)
    address = _reached_at(str(it.opts.get("interface") or "0.0.0.0"))
    for option in _PORTS:
        _waits(host, it, MASTER, address, int(it.opts[option]))


def has_answered(host: Host, it: Facts) -> bool:
    """Whether the master runs on our file that is on the disk, and minions reach it."""
    try:
        if later(it, MASTER, [it.config_path]):
            return False
    except LookupError:  # it does not run
        return False
    address = _reached_at(str(it.opts.get("interface") or "0.0.0.0"))
    alive = partial(is_active, host, MASTER)
    ports = [int(it.opts[option]) for option in _PORTS]
    return all(it.wires.answers_in(0, address, port, alive) for port in ports)


def api(host: Host, it: Facts) -> None:
    """Starts salt-api anew, now and at boot, and sees that it answers with its certificate."""
    systemctl(host, "enable", "--quiet", API)
    restart(host, API)
    _waits(host, it, API, it.reached_at, it.settings["port"])
    said = it.wires.knock(it.reached_at, it.settings["port"])
    wanted = knocking.NEED_CERTIFICATE if it.settings["client_ca"] else SERVED
    if said.modern != wanted:
        raise Refused(
            f"{API}: who shows no certificate is {said.modern}, expected {wanted}; "
            f"{systemd.said(host, API)}"
        )
    if said.status not in ("", "200"):
        raise Refused(f"{API} answers GET / with {said.status}; {systemd.said(host, API)}")
    if said.certificate != certificates.fingerprint(it.chain[0]):
        raise Refused(f"{API} shows another certificate than {it.settings['tls_certificate']}")


def stop(host: Host) -> None:
    """No salt-api, now and after a boot."""
    systemctl(host, *OFF, API)


def _reached_at(address: str) -> str:
    """Where this host itself reaches what listens on an address, or on a name."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if not found.is_unspecified:
        return address
    return "127.0.0.1" if found.version == 4 else "::1"


def _waits(host: Host, it: Facts, unit: str, address: str, port: int) -> None:
    alive = partial(is_active, host, unit)
    if not it.wires.answers_in(PATIENCE, address, port, alive):
        said = systemd.said(host, unit)
        raise Refused(f"{unit} does not listen on {address} port {port}: {said}")


def is_active(host: Host, unit: str) -> bool:
    """Whether a service runs at this moment."""
    return host.run("systemctl", "is-active", "--quiet", unit).status == 0

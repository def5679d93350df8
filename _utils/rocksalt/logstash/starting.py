"""Starts the shipper and waits until it says that it runs with what is on the disk, and stops it
where nobody receives any more.
"""

from __future__ import annotations

from collections.abc import Callable

from rocksalt import logstash, systemd
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.logstash import controls, shipper
from rocksalt.logstash.facts import Facts, digest, read_json, renew
from rocksalt.transaction import Transaction, systemctl

PATIENCE = 15.0
"""Seconds in which the shipper has to say how it is; the same once more for a log server."""
PAUSE, LONGEST = 0.2, 90.0


def start(host: Host, it: Facts) -> None:
    """Starts it anew on its files; :class:`Refused` where it does not come up. That it finds a log
    server is waited for, but is no condition.
    """
    renew(host, (logstash.SHIPPER, shipper.UNIT_PATH))
    host.run("systemctl", "reset-failed", logstash.SHIPPER_UNIT)
    systemctl(host, "enable", "--quiet", logstash.SHIPPER_UNIT)
    ran = host.run("systemctl", "restart", logstash.SHIPPER_UNIT, timeout=LONGEST)
    wanted = digest(host.read(logstash.SHIPPER_CONFIG))
    if ran.status or not _within(it, lambda: _says(host, wanted)):
        said = systemd.said(host, logstash.SHIPPER_UNIT)
        raise Refused(f"{logstash.SHIPPER_UNIT} does not start: {said}")
    _within(it, lambda: _probed(host, it))


def go_on(host: Host, it: Facts) -> bool:
    """Starts a shipper that is set up and has waited for its certificate; whether it did."""
    set_up = host.attributes(shipper.UNIT_PATH) and controls.SERVICE in it.wanted
    if not it.setup.ships or not set_up or it.runs or not it.certified:
        return False
    try:
        start(host, it)
    except Exception:
        host.run("systemctl", "disable", "--quiet", "--now", logstash.SHIPPER_UNIT)
        raise
    return True


def runs_on(it: Facts) -> bool:
    """Whether a shipper runs, or will after the next boot, although nobody receives."""
    state = it.shipper.get("ActiveState", "inactive")
    runs = state not in ("inactive", "failed") or it.shipper.get("UnitFileState") == "enabled"
    return runs and not it.setup.ships


def stop(change: Transaction) -> None:
    """Stops it for good."""
    how = ("--quiet", "--now", logstash.SHIPPER_UNIT)
    change.do("systemctl", "disable", *how, undo=("systemctl", "enable", *how))


def _within(it: Facts, happened: Callable[[], bool]) -> bool:
    """Whether something happens before patience ends."""
    end = it.wires.clock() + PATIENCE
    while not happened():
        if it.wires.clock() >= end:
            return False
        it.wires.sleep(PAUSE)
    return True


def _says(host: Host, config: str) -> bool:
    """Whether the process of the unit runs with this configuration."""
    found = read_json(host, logstash.STATUS) or {}
    process = shipper.main_process(host)
    return bool(process) and (found.get("pid"), found.get("config")) == (process, config)


def _probed(host: Host, it: Facts) -> bool:
    """Whether a marked line arrived since; the shipper remembers that of the one before it."""
    found = read_json(host, logstash.STATUS) or {}
    age = it.age((found.get("probe") or {}).get("acknowledged"))
    return bool(found.get("server")) and age is not None and age <= 0

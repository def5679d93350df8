"""Whether the lines of a host arrive at a log server, by what its shipper says of itself."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from rocksalt import logstash, systemd
from rocksalt.findings import Seen, some
from rocksalt.firewall.policy import Network, Policy
from rocksalt.host import unit_properties
from rocksalt.logstash import controls
from rocksalt.logstash.facts import Checks, Facts, read_json

LATE = 60
COUNTED = ("dropped", "lost", "unknown_gaps")
_WORDS = {
    "dropped": "dropped for there were too many",
    "lost": "gone before they were sent",
    "unknown_gaps": "gaps of unknown size",
}
AWAY = 60
"""Seconds that a shipper may be without a log server, as it is while one starts anew."""
_OF_JOURNAL = re.compile(r"\bjournal(?:ctl|d)?\b")
"""What of the connection fails is LOG-005's business."""


def _connected_expected(it: Facts) -> str:
    return f"within the last {AWAY} s"


def _connected_seen(it: Facts) -> Seen:
    said = it.status or {}
    since, server = said.get("disconnected_since"), said.get("server")
    away = it.age(since) if since else _running(it)
    if (server and not since) or (away is not None and away <= AWAY):
        return Seen(_connected_expected(it))
    how = f"not since {since}" if since else "not yet"
    if server:
        why = f"no log server takes lines, {how}: {server} has acknowledged none yet"
        return Seen(how, why)
    names = ", ".join(f"{server['host']}:{server['port']}" for server in it.setup.servers)
    error = said.get("error") or f"none of {names} answers"
    return Seen(how, some([f"connected to no log server, {how}: {error}", *shut_in(it)]))


def _running(it: Facts) -> float | None:
    """Seconds since the shipper was started; None while it does not run."""
    started = systemd.started(it.host, logstash.SHIPPER_UNIT)
    return it.now.timestamp() - started if started else None


def shut_in(it: Facts) -> list[str]:
    """Which log servers the packet filter of this host keeps it from, a sentence each."""
    family = it.setup.baseline.families.get("firewall")
    if not family or not family.settings["enabled"] or family.settings["output"] != "deny":
        return []
    ways = [way for way in Policy(it.setup.baseline).access("egress") if way.protocol == "tcp"]
    return [
        f"{family.where('egress')}: lets this host out to no tcp/{port} of {host}; name a service "
        "with that port and its network there"
        for host, port in ((server["host"], server["port"]) for server in it.setup.servers)
        if not any(way.port == port and _may_be_in(host, way.network) for way in ways)
    ]


def _may_be_in(host: str, network: Network) -> bool:
    """Whether an address is in a network; where a name leads to is not looked up."""
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return True


def _waiting_expected(it: Facts) -> dict[str, str]:
    settings = it.setup.settings
    return {
        "oldest line": f"waits no longer than {settings['oldest']} s",
        "lines": f"fewer than {settings['limit']}",
    }


def _waiting_seen(it: Facts) -> Seen:
    actual, said = _waiting_expected(it), it.status or {}
    if unknown := _unknown(said):
        return Seen(problem="error", reason=f"what waits in the journal is not known: {unknown}")
    why = []
    oldest, waiting = said.get("oldest_waiting"), said["waiting"]
    age = it.age(oldest)
    if oldest and (age is None or age > it.setup.settings["oldest"]):
        actual["oldest line"] = f"waits since {oldest}"
        why.append(f"{waiting} lines wait, the oldest since {oldest}")
    if since := said.get("full_since"):
        actual["lines"] = f"as many as may wait since {since}"
        what = "the oldest are dropped" if it.setup.settings["at_limit"] == "drop" else "all stay"
        where = it.setup.family.where("limit")
        why.append(f"more lines wait than {where} allows since {since}; {what}")
    elif waiting >= it.setup.settings["limit"]:
        actual["lines"] = str(waiting)
        why.append(f"{waiting} lines wait")
    return Seen(actual, some(why))


def _unknown(said: Mapping[str, Any]) -> str:
    """Why nobody knows how many lines wait; empty where the shipper can read the journal."""
    error = said.get("error") or ""
    ours = "; ".join(part for part in error.split("; ") if _OF_JOURNAL.search(part))
    if said.get("waiting") is None:
        return ours or error or "the shipper cannot ask journalctl"
    journal = (said.get("sources") or {}).get("journal") or {}
    return journal.get("error") or ours


def missing(it: Facts) -> dict[str, int]:
    """What was dropped or lost since somebody accepted it: by the kind. A figure that has gone back
    is a shipper that forgot, and negative.
    """
    said, accepted = it.status or {}, read_json(it.host, logstash.ACCEPTED) or {}
    return {kind: int(said.get(kind) or 0) - int(accepted.get(kind) or 0) for kind in COUNTED}


def _complete_seen(it: Facts) -> Seen:
    found = {kind: count for kind, count in missing(it).items() if count}
    why = [f"{count} {_WORDS[kind]}" for kind, count in found.items() if count > 0]
    if any(count < 0 for count in found.values()):
        why.append(f"{logstash.POSITIONS} counts fewer than were accepted, so it was made anew")
    if why:
        why.append(f"look for what was to be hidden, then salt {it.setup.minion} logstash.accept")
    return Seen(found, some(why))


def _probed_expected(it: Facts) -> str:
    return f"within {2 * it.setup.settings['probe'] + LATE} s"


def _probed_seen(it: Facts) -> Seen:
    """A shipper that somebody started is given the time for the first; one that systemd starts over
    and over is not.
    """
    longest = 2 * it.setup.settings["probe"] + LATE
    last = ((it.status or {}).get("probe") or {}).get("acknowledged")
    ages = [it.age(last), None if _restarts(it) else _running(it)]
    if any(age is not None and age <= longest for age in ages):
        return Seen(_probed_expected(it))
    if not last:
        return Seen("never", "no marked line has arrived since the shipper started")
    return Seen(f"not since {last}", f"the last marked line that arrived did so at {last}")


def _restarts(it: Facts) -> int:
    """How often systemd has started the shipper again since somebody did."""
    shown = it.host.run("systemctl", "show", logstash.SHIPPER_UNIT, "-p", "NRestarts").out
    found, *_ = unit_properties(shown) or [{}]
    return int(found.get("NRestarts") or 0)


CHECKS: Checks = {
    controls.CONNECTED: (_connected_expected, _connected_seen),
    controls.WAITING: (_waiting_expected, _waiting_seen),
    controls.COMPLETE: (lambda it: {}, _complete_seen),
    controls.PROBED: (_probed_expected, _probed_seen),
}

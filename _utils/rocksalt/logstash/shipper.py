"""The shipper of a host: its program, unit and configuration, and what it says of itself."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any

from rocksalt import logstash, program, systemd
from rocksalt.findings import AS_RENDERED, Seen, compared, some
from rocksalt.firewall.policy import Network, Policy
from rocksalt.host import Host, unit_properties
from rocksalt.logstash import controls, masking, sources
from rocksalt.logstash.facts import Checks, Facts, digest, read_json
from rocksalt.logstash.shipping import unit
from rocksalt.transaction import ASIDE, Transaction

ENTRY = "rocksalt.logstash.shipping.__main__"
UNIT_PATH = f"/etc/systemd/system/{logstash.SHIPPER_UNIT}"
ACCESS = {
    logstash.SHIPPER: "root:root 0755",
    UNIT_PATH: "root:root 0644",
    logstash.SHIPPER_CONFIG: "root:root 0600",
}
BESIDE = tuple(
    f"/{place}/systemd/system*/{logstash.SHIPPER_UNIT}{what}"
    for place in ("etc", "run")
    for what in ("", ".d/*")
)
"""Where files of others may have been put aside."""
_PLACES = ("/etc/", "/run/")
"""Where files of others may be put aside; the rest is the distribution's."""
FOLDERS = {logstash.FOLDER: "root:root 0755", logstash.STATE: "root:root 0750"}
SILENT = 60
"""Seconds after which a shipper that says nothing new of itself hangs."""
ON_DISK, LATE = "those on the disk", 60
COUNTED = ("dropped", "lost", "unknown_gaps")
_WORDS = {
    "dropped": "dropped for there were too many",
    "lost": "gone before they were sent",
    "unknown_gaps": "gaps of unknown size",
}


@cache
def _program(interpreter: str) -> str:
    data = program.build(interpreter, ENTRY, program.sources(ENTRY))
    return data.decode(errors="surrogateescape")


def config(it: Facts) -> str:
    """The configuration of the shipper."""
    settings = it.setup.settings
    drift = "drift" in settings["datasets"]
    found = {
        "host": it.setup.minion,
        "servers": it.setup.servers,
        "ca": logstash.AUTHORITY,
        "certificate": logstash.CERTIFICATE,
        "key": logstash.KEY,
        "files": sources.shipped(settings),
        "datasets": [*settings["datasets"]],
        "report": sources.REPORT if drift else "",
        "ignore": [*settings["ignore"]],
        "mask": [*settings["mask"]],
        "labels": it.setup.labels,
        **{key: settings[key] for key in ("limit", "at_limit", "probe")},
    }
    return json.dumps(found, indent=2) + "\n"


def render(it: Facts) -> dict[str, str]:
    """Our files for the shipper: path -> text."""
    return {
        logstash.SHIPPER: _program(it.interpreter),
        UNIT_PATH: unit.text(),
        logstash.SHIPPER_CONFIG: config(it),
    }


# The comparison -----------------------------------------------------------------------------------


def _service_seen(it: Facts) -> Seen:
    return Seen(systemd.state(it.shipper))


def _ours_expected(it: Facts) -> dict[str, Any]:
    return {**{path: f"{AS_RENDERED}, {rights}" for path, rights in ACCESS.items()}, "beside": []}


def _ours_seen(it: Facts) -> Seen:
    actual: dict[str, Any] = {}
    for path, text in render(it).items():
        rights = it.host.access(path)
        state = compared(it.host.read(path), text)
        actual[path] = f"{state}, {rights}" if rights else None
    why = [
        f"{path} {actual[path] or 'does not exist'}"
        for path, rights in ACCESS.items()
        if actual[path] != f"{AS_RENDERED}, {rights}"
    ]
    actual["beside"] = systemd.overrides(it.host, [UNIT_PATH])
    why += [f"{path} changes the unit" for path in actual["beside"]]
    return Seen(actual, some(why))


def _current_expected(it: Facts) -> dict[str, str]:
    return {"process": "of the unit", "files": ON_DISK, "says how it is": "all the time"}


def _current_seen(it: Facts) -> Seen:
    said = it.status
    if said is None:
        return Seen({**_current_expected(it), "says how it is": "never"}, _silent(it))
    actual = _current_expected(it)
    why = []
    if said.get("pid") != main_process(it.host):
        actual["process"] = "another one"
        why.append(f"what {logstash.STATUS} says is of process {said.get('pid')}, not of the unit")
    if old := _outdated(it, said):
        actual["files"] = f"others: {', '.join(old)}"
        why.append(f"the shipper was not started since {', '.join(old)} changed")
    age = it.age(said.get("time"))
    if age is None or age > SILENT:
        actual["says how it is"] = f"not since {said.get('time')}"
        why.append(_silent(it))
    return Seen(actual, some(why))


def _silent(it: Facts) -> str:
    since = (it.status or {}).get("time")
    return f"the shipper hangs: it has said nothing since {since or 'its start'}"


def _outdated(it: Facts, said: Mapping[str, Any]) -> list[str]:
    """Files that the running shipper has in an older version."""
    found = []
    if said.get("config") != digest(it.host.read(logstash.SHIPPER_CONFIG)):
        found.append(logstash.SHIPPER_CONFIG)
    started = systemd.started(it.host, logstash.SHIPPER_UNIT)
    for path in (logstash.SHIPPER, UNIT_PATH):
        at = it.host.attributes(path)
        if at and started and at.changed > started:
            found.append(path)
    return found


def main_process(host: Host) -> int:
    """The number of the shipper's process; 0 for none."""
    shown = host.run("systemctl", "show", logstash.SHIPPER_UNIT, "-p", "MainPID").out
    found, *_ = unit_properties(shown) or [{}]
    return int(found.get("MainPID") or 0)


def _connected_seen(it: Facts) -> Seen:
    said = it.status or {}
    if said.get("server"):
        return Seen("connected")
    since = said.get("disconnected_since")
    how = f"not since {since}" if since else "not yet"
    names = ", ".join(f"{server['host']}:{server['port']}" for server in it.setup.servers)
    error = said.get("error") or f"none of {names} answers"
    return Seen(how, some([f"connected to no log server, {how}: {error}", *shut_in(it)]))


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
    why = []
    oldest, waiting = said.get("oldest_waiting"), said.get("waiting") or 0
    age = it.age(oldest)
    if age is not None and age > it.setup.settings["oldest"]:
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
    """A shipper that has only just started is given the time for the first."""
    longest = 2 * it.setup.settings["probe"] + LATE
    started = systemd.started(it.host, logstash.SHIPPER_UNIT)
    last = ((it.status or {}).get("probe") or {}).get("acknowledged")
    ages = [it.age(last), it.now.timestamp() - started if started else None]
    if any(age is not None and age <= longest for age in ages):
        return Seen(_probed_expected(it))
    if not last:
        return Seen("never", "no marked line has arrived since the shipper started")
    return Seen(f"not since {last}", f"the last marked line that arrived did so at {last}")


CHECKS: Checks = {
    controls.SERVICE: (lambda it: "active, enabled", _service_seen),
    controls.OURS: (_ours_expected, _ours_seen),
    controls.CURRENT: (_current_expected, _current_seen),
    controls.CONNECTED: (lambda it: "connected", _connected_seen),
    controls.WAITING: (_waiting_expected, _waiting_seen),
    controls.COMPLETE: (lambda it: {}, _complete_seen),
    controls.SOURCES: (lambda it: [], sources.seen),
    controls.PROBED: (_probed_expected, _probed_seen),
    controls.MASKED: (lambda it: [], masking.seen),
}


# The change ---------------------------------------------------------------------------------------


def put(host: Host, it: Facts, change: Transaction, ids: Collection[str]) -> None:
    """Writes the program, the unit and the configuration where they differ, and puts aside what
    changes the unit.
    """
    if controls.OURS not in it.wanted:
        return
    for path, text in render(it).items():
        rights = ACCESS[path]
        if host.read(path) != text or host.path(path).is_symlink():
            change.write(path, text, rights.split()[1])
        if host.access(path) != rights:
            host.give(path, rights)
    for path in systemd.overrides(host, [UNIT_PATH]):
        change.rename(path, path + ASIDE)


def refusals(it: Facts, ids: Collection[str]) -> Iterator[str]:
    """What stands in the way of the controls ``ids``, a sentence each."""
    for path in systemd.overrides(it.host, [UNIT_PATH]) if {*CHECKS} & {*ids} else ():
        if not path.startswith(_PLACES):
            yield f"{path} changes {logstash.SHIPPER_UNIT}: remove it"


def make_folders(host: Host) -> None:
    """Where the configuration, the keys and the positions are, whatever the umask is."""
    for path, rights in FOLDERS.items():
        host.path(path).mkdir(parents=True, exist_ok=True)
        if host.access(path) != rights:
            host.give(path, rights)


def leftovers(host: Host) -> list[str]:
    """What the baseline put on the host and ``clean`` takes away."""
    own = [*ACCESS, logstash.STATUS]
    return [path for path in own if host.attributes(path, follow=False)]

"""The shipper of a host: its program, unit and configuration."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any

from rocksalt import logstash, program, systemd
from rocksalt.findings import AS_RENDERED, Seen, compared, some
from rocksalt.host import Host, unit_properties
from rocksalt.logstash import arriving, controls, masking, sources
from rocksalt.logstash.facts import Checks, Facts, digest
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
ON_DISK = "those on the disk"


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


CHECKS: Checks = {
    controls.SERVICE: (lambda it: "active, enabled", _service_seen),
    controls.OURS: (_ours_expected, _ours_seen),
    controls.CURRENT: (_current_expected, _current_seen),
    controls.SOURCES: (lambda it: [], sources.seen),
    controls.MASKED: (lambda it: [], masking.seen),
    **arriving.CHECKS,
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

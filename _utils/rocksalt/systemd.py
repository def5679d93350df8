"""What systemd knows of units, and what it reads instead of ours."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Sequence

from rocksalt.host import Host, unit_properties

_PROPERTIES = "Id,ActiveState,UnitFileState,NeedDaemonReload,FragmentPath,DropInPaths"


def units(host: Host, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """What systemd knows of units, by their names."""
    shown = host.run("systemctl", "show", *names, "-p", _PROPERTIES).out if names else ""
    return {unit["Id"]: unit for unit in unit_properties(shown) if "Id" in unit}


def started(host: Host, unit: str) -> float | None:
    """When a unit became active, in seconds since 1970; None while it is not."""
    shown = host.run("systemctl", "show", unit, "-p", "ActiveState,ActiveEnterTimestampMonotonic")
    found, *_ = unit_properties(shown.out) or [{}]
    stamp = found.get("ActiveEnterTimestampMonotonic", "0")
    if found.get("ActiveState") != "active" or stamp == "0":
        return None
    return time.time() - time.monotonic() + int(stamp) / 1e6


def state(unit: dict[str, str]) -> str:
    """How a unit that is to run from boot on is, of what :func:`units` gave for it: ``active,
    enabled``.
    """
    words = [unit.get("ActiveState", "unknown"), unit.get("UnitFileState") or "not there"]
    if unit.get("NeedDaemonReload") == "yes":
        words.append("not as on disk")
    return ", ".join(words)


def said(host: Host, unit: str) -> str:
    """The last words of a unit that does not come up."""
    how = ("--since=-1min", "--lines=20", "--output=cat", "--no-pager")
    log = host.run("journalctl", *how, f"_SYSTEMD_UNIT={unit}").out
    found = [line.strip() for line in log.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(found[-3:])) or "it does not say why"


def overrides(host: Host, paths: Iterable[str]) -> list[str]:
    """What systemd reads instead of these unit files or on top of them, or will after a reload. A
    drop-in for every unit of a kind is not about us.
    """
    files = {path.rsplit("/", 1)[-1]: path for path in paths}
    known = units(host, list(files))
    found = []
    for name, path in files.items():
        unit = known.get(name, {})
        found += host.glob(f"{path}.d/*.conf")
        found += [unit.get("FragmentPath", ""), *shlex.split(unit.get("DropInPaths", ""))]
    general = ("/service.d", "/timer.d", "/socket.d")
    return [
        path
        for path in dict.fromkeys(found)
        if path and path not in files.values() and not path.rpartition("/")[0].endswith(general)
    ]

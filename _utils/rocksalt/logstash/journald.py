"""The journal: the queue of what is to be sent, and the copy that stays on the host."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator

from rocksalt import systemd
from rocksalt.errors import Refused
from rocksalt.findings import Seen, some
from rocksalt.host import Host, unit_properties
from rocksalt.logstash import controls
from rocksalt.logstash.facts import Checks, Facts, renew
from rocksalt.transaction import ASIDE, Transaction, systemctl

UNIT = "systemd-journald.service"
NAME = "systemd/journald.conf"
DROP_IN = "/etc/systemd/journald.conf.d/zz-rocksalt.conf"
"""The last file wins, so its name is one of the last."""
FOLDER = "/var/log/journal"
_FILE_NAMED = re.compile(r"# (/\S*/systemd/journald\.conf(?:\.d/[^/]+\.conf)?)")
HEADER = "# Written by rocksalt; state.apply hardening.logstash undoes a change here.\n"
AFTER, ON_DISK = "after its configuration was written", "on disk"
_UNLIMITED = {
    "RateLimitIntervalSec": "0",
    "RateLimitBurst": "0",
    "MaxLevelStore": "debug",
    "ReadKMsg": "yes",
}
_PLACES = ("/etc/systemd/journald.conf.d/", "/run/systemd/journald.conf.d/")
_LIMITS = {"LogRateLimitIntervalUSec": ("", "0"), "LogLevelMax": ("", "-1"), "LogNamespace": ("",)}
"""What of a unit keeps its lines from the journal, and the values that do not."""
_MEBIBYTE = 1024 * 1024
_FILE = 128
"""Mebibytes of a full file of the journal."""
_FREE, _MOST_FREE = 0.15, 4096 * _MEBIBYTE
"""What journald leaves free of a disk by default: a share, and never more than so many bytes."""


def kept(it: Facts) -> dict[str, str]:
    """The options by which the journal is kept, and how much of it."""
    size = it.setup.settings["journal_size"]
    return {
        "Storage": "persistent",
        "SystemMaxUse": f"{size}M",
        "SystemKeepFree": f"{_free(it)}M",
        "SystemMaxFileSize": f"{min(_FILE, size // 8)}M",
        "SystemMaxFiles": str(max(100, 2 * size // _FILE)),
        "MaxRetentionSec": "0",
    }


def render(it: Facts) -> str:
    """The drop-in, without the options of controls that are waived."""
    found = {**(kept(it) if controls.KEPT in it.wanted else {})}
    found |= _UNLIMITED if controls.UNLIMITED in it.wanted else {}
    lines = "".join(f"{name}={value}\n" for name, value in found.items())
    return f"{HEADER}\n[Journal]\n{lines}"


Option = tuple[str, str, str]
"""The file that has it, its name and its value."""


def parse(text: str) -> list[Option]:
    """The options in what ``systemd-analyze cat-config`` printed, the last of a name wins. It says
    above each file which one follows.
    """
    found: list[Option] = []
    path = section = ""
    for line in text.splitlines():
        line = line.strip()
        if header := _FILE_NAMED.fullmatch(line):
            path = header[1]
        elif line.startswith("["):
            section = line
        elif "=" in line and line[0] not in "#;" and section == "[Journal]":
            name, _, value = line.partition("=")
            found.append((path, name.strip(), value.strip()))
    return found


def options(host: Host) -> list[Option]:
    """The options in force, once journald has started with them; :class:`LookupError` with a
    sentence where they cannot be told.
    """
    ran = host.run("systemd-analyze", "cat-config", NAME)
    if ran.status:
        raise LookupError(f"systemd-analyze cat-config {NAME}: {' '.join(ran.err.split())}")
    return parse(ran.out)


def room(it: Facts) -> str:
    """Why the journal cannot become as large as it may; empty where it can."""
    size = it.setup.settings["journal_size"]
    where = it.setup.family.where("journal_size")
    whole, free = it.wires.disk(str(it.host.path(FOLDER)))
    if size * _MEBIBYTE > whole:
        return f"{where}: {size} MiB are more than the disk of /var/log has, {_mib(whole)} MiB"
    possible = free + _used(it.host) - _free(it) * _MEBIBYTE
    if size * _MEBIBYTE > possible:
        return (
            f"the journal may have {size} MiB ({where}), and has room for {max(0, _mib(possible))} "
            "MiB, for journald leaves a part of the disk free; make room on the disk of /var/log"
        )
    return ""


def too_large(it: Facts) -> str:
    """Why no journal of this size fits at all; empty where one does."""
    why = room(it)
    return why if why.startswith(it.setup.family.where("journal_size")) else ""


def _free(it: Facts) -> int:
    """Mebibytes that journald leaves free of the disk."""
    whole, _ = it.wires.disk(str(it.host.path(FOLDER)))
    return _mib(min(int(whole * _FREE), _MOST_FREE))


def _mib(size: int) -> int:
    return size // _MEBIBYTE


def _used(host: Host) -> int:
    """The bytes that the journal has on disk."""
    found = 0
    for path in host.glob(f"{FOLDER}/*/*"):
        with contextlib.suppress(OSError):
            found += host.path(path).stat().st_blocks * 512
    return found


# The comparison -----------------------------------------------------------------------------------


def _kept_expected(it: Facts) -> dict[str, str]:
    return {**kept(it), "started": AFTER, "journal": ON_DISK, "room": "enough"}


def _kept_seen(it: Facts) -> Seen:
    if why := too_large(it):
        return Seen(problem="error", reason=why)
    actual, why_not = _compared(it, kept(it))
    started = _started(it.host)
    place, short = _place(it.host), room(it)
    actual |= {"started": started, "journal": place, "room": "too little" if short else "enough"}
    why_not += [f"journald was started {started}"] if started != AFTER else []
    why_not += [f"journald keeps the journal {place}"] if place != ON_DISK else []
    remedy = "manual" if short and not why_not else ""
    return Seen(actual, some([*why_not, *filter(None, [short])]), remedy=remedy)


def _unlimited_seen(it: Facts) -> Seen:
    actual, why = _compared(it, _UNLIMITED)
    limited = _limited(it.host)
    actual["units with limits of their own"] = limited
    remedy = "manual" if limited and not why else ""
    why += [f"{unit} keeps its lines from the journal: {what}" for unit, what in limited.items()]
    return Seen(actual, some(why), remedy=remedy)


def _unlimited_expected(it: Facts) -> dict[str, object]:
    return {**_UNLIMITED, "units with limits of their own": {}}


def _compared(it: Facts, wanted: dict[str, str]) -> tuple[dict[str, object], list[str]]:
    """Options as they are, and in words which file has one that is not as wanted."""
    actual: dict[str, object] = {}
    why = []
    last = {name: (path, value) for path, name, value in options(it.host)}
    for name, value in wanted.items():
        path, have = last.get(name, ("", ""))
        actual[name] = have or None
        if have != value:
            said = f"{path} says {name}={have}" if path else f"no file says {name}"
            why.append(f"{said}, expected {value}")
    return actual, why


def _started(host: Host) -> str:
    """Whether journald has read what is on the disk."""
    at = systemd.started(host, UNIT)
    if at is None:
        return "never"
    later = [path for path in _files(host) if (it := host.attributes(path)) and it.changed > at]
    return f"before {', '.join(later)} changed" if later else AFTER


def _files(host: Host) -> list[str]:
    return ["/etc/systemd/journald.conf", *(p for at in _PLACES for p in host.glob(f"{at}*.conf"))]


def _place(host: Host) -> str:
    """Where the running journald writes to, by the files that it has open."""
    shown, *_ = unit_properties(host.run("systemctl", "show", UNIT, "-p", "MainPID").out) or [{}]
    for path in host.glob(f"/proc/{shown.get('MainPID') or 0}/fd/*"):
        with contextlib.suppress(OSError):
            target = os.readlink(host.path(path))
            if target.startswith(f"{FOLDER}/"):
                return "in a file that was deleted" if target.endswith(" (deleted)") else ON_DISK
    return "in memory"


def _limited(host: Host) -> dict[str, str]:
    """Units of which journald would drop lines, or keep them elsewhere."""
    ran = host.run("systemctl", "show", "*.service", "-p", ",".join(("Id", *_LIMITS)))
    if ran.status:
        raise LookupError(f"systemctl show: {' '.join(ran.err.split())}")
    found = {}
    for unit in unit_properties(ran.out):
        odd = [f"{n}={unit[n]}" for n, none in _LIMITS.items() if unit.get(n, "") not in none]
        if odd and "Id" in unit:
            found[unit["Id"]] = ", ".join(odd)
    return dict(sorted(found.items()))


CHECKS: Checks = {
    controls.KEPT: (_kept_expected, _kept_seen),
    controls.UNLIMITED: (_unlimited_expected, _unlimited_seen),
}


# The change ---------------------------------------------------------------------------------------


def put(host: Host, it: Facts, change: Transaction, ids: Collection[str]) -> bool:
    """Writes the drop-in where one of its controls is to be enforced, and puts aside what would
    still win. Whether journald has to start anew.
    """
    if not {*CHECKS} & {*ids} & {*it.wanted}:
        return False
    if host.read(DROP_IN) != render(it) or host.access(DROP_IN) != "root:root 0644":
        change.write(DROP_IN, render(it), "0644")
    for path in _winners(it):
        change.rename(path, path + ASIDE)
    return True


def refusals(it: Facts, ids: Collection[str]) -> Iterator[str]:
    """What stands in the way of the controls ``ids``, a sentence each."""
    own = {*CHECKS} & {*it.wanted}
    if own and (why := too_large(it)):
        yield why
    try:
        winners = _winners(it) if own & {*ids} else []
    except LookupError as error:
        winners = []
        yield str(error)
    for path in winners:
        if not path.startswith(_PLACES):
            yield f"{path} beats {DROP_IN}: take its options out of it"


def _winners(it: Facts) -> list[str]:
    """Files that say something else than ours, and come after it, whether it is there or not."""
    wanted = {name: value for _, name, value in parse(render(it))}
    later = (option for option in options(it.host) if _comes_after(option[0]))
    return list(dict.fromkeys(p for p, name, value in later if wanted.get(name, value) != value))


def _comes_after(path: str) -> bool:
    """Whether journald reads a file after ours: drop-ins go by their names, whatever folder they
    are in.
    """
    folder, _, name = path.rpartition("/")
    return folder.endswith(".d") and name > DROP_IN.rpartition("/")[2]


def take_effect(host: Host) -> None:
    """Has journald start on its files; it keeps the sockets of services meanwhile. Raises
    :class:`Refused` where it does not keep the journal on disk then.
    """
    renew(host, _files(host))
    systemctl(host, "restart", UNIT)
    ran = host.run("journalctl", "--flush")
    if ran.status:
        raise Refused(f"journalctl --flush: {' '.join((ran.err or ran.out).split())}")
    if systemd.started(host, UNIT) is None:
        raise Refused(f"{UNIT} does not run")


def leftovers(host: Host) -> Iterator[str]:
    """What ``clean`` takes away."""
    if host.attributes(DROP_IN, follow=False):
        yield DROP_IN


def clean(host: Host) -> None:
    """Takes it away, and gives back what was put aside."""
    aside = [path for at in _PLACES for path in host.glob(f"{at}*{ASIDE}")]
    if not aside and not [*leftovers(host)]:
        return
    host.remove(DROP_IN)
    for path in aside:
        host.rename(path, path.removesuffix(ASIDE))
    systemctl(host, "restart", UNIT)

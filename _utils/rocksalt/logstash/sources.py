"""The logs that a host has: what is shipped of them, and what is not."""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt import logstash
from rocksalt.findings import Seen, some
from rocksalt.logstash import controls
from rocksalt.logstash.facts import Facts
from rocksalt.logstash.shipping import datasets

REPORT = "/var/lib/rocksalt/last.json"
SYSTEM = {
    "/var/log/dpkg.log": "packages",
    "/var/log/alternatives.log": "packages",
    "/var/log/apt/*.log": "packages",
    "/var/log/unattended-upgrades/*.log": "packages",
    "/var/log/cloud-init*.log": "cloud-init",
}
"""What the system says in files of its own: it goes with the dataset journal."""
COPIES = tuple(
    f"/var/log/{name}"
    for name in (
        *("syslog", "messages", "debug", "auth.log", "cron.log", "daemon.log", "kern.log"),
        *("lpr.log", "mail.log", "mail.info", "mail.warn", "mail.err", "user.log", "ufw.log"),
    )
)
"""What the distribution's rsyslog writes; it has all of it from the journal."""
NONE = (
    *("/var/log/faillog", "/var/log/lastlog", "/var/log/tallylog"),
    *("/var/log/bootstrap.log", "/var/log/fontconfig.log", "/var/log/installer/*"),
    *("/var/log/journal/*", "/var/log/journal/*/*"),
)
"""Tables of log-ins, the journal itself, and what was written before anybody used the host."""
DEPTHS = ("/var/log/*", "/var/log/*/*", "/var/log/*/*/*")
RECENT = 7 * 86400
"""Seconds within which a log that is in use has changed."""
_LOG = re.compile(r"log$|^log\.[a-z]+$")
_SALT = ("master", "minion", "api", "key", "proxy", "syndic", "cloud")


def shipped(settings: Mapping[str, Any]) -> dict[str, str]:
    """Glob -> dataset of the files to follow."""
    found = dict(SYSTEM) if "journal" in settings["datasets"] else {}
    for dataset in settings["datasets"]:
        found |= dict.fromkeys(datasets.FILES.get(dataset, ()), dataset)
    return dict(sorted({**found, **settings["files"]}.items()))


def seen(it: Facts) -> Seen:
    """Logs that stay on the host: nobody named them, or the shipper does not follow them."""
    left, lost = list(left_behind(it)), dict(not_followed(it))
    why = []
    if left:
        where = it.setup.family.where
        names = f"{', '.join(left[:4])}{' and others' if len(left) > 4 else ''}"
        why = [f"nobody ships {names}: name them in {where('files')}, or in {where('ignore')}"]
    why += [f"the shipper does not follow {path}: {reason}" for path, reason in lost.items()]
    if not why and it.status is None:
        unknown = f"the shipper has not said yet which files it follows ({controls.CURRENT})"
        return Seen(problem="skipped", reason=unknown)
    return Seen([*left, *lost], some(why))


def not_followed(it: Facts) -> Iterator[tuple[str, str]]:
    """Files that are to be shipped and that the shipper leaves, and why; those that it does not
    name only where it has a log server, for without one it seldom looks for new ones.
    """
    said = it.status or {}
    unnamed = f"{logstash.STATUS} does not name it" if it.runs and said.get("server") else ""
    known = said.get("sources") or {}
    followed = {path for path in known if not _problem(known, path)}
    same = {_file(it, path) for path in followed}
    settings = it.setup.settings
    for path in sorted({path for pattern in shipped(settings) for path in it.host.glob(pattern)}):
        file, reason = _file(it, path), _problem(known, path) or unnamed
        left = reason and file and file not in same
        if left and not datasets.covered(path, settings["ignore"]):
            yield path, reason


def _file(it: Facts, path: str) -> tuple[int, int] | None:
    """What tells a regular file from others, whatever its names are; None where it is none."""
    with contextlib.suppress(OSError):
        found = it.host.path(path).stat()
        return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None
    return None


def _problem(known: Mapping[str, Any], path: str) -> str:
    """Why the shipper says that it does not read a file, as a link that is not of root alone; empty
    where it does.
    """
    return str((known.get(path) or {}).get("problem") or "")


def left_behind(it: Facts) -> Iterator[str]:
    """Their paths."""
    settings = it.setup.settings
    received = settings["receiver"].get("path", logstash.RECEIVED)
    known = (*shipped(settings), *COPIES, *NONE, *settings["ignore"])
    for path in (path for pattern in DEPTHS for path in it.host.glob(pattern)):
        ours = path.startswith(f"{received}/")
        if not ours and _is_log(path) and not datasets.covered(path, known) and _in_use(it, path):
            yield path


def _is_log(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return bool(_LOG.search(name)) or (folder == "/var/log/salt" and name in _SALT)


def _in_use(it: Facts, path: str) -> bool:
    """Whether something was written to a regular file in the last days."""
    with contextlib.suppress(OSError):
        found = it.host.path(path).lstat()
        recent = found.st_mtime > it.now.timestamp() - RECENT
        return stat.S_ISREG(found.st_mode) and found.st_size > 0 and recent
    return False

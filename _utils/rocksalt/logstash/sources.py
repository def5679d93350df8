"""The logs that a host has: what is shipped of them, and what is not."""

from __future__ import annotations

import contextlib
import fnmatch
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rocksalt import logstash
from rocksalt.findings import Seen
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
    """Logs that stay on the host although nobody said so."""
    found = list(left_behind(it))
    if not found:
        return Seen([])
    where = it.setup.family.where
    names = f"{', '.join(found[:4])}{' and others' if len(found) > 4 else ''}"
    why = f"nobody ships {names}: name them in {where('files')}, or in {where('ignore')}"
    return Seen(found, why)


def left_behind(it: Facts) -> Iterator[str]:
    """Their paths."""
    settings = it.setup.settings
    received = settings["receiver"].get("path", logstash.RECEIVED)
    known = (*shipped(settings), *COPIES, *NONE, *settings["ignore"])
    for path in (path for pattern in DEPTHS for path in it.host.glob(pattern)):
        ours = path.startswith(f"{received}/")
        if not ours and _is_log(path) and not covered(path, known) and _in_use(it, path):
            yield path


def covered(path: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns is for this path; ``*`` stands for part of one name."""
    parts = path.split("/")
    return any(
        len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))
        for wanted in (pattern.split("/") for pattern in patterns)
    )


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

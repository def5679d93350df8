"""Which dataset a line belongs to, and where those are that the journal does not have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from rocksalt.firewall import LOG_PREFIX

JOURNAL, AUTH, AUDIT, IPTABLES, FAIL2BAN, OSSEC, SALT, DRIFT = (
    *("journal", "auth", "audit", "iptables", "fail2ban", "ossec", "salt", "drift"),
)
PROBE = "rocksalt.probe"
FILES: dict[str, tuple[str, ...]] = {
    SALT: tuple(
        f"/var/log/salt/{it}" for it in ("minion", "master", "api", "key", "syndic", "proxy")
    ),
    AUTH: ("/var/log/sudo.log",),
    AUDIT: ("/var/log/audit/audit.log",),
    FAIL2BAN: ("/var/log/fail2ban.log",),
    OSSEC: (
        "/var/ossec/logs/ossec.log",
        "/var/ossec/logs/active-responses.log",
        "/var/ossec/logs/alerts/alerts.log",
    ),
}
"""Globs of the files that a dataset has beside the journal."""

STARTS = {
    AUTH: re.compile(rb"[A-Z][a-z]{2} [ \d]\d "),
    SALT: re.compile(rb"\d{4}-\d\d-\d\d "),
    OSSEC: re.compile(rb"\*\* Alert |\d{4}/\d\d/\d\d |[A-Z][a-z]{2} [A-Z][a-z]{2} "),
}
"""How a record begins, where one may have several lines."""

_AUTH_FACILITIES = frozenset(("4", "10"))
_AUTH_PROGRAMS = frozenset(
    (
        *("sshd", "sshd-session", "sshd-auth", "sudo", "su", "login", "systemd-logind", "passwd"),
        *("useradd", "usermod", "userdel", "groupadd", "groupmod", "groupdel", "chage", "gpasswd"),
        *("chpasswd", "newgrp", "pkexec", "polkitd", "runuser", "cryptsetup", "unix_chkpwd"),
    )
)
_PACKET = re.compile(r"\bIN=\S* OUT=\S* .*\bSRC=\S+ ")
_PREFIXES = (("salt", SALT), ("fail2ban", FAIL2BAN), ("ossec", OSSEC))


def covered(path: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns is for this path; ``*`` stands for part of one name."""
    parts = path.split("/")
    return any(
        len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
        for wanted in (pattern.split("/") for pattern in patterns)
    )


def plain(value: Any) -> str:
    """A field of the journal as text: bytes come as numbers, what was given twice as a list."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return "" if value is None else str(value)
    if all(isinstance(it, int) for it in value):
        return bytes(value).decode("utf-8", "backslashreplace")
    return "\n".join(map(plain, value))


def of_journal(entry: Mapping[str, Any], message: str) -> str:
    """The dataset of a journal's entry."""
    transport = plain(entry.get("_TRANSPORT"))
    if transport == "audit":
        return AUDIT
    if transport == "kernel":
        packet = message.startswith(LOG_PREFIX) or ("SRC=" in message and _PACKET.search(message))
        return IPTABLES if packet else JOURNAL
    program = plain(entry.get("SYSLOG_IDENTIFIER") or entry.get("_COMM"))
    if plain(entry.get("SYSLOG_FACILITY")) in _AUTH_FACILITIES or program in _AUTH_PROGRAMS:
        return AUTH
    unit = plain(entry.get("_SYSTEMD_UNIT"))
    for prefix, dataset in _PREFIXES:
        if program.startswith(prefix) or unit.startswith(prefix):
            return dataset
    return JOURNAL

"""One look at the host: everything about fail2ban that the checks need, and nothing decided yet."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rocksalt import fail2ban
from rocksalt.fail2ban import config, rules
from rocksalt.fail2ban.server import SERVER_KEYS, Server, Silent
from rocksalt.firewall import VERSIONS, tables
from rocksalt.host import Host, Ran, unit_properties

_A_MOMENT = 0.5
_STATUS = "/var/lib/dpkg/status"
_NEEDED = {fail2ban.CLIENT: "fail2ban", "/usr/sbin/iptables-save": "iptables"}
_MAIN = tuple(f"{fail2ban.FOLDER}/{name}.conf" for name in ("jail", "fail2ban"))
_DROP_INS = tuple(path.replace(".conf", ".d/") for path in _MAIN)
_ENTRY = re.compile(r"^\d{4}-\d\d-\d\d .*?: +(?=[A-Z]+ )", re.MULTILINE)
_CONFFILE = re.compile(r"^ (/\S+) ([0-9a-f]{32})", re.MULTILINE)


@dataclass(frozen=True)
class Running:
    """What the server says: ``jails`` as :meth:`Server.jail` gives them, ``bans`` by jail."""

    jails: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    bans: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Reading:
    """``absent`` says what is not installed. ``files`` is what the files amount to, ``problem`` why
    fail2ban finds them wrong; ``lines`` has every option with its place, by file, in the order of
    reading. ``chains`` are those of the filter tables for IPv4 (4) and IPv6 (6).
    """

    absent: str = ""
    active: bool = False
    enabled: bool = False
    running: Running = field(default_factory=Running)
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problem: str = ""
    texts: Mapping[str, str | None] = field(default_factory=dict)
    jail_lines: Mapping[str, Sequence[config.Line]] = field(default_factory=dict)
    server_lines: Mapping[str, Sequence[config.Line]] = field(default_factory=dict)
    access: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    edited: Sequence[str] = ()
    filters: Sequence[str] = ()
    chains: Mapping[int, rules.Chains] = field(default_factory=dict)


def read(host: Host) -> Reading:
    """Looks at everything once. Nothing on the host changes."""
    for path, package in _NEEDED.items():
        if host.attributes(path) is None:
            return Reading(absent=f"{package} is not installed")
    active, enabled = unit(host)
    says, chains = _settled(host)
    dumped = host.run(fail2ban.CLIENT, "-d")
    commands = config.commands(dumped.out) if not dumped.status else []
    return Reading(
        active=active,
        enabled=enabled,
        running=says,
        files=config.jails(commands),
        problem=complaint(dumped) if dumped.status else "",
        texts={path: host.read(path) for path in (fail2ban.JAILS, fail2ban.SERVER)},
        jail_lines=_lines(host, "jail"),
        server_lines=_lines(host, "fail2ban"),
        access=_access(host, links=False),
        links=_access(host, links=True),
        edited=_edited(host),
        filters=_filters(host),
        chains=chains,
    )


def unit(host: Host) -> tuple[bool, bool]:
    """Whether fail2ban.service is active, and whether it starts at boot."""
    shown = host.run("systemctl", "show", fail2ban.UNIT, "-p", "ActiveState,UnitFileState").out
    found = unit_properties(shown)[0]
    return found.get("ActiveState") == "active", found.get("UnitFileState") == "enabled"


def running(host: Host) -> Running:
    """What the server says about itself."""
    try:
        with Server(host) as server:
            names = server.jails()
            return Running(
                jails={name: server.jail(name) for name in names},
                server={key: server.ask("get", key) for key in SERVER_KEYS},
                bans={name: server.bans(name) for name in names},
            )
    except Silent as silence:
        return Running(problem=str(silence))


def packet_filter(host: Host) -> dict[int, rules.Chains]:
    """The chains of the filter tables for IPv4 (4) and IPv6 (6)."""
    return {version: tables.read(host, version).chains for version in VERSIONS}


def _settled(host: Host) -> tuple[Running, dict[int, rules.Chains]]:
    """The server's word and the packet filter; a ban takes a moment to become a rule."""
    for attempt in range(2):
        says, chains = running(host), packet_filter(host)
        if attempt or not late(says, chains):
            break
        time.sleep(_A_MOMENT)
    return says, chains


def late(says: Running, chains: Mapping[int, rules.Chains]) -> list[tuple[str, str]]:
    """(jail, address) for each ban of the server that is no rule of the jail's chain."""
    found = []
    for jail, addresses in says.bans.items():
        ruled = {source for found in chains.values() for source in rules.kept_out(found, jail)}
        found += [(jail, a) for a in addresses if rules.source(a) and rules.source(a) not in ruled]
    return found


def complaint(ran: Ran) -> str:
    """The first error that a command of fail2ban's logs, which names the cause; else all that it
    said.
    """
    text = ran.err or ran.out
    errors = [entry for entry in _ENTRY.split(text) if entry.startswith("ERROR")]
    words = (errors[0].removeprefix("ERROR") if errors else text).split()
    return " ".join(words) or f"status {ran.status}"


def _lines(host: Host, kind: str) -> dict[str, list[config.Line]]:
    paths = config.in_reading_order(kind, host.glob)
    return {path: config.parse(path, host.read(path) or "") for path in paths}


def _access(host: Host, links: bool) -> dict[str, str]:
    """Who may do what with the files and folders of the configuration and the database; or with
    what links lead to, unless that is no file, such as /dev/null.
    """
    folder = fail2ban.FOLDER
    paths = [folder, *host.glob(f"{folder}/*"), *host.glob(f"{folder}/*.d/*")]
    paths += ["/var/lib/fail2ban", *host.glob("/var/lib/fail2ban/*")]
    chosen = (path for path in paths if host.path(path).is_symlink() == links)
    found = {path: host.attributes(path) for path in chosen if _is_ordinary(host, path)}
    return {path: attributes.access for path, attributes in found.items() if attributes}


def _is_ordinary(host: Host, path: str) -> bool:
    return host.path(path).is_file() or host.path(path).is_dir()


def _filters(host: Host) -> list[str]:
    """The names of the filters that the host has."""
    paths = host.glob(f"{fail2ban.FOLDER}/filter.d/*.conf")
    paths += host.glob(f"{fail2ban.FOLDER}/filter.d/*.local")
    return sorted({path.rsplit("/", 1)[1].rpartition(".")[0] for path in paths})


def _edited(host: Host) -> list[str]:
    """Files that are not as the distribution ships them, and what is laid over a filter, an action
    or paths; a site's own ones, under names of their own, are no edits. Drop-ins, ``jail.local``
    and ``fail2ban.local`` are for settings, which are judged by what they say.
    """
    status = host.read(_STATUS) or ""
    start = status.find("\nPackage: fail2ban\n")
    shipped = dict(_CONFFILE.findall(status[start : status.find("\n\n", start + 1)]))
    found = []
    for path, digest in shipped.items():
        if not path.startswith(f"{fail2ban.FOLDER}/") or path.startswith(_DROP_INS):
            continue
        text = host.read(path)
        data = (text or "").encode(errors="surrogateescape")
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != digest:
            found.append(path)
        local = f"{path.removesuffix('.conf')}.local"
        if path not in _MAIN and host.attributes(local) is not None:
            found.append(local)
    overrides = f"{fail2ban.FOLDER}/paths-overrides.local"
    return found + ([overrides] if host.attributes(overrides) is not None else [])

"""Where the log server listens, what strangers get there, and whether hosts get through to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rocksalt import logstash
from rocksalt.errors import NoSuch
from rocksalt.findings import Seen, some
from rocksalt.firewall import sockets
from rocksalt.firewall.policy import Policy
from rocksalt.logstash import certified, knocking, roles
from rocksalt.logstash.facts import Facts
from rocksalt.nrpe import tls
from rocksalt.pki import held


def _places(it: Facts) -> list[str]:
    """Address and port of each host, as they are listed."""
    settings = roles.receiver(it.setup)
    address = sockets.normalised(settings["address"])
    return sorted(f"{address} {port}" for port in settings["hosts"].values())


def expected(it: Facts) -> dict[str, Any]:
    """Where the log server is to listen; strangers are refused, hosts get through."""
    found: dict[str, Any] = {"listens on": _places(it)}
    outcomes = dict.fromkeys(("without a certificate", "certificate of others"), tls.REFUSED)
    other = {"certificate of another host": tls.REFUSED} if _other(it) else {}
    return {**found, **outcomes, **other, "without TLS": tls.REFUSED, "firewall": "lets hosts in"}


def _other(it: Facts) -> tuple[str, int] | None:
    """A host that is not this one, and its port: this host's certificate is not for it."""
    hosts = sorted(roles.receiver(it.setup)["hosts"].items())
    own = held.read(it.host, certified.HOST)
    return next((at for at in hosts if at[0] != it.setup.minion and own.complete), None)


def seen(it: Facts) -> Seen:
    """Where it listens, and what became of knocking at the port of one host."""
    try:
        found = sockets.listeners(it.host)
    except NoSuch as error:
        return Seen(problem="error", reason=str(error))
    places = sorted(f"{at.address} {at.port}" for at in found if at.user == logstash.USER)
    actual: dict[str, Any] = {"listens on": places, **_outcomes(it), "firewall": "lets hosts in"}
    wanted = expected(it)
    why = [f"it does not listen on {at}" for at in wanted["listens on"] if at not in places]
    why += [f"it listens on {at}" for at in places if at not in wanted["listens on"]]
    why += [
        f"{way}: {outcome}" for way, outcome in actual.items()
        if way not in ("listens on", "firewall") and outcome != tls.REFUSED
    ]  # fmt: skip
    shut = shut_ports(it)
    if shut:
        actual["firewall"] = shut
    return Seen(actual, some([*why, *shut]), remedy="manual" if shut and not why else "")


def _outcomes(it: Facts) -> dict[str, str]:
    """What strangers get at the port of one host."""
    settings, other = roles.receiver(it.setup), _other(it)
    name, port = other or min(settings["hosts"].items())
    own = tuple(str(it.host.path(path)) for path in (logstash.CERTIFICATE, logstash.KEY))
    said = knocking.knock(settings["address"], port, name, (own[0], own[1]) if other else None)
    outcomes = {
        "without a certificate": said.without_certificate,
        "certificate of others": said.foreign_certificate,
        "without TLS": said.plain,
    }
    return {**outcomes, "certificate of another host": said.other_host} if other else outcomes


def shut_ports(it: Facts) -> list[str]:
    """Why hosts would not get through to the log server, a sentence each."""
    family = it.setup.baseline.families.get("firewall")
    if not family or not family.settings["enabled"]:
        return []
    open_ports = {at.port for at in Policy(it.setup.baseline).access() if at.protocol == "tcp"}
    raw = [
        line for rules in family.settings["raw_rules"].values() for line in rules.get("input", [])
    ]
    named = [pair for line in raw for pair in _let_in(line)]
    ports = sorted(roles.receiver(it.setup)["hosts"].values())
    shut = [
        port for port in ports
        if port not in open_ports and not any(first <= port <= last for first, last in named)
    ]  # fmt: skip
    if not shut:
        return []
    declared = [
        name for name, service in family.settings["services"].items()
        if {*shut} <= {*service.get("tcp", [])}
    ]  # fmt: skip
    if declared:
        where = family.where("allow")
        return [f"{where}: lets nobody in at {declared[0]}; write {declared[0]}: [networks] there"]
    return [
        f"{family.where('services')}: none has tcp/{', tcp/'.join(map(str, shut))}, where "
        f"{logstash.TOP}:ports makes this host listen; name one and allow it"
    ]


def _let_in(rule: str) -> Iterator[tuple[int, int]]:
    """The ranges of ports that a raw rule accepts."""
    if not re.search(r"(?:-j|--jump)\s+ACCEPT\b", rule):
        return
    for ports in re.findall(r"(?<!! )--(?:dports?|destination-ports?)\s+([\d,:]+)", rule):
        for part in ports.split(","):
            first, _, last = part.partition(":")
            if first and (last or ":" not in part):
                yield int(first), int(last or first)

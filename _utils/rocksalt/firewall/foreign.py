"""What else on the host decides about packets, beside the rules that iptables shows."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rocksalt.errors import NoSuch
from rocksalt.host import Host, unit_properties

FAMILIES = {"ip": "iptables", "ip6": "ip6tables"}
"""The families of nftables that iptables has rules in, and the program of each."""

_BUILT_IN: Mapping[str, Mapping[str, int]] = {
    "filter": {"INPUT": 0, "FORWARD": 0, "OUTPUT": 0},
    "security": {"INPUT": 150, "FORWARD": 150, "OUTPUT": 150},
    "raw": {"PREROUTING": -300, "OUTPUT": -300},
    "nat": {"PREROUTING": -100, "OUTPUT": -100, "INPUT": 100, "POSTROUTING": 100},
    "mangle": dict.fromkeys(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"), -150),
}
"""The chains that iptables hooks in by itself: table -> chain -> priority."""

UNITS = {
    "nftables.service": "flushes every rule set and loads /etc/nftables.conf",
    "netfilter-persistent.service": "loads the rules saved in /etc/iptables",
    "ufw.service": "loads the rules of ufw",
    **{
        f"{name}.service": f"loads the rules of {name}"
        for name in (
            *("firewalld", "ferm", "firehol", "arno-iptables-firewall"),
            *("shorewall", "shorewall6", "shorewall-lite", "shorewall6-lite", "shorewall-init"),
        )
    },
}
"""Programs that load rule sets of their own: unit -> what it does when it starts."""

_AT_BOOT = ("enabled", "enabled-runtime", "generated")
_PROPERTIES = "Id,ActiveState,UnitFileState"
_UFW = "/etc/ufw/ufw.conf"


@dataclass(frozen=True)
class Hook:
    """A base chain or a flowtable of nftables: where in the kernel it is hooked to."""

    family: str
    table: str
    kind: str
    name: str
    hook: str
    priority: Any

    @property
    def iptables(self) -> bool:
        """Whether it is a chain that iptables-nft made, and so shows."""
        return (
            self.kind == "chain"
            and self.hook == self.name.lower()
            and _BUILT_IN.get(self.table, {}).get(self.name) == self.priority
        )

    def __str__(self) -> str:
        return (
            f"nftables table {self.family} {self.table} has {self.kind} {self.name!r} hooked to "
            f"{self.hook}, which iptables does not show"
        )


def look(host: Host, tolerated: Iterable[str] = ()) -> list[str]:
    """A sentence for each thing that decides about packets and is not in the rule set that iptables
    shows; ``tolerated`` are globs of names of nftables tables that may be there.

    Raises :class:`NoSuch` when iptables or nft cannot be asked.
    """
    kept = list(tolerated)
    used = {family: back_end(_ask(host, it, "--version")) for family, it in FAMILIES.items()}
    nft = [family for family, kind in used.items() if kind == "nf_tables"]
    ruleset = hooks(_ask(host, "nft", "-j", "list chains; list flowtables"))
    found = [
        str(hook)
        for hook in ruleset
        if not (hook.family in nft and hook.iptables)
        and not any(fnmatch.fnmatchcase(hook.table, pattern) for pattern in kept)
    ]
    for family in nft:
        found += _of_legacy(host, family)
    return [*dict.fromkeys(found), *_of_units(host)]


def _ask(host: Host, *command: str) -> str:
    ran = host.run(*command)
    if ran.status:
        why = " ".join(ran.err.split()) or f"status {ran.status}"
        raise NoSuch(f"what else decides about packets is unknown, {command[0]} fails: {why}")
    return ran.out


def back_end(version: str) -> str:
    """``nf_tables`` or ``legacy``, from ``iptables --version``."""
    return "nf_tables" if "(nf_tables)" in version else "legacy"


def hooks(text: str) -> list[Hook]:
    """The base chains and flowtables in what ``nft -j`` prints: one document for each question."""
    entries = [
        (kind, it)
        for line in text.splitlines()
        for entry in json.loads(line)["nftables"]
        for kind, it in entry.items()
    ]
    return [
        Hook(it["family"], it["table"], kind, it["name"], it["hook"], it["prio"])
        for kind, it in entries
        if kind in ("chain", "flowtable") and "hook" in it
    ]


def _of_legacy(host: Host, family: str) -> Iterator[str]:
    """Rules of the legacy back end, while iptables uses the other. Its tool is asked only where
    there are tables, for asking makes them.
    """
    if (host.read(f"/proc/net/{family}_tables_names") or "").split():
        for table, facts in legacy_rules(_ask(host, f"{FAMILIES[family]}-legacy-save")).items():
            yield f"{FAMILIES[family]}-legacy table {table} has {facts}"


def legacy_rules(text: str) -> dict[str, str]:
    """Table -> what it holds (``2 rules and policy DROP for INPUT``), of those tables in the output
    of ``iptables-legacy-save`` that could decide about a packet.
    """
    found = {}
    for table, body in re.findall(r"^\*(\S+)\n(.*?)^COMMIT$", text, re.MULTILINE | re.DOTALL):
        rules = len(re.findall(r"^(?:\[\d+:\d+\] )?-A ", body, re.MULTILINE))
        facts = [f"{rules} rule{'s' if rules > 1 else ''}"] if rules else []
        facts += [
            f"policy {policy} for {chain}"
            for chain, policy in re.findall(r"^:(\S+) ([A-Z]+) ", body, re.MULTILINE)
            if policy != "ACCEPT"
        ]
        if facts:
            found[table] = " and ".join(facts)
    return found


def _of_units(host: Host) -> list[str]:
    """Programs that load rule sets of their own. Ubuntu has ufw enabled even where it is switched
    off in its own configuration, and then it loads nothing.
    """
    ufw = re.search(r"^ENABLED=[\"']?yes\b", host.read(_UFW) or "", re.MULTILINE | re.IGNORECASE)
    idle = () if ufw else ("ufw.service",)
    return loaders(_ask(host, "systemctl", "show", *UNITS, "-p", _PROPERTIES), idle)


def loaders(text: str, idle: Collection[str] = ()) -> list[str]:
    """The units of :data:`UNITS` that are active or start at boot, from ``systemctl show``, but for
    the ``idle`` ones.
    """
    found = []
    for unit in unit_properties(text):
        name = unit.get("Id", "")
        states = (
            "starts at boot" if unit.get("UnitFileState") in _AT_BOOT else "",
            "is active" if unit.get("ActiveState") in ("active", "activating", "reloading") else "",
        )
        if name in UNITS and name not in idle and any(states):
            found.append(f"{name} {' and '.join(filter(None, states))}: it {UNITS[name]}")
    return found

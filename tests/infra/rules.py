"""Rules of the packet filter, as ``iptables-save`` shows them."""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NOWHERE = ("LOG", "NFLOG", "")  # targets after which the next rule is tried


@dataclass(frozen=True)
class Rule:
    """One rule: its words, without those that add a chain or a remark."""

    chain: str
    words: tuple[str, ...]

    def option(self, name: str) -> str:
        """The value of an option such as ``--dport``; empty where it is not there, or negated."""
        if name not in self.words:
            return ""
        place = self.words.index(name)
        return "" if self.words[place - 1] == "!" else self.words[place + 1]

    @property
    def target(self) -> str:
        return self.option("-j") or self.option("-g")

    @property
    def ports(self) -> list[int]:
        """The ports it names as those to go to, single ones and lists."""
        named = self.option("--dport") or self.option("--dports")
        found: list[int] = []
        for part in filter(None, named.split(",")):
            first, _, last = part.partition(":")
            found += range(int(first or 0), int(last or (65535 if ":" in part else first)) + 1)
        return found

    def __str__(self) -> str:
        return " ".join(("-A", self.chain, *self.words))


@dataclass(frozen=True)
class Filter:
    """The table ``filter`` of one IP version: policies of its own chains, and all rules."""

    policies: dict[str, str]
    rules: tuple[Rule, ...]

    def of(self, chain: str) -> list[Rule]:
        return [rule for rule in self.rules if rule.chain == chain]


@dataclass(frozen=True)
class Program:
    """What a declared program may have: jumps to chains of these names, in FORWARD rules about
    these interfaces, and tables of nftables. ``first``: in INPUT and OUTPUT also before ours.
    """

    chains: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    first: bool = False


PROGRAMS = {
    "fail2ban": Program(("f2b-*",), tables=("f2b-table",)),
    "ossec": Program(("OSSEC", "OSSEC-*")),
    "docker": Program(("DOCKER", "DOCKER-*"), ("docker0", "br-*", "docker_gwbridge"), ("docker*",)),
    "libvirt": Program(("LIBVIRT_*",), ("virbr*",), ("libvirt*",), first=True),
    "kubernetes": Program(
        ("KUBE-*", "CNI-*", "cali-*", "FLANNEL-*", "CILIUM_*"),
        ("cni0", "cali*", "flannel*", "veth*"),
        ("kube-*", "cali*"),
        first=True,
    ),
    "vpn": Program(interfaces=("tun*", "tap*", "wg*")),
}
BANNING = ("fail2ban", "ossec")


def like(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def owned(rule: Rule, programs: Iterable[str]) -> bool:
    """Whether a rule of a built-in chain is one of these programs'."""
    sides = [rule.option("-i"), rule.option("-o")] if rule.chain == "FORWARD" else []
    return any(
        like(rule.target, it.chains) or any(like(side, it.interfaces) for side in sides)
        for it in (PROGRAMS[name] for name in programs)
    )


def misplaced(rules: Sequence[Rule], ours: str, programs: Sequence[str]) -> list[str]:
    """What of a built-in chain stands before the jump to ours, or is no declared program's."""
    places = [n for n, it in enumerate(rules) if it.words == ("-j", ours)]
    if len(places) != 1:
        return [f"there are {len(places)} jumps to {ours}"]
    forwarding = [it for it in programs if it not in BANNING]
    early = [it for it in forwarding if rules[0].chain == "FORWARD" or PROGRAMS[it].first]
    return [
        str(it)
        for n, it in enumerate(rules)
        if n != places[0] and not owned(it, early if n < places[0] else programs)
    ]


def without(rules: Sequence[Rule], some: Iterable[Rule]) -> list[Rule]:
    """The rules but for some, of which each has to be there."""
    left = list(rules)
    for it in some:
        assert it in left, f"{it} is declared and not there"
        left.remove(it)
    return left


def rule(line: str) -> Rule:
    words = shlex.split(line)
    chain, words = words[1], words[2:]
    while "--comment" in words:
        place = words.index("--comment")
        before = place - 2 if words[place - 2 : place] == ["-m", "comment"] else place
        words = [*words[:before], *words[place + 2 :]]
    return Rule(chain, tuple(words))


def table(lines: Iterable[str]) -> Filter:
    """The table of that name in what ``iptables-save`` printed, or a file for its counterpart."""
    policies, rules, inside = {}, [], False
    for line in lines:
        if line.startswith("*"):
            inside = line.strip() == "*filter"
        elif inside and line.startswith(":"):
            chain, policy = line[1:].split()[:2]
            policies[chain] = policy
        elif inside and line.startswith("-A "):
            rules.append(rule(line))
    return Filter(policies, tuple(rules))

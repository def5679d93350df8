"""Rules of the packet filter, as ``iptables-save`` shows them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
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
        return [int(port) for port in named.split(",") if port.isdigit()]

    def __str__(self) -> str:
        return " ".join(("-A", self.chain, *self.words))


@dataclass(frozen=True)
class Filter:
    """The table ``filter`` of one IP version: policies of its own chains, and all rules."""

    policies: dict[str, str]
    rules: tuple[Rule, ...]

    def of(self, chain: str) -> list[Rule]:
        return [rule for rule in self.rules if rule.chain == chain]


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

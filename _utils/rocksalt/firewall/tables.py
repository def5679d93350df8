"""Rule sets as ``iptables-save`` prints them: read, brought into one form, compared, and turned
into the lines that make one of the other.

Only the table ``filter`` is looked at; a rule is its text without ``-A CHAIN``.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rocksalt.errors import Refused
from rocksalt.firewall import BANS, DOCKER, DOCKER_USER, JUMPS, VERSIONS
from rocksalt.host import Host

PROGRAMS = {4: "iptables", 6: "ip6tables"}
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_TARGET = re.compile(r"(?:^| )-[jg] (\S+)")
_INTERFACE = re.compile(r"(?:^|(?<!!) )-[io] (\S+)")
_BUILT_IN = ("INPUT", "FORWARD", "OUTPUT")


@dataclass(frozen=True)
class Table:
    """The filter table of one IP version: policies of the built-in chains, rules of every chain."""

    policies: Mapping[str, str] = field(default_factory=dict)
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Foreign:
    """What others may have in the built-in chains: jumps to chains of these names (globs), and
    rules about packets from or to interfaces of these names in FORWARD. ``first`` says whether
    their jump may stand before ours in INPUT.
    """

    chains: tuple[str, ...]
    interfaces: tuple[str, ...] = ()
    first: bool = False


FOREIGN = {
    "fail2ban": Foreign(("f2b-*",)),
    "ossec": Foreign(("OSSEC", "OSSEC-*")),
    "docker": Foreign(("DOCKER", "DOCKER-*"), ("docker0", "br-*", "docker_gwbridge")),
    "libvirt": Foreign(("LIBVIRT_*",), ("virbr*",), first=True),
    "kubernetes": Foreign(
        ("KUBE-*", "CNI-*", "cali-*", "FLANNEL-*", "CILIUM_*"),
        ("cni0", "cali*", "flannel*", "veth*"),
        first=True,
    ),
    "vpn": Foreign((), ("tun*", "tap*", "wg*")),
}
BANNING = ("fail2ban", "ossec")


def parse(text: str) -> Table:
    """The filter table of the output of ``iptables-save``."""
    policies: dict[str, str] = {}
    chains: dict[str, list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif table != "filter":
            continue
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            chains[name] = []
            if policy != "-":
                policies[name] = policy
        elif line.startswith("-A "):
            _, name, *rule = line.split(" ", 2)
            chains.setdefault(name, []).append(rule[0] if rule else "")
    return Table(policies, {name: tuple(rules) for name, rules in chains.items()})


def read(host: Host, version: int) -> Table:
    """The live filter table."""
    program = f"{PROGRAMS[version]}-save"
    ran = host.run(program, "-t", "filter")
    if ran.status:
        raise Refused(f"{program} failed: {' '.join(ran.err.split())}")
    return parse(ran.out)


def restore_text(chains: Mapping[str, Sequence[str]]) -> str:
    """Chains as input of ``iptables-restore --noflush``: they are made or emptied, and filled."""
    lines = [f":{name} - [0:0]" for name in chains]
    lines += [f"-A {name} {rule}" for name, rules in chains.items() for rule in rules]
    return transaction(lines)


def transaction(lines: Iterable[str]) -> str:
    """Lines as one transaction of the filter table."""
    return "\n".join(["*filter", *lines, "COMMIT", ""])


_CANONICAL = """
rules=$(cat)
for program in iptables ip6tables; do
    printf '%s\\n' "$rules" | sed -n "/^#$program/,/^#end/p" |
        $program-restore --noflush --wait 10 && $program-save -t filter
    echo "#status $?"
done
"""


def canonical(host: Host, wanted: Mapping[int, Mapping[str, Sequence[str]]]) -> dict[int, Table]:
    """Our chains as iptables itself prints them, from an empty network namespace into which they
    are loaded: what iptables does not accept is refused here, before anything was touched.
    """
    texts = {version: restore_text({BANS: (), **wanted[version]}) for version in VERSIONS}
    text = "".join(f"#{PROGRAMS[v]}\n{rules}#end\n" for v, rules in texts.items())
    ran = host.run("unshare", "--net", "sh", "-c", _CANONICAL, text=text)
    parts = re.split(r"#status (\d+)\n", ran.out)
    if ran.status or len(parts) != 5:
        raise Refused(f"rules cannot be tried in a network namespace: {' '.join(ran.err.split())}")
    for version, status in zip(VERSIONS, parts[1::2], strict=True):
        if status != "0":
            raise Refused(_complaint(["", *texts[version].splitlines()], ran.err))
    return {v: parse(part) for v, part in zip(VERSIONS, parts[::2], strict=False)}


def _complaint(lines: Sequence[str], said: str) -> str:
    """What iptables said about which of the lines it read."""
    found = re.search(r"line:? (\d+)", said)
    number = int(found.group(1)) - 1 if found else -1
    rule = f" about {lines[number]!r}" if 0 <= number < len(lines) else ""
    said = " ".join(said.split("Try `")[0].split())
    return f"iptables does not accept the rules: {said}{rule}"


# What is whose -------------------------------------------------------------------------------


def target(rule: str) -> str:
    """The chain or verdict that a rule leads to, which is not what its comment speaks of."""
    found = _TARGET.search(_QUOTED.sub('""', rule))
    return found.group(1) if found else ""


def tolerated(rule: str, chain: str, programs: Iterable[str]) -> bool:
    """Whether a rule of a built-in chain belongs to a declared program."""
    for foreign in (FOREIGN[name] for name in programs):
        if any(fnmatch.fnmatchcase(target(rule), pattern) for pattern in foreign.chains):
            return True
        if chain == "FORWARD" and _about(rule, foreign.interfaces):
            return True
    return False


def _about(rule: str, patterns: Sequence[str]) -> bool:
    """Whether a rule is about one of these interfaces, not about all the others (``! -i``)."""
    return any(
        fnmatch.fnmatchcase(interface, pattern)
        for interface in _INTERFACE.findall(_QUOTED.sub('""', rule))
        for pattern in patterns
    )


def bans(table: Table, programs: Iterable[str]) -> list[str]:
    """Rules of INPUT that lead to chains of banning programs."""
    banning = [name for name in programs if name in BANNING]
    return [rule for rule in table.chains.get("INPUT", ()) if tolerated(rule, "INPUT", banning)]


def arranged(table: Table, chain: str, programs: Sequence[str]) -> list[str]:
    """A chain that leads to ours as it should be: our jump once, first except for programs that
    insist, and of others only what is declared.
    """
    jump = f"-j {JUMPS[chain]}"
    if chain == DOCKER_USER:
        return [jump, *(rule for rule in table.chains.get(chain, ()) if rule != jump)]
    if chain == "FORWARD" and "docker" in programs and "DOCKER" in table.chains:
        return _before_docker(table, programs)
    others = [
        rule
        for rule in table.chains.get(chain, ())
        if rule != jump and tolerated(rule, chain, programs)
    ]
    forwarding = [name for name in programs if name not in BANNING]
    insisting = forwarding if chain == "FORWARD" else [n for n in forwarding if FOREIGN[n].first]
    before: list[str] = []
    for rule in table.chains.get(chain, ()):
        if rule == jump or not tolerated(rule, chain, insisting):
            break
        before.append(rule)
    return [*before, jump, *others[len(before) :]]


def _before_docker(table: Table, programs: Sequence[str]) -> list[str]:
    """FORWARD with Docker's rules: what users may say comes before all that Docker accepts."""
    ours, users = f"-j {JUMPS['FORWARD']}", f"-j {DOCKER_USER}"
    rules = [
        rule
        for rule in table.chains.get("FORWARD", ())
        if rule == ours or tolerated(rule, "FORWARD", programs)
    ]
    if rules[:1] == [users] and rules.count(users) == rules.count(ours) == 1:
        return rules
    return [users, ours, *(rule for rule in rules if rule not in (ours, users))]


def strangers(table: Table, programs: Iterable[str]) -> list[str]:
    """Rules of our chain for bans that lead elsewhere than to the chains of banning programs."""
    banning = [name for name in programs if name in BANNING]
    return [rule for rule in table.chains.get(BANS, ()) if not tolerated(rule, "INPUT", banning)]


# From one to the other -----------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """What the filter table is to become: ``chains`` of ours with their rules, built-in ``chains``
    to be ``arranged`` among declared ``programs``, and ``policies``.
    """

    chains: Mapping[str, tuple[str, ...]]
    arranged: tuple[str, ...] = _BUILT_IN
    policies: Mapping[str, str] = field(default_factory=dict)
    programs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Lines for ``iptables-restore --noflush`` that make the difference, and those that take it
    back; both empty when there is none.
    """

    forth: tuple[str, ...] = ()
    back: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.forth)

    @property
    def text(self) -> str:
        return transaction(self.forth)

    @property
    def undo(self) -> str:
        return transaction(self.back)


def plan(live: Table, goal: Goal) -> Plan:
    """How to get from the live table to the goal: chains of others are neither emptied nor written.

    Both ways are one transaction each: a reader, and a packet, meets the old table or the new one.
    The chains for bans and of Docker, once made, stay on the way back, for others may use them by
    then.
    """
    forth: list[str] = []
    back: list[str] = []
    changed = {n: rules for n, rules in goal.chains.items() if live.chains.get(n) != rules}
    gone, returned = _left_over(live, goal)
    copies = [r for r in bans(live, goal.programs) if r not in live.chains.get(BANS, ())]
    needed = [BANS] if goal.chains or copies else []
    needed += [DOCKER_USER] if DOCKER_USER in goal.arranged else []
    forth += [f":{name} - [0:0]" for name in needed if name not in live.chains]
    forth += [f":{name} - [0:0]" for name in changed]
    forth += [f"-A {name} {rule}" for name, rules in changed.items() for rule in rules]
    forth += [f"-A {BANS} {rule}" for rule in copies]
    strange, strangely = _without_strangers(live, goal)
    forth += strange
    for chain in goal.arranged:
        there, undo = _rearranged(
            chain, live.chains.get(chain, ()), arranged(live, chain, goal.programs)
        )
        forth += there
        back += undo
    forth += gone
    for chain, policy in goal.policies.items():
        if live.policies.get(chain) != policy:
            forth.append(f"-P {chain} {policy}")
            back.insert(0, f"-P {chain} {live.policies.get(chain, 'ACCEPT')}")
    back += [f"-D {BANS} {rule}" for rule in copies] + strangely
    back += [*_back_to(live, list(changed)), *returned]
    return Plan(tuple(forth), tuple(back) if forth else ())


def _without_strangers(live: Table, goal: Goal) -> tuple[list[str], list[str]]:
    """Lines that take out of our chain for bans what is no ban, and the lines back."""
    strange = strangers(live, goal.programs) if goal.arranged else []
    rules = live.chains.get(BANS, ())
    places = [(n, rule) for n, rule in enumerate(rules, 1) if rule in strange]
    forth = [f"-D {BANS} {number}" for number, _ in reversed(places)]
    return forth, [f"-I {BANS} {number} {rule}" for number, rule in places]


def _left_over(live: Table, goal: Goal) -> tuple[list[str], list[str]]:
    """Lines that take our chain for Docker away where Docker is no longer declared, and the lines
    back.
    """
    if DOCKER not in live.chains or DOCKER in goal.chains or "docker" in goal.programs:
        return [], []
    jump = f"-j {DOCKER}"
    places = [n for n, r in enumerate(live.chains.get(DOCKER_USER, ()), 1) if r == jump]
    forth = [f"-D {DOCKER_USER} {jump}" for _ in places]
    back = [f"-I {DOCKER_USER} {place} {jump}" for place in places]
    return [*forth, f"-F {DOCKER}", f"-X {DOCKER}"], [*_back_to(live, [DOCKER]), *back]


def _rearranged(chain: str, now: Sequence[str], then: Sequence[str]) -> tuple[list[str], list[str]]:
    """Lines that make the rules ``then`` of the rules ``now``, and the lines back. ``then`` has
    nothing new but our jump, and Docker's own for its users: others go, and these come to their
    place.
    """
    if list(now) == list(then):
        return [], []
    placed = {f"-j {JUMPS[chain]}", *([f"-j {DOCKER_USER}"] if chain == "FORWARD" else [])}
    placed &= set(then)
    kept = [rule for rule in then if rule not in placed]
    gone = []
    for position, rule in enumerate(now, 1):
        if kept and rule == kept[0]:
            kept.pop(0)
        else:
            gone.append((position, rule))
    # By its text where that is clear: somebody else may have added a rule since we read them.
    forth = [
        f"-D {chain} {rule if now.count(rule) == 1 else position}"
        for position, rule in reversed(gone)
    ]
    forth += [f"-I {chain} {n} {rule}" for n, rule in enumerate(then, 1) if rule in placed]
    back = [f"-D {chain} {rule}" for rule in reversed(then) if rule in placed]
    back += [f"-I {chain} {position} {rule}" for position, rule in gone]
    return forth, back


def _back_to(live: Table, names: Sequence[str]) -> list[str]:
    """Our chains as they were; those that are new go, after nothing leads to them any more."""
    old = [name for name in names if name in live.chains]
    new = [name for name in names if name not in live.chains]
    return [
        *(f":{name} - [0:0]" for name in old),
        *(f"-A {name} {rule}" for name in old for rule in live.chains[name]),
        *(f"-F {name}" for name in new),
        *(f"-X {name}" for name in new),
    ]


def apply(host: Host, version: int, text: str) -> None:
    """Runs a transaction."""
    ran = host.run(f"{PROGRAMS[version]}-restore", "--noflush", "--wait", "10", text=text)
    if ran.status:
        raise Refused(_complaint(text.splitlines(), ran.err))


def difference(now: Sequence[str] | None, then: Sequence[str]) -> str:
    """In words, what is different between two lists of rules; empty when nothing is."""
    if now is None:
        return "the chain does not exist"
    missing = _without(then, now)
    extra = _without(now, then)
    parts = [f"missing {_listed(missing)}"] if missing else []
    parts += [f"not declared {_listed(extra)}"] if extra else []
    if not parts and list(now) != list(then):
        parts = ["the rules stand in another order"]
    return "; ".join(parts)


def _without(rules: Sequence[str], others: Sequence[str]) -> list[str]:
    left = list(others)
    found = []
    for rule in rules:
        if rule in left:
            left.remove(rule)
        else:
            found.append(rule)
    return found


def _listed(rules: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(f"`{rule}`" for rule in rules[:most])
    return shown if len(rules) <= most else f"{shown} and {len(rules) - most} more"

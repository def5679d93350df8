"""What each control of the family expects, and what was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rocksalt import findings
from rocksalt.errors import RocksaltError
from rocksalt.findings import AS_RENDERED, Seen, compared
from rocksalt.firewall import (
    BANS,
    DOCKER,
    DOCKER_USER,
    FAMILY,
    FORWARD,
    INPUT,
    JUMPS,
    OUTPUT,
    VERSIONS,
    change,
    files,
    foreign,
    problems,
    reach,
    sockets,
    tables,
)
from rocksalt.firewall.policy import MANAGEMENT, Facts, Policy
from rocksalt.host import Host
from rocksalt.settings import Baseline

POLICIES, INCOMING, ORDER, PASSING, OUTGOING = "FW-001", "FW-002", "FW-003", "FW-004", "FW-005"
ON_DISK, AT_BOOT, GUARDED, ALONE = "FW-006", "FW-007", "FW-008", "FW-009"
WAY_IN, LISTENING, OPEN, CONFIRMED = "FW-010", "FW-011", "FW-012", "FW-013"
_AS_DECLARED = "as declared"
_RAW, _NARROW = "raw rules", "narrow enough"
_NOT_INSTALLED = "iptables is not installed"


@dataclass(frozen=True)
class Reading:
    """The host as it is: the live filter table of each IP version, the files of ours, our units as
    systemd knows them, and which sockets listen.
    """

    live: Mapping[int, tables.Table]
    texts: Mapping[str, str | None]
    units: Mapping[str, Mapping[str, str]]
    listeners: Sequence[sockets.Listener]
    installed: bool = True


def facts(host: Host) -> Facts:
    """What of the host decides about the rules. Routers that were let in once stay so: their route
    is gone while they are away, and must be able to come back.
    """
    routes = host.run("ip", "-6", "-json", "route", "show", "proto", "ra").out
    before = host.read(files.rules(6)) or ""
    return Facts(
        apt="\n_apt:" in (host.read("/etc/passwd") or ""),
        routers=routes.strip() not in ("", "[]") or "--icmpv6-type 134 " in before,
    )


class Firewall:
    """The comparison for one host."""

    def __init__(self, baseline: Baseline, host: Host):
        self.baseline = baseline
        self.host = host
        settings = baseline.families[FAMILY].settings
        found = facts(host)
        if settings["router_advertisements"] != "auto":
            found = Facts(found.apt, settings["router_advertisements"] == "accept")
        self.policy = Policy(baseline, found)
        self.settings = self.policy.settings
        self.wanted = set(findings.wanted(baseline, FAMILY, self.expected()))
        self.installed = not host.run("iptables", "--version").status
        self.declared = self._canonical(self.policy.chains)
        self.reading = self._read()

    def _canonical(self, chains: Callable[[int], Any]) -> dict[int, tables.Table]:
        wanted = {version: chains(version) for version in VERSIONS}
        if not self.installed:
            return {
                v: tables.Table({}, {n: tuple(r) for n, r in wanted[v].items()}) for v in wanted
            }
        return tables.canonical(self.host, wanted)

    def _read(self) -> Reading:
        if not self.installed:
            nothing = dict.fromkeys(VERSIONS, tables.Table())
            return Reading(nothing, {}, {}, [], installed=False)
        texts = {**self.loading(), **self.persisted()}
        services = [access.port for access in self.policy.access()]
        return Reading(
            live={version: tables.read(self.host, version) for version in VERSIONS},
            texts={path: self.host.read(path) for path in texts},
            units=files.units_shown(self.host),
            listeners=sockets.listeners(self.host, services),
        )

    # What we want ------------------------------------------------------------------------------

    @property
    def policies(self) -> dict[str, str]:
        outgoing = "ACCEPT" if self.settings["output"] == "allow" else "DROP"
        return {"INPUT": "DROP", "FORWARD": "DROP", "OUTPUT": outgoing}

    @property
    def names(self) -> list[str]:
        """Our chains that hold rules, without those of excused controls."""
        controls = {INPUT: INCOMING, OUTPUT: OUTGOING}
        return [
            name for name in self.policy.chains(4) if controls.get(name, PASSING) in self.wanted
        ]

    @property
    def wanted_policies(self) -> dict[str, str]:
        """The policies, without those of excused controls."""
        return {
            chain: policy
            for chain, policy in self.policies.items()
            if (OUTGOING if chain == "OUTPUT" else POLICIES) in self.wanted
        }

    def loading(self) -> dict[str, str]:
        """The loader and its units: path -> text."""
        return files.loading(self.settings["guard_interval"], self.names, self.wanted_policies)

    def persisted(self) -> dict[str, str]:
        """The rules on disk: path -> text."""
        declared = {v: self._own(self.declared[v]) for v in VERSIONS}
        return files.persisted(declared, self.emergency())

    def files_of(self, control: str) -> dict[str, str]:
        """The files by which a control holds: path -> text."""
        paths = {
            ON_DISK: self._rule_files(),
            AT_BOOT: self._boot_files(),
            GUARDED: self._guard_files(),
        }
        texts = {**self.loading(), **self.persisted()}
        return {path: texts[path] for path in paths.get(control, ())}

    def _own(self, table: tables.Table) -> dict[str, tuple[str, ...]]:
        return {name: table.chains[name] for name in self.names}

    def emergency(self) -> dict[int, dict[str, list[str]]]:
        """The rules for the case that the declared ones cannot be loaded."""
        return {version: self.policy.emergency(version) for version in VERSIONS}

    def plans(self) -> dict[int, tables.Plan]:
        """How the live tables become the declared ones, as far as no control is excused."""
        return {version: self._plan(version) for version in VERSIONS}

    def _plan(self, version: int) -> tables.Plan:
        live, chains = self.reading.live[version], self._own(self.declared[version])
        leading = [
            chain for chain, ours in JUMPS.items() if ORDER in self.wanted and ours in self.names
        ]
        programs = tuple(self.policy.programs)
        goal = tables.Goal(chains, tuple(leading), self.wanted_policies, programs)
        return tables.plan(live, goal)

    # Expected and seen -------------------------------------------------------------------------

    def expected(self) -> dict[str, Any]:
        """Control id -> what it expects."""
        per_version = [f"IPv{version}" for version in VERSIONS]
        policies = {
            f"{name} {chain}": policy
            for name in per_version
            for chain, policy in self.policies.items()
            if chain != "OUTPUT"
        }
        return {
            POLICIES: policies,
            INCOMING: {**dict.fromkeys(per_version, _AS_DECLARED), _RAW: _NARROW},
            ORDER: dict.fromkeys(per_version, _AS_DECLARED),
            PASSING: {**dict.fromkeys(per_version, _AS_DECLARED), _RAW: _NARROW},
            OUTGOING: {
                **dict.fromkeys(per_version, f"{_AS_DECLARED}, then {self.policies['OUTPUT']}"),
                _RAW: _NARROW,
            },
            ON_DISK: dict.fromkeys(self._rule_files(), AS_RENDERED),
            AT_BOOT: {
                **dict.fromkeys(self._boot_files(), AS_RENDERED),
                "at boot": "enabled",
                "state": "active",
                "overrides": "none",
                "loaded": "the declared rules",
            },
            GUARDED: {
                **dict.fromkeys(self._guard_files(), AS_RENDERED),
                "at boot": "enabled",
                "state": "active",
                "overrides": "none",
            },
            ALONE: [],
            WAY_IN: True,
            LISTENING: [],
            OPEN: [],
            CONFIRMED: "confirmed",
        }

    def _rule_files(self) -> list[str]:
        return [files.rules(v) for v in VERSIONS] + [files.emergency(v) for v in VERSIONS]

    def _boot_files(self) -> list[str]:
        return [files.LOADER, files.unit(f"{files.SERVICE}.service")]

    def _guard_files(self) -> list[str]:
        return [files.unit(f"{files.GUARD}.service"), files.unit(f"{files.GUARD}.timer")]

    def seen(self) -> dict[str, Seen]:
        """Control id -> what the reading shows."""
        if not self.reading.installed:
            family = self.policy.family
            return {identifier: Seen(None, _NOT_INSTALLED) for identifier in family.controls}
        return {
            POLICIES: self._policies(),
            INCOMING: self._with_raw(self._chains(INPUT), "input"),
            ORDER: self._order(),
            PASSING: self._with_raw(self._chains(FORWARD, DOCKER), "forward"),
            OUTGOING: self._outgoing(),
            ON_DISK: self._files(self._rule_files()),
            AT_BOOT: self._at_boot(),
            GUARDED: self._unit(f"{files.GUARD}.timer", self._guard_files()),
            ALONE: self._alone(),
            WAY_IN: self.way_in(),
            LISTENING: reach.unreachable(self.policy, self.reading.listeners),
            OPEN: reach.unanswered(self.policy, self.reading.listeners),
            CONFIRMED: self._confirmed(),
        }

    def _policies(self) -> Seen:
        return Seen(
            {
                f"IPv{version} {chain}": self.reading.live[version].policies.get(chain)
                for version in VERSIONS
                for chain in ("INPUT", "FORWARD")
            }
        )

    def _chains(self, *names: str) -> Seen:
        """How the rules in chains of ours differ from the declared ones."""
        wrong = {}
        for version in VERSIONS:
            live, declared = self.reading.live[version], self.declared[version]
            wrong[version] = [
                f"{name}: {tables.difference(live.chains.get(name), declared.chains[name])}"
                for name in names
                if name in self.names and live.chains.get(name) != declared.chains[name]
            ]
        return _per_version(wrong)

    def _with_raw(self, seen: Seen, chain: str) -> Seen:
        """The same, with raw rules of the pillar that are wider than the baseline accepts."""
        wide = problems.wide(self.policy, chain)
        raw = ", ".join(f"`{rule}`" for rule in wide) or _NARROW
        why = [seen.reason] if seen.reason else []
        why += [f"hardening:firewall:raw_rules: `{rule}` accepts anybody" for rule in wide]
        return Seen({**seen.actual, _RAW: raw}, "; ".join(why))

    def _outgoing(self) -> Seen:
        seen = self._with_raw(self._chains(OUTPUT), "output")
        actual, why = dict(seen.actual), [seen.reason] if seen.reason else []
        for version in VERSIONS:
            policy = self.reading.live[version].policies.get("OUTPUT")
            actual[f"IPv{version}"] += f", then {policy}"
            if policy != self.policies["OUTPUT"]:
                why.append(f"the policy of IPv{version} OUTPUT is {policy}")
        return Seen(actual, "; ".join(why))

    def _order(self) -> Seen:
        """Whether packets come to our chains before anything else, and to nothing undeclared."""
        wrong = {}
        for version in VERSIONS:
            live = self.reading.live[version]
            wrong[version] = [] if BANS in live.chains else [f"has no chain {BANS}"]
            for chain, ours in JUMPS.items():
                if ours in self.names:
                    wrong[version] += self._disorder(live, chain)
                elif ours in live.chains and ours not in self.policy.chains(version):
                    wrong[version].append(f"{ours} is left over from a declaration that is gone")
            if not {INPUT, BANS} & set(live.chains):
                wrong[version] = ["packets do not come to the baseline's rules"]
        return _per_version(wrong)

    def _disorder(self, live: tables.Table, chain: str) -> list[str]:
        rules, jump = list(live.chains.get(chain, ())), f"-j {JUMPS[chain]}"
        programs = self.policy.programs
        wanted = tables.arranged(live, chain, programs)
        if chain == DOCKER_USER and chain not in live.chains:
            return [f"{chain} does not exist"]
        missing = [r for r in tables.bans(live, programs) if r not in live.chains.get(BANS, ())]
        found = [f"`{r}` of INPUT is missing in {BANS}" for r in missing if chain == "INPUT"]
        strange = tables.strangers(live, programs) if chain == "INPUT" else []
        found += [f"{BANS} has `{rule}`, which is no ban" for rule in strange]
        if rules == wanted:
            return found
        if jump not in rules:
            return [*found, f"{chain} does not lead to {JUMPS[chain]}"]
        extra = [rule for rule in rules if rule not in wanted]
        found += [f"{chain} has `{rule}`, which is not declared" for rule in extra]
        if rules.count(jump) > 1:
            found.append(f"{chain} leads to {JUMPS[chain]} more than once")
        before = ", ".join(f"`{rule}`" for rule in rules[: rules.index(jump)])
        return found or [f"in {chain} {before} comes before ours"]

    def _files(self, paths: Sequence[str]) -> Seen:
        rendered = {**self.loading(), **self.persisted()}
        actual = {path: compared(self.reading.texts[path], rendered[path]) for path in paths}
        why = [f"{path} {state}" for path, state in actual.items() if state != AS_RENDERED]
        return Seen(actual, "; ".join(why))

    def _unit(self, name: str, paths: Sequence[str]) -> Seen:
        """Texts and state of one of our units."""
        seen, shown = self._files(paths), self.reading.units[name]
        overrides = [
            part
            for unit in self.reading.units.values()
            for part in unit.get("DropInPaths", "").split()
            if f"/{unit['Id']}.d/" in part and unit["Id"].split(".")[0] == name.split(".")[0]
        ]
        if shown.get("FragmentPath") not in ("", None, files.unit(name)):
            overrides.append(shown["FragmentPath"])
        actual = {
            **seen.actual,
            "at boot": shown.get("UnitFileState") or "not there",
            "state": shown.get("ActiveState", "unknown"),
            "overrides": ", ".join(overrides) or "none",
        }
        return Seen(actual, seen.reason)

    def _at_boot(self) -> Seen:
        seen = self._unit(f"{files.SERVICE}.service", self._boot_files())
        emergency = self.host.read(files.EMERGENCY_MARK) is not None
        loaded = "the emergency rules" if emergency else "the declared rules"
        why = [seen.reason] if seen.reason else []
        why += ["the declared rules could not be loaded at boot"] if emergency else []
        return Seen({**seen.actual, "loaded": loaded}, "; ".join(why))

    def _alone(self) -> Seen:
        try:
            found = foreign.look(self.host, self._tolerated_tables())
        except RocksaltError as error:
            return Seen(problem="error", reason=str(error))
        return Seen(found, "; ".join(found))

    def _tolerated_tables(self) -> list[str]:
        known = {
            "fail2ban": ["f2b-table"],
            "docker": ["docker*"],
            "libvirt": ["libvirt*"],
            "kubernetes": ["kube-*", "cali*"],
        }
        return [glob for name in self.policy.programs for glob in known.get(name, [])]

    def way_in(self) -> Seen:
        """Whether administrators' networks reach every port of sshd through the declared rules."""
        seen, ports = self._let_in(), self._management_ports()
        closed = sorted(self._sshd_ports() - ports)
        if seen.actual and closed:
            path = self.policy.family.where("services", "ssh", "tcp")
            return Seen(False, f"sshd listens on port {closed[0]}, which {path} does not name")
        return seen

    def _let_in(self) -> Seen:
        """Whether they reach at least one port that sshd listens on, if it does."""
        if not self.policy.networks(MANAGEMENT):
            return Seen(
                False, f"hardening:networks:{MANAGEMENT} is empty: nobody could log in any more"
            )
        ports, listening = self._management_ports(), self._sshd_ports()
        path = self.policy.family.where("services", "ssh", "tcp")
        if not ports:
            allow = self.policy.family.where("allow", "ssh")
            return Seen(False, f"{allow} does not let {MANAGEMENT} in")
        if listening and not listening & ports:
            return Seen(False, f"sshd listens on port {min(listening)}, which {path} does not name")
        if not ports & {x.port for x in self.reading.listeners} and self._by_socket():
            return Seen(False, f"ssh.socket listens on no port that {path} names")
        return Seen(True)

    def _by_socket(self) -> bool:
        return self.host.run("systemctl", "is-active", "ssh.socket").out.strip() == "active"

    def _management_ports(self) -> set[int]:
        return {a.port for a in self.policy.access() if self.policy.is_management(a)}

    def _sshd_ports(self) -> set[int]:
        return {x.port for x in self.reading.listeners if x.process == "sshd" and not x.loopback}

    def _confirmed(self) -> Seen:
        pending = change.pending(self.host)
        if pending:
            return Seen("pending", "a change awaits confirmation", remedy="manual")
        undone = self.host.read(files.ROLLED_BACK)
        if undone is not None:
            return Seen("undone", undone.strip())
        return Seen("confirmed")

    # Safety --------------------------------------------------------------------------------------

    def safe(self) -> Seen:
        """Whether the declared rules leave a way in, and on the first run every open connection."""
        seen = self._let_in()
        if not seen.actual:
            return seen
        first = self.host.read(files.rules(4)) is None
        asked = first and self.installed and not self.settings["accept_cut"]
        cut = reach.cut_off(self.policy, self.host, self.reading.listeners) if asked else []
        if cut:
            return Seen(
                False,
                f"the rules would not let in what is connected now: {', '.join(cut)}; declare it "
                "in hardening:firewall:allow, or set hardening:firewall:accept_cut",
            )
        reason = f"{MANAGEMENT} reaches sshd, and a change undoes itself if not confirmed"
        if first and not asked:
            reason += "; open connections were not looked at"
        return Seen(True, reason)


def _per_version(wrong: Mapping[int, Sequence[str]]) -> Seen:
    """What is wrong with IPv4 and with IPv6; said once where it is the same."""
    actual = {f"IPv{v}": "; ".join(parts) or _AS_DECLARED for v, parts in wrong.items()}
    if wrong[4] and wrong[4] == wrong[6]:
        return Seen(actual, f"IPv4 and IPv6 {actual['IPv4']}")
    why = (f"{version} {text}" for version, text in actual.items() if text != _AS_DECLARED)
    return Seen(actual, "; ".join(why))

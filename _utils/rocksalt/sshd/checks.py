"""What each control of the family expects, what was seen, and the text of the files we want on
disk.

Most controls are directives and live in ``controls.yaml`` alone (``data: directives``). The others
have a function each below, in :data:`CHECKS`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rocksalt import findings, sshd, ways_in
from rocksalt.errors import Refused
from rocksalt.findings import AS_RENDERED, Seen
from rocksalt.firewall import INPUT, tables
from rocksalt.host import Host
from rocksalt.settings import Baseline
from rocksalt.sshd import config
from rocksalt.sshd.reading import Reading, test_mode

FILE_CONTROL, ADMINISTRATOR, HOST_KEYS = "SSHD-001", "SSHD-003", "SSHD-010"
LEAST_MODULUS = 3071
PROGRAMS = ("/usr/sbin/sshd", "/usr/bin/sshd")
_PRIVATE = "root:root 0600"
_NOT_INSTALLED = "openssh-server is not installed"
HEADER = (
    "# Written by rocksalt; a change here is drift and state.apply hardening.sshd undoes it.\n"
    "# This file sorts first because sshd keeps the first value that it reads.\n"
)


class Sshd:
    """The comparison for one host: settings and a reading in, expected and seen values out."""

    def __init__(self, baseline: Baseline, reading: Reading):
        self.baseline = baseline
        self.reading = reading
        self.family = baseline.families["sshd"]
        self.settings = self.family.settings
        self.directives = {
            control.id: self._directives(control.data["directives"])
            for control in self.family.controls.values()
            if "directives" in control.data
        }
        self.wanted = findings.wanted(baseline, "sshd", self.directives)

    def _directives(self, described: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword -> value: a constant of the catalogue, or the setting it names as ``{setting:
        name}``.
        """
        found = {}
        for keyword, value in described.items():
            if isinstance(value, Mapping):
                value = self.settings[value["setting"]]
            if keyword == "HostKey":
                value = host_key_paths(self.settings)
            if keyword == "ListenAddress":
                value = listen_addresses(self.settings, self._address_family())
            if keyword.lower() in self.reading.offered:
                value = self._offered(keyword, value)
            elif keyword == "CASignatureAlgorithms":
                value = self._offered("HostKeyAlgorithms", value)
            found[keyword] = value
        return found

    def _address_family(self) -> str:
        return (self.reading.effective.get("addressfamily") or ["any"])[0]

    def excused_keywords(self) -> set[str]:
        """Keywords, in lower case, that are left as found."""
        excused = (d for i, d in self.directives.items() if i not in self.wanted)
        return {keyword.lower() for directives in excused for keyword in directives}

    def _offered(self, keyword: str, names: Sequence[str]) -> list[str]:
        """The algorithms that the installed OpenSSH offers, in our order."""
        offered = self.reading.offered.get(keyword.lower())
        usable = [name for name in names if not offered or name in offered]
        if not usable:
            raise Refused(
                f"the installed OpenSSH offers none of the configured {keyword}: {', '.join(names)}"
            )
        return usable

    def proper(self, keyword: str) -> str:
        """A keyword as sshd_config(5) writes it."""
        known = (name for directives in self.directives.values() for name in directives)
        return next((name for name in known if name.lower() == keyword), keyword)

    # Expected ------------------------------------------------------------------------------------

    def expected(self) -> dict[str, Any]:
        """Control id -> what it expects. Directives are shown in the form of ``sshd -T``."""
        plain = {
            identifier: {k: _shown(config.canonical(k, v)) for k, v in directives.items()}
            for identifier, directives in self.directives.items()
        }
        return {**plain, **{identifier: expect(self) for identifier, (expect, _) in CHECKS.items()}}

    def render(self, only: Callable[[str], bool] = lambda _: True) -> str:
        """The drop-in. Controls that ``only`` leaves out keep what the drop-in on disk says about
        them.
        """
        current: dict[str, list[str]] = {}
        for line in self._own_lines():
            current.setdefault(line.keyword, []).append(line.value)
        parts = [HEADER]
        for identifier, directives in self.wanted.items():
            if not only(identifier):
                directives = {k: current[k.lower()] for k in directives if k.lower() in current}
            if directives:
                title = f"# {identifier} {self.family.controls[identifier].title}"
                parts.append("\n".join([title, *config.lines(directives), ""]))
        return "\n".join(parts)

    def _own_lines(self) -> list[config.Line]:
        """The drop-in on disk, whether sshd reads it or not."""
        return config.parse(sshd.DROP_IN, self.reading.texts.get, lambda _: ())

    # Seen ----------------------------------------------------------------------------------------

    def seen(self, host: Host) -> dict[str, Seen]:
        """Control id -> what the reading shows."""
        if not self.reading.installed:
            return {identifier: Seen(None, _NOT_INSTALLED) for identifier in self.family.controls}
        found = {
            identifier: self._effective(directives)
            for identifier, directives in self.directives.items()
        }
        found.update((identifier, look(self)) for identifier, (_, look) in CHECKS.items())
        found[ADMINISTRATOR] = self.administrator(host)
        return found

    def _effective(self, directives: Mapping[str, Any]) -> Seen:
        if self.reading.problem:
            return Seen(problem="error", reason=self.reading.problem)
        actual, why = {}, []
        for keyword, value in directives.items():
            running = config.canonical(keyword, self.reading.effective.get(keyword.lower(), []))
            wanted = config.canonical(keyword, value)
            if config.equal(keyword, running, wanted):
                running = wanted
            else:
                why += self._culprits(keyword, wanted)
            actual[keyword] = _shown(running)
        return Seen(actual, "; ".join(why))

    def _culprits(self, keyword: str, wanted: Sequence[str]) -> list[str]:
        """What makes the effective value differ, with file and line."""
        option = next(
            (o for o in self.reading.daemon.options if keyword.lower() in o.lower()), None
        )
        if option:
            return [f"the daemon was started with -o {option}"]
        lines = [
            line
            for line in self.reading.lines
            if line.keyword == keyword.lower() and not line.match
        ]
        wrong = [li for li in lines if not config.same(li.keyword, li.value, wanted)]
        if keyword.lower() not in config.ADDITIVE:
            wrong = wrong[:1]
        found = [f"{keyword} {line.value} is set in {line.place}" for line in wrong]
        if found:
            return found
        if not lines:
            return [f"{keyword} is set nowhere, so the default of OpenSSH applies"]
        places = ", ".join(line.place for line in lines)
        return [f"{keyword} is right in {places}, yet sshd answers otherwise"]

    def contradictions(self, allowed: Callable[[str], bool] = lambda _: True) -> list[config.Line]:
        """Lines of other people that say something else than the controls that we enforce."""
        wanted = {
            keyword.lower(): config.canonical(keyword, value)
            for identifier, directives in self.wanted.items()
            if allowed(identifier)
            for keyword, value in directives.items()
        }
        return [
            line
            for line in self.reading.lines
            if line.path != sshd.DROP_IN
            and line.keyword in wanted
            and not self._stock(line)
            and not config.same(line.keyword, line.value, wanted[line.keyword])
        ]

    def _stock(self, line: config.Line) -> bool:
        """The distribution's own line in its own file, which ours overrules: nobody's decision, and
        not worth a conflict at the next upgrade.
        """
        overruled = not line.match and line.keyword not in config.ADDITIVE
        return (
            overruled
            and line.path == sshd.MAIN
            and (line.keyword, line.value) in self.reading.stock
        )

    def has_effect(self, line: config.Line) -> bool:
        """Whether sshd listens to a contradicting line, for everybody or for those its Match block
        is about.
        """
        wanted = next(
            config.canonical(k, v)
            for d in self.directives.values()
            for k, v in d.items()
            if k.lower() == line.keyword
        )
        if line.match and line.match not in self.reading.matched:
            return True
        running = self.reading.matched[line.match] if line.match else self.reading.effective
        return config.canonical(line.keyword, running.get(line.keyword, [])) != list(wanted)

    def changed_by_match(self) -> Iterator[tuple[str, str, list[str]]]:
        """(criteria, keyword, value) for all that differs for the connections of a Match block,
        whichever way it is written.
        """
        for criteria, effective in self.reading.matched.items():
            for directives in self.wanted.values():
                for keyword, value in directives.items():
                    usual, special = (
                        config.canonical(keyword, found.get(keyword.lower(), []))
                        for found in (self.reading.effective, effective)
                    )
                    if special != usual and not config.equal(
                        keyword, special, config.canonical(keyword, value)
                    ):
                        yield criteria, keyword, special

    # Ways in -------------------------------------------------------------------------------------

    def safe(self, host: Host, plan: ways_in.Plan = ways_in.NOTHING) -> Seen:
        """Whether the guarded controls may be enforced: a way in stays, at a door that stays."""
        served = set(self.reading.effective.get("port", []))
        declared = set(map(str, self.settings["ports"]))
        moves = bool(served) and not served & declared
        if moves and self.reading.daemon.active and "SSHD-160" in self.wanted:
            return Seen(
                False,
                f"sshd listens on port {', '.join(sorted(served))} alone, which "
                "hardening:sshd:ports does not name: a firewall may let nothing else in. Name both "
                "until the new one is seen to work",
            )
        if not self._let_in(host):
            ports = ", ".join(map(str, self.settings["ports"]))
            return Seen(
                False,
                f"the packet filter in force lets nobody in to port {ports}, on which "
                "hardening:sshd:ports makes sshd listen: apply hardening.firewall first",
            )
        return self.administrator(host, plan)

    def _let_in(self, host: Host) -> bool:
        """Whether the baseline's packet filter, where it is in force, accepts a declared port."""
        try:
            rules = tables.read(host, 4).chains.get(INPUT)
        except Refused:
            return True  # there is no packet filter of the baseline without iptables
        return rules is None or any(
            f"--dport {port} " in rule and rule.endswith("-j ACCEPT")
            for rule in rules
            for port in self.settings["ports"]
        )

    def administrator(
        self, host: Host, plan: ways_in.Plan = ways_in.NOTHING, as_it_runs: bool = False
    ) -> Seen:
        """Whether somebody can log in by key and become root, with our configuration in force, or
        with sshd as it runs now; see :func:`ways_in.find`.
        """
        wanted: Mapping[str, Any] | None = {} if as_it_runs else None
        found, rejected = ways_in.find(
            host,
            self.door(wanted=wanted),
            lambda user: self.door(self._effective_for(host, user), wanted),
            plan,
        )
        return Seen(bool(found), ways_in.explain(found, rejected))

    def _wanted_directives(self) -> dict[str, Any]:
        return {k: v for directives in self.wanted.values() for k, v in directives.items()}

    def _effective_for(self, host: Host, user: str) -> Mapping[str, list[str]]:
        """What holds for one user who comes from the management networks, Match blocks included.

        It is what holds for all where sshd is missing or finds its configuration wrong.
        """
        if not self.reading.installed or self.reading.problem:
            return self.reading.effective
        networks = self.baseline.networks.get("management", ())
        address = next(iter(ipaddress.ip_network(networks[0]).hosts())) if networks else "192.0.2.1"
        spec = f"user={user},host=management.invalid,addr={address},laddr=192.0.2.2,lport="
        effective, problem = test_mode(
            host, self.reading.daemon.options, f"{spec}{self.settings['ports'][0]}"
        )
        return self.reading.effective if problem else effective

    def door(
        self,
        effective: Mapping[str, list[str]] | None = None,
        wanted: Mapping[str, Any] | None = None,
    ) -> ways_in.Door:
        """What sshd demands of an account where ``wanted`` (ours, unless given) overrules what is
        ``effective`` (for everybody, unless given).
        """
        effective = self.reading.effective if effective is None else effective
        wanted = self._wanted_directives() if wanted is None else wanted

        def words(keyword: str) -> list[str]:
            if keyword in wanted:
                value = wanted[keyword]
                return list(value) if isinstance(value, list) else [value]
            return [w for value in effective.get(keyword.lower(), []) for w in value.split()]

        algorithms = words("PubkeyAcceptedAlgorithms")
        least = words("RequiredRSASize")
        return ways_in.Door(
            allow_groups=words("AllowGroups"),
            allow_users=words("AllowUsers"),
            deny_groups=words("DenyGroups"),
            deny_users=words("DenyUsers"),
            key_files=words("AuthorizedKeysFile") or [".ssh/authorized_keys"],
            algorithms=[name for entry in algorithms for name in str(entry).split(",")] or None,
            least_rsa=int(least[0]) if least else 1024,
            management=self.baseline.networks.get("management", ()),
            public_keys="no" not in words("PubkeyAuthentication"),
            forced_command=" ".join(words("ForceCommand")) or "none",
            chroot=" ".join(words("ChrootDirectory")) or "none",
            methods=words("AuthenticationMethods") or ["any"],
            pam="no" not in words("UsePAM"),
        )


def _shown(values: Sequence[str]) -> str:
    return ", ".join(values) if values else "none"


def listen_addresses(settings: Mapping[str, Any], family: str) -> list[str]:
    """``address:port`` for every address and port, IPv6 in brackets as ``sshd -T`` prints it.

    ``family`` is sshd's AddressFamily: where it excludes one, that wildcard would be an error.
    """
    wildcards = {"inet": ["0.0.0.0"], "inet6": ["[::]"]}.get(family, ["0.0.0.0", "[::]"])
    addresses = [str(ipaddress.ip_address(a)) for a in settings["listen_addresses"]]
    declared = [f"[{a}]" if ":" in a else a for a in addresses]
    return [f"{address}:{port}" for port in settings["ports"] for address in declared or wildcards]


# One pair of functions per control that is not a directive: expected(sshd), seen(sshd) -----------


def _drop_in_expected(it: Sshd) -> dict[str, str]:
    return {"content": AS_RENDERED, "access": _PRIVATE}


def _drop_in_seen(it: Sshd) -> Seen:
    access, wanted = it.reading.access.get(sshd.DROP_IN), it.render()
    text, rendered = _text_seen(it, sshd.DROP_IN, wanted), wanted.split("\n")
    if access is None or text.actual is None:
        return text
    have = (it.reading.texts[sshd.DROP_IN] or "").split("\n")
    lost = [f"{line!r} is missing" for line in rendered if line not in have]
    added = [f"{line!r} was added" for line in have if line not in rendered]
    reason = f"{text.reason}: {', '.join([*lost, *added][:4])}" if lost or added else text.reason
    return Seen({"content": text.actual, "access": access}, reason)


def _text_seen(it: Sshd, path: str, wanted: str) -> Seen:
    text = it.reading.texts.get(path)
    if text is None:
        return Seen(None, f"{path} does not exist")
    return Seen(AS_RENDERED) if text == wanted else Seen("edited", f"{path} was edited")


def _include_seen(it: Sshd) -> Seen:
    own = [line for line in it.reading.lines if line.path == sshd.MAIN]
    for line in own:
        if line.keyword == "include" and config.includes_folder(line.value, sshd.FOLDER):
            if line is own[0]:
                return Seen(sshd.INCLUDE)
            first = own[0]
            return Seen(
                f"{it.proper(first.keyword)} {first.value}",
                f"{first.place} is read before the Include of {line.place}",
            )
    return Seen(None, f"{sshd.MAIN} does not include {sshd.FOLDER}/*.conf, so our file is not read")


def include_is_first(it: Sshd) -> bool:
    """Whether our drop-in is read before anything else."""
    return bool(_include_seen(it).actual == sshd.INCLUDE)


def _without_effect_seen(it: Sshd) -> Seen:
    lines = [line for line in it.contradictions() if not it.has_effect(line)]
    return _lines_seen(it, lines, "without effect as long as our file is read first")


def _match_seen(it: Sshd) -> Seen:
    lines = [line for line in it.contradictions() if line.match and it.has_effect(line)]
    told = {(line.match, line.keyword) for line in lines}
    seen = _lines_seen(it, lines, "weakening the baseline for the connections it matches")
    hidden = [
        f"{keyword} {', '.join(running)} (Match {criteria})"
        for criteria, keyword, running in it.changed_by_match()
        if (criteria, keyword.lower()) not in told
    ]
    reason = "; ".join([*filter(None, [seen.reason]), *hidden])
    return Seen([*seen.actual, *hidden], reason)


def _lines_seen(it: Sshd, lines: Sequence[config.Line], consequence: str) -> Seen:
    found = [
        f"{it.proper(line.keyword)} {line.value} ({line.place}{_within(line)})" for line in lines
    ]
    return Seen(found, f"{'; '.join(found)}, {consequence}" if found else "")


def _within(line: config.Line) -> str:
    return f", Match {line.match}" if line.match else ""


def unread(reading: Reading) -> list[str]:
    """The files that changed after sshd last read them."""
    since = reading.daemon.since
    return sorted(path for path, stamp in reading.changed.items() if since and stamp > since)


def _current_seen(it: Sshd) -> Seen:
    if not it.reading.daemon.since:
        return Seen(None, "sshd is not running")
    if not it.reading.daemon.reloaded:
        return Seen(False, "the last reload failed, so sshd still runs on an older configuration")
    newer = unread(it.reading)
    if newer:
        return Seen(False, f"sshd last read its configuration before {', '.join(newer)} changed")
    return Seen(True)


def _options_seen(it: Sshd) -> Seen:
    daemon, why = it.reading.daemon, []
    if daemon.options:
        why.append(f"sshd was started with {' '.join(daemon.options)}")
    if daemon.program and daemon.program not in PROGRAMS:
        why.append(f"ssh.service runs {daemon.program}")
    for stray in daemon.strays:
        owner = f"started by {stray.unit}" if stray.unit else "not started by systemd"
        options = " ".join(stray.options) or "none"
        why.append(f"process {stray.pid}, {owner}, listens with options {options}")
    ours = daemon.options or any(not stray.unit for stray in daemon.strays)
    return Seen(why, "; ".join(why), remedy="" if ours or not why else "manual")


def _config_files(it: Sshd) -> dict[str, str]:
    """Every file that sshd reads its configuration from, and the folder of drop-ins -> access."""
    paths = {sshd.MAIN, *(line.path for line in it.reading.lines)}
    paths |= {path for path in it.reading.access if path.startswith(f"{sshd.FOLDER}/")}
    found = {path: _PRIVATE for path in sorted(paths) if path in it.reading.access}
    folder = {sshd.FOLDER: "root:root 0755"} if sshd.FOLDER in it.reading.access else {}
    return {**folder, **found}


def _key_files(it: Sshd) -> dict[str, str]:
    return {key.path: _PRIVATE for key in it.reading.host_keys}


def _access_seen(it: Sshd, wanted: Mapping[str, str]) -> Seen:
    access, links = it.reading.access, it.reading.links
    found = {p: f"link to {links[p]}" if p in links else access[p] for p in wanted}
    wrong = [p for p in wanted if found[p] != wanted[p]]
    why = "; ".join(f"{p} is {found[p]}, expected {wanted[p]}" for p in wrong)
    manual = wrong and all(p in links and p != sshd.DROP_IN for p in wrong)
    return Seen(found, why, remedy="manual" if manual else "")


def wrong_access(it: Sshd, ids: Sequence[str]) -> list[tuple[str, str]]:
    """The files whose access is to be set, with what it shall be; links are left to a person."""
    wanted = {
        **(_config_files(it) if "SSHD-008" in ids else {}),
        **(_key_files(it) if "SSHD-009" in ids else {}),
    }
    found = [(p, access) for p, access in wanted.items() if it.reading.access[p] != access]
    return [(path, access) for path, access in found if path not in it.reading.links]


def host_key_paths(settings: Mapping[str, Any]) -> list[str]:
    """The private host keys that the settings declare."""
    return [f"/etc/ssh/ssh_host_{kind}_key" for kind in settings["host_key_types"]]


def _host_keys_seen(it: Sshd) -> Seen:
    weak = [key for key in it.reading.host_keys if key.weak]
    present = [key.path for key in it.reading.host_keys]
    missing = [path for path in host_key_paths(it.settings) if path not in present]
    why = [f"{key} is weak" for key in weak] + [f"{path} is missing" for path in missing]
    return Seen({"missing": missing, "weak": [key.path for key in weak]}, "; ".join(why))


def moduli_strong(text: str) -> str:
    """A moduli file without the groups that are too small; comments stay."""
    kept = []
    for line in text.splitlines():
        fields = line.split()
        if line.startswith("#") or (
            len(fields) == 7 and fields[4].isdigit() and int(fields[4]) >= LEAST_MODULUS
        ):
            kept.append(line)
    return "\n".join(kept) + "\n"


def _moduli_seen(it: Sshd) -> Seen:
    text = it.reading.texts.get(sshd.MODULI)
    if text is None:
        return Seen(0)
    weak = len(text.splitlines()) - len(moduli_strong(text).splitlines())
    return Seen(
        weak,
        f"{weak} groups of {sshd.MODULI} are smaller than {LEAST_MODULUS} bits" if weak else "",
    )


def _socket_seen(it: Sshd) -> Seen:
    if not it.reading.daemon.socket:
        return Seen("off")
    return Seen("on", "ssh.socket starts sshd, which then ignores Port and ListenAddress")


def _service_seen(it: Sshd) -> Seen:
    daemon = it.reading.daemon
    return Seen({"active": daemon.active, "enabled": daemon.enabled})


def _cloud_init_seen(it: Sshd) -> Seen:
    if not it.reading.cloud_init:
        return Seen(problem="skipped", reason="cloud-init is not installed")
    return _text_seen(it, sshd.CLOUD_INIT, cloud_init(it))


def cloud_init(it: Sshd) -> str:
    """What keeps cloud-init from adding log-ins, and from making host keys that nobody declared."""
    return (
        "# Written by rocksalt; a change here is drift and state.apply hardening.sshd undoes it.\n"
        "allow_public_ssh_keys: false\n"
        "disable_root: true\n"
        f"ssh_genkeytypes: [{', '.join(it.settings['host_key_types'])}]\n"
        "ssh_pwauth: false\n"
        "users: []\n"
    )


def banner(it: Sshd) -> str:
    """The text before the log-in, ending in one newline."""
    return str(it.settings["banner"]).rstrip("\n") + "\n"


def _nothing(it: Sshd) -> list[str]:
    return []


def _true(it: Sshd) -> bool:
    return True


Check = tuple[Callable[[Sshd], Any], Callable[[Sshd], Seen]]
CHECKS: dict[str, Check] = {
    FILE_CONTROL: (_drop_in_expected, _drop_in_seen),
    "SSHD-002": (lambda it: sshd.INCLUDE, _include_seen),
    ADMINISTRATOR: (
        _true,
        lambda it: Seen(problem="error", reason="the accounts were not looked at"),
    ),
    "SSHD-004": (_nothing, _without_effect_seen),
    "SSHD-005": (_nothing, _match_seen),
    "SSHD-006": (_true, _current_seen),
    "SSHD-007": (_nothing, _options_seen),
    "SSHD-008": (_config_files, lambda it: _access_seen(it, _config_files(it))),
    "SSHD-009": (_key_files, lambda it: _access_seen(it, _key_files(it))),
    HOST_KEYS: (lambda it: {"missing": [], "weak": []}, _host_keys_seen),
    "SSHD-011": (lambda it: 0, _moduli_seen),
    "SSHD-012": (lambda it: "off", _socket_seen),
    "SSHD-013": (lambda it: {"active": True, "enabled": True}, _service_seen),
    "SSHD-014": (lambda it: AS_RENDERED, _cloud_init_seen),
    "SSHD-015": (
        lambda it: AS_RENDERED,
        lambda it: _text_seen(it, sshd.BANNER, banner(it)),
    ),
}

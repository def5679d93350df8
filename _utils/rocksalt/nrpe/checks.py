"""What each control of the family expects, and what was seen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from rocksalt import findings, nrpe
from rocksalt.findings import AS_RENDERED, Seen, compared
from rocksalt.host import Host
from rocksalt.nrpe import certificates, config, reading, shipped, tls
from rocksalt.nrpe.setup import Setup
from rocksalt.settings import Baseline

WATCHED, SERVICE, CONFIG, CURRENT, ALONE, ADDRESS, SECURED, HEARD, CLOSED = (
    *("NRPE-001", "NRPE-002", "NRPE-003", "NRPE-004", "NRPE-005"),
    *("NRPE-006", "NRPE-007", "NRPE-008", "NRPE-009"),
)
PRIVATE, GENUINE, EXPIRY, DEDICATED, OURS, OTHERS, SANDBOX, ACCOUNT = (
    *("NRPE-010", "NRPE-011", "NRPE-012", "NRPE-013"),
    *("NRPE-014", "NRPE-015", "NRPE-016", "NRPE-017"),
)
PLAIN_FILE = "root:root 0644"
PROGRAM_FILE = "root:root 0755"
ACCESS = {
    nrpe.FOLDER: f"root:{nrpe.USER} 0750",
    nrpe.AUTHORITY: PLAIN_FILE,
    nrpe.CERTIFICATE: PLAIN_FILE,
    nrpe.KEY: f"root:{nrpe.USER} 0640",
}
ENROL = "salt-run monitoring.enrol"
NOBODY = "nobody watches this host"
AFTER, CERTIFIED = "after its files were written", "the one on the disk"
_IN_SANDBOX = {**config.SANDBOX, "no new privileges": True, "system calls filtered": True}
_SHOWN = 4


class Nrpe:
    """The comparison for one host: settings and a host in, expected and seen values out.
    ``interpreter`` runs our plugins.
    """

    def __init__(
        self,
        baseline: Baseline,
        minion: str,
        host: Host,
        now: dt.datetime,
        interpreter: str,
        wires: reading.Wires | None = None,
    ):
        self.setup = Setup(baseline, minion)
        self.host = host
        self.now = now
        self.interpreter = interpreter
        self.wires = wires or reading.Wires()
        self.wanted = findings.wanted(baseline, nrpe.FAMILY, self.setup.family.controls)

    @cached_property
    def reading(self) -> reading.Reading:
        """The host as it is."""
        return reading.read(self.host)

    @cached_property
    def address(self) -> str:
        """Where NRPE is to listen; empty where no monitoring host can be reached."""
        if given := str(self.setup.settings["address"]):
            return given
        firsts = (str(next(iter(network.hosts()), network[0])) for network in self.setup.monitors)
        return next(filter(None, map(self.wires.source, firsts)), "")

    @property
    def place(self) -> str:
        """Address and port, as they are listed."""
        return f"{self.address} {self.setup.settings['port']}"

    @cached_property
    def allowed(self) -> list[str]:
        """Who is heard."""
        return self.setup.allowed(self.address)

    @cached_property
    def answers(self) -> tls.Answers:
        """What the running NRPE answers to strangers."""
        stranger = tls.unheard(self.address, self.allowed)
        return self.wires.knock(self.address, self.setup.settings["port"], stranger)

    def problem(self) -> str:
        """Why NRPE cannot listen where it should; empty where it can."""
        where = f"{nrpe.TOP}:address"
        if not self.address:
            return f"there is no way from this host to {nrpe.TOP}:monitors; name {where}"
        if not self.wires.is_own(self.address):
            return f"{where}: {self.address} is no address of this host"
        return ""

    def render(self) -> dict[str, str]:
        """Our texts: path -> content."""
        settings, named = self.setup.settings, self.setup.commands
        return {
            nrpe.CONFIG: config.render(settings, self.address, self.allowed, named),
            nrpe.DROP_IN: config.drop_in(),
        }

    @cached_property
    def own_plugins(self) -> dict[str, str]:
        """Path -> content of the plugins that we bring."""
        return shipped.programs(self.interpreter)

    # The comparison ------------------------------------------------------------------------------

    def expected(self) -> dict[str, Any]:
        """Control id -> what it expects."""
        found = {i: expect(self) for i, (expect, _) in CHECKS.items()}
        return {WATCHED: True, **found}

    def seen(self) -> dict[str, Seen]:
        """Control id -> what was seen. Where nobody is to ask, there is nothing to look at."""
        watched = Seen(bool(self.setup.monitors), "" if self.setup.monitors else self._unwatched())
        if not self.setup.monitors:
            skipped = Seen(problem="skipped", reason=f"{NOBODY} ({WATCHED})")
            return {WATCHED: watched, **dict.fromkeys(CHECKS, skipped)}
        if self.reading.absent:
            absent = Seen(None, self.reading.absent, remedy="state")
            return {WATCHED: watched, **dict.fromkeys(CHECKS, absent)}
        found = {i: self._looked(i, look) for i, (_, look) in CHECKS.items()}
        return {WATCHED: watched, **found}

    def _unwatched(self) -> str:
        names = ", ".join(self.setup.settings["monitors"]) or "nobody"
        return (
            f"{NOBODY}: {self.setup.family.where('monitors')} names {names}, and no network "
            "of that name is in hardening:networks"
        )

    def _looked(self, identifier: str, look: Callable[[Nrpe], Seen]) -> Seen:
        """What a control saw; what depends on another that failed says so instead."""
        if identifier in NEED_ADDRESS and (why := self.problem()):
            return Seen(problem="error", reason=why)
        if identifier in NEED_CERTIFICATE and not self.reading.certificates.complete:
            return Seen(problem="skipped", reason=f"NRPE has no certificate yet ({GENUINE})")
        if identifier in NEED_PROCESS and not self.reading.process:
            return Seen(problem="skipped", reason=f"NRPE does not run ({SERVICE})")
        return look(self)


def access(host: Host, path: str) -> str | None:
    """Owner, group and mode of what has this very name."""
    found = host.attributes(path, follow=False)
    return found.access if found else None


def some(found: Sequence[str]) -> str:
    """A list as a sentence can carry it."""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


# One pair per control: expected(it), seen(it) -----------------------------------------------------


def _service_seen(it: Nrpe) -> Seen:
    unit = it.reading.unit
    return Seen(
        {
            "now": unit.get("ActiveState", "unknown"),
            "at boot": unit.get("UnitFileState") or "not there",
        }
    )


def _config_expected(it: Nrpe) -> dict[str, str]:
    return {nrpe.CONFIG: f"{AS_RENDERED}, {PLAIN_FILE}"}


def _config_seen(it: Nrpe) -> Seen:
    text, found = it.reading.texts[nrpe.CONFIG], it.reading.attributes[nrpe.CONFIG]
    wanted = it.render()[nrpe.CONFIG]
    state = compared(text, wanted)
    actual = {nrpe.CONFIG: f"{state}, {found.access}" if found else None}
    if text is None or text == wanted:
        return Seen(actual)
    ours, theirs = set(config.parse(wanted)), set(config.parse(text))
    lines = [f"lacks {_option(it)}" for it in sorted(ours - theirs)]
    lines += [f"has {_option(it)}" for it in sorted(theirs - ours)]
    return Seen(actual, f"{nrpe.CONFIG} {some(lines) or 'was edited'}")


def _option(pair: tuple[str, str]) -> str:
    return "=".join(pair)


def _current_expected(it: Nrpe) -> dict[str, str]:
    command = " ".join(config.COMMAND_LINE)
    return {"started": AFTER, "certificate": CERTIFIED, "command": command}


def _current_seen(it: Nrpe) -> Seen:
    found, why = it.reading, []
    started = AFTER
    later = [
        path
        for path in (nrpe.CONFIG, nrpe.DROP_IN, *reading.FILES)
        if (at := found.attributes[path]) and found.started and at.changed > found.started
    ]
    if later:
        started = f"before {', '.join(later)}"
        why.append(f"NRPE was not started since {', '.join(later)} changed")
    shown, certificate = it.answers.certificate, CERTIFIED
    if shown != certificates.fingerprint(found.certificates.chain[0]):
        certificate = f"another one ({shown[:16]})" if shown else "none"
        why.append(f"the running NRPE shows {certificate}, not what is in {nrpe.CERTIFICATE}")
    command = " ".join(found.process.command) if found.process else ""
    if command != " ".join(config.COMMAND_LINE):
        why.append(f"it runs as {command!r}")
    actual = {"started": started, "certificate": certificate, "command": command}
    return Seen(actual, some(why))


def _alone_seen(it: Nrpe) -> Seen:
    found = [*it.reading.foreign, *it.reading.drop_ins]
    why = [
        f"{path} is not the baseline's, and NRPE would not read it" for path in it.reading.foreign
    ]
    why += [f"{path} changes the unit" for path in it.reading.drop_ins]
    return Seen(found, some(why))


def _address_seen(it: Nrpe) -> Seen:
    found = it.reading.listening
    if found is None:
        return Seen(problem="error", reason="ss, which lists the sockets of this host, fails")
    why = [f"NRPE listens on {place}" for place in found if place != it.place]
    why += [f"NRPE does not listen on {it.place}"] if it.place not in found else []
    return Seen(list(found), some(why))


def _secured_expected(it: Nrpe) -> dict[str, str]:
    ways = ("without a certificate", "TLS 1.1 or older", "anonymous TLS", "without TLS")
    return dict.fromkeys(ways, tls.REFUSED)


def _secured_seen(it: Nrpe) -> Seen:
    said = it.answers
    outcomes = (said.without_certificate, said.old_tls, said.anonymous, said.plain)
    actual = dict(zip(_secured_expected(it), outcomes, strict=True))
    untold = [f"{way}: {out}" for way, out in actual.items() if out.startswith("cannot be tried")]
    if untold:
        return Seen(problem="error", reason=some(untold))
    if said.without_certificate == tls.CLOSED and said.plain == tls.REFUSED:
        why = (
            f"NRPE ends a connection from {it.address}, which is this host, before TLS: by its "
            "allowed_hosts, or by /etc/hosts.deny, which may shut out monitoring hosts as well"
        )
        return Seen(actual, why)
    why = some([f"{way}: {out}" for way, out in actual.items() if out != tls.REFUSED])
    return Seen(actual, why)


def _heard_expected(it: Nrpe) -> dict[str, Any]:
    return {"allowed_hosts": it.allowed, "a stranger is": tls.NOT_HEARD}


def _heard_seen(it: Nrpe) -> Seen:
    """By the file, and by an address of this host that is not on the list."""
    options = config.effective(it.reading.texts[nrpe.CONFIG] or "")
    found = [entry for entry in options.get("allowed_hosts", "").split(",") if entry]
    stranger = it.answers.stranger
    actual = {"allowed_hosts": found, "a stranger is": stranger or tls.NOT_HEARD}
    why = [f"{entry} is heard" for entry in found if entry not in it.allowed]
    why += [f"{entry} is not heard" for entry in it.allowed if entry not in found]
    if not found:
        why = ["everybody is heard"]
    if it.answers.without_certificate == tls.SILENT:
        return Seen({**actual, "a stranger is": tls.SILENT}, f"NRPE does not answer on {it.place}")
    why += ["127.0.0.1 or ::1 is heard although it is not allowed"] if stranger == tls.HEARD else []
    return Seen(actual, some(why))


def _closed_seen(it: Nrpe) -> Seen:
    options = config.effective(it.reading.texts[nrpe.CONFIG] or "")
    actual = {key: options.get(key, "0") for key in config.CLOSED}
    return Seen(actual)


def _private_expected(it: Nrpe) -> dict[str, str]:
    found = {path: rights for path, rights in ACCESS.items() if it.reading.attributes[path]}
    return {**found, **({nrpe.NEXT_KEY: "root:root 0600"} if _asked(it) else {})}


def _asked(it: Nrpe) -> bool:
    return it.reading.attributes[nrpe.NEXT_KEY] is not None


def _private_seen(it: Nrpe) -> Seen:
    wanted = _private_expected(it)
    found = {path: it.reading.attributes[path] for path in wanted}
    actual = {path: attributes.access for path, attributes in found.items() if attributes}
    why = [f"{path} is {have}, expected {wanted[path]}" for path, have in actual.items()
           if have != wanted[path]]  # fmt: skip
    return Seen(actual, some(why))


def _genuine_expected(it: Nrpe) -> dict[str, Any]:
    return {"problems": [], "names": "this host", **dict.fromkeys(it.setup.given, "as in pillar")}


def _genuine_seen(it: Nrpe) -> Seen:
    found = it.reading.certificates
    actual: dict[str, Any] = {
        path: "as in pillar" if it.host.read(path) == text else "another one"
        for path, text in it.setup.given.items()
    }
    problems = list(found.problems.values())
    why = [
        f"{path} is not what the pillar gives" for path in actual if actual[path] != "as in pillar"
    ]
    names = "this host"
    if found.complete and found.authority:
        problems += certificates.authority_problems(found.authority, nrpe.AUTHORITY)
        problems += certificates.server_problems(
            found.chain, found.authority, nrpe.CERTIFICATE, it.now
        )
        if not certificates.fits(found.chain[0], found.key):
            problems.append(f"{nrpe.KEY} is not the key of {nrpe.CERTIFICATE}")
        names = _names(it, found.chain[0])
        why += [f"{nrpe.CERTIFICATE} is for {names}"] if names != "this host" else []
    elif not it.setup.given:
        problems.append(f"bring one from the master: {ENROL} {it.setup.minion}")
    remedy = "" if any(value != "as in pillar" for value in actual.values()) else "manual"
    return Seen(
        {"problems": problems, "names": names, **actual}, some([*why, *problems]), remedy=remedy
    )


def _names(it: Nrpe, certificate: certificates.Certificate) -> str:
    """``this host`` where a certificate is for it, by its minion's id or the address."""
    found = certificates.names(certificate)
    own = {it.setup.minion, it.address}
    return "this host" if own & {*found} else ", ".join(found) or "nobody"


def _expiry_expected(it: Nrpe) -> dict[str, str]:
    days = it.setup.settings["renew_days"]
    return dict.fromkeys(("certificate", "authority"), f"valid for {days} days and more")


def _expiry_seen(it: Nrpe) -> Seen:
    found, wanted = it.reading.certificates, _expiry_expected(it)
    least = it.setup.settings["renew_days"]
    own = {"certificate": found.chain[0], "authority": found.authority}
    actual, why = {}, []
    for name, certificate in own.items():
        left = certificates.days_left(certificate, it.now) if certificate else -1
        actual[name] = wanted[name] if left >= least else f"{left} days left"
        if certificate and left < least:
            why.append(f"the {name} ends on {certificates.expires(certificate):%Y-%m-%d}")
    if why and nrpe.CERTIFICATE not in it.setup.given:
        why.append(f"renew it from the master: {ENROL} {it.setup.minion}")
    return Seen(actual, some(why))


def _dedicated_seen(it: Nrpe) -> Seen:
    authority = it.reading.certificates.authority
    if authority and reading.is_public(it.host, authority):
        why = f"{nrpe.AUTHORITY} is in {reading.PUBLIC_AUTHORITIES}, so it signs for anything"
        return Seen("signs for others as well", why)
    return Seen("signs for monitoring")


def _ours_expected(it: Nrpe) -> dict[str, str]:
    return dict.fromkeys(it.own_plugins, f"{AS_RENDERED}, {PROGRAM_FILE}")


def _ours_seen(it: Nrpe) -> Seen:
    actual: dict[str, str | None] = {}
    for path, text in it.own_plugins.items():
        found = it.host.attributes(path, follow=False)
        state = compared(it.host.read(path), text)
        actual[path] = f"{state}, {found.access}" if found else None
    why = [f"{path} {have or 'does not exist'}" for path, have in actual.items()
           if have != f"{AS_RENDERED}, {PROGRAM_FILE}"]  # fmt: skip
    return Seen(actual, some(why))


def missing_plugins(it: Nrpe) -> list[str]:
    """Plugins of commands that do not exist, other than ours."""
    others = [path for path in it.setup.plugins if path not in it.own_plugins]
    return [path for path in others if it.host.attributes(path) is None]


def _others_seen(it: Nrpe) -> Seen:
    wrong = {}
    for path in it.setup.plugins:
        if path not in it.own_plugins and (fault := _fault(it.host, path)):
            wrong[path] = fault
    return Seen(wrong, some([f"{path} {fault}" for path, fault in wrong.items()]))


def _fault(host: Host, path: str) -> str:
    """Why a plugin cannot be trusted, or be run."""
    found = host.attributes(path)
    if found is None:
        return "does not exist"
    for place in (path, *map(str, PurePosixPath(path).parents)):
        at = host.attributes(place)
        if at and (at.owner != "root" or int(at.mode, 8) & 0o022):
            return f"can be changed by others than root: {place} is {at.access}"
    if not int(found.mode, 8) & 0o001:
        return f"cannot be run by {nrpe.USER}: it is {found.access}"
    return ""


def _sandbox_expected(it: Nrpe) -> dict[str, Any]:
    return {nrpe.DROP_IN: AS_RENDERED, "as on disk": True, **_IN_SANDBOX}


def _sandbox_seen(it: Nrpe) -> Seen:
    unit, process = it.reading.unit, it.reading.process
    actual: dict[str, Any] = {
        nrpe.DROP_IN: compared(it.reading.texts[nrpe.DROP_IN], config.drop_in()),
        "as on disk": unit.get("NeedDaemonReload", "no") == "no",
        **{key: unit.get(key) for key in config.SANDBOX},
        "no new privileges": process.no_new_privileges if process else True,
        "system calls filtered": process.filtered if process else True,
    }
    return Seen(actual)


def _account_expected(it: Nrpe) -> dict[str, Any]:
    return {"user": nrpe.USER, "group": nrpe.USER, "other groups": [], "capabilities": False}


def _account_seen(it: Nrpe) -> Seen:
    process = it.reading.process or reading.Process()
    actual = {
        "user": process.user,
        "group": process.group,
        "other groups": list(process.groups),
        "capabilities": process.capabilities,
    }
    others = {**actual, "other groups": []}
    by_hand = process.groups and others == _account_expected(it)
    why = f"{nrpe.USER} is in the groups {', '.join(process.groups)}" if by_hand else ""
    return Seen(actual, why, remedy="manual" if by_hand else "")


NEED_ADDRESS = (CONFIG, CURRENT, ADDRESS, SECURED, HEARD)
NEED_CERTIFICATE = (SERVICE, CURRENT, ADDRESS, SECURED, HEARD, EXPIRY, DEDICATED)
NEED_PROCESS = (CURRENT, ADDRESS, SECURED, HEARD, ACCOUNT)
CHECKS: dict[str, tuple[Callable[[Nrpe], Any], Callable[[Nrpe], Seen]]] = {
    SERVICE: (lambda it: {"now": "active", "at boot": "enabled"}, _service_seen),
    CONFIG: (_config_expected, _config_seen),
    CURRENT: (_current_expected, _current_seen),
    ALONE: (lambda it: [], _alone_seen),
    ADDRESS: (lambda it: [it.place], _address_seen),
    SECURED: (_secured_expected, _secured_seen),
    HEARD: (_heard_expected, _heard_seen),
    CLOSED: (lambda it: dict(config.CLOSED), _closed_seen),
    PRIVATE: (_private_expected, _private_seen),
    GENUINE: (_genuine_expected, _genuine_seen),
    EXPIRY: (_expiry_expected, _expiry_seen),
    DEDICATED: (lambda it: "signs for monitoring", _dedicated_seen),
    OURS: (_ours_expected, _ours_seen),
    OTHERS: (lambda it: {}, _others_seen),
    SANDBOX: (_sandbox_expected, _sandbox_seen),
    ACCOUNT: (_account_expected, _account_seen),
}

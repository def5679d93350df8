"""What each control of the family expects, and what was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rocksalt import fail2ban, findings
from rocksalt.fail2ban import config, jails, rules
from rocksalt.fail2ban.reading import Reading, late
from rocksalt.findings import AS_RENDERED, Seen
from rocksalt.host import Host
from rocksalt.schema import nearest
from rocksalt.settings import Baseline

SERVICE, FILES, OVERRULED, CURRENT, IN_FORCE, PRIVATE = (
    *("F2B-001", "F2B-002", "F2B-003", "F2B-004", "F2B-011", "F2B-014"),
)
_ACCESS = "root:root 0600"
_SHOWN = 10
_KEYS = {
    jails.SOURCE: ("journalmatch", "logpath"),
    jails.PATIENCE: ("maxretry", "findtime"),
    jails.DURATION: (
        *("bantime", "bantime.increment", "bantime.factor", "bantime.maxtime"),
        *("bantime.overalljails", "bantime.formula", "bantime.multipliers", "bantime.rndtime"),
    ),
    jails.NEVER: ("ignoreip", "ignoreself", "ignorecommand"),
    jails.ACTION: ("action",),
}
OF_JAILS = (jails.WATCHED, *_KEYS)


class Fail2ban:
    """The comparison for one host: settings and a reading in, expected and seen values out."""

    def __init__(self, baseline: Baseline, reading: Reading, host: Host):
        self.baseline = baseline
        self.reading = reading
        self.family = baseline.families["fail2ban"]
        self.wanted = findings.wanted(baseline, "fail2ban", self.family.controls)
        self.declared = [jail for jail in jails.declared(baseline) if jail.enabled]
        self.chain = jails.chain(baseline, reading.chains)
        self.sections, self.server = jails.sections(
            baseline, lambda i: i not in self.wanted, self.chain
        )
        self._logs = {
            jail.name: [path for log in jail.logs for path in host.glob(log) or [log]]
            for jail in self.declared
        }

    # What is wanted ------------------------------------------------------------------------------

    def render(self) -> dict[str, str]:
        """Our two files: path -> text."""
        return {
            fail2ban.JAILS: config.render(self.sections),
            fail2ban.SERVER: config.render({"Definition": self.server}),
        }

    def jail(self, jail: jails.Jail) -> dict[str, dict[str, Any]]:
        """Control id -> key -> the value that a jail shall have."""
        found = {}
        for identifier, keys in _KEYS.items():
            texts = jails.options(self.baseline, jail, self.chain)[identifier]
            found[identifier] = {
                key: config.normal(key, _words(key, texts.get(key))) for key in keys
            }
        found[jails.SOURCE]["logpath"] = sorted(self._logs[jail.name])
        name = "iptables-multiport" if jail.ports else "iptables-allports"
        ports = ",".join(map(str, jail.ports))
        properties = {"protocol": "tcp", "port": ports, "chain": self.chain}
        found[jails.ACTION] = {"action": config.action(name, properties)}
        return found

    def expected(self) -> dict[str, Any]:
        """Control id -> what it expects."""
        found: dict[str, Any] = {
            identifier: {
                f"{jail.name} {key}": value
                for jail in self.declared
                for key, value in self.jail(jail)[identifier].items()
            }
            for identifier in _KEYS
        }
        options = jails.server_options(self.baseline)
        for identifier, texts in options.items():
            found[identifier] = {key: config.normal(key, text) for key, text in texts.items()}
        found.update((identifier, expect(self)) for identifier, (expect, _) in CHECKS.items())
        return found

    # What was seen -------------------------------------------------------------------------------

    def seen(self) -> dict[str, Seen]:
        """Control id -> what the reading shows."""
        if self.reading.absent:
            absent = Seen(None, self.reading.absent, remedy="state")
            found = dict.fromkeys(self.family.controls, absent)
        else:
            found = {i: self._jails_seen(i) for i in _KEYS}
            found.update((i, self._server_seen(i)) for i in (jails.MEMORY, jails.LOG))
            found.update((i, look(self)) for i, (_, look) in CHECKS.items())
        return {**found, "F2B-016": _management_seen(self)}

    def _jails_seen(self, identifier: str) -> Seen:
        """What the running jails do; a jail that does not run does nothing of it."""
        if self.reading.running.problem:
            return Seen(None, self.silence())
        actual, why = {}, []
        for jail in self.declared:
            running = self.reading.running.jails.get(jail.name)
            for key, value in self.jail(jail)[identifier].items():
                is_now = _value(running, key) if running is not None else None
                actual[f"{jail.name} {key}"] = is_now
                if running is not None and is_now != value:
                    why.append(self._difference(jail.name, key, is_now, value))
            if running is None:
                why.append(f"the jail {jail.name} does not run")
        weak = jails.too_weak(self.baseline, identifier)
        if weak:
            remedy = "" if why else "manual"
            return Seen(
                {**actual, "below the floor": weak}, "; ".join([*why, *weak]), remedy=remedy
            )
        return Seen(actual, "; ".join(why))

    def _server_seen(self, identifier: str) -> Seen:
        if self.reading.running.problem:
            return Seen(None, self.silence())
        running, wanted = self.reading.running.server, jails.server_options(self.baseline)
        actual, why = {}, []
        for key, text in wanted[identifier].items():
            actual[key] = config.normal(key, running[key])
            if actual[key] != config.normal(key, text):
                why.append(f"{key} is {_in_words(actual[key])}, expected {text}")
        return Seen(actual, "; ".join(why))

    def _difference(self, jail: str, key: str, value: Any, wanted: Any) -> str:
        said = _value(self.reading.files.get(jail, {"actions": {}}), key)
        origin = "as its files say" if said == value else "unlike in its files"
        if isinstance(value, list) and isinstance(wanted, list):
            parts = [("too much", [v for v in value if v not in wanted])]
            parts.append(("missing", [v for v in wanted if v not in value]))
            words = ", ".join(f"{what} {_in_words(items)}" for what, items in parts if items)
            return f"{key} of {jail}: {words}, {origin}"
        return f"{key} of {jail} is {_in_words(value)}, {origin}"

    def silence(self) -> str:
        """Why nothing is known of the running server."""
        if not self.reading.active:
            return "fail2ban does not run"
        return f"fail2ban does not answer: {self.reading.running.problem}"

    # Files ---------------------------------------------------------------------------------------

    def overruling(self) -> list[config.Line]:
        """Lines of others that make a jail, or the server, do something else than our files say."""
        jail_lines, server_lines = self.reading.jail_lines, self.reading.server_lines
        lines = [
            *config.overruling(jail_lines, fail2ban.JAILS, self.sections),
            *config.overruling(server_lines, fail2ban.SERVER, {"Definition": self.server}),
        ]
        return [li for li in lines if li.key != "enabled" or jails.WATCHED in self.wanted]

    def unexplained(self) -> list[str]:
        """What the files amount to other than we want, where no line of another file is to blame:
        an include, or our own file.
        """
        blamed = {(line.section, line.key) for line in self.overruling()}
        found = []
        for jail in self.declared:
            files = self.reading.files.get(jail.name)
            for identifier, wanted in self.jail(jail).items() if files is not None else ():
                for key, value in wanted.items() if identifier in self.wanted else ():
                    if _value(files, key) != value and (jail.name, key) not in blamed:
                        found.append(f"{key} of {jail.name} is {_in_words(_value(files, key))}")
        return found

    def including(self) -> list[str]:
        """The files that include others, beside the distribution's."""
        lines = (line for found in self.reading.jail_lines.values() for line in found)
        paths = dict.fromkeys(line.path for line in lines if line.section == "INCLUDES")
        return [path for path in paths if path != config.STOCK] or ["a file that is not known"]

    def as_rendered(self) -> bool:
        """Whether our files are as we want them."""
        return all(self.reading.texts[path] == text for path, text in self.render().items())

    def wrong_access(self) -> dict[str, str]:
        """Path -> the access it shall have, for what others than root can write; what links lead to
        is left to a person.
        """
        return _for_root(self.reading.access)


def _for_root(found: Mapping[str, str]) -> dict[str, str]:
    wanted = {}
    for path, access in found.items():
        owner, mode = access.split(" ")
        if not owner.startswith("root:") or int(mode, 8) & 0o022:
            wanted[path] = f"root:root {int(mode, 8) & 0o7755:04o}"
    return wanted


def _words(key: str, text: str | None) -> Any:
    """A text of our file as :func:`config.normal` takes it."""
    if key == "ignoreip":
        return (text or "").split()
    if key == "journalmatch":
        return [text] if text else []
    return text if text else None


def _in_words(value: Any) -> str:
    return findings.show(value) or "empty"


def _value(jail: Mapping[str, Any] | None, key: str) -> Any:
    if jail is None:
        return None
    if key == "action":
        return ", ".join(config.action(*found) for found in jail["actions"].items()) or "none"
    return config.normal(key, jail.get(key))


# One pair of functions per control that is not a setting of jails: expected(it), seen(it) ---------


def _service_seen(it: Fail2ban) -> Seen:
    reading = it.reading
    actual = {"active": reading.active, "enabled": reading.enabled}
    if reading.active and reading.running.problem:
        return Seen({**actual, "answers": False}, it.silence())
    return Seen({**actual, "answers": reading.active})


def _files_expected(it: Fail2ban) -> dict[str, str]:
    return dict.fromkeys(it.render(), f"{AS_RENDERED}, {_ACCESS}")


def _files_seen(it: Fail2ban) -> Seen:
    actual, why = {}, []
    for path, wanted in it.render().items():
        text, access = it.reading.texts[path], it.reading.access.get(path)
        content = AS_RENDERED if text == wanted else "edited"
        actual[path] = f"{content}, {access}" if text is not None else None
        if text is None:
            why.append(f"{path} does not exist")
        elif text != wanted:
            why.append(f"{path} was edited: {_changes(text, wanted)}")
        elif access != _ACCESS:
            why.append(f"{path} is {access}, expected {_ACCESS}")
    return Seen(actual, "; ".join(why))


def _changes(text: str, wanted: str) -> str:
    have, want = text.split("\n"), wanted.split("\n")
    lost = [f"{line!r} is missing" for line in want if line not in have]
    added = [f"{line!r} was added" for line in have if line not in want]
    changes = [*lost, *added]
    more = f" and {len(changes) - 4} more" if len(changes) > 4 else ""
    return ", ".join(changes[:4]) + more or "its lines are in another order"


def _overruled_seen(it: Fail2ban) -> Seen:
    if it.reading.problem:
        return Seen(
            problem="error", reason=f"fail2ban does not read its files: {it.reading.problem}"
        )
    lines = [str(line) for line in it.overruling()]
    hidden = it.unexplained() if it.as_rendered() else []
    why = [f"{line} beats the baseline" for line in lines]
    why += [f"{words} by an include of {', '.join(it.including())}" for words in hidden]
    return Seen(lines + hidden, "; ".join(why), remedy="manual" if hidden and not lines else "")


def _current_seen(it: Fail2ban) -> Seen:
    """Filters and actions of the running jails against the files; the rest has controls of its
    own.
    """
    if it.reading.problem:
        return Seen(
            problem="error", reason=f"fail2ban does not read its files: {it.reading.problem}"
        )
    if it.reading.running.problem:
        return Seen(None, it.silence())
    found = []
    for name, files in it.reading.files.items():
        jail = it.reading.running.jails.get(name)
        if jail is None:
            continue
        for key in ("failregex", "ignoreregex"):
            if len(jail[key] or ()) != len(files.get(key, ())):
                found.append(f"{key} of {name}")
        found += _actions_changed(name, jail["actions"], files["actions"])
    why = f"the running server has not what its files say: {'; '.join(found)}" if found else ""
    return Seen(found, why)


def _actions_changed(
    jail: str, running: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    return [
        f"{key} of the action {action} of {jail}"
        for action, properties in files.items()
        for key, value in properties.items()
        if running.get(action, {}).get(key) != value
    ]


def _watched_seen(it: Fail2ban) -> Seen:
    if it.reading.running.problem:
        return Seen(None, it.silence())
    names, running = _names(it), sorted(it.reading.running.jails)
    stopped = [jail for jail in it.declared if jail.name not in running]
    why = [f"the jail {jail.name} does not run" for jail in stopped]
    why += filter(None, (missing_filter(it, jail) for jail in stopped))
    why += [f"the jail {n} runs and is not declared" for n in running if n not in names]
    return Seen(running, "; ".join(why))


def missing_filter(it: Fail2ban, jail: jails.Jail) -> str:
    """Why a jail cannot run; empty when its filter exists."""
    name = jail.filter.partition("[")[0]
    if name in it.reading.filters:
        return ""
    path = it.family.where("jails", jail.name)
    return f"{path}: the host has no filter {name!r}{nearest(name, it.reading.filters)}"


def _in_force_seen(it: Fail2ban) -> Seen:
    if it.reading.running.problem:
        return Seen(None, it.silence())
    lost = [f"{a} ({jail})" for jail, a in late(it.reading.running, it.reading.chains)]
    if len(lost) > _SHOWN:
        lost = [*lost[:_SHOWN], f"{len(lost) - _SHOWN} more"]
    faults = [
        f"IPv{version}: {fault}"
        for version, chains in it.reading.chains.items()
        for jail in (it.declared if jails.ACTION in it.wanted else ())
        for fault in rules.faults(chains, it.chain, jail.name, jail.ports)
    ]
    why = [f"{', '.join(lost)}: banned, yet no rule keeps it out"] if lost else []
    return Seen({"not kept out": lost, "faults": faults}, "; ".join([*why, *faults]))


def _access_seen(it: Fail2ban) -> Seen:
    reading, wrong = it.reading, it.wrong_access()
    found = [f"{path} {reading.access[path]}" for path in wrong]
    found += [f"{path} (a link) {reading.links[path]}" for path in _for_root(reading.links)]
    why = f"others than root can write {', '.join(found)}" if found else ""
    return Seen(found, why, remedy="manual" if found and not wrong else "")


def _edited_seen(it: Fail2ban) -> Seen:
    found = list(it.reading.edited)
    return Seen(found, f"not as the package ships it: {', '.join(found)}" if found else "")


def _management_seen(it: Fail2ban) -> Seen:
    if it.baseline.networks.get("management"):
        return Seen(True)
    return Seen(
        False,
        "hardening:networks:management is not set, so an administrator who mistypes is banned like "
        "everybody else",
    )


def _nothing(it: Fail2ban) -> list[str]:
    return []


def _names(it: Fail2ban) -> Sequence[str]:
    return [jail.name for jail in it.declared]


Check = tuple[Callable[[Fail2ban], Any], Callable[[Fail2ban], Seen]]
CHECKS: dict[str, Check] = {
    SERVICE: (lambda it: {"active": True, "enabled": True, "answers": True}, _service_seen),
    FILES: (_files_expected, _files_seen),
    OVERRULED: (_nothing, _overruled_seen),
    CURRENT: (_nothing, _current_seen),
    jails.WATCHED: (_names, _watched_seen),
    IN_FORCE: (lambda it: {"not kept out": [], "faults": []}, _in_force_seen),
    PRIVATE: (_nothing, _access_seen),
    "F2B-015": (_nothing, _edited_seen),
    "F2B-016": (lambda it: True, _management_seen),
}

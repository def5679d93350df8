"""What the rules of sudo amount to: which Defaults hold, what an administrator may do, and whom
nobody declared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rocksalt.accounts.sudo import sudoers
from rocksalt.accounts.sudo.reading import ADMINISTRATORS

if TYPE_CHECKING:
    from rocksalt.accounts.checks import Accounts

BECOME, ASKED, LOCKING = "ACC-012", "ACC-027", "ACC-040"
PLAIN, FREE = "everything as root", "everything as root, without a password"


def defaults(it: Accounts, identifier: str) -> dict[str, Any]:
    """The Defaults that a control declares, by name."""
    declared: Mapping[str, Any] = it.family.controls[identifier].data.get("sudo", {})
    found = {}
    for name, value in declared.items():
        value = it.settings[value["setting"]] if isinstance(value, Mapping) else value
        found[name] = ":".join(value) if isinstance(value, list) else value
    return found


def overruling(it: Accounts, identifier: str) -> list[sudoers.Default]:
    """What makes a declared default another one: for everybody, where nothing after it says what is
    declared, or for some.
    """
    wanted = defaults(it, identifier)
    found: list[sudoers.Default] = []
    for default in it.reading.sudo.in_force.defaults:
        if default.name not in wanted or _is_beaten(it, default):
            continue
        if value(default, wanted) != wanted[default.name]:
            found.append(default)
        elif not default.scope:
            found = [d for d in found if d.scope or d.name != default.name]
    return found


def _is_beaten(it: Accounts, default: sudoers.Default) -> bool:
    """Whether it is a tag of grants to administrators whose own line, after it, has none."""
    if default.line.is_defaults:
        return False
    names = default.scope.split(", ")
    specs = it.reading.sudo.in_force.specs
    places = [n for n, spec in enumerate(specs) if spec.line == default.line]
    own = {administrator(it, s.line): n for n, s in enumerate(specs) if _is_ours(it, s.line)}
    return bool(places) and all(own.get(name, -1) > places[-1] for name in names)


def _is_ours(it: Accounts, line_: sudoers.Line) -> bool:
    name = administrator(it, line_)
    return bool(name) and line_.text in (line(name, True), line(name, False))


def left_alone(it: Accounts, identifier: str, default: sudoers.Default) -> str:
    """Why a line that overrules ours is not disabled, or nothing: whoever loses a grant, or begins
    to be asked for a password, may lose the only way to become root.
    """
    if not default.line.is_defaults:
        return "which is part of a grant"
    asked = defaults(it, ASKED)
    if identifier != ASKED and any(
        other.line == default.line
        and other.name in asked
        and value(other, asked) != asked[other.name]
        for other in it.reading.sudo.in_force.defaults
    ):
        return f"in one line with what {ASKED} is about"
    return ""


def value(default: sudoers.Default, wanted: Mapping[str, Any]) -> Any:
    """The value, as a number where a number is wanted."""
    want = wanted[default.name]
    if isinstance(want, int) and not isinstance(want, bool):
        try:
            number = float(default.value)
        except (TypeError, ValueError):
            return default.value
        return int(number) if number.is_integer() else number
    return default.value


def _names(it: Accounts, name: str) -> set[str]:
    """Everything by which a rule can name an account."""
    found = {name}
    if name in it.people.by_name:
        found.add(f"#{it.people.by_name[name].uid}")
    for group in it.people.groups_of.get(name, ()):
        found |= {f"%{group}", f"%#{it.people.group_by_name[group].gid}"}
    return found


def is_free(it: Accounts, name: str) -> bool:
    """Whether sudo should ask an administrator for no password."""
    return bool(it.administrators[name].get("nopasswd"))


def line(name: str, free: bool) -> str:
    """What lets an administrator run everything, without a password if ``free``."""
    return f"{name} ALL=(ALL:ALL) {'NOPASSWD: ' if free else ''}ALL"


def administrator(it: Accounts, line_: sudoers.Line) -> str:
    """The administrator whom a line of our own file is about; it is judged with the grants."""
    if line_.path != ADMINISTRATORS or BECOME not in it.wanted:
        return ""
    name = next(iter(line_.text.split()), "")
    return name if name in it.administrators else ""


def root_grant(it: Accounts, name: str) -> tuple[str | None, list[sudoers.Line]]:
    """What an administrator may do as root, and the lines that make it another than declared. The
    last rule that fits decides, for each program by itself.
    """
    policy = it.reading.sudo.in_force
    names, free = _names(it, name), is_free(it, name)
    grant: str | None = None
    culprits: list[sudoers.Line] = []
    for spec in policy.specs:
        if not sudoers.among(spec.users, names, policy.users):
            continue
        everywhere = sudoers.among(spec.hosts, ["ALL"], {})
        for entry in spec.commands:
            if not _as_root(entry, policy):
                continue
            unasked = _tag(entry, "authenticate") is False
            if everywhere and entry["Commands"][-1:] == [{"command": "ALL"}]:
                grant = FREE if unasked else PLAIN
                culprits = [spec.line] if unasked != free else []
            elif unasked != free or any(c.get("negated") for c in entry["Commands"]):
                culprits.append(spec.line)
    return grant, culprits


def _as_root(entry: Mapping[str, Any], policy: sudoers.Policy) -> bool:
    users = entry.get("runasusers")
    if users is None:
        return "runasgroups" not in entry
    return sudoers.among(users, ["root", "#0"], policy.runas)


def _tag(entry: Mapping[str, Any], name: str) -> Any:
    """What the tags of a rule set ``name`` to; None where they say nothing."""
    return next((o[name] for o in entry.get("Options", ()) if name in o), None)


@dataclass(frozen=True)
class Grant:
    """A line that grants ``names`` what they should not have; ``whole`` if it goes as a whole, for
    it grants nobody else anything or is ours, ``removable`` if a state takes it away.
    """

    names: Sequence[str]
    line: sudoers.Line
    whole: bool
    removable: bool


def unexpected(it: Accounts) -> list[Grant]:
    """The rules of others that nobody declared."""
    policy = it.reading.sudo.policy
    locked = it.default_accounts if LOCKING in it.wanted else set()
    named: dict[sudoers.Line, list[str]] = {}
    strangers: dict[sudoers.Line, list[str]] = {}
    for spec in policy.specs:
        if administrator(it, spec.line):
            continue
        unasked = any(_tag(e, "authenticate") is False for e in spec.commands)
        for name in sudoers.everybody(spec.users, policy.users):
            named.setdefault(spec.line, []).append(name)
            if not _is_declared(it, name, unasked):
                strangers.setdefault(spec.line, []).append(name)
    return [
        Grant(
            names=list(dict.fromkeys(names)),
            line=where,
            whole=names == named[where] or (where.path == ADMINISTRATORS and BECOME in it.wanted),
            removable=it.removes("sudoers") or where.path == ADMINISTRATORS or set(names) <= locked,
        )
        for where, names in strangers.items()
    ]


def _is_declared(it: Accounts, name: str, unasked: bool) -> bool:
    if name in ("root", "#0", *it.settings["sudo_grants"]):
        return True
    if name in it.administrators:
        return not unasked or bool(it.administrators[name].get("nopasswd"))
    return name == f"%{it.settings['administrators_group']}" and not unasked

"""What sudo and su should be, and what they are: settings and a reading in, expected and seen
values out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from rocksalt.accounts.sudo import grants, rules, sudoers
from rocksalt.accounts.sudo.reading import ADMINISTRATORS, LOGROTATE, SETTINGS, Reading
from rocksalt.findings import AS_RENDERED, Seen, compared, show

if TYPE_CHECKING:
    from rocksalt.accounts.checks import Accounts

SU, FILES, VALID, SOURCES, LOG, GRANTS = (
    *("ACC-004", "ACC-020", "ACC-021", "ACC-022", "ACC-024", "ACC-029"),
)
OF_DEFAULTS = ("ACC-023", LOG, "ACC-025", "ACC-026", "ACC-027", "ACC-028")
MODE, LOGROTATE_MODE = "0440", "0644"
SU_MODE = "4750"
INCLUDE = f"@includedir {sudoers.FOLDER}"
_HEADER = "# Written by rocksalt; state.apply hardening.accounts undoes a change here.\n"
_BUILT_IN = {"authenticate": True, "env_reset": True}
_UNSAFE = 0o7137


def render(it: Accounts) -> dict[str, str]:
    """The files that the baseline wants: path -> text. What is waived is not in them. That sudo
    asks for passwords is what it does unless told otherwise, and so needs no line.
    """
    lines = [
        _default_line(name, value)
        for identifier in OF_DEFAULTS
        if identifier in it.wanted and identifier != rules.ASKED
        for name, value in rules.defaults(it, identifier).items()
    ]
    found = {SETTINGS: _HEADER + "".join(lines)}
    if rules.BECOME in it.wanted and it.administrators:
        found[ADMINISTRATORS] = _HEADER + "".join(f"{row}\n" for row in grants.rows(it))
    if LOG in it.wanted:
        found[LOGROTATE] = _logrotate(it.settings["sudo_log"])
    return found


def _default_line(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"Defaults {'' if value else '!'}{name}\n"
    quoted = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'Defaults {name}="{quoted}"\n'


def _logrotate(path: str) -> str:
    return f"""{_HEADER}
{path} {{
    monthly
    maxsize 50M
    rotate 12
    compress
    missingok
    notifempty
    create 0600 root root
}}
"""


def _see_defaults(identifier: str, it: Accounts) -> Seen:
    wanted = rules.defaults(it, identifier)
    found: dict[str, Any] = {
        name: _BUILT_IN.get(name, False if want is False else None) for name, want in wanted.items()
    }
    for default in it.reading.sudo.in_force.defaults:
        if default.name in wanted and not default.scope:
            found[default.name] = rules.value(default, wanted)
    why, manual = [], []
    for default in rules.overruling(it, identifier):
        value = rules.value(default, wanted)
        whom = f" for {default.scope}" if default.scope else ""
        found[default.name + whom] = value
        alone = rules.left_alone(it, identifier, default)
        manual.append(bool(alone))
        why.append(f"{default.line.place} makes {default.name}{whom} {show(value)}")
        why[-1] += f", {alone}, so a person decides" if alone else ""
    why += [f"no line of sudoers sets {name}" for name, value in found.items() if value is None]
    by_state = not (manual and all(manual)) or _settings_wanting(it)
    return Seen(found, "; ".join(why), remedy="" if by_state else "manual")


def _settings_wanting(it: Accounts) -> bool:
    return bool(_see_files(it).actual != _expect_files(it))


def _see_log(it: Accounts) -> Seen:
    seen, found = _see_defaults(LOG, it), it.reading.sudo
    state = compared(found.texts.get(LOGROTATE), _logrotate(it.settings["sudo_log"]))
    why = [seen.reason] if seen.reason else []
    why += [f"{LOGROTATE} {state}"] if state != AS_RENDERED else []
    why += [] if found.rotates else ["logrotate is not installed"]
    return Seen({**seen.actual, LOGROTATE: state, "logrotate": found.rotates}, "; ".join(why))


def _expect_log(it: Accounts) -> dict[str, Any]:
    return {**rules.defaults(it, LOG), LOGROTATE: AS_RENDERED, "logrotate": True}


def _expect_grants(it: Accounts) -> dict[str, str]:
    return {
        name: rules.FREE if entry.get("nopasswd") else rules.PLAIN
        for name, entry in it.administrators.items()
    }


def _see_grants(it: Accounts) -> Seen:
    found, why, manual = {}, [], not _is_wanting(it)
    for name, want in _expect_grants(it).items():
        grant, culprits = rules.root_grant(it, name)
        places = ", ".join(dict.fromkeys(line.place for line in culprits))
        if grant is None:
            found[name] = "not everything as root"
            why.append(f"no rule of sudo lets {name} run everything as root")
        elif culprits:
            found[name] = grant if grant != want else f"{grant}, except for {places}"
            why.append(f"{places} makes what sudo grants {name} another than declared")
            why[-1] += "; it is a grant, so a person decides" if manual else ""
        elif not grants.in_place(it, name):
            found[name] = f"{grant}, but not as declared by {ADMINISTRATORS}"
            why.append(f"{ADMINISTRATORS} does not have the one line that belongs to {name}")
        else:
            found[name] = grant
    return Seen(found, "; ".join(why), remedy="manual" if why and manual else "")


def _is_wanting(it: Accounts) -> bool:
    """Whether our file of grants is not yet as it should be, or not read."""
    found = it.reading.sudo
    same = found.texts.get(ADMINISTRATORS) == render(it).get(ADMINISTRATORS)
    is_read = is_included(it) and ADMINISTRATORS not in found.passed_over
    return not (same and is_read) or bool(grants.unasked(it))


def is_included(it: Accounts) -> bool:
    """Whether sudoers has sudo read the folder that our files are in."""
    return any(line.include == (sudoers.FOLDER, True) for line in it.reading.sudo.lines)


def _expect_files(it: Accounts) -> dict[str, Any]:
    found = {SETTINGS: f"root:root {MODE}, {AS_RENDERED}"}
    if has_grants(it):
        found[ADMINISTRATORS] = f"root:root {MODE}"
    return {**found, "read by sudo": True}


def has_grants(it: Accounts) -> bool:
    """Whether our file of grants is there and ours to keep; its lines are judged one by one."""
    due = rules.BECOME in it.wanted and it.administrators
    return bool(due and ADMINISTRATORS in it.reading.sudo.access)


def _see_files(it: Accounts) -> Seen:
    state = compared(it.reading.sudo.texts.get(SETTINGS), render(it)[SETTINGS])
    access = it.reading.sudo.access.get(SETTINGS)
    found: dict[str, Any] = {SETTINGS: f"{access.access}, {state}" if access else state}
    why = [f"{SETTINGS} {state}"] if state != AS_RENDERED else []
    if has_grants(it):
        found[ADMINISTRATORS] = it.reading.sudo.access[ADMINISTRATORS].access
    right = _expect_files(it)
    edited = SETTINGS if why else ""
    why += [f"{p} is {seen}" for p, seen in found.items() if p != edited and seen != right[p]]
    if not is_included(it):
        why.append(f"{sudoers.MAIN} does not include {sudoers.FOLDER}, so our files have no effect")
    passed_over = it.reading.sudo.passed_over
    if SETTINGS in passed_over:
        why.append("sudo passes over our files, for others can write where they are")
    is_read = is_included(it) and SETTINGS not in passed_over
    return Seen({**found, "read by sudo": is_read}, "; ".join(why))


def wrong_access(it: Accounts) -> dict[str, str]:
    """Files and folders that others can read or change: path -> what is right. Our own are judged
    with their text.
    """
    found, right = it.reading.sudo, {}
    own = {SETTINGS, ADMINISTRATORS} if has_grants(it) else {SETTINGS}
    for path, seen in found.access.items():
        is_folder = path == sudoers.FOLDER
        unsafe = seen.mode & (0o022 if is_folder else _UNSAFE)
        if path not in own and (not seen.access.startswith("root:root ") or unsafe):
            right[path] = f"root:root {seen.mode & 0o755:04o}" if is_folder else f"root:root {MODE}"
    return right


def _see_valid(it: Accounts) -> Seen:
    found = it.reading.sudo
    why = [f"{fault.place}: {fault.words}" for fault in found.faults]
    for path, right in wrong_access(it).items():
        seen = found.access[path]
        aside = ", so sudo passes over it" if seen.passed_over else ""
        why.append(f"{path} is {seen.access}{aside}, right is {right}")
    return Seen(why, "; ".join(why))


def strange_sources(found: Reading) -> list[sudoers.Line]:
    """Includes that lead out of sudoers.d, and plugins that are not sudo's own."""
    includes = (line for line in found.lines if line.include not in (None, (sudoers.FOLDER, True)))
    foreign = (line for line in includes if line.include and not _in_folder(line.include[0]))
    return [*foreign, *found.plugins]


def _in_folder(path: str) -> bool:
    return str(PurePath(path).parent) == sudoers.FOLDER and ".." not in path


def links(found: Reading) -> list[str]:
    """Files of sudoers.d that are links to elsewhere."""
    return [path for path, seen in found.access.items() if seen.is_link and _in_folder(path)]


def _see_sources(it: Accounts) -> Seen:
    found = it.reading.sudo
    why = [f"{line.place} says {line.text.strip()!r}" for line in strange_sources(found)]
    why += [f"{path} is a link to elsewhere" for path in links(found)]
    return Seen(why, "; ".join(why))


def _see_unexpected(it: Accounts) -> Seen:
    why, manual = [], []
    for grant in rules.unexpected(it):
        says = " ".join(grant.line.text.split())
        former = grant.line.path == ADMINISTRATORS
        whom = ", ".join(grant.names) + (", an administrator once" if former else "")
        why.append(f"{grant.line.place} grants something to {whom}: {says}")
        manual.append(not (grant.removable and grant.whole))
        if grant.removable and not grant.whole:
            why[-1] += ", and somebody else by the same line"
    return Seen(why, "; ".join(why), remedy="manual" if why and all(manual) else "")


def _expect_su(it: Accounts) -> dict[str, str]:
    group = it.settings["administrators_group"]
    return {"su": f"root:{group} {SU_MODE}", "dpkg-statoverride": f"root {group} {SU_MODE}"}


def _see_su(it: Accounts) -> Seen:
    su = it.reading.sudo.su
    if not su.path:
        return Seen(problem="skipped", reason="su is not installed")
    actual = {"su": su.access, "dpkg-statoverride": su.override or None}
    why = f"{su.path} is {su.access}, and dpkg has {su.override or 'nothing'} for it"
    return Seen(actual, why)


def _nothing(_: Accounts) -> list[str]:
    return []


def _needs_sudo(look: Callable[[Accounts], Seen], it: Accounts) -> Seen:
    found = it.reading.sudo
    if found.absent:
        return Seen(None, found.absent)
    return look(it)


def _needs_policy(look: Callable[[Accounts], Seen], it: Accounts) -> Seen:
    found = it.reading.sudo
    if found.problem:
        return Seen(problem="error", reason=found.problem)
    return _needs_sudo(look, it)


Check = tuple[Callable[["Accounts"], Any], Callable[["Accounts"], Seen]]


def _checks() -> Iterator[tuple[str, Check]]:
    yield SU, (_expect_su, _see_su)
    yield FILES, (_expect_files, partial(_needs_sudo, _see_files))
    yield VALID, (_nothing, partial(_needs_sudo, _see_valid))
    yield SOURCES, (_nothing, partial(_needs_policy, _see_sources))
    yield rules.BECOME, (_expect_grants, partial(_needs_policy, _see_grants))
    for identifier in OF_DEFAULTS:
        look = partial(_needs_policy, partial(_see_defaults, identifier))
        yield identifier, (lambda it, i=identifier: rules.defaults(it, i), look)  # type: ignore[misc]
    yield LOG, (_expect_log, partial(_needs_policy, _see_log))
    yield GRANTS, (_nothing, partial(_needs_policy, _see_unexpected))


CHECKS: dict[str, Check] = dict(_checks())

"""Makes sudo and su what the checks expect. What grants comes before what takes away, so a run that
is killed leaves administrators their way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rocksalt.accounts import database
from rocksalt.accounts.sudo import checks, grants, reading, rules, sudoers
from rocksalt.accounts.sudo.change import Change, disabled
from rocksalt.accounts.sudo.reading import ADMINISTRATORS, LOGROTATE, SETTINGS
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.sshd import checks as sshd
from rocksalt.sshd import reading as sshd_reading
from rocksalt.transaction import ASIDE, DISABLED, each, must
from rocksalt.ways_in import Plan

if TYPE_CHECKING:
    from rocksalt.accounts.checks import Accounts

_LONGEST = 20


def fix(host: Host, it: Accounts, ids: Sequence[str]) -> None:
    """Enforces those of ``ids`` that belong here. Raises :class:`Refused` with what could not be
    done.
    """
    mine = set(ids) & set(checks.CHECKS)
    parts = ((_fix_sudo, mine - {checks.SU}), (_fix_su, mine & {checks.SU}))
    each(partial(work, host, it, chosen) for work, chosen in parts if chosen)


def _fix_sudo(host: Host, it: Accounts, ids: Collection[str]) -> None:
    if it.reading.sudo.absent:
        raise Refused(it.reading.sudo.absent)
    with Change(host) as change:
        for step in (_own_files, _access, _faults, _sources, _overruling, _grants):
            step(change, _again(host, it), ids)
    kept = _kept(host, _again(host, it), ids)
    if kept:
        raise Refused("; ".join(kept))


def _kept(host: Host, it: Accounts, ids: Collection[str]) -> list[str]:
    """What was not taken away, lest nobody can become root, in sentences."""
    found = []
    unasked = grants.unasked(it) if rules.BECOME in ids else ()
    if unasked:
        found.append(
            f"sudo goes on to ask {', '.join(unasked)} for no password, for there is none that"
            " could be given; declare nopasswd, or a password in password_hashes"
        )
    former = [grant for grant in rules.unexpected(it) if grant.line.path == ADMINISTRATORS]
    reason = _no_way_in(host, it) if former and checks.GRANTS in ids else ""
    strange = _includes(it) if checks.SOURCES in ids else []
    shut = _no_way_in(host, it) if strange else ""
    if shut:
        found.append(f"sudo goes on to read {', '.join(strange)}, for {shut}")
    if reason:
        names = ", ".join(dict.fromkeys(name for grant in former for name in grant.names))
        found.append(f"{ADMINISTRATORS} goes on to grant what it does to {names}, for {reason}")
    return found


def _includes(it: Accounts) -> list[str]:
    """Where sudo is led to rules of strangers."""
    found = it.reading.sudo
    lines = [line for line in checks.strange_sources(found) if line not in found.plugins]
    return [*(line.place for line in lines), *checks.links(found)]


def _no_way_in(host: Host, it: Accounts) -> str:
    """Why no declared administrator keeps a way in, if so. Former ones, who count as such as long
    as our file has them, do not here, for it is their grants that go.
    """
    found = sshd.Sshd(it.baseline, sshd_reading.read(host))
    plan = Plan(stays=lambda name: name in it.administrators)
    looks = (found.administrator(host, plan, as_it_runs=now) for now in (False, True))
    return next((seen.reason for seen in looks if not seen.actual), "")


def _again(host: Host, it: Accounts) -> Accounts:
    """The comparison with sudo, and with accounts and passwords, as they are now."""
    now = dataclasses.replace(it.reading, sudo=reading.read(host), people=database.read(host))
    return type(it)(it.baseline, now)


def _own_files(change: Change, it: Accounts, ids: Collection[str]) -> None:
    if not {checks.FILES, rules.BECOME, *checks.OF_DEFAULTS} & set(ids):
        return
    rendered = checks.render(it)
    for path in (ADMINISTRATORS, SETTINGS, LOGROTATE):
        if path not in rendered or (path == ADMINISTRATORS and not _grants_due(it, ids)):
            continue
        mode = checks.LOGROTATE_MODE if path == LOGROTATE else checks.MODE
        attributes = change.host.attributes(path)
        same = change.host.read(path) == rendered[path]
        if same and attributes and attributes.access == f"root:root {mode}":
            continue
        if path == LOGROTATE:
            change.transaction.write(path, rendered[path], mode)
        else:
            change.write(path, rendered[path], mode)
    if not checks.is_included(it):
        text = (change.host.read(sudoers.MAIN) or "").rstrip("\n")
        change.write(sudoers.MAIN, f"{text}\n{checks.INCLUDE}\n".lstrip("\n"))


def _grants_due(it: Accounts, ids: Collection[str]) -> bool:
    """Whether our file of grants is to be written: for its lines, or for its mode."""
    return rules.BECOME in ids or (checks.FILES in ids and checks.has_grants(it))


def _sources(change: Change, it: Accounts, ids: Collection[str]) -> None:
    """Strange includes have no effect any more; what a strange file includes goes with it. They
    stay while nobody could become root without what they grant.
    """
    if checks.SOURCES not in ids or (_includes(it) and _no_way_in(change.host, it)):
        return
    for path in checks.links(it.reading.sudo):
        change.rename(path, path + ASIDE)
    kept = (sudoers.MAIN, reading.PLUGINS)
    change.disable(
        line
        for line in checks.strange_sources(it.reading.sudo)
        if line.path in kept or line.path.startswith(f"{sudoers.FOLDER}/")
    )


def _access(change: Change, it: Accounts, ids: Collection[str]) -> None:
    """Modes and owners. A file that sudo passes over, for others could have written it, is moved
    aside: with another owner, what they wrote would count.
    """
    if checks.VALID not in ids:
        return
    for path, right in checks.wrong_access(it).items():
        if it.reading.sudo.access[path].passed_over and path.startswith(f"{sudoers.FOLDER}/"):
            change.rename(path, path + ASIDE)
        elif path in (sudoers.MAIN, sudoers.FOLDER) or path.startswith(f"{sudoers.FOLDER}/"):
            owner, group, mode = right.replace(":", " ").split()
            change.host.secure(path, owner, group, mode)


def _faults(change: Change, it: Accounts, ids: Collection[str]) -> None:
    """Lines that sudo does not understand, and skips, become remarks, and so do includes of files
    that do not exist. visudo tells of some faults only when there are no others.
    """
    if checks.VALID not in ids:
        return
    for _ in range(_LONGEST):
        change.before = set()
        wrong = dict.fromkeys(fault.path for fault in reading.check(change.host)[0] if fault.number)
        for path in wrong:
            text = _repaired(change, path, change.host.read(path) or "", DISABLED)
            change.transaction.write(path, text)
        lost = _missing_includes(change.host)
        change.disable(lost, checked=False)
        if not wrong and not lost:
            break
    change.before = set(reading.check(change.host)[0])


def _missing_includes(host: Host) -> list[sudoers.Line]:
    lines = sudoers.in_reading_order(host.read, host.glob)
    files = ((line, line.include[0]) for line in lines if line.include and not line.include[1])
    return [line for line, path in files if host.read(path) is None]


def _repaired(change: Change, path: str, text: str, prefix: str) -> str:
    """The text with its faulty lines made remarks."""
    for _ in range(_LONGEST):
        wrong = {fault.number for fault in change.faults(path, text)}
        lines = sudoers.lines(path, text)
        rows = [range(li.number, li.last + 1) for li in lines]
        numbers = [number for span in rows if wrong & set(span) for number in span]
        if not numbers:
            break
        text = disabled(text, numbers, prefix)
    return text


def _overruling(change: Change, it: Accounts, ids: Collection[str]) -> None:
    """Defaults of others that beat ours. Lines with grants are left to a person."""
    lines = [
        default.line
        for identifier in checks.OF_DEFAULTS
        if identifier in ids
        for default in rules.overruling(it, identifier)
        if not rules.left_alone(it, identifier, default)
    ]
    change.drop(line for line in lines if line.path == ADMINISTRATORS)
    change.disable(line for line in lines if line.path not in reading.OWN)


def _grants(change: Change, it: Accounts, ids: Collection[str]) -> None:
    """Unexpected grants. A file in which nothing else stands goes as a whole."""
    if checks.GRANTS not in ids:
        return
    chosen = [grant.line for grant in rules.unexpected(it) if grant.removable and grant.whole]
    said = [line for line in it.reading.sudo.lines if line.says]
    for path in dict.fromkeys(line.path for line in chosen):
        if path == ADMINISTRATORS:
            if not _no_way_in(change.host, it):
                change.drop(line for line in chosen if line.path == path)
            continue
        alone = all(line in chosen for line in said if line.path == path)
        if alone and path.rpartition("/")[0] == sudoers.FOLDER:
            change.rename(path, path + ASIDE)
        else:
            change.disable(line for line in chosen if line.path == path)


def _fix_su(host: Host, it: Accounts, _: Collection[str]) -> None:
    """An override of dpkg, which outlives upgrades."""
    su, group = it.reading.sudo.su, it.settings["administrators_group"]
    groups = (host.read("/etc/group") or "").splitlines()
    if not any(line.startswith(f"{group}:") for line in groups):
        path = it.family.where("administrators_group")
        raise Refused(f"{path}: there is no group {group}, so su cannot be left to it")
    override = ("root", group, checks.SU_MODE, su.path)
    command = ("dpkg-statoverride", "--force-statoverride-add", "--update", "--add", *override)
    must(host, f"{su.path} cannot be left to the group {group}", *command)


def leftovers(host: Host) -> list[str]:
    """What the baseline put on the host and :func:`clean` takes away."""
    own = [path for path in (SETTINGS, LOGROTATE) if host.read(path) is not None]
    su = _override(host)
    others = dict.fromkeys([*_aside(host), *_with_disabled_lines(host)])
    return [*own, *others, *([f"the override of dpkg for {su}"] if su else [])]


def clean(host: Host) -> None:
    """Takes it away; what others wrote comes back. What sudo grants administrators stays. Lines
    that sudo does not understand stay remarks.
    """
    with Change(host) as change:
        for path in _aside(host):
            if host.attributes(path.removesuffix(ASIDE), follow=False) is None:
                change.rename(path, path.removesuffix(ASIDE))
        for path in _with_disabled_lines(host):
            change.transaction.write(path, _given_back(change, path))
        for path in (SETTINGS, LOGROTATE):
            change.transaction.remove(path)
    su = _override(host)
    if su:
        must(host, f"{su} stays closed", "dpkg-statoverride", "--remove", su)
        host.secure(su, "root", "root", "4755")


def _given_back(change: Change, path: str) -> str:
    """The text of a file with its disabled lines in force again, as far as sudo accepts them:
    visudo does not look at plugins, so sudo itself is tried with them.
    """
    text = change.host.read(path) or ""
    rows = text.split("\n")
    old = "\n".join(row.removeprefix(DISABLED) for row in rows)
    if path == reading.PLUGINS:
        change.transaction.write(path, old)
        accepted = not change.host.run("sudo", "-n", "-l", "-U", "root").status
    else:
        old = _repaired(change, path, old, "# ")
        accepted = not change.faults(path, old)
    if accepted:
        return old
    return "\n".join("# " + r.removeprefix(DISABLED) if DISABLED in r else r for r in rows)


def _aside(host: Host) -> list[str]:
    return host.glob(f"{sudoers.FOLDER}/*{ASIDE}")


def _with_disabled_lines(host: Host) -> list[str]:
    """Files of others in which lines are disabled, those that were moved aside under the names
    that they had.
    """
    seen = (line.path for line in sudoers.in_reading_order(host.read, host.glob))
    paths = dict.fromkeys([*seen, *host.glob(f"{sudoers.FOLDER}/*"), reading.PLUGINS])
    return [path for path in paths if DISABLED in (host.read(path) or "")]


def _override(host: Host) -> str:
    """The path of su where an override of our kind is in force."""
    su = reading.read_su(host)
    mode = su.override.split()[-1:] == [checks.SU_MODE]
    return su.path if mode and su.override.startswith("root ") else ""

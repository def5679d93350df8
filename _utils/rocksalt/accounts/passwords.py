"""How passwords are made, checked and kept; sessions that end."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rocksalt.accounts import ageing, database, login_defs, pam, profiles, shells, trial
from rocksalt.accounts import password_checks as checks
from rocksalt.accounts.password_checks import CHECKS, Reading, read
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.transaction import ASIDE, DISABLED, Transaction, each, must

if TYPE_CHECKING:
    from rocksalt.accounts.checks import Accounts

__all__ = ["CHECKS", "Reading", "clean", "fix", "leftovers", "read"]
_OPTION_FILES = (checks.QUALITY_MAIN, checks.FAILLOCK, checks.HISTORY)


def fix(host: Host, it: Accounts, ids: Sequence[str]) -> None:
    """Enforces those of ``ids`` that belong here."""
    steps: dict[Callable[[Host, Accounts], None], set[str]] = {
        _definitions: {"ACC-074", "ACC-075"},
        _stacks: set(checks.STACKS),
        _umasks: {"ACC-077"},
        _timeout: {"ACC-078"},
        _ages: {"ACC-076"},
    }
    each(partial(step, host, it) for step, controls in steps.items() if controls & set(ids))


def _definitions(host: Host, it: Accounts) -> None:
    text = host.read(login_defs.PATH) or ""
    new = login_defs.edited(text, checks.definitions(it))
    if new != text:
        Transaction(host).write(login_defs.PATH, new)


def _ages(host: Host, it: Accounts) -> None:
    ageing.fix(host, checks.wrong_ages(it, database.read(host)))


def _umasks(host: Host, it: Accounts) -> None:
    shells.disable(host, checks.wrong_umasks(it))


def _timeout(host: Host, it: Accounts) -> None:
    text = shells.script(it.settings["shell_timeout"])
    if text:
        host.write(shells.TIMEOUT, text)
    else:
        host.remove(shells.TIMEOUT)
    shells.disable(host, checks.wrong_timeouts(it))


# PAM ----------------------------------------------------------------------------------------------


def _stacks(host: Host, it: Accounts) -> None:
    """All profiles together, for they make one stack: built and tried in a copy of the host, then
    put into force file by file; each file alone goes together with the old others.
    """
    change = Transaction(host)
    try:
        _options(host, it, change)
        plan = checks.plan(it)
        used = [name for name in profiles.enabled_profiles(host) if name in profiles.OURS]
        if set(used) == set(plan.texts) and not _unmet(it, host):
            return
        texts = _rehearsed(
            plan,
            _session_accounts(host, it),
            lambda inside: _unmet(it, inside),
            empty="ACC-073" in it.wanted,
        )
        _install(host, change, plan, texts)
    except (Refused, OSError) as error:
        failures = change.undo()
        also = f", and going back failed, too: {'; '.join(failures)}" if failures else ""
        raise Refused(f"{error}; PAM is as it was{also}") from None


def _options(host: Host, it: Accounts, change: Transaction) -> None:
    """Files of options, and nullok in the files of single services."""
    if "ACC-070" in it.wanted:
        change.write(checks.QUALITY, checks.quality_file(it), "0644")
        names = {line.partition("=")[0].strip() for line in checks.quality_file(it).splitlines()}
        _disable_options(host, change, checks.QUALITY_MAIN, names)
        for path in host.glob("/etc/security/pwquality.conf.d/*.conf"):
            if path > checks.QUALITY:
                _disable_options(host, change, path, names)
    if "ACC-072" in it.wanted:
        _disable_options(host, change, checks.FAILLOCK, {"even_deny_root", "root_unlock_time"})
    if "ACC-073" in it.wanted:
        _without_nullok(host, change, it.reading.passwords.nullok)


def _disable_options(host: Host, change: Transaction, path: str, names: set[str]) -> None:
    text = host.read(path) or ""
    rows = text.split("\n")
    for number, row in enumerate(rows):
        if names & set(pam.settings(row)):
            rows[number] = DISABLED + row
    if "\n".join(rows) != text:
        change.write(path, "\n".join(rows))


def _without_nullok(host: Host, change: Transaction, rules: Sequence[pam.Rule]) -> None:
    """The lines stay as comments above those that replace them."""
    own = [rule for rule in rules if rule.path not in pam.COMMON.values()]
    for path in dict.fromkeys(rule.path for rule in own):
        rows = (host.read(path) or "").split("\n")
        for number in {rule.number for rule in own if rule.path == path}:
            row = rows[number - 1]
            without = re.sub(r"\s+nullok(?:_secure)?\b", "", row)
            if without == row or row.endswith("\\"):
                raise Refused(f"nullok in {path} line {number} has to be taken out by hand")
            rows[number - 1] = f"{DISABLED}{row}\n{without}"
        change.write(path, "\n".join(rows))


def _session_accounts(host: Host, it: Accounts) -> list[str]:
    """Who may become root, and exists by now."""
    people = database.read(host)
    members = people.members.get(it.settings["administrators_group"], set())
    return sorted((members | set(it.administrators)) & set(people.by_name))


def _unmet(it: Accounts, inside: Host) -> list[str]:
    """The controls of PAM that a host would not keep, in words; those that lack a package or its
    data are no fault of the stacks.
    """
    here = read(inside, it.people)
    there = type(it)(it.baseline, dataclasses.replace(it.reading, passwords=here))
    lacking = set() if checks.plan(it).enable and here.dictionary else {"ACC-070"}
    found = []
    for identifier in checks.STACKS:
        expected, look = CHECKS[identifier]
        seen = look(there)
        judged = identifier in it.wanted and identifier not in lacking
        if judged and not _repaired(identifier, expected(there), seen.actual):
            found.append(f"{identifier}: {seen.reason or seen.actual}")
    return found


def _repaired(identifier: str, expected: object, actual: object) -> bool:
    """Whether the stacks are as expected; other files are mended by others."""
    if identifier == "ACC-077" and isinstance(expected, dict) and isinstance(actual, dict):
        return all(expected[k] == actual[k] for k in expected if k != "unexpected")
    return expected == actual


def _rehearsed(
    plan: profiles.Plan,
    names: Sequence[str],
    unmet: Callable[[Host], list[str]],
    *,
    empty: bool,
) -> dict[str, str]:
    """The files that pam-auth-update makes of a plan: path -> text. Refused where somebody could no
    longer log in, or where they are not what is wanted.
    """
    with trial.stage() as inside:
        before = trial.sessions(inside, names)
        texts = profiles.build(inside, plan)
        problems = unmet(inside)
        if problems:
            raise Refused(f"pam-auth-update does not make what is wanted: {'; '.join(problems)}")
        trial.passwords(inside, empty)
        after = trial.sessions(inside, names)
    worse = [what for what, status in after.items() if status and not before.get(what)]
    if worse:
        raise Refused(f"sessions would be refused: {', '.join(worse)}")
    return texts


def _install(host: Host, change: Transaction, plan: profiles.Plan, texts: dict[str, str]) -> None:
    """The profiles, which nobody uses yet, then the files, and pam-auth-update is told. It finds
    everything as it would make it.
    """
    for name, text in plan.texts.items():
        change.write(f"{profiles.FOLDER}/{name}", text, "0644")
    for path, text in texts.items():
        if host.read(path) != text:
            change.write(path, text, "0644")
    must(host, "pam-auth-update failed", *plan.command)
    for name in plan.gone:
        change.remove(f"{profiles.FOLDER}/{name}")
    changed = [path for path, text in texts.items() if host.read(path) != text]
    if changed:
        raise Refused(f"pam-auth-update made something else of {', '.join(changed)}")


# Back ---------------------------------------------------------------------------------------------


def leftovers(host: Host) -> list[str]:
    """What is on the host that the baseline put there."""
    own = [f"{profiles.FOLDER}/{name}" for name in profiles.OURS]
    own += [checks.QUALITY, shells.TIMEOUT, *(f"{path}{ASIDE}" for path in _aside(host))]
    found = [path for path in own if host.read(path) is not None]
    if login_defs.is_edited(host.read(login_defs.PATH) or ""):
        found.append(login_defs.PATH)
    return found + [path for path in _edited(host) if path not in found]


def _aside(host: Host) -> dict[str, str]:
    """The common files of somebody's own making, which ours replaced: path -> text."""
    texts = {path: host.read(f"{path}{ASIDE}") for path in pam.COMMON.values()}
    return {path: text for path, text in texts.items() if text is not None}


def _with_files_back(inside: Host) -> list[str]:
    """Has them in force where log-ins are tried; nothing is promised of them."""
    for path, text in _aside(inside).items():
        inside.write(path, text)
    return []


def _edited(host: Host) -> list[str]:
    """Files of others in which lines are disabled."""
    paths = [*_OPTION_FILES, *host.glob("/etc/security/pwquality.conf.d/*.conf")]
    paths += [*shells.read(host), *host.glob(f"{pam.FOLDER}/*")]
    return [path for path in dict.fromkeys(paths) if DISABLED in (host.read(path) or "")]


def clean(host: Host) -> None:
    """Takes it away: the distribution's profiles, or the files of somebody's own making that there
    were, are in force again, tried like ours were.
    """
    change = Transaction(host)
    try:
        used = set(profiles.OURS) & set(profiles.enabled_profiles(host))
        if used or any(host.read(f"{profiles.FOLDER}/{name}") for name in profiles.OURS):
            stock = ["unix"] if "rocksalt-unix" in used else []
            plan = profiles.Plan(enable=stock)
            texts = _rehearsed(plan, [], _with_files_back, empty=False)
            _install(host, change, plan, texts)
        for path, text in _aside(host).items():
            change.write(path, text)
            change.remove(f"{path}{ASIDE}")
        for path in _edited(host):
            change.write(path, restored(host.read(path) or ""))
        text = host.read(login_defs.PATH) or ""
        if login_defs.is_edited(text):
            change.write(login_defs.PATH, login_defs.restored(text))
        for path in (checks.QUALITY, shells.TIMEOUT):
            change.remove(path)
    except (Refused, OSError) as error:
        change.undo()
        raise Refused(f"{error}; PAM is as it was") from None


def restored(text: str) -> str:
    """The text with disabled lines given back, in place of lines that replaced them."""
    rows: list[str] = []
    replaced = ""
    for row in text.split("\n"):
        if row.startswith(DISABLED):
            rows.append(row.removeprefix(DISABLED))
            replaced = re.sub(r"\s+nullok(?:_secure)?\b", "", rows[-1])
            replaced = replaced if replaced != rows[-1] else ""
        elif not ((replaced and row == replaced) or row.endswith(shells.STAND_IN)):
            rows.append(row)
            replaced = ""
    return "\n".join(rows)

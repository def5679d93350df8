"""What the settings declare of administrators, and what in it does not go together."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from typing import Any

from rocksalt.accounts.database import NO_SHELLS
from rocksalt.schema import FORMATS
from rocksalt.settings import Baseline, Family
from rocksalt.sshd import keys

_WAY_TO_ROOT = "give it nopasswd: true, or a hash under hardening:accounts:password_hashes"


def problems(baseline: Baseline) -> list[str]:
    """Sentences about settings that are each well-formed and would yet lock somebody out, or make
    nobody an administrator.
    """
    family = baseline.families["accounts"]
    found = [
        problem
        for name, entry in family.settings["administrators"].items()
        for problem in _of_administrator(family, name, entry)
    ]
    found += _of_others(family)
    return found + list(_of_group(baseline, family))


def _of_administrator(family: Family, name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    path = family.where("administrators", name)
    if name == "root":
        yield f"{path}: root is no administrator's account; declare the people who become root"
    elif not FORMATS["user"][0](name):
        yield f"{path}: {name!r} is not {FORMATS['user'][1]}"
    if name in family.settings["users"]:
        yield f"{path}: {name} is declared twice, as administrator and under users; keep one"
    shell = entry.get("shell", "/bin/bash")
    if shell.rsplit("/", 1)[-1] in NO_SHELLS:
        yield f"{path}:shell: with {shell} nobody can log in; write a shell such as /bin/bash"
    same = [
        other
        for other, declared in family.settings["administrators"].items()
        if other < name and "uid" in entry and declared.get("uid") == entry["uid"]
    ]
    if same:
        yield f"{path}:uid: {entry['uid']} is also the UID of {same[0]}; give each its own"
    hashes = family.settings["password_hashes"]
    if not entry.get("nopasswd") and isinstance(hashes, Mapping) and name not in hashes:
        yield f"{path}: sudo would ask {name} for a password that nobody has; {_WAY_TO_ROOT}"
    for number, line in enumerate(entry["keys"]):
        reason = keys.refused(keys.parse(line)[0], None, 0, ["0.0.0.0/0", "::/0"])
        if reason:
            yield f"{path}:keys:{number}: gives no way in, for {reason}"


def _of_others(family: Family) -> Iterator[str]:
    administrators = family.settings["administrators"]
    hashes = family.settings["password_hashes"]
    for name in hashes if isinstance(hashes, Mapping) else ():
        if name not in administrators:
            yield (
                f"hardening:accounts:password_hashes:{name}: {name} is no administrator; declare "
                "it under hardening:accounts:administrators, or take the hash out"
            )
    for name in family.settings["users"]:
        if name == "root" or not FORMATS["user"][0](name):
            path = family.where("users", name)
            yield f"{path}: {name!r} is not {FORMATS['user'][1]} other than root"


def _of_group(baseline: Baseline, family: Family) -> Iterator[str]:
    """The group of the administrators against those that sshd lets in."""
    sshd, group = baseline.families.get("sshd"), family.settings["administrators_group"]
    if sshd is None or not sshd.settings["enabled"] or not family.settings["administrators"]:
        return
    let_in = sshd.settings["allow_groups"]
    if not any(fnmatch.fnmatchcase(group, pattern) for pattern in let_in):
        yield (
            f"{family.where('administrators_group')}: members of {group} could not log in, for "
            f"{sshd.where('allow_groups')} lets in {', '.join(let_in)} only; name {group} there"
        )

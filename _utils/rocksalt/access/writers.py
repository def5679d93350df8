"""Who can write what the master obeys: states, modules, pillar, its configuration. They are root on
all hosts, whatever their roles say.
"""

from __future__ import annotations

import glob
import grp
import os
import pwd
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from os import lstat
from typing import Any

from rocksalt import access
from rocksalt.access import trees

EVERYBODY = "everybody"
_ROOTS = ("file_roots", "pillar_roots", "thorium_roots", "master_roots")
_PATHS = ("extension_modules", "pki_dir", "cluster_pki_dir", "autosign_file", "autosign_grains_dir")
PROGRAMS = {"ext_pillar": re.compile("cmd_.*"), "master_tops": re.compile("ext_nodes")}
_KNOWN = {"roots", "git", "gitfs"}


def places(opts: Mapping[str, Any]) -> dict[str, list[str]]:
    """Option of the master -> the folders and files that it obeys by it. Those of ``reactor`` may
    be globs.
    """
    found: dict[str, list[str]] = {}
    for key in _ROOTS:
        value = opts.get(key) or {}
        lists = value.values() if isinstance(value, Mapping) else [value]
        found[key] = [str(path) for paths in lists for path in _listed(paths)]
    dirs = sorted(str(key) for key in opts if str(key).endswith("_dirs"))
    for key in (*dirs, *_PATHS):
        found[key] = [str(path) for path in _listed(opts.get(key)) if path]
    found["reactor"] = [*_reactions(opts.get("reactor"))]
    for key, kinds in PROGRAMS.items():
        found[key] = [*_programs(opts.get(key), kinds)]
    found["configuration"] = [os.path.dirname(str(opts["conf_file"]))]
    found["salt-api"] = [access.DOOR]
    return {key: sorted(set(paths)) for key, paths in found.items() if paths}


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value or [])


def _reactions(given: Any) -> Iterator[str]:
    """The states of a reactor that are files, and its map where that is one."""
    if isinstance(given, str):
        yield given
        return
    for entry in given or []:
        for states in entry.values() if isinstance(entry, Mapping) else ():
            yield from (str(one) for one in _listed(states) if str(one).startswith("/"))


def _programs(given: Any, kinds: re.Pattern[str]) -> Iterator[str]:
    """What is named in commands that the master runs for pillar or tops."""
    for entry in given if isinstance(given, list) else [given or {}]:
        for kind, command in entry.items() if isinstance(entry, Mapping) else ():
            if kinds.fullmatch(str(kind)):
                yield from (word for word in str(command).split() if word.startswith("/"))


def remotes(opts: Mapping[str, Any]) -> list[str]:
    """Sentences of who is root by what is not on this host."""
    found = [
        f"whoever may push to {name} (gitfs_remotes)" for name in _names(opts.get("gitfs_remotes"))
    ]
    for pillar in opts.get("ext_pillar") or ():
        for kind, given in pillar.items() if isinstance(pillar, Mapping) else ():
            if kind == "git":
                urls = [name.split(" ")[-1] for name in _names(given)]
                found += [f"whoever may push to {url} (ext_pillar git)" for url in urls]
            else:
                found.append(f"whoever may change what ext_pillar {kind} reads")
    others = set(opts.get("fileserver_backend") or ()) - _KNOWN
    return found + [f"whoever may change what fileserver_backend {n} reads" for n in sorted(others)]


def _names(given: Any) -> list[str]:
    """Those of a list of names, or of mappings with the name as key."""
    items = given if isinstance(given, list) else [given] if given else []
    return [str(next(iter(one))) if isinstance(one, Mapping) and one else str(one) for one in items]


def writers(opts: Mapping[str, Any]) -> tuple[dict[str, list[str]], list[str]]:
    """Person -> what they can write, an example for each folder; and what could not be looked at.
    root, who may do all of this anyway, is left out.
    """
    found: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    for key, paths in places(opts).items():
        for path in paths:
            for one in (glob.glob(path) or [path]) if key == "reactor" else [path]:
                for who, what in _of_tree(one, problems):
                    found.setdefault(who, {}).setdefault(f"{key} {path}", what)
    return {
        who: [f"{place}: {what}" for place, what in sorted(told.items())]
        for who, told in sorted(found.items())
    }, problems


def _of_tree(top: str, problems: list[str]) -> Iterator[tuple[str, str]]:
    """Those who can write a folder, anything in it, or what it is in."""
    seen, told, real = set(), set(), os.path.realpath(top)
    for path in trees.walked([top], failed=lambda error: problems.append(_said(error))):
        try:
            found = lstat(path)
            listed = any(name.startswith("system.posix_acl") for name in _attributes(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
            continue
        inside = f"{path}/".startswith(f"{real}/")
        if listed:
            problems.append(f"{path} has an access list, which getfacl shows")
        # In a folder with the sticky bit, what others own cannot be taken away.
        shared = bool(found.st_mode & stat.S_ISVTX) and not inside
        mode = 0 if shared else found.st_mode
        key = (found.st_uid, found.st_gid if mode & 0o020 else -1, mode & 0o002)
        if stat.S_ISLNK(found.st_mode):
            key = (found.st_uid, -1, 0)
        if key in seen:
            continue
        seen.add(key)
        for who, why in _able(*key):
            if who not in told:
                told.add(who)
                yield who, f"{why} {path}"


def _able(owner: int, group: int, others: int) -> Iterable[tuple[str, str]]:
    if others:
        yield EVERYBODY, "may write"
    if owner:
        yield _user(owner), "owns"
    if group >= 0:
        yield from _members(group)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _members(number: int) -> Iterator[tuple[str, str]]:
    """Members of a group, and those whose first one it is."""
    try:
        found = grp.getgrgid(number)
    except KeyError:
        yield f"group {number}", "may write"
        return
    first = [user.pw_name for user in pwd.getpwall() if user.pw_gid == number and user.pw_uid]
    for name in sorted({*found.gr_mem, *first} - {"root"}):
        yield name, f"as of the group {found.gr_name} may write"


def _attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError:
        return []


def _said(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"

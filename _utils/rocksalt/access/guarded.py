"""Who can read the master's secrets, and who can change what its minions run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from rocksalt import permissions
from rocksalt.access import controls, trees, unasked, writers
from rocksalt.access.door import conf
from rocksalt.access.facts import ROOT, Checks, Facts
from rocksalt.errors import Refused
from rocksalt.findings import Seen, some
from rocksalt.host import Attributes

MOST = 50_000
"""Files and folders that are looked at; more take too long on every run."""
_LISTED = 20
"""Paths that a finding names."""
_OWNER, _GROUP, _OTHERS, _WRITE_GROUP, _WRITE_OTHERS = 0o700, 0o070, 0o007, 0o020, 0o002
_TALKATIVE = ("all", "garbage", "trace")
"""Levels of the log at which Salt writes down whole requests, with what is secret in them."""


# What is not for everybody's eyes -----------------------------------------------------------------


def _secrets(it: Facts) -> dict[str, set[str]]:
    """Path -> who may own it, of what others must not read."""
    own = {ROOT, it.user}
    names = {"master", str(it.option("master_sign_key_name") or "master_sign")}
    paths = [f"{it.pki}/{name}.pem" for name in sorted(names)]
    paths += [f"{it.option('pki_dir')}/master.pem"]
    for tokens in dict.fromkeys((it.option("token_dir"), f"{it.option('cachedir')}/tokens")):
        paths += [tokens, *it.host.glob(f"{tokens}/*")] if tokens else []  # named as they are
    paths += [source.path for source in it.sources]
    paths += [*_roots(it, "pillar_roots"), conf.seal_file(it.opts)]
    found = dict.fromkeys(paths, own)
    for path in it.host.glob(f"{it.option('cachedir')}/.*_key"):
        whose = os.path.basename(path)[1:].removesuffix("_key")
        found[path] = {*own, whose}
    return found


def _private_seen(it: Facts) -> Seen:
    opened, told = _open(it), [*_told(it)]
    found = [f"{path} ({at.access}) {why}" for path, (at, why) in opened.items()]
    who = f"; only root, {it.user} and the group {it.group} are to have them"
    known = {source.path for source in it.sources}
    own = " ".join(p for p, (at, _) in opened.items() if p in known and at.owner == ROOT)
    who += f": chgrp {it.group} {own} && chmod 0640 {own}" if own else ""
    seen = _listed([*told, *found], who if found else "")
    return dataclasses.replace(seen, remedy="state" if closable(it) else "")


def _told(it: Facts) -> Iterator[str]:
    """Options by which the master itself tells what is secret."""
    if it.option("pillar_opts"):
        yield f"every minion gets the master's options, by pillar_opts{it.said_by('pillar_opts')}"
    levels = {key: it.option(key) for key in ("log_level", "log_level_logfile")}
    granular = it.option("log_granular_levels") or {}
    levels |= {f"log_granular_levels:{name}": level for name, level in granular.items()}
    for key, level in levels.items():
        if str(level).lower() in _TALKATIVE:
            files = it.said_by(*key.split(":", 1))
            yield f"requests are in the log with their passwords, by {key}: {level}{files}"


def _open(it: Facts) -> dict[str, tuple[Attributes, str]]:
    """What others can read, and why."""
    found = {}
    for path, owners in _secrets(it).items():
        at = it.host.attributes(path)
        if at and (why := _readable(it, path, at, owners)):
            found[path] = (at, why)
    return found


def closable(it: Facts) -> dict[str, str]:
    """Path -> access of what is the master's own: it needs no rights of others to get at that."""
    return {
        path: f"{at.owner}:{at.group} {int(at.mode, 8) & _OWNER:04o}"
        for path, (at, _) in _open(it).items()
        if at.owner == it.user and not it.host.path(path).is_symlink()
    }


def _readable(it: Facts, path: str, at: Attributes, owners: set[str]) -> str:
    """Why others can read a file or list a folder; empty where they cannot."""
    mode = int(at.mode, 8)
    if at.owner not in owners:
        return f"belongs to {at.owner}"
    if mode & _OTHERS:
        return "is open to everybody"
    if mode & _GROUP and at.group not in (ROOT, it.group):
        return f"is open to the group {at.group}"
    return "is open to more by an ACL" if permissions.acl(it.host, path) else ""


# What is not for everybody's hands ----------------------------------------------------------------


def _roots(it: Facts, *options: str) -> list[str]:
    """The folders that options name, by environment or as a list."""
    found: list[Any] = []
    for option in options:
        value = it.option(option)
        lists = value.values() if isinstance(value, dict) else [value or []]
        found += [root for roots in lists for root in (roots if isinstance(roots, list) else [])]
    return [str(root) for root in dict.fromkeys(found)]


def tops(it: Facts) -> list[str]:
    """What the master obeys: states, pillar, code that it or minions run, its configuration, and
    the keys of minions.
    """
    named = writers.places({**it.opts, "conf_file": it.main})
    for key in named.keys() - writers.PROGRAMS.keys():
        it.option(key)  # which raises for what is not known here
    found = [path for paths in named.values() for path in paths]
    found += [path for pattern in named.get("reactor", ()) for path in it.host.glob(pattern)]
    found += [path for _, state in unasked.reactor(it) for path in unasked.states_of(it, state)]
    found += [source.path for source in it.sources]
    return [path for path in dict.fromkeys(found) if path and it.host.attributes(path)]


def _trees_seen(it: Facts) -> Seen:
    found = []
    for path in walked(it, tops(it)):
        at = it.host.attributes(path, follow=False)
        if at and (why := _writable(it, path, at)):
            found.append(f"{path} ({at.access}) {why}")
    return _listed(found)


def walked(it: Facts, folders: list[str]) -> Iterator[str]:
    """All that decides about the content of folders, see :func:`trees.walked`. Raises
    :class:`Refused` where that is too much.
    """
    for number, path in enumerate(trees.walked(folders, it.host.root)):
        if number >= MOST:
            raise Refused(
                f"the trees of states, pillar and keys have more than {MOST} files ({path} and "
                "others), which is too many to look at: have fewer, or excuse this control"
            )
        yield path


def _writable(it: Facts, path: str, at: Attributes) -> str:
    """Why others can change something; empty where they cannot. A link has no rights of its own."""
    mode = int(at.mode, 8)
    if at.owner not in (ROOT, it.user):
        return f"belongs to {at.owner}"
    if it.host.path(path).is_symlink():
        return ""
    if mode & _WRITE_OTHERS:
        return "can be written by everybody"
    if mode & _WRITE_GROUP and at.group not in (ROOT, it.group):
        return f"can be written by the group {at.group}"
    return "can be changed by more by an ACL" if permissions.acl(it.host, path) else ""


def _listed(found: list[str], advice: str = "") -> Seen:
    more = [f"and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
    return Seen([*found[:_LISTED], *more], some(found) + advice)


CHECKS: Checks = {
    controls.PRIVATE: (lambda it: [], _private_seen),
    controls.TREES: (lambda it: [], _trees_seen),
}

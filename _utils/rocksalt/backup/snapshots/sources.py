"""What belongs to a Salt master, by its own options: what is packed, what is not, and why."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rocksalt.backup import names
from rocksalt.backup.config import within
from rocksalt.backup.errors import BackupError
from rocksalt.backup.packing.walk import Part
from rocksalt.backup.snapshots import options
from rocksalt.backup.snapshots.options import Named

_VIRTUAL = ("/dev", "/proc", "/run", "/sys")
_MOST_LINKS = 40
_BESIDE = ("-journal", "-shm", "-wal", ".heap", ".lock", ".roster")
"""What SQLite and Salt keep beside a database, with its content."""
_NEEDED = "name it in hardening:backup:extra if it is needed"


class Included(NamedTuple):
    """A file or folder that is packed, with all below it that is not excluded: which options name
    it, into which part it goes, how many regular files and bytes it has.
    """

    path: str
    why: str
    part: str
    files: int
    bytes: int


class Left(NamedTuple):
    """A path that is not packed, and why."""

    path: str
    why: str


class Link(NamedTuple):
    """A link below a root of a part, and where it leads."""

    part: str
    path: str
    target: str


@dataclass(frozen=True)
class Plan:
    """The parts to pack and how they came about. ``excluded`` is left out on purpose; ``missing``
    is what should be packed and cannot be, each of them a warning of the snapshot, and where trees
    are walked also the links of a customer's that lead to what others read.
    """

    parts: list[Part]
    included: list[Included]
    excluded: list[Left]
    missing: list[Left]


@dataclass
class _Draft:
    """What is known of the parts while they are made: real path -> options, by part; the names
    beside customers' files that are theirs as soon as there is such a file.
    """

    roots: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    claimed: set[str] = field(default_factory=set)
    excluded: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def plan(opts: Mapping[str, Any], settings: Mapping[str, Any], measure: bool = True) -> Plan:
    """What a snapshot of the master with these options holds.

    ``opts`` are the master's options as Salt has read them; ``settings`` those of
    :mod:`rocksalt.backup.config`. Without ``measure`` files and bytes are 0 and no tree is walked.
    :class:`BackupError` where a setting would lose data: a root inside the spool, the master's own
    keys inside a customer's path.
    """
    draft = _Draft()
    for left in options.disposable(opts, settings):
        draft.excluded.setdefault(_resolved(left.path)[1], left.why)
    for customer, entry in settings["customers"].items():
        why = f"hardening:backup:customers:{customer}"
        for path in entry["paths"]:
            _add(draft, Named(path, why), names.CUSTOMER + customer, settings)
            for beside in _beside(path):
                draft.claimed.add(beside)
                _add(draft, Named(beside, why, must=False), names.CUSTOMER + customer, settings)
    _check_vital(draft, opts)
    for named in options.belonging(opts, settings):
        _add(draft, named, names.OPERATOR, settings)
    _leave_to_customers(draft)
    parts = [_part(draft, name) for name in sorted(draft.roots) if draft.roots[name]]
    if names.OPERATOR not in [part.name for part in parts]:
        raise BackupError("nothing of what the master's options name exists: see backup.plan")
    included, links = _included(draft, parts, measure)
    _tell_foreign(draft, parts, links)
    known = [*_outside(parts, draft, links), *_unknown(parts, draft, options.unknown(opts))]
    excluded = [Left(*item) for item in sorted({**dict(known), **draft.excluded}.items())]
    return Plan(parts, included, excluded, [Left(*i) for i in sorted(draft.missing.items())])


def _add(draft: _Draft, named: Named, part: str, settings: Mapping[str, Any]) -> None:
    """Adds a path to a part: where it leads, and each link on the way."""
    if not named.path.startswith("/"):
        draft.missing[named.path] = f"{named.why}: is no absolute path"
        return
    links, real = _resolved(named.path)
    unfit = _unfit(real, named.why, _resolved(settings["spool"])[1])
    left = [_resolved(path)[1] for path in settings["exclude"]]
    if unfit:
        draft.missing[named.path] = unfit
    elif any(within(real, path) for path in left):
        draft.excluded[real] = f"hardening:backup:exclude, although {named.why} names it"
    elif os.path.lexists(real):
        for path in (*links, real):
            why = draft.roots.setdefault(part, {}).setdefault(path, [])
            why += [] if named.why in why else [named.why]
    elif named.must:
        draft.missing[named.path] = f"{named.why}: does not exist"


def _beside(path: str) -> Iterator[str]:
    """The files that belong to a customer's file without being named."""
    real = _resolved(path)[1]
    if os.path.isfile(real):
        yield from (real + end for end in _BESIDE)
        yield from glob.glob(f"{glob.escape(real)}.heap.*")


def _tell_foreign(draft: _Draft, parts: Iterable[Part], links: Iterable[Link]) -> None:
    """Links of a customer's that lead into another part: what they lead to is not the customer's,
    and others read it.
    """
    roots = sorted(((root, part.name) for part in parts for root in part.roots), reverse=True)
    for part, path, target in links:
        owner = next((name for root, name in roots if within(target, root)), part)
        if part != names.OPERATOR and owner != part:
            draft.missing[path] = f"is a link to {target}, which is packed for {owner} and not here"


def _unfit(real: str, why: str, spool: str) -> str:
    """Why a path cannot be packed although it exists."""
    if real == "/":
        return f"{why}: is the whole machine, name the folders that belong to the master"
    if any(within(real, folder) for folder in _VIRTUAL):
        return f"{why}: holds no files but what the running kernel shows"
    if within(real, spool):
        raise BackupError(
            f"{why}: {real} lies inside the spool {spool}, which is not backed up:"
            " choose another hardening:backup:spool"
        )
    return ""


def _check_vital(draft: _Draft, opts: Mapping[str, Any]) -> None:
    """The keys of the master must not end up where its operators cannot read them."""
    vital = [options.OWN, options.config_dir(opts), *(named.path for named in options.vital(opts))]
    for part, roots in draft.roots.items():
        for path in vital:
            for root in roots:
                if within(_resolved(path)[1], root):
                    raise BackupError(
                        f"hardening:backup:customers:{part.removeprefix(names.CUSTOMER)}:paths:"
                        f" {root} holds {path} of the master, which its operators need"
                    )


def _leave_to_customers(draft: _Draft) -> None:
    """A path that a customer owns is packed for the customer alone."""
    operator = draft.roots.get(names.OPERATOR, {})
    for path in list(operator):
        for part, roots in draft.roots.items():
            owner = next((root for root in roots if within(path, root)), None)
            if part != names.OPERATOR and owner:
                roots[owner] += [why for why in operator.pop(path, []) if why not in roots[owner]]


def _part(draft: _Draft, name: str) -> Part:
    """Roots that lie in another one go with that; what is left out around one of them is left out
    entry by entry. Customers' files are not the operator's by another name either.
    """
    own = draft.roots[name]
    others = {path for part, roots in draft.roots.items() if part != name for path in roots}
    left = {path for path in draft.excluded if path not in own} | others
    left |= draft.claimed - own.keys() if name == names.OPERATOR else set()
    exclude = {
        entry
        for path in left
        if any(within(path, root) for root in own)
        for entry in _around(path, [root for root in own if within(root, path)])
    }
    for path in list(own):
        outer = next((root for root in own if root != path and within(path, root)), None)
        if outer:
            own[outer] += [why for why in own.pop(path) if why not in own[outer]]
    foreign = others if name == names.OPERATOR else ()
    return Part(name, tuple(sorted(own)), tuple(sorted(exclude)), tuple(sorted(foreign)))


def _around(path: str, kept: Collection[str]) -> Iterator[str]:
    """What is at and below a path, without what is kept and the way to it."""
    if not kept:
        yield path
        return
    with contextlib.suppress(OSError):
        for entry in (os.path.join(path, name) for name in os.listdir(path)):
            if entry not in kept:
                yield from _around(entry, [root for root in kept if within(root, entry)])


def _included(
    draft: _Draft, parts: Iterable[Part], measure: bool
) -> tuple[list[Included], list[Link]]:
    found, links = [], []
    for part in parts:
        for root in part.roots:
            files = size = 0
            for path, status in _entries(root, part.exclude) if measure else ():
                if stat.S_ISREG(status.st_mode):
                    files, size = files + 1, size + status.st_size
                elif stat.S_ISLNK(status.st_mode) and path != root:
                    links.append(Link(part.name, path, os.path.realpath(path)))
            why = ", ".join(draft.roots[part.name][root])
            found.append(Included(root, why, part.name, files, size))
    return found, links


def _entries(root: str, exclude: Collection[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Everything at and below a root that can be looked at."""
    todo = [root]
    while todo:
        path = todo.pop()
        try:
            status = os.lstat(path)
            yield path, status
            if stat.S_ISDIR(status.st_mode):
                below = (os.path.join(path, name) for name in os.listdir(path))
                todo += [entry for entry in below if entry not in exclude]
        except OSError:  # vanished; the snapshot itself tells what it could not read
            continue


def _outside(
    parts: Iterable[Part], draft: _Draft, links: Iterable[Link]
) -> Iterator[tuple[str, str]]:
    """Where links of what is packed lead to something that is not."""
    for _, path, target in links:
        if (
            os.path.exists(target)
            and not options.is_system(target)
            and not _known(target, parts, draft)
        ):
            yield target, f"the link {path} leads here: {_NEEDED}"


def _unknown(
    parts: Iterable[Part], draft: _Draft, named: Iterable[Named]
) -> Iterator[tuple[str, str]]:
    for path, option, _ in named:
        if not _known(_resolved(path)[1], parts, draft):
            yield path, f"{option} names it: {_NEEDED}"


def _known(path: str, parts: Iterable[Part], draft: _Draft) -> bool:
    """Whether a path is packed, or left out for a reason, or has something packed below it."""
    if any(within(path, left) for left in draft.excluded):
        return True
    roots = [root for part in parts for root in part.roots]
    return any(within(path, root) or within(root, path) for root in roots)


def _resolved(path: str) -> tuple[list[str], str]:
    """The links on the way to a path, each with a folder that is none, and where they lead to; the
    operating system's own links are followed and not told.
    """
    links: list[str] = []
    real, todo = "/", path.split("/")[::-1]
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            real = os.path.dirname(real)
            continue
        here = os.path.join(real, name)
        try:
            text = os.readlink(here)
        except OSError:
            real = here
            continue
        if len(links) == _MOST_LINKS:
            return links, here
        links.append(here)
        real = "/" if text.startswith("/") else real
        todo += text.split("/")[::-1]
    usual = (link for link in links if not options.is_system(link))
    return [link for link in usual if link not in ("/var/run", "/var/lock")], real

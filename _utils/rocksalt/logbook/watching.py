"""What changed below the file roots and pillar roots of the master, by name."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rocksalt.backup.manifest import canonical
from rocksalt.logbook.records import Record, short
from rocksalt.logstash.receiving import files

SHOWN = 100
"""Names of one kind in a record; there may be more, which are counted."""
FILES, LARGEST = 100_000, 256 << 20
"""Files of a tree that are looked at, and bytes of one that is read; of a larger one it is seen
that it was changed.
"""
_BLOCK = 1 << 20

Tree = dict[str, list[Any]]
"""By path, what its state was (``stat``, so that it is read again only then), and its digest."""


def roots(opts: Mapping[str, Any], more: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The trees to watch: a name -> folders (or files). ``more`` are others."""
    found: dict[str, list[str]] = {name: list(paths) for name, paths in more.items()}
    for key in ("file_roots", "pillar_roots"):
        for environment, paths in (opts.get(key) or {}).items():
            found[f"{key}:{environment}"] = [str(path) for path in paths]
    return found


class Watcher:
    """The trees, and the file that has what was seen of them last."""

    def __init__(self, trees: Mapping[str, Sequence[str]], kept: Path):
        self._trees, self._kept = trees, kept
        self._seen: dict[str, dict[str, Any]] = _loaded(kept)
        self._found = self._seen
        self._failed: dict[str, str] = {}
        """By tree, why it could not be looked at."""

    def look(self) -> list[Record]:
        """What changed since the last time that :meth:`keep` was called, a record for each tree.
        Of one that was never looked at: how many files it has. One that cannot be looked at, whose
        :meth:`problem` that is, stays as it was.
        """
        self._found, self._failed = {}, {}
        for name, paths in self._trees.items():
            try:
                self._found[name] = self._looked(name, paths)
            except Exception as error:
                # Others write them: none may end the logbook, or hide those after it.
                self._failed[name] = f"{name} cannot be looked at: {type(error).__name__}: {error}"
                if name in self._seen:
                    self._found[name] = self._seen[name]
        pairs = ((name, self._seen.get(name), new) for name, new in self._found.items())
        return [record for name, old, new in pairs if (record := _compared(name, old, new))]

    def problem(self) -> str:
        """Of which trees not all files are looked at, or nothing."""
        many = [name for name, it in self._found.items() if len(it["tree"]) >= FILES]
        said = f"{', '.join(many)}: more than {FILES} files, not all are watched" if many else ""
        return "; ".join(filter(None, [*self._failed.values(), said]))

    def keep(self) -> None:
        """Goes on from what was found, when the records are kept."""
        if self._found != self._seen:
            self._seen = self._found
            files.replace(self._kept, canonical(self._seen))

    def _looked(self, name: str, paths: Sequence[str]) -> dict[str, Any]:
        before = self._seen.get(name) or {"number": 0, "tree": {}}
        tree: Tree = {}
        for path in paths:
            tree.update(files_of(path, before["tree"]))
        # A state that was changed and changed back has other times.
        same = tree == before["tree"] and name in self._seen
        return {"number": before["number"] + (not same), "tree": tree}


def digest(tree: Tree) -> str:
    """One of all names and contents."""
    return hashlib.sha256(canonical(_digests(tree))).hexdigest()


def _compared(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> Record | None:
    if old is not None and old["number"] == new["number"]:
        return None
    tree = new["tree"]
    found: Record = {
        "time": None, "kind": "files", "tree": name, "files": len(tree), "digest": digest(tree),
        "event.id": f"files/{short(name)}/{new['number']}/{digest(tree)[:16]}",
    }  # fmt: skip
    if len(tree) >= FILES:
        found["unwatched"] = True
    if old is None:
        return {**found, "first": True}
    before, after = _digests(old["tree"]), _digests(tree)
    kinds = {
        "added": after.keys() - before.keys(),
        "removed": before.keys() - after.keys(),
        "changed": {it for it in after.keys() & before.keys() if after[it] != before[it]},
        "touched": {it for it in after.keys() & before.keys()
                    if after[it] == before[it] and tree[it] != old["tree"][it]},
    }  # fmt: skip
    for kind, names in kinds.items():
        if names:
            found[kind] = sorted(names)[:SHOWN]
        if len(names) > SHOWN:
            found[f"more_{kind}"] = len(names) - SHOWN
    return found


def _digests(tree: Tree) -> dict[str, str]:
    return {path: str(it[-1]) for path, it in tree.items()}


def files_of(top: str, before: Tree) -> Tree:
    """All files of a folder as they are, no more than :data:`FILES`; ``before`` are those of the
    last look.
    """
    found: Tree = {}
    for path in islice(_paths(top), FILES):
        is_folder = os.path.isdir(path)
        try:
            # Of a link to a folder, which is told of by itself, where it leads.
            state = os.lstat(path) if is_folder else os.stat(path)
        except OSError:
            continue
        seen = [state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino]
        known = before.get(path)
        same = known is not None and known[:-1] == seen and not is_folder
        own = f"-> {os.path.realpath(path)}" if is_folder else ""
        found[path] = known if same and known else [*seen, own or _content(path, state)]
    return found


def _paths(top: str) -> Iterator[str]:
    """All files, also behind links, which the master follows as well: each folder once, however
    deep it is.
    """
    seen: set[tuple[int, int]] = set()
    left = [top]
    while left:
        path = left.pop()
        if not os.path.isdir(path):
            yield path
            continue
        if os.path.islink(path):
            yield path
        try:
            state = os.stat(path)
            known = (state.st_dev, state.st_ino)
            names = [] if known in seen else sorted(os.listdir(path), reverse=True)
        except OSError:
            # It is told as a file that cannot be read.
            yield path
            continue
        seen.add(known)
        left += [os.path.join(path, name) for name in names]


def _content(path: str, state: os.stat_result) -> str:
    if not stat.S_ISREG(state.st_mode):
        return "no file"
    if state.st_size > LARGEST:
        return f"large: {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"
    found = hashlib.sha256()
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            left = LARGEST
            while left > 0 and (data := file.read(_BLOCK)):
                found.update(data)
                left -= len(data)
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return found.hexdigest()


def _loaded(kept: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(kept.read_bytes())
        return {name: {"number": int(it["number"]), "tree": dict(it["tree"])}
                for name, it in found.items()}  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}

"""Where restored things go: which of them are wanted, below which folder each is written, and how
they come to their places in the end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rocksalt.backup.errors import BackupError, Unverified
from rocksalt.backup.restoring.extract import Notes, Tree, Workspace
from rocksalt.backup.restoring.members import FOLDER, HARD, Contents, Entry, above

_BESIDE = ".rocksalt-restore"
"""In the folder of what is restored in place, because a rename cannot leave a file system."""


class Plan:
    """What is restored of the contents of parts: everything at or below ``paths``, or all of it.

    ``tops`` are the names that lie in no other restored one. A hard link whose first name is not
    restored gets the content itself (``carriers``).
    """

    def __init__(self, parts: Mapping[str, Contents], paths: Sequence[str] = ()):
        self.parts = parts
        self._paths = [_name(path) for path in paths]
        self.chosen: dict[bytes, str] = {}
        self.carriers: dict[tuple[str, bytes], bytes] = {}
        for part, contents in parts.items():
            for name in filter(self.wants, contents.entries):
                self._choose(part, name, contents.entries[name])
        for path, name in zip(paths, self._paths, strict=True):
            if not any(_at_or_below(it, name) for it in self.chosen):
                raise BackupError(f"{path} is not in {' or '.join(parts)} of the snapshot")
        for name, part in self.chosen.items():
            entry = parts[part].entries[name]
            if entry.kind == HARD and self.chosen.get(entry.link) != part:
                self.carriers.setdefault((part, entry.link), name)
        self.tops = [n for n in self.chosen if not any(it in self.chosen for it in above(n))]

    def _choose(self, part: str, name: bytes, entry: Entry) -> None:
        other = self.chosen.setdefault(name, part)
        if other != part and not entry.kind == self.entry(name).kind == FOLDER:
            raise Unverified(f"/{os.fsdecode(name)} is in {other} and in {part} of the snapshot")

    def wants(self, name: bytes) -> bool:
        return not self._paths or any(_at_or_below(name, path) for path in self._paths)

    def entry(self, name: bytes) -> Entry:
        """What a chosen name is in the archive."""
        return self.parts[self.chosen[name]].entries[name]

    def goes_to(self, part: str, name: bytes) -> bytes | None:
        """The name under which the content of a member is restored; None if it is not."""
        return name if self.chosen.get(name) == part else self.carriers.get((part, name))

    def links(self) -> Iterator[tuple[bytes, bytes]]:
        """Hard links to make, as (what there is, the further name of it)."""
        for name, part in self.chosen.items():
            entry = self.entry(name)
            if entry.kind == HARD:
                first = self.goes_to(part, entry.link)
                if first is not None and first != name:
                    yield first, name

    def contents(self) -> Iterator[tuple[bytes, int]]:
        """Names under which content is written, and its bytes."""
        for part, contents in self.parts.items():
            for name, entry in contents.entries.items():
                to = None if entry.kind == HARD else self.goes_to(part, name)
                if to is not None:
                    yield to, entry.size

    def tell_absent(self, notes: Notes) -> None:
        """Notes what the index has and the archive has not, and the other way round."""
        for contents in self.parts.values():
            for path, line in contents.index.items():
                wanted = self.wants(path[1:])
                if wanted and line["type"] == "unreadable":
                    notes.add(
                        f"could not be read when the snapshot was taken ({line.get('why')})",
                        os.fsdecode(path),
                    )
                elif wanted and "why" not in line and path[1:] not in contents.entries:
                    notes.add("is in the index, and not in the archive", os.fsdecode(path))
            for name in filter(self.wants, contents.entries):
                if b"/" + name not in contents.index:
                    notes.add("is in the archive, and not in its index", f"/{os.fsdecode(name)}")


class Places:
    """Writes each name of a plan where it can be renamed to its place: all of them in one folder,
    or, in place below ``root``, each top in a folder beside it.
    """

    def __init__(
        self,
        plan: Plan,
        space: Workspace,
        root: Path | None,
        notes: Notes,
        stack: contextlib.ExitStack,
    ):
        self._plan = plan
        self._tops = set(plan.tops)
        self._root = root
        self._trees: dict[bytes, tuple[Workspace, Tree]] = {}
        if root is None:
            self._open(b"", space, notes, stack)
            return
        for top in plan.tops:
            self._open_beside(top.rpartition(b"/")[0], notes, stack)
            if os.path.ismount(self.target(top)):
                raise BackupError(
                    f"{self.target(top)} is a mount point, which cannot be moved aside: restore to"
                    " a folder, and copy from there"
                )

    def _open_beside(self, parent: bytes, notes: Notes, stack: contextlib.ExitStack) -> None:
        """Two parents may be one folder, by a link."""
        path = os.path.join(self._folder(parent), _BESIDE)
        same = next((it for it in self._trees.values() if it[0].path == path), None)
        if same:
            self._trees[parent] = same
        else:
            space = Workspace(path)
            stack.callback(space.close)
            self._open(parent, space, notes, stack)

    def _open(
        self, parent: bytes, space: Workspace, notes: Notes, stack: contextlib.ExitStack
    ) -> None:
        tree = Tree(space.fd, notes)
        stack.callback(tree.close)
        self._trees[parent] = (space, tree)

    def _folder(self, parent: bytes) -> str:
        """The folder of a top, as links lead to it, but not out of ``root``."""
        assert self._root is not None
        root = os.path.realpath(self._root)
        folder = os.path.realpath(os.path.join(root, os.fsdecode(parent)))
        if folder != root and not folder.startswith(root.rstrip("/") + "/"):
            raise BackupError(f"/{os.fsdecode(parent)} leads out of {root}, to {folder}")
        os.makedirs(folder, exist_ok=True)
        return folder

    def target(self, top: bytes) -> str:
        """Where a top is restored in place."""
        parent, _, base = top.rpartition(b"/")
        return os.path.join(self._folder(parent), os.fsdecode(base))

    def at(self, name: bytes) -> tuple[Workspace, Tree, bytes]:
        """Where a name is written: the folder, what writes there, and the name below it."""
        if self._root is None:
            return *self._trees[b""], name
        top = next(it for it in (name, *above(name)) if it in self._tops)
        parent = top.rpartition(b"/")[0]
        return *self._trees[parent], name[len(parent) + 1 :] if parent else name

    def path(self, absolute: bytes) -> bytes | None:
        """Where what has an absolute path in the index was written; None if it was not."""
        name = absolute[1:]
        if name not in self._plan.chosen:
            return None
        space, _, below = self.at(name)
        return os.fsencode(space.path) + b"/" + below

    def trees(self) -> Iterable[Tree]:
        return [tree for _, tree in self._trees.values()]

    def need_room(self, margin: int) -> None:
        """:class:`BackupError` unless every file system has room for what is written to it."""
        sizes: dict[int, int] = {}
        spaces: dict[int, Workspace] = {}
        for name, size in self._plan.contents():
            space = self.at(name)[0]
            device = os.fstat(space.fd).st_dev
            spaces.setdefault(device, space)
            sizes[device] = sizes.get(device, margin) + size
        for device, space in spaces.items():
            need(space, sizes[device])


def need(space: Workspace, size: int) -> None:
    """:class:`BackupError` unless so many bytes have room."""
    if space.room < size:
        raise BackupError(
            f"the file system of {space.path} has {space.room} bytes left, and needs {size}:"
            " make room, restore fewer paths or choose another folder"
        )


def refuse_occupied(staging: Path) -> None:
    """:class:`BackupError` unless a folder can be made at ``staging``: nothing there, or an empty
    folder.
    """
    if staging.is_symlink() or (staging.exists() and not staging.is_dir()):
        raise BackupError(f"{staging} is no folder")
    if staging.is_dir() and any(staging.iterdir()):
        raise BackupError(f"{staging} is not empty: choose a folder that does not exist")
    if os.path.ismount(staging):
        raise BackupError(f"{staging} is a mount point: choose a folder below it")


def beside(staging: Path, stack: contextlib.ExitStack) -> Workspace:
    """The hidden folder that becomes ``staging`` when all is done."""
    staging.parent.mkdir(parents=True, exist_ok=True)
    space = Workspace(str(staging.parent / f".{staging.name}.restoring"))
    stack.callback(space.close)
    return space


def _name(path: str) -> bytes:
    if not path.startswith("/"):
        raise BackupError(f"{path!r} is no absolute path")
    return os.fsencode(os.path.normpath(path)).lstrip(b"/")


def _at_or_below(name: bytes, path: bytes) -> bool:
    return not path or name == path or name.startswith(path + b"/")

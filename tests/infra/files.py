"""Owners and modes of files, as ``stat`` tells them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .asking import Answer


@dataclass(frozen=True)
class File:
    """One file; ``changed`` is when its content or its attributes did, in seconds."""

    mode: int
    owner: str
    group: str
    changed: float
    kind: str

    @property
    def folder(self) -> bool:
        return self.kind == "directory"


def stat(paths: str) -> str:
    """The command that looks at paths, which may have wildcards and {,x}; none has to be there."""
    spread = re.sub(r"(\S+)\{,(\S+)\}", r"\1 \1\2", paths)
    return f"stat -c '%a %U %G %.Z %n|%F' {spread} 2>/dev/null || :"


def named(answer: Answer) -> dict[str, File]:
    """What ``stat`` said, by path."""
    found = {}
    for line in answer.lines:
        mode, owner, group, changed, rest = line.split(" ", 4)
        path, _, kind = rest.rpartition("|")
        found[path] = File(int(mode, 8), owner, group, float(changed), kind)
    return found


def loose(files: Mapping[str, File], bits: int, owner: str = "root") -> list[str]:
    """Which files belong to somebody else, or let others do what the bits of a mode say."""
    return [
        f"{path} is {it.owner}:{it.group} {it.mode:04o}"
        for path, it in files.items()
        if it.owner != owner or (it.mode & bits and it.kind != "symbolic link")
    ]

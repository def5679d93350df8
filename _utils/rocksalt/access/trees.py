"""What decides about the content of folders: all that is below them, the folders above them, and
what links among it lead to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator


def _raised(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # which is one that has just gone
        raise error


def walked(
    tops: Iterable[str], root: str = "", failed: Callable[[OSError], None] = _raised
) -> Iterator[str]:
    """Each path once, of a host whose files are below ``root``; those of ``tops`` also where they
    are not there. ``failed`` is told of each folder that cannot be listed.
    """
    waiting, known = list(tops), set[str]()
    while waiting:
        top = waiting.pop(0)
        for path in (*_above(top), *_below(top, root, failed)):
            if path in known:
                continue
            known.add(path)
            link = root + path
            if os.path.islink(link):
                target = os.path.realpath(link)[len(root) :]
                if target not in known and os.path.exists(link):
                    waiting.append(target)
            yield path


def _above(path: str) -> list[str]:
    """The folders above one, from the root on: who can rename one of them changes all below."""
    parts = path.strip("/").split("/")[:-1]
    return ["/" + "/".join(parts[:depth]) for depth in range(len(parts) + 1)]


def _below(top: str, root: str, failed: Callable[[OSError], None]) -> Iterator[str]:
    yield top
    start = root + top
    if os.path.islink(start) or not os.path.isdir(start):
        return
    for folder, folders, files in os.walk(start, onerror=failed):
        folders.sort()
        at = folder[len(root) :].rstrip("/")
        yield from (f"{at}/{name}" for name in (*folders, *sorted(files)))

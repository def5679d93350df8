"""Compares what was restored with the index of the archive, entry by entry, as it lies on disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

from rocksalt.backup.packing import tar
from rocksalt.backup.packing.index import path_of

_KINDS = {
    "file": (stat.S_IFREG,),
    "folder": (stat.S_IFDIR,),
    "link": (stat.S_IFLNK,),
    "fifo": (stat.S_IFIFO,),
    "device": (stat.S_IFCHR, stat.S_IFBLK),
}


def differences(
    place: bytes, line: Mapping[str, Any], index: Mapping[bytes, Mapping[str, Any]], owners: bool
) -> list[str]:
    """How what is at ``place`` differs from its line in the index, in words that follow its path.

    ``owners`` says whether the one who restored it could give files away; if not, neither owners
    nor setuid bits are compared.
    """
    try:
        found = os.lstat(place)
    except OSError as error:
        return [f"is missing: {error.strerror}"]
    kind = str(line["type"])
    if stat.S_IFMT(found.st_mode) not in _KINDS[kind]:
        return [f"is no {kind}"]
    differs = []
    bits = 0o7777 if owners else 0o1777
    checks: list[tuple[str, Any, Any]] = [("was changed last", found.st_mtime_ns, line["mtime_ns"])]
    if kind != "link":
        checks.append(("has the mode", found.st_mode & bits, line["mode"] & bits))
    if owners:
        checks.append(("belongs to", (found.st_uid, found.st_gid), (line["uid"], line["gid"])))
    if kind == "link":
        checks.append(("leads to", os.readlink(place), path_of(line, "link")))
    if kind == "file":
        # Of hard links only the first has a hash of its own.
        linked = "same_as" in line or "same_as64" in line
        whole = index.get(path_of(line, "same_as"), {}) if linked else line
        checks.append(("has a size of", found.st_size, whole.get("size")))
        checks.append(("has the SHA-256", _sha256(place, whole), whole.get("sha256")))
    for words, actual, expected in checks:
        if actual != expected:
            differs.append(f"{words} {_shown(words, actual)} instead of {_shown(words, expected)}")
    return differs


def _shown(words: str, value: Any) -> str:
    if isinstance(value, int) and words == "has the mode":
        return f"{value:04o}"
    return repr(value) if isinstance(value, bytes) else str(value)


def _sha256(place: bytes, line: Mapping[str, Any]) -> str:
    fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        return tar.digest(file, line)


def compare(
    index: Mapping[bytes, Mapping[str, Any]],
    place: Callable[[bytes], bytes | None],
    owners: bool,
) -> list[tuple[str, str]]:
    """What differs, as pairs of words and absolute path. ``place`` says where what has an absolute
    path in the index is now; None if it was not to be restored.
    """
    found = []
    for path, line in index.items():
        at = None if "why" in line else place(path)
        if at is not None:
            found += [(words, os.fsdecode(path)) for words in differences(at, line, index, owners)]
    return found

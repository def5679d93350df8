"""Whether a file is what the agent's package brought, by the digest that dpkg has of it, or for
builds without one by what was written down when this one was first seen.

Our program asks that without Salt, so only the standard library is used here.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Mapping

from rocksalt.ossec import BIN, INSTALLED, ORIGINALS, RESPONSES, SHARED, state

_KNOWN = "/var/lib/dpkg/info"


def md5sums(package: str, root: str = "") -> dict[str, str]:
    """Path -> MD5 as the package has it, of programs, scripts and rules."""
    text = ""
    for pattern in (f"{package}.md5sums", f"{package}:*.md5sums") if package else ():
        for path in glob.glob(f"{glob.escape(root)}{_KNOWN}/{pattern}"):
            text = text or content(path).decode(errors="surrogateescape")
    pairs = (line.split(None, 1) for line in text.splitlines() if " " in line)
    found = {"/" + path.strip(): digest for digest, path in pairs}
    folders = (f"{BIN}/", f"{RESPONSES}/", f"{SHARED}/")
    return {
        path: digest
        for path, digest in found.items()
        if path.startswith(folders) and (not path.startswith(SHARED) or path.endswith(".txt"))
    }


def content(path: str) -> bytes:
    """What is in a file; nothing where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def digest(path: str, kind: str = "sha256") -> str:
    """The digest of a file."""
    return hashlib.new(kind, content(path), usedforsecurity=kind != "md5").hexdigest()


def genuine(
    path: str, script: str, md5: Mapping[str, str], sha256: Mapping[str, str]
) -> bool | None:
    """Whether the file ``path`` is the package's ``script``; None where nobody knows."""
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    if script in md5:
        return md5[script] == digest(path, "md5")
    return sha256[script] == digest(path) if script in sha256 else None


def original(name: str, package: str, root: str = "") -> bool | None:
    """The same for the script that stands behind ours of this name."""
    written = state.read(root + INSTALLED).get("digests", {})
    script = f"{RESPONSES}/{name}"
    return genuine(f"{root}{ORIGINALS}/{name}", script, md5sums(package, root), written)

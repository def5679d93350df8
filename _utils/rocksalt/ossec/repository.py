"""Where the agent's package comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rocksalt.ossec import TOP
from rocksalt.ossec.declared import Declared

KEY = "/etc/apt/keyrings/rocksalt-ossec.asc"
SOURCES = "/etc/apt/sources.list.d/rocksalt-ossec.list"
NONE = "none"
_BEGINNING, _END = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
_TRUSTED = re.compile(
    r"trusted\s*=|allow-(?:insecure|weak|downgrade-to-insecure)\s*=", re.IGNORECASE
)
_HEADER = "# Written by rocksalt; state.apply hardening.ossec undoes a change here.\n"


def package(it: Declared) -> str:
    """The package that the host is to have; empty where a site installs its own build, and where
    there is no server to report to.
    """
    name = str(it.settings["package"])
    return "" if name == NONE or not it.servers else name


def files(it: Declared) -> dict[str, str]:
    """Path -> text of what tells apt of the repository; empty without its key."""
    if not package(it) or not it.settings["repository"] or not it.settings["repository_key"]:
        return {}
    line = it.settings["repository"].replace("{key}", KEY).replace("{codename}", it.place.codename)
    return {
        KEY: it.settings["repository_key"].strip() + "\n",
        SOURCES: f"{_HEADER}{line.strip()}\n",
    }


def problems(it: Declared) -> Iterator[str]:
    """What is wrong with the settings of the repository."""
    line, key = it.settings["repository"].strip(), it.settings["repository_key"].strip()
    path = it.family.where("repository")
    if line and ("\n" in line or not line.startswith("deb ")):
        yield f"{path}: {line!r} is no line of sources.list; write one that begins with deb"
    elif line and "signed-by={key}" not in line:
        yield f"{path}: does not name its key; write deb [signed-by={{key}}] and then the address"
    if _TRUSTED.search(line):
        yield f"{path}: takes packages without looking at their signature; leave that option out"
    if key and not (key.startswith(_BEGINNING) and key.endswith(_END)):
        where = it.family.where("repository_key")
        yield f"{where}: is no armoured public key, which begins {_BEGINNING}"
    if key and not line:
        yield f"{path}: is empty, though {TOP}:repository_key is given; write the repository's line"

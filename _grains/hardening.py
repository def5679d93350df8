"""The grain ``hardening``: version, virtualisation and roles by the minion's own configuration;
nothing else.

A grain is the minion's own claim, so nothing is targeted by it. The minion keeps grains loaded for
as long as it runs, hence no import of the library here: an old copy of it in memory would break
every job after an upgrade.
"""

import os
import re


def hardening(grains=None):
    """Returns ``{"hardening": {"version": "0.1.0", "virtual": "physical", "roles": ["web"]}}``."""
    return {
        "hardening": {
            "version": _version(),
            "virtual": (grains or {}).get("virtual", "unknown"),
            "roles": list((__opts__.get("hardening") or {}).get("roles", [])),
        }
    }


def _version():
    """The version of the library on disk, read as text."""
    folders = [
        os.path.join(__opts__.get("extension_modules", ""), "utils"),
        *__opts__.get("utils_dirs", []),
    ]
    for folder in folders:
        try:
            with open(os.path.join(folder, "rocksalt", "__init__.py")) as file:
                found = re.search(r'^__version__ = "(.+)"$', file.read(), re.MULTILINE)
        except OSError:
            continue
        if found:
            return found.group(1)
    return None

"""No name of ours hides one of Salt's, or one of the standard library."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

import pytest
import salt

REPO = Path(__file__).resolve().parents[2]
SALT = Path(salt.__file__).parent
# Our folder -> the package of Salt that its loader looks into.
LOADERS = {
    "_modules": "modules",
    "_states": "states",
    "_grains": "grains",
    "_output": "output",
    "_runners": "runners",
    "_beacons": "beacons",
    "_engines": "engines",
    "_returners": "returners",
    "_utils": "utils",
}
OURS = sorted(path for path in REPO.glob("_*/*") if path.parent.name in LOADERS)
NAMED = [path for path in OURS if path.suffix == ".py" or (path / "__init__.py").is_file()]


def virtual_names(source: str) -> set[str]:
    """Every name that a module of Salt may give itself, read without importing it."""
    body = re.search(r"^def __virtual__\(.*?(?=^\S)", source, re.MULTILINE | re.DOTALL)
    returned = re.findall(r"return [\"'](\w+)[\"']", body.group() if body else "")
    return {*returned, *re.findall(r"^__virtualname__ = [\"'](\w+)", source, re.MULTILINE)}


@functools.cache
def names_of(package: str) -> set[str]:
    """File names and virtual names of one of Salt's loaders; what is for Windows never loads where
    ours do (``win_firewall`` calls itself ``firewall``).
    """
    found = set()
    for path in (SALT / package).glob("*"):
        found.add(path.stem)
        if path.suffix == ".py" and not path.name.startswith("win_"):
            found |= virtual_names(path.read_text(encoding="utf-8"))
    return found


def test_the_names_of_salt_are_found():
    """The files and the virtual names, or the tests below would prove nothing."""
    modules = names_of("modules")
    assert {"cmdmod", "cmd", "aptpkg", "pkg", "ssh", "sysctl", "mount", "cron", "tls"} <= modules
    assert {"highstate", "nested"} <= names_of("output")


@pytest.mark.parametrize("path", NAMED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_name_of_ours(path):
    assert path.stem not in names_of(LOADERS[path.parent.name])
    assert path.stem not in sys.stdlib_module_names
    if path.suffix == ".py":
        assert not virtual_names(path.read_text()) & names_of(LOADERS[path.parent.name])


def test_our_folders_are_all_looked_at():
    folders = {path.parent.name for path in REPO.glob("_*/*") if path.parent.name[1].isalpha()}
    assert folders <= set(LOADERS)
    assert {path.parent.name for path in NAMED} >= {"_modules", "_states", "_grains", "_output"}

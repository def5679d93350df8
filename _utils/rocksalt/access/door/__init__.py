"""The door: what stands between the network and the Salt master's API.

It is a netapi module of salt-api and auth modules of the master, installed as plain files, a
private copy, for all live in long-running processes that must not load the synced library. The
modules of this package import each other relatively, so that they are the same in both places.
"""

from __future__ import annotations

from pathlib import Path

from rocksalt.access import DOOR

NETAPI_DIR, AUTH_DIR, PACKAGE_DIR = f"{DOOR}/netapi", f"{DOOR}/auth", f"{DOOR}/rocksalt_door"
NETAPI, AUTH, LDAP = "rocksalt_api", "rocksalt_file", "rocksalt_ldap"
"""Names of the modules: the section of the master's options, and the keys of external_auth."""
_LOADED = {
    f"{NETAPI_DIR}/{NETAPI}.py": "netapi_module.py",
    f"{AUTH_DIR}/{AUTH}.py": "auth_module.py",
    f"{AUTH_DIR}/{LDAP}.py": "ldap_module.py",
}
_MARKER = "# Written by rocksalt (the family access); changes are undone.\n"


def files() -> dict[str, str]:
    """What is installed on a master: texts by their absolute paths, in a stable order."""
    folder = Path(__file__).parent
    found = {path: (folder / name).read_text() for path, name in _LOADED.items()}
    for source in folder.glob("*.py"):
        if source.name not in ("__init__.py", *_LOADED.values()):
            found[f"{PACKAGE_DIR}/{source.name}"] = source.read_text()
    found[f"{PACKAGE_DIR}/__init__.py"] = '"""The door of salt-api, see the family access."""\n'
    return {path: _MARKER + found[path] for path in sorted(found)}

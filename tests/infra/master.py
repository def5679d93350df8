"""Options of a Salt master by the files that have them; only those that are judged leave the host,
for others may be secrets.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from .asking import Answer

OURS = "/etc/salt/master.d/zz-rocksalt-access.conf"
KEPT = (
    *("user", "open_mode", "auto_accept", "file_recv", "permissive_pki_access"),
    *("peer", "peer_run", "external_auth", "publisher_acl", "netapi_enable_clients"),
    *("publish_signing_algorithm", "token_expire", "file_roots", "pillar_roots"),
)
SERVERS = ("rest_cherrypy", "rest_tornado", "rest_wsgi")  # whether they are there
# Neither a line of a file nor an error with one in it is printed.
PROGRAM = """
import glob, json, os, sys, yaml
folder, kept, servers = sys.argv[1], sys.argv[2].split(), sys.argv[3].split()
paths = [folder + "/master"] + sorted(glob.glob(folder + "/master.d/*.conf"))
found = {}
for path in paths:
    if not os.path.exists(path):
        continue
    try:
        with open(path, encoding="utf-8") as file:
            tree = yaml.safe_load(file) or {}
        more = tree.get("include") or []
    except Exception as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
        sys.exit("%s cannot be read: %s in line %s" % (path, type(error).__name__, line))
    found[path] = {key: tree[key] for key in kept if key in tree}
    found[path].update({key: True for key in servers if key in tree})
    for name in more if isinstance(more, list) else [more]:
        wanted = sorted(glob.glob(os.path.join(folder, name)))
        paths += [it for it in wanted if it not in paths]
print(json.dumps(found, default=str))
"""
PYTHONS = "/opt/saltstack/salt/bin/python3 /opt/salt/bin/python3 python3"


def command(folder: str = "/etc/salt") -> str:
    """The command that prints them, by a Python that has YAML, as Salt's has."""
    words = shlex.join([folder, " ".join(KEPT), " ".join(SERVERS)])
    return (
        f"for it in {PYTHONS}; do $it -c 'import yaml' 2>/dev/null && break; done; "
        f"$it -c {shlex.quote(PROGRAM)} {words}"
    )


def files(answer: Answer) -> dict[str, dict[str, Any]]:
    """The options of each file, in the order in which Salt reads them."""
    assert not answer.code, answer.said
    found: dict[str, dict[str, Any]] = json.loads(answer.text)
    return found


def options(answer: Answer) -> dict[str, Any]:
    """The options in force: as Salt does it, those of several files are laid over each other."""
    found: dict[str, Any] = {}
    for tree in files(answer).values():
        found = _over(found, tree)
    return found


def _over(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _over(low[key], high[key])
        for key in low.keys() & high.keys()
        if isinstance(low[key], Mapping) and isinstance(high[key], Mapping)
    }
    return {**low, **high, **both}

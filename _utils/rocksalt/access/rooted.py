"""Functions that make somebody root in fact: they run any command, or read or write any file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rocksalt.access import compiled, wording

_STATES = "apply|high|highstate|low|orchestrate|pkg|request|run_request|single|sls|sls_id|template"
HOST = re.compile(
    r"(?:archive|at|cmd|cp|cron|docker|file|group|incron|lxc|nspawn|scp|shadow|ssh|sudo|user)\..*"
    rf"|state\.(?:{_STATES}|template_str|top)"
    r"|(?:apt|pip|pkg|gem|npm|snap|flatpak)\.(?:install|remove|upgrade|purge|.*repo.*)"
    r"|schedule\.(?:add|modify)|mount\.(?:mount|set_fstab)|service\.(?:systemctl_.*|create|set)"
    r"|module\.run|saltutil\.(?:cmd|runner|wheel)|publish\..*"
)
"""On the host where it is called."""
MASTER = re.compile(r"(?:cloud|config|event|pillar|reactor|salt|ssh|state|virt|winrepo)\..*")
"""Runners: on the master, and by it on all hosts."""


def functions(role: Mapping[str, Any]) -> list[str]:
    """Those of a role's functions that make root of a host."""
    return sorted(name for name in role.get("functions", ()) if HOST.fullmatch(name))


def runners(role: Mapping[str, Any]) -> list[str]:
    """Those of a role's runners that make root of all hosts."""
    return sorted(name for name in role.get("runners", ()) if MASTER.fullmatch(name))


def by_rights(entries: Iterable[Mapping[str, Any] | str]) -> Iterator[str]:
    """Sentences of where somebody is root by entries of one permission each, and by what."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        where, permissions = (
            next(iter(entry.items())) if isinstance(entry, Mapping) else ("*", [entry])
        )
        for permission in permissions:
            if _makes_root(where, permission):
                found.setdefault(where, []).append(wording.permission(permission))
    for where, what in found.items():
        yield f"{_on(where)} by {wording.listed(what)}"


def _makes_root(where: str, permission: Any) -> bool:
    """Whether a permission is enough; one of many functions, or of none that is known, is."""
    if where.startswith("@") and where not in (compiled.RUNNER, "@runners"):
        return True
    if not isinstance(permission, (str, Mapping)) or not permission:
        return True
    pattern = permission if isinstance(permission, str) else str(next(iter(permission)))
    name = wording.named(pattern)
    known = MASTER if where.startswith("@") else HOST
    return not name or known.fullmatch(name) is not None


def _on(where: str) -> str:
    return "on all hosts" if where.startswith("@") else wording.place(where)

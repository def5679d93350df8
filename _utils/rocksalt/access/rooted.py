"""Functions that make somebody root in fact: they run any command, or read or write any file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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

"""Rights of the compiled form in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rocksalt.access import compiled, targets

_ONE = re.compile(r"\^(?P<text>(?:[A-Za-z0-9_]|\\.)*)\\Z", re.DOTALL)
_WHOLE = re.compile(r"\^\(\?:(?P<pattern>.*)\)\\Z", re.DOTALL)


def entry(found: Any) -> str:
    """An entry: ``on db1 and web*: test.ping; deploy.run with app=shop``."""
    if not isinstance(found, Mapping) or len(found) != 1:
        return f"everywhere: {permission(found)}"
    ((where, permissions),) = found.items()
    permissions = permissions if isinstance(permissions, list) else [permissions]
    return f"{place(where)}: {'; '.join(map(permission, permissions)) or 'nothing'}"


def place(where: str) -> str:
    """Where the permissions of an entry hold."""
    if where in (compiled.RUNNER, "@runners"):
        return "on the master, by runner"
    if where.startswith("@"):
        return f"on the master, by {where[1:]}"
    if where == "*":
        return "on all hosts"
    named = targets.split(where)
    return f"on {listed(named) if named else f'the hosts that match {where!r}'}"


def permission(found: Any) -> str:
    """A permission: the function, and what its arguments have to be."""
    if isinstance(found, str):
        if found.startswith("@"):
            return f"all of {found}"
        return named(found) or f"all that begins like {found!r}"
    if not isinstance(found, Mapping) or len(found) != 1:
        return f"what Salt makes of {found!r}"
    ((function, conditions),) = found.items()
    conditions = conditions if isinstance(conditions, list) else [conditions]
    return f"{permission(function)} with {', or '.join(map(_condition, conditions))}"


def named(pattern: str) -> str:
    """The one text that a pattern takes, or nothing if it takes others as well."""
    one = _ONE.fullmatch(pattern)
    return re.sub(r"\\(.)", r"\1", one["text"], flags=re.DOTALL) if one else ""


def grant(given: Mapping[str, Any]) -> str:
    """A grant as it was written: ``deployer on web* for shop until 2026-11-24 (a reason)``."""
    parts = [given["role"]]
    if given.get("targets"):
        parts.append(f"on {listed(given['targets'])}")
    if given.get("apps"):
        parts.append(f"for {listed(given['apps'])}")
    if "until" in given:
        parts.append(f"until {given['until']}")
    if "reason" in given:
        parts.append(f"({given['reason']})")
    return " ".join(parts)


def listed(names: Iterable[str]) -> str:
    """``a, b and c``."""
    found = list(names)
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def _condition(found: Any) -> str:
    if not isinstance(found, Mapping):
        return f"what Salt makes of {found!r}"
    arguments = [f"argument {n} {_value(p)}" for n, p in enumerate(found.get("args", ()), 1)]
    keywords = [f"{key} {_value(p)}" for key, p in found.get("kwargs", {}).items()]
    return listed([*arguments, *keywords]) or "any arguments"


def _value(pattern: Any) -> str:
    if pattern is None:
        return "anything"
    if named(pattern):
        return named(pattern)
    whole = _WHOLE.fullmatch(pattern)
    return f"like {whole['pattern']}" if whole else f"that begins like {pattern!r}"

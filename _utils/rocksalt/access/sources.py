"""The files that Salt's master configuration comes from, and which of them says what.

Salt lays them over each other: what a file of ``master.d`` says of a key replaces what the main
file says, the files of ``master.d`` are merged with one another to the last list, and what
``include`` of the main file names replaces both.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from rocksalt.host import Host

DEFAULT_INCLUDE = "master.d/*.conf"
_DEEPEST = 8
"""Files that include files that include files."""
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Source:
    """A file with its settings; ``problem`` says why it has none."""

    path: str
    data: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


def read(host: Host, main: str) -> list[Source]:
    """The files in the order that Salt reads them, ``main`` first; one that is not there is none
    of them.
    """
    text = host.read(main)
    if text is None:
        return [*_included(host, main, DEFAULT_INCLUDE)]
    first = parse(main, text)
    default = first.data.get("default_include") or DEFAULT_INCLUDE
    more = first.data.get("include") or ()
    return [first, *_included(host, main, default), *_included(host, main, more)]


def parse(path: str, text: str) -> Source:
    """What a file says."""
    try:
        data = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        return Source(path, problem=f"{path} is no YAML{line}")
    if data is None:
        return Source(path)
    if not isinstance(data, Mapping):
        return Source(path, problem=f"{path} is no mapping of options")
    return Source(path, data)


def _included(
    host: Host, by: str, patterns: str | Iterable[str], depth: int = 0
) -> Iterator[Source]:
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        for path in host.glob(os.path.join(os.path.dirname(by), os.path.expanduser(pattern))):
            text = host.read(path)
            if text is None:
                continue
            found = parse(path, text)
            yield found
            if (more := found.data.get("include")) and depth < _DEEPEST:
                yield from _included(host, path, more, depth + 1)


def naming(found: Iterable[Source], *keys: str) -> list[str]:
    """The files that say something of a key, or of one below it."""
    return [source.path for source in found if _has(source.data, keys)]


def _has(data: Any, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if not isinstance(data, Mapping) or key not in data:
            return False
        data = data[key]
    return True


def plain(value: Any) -> Any:
    """A value in plain types, whatever mappings and lists Salt has it in."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(item) for item in value]
    return value


def looked_up(value: Any) -> str:
    """What in a plain value is no value, but where Salt looks for it; empty where nothing is."""
    if isinstance(value, str):
        return value if value.startswith("sdb://") else ""
    items = value.values() if isinstance(value, Mapping) else value
    return next(filter(None, map(looked_up, items)), "") if isinstance(items, Iterable) else ""

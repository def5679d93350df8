"""The files that Salt's master configuration comes from, and which of them says what.

Salt lays them over each other: what a file of ``master.d`` says of a key replaces what the main
file says, the files of ``master.d`` are merged with one another to the last list, and what
``include`` of the main file names replaces both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from rocksalt.host import Host

_DEFAULT_INCLUDE = "{}.d/*.conf"
"""By the name of the main file."""
_DEEPEST = 8
"""Files that include files that include files."""
_MAGIC = re.compile(r"[*?\[]")
_NOT_PLAIN = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")
"""Keys that mean something else: ``<<`` and ``=``."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as Salt takes it: no mapping has a key twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node."""
        keys: list[Any] = []
        for key_node in (key for key, _ in node.value if key.tag not in _NOT_PLAIN):
            key = self.construct_object(key_node, deep=True)
            if key in keys:
                problem = f"has the key {key} twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            keys.append(key)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


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
    first = parse(main, text or "")
    found = [] if text is None else [first]
    return [*found, *(source for more in _named(first) for source in _included(host, main, more))]


def parse(path: str, text: str) -> Source:
    """What a file says."""
    try:
        data = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        twice = isinstance(error, yaml.constructor.ConstructorError) and error.problem
        problem = twice if twice and twice.endswith("twice") else "is no YAML"
        return Source(path, problem=f"{path} {problem}{line}, so that Salt takes nothing of it")
    if data is None:
        return Source(path)
    if not isinstance(data, Mapping):
        problem = f"{path} is no mapping of options, so that Salt takes nothing of it"
        return Source(path, problem=problem)
    return Source(path, data)


def _named(main: Source) -> tuple[Any, Any]:
    """What the main file includes, as it says or not, and what it names itself."""
    default = _DEFAULT_INCLUDE.format(os.path.basename(main.path))
    return main.data.get("default_include") or default, main.data.get("include") or ()


def _patterns(by: str, given: str | Iterable[str]) -> Iterator[str]:
    for pattern in [given] if isinstance(given, str) else given:
        yield os.path.join(os.path.dirname(by), os.path.expanduser(str(pattern)))


def folders(host: Host, main: str, found: Iterable[Source]) -> list[str]:
    """The folders that change when a file goes that one of ``found`` included."""
    known = {source.path: source for source in found}
    named = [(main, given) for given in _named(known.get(main, Source(main)))]
    named += [(p, s.data.get("include") or ()) for p, s in known.items() if p != main]
    patterns = dict.fromkeys(path for by, given in named for path in _patterns(by, given))
    return [*dict.fromkeys(place for path in patterns for place in _places(host, path))]


def _places(host: Host, pattern: str) -> Iterator[str]:
    """Of a name that is there, none: the file itself tells when it changed."""
    path = pattern
    if _MAGIC.search(pattern):
        yield from host.glob(os.path.dirname(pattern))
        while _MAGIC.search(path):
            path = os.path.dirname(path)
    elif host.attributes(path):
        return
    while path != "/" and not host.path(path).is_dir():
        path = os.path.dirname(path)
    yield path


def _included(
    host: Host, by: str, patterns: str | Iterable[str], depth: int = 0
) -> Iterator[Source]:
    for pattern in _patterns(by, patterns):
        for path in host.glob(pattern):
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

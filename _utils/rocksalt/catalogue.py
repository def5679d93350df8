"""The catalogue: every promise of the baseline, as ``controls.yaml`` of each family states it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from rocksalt import schema
from rocksalt.errors import InvalidSettings

BUNDLE = "hardening/catalogue.json"
SEVERITIES = ("critical", "high", "medium", "low")
REMEDIES = ("state", "manual", "reboot")
_CONTROL_ID = re.compile(r"[A-Z][A-Z0-9]*-[0-9]{3}")
_FLOOR_RULES = {"equals", "min", "max", "subset_of", "all_of", "one_of"}


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML where a key written twice is an error instead of a silent choice."""


def _mapping(loader: Any, node: Any) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            line = node.value[index][0].start_mark.line + 1
            raise yaml.YAMLError(f"the key {key!r} is written twice (line {line})")
    return {
        key: loader.construct_object(value, deep=True)
        for key, (_, value) in zip(keys, node.value, strict=True)
    }


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@dataclass(frozen=True)
class Control:
    """One promise. ``floor`` maps a setting to the weakest value it may have; ``guarded`` controls
    are enforced only while an administrator keeps a way in; ``data`` is what the family itself
    needs to know (``directives``).
    """

    id: str
    family: str
    title: str
    severity: str
    rationale: str
    references: tuple[str, ...]
    remedy: str = "state"
    floor: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    guarded: bool = False
    waivable: bool = True
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FamilyCatalogue:
    """One family as its files describe it, before any pillar: ``sources`` keeps the parsed files
    for the snapshot.
    """

    name: str
    title: str
    after: tuple[str, ...]
    controls: Mapping[str, Control]
    schema: Mapping[str, schema.Spec]
    sources: Mapping[str, Any]


def parse_yaml(text: str, path: str) -> Any:
    """One YAML document, or an error that names the file."""
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise InvalidSettings([f"{path}: not valid YAML: {' '.join(str(error).split())}"]) from None


ENABLED: schema.Spec = {
    "type": "boolean",
    "default": True,
    "help": "Whether the baseline looks after this family; if not, its controls are drift.",
}


def family(name: str, controls: Any, defaults: Any) -> FamilyCatalogue:
    """The catalogue of one family from its parsed ``controls.yaml`` and ``defaults.yaml``."""
    path = f"hardening/{name}/controls.yaml"
    found = _file_problems(controls, defaults, name)
    if found:
        raise InvalidSettings(found)
    for setting, spec in (defaults or {}).items():
        found += schema.spec_problems(setting, spec, f"hardening/{name}/defaults.yaml")
    for identifier, entry in controls["controls"].items():
        found += _entry_problems(identifier, entry, defaults or {}, path)
    if found:
        raise InvalidSettings(found)
    return FamilyCatalogue(
        name=name,
        title=controls["title"],
        after=tuple(controls.get("after", ())),
        controls={i: _control(i, name, entry) for i, entry in controls["controls"].items()},
        schema={"enabled": ENABLED, **(defaults or {})},
        sources={"controls": controls, "defaults": defaults or {}},
    )


def _file_problems(controls: Any, defaults: Any, name: str) -> list[str]:
    """What is wrong with the two files as a whole."""
    path = f"hardening/{name}/controls.yaml"
    if not isinstance(controls, dict) or not isinstance(controls.get("controls"), dict):
        return [f"{path}: needs the keys title and controls"]
    known = ("title", "after", "controls")
    found = [
        f"{path}: unknown key {k!r}{schema.nearest(k, known)}" for k in set(controls) - {*known}
    ]
    if not controls.get("title"):
        found.append(f"{path}: title is missing")
    if not isinstance(controls.get("after", []), list):
        found.append(f"{path}: after is a list of families")
    if not isinstance(defaults or {}, dict):
        found.append(f"hardening/{name}/defaults.yaml: is a mapping of settings")
    return found


_REQUIRED = ("title", "severity", "rationale", "references")
_OPTIONAL = ("remedy", "floor", "guarded", "waivable", "data")


def _entry_problems(
    identifier: Any, entry: Any, defaults: Mapping[str, Any], path: str
) -> list[str]:
    where = f"{path}: {identifier}"
    if not _CONTROL_ID.fullmatch(str(identifier)):
        return [f"{where}: a control's id looks like SSHD-001"]
    if not isinstance(entry, dict):
        return [f"{where}: is a mapping with {', '.join(_REQUIRED)}"]
    missing = [key for key in _REQUIRED if not entry.get(key)]
    unknown = sorted(set(entry) - {*_REQUIRED, *_OPTIONAL})
    found = [f"{where}: {key} is missing" for key in missing]
    found += [
        f"{where}: unknown key {k!r}{schema.nearest(k, _REQUIRED + _OPTIONAL)}" for k in unknown
    ]
    if not isinstance(entry.get("references", []), list):
        found.append(f"{where}: references is a list")
    if entry.get("severity") not in SEVERITIES:
        found.append(f"{where}: severity is one of {', '.join(SEVERITIES)}")
    if entry.get("remedy", "state") not in REMEDIES:
        found.append(f"{where}: remedy is one of {', '.join(REMEDIES)}")
    for setting, rule in entry.get("floor", {}).items():
        if setting not in defaults:
            found.append(
                f"{where}: floor names an unknown setting{schema.nearest(setting, defaults)}"
            )
        if not isinstance(rule, dict) or not rule or set(rule) - _FLOOR_RULES:
            rules = ", ".join(sorted(_FLOOR_RULES))
            found.append(f"{where}: floor of {setting} is a mapping with some of {rules}")
    return found


def _control(identifier: str, family_name: str, entry: Mapping[str, Any]) -> Control:
    return Control(
        id=identifier,
        family=family_name,
        title=entry["title"],
        severity=entry["severity"],
        rationale=" ".join(entry["rationale"].split()),
        references=tuple(entry["references"]),
        **{key: entry[key] for key in _OPTIONAL if key in entry},
    )


def below_floor(value: Any, rule: Mapping[str, Any]) -> str:
    """Why ``value`` is weaker than the weakest acceptable one, as the end of a sentence; empty when
    it is not.
    """
    return next(filter(None, (_weaker(value, kind, bound) for kind, bound in rule.items())), "")


def _weaker(value: Any, kind: str, bound: Any) -> str:
    if kind == "equals" and value != bound:
        return f"the only acceptable value is {bound!r}"
    if kind == "min" and value < bound:
        return f"the least acceptable value is {bound}"
    if kind == "max" and value > bound:
        return f"the greatest acceptable value is {bound}"
    if kind == "one_of" and value not in bound:
        return f"acceptable values are {', '.join(map(str, bound))}"
    if kind == "subset_of":
        weak = [item for item in value if item not in bound]
        if weak:
            return f"{', '.join(map(str, weak))} is weaker than what is acceptable"
    if kind == "all_of":
        missing = [item for item in bound if item not in value]
        if missing:
            return f"{', '.join(map(str, missing))} has to be among them"
    return ""


def in_order(families: Mapping[str, FamilyCatalogue]) -> list[str]:
    """Family names so that each stands behind those it comes ``after``; alphabetical where that
    leaves a choice.

    ``after: ["*"]`` comes after every family that does not say so itself.
    """
    ordered: list[str] = []
    last = [name for name in sorted(families) if "*" in families[name].after]

    def place(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            raise InvalidSettings(
                [f"families come after each other in a circle: {' -> '.join((*trail, name))}"]
            )
        for earlier in sorted(set(families[name].after) - {"*"}):
            if earlier not in families:
                where = f"hardening/{name}/controls.yaml: after"
                raise InvalidSettings(
                    [f"{where}: no family {earlier!r}{schema.nearest(earlier, families)}"]
                )
            place(earlier, (*trail, name))
        if name not in ordered:
            ordered.append(name)

    for name in [*(name for name in sorted(families) if name not in last), *last]:
        place(name, ())
    return ordered
